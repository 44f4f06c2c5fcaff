"""Where a method's code is: the class behind a text, and the line of it at which something happened.

    >>> find_factory("my_method.py:MyMethod")      # or "my_package.module:MyMethod", or a registered name

For check.py, which takes methods that nothing is installed or registered for yet, and tells their author where to look.
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
from typing import NamedTuple

from channel_bench.errors import ArgumentError, ChannelBenchError, MissingDataError, unknown_name
from harness.method import Method, get_method, list_methods

Factory = Callable[..., Method]
_WATCHERS = ("harness.check", "harness.isolation", "harness.locate", "harness.method")
"""Modules that stand between a built-in method's lines and those of the check; never what is looked for."""


def find_factory(text: str) -> Factory:
    """Find what makes a method; its module is imported.

    Args:
        text: A registered name, "module:Class", or "path/to/file.py:Class". The current folder, or that of the file,
            goes on the module search path and stays there, because a method may import from it later.

    Raises:
        UnknownNameError: No method or class has this name.
        MissingDataError: There is no such file.
        MethodError: An installed method cannot be imported.
        ArgumentError: The module cannot be imported, or what it holds cannot be called.
    """
    source, colon, name = text.rpartition(":")
    if not colon:
        known = {info.name: info.factory for info in list_methods()}
        if text not in known:
            raise unknown_name("method", text, [*known, "module:Class", "path/to/file.py:Class"])
        made_by = known[text]
        if made_by is None:
            get_method(text)  # raises, and says why
        assert made_by is not None
        return made_by
    module = _import(source)
    try:
        factory: Factory = operator.attrgetter(name)(module)
    except AttributeError:
        there = [key for key, value in vars(module).items() if hasattr(value, "fit")]
        raise unknown_name(f"method class of {source!r}", name, there) from None
    if not callable(factory):
        raise ArgumentError(f"{text!r} is {factory!r:.60}, which makes no method: allowed are classes and functions")
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
