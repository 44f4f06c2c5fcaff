"""Reliability, ceilings and leaked runs, on tables made with known noise and on the published ones."""

import json
import math

import numpy as np
import pytest
from conftest import make_info, make_rows, write_table
from scipy import stats

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.table import Table
from harness.judge.noise import report_noise
from harness.stats.metrics import correlations, kendall
from harness.stats.noise import (
    Ceilings,
    ceilings,
    fraction_of_ceiling,
    leave_one_run_out,
    reliability,
    simulated_ceilings,
)

SPACE = cb.get_space("resnet-mini")


def noisy_cells(rng, num_archs=4000, num_runs=3, run_std=0.5):
    """True accuracies with standard deviation 1, and runs around them."""
    truth = 90 + rng.normal(size=num_archs)
    return truth, truth[:, None] + run_std * rng.normal(size=(num_archs, num_runs))


# -- reliability -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_runs", "run_std"), [(2, 0.3), (3, 0.5), (5, 2.0)])
def test_the_variance_components_are_those_that_were_put_in(num_runs, run_std):
    _, cells = noisy_cells(np.random.default_rng(0), 6000, num_runs, run_std)
    found = reliability(cells)
    assert found.run_std == pytest.approx(run_std, rel=0.03)
    assert found.of_mean == pytest.approx(1 / (1 + run_std**2 / num_runs), abs=0.02)
    assert found.of_run == pytest.approx(1 / (1 + run_std**2), abs=0.02)
    assert found.low < found.of_mean < found.high and (found.num_archs, found.num_runs) == (6000, num_runs)


def test_the_estimates_are_those_of_an_analysis_of_variance():
    cells = np.array([[1.0, 3], [5, 9], [2, 2]])
    found = reliability(cells)
    within = ((cells - cells.mean(1, keepdims=True)) ** 2).sum() / 3
    between = 2 * cells.mean(1).var(ddof=1)
    ratio = stats.f_oneway(*cells).statistic
    assert ratio == pytest.approx(between / within)
    assert found.of_mean == pytest.approx(1 - 1 / ratio)
    assert found.of_run == pytest.approx((ratio - 1) / (ratio + 1))  # the intraclass correlation ICC(1)
    low, high = (max(0, 1 - stats.f.ppf(q, 2, 3) / ratio) for q in (0.975, 0.025))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_missing_runs_count_for_what_they_are():
    _, cells = noisy_cells(np.random.default_rng(1))
    cells[::2, 2] = np.nan
    cells[::5, 1:] = np.nan
    found = reliability(cells)
    per_mean = 0.25 * (1 / np.isfinite(cells).sum(1)).mean()
    assert found.of_mean == pytest.approx(1 / (1 + per_mean), abs=0.02)
    assert found.run_std == pytest.approx(0.5, rel=0.05)


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        found = reliability(noisy_cells(rng, 30, 3, 1.0)[1])
        covered += found.low <= 0.75 <= found.high
    assert 272 <= covered <= 297  # 95% of 300, give or take three standard deviations


def test_extremes():
    rng = np.random.default_rng(3)
    noise_alone = reliability(90 + rng.normal(size=(3000, 3)))
    assert noise_alone.of_mean < 0.06 and noise_alone.low == 0
    assert reliability([[1, 1], [2, 2]]).of_mean == 1
    worse = reliability([[0, 9], [9, 0.5]])  # the means agree better than chance allows
    assert worse.of_mean == 0 and worse.of_run == 0 and ceilings(worse.of_mean) == Ceilings(0, 0, 0)
    equal = reliability([[0, 2], [2, 0], [1, 1]])
    assert math.isnan(equal.of_mean) and math.isnan(ceilings(equal.of_mean).kendall)
    assert math.isnan(simulated_ceilings([[0, 2], [2, 0], [1, 1]]).of_mean.kendall)
    still = simulated_ceilings(np.arange(50.0)[:, None] + np.zeros((50, 2)), num_simulations=2)  # no noise at all
    assert vars(still.of_mean) == pytest.approx({"pearson": 1, "spearman": 1, "kendall": 1}, abs=0.02)


