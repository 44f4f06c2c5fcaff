"""REINFORCE: a distribution over widths, pushed towards what was better than usual.

R. Williams, 1992, as a baseline of NATS-Bench (X. Dong et al., 2021): independent categorical distributions, one per
slot, whose logits follow the gradient of the expected reward; the reward is the accuracy less a moving average of it.
Here the reward is also divided by a moving estimate of its spread, so that one learning rate serves all tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from harness.optimiser import Domain, Trial, register_optimiser

_PLACES = [NUM_WIDTHS ** (NUM_SLOTS - 1 - slot) for slot in range(NUM_SLOTS)]


@register_optimiser("reinforce", paper="Williams, 1992", summary="a distribution per slot, by policy gradient")
@dataclass
class Reinforce:
    """Policy gradient with a moving baseline.

    Raises:
        ArgumentError: The learning rate is not above 0, or the momentum not in [0, 1).
    """

    lr: float = 0.2
    """Of the logits."""
    momentum: float = 0.9
    """Of the moving averages of reward and spread."""

    def __post_init__(self) -> None:
        """Check the options."""
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ArgumentError(f"lr is {self.lr}: allowed are numbers > 0")
        if not 0 <= self.momentum < 1:
            raise ArgumentError(f"momentum is {self.momentum}: allowed are 0 and numbers below 1")

    def start(self, domain: Domain, rng: np.random.Generator) -> None:
        """Begin with uniform distributions."""
        self._rng = rng
        self._logits = np.zeros((NUM_SLOTS, NUM_WIDTHS))
        self._mean = self._square = 0.0
        self._told = 0

    def ask(self) -> Trial:
        """A draw."""
        weights = np.exp(self._logits - self._logits.max(1, keepdims=True))
        shares = weights.cumsum(1)
        drawn = (shares < self._rng.random(NUM_SLOTS)[:, None] * shares[:, -1:]).sum(1)
        return Trial(sum(int(width) * place for width, place in zip(drawn, _PLACES, strict=True)))

    def tell(self, trial: Trial, values: tuple[float, ...]) -> None:
        """One step along the gradient of log-probability times advantage."""
        reward = values[0]
        if self._told == 0:
            self._mean = reward
        advantage = reward - self._mean
        self._told += 1
        keep = min(self.momentum, 1 - 1 / self._told)  # plain means until there is enough to forget
        self._mean += (1 - keep) * advantage
        self._square = keep * self._square + (1 - keep) * advantage**2
        if self._square == 0:
            return
        weights = np.exp(self._logits - self._logits.max(1, keepdims=True))
        step = -weights / weights.sum(1, keepdims=True)
        step[range(NUM_SLOTS), [trial.arch // place % NUM_WIDTHS for place in _PLACES]] += 1
        self._logits += self.lr * advantage / math.sqrt(self._square) * step
