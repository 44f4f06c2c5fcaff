"""Greedy slimming, the search of AutoSlim (Yu and Huang, 2019, section 3).

From the widest network one slot is made one step narrower at a time: of the seven candidates the one whose score
suffers least, until the budget is kept. At most 21 steps and 7 questions each; a slot whose width is shared by several
layers (the skip lines) is one candidate, as in the paper. The walk is greedy by score alone: what a step saves does not
count, and what was made narrow stays so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from channel_bench.errors import BudgetError, MissingDataError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from harness.searcher import Budget, Queries, register_searcher


@register_searcher("greedy")
@dataclass(frozen=True)
class Greedy:
    """Walks from 4444444 down; the history holds every architecture of the walk, so the end of any larger budget."""

    def search(self, queries: Queries, budget: Budget, rng: np.random.Generator) -> int:
        """Index of the first architecture of the walk that fits and has a score.

        Raises:
            MissingDataError: None of the candidates of a step has a score.
            BudgetError: The walk ended at the narrowest network outside the budget, which costs that grow with every
                width cannot cause.
        """
        allowed = budget.fits & queries.scored
        arch = (NUM_WIDTHS,) * NUM_SLOTS
        index = queries.space.index(arch)
        while not allowed[index]:
            narrower = [
                arch[:slot] + (arch[slot] - 1,) + arch[slot + 1 :] for slot in range(NUM_SLOTS) if arch[slot] > 1
            ]
            if not narrower:
                raise BudgetError(f"greedy slimming ended at {queries.space.text(arch)}, which does not have {budget}")
            candidates = queries.space.index(narrower)
            index = queries.best(candidates)
            if not queries.scored[index]:
                raise MissingDataError(
                    f"greedy slimming cannot go on from {queries.space.text(arch)}: none of the {len(narrower)}"
                    " architectures that are one step narrower has a score"
                )
            arch = queries.space[index]
            queries.note(index)
        return index
