"""How noisy the truth is, and so how high any score can reach: reliability, ceilings, and scores that saw a run.

    >>> noise = reliability(table.cells())
    >>> ceilings(noise.of_mean).kendall               # no scorer can be expected to exceed it
    >>> leave_one_run_out(scores, table.cells())      # does a score contain the noise of one of the runs?

The model is one-way random effects: accuracy of a run = a_i + e_ir, with the true accuracy a_i of architecture i, which
endless retraining would average to, and the noise e_ir of its seed, independent of everything else. `Reliability` is
the share of variance that a_i has. A scorer that knew a_i exactly would correlate with the noisy label by its square
root; this is the ceiling. Kendall and Spearman follow in closed form where a and e are normally distributed, and by
simulation (`simulated_ceilings`) where they are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError
from channel_bench.space import FloatArray
from channel_bench.table.noise import run_means, run_variance, true_distribution_and_noise, variance_of_means
from channel_bench.table.ranks import rounded
from harness.stats.metrics import Correlations, checked, correlations, kendall
from harness.stats.ranks import pearson_of

LEVEL = 0.95
NUM_SIMULATIONS = 20
LEAK_SHARE = 0.15
"""A score is said to contain a run where it follows the run's noise by this share of what a copy does, ..."""
LEAK_Z = 4.0
"""... and by this many standard errors. The first is needed because real tables do not quite fit the model: in the
published MobileNet table run 2 is a little better on large networks than runs 0 and 1, and FLOPs follow its "noise" by
4 standard errors, which is .09 of what a copy does; the mean of two runs follows each by about .26."""


# -- how much of the variance is noise ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reliability:
    """Variance components of the accuracies of a table."""

    num_archs: int
    num_runs: int
    """The most that an architecture has."""
    run_std: float
    """Standard deviation of a run around the true accuracy of its architecture, pooled, percentage points."""
    mean_std: float
    """Standard deviation of the means over runs between architectures (ddof=1), percentage points."""
    of_mean: float
    """Share of the variance of the means that is not noise, in [0, 1]; NaN where all means are equal."""
    of_run: float
    """The same of single runs."""
    low: float
    """Confidence interval of `of_mean`, exact for normal noise and equally many runs."""
    high: float
    level: float


def reliability(accuracies: npt.ArrayLike, level: float = LEVEL) -> Reliability:
    """Reliability of accuracies from runs of the same architectures (one-way random effects, ANOVA estimates).

    Noise variance s^2: squared deviations from the architecture's mean, over their degrees of freedom. A mean over k
    runs carries s^2 / k. With V the variance of the means, the share that is true is 1 - mean(s^2 / k) / V; negative
    estimates are 0. The interval follows from the F distribution of V / (s^2 / k) (Searle 1971).

    Args:
        accuracies: float (num_archs, num_runs); NaN where a run is missing, at least one run in each row.
        level: Of the confidence interval.

    Raises:
        ArgumentError: A row has no run, a value is infinite, there are fewer than 2 architectures, none has two runs
            (the noise is unknown), or the level is not between 0 and 1.
    """
    from scipy import stats

    cells, counts = _checked_cells(accuracies)
    if len(cells) < 2:
        raise ArgumentError(f"reliability needs at least 2 architectures, got {len(cells)}")
    if not 0 < level < 1:
        raise ArgumentError(f"level of an interval is {level!r}: allowed are numbers between 0 and 1")
    free, noise = int((counts - 1).sum()), run_variance(cells)
    if noise is None:
        raise ArgumentError("every architecture has one run: how noisy they are is unknown")
    of_a_mean = variance_of_means(noise, counts)
    total = float(run_means(cells).var(ddof=1))
    between = max(0.0, total - of_a_mean)
    shares = (math.nan,) * 4
    if total > 0:
        ratios = stats.f.ppf([(1 + level) / 2, (1 - level) / 2], len(cells) - 1, free)
        low, high = (max(0.0, 1 - of_a_mean / total * ratio) for ratio in ratios)
        shares = between / total, between / (between + noise) if between + noise > 0 else math.nan, low, high
    return Reliability(len(cells), cells.shape[1], math.sqrt(noise), math.sqrt(total), *shares, level=level)


# -- ceilings -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ceilings:
    """Correlations that a scorer which knew every true accuracy would have with the noisy labels."""

    pearson: float
    spearman: float
    kendall: float


