"""The widths that the papers compare theirs with, and that need no scores: the uniform one, and the best of 20 trained.

    >>> fits = space.flops() <= 0.5 * space.flops("4444444")
    >>> uniform_choice(space, fits)
    5461
    >>> random_choices(table, fits, 1000, np.random.default_rng(0)).regret(table.accuracies(), fits).mean()

*Uniform* multiplies all widths by one number (MobileNet's width multiplier). *Random* draws 20 networks that fit,
trains each for a few epochs and continues the best (BCNet, Su et al., CVPR 2021, section 5: 50 of 300 epochs on
ImageNet, so a sixth here). A table with learning curves has all of these trainings: the choice is replayed, as often as
one likes. It is made by the test accuracy of one run, where the paper does not say on which images; and judged, like
every other choice, by the mean over runs, so that the luck of that run does not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, BudgetError, MissingDataError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS, FloatArray, Space
from channel_bench.table import Table
from channel_bench.table.ranks import rounded

UNIFORM, RANDOM = "uniform width", "best of 20 random"
NUM_CANDIDATES = 20
FEW_EPOCHS = 1 / 6
"""Share of the training after which the candidates are compared."""

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RandomChoices:
    """Many replays of: draw candidates, train each a little, continue the best."""

    chosen: IntArray
    """Index of the continued one of each replay, (num_draws,)."""
    num_candidates: int
    epochs: int
    """After how many the candidates were compared."""
    num_epochs: int
    """Of a whole training."""

    @property
    def trainings(self) -> float:
        """What a choice costs, in whole trainings: all candidates for a few epochs, and the rest of one."""
        return (self.num_candidates * self.epochs + self.num_epochs - self.epochs) / self.num_epochs

    def regret(self, accuracies: FloatArray, fits: BoolArray) -> FloatArray:
        """What each choice is below the best that fits, percentage points, (num_draws,).

        Args:
            accuracies: The truth, percent, (16384,), NaN where there is none.
            fits: What could have been chosen, (16384,).
        """
        values = rounded(np.where(fits, accuracies, np.nan))
        return np.asarray(np.nanmax(values) - values[self.chosen])


def uniform_choice(space: Space, fits: BoolArray) -> int | None:
    """Index of the widest architecture with one width ratio everywhere that fits; None where not even 1111111 does.

    A multiplier between two quarters gives the lower one: no layer may be wider than the budget's multiplier says.
    """
    uniform = [space.index((digit,) * NUM_SLOTS) for digit in range(1, NUM_WIDTHS + 1)]
    return max((index for index in uniform if fits[index]), default=None)


def random_choices(
    table: Table,
    fits: BoolArray,
    num_draws: int,
    rng: np.random.Generator,
    num_candidates: int = NUM_CANDIDATES,
    epochs: int | None = None,
) -> RandomChoices:
    """Replay the random baseline from a table's learning curves.

    Args:
        table: A table with curves.
        fits: What may be drawn, bool (16384,).
        num_draws: How many replays, >= 1.
        rng: Draws the candidates, and the run whose curves decide.
        num_candidates: Networks per replay, >= 1; all that fit where there are fewer.
        epochs: After how many they are compared; None for FEW_EPOCHS of the training.

    Raises:
        MissingDataError: The table has no curves.
        BudgetError: No architecture that fits has a finished run with curves.
        ArgumentError: A number is out of range.
    """
    archs, curves = table.all_curves()
    accuracy = curves["test_acc"]
    num_epochs = accuracy.shape[2]
    few = math.ceil(FEW_EPOCHS * num_epochs) if epochs is None else epochs
    if not 1 <= few <= num_epochs or num_candidates < 1 or num_draws < 1:
        raise ArgumentError(
            f"{num_draws} draws of {num_candidates} candidates after {few} epochs: allowed are 1 and above, and at most"
            f" {num_epochs} epochs"
        )
    indices = table.space.index(archs)
    finished = np.isfinite(accuracy[:, :, -1]).all(1) & fits[indices] & np.isfinite(table.accuracies()[indices])
    rows = np.flatnonzero(finished)
    if not len(rows):
        raise BudgetError(f"no architecture of table {table.name!r} that fits has all of its curves")
    num = min(num_candidates, len(rows))
    chosen = np.empty(num_draws, np.int64)
    for draw in range(num_draws):
        candidates = rng.choice(rows, num, replace=False)
        early = accuracy[candidates, rng.integers(accuracy.shape[1]), few - 1]
        chosen[draw] = indices[candidates[early.argmax()]]
    return RandomChoices(chosen, num, few, num_epochs)


@dataclass(frozen=True)
class Vanilla:
    """A baseline's choice within a budget."""

    name: str
    arch: str | None
    """Seven digits; None for the mean over many choices."""
    accuracy: float
    """Percent."""
    regret: float
    """Below the best that fits, percentage points."""
    trainings: float
    """Networks that had to be trained to choose it, in whole trainings; 0 where it is known beforehand."""


def vanilla_choices(table: Table, accuracies: FloatArray, fits: BoolArray, num_draws: int, seed: int) -> list[Vanilla]:
    """What the baselines choose within a budget, and what that is worth.

    Args:
        table: The truth; without curves there is no random baseline.
        accuracies: The truth of every architecture, percent, (16384,), NaN where there is none.
        fits: What may be chosen, bool (16384,).
        num_draws: Replays of the random baseline, whose means are given.
        seed: Of the draws.

    Raises:
        BudgetError: Nothing that fits has an accuracy.
    """
    values = rounded(np.where(fits, accuracies, np.nan))
    if not np.isfinite(values).any():
        raise BudgetError("nothing that fits has an accuracy")
    best, found = float(np.nanmax(values)), []
    uniform = uniform_choice(table.space, np.isfinite(values))
    if uniform is not None:
        accuracy = float(values[uniform])
        found.append(Vanilla(UNIFORM, table.space.text(uniform), accuracy, best - accuracy, 0.0))
    try:
        replayed = random_choices(table, np.isfinite(values), num_draws, np.random.default_rng(seed))
    except (MissingDataError, BudgetError):
        return found
    accuracy = float(values[replayed.chosen].mean())
    return [*found, Vanilla(RANDOM, None, accuracy, best - accuracy, replayed.trainings)]
