"""Many rankings: every method and every seed, each in a worker process and with a score file of its own.

A score file that is there is not made again, and an unfinished ranking continues. So the command can be interrupted at
any moment and started again.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from channel_bench.errors import ArgumentError, MethodError
from channel_bench.space import get_space
from channel_bench.support.fields import differing
from channel_bench.support.reading import is_there
from harness.ranking.engines import Engine, LocalEngine
from harness.ranking.request import RankRequest
from harness.ranking.run import settings
from harness.scores import Scores, read_scores
from harness.task import Task

CONTENT_FACTS = ("method_source", "method_sha256", "options_sha256", "data_sha256")
"""Settings that only some rankings have: what was in the files that they read."""
OnDone = Callable[[RankRequest, str], None]


def requests_of(methods: Sequence[RankRequest], num_seeds: int, folder: Path) -> list[RankRequest]:
    """One request per seed and method, each with a score file in a folder.

    Args:
        methods: One request per method; its seed is the first one.
        num_seeds: Seeds per method, >= 1.
        folder: Where the score files are and go.

    Returns:
        Seed by seed, so that an early stop leaves every method with some scores.

    Raises:
        ArgumentError: Two methods have one name, and so one score file.
    """
    texts: dict[str, str] = {}
    for each in methods:
        if texts.setdefault(each.name, each.method) != each.method:
            raise ArgumentError(
                f"{texts[each.name]!r} and {each.method!r} both have the name {each.name!r}, and so the same score"
                " files: rank them by two commands with two folders"
            )
    return [_of_seed(each, each.task.seed + number, folder) for number in range(num_seeds) for each in methods]


def _of_seed(request: RankRequest, seed: int, folder: Path) -> RankRequest:
    """The request of one seed; where weights and curves are kept, each in a file of its own in the folder given."""
    stem = f"{request.name}-seed{seed}"
    return dataclasses.replace(
        request,
        task=dataclasses.replace(request.task, seed=seed),
        out=folder / f"{stem}.parquet",
        save=None if request.save is None else request.save / f"{stem}.pt",
        log=None if request.log is None else request.log / f"{stem}.csv",
        tensorboard=None if request.tensorboard is None else request.tensorboard / stem,
    )


def rank_many(
    requests: Sequence[RankRequest], task: Task, num_jobs: int, on_done: OnDone, engine: Engine | None = None
) -> list[Scores]:
    """Do rankings, each in a worker process; read those that are there.

    Args:
        requests: The rankings, each with a score file.
        task: Their common task, of any seed.
        num_jobs: Worker processes at a time, >= 1.
        on_done: Called with a request and "found", "done" or the reason why it failed.
        engine: What starts the workers; None for processes on this machine.

    Returns:
        The scores, by method, then by seed.

    Raises:
        ArgumentError: A score file that is there was made with other settings.
        MethodError: Some rankings failed; the score files of the others are there.
        ClusterError: The nodes of the engine's cluster cannot do rankings.
    """
    scored = [request for request in requests if is_there(_path(request))]
    for request in scored:
        _read(request, task)
    # Weights or a curve that are asked for and not there need another training, which gives the same scores.
    found = [
        request for request in scored if all(place is None or is_there(place) for place in (request.save, request.log))
    ]
    failed: list[tuple[RankRequest, str]] = []
    for request in found:
        on_done(request, "found")
    missing = [request for request in requests if request not in found]
    # Closed at once, also by an interrupt: no worker must outlive this call.
    with contextlib.closing((engine or LocalEngine(num_jobs)).run(missing)) as endings:
        for request, reason in endings:
            on_done(request, reason or "done")
            if reason:
                failed.append((request, reason))
    if failed:
        request, reason = failed[0]
        raise MethodError(
            f"{len(failed)} of {len(requests)} rankings failed, {request.name} seed {request.task.seed}: {reason}"
        )
    names = list(dict.fromkeys(request.name for request in requests))
    by_method = sorted(requests, key=lambda request: (names.index(request.name), request.task.seed))
    return [_read(request, task) for request in by_method]


def _path(request: RankRequest) -> Path:
    assert request.out is not None
    return request.out


def _read(request: RankRequest, task: Task) -> Scores:
    """Scores of a file that must have been made with the settings of the request."""
    path = _path(request)
    scores = read_scores(path, get_space(request.task.space))
    expected: dict[str, Any] = settings(
        dataclasses.replace(task, seed=request.task.seed), request.options, request.code
    )
    # A method that is found by name has no code among its settings, and one without files none of theirs; a score file
    # that has some was made by something else.
    recorded = [key for key in CONTENT_FACTS if key in scores.facts]
    for key in [*expected, *recorded]:
        before, now = scores.facts.get(key), expected.get(key)
        if before != now:
            raise ArgumentError(
                f"{str(path)!r} was made with {differing(key, before, now)}: delete it, or choose another folder with"
                " --out"
            )
    return scores
