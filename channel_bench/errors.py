"""Every error that a user can cause, under one base class.

Each message says what was got, what is allowed and, where it helps, what to do. The command lines print
the message as one line and exit with code 2; the API raises the class. ``except ChannelBenchError`` catches
all of them. What only a defect of this package can cause is an ``assert``, never one of these.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of writing: with them a text shows as another one."""


def printable(text: str) -> str:
    """A text without what a terminal obeys: control characters, lone surrogates, changes of direction become U+FFFD.

    File names, table metadata and leaderboard entries come from others, and an escape sequence in one of them could
    rewrite what the terminal shows. Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        "\ufffd" if char in _TURNS or (char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cs")) else char
        for char in text
    )


class ChannelBenchError(Exception):
    """Base of all errors raised on purpose by channel-bench; its text is one printable line."""

    def __str__(self) -> str:
        """The message, with what came from outside made harmless."""
        return " ".join(printable(super().__str__()).split())


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


class ClusterError(ChannelBenchError, RuntimeError):
    """A Ray cluster cannot be reached, has nothing to work on, or its nodes cannot do the work."""


class MissingPackageError(ChannelBenchError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class BudgetError(ArgumentError):
    """No architecture keeps to a budget, or the architecture that a search chose does not."""


class MethodError(ChannelBenchError, ValueError):
    """A width-search method broke its contract (shape, dtype, finite scores ...)."""


class ExperimentError(ChannelBenchError, RuntimeError):
    """Some cells of an experiment could not be measured; all others are kept."""


EXTRAS = {
    "ConfigSpace": "adapters",
    "fastparquet": "adapters",
    "syne_tune": "adapters",
    "PIL": "train",
    "torch": "train",
    "torchvision": "train",
    "matplotlib": "report",
    "plotly": "report",
    "optuna": "optimise",
    "sklearn": "optimise",
    "pymoo": "search",
    "ray": "cluster",
    "tensorboard": "tensorboard",
}
"""Which extra of this package brings a module that reading, asking and judging do without."""


def missing_package(what: str, module: str, reason: object, instead: str = "") -> MissingPackageError:
    """Build the error for an optional package that cannot be imported.

    Args:
        what: What needs it: "engine ray", "a figure".
        module: The module that could not be imported, a key of `EXTRAS`.
        reason: Why: the ImportError, or "not installed".
        instead: What to do without it, if anything: "use another searcher".

    Returns:
        The error, ready to raise.
    """
    names = {
        "PIL": "Pillow",
        "optuna": "Optuna",
        "sklearn": "scikit-learn",
        "syne_tune": "Syne Tune",
        "tensorboard": "TensorBoard",
        "torch": "PyTorch",
    }
    name = names.get(module, module)
    way_out = f", or {instead}" if instead else ""
    return MissingPackageError(
        f"{what} needs {name} ({reason}): pip install 'channel-bench[{EXTRAS[module]}]'{way_out}"
    )


def absent_module(error: ImportError) -> str | None:
    """The key of `EXTRAS` that was not found; None where something else went wrong, as in a broken installation."""
    root = (error.name or "").partition(".")[0]
    return root if isinstance(error, ModuleNotFoundError) and root in EXTRAS else None


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
