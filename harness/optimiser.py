"""Optimisers on the table: the contract of one that asks and is told, and the registry.

    >>> optimiser = OPTIMISERS.make("regularised_evolution", population=50)
    >>> optimiser.start(domain, np.random.default_rng(0))
    >>> trial = optimiser.ask()                 # train this
    >>> optimiser.tell(trial, (93.1,))          # that came of it

Searching a table of trained networks is the classic use of a tabular benchmark: the accuracy of every architecture is
known, so a search that would train hundreds of networks is replayed in milliseconds, as often as one likes. An
optimiser is a class with three functions:

    @register_optimiser("my_search")
    class MySearch:
        def start(self, domain, rng):       # options are arguments of its constructor; called once per search
        def ask(self):                      # Trial(arch), or Trial(arch, epochs) to train only so long; an index
        def tell(self, trial, values):      # (accuracy,), or (accuracy, -cost) where there are two objectives; all
                                            # are to be maximised

``channel-harness optimise`` takes a name, ``path/to/file.py:MySearch`` or ``module:MySearch``. A package adds its
optimisers by the entry-point group ``channel_bench.optimisers``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from channel_bench.space import NUM_ARCHS, NUM_SLOTS, NUM_WIDTHS, Space
from harness.registry import Registry


class Trial(NamedTuple):
    """A training that an optimiser asks for."""

    arch: int
    """Index of the architecture, 0 ... 16,383 (`Space.index`)."""
    epochs: int | None = None
    """After how many epochs it wants to know; None for all. Asked for more of an architecture later, the training is
    continued and only the further epochs are paid for."""


@dataclass(frozen=True, eq=False)
class Domain:
    """What an optimiser may know before it asks: everything but the accuracies."""

    space: Space
    num_epochs: int
    """Of a whole training."""
    has_curves: bool
    """Whether fewer epochs can be asked for."""
    budget: float
    """Whole trainings, or seconds, that the search may cost."""
    num_objectives: int = 1
    """1: accuracy; 2: accuracy and a cost."""


class Optimiser(Protocol):
    """A search by asking and being told; one object serves many searches, one after another."""

    def start(self, domain: Domain, rng: np.random.Generator) -> None:
        """Forget everything and begin a search.

        Args:
            domain: What can be asked for.
            rng: For all that is random.
        """
        ...

    def ask(self) -> Trial:
        """The next training. One that was done before costs nothing; only so many in a row are answered."""
        ...

    def tell(self, trial: Trial, values: tuple[float, ...]) -> None:
        """What came of it.

        Args:
            trial: As it was asked for.
            values: To be maximised: accuracy in percent, and with two objectives the negative cost.
        """
        ...


OPTIMISERS: Registry[Optimiser] = Registry(
    "optimiser",
    "channel_bench.optimisers",
    "harness.optimisers",
    (
        *("gaussian_process", "hyperband", "local_search", "nsga2", "random_search", "regularised_evolution"),
        *("reinforce", "successive_halving", "tpe"),
    ),
    "ask",
)
register_optimiser = OPTIMISERS.register
"""Class decorator that makes an optimiser known under a name (`Registry.register`)."""


@functools.cache
def neighbours() -> npt.NDArray[np.int64]:
    """Indices of the architectures that differ from each in one slot, int64 (16384, 21), read-only."""
    indices = np.arange(NUM_ARCHS)[:, None]
    columns = []
    for slot in range(NUM_SLOTS):
        place = NUM_WIDTHS ** (NUM_SLOTS - 1 - slot)
        width = indices // place % NUM_WIDTHS
        columns += [indices + ((width + step) % NUM_WIDTHS - width) * place for step in range(1, NUM_WIDTHS)]
    found: npt.NDArray[np.int64] = np.concatenate(columns, axis=1)
    found.flags.writeable = False
    return found
