"""Rank and linear correlation of scores with the truth, as pure functions of arrays.

All three take float arrays (n,) in the same order, higher is better in both. The sign is never removed: a method that
ranks backwards gets a negative number. Nothing is dropped: NaN and infinity are refused by name. A constant array has
no correlation, and the result is NaN, not 0 and not an accident of the order of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Correlations:
    """The three correlations that the field reports, and the number of architectures behind them."""

    kendall: float
    """Kendall tau-b (Kendall 1945), which corrects for ties in either array; NaN where an array is constant."""
    spearman: float
    """Pearson correlation of average ranks; NaN where an array is constant."""
    pearson: float
    """Linear correlation; NaN where an array is constant."""
    n: int
    """Number of architectures."""


def correlations(scores: npt.ArrayLike, truth: npt.ArrayLike) -> Correlations:
    """Kendall tau-b, Spearman and Pearson of scores with the truth.

    Args:
        scores: float (n,), higher is better.
        truth: float (n,), higher is better.

    Returns:
        The three, each in [-1, 1] or NaN.

    Raises:
        ArgumentError: The shapes differ, n < 2, or a value is NaN or infinite.
    """
    from scipy import stats

    a, b = _checked("scores", scores), _checked("truth", truth)
    if len(a) != len(b):
        raise ArgumentError(f"{len(a)} scores for {len(b)} architectures: the numbers must be equal")
    if len(a) < 2:
        raise ArgumentError(f"a correlation needs at least 2 architectures, got {len(a)}")
    if a.min() == a.max() or b.min() == b.max():
        return Correlations(np.nan, np.nan, np.nan, len(a))
    return Correlations(
        kendall=float(stats.kendalltau(a, b, variant="b").statistic),
        spearman=_pearson(stats.rankdata(a), stats.rankdata(b)),
        pearson=_pearson(a, b),
        n=len(a),
    )


def _pearson(a: FloatArray, b: FloatArray) -> float:
    # Scaled by the largest deviation before squaring, so that tiny and huge scores neither underflow nor overflow.
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def _checked(name: str, values: npt.ArrayLike) -> FloatArray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ArgumentError(f"{name} have shape {array.shape}: allowed is (num_archs,)")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        raise ArgumentError(
            f"{wrong.size} of {len(array)} {name} are NaN or infinite, the first at position {wrong[0]}"
        )
    return array
