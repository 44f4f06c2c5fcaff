"""Tests of an adapter run where its library is installed; what such a library warns about is not ours."""

import importlib.util

import pytest


def needs(module: str):
    """Skip where a library is missing, without importing it: that takes seconds."""
    return pytest.mark.skipif(
        importlib.util.find_spec(module) is None, reason=f"no {module} here: pip install 'channel-bench[adapters]'"
    )
