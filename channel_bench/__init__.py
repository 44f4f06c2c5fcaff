"""channel-bench: the benchmark of network width search.

    import channel_bench as cb

    space = cb.get_space("resnet")      # the space: encodings, FLOPs, parameters
    table = cb.load("resnet")           # the trained truth: accuracy of each of its 16,384 architectures
    table.accuracy("4344424")           # percent, mean over runs

Importing the package loads NumPy only; reading a table adds pyarrow; only training needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from channel_bench._version import __version__
from channel_bench.errors import ChannelBenchError
from channel_bench.space import Space, get_space, list_spaces, load_space, register_family, register_space

if TYPE_CHECKING:
    from channel_bench.table import Result, Table, load

__all__ = [
    "ChannelBenchError",
    "Result",
    "Space",
    "Table",
    "__version__",
    "get_space",
    "list_spaces",
    "load",
    "load_space",
    "register_family",
    "register_space",
]


def __getattr__(name: str) -> Any:
    # Table needs pyarrow (about 0.1 s to import); a program that only asks for costs need not pay for it.
    if name in {"Result", "Table", "load"}:
        from channel_bench import table

        return getattr(table, name)  # not kept here: see table/__init__.py
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # Without it `dir` would list this file's imports and miss what is loaded late.
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
