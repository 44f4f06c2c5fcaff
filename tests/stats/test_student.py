"""The interval of a mean, against scipy."""

import numpy as np
import pytest
from scipy import stats

from harness.stats.student import half_width


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_the_interval_is_scipys(level):
    values = np.random.default_rng(0).normal(3, 2, (7, 4))
    half = half_width(values, level)
    for column in range(4):
        mean = values[:, column].mean()
        expected = stats.t.interval(level, 6, mean, stats.sem(values[:, column]))
        assert (mean - half[column], mean + half[column]) == pytest.approx(expected)
    assert half_width(values[:, 0], level) == pytest.approx(half[0])


def test_one_value_has_no_interval():
    assert np.isnan(half_width([3.0])) and np.isnan(half_width(np.ones((1, 5)))).all()
