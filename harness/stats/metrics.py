"""How well scores rank architectures, as pure functions of arrays.

    >>> correlations(scores, truth).kendall
    >>> equal_flops(scores, truth, flops).mean       # the same where FLOPs cannot help
    >>> precision_at(10, scores, truth), best_rank_at(10, scores, truth)

All take float arrays (n,) in the same order; higher is better in scores and truth. What holds for every function:

- *Sign*: never removed. A method that ranks backwards gets a negative number.
- *NaN, infinity*: refused by name, never dropped. There is no value to put in their place.
- *Partial coverage*: hand in the part that was scored, with its truth; every result is about those n alone.
- *Ties*: stated per function. No result depends on the order of the rows.
- *Constant scores*: have no correlation; the result is NaN, not 0. A top-k of them is an average over all choices.

The published files hold means in single precision, which breaks ties. Functions that ask which architecture is the
best (`precision_at`, `best_rank_at`, `regrets`) want them rounded to 0.0001 points first, as `Table.rank` does; the
correlations are of the values as published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, BudgetError
from channel_bench.space import FloatArray
from channel_bench.table.ranks import best_of, ranks_among, rounded, within
from harness.stats.ranks import IntArray, average_ranks, dense_ranks, kendall_of_ranks, pearson_of

TOP_SIZES = (10, 100)
NUM_FLOPS_GROUPS = 10


# -- correlations ---------------------------------------------------------------------------------------------------


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
    a, b = _paired(scores, truth)
    ranks = dense_ranks(a), dense_ranks(b)
    return Correlations(
        kendall=kendall_of_ranks(*ranks),
        spearman=pearson_of(*(average_ranks(rank) for rank in ranks)),
        pearson=pearson_of(a, b),
        n=len(a),
    )


def kendall(scores: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Kendall tau-b: (concordant - discordant pairs) / sqrt(pairs untied in scores x pairs untied in truth).

    Args and errors as `correlations`.

    Returns:
        In [-1, 1]; NaN where an array is constant.
    """
    a, b = _paired(scores, truth)
    return kendall_of_ranks(dense_ranks(a), dense_ranks(b))


