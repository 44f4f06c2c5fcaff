"""Files that are there whole or not at all, also after a power cut or a kill -9.

Every file this project writes goes through one of two functions: `write_atomic` replaces, `publish_once` lets the
first writer win. Both write a temporary file in the same folder, fsync it, move it into place in one step, and fsync
the folder. What fails (no space, no permission) leaves what was there untouched and no temporary file behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from channel_bench.errors import StorageError, os_reason

TEMPORARY_PREFIX = ".writing-"


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file, replacing one that is there.

    Raises:
        StorageError: The file system refused; the old file, if any, is untouched.
    """
    with _temporary(path) as temporary:
        _write_synced(temporary, data)
        os.replace(temporary, path)
        _sync_folder(path.parent)


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
        _sync_folder(path.parent)
        return True


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are missing.

    Raises:
        StorageError: The file system refused.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make folder {str(folder)!r}: {os_reason(error)}") from None


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed writer left; only for the one that holds the folder's lock."""
    for leftover in folder.rglob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    make_folder(path.parent)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        yield temporary
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot write {str(path)!r}: {os_reason(error)}; what was there is unchanged") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
