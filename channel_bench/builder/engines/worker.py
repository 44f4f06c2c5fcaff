"""A worker process of the local engine: reads stacks of jobs, trains them, makes each run durable, answers.

Both ways one line of JSON per stack. `engines.local` starts it as ``python -m channel_bench.builder.engines.worker``;
a program of its own, so that nobody's script has to guard its main module. It ends when its input ends, also in the
middle of a training: a worker never outlives the builder that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
from pathlib import Path

from channel_bench.builder.engines import READY
from channel_bench.builder.engines.trainer import JobTrainer
from channel_bench.builder.store import RunStore
from channel_bench.record import Job
from channel_bench.space.own import in_worker
from channel_bench.training.datasets import load_dataset
from channel_bench.training.devices import pick_device, prepare_process


def main() -> None:
    """Serve jobs until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--space", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--trainer", required=True)
    parser.add_argument("--options", type=json.loads, required=True)
    arguments = parser.parse_args()

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not look like an answer
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()

    prepare_process(arguments.threads)
    space = in_worker(arguments.space)
    store = RunStore.open(arguments.store)
    device = pick_device(arguments.device)
    dataset = load_dataset(arguments.dataset, data_dir=arguments.data_dir, device=device)
    assert dataset.digest == store.info.dataset_digest
    trainer = JobTrainer(space, store.recipe, dataset, store, arguments.trainer, arguments.options)
    print(READY, file=answers)
    while True:
        stack = [Job(**fields) for fields in json.loads(jobs.get())]
        print(json.dumps(trainer.answer(stack)), file=answers)


def _read_jobs(jobs: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)  # the builder is gone or done; whatever is being trained now is trained again by the next


if __name__ == "__main__":
    main()