def kt_1dec(scores: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Kendall tau-b of scores with accuracies rounded to one decimal, the "sparse" Kendall of the field.

    Differences of less than about 0.1 points, which retraining may turn round, become ties (Yu et al. 2020). It is the
    truth that is rounded, half to even: scores need not be accuracies, and one decimal of a loss means nothing.

    Args:
        scores: float (n,).
        truth: Accuracies in percent, float (n,).

    Returns:
        In [-1, 1]; NaN where scores or rounded accuracies are constant.

    Raises:
        ArgumentError: As `correlations`.
    """
    a, b = _paired(scores, truth)
    return kendall(a, rounded(b).round(1))


def weighted_tau(scores: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Weighted Kendall tau (Vigna 2015) with additive hyperbolic weights: the top of the ranking counts most.

    A pair of ranks r, s (0 the best) weighs 1 / (r + 1) + 1 / (s + 1). The result is the mean of weighing by the ranks
    of the scores and by those of the truth; ties within one are ranked by the other. This is `scipy.stats.weightedtau`
    with its defaults.

    Args and errors as `correlations`.

    Returns:
        In [-1, 1]; NaN where an array is constant.
    """
    from scipy import stats

    a, b = _paired(scores, truth)
    ranks = dense_ranks(a), dense_ranks(b)
    if ranks[0].max() == 0 or ranks[1].max() == 0:
        return math.nan
    return float(np.clip(stats.weightedtau(*ranks).statistic, -1.0, 1.0))


def partial_spearman(scores: npt.ArrayLike, truth: npt.ArrayLike, given: npt.ArrayLike) -> float:
    """Spearman correlation of scores and truth given a third quantity: what scores know beyond, say, FLOPs.

    (r_st - r_sg r_tg) / sqrt((1 - r_sg^2) (1 - r_tg^2)) of the three Spearman correlations: the correlation of what a
    straight line through the average ranks of `given` leaves of the other two.

    Args:
        scores: float (n,).
        truth: float (n,).
        given: float (n,).

    Returns:
        In [-1, 1]; NaN where an array is constant, or scores or truth order the architectures exactly as `given` does
        (or exactly backwards), which leaves nothing to correlate.

    Raises:
        ArgumentError: As `correlations`.
    """
    a, b = _paired(scores, truth)
    a, c = _paired(a, given, "values given")
    ranks = [average_ranks(dense_ranks(values)) for values in (a, b, c)]
    st, sg, tg = (pearson_of(ranks[i], ranks[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    left = (1 - sg**2) * (1 - tg**2)
    if not left > 1e-12:
        return math.nan
    return max(-1.0, min(1.0, (st - sg * tg) / math.sqrt(left)))


@dataclass(frozen=True)
class EqualFlops:
    """Correlation of scores and truth among architectures of about equal cost."""

    edges: tuple[float, ...]
    """Least cost of each group, and the largest cost of all: (num_groups + 1,)."""
    kendall: tuple[float, ...]
    """Tau-b within each group; NaN where scores or truth are constant there, or it has fewer than 2 architectures."""
    n: tuple[int, ...]
    """Architectures of each group."""
    mean: float
    """Mean of the groups whose tau is defined; NaN where none is."""
    partial: float
    """Spearman given the cost, over all architectures (`partial_spearman`)."""


def equal_flops(
    scores: npt.ArrayLike, truth: npt.ArrayLike, flops: npt.ArrayLike, num_groups: int = NUM_FLOPS_GROUPS
) -> EqualFlops:
    """Kendall tau-b within quantiles of FLOPs, deciles by default.

    A group is q_i <= cost < q_{i+1}, with q the linearly interpolated quantiles and the last group closed, so that
    architectures of equal cost are never apart; groups differ in size where costs tie.

    Args:
        scores: float (n,).
        truth: float (n,).
        flops: float (n,); any cost.
        num_groups: How many quantiles, >= 1.

    Raises:
        ArgumentError: As `correlations`, or `num_groups` is not an integer >= 1.
    """
    a, b = _paired(scores, truth)
    a, cost = _paired(a, flops, "costs")
    if not _is_integer(num_groups) or num_groups < 1:
        raise ArgumentError(f"number of groups is {num_groups!r}: allowed are 1 and above")
    edges = np.quantile(cost, np.linspace(0, 1, num_groups + 1))
    group = np.searchsorted(edges[1:-1], cost, side="right")
    taus, counts = [], []
    for number in range(num_groups):
        among = group == number
        counts.append(int(among.sum()))
        taus.append(kendall(a[among], b[among]) if counts[-1] > 1 else math.nan)
    defined = [tau for tau in taus if not math.isnan(tau)]
    return EqualFlops(
        edges=tuple(edges.tolist()),
        kendall=tuple(taus),
        n=tuple(counts),
        mean=float(np.mean(defined)) if defined else math.nan,
        partial=partial_spearman(a, b, cost),
    )


# -- the top of the ranking -----------------------------------------------------------------------------------------


def precision_at(k: int, scores: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Share of the k best-scored architectures whose true rank is at most k (``p_at_top{k}``).

    True ranks are 1 + the number of better ones, so that equals share the best rank among them and a perfect scorer has
    precision 1. Where scores tie across the k-th place, the result is the mean over all ways to break that tie; a
    constant scorer has the precision of a random choice.

    Args:
        k: 1 .. n.
        scores: float (n,).
        truth: float (n,).

    Returns:
        In [0, 1].

    Raises:
        ArgumentError: As `correlations`, or k is out of range.
    """
    a, b = _paired(scores, truth)
    return TopK(k, a).precision(TrueRanks(b))


def best_rank_at(k: int, scores: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Best true rank among the k best-scored architectures (``br_at_{k}``), 1 the best.

    True ranks and ties as in `precision_at`: the mean over all ways to break a tie of scores across the k-th place.
    If m of g tied ones are taken, the one with the j-th best rank among the g is the best taken with probability
    C(g - j, m - 1) / C(g, m). A constant scorer has (n + 1) / (k + 1) where no accuracies tie.

    Args and errors as `precision_at`.

    Returns:
        In [1, n].
    """
    a, b = _paired(scores, truth)
    return TopK(k, a).best_rank(TrueRanks(b))


class TopK:
    """The k best-scored architectures, to be held against many true rankings: `precision_at` and `best_rank_at`.

    Args:
        k: 1 .. n.
        scores: float (n,), finite.

    Raises:
        ArgumentError: k is out of range.
    """

    sure: IntArray
    """Positions of those that are among the k however ties are broken."""
    tied: IntArray
    """Positions of those that share the k-th highest score."""
    share: float
    """Of the tied ones that belong to the k; 1 where the k-th place is not contested."""

    def __init__(self, k: int, scores: FloatArray) -> None:
        """Split them into those that belong to the k best however ties are broken, and those that tie for the rest."""
        if not _is_integer(k) or not 1 <= k <= len(scores):
            raise ArgumentError(f"k is {k!r}: allowed are 1 to {len(scores)}, the number of architectures")
        boundary = np.partition(scores, len(scores) - k)[len(scores) - k]
        self.k = k
        self.sure, self.tied = np.flatnonzero(scores > boundary), np.flatnonzero(scores == boundary)
        num_tied, num_drawn = len(self.tied), k - len(self.sure)
        rest = np.arange(1, num_tied)
        steps = np.maximum(num_tied - rest - num_drawn + 1, 0) / (num_tied - rest)
        self.share = num_drawn / num_tied
        self._chances = self.share * np.cumprod(np.concatenate([[1.0], steps]))

    def precision(self, ranks: TrueRanks) -> float:
        """Share of the k that are truly among the k best."""
        return float(((ranks[self.sure] <= self.k).sum() + self.share * (ranks[self.tied] <= self.k).sum()) / self.k)

    def best_rank(self, ranks: TrueRanks) -> float:
        """Best true rank among the k."""
        best_sure = ranks[self.sure].min() if len(self.sure) else len(ranks)
        return float(self._chances @ np.minimum(np.sort(ranks[self.tied]), best_sure))


class TrueRanks:
    """Ranks by the truth, 1 + the number of larger values; worked out for the architectures that are asked for.

    >>> TrueRanks(truth)[[4, 7]]

    Args:
        truth: float (n,), finite.
    """

    def __init__(self, truth: FloatArray) -> None:
        """Sort once."""
        self._truth, self._ascending = truth, np.sort(truth)

    def __len__(self) -> int:
        """N."""
        return len(self._truth)

    def __getitem__(self, rows: IntArray | slice) -> IntArray:
        """Ranks of the architectures at these positions."""
        return ranks_among(self._truth[rows], self._ascending)


@dataclass(frozen=True)
class Regret:
    """What choosing by scores costs within one budget."""

    budget: float
    num_fitting: int
    """Architectures that cost at most the budget."""
    chosen: tuple[int, ...]
    """Positions of those that share the highest score."""
    accuracy: float
    """True accuracy of the choice, mean over those that tie."""
    best: float
    """True accuracy of the best that fits."""
    regret: float
    """best - accuracy, >= 0."""


def regrets(
    scores: npt.ArrayLike, truth: npt.ArrayLike, costs: npt.ArrayLike, budgets: Sequence[float]
) -> list[Regret]:
    """True accuracy given away by taking the best-scored architecture under each budget.

    Architectures that share the highest score are equally likely to be chosen: the mean over them. The best is the
    maximum of noisy accuracies, so that even a perfect scorer has a regret above 0; `bootstrap` says how much is noise.

    Args:
        scores: float (n,).
        truth: float (n,).
        costs: float (n,).
        budgets: Largest allowed costs.

    Returns:
        One per budget, in the unit of the truth.

    Raises:
        ArgumentError: As `correlations`, or a budget is NaN.
        BudgetError: Nothing costs as little as a budget.
    """
    a, b = _paired(scores, truth)
    a, cost = _paired(a, costs, "costs")
    found = []
    for budget in budgets:
        if math.isnan(budget):
            raise ArgumentError("a budget is NaN: allowed are numbers")
        fits = within(cost, budget)
        if len(fits) == 0:
            raise BudgetError(f"no architecture costs at most {budget:,.15g}: the least is {cost.min():,.15g}")
        chosen = best_of(a, fits)
        accuracy, best = float(b[chosen].mean()), float(b[fits].max())
        found.append(
            Regret(float(budget), len(fits), tuple(chosen.tolist()), accuracy, best, max(0.0, best - accuracy))
        )
    return found


def summary(scores: npt.ArrayLike, truth: npt.ArrayLike, found: Correlations, equal: EqualFlops) -> dict[str, float]:
    """All metrics that need no budget, under the names that the field knows.

    Args:
        scores: float (n,).
        truth: Accuracies in percent, float (n,).
        found: Their `correlations`.
        equal: Their `equal_flops`.

    Returns:
        Numbers by name; ``p_at_top{k}`` and ``br_at_{k}`` for k of TOP_SIZES where there are k architectures.

    Raises:
        ArgumentError: As `correlations`.
    """
    accuracies = np.asarray(truth, np.float64)
    values = {
        "n": found.n,
        "kendall": found.kendall,
        "spearman": found.spearman,
        "pearson": found.pearson,
        "weighted_tau": weighted_tau(scores, accuracies),
        "kt_1dec": kt_1dec(scores, accuracies),
        "kendall_at_equal_flops": equal.mean,
        "spearman_given_flops": equal.partial,
    }
    tied = rounded(accuracies)
    for k in TOP_SIZES:
        if k <= found.n:
            values[f"p_at_top{k}"] = precision_at(k, scores, tied)
            values[f"br_at_{k}"] = best_rank_at(k, scores, tied)
    return values


# -- arguments ------------------------------------------------------------------------------------------------------


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _paired(scores: npt.ArrayLike, truth: npt.ArrayLike, second: str = "truth") -> tuple[FloatArray, FloatArray]:
    a, b = checked("scores", scores), checked(second, truth)
    if len(a) != len(b):
        other = "architectures" if second == "truth" else second
        raise ArgumentError(f"{len(a)} scores for {len(b)} {other}: the numbers must be equal")
    if len(a) < 2:
        raise ArgumentError(f"a correlation needs at least 2 architectures, got {len(a)}")
    return a, b


def checked(name: str, values: npt.ArrayLike) -> FloatArray:
    """Values as float64 (n,).

    Raises:
        ArgumentError: They have another shape, or one is NaN or infinite.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ArgumentError(f"{name} have shape {array.shape}: allowed is (num_archs,)")
    wrong = np.flatnonzero(~np.isfinite(array))
    if wrong.size:
        raise ArgumentError(
            f"{wrong.size} of {len(array)} {name} are NaN or infinite, the first at position {wrong[0]}"
        )
    return array