def ceilings(share: float) -> Ceilings:
    """Ceilings of labels of a given reliability R, in closed form.

    Pearson sqrt(R), whatever the distributions; for normal ones Spearman 6/pi asin(sqrt(R)/2) (Pearson 1907) and
    Kendall 2/pi asin(sqrt(R)) (Greiner 1909).

    Args:
        share: `Reliability.of_mean`, or `of_run` where one run is the label; NaN gives NaN.

    Raises:
        ArgumentError: It is not in [0, 1].
    """
    if math.isnan(share):
        return Ceilings(math.nan, math.nan, math.nan)
    if not 0 <= share <= 1:
        raise ArgumentError(f"reliability is {share!r}: allowed are 0 to 1")
    root = math.sqrt(share)
    return Ceilings(root, 6 / math.pi * math.asin(root / 2), 2 / math.pi * math.asin(root))


def fraction_of_ceiling(found: Correlations, ceiling: Ceilings) -> Ceilings:
    """Each correlation over its ceiling; NaN where the ceiling is 0 or either is not defined. The sign stays.

    A little more than 1 can be luck, or labels that are not normal; clearly more means that the score has seen the
    labels.
    """
    return Ceilings(
        *(
            getattr(found, name) / getattr(ceiling, name) if getattr(ceiling, name) > 0 else math.nan
            for name in ("pearson", "spearman", "kendall")
        )
    )


@dataclass(frozen=True)
class Simulation:
    """Ceilings by Monte Carlo, and what the same simulated labels say of quantities that can be checked."""

    of_mean: Ceilings
    """Of the mean over runs."""
    of_run: Ceilings
    """Of a single run."""
    kendall_error: float
    """Monte Carlo standard error of `of_mean.kendall`."""
    run_to_run: float
    """Kendall between two runs as simulated; to be held against that between two runs of the table."""
    num_simulations: int


def simulated_ceilings(
    accuracies: npt.ArrayLike, *, num_simulations: int = NUM_SIMULATIONS, seed: int = 0
) -> Simulation:
    """Ceilings by simulating true accuracies and runs.

    The simulation is like the table: true accuracies are distributed as maximum likelihood says (Kiefer and
    Wolfowitz 1956, on a grid), a run scatters around them as runs of similarly accurate architectures do, and labels
    are rounded to the steps in which the table has them, one test image. `run_to_run` checks it: within .001 of the
    published tables. In `resnet-mini`, where the worst architectures are 5 times as noisy as the best, it is .577
    against .600, because noise right below 100% is not normal but leans down (constant noise would give .48); to
    simulate logarithms of error rates instead makes that .597 and moves the ceiling by less than .001.

    Where all means are equal, nothing is defined and everything is NaN.

    Args:
        accuracies: As `reliability`.
        num_simulations: How many tables to simulate, >= 1.
        seed: Of the simulation.

    Raises:
        ArgumentError: As `reliability`; or the number of simulations is below 1.
    """
    if num_simulations < 1:
        raise ArgumentError(f"number of simulations is {num_simulations}: allowed are 1 and above")
    found = reliability(accuracies)
    if math.isnan(found.of_mean):
        unknown = ceilings(math.nan)
        return Simulation(unknown, unknown, math.nan, math.nan, num_simulations)
    cells, counts = _checked_cells(accuracies)
    num_archs, num_runs = cells.shape
    step = _step(cells)
    values, weights, stds = true_distribution_and_noise(cells)
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(num_simulations):
        chosen = rng.choice(len(values), num_archs, p=weights)
        truth = values[chosen] + (rng.random(num_archs) - 0.5) * (values[1] - values[0])
        runs = truth[:, None] + stds[chosen][:, None] * rng.normal(size=(num_archs, num_runs))
        runs = np.round(runs / step) * step if step > 0 else runs
        single, other = runs[:, 0].copy(), runs[:, 1].copy()
        runs[np.arange(num_runs) >= rng.permutation(counts)[:, None]] = np.nan
        pair = correlations(truth, run_means(runs)), correlations(truth, single)
        rows.append([getattr(each, name) for each in pair for name in ("pearson", "spearman", "kendall")])
        rows[-1].append(kendall(single, other))
    table = np.array(rows)
    averages = table.mean(0).tolist()
    error = float(table[:, 2].std(ddof=1) / math.sqrt(len(table))) if len(table) > 1 else math.nan
    return Simulation(Ceilings(*averages[:3]), Ceilings(*averages[3:6]), error, averages[6], num_simulations)


