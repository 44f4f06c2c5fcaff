"""Decoded images, kept: decoding the JPEG or PNG files of CIFAR-10 takes seconds, in the builder and in every worker.

    >>> arrays = kept_or_decoded(files, "train 1", decode, default_data_dir() / "decoded")

The arrays of a folder of image files lie as .npy files in a folder that is this user's alone, under a name that is a
hash of what those files contain, so another content is another name. They are memory-mapped, so processes share them,
and checked by their own hash; what is damaged is decoded and written anew. Where nothing can be kept, images are
decoded each time, as without this module.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ChannelBenchError
from channel_bench.support.durable import write_atomic
from channel_bench.support.folders import is_private, make_private

Array = npt.NDArray[Any]
VERSION = b"1"
"""Part of every name: another version of the decoding, or of the files, keeps its arrays apart."""
_HASH_ENDING = ".sha256"


def kept_or_decoded(
    files: Sequence[Path], split: str, decode: Callable[[], Sequence[Array]], folder: Path
) -> Sequence[Array]:
    """The arrays that some files decode to.

    Args:
        files: What is decoded; their contents and order decide the name.
        split: What else the arrays depend on: which of the files are for training.
        decode: Decodes them; called where nothing sound is kept.
        folder: Where arrays are kept.

    Returns:
        What `decode` returns, or the same as arrays that are mapped copy-on-write: changes never reach the file.

    Raises:
        ChannelBenchError, OSError: Those of `decode`.
    """
    try:
        name = _name_of(files, split)
        folder = make_private(folder, "set $CHANNEL_BENCH_DATA")
        kept = _read(folder, name)
    except (ChannelBenchError, OSError):
        return decode()
    if kept is not None:
        return kept
    arrays = decode()
    with contextlib.suppress(ChannelBenchError, OSError):
        _write(folder, name, arrays)
    return arrays


def digest_of(arrays: Sequence[Array]) -> str:
    """SHA-256 over shapes, dtypes and contents of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _name_of(files: Sequence[Path], split: str) -> str:
    digest = hashlib.sha256(VERSION + split.encode())
    for file in files:
        own = hashlib.sha256()
        with open(file, "rb") as opened:
            while block := opened.read(2**20):
                own.update(block)
        digest.update(own.digest())  # not the bytes: where one file ends and the next begins counts
    return digest.hexdigest()[:32]


def _read(folder: Path, name: str) -> list[Array] | None:
    """What is kept under a name; None where that is nothing, or damaged."""
    seal = folder / f"{name}{_HASH_ENDING}"
    paths = sorted(folder.glob(f"{name}-?.npy"))
    if not all(is_private(path) for path in (seal, *paths)):
        return None
    try:
        arrays: list[Array] = [np.load(path, mmap_mode="c", allow_pickle=False) for path in paths]
        is_sound = seal.read_text() == digest_of(arrays)
    except (OSError, ValueError, EOFError):
        return None
    return arrays if is_sound else None


def _write(folder: Path, name: str, arrays: Sequence[Array]) -> None:
    files = []
    for number, array in enumerate(arrays):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        files.append((folder / f"{name}-{number}.npy", buffer.getvalue()))
    # Last the file that says that the others are whole.
    write_atomic(*files, (folder / f"{name}{_HASH_ENDING}", digest_of(arrays).encode()))
