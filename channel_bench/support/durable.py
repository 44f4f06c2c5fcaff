"""Write files whole or not at all, also through a power cut or a kill -9.

Every result is written by one of two functions: `write_atomic` replaces files, `publish_once` lets the first writer
win. Both write a temporary file in the same folder, fsync it, move it into place in one step, and fsync the folder.
A write that fails (no space, no permission) leaves the old file untouched and no temporary file behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from channel_bench.errors import StorageError, os_reason
from channel_bench.support.processes import is_gone, this_process
from channel_bench.support.reading import shown_path

TEMPORARY_PREFIX = ".writing-"
LEFTOVER_AGE_S = 3600.0
"""No write takes that long: a temporary file of this age is of a writer that was killed, wherever it ran."""


def write_atomic(*files: tuple[Path, bytes]) -> None:
    """Write files, replacing those that are there.

    Several files are all written out before the first is moved into place, so that a full disk changes none of them.
    They are moved in the order given: put last the one that says that the others are there, because a kill between two
    moves leaves the first ones only. Temporary files that killed commands of this machine left in the same folders go.

    Args:
        *files: Pairs of a path and its contents.

    Raises:
        StorageError: The file system refused; the old files, if any, are untouched.
    """
    with contextlib.ExitStack() as stack:
        temporaries = [stack.enter_context(_temporary(path)) for path, _ in files]
        for temporary, (path, data) in zip(temporaries, files, strict=True):
            if path.is_dir():
                raise StorageError(f"cannot write {shown_path(path)}: it is a folder")
            _write_synced(temporary, data)
        for temporary, (path, _) in zip(temporaries, files, strict=True):
            os.replace(temporary, path)
            sync_folder(path.parent)
    for folder in {path.parent for path, _ in files}:
        for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
            if is_gone(_writer(leftover)):
                with contextlib.suppress(OSError):
                    leftover.unlink()


def check_writable(path: Path) -> None:
    """Refuse a path that cannot be written, before the work whose result goes there.

    Raises:
        StorageError: The folder cannot be made or written, or the path is a folder.
    """
    try:
        is_folder = path.is_dir()
        new = [parent for parent in path.parents if not parent.exists()]
    except OSError as error:
        raise StorageError(f"cannot write {shown_path(path)}: {os_reason(error)}") from None
    if is_folder:
        raise StorageError(f"cannot write {shown_path(path)}: it is a folder")
    with _temporary(path) as temporary:
        _write_synced(temporary, b"")
    for parent in new:  # if the work fails, no empty folder is left
        with contextlib.suppress(OSError):
            parent.rmdir()


def publish_once(path: Path, data: bytes) -> bool:
    """Write a file unless one of that name is there; of several writers the first wins.

    Returns:
        Whether this call wrote the file.

    Raises:
        StorageError: The file system refused.
    """
    with _temporary(path) as temporary:
        _write_synced(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            # Some network file systems have no hard links. Replacing is safe there too: writers of one name write the
            # same run.
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            if path.exists():
                return False
            os.replace(temporary, path)
        sync_folder(path.parent)
        return True


@contextlib.contextmanager
def marked(folder: Path) -> Iterator[Path]:
    """A folder that has a file of a name of its own for the time of the context.

    A process that sees the file sees the same folder, whatever machine it runs on and whatever is mounted there.

    Yields:
        The absolute path of the file.

    Raises:
        StorageError: The file system refused.
    """
    make_folder(folder)
    mark = folder.resolve() / _temporary_name()
    try:
        _write_synced(mark, b"")
    except OSError as error:
        raise StorageError(f"cannot write into folder {shown_path(folder)}: {os_reason(error)}") from None
    try:
        yield mark
    finally:
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents if they are missing.

    Raises:
        StorageError: The file system refused.
    """
    try:
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(exist_ok=True)
            sync_folder(parent.parent)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise StorageError(f"cannot make folder {shown_path(folder)}: {os_reason(error)}") from None


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of killed writers: those of this machine at once, those of others after an hour.

    Ages are differences of times that the file system itself wrote, so no machine's clock matters.

    Raises:
        StorageError: The file system refused.
    """
    leftovers = list(folder.rglob(f"{TEMPORARY_PREFIX}*"))
    if not leftovers:
        return
    with _temporary(folder / "now") as probe:
        _write_synced(probe, b"")
        now = probe.stat().st_mtime
    for leftover in leftovers:
        with contextlib.suppress(FileNotFoundError):
            if is_gone(_writer(leftover)) or now - leftover.stat().st_mtime > LEFTOVER_AGE_S:
                leftover.unlink()


def _temporary_name() -> str:
    return f"{TEMPORARY_PREFIX}{this_process()}-{uuid.uuid4().hex}"


def _writer(temporary: Path) -> str:
    """The process that writes a temporary file, as `this_process` names it."""
    return temporary.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    if "\0" in str(path):
        raise StorageError(f"cannot write {shown_path(path)}: a name holds no null byte")
    make_folder(path.parent)
    temporary = path.parent / _temporary_name()
    try:
        yield temporary
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot write {shown_path(path)}: {os_reason(error)}; what was there is unchanged"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
