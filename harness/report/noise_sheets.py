"""The noise of a table as tables of text."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from channel_bench.support.terminal import print_json, print_table
from harness.judge.noise import NoiseReport


def print_noise(noise: NoiseReport, json_output: bool = False) -> None:
    """Print what the runs say of each other, and the ceilings; or everything as JSON."""
    if json_output:
        print_json(dataclasses.asdict(noise))
        return
    found, runs = noise.reliability, range(len(noise.run_means))
    print_table(
        ["run", "mean accuracy", *(f"with run {run}" for run in runs), "with the others' mean"],
        [
            [
                str(run),
                f"{noise.run_means[run]:.3f}",
                *("-" if other == run else _decimals(noise.run_to_run[run][other]) for other in runs),
                _decimals(noise.run_to_others[run]),
            ]
            for run in runs
        ],
        title=f"space {noise.space}, table {noise.table}, data set {noise.dataset}: Kendall tau-b between runs",
    )
    rows = [
        ("mean over runs", "closed form", found.of_mean, noise.ceiling_of_mean),
        ("mean over runs", "simulated", found.of_mean, noise.simulation.of_mean),
        ("single run", "closed form", found.of_run, noise.ceiling_of_run),
        ("single run", "simulated", found.of_run, noise.simulation.of_run),
    ]
    observed = np.array(noise.run_to_run)[np.triu_indices(len(runs), 1)].mean()
    notes = [
        f"truth: {noise.truth}; {found.num_archs:,} architectures",
        f"standard deviation between means {found.mean_std:.4f}, of a run around its architecture {found.run_std:.4f}"
        f" (variance {found.run_std**2:.5f})",
        f"reliability: share of the variance between architectures that is not noise; of means"
        f" {found.low:.4f} to {found.high:.4f} ({found.level:.0%} interval)",
        "noise ceiling: correlation of a scorer that knew every true accuracy; closed form: of normal distributions",
        f"simulated like the table, in which Kendall between runs is {observed:.4f}, in the simulation"
        f" {noise.simulation.run_to_run:.4f}",
        f"{noise.tied_share:.1%} of the means tie with another ({noise.tied_share_rounded:.1%} to 0.0001 points)",
    ]
    if noise.top_100_width is not None:
        notes.append(f"rank 1 and rank 100 are {noise.top_100_width:.2f} points apart")
    print()
    print_table(
        ["truth", "noise ceiling", "reliability", "Kendall", "Spearman", "Pearson"],
        [
            [what, how, *map(_decimals, (share, ceiling.kendall, ceiling.spearman, ceiling.pearson))]
            for what, how, share, ceiling in rows
        ],
        caption="\n".join(notes),
    )


def _decimals(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"
