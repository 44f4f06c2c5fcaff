"""Shared ranks: a case whose steps are known, the property that they promise, and the tests of a true report."""

import dataclasses
import json
from itertools import combinations

import numpy as np
import pytest
from conftest import make_info, make_rows, write_table
from hypothesis import given, settings
from hypothesis import strategies as st

import channel_bench as cb
from channel_bench.errors import UnknownNameError
from channel_bench.table import Table
from harness.judge.tiers import shared_ranks, tiers
from harness.judge.verdict import holm, make_report
from harness.scores import make_scores

SPACE = cb.get_space("resnet-mini")


def by_distance(values, least):
    """As if a difference were significant from `least` on."""
    return lambda a, b: abs(values[a] - values[b]) >= least


@pytest.mark.parametrize(
    ("values", "ranks"),
    [
        # .70 and .68 cannot be told apart. .62 is worse than .70. .58 cannot be told from .62, but .50 can.
        ([0.50, 0.70, 0.58, 0.68, 0.62], [5, 1, 3, 1, 3]),
        ([0.3, 0.3, 0.3], [1, 1, 1]),
        ([0.1, 0.9, 0.5], [3, 1, 2]),
        # A chain, each like its neighbours: a line is drawn from the best of each step, not from the row above.
        ([0.70, 0.66, 0.62, 0.58], [1, 1, 3, 3]),
        ([0.4], [1]),
        ([], []),
    ],
)
def test_steps_that_are_known(values, ranks):
    assert shared_ranks(values, by_distance(values, 0.05)) == ranks


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-1, 1), max_size=9).flatmap(
        lambda values: st.tuples(st.just(values), st.lists(st.booleans(), min_size=81, max_size=81))
    )
)
def test_no_row_is_ahead_of_one_that_is_significantly_better(case):
    """Whatever the tests say, consistent or not."""
    values, coins = case
    ranks = shared_ranks(values, lambda a, b: coins[9 * min(a, b) + max(a, b)])
    for a, b in combinations(range(len(values)), 2):
        if values[a] > values[b]:
            assert ranks[a] <= ranks[b]
    for rank in ranks:
        assert rank == 1 + sum(other < rank for other in ranks)
    for row, rank in enumerate(ranks):  # what is not on the first row's step is told apart from it
        first = max((other for other, same in enumerate(ranks) if same == rank), key=lambda other: values[other])
        if values[first] > values[row]:
            assert not coins[9 * min(first, row) + max(first, row)]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Three methods: two that differ by nothing but luck, and noise."""
    rows = make_rows(SPACE, 400, 2)
    table = Table.read(write_table(tmp_path_factory.mktemp("tiers") / "t.parquet", rows, make_info(SPACE)))
    truth = np.nan_to_num(table.accuracies(), nan=50.0)
    rng = np.random.default_rng(3)
    scores = {
        name: make_scores(name, SPACE, np.arange(16384), values, {})
        for name, values in {
            "one": truth + 0.3 * truth.std() * rng.normal(size=16384),
            "two": truth + 0.3 * truth.std() * rng.normal(size=16384),
            "noise": rng.normal(size=16384),
        }.items()
    }
    return make_report(scores, table, num_replicates=100, num_draws=None)


def test_a_report_ranks_what_its_tests_tell_apart(report):
    assert tiers(report, ["noise", "one", "two"]) == {"one": 1, "two": 1, "noise": 3}
    assert tiers(report, ["noise", "two"]) == {"two": 1, "noise": 2}
    names = [row.name for row in report.comparison.rows]
    ranks = tiers(report, names)
    pairs = list(combinations(names, 2))
    adjusted = holm([report.paired(*pair).difference.p_value for pair in pairs])
    num_better = 0
    for (first, second), p in zip(pairs, adjusted, strict=True):
        estimate = report.paired(first, second).difference.interval.estimate
        better, worse = (first, second) if estimate > 0 else (second, first)
        if p < 0.05:
            num_better += 1
            assert ranks[better] <= ranks[worse]
    assert num_better > 5


def test_free_baselines_are_tested_among_each_other(report):
    assert report.paired("flops", "params").p_adjusted is None  # no comparison that the report shows
    assert np.isfinite(report.paired("flops", "params").difference.p_value)
    json.dumps(report.to_dict(), allow_nan=False)


def test_what_has_no_kendall_or_no_test_has_no_rank(report):
    untested = dataclasses.replace(report, differences=[])
    assert tiers(untested, ["one", "noise"]) == {"one": None, "noise": None}
    rows = [dataclasses.replace(row, kendall=np.nan) if row.name == "one" else row for row in report.comparison.rows]
    broken = dataclasses.replace(report, comparison=dataclasses.replace(report.comparison, rows=rows))
    assert tiers(broken, ["one", "two", "noise"]) == {"one": None, "two": 1, "noise": 2}
    with pytest.raises(UnknownNameError, match="unknown row 'tow'.*did you mean 'two'"):
        tiers(report, ["tow"])
