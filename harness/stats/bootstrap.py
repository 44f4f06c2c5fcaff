"""How sure a correlation is: bootstrap over architectures and over runs, and a paired test between two methods.

    >>> found = bootstrap({"mine": scores, "flops": flops}, table.cells())
    >>> found.interval("mine")                        # Kendall, 95%
    >>> found.difference("mine", "flops").p_value

What is resampled is part of the question:

- ``archs``: the architectures are a sample of all that might have been trained. They are drawn with replacement, each
  with its score and its accuracy, so that the noise of the accuracies takes part as it is.
- ``runs``: the architectures are fixed, and each might have been trained with other seeds. For each, its runs are drawn
  with replacement. The mean of k drawn runs scatters by a factor (k - 1) / k less in variance than that of k new ones;
  its deviation is scaled up to make good for that. An architecture with a single run stays as it is.
- both, the default: wider than either, because the noise of accuracies enters twice.

`over_seeds` adds how several supernets of one method scatter.

Resampling runs puts noise on top of noise, which lowers every correlation; the replicates are therefore compared with
their own mean, and the interval lies around the estimate. All methods see the same replicates, which is what makes
differences between them sharp.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, unknown_name
from channel_bench.space import FloatArray
from channel_bench.support.memory import keep_temporaries
from channel_bench.support.processes import num_cores
from harness.stats.concordance import Ordered, Rankings
from harness.stats.metrics import checked
from harness.stats.ranks import IntArray

NUM_REPLICATES = 1000
LEVEL = 0.95
OVER = ("archs", "runs")
CORRELATIONS = ("kendall", "spearman", "pearson")


@dataclass(frozen=True)
class Interval:
    """A confidence interval around an estimate."""

    estimate: float
    low: float
    high: float
    standard_error: float
    """From the scatter of the replicates, and of supernets where there are several."""
    level: float
    num_undefined: int
    """Replicates in which the metric was not defined (a constant sample), which take no part."""


@dataclass(frozen=True)
class Difference:
    """First minus second method, on the same replicates."""

    interval: Interval
    p_value: float
    """Of no difference, two-sided: the estimate over its standard error, by the normal distribution; by the t
    distribution where supernets differ by their seeds (`over_seeds`)."""

    def reversed(self) -> Difference:
        """Second minus first."""
        mine = self.interval
        turned = dataclasses.replace(mine, estimate=-mine.estimate, low=-mine.high, high=-mine.low)
        return Difference(turned, self.p_value)


@dataclass(frozen=True)
class Bootstrap:
    """Metrics of methods on the data, and on resampled data."""

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    over: tuple[str, ...]
    estimates: FloatArray
    """On the data, (num_methods, num_metrics)."""
    replicates: FloatArray
    """On resampled data, (num_replicates, num_methods, num_metrics)."""
    bounds: tuple[tuple[float, float], ...]
    """What the metrics cannot exceed."""
    seed_variances: FloatArray
    """Of the mean over supernets, by their scatter, (num_methods, num_metrics); 0 where there is one."""
    num_seeds: IntArray
    """Supernets of each method, (num_methods,)."""

    def interval(self, method: str, metric: str = "kendall", level: float = LEVEL) -> Interval:
        """Confidence interval of a metric of one method.

        Quantiles of the replicates around the estimate. With several supernets, quantiles of the t distribution times
        the standard error, which has the scatter of replicates and of supernets.

        Raises:
            UnknownNameError: No such method or metric.
            ArgumentError: The level is not between 0 and 1.
        """
        row, column = self._row(method), self._column(metric)
        values = self.replicates[:, row, column]
        seeds = [(float(self.seed_variances[row, column]), int(self.num_seeds[row]))]
        return _interval(float(self.estimates[row, column]), values, level, *self.bounds[column], seeds)[0]

    def difference(self, first: str, second: str, metric: str = "kendall", level: float = LEVEL) -> Difference:
        """Whether two methods differ: interval and test of the metric of the first minus that of the second.

        Raises:
            UnknownNameError: No such method or metric.
            ArgumentError: The level is not between 0 and 1.
        """
        a, b, column = self._row(first), self._row(second), self._column(metric)
        estimate = float(self.estimates[a, column] - self.estimates[b, column])
        values = self.replicates[:, a, column] - self.replicates[:, b, column]
        width = self.bounds[column][1] - self.bounds[column][0]
        seeds = [(float(self.seed_variances[row, column]), int(self.num_seeds[row])) for row in {a, b}]
        interval, free = _interval(estimate, values, level, -width, width, [] if a == b else seeds)
        return Difference(interval, _p_value(interval, free))

    def _row(self, method: str) -> int:
        if method not in self.methods:
            raise unknown_name("method", method, self.methods)
        return self.methods.index(method)

    def _column(self, metric: str) -> int:
        if metric not in self.metrics:
            raise unknown_name("metric", metric, self.metrics)
        return self.metrics.index(metric)


def _interval(
    estimate: float,
    replicates: FloatArray,
    level: float,
    low: float,
    high: float,
    seeds: Sequence[tuple[float, int]],
) -> tuple[Interval, float]:
    """An interval and its degrees of freedom, from replicates and the (variance, number) of supernets."""
    from scipy import special

    if not 0 < level < 1:
        raise ArgumentError(f"level of an interval is {level!r}: allowed are numbers between 0 and 1")
    known = replicates[np.isfinite(replicates)]
    num_undefined = len(replicates) - len(known)
    if math.isnan(estimate) or len(known) < 2:
        return Interval(estimate, math.nan, math.nan, math.nan, level, num_undefined), math.inf
    scatter = [(variance, number) for variance, number in seeds if variance > 0]
    total = float(known.var(ddof=1)) + sum(variance for variance, _ in scatter)
    error, free = math.sqrt(total), math.inf
    if scatter:
        # Welch's of the supernets alone. What else the total holds is known well, but to credit that would lend degrees
        # of freedom to a variance that two or three supernets estimate badly: less would be covered than is said.
        seeds_alone = sum(variance for variance, _ in scatter)
        free = seeds_alone**2 / sum(variance**2 / (number - 1) for variance, number in scatter)
        ends = estimate + special.stdtrit(free, [(1 - level) / 2, (1 + level) / 2]) * error
    else:
        ends = estimate + np.quantile(known - known.mean(), [(1 - level) / 2, (1 + level) / 2])
    least, most = np.clip(ends, low, high).tolist()
    return Interval(estimate, least, most, error, level, num_undefined), free


def _p_value(interval: Interval, free: float) -> float:
    """Two-sided p of no difference; NaN where that is not defined."""
    from scipy import special

    if math.isnan(interval.standard_error):
        return math.nan
    if interval.standard_error == 0:
        return 1.0 if interval.estimate == 0 else 0.0
    ratio = -abs(interval.estimate) / interval.standard_error
    return float(2 * (special.ndtr(ratio) if math.isinf(free) else special.stdtr(free, ratio)))


def bootstrap(
    methods: Mapping[str, npt.ArrayLike],
    accuracies: npt.ArrayLike,
    *,
    over: Collection[str] = OVER,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
    num_threads: int | None = None,
    on_replicate: Callable[[], object] | None = None,
) -> Bootstrap:
    """Kendall, Spearman and Pearson of methods with the mean over runs, on the data and on resampled data.

    Args:
        methods: Scores by name, float (n,) each.
        accuracies: Of every run, float (n, num_runs), NaN where a run is missing and at least one run in each row; or
            one value per architecture, float (n,).
        over: What to resample, of OVER.
        num_replicates: How often, >= 1.
        seed: Of the resampling, >= 0. Replicates do not depend on the methods, nor on the number of threads.
        num_threads: Threads to share the work; None for one per core that this process may use.
        on_replicate: Called after each replicate.

    Raises:
        ArgumentError: Shapes or numbers are out of range, a score is not finite, an architecture has no run, or runs
            are to be resampled and no architecture has two.
    """
    names = tuple(methods)
    labels = Labels(accuracies)
    columns = [checked(f"scores of {name!r}", methods[name]) for name in names]
    if not names:
        raise ArgumentError("no scores to resample: give at least one method")
    for name, column in zip(names, columns, strict=True):
        if len(column) != len(labels):
            raise ArgumentError(f"{len(column)} scores of {name!r} for {len(labels)} architectures")
    if len(labels) < 2:
        raise ArgumentError(f"a correlation needs at least 2 architectures, got {len(labels)}")
    unknown = [what for what in over if what not in OVER]
    if unknown or not over:
        raise ArgumentError(f"cannot resample over {unknown or 'nothing'}: allowed are {' and '.join(OVER)}")
    if "runs" in over and not (labels.num_runs > 1).any():
        raise ArgumentError("runs cannot be resampled: no architecture has two; take over=('archs',)")
    for what, number, least in (("replicates", num_replicates, 1), ("threads", num_threads or 1, 1), ("seed", seed, 0)):
        if not isinstance(number, (int, np.integer)) or isinstance(number, bool) or number < least:
            raise ArgumentError(f"{what} of a bootstrap: got {number!r}, allowed are integers of {least} and above")
    prepared = _Methods.of(columns)
    keep_temporaries()
    each = np.ones(len(labels), np.intp)
    replicate = partial(_replicate, prepared, labels, tuple(over), seed)
    replicates = run_replicates(replicate, num_replicates, num_threads, on_replicate)
    return Bootstrap(
        methods=names,
        metrics=CORRELATIONS,
        over=tuple(what for what in OVER if what in over),
        estimates=_measure(prepared, labels.means, each),
        replicates=replicates,
        bounds=((-1.0, 1.0),) * len(CORRELATIONS),
        seed_variances=np.zeros((len(names), len(CORRELATIONS))),
        num_seeds=np.ones(len(names), np.intp),
    )


def run_replicates(
    replicate: Callable[[int], FloatArray],
    num_replicates: int,
    num_threads: int | None = None,
    on_replicate: Callable[[], object] | None = None,
) -> FloatArray:
    """Results of a function of the replicate's number, stacked in that order: (num_replicates, ...).

    Args:
        replicate: Spends its time in NumPy, which lets other threads run.
        num_replicates: Numbers 0, 1, ... below it.
        num_threads: None for one per core that this process may use.
        on_replicate: Called after each.
    """
    rows = []
    with ThreadPoolExecutor(num_threads or num_cores()) as pool:
        try:
            for row in pool.map(replicate, range(num_replicates)):
                rows.append(row)
                if on_replicate is not None:
                    on_replicate()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C must not wait for the rest
            raise
    return np.array(rows)


def over_seeds(found: Bootstrap, groups: Mapping[str, Sequence[str]]) -> Bootstrap:
    """Put rankings of several supernets of one method together: the mean over them, and how they scatter.

    Supernets are few, three as a rule, so they are not resampled: quantiles of so few say little. The variance of their
    mean, s^2 / k, is added to that of the replicates, and intervals and tests are by the t distribution with the
    degrees of freedom of the supernets (k - 1; of a difference after Welch 1947): never narrower than by the seeds
    alone. A method with one supernet stays as it is, and its interval says nothing of others.

    Args:
        found: Of every ranking by itself.
        groups: Names in `found` of each method's rankings, one at least.

    Returns:
        Of the methods; `over` also has "seeds" where a method has several rankings.

    Raises:
        UnknownNameError: `found` has no ranking of a name.
    """
    rows = [[found._row(name) for name in names] for names in groups.values()]
    variances = [
        found.estimates[each].var(0, ddof=1) / len(each) if len(each) > 1 else np.zeros(len(found.metrics))
        for each in rows
    ]
    return dataclasses.replace(
        found,
        methods=tuple(groups),
        over=(*found.over, "seeds") if any(len(each) > 1 for each in rows) else found.over,
        estimates=np.array([found.estimates[each].mean(0) for each in rows]),
        replicates=np.stack([found.replicates[:, each].mean(1) for each in rows], 1),
        seed_variances=np.array(variances),
        num_seeds=np.array([len(each) for each in rows]),
    )


class Labels:
    """Accuracies of runs, ready to be resampled.

    Args:
        accuracies: float (num_archs, num_runs), NaN where a run is missing; or one value for each, (num_archs,).

    Raises:
        ArgumentError: The shape is another, a value is infinite, or an architecture has no run.
    """

    means: FloatArray
    """Over the runs that are there, (num_archs,)."""
    num_runs: IntArray
    """Runs of each architecture, (num_archs,)."""

    def __init__(self, accuracies: npt.ArrayLike) -> None:
        """Put the runs that are there first."""
        cells = np.asarray(accuracies, np.float64)
        cells = cells[:, None] if cells.ndim == 1 else cells
        if cells.ndim != 2:
            raise ArgumentError(f"accuracies have shape {cells.shape}: allowed is (num_archs, num_runs)")
        if np.isinf(cells).any():
            raise ArgumentError("an accuracy is infinite")
        there = np.isfinite(cells)
        self.num_runs = there.sum(1)
        if (self.num_runs == 0).any():
            raise ArgumentError(f"architecture at position {int(np.argmin(self.num_runs))} has no run")
        self._cells = np.take_along_axis(cells, np.argsort(~there, axis=1, kind="stable"), axis=1)  # missing ones last
        self._firsts = np.arange(cells.size, step=cells.shape[1])[:, None]
        self._taken = np.arange(cells.shape[1]) < self.num_runs[:, None]
        self.means = self._mean(self._cells)
        with np.errstate(divide="ignore"):
            self._scale = np.where(self.num_runs > 1, np.sqrt(self.num_runs / (self.num_runs - 1)), 0.0)

    def __len__(self) -> int:
        """Number of architectures."""
        return len(self.means)

    def _mean(self, cells: FloatArray) -> FloatArray:
        return np.asarray(np.where(self._taken, cells, 0.0).sum(1) / self.num_runs)

    def resampled(self, rng: np.random.Generator) -> FloatArray:
        """Means over runs that are drawn with replacement, with the spread of k new runs, (num_archs,)."""
        # The largest float32 below 1, times k, is still below k.
        drawn = (rng.random(self._cells.shape, np.float32) * self.num_runs[:, None].astype(np.float32)).astype(np.intp)
        means = self._mean(self._cells.reshape(-1)[self._firsts + drawn])
        return self.means + self._scale * (means - self.means)


def _replicate(
    methods: _Methods,
    labels: Labels,
    over: tuple[str, ...],
    seed: int,
    number: int,
) -> FloatArray:
    """Metrics on resampled data, (num_methods, num_metrics); the same for a seed and number whatever else is done."""
    rng = np.random.default_rng([seed, number])
    num_archs = len(labels)
    copies = np.ones(num_archs, np.intp)
    if "archs" in over:
        copies = np.bincount(rng.integers(0, num_archs, num_archs), minlength=num_archs)
    truth = labels.resampled(rng) if "runs" in over else labels.means
    return _measure(methods, truth, copies)


def _measure(methods: _Methods, truth: FloatArray, copies: IntArray) -> FloatArray:
    """Metrics of the methods on `copies` copies of each architecture, (num_methods, num_metrics).

    Each copy is a unit of weight, and what the correlations have to know of the truth is computed once for all methods.
    """
    weights = copies.astype(np.float64)
    total = weights.sum()
    label = Ordered(truth)
    scaled = _scaled(truth)
    values = scaled - _sum_of_products(weights, scaled) / total
    ranks, rank_squares = _rank_deviations(label.ranks, weights)
    weighted_values, weighted_ranks = weights * values, weights * ranks[label.ranks]
    value_squares = _sum_of_products(weighted_values, values)
    found = np.full((len(methods.scaled), len(CORRELATIONS)), math.nan)
    found[:, 0] = methods.rankings.kendall(label, copies)
    for row in np.flatnonzero(~np.isnan(found[:, 0])):  # neither is constant
        method_ranks, method_values = methods.rankings.ranks[row], methods.scaled[row]
        own, squares = _rank_deviations(method_ranks, weights)
        product = float((own * np.bincount(method_ranks, weighted_ranks)).sum())
        found[row, 1] = _cosine(product, squares, rank_squares)
        own = method_values - _sum_of_products(weights, method_values) / total
        squares = _sum_of_products(weights * own, own)
        found[row, 2] = _cosine(_sum_of_products(weighted_values, own), squares, value_squares)
    return found


def _rank_deviations(ranks: npt.NDArray[np.integer], weights: FloatArray) -> tuple[FloatArray, float]:
    """By dense rank: average rank among weighted copies, minus the mean of all; and the weighted sum of its squares."""
    counts = np.bincount(ranks, weights)
    deviations = np.cumsum(counts) - counts / 2 - counts.sum() / 2
    return deviations, float((counts * deviations**2).sum())


def _sum_of_products(a: FloatArray, b: FloatArray) -> float:
    # Not by BLAS, whose threads cost a hundred times as much as they save on arrays of this size when cores are busy.
    return float(np.einsum("i,i->", a, b))


def _cosine(product: float, a: float, b: float) -> float:
    """Correlation from sums of products and of squares; NaN where the latter vanish in the range of floating point."""
    return max(-1.0, min(1.0, product / math.sqrt(a * b))) if a * b > 0 else math.nan


class _Methods(NamedTuple):
    """Scores, and everything about them that all replicates share."""

    scaled: list[FloatArray]
    rankings: Rankings

    @classmethod
    def of(cls, columns: list[FloatArray]) -> _Methods:
        return cls([_scaled(column) for column in columns], Rankings(columns))


def _scaled(values: FloatArray) -> FloatArray:
    """Deviations from the middle, within -1 and 1: no sum of squares overflows, and hardly one vanishes."""
    low, high = values.min() / 2, values.max() / 2
    return np.asarray((values / 2 - (low + high) / 2) / max(high - low, 5e-324))
