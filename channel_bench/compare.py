"""How far two tables of one space agree, beside how far they can: seeds alone make two tables differ.

    >>> compare_tables(Table.read("a.parquet"), Table.read("b.parquet")).kendall

Two tables that were trained by one recipe with different seeds do not correlate perfectly. How much noise a mean over
runs carries follows from the runs themselves, and from it the correlation to expect between two independent tables;
without that number the one that was found says little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError
from channel_bench.table import Table

FloatArray = npt.NDArray[np.float64]


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
    """The same for Kendall, by the relation of the bivariate normal distribution: 2/pi asin(r) (Kendall 1949)."""


def compare_tables(first: Table, second: Table, metric: str = "best_test_acc") -> Agreement:
    """Compare the means over runs of two tables.

    The noise of a table is the variance of its runs around their architecture's mean (ddof=1, pooled). A table with
    single runs borrows that of the other one. The reliability of a mean over k runs is the share of the variance
    between the
    architectures in common that is not noise: 1 - (run variance / k) / variance of the means.

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
    a, b = (np.nanmean(values, 1) for values in cells)
    own = [_run_variance(values) for values in cells]
    pooled = [own[0] if own[0] is not None else own[1], own[1] if own[1] is not None else own[0]]
    noise = [
        None if variance is None else variance * float((1 / np.isfinite(values).sum(1)).mean())
        for variance, values in zip(pooled, cells, strict=True)
    ]
    expected = None
    standard_error = None
    if noise[0] is not None and noise[1] is not None:
        standard_error = math.sqrt((noise[0] + noise[1]) / len(a))
        shares = [_reliability(means, share) for means, share in zip((a, b), (noise[0], noise[1]), strict=True)]
        expected = math.sqrt(shares[0] * shares[1])
    return Agreement(
        space=first.space.name,
        num_archs=len(a),
        num_runs=(first.num_runs, second.num_runs),
        mean_difference=float((b - a).mean()),
        mean_difference_se=standard_error,
        run_std=(_root(own[0]), _root(own[1])),
        pearson=float(np.corrcoef(a, b)[0, 1]),
        spearman=float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1]),
        kendall=float(stats.kendalltau(a, b, variant="b").statistic),
        expected_pearson=expected,
        expected_kendall=None if expected is None else 2 / math.pi * math.asin(expected),
    )


def _run_variance(cells: FloatArray) -> float | None:
    """Pooled variance of runs around their architecture's mean; None where no architecture has two runs."""
    counts = np.isfinite(cells).sum(1)
    several = cells[counts > 1]
    if len(several) == 0:
        return None
    deviations = several - np.nanmean(several, 1, keepdims=True)
    return float(np.nansum(deviations**2) / (counts[counts > 1] - 1).sum())


def _reliability(means: FloatArray, noise: float) -> float:
    """Share of the variance of means that is not noise, in [0, 1]."""
    total = float(means.var(ddof=1))
    return min(1.0, max(0.0, 1 - noise / total)) if total > 0 else 0.0


def _root(variance: float | None) -> float | None:
    return None if variance is None else math.sqrt(variance)