@pytest.mark.parametrize(
    ("accuracies", "message"),
    [
        ([[1.0], [2.0]], "every architecture has one run: how noisy they are is unknown"),
        ([[1.0, np.nan], [np.nan, 2.0]], "every architecture has one run"),
        ([[1.0, 2.0]], "at least 2 architectures, got 1"),
        ([[1.0, 2.0], [np.nan, np.nan]], "position 1 has no run"),
        ([[1.0, np.inf], [1.0, 2.0]], "infinite"),
        ([1.0, 2.0], "shape"),
    ],
)
def test_what_says_nothing_of_noise_is_refused(accuracies, message):
    with pytest.raises(ArgumentError, match=message):
        reliability(accuracies)
    with pytest.raises(ArgumentError, match=message):
        simulated_ceilings(accuracies)


# -- ceilings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_std", [0.3, 0.8, 1.5])
def test_a_scorer_that_knows_the_truth_reaches_the_ceiling_and_one_with_noise_of_its_own_less(run_std):
    rng = np.random.default_rng(4)
    truth, cells = noisy_cells(rng, 8000, 3, run_std)
    share = reliability(cells).of_mean
    ceiling = ceilings(share)
    perfect = fraction_of_ceiling(correlations(truth, cells.mean(1)), ceiling)
    assert [perfect.pearson, perfect.spearman, perfect.kendall] == pytest.approx([1, 1, 1], abs=0.03)
    # Another mean over three runs is noisy twice: its Pearson is the reliability, so that it reaches its root.
    again = truth + run_std / math.sqrt(3) * rng.normal(size=8000)
    noisy = fraction_of_ceiling(correlations(again, cells.mean(1)), ceiling)
    assert noisy.pearson == pytest.approx(math.sqrt(share), abs=0.03) and noisy.kendall < 0.97
    shuffled = fraction_of_ceiling(correlations(rng.permutation(truth), cells.mean(1)), ceiling)
    assert abs(shuffled.kendall) < 0.05
    backwards = fraction_of_ceiling(correlations(-truth, cells.mean(1)), ceiling)
    assert backwards.kendall == pytest.approx(-perfect.kendall)


@pytest.mark.parametrize("run_std", [0.3, 1.0, 3.0])
def test_closed_form_and_simulation_agree_where_all_is_normal(run_std):
    _, cells = noisy_cells(np.random.default_rng(5), 4000, 3, run_std)
    found, simulation = reliability(cells), simulated_ceilings(cells)
    for share, simulated in ((found.of_mean, simulation.of_mean), (found.of_run, simulation.of_run)):
        closed = ceilings(share)
        assert vars(simulated) == pytest.approx(vars(closed), abs=0.006)
    assert simulation.kendall_error < 0.003
    assert simulation.run_to_run == pytest.approx(2 / math.pi * math.asin(found.of_run), abs=0.006)


def test_closed_forms_by_hand():
    assert ceilings(1) == Ceilings(1, pytest.approx(1), pytest.approx(1)) and ceilings(0) == Ceilings(0, 0, 0)
    quarter = ceilings(0.25)
    assert (quarter.pearson, quarter.kendall) == (0.5, pytest.approx(1 / 3))
    for wrong in (-0.1, 1.1):
        with pytest.raises(ArgumentError, match="reliability is"):
            ceilings(wrong)
    undefined = fraction_of_ceiling(correlations([1, 1], [1, 2]), quarter)
    assert math.isnan(undefined.kendall)
    assert math.isnan(fraction_of_ceiling(correlations([1, 2], [1, 2]), Ceilings(0, 0, 0)).pearson)


