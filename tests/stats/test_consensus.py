"""Theories of accuracy against sums over layers written out one by one, and their consensus against scipy."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, rankdata, spearmanr

import channel_bench as cb
from channel_bench.errors import ArgumentError, MethodError, UnknownNameError
from channel_bench.space.layers import CLASSES, IMAGE
from harness.judge.comparison import compare
from harness.methods import get_method, method_options
from harness.scores import make_scores, read_scores
from harness.smoothing import average_scores, describe, smooth_scores
from harness.stats.consensus import fit_consensus
from harness.stats.theories import AGGREGATES, QUANTITIES, SETS, WEIGHTS, theories

SPACE = cb.get_space("resnet-mini")
ARCHS = SPACE.archs()
RNG = np.random.default_rng(0)
SOME = np.sort(RNG.choice(16384, 200, replace=False))
NOISY = theories(SPACE).scores[40] + RNG.normal(size=16384)


def by_hand(space, arch, name):
    """One theory of one architecture, layer by layer."""
    one_set, weight, quantity, aggregate = name.split("|")
    channels = {**dict(enumerate(space.channels(arch))), IMAGE: space.input_shape[0], CLASSES: space.num_classes}
    blocks = [layer.block for layer in space.layers[:-1]]
    with_skip = {layer.block for layer in space.layers if layer.skip}
    terms = []
    for number, layer in enumerate(space.layers):
        is_last = number == len(space.layers) - 1
        if (
            (one_set == "no-classifier" and is_last)
            or (one_set == "inner" and (is_last or number == 0))
            or (one_set == "spatial" and layer.kernel == 1)
            or (one_set == "dense" and layer.depthwise)
        ):
            continue
        before = list(dict.fromkeys(blocks[: number + 1])) if not is_last else []
        depth = 0
        while before and before[-1] in with_skip:
            depth += 1
            before.pop()
        factor = {
            "one": 1.0,
            "depth": 1 / (1 + depth),
            "root-depth": (1 + depth) ** -0.5,
            "half": 0.5 if depth else 1.0,
        }
        n_in, n_out = channels[layer.reads], channels[layer.writes]
        fan = layer.kernel**2 * (1 if layer.depthwise else n_in)
        pixels = math.prod(layer.output_size)
        value = {
            "n_in": n_in,
            "n_out": n_out,
            "fan": fan,
            "filters": n_out if layer.depthwise else n_in * n_out,
            "params": fan * n_out,
            "macs": fan * n_out * pixels,
            "acts": n_out * pixels,
            "n_harm": n_in * n_out / (n_in + n_out),
        }
        terms.append((factor[weight], value[quantity]))
    return {
        "log": lambda: sum(w * math.log(q) for w, q in terms),
        "inv-root": lambda: -sum(w / math.sqrt(q) for w, q in terms),
        "inv": lambda: -sum(w / q for w, q in terms),
        "log-sum": lambda: math.log(sum(w * q for w, q in terms)),
        "root": lambda: sum(w * math.sqrt(q) for w, q in terms),
    }[aggregate]()


# -- theories ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet-mini", "mobilenet-mini", "resnet"])
def test_theories_are_what_their_names_say(name):
    space = cb.get_space(name)
    known = theories(space)
    rng = np.random.default_rng(1)
    archs = rng.choice(16384, 12, replace=False)
    for row in rng.choice(len(known.names), 60, replace=False):
        hand = np.array([by_hand(space, space[int(arch)], known.names[row]) for arch in archs])
        # Standardised over the space, so equal up to a factor > 0 and an offset.
        found = known.scores[row, archs]
        slope, offset = np.polyfit(found, hand, 1)
        assert slope > 0 and np.allclose(slope * found + offset, hand, rtol=0, atol=1e-9 * np.abs(hand).max())


@pytest.mark.parametrize(("name", "count"), [("resnet-mini", 284), ("mobilenet", 531)])
def test_every_theory_is_there_once(name, count):
    known = theories(cb.get_space(name))
    assert len(known.names) == len(set(known.names)) == count
    assert np.allclose(known.scores.mean(1), 0, atol=1e-9) and np.allclose(known.scores.std(1), 1)
    assert len({rank.tobytes() for rank in known.ranks}) == count
    assert (known.ranks[5] == rankdata(known.scores[5].round(7))).all()
    with pytest.raises(ValueError, match="read-only"):
        known.scores[0, 0] = 1


def test_of_theories_that_rank_alike_the_first_stays():
    # In a ResNet no layer is depthwise, so "dense" says what "all" says; in a MobileNet it does not.
    assert not any(name.startswith("dense|") for name in theories(SPACE).names)
    assert any(name.startswith("dense|") for name in theories(cb.get_space("mobilenet-mini")).names)


def test_flops_are_a_theory():
    for name in ("resnet-mini", "mobilenet-mini"):
        space = cb.get_space(name)
        known = theories(space)
        row = known.names.index("all|one|macs|log-sum")
        assert kendalltau(known.scores[row].round(9), np.log(space.flops().astype(float)).round(12))[
            0
        ] == pytest.approx(1)


def test_what_is_left_out_is_in_no_theory():
    dropped = {"all", "inner", "one", "n_in", "params", "macs", "log"}
    left = theories(SPACE, dropped).names
    known = {name for part in (SETS, WEIGHTS, QUANTITIES, AGGREGATES) for name in part}
    # With "all" gone its rankings go on as "dense", which says the same of a ResNet; and all of its convolutions are
    # 3x3, so that "spatial" says no more than "no-classifier".
    assert {part for name in left for part in name.split("|")} == known - dropped - {"spatial"}


def test_what_cannot_be_left_out_is_refused():
    with pytest.raises(UnknownNameError, match="unknown part of a theory 'spacial'.*did you mean 'spatial'"):
        theories(SPACE, ["spacial"])
    with pytest.raises(ArgumentError, match="every set of the theories is left out"):
        theories(SPACE, SETS)


# -- their consensus --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [SOME, np.arange(16384)])
def test_weights_follow_scipys_spearman(chosen):
    fit = fit_consensus(ARCHS[chosen], NOISY[chosen], SPACE, beta=7)
    known = theories(SPACE)
    for row in (0, 40, 111, 283):
        assert fit.rho[row] == pytest.approx(spearmanr(known.scores[row, chosen].round(7), NOISY[chosen])[0], abs=1e-12)
    expected = np.exp(7 * fit.rho) / np.exp(7 * fit.rho).sum()
    assert np.allclose(fit.weights, expected, rtol=1e-12)
    assert np.allclose(fit.scores, expected @ known.scores, atol=1e-8)
    assert (fit.predict(ARCHS[chosen]) == fit.scores[chosen]).all()
    assert fit.num_effective == pytest.approx(1 / (expected**2).sum()) and fit.num_scores == len(chosen)


def test_a_sharp_choice_is_the_best_theory_and_a_blunt_one_the_mean_of_all():
    known = theories(SPACE)
    exact = known.scores[40]
    sharp = fit_consensus(ARCHS[SOME], exact[SOME], SPACE, beta=1e6)
    assert sharp.leaders(1) == [(known.names[40], 1.0, pytest.approx(1.0))]
    assert np.allclose(sharp.scores, exact, atol=1e-8) and sharp.num_effective == 1
    blunt = fit_consensus(ARCHS[SOME], exact[SOME], SPACE, beta=1e-9)
    assert np.allclose(blunt.scores, known.scores.mean(0), atol=1e-7)


def test_the_consensus_is_nearer_to_a_theory_than_its_noisy_scores_are():
    truth = theories(SPACE).scores[40]
    fit = fit_consensus(ARCHS[SOME], NOISY[SOME], SPACE)
    assert spearmanr(fit.scores, truth)[0] > 0.95 > spearmanr(NOISY, truth)[0] + 0.2


@given(st.permutations(range(30)), st.floats(0.1, 5), st.floats(-100, 100))
@settings(max_examples=15, deadline=None)
def test_neither_the_order_nor_the_scale_of_scores_matters(order, power, offset):
    chosen = SOME[:30]
    scores = rankdata(NOISY[chosen])
    fit = fit_consensus(ARCHS[chosen], scores, SPACE)
    other = fit_consensus(ARCHS[chosen[order]], scores[order] ** power + offset, SPACE)
    assert np.allclose(fit.scores, other.scores, atol=2e-8)


def test_a_theory_that_is_constant_on_what_was_scored_neither_agrees_nor_disagrees():
    chosen = np.flatnonzero((ARCHS[:, [0, 1, 2, 3, 5, 6]] == 2).all(1))  # four: only slot 4 differs
    chosen = np.r_[chosen, np.flatnonzero((ARCHS[:, [0, 1, 2, 3, 5, 6]] == 3).all(1))]
    fit = fit_consensus(ARCHS[chosen], np.arange(8.0), SPACE)
    assert np.isfinite(fit.rho).all() and np.isfinite(fit.scores).all()


@pytest.mark.parametrize(
    ("archs", "scores", "options", "message"),
    [
        (ARCHS[:7], np.arange(7.0), {}, "7 scores cannot choose among theories: give at least 8"),
        (ARCHS[:9], np.ones(9), {}, "all 9 scores are 1.0"),
        (ARCHS[:9], np.arange(8.0), {}, r"9 architectures have scores of shape \(8,\)"),
        (ARCHS[:9], np.r_[np.arange(8.0), np.nan], {}, "score of architecture 1111131 is nan"),
        (ARCHS[[5] * 9], np.arange(9.0), {}, "alike to every theory"),
        (ARCHS[:9], np.arange(9.0), {"beta": 0}, "beta of the consensus is 0: allowed are numbers above 0"),
        (ARCHS[:9], np.arange(9.0), {"beta": float("nan")}, "beta of the consensus is nan"),
        (ARCHS[:9], np.arange(9.0), {"beta": "20"}, "beta of the consensus is '20'"),
        (ARCHS[:9], np.arange(9.0), {"leave_out": ["spacial"]}, "unknown part of a theory"),
    ],
)
def test_what_has_no_consensus_is_refused(archs, scores, options, message):
    with pytest.raises((ArgumentError, UnknownNameError), match=message) as caught:
        fit_consensus(archs, scores, SPACE, **options)
    assert "\n" not in str(caught.value)


# -- scores and methods -----------------------------------------------------------------------------------------


def test_scores_by_consensus_say_how_they_were_made():
    scores = make_scores("mine", SPACE, SOME, NOISY[SOME], {"seed": 3})
    smooth = smooth_scores(scores, "consensus", 64, options={"beta": 10, "leave_out": "spatial, root"})
    assert smooth.method == "mine+consensus" and not smooth.missing and smooth.facts["seed"] == 3
    facts = smooth.facts["smoothing"]
    assert facts["beta"] == 10 and facts["leave_out"] == "spatial,root" and facts["num_scores"] == 64
    assert facts["theories"] < 284 and 0.5 < facts["rho"] < 1
    (text,) = describe(smooth.facts)
    assert re.fullmatch(r"consensus of \d+ theories by their agreement with 64 of 200 scores, the best \S+ at .*", text)
    again = smooth_scores(scores, "consensus", 64, options={"beta": 10, "leave_out": "spatial,root"})
    assert (again.values == smooth.values).all()
    with pytest.raises(ArgumentError, match="form 'log' has no option 'beta': it has none"):
        smooth_scores(scores, "log", options={"beta": 3})


def test_supernets_of_several_methods_are_averaged_on_one_scale():
    factors = {"a": 1, "b": -3, "c": 2}
    parts = [make_scores(name, SPACE, SOME, NOISY[SOME] * factor + 5) for name, factor in factors.items()]
    mean = average_scores(parts, "standard")
    z = (NOISY[SOME] - NOISY[SOME].mean()) / NOISY[SOME].std()
    assert np.allclose(mean.values, z / 3, atol=1e-9) and mean.method == "standard-mean3(a, b, c)"
    flat = make_scores("flat", SPACE, SOME, np.ones(len(SOME)))
    with pytest.raises(ArgumentError, match="scores of 'flat' are all equal"):
        average_scores([parts[0], flat], "standard")


def test_a_method_is_ranked_by_consensus(digits):
    from harness.task import make_task, supernet_recipe

    assert method_options("uniform+consensus")["beta"] == 20
    assert method_options("uniform+log").get("beta") is None
    method = get_method("uniform+consensus", samples=20, beta=5)
    evaluator = method.fit(make_task(SPACE, digits, recipe=supernet_recipe(SPACE, 1)))
    scores = evaluator.score(ARCHS)
    own = evaluator.inner.score(evaluator._archs)
    assert (scores == fit_consensus(evaluator._archs, own, SPACE, beta=5).scores).all()
    with pytest.raises(MethodError, match="no effects of single slots: take METHOD[+]log"):
        evaluator.slot_effects()


def test_the_command_ranks_by_consensus(run_cli, tmp_path, small_table_path):
    path = tmp_path / "mine.csv"
    path.write_text("arch,score\n" + "".join(f"{SPACE.text(int(i))},{NOISY[i]}\n" for i in range(16384)))
    words = ("channel-harness", "score", path, "--space", "resnet-mini", "--table", small_table_path, "--draws", "2")
    code, output, _ = run_cli(*words, "--smooth", "consensus", "--smooth-option", "beta=10")
    assert code == 0 and "mine+consensus" in output and "consensus of 284 theories" in output
    for more, message in (
        (["--smooth", "consensus", "--smooth-option", "gamma=1"], "has no option 'gamma': it has beta, leave_out"),
        (["--smooth", "consensus", "--smooth-option", "beta"], "--smooth-option 'beta' is not NAME=VALUE"),
        (["--smooth", "consensus", "--smooth-option", "leave_out=3"], "leave_out is 3: allowed are names"),
        (["--smooth", "log", "--smooth-option", "beta=1"], "has no option 'beta'"),
        (["--smooth-option", "beta=1"], "--smooth-option without --smooth"),
        (["--smooth", "consensus", "--smooth-samples", "7"], "allowed are 8, which it needs at least"),
    ):
        code, output, error = run_cli(*words, *more)
        assert code == 2 and output == "" and error.count("\n") == 1 and message in error


@pytest.mark.parametrize(
    ("space", "file", "raw", "smooth"),
    [
        ("mobilenet", "bin20_min1_bcnet_2.json", 0.430, 0.732),
        ("resnet", "bin20_min1_bcnet_2_resnet.json", 0.318, 0.691),
    ],
)
def test_released_scores_gain_by_consensus(space, file, raw, smooth, published, scores_dir):
    table = cb.load(space, data_dir=published)
    scores = read_scores(scores_dir / file, table.space)
    found = [compare(each, table).rows[0].kendall for each in (scores, smooth_scores(scores, "consensus"))]
    assert found == pytest.approx([raw, smooth], abs=6e-4)
