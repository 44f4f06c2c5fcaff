"""A claim of a paper, held against what was measured: an effect with an interval over seeds, and a verdict.

>>> claim = paired_claim("two paths rank better than one", "Su et al., 2021, Table 10", a, b, "Kendall")
>>> claim.verdict
'cannot be told'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from channel_bench.errors import ArgumentError
from harness.stats.student import half_width

LEVEL = 0.95
SEEN, NOT_SEEN, OPEN = "seen here", "not seen here", "cannot be told"


@dataclass(frozen=True)
class Claim:
    """What a paper says, as an effect that is above zero where the paper is right."""

    statement: str
    """One sentence."""
    source: str
    """Paper, and the section, table or equation in it."""
    effect: float
    """Mean over seeds."""
    low: float | None
    """End of the interval; None where there is one seed only."""
    high: float | None
    unit: str
    """Of the effect: "Kendall", "percentage points" ..."""
    num_seeds: int
    level: float = LEVEL

    @property
    def verdict(self) -> str:
        """Seen where the whole interval is above zero; not seen where none of it is; else it cannot be told."""
        if self.low is None or self.high is None:
            return OPEN
        if self.low > 0:
            return SEEN
        return NOT_SEEN if self.high <= 0 else OPEN


def paired_claim(
    statement: str, source: str, first: Sequence[float], second: Sequence[float], unit: str, level: float = LEVEL
) -> Claim:
    """The claim that `first` is larger than `second`, value for value of equal seeds.

    The interval is that of Student's t for the mean of the differences, with as many degrees of freedom as seeds less
    one. It says how sure the effect is over seeds in this space; it says nothing of other spaces.

    Args:
        statement: The claim, one sentence.
        source: Where the paper says it.
        first: One value per seed.
        second: One value per seed, in the same order.
        unit: Of the values.
        level: Of the interval.

    Raises:
        ArgumentError: The numbers of values differ, or there are none, or one is not finite.
    """
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64) if len(first) == len(second) else None
    if differences is None or differences.ndim != 1 or not len(differences) or not np.isfinite(differences).all():
        raise ArgumentError(f"claim {statement!r}: {len(first)} values against {len(second)}, or not all finite")
    mean, num = float(differences.mean()), len(differences)
    if num == 1:
        return Claim(statement, source, mean, None, None, unit, 1, level)
    half = float(half_width(differences, level))
    return Claim(statement, source, mean, mean - half, mean + half, unit, num, level)
