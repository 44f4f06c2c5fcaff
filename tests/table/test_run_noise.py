"""Run noise by hand: means, deviations, pooled variance, and what true accuracies lie behind noisy ones."""

import math

import numpy as np
import pytest

from channel_bench.table.noise import (
    num_runs,
    pooled_std,
    reliability_of_means,
    run_means,
    run_stds,
    run_variance,
    squared_deviations,
    true_distribution,
    true_distribution_and_noise,
    variance_of_means,
)

NAN = math.nan
CELLS = np.array([[1.0, 3.0, NAN], [2.0, 4.0, 6.0], [NAN, 5.0, NAN], [NAN, NAN, NAN]])


def test_what_the_runs_of_one_architecture_say():
    assert num_runs(CELLS).tolist() == [2, 3, 1, 0]
    np.testing.assert_array_equal(run_means(CELLS), [2.0, 4.0, 5.0, NAN])
    np.testing.assert_array_equal(run_stds(CELLS), [math.sqrt(2), 2.0, NAN, NAN])
    assert squared_deviations(CELLS[:3]).tolist() == [2.0, 8.0, 0.0]


def test_the_pooled_variance_divides_by_degrees_of_freedom():
    trained = CELLS[:3]
    assert run_variance(trained) == pytest.approx(10 / 3)
    assert pooled_std(trained) == pytest.approx(math.sqrt(10 / 3))
    assert variance_of_means(6.0, num_runs(trained)) == pytest.approx(6 * (1 / 2 + 1 / 3 + 1) / 3)
    single = np.array([[1.0, NAN], [NAN, 2.0]])
    assert run_variance(single) is None and pooled_std(single) is None


def test_reliability_is_the_share_of_variance_that_is_not_noise():
    means = np.array([1.0, 2.0, 3.0])  # variance 1
    assert reliability_of_means(means, 0.25) == 0.75
    assert reliability_of_means(means, 2.0) == 0.0
    assert reliability_of_means(np.ones(3), 0.1) == 0.0


def test_the_distribution_of_true_accuracies_is_narrower_than_that_of_noisy_means():
    rng = np.random.default_rng(0)
    truth = rng.normal(90, 1, 4000)
    cells = truth[:, None] + rng.normal(0, 1, (4000, 2))
    for values, weights in (true_distribution(run_means(cells), 0.5), true_distribution_and_noise(cells)[:2]):
        mean = float((values * weights).sum())
        assert weights.sum() == pytest.approx(1) and mean == pytest.approx(90, abs=0.1)
        assert math.sqrt(float((weights * (values - mean) ** 2).sum())) == pytest.approx(1, abs=0.1)
    assert np.average(true_distribution_and_noise(cells)[2], weights=weights) == pytest.approx(1, abs=0.1)


def test_means_without_noise_are_the_distribution():
    values, weights = true_distribution(np.array([1.0, 1.0, 3.0, 5.0]), 0.0)
    assert values.tolist() == [1.0, 3.0, 5.0] and weights.tolist() == [0.5, 0.25, 0.25]
