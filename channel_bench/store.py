"""The run store: a folder in which every finished run is durable at once, and from which a table is collected.

    runs/
      store.json                  what is trained here: space, recipe, data set; written once
      plan.json                   architectures and number of runs that the last builder was asked for
      parts/43/4344424-0.json     one run: a checksum line, then the record with its curves as one line of JSON
      corrupt/                    parts that did not check out, set aside by name
      .lock                       held by the builder and by each of its workers

The folder is the only truth. A part appears whole or not at all (`durable.publish_once`), the first writer of a run
wins, and starting again means looking at what is there. So a builder or a worker may be killed at any moment.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from channel_bench._version import __version__
from channel_bench.durable import make_folder, publish_once, remove_leftovers, sync_folder, write_atomic
from channel_bench.errors import CorruptFileError, MissingDataError, StorageError, os_reason
from channel_bench.recipe import Recipe
from channel_bench.record import RunRecord
from channel_bench.space import Space, get_space

RunKey = tuple[str, int]
"""(architecture as text, number of the run)."""

LOCK_PATIENCE_S = 5.0
"""How long a builder waits for a lock: the workers of a builder that was killed let go within moments."""


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """What every run of a store has in common."""

    space: str
    space_fingerprint: str
    recipe: dict[str, Any]
    recipe_fingerprint: str
    dataset: str
    dataset_digest: str
    base_seed: int
    """Seed of run 0; run r has this plus r, so that no two runs of an architecture share a seed."""
    code_version: str = __version__
    format: int = 1
    sha256: str = ""
    """Over all other fields, so that a folder is not relabelled unnoticed."""

    def hashed(self) -> StoreInfo:
        """The same with its hash."""
        facts = dataclasses.asdict(dataclasses.replace(self, sha256=""))
        return dataclasses.replace(self, sha256=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest())


_KIND = ("space", "space_fingerprint", "recipe_fingerprint", "dataset", "dataset_digest", "base_seed")
_PART_NAME = re.compile(r"([1-4]{7})-(0|[1-9][0-9]*)\.json")


class RunStore:
    """The runs of one (space, recipe, data set) in a folder.

    Use `create` to write and `open` to read.
    """

    def __init__(self, folder: Path, info: StoreInfo) -> None:
        """Take a folder whose store.json says `info`."""
        self.folder = folder
        self.info = info

    @classmethod
    def create(
        cls, folder: Path, space: Space, recipe: Recipe, dataset: str, dataset_digest: str, base_seed: int = 0
    ) -> RunStore:
        """Open a folder for runs of this kind, making it where it is missing.

        Raises:
            StorageError: The folder cannot be written, or it holds runs of another kind.
            CorruptFileError: Its store.json is unreadable.
        """
        info = StoreInfo(
            space=space.name,
            space_fingerprint=space.fingerprint,
            recipe=recipe.to_dict(),
            recipe_fingerprint=recipe.fingerprint,
            dataset=dataset,
            dataset_digest=dataset_digest,
            base_seed=base_seed,
        ).hashed()
        publish_once(folder / "store.json", (json.dumps(dataclasses.asdict(info), indent=1) + "\n").encode())
        store = cls.open(folder)
        for name in _KIND:
            there, wanted = getattr(store.info, name), getattr(info, name)
            if there != wanted:
                raise StorageError(
                    f"{str(folder)!r} holds runs of another kind: {name} is {there!r} there, {wanted!r} here"
                    "; choose another folder"
                )
        return store

    @classmethod
    def open(cls, folder: Path) -> RunStore:
        """Open a folder that a builder made.

        Raises:
            MissingDataError: It is not one.
            CorruptFileError: Its store.json is unreadable.
        """
        path = folder / "store.json"
        try:
            info = StoreInfo(**json.loads(path.read_text()))
            if info.hashed() != info or info.format != StoreInfo.format:
                raise ValueError("it was changed after the first run, or is of another version")
            return cls(folder, info)
        except (FileNotFoundError, NotADirectoryError):
            raise MissingDataError(f"{str(folder)!r} is not a folder of runs: it has no store.json") from None
        except OSError as error:
            raise StorageError(f"cannot read {str(path)!r}: {os_reason(error)}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise CorruptFileError(f"{str(path)!r} is unreadable: {error}") from None

    @property
    def recipe(self) -> Recipe:
        """The recipe of all runs."""
        return Recipe.from_dict(self.info.recipe)

    @property
    def space(self) -> Space:
        """The space of all runs.

        Raises:
            CorruptFileError: This version's space of that name has other networks.
        """
        space = get_space(self.info.space)
        if space.fingerprint != self.info.space_fingerprint:
            raise CorruptFileError(
                f"{str(self.folder)!r} was built with other networks under the name {space.name!r}"
                f" (fingerprint {self.info.space_fingerprint}, here {space.fingerprint})"
            )
        return space

    def path(self, key: RunKey) -> Path:
        """File of a run; 16 folders by the first two digits keep listings short."""
        arch, run = key
        return self.folder / "parts" / arch[:2] / f"{arch}-{run}.json"

    def add(self, record: RunRecord) -> bool:
        """Make a finished run durable.

        Returns:
            Whether it was new; an earlier part of the same run is kept.

        Raises:
            StorageError: The file system refused.
        """
        body = record.to_json()
        checksum = hashlib.sha256(body.encode()).hexdigest()
        return publish_once(self.path((record.arch, record.run)), f"{checksum}\n{body}\n".encode())

    def write_plan(self, archs: Sequence[str], num_runs: int) -> None:
        """Note what a builder was asked for, so that `status` can say what is missing; nothing else depends on it."""
        plan = {"archs": list(archs), "num_runs": num_runs}
        write_atomic((self.folder / "plan.json", json.dumps(plan).encode()))

    def planned(self) -> set[RunKey] | None:
        """Runs that the last builder was asked for; None where no builder got so far.

        Raises:
            CorruptFileError: plan.json is unreadable.
        """
        path = self.folder / "plan.json"
        try:
            plan = json.loads(path.read_text())
            return {(self.space.text(str(arch)), run) for arch in plan["archs"] for run in range(plan["num_runs"])}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CorruptFileError(f"{str(path)!r} is unreadable: {error}") from None

    def keys(self) -> set[RunKey]:
        """All runs that have a part, by file name."""
        found = set()
        for path in self.folder.glob("parts/[1-4][1-4]/*.json"):
            name = _PART_NAME.fullmatch(path.name)
            if name is not None and path.parent.name == name[1][:2]:
                found.add((name[1], int(name[2])))
        return found

    def records(self) -> Iterator[RunRecord]:
        """All runs in order of (architecture, run).

        Raises:
            CorruptFileError: A part does not check out; the message names it.
        """
        for key in sorted(self.keys()):
            yield self.read(key)

    def read(self, key: RunKey) -> RunRecord:
        """One run.

        Raises:
            CorruptFileError: Its part is torn, damaged, or not of the run that its name says.
        """
        path = self.path(key)
        try:
            checksum, _, body = path.read_text(errors="replace").partition("\n")
        except OSError as error:
            raise StorageError(f"cannot read {str(path)!r}: {os_reason(error)}") from None
        body = body.removesuffix("\n")
        if hashlib.sha256(body.encode()).hexdigest() != checksum:
            raise CorruptFileError(f"run {str(path)!r} is damaged: its checksum differs; build again to redo it")
        record = RunRecord.from_json(body)
        if (record.arch, record.run) != key:
            raise CorruptFileError(f"run {str(path)!r} is of {record.arch} run {record.run}; build again to redo it")
        if record.seed != self.info.base_seed + record.run:
            raise CorruptFileError(
                f"run {str(path)!r} has seed {record.seed}, not that of its run; build again to redo it"
            )
        return record

    def set_aside_corrupt(self) -> list[Path]:
        """Move parts that do not check out to corrupt/, so that their runs are redone; only under the lock.

        Returns:
            Where they went.
        """
        moved = []
        for key in sorted(self.keys()):
            try:
                self.read(key)
            except CorruptFileError:
                make_folder(self.folder / "corrupt")
                target = self.folder / "corrupt" / f"{self.path(key).name}.{time.time_ns()}"
                os.replace(self.path(key), target)
                sync_folder(target.parent)
                moved.append(target)
        return moved

    def lock(self) -> int:
        """Take the folder for one builder.

        The lock belongs to the open file, which workers inherit: it stays taken until the builder and all of its
        workers are gone. So workers that outlive a killed builder by a moment cannot train beside those of the next.

        Returns:
            The descriptor of the locked file; close it to let go.

        Raises:
            StorageError: Another builder is at work, or the folder cannot be written.
        """
        try:
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StorageError(f"cannot write in {str(self.folder)!r}: {os_reason(error)}") from None
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise StorageError(f"another builder is at work in {str(self.folder)!r}: wait or stop it") from None
                time.sleep(0.05)
            except OSError as error:
                os.close(descriptor)
                raise StorageError(f"cannot lock {str(self.folder)!r}: {os_reason(error)}") from None
        remove_leftovers(self.folder)
        return descriptor

    def is_locked(self) -> bool:
        """Whether a builder, or a worker of one, is at work now."""
        try:
            descriptor = os.open(self.folder / ".lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False
