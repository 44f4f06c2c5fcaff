"""Where rankings hold: quarters and Kendall within them against slow ones; spaces and quarters that lack something."""

import numpy as np
import pytest
from scipy import stats

import channel_bench as cb
from harness.experiments.contract import Cell, Setting
from harness.experiments.rankings import leaderboard_scores, scores_at_hand
from harness.experiments.regions import Regions
from harness.ranking.request import TaskOptions

SPACE = cb.get_space("resnet-mini")


@pytest.fixture(scope="module")
def measured():
    return Regions().measure(Cell("regions"), Setting(task=TaskOptions(space="resnet-mini"), num_seeds=1))


def test_kendall_within_a_quarter_is_scipy_s_on_what_lies_between_two_quartiles(measured):
    found = next(each for each in measured["rankings"] if each["name"] == "bcnet" and each["seed"] == 1)
    scores, truth, flops = leaderboard_scores(SPACE)["bcnet"][1].values, cb.load(SPACE).accuracies(), SPACE.flops()
    low, middle = np.quantile(flops, [0.25, 0.5])
    inside = (flops > low) & (flops <= middle)
    expected = stats.kendalltau(scores[inside], truth[inside]).statistic
    assert found["flops"][1] == pytest.approx(expected, abs=1e-9)
    assert found["whole"] == pytest.approx(stats.kendalltau(scores, truth).statistic, abs=1e-9)


def test_histograms_count_every_architecture(measured):
    assert {sum(each["counts"]) for each in measured["histograms"].values()} == {len(SPACE)}


def test_a_quarter_in_which_scores_are_constant_is_undefined_and_not_zero(measured):
    rankings = [dict(each) for each in measured["rankings"]]
    for each in rankings:
        if each["name"] == "min-width":
            each["flops"] = [None, *each["flops"][1:]]
    setting = Setting(task=TaskOptions(space="resnet-mini"), num_seeds=1)
    outcome = Regions().outcome({"regions": {**measured, "rankings": rankings}}, setting)
    (row,) = [row for row in outcome.sheets[0].rows if row[0] == "min-width"]
    assert row[4] == "undefined" and row[5] != "undefined"
    assert outcome.figures["regions"]().axes


def test_a_space_without_scores_at_hand_has_its_baselines_alone():
    assert scores_at_hand(cb.get_space("resnet")) == {}
    assert sorted(scores_at_hand(SPACE)) == sorted(leaderboard_scores(SPACE))
