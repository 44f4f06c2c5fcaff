"""The engine for a cluster: one long-lived Ray actor per CPU core or per share of a GPU, one stack at a time each.

    with Cluster("auto", device="auto", threads=1, workers_per_gpu=1) as cluster:
        for outcome in RayEngine(cluster, store=store, dataset=data, token=leases.token).run(work): ...

Workers that see the folder of runs write their parts into it themselves; others send their records to the driver, which
writes them. A worker that dies, alone or with its node, is replaced where there is room, and its jobs are tried again.
The number of workers follows the cluster as nodes join and leave. Workers end with the driver.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channel_bench._version import __version__
from channel_bench.builder.engines import MAX_RETRIES, TRAINER, Attempt, Outcome, Retries, Work, look_up
from channel_bench.builder.store import RunStore
from channel_bench.errors import ChannelBenchError
from channel_bench.record import Job, RunRecord
from channel_bench.space.own import for_worker
from channel_bench.support.cluster import Cluster, death

if TYPE_CHECKING:
    from channel_bench.training.datasets import Dataset

POLL_S = 0.2
"""How long to wait for an answer before looking around."""
RESIZE_S = 2.0
"""How often the number of workers is fitted to the cluster."""
MAX_FAILED_STARTS = 3
"""Consecutive failed starts of workers before the build stops."""


@dataclass(frozen=True)
class _Setup:
    """What a worker must know about the build."""

    folder: Path
    token: Path
    """A file in the folder that no other folder has."""
    space: str
    """As `channel_bench.space.own.for_worker` writes it."""
    recipe: dict[str, Any]
    on_gpu: bool
    threads: int
    trainer: str
    options: dict[str, Any]


class Worker:
    """The actor: trains stacks of jobs.

    Args:
        setup: What the worker must know about the build.
        dataset: The images; they come through Ray's object store, once per node.
    """

    def __init__(self, setup: _Setup, dataset: Dataset) -> None:
        """Put the images on the device, and see whether the folder of runs is here."""
        from channel_bench.builder.engines.trainer import JobTrainer
        from channel_bench.recipe import Recipe
        from channel_bench.space.own import in_worker
        from channel_bench.training.devices import prepare_process

        prepare_process(setup.threads)
        self._sees_folder = setup.token.exists()
        store = RunStore.open(setup.folder) if self._sees_folder else None
        images = dataset.to("cuda" if setup.on_gpu else "cpu")
        space, recipe = in_worker(setup.space), Recipe.from_dict(setup.recipe)
        self._trainer = JobTrainer(space, recipe, images, store, setup.trainer, setup.options)

    def version(self) -> str:
        """Of this package, on this node."""
        return __version__

    def answer(self, jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Train a stack (`JobTrainer.answer`)."""
        return self._trainer.answer([Job(**fields) for fields in jobs])


