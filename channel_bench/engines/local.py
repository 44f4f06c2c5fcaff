"""The engine for one machine: worker processes that live for the whole build, one stack of jobs at a time each.

A worker that dies is replaced and its jobs are tried again; every other run is already durable. One thread per worker
keeps it fed, so there is no polling, and closing a worker's input ends it at once.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path

from channel_bench.engines import READY, Outcome
from channel_bench.errors import CorruptFileError
from channel_bench.record import Job
from channel_bench.store import RunStore

MAX_FAILURES_IN_A_ROW = 10
"""After so many failed tries without one success the rest is not tried: what fails every time costs seconds each."""


class LocalEngine:
    """Worker processes on this machine.

    Args:
        store: The run store; workers write their own parts into it.
        dataset: Data set as `load_dataset` takes it.
        device: Device of every worker.
        num_workers: Processes.
        threads: CPU threads of each; results depend on it in the last bits, so 1 is the default everywhere.
        lock: Descriptor that workers inherit (`RunStore.lock`).
        data_dir: Folder of downloaded data.
        max_retries: How often a job is tried again after its worker died or failed.
    """

    def __init__(
        self,
        *,
        store: RunStore,
        dataset: str,
        device: str,
        num_workers: int,
        lock: int,
        threads: int = 1,
        data_dir: Path | None = None,
        max_retries: int = 2,
    ) -> None:
        """Remember how to start workers; none is started yet."""
        self._command = [sys.executable, "-m", "channel_bench.engines.worker", "--store", str(store.folder)]
        self._command += ["--dataset", dataset, "--device", device, "--threads", str(threads)]
        if data_dir is not None:
            self._command += ["--data-dir", str(data_dir)]
        # Workers find the package where this process found it, installed or not.
        root = str(Path(__file__).parents[2])
        paths = [root, os.environ.get("PYTHONPATH", "")]
        self._environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        self._num_workers = num_workers
        self._store = store
        self._lock = lock
        self._max_retries = max_retries
        self._processes: set[subprocess.Popen[str]] = set()
        self._stopping = False
        self._num_failures = 0

    def run(self, stacks: Sequence[Sequence[Job]]) -> Generator[Outcome, None, None]:
        """Train all stacks in the order given; yield each job's outcome as soon as its run is durable."""
        waiting = deque(stacks)
        outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        feeders = [
            threading.Thread(target=self._feed, args=(waiting, outcomes), daemon=True)
            for _ in range(min(self._num_workers, len(stacks)))
        ]
        try:
            for feeder in feeders:
                feeder.start()
            for _ in range(sum(map(len, stacks))):
                yield outcomes.get()
        finally:
            self._stopping = True
            for process in list(self._processes):
                process.kill()
            for feeder in feeders:
                feeder.join()

    def _feed(self, waiting: deque[Sequence[Job]], outcomes: queue.SimpleQueue[Outcome]) -> None:
        """Keep one worker busy until nothing is waiting; every job that is taken gets an outcome."""
        worker: subprocess.Popen[str] | None = None
        while not self._stopping:
            try:
                jobs = waiting.popleft()
            except IndexError:
                break
            for attempt in range(1 + self._max_retries):
                worker, results = self._try(worker, jobs)
                last = attempt == self._max_retries or self._stopping
                final = [result for result in results if result.status != "failed" or last or not result.retry]
                for result in final:
                    outcomes.put(result)
                jobs = [result.job for result in results if result not in final]
                if not jobs:
                    break
        if worker is not None:
            self._end_worker(worker)

    def _try(
        self, worker: subprocess.Popen[str] | None, jobs: Sequence[Job]
    ) -> tuple[subprocess.Popen[str] | None, list[Outcome]]:
        """Train jobs on a worker, a new one where there is none; the worker to go on with, and an outcome per job."""
        if self._num_failures >= MAX_FAILURES_IN_A_ROW:
            error = f"not tried after {MAX_FAILURES_IN_A_ROW} failures in a row"
            return worker, [Outcome(job, "failed", error=error, retry=False) for job in jobs]
        try:
            worker = worker or self._start_worker()
            if worker is not None:
                results = self._ask(worker, jobs)
            else:
                error = "its worker process could not start; its own words stand above"
                results = [Outcome(job, "failed", error=error) for job in jobs]
        except (OSError, ValueError, TypeError, CorruptFileError) as error:
            reason = f"its worker process could not be used: {error}"
            results = [Outcome(job, "failed", error=reason) for job in jobs]
        if all(result.status != "failed" for result in results):
            self._num_failures = 0
            return worker, results
        self._num_failures += 1
        # After a failure the process is not trusted again: a CUDA error, for one, poisons all that follow.
        if worker is not None:
            self._end_worker(worker)
        return None, results

    def _start_worker(self) -> subprocess.Popen[str] | None:
        """Start a process and wait until it is set up; None where it does not get that far."""
        process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(self._lock,),
        )
        self._processes.add(process)
        assert process.stdout is not None
        if not self._stopping and process.stdout.readline().strip() == READY:
            return process
        self._end_worker(process)
        return None

    def _end_worker(self, process: subprocess.Popen[str]) -> None:
        self._processes.discard(process)
        process.kill()
        process.communicate()

    def _ask(self, worker: subprocess.Popen[str], jobs: Sequence[Job]) -> list[Outcome]:
        """Give a worker a stack and wait for its answer."""
        assert worker.stdin is not None and worker.stdout is not None
        try:
            worker.stdin.write(json.dumps([asdict(job) for job in jobs]) + "\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        except OSError:
            line = ""
        if line.endswith("\n"):
            return [Outcome(job, **answer) for job, answer in zip(jobs, json.loads(line), strict=True)]
        return [self._look_up(job) for job in jobs]

    def _look_up(self, job: Job) -> Outcome:
        """Outcome of a job whose worker died: it may have done so after the run was durable, before it could say so."""
        key = (job.arch, job.run)
        if not self._store.path(key).exists():
            return Outcome(job, "failed", error="its worker process died")
        record = self._store.read(key)
        return Outcome(job, record.status, record.best_test_acc)
