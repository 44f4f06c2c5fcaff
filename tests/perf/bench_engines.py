"""What an engine costs beside the work: tasks that only sleep, through the local engine and through Ray.

    python tests/perf/bench_engines.py [--tasks 200] [--seconds 2] [--workers 2] [--blocks 4]

Both engines take turns in blocks of equal size; each keeps its workers only for its block, so starting them counts, and
once more without that start: from the first outcome of a block to its last. Everything else is as in a build: leases,
durable parts, records.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # workers import sleep_jobs from here

import os

import channel_bench as cb
from channel_bench.builder.engines.local import LocalEngine
from channel_bench.builder.engines.ray import RayEngine
from channel_bench.builder.leases import Leases
from channel_bench.builder.store import RunStore
from channel_bench.builder.work import SharedWork
from channel_bench.recipe import get_recipe
from channel_bench.record import CURVE_METRICS, Job, RunRecord
from channel_bench.support.cluster import Cluster
from channel_bench.training.datasets import load_dataset

TRAINER = "bench_engines:sleep_jobs"


def sleep_jobs(space, jobs, recipe, dataset, seconds):
    """Trains nothing, for a while."""
    time.sleep(seconds * len(jobs))
    facts = {
        "num_epochs": recipe.epochs,
        "train_s": seconds,
        "device": "cpu",
        "torch": None,
        "stack": 1,
        "backend": None,
    }
    curves = dict.fromkeys(CURVE_METRICS, [1.0] * recipe.epochs)
    return [
        RunRecord.from_curves(
            curves,
            arch=job.arch,
            run=job.run,
            seed=job.seed,
            flops=space.flops(job.arch),
            params=space.params(job.arch),
            **facts,
        )
        for job in jobs
    ]


def measure(name, store, num_tasks, num_workers, options, dataset, cluster):
    """Wall seconds of a block, and those from its first outcome on."""
    jobs = [Job(store.space.text(number), 0, 0) for number in range(num_tasks)]
    common = {"store": store, "options": options, "trainer": TRAINER}
    with Leases(store.folder) as leases:
        work = SharedWork(store, leases, [[job] for job in jobs])
        if name == "local":
            engine = LocalEngine(dataset="digits", devices=["cpu"], num_workers=num_workers, **common)
        else:
            engine = RayEngine(cluster, dataset=dataset, token=leases.token, **common)
        started = time.perf_counter()
        moments = []
        for outcome in engine.run(work):
            assert outcome.status == "ok", outcome
            work.finish(outcome.job, done=True)
            moments.append(time.perf_counter())
    assert len(store.keys()) == num_tasks
    return moments[-1] - started, moments[-1] - moments[num_workers - 1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=4)
    arguments = parser.parse_args()
    folder = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))
    dataset = load_dataset("digits")
    options = {"seconds": arguments.seconds}
    size = arguments.tasks // arguments.blocks
    whole, steady = {"local": 0.0, "ray": 0.0}, {"local": 0.0, "ray": 0.0}
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as temporary,
        Cluster(None, "cpu", most_workers=arguments.workers) as cluster,
    ):
        print(f"a Ray cluster of this machine starts in {time.perf_counter() - started:.1f} s")
        for block in range(arguments.blocks):
            for name in ("local", "ray") if block % 2 == 0 else ("ray", "local"):
                place = Path(temporary) / f"{name}{block}"
                space = cb.get_space("resnet-mini")
                store = RunStore.create(place, space, get_recipe("mini", epochs=1), "digits", dataset.digest)
                times = measure(name, store, size, arguments.workers, options, dataset, cluster)
                whole[name] += times[0]
                steady[name] += times[1]
                print(f"block {block} {name:5}: {times[0]:7.2f} s, after the first tasks {times[1]:7.2f} s", flush=True)
    least = size * arguments.blocks * arguments.seconds / arguments.workers
    print(
        f"{size * arguments.blocks} tasks of {arguments.seconds} s on {arguments.workers} workers: at least {least} s"
    )
    for label, sums in (("with the start of workers", whole), ("after the first tasks", steady)):
        ratio = 100 * (sums["ray"] / sums["local"] - 1)
        print(f"{label}: local {sums['local']:.2f} s, ray {sums['ray']:.2f} s, ray {ratio:+.2f}%")


if __name__ == "__main__":
    main()
