"""A table as something to optimise: trainings are answered from it, and paid for.

Searching on accuracies that are also the verdict would reward luck: the best of many noisy numbers is too good. So a
search sees one run of the table, and is judged by the mean of the others (`harness.optimise.judge`).

What a training costs: one, or its seconds where the table has times. A training of e of n epochs costs e/n of it, and
one that is continued pays the further epochs only. What was trained before is known and costs nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, MethodError, MissingDataError
from channel_bench.space import NUM_ARCHS, FloatArray
from channel_bench.table import Table
from harness.method import plugin_errors
from harness.optimiser import Domain, Optimiser, Trial

MAX_REPEATS = 300
"""Known trainings in a row after which an optimiser is taken to have nothing more to ask."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What one search asked for, in order; repeated questions left out."""

    seed: int
    run: int
    """Of the table, which the search saw."""
    indices: npt.NDArray[np.int16]
    """Of the architectures, (n,)."""
    epochs: npt.NDArray[np.int16]
    """How long each was trained, (n,)."""
    accuracies: npt.NDArray[np.float32]
    """What the search was told, percent, (n,)."""
    spent: FloatArray
    """Cost of all trainings up to and with each, in trainings or seconds, ascending, (n,)."""


@dataclass(frozen=True, eq=False)
class Replay:
    """A table, and what its trainings cost.

    Attributes:
        table: Every architecture has all runs, and there are at least two of them.
        budget: Whole trainings, or seconds.
        in_seconds: What the budget counts.
        cost: What is to be kept low beside accuracy, float64 (16384,) in index order; None for accuracy alone.
        cost_name: Its name: "flops", "latency_ms".

    Raises:
        ArgumentError: The budget is not above 0, or costs are not finite.
        MissingDataError: The table is not complete, has one run only, or no times where they are asked for.
    """

    table: Table
    budget: float
    in_seconds: bool = False
    cost: FloatArray | None = None
    cost_name: str = "flops"
    _told: dict[int, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be replayed."""
        if not (np.isfinite(self.budget) and self.budget > 0):
            raise ArgumentError(f"budget is {self.budget!r}: allowed are numbers > 0")
        if self.cost is not None and (np.shape(self.cost) != (NUM_ARCHS,) or not np.isfinite(self.cost).all()):
            raise ArgumentError(f"{self.cost_name} must be {NUM_ARCHS} finite numbers in index order")
        name, num_runs = self.table.name, self.table.num_runs
        if num_runs < 2:
            raise MissingDataError(
                f"table {name!r} has one run: a search sees one run and is judged by the others, so two are needed"
            )
        if not np.isfinite(self.table.cells()).all():
            raise MissingDataError(
                f"table {name!r} holds all runs of {int(np.isfinite(self.table.cells()).all(1).sum()):,} architectures:"
                f" an optimiser may ask for any, so all {NUM_ARCHS:,} are needed"
            )
        if self.in_seconds and not np.isfinite(self.seconds).all():
            raise MissingDataError(f"table {name!r} has no training times: give the budget in trainings")

    @functools.cached_property
    def seconds(self) -> FloatArray:
        """Seconds of a whole training of each architecture and run, float64 (16384, num_runs); NaN where unknown."""
        return self.table.column("train_s")

    @functools.cached_property
    def num_epochs(self) -> int:
        """Of a whole training."""
        return int(self.table.info.recipe["epochs"])

    @property
    def domain(self) -> Domain:
        """What an optimiser may know."""
        objectives = 1 if self.cost is None else 2
        return Domain(self.table.space, self.num_epochs, self.has_curves, self.budget, objectives)

    @functools.cached_property
    def has_curves(self) -> bool:
        """Whether the table has learning curves."""
        try:
            self.table.curves(0)
        except MissingDataError:
            return False
        return True

    def best_until(self, run: int) -> npt.NDArray[np.float32]:
        """Best test accuracy of a run up to each epoch, percent, float32 (16384, num_epochs), as best_test_acc is.

        Raises:
            MissingDataError: The table has no learning curves.
        """
        if run not in self._told:
            curves = np.stack([self.table.curves(index)["test_acc"][run] for index in range(NUM_ARCHS)])
            self._told[run] = np.maximum.accumulate(curves, axis=1)
        found: npt.NDArray[np.float32] = self._told[run]
        return found

    def search(self, optimiser: Optimiser, seed: int) -> Trace:
        """One search: ask, answer, pay, until the budget is spent.

        Args:
            optimiser: Started here.
            seed: Of the search; run `seed` modulo the number of runs is what it sees.

        Raises:
            MethodError: The optimiser breaks its contract.
            MissingDataError: It asks for fewer epochs, and the table has no learning curves.
        """
        run = seed % self.table.num_runs
        whole = self.num_epochs
        accuracies = self._full(run)
        costs = None if self.cost is None else self._costs
        prices = self._prices(run)
        curves: npt.NDArray[np.float32] | None = None
        done: dict[int, int] = {}  # epochs that each architecture was trained
        steps: list[tuple[int, int, float, float]] = []
        spent, repeats = 0.0, 0
        with plugin_errors("start(), ask() or tell()", optimiser, "harness/optimiser.py says what they are given"):
            optimiser.start(self.domain, np.random.default_rng(seed))
            while True:
                trial = optimiser.ask()
                index, epochs = _checked(trial, whole)
                before = done.get(index, 0)
                if epochs == whole:
                    accuracy = accuracies[index]
                else:
                    curves = self.best_until(run) if curves is None else curves
                    accuracy = float(curves[index, epochs - 1])
                if epochs > before:
                    spent += prices[index] * (epochs - before) / whole
                    if spent > self.budget * (1 + 1e-12):  # sums of thirds of trainings miss whole numbers by a hair
                        break
                    done[index], repeats = epochs, 0
                    steps.append((index, epochs, accuracy, spent))
                else:
                    repeats += 1
                    if repeats > MAX_REPEATS or len(done) == NUM_ARCHS:
                        break
                optimiser.tell(trial, (accuracy,) if costs is None else (accuracy, costs[index]))
        if not steps:
            raise ArgumentError(f"budget {self.budget:g} does not pay for the first training that was asked for")
        columns = list(zip(*steps, strict=True))
        return Trace(
            seed,
            run,
            np.array(columns[0], np.int16),
            np.array(columns[1], np.int16),
            np.array(columns[2], np.float32),
            np.array(columns[3]),
        )

    # Lists, because a look-up in one takes a third of the time of one in an array.
    def _full(self, run: int) -> list[float]:
        key = ("full", run)
        if key not in self._told:
            self._told[key] = self.table.accuracies(run).tolist()  # type: ignore[index]
        return self._told[key]  # type: ignore[index]

    def _prices(self, run: int) -> list[float]:
        return self.seconds[:, run].tolist() if self.in_seconds else [1.0] * NUM_ARCHS

    @functools.cached_property
    def _costs(self) -> list[float]:
        assert self.cost is not None
        return np.negative(self.cost).tolist()


def _checked(trial: Trial, whole: int) -> tuple[int, int]:
    """Index and epochs of a question.

    Raises:
        MethodError: It is not a training of the space.
    """
    try:
        index, epochs = trial
        epochs = whole if epochs is None else epochs
        if 0 <= index < NUM_ARCHS and 1 <= epochs <= whole and index == int(index) and epochs == int(epochs):
            return int(index), int(epochs)
    except (TypeError, ValueError):
        pass
    raise MethodError(
        f"ask() returned {trial!r}: it must return Trial(arch, epochs) with arch 0..{NUM_ARCHS - 1} and epochs"
        f" 1..{whole} or None"
    )
