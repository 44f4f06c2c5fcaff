"""Hyperband: successive halving from every first rung in turn.

L. Li et al., *Hyperband*, JMLR 2018, Algorithm 1: brackets differ in how many begin and how long the first training is,
since nobody knows beforehand how soon networks can be told apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from channel_bench.space import NUM_ARCHS
from harness.optimiser import Domain, register_optimiser
from harness.optimisers.successive_halving import Bracket, SuccessiveHalving, rungs


@register_optimiser(
    "hyperband", paper="Li et al., JMLR 2018", summary="successive halving from every first rung in turn"
)
@dataclass
class Hyperband(SuccessiveHalving):
    """Rounds of brackets, the most hurried first; `first` is the first rung of that one."""

    _name: ClassVar[str] = "hyperband"

    def start(self, domain: Domain, rng: np.random.Generator) -> None:
        """Begin the first round.

        Raises:
            MissingDataError: The table has no learning curves.
        """
        self._rungs = rungs(domain.num_epochs, self.eta, self.first)
        self._skipped: Iterator[int] = itertools.cycle(range(len(self._rungs)))
        super().start(domain, rng)

    def _next(self) -> Bracket:
        levels = self._rungs[next(self._skipped) :]
        # Every bracket of a round gets about the same number of epochs: the paper's n = ceil((s_max+1)/(s+1) eta^s).
        count = math.ceil(len(self._rungs) / len(levels) * self.eta ** (len(levels) - 1))
        chosen = self._rng.choice(NUM_ARCHS, size=min(count, NUM_ARCHS), replace=False).tolist()
        return Bracket(list(levels), chosen, self.eta)
