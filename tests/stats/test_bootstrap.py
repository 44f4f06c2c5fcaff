"""Resampling against closed forms and against fresh data: standard errors, coverage, and the paired test."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from channel_bench.errors import ArgumentError, UnknownNameError
from harness.stats.bootstrap import Labels, bootstrap, over_seeds
from harness.stats.metrics import correlations, kendall, precision_at
from harness.stats.top import bootstrap_top

PERF = Path(__file__).parents[1] / "perf"


def noisy_table(rng, num_archs, num_runs=3, run_std=0.6):
    """True accuracies, and runs around them."""
    truth = rng.normal(size=num_archs)
    return truth, truth[:, None] + run_std * rng.normal(size=(num_archs, num_runs))


def test_estimates_are_the_metrics_of_the_data():
    rng = np.random.default_rng(0)
    truth, cells = noisy_table(rng, 60)
    cells[3, 1] = np.nan
    methods = {"good": truth, "backwards": -truth, "coarse": truth.round()}
    found = bootstrap(methods, cells, num_replicates=5)
    for name, scores in methods.items():
        expected = correlations(scores, np.nanmean(cells, 1))
        for metric in found.metrics:
            assert found.interval(name, metric).estimate == pytest.approx(getattr(expected, metric))
    assert found.replicates.shape == (5, 3, 3) and found.over == ("archs", "runs")
    assert found.replicates[:, 0, 0] == pytest.approx(-found.replicates[:, 1, 0])


def test_replicates_are_the_metrics_of_what_was_drawn():
    rng = np.random.default_rng(1)
    truth, cells = noisy_table(rng, 200)
    scores = (truth + rng.normal(size=200)).round(1)
    found = bootstrap({"m": scores}, cells, num_replicates=20, seed=3)
    num_distinct = []
    for number, replicate in enumerate(found.replicates[:, 0]):
        rng = np.random.default_rng([3, number])
        rows = rng.integers(0, 200, 200)
        expected = correlations(scores[rows], Labels(cells).resampled(rng)[rows])
        assert replicate == pytest.approx([expected.kendall, expected.spearman, expected.pearson], abs=1e-12)
        num_distinct.append(len(set(rows)))
    # An architecture is left out with probability (1 - 1/n)^n.
    assert np.mean(num_distinct) / 200 == pytest.approx(1 - 1 / math.e, abs=0.02)


def test_the_standard_error_over_architectures_is_that_of_the_closed_forms():
    rng = np.random.default_rng(2)
    n = 500
    truth = rng.normal(size=n)
    related = 0.8 * truth + 0.6 * rng.normal(size=n)
    found = bootstrap({"none": rng.normal(size=n), "some": related}, truth, over=("archs",), num_replicates=600)
    independent = math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))
    assert found.interval("none").standard_error == pytest.approx(independent, rel=0.12)
    pearson = found.interval("some", "pearson")
    assert pearson.standard_error == pytest.approx((1 - pearson.estimate**2) / math.sqrt(n), rel=0.15)
    low, high = (pearson.estimate + side * 1.96 * pearson.standard_error for side in (-1, 1))
    assert (pearson.low, pearson.high) == pytest.approx((low, high), abs=0.4 * pearson.standard_error)


def test_the_standard_error_over_runs_is_that_of_training_again():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=300)
    scores = truth + rng.normal(size=300)
    again = [kendall(scores, truth + 0.8 * rng.normal(size=(3, 300)).mean(0)) for _ in range(400)]
    errors = []
    for _ in range(4):
        cells = truth[:, None] + 0.8 * rng.normal(size=(300, 3))
        found = bootstrap({"m": scores}, cells, over=("runs",), num_replicates=150).interval("m")
        errors.append(found.standard_error)
        assert found.low < found.estimate < found.high
    assert np.mean(errors) == pytest.approx(np.std(again), rel=0.2)


def test_resampled_runs_scatter_as_new_ones_would_and_single_runs_do_not():
    cells = np.array([[1.0, 2, 6], [5, np.nan, 9], [4, np.nan, np.nan], [3, 3, 3]])
    labels = Labels(cells)
    drawn = np.array([labels.resampled(np.random.default_rng(number)) for number in range(2500)])
    assert drawn.var(0)[:2] == pytest.approx([7 / 3, 8 / 2], rel=0.1)  # sample variance (ddof=1) / number of runs
    assert (drawn.var(0)[2:] == 0).all()
    assert drawn.mean(0) == pytest.approx([3, 7, 4, 3], abs=0.1)


def test_a_shuffled_scorer_reaches_zero_within_its_interval():
    rng = np.random.default_rng(4)
    truth, cells = noisy_table(rng, 150)
    shuffled = {str(number): rng.permutation(truth) for number in range(30)}
    found = bootstrap(shuffled, cells, num_replicates=150)
    intervals = [found.interval(name) for name in shuffled]
    covered = sum(interval.low <= 0 <= interval.high for interval in intervals)
    assert 26 <= covered <= 30  # of 95% intervals
    assert all(interval.high < 0.4 for interval in intervals)


def test_replicates_are_the_same_for_any_threads_methods_and_sittings():
    rng = np.random.default_rng(5)
    truth, cells = noisy_table(rng, 100)
    alone = bootstrap({"a": truth}, cells, num_replicates=12, seed=3, num_threads=1)
    beside = bootstrap({"b": -cells[:, 0], "a": truth}, cells, num_replicates=12, seed=3, num_threads=3)
    assert (alone.replicates[:, 0] == beside.replicates[:, 1]).all()
    more = bootstrap({"a": truth}, cells, num_replicates=20, seed=3)
    assert (more.replicates[:12] == alone.replicates).all()
    assert (bootstrap({"a": truth}, cells, num_replicates=12, seed=4).replicates != alone.replicates).any()


def test_the_order_of_architectures_changes_no_estimate_and_hardly_an_interval():
    rng = np.random.default_rng(6)
    truth, cells = noisy_table(rng, 300)
    scores, order = truth + rng.normal(size=300), rng.permutation(300)
    first = bootstrap({"m": scores}, cells, num_replicates=300).interval("m")
    second = bootstrap({"m": scores[order]}, cells[order], num_replicates=300).interval("m")
    assert first.estimate == second.estimate
    assert (first.low, first.high) == pytest.approx((second.low, second.high), abs=0.02)


# -- two methods -----------------------------------------------------------------------------------------------------


def test_the_same_replicates_make_a_difference_sharp():
    rng = np.random.default_rng(7)
    truth, cells = noisy_table(rng, 600)
    common = truth + rng.normal(size=600)
    methods = {"first": common, "second": common + 0.8 * rng.normal(size=600), "first again": common * 2}
    found = bootstrap(methods, cells, num_replicates=300)
    difference = found.difference("first", "second")
    errors = [found.interval(name).standard_error for name in ("first", "second")]
    assert difference.interval.standard_error < 0.75 * math.hypot(*errors)
    assert difference.interval.low > 0 and difference.p_value < 0.02
    backwards = found.difference("second", "first")
    assert backwards.interval.estimate == -difference.interval.estimate and backwards.p_value == difference.p_value
    itself = found.difference("first", "first again")
    assert (itself.interval.low, itself.interval.high, itself.p_value) == (0, 0, 1)
    for metric in ("spearman", "pearson"):
        assert found.difference("first", "second", metric).p_value < 0.05


def test_equally_good_methods_are_seldom_told_apart():
    rng = np.random.default_rng(8)
    p_values = []
    for _ in range(60):
        truth, cells = noisy_table(rng, 80)
        methods = {name: truth + rng.normal(size=80) for name in "ab"}
        found = bootstrap(methods, cells, over=("archs",), num_replicates=60, num_threads=1)
        p_values.append(found.difference("a", "b").p_value)
    assert 0.3 < np.mean(p_values) < 0.7
    assert np.mean(np.array(p_values) < 0.05) < 0.13


# -- other metrics, what is undefined, what is refused ---------------------------------------------------------------


def test_metrics_of_the_top_keep_within_their_bounds():
    rng = np.random.default_rng(9)
    truth, cells = noisy_table(rng, 100)
    found = bootstrap_top({"m": truth, "other": -truth}, cells, np.ones(100), num_replicates=40)
    interval = found.interval("m", "p_at_top10")
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.estimate == precision_at(10, truth, cells.mean(1).round(4))
    assert found.difference("m", "other", "p_at_top10").interval.high <= 1


def test_what_is_not_defined_is_said():
    _, cells = noisy_table(np.random.default_rng(10), 40)
    found = bootstrap({"constant": np.ones(40), "m": cells[:, 0]}, cells, num_replicates=10)
    interval = found.interval("constant")
    assert math.isnan(interval.estimate) and math.isnan(interval.low) and interval.num_undefined == 10
    assert math.isnan(found.difference("constant", "m").p_value)
    # Of three architectures one in nine samples is constant; those take no part, and are counted.
    small = bootstrap({"m": [1, 2, 3]}, [1.0, 3, 2], over=("archs",), num_replicates=200).interval("m")
    assert 5 < small.num_undefined < 60 and small.low <= small.estimate <= small.high


@pytest.mark.parametrize(
    ("methods", "accuracies", "options", "message"),
    [
        ({}, [1.0, 2], {}, "no scores to resample"),
        ({"m": [1]}, [1.0, 2], {}, "1 scores of 'm' for 2 architectures"),
        ({"m": [1]}, [1.0], {"over": ("archs",)}, "at least 2 architectures, got 1"),
        ({"m": [1, np.nan]}, [1.0, 2], {}, "1 of 2 scores of 'm' are NaN or infinite"),
        ({"m": [1, 2]}, [1.0, np.nan], {}, "architecture at position 1 has no run"),
        ({"m": [1, 2]}, [1.0, np.inf], {}, "infinite"),
        ({"m": [1, 2]}, [[[1.0]]], {}, "shape"),
        ({"m": [1, 2]}, [1.0, 2], {}, "no architecture has two; take over"),
        ({"m": [1, 2]}, [1.0, 2], {"over": ("seeds",)}, "cannot resample over .'seeds'.: allowed are archs and runs"),
        ({"m": [1, 2]}, [1.0, 2], {"over": ()}, "cannot resample over nothing"),
        ({"m": [1, 2]}, [1.0, 2], {"over": ("archs",), "num_replicates": 0}, "replicates of a bootstrap: got 0"),
        ({"m": [1, 2]}, [1.0, 2], {"over": ("archs",), "seed": -1}, "seed of a bootstrap: got -1"),
        ({"m": [1, 2]}, [1.0, 2], {"over": ("archs",), "num_threads": 1.5}, "threads of a bootstrap: got 1.5"),
    ],
)
def test_what_cannot_be_resampled_is_refused(methods, accuracies, options, message):
    with pytest.raises(ArgumentError, match=message):
        bootstrap(methods, accuracies, **options)


def test_unknown_names_and_levels_are_refused():
    found = bootstrap({"mine": [1, 2, 3]}, [1.0, 3, 2], over=("archs",), num_replicates=3)
    with pytest.raises(UnknownNameError, match="unknown method 'mina'.*did you mean 'mine'"):
        found.interval("mina")
    with pytest.raises(UnknownNameError, match="unknown metric 'tau'"):
        found.difference("mine", "mine", "tau")
    for level in (0, 1, 95):
        with pytest.raises(ArgumentError, match="level of an interval"):
            found.interval("mine", level=level)


def test_the_benchmark_runs():
    command = [sys.executable, PERF / "bench_metrics.py", "--archs", "300", "--replicates", "4", "--methods", "2"]
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert found["bootstrap_s"] > 0 and found["kendall_times_scipy"] > 0 and found["methods"] == 2


def test_several_supernets_scatter_as_their_seeds_do():
    rng = np.random.default_rng(8)
    truth, cells = noisy_table(rng, 400, run_std=0.1)
    supernets = {f"s{i}": truth + noise * rng.normal(size=400) for i, noise in enumerate((0.2, 0.6, 1.2))}
    single = bootstrap(supernets | {"alone": truth}, cells, num_replicates=100)
    found = over_seeds(single, {"method": list(supernets), "alone": ["alone"]})
    taus = [single.interval(name).estimate for name in supernets]
    together = found.interval("method")
    assert together.estimate == pytest.approx(np.mean(taus)) and found.over == ("archs", "runs", "seeds")
    # Labels scatter little here, so this is Student's interval of three numbers.
    inner = single.replicates[:, :3, 0].mean(1).var(ddof=1)
    error = stats.sem(taus)
    assert inner < error**2 / 50
    assert together.standard_error == pytest.approx(math.hypot(error, math.sqrt(inner)))
    expected = stats.t.interval(0.95, 2, np.mean(taus), error)
    assert (together.low, together.high) == pytest.approx((expected[0], min(1, expected[1])), abs=0.02)
    assert found.interval("alone") == single.interval("alone")
    with pytest.raises(UnknownNameError, match="unknown method 's9'"):
        over_seeds(single, {"method": ["s9"]})


def test_two_methods_with_several_supernets_are_compared_as_welch_does():
    rng = np.random.default_rng(12)
    truth, cells = noisy_table(rng, 4000, run_std=0.01)
    noises = {"a": (0.3, 0.5, 0.9), "b": (0.9, 1.2, 1.0, 1.1)}
    supernets = {f"{m}{i}": truth + s * rng.normal(size=4000) for m, each in noises.items() for i, s in enumerate(each)}
    single = bootstrap(supernets, cells, over=("runs",), num_replicates=40)
    found = over_seeds(single, {m: [name for name in supernets if name[0] == m] for m in noises}).difference("a", "b")
    taus = {m: [single.interval(name).estimate for name in supernets if name[0] == m] for m in noises}
    expected = stats.ttest_ind(taus["a"], taus["b"], equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.02)
    interval = expected.confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high), abs=0.005)


def test_intervals_of_three_supernets_cover_as_often_as_they_say():
    rng = np.random.default_rng(13)
    truth, cells = noisy_table(rng, 100, run_std=0.3)
    covered, expected = 0, np.mean([kendall(truth + 0.6 * rng.normal(size=100), cells.mean(1)) for _ in range(800)])
    for _ in range(200):
        supernets = {str(i): truth + 0.6 * rng.normal(size=100) for i in range(3)}
        single = bootstrap(supernets, cells, over=("runs",), num_replicates=2, num_threads=1)
        single = dataclasses.replace(single, replicates=np.repeat(single.estimates[None], 2, 0))  # labels fixed
        interval = over_seeds(single, {"m": list(supernets)}).interval("m")
        covered += interval.low <= expected <= interval.high
    assert 181 <= covered <= 199  # 95% of 200, within three standard deviations


def test_a_difference_turned_round_is_the_negative():
    rng = np.random.default_rng(9)
    truth, cells = noisy_table(rng, 100)
    found = bootstrap({"a": truth, "b": -truth}, cells, num_replicates=50)
    there, back = found.difference("a", "b"), found.difference("b", "a").reversed()
    assert (back.interval.low, back.interval.high) == pytest.approx((there.interval.low, there.interval.high))
    assert back.p_value == there.p_value and back.interval.estimate == there.interval.estimate


def test_an_interrupted_bootstrap_ends_at_once():
    rng = np.random.default_rng(10)
    truth, cells = noisy_table(rng, 50)
    calls = []

    def interrupt():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bootstrap({"a": truth}, cells, num_replicates=100_000, on_replicate=interrupt)
    assert len(calls) == 3
