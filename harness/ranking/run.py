"""One ranking: fit a method, score all 16,384 architectures, and write down how it was done.

    >>> request = RankRequest.of("autoslim", TaskOptions(space="resnet-mini"), Path("scores.parquet"))
    >>> scores = rank_request(request, prepare_task(request.task))

A ranking that goes to a file survives being killed: the checkpoint of its training and the scores so far are kept in
``FILE.partial`` together with the settings that decide its scores, and the same ranking continues from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from channel_bench._version import __version__
from channel_bench.errors import ArgumentError, CorruptFileError, MethodError, StorageError, os_reason
from channel_bench.space import NUM_ARCHS, FloatArray
from channel_bench.support.curves import CurveLog
from channel_bench.support.durable import TEMPORARY_PREFIX, write_atomic
from channel_bench.support.fields import differing
from channel_bench.support.reading import is_file
from channel_bench.support.terminal import progress
from channel_bench.training.devices import device_name
from channel_bench.training.step import arithmetic
from harness.method import Evaluator, Method, plugin_errors, score_all
from harness.methods import find_method, get_method
from harness.ranking.request import RankRequest
from harness.scores import Scores, make_scores, space_facts, write_scores
from harness.supernet.weights import save_supernet
from harness.task import Task

Columns = dict[str, FloatArray]


def settings(
    task: Task, options: Mapping[str, Any] | None = None, code: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Everything that decides the scores of a ranking, except the device; as it is read back from JSON.

    Args:
        task: What the method is fitted to.
        options: The options that the method was made with. Where one names a file, what the file holds decides the
            scores: its SHA-256 is among the settings.
        code: The file that the method was found in (`harness.locate.code_of`); empty for a method found by name.

    Raises:
        StorageError: The file of an option cannot be read.
    """
    files = _files_of(options or {})
    facts = {
        "dataset": task.dataset,
        "validated_on": task.validate_on,
        "bn": task.bn,
        "score_by": task.score_by,
        "num_train": len(task.train_labels),
        "num_val": len(task.val_labels),
        "recipe": task.recipe.to_dict(),
        "seed": task.seed,
        "options": options or {},
        "code_version": __version__,
        **(code or {}),
        **({"data_sha256": task.data_sha256} if task.data_sha256 else {}),
        **({"options_sha256": files} if files else {}),
    }
    # A tuple comes back as a list, and would not be equal to itself.
    kept: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return kept


