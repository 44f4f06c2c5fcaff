"""Random search: distinct architectures, uniformly (J. Bergstra and Y. Bengio, JMLR 2012)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from channel_bench.space import NUM_ARCHS
from harness.optimiser import Domain, Trial, register_optimiser


@register_optimiser("random_search", paper="Bergstra and Bengio, JMLR 2012", summary="distinct random architectures")
class RandomSearch:
    """Draws without replacement."""

    two_objectives: ClassVar[bool] = True

    def start(self, domain: Domain, rng: np.random.Generator) -> None:
        """Begin: a random order of the whole space."""
        self._order: Iterator[int] = itertools.cycle(rng.permutation(NUM_ARCHS).tolist())

    def ask(self) -> Trial:
        """The next in the order."""
        return Trial(next(self._order))

    def tell(self, trial: Trial, values: tuple[float, ...]) -> None:
        """Learn nothing."""
