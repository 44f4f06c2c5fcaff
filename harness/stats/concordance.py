"""Kendall of many rankings with one truth, with copies of architectures: the inner loop of bootstraps and curves.

    >>> rankings = Rankings([scores, flops])
    >>> rankings.kendall(Ordered(accuracies), copies)        # as `metrics.kendall` of arrays with these copies

The work is done by concordance.cpp, compiled on first use (`channel_bench.support.compiled`), several times as fast
as NumPy; without a compiler by `ranks.kendall_of_ranks`. Both count pairs in integers, so the results are the same.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError
from channel_bench.space import FloatArray
from channel_bench.support.compiled import load_library
from harness.stats.ranks import IntArray, kendall_of_ranks

_SOURCE = Path(__file__).with_name("concordance.cpp")


class Ordered:
    """Values with their order and ranks, worked out once.

    Args:
        values: float (n,), finite.
    """

    order: IntArray
    """Positions by ascending value, (n,)."""
    ranks: npt.NDArray[np.int32]
    """0, 1, 2 ... of the distinct values, ascending; equal values have equal ranks, (n,)."""
    num_ranks: int
    """Distinct values."""

    def __init__(self, values: FloatArray) -> None:
        """Sort."""
        self.order = np.argsort(values)
        ascending = values[self.order]
        steps = np.zeros(len(values), np.int32)
        np.not_equal(ascending[1:], ascending[:-1], out=steps[1:], casting="unsafe")
        ascending_ranks = np.cumsum(steps, dtype=np.int32)
        self.ranks = np.empty(len(values), np.int32)
        self.ranks[self.order] = ascending_ranks
        self.num_ranks = int(ascending_ranks[-1]) + 1 if len(values) else 0


class Rankings:
    """Rankings of the same items, to be held against many truths.

    Args:
        columns: Scores, float (n,) each, finite.
    """

    def __init__(self, columns: Sequence[FloatArray]) -> None:
        """Sort each."""
        ordered = [Ordered(column) for column in columns]
        self.ranks = np.ascontiguousarray([each.ranks for each in ordered], np.int32)
        """int32 (num_rankings, n)."""
        self.num_ranks = np.array([each.num_ranks for each in ordered], np.int32)

    def kendall(self, truth: Ordered, copies: IntArray) -> list[float]:
        """Kendall tau-b of every ranking with a truth.

        Args:
            truth: Of the same items.
            copies: How often each item counts, >= 0, (n,); copies of one item are ties.

        Returns:
            In [-1, 1]; NaN where a ranking, or the truth, is constant among the copies.
        """
        count = _counter()
        if count is None:
            rows = np.repeat(np.arange(len(copies)), copies)
            label = truth.ranks[rows].astype(np.intp)
            return [kendall_of_ranks(ranks[rows].astype(np.intp), label) for ranks in self.ranks]
        items = truth.order[copies[truth.order] > 0].astype(np.int32)
        given = copies[items].astype(np.int32)
        agreeing = np.empty(len(self.ranks), np.int64)
        arrays = (items, truth.ranks[items], given)
        count(
            len(items),
            *(array.ctypes.data for array in arrays),
            *self.ranks.shape,
            *(array.ctypes.data for array in (self.ranks, self.num_ranks, agreeing)),
        )
        n = int(given.sum())
        pairs = n * (n - 1) // 2
        untied = pairs - _tied_pairs(truth.ranks, copies)
        return [
            _tau_b(int(found), untied, pairs - _tied_pairs(ranks, copies))
            for found, ranks in zip(agreeing, self.ranks, strict=True)
        ]


def _tau_b(agreeing: int, untied: int, other_untied: int) -> float:
    if untied == 0 or other_untied == 0:
        return math.nan
    return max(-1.0, min(1.0, agreeing / math.sqrt(other_untied * untied)))


def _tied_pairs(ranks: npt.NDArray[np.int32], copies: IntArray) -> int:
    counts = np.bincount(ranks, copies)  # floats, exact below 2^53
    return int((counts * (counts - 1)).sum()) // 2


@functools.cache
def _counter() -> Callable[..., None] | None:
    """The compiled function; None where there is no compiler."""
    try:
        function = load_library(_SOURCE, "the counting of concordant pairs").channel_bench_concordance
    except ArgumentError:
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    function.restype = None
    function.argtypes = [size, pointer, pointer, pointer, size, size, pointer, pointer, pointer]
    return function
