"""The engine for one machine: worker processes that live for the whole build, one stack of jobs at a time each.

A worker that dies is replaced and its jobs are tried again; every other run is already durable. One thread per worker
keeps it fed, so there is no polling, and closing a worker's input ends it at once.
"""

from __future__ import annotations

import json
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from channel_bench.builder.engines import MAX_RETRIES, READY, TRAINER, Attempt, Outcome, Retries, Work, look_up
from channel_bench.builder.store import RunStore
from channel_bench.errors import BuildError
from channel_bench.record import Job
from channel_bench.space.own import for_worker

IDLE_S = 0.2
"""How often a worker without a job asks for one, while other builders still hold some."""


@dataclass
class _Slot:
    """Place of one worker process, which comes and goes."""

    device: str
    worker: subprocess.Popen[str] | None = None


class LocalEngine:
    """Worker processes on this machine.

    Args:
        store: The run store; workers write their own parts into it.
        dataset: Data set as `load_dataset` takes it.
        devices: Devices; workers are dealt to them in turn.
        num_workers: Processes.
        threads: CPU threads of each; results depend on it in the last bits, so 1 is the default everywhere.
        data_dir: Folder of downloaded data.
        max_retries: How often a job is tried again after its worker died or failed.
        options: Further keywords of the function that trains.
        trainer: That function, as "module:function".
    """

    def __init__(
        self,
        *,
        store: RunStore,
        dataset: str,
        devices: Sequence[str],
        num_workers: int,
        threads: int = 1,
        data_dir: Path | None = None,
        max_retries: int = MAX_RETRIES,
        options: dict[str, Any] | None = None,
        trainer: str = TRAINER,
    ) -> None:
        """Remember how to start workers; none is started yet."""
        self._command = [sys.executable, "-m", "channel_bench.builder.engines.worker", "--store", str(store.folder)]
        self._command += ["--dataset", dataset, "--threads", str(threads)]
        self._command += ["--trainer", trainer, "--options", json.dumps(options or {})]
        self._command += ["--space", for_worker(store.space)]
        if data_dir is not None:
            self._command += ["--data-dir", str(data_dir)]
        # Workers find the package where this process found it, installed or not.
        root = str(Path(__file__).parents[3])
        paths = [root, os.environ.get("PYTHONPATH", "")]
        self._environment = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        self._devices = devices
        self._num_workers = num_workers
        self._store = store
        self._retries = Retries(max_retries)
        self._processes: set[subprocess.Popen[str]] = set()
        self._stopping = threading.Event()

    def run(self, work: Work) -> Generator[Outcome, None, None]:
        """Train all that the work hands out; yield each job's outcome as soon as its run is durable.

        Raises:
            BuildError: No threads could be started.
            StorageError: The folder refused.
        """
        # An exception is the work's own and ends the run; None says that a feeder has ended.
        events: queue.SimpleQueue[Outcome | Exception | None] = queue.SimpleQueue()
        feeders: list[threading.Thread] = []
        try:
            for number in range(min(self._num_workers, len(work))):
                slot = _Slot(self._devices[number % len(self._devices)])
                feeder = threading.Thread(target=self._feed, args=(slot, work, events), daemon=True)
                try:
                    feeder.start()
                except RuntimeError as error:  # "can't start new thread"
                    raise BuildError(f"cannot run {self._num_workers} workers: {error}; ask for fewer") from None
                feeders.append(feeder)
            num_feeding = len(feeders)
            while num_feeding:
                event = events.get()
                if isinstance(event, Exception):
                    raise event
                if event is None:
                    num_feeding -= 1
                else:
                    yield event
        finally:
            self._stopping.set()
            for process in list(self._processes):
                process.kill()
            for feeder in feeders:
                feeder.join()

    def _feed(self, slot: _Slot, work: Work, events: queue.SimpleQueue[Outcome | Exception | None]) -> None:
        """Keep one worker busy until nothing is waiting; every job that is taken gets exactly one outcome."""
        try:
            while not self._stopping.is_set():
                jobs = work.take()
                if jobs:
                    self._train(slot, jobs, events)
                elif work.is_over:
                    break
                else:
                    self._stopping.wait(IDLE_S)
        except Exception as error:
            events.put(error)
        self._end_worker(slot)
        events.put(None)

    def _train(self, slot: _Slot, jobs: Sequence[Job], events: queue.SimpleQueue[Outcome | Exception | None]) -> None:
        """Try a stack, and what failed of it again, until each job has its outcome."""
        pending = dict.fromkeys(jobs)
        attempts = deque([Attempt(jobs)])
        try:
            while attempts and not self._stopping.is_set():
                attempt = attempts.popleft()
                final = self._retries.refuse(attempt)
                if final is None:
                    final, again = self._retries.settle(attempt, self._try(slot, attempt.jobs))
                    attempts.extend(again)
                for outcome in final:
                    del pending[outcome.job]
                    events.put(outcome)
        except Exception as error:  # without an outcome for each job the builder would wait forever
            for job in pending:
                events.put(Outcome(job, "failed", error=f"the builder could not hand it out: {error!r}", num_tries=1))

    def _try(self, slot: _Slot, jobs: Sequence[Job]) -> list[Outcome]:
        """Train jobs on the slot's worker, or on a new one; an outcome per job."""
        try:
            slot.worker = slot.worker or self._start_worker(slot.device)
            if slot.worker is None:
                error = "its worker process could not start; its own error message is above"
                return [Outcome(job, "failed", error=error) for job in jobs]
            results = self._ask(slot.worker, jobs)
        except (OSError, ValueError, TypeError) as error:
            results = [Outcome(job, "failed", error=f"its worker process could not be used: {error}") for job in jobs]
        if any(result.status == "failed" for result in results):
            # After a failure the process is not trusted again: a CUDA error, for one, poisons all that follow. What is
            # not worth another try, a full disk for one, is none of its doing.
            if any(result.status == "failed" and result.retry for result in results):
                self._end_worker(slot)
            # And it may have failed after some of the runs were durable, before it could say so.
            results = [look_up(self._store, result) if result.status == "failed" else result for result in results]
        return results

    def _start_worker(self, device: str) -> subprocess.Popen[str] | None:
        """Start a process and wait until it is set up; None where it does not get that far."""
        process = subprocess.Popen(
            [*self._command, "--device", device],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C reaches every process of the terminal's group, also one that is only importing. The builder alone
            # decides when workers end; in a group of their own they do not see it.
            start_new_session=True,
        )
        self._processes.add(process)
        assert process.stdout is not None
        if not self._stopping.is_set() and process.stdout.readline().strip() == READY:
            return process
        self._end_worker(_Slot(device, process))
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
            error = f"its worker process died ({_cause(worker)})"
            return [Outcome(job, "failed", error=error, host=platform.node()) for job in jobs]
        return [Outcome(job, **answer) for job, answer in zip(jobs, json.loads(line), strict=True)]


def _cause(worker: subprocess.Popen[str]) -> str:
    """How a process that closed its pipe ended."""
    try:
        code = worker.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "it stopped answering"
    if code == -signal.SIGKILL:
        return "killed, as the system does with a process when memory runs out"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
