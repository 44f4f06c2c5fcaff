"""Search for a width within a budget, and say what the found width is worth beside the truth.

    >>> from harness.search.run import search

`run` is one search, `regret` judges it. What an author of a searcher imports is in `harness.searcher`.
"""