def test_the_simulation_holds_where_accuracies_and_noise_are_far_from_normal():
    rng = np.random.default_rng(6)
    truth = 95 - np.clip(rng.exponential(1, 8000) ** 2, 0, 30)
    spread = 0.2 + 0.1 * (95 - truth)
    cells = np.round((truth[:, None] + spread[:, None] * rng.normal(size=(8000, 3))) / 0.25) * 0.25
    simulation = simulated_ceilings(cells)
    perfect = correlations(truth, cells.mean(1))
    assert simulation.of_mean.kendall == pytest.approx(perfect.kendall, abs=0.012)
    assert simulation.of_mean.spearman == pytest.approx(perfect.spearman, abs=0.012)
    assert simulation.of_run.kendall == pytest.approx(kendall(truth, cells[:, 0]), abs=0.012)
    assert simulation.run_to_run == pytest.approx(kendall(cells[:, 0], cells[:, 1]), abs=0.012)
    closed = ceilings(reliability(cells).of_mean)
    assert abs(closed.kendall - perfect.kendall) > 0.05  # where the normal relation misleads
    # Runs that are missing make the ceiling lower, and the simulation leaves as many out.
    cells[rng.random(8000) < 0.5, 1:] = np.nan
    fewer = simulated_ceilings(cells).of_mean.kendall
    assert fewer == pytest.approx(kendall(truth, np.nanmean(cells, 1)), abs=0.012)
    assert fewer < simulation.of_mean.kendall - 0.01
    with pytest.raises(ArgumentError, match="number of simulations is 0"):
        simulated_ceilings(cells, num_simulations=0)


# -- scores that have seen a run -------------------------------------------------------------------------------------


def test_a_scorer_that_copies_one_run_is_flagged():
    rng = np.random.default_rng(7)
    truth, cells = noisy_cells(rng, 8000)
    scorers = {
        "copy of 1": (cells[:, 1], [1]),
        "copy, rescaled and rounded": (10 * cells[:, 2].round(1), [2]),
        "half a copy": (cells[:, 0] + truth + 0.5 * rng.normal(size=8000), [0]),
        "mean of two": (cells[:, :2].mean(1), [0, 1]),
        "truth": (truth, []),
        "noisy": (truth + rng.normal(size=8000), []),
        "shuffled": (rng.permutation(cells[:, 0]), []),
        "backwards": (-truth, []),
    }
    for name, (scores, flagged) in scorers.items():
        found = leave_one_run_out(scores, cells)
        assert found.flagged == flagged, name
        assert found.n == 8000
    copy = leave_one_run_out(cells[:, 1], cells).checks
    assert copy[1].share_of_copy == pytest.approx(1) and copy[1].with_run == 1 and copy[1].z > 20
    # What it is worth is what it reaches against the others, not against a mean that contains it.
    assert copy[1].with_others == kendall(cells[:, 1], cells[:, [0, 2]].mean(1))
    assert copy[1].with_others < kendall(cells[:, 1], cells.mean(1)) - 0.08
    # All runs alike give no run away; but nothing else exceeds the ceiling.
    mean = leave_one_run_out(cells.mean(1), cells)
    assert mean.flagged == []
    ceiling = ceilings(reliability(cells).of_mean)
    assert fraction_of_ceiling(correlations(cells.mean(1), cells.mean(1)), ceiling).kendall > 1.1


def test_a_fair_scorer_is_seldom_suspected_even_where_noise_is_unequal():
    rng = np.random.default_rng(8)
    scores_of_noise = []
    for _ in range(100):
        truth = rng.normal(size=200)
        cells = truth[:, None] + np.exp(-truth)[:, None] * rng.normal(size=(200, 3))
        scores_of_noise += [check.z for check in leave_one_run_out(truth, cells).checks]
    assert 0.7 < np.std(scores_of_noise) < 1.3 and max(scores_of_noise) < 4


def test_runs_that_are_missing_stay_out_and_are_counted():
    _, cells = noisy_cells(np.random.default_rng(9), 300)
    cells[:100, 2] = np.nan
    found = leave_one_run_out(cells[:, 0], cells)
    assert found.n == 200 and found.checks[0].with_run == 1
    assert math.isnan(leave_one_run_out(np.ones(300), cells).checks[0].noise_correlation)
    for scores, accuracies, message in (
        ([1, 2, 3], [[1.0], [2], [3]], "2 runs or more"),
        ([1, 2], cells, "2 scores for 300 architectures"),
        ([1, 2, np.nan], [[1.0, 2]] * 3, "1 of 3 scores are NaN"),
        ([1, 2, 3], [[1.0, 2], [1, np.nan], [1, 2]], "2 architectures have all 2 runs: at least 3"),
    ):
        with pytest.raises(ArgumentError, match=message):
            leave_one_run_out(scores, accuracies)


