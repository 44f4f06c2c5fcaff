"""The engine for a cluster: one long-lived Ray actor per CPU core or per share of a GPU, one stack at a time each.

    with Cluster("auto", device="auto", threads=1, runs_per_gpu=1) as cluster:
        for outcome in RayEngine(cluster, store=store, dataset=data, token=leases.token).run(work): ...

Workers that see the folder of runs write their parts into it themselves; others send their records to the driver, which
writes them. A worker that dies, alone or with its node, is replaced where there is room, and its jobs are tried again.
The number of workers follows the cluster as nodes join and leave. Workers end with the driver.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from channel_bench._version import __version__
from channel_bench.builder.engines import MAX_RETRIES, TRAINER, Attempt, Outcome, Retries, Work, look_up
from channel_bench.builder.store import RunStore
from channel_bench.errors import ArgumentError, BuildError, ChannelBenchError, missing_package
from channel_bench.record import Job, RunRecord
from channel_bench.space.own import for_worker
from channel_bench.support.processes import num_cores

if TYPE_CHECKING:
    from channel_bench.training.datasets import Dataset

POLL_S = 0.2
"""How long to wait for an answer before looking around."""
RESIZE_S = 2.0
"""How often the number of workers is fitted to the cluster."""
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Variable of Ray; with 0 a node takes the loopback address for its own, on Linux too."""
MAX_FAILED_STARTS = 3
"""Consecutive failed starts of workers before the build stops."""


class Cluster:
    """A connection to a Ray cluster, for the time of the context.

    Args:
        address: "auto", "ray://host:port" or "host:port"; None starts one on this machine that ends with the context.
        device: "cpu"; "cuda"; or "auto" for GPUs where the cluster has some at the beginning, else CPU cores.
        threads: CPU cores of each worker, where workers are on CPUs.
        runs_per_gpu: Workers on each GPU.
        most_workers: Upper limit on the workers; None for as many as fit.

    Raises:
        ArgumentError: The device is one of a machine, not of a cluster.
        MissingPackageError: Ray is not installed.
    """

    def __init__(
        self,
        address: str | None,
        device: str = "auto",
        threads: int = 1,
        runs_per_gpu: int = 1,
        most_workers: int | None = None,
    ) -> None:
        """Check the arguments; `__enter__` connects."""
        if device not in ("auto", "cpu", "cuda"):
            raise ArgumentError(
                f"device {device!r} names a device of this machine: on a cluster, allowed are auto, cpu and cuda"
            )
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it every start warns
        os.environ.setdefault("RAY_enable_metrics_collection", "0")  # nor does anybody here read its metrics
        if address is None and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
            # Other users of this machine reach the loopback address too; they do not have this token. Ray reads both
            # variables once, when it is imported.
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        try:
            import ray
        except ImportError as error:
            raise missing_package("engine ray", "ray", error) from None
        self.ray = ray
        self._address = address
        self._device = device
        self.threads = threads
        self._runs_per_gpu = runs_per_gpu
        self._most_workers = most_workers
        self.on_gpu = False

    def __enter__(self) -> Cluster:
        """Connect.

        Raises:
            BuildError: The cluster cannot be reached, or has nothing to train on.
        """
        options: dict[str, Any] = {"address": self._address}
        with contextlib.ExitStack() as started:
            if self._address is None:
                num_cpus = (self._most_workers or 0) * self.threads
                options = {"address": "local", "include_dashboard": False, "num_cpus": num_cpus or num_cores()}
                started.enter_context(_private_machine(self.ray))
            started.enter_context(_own_sigterm(self.ray))
            try:
                self.ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
            except Exception as error:  # of a dozen classes, by what is wrong and how far the connection got
                where = f"the Ray cluster at {self._address!r}" if self._address else "a Ray cluster on this machine"
                raise BuildError(f"cannot use {where}: {_first_line(error)}") from None
            except BaseException:
                self.ray.shutdown()
                raise
        if self._address is None:
            self._check_private()
        num_gpus = sum(resources.get("GPU", 0) for resources in self._nodes())
        self.on_gpu = self._device == "cuda" or (self._device == "auto" and num_gpus > 0)
        if not self.num_workers():
            self.ray.shutdown()
            wanted = "GPU" if self.on_gpu else f"node with {self.threads} CPU cores"
            raise BuildError(f"the Ray cluster has no {wanted} to train on")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; all workers end."""
        self.ray.shutdown()

    def num_workers(self) -> int:
        """Workers that fit into the cluster as it is now."""
        num_fitting = 0
        for resources in self._nodes():
            if self.on_gpu:
                num_fitting += int(resources.get("GPU", 0)) * self._runs_per_gpu
            else:
                num_fitting += int(resources.get("CPU", 0) // self.threads)
        return min(num_fitting, self._most_workers or num_fitting)

    def actor_options(self) -> dict[str, float]:
        """What a worker asks of its node."""
        if self.on_gpu:
            # Ray counts in ten-thousandths, and rounding up would leave no room for the last one.
            return {"num_gpus": 10_000 // self._runs_per_gpu / 10_000, "num_cpus": 0}
        return {"num_cpus": self.threads}

    def _check_private(self) -> None:
        """Refuse to go on where a cluster of this machine alone could be reached from others.

        Raises:
            BuildError: It could.
        """
        addresses = {node["NodeManagerAddress"] for node in self.ray.nodes() if node["Alive"]}
        if not all(ipaddress.ip_address(address).is_loopback for address in addresses):
            self.ray.shutdown()
            raise BuildError(
                f"Ray {self.ray.__version__} listens on {', '.join(sorted(addresses))} and not on this machine only:"
                " install another version of Ray, or use --engine local"
            )

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]


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
        import torch

        from channel_bench.builder.engines.trainer import JobTrainer
        from channel_bench.recipe import Recipe
        from channel_bench.space.own import in_worker

        torch.set_num_threads(setup.threads)
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
            BuildError: No worker can be set up.
            StorageError: The folder refused.
        """
        dataset = self._ray.put(self._dataset)
        actor_class = self._ray.remote(**self._cluster.actor_options(), max_restarts=0, max_task_retries=0)(Worker)
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
                raise BuildError(f"no worker can be set up on the Ray cluster: {_last_line(error)}") from None
            return
        if version != __version__:
            raise BuildError(
                f"the cluster has channel-bench {version}, this machine {__version__}: install the same version"
            )
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
            outcomes = [Outcome(job, "failed", error=_death(error)) for job in attempt.jobs]
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


