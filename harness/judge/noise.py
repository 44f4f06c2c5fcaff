"""The noise of a table, from its runs: everything that `channel-harness noise` shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from channel_bench.space import FloatArray
from channel_bench.table import Table
from channel_bench.table.noise import run_means
from channel_bench.table.ranks import rounded
from harness.stats.metrics import kendall
from harness.stats.noise import Ceilings, Reliability, Simulation, ceilings, reliability, simulated_ceilings


@dataclass(frozen=True)
class NoiseReport:
    """Everything that the runs of a table say about its noise."""

    space: str
    table: str
    dataset: str
    truth: str
    """Which accuracy it is, in words."""
    reliability: Reliability
    ceiling_of_mean: Ceilings
    """Closed form."""
    ceiling_of_run: Ceilings
    simulation: Simulation
    run_means: list[float]
    """Mean accuracy of each run, percent."""
    run_to_run: list[list[float]]
    """Kendall of run i with run j, on the architectures that have both; 1 on the diagonal."""
    run_to_others: list[float]
    """Kendall of each run with the mean of the others, on the architectures that have all."""
    tied_share: float
    """Share of architectures whose mean accuracy another one has, too."""
    tied_share_rounded: float
    """The same of means to 0.0001 points, which undoes what single precision did to them."""
    top_100_width: float | None
    """Accuracy of rank 1 minus that of rank 100, points; None with fewer than 100 architectures."""


def report_noise(table: Table, metric: str = "best_test_acc") -> NoiseReport:
    """Noise of a table from its runs.

    Raises:
        ArgumentError: No such metric, or too few runs to tell.
        MissingDataError: The table does not have the metric.
    """
    cells = table.cells(metric)
    cells = cells[np.isfinite(cells).any(1)]
    found = reliability(cells)
    num_runs = cells.shape[1]
    between = np.eye(num_runs)
    for i, j in combinations(range(num_runs), 2):
        both = np.isfinite(cells[:, [i, j]]).all(1)
        between[i, j] = between[j, i] = kendall(cells[both, i], cells[both, j]) if both.sum() > 1 else math.nan
    complete = cells[np.isfinite(cells).all(1)]
    with_others = [
        kendall(complete[:, run], np.delete(complete, run, 1).mean(1)) if len(complete) > 1 else math.nan
        for run in range(num_runs)
    ]
    means = run_means(cells)
    ordered = np.sort(means)[::-1]
    return NoiseReport(
        space=table.space.name,
        table=table.name,
        dataset=table.info.dataset,
        truth=table.meaning(metric),
        reliability=found,
        ceiling_of_mean=ceilings(found.of_mean),
        ceiling_of_run=ceilings(found.of_run),
        simulation=simulated_ceilings(cells),
        run_means=np.nanmean(cells, 0).tolist(),
        run_to_run=between.tolist(),
        run_to_others=with_others,
        tied_share=_tied_share(means),
        tied_share_rounded=_tied_share(rounded(means)),
        top_100_width=float(ordered[0] - ordered[99]) if len(ordered) >= 100 else None,
    )


def _tied_share(values: FloatArray) -> float:
    counts = np.unique(values, return_counts=True)[1]
    return float(counts[counts > 1].sum() / len(values))
