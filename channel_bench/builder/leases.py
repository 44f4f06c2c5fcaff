"""Leases: which of several builders trains a run, on one machine or on many that share a file system.

    with Leases(store.folder) as leases:
        if leases.take([key]) == {key}: ...
            leases.release(key, done=True)

    runs/
      builders/<id>             one per builder: the name of its process, its host, and a counter that keeps changing
      leases/4344424-0.1        the builder that trains a run; after one that died comes 4344424-0.2

A lease is made by exclusive creation, so exactly one builder gets it. It holds as long as its builder lives. A builder
is dead when its process is gone, which only its own machine can see, or when its counter has not changed for
DEAD_AFTER_S seconds of the observer's own clock. Clocks of two machines are never compared, so they may be wrong or
jump.

A lease of a dead builder is not removed; the next builder makes a lease of the next number, and the highest number
counts. Removing would be a race: between the look and the removal a faster builder may have made a lease of its own,
and that one would be removed. All leases of a run are removed when its part (the file of its result) is there, and a
builder that takes a lease looks for the part once more. If a living builder is taken for dead, the run is trained
twice and nothing worse happens: the first writer of a part wins.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Iterable, Set
from pathlib import Path
from types import TracebackType

from channel_bench.errors import ChannelBenchError, CorruptFileError, StorageError, os_reason
from channel_bench.support.durable import make_folder
from channel_bench.support.processes import is_gone, this_process
from channel_bench.support.reading import parse_json, read_file

RunKey = tuple[str, int]
"""(architecture as text, number of the run)."""

HEARTBEAT_S = 3.0
"""Seconds between two changes of a builder's counter."""
DEAD_AFTER_S = 60.0
"""Seconds without a change after which a builder counts as dead: 20 heartbeats, so that a slow file system is hardly
ever mistaken for a death."""

MAX_FILE_BYTES = 4096
"""Largest file of a builder or of a lease that is read."""

_LEASE_NAME = re.compile(r"([1-4]{7})-(0|[1-9][0-9]*)\.([1-9][0-9]*)")


class Watch:
    """What one observer knows about the builders of a folder."""

    def __init__(self, folder: Path) -> None:
        """Know nothing yet."""
        self._folder = folder / "builders"
        # Of each builder the last contents of its file, and when this observer first saw them, on its own clock.
        self._seen: dict[str, tuple[bytes, float]] = {}

    def ids(self) -> list[str]:
        """Every builder that has a file, dead or alive."""
        try:
            return sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return []

    def is_dead(self, builder: str) -> bool:
        """Whether a builder's process is gone, or its counter has stood still for long.

        A builder that is seen for the first time counts as alive, unless its process is of this machine and gone.
        """
        state = self._read(builder)
        # A file that is missing has the state b"", which never changes: its builder, too, is dead after DEAD_AFTER_S.
        if is_gone(_fact(state, "process")):
            return True
        since = self._since(builder, state)
        return time.monotonic() - since > DEAD_AFTER_S

    def alive(self) -> list[str]:
        """The builders that live now, as "host, process 123"; waits some heartbeats for those of other machines."""
        candidates = {builder: self._read(builder) for builder in self.ids()}
        candidates = {builder: state for builder, state in candidates.items() if not is_gone(_fact(state, "process"))}
        own = this_process().partition(".")[0]
        # All counters run while the first one is waited for, so one deadline serves all.
        deadline = time.monotonic() + 3 * HEARTBEAT_S
        alive = []
        for builder, state in candidates.items():
            # A process of this machine that is not gone lives; of another machine only a moving counter is a proof.
            is_here = _fact(state, "process").partition(".")[0] == own
            while not is_here and self._read(builder) == state and time.monotonic() < deadline:
                time.sleep(HEARTBEAT_S / 10)
            if is_here or self._read(builder) not in (state, b""):
                number = _fact(state, "process").partition(".")[2].partition(".")[0]
                alive.append(f"{_fact(state, 'host')}, process {number}")
        return alive

    def _since(self, builder: str, state: bytes) -> float:
        """The moment of this observer's clock at which it first saw a builder in this state."""
        before = self._seen.get(builder)
        if before is None or before[0] != state:
            before = self._seen[builder] = (state, time.monotonic())
        return before[1]

    def _read(self, builder: str) -> bytes:
        """Contents of a builder's file; empty if the file is missing."""
        return _read_small(self._folder / (builder or "-"))


def _fact(state: bytes, name: str) -> str:
    try:
        return str(parse_json(state.partition(b"\n")[0], "builder")[name])
    except (CorruptFileError, TypeError, KeyError):
        return ""


