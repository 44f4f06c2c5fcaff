"""Ranks, ties to 0.0001 points and the best within a budget."""

import math

import numpy as np

from channel_bench.table.ranks import best_of, ranks, ranks_among, rounded, within


def test_equal_to_four_decimals_is_equal_and_shares_the_better_rank():
    accuracies = np.array([90.00001, 91.5, 90.00004, math.nan, 89.9999])
    assert ranks(accuracies).tolist() == [2, 1, 2, 0, 4]
    np.testing.assert_array_equal(rounded(accuracies), [90.0, 91.5, 90.0, math.nan, 89.9999])


def test_ranks_among_count_the_larger_ones():
    assert ranks_among(np.array([5.0, 2.0, 0.0]), np.array([1.0, 2.0, 2.0, 5.0])).tolist() == [1, 2, 5]


def test_the_best_within_a_budget_are_all_that_share_the_highest_value():
    costs, values = np.array([3, 1, 2, 2]), np.array([9.0, 4.0, 7.0, 7.0])
    assert within(costs, 2).tolist() == [1, 2, 3]
    assert best_of(values, within(costs, 2)).tolist() == [2, 3]
    assert best_of(values, within(costs, 1)).tolist() == [1]
