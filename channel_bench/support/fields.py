"""Values that come from a file, held against the types that a dataclass declares.

    >>> check_fields(TableInfo, values, "metadata of 'table.parquet'")

JSON gives any type for any field. What passes here can be used without asking again: texts are short and can be
encoded, numbers are finite and fit 64 bits, and True is no number.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from channel_bench.errors import CorruptFileError

MAX_TEXT = 10_000
"""Characters of a text; a sentence has a hundred."""
MAX_ITEMS = 100_000
"""Items of a list."""


def check_fields(kind: type, values: Any, what: str) -> None:
    """Refuse values that are not those of a dataclass; fields with a default may be absent.

    Args:
        kind: The dataclass. Its fields are of type str, int, float, bool, dict[str, Any], None, lists or tuples of
            one of these, other dataclasses, or unions of all that.
        values: What a file gave for it.
        what: What the values are, for the message.

    Raises:
        CorruptFileError: Not an object, a field is missing or unknown, or a value is of another type.
    """
    if not isinstance(values, Mapping):
        raise CorruptFileError(f"{what} is {_shown(values)}: allowed is an object")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in values:
        if name not in fields:
            raise CorruptFileError(f"{what} has a field {_shown(name)}, which this version does not know")
    for name, field in fields.items():
        if name in values:
            _check(hints[name], values[name], f"{what}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise CorruptFileError(f"{what} has no field {name!r}")


def _check(hint: Any, value: Any, what: str) -> None:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return
        (other,) = (each for each in inner if each is not type(None))
        _check(other, value, what)
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        check_fields(hint, value, what)
    elif origin in (list, tuple):
        if not isinstance(value, (list, tuple)) or len(value) > MAX_ITEMS:
            raise CorruptFileError(f"{what} is {_shown(value)}: allowed are lists of at most {MAX_ITEMS:,} items")
        for number, item in enumerate(value):
            _check(inner[0], item, f"{what}[{number}]")
    elif not _is_a(dict if origin is dict else hint, value):
        names = {str: f"texts of at most {MAX_TEXT:,} characters", int: "whole numbers", float: "finite numbers"}
        allowed = names.get(hint, "objects" if origin is dict else "true and false")
        raise CorruptFileError(f"{what} is {_shown(value)}: allowed are {allowed}")


def _is_a(kind: type, value: Any) -> bool:
    """Whether a value is of a plain type, and harmless."""
    if kind is str:
        # Half a surrogate pair is no character, and no output takes it.
        return isinstance(value, str) and len(value) <= MAX_TEXT and not any("\ud800" <= c <= "\udfff" for c in value)
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 64
        return whole or (kind is float and isinstance(value, float) and math.isfinite(value))
    return isinstance(value, kind)


def differing(name: str, before: Any, now: Any) -> str:
    """What differs in a setting, for a message: "recipe epochs 3, not 5"; of an object only the fields that differ.

    Args:
        name: Of the setting.
        before: Its value in a file.
        now: The value that is asked for.
    """
    if isinstance(before, dict) or isinstance(now, dict):
        before, now = ({} if value is None else value for value in (before, now))
    if not isinstance(before, dict) or not isinstance(now, dict):
        return f"{name} {_shown(before)}, not {_shown(now)}"
    # A recipe's name lists the fields that were changed, which are named by themselves.
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    keys = [key for key in keys if key != "name" or len(keys) == 1]
    return ", ".join(f"{name} {key} {_shown(before.get(key))}, not {_shown(now.get(key))}" for key in keys[:3]) + (
        f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    )


def _shown(value: Any) -> str:
    """A value for a message, not longer than a line."""
    if isinstance(value, int) and value.bit_length() > 64:  # Python refuses to print thousands of digits
        return f"an integer of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, (str, int, float, type(None))) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
