"""The methods of the literature, one per file, and the functions that find and make any method.

>>> get_method("autoslim", distill=False)
>>> get_method("my_method.py:MyMethod")            # or "my_package.module:MyMethod"
>>> get_method("autoslim+log", samples=256)        # ranked by an additive fit to its own scores
>>> get_method("autoslim+consensus")               # by theories of accuracy that agree with its own scores
"""

from __future__ import annotations

from typing import Any

from harness.method import METHODS, Method, MethodInfo
from harness.methods.smoothed import Smoothed
from harness.outline import Outline
from harness.smoothing import smoother_options

__all__ = ["find_method", "get_method", "list_methods", "method_name", "method_options"]


def list_methods() -> list[Outline]:
    """List all methods, built in and installed, by name; imports no built-in one, so it takes no torch.

    An installed method that cannot be imported is listed with the reason.
    """
    return METHODS.outlines()


def find_method(text: str) -> MethodInfo:
    """Find a method by "path/to/file.py:Class", "module:Class" or name, without the form of a fit to its scores.

    Raises:
        UnknownNameError, MissingDataError, MethodError, ArgumentError: As `Registry.find`.
    """
    return METHODS.find(_parted(text)[0])


def get_method(text: str, /, **options: Any) -> Method:
    """Make a method; imports no other installed method.

    Args:
        text: As for `find_method`; with a plus and a form, the method ranked by an additive fit to its scores
            ("autoslim+log"), or by a consensus of theories that agree with them ("autoslim+consensus").
        **options: Keyword arguments of its constructor; with a plus also ``samples`` and the options of the form.

    Raises:
        UnknownNameError, MissingDataError, MethodError: As `find_method`.
        ArgumentError: The method has no such option, or refuses its value.
    """
    inner, form = _parted(text)
    if form is None:
        return METHODS.make(text, **options)
    of_form = {name: options.pop(name) for name in ("samples", *smoother_options(form)) if name in options}
    return Smoothed(METHODS.make(inner, **options), form, **of_form)


def method_name(text: str) -> str:
    """The name that scores of a method carry: its registered name, or that of its class; with its form behind a plus.

    Raises:
        UnknownNameError, MissingDataError, MethodError, ArgumentError: As `find_method`.
    """
    _, form = _parted(text)
    name = find_method(text).name
    return name if form is None else f"{name}+{form}"


def method_options(text: str) -> dict[str, Any]:
    """Options of a method with their defaults; those of a fit to its scores included.

    Raises:
        UnknownNameError, MissingDataError, MethodError, ArgumentError: As `find_method`.
    """
    _, form = _parted(text)
    return find_method(text).options | ({} if form is None else {"samples": None, **smoother_options(form)})


def _parted(text: str) -> tuple[str, str | None]:
    """Part a method from the form of a fit to its scores, or None; a plus in a file's path is no form."""
    place, colon, name = text.rpartition(":")
    inner, plus, form = name.partition("+")
    return place + colon + inner, form if plus else None
