"""What a ranking gets wrong: which slot and width, which part of the ranking, which size of network.

    >>> effects = slot_effects(space.archs(), scores, truth, space)
    >>> effects.worst                        # the slot and width that the method misjudges most
    >>> rank_calibration(scores, truth)      # where architectures of each predicted rank truly stand
    >>> kendall_along(scores, truth, flops)  # in which range of FLOPs the ranking is any good

Pure functions of arrays, which reports and figures draw. NaN and infinity are refused, signs are kept, and constant
arrays are said to be undefined, as in `harness.stats.metrics`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError
from channel_bench.space import FloatArray, Int8Array, Space
from harness.stats.additive import fit_effects
from harness.stats.metrics import checked, kendall
from harness.stats.ranks import average_ranks, dense_ranks

NUM_RANK_BINS = 20
NUM_WINDOWS = 41
WINDOW_SHARE = 0.1


@dataclass(frozen=True)
class SlotEffects:
    """What each width of each slot adds to accuracy, by the truth and as a method has it."""

    truth: FloatArray
    """float64 (7, 4): effect of width 1, 2, 3, 4 of each slot in percentage points; each row has mean 0."""
    scores: FloatArray
    """float64 (7, 4): the same by the scores, scaled so that scores spread as accuracies do; the sign is theirs."""
    truth_r2: float
    """Share of the variance of the truth that effects of slots explain."""
    scores_r2: float
    """The same of the scores."""
    shares: FloatArray
    """float64 (7, 2): share of each slot in the variance of the additive truth, and of the additive scores, over the
    whole space; NaN where all effects are 0."""

    @property
    def difference(self) -> FloatArray:
        """Effects by the scores minus true ones, (7, 4): above 0 the method thinks too much of a width."""
        return self.scores - self.truth

    @property
    def worst(self) -> tuple[int, int]:
        """Slot (0 .. 6) and width (1 .. 4) that the method misjudges most."""
        slot, width = divmod(int(np.abs(self.difference).argmax()), self.truth.shape[1])
        return slot, width + 1


def slot_effects(archs: Int8Array, scores: npt.ArrayLike, truth: npt.ArrayLike, space: Space) -> SlotEffects:
    """Effects of slots by least squares (`additive.fit_effects`, form "onehot").

    Over all 16,384 architectures the effect of a width is the mean of those that have it minus the mean of all; over
    part of them least squares takes out what the other slots have to do with it.

    Args:
        archs: int8 (n, 7), digits 1..4.
        scores: float (n,).
        truth: float (n,), percent.
        space: Space of the architectures.

    Raises:
        ArgumentError: Shapes differ, a value is not finite, scores or truth are constant, or the architectures do not
            determine the effects.
    """
    given, accuracies = checked("scores", scores), checked("truth", truth)
    true = fit_effects(archs, accuracies, "onehot", space)
    found = fit_effects(archs, given, "onehot", space)
    scale = float(accuracies.std() / given.std())
    variances = np.stack([true.effects.var(1), found.effects.var(1)], axis=1)
    totals = variances.sum(0)
    shares = np.divide(variances, totals, out=np.full_like(variances, np.nan), where=totals > 0)
    return SlotEffects(true.effects, found.effects * scale, true.r2, found.r2, shares)


@dataclass(frozen=True)
class RankCalibration:
    """True ranks of architectures by their predicted rank; all ranks as shares, 0 the worst and 1 the best."""

    predicted: FloatArray
    """Mean predicted rank of each bin, (num_bins,); NaN where a bin is empty."""
    mean: FloatArray
    """Mean true rank, (num_bins,)."""
    low: FloatArray
    """First decile of the true ranks, (num_bins,)."""
    high: FloatArray
    """Ninth decile, (num_bins,)."""
    n: npt.NDArray[np.int64]
    """Architectures of each bin; unequal where scores tie."""


def rank_calibration(scores: npt.ArrayLike, truth: npt.ArrayLike, num_bins: int = NUM_RANK_BINS) -> RankCalibration:
    """Where the architectures truly stand that a method puts at each rank; on the diagonal where ranks can be trusted.

    Ranks are average ranks, so that architectures of equal scores are in one bin together; rank r of n is the share
    (r - 0.5) / n. Bins are equally wide in predicted rank.

    Args:
        scores: float (n,).
        truth: float (n,).
        num_bins: >= 1.

    Raises:
        ArgumentError: Shapes differ, a value is not finite, nothing is there, or `num_bins` is below 1.
    """
    predicted, true = (_rank_shares(values) for values in _same_length(scores, truth))
    if num_bins < 1:
        raise ArgumentError(f"number of bins is {num_bins}: allowed are 1 and above")
    bins = np.minimum((predicted * num_bins).astype(np.int64), num_bins - 1)
    rows = np.full((4, num_bins), np.nan)
    for number in range(num_bins):
        inside = bins == number
        if inside.any():
            rows[:, number] = predicted[inside].mean(), true[inside].mean(), *np.quantile(true[inside], [0.1, 0.9])
    centre, mean, low, high = rows
    return RankCalibration(centre, mean, low, high, np.bincount(bins, minlength=num_bins))


@dataclass(frozen=True)
class KendallAlong:
    """Kendall within a window that moves along a cost."""

    low: FloatArray
    """Least cost in each window, (num_windows,)."""
    middle: FloatArray
    """Median cost."""
    high: FloatArray
    """Largest cost."""
    kendall: FloatArray
    """Tau-b within the window; NaN where scores or truth are constant there."""
    n: npt.NDArray[np.int64]
    """Architectures in it."""


def kendall_along(
    scores: npt.ArrayLike,
    truth: npt.ArrayLike,
    costs: npt.ArrayLike,
    num_windows: int = NUM_WINDOWS,
    share: float = WINDOW_SHARE,
) -> KendallAlong:
    """Kendall among architectures of similar cost, along the cost.

    Each window holds a share of the architectures, neighbours in cost, and all that cost the same as its first or last
    one; windows start at equal distances in rank and overlap.

    Args:
        scores: float (n,).
        truth: float (n,).
        costs: float (n,), FLOPs as a rule.
        num_windows: >= 1; one covers the middle.
        share: Of the architectures in a window, in (0, 1].

    Raises:
        ArgumentError: Shapes differ, a value is not finite, numbers are out of range, or a window would hold fewer
            than 2 architectures.
    """
    a, b = _same_length(scores, truth)
    a, cost = _same_length(a, costs, "costs")
    size = math.floor(share * len(a) + 0.5) if 0 < share <= 1 else 0
    if size < 2 or num_windows < 1:
        raise ArgumentError(
            f"{num_windows} windows of {share!r} of {len(a)} architectures: allowed are 1 and more, shares up to 1, and"
            " at least 2 architectures in each"
        )
    ordered = np.sort(cost)
    last = len(a) - size
    starts = np.linspace(0, last, num_windows) if num_windows > 1 else np.array([last / 2])
    rows, counts = [], []
    for start in np.round(starts).astype(int):
        inside = (cost >= ordered[start]) & (cost <= ordered[start + size - 1])
        rows.append([cost[inside].min(), np.median(cost[inside]), cost[inside].max(), kendall(a[inside], b[inside])])
        counts.append(int(inside.sum()))
    least, middle, most, taus = np.array(rows).T
    return KendallAlong(least, middle, most, taus, np.array(counts))


def _rank_shares(values: FloatArray) -> FloatArray:
    return np.asarray((average_ranks(dense_ranks(values)) - 0.5) / len(values))


def _same_length(first: npt.ArrayLike, second: npt.ArrayLike, name: str = "truth") -> tuple[FloatArray, FloatArray]:
    a, b = checked("scores", first), checked(name, second)
    if len(a) != len(b) or len(a) == 0:
        raise ArgumentError(f"{len(a)} scores and {len(b)} of {name}: the numbers must be equal, and 1 at least")
    return a, b