# -- from the command line -------------------------------------------------------------------------------------------


def test_a_table_of_known_noise_from_the_command_line(tmp_path, run_cli):
    truth, cells = noisy_cells(np.random.default_rng(10), 512, 2, 0.7)
    rows = make_rows(SPACE, 512, 2)
    for number, row in enumerate(rows):
        row["best_test_acc"] = cells[number // 2, row["run"]]
    path = write_table(tmp_path / "t.parquet", rows, make_info(SPACE))
    code, output, _ = run_cli("channel-harness", "noise", "--space", "resnet-mini", "--table", path, "--json")
    found = json.loads(output)
    assert code == 0 and found["reliability"]["of_mean"] == pytest.approx(reliability(cells).of_mean)
    assert found["run_to_run"][0][1] == pytest.approx(kendall(*cells.T))
    assert found["run_to_others"] == pytest.approx([kendall(*cells.T)] * 2)
    assert found["simulation"]["of_mean"]["kendall"] == pytest.approx(kendall(truth, cells.mean(1)), abs=0.03)
    code, output, _ = run_cli("channel-harness", "noise", "--space", "resnet-mini", "--table", path)
    lines = [line.split() for line in output.splitlines()]
    closed = found["ceiling_of_run"]
    numbers = [found["reliability"]["of_run"], closed["kendall"], closed["spearman"], closed["pearson"]]
    assert code == 0 and ["single", "run", "closed", "form", *(f"{number:.4f}" for number in numbers)] in lines
    assert f"of a run around its architecture {found['reliability']['run_std']:.4f}" in output
    # Scores that copy a run are told so, beside what they are worth.
    texts = [SPACE.text(index) for index in range(0, 16384, 32)]
    csv = tmp_path / "copy.csv"
    csv.write_text("arch,score\n" + "".join(f"{a},{s}\n" for a, s in zip(texts, cells[:, 0], strict=True)))
    _, output, _ = run_cli("channel-harness", "score", csv, "--space", "resnet-mini", "--table", path)
    assert "copy follows the noise of run 0, which it must have seen: Kendall with the other runs' mean is" in output
    assert "copy is above the ceiling" in output


def test_single_runs_leave_the_noise_unknown(tmp_path, run_cli):
    path = write_table(tmp_path / "t.parquet", make_rows(SPACE, 64, 1), make_info(SPACE))
    common = ("--space", "resnet-mini", "--table", path)
    code, _, errors = run_cli("channel-harness", "noise", *common)
    assert code == 2 and "every architecture has one run: how noisy they are is unknown" in errors
    code, output, _ = run_cli("channel-harness", "baselines", *common)
    assert code == 0 and "noise ceiling unknown: no architecture has two runs" in output
    with pytest.raises(ArgumentError, match="metric 'x'"):
        report_noise(Table.read(path), "x")


# -- what is known about the published table -------------------------------------------------------------------------


@pytest.mark.parametrize(("space", "honest", "leaked"), [("mobilenet", 0.662, 0.78), ("resnet", 0.616, 0.75)])
def test_a_run_of_the_published_table_as_a_score_is_worth_less_than_it_seems(published, space, honest, leaked):
    table = cb.load(space, data_dir=published)
    cells = table.cells()
    found = leave_one_run_out(cells[:, 0], cells)
    assert found.flagged == [0]
    assert round(found.checks[0].with_others, 3) == honest
    assert round(kendall(cells[:, 0], table.accuracies()), 2) == leaked
    assert leave_one_run_out(table.space.flops(), cells).flagged == []
    tops = [set(np.argsort(-values, kind="stable")[:10]) for values in (cells[:, 0].round(4), cells[:, 1:].mean(1))]
    assert len(tops[0] & tops[1]) <= 1  # of ten: what label noise makes of a top-10


def test_the_simulation_comes_close_to_the_runs_of_the_mini_tables():
    for space in ("resnet-mini", "mobilenet-mini"):
        cells = cb.load(space).cells()
        simulation = simulated_ceilings(cells, num_simulations=5)
        assert simulation.run_to_run == pytest.approx(kendall(cells[:, 0], cells[:, 1]), abs=0.03)
