"""Correlations against scipy, closed forms, and the cases in which a correlation is not defined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from channel_bench.errors import ArgumentError
from harness.metrics import correlations


def brute_force_tau_b(a, b):
    concordant = discordant = tied_a = tied_b = 0
    for i in range(len(a)):
        for j in range(i):
            x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
            concordant += x * y > 0
            discordant += x * y < 0
            tied_a += x == 0
            tied_b += y == 0
    pairs = len(a) * (len(a) - 1) / 2
    return (concordant - discordant) / np.sqrt((pairs - tied_a) * (pairs - tied_b))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=25))
def test_ties_are_handled_as_the_definitions_say(pairs):
    a, b = np.array(pairs, float).T
    result = correlations(a, b)
    if a.std() == 0 or b.std() == 0:
        assert np.isnan([result.kendall, result.spearman, result.pearson]).all()
        return
    assert result.kendall == pytest.approx(brute_force_tau_b(a, b), abs=1e-12)
    assert result.spearman == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert result.pearson == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
    assert result.n == len(a)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_order_scale_and_sign(seed, ties):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 50))
    if ties:
        a, b = a.round(), b.round()
    result = correlations(a, b)
    order = rng.permutation(50)
    moved = correlations(a[order] * 1e-180, b[order] * 1e180 + 0)
    assert np.allclose(list(vars(result).values()), list(vars(moved).values()))
    backwards = correlations(-a, b)
    assert (backwards.kendall, backwards.pearson) == pytest.approx((-result.kendall, -result.pearson))


def test_small_cases_by_hand():
    perfect = correlations([1, 2, 3], [10, 20, 30])
    assert (perfect.kendall, perfect.spearman, perfect.pearson, perfect.n) == pytest.approx((1, 1, 1, 3))
    # One of three pairs is swapped: tau = (2 - 1) / 3, and Spearman 1 - 6 * 2 / (3 * 8).
    swapped = correlations([1, 3, 2], [1, 2, 3])
    assert (swapped.kendall, swapped.spearman) == pytest.approx((1 / 3, 0.5))


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([1.0], [1.0], "at least 2"),
        ([], [], "at least 2"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "2 scores for 3 architectures"),
        ([1.0, np.nan, np.nan], [1.0, 2.0, 3.0], "2 of 3 scores are NaN or infinite, the first at position 1"),
        ([1.0, 2.0], [np.inf, 2.0], "1 of 2 truth"),
        ([[1.0, 2.0]], [1.0, 2.0], "shape"),
    ],
)
def test_what_has_no_correlation_is_refused(scores, truth, message):
    with pytest.raises(ArgumentError, match=message):
        correlations(scores, truth)
