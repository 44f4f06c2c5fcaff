"""Every error that a user can cause, under one base class.

Each message says what was got, what is allowed and, where it helps, what to do. The command lines print
the message as one line and exit with code 2; the API raises the class. ``except ChannelBenchError`` catches
all of them. What only a defect of this package can cause is an ``assert``, never one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ChannelBenchError(Exception):
    """Base of all errors raised on purpose by channel-bench."""


class ArgumentError(ChannelBenchError, ValueError):
    """An argument is outside what the function allows."""


class ArchError(ArgumentError):
    """A value is not an architecture of the space."""


class UnknownNameError(ChannelBenchError, LookupError):
    """A name (of a space, recipe, table, method, data set ...) is not registered."""


class MissingDataError(ChannelBenchError, LookupError):
    """Something well named is not there: a table that was not downloaded, a row that was not trained."""


class CorruptFileError(ChannelBenchError):
    """A file is not what it should be: checksum, format, schema, counts or content hash."""


class StorageError(ChannelBenchError, OSError):
    """The file system refused: no space, no permission, not a folder."""


class ConflictError(ChannelBenchError, ValueError):
    """Folders that are to be merged hold different results of one run."""


class DownloadError(ChannelBenchError, OSError):
    """A file could not be fetched."""


class BuildError(ChannelBenchError, RuntimeError):
    """Some runs of a build could not be finished; all others are kept."""


class MissingPackageError(ChannelBenchError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class BudgetError(ArgumentError):
    """No architecture keeps to a budget, or the architecture that a search chose does not."""


class MethodError(ChannelBenchError, ValueError):
    """A width-search method broke its contract (shape, dtype, finite scores ...)."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is not registered, with the closest known name.

    Args:
        kind: What the name stands for, singular ("space", "recipe").
        name: What was got.
        known: The registered names.

    Returns:
        The error, ready to raise.
    """
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return UnknownNameError(f"unknown {kind} {name!r}: known are {', '.join(known) or 'none'}{hint}")


def os_reason(error: OSError) -> str:
    """Say in words why the operating system refused ("No space left on device")."""
    return error.strerror or str(error)
