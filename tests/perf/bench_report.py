"""What a whole report costs: `channel-harness report` on ten files, beside scipy's correlations for the same intervals.

    python tests/perf/bench_report.py [--methods 10] [--replicates 1000] [--no-figures] [--json]

Ten files of synthetic scores of `resnet-mini`, the table that comes with the package, are judged by the command line in
a process of its own, from starting Python to the last file on disk: page, figures, Markdown, LaTeX, JSON. In turns with
it, scipy.stats.kendalltau, spearmanr and pearsonr are timed on pairs of the same length; the ratio says what these alone
would cost for as many replicates of as many rows (methods and free baselines), on one core, without the resampling.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import stats

import channel_bench as cb
from channel_bench.support.processes import num_cores
from harness.judge.baselines import BASELINES
from harness.scores import make_scores, write_scores

NUM_CALLS = 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", type=int, default=10)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--no-figures", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    table = cb.load("resnet-mini")
    truth, rng = table.accuracies(), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number in range(arguments.methods):
            values = (truth + (2 + number) * rng.normal(size=len(truth))).round(2)
            files.append(Path(folder, f"method{number}.parquet"))
            write_scores(make_scores(f"method{number}", table.space, np.arange(len(truth)), values), files[-1])
        out = Path(folder, "report")
        command = [sys.executable, "-m", "harness.cli", "report", *map(str, files), "--space", "resnet-mini"]
        command += ["-o", str(out), "--replicates", str(arguments.replicates)]
        command += ["--no-figures"] * arguments.no_figures
        scipy_s = three_correlations(values, truth)
        before = os.times()
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall, after = time.perf_counter() - began, os.times()
        size = sum(path.stat().st_size for path in out.iterdir())
        num_files = len(list(out.iterdir()))
        scipy_s = min(scipy_s, three_correlations(values, truth))
    rows = arguments.methods + len(BASELINES)
    found = {
        "methods": arguments.methods,
        "replicates": arguments.replicates,
        "cores": num_cores(),
        "report_s": wall,
        "report_cpu_s": after.children_user + after.children_system - before.children_user - before.children_system,
        "files": num_files,
        "bytes": size,
        "scipy_s": scipy_s * rows * arguments.replicates,
    }
    found["times_scipy"] = found["scipy_s"] / found["report_cpu_s"]
    if arguments.json:
        print(json.dumps(found))
        return
    print(
        f"report on {arguments.methods} methods and {len(BASELINES)} baselines, {arguments.replicates:,} replicates:"
        f" {wall:.1f} s on {num_cores()} cores ({found['report_cpu_s']:.1f} s of CPU), {num_files} files, {size / 1e6:.1f} MB"
    )
    print(
        f"scipy's three correlations alone: {found['scipy_s']:.0f} s of CPU, extrapolated from {2 * NUM_CALLS};"
        f" {found['times_scipy']:.1f}x the CPU time of the whole report"
    )


def three_correlations(scores: np.ndarray, truth: np.ndarray) -> float:
    """Seconds of CPU that scipy takes for Kendall, Spearman and Pearson of one pair."""
    began = time.process_time()
    for _ in range(NUM_CALLS):
        stats.kendalltau(scores, truth)
        stats.spearmanr(scores, truth)
        stats.pearsonr(scores, truth)
    return (time.process_time() - began) / NUM_CALLS


if __name__ == "__main__":
    main()