def _step(cells: FloatArray) -> float:
    """Distance of neighbouring values where all are multiples of one (100 / number of test images), else 0."""
    values = np.unique(rounded(cells[np.isfinite(cells)]))
    if len(values) < 3:
        return 0.0
    least = float(np.diff(values).min())
    whole = np.ptp(values)
    step = whole / round(whole / least)
    parts = (values - values[0]) / step
    return step if np.abs(parts - parts.round()).max() < 0.1 else 0.0


# -- runs that a score has seen -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunCheck:
    """A score against one run, and against the others."""

    run: int
    with_run: float
    """Kendall with this run."""
    with_others: float
    """Kendall with the mean of the other runs: the honest figure for a score that contains this run."""
    noise_correlation: float
    """Pearson correlation of the score with (this run - mean of the others), which is noise and nothing else: 0 but for
    chance where the score has not seen the run."""
    share_of_copy: float
    """`noise_correlation` over that of the run itself: 1 for a copy of the run."""
    z: float
    """`noise_correlation` in standard errors that hold for unequal noise, too (White 1980)."""
    flagged: bool
    """Whether the score contains the run: share_of_copy >= LEAK_SHARE and z >= LEAK_Z."""


@dataclass(frozen=True)
class LeaveOneRunOut:
    """Whether a score contains the noise of a run that it is scored against."""

    checks: list[RunCheck]
    """One for each run."""
    n: int
    """Architectures that have all runs; the others cannot take part."""

    @property
    def flagged(self) -> list[int]:
        """Runs that the score contains."""
        return [check.run for check in self.checks if check.flagged]


def leave_one_run_out(scores: npt.ArrayLike, accuracies: npt.ArrayLike) -> LeaveOneRunOut:
    """Hold a score against each run and against the mean of the others.

    A score that was made from a run follows its noise, and correlates with a mean that contains this run better than
    with new runs: .78 instead of .66 in the published tables. Against the mean of the others it is judged fairly. A
    score that contains all runs alike follows none more than the others and is not found here, but by exceeding the
    ceiling.

    Args:
        scores: float (num_archs,).
        accuracies: float (num_archs, num_runs), NaN where a run is missing.

    Raises:
        ArgumentError: Shapes differ, a score is not finite, there are fewer than two runs, or fewer than 3
            architectures have all of them.
    """
    cells = np.asarray(accuracies, np.float64)
    values = checked("scores", scores)
    if cells.ndim != 2 or cells.shape[1] < 2:
        raise ArgumentError(f"accuracies have shape {cells.shape}: allowed is (num_archs, num_runs), 2 runs or more")
    if len(values) != len(cells):
        raise ArgumentError(f"{len(values)} scores for {len(cells)} architectures: the numbers must be equal")
    complete = np.isfinite(cells).all(1)
    if complete.sum() < 3:
        raise ArgumentError(
            f"{int(complete.sum())} architectures have all {cells.shape[1]} runs: at least 3 are needed"
        )
    cells, values = cells[complete], values[complete]
    values = values / max(float(np.abs(values).max()), 5e-324)  # no result depends on their size, but squares overflow
    checks = []
    for run in range(cells.shape[1]):
        own, others = cells[:, run], np.delete(cells, run, 1).mean(1)
        noise = own - others
        found, copy = pearson_of(values, noise), pearson_of(own, noise)
        products = (values - values.mean()) * (noise - noise.mean())
        error = math.sqrt(float((products**2).sum()))
        z = float(products.sum()) / error if error > 0 else math.nan
        share = found / copy if copy > 0 else math.nan
        checks.append(
            RunCheck(
                run=run,
                with_run=kendall(values, own),
                with_others=kendall(values, others),
                noise_correlation=found,
                share_of_copy=share,
                z=z,
                flagged=share >= LEAK_SHARE and z >= LEAK_Z,
            )
        )
    return LeaveOneRunOut(checks, len(values))


# -- arguments -----------------------------------------------------------------------------------------------------


def _checked_cells(accuracies: npt.ArrayLike) -> tuple[FloatArray, Any]:
    """Accuracies (num_archs, num_runs), and how many runs each architecture has."""
    cells = np.asarray(accuracies, np.float64)
    if cells.ndim != 2:
        raise ArgumentError(f"accuracies have shape {cells.shape}: allowed is (num_archs, num_runs)")
    if np.isinf(cells).any():
        raise ArgumentError("an accuracy is infinite")
    counts = np.isfinite(cells).sum(1)
    if len(cells) and (counts == 0).any():
        raise ArgumentError(f"architecture at position {int(np.argmin(counts))} has no run")
    return cells, counts
