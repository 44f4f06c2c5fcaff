"""The work of one builder: stacks of jobs, handed out under leases, shared with other builders of the same folder.

    >>> work = SharedWork(store, leases, make_stacks(space, missing, 8, 2))
    >>> jobs = work.take()  # this builder's to train until work.finish(job, done=True)

Every builder walks its own list, in its own order and stacks of its own size. A run that another one holds is kept for
later: it turns up in the folder, or its lease becomes free because the other failed or died, and then it is taken over.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from channel_bench.builder.leases import Leases
from channel_bench.builder.store import RunStore
from channel_bench.record import Job
from channel_bench.space import Space

POLL_S = 1.0
"""How often a builder with nothing else to do looks whether others have finished or died."""
JOBS_PER_SLOT = 4
"""Runs that each of several slots of a worker gets at once, at least: at the end of a hand-out some slots are idle."""


class SharedWork:
    """What is left to train; all functions may be called from any thread.

    Args:
        store: The folder.
        leases: Those of this builder.
        stacks: The stacks that this builder is to train, most urgent first.
        on_wait: Called once, from any thread, when other builders hold all runs that are left, with their number.
    """

    def __init__(
        self,
        store: RunStore,
        leases: Leases,
        stacks: Sequence[Sequence[Job]],
        on_wait: Callable[[int], None] | None = None,
    ) -> None:
        """Take no lease yet."""
        self.num_elsewhere = 0
        """Runs that turned out to be finished by other builders."""
        self._store = store
        self._leases = leases
        self._stacks = deque(stacks)
        self._stack = max(map(len, stacks), default=1)
        self._elsewhere: list[Job] = []
        self._next_look = 0.0
        self._on_wait = on_wait
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """Stacks that may still be handed out."""
        return len(self._stacks) + -(-len(self._elsewhere) // self._stack)

    @property
    def is_over(self) -> bool:
        """Whether nothing will be handed out any more."""
        with self._lock:
            return not self._stacks and not self._elsewhere

    def take(self) -> list[Job]:
        """Hand out a stack and take its leases; runs that are done or held by others are left out.

        Returns:
            Jobs; an empty list if nothing is free now, and then `is_over` says whether that may change.

        Raises:
            StorageError: The file system refused.
        """
        with self._lock:
            while self._stacks:
                jobs = self._claim(self._stacks.popleft())
                if jobs:
                    return jobs
            if not self._elsewhere or time.monotonic() < self._next_look:
                return []
            waiting, self._elsewhere = self._elsewhere, []
            waiting = [job for job in waiting if not self._is_done(job)]
            jobs = []
            while waiting and not jobs:
                jobs, waiting = self._claim(waiting[: self._stack]), waiting[self._stack :]
            self._elsewhere += waiting
            if not jobs:
                self._next_look = time.monotonic() + POLL_S
                if self._elsewhere and self._on_wait is not None:
                    self._on_wait(len(self._elsewhere))
                    self._on_wait = None
            return jobs

    def finish(self, job: Job, done: bool) -> None:
        """Let go of a job that was handed out.

        Args:
            job: The job.
            done: Whether its part is in the folder.
        """
        with self._lock:
            self._leases.release((job.arch, job.run), done)

    def _claim(self, jobs: Sequence[Job]) -> list[Job]:
        """Take what is neither done nor held by another builder."""
        missing = [job for job in jobs if not self._is_done(job)]
        taken = self._leases.take((job.arch, job.run) for job in missing)
        claimed = []
        for job in missing:
            if (job.arch, job.run) not in taken:
                self._elsewhere.append(job)
            elif self._is_done(job):  # finished by another between the look and the lease
                self._leases.release((job.arch, job.run), done=True)
            else:
                self._store.set_aside((job.arch, job.run))
                claimed.append(job)
        return claimed

    def _is_done(self, job: Job) -> bool:
        done = self._store.is_done((job.arch, job.run))
        self.num_elsewhere += done
        return done


def default_stack(space: Space) -> int:
    """Networks per stack where none is asked for: 8 in the mini spaces, whose steps are overhead; 1 in the full ones.

    On a CPU core more than 8 gain nothing (tests/perf/bench_stack.py).
    """
    return 8 if space.is_mini else 1


def make_stacks(space: Space, jobs: Sequence[Job], size: int, num_workers: int) -> list[list[Job]]:
    """Put jobs into stacks of similar widths, the longest stack first.

    A stack is padded to its widest network slot by slot, so neighbours share the widths of the slots that cost most.
    The longest first, and stacks no larger than an equal share of the work, keep all workers busy to the end.
    """
    size = max(1, min(size, -(-len(jobs) // num_workers)))
    if size > 1:
        jobs = sorted(jobs, key=lambda job: (job.arch[4], job.arch[0], job.arch[3], job.arch, job.run))
    stacks = [list(jobs[start : start + size]) for start in range(0, len(jobs), size)]
    return sorted(stacks, key=lambda stack: -sum(space.flops(job.arch) for job in stack))


def make_hand_outs(space: Space, jobs: Sequence[Job], num_slots: int, num_workers: int) -> list[list[Job]]:
    """Put jobs into hand-outs for workers with slots, the longest first; the seeds of an architecture stay together.

    They share a trainer, and on a GPU its captured graphs (training/reuse.py). A slot gets whole architectures: a
    single slot one, each of several as many as make JOBS_PER_SLOT runs. Only where that is more than an equal share of
    the work are seeds parted, so that all workers are busy.

    Args:
        space: The search space.
        jobs: In any order.
        num_slots: Runs at once in each worker, >= 1.
        num_workers: Workers, >= 1.
    """
    seeds: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: (-space.flops(job.arch), job.arch, job.run)):
        seeds.setdefault(job.arch, []).append(job)
    most = max(map(len, seeds.values()), default=1)
    per_slot = most * (-(-JOBS_PER_SLOT // most) if num_slots > 1 else 1)
    size = max(1, min(num_slots * per_slot, -(-len(jobs) // num_workers)))
    hand_outs: list[list[Job]] = []
    for group in seeds.values():
        for start in range(0, len(group), size):
            part = group[start : start + size]
            if hand_outs and len(hand_outs[-1]) + len(part) <= size:
                hand_outs[-1] += part
            else:
                hand_outs.append(part)
    return sorted(hand_outs, key=lambda jobs: -sum(space.flops(job.arch) for job in jobs))
