"""How much sharing saves when all sub-networks of a supernet are scored: shared stages against one by one.

    python tests/perf/bench_scoring.py [--archs 1024]

Both paths score the same consecutive architectures of the mini spaces on the 300 held-out digits, in turn; the
weights are untrained, which changes no time. The ratio is the median over rounds of (one by one) / (shared).
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from channel_bench.datasets import load_dataset
from harness.exhaustive import SupernetEvaluator
from harness.task import make_task
from harness.training import make_supernet

ROUNDS = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archs", type=int, default=1024)
    num_archs = parser.parse_args().archs
    torch.set_num_threads(1)
    digits = load_dataset("digits")
    for name in ("resnet-mini", "mobilenet-mini"):
        task = make_task(name, digits)
        archs = task.space.archs()[:num_archs]
        net = make_supernet(task)
        times: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(ROUNDS):
            scores = {}
            for share in (True, False):
                evaluator = SupernetEvaluator(net, task, share=share)
                started = time.perf_counter()
                scores[share] = evaluator.score(archs)
                times[share].append(time.perf_counter() - started)
            assert np.array_equal(scores[True], scores[False])
        ratio = statistics.median(slow / fast for slow, fast in zip(times[False], times[True], strict=True))
        shared = 1e3 * statistics.median(times[True]) / num_archs
        print(
            f"{name:15} {shared:6.2f} ms per architecture shared, {ratio:5.2f}x as fast as one by one (n = {num_archs})"
        )


if __name__ == "__main__":
    main()
