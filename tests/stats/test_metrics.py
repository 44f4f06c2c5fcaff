"""Metrics against scipy, closed forms and enumeration, and the cases in which they are not defined."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from channel_bench.errors import ArgumentError, BudgetError
from harness.stats import metrics
from harness.stats.metrics import (
    best_rank_at,
    correlations,
    equal_flops,
    kendall,
    kt_1dec,
    partial_spearman,
    precision_at,
    regrets,
    summary,
    weighted_tau,
)


def brute_force_tau_b(a, b):
    concordant = discordant = tied_a = tied_b = 0
    for i in range(len(a)):
        for j in range(i):
            x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
            concordant += x * y > 0
            discordant += x * y < 0
            tied_a += x == 0
            tied_b += y == 0
    pairs = len(a) * (len(a) - 1) / 2
    return (concordant - discordant) / np.sqrt((pairs - tied_a) * (pairs - tied_b))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=25))
def test_ties_are_handled_as_the_definitions_say(pairs):
    a, b = np.array(pairs, float).T
    result = correlations(a, b)
    if a.std() == 0 or b.std() == 0:
        assert np.isnan([result.kendall, result.spearman, result.pearson, weighted_tau(a, b)]).all()
        return
    assert result.kendall == pytest.approx(brute_force_tau_b(a, b), abs=1e-12)
    assert result.spearman == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert result.pearson == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
    assert result.n == len(a)


def test_a_thousand_random_cases_agree_with_scipy():
    rng = np.random.default_rng(0)
    num_defined = 0
    for number in range(1000):
        n = int(rng.integers(3, 80))
        # From nearly constant to nearly without ties, on scales from tiny to huge.
        a = rng.integers(0, rng.integers(2, 100), n) * 10.0 ** rng.integers(-12, 12)
        b = rng.integers(0, rng.integers(2, 100), n) / 7 + rng.integers(0, 2) * a / max(a.max(), 1e-300)
        result = correlations(a, b)
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            assert np.isnan([result.kendall, result.spearman, result.pearson]).all()
            continue
        num_defined += 1
        assert result.kendall == pytest.approx(stats.kendalltau(a, b, method="asymptotic").statistic, abs=1e-12)
        assert result.pearson == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-9)
        ranks = stats.rankdata(a), stats.rankdata(b)
        assert result.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)
        assert kendall(a, b) == result.kendall
        if number % 10 == 0:
            assert weighted_tau(a, b) == pytest.approx(stats.weightedtau(a, b).statistic, abs=1e-12)
    assert num_defined > 900


@pytest.mark.parametrize("n", [1023, 1024, 4095, 4096, 4097, 16384, 70_000])
def test_large_cases_agree_with_scipy_around_the_sizes_of_blocks(n):
    rng = np.random.default_rng(n)
    a = rng.normal(size=n)
    for decimals in (1, 12):
        b = (a + rng.normal(size=n)).round(decimals)
        scores = a.round(decimals)
        assert kendall(scores, b) == pytest.approx(stats.kendalltau(scores, b).statistic, abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_order_scale_and_sign(seed, ties):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 50))
    if ties:
        a, b = a.round(), b.round()
    result = correlations(a, b)
    order = rng.permutation(50)
    moved = correlations(a[order] * 1e-180, b[order] * 1e180 + 0)
    assert np.allclose(list(vars(result).values()), list(vars(moved).values()))
    backwards = correlations(-a, b)
    assert (backwards.kendall, backwards.pearson) == pytest.approx((-result.kendall, -result.pearson))


def test_the_largest_and_smallest_numbers_neither_overflow_nor_vanish():
    result = correlations([-1.7e308, 0, 1.7e308], [-5e-324, 0, 5e-324])
    assert (result.kendall, result.spearman, result.pearson) == pytest.approx((1, 1, 1))


def test_small_cases_by_hand():
    perfect = correlations([1, 2, 3], [10, 20, 30])
    assert (perfect.kendall, perfect.spearman, perfect.pearson, perfect.n) == pytest.approx((1, 1, 1, 3))
    # One of three pairs is swapped: tau = (2 - 1) / 3, and Spearman 1 - 6 * 2 / (3 * 8).
    swapped = correlations([1, 3, 2], [1, 2, 3])
    assert (swapped.kendall, swapped.spearman) == pytest.approx((1 / 3, 0.5))
    assert kendall([1, 2], [4, 3]) == -1 and kendall([0, 0, 1], [3, 3, 9]) == 1


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([1.0], [1.0], "at least 2"),
        ([], [], "at least 2"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "2 scores for 3 architectures"),
        ([1.0, np.nan, np.nan], [1.0, 2.0, 3.0], "2 of 3 scores are NaN or infinite, the first at position 1"),
        ([1.0, 2.0], [np.inf, 2.0], "1 of 2 truth"),
        ([[1.0, 2.0]], [1.0, 2.0], "shape"),
    ],
)
def test_what_has_no_correlation_is_refused(scores, truth, message):
    flops = np.ones(len(scores))
    for metric in (
        correlations,
        kendall,
        weighted_tau,
        kt_1dec,
        lambda a, b: partial_spearman(a, b, flops),
        lambda a, b: equal_flops(a, b, flops),
        lambda a, b: precision_at(1, a, b),
        lambda a, b: best_rank_at(1, a, b),
        lambda a, b: regrets(a, b, flops, [1]),
    ):
        with pytest.raises(ArgumentError, match=message):
            metric(scores, truth)


# -- the invariance that all of them share ---------------------------------------------------------------------------


def summarised(scores, truth, flops):
    return summary(scores, truth, correlations(scores, truth), equal_flops(scores, truth, flops))


def everything(scores, truth, flops):
    found = summarised(scores, truth, flops)
    found |= {f"p{k}": precision_at(k, scores, truth) for k in (1, 5)}
    found |= {f"b{k}": best_rank_at(k, scores, truth) for k in (1, 5)}
    for number, regret in enumerate(regrets(scores, truth, flops, np.quantile(flops, [0.2, 0.5, 1]))):
        found[f"regret {number}"] = regret.regret
    return found


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 6]))
def test_no_metric_depends_on_the_order_of_the_architectures(seed, decimals):
    rng = np.random.default_rng(seed)
    scores, truth, flops = rng.normal(size=(3, 30)).round(decimals)
    order = rng.permutation(30)
    first = everything(scores, 90 + truth, flops)
    second = everything(scores[order], 90 + truth[order], flops[order])
    assert first.keys() == second.keys()
    assert list(first.values()) == pytest.approx(list(second.values()), abs=1e-9, nan_ok=True)


# -- sparse, weighted, partial, at equal cost ------------------------------------------------------------------------


def test_the_sparse_kendall_ties_what_one_decimal_ties():
    truth = [90.01, 90.04, 90.24, 90.16, 90.44]  # 90.0 90.0 90.2 90.2 90.4
    assert kt_1dec([1, 2, 3, 4, 5], truth) == pytest.approx(8 / math.sqrt(10 * 8))
    assert kt_1dec([2, 1, 4, 3, 5], truth) == kt_1dec([1, 2, 3, 4, 5], truth)
    assert math.isnan(kt_1dec([1, 2], [90.01, 90.04]))
    # Half to even, and single precision does not decide where a half goes.
    assert kt_1dec([1, 2, 3], [90.25, float(np.float32(90.25)) + 1e-6, 90.2]) == pytest.approx(
        kt_1dec([1, 2, 3], [90.2, 90.2, 90.2]), nan_ok=True
    )


def test_the_weighted_tau_cares_about_the_top():
    truth = np.arange(20.0)
    top, bottom = truth.copy(), truth.copy()
    top[[18, 19]], bottom[[0, 1]] = [19, 18], [1, 0]
    assert kendall(top, truth) == kendall(bottom, truth)
    assert weighted_tau(top, truth) < weighted_tau(bottom, truth) < 1


def test_the_partial_correlation_is_that_of_what_is_left():
    rng = np.random.default_rng(1)
    given_ranks = stats.rankdata(rng.normal(size=400))
    a = given_ranks + 100 * rng.normal(size=400)
    b = given_ranks + a / 3 + 100 * rng.normal(size=400)
    ranks = [stats.rankdata(values) for values in (a, b)]
    line = np.c_[np.ones(400), given_ranks]
    left = [values - line @ np.linalg.lstsq(line, values, rcond=None)[0] for values in ranks]
    assert partial_spearman(a, b, given_ranks) == pytest.approx(np.corrcoef(*left)[0, 1])
    assert partial_spearman(-a, b, given_ranks) == pytest.approx(-partial_spearman(a, b, given_ranks))
    # A score that is FLOPs, upside down or not, says nothing beyond FLOPs.
    for score in (given_ranks**3, -given_ranks):
        assert math.isnan(partial_spearman(score, b, given_ranks))
    assert math.isnan(partial_spearman(np.ones(400), b, given_ranks))
    with pytest.raises(ArgumentError, match="400 scores for 399 values given"):
        partial_spearman(a, b, given_ranks[1:])


def test_groups_of_equal_cost_are_quantiles_that_keep_ties_together():
    cost = np.array([1, 1, 1, 2, 3, 4, 5, 6, 7, 8.0])
    found = equal_flops(np.arange(10), np.array([0, 1, 2, 3, 4, 9, 8, 7, 6, 5.0]), cost, 2)
    assert found.edges == (1, 3.5, 8) and found.n == (5, 5)
    assert found.kendall == (1, -1) and found.mean == 0
    coarse = equal_flops(np.arange(10), np.arange(10), np.array([1] * 8 + [2, 3.0]), 4)
    assert coarse.n == (0, 0, 0, 10)  # the eight of equal cost stay together
    assert coarse.mean == 1
    constant = equal_flops(np.ones(10), np.arange(10), cost)
    assert math.isnan(constant.mean) and math.isnan(constant.partial)
    for wrong in (0, 2.5, True):
        with pytest.raises(ArgumentError, match="number of groups"):
            equal_flops(np.arange(10), np.arange(10), cost, wrong)
    with pytest.raises(ArgumentError, match="10 scores for 9 costs"):
        equal_flops(np.arange(10), np.arange(10), cost[1:])


# -- the top of the ranking ------------------------------------------------------------------------------------------


def enumerated(k, scores, truth):
    """Precision and best rank over all orders in which equal scores may come."""
    ranks = [1 + sum(other > value for other in truth) for value in truth]
    precisions, bests = [], []
    for order in itertools.permutations(range(len(scores))):
        chosen = sorted(order, key=lambda row: -scores[row])[:k]  # stable: ties as in this order
        precisions.append(sum(ranks[row] <= k for row in chosen) / k)
        bests.append(min(ranks[row] for row in chosen))
    return np.mean(precisions), np.mean(bests)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=6), st.integers(1, 6))
def test_ties_at_the_top_are_averaged_over_permutations(pairs, k):
    scores, truth = np.array(pairs, float).T
    k = min(k, len(pairs))
    precision, best = enumerated(k, scores.tolist(), truth.tolist())
    assert precision_at(k, scores, truth) == pytest.approx(precision)
    assert best_rank_at(k, scores, truth) == pytest.approx(best)


def test_a_constant_scorer_is_a_random_choice_whatever_the_order():
    n, truth = 1000, np.random.default_rng(0).permutation(1000)
    for k in (1, 10, 1000):
        assert precision_at(k, np.ones(n), truth) == pytest.approx(k / n)
        assert best_rank_at(k, np.ones(n), truth) == pytest.approx((n + 1) / (k + 1))
    assert precision_at(10, truth, truth) == 1 and best_rank_at(10, truth, truth) == 1
    assert precision_at(10, -truth, truth) == 0 and best_rank_at(10, -truth, truth) == n - 9
    # Equals share the best rank among them, so that a perfect scorer is perfect in spite of ties across the k-th place.
    coarse = truth // 7
    assert precision_at(10, coarse, coarse) == 1 and best_rank_at(3, coarse, coarse) == 1
    for wrong in (0, n + 1, 1.5, True):
        with pytest.raises(ArgumentError, match="allowed are 1 to 1000"):
            precision_at(wrong, truth, truth)
        with pytest.raises(ArgumentError, match="allowed are 1 to 1000"):
            best_rank_at(wrong, truth, truth)


def test_regret_is_what_a_budget_costs():
    scores, truth, cost = [5, 5, 9, 1, 0], [70, 74, 75, 80, 60], [1, 2, 3, 4, 5]
    small, middle, all_of_it = regrets(scores, truth, cost, [2, 3.5, 5])
    assert (small.num_fitting, len(small.chosen), small.accuracy, small.best, small.regret) == (2, 2, 72, 74, 2)
    assert (len(middle.chosen), middle.accuracy, middle.regret) == (1, 75, 0)
    assert (all_of_it.best, all_of_it.regret) == (80, 5)
    with pytest.raises(BudgetError, match="no architecture costs at most 0.5: the least is 1"):
        regrets(scores, truth, cost, [0.5])
    with pytest.raises(ArgumentError, match="a budget is NaN"):
        regrets(scores, truth, cost, [math.nan])


def test_the_summary_has_the_names_that_the_field_knows():
    rng = np.random.default_rng(0)
    scores, truth, flops = rng.normal(size=(3, 50))
    found = summarised(scores, truth, flops)
    assert found["n"] == 50 and found["kendall"] == kendall(scores, truth)
    assert found["p_at_top10"] == precision_at(10, scores, truth.round(4))
    assert found["br_at_10"] == best_rank_at(10, scores, truth.round(4)) and "br_at_100" not in found
    assert found["kendall_at_equal_flops"] == equal_flops(scores, truth, flops).mean
    assert metrics.TOP_SIZES == (10, 100)


# -- what is known about the published table -------------------------------------------------------------------------

SUMMED_LOGS = {"mobilenet": (0.8430, 0.8353, 0.6518), "resnet": (0.8110, 0.7998, 0.6144)}


@pytest.fixture(scope="module", params=["mobilenet", "resnet"])
def truth(request, published):
    import channel_bench as cb

    return cb.load(request.param, data_dir=published)


def test_deciles_of_flops_are_printed_as_computed(truth, run_cli):
    found = equal_flops(truth.space.flops(), truth.accuracies(), truth.space.flops())
    code, output, _ = run_cli("channel-harness", "baselines", "--space", truth.space.name, "--equal-flops")
    line = [line.split() for line in output.splitlines() if line.startswith("flops")][-1]
    assert (
        code == 0
        and line[1] == "undefined"
        and [f"{float(each):.2f}" for each in line[3:]] == [f"{tau:.2f}" for tau in found.kendall]
    )


def test_logarithms_summed_one_by_one_are_worth_a_little_less_than_exact_ones(truth):
    found = correlations(np.log(truth.space.archs().astype(float)).sum(1), truth.accuracies())
    pearson, spearman, tau = SUMMED_LOGS[truth.space.name]
    # Which ties a sum breaks depends on the last bit of the logarithm, and so on the version of NumPy.
    assert (found.pearson, found.spearman) == pytest.approx((pearson, spearman), abs=5e-4)
    assert found.kendall == pytest.approx(tau, abs=0.008)
    exact = kendall(truth.space.archs().astype(float).prod(1), truth.accuracies())
    assert found.kendall <= exact < tau + 3e-4


def test_rank_metrics_of_released_scores_do_not_depend_on_the_order_of_the_file(truth, scores_dir):
    from harness.scores import read_scores

    name = {"mobilenet": "bin20_min1_bcnet_2.json", "resnet": "bin20_min1_bcnet_2_resnet.json"}[truth.space.name]
    scores = read_scores(scores_dir / name, truth.space)
    accuracies, flops = truth.accuracies()[scores.indices], truth.space.flops()[scores.indices]
    found = summarised(scores.values, accuracies, flops)
    order = np.random.default_rng(0).permutation(len(flops))
    assert list(summarised(scores.values[order], accuracies[order], flops[order]).values()) == pytest.approx(
        list(found.values()), abs=1e-9
    )
    assert found["n"] == 16383 and found["kt_1dec"] > found["kendall"]  # without the pairs that noise decides
