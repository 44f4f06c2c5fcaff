"""What a search is worth: the true accuracy of the width it found, beside the best one within the same budget.

    >>> verdict = judge([Candidate("greedy", "search", found)], budget, space, table)
    >>> verdict.rows[0].regret          # percentage points

A search can end low because it missed the maximum of its scores, or because the scores are wrong there. The references
tell the two apart: the exhaustive maximum of the same scores shows what they allow; the largest architecture that
fits, the uniform width and the best of 20 random networks trained for a few epochs need no scores at all. Like
`report`, and nothing else, this module sees scores and truth together.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from channel_bench.errors import ArgumentError, BudgetError, MissingDataError
from channel_bench.space import NUM_ARCHS, Space
from channel_bench.support.terminal import progress
from channel_bench.table import Table
from channel_bench.table.ranks import ACCURACY_DECIMALS, best_of, ranks, rounded
from harness.method import Evaluator
from harness.scores import Scores
from harness.search.bill import Bill, FinalTraining, bill_of
from harness.search.run import search
from harness.searcher import Budget, Found, Lookup, Queries, Searcher, Step
from harness.stats.vanilla import RANDOM, UNIFORM, random_choices, uniform_choice

LARGEST = "largest that fits"


@dataclass(frozen=True)
class Candidate:
    """A width to be judged."""

    name: str
    kind: str
    """"search" or "reference"."""
    found: Found


@dataclass(frozen=True)
class Row:
    """A width, what it costs and how good it truly is."""

    name: str
    kind: str
    """"search" or "reference"."""
    arch: str
    channels: tuple[int, ...]
    costs: dict[str, int | float]
    """FLOPs, and whatever else the budget limits."""
    score: float
    """What the evaluator gives it; NaN where it has no score of it."""
    num_queries: int
    """Distinct architectures asked for to find it."""
    accuracy: float | None
    """True accuracy, percent; None without a table, or where the table does not have it."""
    rank: int | None
    """1 is the best of what fits and is in the table; equal to 0.0001 points is equal."""
    regret: float | None
    """Accuracy of the best that fits minus its own, percentage points."""
    history: tuple[Step, ...] = ()
    """The steps of the search."""


@dataclass(frozen=True)
class Verdict:
    """Widths found within one budget, beside the truth where there is a table."""

    space: str
    budget: str
    """The condition in words."""
    num_fitting: int
    """How many architectures fit."""
    table: str | None
    dataset: str | None
    truth: str | None
    """Which accuracy the truth is, in words."""
    num_ranked: int | None
    """How many that fit are in the table: what ranks are among."""
    best: str | None
    """The most accurate that fits; of equal ones the first in index order."""
    best_accuracy: float | None
    """Percent."""
    rows: list[Row]
    scored_by: str = "scores"
    """Name of the method or file that the scores are of."""
    num_unscored: int = 0
    """How many that fit have no score and could not be chosen."""
    seed: int | None = None
    """Seed of the search."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the searcher."""
    facts: dict[str, Any] = field(default_factory=dict)
    """How the scores came about."""
    bill: Bill | None = None
    """What the search cost."""
    final: FinalTraining | None = None
    """The found width trained from scratch."""

    def with_final(self, final: FinalTraining) -> Verdict:
        """The verdict with the final training, and what it cost."""
        paid = dataclasses.replace(self.bill or bill_of(self.facts, 0), final_macs=final.macs, final_s=final.seconds)
        return dataclasses.replace(self, final=final, bill=paid)


def largest(budget: Budget, queries: Queries) -> Found:
    """The architecture with the most FLOPs that fits: the choice of someone who trusts size and asks for no scores.

    Of equal FLOPs the one with more parameters, then the first in index order. Its score is asked for only to be shown.

    Raises:
        BudgetError: Nothing fits.
    """
    budget.check()
    fitting = np.flatnonzero(budget.fits)
    space = queries.space
    index = int(fitting[np.lexsort((fitting, -space.params()[fitting], -space.flops()[fitting]))[0]])
    return _known(index, queries)


def vanilla(budget: Budget, queries: Queries, table: Table | None, seed: int) -> list[Candidate]:
    """The uniform width, and the best of 20 random ones after a few epochs (`harness.stats.vanilla`), where they exist.

    Args:
        budget: Something fits it.
        queries: Gives the scores that are shown.
        table: The truth, whose curves the random one is replayed from; None for no random one.
        seed: Of the random one.
    """
    found = []
    uniform = uniform_choice(queries.space, budget.fits)
    if uniform is not None:
        found.append(Candidate(UNIFORM, "reference", _known(uniform, queries)))
    if table is not None and table.space == queries.space:
        with contextlib.suppress(MissingDataError, BudgetError):  # no curves, or none of what fits
            chosen = random_choices(table, budget.fits, 1, np.random.default_rng(seed)).chosen
            found.append(Candidate(RANDOM, "reference", _known(int(chosen[0]), queries)))
    return found


