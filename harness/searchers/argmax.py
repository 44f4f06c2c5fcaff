"""The best width of every slot on its own: how TAS (Dong and Yang, NeurIPS 2019) reads its result.

TAS ends with the most probable width of each slot, which is the maximum of its score, a sum of one term per slot. Such
a sum is known from 22 questions: one architecture, and those that differ from it in one slot. Nothing in this step
keeps to a budget; in TAS the training does (its loss has a cost term), so a result outside the budget is an error and
not trimmed. Scores that are not such a sum are refused, because a maximum slot by slot would mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from channel_bench.errors import ArgumentError, BudgetError, MissingDataError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from harness.searcher import Budget, FloatArray, Queries, register_searcher

NUM_CHECKS = 8
"""Random architectures on which the sum of slot terms is compared with the score."""
RELATIVE_TOLERANCE = 1e-6


@register_searcher("argmax")
@dataclass(frozen=True)
class Argmax:
    """Takes the maximum of each term of a separable score; of equal terms the narrower width."""

    def search(self, queries: Queries, budget: Budget, rng: np.random.Generator) -> int:
        """Index of the maximum of the score over the whole space, which has to fit.

        Raises:
            ArgumentError: The score is not a sum of one term per slot.
            MissingDataError: An architecture that has to be asked for has no score.
            BudgetError: The maximum does not fit.
        """
        terms = _terms(queries)
        index = int(queries.space.index(terms.argmax(1) + 1))
        checks = queries.space.index(queries.space.sample(NUM_CHECKS, rng))
        checks = np.append(checks, index)
        digits = queries.space.archs()[checks]
        expected = terms[np.arange(NUM_SLOTS), digits - 1].sum(1)
        scores = _scores(queries, checks)
        error = np.abs(scores - expected).max()
        if error > RELATIVE_TOLERANCE * max(np.abs(scores).max(), np.ptp(terms, axis=1).sum()):
            raise ArgumentError(
                f"the score is not a sum of one term per slot (off by up to {error:.3g} on {len(checks)}"
                " architectures), so its maximum is not found slot by slot: use another searcher"
            )
        if not budget.fits[index]:
            costs = ", ".join(f"{part.name} {float(part.costs[index]):,.15g}" for part in budget.simple)
            raise BudgetError(
                f"the best width of every slot, {queries.space.text(index)}, has {costs}, not {budget}: argmax cannot"
                " keep to a budget, use another searcher"
            )
        return index


def _terms(queries: Queries) -> FloatArray:
    """Terms (7, 4) whose sum over slots is the score, if the score is separable."""
    # Row 4 l + d is the narrowest architecture with digit d + 1 in slot l; that of digit 1 is the same for every slot.
    probes = np.ones((NUM_SLOTS, NUM_WIDTHS, NUM_SLOTS), np.int8)
    for slot in range(NUM_SLOTS):
        probes[slot, :, slot] = np.arange(1, NUM_WIDTHS + 1)
    scores = _scores(queries, queries.space.index(probes.reshape(-1, NUM_SLOTS))).reshape(NUM_SLOTS, NUM_WIDTHS)
    # Each row holds the score of the narrowest once; in a sum over rows it counts once.
    return scores - scores[0, 0] * (NUM_SLOTS - 1) / NUM_SLOTS


def _scores(queries: Queries, indices: np.ndarray) -> FloatArray:
    missing = indices[~queries.scored[indices]]
    if missing.size:
        raise MissingDataError(f"argmax needs the score of architecture {queries.space.text(int(missing[0]))}")
    return queries.score_indices(indices)
