"""Local search: train all neighbours, move to the best, begin anew where none is better.

C. White, S. Nolen and Y. Savani, *Exploring the Loss Landscape in Neural Architecture Search*, UAI 2021, Algorithm 1.
A neighbour differs in the width of one slot: 21 of them. Its variant that moves to the first better neighbour
(``first=True``) asks fewer questions per step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from channel_bench.space import NUM_ARCHS
from harness.optimiser import Domain, Trial, neighbours, register_optimiser


@register_optimiser(
    "local_search", paper="White et al., UAI 2021", summary="climbs by one slot at a time, and restarts"
)
@dataclass
class LocalSearch:
    """Hill climbing with restarts; it looks at the accuracy only."""

    first: bool = False
    """Move to the first better neighbour instead of the best of all."""

    def start(self, domain: Domain, rng: np.random.Generator) -> None:
        """Begin at a random place."""
        self._rng = rng
        self._restart()

    def _restart(self) -> None:
        self._centre, self._height = int(self._rng.integers(NUM_ARCHS)), -np.inf
        self._best: tuple[float, int] = (-np.inf, -1)
        self._left = [self._centre]

    def ask(self) -> Trial:
        """The next neighbour of the present place; at a peak, another random place."""
        if not self._left:
            if self._best[0] > self._height:
                self._go(*self._best)
            else:
                self._restart()
        return Trial(self._left.pop())

    def _go(self, height: float, index: int) -> None:
        self._height, self._centre = height, index
        self._best = (-np.inf, -1)
        self._left = self._rng.permutation(neighbours()[index]).tolist()

    def tell(self, trial: Trial, values: tuple[float, ...]) -> None:
        """Remember the best neighbour; with `first`, move as soon as one is better."""
        height = values[0]
        if trial.arch == self._centre:
            self._go(height, trial.arch)
        elif self.first and height > self._height:
            self._go(height, trial.arch)
        elif height > self._best[0]:
            self._best = (height, trial.arch)