def _files_of(options: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of every file that an option names, by option; in a list or object of files, with its place."""
    found: dict[str, str] = {}
    for name, value in options.items():
        if isinstance(value, (list, tuple)):
            value = {str(place): each for place, each in enumerate(value)}
        if isinstance(value, Mapping):
            found |= {f"{name}.{place}": digest for place, digest in _files_of(value).items()}
        elif isinstance(value, (str, Path)) and value and is_file(value):
            found[name] = _sha256_of(Path(value))
    return found


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    except OSError as error:
        raise StorageError(f"file {str(path)!r} of an option cannot be read: {os_reason(error)}") from None
    return digest.hexdigest()


class Workplace:
    """Folder of an unfinished ranking: its settings, the checkpoint of its training, its scores so far.

    Args:
        folder: Made where it is missing.
        identity: Method, space and settings of the ranking.

    Raises:
        ArgumentError: The folder holds a ranking with other settings, or files without settings.
        CorruptFileError: Its settings cannot be read.
        StorageError: It cannot be written.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Claim the folder for these settings."""
        self.folder = folder
        self._scores = folder / "scores.npz"
        known = folder / "settings.json"
        if not known.exists():
            strays = [path.name for path in sorted(folder.glob("*")) if not path.name.startswith(TEMPORARY_PREFIX)]
            if strays:
                raise ArgumentError(
                    f"{str(folder)!r} holds {strays[0]} and no settings.json that says what ranking it is of: delete"
                    " that folder, or write to another file"
                )
            write_atomic((known, json.dumps(identity).encode()))
            return
        try:
            before = dict(json.loads(known.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise CorruptFileError(
                f"{str(known)!r} cannot be read ({error}): delete its folder to start anew"
            ) from None
        if before != identity:
            other = next(key for key in {**before, **identity} if before.get(key) != identity.get(key))
            raise ArgumentError(
                f"{str(folder)!r} holds an unfinished ranking with"
                f" {differing(other, before.get(other), identity.get(other))}: delete that folder, or write to another"
                " file"
            )

    def load(self) -> Columns | None:
        """Scores so far, or None.

        Raises:
            CorruptFileError: The file cannot be read.
        """
        if not self._scores.exists():
            return None
        try:
            with np.load(self._scores) as kept:
                columns = {name: kept[name] for name in kept.files}
            if {len(columns["score"])} != {len(column) for column in columns.values()}:
                raise ValueError("its columns differ in length")
            return columns
        except Exception as error:  # NumPy raises what the zip, the header or the file system raises
            raise CorruptFileError(f"{str(self._scores)!r} cannot be read ({error}): delete it to go on") from None

    def keep(self, columns: Columns) -> None:
        """Write the scores so far."""
        buffer = io.BytesIO()
        np.savez(buffer, **columns)  # type: ignore[arg-type]
        write_atomic((self._scores, buffer.getvalue()))

    def clear(self) -> None:
        """Delete the folder: its scores are somewhere else now."""
        shutil.rmtree(self.folder, ignore_errors=True)


def rank_request(request: RankRequest, task: Task) -> Scores:
    """Do a ranking: to its score file, continuing an unfinished one, or in memory.

    Args:
        request: The ranking.
        task: The task of the request (`prepare_task`).

    Raises:
        ArgumentError: The method's file was changed after the request was made, or an unfinished ranking has other
            settings.
        MethodError: The method broke its contract, or its training diverged.
        StorageError: A file cannot be written.
    """
    method = get_method(request.method, **request.options)
    if find_method(request.method).code != request.code:
        raise ArgumentError(
            f"the file of {request.method!r} was changed after this command started: start the command again"
        )
    log = CurveLog(request.log, request.tensorboard)
    task = dataclasses.replace(task, on_losses=lambda losses: log({"train_loss": losses}))
    try:
        if request.out is None:
            return rank(request.name, method, task, request.options, request.code, show=True, save=request.save)
        return rank_to_file(request.name, method, task, request.out, request.options, request.code, request.save)
    finally:
        log.close()


def rank_to_file(
    name: str,
    method: Method,
    task: Task,
    path: Path,
    options: Mapping[str, Any] | None = None,
    code: Mapping[str, str] | None = None,
    save: Path | None = None,
) -> Scores:
    """`rank`, kept in ``PATH.partial`` until the score file is complete.

    Raises:
        ArgumentError: An unfinished ranking of this file has other settings, or the file of an option was changed
            during the ranking.
        StorageError: A file cannot be written.
    """
    identity = {"method": name, **space_facts(task.space), **settings(task, options, code)}
    place = Workplace(path.with_name(path.name + ".partial"), identity)
    scores = rank(
        name, method, dataclasses.replace(task, checkpoints=place.folder), options, code, place, show=True, save=save
    )
    if scores.facts.get("options_sha256") != identity.get("options_sha256"):
        raise ArgumentError(
            f"a file that an option of {name!r} names was changed during the ranking: delete {str(place.folder)!r} and"
            " start the command again"
        )
    write_scores(scores, path)
    place.clear()
    return scores


def rank(
    name: str,
    method: Method,
    task: Task,
    options: Mapping[str, Any] | None = None,
    code: Mapping[str, str] | None = None,
    place: Workplace | None = None,
    show: bool = False,
    save: Path | None = None,
) -> Scores:
    """Fit a method to a task and score every architecture.

    Args:
        name: Name that the scores carry.
        method: The method.
        task: What it may see.
        options: The options that the method was made with, for the facts.
        code: The file that the method was found in, for the facts (`settings`).
        place: Where to keep unfinished work; None for nowhere.
        show: Whether to draw a bar for training and one for scoring where standard error is a terminal.
        save: File for the weights of the supernet, written before anything is scored; None for none.

    Returns:
        Scores with the facts of how they were made, and the evaluator's other columns.

    Raises:
        MethodError: The method broke its contract, or its training diverged.
    """
    evaluator, fit_s = fit(name, method, task, show)
    if save is not None:
        save_supernet(save, name, evaluator, facts_of(evaluator, task, options, code, fit_s))
    started = time.perf_counter()
    with arithmetic(task.recipe.precision), _bar(show, "scoring widths", NUM_ARCHS) as advance:
        columns = score_all(
            evaluator,
            task,
            lambda count: advance(count, ""),
            None if place is None else place.load(),
            None if place is None else place.keep,
        )
    facts = facts_of(evaluator, task, options, code, fit_s) | {"score_s": round(time.perf_counter() - started, 2)}
    return make_scores(name, task.space, np.arange(NUM_ARCHS), columns.pop("score"), facts, columns)


def facts_of(
    evaluator: Evaluator,
    task: Task,
    options: Mapping[str, Any] | None,
    code: Mapping[str, str] | None,
    fit_s: float,
) -> dict[str, Any]:
    """How the scores of a fitted method were made.

    Args:
        evaluator: What `Method.fit` returned; its own facts are included.
        task: The task that it was fitted to.
        options: The options that the method was made with.
        code: The file that the method was found in (`settings`).
        fit_s: Seconds that fitting took.
    """
    return {
        **settings(task, options, code),
        "fit_s": round(fit_s, 2),
        "device": device_name(task.device),
        "torch": torch.__version__,
        **getattr(evaluator, "facts", {}),
    }


def fit(name: str, method: Method, task: Task, show: bool = False) -> tuple[Evaluator, float]:
    """Fit a method to a task.

    Args:
        name: Name of the method, for the bar.
        method: The method.
        task: What it may see.
        show: Whether to draw a bar where standard error is a terminal.

    Returns:
        The evaluator, and the seconds that fitting took.

    Raises:
        MethodError: The method raised, returned something that cannot score, or its training diverged.
    """
    started = time.perf_counter()
    with arithmetic(task.recipe.precision), _bar(show, f"training {name}", task.recipe.epochs) as advance:

        def on_epoch(epoch: int, num_epochs: int, note: str) -> None:
            advance(1, note)
            if task.on_epoch is not None:
                task.on_epoch(epoch, num_epochs, note)

        with plugin_errors(f"fit(task) of method {name!r}", method):
            evaluator = method.fit(dataclasses.replace(task, on_epoch=on_epoch))
    if not callable(getattr(evaluator, "score", None)):
        raise MethodError(
            f"fit() of method {name!r} returned an object of class {type(evaluator).__name__}, which has no function"
            " score(): it must return an object with score(archs)"
        )
    return evaluator, time.perf_counter() - started


def _bar(show: bool, description: str, total: int) -> Any:
    return progress(description, total) if show else contextlib.nullcontext(lambda steps, note: None)
