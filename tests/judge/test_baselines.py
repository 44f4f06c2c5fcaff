"""Additive fits to a few trained architectures against a slow reference, and the exchange rate that follows."""

import json
import math

import numpy as np
import pytest
from conftest import make_info, make_rows, write_table
from scipy import stats

import channel_bench as cb
from channel_bench.errors import ArgumentError, UnknownNameError
from harness.judge.baselines import SIZES, AdditiveCurve, AdditivePoint, additive_curve, exchange_rate
from harness.stats.metrics import kendall

SPACE = cb.get_space("resnet-mini")
ARCHS = SPACE.archs()


def additive_truth(rng, noise=0.3):
    effects = np.log(np.arange(1, 5)) * rng.uniform(0.2, 1, size=(7, 1))
    return 80 + effects[np.arange(7), ARCHS - 1].sum(1) + noise * rng.normal(size=16384)


def test_a_point_is_what_a_slow_reference_gives():
    truth = additive_truth(np.random.default_rng(0))
    found = additive_curve(SPACE, truth, sizes=(12, 40), num_draws=4, seed=5)
    design = np.c_[np.ones(16384), np.log(ARCHS.astype(float))]
    for point in found.points:
        rng = np.random.default_rng([5, point.n])
        taus = []
        for _ in range(4):
            chosen = rng.choice(16384, point.n, replace=False)
            fit = design @ np.linalg.lstsq(design[chosen], truth[chosen], rcond=None)[0]
            rest = np.delete(np.arange(16384), chosen)
            taus.append(stats.kendalltau(fit[rest].round(9), truth[rest]).statistic)
        assert point.mean == pytest.approx(np.mean(taus), abs=1e-6)
        assert point.std == pytest.approx(np.std(taus, ddof=1), abs=1e-6)
        assert (point.low, point.high) == pytest.approx(tuple(np.quantile(taus, [0.025, 0.975])), abs=1e-6)
    everything = design @ np.linalg.lstsq(design, truth, rcond=None)[0]
    assert found.fitted_on_all == pytest.approx(kendall(everything.round(9), truth), abs=1e-6)


def test_more_trained_architectures_are_worth_more_and_noise_limits_all_of_them():
    rng = np.random.default_rng(1)
    curve = additive_curve(SPACE, additive_truth(rng), num_draws=6)
    means = [point.mean for point in curve.points]
    assert [point.n for point in curve.points] == list(SIZES)
    assert means[0] < means[5] < means[-1] < curve.fitted_on_all + 1e-3
    exact = additive_curve(SPACE, additive_truth(rng, noise=0), num_draws=3, sizes=(8, 16))
    assert [point.mean for point in exact.points] == pytest.approx([1, 1], abs=1e-3)


def test_what_a_method_did_not_score_is_not_scored_on():
    truth = additive_truth(np.random.default_rng(2))
    # Noise alone where the method has scores; the fits may train anywhere.
    among = ARCHS[:, 0] == 4
    shuffled = np.where(among, np.random.default_rng(0).permutation(truth), truth)
    everywhere = additive_curve(SPACE, shuffled, sizes=(64,), num_draws=4)
    there = additive_curve(SPACE, shuffled, sizes=(64,), num_draws=4, among=among)
    assert everywhere.points[0].mean > 0.4 and abs(there.points[0].mean) < 0.1
    assert there.num_scored == 4096 and everywhere.num_scored == 16384
    shuffled[:8000] = np.nan
    assert additive_curve(SPACE, shuffled, sizes=(64,), num_draws=2).num_scored == 8384


def test_sizes_that_cannot_be_fitted_or_scored_are_left_out():
    truth = np.full(16384, np.nan)
    chosen = np.random.default_rng(0).choice(16384, 100, replace=False)
    truth[chosen] = additive_truth(np.random.default_rng(3))[chosen]
    assert [p.n for p in additive_curve(SPACE, truth, num_draws=2).points] == [8, 10, 12, 14, 16, 20, 24, 32, 48]
    assert [p.n for p in additive_curve(SPACE, truth, num_draws=2, form="onehot").points] == [24, 32, 48]
    few = np.where(np.isin(np.arange(16384), chosen[:15]), truth, np.nan)
    with pytest.raises(ArgumentError, match="15 architectures have a score and an accuracy: form 'log' is fitted to 8"):
        additive_curve(SPACE, few)
    narrow = np.where(ARCHS[:, 3] == 1, additive_truth(np.random.default_rng(4)), np.nan)
    with pytest.raises(ArgumentError, match="slot 3 of the 4096 scored architectures has 1 of 4 widths"):
        additive_curve(SPACE, narrow)
    with pytest.raises(UnknownNameError, match="unknown additive form 'cubic'"):
        additive_curve(SPACE, truth, form="cubic")
    for options, message in (
        ({"num_draws": 1}, "1 draws"),
        ({"level": 1}, "level 1"),
        ({"among": [True]}, "choice of what to score on has shape"),
    ):
        with pytest.raises(ArgumentError, match=message):
            additive_curve(SPACE, truth, **options)
    with pytest.raises(ArgumentError, match="accuracies has shape"):
        additive_curve(SPACE, truth[1:])


