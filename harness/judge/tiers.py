"""Shared ranks: rows that the tests of a report cannot tell apart stand on one step.

    >>> tiers(report, ["bcnet", "flops"])        # {"bcnet": 1, "flops": 1}

All pairs of the rows are tested (paired, on the same replicates), and adjusted together after Holm, so that it does no
harm to choose by the results which of them matter. Then one walks down by falling Kendall: a row that is significantly
worse than the first row of the present step begins a new one, all others stay on it. As in sports, the rank of a step
is one more than the number of rows above it: 1, 1, 3.

No row is ahead of one that is significantly better, because only rows with a higher Kendall can be. The reverse cannot
be had, whatever the rule: where A and B, and B and C, cannot be told apart, but A is better than C, a line is drawn
somewhere. It is drawn from the best of each step, so that a row with a wide interval does not rise by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from harness.judge.verdict import Report, holm


def tiers(report: Report, names: Sequence[str]) -> dict[str, int | None]:
    """Ranks of some rows of a report among each other.

    Args:
        report: With intervals and tests; without, nobody has a rank.
        names: Of its rows; only these are tested and counted.

    Returns:
        By name; None where Kendall is not defined or nothing was tested.

    Raises:
        UnknownNameError: The report has no such row.
    """
    rows = {row.name: row.kendall for row in report.comparison.rows}
    known = [name for name in names if np.isfinite(rows[report.detail(name).name])] if report.differences else []
    pairs = list(combinations(known, 2))
    adjusted = dict(zip(pairs, holm([report.paired(*pair).difference.p_value for pair in pairs]), strict=True))

    def told_apart(a: int, b: int) -> bool:
        return adjusted[known[min(a, b)], known[max(a, b)]] < 1 - report.level

    ranks = shared_ranks([rows[name] for name in known], told_apart)
    return dict.fromkeys(names) | dict(zip(known, ranks, strict=True))


def shared_ranks(values: npt.ArrayLike, told_apart: Callable[[int, int], bool]) -> list[int]:
    """Ranks that rows share where they cannot be told apart from the best of their step.

    Args:
        values: Higher is better, finite, (n,).
        told_apart: Whether the difference between two positions in `values` is significant.

    Returns:
        One for each value: 1 for the first step, then one more than the number of rows above.
    """
    order = np.argsort(-np.asarray(values, np.float64), kind="stable").tolist()
    ranks = [0] * len(order)
    first = rank = 0
    for place, row in enumerate(order):
        if place == 0 or told_apart(first, row):
            first, rank = row, place + 1
        ranks[row] = rank
    return ranks
