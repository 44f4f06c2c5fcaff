"""What the theories of a space cost, beside the plain way that ranks every candidate.

    python tests/perf/bench_theories.py [--space mobilenet] [--rounds 3] [--json]

Both ways take turns in one process of one thread, and so does the mean of theories, the free baseline. Times are of CPU,
medians over rounds; the results of both ways are held against each other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # threads of a matrix product that wait for each other would count as work

import numpy as np  # noqa: E402

import channel_bench as cb  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))

from slow_theories import slow_theories  # noqa: E402

from harness.stats.theories import _theories, mean_of_theories, theories  # noqa: E402


def timed(function, space):
    """Seconds of CPU, and what the function gives when it has nothing in memory."""
    _theories.cache_clear()
    mean_of_theories.cache_clear()
    started = time.process_time()
    found = function(space)
    return time.process_time() - started, found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    space = cb.get_space(arguments.space)
    seconds: dict[str, list[float]] = {"slow": [], "fast": [], "mean": []}
    for _ in range(arguments.rounds):
        for name, function in (("slow", slow_theories), ("fast", theories), ("mean", mean_of_theories)):
            spent, found = timed(function, space)
            seconds[name].append(spent)
            if name == "slow":
                names, scores, _ = found
            elif name == "fast":
                assert found.names == names and np.array_equal(found.scores, scores)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    ratios = {name: median["slow"] / median[name] for name in ("fast", "mean")}
    if arguments.json:
        found = {f"{name}_cpu_s": each for name, each in median.items()}
        print(json.dumps({"space": space.name, "theories": len(names), **found, "times_slow": ratios}))
        return
    print(
        f"{len(names)} theories of {space.name}, seconds of CPU: every candidate ranked {median['slow']:.2f}, by some"
        f" architectures first {median['fast']:.2f} ({ratios['fast']:.1f}x), their mean alone {median['mean']:.2f}"
        f" ({ratios['mean']:.1f}x)"
    )


if __name__ == "__main__":
    main()
