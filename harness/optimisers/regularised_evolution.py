"""Regularised evolution: a tournament of a queue that forgets its oldest.

E. Real et al., *Regularized Evolution for Image Classifier Architecture Search*, AAAI 2019, Algorithm 1: a random
population; then, again and again, the best of a random sample is mutated, the child joins and the oldest leaves. Here a
mutation is another width of one slot. The paper's population of 100 and sample of 25 are for 20,000 trainings; the
defaults here are for a few hundred (NATS-Bench: 10 and 3 for about a hundred).

With two objectives the paper says nothing: here the winner of a tournament is a random one of those that no other of
the sample is better than in both.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_ARCHS
from harness.optimiser import Domain, Trial, neighbours, register_optimiser


@register_optimiser(
    "regularised_evolution", paper="Real et al., AAAI 2019", summary="mutates the best of a sample, forgets the oldest"
)
@dataclass
class RegularisedEvolution:
    """Ageing evolution.

    Raises:
        ArgumentError: The population or the sample is smaller than 1.
    """

    two_objectives: ClassVar[bool] = True

    population: int = 20
    """How many are alive."""
    sample: int = 5
    """How many take part in a tournament, drawn with replacement."""

    def __post_init__(self) -> None:
        """Check the options."""
        for name, value in (("population", self.population), ("sample", self.sample)):
            if value < 1:
                raise ArgumentError(f"{name} is {value}: allowed are 1 and above")

    def start(self, domain: Domain, rng: np.random.Generator) -> None:
        """Begin with nobody alive."""
        self._rng = rng
        self._alive: deque[tuple[tuple[float, ...], int]] = deque(maxlen=self.population)
        self._first = rng.choice(NUM_ARCHS, size=min(self.population, NUM_ARCHS), replace=False).tolist()

    def ask(self) -> Trial:
        """A random one until the population is full, then a mutated winner."""
        if self._first:
            return Trial(self._first.pop())
        alive = self._alive
        drawn = [alive[place] for place in self._rng.integers(len(alive), size=self.sample).tolist()]
        if len(drawn[0][0]) == 1:
            winner = max(drawn)[1]
        else:
            fronts = [one for one in drawn if not any(_beats(other[0], one[0]) for other in drawn)]
            winner = fronts[int(self._rng.integers(len(fronts)))][1]
        around = neighbours()[winner]
        return Trial(int(around[self._rng.integers(len(around))]))

    def tell(self, trial: Trial, values: tuple[float, ...]) -> None:
        """The child joins; where the population is full, the oldest leaves."""
        self._alive.append((values, trial.arch))


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether one is at least as good in everything, and not equal."""
    return one != other and all(mine >= theirs for mine, theirs in zip(one, other, strict=True))