@contextlib.contextmanager
def _private_machine(ray: Any) -> Iterator[None]:
    """Let a cluster that is started within the block be of this machine alone, and of this user.

    Whoever reaches the ports of a Ray cluster runs code as its user. So its processes listen on the loopback address.
    They find the package where this process found it, and report nothing.
    """
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]))
    names = {"PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0", LOOPBACK: "0"}
    constants = ray._private.ray_constants
    was_open = constants.ENABLE_RAY_CLUSTER
    with contextlib.ExitStack() as restored:
        for name, value in names.items():
            restored.callback(_set_environment, name, os.environ.get(name))
            os.environ[name] = value
        # Ray takes the loopback address where it believes that there can be no second node. The variable says so to
        # processes that are yet to import Ray; this one has done so already.
        restored.callback(setattr, constants, "ENABLE_RAY_CLUSTER", was_open)
        constants.ENABLE_RAY_CLUSTER = False
        yield


@contextlib.contextmanager
def _own_sigterm(ray: Any) -> Iterator[None]:
    """Keep Ray, which starts within the block, from handling SIGTERM.

    Its handler in Python exits within a waiting call of its own, which then aborts; the one in C++ prints stacks.
    """
    utils = ray._private.utils
    with contextlib.ExitStack() as restored:
        before = signal.getsignal(signal.SIGTERM)
        if before is not None and threading.current_thread() is threading.main_thread():
            restored.callback(signal.signal, signal.SIGTERM, before)
        restored.callback(setattr, utils, "set_sigterm_handler", utils.set_sigterm_handler)
        utils.set_sigterm_handler = lambda handler: None
        yield


def _set_environment(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _death(error: Exception) -> str:
    """Why there is no answer, in a line."""
    words = " ".join(str(error).split())[:300]
    if type(error).__name__ == "OutOfMemoryError" or "memory pressure" in words:
        return f"out of memory: {words}"
    return f"its worker process died ({type(error).__name__}: {words})"
