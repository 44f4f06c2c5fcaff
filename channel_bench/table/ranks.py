"""Ranks of accuracies, ties among them, and the best within a budget: one rule for the table and its judge.

    >>> ranks(table.accuracies())                                     # 1 is the best
    >>> best_of(scores, within(space.flops(), 5e8))                   # what a ranking chooses

Published means are in single precision, which breaks ties that were there. So accuracies are rounded to 0.0001 points
before anything asks which one is higher; further decimals are rounding errors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from channel_bench.space import FloatArray

ACCURACY_DECIMALS = 4
"""Decimals of an accuracy in percent that carry information."""

Positions = npt.NDArray[np.intp]


def rounded(accuracies: FloatArray) -> FloatArray:
    """Accuracies to 0.0001 points, which restores ties; NaN stays NaN."""
    return np.asarray(accuracies.round(ACCURACY_DECIMALS))


def ranks(accuracies: FloatArray) -> npt.NDArray[np.int64]:
    """Rank of each accuracy: 1 + the number of those that are higher by 0.0001 points or more.

    Args:
        accuracies: Percent, float (num_archs,), NaN where missing.

    Returns:
        int64 (num_archs,), 1 for the best, equals share the best rank among them; 0 where the accuracy is missing.
    """
    values = rounded(accuracies)
    there = np.isfinite(values)
    return np.where(there, ranks_among(values, np.sort(values[there])), 0)


def ranks_among(values: FloatArray, ascending: FloatArray) -> Positions:
    """Ranks of finite values among others: 1 + the number of larger ones, ties shared.

    Args:
        values: float (n,).
        ascending: Those to rank among, sorted, float (m,).
    """
    return 1 + len(ascending) - np.searchsorted(ascending, values, side="right")


def within(costs: npt.ArrayLike, limit: float) -> Positions:
    """Positions of the architectures that cost no more than a limit, ascending."""
    return np.flatnonzero(np.asarray(costs) <= limit)


def best_of(values: FloatArray, rows: Positions) -> Positions:
    """Those of some positions that share the highest value, in the order given.

    Args:
        values: float (n,), finite at `rows`.
        rows: Positions, at least one.
    """
    return rows[values[rows] == values[rows].max()]
