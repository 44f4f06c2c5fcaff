"""The best of some that fit, drawn at random: what every search has to beat at the same number of questions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from channel_bench.errors import ArgumentError
from harness.searcher import Budget, Queries, register_searcher


@register_searcher("random")
@dataclass(frozen=True)
class Random:
    """Draws distinct architectures that fit, uniformly."""

    num_samples: int = 2000
    """How many; by default as many as the evolutionary search asks for at most (40 in each of 50 generations)."""

    def __post_init__(self) -> None:
        """Check the option."""
        if self.num_samples < 1:
            raise ArgumentError(f"num_samples is {self.num_samples}: allowed are 1 and above")

    def search(self, queries: Queries, budget: Budget, rng: np.random.Generator) -> int:
        """Index of the best of the sample; where fewer fit than are to be drawn, of all."""
        allowed = np.flatnonzero(budget.fits & queries.scored)
        return queries.best(rng.permutation(allowed)[: self.num_samples])
