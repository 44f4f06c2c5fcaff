"""Find a space by name, and spaces of one's own: registered from Python, in a TOML file, or in an installed package.

    >>> get_space("resnet").max_channels
    (256, 256, 256, 512, 512, 512, 512)
    >>> space = get_space("plain-mini.toml")        # or load_space(path); as --space or SPACE of every command

The file:

    name = "plain-mini"
    family = "plain.py:plain"            # or "resnet", "mobilenet", a registered or installed name, "module:function"
    max_channels = [8, 8, 8, 8, 16, 16, 16]
    input_shape = [1, 8, 8]              # channels, height, width
    num_classes = 10
    dataset = "digits"                   # or "digits-placed", "cifar10", a folder of Parquet files, an .npz file
    recipe = "mini"                      # or "paper"
    table = "plain-mini.parquet"         # the default table; may be left out

Paths are relative to the file. A package offers spaces under the entry-point group ``channel_bench.spaces``, each an
object of class Space.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from channel_bench.errors import (
    ArgumentError,
    CorruptFileError,
    MissingPackageError,
    UnknownNameError,
    unknown_name,
)
from channel_bench.recipe import get_recipe
from channel_bench.space.families import installed_in, is_built_in, layers_of, load_installed
from channel_bench.space.layers import NUM_SLOTS, Layer
from channel_bench.space.space import BUILT_IN, NUM_WIDTHS, Space
from channel_bench.support.reading import read_file

GROUP = "channel_bench.spaces"
"""Entry-point group under which installed packages offer spaces."""
MAX_FILE_BYTES = 2**16
MAX_CHANNELS, MAX_EDGE, MAX_CLASSES = 2**14, 1024, 2**16
"""Of a space: channels of a slot or an image, pixels along an edge of an image, classes."""
MAX_TEXT = 1000

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
_TYPES: dict[str, type] = {
    "name": str,
    "family": str,
    "max_channels": list,
    "input_shape": list,
    "num_classes": int,
    "dataset": str,
    "recipe": str,
    "table": str,
}
_OPTIONAL = ("table",)
_registered: dict[str, tuple[Space, str]] = {}
"""Spaces of this process by name, each with where it is from: its file, or "" from Python."""


def list_spaces() -> list[str]:
    """Names of the spaces of this package, then of those that are registered in this process."""
    return [*BUILT_IN, *_registered]


def get_space(name: str | Path | Space) -> Space:
    """Find a space by name, or read one from a TOML file; a Space is passed through.

    Args:
        name: The name of a space of this package, or of one that is registered or installed; or the path of a file that
            ends in .toml, whose space is then registered, too.

    Raises:
        UnknownNameError: No space has this name.
        MissingDataError, CorruptFileError, ArgumentError: As `load_space`; or an installed space is none.
    """
    if isinstance(name, Space):
        return name
    if isinstance(name, Path) or (isinstance(name, str) and name.endswith(".toml")):
        return load_space(name)
    if not isinstance(name, str):
        raise unknown_name("space", name, list_spaces())
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name in _registered:
        return _registered[name][0]
    installed = installed_in(GROUP)
    if name in installed:
        space = load_installed("space", name, installed[name])
        if not isinstance(space, Space) or space.name != name:
            raise ArgumentError(
                f"installed space {name!r} ({installed[name].value}) is {str(space)[:60]!r}: allowed is a Space of"
                " that name"
            )
        return register_space(space, origin=installed[name].value)
    raise unknown_name("space", name, [*list_spaces(), *installed, "a TOML file"])


def register_space(space: Space, *, origin: str = "") -> Space:
    """Make a space known by its name in this process, so that its files can be read.

    Worker processes of a build are told of it. Commands that start processes by name, such as a ranking of several
    seeds, need its TOML file or an installed package.

    Args:
        space: The space.
        origin: Where it is from. A space of the same name and origin replaces the one that is there.

    Returns:
        The space.

    Raises:
        ArgumentError: A value is out of range, or the name belongs to another space.
        UnknownNameError: There is no such recipe.
    """
    check_space(space)
    known = _registered.get(space.name)
    if known is not None and known[0] != space and known[1] != origin:
        where = f"{known[1]!r}" if known[1] else "Python"
        raise ArgumentError(
            f"space {space.name!r} is known from {where} with other values: give one of the two another name"
        )
    _registered[space.name] = (space, origin)
    return space


def check_space(space: Space) -> None:
    """Refuse a space whose networks cannot be made, or whose name cannot stand in files.

    Raises:
        ArgumentError: A value is out of range, or the name belongs to a space of this package.
        UnknownNameError: There is no such recipe.
    """

    def fail(what: str) -> ArgumentError:
        return ArgumentError(f"space {str(space.name)[:60]!r}: {what}")

    if not isinstance(space.name, str) or not _NAME.fullmatch(space.name):
        raise fail("allowed as a name are lower-case letters, digits, - and _, at most 60")
    if space.name in BUILT_IN and space != BUILT_IN[space.name]:
        raise fail("the name belongs to a space of channel-bench: choose another one")
    channels = space.max_channels
    if len(channels) != NUM_SLOTS or not all(_is_whole(count, NUM_WIDTHS, MAX_CHANNELS) for count in channels):
        raise fail(
            f"max_channels is {str(list(channels))[:60]}: allowed are {NUM_SLOTS} whole numbers"
            f" {NUM_WIDTHS}..{MAX_CHANNELS}"
        )
    for slot, count in enumerate(channels):
        if count % NUM_WIDTHS:
            raise fail(f"max_channels of slot {slot} is {count}: allowed are numbers divisible by {NUM_WIDTHS}")
    shape = space.input_shape
    if len(shape) != 3 or not all(_is_whole(count, 1, MAX_EDGE) for count in shape):
        raise fail(
            f"input_shape is {str(list(shape))[:60]}: allowed are three whole numbers 1..{MAX_EDGE},"
            " [channels, height, width]"
        )
    if not _is_whole(space.num_classes, 2, MAX_CLASSES):
        raise fail(f"num_classes is {str(space.num_classes)[:60]}: allowed is a whole number 2..{MAX_CLASSES}")
    get_recipe(space.recipe)


def _is_whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def load_space(path: str | Path) -> Space:
    """Read a space from a TOML file, and register it.

    Args:
        path: The file; its keys are in the module's docstring. The code of a family that it names is run.

    Raises:
        MissingDataError: There is no such file.
        CorruptFileError: It is no regular file, too large, or not TOML.
        ArgumentError: A key is missing, unknown or of the wrong type, or a value is not allowed (`check_space`).
        UnknownNameError: There is no such family or recipe.
        MissingPackageError: Python is 3.10 and has no package tomli.
    """
    path = Path(path)
    shown = str(path)
    values = _parse(read_file(path, "space file", MAX_FILE_BYTES), shown)
    _check_values(values, shown)
    folder = path.resolve().parent
    try:
        draft = Space(
            **{
                **values,
                "family": "resnet",
                "max_channels": tuple(values["max_channels"]),
                "input_shape": tuple(values["input_shape"]),
                "dataset": _dataset(values["dataset"], folder),
                "table": None if "table" not in values else str(folder / values["table"]),
            }
        )
        # The numbers first: a family is asked about images of a reasonable size only.
        check_space(draft)
        family = values["family"]
        layers = () if is_built_in(family) else layers_of(family, draft.input_shape[1:], folder)
        family = Path(family).name if ".py:" in family else family
        space = dataclasses.replace(draft, family=family, own_layers=layers)
        return register_space(space, origin=str(path.resolve()))
    except ArgumentError as error:
        raise ArgumentError(f"space file {shown!r}: {error}") from None
    except UnknownNameError as error:
        raise UnknownNameError(f"space file {shown!r}: {error}") from None


def _parse(data: bytes, shown: str) -> dict[str, Any]:
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    try:
        reader = importlib.import_module(name)
    except ImportError:
        raise MissingPackageError("Python 3.10 reads TOML by the package tomli: pip install tomli") from None
    try:
        values: dict[str, Any] = reader.loads(data.decode())
        return values
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        raise CorruptFileError(f"space file {shown!r} is not TOML: {' '.join(str(error).split())[:200]}") from None


def _check_values(values: dict[str, Any], shown: str) -> None:
    """Refuse keys that are missing or unknown, and values of another type."""
    keys = ", ".join(_TYPES)
    for key in values:
        if key not in _TYPES:
            raise ArgumentError(f"space file {shown!r} has an unknown key {key[:60]!r}: allowed are {keys}")
    for key, kind in _TYPES.items():
        if key not in values:
            if key in _OPTIONAL:
                continue
            raise ArgumentError(f"space file {shown!r} has no {key}: its keys are {keys}")
        value: Any = values[key]
        if type(value) is not kind:
            words = {str: "text", list: "a list of whole numbers", int: "a whole number"}[kind]
            raise ArgumentError(f"space file {shown!r}: {key} is {str(value)[:60]!r}, allowed is {words}")
        if isinstance(value, str) and not (0 < len(value) <= MAX_TEXT and value.isprintable()):
            raise ArgumentError(
                f"space file {shown!r}: {key} is {value[:60]!r}, allowed is text of 1 to {MAX_TEXT:,} printable"
                " characters"
            )


def _dataset(text: str, folder: Path) -> str:
    """A data set as `load_dataset` takes it: the name of one, or a path from the folder of the space's file."""
    names = {space.dataset for space in BUILT_IN.values()}
    return text if text in names else str(folder / text)


