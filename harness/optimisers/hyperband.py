"""Hyperband: successive halving from every first rung in turn.

L. Li et al., *Hyperband*, JMLR 2018, Algorithm 1: brackets differ in how many begin and how long the first training is,
since nobody knows beforehand how soon networks can be told apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_ARCHS
from harness.optimiser import Domain, Trial, register_optimiser
from harness.optimisers.successive_halving import Bracket, check_curves, rungs


@register_optimiser(
    "hyperband", paper="Li et al., JMLR 2018", summary="successive halving from every first rung in turn"
)
@dataclass
class Hyperband:
    """Rounds of brackets, the most hurried first.

    Raises:
        ArgumentError: eta < 2 or first < 1.
    """

    eta: int = 3
    """One in so many goes on, for so many times the epochs."""
    first: int = 2
    """Epochs of the first rung of the most hurried bracket."""

    def __post_init__(self) -> None:
        """Check the options."""
        if self.eta < 2:
            raise ArgumentError(f"eta is {self.eta}: allowed are 2 and above")
        if self.first < 1:
            raise ArgumentError(f"first is {self.first}: allowed are 1 and above")

    def start(self, domain: Domain, rng: np.random.Generator) -> None:
        """Begin the first round.

        Raises:
            MissingDataError: The table has no learning curves.
        """
        check_curves(domain, "hyperband")
        self._rng = rng
        self._rungs = rungs(domain.num_epochs, self.eta, self.first)
        self._skipped: Iterator[int] = itertools.cycle(range(len(self._rungs)))
        self._bracket = self._next()

    def _next(self) -> Bracket:
        levels = self._rungs[next(self._skipped) :]
        # Every bracket of a round gets about the same number of epochs: the paper's n = ceil((s_max+1)/(s+1) eta^s).
        count = math.ceil(len(self._rungs) / len(levels) * self.eta ** (len(levels) - 1))
        chosen = self._rng.choice(NUM_ARCHS, size=min(count, NUM_ARCHS), replace=False).tolist()
        return Bracket(list(levels), chosen, self.eta)

    def ask(self) -> Trial:
        """The next of the bracket, or of a new one."""
        trial = self._bracket.ask()
        while trial is None:
            self._bracket = self._next()
            trial = self._bracket.ask()
        return trial

    def tell(self, trial: Trial, values: tuple[float, ...]) -> None:
        """Pass it on."""
        self._bracket.tell(trial, values[0])
