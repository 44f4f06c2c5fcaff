"""Two tables: what was found between them, and what seeds alone would leave, on tables made with known noise."""

import json
import math

import numpy as np
import pytest
from conftest import make_info, make_rows, write_table
from scipy import stats

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.table import Table
from channel_bench.table.compare import compare_tables

SPACE = cb.get_space("resnet-mini")


def noisy_table(path, num_archs, num_runs, run_std, seed, shift=0.0):
    """Means that are the same for every seed (standard deviation 1 around 80), and runs with known noise."""
    truth = 80 + np.random.default_rng(0).normal(size=num_archs)
    noise = run_std * np.random.default_rng(seed).normal(size=(num_archs, num_runs))
    rows = make_rows(SPACE, num_archs, num_runs)
    for number, row in enumerate(rows):
        row["best_test_acc"] = truth[number // num_runs] + shift + noise[number // num_runs, row["run"]]
    return Table.read(write_table(path, rows, make_info(SPACE)))


@pytest.mark.parametrize(("runs", "run_std"), [((3, 3), 0.5), ((3, 2), 1.0), ((3, 1), 0.5), ((1, 4), 2.0)])
def test_tables_that_differ_by_seeds_only_agree_as_expected(tmp_path, runs, run_std):
    first = noisy_table(tmp_path / "a.parquet", 4096, runs[0], run_std, 1)
    second = noisy_table(tmp_path / "b.parquet", 4096, runs[1], run_std, 2)
    found = compare_tables(first, second)
    assert found.num_archs == 4096 and found.num_runs == runs
    assert found.expected_pearson == pytest.approx(
        math.sqrt(1 / (1 + run_std**2 / runs[0]) / (1 + run_std**2 / runs[1])), abs=0.02
    )
    assert found.pearson == pytest.approx(found.expected_pearson, abs=0.03)
    assert found.kendall == pytest.approx(found.expected_kendall, abs=0.03)
    assert found.mean_difference_se == pytest.approx(run_std * math.sqrt((1 / runs[0] + 1 / runs[1]) / 4096), rel=0.1)
    assert abs(found.mean_difference) < 4 * found.mean_difference_se
    for std, count in zip(found.run_std, runs, strict=True):
        assert std is None if count == 1 else std == pytest.approx(run_std, rel=0.1)


def test_the_expectation_holds_for_accuracies_far_from_normal(tmp_path):
    truth = 95 - np.clip(np.random.default_rng(0).exponential(1, 2000) ** 2, 0, 30)
    tables = []
    for seed in (1, 2):
        rows = make_rows(SPACE, 2000, 2)
        noise = 0.7 * np.random.default_rng(seed).normal(size=(2000, 2))
        for number, row in enumerate(rows):
            row["best_test_acc"] = truth[number // 2] + noise[number // 2, row["run"]]
        tables.append(Table.read(write_table(tmp_path / f"{seed}.parquet", rows, make_info(SPACE))))
    found = compare_tables(*tables)
    assert found.kendall == pytest.approx(found.expected_kendall, abs=0.04)
    assert found.kendall < 2 / math.pi * math.asin(found.pearson) - 0.2  # where the normal relation would mislead


def test_a_verdict_says_whether_seeds_explain_the_difference(tmp_path):
    first = noisy_table(tmp_path / "a.parquet", 512, 3, 0.3, 1)
    same = compare_tables(first, noisy_table(tmp_path / "b.parquet", 512, 3, 0.3, 2))
    assert same.agrees is True and same.verdict.startswith("the tables agree: ")
    shifted = compare_tables(first, noisy_table(tmp_path / "c.parquet", 512, 3, 0.3, 2, shift=-0.5))
    assert shifted.agrees is False
    assert shifted.verdict.startswith("the tables DO NOT AGREE: the second is 0.5") and "lower" in shifted.verdict
    rows = first.arrow.to_pylist()
    accuracies = [row["best_test_acc"] for row in rows]
    turned = [
        row | {"best_test_acc": accuracy, "seed": None} for row, accuracy in zip(rows, accuracies[::-1], strict=True)
    ]
    other = compare_tables(first, Table.read(write_table(tmp_path / "d.parquet", turned, make_info(SPACE))))
    assert other.agrees is False and "Kendall tau-b is" in other.verdict and "on average" not in other.verdict


@pytest.mark.parametrize(("runs", "why"), [(1, "both have single runs"), (2, "64 runs are in both")])
def test_where_noise_is_unknown_or_runs_are_shared_there_is_no_verdict(tmp_path, runs, why):
    first = noisy_table(tmp_path / "a.parquet", 64, runs, 0.5, 1)
    if runs == 1:
        second = noisy_table(tmp_path / "b.parquet", 64, 1, 0.5, 2)
    else:
        second = Table.read(write_table(tmp_path / "b.parquet", first.arrow.to_pylist()[:64], make_info(SPACE)))
    found = compare_tables(first, second)
    assert found.agrees is None and why in found.verdict


def test_tables_that_share_runs_are_said_to(tmp_path):
    first = noisy_table(tmp_path / "a.parquet", 64, 2, 0.5, 1)
    assert compare_tables(first, first).shared_runs == 128
    rows = first.arrow.to_pylist()
    half = Table.read(write_table(tmp_path / "half.parquet", rows[:60], make_info(SPACE)))
    assert compare_tables(first, half).shared_runs == 60
    assert compare_tables(first, noisy_table(tmp_path / "b.parquet", 64, 2, 0.5, 2)).shared_runs == 0


def test_constant_accuracies_have_no_correlation(tmp_path):
    rows = [row | {"best_test_acc": 50.0} for row in make_rows(SPACE, 8, 2)]
    constant = Table.read(write_table(tmp_path / "c.parquet", rows, make_info(SPACE)))
    found = compare_tables(constant, noisy_table(tmp_path / "a.parquet", 8, 2, 0.5, 1))
    assert math.isnan(found.kendall) and math.isnan(found.pearson) and found.expected_pearson == 0


def test_a_shift_is_seen_and_moves_no_correlation(tmp_path):
    first = noisy_table(tmp_path / "a.parquet", 256, 3, 0.3, 1)
    shifted = noisy_table(tmp_path / "b.parquet", 256, 3, 0.3, 2, shift=0.5)
    plain = noisy_table(tmp_path / "c.parquet", 256, 3, 0.3, 2)
    found, without = compare_tables(first, shifted), compare_tables(first, plain)
    assert found.mean_difference == pytest.approx(without.mean_difference + 0.5)
    assert found.mean_difference > 5 * found.mean_difference_se
    assert found.kendall == pytest.approx(without.kendall)


def test_correlations_are_those_of_scipy_on_the_architectures_in_both(tmp_path):
    first = noisy_table(tmp_path / "a.parquet", 64, 2, 0.5, 1)
    second = noisy_table(tmp_path / "b.parquet", 128, 1, 0.5, 2)
    found = compare_tables(first, second)
    both = np.isfinite(first.accuracies()) & np.isfinite(second.accuracies())
    a, b = first.accuracies()[both], second.accuracies()[both]
    assert found.num_archs == both.sum() == 64
    assert found.kendall == pytest.approx(stats.kendalltau(a, b).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(a, b).statistic)
    assert found.pearson == pytest.approx(stats.pearsonr(a, b).statistic)


def test_without_repeated_runs_nothing_is_expected(tmp_path):
    tables = [noisy_table(tmp_path / f"{seed}.parquet", 64, 1, 0.5, seed) for seed in (1, 2)]
    found = compare_tables(*tables)
    assert found.expected_kendall is found.expected_pearson is found.mean_difference_se is None
    assert found.run_std == (None, None)


def test_tables_that_cannot_be_compared_are_refused(tmp_path):
    other = cb.get_space("mobilenet-mini")
    elsewhere = Table.read(write_table(tmp_path / "o.parquet", make_rows(other, 8, 1), make_info(other)))
    first = noisy_table(tmp_path / "a.parquet", 64, 2, 0.5, 1)
    with pytest.raises(ArgumentError, match="different spaces: 'resnet-mini' and 'mobilenet-mini'"):
        compare_tables(first, elsewhere)
    with pytest.raises(ArgumentError, match="2 architectures are in both"):
        compare_tables(first, noisy_table(tmp_path / "b.parquet", 2, 2, 0.5, 1))


@pytest.mark.parametrize(
    ("space", "taus"), [("mobilenet", (0.6197, 0.6121, 0.6118)), ("resnet", (0.5636, 0.5679, 0.5612))]
)
def test_runs_of_the_published_tables_agree_as_their_noise_says(published, tmp_path, space, taus):
    table = cb.load(space, data_dir=published)
    singles = []
    for run in range(3):
        rows = [row | {"run": 0} for row in table.arrow.to_pylist() if row["run"] == run]
        singles.append(Table.read(write_table(tmp_path / f"{run}.parquet", rows, make_info(table.space))))
    for (i, j), tau in zip([(0, 1), (0, 2), (1, 2)], taus, strict=True):
        assert round(compare_tables(singles[i], singles[j]).kendall, 4) == tau
    # Against itself the published table looks perfect; an independent one is expected to reach its reliability.
    same = compare_tables(table, table)
    assert same.kendall == 1 and same.mean_difference == 0
    assert round(same.expected_pearson, 4) == {"mobilenet": 0.9317, "resnet": 0.9125}[space]
    assert same.run_std[0] ** 2 == pytest.approx({"mobilenet": 0.03343, "resnet": 0.02648}[space], abs=5e-6)


def test_compare_from_the_command_line(published, tmp_path, run_cli):
    code, output, _ = run_cli("channel-bench", "compare", "resnet", "resnet")
    assert code == 0 and "16,384 architectures of resnet in both" in output
    assert "NOT independent: 49,152 runs are in both" in output
    assert ["Kendall", "tau-b", "1.0000"] in [line.split()[:3] for line in output.splitlines()]
    assert output.splitlines()[-1].startswith("whether the tables agree cannot be told: 49,152 runs are in both")
    parsed = json.loads(run_cli("channel-bench", "compare", "resnet", "resnet", "--json")[1])
    assert parsed["num_runs"] == [3, 3] and parsed["agrees"] is None and "cannot be told" in parsed["verdict"]
    code, _, errors = run_cli("channel-bench", "compare", "resnet", "mobilenet")
    assert code == 2 and "different spaces" in errors
