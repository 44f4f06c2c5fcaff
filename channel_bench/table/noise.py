"""The noise of training runs, from the runs themselves: what seeds alone do to an accuracy.

    >>> cells = table.cells()                    # (num_archs, num_runs), NaN where a run is missing
    >>> run_variance(cells), variance_of_means(run_variance(cells), num_runs(cells))
    >>> LocalNoise(cells, 0.01).std(94.0)        # of a run of an architecture with this mean

Everything that speaks of noise builds on this module: the comparison of two tables, the explorer, the check by
retraining and, in the judge, reliability and ceilings. The model throughout is accuracy of a run = a_i + e_ir, with the
true accuracy a_i of architecture i and the independent noise e_ir of its seed. Arrays in, numbers out.
"""

from __future__ import annotations

import math

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.space import FloatArray, IntArray

NUM_GRID = 300
"""Points of the grid that true accuracies are estimated on."""
NUM_NEIGHBOURS = 512
"""Architectures that a local estimate pools."""


# -- runs that are there --------------------------------------------------------------------------------------------


def num_runs(cells: FloatArray) -> IntArray:
    """Finished runs of each architecture, int64 (num_archs,)."""
    return np.isfinite(cells).sum(1)


def run_means(cells: FloatArray) -> FloatArray:
    """Mean over the finished runs of each architecture, percent, (num_archs,); NaN where it has none."""
    there = np.isfinite(cells)
    counts = there.sum(1)
    sums = np.where(there, cells, 0.0).sum(1)
    return np.divide(sums, counts, out=np.full(len(cells), np.nan), where=counts > 0)


def run_stds(cells: FloatArray) -> FloatArray:
    """Standard deviation over the runs of each architecture (ddof=1), (num_archs,); NaN below two runs."""
    stds = np.full(len(cells), np.nan)
    several = num_runs(cells) > 1
    stds[several] = np.nanstd(cells[several], axis=1, ddof=1)
    return stds


def squared_deviations(cells: FloatArray) -> FloatArray:
    """Sum of squared deviations of runs from their architecture's mean, (num_archs,); 0 for a single run."""
    return np.asarray(np.nansum(_deviations(cells) ** 2, 1))


def _deviations(cells: FloatArray) -> FloatArray:
    return cells - run_means(cells)[:, None]


# -- one number for all architectures -------------------------------------------------------------------------------


def run_variance(cells: FloatArray) -> float | None:
    """Variance of a run around its architecture's mean, pooled over architectures (ANOVA, within groups).

    Squared deviations over their degrees of freedom, sum of (k_i - 1) for k_i runs of architecture i.

    Args:
        cells: Percent, float (num_archs, num_runs), NaN where a run is missing, at least one run in each row.

    Returns:
        Squared percentage points; None where no architecture has two runs.
    """
    free = int((num_runs(cells) - 1).sum())
    return float(np.nansum(_deviations(cells) ** 2)) / free if free else None


def pooled_std(cells: FloatArray) -> float | None:
    """The square root of `run_variance`, from the standard deviations of the architectures.

    The two sum the same squares in another order and may differ in the last bit. The explorer shows these deviations
    beside the pooled one, and its pages keep the number that they have had.

    Returns:
        Percentage points; None where no architecture has two runs.
    """
    counts = num_runs(cells)
    several = counts > 1
    if not several.any():
        return None
    squares = (run_stds(cells)[several] ** 2 * (counts[several] - 1)).sum()
    return math.sqrt(squares / (counts[several] - 1).sum())


def variance_of_means(variance: float, counts: IntArray) -> float:
    """Noise variance that means over runs carry on average, if a run carries `variance`.

    Args:
        variance: From `run_variance`.
        counts: Runs of each architecture, (num_archs,), at least 1.
    """
    return variance * float((1 / counts).mean())


def reliability_of_means(means: FloatArray, noise: float) -> float:
    """Share of the variance of means that is not noise, 1 - noise / variance, in [0, 1]; 0 where all are equal.

    The judge's `harness.stats.noise.reliability` gives the same share with its confidence interval, and NaN instead of
    0 where it is undefined: two tables can be compared there, a ceiling cannot be drawn.
    """
    total = float(means.var(ddof=1))
    return min(1.0, max(0.0, 1 - noise / total)) if total > 0 else 0.0


# -- noise that depends on the accuracy -----------------------------------------------------------------------------


