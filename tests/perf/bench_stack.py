"""How much it saves to train small networks together, or by the native trainer: runs per second against one at a time.

    python tests/perf/bench_stack.py [--epochs 2]

One CPU thread, both mini spaces, neighbouring architectures of middle width; the stacks and the single runs take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import channel_bench as cb
from channel_bench.recipe import get_recipe
from channel_bench.record import Job
from channel_bench.training.datasets import load_dataset
from channel_bench.training.native import reason_not, train_native
from channel_bench.training.run import train_run, train_stack

ROUNDS = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    recipe = get_recipe("mini", epochs=parser.parse_args().epochs)
    full = get_recipe("mini").epochs / recipe.epochs
    torch.set_num_threads(1)
    digits = load_dataset("digits")
    for name in ("resnet-mini", "mobilenet-mini"):
        space = cb.get_space(name)
        jobs = [Job(f"23323{a}{b}", 0, 0) for a in "1234" for b in "1234"]
        train_run(space, jobs[0].arch, recipe, 0, digits)  # first calls pay for choosing kernels
        trainers = {f"stack of {size:2}": (train_stack, jobs[:size]) for size in (2, 4, 8, 16)}
        reason = reason_not(space, recipe, digits)
        if reason is None:
            trainers["native     "] = (train_native, jobs[7:8])
        else:
            print(f"no native trainer: {reason}")
        for kind, (train, some) in trainers.items():
            train(space, some, recipe, digits)
            ratios, stacked_s = [], []
            for _ in range(ROUNDS):
                started = time.perf_counter()
                train_run(space, jobs[7].arch, recipe, 0, digits)
                middle = time.perf_counter()
                train(space, some, recipe, digits)
                stacked_s.append((time.perf_counter() - middle) / len(some))
                ratios.append((middle - started) / stacked_s[-1])
            per_run = full * statistics.median(stacked_s)
            print(f"{name:15} {kind}: {per_run:5.3f} s per run of the mini recipe, {statistics.median(ratios):5.2f}x")


if __name__ == "__main__":
    main()
