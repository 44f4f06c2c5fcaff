"""The searchers of the literature, one per file, and the function that makes any searcher: by name, file or module.

>>> get_searcher("greedy")
>>> get_searcher("my_searcher.py:MySearcher")      # or "my_package.module:MySearcher"
"""

from __future__ import annotations

from typing import Any

from harness.searcher import SEARCHERS, Searcher

__all__ = ["get_searcher"]


def get_searcher(text: str, /, **options: Any) -> Searcher:
    """Make a searcher; imports no other installed one.

    Args:
        text: Name, "module:Class" or "path/to/file.py:Class".
        **options: Keyword arguments of its constructor.

    Raises:
        UnknownNameError: No searcher has this name.
        MissingDataError: The file does not exist.
        ArgumentError: The searcher has no such option, or refuses its value.
        MissingPackageError: It needs a package that is not installed.
        MethodError: An installed searcher cannot be imported, or the class has no function search().
    """
    return SEARCHERS.make(text, **options)
