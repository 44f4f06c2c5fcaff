"""Where data lies on this machine, and folders that are this user's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from channel_bench.errors import ArgumentError, MissingPackageError

DATA_VARIABLE = "CHANNEL_BENCH_DATA"


def default_data_dir() -> Path:
    """$CHANNEL_BENCH_DATA where it is set, else a folder in the user's cache.

    Raises:
        MissingPackageError: It is not set, and platformdirs, which knows the user's cache, is not installed.
    """
    return _configured() or _user_cache()


def private_cache(name: str) -> Path:
    """A folder in the user's cache, made for this user alone.

    Without platformdirs, which a bare machine may lack, it lies in $CHANNEL_BENCH_DATA.

    Args:
        name: Of the folder: "native".

    Raises:
        ArgumentError: The folder belongs to another user, or others can write it.
        MissingPackageError: As `default_data_dir`.
        OSError: The file system refused.
    """
    try:
        cache = _user_cache()
    except MissingPackageError:
        configured = _configured()
        if configured is None:
            raise
        cache = configured
    return make_private(cache / name, "set $XDG_CACHE_HOME")


def make_private(folder: Path, advice: str) -> Path:
    """Make a folder for this user alone.

    Args:
        folder: The folder.
        advice: What to set to use another one, for the message.

    Returns:
        The folder.

    Raises:
        ArgumentError: It belongs to another user, or others can write it.
        OSError: The file system refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_uid == os.getuid():
        folder.chmod(0o700)
    if not is_private(folder):
        raise ArgumentError(
            f"cache folder {str(folder)!r} is not this user's alone, so nothing is loaded from it: {advice} to a"
            " folder of your own"
        )
    return folder


def is_private(path: Path) -> bool:
    """Whether a file or folder is there, is no link, belongs to this user, and can be written by nobody else."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    others_write = stat.S_IWGRP | stat.S_IWOTH
    return not stat.S_ISLNK(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & others_write


def _configured() -> Path | None:
    folder = os.environ.get(DATA_VARIABLE)
    return Path(folder).expanduser() if folder else None


def _user_cache() -> Path:
    try:
        from platformdirs import user_cache_path
    except ImportError:
        raise MissingPackageError(
            f"without the package platformdirs the user's cache folder is not known: set ${DATA_VARIABLE} to a folder"
            " of your own, or pip install platformdirs"
        ) from None
    return user_cache_path("channel-bench")
