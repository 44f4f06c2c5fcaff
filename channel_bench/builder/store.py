"""The run store: a folder in which every finished run is durable at once, and from which a table is collected.

    runs/
      store.json                  what is trained here: space, recipe, data set; written once
      plans/<builder>.json        architectures and number of runs that a builder was asked for
      parts/43/4344424-0.json     one run: a checksum line, then the record with its curves as one line of JSON
      failed/4344424-0.json       a run that failed with all its retries, and why; gone when it succeeds
      corrupt/                    damaged parts, moved here
      builders/, leases/          which builder trains which run (leases.py)

The folder is the only truth. A part appears whole or not at all (`durable.publish_once`), the first writer of a run
wins, and starting again means looking at what is there. So a builder or a worker may be killed at any moment, and
several builders may fill one folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from channel_bench._version import __version__
from channel_bench.builder.leases import Leases, RunKey
from channel_bench.errors import ChannelBenchError, CorruptFileError, MissingDataError, StorageError, os_reason
from channel_bench.recipe import Recipe
from channel_bench.record import MAX_NUMBER, RunRecord
from channel_bench.space import Space, known_space, space_of_file
from channel_bench.support.durable import make_folder, publish_once, sync_folder, write_atomic
from channel_bench.support.fields import differing
from channel_bench.support.reading import MIB, parse_json, read_file


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
    """Seed of run 0; run r has seed base_seed + r, so that no two runs of an architecture share a seed."""
    code_version: str = __version__
    format: int = 1
    sha256: str = ""
    """SHA-256 of all other fields, so that a changed label is noticed."""

    def hashed(self) -> StoreInfo:
        """The same with its hash."""
        facts = dataclasses.asdict(dataclasses.replace(self, sha256=""))
        return dataclasses.replace(self, sha256=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest())


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run that failed with all its retries; the next builder tries it again."""

    arch: str
    run: int
    seed: int
    error: str
    trace: str
    """Last lines of the traceback, where there was one."""
    host: str
    """Host of the last try."""
    time: str
    """Time of the last try by that builder's clock, UTC."""
    tries: int