def test_the_exchange_rate_by_hand():
    heights = [(8, 0.2, 0.0, 0.4), (16, 0.4, 0.3, 0.5), (32, 0.6, 0.5, 0.7), (64, 0.599, 0.55, 0.65)]
    points = [AdditivePoint(n, mean, low, high, 0.1) for n, mean, low, high in heights]
    curve = AdditiveCurve("log", points, 0.61, 100, 10, 0.95)
    at_a_point = exchange_rate(0.4, curve)
    assert at_a_point.n == pytest.approx(16) and at_a_point.low == pytest.approx(8)
    assert at_a_point.high == pytest.approx(16 * math.sqrt(2)) and at_a_point.text == "16 (8 to 23)"
    between = exchange_rate(0.5, curve)
    assert between.n == pytest.approx(16 * math.sqrt(2))  # half way in tau is half way in log n
    assert exchange_rate(0.3, curve).text == "11 (8 or fewer to 16)"
    assert exchange_rate(0.58, curve).text == "30 (21 to more than 64)"
    assert exchange_rate(0.1, curve).text == "fewer than 8" and exchange_rate(0.1, curve).n is None
    assert exchange_rate(-0.7, curve).text == "fewer than 8"
    assert exchange_rate(0.7, curve).text == "more than 64"
    assert exchange_rate(math.nan, curve).text == "undefined"


def test_a_fit_is_worth_the_architectures_that_it_was_fitted_to():
    from harness.stats.additive import fit_effects

    rng = np.random.default_rng(5)
    truth = additive_truth(rng, noise=0.8)
    curve = additive_curve(SPACE, truth, num_draws=20)
    worth = []
    for _ in range(12):
        chosen = rng.choice(16384, 32, replace=False)
        scores = fit_effects(ARCHS[chosen], truth[chosen], "log", SPACE).predict(ARCHS)
        worth.append(exchange_rate(kendall(scores, truth), curve).n or SIZES[0])
    assert 20 < np.exp(np.mean(np.log(worth))) < 50


# -- from the command line -------------------------------------------------------------------------------------------


def test_worth_stands_beside_a_method(tmp_path, run_cli):
    rng = np.random.default_rng(6)
    truth = additive_truth(rng)
    rows = make_rows(SPACE, 1, 2)
    chosen = np.sort(rng.choice(16384, 200, replace=False))
    rows = [
        rows[run] | {"arch": SPACE.text(int(i)), "flops": SPACE.flops(int(i)), "params": SPACE.params(int(i))}
        | {"best_test_acc": truth[i] + 0.01 * run}
        for i in chosen
        for run in (0, 1)
    ]  # fmt: skip
    table = write_table(tmp_path / "t.parquet", rows, make_info(SPACE))
    csv = tmp_path / "mine.csv"
    csv.write_text("arch,score\n" + "".join(f"{SPACE.text(int(i))},{truth[i]}\n" for i in chosen))
    common = ("--space", "resnet-mini", "--table", table)
    code, output, _ = run_cli("channel-harness", "score", csv, *common, "--draws", "4", "--json")
    found = json.loads(output)
    row = found["rows"][0]
    assert code == 0 and row["worth"]["text"].startswith("more than") and row["of_ceiling"]["kendall"] > 0.9
    assert found["curve"]["num_draws"] == 4 and not any(row["worth"] is None for row in found["rows"])
    output = run_cli("channel-harness", "score", csv, *common, "--draws", "4")[1]
    assert (
        "with this many trained architectures an additive fit (log) ranks the rest as well; interval over 4 draws"
        in output
    )
    lines = [line.split() for line in output.splitlines()]
    assert ["noise", "ceiling", "ceiling"] in [line[:3] for line in lines]
    assert ["mine", "of", "ceiling"] in [line[:3] for line in lines]
    assert "worth" not in run_cli("channel-harness", "score", csv, *common, "--draws", "0")[1]
    code, output, _ = run_cli("channel-harness", "baselines", *common, "--additive", "--draws", "3", "--form", "linear")
    assert code == 0 and "additive least-squares fits, form 'linear', to n trained architectures" in output
    assert "fitted to all accuracies, and scored on them: " in output
    code, _, errors = run_cli("channel-harness", "baselines", *common, "--additive", "--form", "cubic")
    assert code == 2 and "unknown additive form 'cubic'" in errors
    code, _, errors = run_cli("channel-harness", "score", csv, *common, "--draws", "1")
    assert code == 2 and "number of draws is 1: allowed are 2 and more, or 0 to leave them out" in errors


def test_a_table_that_cannot_tell_the_worth_still_scores(small_table_path, tmp_path, run_cli):
    (tmp_path / "s.csv").write_text("arch,score\n1111111,1\n1121111,2\n2111111,5\n")
    common = ("--space", "resnet-mini", "--table", small_table_path)
    code, output, _ = run_cli("channel-harness", "score", tmp_path / "s.csv", *common)
    assert code == 0 and "worth in trained architectures unknown: 3 architectures have a score" in output
    code, _, errors = run_cli("channel-harness", "baselines", *common, "--additive")
    assert code == 2 and "slot 3 of the 64 scored architectures" in errors
