"""AutoSlim's pass against hand-computed walks and the greedy searcher; ranks and regrets against slow ones."""

import numpy as np
import pytest

import channel_bench as cb
from harness.experiments.contract import Cell, Setting
from harness.experiments.run import identity
from harness.experiments.trajectory import Trajectory, greedy_pass, tied_steps
from harness.ranking.request import TaskOptions
from harness.scores import make_scores
from harness.search.run import search
from harness.searcher import Budget

SPACE = cb.get_space("resnet-mini")
DIGITS = SPACE.archs().astype(int)


def texts(way):
    return [SPACE.text(index) for index in way]


def test_an_additive_score_gives_up_its_cheapest_slot_first():
    """A step costs a slot as much as its number says: slot 0 is slimmed to the end, then slot 1 ..."""
    scores = (DIGITS * 2.0 ** np.arange(7)).sum(1)
    expected = ["4444444", "3444444", "2444444", "1444444", "1344444", "1244444", "1144444", "1134444"]
    assert texts(greedy_pass(scores))[:8] == expected
    assert texts(greedy_pass(scores))[-1] == "1111111" and tied_steps(scores, greedy_pass(scores)) == 0


def test_ties_are_broken_in_index_order_and_counted():
    constant = np.zeros(len(SPACE))
    way = greedy_pass(constant)
    assert texts(way)[:4] == ["4444444", "3444444", "2444444", "1444444"]
    assert tied_steps(constant, way) == 18  # at the last three only one slot is left
    drawn = {tuple(greedy_pass(constant, np.random.default_rng(seed))) for seed in range(5)}
    assert len(drawn) == 5 and all(len(each) == 22 for each in drawn)


@pytest.mark.parametrize("seed", range(3))
def test_the_pass_is_the_walk_of_the_greedy_searcher(seed):
    scores = np.random.default_rng(seed).random(len(SPACE))
    found = make_scores("mine", SPACE, np.arange(len(SPACE)), scores, {})
    budget = Budget("flops", SPACE.flops(), float(SPACE.flops("1111111")))
    walk = search(SPACE, found, budget, np.random.default_rng(0), "greedy").history
    assert texts(greedy_pass(scores))[1:] == [step.arch for step in walk]


def test_a_cell_is_judged_as_by_hand():
    """BCNet's leaderboard scores: rank and regret of every step, recounted one by one."""
    setting = Setting(task=TaskOptions(space="resnet-mini"), num_seeds=1)
    experiment = Trajectory()
    assert Cell("bcnet", {"method": "bcnet"}) in experiment.cells(setting)
    measured = experiment.measure(Cell("bcnet", {"method": "bcnet"}), setting)
    (way,) = measured["passes"]
    truth, flops = cb.load("resnet-mini").accuracies().round(4), SPACE.flops()
    for place in (0, 7, 20):
        index = SPACE.index(way["archs"][place])
        inside = [each for each in range(len(SPACE)) if flops[each] <= flops[index]]
        assert way["num_fitting"][place] == len(inside)
        assert way["rank"][place] == 1 + sum(truth[each] > truth[index] for each in inside)
        assert way["regret"][place] == pytest.approx(max(truth[inside]) - truth[index], abs=1e-4)
    budget = 0.5 * flops[-1]
    first = next(place for place, each in enumerate(way["flops"]) if each <= budget)
    regret = truth[flops <= budget].max() - truth[SPACE.index(way["archs"][first])]
    assert way["within"]["flops 0.5"]["regret"] == pytest.approx(regret, abs=1e-4)

    outcome = experiment.outcome({"bcnet": measured}, setting)
    assert [row[0] for row in outcome.sheets[0].rows] == ["bcnet", "uniform width"]
    assert [row[0] for row in outcome.sheets[1].rows] == way["archs"]
    assert outcome.figures["trajectory"]().axes


def test_a_measured_latency_is_a_further_budget(tmp_path, monkeypatch):
    """A latency that is the FLOPs a thousandth has the same steps within its budgets as the FLOPs themselves."""
    monkeypatch.setattr(Setting, "latencies", lambda self: SPACE.flops() / 1000)
    setting = Setting(task=TaskOptions(space="resnet-mini"), num_seeds=1)
    measured = Trajectory().measure(Cell("fur", {"method": "fur"}), setting)
    (way,) = measured["passes"]
    assert way["latency"] == [flops / 1000 for flops in way["flops"]]
    assert way["within"]["latency 0.25"] == way["within"]["flops 0.25"]
    steps = Trajectory().outcome({"fur": measured}, setting).sheets[1]
    assert steps.columns[4] == "ms" and len(steps.rows[0]) == len(steps.columns)


def test_another_latency_file_is_another_setting(tmp_path):
    identities = []
    for text in ("first", "second"):
        (tmp_path / "latency.json").write_text(text)
        setting = Setting(task=TaskOptions(space="resnet-mini"), latency=str(tmp_path / "latency.json"))
        identities.append(identity("trajectory", setting))
    assert identities[0] != identities[1] and "latency_sha256" in identities[0]["setting"]
