"""Engines hand jobs to processes that train them; a store's folder is the queue and the truth, so they only launch.

An engine is anything with ``run(stacks of jobs) -> iterator of Outcome``; ``local`` is the one for this machine.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from channel_bench.record import Job

READY = "ready"
"""First line of a worker process that is set up."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    job: Job
    status: str
    """A status of record.STATUSES, or "failed": there is no record, and `error` says why."""
    best_test_acc: float | None = None
    error: str = ""
    retry: bool = True
    """Whether a failed job is worth another try."""


class Engine(Protocol):
    """Trains jobs; each finished one is durable before its outcome is yielded."""

    def run(self, stacks: Sequence[Sequence[Job]]) -> Generator[Outcome, None, None]:
        """Train all jobs, those of a stack together, in any order; yield an outcome for each job, once."""
        ...
