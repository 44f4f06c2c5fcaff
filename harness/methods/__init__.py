"""The methods of the literature, one per file, and the door to every method: a name, or where its code is.

>>> get_method("autoslim", distill=False)
>>> get_method("my_method.py:MyMethod")            # or "my_package.module:MyMethod"
>>> get_method("autoslim+log", samples=256)        # ranked by an additive fit to its own scores
"""

from __future__ import annotations

from typing import Any

from harness.method import METHODS, Method, MethodInfo
from harness.methods.additive import Additive

__all__ = ["find_method", "get_method", "list_methods", "method_name"]


def list_methods() -> list[MethodInfo]:
    """All methods, built in and installed, by name; importing them loads torch. Broken ones are listed as such."""
    return METHODS.all()


def find_method(text: str) -> MethodInfo:
    """Find a method by "path/to/file.py:Class", "module:Class" or name; of the installed ones only it is imported.

    Raises:
        UnknownNameError, MissingDataError, MethodError, ArgumentError: As `Registry.find`.
    """
    return METHODS.find(text)


def get_method(text: str, /, **options: Any) -> Method:
    """Make a method; of the installed ones only this one is imported.

    Args:
        text: As `find_method`; or that, a plus, and the form of an additive fit to its scores ("autoslim+log").
        **options: Keyword arguments of its constructor; with a plus also ``samples``, which goes to the fit.

    Raises:
        UnknownNameError, MissingDataError, MethodError: As `find_method`.
        ArgumentError: The method has no such option, or refuses its value.
    """
    inner, form = _parted(text)
    if form is None:
        return METHODS.make(text, **options)
    samples = options.pop("samples", None)
    return Additive(METHODS.make(inner, **options), form, samples)


def method_name(text: str) -> str:
    """The name that scores of a method carry: its registered name, or that of its class; with its form behind a plus.

    Raises:
        UnknownNameError, MissingDataError, MethodError, ArgumentError: As `find_method`.
    """
    inner, form = _parted(text)
    name = find_method(inner).name
    return name if form is None else f"{name}+{form}"


def _parted(text: str) -> tuple[str, str | None]:
    """A method and the form of an additive fit to its scores, or None; a plus in a file's path is no form."""
    place, colon, name = text.rpartition(":")
    inner, plus, form = name.partition("+")
    return place + colon + inner, form if plus else None
