"""Mean ranks of several algorithms over blocks, and which of them cannot be told apart.

J. Demsar, *Statistical Comparisons of Classifiers over Multiple Data Sets*, JMLR 2006: Friedman's test whether any
differ, and Nemenyi's critical difference, by which two mean ranks must differ at least.

    >>> groups = rank_groups(["a", "b"], values)        # (num_blocks, 2), higher is better
    >>> groups.mean_ranks, groups.critical_difference, groups.cliques
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.space import FloatArray


@dataclass(frozen=True)
class Groups:
    """Algorithms by mean rank, the best first."""

    names: list[str]
    mean_ranks: list[float]
    """1 would be the best in every block; ties share their ranks."""
    p_value: float
    """Of Friedman's test that all are equal; NaN for two algorithms, for which it is not defined, and where all tie."""
    critical_difference: float
    """Mean ranks closer than this cannot be told apart (Nemenyi)."""
    cliques: list[tuple[int, int]]
    """First and last position of each largest run of algorithms that cannot be told apart."""
    num_blocks: int
    level: float


def rank_groups(names: Sequence[str], values: FloatArray, level: float = 0.95) -> Groups:
    """Rank algorithms over blocks.

    Args:
        names: One per column.
        values: Higher is better, float64 (num_blocks, num_algorithms); no NaN.
        level: Of the tests.

    Raises:
        ArgumentError: Fewer than two algorithms or blocks, or a value is NaN.
    """
    from scipy import stats

    num_blocks, count = values.shape
    if count != len(names) or count < 2 or num_blocks < 2 or np.isnan(values).any():
        raise ArgumentError(
            f"cannot rank {count} algorithms over {num_blocks} blocks: two of each are needed, and no NaN"
        )
    ranks = stats.rankdata(-values, axis=1)
    means = ranks.mean(0)
    order = np.argsort(means, kind="stable")
    sorted_means = means[order]
    # Demsar's q is the quantile of the studentised range over the square root of two.
    quantile = float(stats.studentized_range.ppf(level, count, np.inf)) / math.sqrt(2)
    difference = quantile * math.sqrt(count * (count + 1) / (6 * num_blocks))
    p_value = math.nan
    if count > 2 and (ranks.std(1) > 0).any():
        p_value = float(stats.friedmanchisquare(*ranks.T).pvalue)
    cliques: list[tuple[int, int]] = []
    for first in range(count):
        last = int(np.searchsorted(sorted_means, sorted_means[first] + difference, side="left")) - 1
        if last > first and (not cliques or last > cliques[-1][1]):
            cliques.append((first, last))
    return Groups(
        [names[place] for place in order], sorted_means.tolist(), p_value, difference, cliques, num_blocks, level
    )