def _known(index: int, queries: Queries) -> Found:
    """An architecture that was chosen without scores; its own is asked for only to be shown."""
    score = float(queries.score_indices([index])[0])
    return Found(queries.space.text(index), score if math.isfinite(score) else math.nan, 0, ())


def judge(
    candidates: Sequence[Candidate],
    budget: Budget,
    space: Space,
    table: Table | None = None,
    metric: str = "best_test_acc",
    run: int | None = None,
) -> Verdict:
    """Put widths beside the truth.

    Args:
        candidates: The widths, all within the budget; none to check the other arguments before a long search.
        budget: The budget of the search.
        space: The space of widths and table.
        table: The truth; None for costs and scores alone.
        metric: Which accuracy is the truth.
        run: One run as the truth, or None for the mean over runs.

    Raises:
        ArgumentError: The table is of another space, or has no such run or metric, or nothing in it fits.
    """
    if table is not None and table.space != space:
        raise ArgumentError(f"the search was in space {space.name!r}, table {table.name!r} is of {table.space.name!r}")
    # Means to 0.0001 points, as everywhere else: single precision breaks ties that are there.
    truth = np.full(NUM_ARCHS, np.nan) if table is None else rounded(table.accuracies(run, metric))
    among = np.where(budget.fits, truth, np.nan)
    num_ranked = int(np.isfinite(among).sum())
    if table is not None and num_ranked == 0:
        raise ArgumentError(
            f"table {table.name!r} holds no architecture with {budget}: there is no truth to compare with"
        )
    best = int(best_of(among, np.flatnonzero(np.isfinite(among)))[0]) if num_ranked else None
    places = ranks(among)
    costs = {"flops": space.flops()} | {part.name: part.costs for part in budget.simple}
    rows = []
    for candidate in candidates:
        index = space.index(candidate.found.arch)
        accuracy = float(among[index])
        known = best is not None and math.isfinite(accuracy)
        rows.append(
            Row(
                name=candidate.name,
                kind=candidate.kind,
                arch=candidate.found.arch,
                channels=space.channels(candidate.found.arch),
                costs={name: values[index].item() for name, values in costs.items()},
                score=candidate.found.score,
                num_queries=candidate.found.num_queries,
                accuracy=accuracy if known else None,
                rank=int(places[index]) if known else None,
                regret=round(float(among[best]) - accuracy, ACCURACY_DECIMALS) if known else None,
                history=candidate.found.history,
            )
        )
    return Verdict(
        space=space.name,
        budget=str(budget),
        num_fitting=int(budget.fits.sum()),
        table=None if table is None else table.name,
        dataset=None if table is None else table.info.dataset,
        truth=None if table is None else table.meaning(metric, run),
        num_ranked=None if table is None else num_ranked,
        best=None if best is None else space.text(best),
        best_accuracy=None if best is None else float(among[best]),
        rows=rows,
    )


def search_and_judge(
    evaluator: Evaluator | Scores,
    budget: Budget,
    space: Space,
    searcher: Searcher,
    *,
    name: str,
    seed: int = 0,
    exhaustive: bool = True,
    table: Table | None = None,
    metric: str = "best_test_acc",
    run: int | None = None,
    scored_by: str = "scores",
    facts: dict[str, Any] | None = None,
) -> Verdict:
    """Search, find the references, and put all of it beside the truth.

    Args:
        evaluator: What gives scores, or scores as read from a file; asked once for each architecture.
        budget: What the width may cost.
        space: The space.
        searcher: How to search.
        name: Name that the searcher is shown under.
        seed: Seed of the search, >= 0.
        exhaustive: Whether to score everything that fits, so that its best is a reference.
        table: The truth; None for costs and scores alone.
        metric: Which accuracy is the truth.
        run: One run as the truth, or None for the mean over runs.
        scored_by: Name of the method or file that the scores are of.
        facts: How the scores came about.

    Raises:
        ChannelBenchError: As `harness.search.run.search` and `judge`.
    """
    source = Lookup(evaluator) if isinstance(evaluator, Scores) else evaluator
    scored = Queries(space, source).scored
    with progress("asking for scores", int((budget.fits & scored).sum())) as advance:
        # One memory for all, beneath the counting of each.
        memory = Queries(space, source, lambda count: advance(count, ""))
        found = search(space, memory, budget, np.random.default_rng(seed), searcher)
        candidates = [Candidate(name, "search", found)]
        if exhaustive and name != "exhaustive":
            best = search(space, memory, budget, np.random.default_rng(seed), "exhaustive")
            candidates.append(Candidate("exhaustive", "reference", best))
        candidates.append(Candidate(LARGEST, "reference", largest(budget, memory)))
        candidates += vanilla(budget, memory, table, seed)
    return dataclasses.replace(
        judge(candidates, budget, space, table, metric, run),
        scored_by=scored_by,
        num_unscored=int((budget.fits & ~scored).sum()),
        seed=seed,
        options=dataclasses.asdict(searcher) if dataclasses.is_dataclass(searcher) else {},
        facts=facts or {},
        bill=bill_of(facts or {}, found.query_flops),
    )
