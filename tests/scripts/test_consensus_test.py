"""The arithmetic of the preregistered test: the lock on its text, the sample, statistics against scipy, the choices."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from conftest import SCRIPTS, load_script
from scipy import stats

import channel_bench as cb
from channel_bench.errors import ArgumentError
from harness.scores import read_seeds
from harness.stats.consensus import fit_consensus


@pytest.fixture(scope="module")
def registered():
    return load_script(SCRIPTS / "consensus_registered.py")


@pytest.fixture(scope="module")
def outcome(registered):
    return load_script(SCRIPTS / "consensus_outcome.py")  # which finds its neighbour among what is loaded


@pytest.fixture(scope="module")
def sheets():
    return load_script(SCRIPTS / "consensus_sheets.py")


@pytest.fixture(scope="module")
def script(outcome, sheets):
    load_script(SCRIPTS / "pilot.py")
    return load_script(SCRIPTS / "consensus_test.py")


@pytest.fixture(scope="module")
def facts(registered):
    return registered.read_preregistration()


@pytest.fixture(scope="module")
def plain(registered):
    return cb.load_space(registered.FOLDER / "spaces" / "test-plain.toml")


@pytest.fixture(scope="module")
def judged(outcome, plain):
    """A space of invented accuracies and two invented supernets, of which one is better than the other."""
    rng = np.random.default_rng(0)
    accuracy = np.log(plain.digits(plain.archs())) @ np.array([3.0, 1, 1, 1, 2, 1, 0]) + rng.normal(size=16384)
    truth = np.full(16384, np.nan)
    chosen = rng.choice(16384, 300, replace=False)
    truth[chosen] = accuracy[chosen]
    raw = {f"uniform.seed{seed}": accuracy + (2 + seed) * rng.normal(size=16384) for seed in range(2)}
    return outcome.judge(plain, truth, raw, beta=20.0)


def test_an_edited_preregistration_is_refused(registered, tmp_path):
    text = registered.PREREGISTRATION.read_text()
    edited = tmp_path / "consensus.toml"
    edited.write_text(text.replace("beta = 20.0", "beta = 10.0"))
    with pytest.raises(ArgumentError, match="a preregistration is not edited"):
        registered.read_preregistration(edited)
    with pytest.raises(ArgumentError, match="a preregistration is not edited"):
        registered.read_preregistration(amendment=edited)
    edited.write_text(text)
    assert registered.read_preregistration(edited)["procedure"]["beta"] == 20


def test_the_amendment_replaces_the_images_of_two_spaces_and_nothing_else(registered, facts):
    original = registered.read_locked(registered.PREREGISTRATION, registered.PREREGISTRATION_SHA256)
    for before, after in zip(original["space"], facts["space"], strict=True):
        if before == after:
            continue
        assert before["placed"]["canvas"] == 10 and after["placed"]["canvas"] == 12
        old, new = (cb.load_space(registered.FOLDER / entry["file"]) for entry in (before, after))
        assert (new.family, new.max_channels, new.recipe) == (old.family, old.max_channels, old.recipe)
    assert sum(before != after for before, after in zip(original["space"], facts["space"], strict=True)) == 2
    assert {key: value for key, value in original.items() if key != "space"} == {
        key: value for key, value in facts.items() if key != "space"
    }


def test_code_that_changed_since_is_named(registered, facts):
    names = list(facts["procedure"]["sha256"])
    now = {name: hashlib.sha256((registered.ROOT / name).read_bytes()).hexdigest() for name in names}
    assert registered.changed_code({"procedure": {"sha256": now}}) == []
    assert registered.changed_code({"procedure": {"sha256": {**now, names[1]: "0" * 64}}}) == [names[1]]


def test_architectures_are_those_that_the_text_says(registered, facts, plain):
    number = [entry["file"] for entry in facts["space"]].index("spaces/test-plain.toml")
    found = registered.archs_of(plain, facts, number)
    drawn = plain.sample(384, np.random.default_rng([20261126, number]))
    assert found == ["".join(map(str, arch)) for arch in drawn.tolist()]
    assert len(set(found)) == 384


def test_placed_digits_are_those_that_were_registered(script, facts, tmp_path):
    entry = next(entry for entry in facts["space"] if "placed" in entry)
    file = script.images_of(entry, tmp_path)
    with np.load(file) as content:
        assert content["train_images"].shape == (1200, 1, 12, 12)
    other = {**entry, "placed": {**entry["placed"], "num_train": 1000}}
    with pytest.raises(ArgumentError, match="registered is"):
        script.images_of(other, tmp_path)


def test_intervals_and_p_values_are_those_of_scipy(outcome):
    gains = [0.08, 0.03, -0.01, 0.11, 0.05]
    found = outcome.one_sided(gains)
    reference = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert found["interval"] == pytest.approx([reference.low, reference.high])
    student = np.mean(gains) / (np.std(gains, ddof=1) / 5**0.5)
    assert found["p"] == pytest.approx(stats.t.sf(student, 4))
    assert (found["num_positive"], found["num_spaces"]) == (4, 5)
    assert found["sign_p"] == pytest.approx(6 / 32)  # five heads or four of five


def test_one_space_is_not_tested(outcome):
    assert (outcome.one_sided([0.1])["p"], outcome.one_sided([0.1])["interval"]) == (None, None)
    assert outcome.one_sided([])["mean"] is None


def test_p_values_are_adjusted_by_holm(outcome):
    assert outcome.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert outcome.holm([0.9, 0.8]) == [1.0, 1.0]


def test_gains_are_differences_of_kendall_on_what_was_trained(judged):
    there = np.isfinite(judged.truth)
    own = judged.supernets["uniform.seed1"]
    consensus, raw = (stats.kendalltau(own[form][there], judged.truth[there])[0] for form in ("consensus", "raw"))
    assert judged.gains("raw")[1] == pytest.approx(consensus - raw)
    free = stats.kendalltau(judged.free["log-paths"][there], judged.truth[there])[0]
    assert judged.gains("log-paths")[1] == pytest.approx(consensus - free)
    low, high = judged.resampled("raw", seed=0)
    assert low < np.mean(judged.gains("raw")) < high


def test_a_hypothesis_that_is_true_by_far_is_supported(outcome, facts, judged):
    other = dataclasses.replace(judged, truth=judged.truth + 0.5 * np.random.default_rng(1).normal(size=16384))
    third = dataclasses.replace(judged, truth=judged.truth + 0.5 * np.random.default_rng(2).normal(size=16384))
    found = {each["id"]: each for each in outcome.tests(facts, [judged, other, third])}
    assert found["H1"]["supported"] and found["H1"]["num_positive"] == 3
    assert found["H1"]["p_holm"] >= found["H1"]["p"]
    assert [each["against"] for each in found.values()] == ["raw", "concave", "log-paths", "mean-of-theories"]


def test_other_settings_give_what_a_consensus_of_these_settings_gives(outcome, judged):
    choices = [(None, 20.0), ("dense", 5.0)]
    first, second = outcome.taus_of(judged, choices)
    assert first == pytest.approx(np.mean([judged.tau(own["consensus"]) for own in judged.supernets.values()]))
    archs = judged.space.archs()
    by_hand = [
        judged.tau(fit_consensus(archs, own["raw"], judged.space, beta=5.0, leave_out=["dense"]).scores)
        for own in judged.supernets.values()
    ]
    assert second == pytest.approx(np.mean(by_hand))


def test_the_choice_for_a_space_does_not_see_it(outcome, judged, monkeypatch):
    # Two spaces agree on the last choice, the third one's best is the first.
    rows = iter([np.arange(30.0), np.arange(30.0), np.arange(30.0)[::-1]])
    monkeypatch.setattr(outcome, "taus_of", lambda space, choices: next(rows).tolist())
    found = outcome.leave_one_out([judged, judged, judged])
    assert found["num_choices"] == 30 and found["num_comparisons"] == 90
    assert found["left_out"][2]["kendall"] == 0 and found["left_out"][2]["kendall_best_here"] == 29


def test_spaces_that_are_not_finished_are_named(registered, outcome, sheets, facts, tmp_path, monkeypatch):
    monkeypatch.setattr(registered, "table_of", lambda space: tmp_path / "none.parquet")
    results, judged = outcome.evaluate(facts)
    assert len(results["not_finished"]) == 5 and judged == []
    assert all(each["p"] is None and "supported" not in each for each in results["primary"])
    assert sheets.markdown(results).count("not finished") == 5


def test_the_outcome_that_is_told_is_that_of_the_files_beside_it(script, registered, sheets, facts, plain):
    results = json.loads(script.RESULTS.read_text())
    assert results["preregistration_sha256"] == registered.PREREGISTRATION_SHA256
    assert results["amendment_sha256"] == registered.AMENDMENT_SHA256
    told = results["spaces"]["test-plain"]
    table = cb.load(plain)
    assert (told["num_archs"], told["num_diverged"]) == (384, 0)
    there = np.isfinite(table.accuracies())
    number = [entry["file"] for entry in facts["space"]].index("spaces/test-plain.toml")
    assert set(np.flatnonzero(there)) == set(plain.index(registered.archs_of(plain, facts, number)))
    first = read_seeds(registered.scores_of(plain, "uniform"), plain)[0]
    consensus = fit_consensus(plain.archs(), first.values, plain, beta=20.0)
    for form, scores in (("raw", first.values), ("consensus", consensus.scores)):
        tau = stats.kendalltau(scores[there], table.accuracies()[there])[0]
        assert told["supernets"]["uniform.seed0"][form] == pytest.approx(tau)
    gains = [space["gains"]["H1"]["mean"] for space in results["spaces"].values()]
    assert results["primary"][0]["mean"] == pytest.approx(np.mean(gains))
    assert sheets.markdown(results) == script.RESULTS.with_suffix(".md").read_text()
    chosen = results["exploratory"]["leave_one_space_out"]
    assert sheets.exploratory_markdown(chosen) == script.EXPLORATORY.read_text()


def test_the_page_names_what_was_registered(registered):
    page = (registered.ROOT / "docs" / "explanation" / "consensus-test.md").read_text()
    assert registered.PREREGISTRATION_SHA256 in page