class Leases:
    """One builder's part in a folder, from entering to leaving the context.

    Attributes:
        id: Name of the builder.
        token: The builder's file, whose name is unique: a process that sees it sees the same folder.
    """

    def __init__(self, folder: Path) -> None:
        """Choose a name; nothing is written yet."""
        self.id = uuid.uuid4().hex
        self.token = folder / "builders" / self.id
        self.watch = Watch(folder)
        self._leases = folder / "leases"
        self._held: dict[RunKey, Path] = {}
        self._count = 0
        self._leaving = threading.Event()
        self._heart = threading.Thread(target=self._keep_beating, daemon=True)

    def __enter__(self) -> Leases:
        """Appear in the folder and keep the counter going.

        Raises:
            StorageError: The folder cannot be written.
        """
        make_folder(self.token.parent)
        make_folder(self._leases)
        try:
            self._beat()
        except OSError as error:
            raise StorageError(f"cannot write in {str(self.token.parent)!r}: {os_reason(error)}") from None
        # The first look starts the clock of each builder; what does not move until DEAD_AFTER_S later is dead.
        for builder in self.watch.ids():
            self.watch.is_dead(builder)
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release all leases and remove the own file, and those of dead builders that hold no lease."""
        self._leaving.set()
        self._heart.join()
        for key in list(self._held):
            self.release(key, done=False)
        with contextlib.suppress(OSError):
            self.token.unlink(missing_ok=True)
            # The file of a dead builder stays while a lease names it: with it the others see that the holder is dead
            # at once, instead of after DEAD_AFTER_S.
            holders = {_read_text(path) for paths in self._scan().values() for path in paths.values()}
            for builder in self.watch.ids():
                if builder not in holders and self.watch.is_dead(builder):
                    (self.token.parent / builder).unlink(missing_ok=True)

    def others(self) -> bool:
        """Whether there is another builder that may be alive."""
        return any(builder != self.id and not self.watch.is_dead(builder) for builder in self.watch.ids())

    def take(self, keys: Iterable[RunKey]) -> set[RunKey]:
        """Take the lease of each run that is free or whose holder is dead.

        Returns:
            The runs whose lease is this builder's now.

        Raises:
            StorageError: The file system refused.
        """
        there = self._scan()
        return {key for key in keys if self._take(key, there.get(key, {}))}

    def release(self, key: RunKey, done: bool) -> None:
        """Give up a lease.

        Args:
            key: The run.
            done: Whether its part is there; then the leases of dead builders are removed as well.
        """
        own = self._held.pop(key, None)
        # Number 1 has no earlier lease, so the common case needs no scan.
        paths = list(self._scan().get(key, {}).values()) if done and own is not None and own.suffix != ".1" else []
        for path in (*paths, own):
            if path is not None:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def running(self) -> set[RunKey]:
        """Every run whose last lease is held by a builder that is not known to be dead."""
        return {key for key, paths in self._scan().items() if not self.watch.is_dead(_read_text(paths[max(paths)]))}

    def tidy(self, done: Set[RunKey]) -> None:
        """Remove leases that dead builders left on runs whose part is there."""
        for key, paths in self._scan().items():
            if key in done and self.watch.is_dead(_read_text(paths[max(paths)])):
                for path in paths.values():
                    with contextlib.suppress(OSError):
                        path.unlink(missing_ok=True)

    def _take(self, key: RunKey, there: dict[int, Path]) -> bool:
        """Take one lease; False if another builder holds it, or was faster.

        Args:
            key: The run.
            there: Its leases by number, as `_scan` saw them.
        """
        number = max(there, default=0)
        # An empty lease names no builder: its maker was killed between creating and writing, or is about to write. The
        # watch then looks for a builder of the lease's own file name, which has no file, so the lease is free after
        # DEAD_AFTER_S and not before.
        if number and not self.watch.is_dead(_read_text(there[number]) or there[number].name):
            return False
        path = self._leases / f"{key[0]}-{key[1]}.{number + 1}"
        try:
            # O_EXCL decides: of all builders that try at the same moment, exactly one creates the file.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        except OSError as error:
            raise StorageError(f"cannot write {str(path)!r}: {os_reason(error)}") from None
        self._held[key] = path
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(self.id)
        except OSError as error:
            self.release(key, done=False)
            raise StorageError(f"cannot write {str(path)!r}: {os_reason(error)}") from None
        return True

    def _scan(self) -> dict[RunKey, dict[int, Path]]:
        """The leases of every run, as {run: {number: file}}."""
        leases: dict[RunKey, dict[int, Path]] = {}
        try:
            names = os.listdir(self._leases)
        except FileNotFoundError:
            return leases
        for name in names:
            parts = _LEASE_NAME.fullmatch(name)
            if parts is not None:
                leases.setdefault((parts[1], int(parts[2])), {})[int(parts[3])] = self._leases / name
        return leases

    def _keep_beating(self) -> None:
        while not self._leaving.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):  # a full disk may be cleared before anyone calls this builder dead
                self._beat()

    def _beat(self) -> None:
        """Increase the counter in place: the file keeps its length, so that a full disk does not stop the heart."""
        self._count += 1
        facts = json.dumps({"process": this_process(), "host": platform.node()})
        descriptor = os.open(self.token, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, f"{facts}\n{self._count:020}\n".encode())
            os.fsync(descriptor)  # a network file system shows the change to other machines only then
        finally:
            os.close(descriptor)


def _read_text(path: Path) -> str:
    return _read_small(path).decode(errors="replace").strip()


def _read_small(path: Path) -> bytes:
    """Contents of a builder's file or of a lease; empty where there is none, or what is there is no such file."""
    try:
        return read_file(path, "file", MAX_FILE_BYTES)
    except ChannelBenchError:
        return b""
