"""The searchers of the literature, one per file, and the door to every searcher: a name, or where its code is.

>>> get_searcher("greedy")
>>> get_searcher("my_searcher.py:MySearcher")      # or "my_package.module:MySearcher"
"""

from __future__ import annotations

from typing import Any

from harness.searcher import SEARCHERS, Searcher

__all__ = ["get_searcher", "list_searchers"]


def list_searchers() -> list[str]:
    """Names of all searchers, built in, registered and installed; nothing is imported."""
    return SEARCHERS.names()


def get_searcher(text: str, /, **options: Any) -> Searcher:
    """Make a searcher; of the installed ones only this one is imported.

    Args:
        text: Name, "module:Class" or "path/to/file.py:Class".
        **options: Keyword arguments of its constructor.

    Raises:
        UnknownNameError: No searcher has this name.
        MissingDataError: There is no such file.
        ArgumentError: The searcher has no such option, or refuses its value.
        MissingPackageError: It needs a package that is not installed.
        MethodError: An installed searcher cannot be imported.
    """
    return SEARCHERS.make(text, **options)
