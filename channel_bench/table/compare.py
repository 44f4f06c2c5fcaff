"""How far two tables of one space agree, beside how far they can: seeds alone make two tables differ.

    >>> compare_tables(Table.read("a.parquet"), Table.read("b.parquet")).kendall

Two tables that were trained by one recipe with different seeds do not correlate perfectly. How much noise a mean over
runs carries follows from the runs themselves, and from it the correlation to expect between two independent tables;
without that number the one that was found says little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.space import FloatArray
from channel_bench.table.noise import (
    num_runs,
    reliability_of_means,
    run_means,
    run_variance,
    true_distribution,
    variance_of_means,
)
from channel_bench.table.table import Table

NUM_SIMULATIONS = 20
MAX_STANDARD_ERRORS = 3.0
"""Tables agree if they are no further apart; seeds alone exceed it in 3 of 1,000 comparisons."""


@dataclass(frozen=True)
class Agreement:
    """Two tables on the architectures that both have; differences are second minus first, in percentage points."""

    space: str
    num_archs: int
    num_runs: tuple[int, int]
    """Runs of each table; an architecture may have fewer."""
    mean_difference: float
    mean_difference_se: float | None
    """Standard error of mean_difference that seeds alone give to these architectures; None where noise is unknown."""
    run_std: tuple[float | None, float | None]
    """Standard deviation of a run around its architecture's mean in each table; None with single runs."""
    pearson: float
    spearman: float
    kendall: float
    """Tau-b."""
    expected_pearson: float | None
    """Between independent tables that differ by seeds only: sqrt(reliability of one x reliability of the other)."""
    expected_kendall: float | None
    """The same for Kendall, simulated, because accuracies are seldom normally distributed."""
    expected_kendall_std: float | None
    """Standard deviation of the simulated ones (ddof=1)."""
    shared_runs: int
    """Runs that both tables have with the same seed and result: where there are any, the tables are not independent."""

    @property
    def agrees(self) -> bool | None:
        """Whether seeds alone explain how far the tables are apart; None where that cannot be told."""
        return None if self._unknown else not self._differences

    @property
    def verdict(self) -> str:
        """`agrees` in one line, with the reason."""
        if self._unknown:
            return f"whether the tables agree cannot be told: {self._unknown}"
        if self._differences:
            return f"the tables DO NOT AGREE: {'; '.join(self._differences)}"
        return "the tables agree: they are no further apart than seeds alone explain"

    @property
    def _unknown(self) -> str:
        """Why nothing is known about what seeds explain, or an empty text."""
        if self.shared_runs:
            return f"{self.shared_runs:,} runs are in both, so they are not independent"
        if self.mean_difference_se is None:
            return "both have single runs, so their noise is unknown"
        if math.isnan(self.kendall):
            return "all accuracies of one of them are equal"
        return ""

    @property
    def _differences(self) -> list[str]:
        """What is further apart than seeds explain."""
        assert self.mean_difference_se is not None
        assert self.expected_kendall is not None and self.expected_kendall_std is not None
        found = []
        if self.kendall < self.expected_kendall - MAX_STANDARD_ERRORS * self.expected_kendall_std:
            found.append(
                f"Kendall tau-b is {self.kendall:.4f}, seeds alone leave {self.expected_kendall:.4f}"
                f" +- {self.expected_kendall_std:.4f}"
            )
        if abs(self.mean_difference) > MAX_STANDARD_ERRORS * self.mean_difference_se:
            side = "higher" if self.mean_difference > 0 else "lower"
            found.append(
                f"the second is {abs(self.mean_difference):.4f} points {side} on average, seeds alone move it by"
                f" {self.mean_difference_se:.4f}"
            )
        return found


def compare_tables(first: Table, second: Table, metric: str = "best_test_acc") -> Agreement:
    """Compare the means over runs of two tables.

    The noise of a table is the variance of its runs around their architecture's mean (ddof=1, pooled). A table with
    single runs borrows that of the other one. The reliability of a mean over k runs is the share of the variance
    between
    the architectures in common that is not noise: 1 - (run variance / k) / variance of the means.

    Args:
        first: A table.
        second: Another table of the same space.
        metric: The accuracy to compare.

    Returns:
        The agreement on the architectures that both have.

    Raises:
        ArgumentError: The spaces differ, or fewer than three architectures are in both.
    """
    from scipy import stats

    if first.space != second.space:
        raise ArgumentError(f"tables of different spaces: {first.space.name!r} and {second.space.name!r}")
    common = np.isfinite(first.accuracies(metric=metric)) & np.isfinite(second.accuracies(metric=metric))
    if common.sum() < 3:
        raise ArgumentError(f"{int(common.sum())} architectures are in both tables: at least 3 are needed")
    cells = [table.cells(metric)[common] for table in (first, second)]
    a, b = (run_means(values) for values in cells)
    # Single runs add nothing to the variance, but zeros among the summands move its last bit.
    own = [run_variance(values[num_runs(values) > 1]) for values in cells]
    standard_error = expected_pearson = expected_kendall = kendall_std = None
    known = [variance for variance in own if variance is not None]
    if known:
        pooled = [known[0] if variance is None else variance for variance in own]
        noise = [variance_of_means(variance, num_runs(values)) for variance, values in zip(pooled, cells, strict=True)]
        standard_error = math.sqrt(sum(noise) / len(a))
        expected_pearson = math.sqrt(reliability_of_means(a, noise[0]) * reliability_of_means(b, noise[1]))
        taus = _simulated_kendalls(a, noise)
        expected_kendall, kendall_std = float(np.mean(taus)), float(np.std(taus, ddof=1))
    constant = a.min() == a.max() or b.min() == b.max()
    return Agreement(
        space=first.space.name,
        num_archs=len(a),
        num_runs=(first.num_runs, second.num_runs),
        mean_difference=float((b - a).mean()),
        mean_difference_se=standard_error,
        run_std=(_root(own[0]), _root(own[1])),
        pearson=math.nan if constant else float(np.corrcoef(a, b)[0, 1]),
        spearman=math.nan if constant else float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1]),
        kendall=math.nan if constant else float(stats.kendalltau(a, b, variant="b").statistic),
        expected_pearson=expected_pearson,
        expected_kendall=expected_kendall,
        expected_kendall_std=kendall_std,
        shared_runs=_shared_runs(first, second),
    )


def _simulated_kendalls(means: FloatArray, noise: Sequence[float]) -> list[float]:
    """Kendall taus between two tables with these noise variances around truths distributed as those of `means`."""
    from scipy import stats

    rng = np.random.default_rng(0)
    values, weights = true_distribution(means, noise[0])
    taus = []
    for _ in range(NUM_SIMULATIONS):
        truth = rng.choice(values, len(means), p=weights)
        pair = [truth + math.sqrt(variance) * rng.normal(size=len(truth)) for variance in noise]
        taus.append(stats.kendalltau(*pair).statistic)
    return taus


def _shared_runs(first: Table, second: Table) -> int:
    """Runs with equal architecture, seed and accuracies in both tables; all of them where the contents are equal."""
    if first.info.content_sha256 == second.info.content_sha256:
        return len(first.arrow)
    columns = ["arch", "seed", "best_test_acc", "test_acc"]
    rows = []
    for table in (first, second):
        rows.append(set(zip(*(table.arrow.column(name).to_pylist() for name in columns), strict=True)))
    return sum(row[1] is not None for row in rows[0] & rows[1])


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(variance)
