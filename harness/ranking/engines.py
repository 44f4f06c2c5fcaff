"""Engines do rankings in worker processes, and say how each ended: on this machine, or on a Ray cluster.

    for request, reason in LocalEngine(num_jobs=2).run(requests): ...

    with Cluster("auto") as cluster, marked(folder) as mark:
        for request, reason in RayEngine(cluster, [mark]).run(requests): ...

Both start `harness.ranking.worker`, so a ranking has the same scores on either. What a worker has done is beside its
score file. On a cluster that folder is on storage that all nodes share, so a ranking whose worker or node dies goes on
from there on another node.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import subprocess
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from channel_bench._version import __version__
from channel_bench.errors import ClusterError
from channel_bench.support.cluster import Cluster, death
from channel_bench.support.folders import DATA_VARIABLE
from channel_bench.support.workers import run_worker, try_worker
from harness.ranking.request import RankRequest

ENGINES = ("local", "ray")
WORKER = "harness.ranking.worker"
MAX_RANKINGS_PER_GPU = 64
MAX_RETRIES = 2
POLL_S = 0.5
"""How long to wait for Ray at a time; its waiting call lets an interrupt through only when it returns."""


class Engine(Protocol):
    """Does rankings, each in a worker process."""

    def run(self, requests: Sequence[RankRequest]) -> Generator[tuple[RankRequest, str], None, None]:
        """Do rankings, in any order; closed before its end, it ends its workers.

        Yields:
            Each request once, with the reason of its failure, or nothing.
        """
        ...


class LocalEngine:
    """Worker processes on this machine.

    Args:
        num_jobs: Processes at a time, >= 1.
    """

    def __init__(self, num_jobs: int) -> None:
        """Nothing is started yet."""
        self._num_jobs = num_jobs

    def run(self, requests: Sequence[RankRequest]) -> Generator[tuple[RankRequest, str], None, None]:
        """Do rankings (`Engine.run`)."""
        started: list[subprocess.Popen[str]] = []
        with ThreadPoolExecutor(self._num_jobs) as pool:
            try:
                waiting = {pool.submit(run_worker, WORKER, each.to_json(), started): each for each in requests}
                for future in as_completed(waiting):
                    yield waiting[future], future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in started:
                    process.terminate()  # an interrupt need not have reached it; what it has done is kept
                raise


@dataclass(frozen=True)
class _Place:
    """Where a node must do a ranking, and as what; the paths are those of the machine that asks."""

    version: str
    """Of this package."""
    marks: tuple[str, ...]
    """A file in each folder that is written to, which no other folder has."""
    folder: str
    """The current folder: relative paths of methods, spaces, options and data begin there."""
    environment: dict[str, str]
    """Variables of the machine that asks, for the worker."""


@dataclass(frozen=True)
class _Answer:
    """What came of a ranking on a node."""

    version: str
    """Of this package, on the node."""
    refused: str = ""
    """Why the node cannot do any ranking of this command, or nothing."""
    reason: str = ""
    """Why the ranking failed, or nothing."""
    died: bool = False
    """Whether it failed because its process was killed."""


def rank_on_node(line: str, place: _Place) -> _Answer:
    """What Ray runs on a node: a worker process for one ranking.

    The worker is no process of Ray's, but ends with it: the one that runs this function holds its input open.

    Args:
        line: The request, as JSON.
        place: Where to do it.
    """
    if place.version != __version__:
        return _Answer(__version__)
    unseen = [str(Path(mark).parent) for mark in place.marks if not Path(mark).exists()]
    unseen += [place.folder] * (not Path(place.folder).is_dir())
    if unseen:
        return _Answer(__version__, f"node {platform.node()} does not see the folder {unseen[0]!r} of this machine")
    root = str(Path(__file__).parents[2])  # the worker finds the package where this process found it, installed or not
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": paths, **place.environment}
    reason, died = try_worker(WORKER, line, [], Path(place.folder), environment)
    return _Answer(__version__, reason=reason, died=died)


class RayEngine:
    """Worker processes on the nodes of a Ray cluster, as many as fit; nodes may join and leave.

    Args:
        cluster: The connection.
        marks: A file in each folder that is written to (`channel_bench.support.durable.marked`), by which nodes see
            whether they share it.
        num_jobs: Rankings at a time; None for as many as fit.
        max_retries: How often a ranking is tried again after its worker or node died. One that failed by itself is not.
        on_note: Called with a line for people, where a ranking is tried again.
    """

    def __init__(
        self,
        cluster: Cluster,
        marks: Sequence[Path],
        num_jobs: int | None = None,
        max_retries: int = MAX_RETRIES,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        """Nothing is started yet."""
        self._cluster = cluster
        self._ray = cluster.ray
        self._num_jobs = num_jobs
        self._max_retries = max_retries
        self._on_note = on_note or (lambda note: None)
        environment = {name: os.environ[name] for name in (DATA_VARIABLE,) if os.environ.get(name)}
        self._place = _Place(__version__, tuple(map(str, marks)), str(Path.cwd()), environment)

    def run(self, requests: Sequence[RankRequest]) -> Generator[tuple[RankRequest, str], None, None]:
        """Do rankings (`Engine.run`).

        Raises:
            ClusterError: A node cannot do any ranking: the package is missing, of another version, or the folders are
                not those of this machine.
        """
        # A retry of Ray's own would not be counted, nor would it wait its turn.
        task = self._ray.remote(**self._cluster.worker_options(), max_retries=0)(rank_on_node)
        waiting = deque((request, 1) for request in requests)
        running: dict[Any, tuple[RankRequest, int]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < (self._num_jobs or len(requests)):
                    request, number = waiting.popleft()
                    running[task.remote(self._line(request), self._place)] = request, number
                ready, _ = self._ray.wait([*running], num_returns=1, timeout=POLL_S)
                for reference in ready:
                    reason, died = self._settle(reference)
                    request, number = running.pop(reference)
                    if died and number <= self._max_retries:
                        self._on_note(f"{request.name} seed {request.task.seed}: {reason}; it is tried again")
                        waiting.appendleft((request, number + 1))
                    else:
                        tries = f", in {number} tries" if died and number > 1 else ""
                        yield request, reason + tries
        finally:
            for reference in running:
                with contextlib.suppress(Exception):  # it may be over, and so may be the cluster
                    self._ray.cancel(reference, force=True)

    def _line(self, request: RankRequest) -> str:
        """The request as a node is asked, on the kind of device that the cluster has."""
        device = "cuda" if self._cluster.on_gpu else "cpu"
        return dataclasses.replace(request, task=dataclasses.replace(request.task, device=device)).to_json()

    def _settle(self, reference: Any) -> tuple[str, bool]:
        """Take a task's answer, or the death of its worker: the reason of a failure, and whether to try again."""
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # what the node raised outside of the worker process
            raise self._cluster.start_error(error) from None
        except self._ray.exceptions.RayError as error:
            return death(error), True
        self._cluster.check_version(answer.version)
        if answer.refused:
            raise ClusterError(
                f"{answer.refused}: start the command in a folder that all nodes share, and write to such a one"
            )
        return answer.reason, answer.died
