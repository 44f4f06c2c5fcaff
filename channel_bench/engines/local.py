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
from dataclasses import asdict, dataclass
from pathlib import Path

from channel_bench.engines import READY, Outcome
from channel_bench.errors import BuildError, ChannelBenchError
from channel_bench.record import Job
from channel_bench.store import RunStore

MAX_LOST_IN_A_ROW = 10
"""After so many runs in a row that failed with all their retries the rest is not tried: it would cost seconds each."""


@dataclass
class _Slot:
    """Place of one worker process, which comes and goes."""

    worker: subprocess.Popen[str] | None = None


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
        self._counting = threading.Lock()
        self._num_lost_in_a_row = 0

    def run(self, stacks: Sequence[Sequence[Job]]) -> Generator[Outcome, None, None]:
        """Train all stacks in the order given; yield each job's outcome as soon as its run is durable."""
        waiting = deque(stacks)
        outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        feeders: list[threading.Thread] = []
        try:
            for _ in range(min(self._num_workers, len(stacks))):
                feeder = threading.Thread(target=self._feed, args=(waiting, outcomes), daemon=True)
                feeder.start()
                feeders.append(feeder)
            for _ in range(sum(map(len, stacks))):
                yield outcomes.get()
        except RuntimeError as error:  # "can't start new thread"
            raise BuildError(f"cannot run {self._num_workers} workers: {error}; ask for fewer") from None
        finally:
            self._stopping = True
            for process in list(self._processes):
                process.kill()
            for feeder in feeders:
                feeder.join()

    def _feed(self, waiting: deque[Sequence[Job]], outcomes: queue.SimpleQueue[Outcome]) -> None:
        """Keep one worker busy until nothing is waiting; every job that is taken gets one outcome, come what may."""
        slot = _Slot()
        while not self._stopping:
            try:
                jobs = waiting.popleft()
            except IndexError:
                break
            pending = dict.fromkeys(jobs)
            try:
                for result in self._train(slot, jobs):
                    del pending[result.job]
                    outcomes.put(result)
            except Exception as error:  # without an outcome for each job the builder would wait forever
                for job in pending:
                    outcomes.put(Outcome(job, "failed", error=f"the builder could not hand it out: {error!r}"))
        self._end_worker(slot)

    def _train(self, slot: _Slot, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Train a stack; those of its jobs that fail are tried again one by one, so that none is lost to another."""
        retry = []
        for result in self._try(slot, jobs):
            if result.status == "failed" and result.retry and not self._stopping:
                retry.append(result)
            else:
                self._count(result)
                yield result
        for failed in retry:
            result = failed
            for _ in range(self._max_retries):
                (result,) = self._try(slot, [failed.job])
                if result.status != "failed" or not result.retry or self._stopping:
                    break
            self._count(result)
            yield result

    def _count(self, result: Outcome) -> None:
        with self._counting:
            self._num_lost_in_a_row = self._num_lost_in_a_row + 1 if result.status == "failed" else 0

    def _try(self, slot: _Slot, jobs: Sequence[Job]) -> list[Outcome]:
        """Train jobs on the slot's worker, or on a new one; an outcome per job."""
        if self._num_lost_in_a_row >= MAX_LOST_IN_A_ROW:
            error = f"not tried after {MAX_LOST_IN_A_ROW} lost runs in a row"
            return [Outcome(job, "failed", error=error, retry=False) for job in jobs]
        try:
            slot.worker = slot.worker or self._start_worker()
            if slot.worker is None:
                error = "its worker process could not start; its own words stand above"
                return [Outcome(job, "failed", error=error) for job in jobs]
            results = self._ask(slot.worker, jobs)
        except (OSError, ValueError, TypeError) as error:
            results = [Outcome(job, "failed", error=f"its worker process could not be used: {error}") for job in jobs]
        if any(result.status == "failed" for result in results):
            # After a failure the process is not trusted again: a CUDA error, for one, poisons all that follow.
            self._end_worker(slot)
            # And it may have failed after some of the runs were durable, before it could say so.
            results = [self._look_up(result) if result.status == "failed" else result for result in results]
        return results

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
        self._end_worker(_Slot(process))
        return None

    def _end_worker(self, slot: _Slot) -> None:
        if slot.worker is not None:
            self._processes.discard(slot.worker)
            slot.worker.kill()
            slot.worker.communicate()
            slot.worker = None

    def _ask(self, worker: subprocess.Popen[str], jobs: Sequence[Job]) -> list[Outcome]:
        """Give a worker a stack and wait for its answer."""
        assert worker.stdin is not None and worker.stdout is not None
        try:
            worker.stdin.write(json.dumps([asdict(job) for job in jobs]) + "\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        except OSError:
            line = ""
        if not line.endswith("\n"):
            return [Outcome(job, "failed", error="its worker process died") for job in jobs]
        return [Outcome(job, **answer) for job, answer in zip(jobs, json.loads(line), strict=True)]

    def _look_up(self, failed: Outcome) -> Outcome:
        """Outcome of a job that is said to have failed, after a look whether its run is in the store all the same."""
        key = (failed.job.arch, failed.job.run)
        try:
            record = self._store.read(key) if self._store.path(key).exists() else None
        except ChannelBenchError:
            record = None
        return failed if record is None else Outcome(failed.job, record.status, record.best_test_acc)
