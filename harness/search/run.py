"""One search: a searcher, an evaluator that it may ask, a budget, and a check of what it ends with.

>>> space = get_space("resnet-mini")
>>> budget = Budget("flops", space.flops(), 0.5 * space.flops("4444444"))
>>> found = search(space, evaluator, budget, np.random.default_rng(0), "greedy")
>>> found.arch, found.score, found.num_queries
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from channel_bench.errors import MethodError, MissingDataError
from channel_bench.space import Space, get_space
from harness.method import Evaluator
from harness.scores import Scores
from harness.searcher import Budget, Found, Lookup, Queries, Searcher
from harness.searchers import get_searcher

if TYPE_CHECKING:
    from harness.task import Task


def search(
    space: Space | str | Task,
    evaluator: Evaluator | Scores,
    budget: Budget,
    rng: np.random.Generator,
    searcher: Searcher | str = "evolutionary",
) -> Found:
    """Search for a width within a budget.

    Args:
        space: The space, or a task in it.
        evaluator: What gives scores, or scores as read from a file.
        budget: What the architecture may cost.
        rng: For all that is random in the search.
        searcher: A searcher, or the name of one with its default options.

    Raises:
        BudgetError: Nothing fits, or the searcher has no means to keep to the budget and ended outside.
        MissingDataError: Scores that the search cannot do without are missing.
        MethodError: The evaluator or the searcher breaks its contract, or cannot tell what this search needs.
        UnknownNameError: No such searcher.
    """
    found_space = get_space(space) if isinstance(space, (str, Space)) else space.space
    chosen = get_searcher(searcher) if isinstance(searcher, str) else searcher
    budget.check()
    queries = Queries(found_space, Lookup(evaluator) if isinstance(evaluator, Scores) else evaluator)
    if not (budget.fits & queries.scored).any():
        raise MissingDataError(f"none of the {int(budget.fits.sum()):,} architectures with {budget} has a score")
    result = chosen.search(queries, budget, rng)
    index = found_space.index(found_space.text(result))
    if not (budget.fits & queries.scored)[index]:
        raise MethodError(
            f"searcher {type(chosen).__name__} ended with {found_space.text(index)}, which "
            + (f"has no score, though it has {budget}" if budget.fits[index] else f"does not have {budget}")
        )
    score = float(queries.score_indices([index])[0])
    return Found(found_space.text(index), score, queries.num_queries, tuple(queries.history), queries.query_flops)
