"""Network adjustment by the FLOPs utilization ratio (Chen et al., CVPR 2020, Algorithm 1).

How much does the score lose where a slot gives up FLOPs? Slots that lose much use their FLOPs well. Starting from equal
widths, each iteration widens the slots of highest utilisation, narrows those of lowest, each by a tenth of its first
width, and then scales all widths until the FLOPs are what they were; the iterate with the best score is the result.

Three things differ from the paper. It trains anew in every iteration and measures utilisation there, by dropping
channels; here the effects of each slot's widths are measured once (`Queries.slot_effects`) and taken between the four
widths along straight lines, so that utilisation changes where a width passes from one quarter to the next. The number
of layers that are adjusted, K, falls during its search (by half a layer in each iteration, on networks of 18 layers);
here `num_slots` stays as it is, since two of seven slots leave little to reduce. And a width that can be chosen is a
quarter, a half ...: the loop goes on in exact widths, but an iterate is asked for, and counts, as the nearest
architecture that fits among its neighbours on the grid.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from channel_bench.errors import ArgumentError, BudgetError, MissingDataError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from harness.searcher import BoolArray, Budget, FloatArray, Queries, register_searcher
from harness.searchers.expectation import expected_cost, slot_costs

NARROWEST, WIDEST = 1 / NUM_WIDTHS, 1.0


@register_searcher("fur")
@dataclass(frozen=True)
class Fur:
    """Widens and narrows at constant cost; the history holds the iterates, equal ones in a row once."""

    iterations: int = 10
    num_slots: int = 2
    """How many slots are widened, and how many narrowed, in every iteration; the paper begins with about a third of the
    layers and ends with fewer."""
    step: float = 0.1
    """By which share of its first width the first of them is adjusted."""
    step_decay: float = 0.0
    """By how much less the second is, and so on."""

    def __post_init__(self) -> None:
        """Check the options."""
        if self.iterations < 0:
            raise ArgumentError(f"iterations is {self.iterations}: allowed are 0 and above")
        if not 1 <= self.num_slots <= NUM_SLOTS // 2:
            raise ArgumentError(f"num_slots is {self.num_slots}: allowed are 1..{NUM_SLOTS // 2}")
        if not (0 < self.step < 1 and 0 <= self.step_decay < 1):
            raise ArgumentError(
                f"step is {self.step} and step_decay {self.step_decay}: allowed are shares, 0 < step < 1 and"
                " 0 <= step_decay < 1"
            )

    def search(self, queries: Queries, budget: Budget, rng: np.random.Generator) -> int:
        """Index of the iterate with the best score.

        Raises:
            MethodError: The evaluator has no effects of single slots.
            BudgetError: Not even the narrowest architecture fits.
            MissingDataError: No architecture around any iterate has a score.
        """
        effects = queries.slot_effects()
        allowed = budget.fits & queries.scored
        if budget.costs[0] > budget.limit:
            raise BudgetError(f"the narrowest architecture does not have {budget}: FUR cannot start")
        first = scaled_to(budget, np.ones(NUM_SLOTS))
        widths, held = first, list[int]()
        for iteration in range(self.iterations + 1):
            if iteration:
                widths = scaled_to(budget, self._adjusted(widths, first, utilisation(effects, budget, widths)))
            index = nearest(widths, allowed)
            if index is not None and held[-1:] != [index]:
                held.append(index)
                queries.note(index)
        if not held:
            raise MissingDataError("FUR found no architecture with a score around any of its iterates")
        return queries.best(held)

    def _adjusted(self, widths: FloatArray, first: FloatArray, ratios: FloatArray) -> FloatArray:
        """Widths after one adjustment, before they are scaled; a slot at its limit leaves its place to the next."""
        order = np.argsort(-ratios, kind="stable").tolist()
        wider = [slot for slot in order if widths[slot] < WIDEST][: self.num_slots]
        narrower = [slot for slot in order[::-1] if widths[slot] > NARROWEST and slot not in wider][: self.num_slots]
        adjusted = widths.copy()
        for slots, sign in ((wider, 1), (narrower, -1)):
            for place, slot in enumerate(slots):
                adjusted[slot] += sign * max(self.step - self.step_decay * place, 0) * first[slot]
        return adjusted.clip(NARROWEST, WIDEST)


def utilisation(effects: FloatArray, budget: Budget, widths: FloatArray) -> FloatArray:
    """FLOPs utilization ratio of each slot: score that a narrower width loses, per cost that it saves.

    The paper drops the share of each slot's channels that saves the same FLOPs everywhere; with straight lines between
    the widths that is the slope of the effect over the slope of the cost.

    Args:
        effects: float64 (7, 4), contribution of each digit of each slot to the score.
        budget: Whose cost counts.
        widths: float64 (7,), 0.25..1.

    Returns:
        float64 (7,), score per unit of cost.
    """
    # The segment below the width; at the narrowest width, where nothing can be dropped, the one above.
    lower = (np.ceil(widths * NUM_WIDTHS).astype(int) - 2).clip(0, NUM_WIDTHS - 2)
    slots = np.arange(NUM_SLOTS)
    costs = slot_costs(budget.costs, interpolated(widths))
    gain = effects[slots, lower + 1] - effects[slots, lower]
    paid = costs[slots, lower + 1] - costs[slots, lower]
    # A measured latency may not grow with a width; what is free is used infinitely well, or badly.
    ratios = np.where(gain > 0, np.inf, np.where(gain < 0, -np.inf, 0.0))
    return np.divide(gain, paid, out=ratios, where=paid > 0)


def interpolated(widths: FloatArray) -> FloatArray:
    """Widths as mixtures of neighbouring digits: float64 (7,) of 0.25..1 to (7, 4), rows sum to 1."""
    digits = np.arange(1, NUM_WIDTHS + 1)
    return (1 - np.abs(widths[:, None] * NUM_WIDTHS - digits)).clip(0)


def scaled_to(budget: Budget, widths: FloatArray) -> FloatArray:
    """Widths times the largest factor that keeps the budget, each within 0.25..1."""

    def scaled(factor: float) -> FloatArray:
        return (widths * factor).clip(NARROWEST, WIDEST)

    inside, outside = 0.0, 1 / NARROWEST
    if expected_cost(budget.costs, interpolated(scaled(outside))) <= budget.limit:
        return scaled(outside)
    for _ in range(50):
        middle = (inside + outside) / 2
        fits = expected_cost(budget.costs, interpolated(scaled(middle))) <= budget.limit
        inside, outside = (middle, outside) if fits else (inside, middle)
    return scaled(inside)


def nearest(widths: FloatArray, allowed: BoolArray) -> int | None:
    """Index of the nearest allowed architecture among the corners of the grid cell around widths; None if none is."""
    # A width on the grid has the cell below it: where the budget refuses it by a hair, the next narrower one may fit.
    lower = np.floor(widths * NUM_WIDTHS - 1e-9).astype(int).clip(1, NUM_WIDTHS - 1)
    corners = np.array(list(itertools.product((0, 1), repeat=NUM_SLOTS))) + lower
    indices = np.ravel_multi_index((corners - 1).T, (NUM_WIDTHS,) * NUM_SLOTS)
    distances = ((corners / NUM_WIDTHS - widths) ** 2).sum(1).round(12)
    distances[~allowed[indices]] = np.inf
    best = int(distances.argmin())
    return int(indices[best]) if np.isfinite(distances[best]) else None
