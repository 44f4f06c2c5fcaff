"""Compiled counting of concordant pairs against NumPy's, scipy's and the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from channel_bench.errors import ArgumentError
from channel_bench.support.compiled import load_library
from harness.stats import concordance
from harness.stats.concordance import Ordered, Rankings


def by_definition(scores, truth, copies):
    """Tau-b over all pairs of copies."""
    a, b = np.repeat(scores, copies), np.repeat(truth, copies)
    signs = [np.sign(x[:, None] - x[None, :]) for x in (a, b)]
    norm = np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    return (signs[0] * signs[1]).sum() / norm if norm > 0 else np.nan


@pytest.fixture(params=["compiled", "NumPy"])
def path(request, monkeypatch):
    """Both ways to count; the compiled one is there wherever a compiler is."""
    if request.param == "NumPy":
        monkeypatch.setattr(concordance, "_counter", lambda: None)
    else:
        try:
            load_library(concordance._SOURCE, "the counting of concordant pairs")
        except ArgumentError as error:
            if "there is no C++ compiler" not in str(error):
                raise
            pytest.skip(str(error))
        assert concordance._counter() is not None
    return request.param


@pytest.mark.parametrize("n", [2, 3, 31, 32, 33, 200])
@pytest.mark.parametrize("ties", [3, 40, 10**6])
def test_small_cases_are_what_the_definition_says(n, ties, path):
    rng = np.random.default_rng(n)
    for _ in range(5):
        columns = [rng.integers(0, ties, n).astype(float) for _ in range(4)]
        truth, copies = rng.integers(0, ties, n).astype(float), rng.integers(0, 4, n)
        copies[:2] = 1
        found = Rankings(columns).kendall(Ordered(truth), copies)
        expected = [by_definition(column, truth, copies) for column in columns]
        assert found == pytest.approx(expected, abs=1e-14, nan_ok=True)


@pytest.mark.parametrize("n", [1023, 1024, 1025, 16384, 40000])
def test_large_cases_agree_with_scipy_around_the_sizes_of_rows(n, path):
    rng = np.random.default_rng(n)
    truth = rng.normal(size=n)
    columns = [truth + rng.normal(size=n), (truth + rng.normal(size=n)).round(1), -truth, rng.permutation(n) / 7]
    copies = np.bincount(rng.integers(0, n, n), minlength=n)
    found = Rankings(columns).kendall(Ordered(truth), copies)
    rows = np.repeat(np.arange(n), copies)
    expected = [stats.kendalltau(column[rows], truth[rows]).statistic for column in columns]
    assert found == pytest.approx(expected, abs=1e-13)


@settings(max_examples=150, deadline=None)
@given(
    arrays.arrays(np.float64, (3, 12), elements=st.integers(-3, 3)),
    arrays.arrays(np.int64, 12, elements=st.integers(0, 3)),
)
def test_both_paths_give_the_same_number(values, copies):
    rankings, truth = Rankings([values[0], values[1]]), Ordered(values[2])
    found = rankings.kendall(truth, copies)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(concordance, "_counter", lambda: None)
        slow = rankings.kendall(truth, copies)
    np.testing.assert_array_equal(found, slow)


def test_what_is_constant_or_alone_is_not_defined(path):
    truth, copies = Ordered(np.array([1.0, 2, 3])), np.array([1, 1, 1])
    assert np.isnan(Rankings([np.zeros(3)]).kendall(truth, copies)[0])
    assert np.isnan(Rankings([np.arange(3.0)]).kendall(Ordered(np.zeros(3)), copies)[0])
    for few in ([0, 0, 0], [0, 1, 0], [0, 5, 0]):
        assert np.isnan(Rankings([np.arange(3.0)]).kendall(truth, np.array(few))[0])


def test_without_a_compiler_numpy_counts(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    load_library.cache_clear()
    concordance._counter.cache_clear()
    try:
        assert concordance._counter() is None
        assert Rankings([np.arange(5.0)]).kendall(Ordered(np.arange(5.0)), np.ones(5, int)) == [1.0]
    finally:
        monkeypatch.undo()
        load_library.cache_clear()
        concordance._counter.cache_clear()