# -- spaces of files and of other processes ---------------------------------------------------------------------------


def is_own(space: Space) -> bool:
    """Whether a space is not one of this package."""
    return space.name not in BUILT_IN


def known_space(space: str | Path | Space) -> Space:
    """`get_space`; a space of one's own that is passed as an object is registered, so that its files can be read."""
    if isinstance(space, Space) and is_own(space) and get_registered(space.name) != space:
        return register_space(space)
    return get_space(space)


def get_registered(name: str) -> Space | None:
    """The space that is registered in this process under a name, None if there is none."""
    return _registered[name][0] if name in _registered else None


def space_of_file(what: str, made: str, name: str, fingerprint: str) -> Space:
    """The space that a file names.

    Args:
        what: The file, for messages: "table 'mine.parquet'".
        made: How it was made, for messages: "trained with".
        name: Name of the space that it was made in.
        fingerprint: Of that space.

    Raises:
        UnknownNameError: No space of that name is known here; the message says what to do.
        CorruptFileError: The space of that name has other networks here.
    """
    space = named_space(what, name)
    if space.fingerprint != fingerprint:
        changed = ": its TOML file or its family is not as it was" if is_own(space) else ""
        raise CorruptFileError(f"{what} was {made} other networks under the name {name!r}{changed}")
    return space


