"""Where a plug-in's code is: the object behind a text, and the line of it at which something happened.

>>> find_object("my_method.py:MyMethod", "method", "fit")      # or "my_package.module:MyMethod"
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import operator
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NamedTuple

from channel_bench.errors import ArgumentError, ChannelBenchError, MissingDataError, unknown_name

Factory = Callable[..., Any]
_WATCHERS = ("harness.check.checker", "harness.check.isolation", "harness.locate", "harness.method", "harness.registry")
"""Modules that stand between a built-in method's lines and those of the check; never what is looked for."""


def find_object(text: str, kind: str, function: str) -> Factory:
    """Import a module or a file, and find what makes a plug-in in it.

    Args:
        text: "module:Class", or "path/to/file.py:Class". The current folder, or that of the file, goes on the module
            search path and stays there, because a plug-in may import from it later.
        kind: What is looked for, for messages: "method".
        function: Function that its classes have, for suggestions: "fit".

    Raises:
        UnknownNameError: No class there has this name.
        MissingDataError: There is no such file.
        ArgumentError: The module cannot be imported, or what it holds cannot be called.
    """
    source, _, name = text.rpartition(":")
    module = _import(source)
    try:
        factory: Factory = operator.attrgetter(name)(module)
    except AttributeError:
        there = [key for key, value in vars(module).items() if hasattr(value, function)]
        raise unknown_name(f"{kind} class of {source!r}", name, there) from None
    if not callable(factory):
        raise ArgumentError(f"{text!r} is {factory!r:.60}, which makes no {kind}: allowed are classes and functions")
    return factory


def _import(source: str) -> ModuleType:
    """Import a module by name or a file by path."""
    path = Path(source)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise MissingDataError(f"file {source!r} does not exist")
    folder = str(path.resolve().parent) if is_file else os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return _import_file(path) if is_file else importlib.import_module(source)
    except ChannelBenchError:
        raise
    except Exception as error:
        package = path.stem if is_file else source.partition(".")[0]
        raise ArgumentError(f"cannot import {source!r}: {shown(error)}{raised_at(error, package)}") from error


def _import_file(path: Path) -> ModuleType:
    # Under its own name where that is free, so that its classes look the same as when it is imported.
    name = path.stem if path.stem not in sys.modules else f"checked_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class CodePosition(NamedTuple):
    """A line that was being executed."""

    module: str
    file: str
    line: int


def positions(frames: Iterable[tuple[FrameType, int]]) -> list[CodePosition]:
    """Positions of frames as `traceback.walk_stack` and `traceback.walk_tb` give them, in their order."""
    return [CodePosition(frame.f_globals.get("__name__", ""), frame.f_code.co_filename, line) for frame, line in frames]


def place(innermost_first: Iterable[CodePosition], package: str) -> str:
    """The innermost line of a package's code as " (file.py:12)"; empty where there is none."""
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
