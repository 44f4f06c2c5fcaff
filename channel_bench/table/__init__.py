"""The trained truth: find a table, ask it, verify it, compare two, explore one.

    >>> from channel_bench.table import load
    >>> load("resnet-mini").accuracy("4344424")

`table` answers questions, `sources` finds tables, `published` and `shipped` say where they come from, `verify` checks a
file down to its curves, `compare` says how far two tables agree, `explore` writes one as a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from channel_bench.table.sources import find_table, load
    from channel_bench.table.table import Result, Table

__all__ = ["Result", "Table", "find_table", "load"]


def __getattr__(name: str) -> Any:
    # Late, because reading a table needs pyarrow (0.1 s to import); and looked up at every call, so that whoever
    # closes `sources` to a method under check closes this door, too.
    if name in {"find_table", "load"}:
        from channel_bench.table import sources

        return getattr(sources, name)
    if name in {"Result", "Table"}:
        from channel_bench.table import table

        return getattr(table, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
