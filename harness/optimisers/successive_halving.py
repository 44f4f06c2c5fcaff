"""Successive halving: train many a little, the better ones longer.

K. Jamieson and A. Talwalkar, AISTATS 2016: n architectures are trained for r epochs, the best 1/eta of them for eta r,
and so on up to a whole training; then the next n. It reads accuracies after few epochs from the learning curves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from channel_bench.errors import ArgumentError, MissingDataError
from channel_bench.space import NUM_ARCHS
from harness.optimiser import Domain, Trial, register_optimiser


def rungs(num_epochs: int, eta: int, first: int) -> list[int]:
    """Epochs at which is compared: `first`, eta times as many, ... and all; ascending."""
    epochs = []
    while first < num_epochs:
        epochs.append(first)
        first *= eta
    return [*epochs, num_epochs]


@dataclass
class Bracket:
    """Some architectures on their way through rungs."""

    rungs: list[int]
    waiting: list[int]
    """Indices yet to be trained up to the present rung."""
    eta: int
    told: list[tuple[float, int]] = field(default_factory=list)

    def ask(self) -> Trial | None:
        """The next training, None when all is done."""
        while not self.waiting:
            if len(self.rungs) == 1:
                return None
            self.rungs.pop(0)
            best = sorted(self.told, reverse=True)[: max(1, len(self.told) // self.eta)]
            self.waiting, self.told = [index for _, index in reversed(best)], []
        return Trial(self.waiting.pop(), self.rungs[0])

    def tell(self, trial: Trial, accuracy: float) -> None:
        """Remember it for the comparison at the rung's end."""
        self.told.append((accuracy, trial.arch))


def _check_curves(domain: Domain, who: str) -> None:
    """Refuse a table whose accuracies after few epochs are not known.

    Raises:
        MissingDataError: It has no learning curves.
    """
    if not domain.has_curves:
        raise MissingDataError(
            f"{who} compares networks after a few epochs, and the table of {domain.space.name} has no learning curves:"
            " leave it out, or use a table that has them"
        )


@register_optimiser(
    "successive_halving", paper="Jamieson and Talwalkar, AISTATS 2016", summary="many a little, the better ones longer"
)
@dataclass
class SuccessiveHalving:
    """Bracket after bracket of the same kind.

    Raises:
        ArgumentError: eta < 2 or first < 1.
    """

    _name: ClassVar[str] = "successive_halving"

    eta: int = 3
    """One in so many goes on, for so many times the epochs."""
    first: int = 2
    """Epochs of the first rung."""

    def __post_init__(self) -> None:
        """Check the options."""
        if self.eta < 2:
            raise ArgumentError(f"eta is {self.eta}: allowed are 2 and above")
        if self.first < 1:
            raise ArgumentError(f"first is {self.first}: allowed are 1 and above")

    def start(self, domain: Domain, rng: np.random.Generator) -> None:
        """Begin the first bracket.

        Raises:
            MissingDataError: The table has no learning curves.
        """
        _check_curves(domain, self._name)
        self._rng, self._domain = rng, domain
        self._bracket = self._next()

    def _next(self) -> Bracket:
        levels = rungs(self._domain.num_epochs, self.eta, self.first)
        count = min(self.eta ** (len(levels) - 1), NUM_ARCHS)
        return Bracket(levels, self._rng.choice(NUM_ARCHS, size=count, replace=False).tolist(), self.eta)

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
