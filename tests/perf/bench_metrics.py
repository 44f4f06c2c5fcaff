"""What a bootstrap of many methods costs, and how fast Kendall is beside scipy.

    python tests/perf/bench_metrics.py [--archs 16384] [--methods 10] [--replicates 1000] [--json]

Accuracies of three runs and scores are synthetic, with the noise and the steps of the published ResNet table; nothing
is downloaded. The bootstrap resamples architectures and runs and computes Kendall, Spearman and Pearson of every method
in every replicate. scipy's Kendall alone is timed in turns with it, on pairs of the same length; the ratio says what
the same number of calls to scipy would have cost, without Spearman, Pearson and the resampling. Ratios are of CPU time,
which other work on the machine changes little; the seconds of the bootstrap are those of the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
from scipy import stats

from channel_bench.support.processes import num_cores
from harness.stats.bootstrap import bootstrap
from harness.stats.ranks import dense_ranks, kendall_of_ranks

ROUNDS = 5


def timed(function, *arguments, **options) -> tuple[float, float]:
    """Seconds by the clock and of CPU, all threads together."""
    started, before = time.perf_counter(), time.process_time()
    function(*arguments, **options)
    return time.perf_counter() - started, time.process_time() - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archs", type=int, default=16384)
    parser.add_argument("--methods", type=int, default=10)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    truth = 93 + 0.3 * rng.normal(size=arguments.archs)
    cells = (truth[:, None] + 0.16 * rng.normal(size=(arguments.archs, 3))).round(2)
    methods = {f"method {i}": (truth + 0.1 * (i + 1) * rng.normal(size=arguments.archs)).round(2) for i in range(99)}
    methods = dict(list(methods.items())[: arguments.methods])
    scores, means = methods["method 0"], cells.mean(1)
    ranks = dense_ranks(scores), dense_ranks(means)
    bootstrap(methods, cells, num_replicates=2)  # warm up
    share = max(1, arguments.replicates // ROUNDS)
    ours, theirs, rounds = [], [], []
    for number in range(ROUNDS):
        rounds.append(timed(bootstrap, methods, cells, num_replicates=share, seed=number))
        for _ in range(20):
            theirs.append(timed(stats.kendalltau, scores, means)[1])
            ours.append(timed(kendall_of_ranks, *ranks)[1])
    wall, cpu = np.sum(rounds, axis=0).tolist()
    replicates = share * ROUNDS
    scipy_s = statistics.median(theirs)
    found = {
        "archs": arguments.archs,
        "methods": len(methods),
        "replicates": replicates,
        "cores": num_cores(),
        "bootstrap_s": wall,
        "bootstrap_cpu_s": cpu,
        "kendall_ms": 1e3 * statistics.median(ours),
        "scipy_ms": 1e3 * scipy_s,
        "kendall_times_scipy": scipy_s / statistics.median(ours),
        "bootstrap_times_scipy": scipy_s * replicates * len(methods) / cpu,
    }
    if arguments.json:
        print(json.dumps(found))
        return
    print(
        f"{replicates:,} replicates of {len(methods)} methods, {arguments.archs:,} architectures:"
        f" {wall:.1f} s on {num_cores()} cores ({cpu:.1f} s of CPU), {found['bootstrap_times_scipy']:.1f}x as fast as"
        " scipy's Kendall alone"
    )
    print(
        f"Kendall of ranks {found['kendall_ms']:.2f} ms, scipy.stats.kendalltau {found['scipy_ms']:.2f} ms:"
        f" {found['kendall_times_scipy']:.1f}x"
    )


if __name__ == "__main__":
    main()