class LocalNoise:
    """How much runs of an architecture scatter, by accuracy: narrow networks are noisier than wide ones.

    Args:
        cells: Accuracy of each trained architecture and run, float64 (num_archs, num_runs), NaN where missing.
        resolution: Least standard deviation, percentage points: one test image, because a few runs may agree exactly.

    Raises:
        ArgumentError: No architecture has two runs.
    """

    def __init__(self, cells: FloatArray, resolution: float) -> None:
        """Sort the architectures that have repeated runs by their means."""
        self.cells, self.resolution = cells, resolution
        self.counts, self.means = num_runs(cells), run_means(cells)
        several = np.flatnonzero(self.counts > 1)
        if len(several) == 0:
            raise ArgumentError("the table has single runs only: without repeated runs, what seeds change is unknown")
        several = several[np.argsort(self.means[several], kind="stable")]
        self._means = self.means[several]
        self._squares = np.concatenate([[0.0], np.cumsum(squared_deviations(cells[several]))])
        self._freedom = np.concatenate([[0], np.cumsum(self.counts[several] - 1)])
        self._width = min(NUM_NEIGHBOURS, len(several))
        self.freedom = int((self._freedom[self._width :] - self._freedom[: -self._width]).min())
        """Least degrees of freedom that a pooled variance has."""

    def std(self, mean: float) -> float:
        """Standard deviation of a run whose architecture has this mean, percentage points.

        Pooled over the NUM_NEIGHBOURS architectures whose means are nearest.
        """
        start = int(np.searchsorted(self._means, mean)) - self._width // 2
        start = min(max(start, 0), len(self._means) - self._width)
        end = start + self._width
        # Centre the window by distance and not by rank: the nearest ones, at the ends of the range as well.
        while start > 0 and mean - self._means[start - 1] < self._means[end - 1] - mean:
            start, end = start - 1, end - 1
        while end < len(self._means) and self._means[end] - mean < mean - self._means[start]:
            start, end = start + 1, end + 1
        variance = (self._squares[end] - self._squares[start]) / (self._freedom[end] - self._freedom[start])
        return max(math.sqrt(variance), self.resolution)


# -- true accuracies, behind the noise ------------------------------------------------------------------------------
#
# Shrinking the means towards their mean would not do: where many architectures crowd together most of their spread is
# noise, and where few lie far out hardly any is. So both functions below estimate the distribution of true accuracies
# by nonparametric maximum likelihood (Kiefer and Wolfowitz 1956), by expectation-maximisation on a grid. There are two
# because they answer different questions: two tables are compared under one noise variance for all architectures, which
# may be borrowed from the other table; a ceiling needs the noise at each accuracy, which is estimated along with it.


def true_distribution(means: FloatArray, noise: float, num_steps: int = 300) -> tuple[FloatArray, FloatArray]:
    """Distribution of noiseless means, where all means carry the same normal noise.

    Args:
        means: Observed means, (num_archs,).
        noise: Variance of the noise that they carry.
        num_steps: Steps of expectation-maximisation.

    Returns:
        Grid values and their probabilities, (NUM_GRID,) each; the means themselves where there is no noise.
    """
    if noise <= 0 or means.min() == means.max():
        values, counts = np.unique(means, return_counts=True)
        return values, counts / counts.sum()
    counts, edges = np.histogram(means, bins=4 * NUM_GRID)
    centres = (edges[:-1] + edges[1:]) / 2
    values = np.linspace(means.min(), means.max(), NUM_GRID)
    likelihood = np.exp(-((centres[:, None] - values) ** 2) / (2 * noise)) + 1e-300
    weights = np.full(NUM_GRID, 1 / NUM_GRID)
    for _ in range(num_steps):
        posterior = likelihood * weights
        weights = (counts / counts.sum()) @ (posterior / posterior.sum(1, keepdims=True))
    return values, weights / weights.sum()


def true_distribution_and_noise(cells: FloatArray, num_steps: int = 100) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distribution of true accuracies, and the noise of a run at each of them.

    The variance at a grid point is that of all runs, weighted by how likely their architecture's true accuracy is that
    point.

    Args:
        cells: Percent, float (num_archs, num_runs), NaN where missing; one run in each row, two in some.
        num_steps: Steps of expectation-maximisation.

    Returns:
        Grid of true accuracies, their probabilities, and the standard deviation of a run at each: (NUM_GRID,) each.
    """
    means, counts = run_means(cells), num_runs(cells)
    edges = np.linspace(means.min(), means.max(), 4 * NUM_GRID + 1)
    bins = np.clip(np.searchsorted(edges, means, side="right") - 1, 0, len(edges) - 2)
    num_archs, free, squares = (
        np.bincount(bins, weights, minlength=len(edges) - 1)
        for weights in (None, counts - 1, squared_deviations(cells))
    )
    there = num_archs > 0
    centres = (edges[:-1] + edges[1:])[there] / 2
    num_archs, free, squares = num_archs[there], free[there], squares[there]
    values = np.linspace(means.min(), means.max(), NUM_GRID)
    weights = np.full(NUM_GRID, 1 / NUM_GRID)
    stds = np.full(NUM_GRID, math.sqrt(squares.sum() / free.sum()))
    for step in range(num_steps):
        if step % 10 == 0:
            # No narrower than a cell of the grid, or what lies between two grid points would be likely at neither.
            widths = np.maximum(stds * math.sqrt(float((1 / counts).mean())), values[1] - values[0])
            likelihood = np.exp(-(((centres[:, None] - values) / widths) ** 2) / 2) / widths + 1e-300
        posterior = likelihood * weights
        posterior /= posterior.sum(1, keepdims=True)
        weights = num_archs @ posterior / num_archs.sum()
        stds = np.sqrt((squares @ posterior) / np.maximum(free @ posterior, 1e-300))
    return values, weights / weights.sum(), stds
