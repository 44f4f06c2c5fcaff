"""The top of a ranking and the choices within budgets: by hand, against the metrics, and where nothing is noisy."""

import numpy as np
import pytest

from channel_bench.errors import ArgumentError, BudgetError
from harness.stats.metrics import best_rank_at, precision_at, regrets
from harness.stats.top import bootstrap_top, choose


def test_a_choice_by_hand():
    # Three architectures, two runs. By run 0 the second is best, by run 1 the third; the first is scored highest.
    cells = np.array([[50.0, 52.0], [60.0, 54.0], [55.0, 58.0]])
    found = choose([3.0, 1.0, 2.0], cells, [1.0, 2.0, 3.0], budget=3.0)
    assert (found.chosen, found.accuracy, found.best, found.num_fitting) == ((0,), 51.0, 57.0, 3)
    assert found.regret == 6.0
    # Measured on run 0: the best by run 1 is the third, 55 - 50. On run 1: the best by run 0 is the second, 54 - 52.
    assert found.regret_unseen == pytest.approx((5 + 2) / 2)
    cheaper = choose([3.0, 1.0, 2.0], cells, [1.0, 2.0, 3.0], budget=2.5)
    assert (cheaper.num_fitting, cheaper.regret) == (2, 6.0)


def test_equal_scores_are_equally_likely_to_be_chosen():
    cells = np.array([[50.0, 50.0], [60.0, 60.0], [40.0, 40.0]])
    found = choose([1.0, 1.0, 0.0], cells, [1.0, 1.0, 1.0], budget=1.0)
    assert found.chosen == (0, 1) and found.accuracy == 55.0 and found.regret == 5.0 == found.regret_unseen


def test_luck_raises_the_best_but_not_the_unseen_regret():
    rng = np.random.default_rng(0)
    cells = 60 + rng.normal(size=(400, 200, 3))  # all architectures are equally good
    found = [choose(rng.normal(size=200), each, np.ones(200), 1.0) for each in cells]
    assert np.mean([each.regret for each in found]) > 1.4  # the expected maximum of 200 means over 3 runs is 1.59
    unseen = [each.regret_unseen for each in found]
    assert abs(np.mean(unseen)) < 4 * np.std(unseen) / np.sqrt(len(unseen))


def test_runs_that_are_missing_leave_the_unseen_regret_unknown():
    cells = np.array([[50.0, 52.0], [60.0, np.nan], [55.0, 58.0]])
    assert np.isnan(choose([3.0, 1.0, 2.0], cells, [1.0, 2.0, 3.0], budget=3.0).regret_unseen)
    assert choose([3.0, 1.0, 2.0], cells, [1.0, 2.0, 3.0], budget=1.5).regret_unseen == 0
    assert np.isnan(choose([3.0, 1.0], [50.0, 60.0], [1.0, 2.0], budget=3.0).regret_unseen)


def test_estimates_are_those_of_the_metrics():
    rng = np.random.default_rng(1)
    cells = rng.normal(size=(150, 3)).round(1) + 90
    scores = {"fine": rng.normal(size=150), "coarse": rng.integers(0, 4, 150).astype(float)}
    costs, budgets = rng.random(150), [0.3, 0.9]
    found = bootstrap_top(scores, cells, costs, budgets, num_replicates=3)
    assert found.metrics == ("p_at_top10", "br_at_10", "p_at_top100", "br_at_100", "regret_0", "regret_1")
    truth = cells.mean(1).round(4)
    for name, values in scores.items():
        expected = [metric(k, values, truth) for k in (10, 100) for metric in (precision_at, best_rank_at)]
        expected += [each.regret for each in regrets(values, truth, costs, budgets)]
        found_values = [found.interval(name, metric).estimate for metric in found.metrics]
        assert found_values == pytest.approx(expected)


def test_without_noise_there_is_nothing_to_doubt():
    truth = np.arange(50.0)
    cells = np.repeat(truth[:, None], 3, 1)
    found = bootstrap_top({"perfect": truth, "worst": -truth}, cells, truth, [20.0], num_replicates=10)
    assert (found.replicates == found.estimates).all()
    assert found.estimates[0].tolist() == [1.0, 1.0, 0.0] and found.estimates[1].tolist() == [0.0, 41.0, 20.0]


def test_replicates_scatter_as_new_runs_do():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=2000)
    scores = truth + rng.normal(size=2000)
    tables = [truth[:, None] + rng.normal(size=(2000, 3)) for _ in range(150)]
    fresh = [precision_at(100, scores, cells.mean(1)) for cells in tables]
    found = [bootstrap_top({"m": scores}, cells, truth, num_replicates=60, seed=3) for cells in tables[:12]]
    errors = [each.interval("m", "p_at_top100").standard_error for each in found]
    assert np.mean(errors) == pytest.approx(np.std(fresh, ddof=1), rel=0.25)


def test_bad_input_is_refused():
    cells = np.full((3, 2), 50.0)
    with pytest.raises(BudgetError, match="no architecture costs at most 0.5"):
        choose([1.0, 2.0, 3.0], cells, [1.0, 1.0, 1.0], budget=0.5)
    with pytest.raises(BudgetError, match="no architecture costs at most 0.5"):
        bootstrap_top({"m": [1.0, 2.0, 3.0]}, cells, [1.0, 1.0, 1.0], [0.5])
    with pytest.raises(ArgumentError, match="no architecture has two"):
        bootstrap_top({"m": [1.0, 2.0, 3.0]}, cells[:, :1], [1.0, 1.0, 1.0])
    with pytest.raises(ArgumentError, match="2 scores for 3"):
        bootstrap_top({"m": [1.0, 2.0]}, cells, [1.0, 1.0, 1.0])
