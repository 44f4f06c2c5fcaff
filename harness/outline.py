"""Read what a plug-in says of itself out of its source: name, paper, summary, options. Nothing is imported.

    >>> read_outline("harness.methods", "autoslim")       # importing the module would load torch, which takes seconds

A listing of plug-ins needs no more than their registration, which stands as literals in the source: ::

    @register("autoslim", paper="Yu and Huang, 2019", summary="sandwich rule")
    class AutoSlim:
        def __init__(self, num_subnets: int = 4) -> None: ...
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from pathlib import Path
from typing import Any, NamedTuple


class Outline(NamedTuple):
    """What a listing shows of a plug-in."""

    name: str
    paper: str
    """The paper that it is from, one line."""
    summary: str
    """What it does, one line; why it cannot be used, where it cannot."""
    options: dict[str, Any]
    """Options of its constructor with their defaults; `inspect.Parameter.empty` where an option has none."""
    is_usable: bool = True
    """False for an installed plug-in that cannot be imported."""


def read_outline(package: str, name: str) -> Outline | None:
    """Outline of the plug-in that the module `package.name` registers under that name.

    Returns:
        The outline; None where the source is not there, or computes what this function would have to read.
    """
    module = _source(f"{package}.{name}")
    if module is None:
        return None
    for cls in module.body:
        if not isinstance(cls, ast.ClassDef):
            continue
        for call in cls.decorator_list:
            try:
                if isinstance(call, ast.Call) and ast.literal_eval(call.args[0]) == name:
                    told = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
                    return Outline(name, told.get("paper", ""), told.get("summary", ""), _options(cls, module))
            except (ValueError, IndexError):
                return None
    return None


def _source(name: str) -> ast.Module | None:
    """The source of a module; None where it is not there."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _options(cls: ast.ClassDef, module: ast.Module) -> dict[str, Any]:
    """Arguments of a class's constructor with their defaults; its own, or that of the one base that it has.

    Args:
        cls: The class.
        module: The module that it stands in, which imports the base by name.

    Raises:
        ValueError: A default is not a literal, or the constructor is not where it is looked for.
    """
    for node in cls.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            named = [argument.arg for argument in node.args.posonlyargs + node.args.args]
            defaults = [ast.literal_eval(default) for default in node.args.defaults]
            options = dict.fromkeys(named[1:], inspect.Parameter.empty)
            options |= zip(named[len(named) - len(defaults) :], defaults, strict=True)
            for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                options[argument.arg] = inspect.Parameter.empty if default is None else ast.literal_eval(default)
            return options
    if len(cls.decorator_list) > 1:  # a dataclass has a constructor that its source does not show
        raise ValueError("the constructor may be generated")
    return _options(*_base_of(cls, module)) if cls.bases else {}


def _base_of(cls: ast.ClassDef, module: ast.Module) -> tuple[ast.ClassDef, ast.Module]:
    """The one base of a class, imported as ``from package.module import Base``, and the module that it stands in.

    Raises:
        ValueError: There are several, or it is elsewhere.
    """
    (base,) = cls.bases
    for line in module.body:
        if isinstance(line, ast.ImportFrom) and line.module is not None and isinstance(base, ast.Name):
            if base.id in {alias.asname or alias.name for alias in line.names}:
                source = _source(line.module) or ast.Module([], [])
                for found in source.body:
                    if isinstance(found, ast.ClassDef) and found.name == base.id:
                        return found, source
    raise ValueError(f"the base of {cls.name} is not imported by name")