def named_space(what: str, name: Any) -> Space:
    """The space that a file names, whatever stands there; it never makes this process read another file.

    Args:
        what: The file, for messages: "table 'mine.parquet'".
        name: What the file has as the name of its space.

    Raises:
        UnknownNameError: No space of that name is known here; the message says what to do.
    """
    try:
        return get_space("" if not isinstance(name, str) or name.endswith(".toml") else name)
    except UnknownNameError:
        raise UnknownNameError(
            f"{what} is of space {str(name)[:60]!r}, which is not known here: pass its TOML file with --space; in"
            " Python, call channel_bench.load_space(FILE) or channel_bench.register_space(SPACE) first"
        ) from None


def for_worker(space: Space) -> str:
    """A space as text for another process: its name, or all of it where only this process knows it."""
    return json.dumps(dataclasses.asdict(space)) if is_own(space) else space.name


def in_worker(text: str) -> Space:
    """The space that `for_worker` wrote, known in this process, too."""
    if not text.startswith("{"):
        return get_space(text)
    facts = json.loads(text)
    layers = tuple(Layer(**{**each, "input_size": tuple(each["input_size"])}) for each in facts["own_layers"])
    shapes = {key: tuple(facts[key]) for key in ("max_channels", "input_shape")}
    return register_space(Space(**{**facts, **shapes, "own_layers": layers}))
