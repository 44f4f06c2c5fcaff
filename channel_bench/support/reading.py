"""Read files that others made: regular files below a stated size, and JSON without surprises.

    >>> data = read_file(path, "score file", 64 * MIB)
    >>> entry = parse_json(data, "entry 'mine.json'")

A path can be a pipe that never answers, a link to an endless device, or larger than memory. JSON can hold a key twice,
a number of thousands of digits, or half a surrogate pair that no output takes. All of that is one line here, before
anything uses it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from channel_bench.errors import ChannelBenchError, CorruptFileError, MissingDataError, os_reason

MIB = 2**20
MAX_JSON_INTEGER = 2**63 - 1
"""What columns and other programs hold."""


def is_there(path: Path | str) -> bool:
    """Whether a path names something; False, and no error, for a text that no file can have as its name."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long a name, a null byte
        return False


def is_file(path: Path | str) -> bool:
    """Whether a path names a regular file; as `is_there`."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path | str) -> bool:
    """Whether a path names a folder; as `is_there`."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def check_file(path: Path, what: str, most_bytes: int) -> int:
    """Refuse what is no regular file of a reasonable size, before anything opens it.

    Args:
        path: The file; links are followed.
        what: What it should be, for the message: "score file".
        most_bytes: Largest size that such a file has.

    Returns:
        Its size in bytes.

    Raises:
        MissingDataError: Nothing is there, or it cannot be looked at.
        CorruptFileError: It is a folder, a pipe, a device, or too large.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: the path holds a null byte
        raise _missing(path, what, error) from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or device"
        raise CorruptFileError(f"{what} {shown_path(path)} is {kind}: only regular files are read")
    if found.st_size > most_bytes:
        raise CorruptFileError(
            f"{what} {shown_path(path)} has {found.st_size:,} bytes: allowed are at most {most_bytes:,} bytes"
        )
    return found.st_size


def read_file(path: Path, what: str, most_bytes: int) -> bytes:
    """The bytes of a regular file of a reasonable size; arguments and errors as `check_file`."""
    check_file(path, what, most_bytes)
    try:
        # Not blocking, should the file have become a pipe meanwhile; never more than is allowed, should it grow.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise _missing(path, what, error) from None
    if len(data) > most_bytes:
        raise CorruptFileError(f"{what} {shown_path(path)} has more than the {most_bytes:,} bytes that are allowed")
    return data


def parse_json(data: bytes | str, what: str) -> Any:
    """Parse JSON strictly: UTF-8, each key once, numbers that are finite and fit 64 bits, text that can be encoded.

    Args:
        data: The document.
        what: What it is, for the message.

    Raises:
        CorruptFileError: It is not such a document; the message says where.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
        )
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{what} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except UnicodeEncodeError:
        raise CorruptFileError(
            f"{what} is not valid JSON: it has half a surrogate pair, which is no character"
        ) from None
    except RecursionError:
        raise CorruptFileError(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise CorruptFileError(f"{what} is not valid JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key[:60]!r} stands twice in one object")
        found[key] = value
    return found


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > MAX_JSON_INTEGER:
        raise ValueError(f"number {text[:20]}{'...' if len(text) > 20 else ''} does not fit 64 bits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"number {text[:20]} is too large")
    return value


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _missing(path: Path, what: str, error: OSError | ValueError) -> ChannelBenchError:
    if isinstance(error, ValueError):
        return MissingDataError(f"{what} {shown_path(path)}: no file can have such a name")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return MissingDataError(f"{what} {shown_path(path)} does not exist")
    return MissingDataError(f"{what} {shown_path(path)} cannot be read: {os_reason(error)}")


def shown_path(path: Path) -> str:
    """A path for a message, not longer than a line."""
    text = str(path)
    return repr(text if len(text) <= 200 else text[:100] + "..." + text[-97:])