class RayEngine:
    """Workers on a Ray cluster.

    Args:
        cluster: The connection.
        store: The run store.
        dataset: Images, on the CPU.
        token: A file in the store's folder that no other folder has; workers that see it write their own parts.
        threads: CPU threads of each worker.
        max_retries: How often a job is tried again after its worker died or failed.
        options: Further keywords of the function that trains.
        trainer: That function, as "module:function"; every node must be able to import it.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        store: RunStore,
        dataset: Dataset,
        token: Path,
        threads: int = 1,
        max_retries: int = MAX_RETRIES,
        options: dict[str, Any] | None = None,
        trainer: str = TRAINER,
    ) -> None:
        """Remember how to start workers; none is started yet."""
        self._cluster = cluster
        self._ray = cluster.ray
        self._store = store
        self._dataset = dataset
        folder = store.folder.resolve()
        self._setup = _Setup(
            folder=folder,
            token=folder / token.relative_to(store.folder),
            space=for_worker(store.space),
            recipe=store.info.recipe,
            on_gpu=cluster.on_gpu,
            threads=threads,
            trainer=trainer,
            options=options or {},
        )
        self._retries = Retries(max_retries)
        self._starting: dict[Any, Any] = {}  # worker by the reference of its version
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Attempt]] = {}  # worker and attempt by the reference of the answer
        self._waiting: deque[Attempt] = deque()
        self._num_failed_starts = 0
        self._next_resize = 0.0

    def run(self, work: Work) -> Generator[Outcome, None, None]:
        """Train all that the work hands out; yield each job's outcome as soon as its run is durable.

        Raises:
            ClusterError: No worker can be set up.
            StorageError: The folder refused.
        """
        dataset = self._ray.put(self._dataset)
        actor_class = self._ray.remote(**self._cluster.worker_options(), max_restarts=0, max_task_retries=0)(Worker)
        try:
            while self._busy or self._waiting or not work.is_over:
                self._resize(work, lambda: actor_class.remote(self._setup, dataset))
                yield from self._hand_out(work)
                references = [*self._busy, *self._starting]
                if not references:
                    time.sleep(POLL_S)
                    continue
                ready, _ = self._ray.wait(references, num_returns=1, timeout=POLL_S)
                for reference in ready:
                    if reference in self._starting:
                        self._greet(reference)
                    else:
                        yield from self._settle(reference)
        finally:
            for worker in (*self._starting.values(), *self._idle, *(worker for worker, _ in self._busy.values())):
                self._kill(worker)

    def _resize(self, work: Work, start: Any) -> None:
        """Start workers where there is room and work; drop those that wait for room that is gone."""
        if time.monotonic() < self._next_resize:
            return
        self._next_resize = time.monotonic() + RESIZE_S
        wanted = min(self._cluster.num_workers(), len(self._busy) + len(self._waiting) + len(work))
        num_workers = len(self._starting) + len(self._idle) + len(self._busy)
        for _ in range(wanted - num_workers):
            worker = start()
            self._starting[worker.version.remote()] = worker
        for _ in range(min(num_workers - wanted, len(self._starting))):
            _, worker = self._starting.popitem()
            self._kill(worker)

    def _greet(self, reference: Any) -> None:
        """Make a worker that is set up an idle one."""
        worker = self._starting.pop(reference)
        try:
            version = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._num_failed_starts += 1
            if self._num_failed_starts >= MAX_FAILED_STARTS:
                raise self._cluster.start_error(error) from None
            return
        self._cluster.check_version(version)
        self._num_failed_starts = 0
        self._idle.append(worker)

    def _hand_out(self, work: Work) -> Generator[Outcome, None, None]:
        """Give every idle worker an attempt; what is tried again goes first."""
        while self._idle:
            if not self._waiting:
                jobs = work.take()
                if not jobs:
                    return
                self._waiting.append(Attempt(jobs))
            attempt = self._waiting.popleft()
            refused = self._retries.refuse(attempt)
            if refused is not None:
                yield from refused
                continue
            worker = self._idle.pop()
            self._busy[worker.answer.remote([asdict(job) for job in attempt.jobs])] = worker, attempt

    def _settle(self, reference: Any) -> Generator[Outcome, None, None]:
        """Take a worker's answer, or its death."""
        worker, attempt = self._busy.pop(reference)
        try:
            answers = self._ray.get(reference)
            outcomes = [self._accept(job, answer) for job, answer in zip(attempt.jobs, answers, strict=True)]
        except self._ray.exceptions.RayError as error:
            outcomes = [Outcome(job, "failed", error=death(error)) for job in attempt.jobs]
        if any(outcome.status == "failed" for outcome in outcomes):
            # As in the local engine: a process that failed is not trusted again, and may have written parts before.
            self._kill(worker)
            self._next_resize = 0.0
            outcomes = [
                look_up(self._store, outcome) if outcome.status == "failed" else outcome for outcome in outcomes
            ]
        else:
            self._idle.append(worker)
        final, again = self._retries.settle(attempt, outcomes)
        self._waiting.extend(again)
        yield from final

    def _accept(self, job: Job, answer: dict[str, Any]) -> Outcome:
        """Make the record of an answer durable, where its worker could not."""
        record = answer.pop("record", None)
        if record is not None:
            try:
                self._store.add(RunRecord.from_json(record))
            except ChannelBenchError as error:
                return Outcome(job, "failed", error=str(error), retry=False)
        return Outcome(job, **answer)

    def _kill(self, worker: Any) -> None:
        with contextlib.suppress(Exception):  # it may be dead, and so may be the cluster
            self._ray.kill(worker)
