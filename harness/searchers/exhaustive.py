"""The best of everything that fits: the reference that no other searcher of the same scores can beat.

Out of reach where every score costs a pass over the validation images of a real space; a benchmark can afford it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.searcher import Budget, Queries, register_searcher


@register_searcher("exhaustive")
@dataclass(frozen=True)
class Exhaustive:
    """Asks for all that fits."""

    def search(self, queries: Queries, budget: Budget, rng: np.random.Generator) -> int:
        """Index of the best; of equal scores the one with fewer FLOPs."""
        return queries.best(np.flatnonzero(budget.fits & queries.scored))
