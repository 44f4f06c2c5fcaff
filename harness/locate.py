"""Find a plug-in's code: the class behind a text, the file it stands in, and the line at which something happened.

>>> find_object("my_method.py:MyMethod", "method", "fit")      # or "my_package.module:MyMethod"
>>> code_of("my_method.py:MyMethod", MyMethod)
{'method_source': 'my_method.py:MyMethod', 'method_sha256': '1f0a...'}
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import itertools
import operator
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NamedTuple

from channel_bench.errors import ArgumentError, ChannelBenchError, MissingDataError, unknown_name
from channel_bench.support.loading import run_as_module
from channel_bench.support.reading import is_file

Factory = Callable[..., Any]
_WATCHERS = (
    "harness.check.checker",
    "harness.check.isolation",
    "harness.locate",
    "harness.method",
    "harness.methods",
    "harness.registry",
)
"""Modules whose lines are never reported as the place of an error: they call the plug-in, they are not it."""


def find_object(text: str, kind: str, function: str) -> Factory:
    """Import a module or a file, and find the class in it that makes a plug-in.

    Args:
        text: "module:Class", or "path/to/file.py:Class". The current folder, or that of the file, goes on the module
            search path and stays there, because a plug-in may import from it later.
        kind: Kind of plug-in, for messages: "method".
        function: Function that a plug-in of this kind has, for suggestions: "fit".

    Raises:
        UnknownNameError: No class there has this name.
        MissingDataError: The file does not exist.
        ArgumentError: The module cannot be imported, or the object of this name cannot be called.
    """
    source, _, name = text.rpartition(":")
    if source.endswith(":"):
        raise ArgumentError(f"{text!r} has two colons: write {source.rstrip(':')}:{name}")
    module = _import(source)
    try:
        factory: Factory = operator.attrgetter(name)(module)
    except AttributeError:
        classes = [key for key, value in vars(module).items() if hasattr(value, function)]
        raise unknown_name(f"{kind} class of {source!r}", name, classes) from None
    if not callable(factory):
        raise ArgumentError(f"{text!r} is {factory!r:.60}, which makes no {kind}: allowed are classes and functions")
    return factory


def code_of(text: str, factory: Factory) -> dict[str, str]:
    """Identify the code of a plug-in that was found by file or module.

    Args:
        text: As for `find_object`.
        factory: What `find_object` found.

    Returns:
        ``method_source``, the text, without the folders of a file: the same file is the same code wherever one stands;
        ``method_sha256``, the SHA-256 of the file that defines the class. Files that this one imports do not count.
    """
    source, _, name = text.rpartition(":")
    shown_source = Path(source).name if source.endswith(".py") else source
    try:
        file = inspect.getsourcefile(factory)
    except TypeError:  # an object that is called, such as functools.partial
        file = _import(source).__file__
    facts = {"method_source": f"{shown_source}:{name}"}
    return facts if file is None else facts | {"method_sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest()}


def _import(source: str) -> ModuleType:
    """Import a module by name or a file by path."""
    path = Path(source)
    in_file = path.suffix == ".py"
    if in_file and not is_file(path):
        raise MissingDataError(f"file {source!r} does not exist")
    folder = str(path.resolve().parent) if in_file else os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return _import_file(path.resolve()) if in_file else importlib.import_module(source)
    except ChannelBenchError:
        raise
    except (Exception, SystemExit) as error:
        package = path.stem if in_file else source.partition(".")[0]
        raise ArgumentError(f"cannot import {source!r}: {shown(error)}{raised_at(error, package)}") from error


_imported: dict[str, bytes] = {}
"""Content of the files that were imported by path, by the name of their module, at that time."""


def _import_file(path: Path) -> ModuleType:
    """Import a file; again only where it has changed, because a class may register itself under a name only once."""
    content = path.read_bytes()
    names = itertools.chain([path.stem], (f"{path.stem}_{number}" for number in itertools.count(2)))
    # Under its own name where that is free, so that its classes look the same as when the module is imported.
    name = next(name for name in names if name not in sys.modules or _is_of(sys.modules[name], path))
    if name in sys.modules and _imported.get(name, content) == content:
        return sys.modules[name]
    module = run_as_module(path, name)
    _imported[name] = content
    return module


def _is_of(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path


class CodePosition(NamedTuple):
    """A line that was being executed."""

    module: str
    file: str
    line: int


def positions(frames: Iterable[tuple[FrameType, int]]) -> list[CodePosition]:
    """Positions of frames as `traceback.walk_stack` and `traceback.walk_tb` give them, in their order."""
    return [CodePosition(frame.f_globals.get("__name__", ""), frame.f_code.co_filename, line) for frame, line in frames]


def place(innermost_first: Iterable[CodePosition], package: str) -> str:
    """The innermost line of a package's code as " (file.py:12)"; empty where no line is of that package."""
    for position in innermost_first:
        if position.module.partition(".")[0] == package and position.module not in _WATCHERS:
            return f" ({_short(position.file)}:{position.line})"
    return ""


def raised_at(error: BaseException, package: str) -> str:
    """The innermost line of a package's code that an exception came through, as `place`."""
    return place(positions(traceback.walk_tb(error.__traceback__))[::-1], package)


def defined_at(factory: Factory) -> str:
    """Where a class begins, as `place`: for errors that arise before any of its code runs."""
    try:
        return f" ({_short(inspect.getsourcefile(factory) or '')}:{inspect.getsourcelines(factory)[1]})"
    except (OSError, TypeError):
        return ""


def shown(error: BaseException) -> str:
    """Kind and text of an exception on one line, without its traceback."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _short(file: str) -> str:
    """A file relative to the current folder where it lies within."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
