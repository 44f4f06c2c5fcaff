"""Engines hand jobs to processes that train them; a store's folder is the queue and the truth, so they only launch.

An engine is anything with ``run(work) -> iterator of Outcome``: ``local`` is the one for this machine, ``ray`` the one
for a cluster. What they share is here: the outcome of a job, and when a failed one is tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from channel_bench.builder.store import RunStore
from channel_bench.errors import ChannelBenchError
from channel_bench.record import Job

READY = "ready"
"""First line of a worker process that is set up."""
TRAINER = "channel_bench.training.backends:train_jobs"
"""What workers call with (space, jobs, recipe, dataset, **options), as "module:function"."""
PACKED_TRAINER = "channel_bench.training.run:train_packed"
"""The same for workers that train several runs at once; records come in any order."""
MAX_RETRIES = 2
MAX_LOST_IN_A_ROW = 10
"""Consecutive lost runs (failed with all their retries) before the rest is given up; each would cost seconds."""


@dataclass(frozen=True)
class Outcome:
    """The result of a job: trained, diverged or failed."""

    job: Job
    status: str
    """A status of record.STATUSES, or "failed": there is no record, and `error` says why."""
    best_test_acc: float | None = None
    error: str = ""
    trace: str = ""
    """Last lines of the traceback, where there was one."""
    host: str = ""
    """Where a failed job failed, where that is known."""
    retry: bool = True
    """Whether a failed job is worth another try."""
    num_tries: int = 0
    """How often a failed job was tried; 0 where it was given up untried."""


def look_up(store: RunStore, failed: Outcome) -> Outcome:
    """The outcome of a job that reportedly failed; if its run is in the store all the same, that run counts."""
    key = (failed.job.arch, failed.job.run)
    try:
        record = store.read(key) if store.path(key).exists() else None
    except ChannelBenchError:
        record = None
    return failed if record is None else Outcome(failed.job, record.status, record.best_test_acc)


class Work(Protocol):
    """Where engines get jobs from (`work.SharedWork`)."""

    def __len__(self) -> int:
        """Stacks that may still be handed out."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether nothing will be handed out any more."""
        ...

    def take(self) -> list[Job]:
        """A stack to train; empty where nothing is free at the moment."""
        ...


class Engine(Protocol):
    """Trains jobs; each finished one is durable before its outcome is yielded."""

    def run(self, work: Work) -> Generator[Outcome, None, None]:
        """Train all that the work hands out, in any order; yield an outcome for each job, once.

        Raises:
            BuildError: There is nothing to train on.
            StorageError: The folder refused.
        """
        ...


@dataclass(frozen=True)
class Attempt:
    """Jobs to try together."""

    jobs: Sequence[Job]
    num_tries: int = 0
    """How often they were tried before."""


class Retries:
    """Decides what happens to jobs after a try; one for all workers of an engine.

    A stack that fails is tried again one by one, so that no job is lost to another, nor to a stack that is too large
    for the memory. Then each has `max_retries` tries in all beyond the first.

    Args:
        max_retries: How often a job is tried again after it failed or its worker died.
    """

    def __init__(self, max_retries: int) -> None:
        """Nothing is lost yet."""
        self._max_retries = max_retries
        self._num_lost_in_a_row = 0
        self._counting = threading.Lock()

    def refuse(self, attempt: Attempt) -> list[Outcome] | None:
        """Outcomes of an attempt that is not worth a try, because too many were lost before it; else None."""
        if self._num_lost_in_a_row < MAX_LOST_IN_A_ROW:
            return None
        error = f"not tried after {MAX_LOST_IN_A_ROW} lost runs in a row"
        return [Outcome(job, "failed", error=error, retry=False, num_tries=attempt.num_tries) for job in attempt.jobs]

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Attempt]]:
        """Sort a try's outcomes into those that stand and tasks to try."""
        final, again = [], []
        num_tries = attempt.num_tries + 1
        for outcome in outcomes:
            if outcome.status == "failed" and outcome.retry and num_tries <= self._max_retries:
                again.append(Attempt([outcome.job], num_tries))
                continue
            with self._counting:
                self._num_lost_in_a_row = self._num_lost_in_a_row + 1 if outcome.status == "failed" else 0
            final.append(replace(outcome, num_tries=num_tries) if outcome.status == "failed" else outcome)
        return final, again