MAX_PART_BYTES = 8 * MIB
"""A run of the most epochs that there can be has about 3 MiB."""
MAX_PLAN_BYTES = MIB
"""All architectures of a space take 200 kB."""
MAX_SEED = 2**62
NUM_SAMPLED = 100
"""Runs that are looked at to say which programs trained a folder."""
MAX_TRIES = 2**31
KIND = ("space", "space_fingerprint", "recipe_fingerprint", "dataset", "dataset_digest", "base_seed")
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
        """Open a folder for runs of this kind; make it if it is missing.

        Raises:
            StorageError: The folder cannot be written, or it holds runs of another kind.
            CorruptFileError: Its store.json is unreadable.
        """
        space = known_space(space)
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
        for name in KIND:
            there, wanted = getattr(store.info, name), getattr(info, name)
            if there != wanted:
                if name == "recipe_fingerprint":  # what differs in the recipes says more than their fingerprints
                    name, there, wanted = "recipe", store.info.recipe, info.recipe
                what = differing(name, there, wanted)
                raise StorageError(f"{str(folder)!r} holds runs of another kind: {what}; choose another folder")
        return store

    @classmethod
    def open(cls, folder: Path) -> RunStore:
        """Open a folder that a builder made.

        Raises:
            MissingDataError: The folder is not one.
            CorruptFileError: Its store.json is unreadable.
        """
        path = folder / "store.json"
        try:
            info = StoreInfo(**parse_json(read_file(path, "file", MIB), "it"))
            if info.hashed() != info or info.format != StoreInfo.format:
                raise ValueError("it was changed after the first run, or written by another version")
            _check_info(info)
            return cls(folder, info)
        except MissingDataError as error:
            if os.path.lexists(path):
                raise StorageError(f"cannot read {str(path)!r}: {error}") from None
            raise MissingDataError(f"{str(folder)!r} is not a folder of runs: it has no store.json") from None
        except (CorruptFileError, ValueError, TypeError, AttributeError) as error:
            raise CorruptFileError(f"{str(path)!r} is unreadable: {error}") from None

    @property
    def recipe(self) -> Recipe:
        """The recipe of all runs."""
        return Recipe.from_dict(self.info.recipe)

    @property
    def space(self) -> Space:
        """The space of all runs.

        Raises:
            CorruptFileError: The space of that name has other networks here.
            UnknownNameError: The space is not known here.
        """
        return space_of_file(f"folder {str(self.folder)!r}", "built with", self.info.space, self.info.space_fingerprint)

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

    def plans(self) -> list[Path]:
        """Files of all plans."""
        return sorted(self.folder.glob("plans/*.json"))

    def write_plan(
        self, archs: Sequence[str], num_runs: int, name: str = "plan", request: str = "", old: Collection[Path] = ()
    ) -> None:
        """Note what a builder was asked for, so that `status` can say what is missing; nothing else depends on it.

        Args:
            archs: Architectures as text.
            num_runs: Runs of each.
            name: The builder's own name; each builder has a plan file of its own.
            request: What all shards of one request have in common.
            old: Plans to remove, unless they are shards of the same request.

        Raises:
            StorageError: The file system refused.
        """
        plan = {"request": request, "archs": list(archs), "num_runs": num_runs}
        path = self.folder / "plans" / f"{name}.json"
        same = {}
        for earlier in old if request else ():
            known = self._earlier_plan(earlier)
            if known and known["request"] == request:
                same[earlier] = known
        if plan not in same.values():
            write_atomic((path, json.dumps(plan).encode()))
        for earlier in set(old) - set(same) - {path}:
            earlier.unlink(missing_ok=True)

    def _earlier_plan(self, path: Path) -> dict[str, Any] | None:
        """A plan of another builder; None where it cannot be read."""
        try:
            return _read_plan(path, self.space)
        except CorruptFileError:
            return None

    def planned(self) -> dict[str, int] | None:
        """How many runs of each architecture builders were asked for; None if no builder has written a plan yet.

        Only counted, never listed: a plan of all architectures can ask for half a billion runs.

        Raises:
            CorruptFileError: A plan is unreadable.
        """
        paths = self.plans()
        num_runs: dict[str, int] = {}
        for path in paths:
            plan = _read_plan(path, self.space)
            if plan is not None:
                for arch in plan["archs"]:
                    num_runs[arch] = max(num_runs.get(arch, 0), plan["num_runs"])
        return num_runs if paths else None

    def add_failure(self, failure: Failure) -> None:
        """Record that a run failed.

        Raises:
            StorageError: The file system refused.
        """
        content = json.dumps(dataclasses.asdict(failure), indent=1) + "\n"
        write_atomic((self._failure_path((failure.arch, failure.run)), content.encode()))

    def clear_failure(self, key: RunKey) -> None:
        """Forget that a run failed, where that is on record.

        Raises:
            StorageError: The file system refused.
        """
        try:
            self._failure_path(key).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot remove {str(self._failure_path(key))!r}: {os_reason(error)}") from None

    def failures(self) -> list[Failure]:
        """Failed runs on record that have no part, in order of (architecture, run)."""
        failures = []
        for path in sorted(self.folder.glob("failed/*.json")):
            try:
                failure = Failure(**parse_json(read_file(path, "record of a failure", MIB), "it"))
                _check_failure(failure)
            except (ChannelBenchError, ValueError, TypeError):
                continue  # just removed, or no record of ours; a run without a part is missing in any case
            if not self.path((failure.arch, failure.run)).exists():
                failures.append(failure)
        return failures

    def _failure_path(self, key: RunKey) -> Path:
        return self.folder / "failed" / f"{key[0]}-{key[1]}.json"

    def keys(self) -> set[RunKey]:
        """All runs that have a part, by file name."""
        keys = set()
        for path in self.folder.glob("parts/[1-4][1-4]/*.json"):
            name = _PART_NAME.fullmatch(path.name)
            if name is not None and path.parent.name == name[1][:2] and int(name[2]) <= MAX_NUMBER:
                keys.add((name[1], int(name[2])))
        return keys

    def read(self, key: RunKey) -> RunRecord:
        """One run.

        Raises:
            CorruptFileError: Its part is cut off or damaged, or holds another run than its name says.
        """
        return self._read(self.path(key), key)

    def _read(self, path: Path, key: RunKey) -> RunRecord:
        try:
            text = read_file(path, "run", MAX_PART_BYTES).decode(errors="replace")
        except MissingDataError as error:
            raise StorageError(f"cannot read {str(path)!r}: {error}") from None
        checksum, _, body = text.partition("\n")
        body = body.removesuffix("\n")
        if hashlib.sha256(body.encode()).hexdigest() != checksum:
            raise CorruptFileError(f"run {str(path)!r} is damaged: its checksum differs; build again to redo it")
        try:
            record = RunRecord.from_json(body)
        except CorruptFileError as error:
            raise CorruptFileError(f"run {str(path)!r} is damaged: {error}; build again to redo it") from None
        if (record.arch, record.run) != key:
            raise CorruptFileError(f"run {str(path)!r} contains {record.arch} run {record.run}; build again to redo it")
        if record.seed != self.info.base_seed + record.run:
            raise CorruptFileError(
                f"run {str(path)!r} has seed {record.seed}, not that of its run; build again to redo it"
            )
        return record

    def backends(self, keys: Collection[RunKey]) -> set[str]:
        """The programs that trained some of these runs: of all where they are few, else of a sample of them."""
        ordered = sorted(keys)
        found = set()
        for key in ordered[:: max(1, len(ordered) // NUM_SAMPLED)]:
            try:
                found.add(self.read(key).backend)
            except (CorruptFileError, StorageError):  # moved meanwhile by another builder
                continue
        return {name for name in found if name is not None}

    def set_aside_corrupt(self, leases: Leases) -> list[Path]:
        """Move damaged parts to corrupt/, so that their runs are trained again.

        Each is read again and moved under the lease of its run, because another builder may have moved it already, and
        may have written a good one.

        Args:
            leases: Those of the builder that asks.

        Returns:
            Where they went.

        Raises:
            StorageError: The file system refused.
        """
        moved = []
        for key in sorted(key for key in self.keys() if self._is_corrupt(key)):
            if not leases.take([key]):
                continue  # the builder that holds it is still at work on it
            try:
                moved += self.set_aside(key)
            finally:
                leases.release(key, done=False)
        return moved

    def set_aside(self, key: RunKey) -> list[Path]:
        """Move a run's part to corrupt/ if it is damaged; only the builder that holds the run's lease may call this.

        Returns:
            Where it was moved; None if it was not.

        Raises:
            StorageError: The file system refused.
        """
        if not self._is_corrupt(key):
            return []
        path = self.path(key)
        target = self.folder / "corrupt" / f"{path.name}.{uuid.uuid4().hex}"
        make_folder(target.parent)
        try:
            os.replace(path, target)
            sync_folder(target.parent)
            try:
                self._read(target, key)
            except CorruptFileError:
                return [target]
            # A worker that outlived its builder was faster: what was moved is a good part that replaced the bad one.
            publish_once(path, target.read_bytes())
            target.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"cannot set {str(path)!r} aside: {os_reason(error)}") from None
        return []

    def is_done(self, key: RunKey) -> bool:
        """Whether a run has an intact part.

        Raises:
            StorageError: It cannot be read.
        """
        # Opening the folder makes a network file system ask its server for names that it believed absent.
        try:
            os.close(os.open(self.path(key).parent, os.O_RDONLY))
        except OSError:
            return False
        return self.path(key).exists() and not self._is_corrupt(key)

    def _is_corrupt(self, key: RunKey) -> bool:
        try:
            self.read(key)
        except CorruptFileError:
            return True
        except StorageError:
            if self.path(key).exists():
                raise
        return False


def _read_plan(path: Path, space: Space) -> dict[str, Any] | None:
    """A plan as it was written; None where it is gone: a builder that just started has replaced it.

    Raises:
        CorruptFileError: It is no plan of architectures of the space.
    """
    try:
        plan = parse_json(read_file(path, "plan", MAX_PLAN_BYTES), "it")
        archs, num_runs = plan["archs"], plan["num_runs"]
        if type(num_runs) is not int or not 1 <= num_runs <= MAX_NUMBER:
            raise ValueError(f"num_runs is {num_runs!r}, allowed are 1..{MAX_NUMBER}")
        if not isinstance(archs, list) or not isinstance(plan.setdefault("request", ""), str):
            raise ValueError("archs is no list, or request is no text")
        return {**plan, "archs": [space.text(str(arch)) for arch in archs]}
    except MissingDataError:
        return None
    except (CorruptFileError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptFileError(f"{str(path)!r} is unreadable: {error}") from None


def _check_info(info: StoreInfo) -> None:
    """Refuse what no builder writes, whoever hashed it.

    Raises:
        ValueError: A field is not what it should be.
    """
    for field in dataclasses.fields(info):
        value, kind = getattr(info, field.name), str(field.type)
        if type(value).__name__ != kind.partition("[")[0]:
            raise ValueError(f"{field.name} is {repr(value)[:60]}, not {kind}")
    if not 0 <= info.base_seed <= MAX_SEED:
        raise ValueError(f"base_seed is {info.base_seed}, allowed are 0..{MAX_SEED}")
    Recipe.from_dict(info.recipe)


def _check_failure(failure: Failure) -> None:
    """Refuse what no builder writes.

    Raises:
        ValueError: A field is not what it should be.
    """
    texts = (failure.error, failure.trace, failure.host, failure.time)
    numbers = ((failure.run, MAX_NUMBER), (failure.seed, 2**63 - 1), (failure.tries, MAX_TRIES))
    if not all(isinstance(text, str) for text in (failure.arch, *texts)):
        raise ValueError("a text is no text")
    if not all(type(number) is int and 0 <= number <= most for number, most in numbers):
        raise ValueError("a number is out of range")
    if _PART_NAME.fullmatch(f"{failure.arch}-{failure.run}.json") is None:
        raise ValueError("it is about no run")
