"""How fast optimisers run on the table: 500 searches of 200 trainings, beside the same searches by `Table.accuracy`.

    python tests/perf/bench_optimise.py

Processor time of this process; the ratios compare paths of this run. The other path is what a script would write that
asks the table for one architecture after another: it converts and checks each one.
"""

from __future__ import annotations

import time

import numpy as np

import channel_bench as cb
from harness.optimise.judge import outcome_of
from harness.optimise.replay import Replay
from harness.optimiser import OPTIMISERS

NUM_SEARCHES, NUM_TRAININGS = 500, 200
PYTHON_ONLY = ("random_search", "regularised_evolution", "local_search")


def by_accuracy(name: str, replay: Replay, num_searches: int) -> None:
    """The same questions, answered by `Table.accuracy`."""
    table, optimiser = replay.table, OPTIMISERS.make(name)
    for seed in range(num_searches):
        optimiser.start(replay.domain, np.random.default_rng(seed))
        told: dict[int, float] = {}
        for _ in range(20 * NUM_TRAININGS):
            if len(told) == NUM_TRAININGS:
                break
            trial = optimiser.ask()
            told[trial.arch] = table.accuracy({"index": trial.arch}, run=seed % table.num_runs)
            optimiser.tell(trial, (told[trial.arch],))


def main() -> None:
    """Print a line per optimiser."""
    replay = Replay(cb.load("resnet-mini"), float(NUM_TRAININGS))
    replay.search(OPTIMISERS.make("random_search"), 0)
    print(f"{NUM_SEARCHES} searches of {NUM_TRAININGS} trainings on resnet-mini, processor time")
    for name in PYTHON_ONLY:
        optimiser = OPTIMISERS.make(name)
        started = time.process_time()
        traces = [replay.search(optimiser, seed) for seed in range(NUM_SEARCHES)]
        ours = time.process_time() - started
        started = time.process_time()
        outcome_of(name, traces, replay)
        judged = time.process_time() - started
        started = time.process_time()
        by_accuracy(name, replay, NUM_SEARCHES // 10)
        other = 10 * (time.process_time() - started)
        print(
            f"{name:22s} {ours:6.2f} s, judged in {judged:5.2f} s; by Table.accuracy {other:6.2f} s, {other / ours:5.1f}x"
        )


if __name__ == "__main__":
    main()
