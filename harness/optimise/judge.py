"""What searches are worth: regret and hypervolume by the runs that they did not see, ranks, and who can be told apart.

A search settles on the best that it was told (of the longest trainings; of equals the first). What that choice is
worth is its mean accuracy over the *other* runs of the table; its regret is how far below the best such mean it is.
Whoever trains all 16,384 once and takes the best has a regret, too (`floor`): one run is noisy, and the largest of many
noisy numbers owes much to luck. A search can do better than that where it goes by more than single numbers. How far the
choice is below the best of the run that it saw (`seen`) says how well it searched, luck included.

With two objectives the choice is the front of what it was told, and its worth the area that the front's true values
dominate, as a share of the true front's (the hypervolume; Zitzler and Thiele, 1999).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError
from channel_bench.space import FloatArray
from channel_bench.table import Table
from channel_bench.table.ranks import rounded
from harness.optimise.replay import Replay, Trace
from harness.stats import student
from harness.stats.critical import Groups, rank_groups

IntArray = npt.NDArray[np.int64]
NUM_POINTS = 50
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Outcome:
    """One optimiser on one table, over many seeds."""

    optimiser: str
    space: str
    budgets: FloatArray
    """Trainings or seconds at which is looked, ascending, (num_points,)."""
    values: FloatArray
    """Regret in percentage points, or share of the hypervolume, by the runs that were not seen, (num_seeds,
    num_points); NaN before anything was trained."""
    seen: FloatArray
    """The same by the run that was seen."""
    num_trials: float
    """Mean number of trainings that a search began."""

    def mean(self) -> FloatArray:
        """Mean over seeds, (num_points,); NaN where a search has nothing yet."""
        return np.asarray(self.values.mean(0))

    def half_width(self) -> FloatArray:
        """Half of the interval of the mean (Student's t), (num_points,); NaN for one seed."""
        return student.half_width(self.values, LEVEL)


def outcome_of(optimiser: str, traces: Sequence[Trace], replay: Replay, budgets: FloatArray | None = None) -> Outcome:
    """Judge the searches of one optimiser.

    Args:
        optimiser: Its name.
        traces: A search each.
        replay: What they were run on.
        budgets: Where to look, ascending; None for NUM_POINTS equal steps up to the budget.

    Raises:
        ArgumentError: No searches.
    """
    if not traces:
        raise ArgumentError(f"there are no searches of {optimiser!r} to judge")
    at = np.linspace(0, replay.budget, NUM_POINTS + 1)[1:] if budgets is None else budgets
    worth = _regret if replay.cost is None else _hypervolume
    values = np.array([worth(trace, replay, at, _truth(replay.table, trace.run)) for trace in traces])
    seen = np.array([worth(trace, replay, at, _run(replay.table, trace.run)) for trace in traces])
    return Outcome(
        optimiser, replay.table.space.name, at, values, seen, float(np.mean([len(each.indices) for each in traces]))
    )


def unseen(table: Table, run: int) -> FloatArray:
    """Mean accuracy of the runs but one, to 0.0001 points, percent, float64 (16384,) in index order."""
    return rounded(np.delete(table.cells(), run, axis=1).mean(1))


def floor(replay: Replay) -> float:
    """Regret, or share of the hypervolume, of whoever trains all architectures once; mean over the runs."""
    everything = np.arange(len(replay.table.cells()))
    values = []
    for run in range(replay.table.num_runs):
        told = replay.table.accuracies(run)
        trace = Trace(
            run,
            run,
            everything.astype(np.int16),
            np.full(len(everything), replay.num_epochs, np.int16),
            told.astype(np.float32),
            np.arange(1.0, len(everything) + 1),
        )
        worth = _regret if replay.cost is None else _hypervolume
        values.append(worth(trace, replay, np.array([float(len(everything))]), _truth(replay.table, run))[0])
    return float(np.mean(values))


def _regret(trace: Trace, replay: Replay, budgets: FloatArray, truth: FloatArray) -> FloatArray:
    # A longer training outweighs every accuracy: percent end at 100.
    told = trace.epochs * 1000.0 + trace.accuracies
    is_new = np.concatenate([[True], told[1:] > np.maximum.accumulate(told)[:-1]])
    holder = np.maximum.accumulate(np.where(is_new, np.arange(len(told)), 0))
    chosen = trace.indices[holder]
    place = np.searchsorted(trace.spent, budgets * (1 + 1e-12), side="right") - 1
    return np.where(place >= 0, truth.max() - truth[chosen[np.maximum(place, 0)]], np.nan)


def _hypervolume(trace: Trace, replay: Replay, budgets: FloatArray, truth: FloatArray) -> FloatArray:
    assert replay.cost is not None
    whole = trace.epochs == replay.num_epochs
    indices, told, spent = trace.indices[whole], trace.accuracies[whole], trace.spent[whole]
    cost = replay.cost
    corner = float(truth.min()), float(cost.max())
    best = dominated_area(truth, cost, corner)
    shares = []
    for place in np.searchsorted(spent, budgets * (1 + 1e-12), side="right"):
        mine = indices[:place]
        front = mine[_front(told[:place], cost[mine])] if place else mine
        shares.append(dominated_area(truth[front], cost[front], corner) / best if place else np.nan)
    return np.array(shares)


@functools.lru_cache(maxsize=16)
def _truth(table: Table, run: int) -> FloatArray:
    return unseen(table, run)


@functools.lru_cache(maxsize=16)
def _run(table: Table, run: int) -> FloatArray:
    return rounded(table.accuracies(run))


def _front(accuracies: FloatArray, costs: FloatArray) -> IntArray:
    """Positions of what no other beats in both, cheapest first."""
    order = np.lexsort((-accuracies, costs))
    values = accuracies[order]
    is_better = np.concatenate([[True], values[1:] > np.maximum.accumulate(values)[:-1]])
    return np.asarray(order[is_better])


def dominated_area(accuracies: FloatArray, costs: FloatArray, corner: tuple[float, float]) -> float:
    """Area that points dominate within a corner: the hypervolume of two objectives, exact.

    Args:
        accuracies: (n,), larger is better.
        costs: (n,), smaller is better.
        corner: Worst accuracy and largest cost; what is not better in both adds nothing.
    """
    least, most = corner
    inside = (accuracies > least) & (costs < most)
    if not inside.any():
        return 0.0
    accuracies, costs = accuracies[inside], costs[inside]
    front = _front(accuracies, costs)
    heights = np.diff(np.concatenate([[least], accuracies[front]]))
    return float((heights * (most - costs[front])).sum())


def ranks_of(outcomes: Sequence[Outcome], higher_is_better: bool) -> Groups | None:
    """Mean ranks of optimisers over spaces and seeds at the whole budget, and which cannot be told apart.

    Searches of equal seed in equal space saw the same run, which makes each a block. Optimisers that were not run
    everywhere are left out; None where fewer than two, or two blocks, remain.

    Args:
        outcomes: Of any optimisers and spaces.
        higher_is_better: Whether values are hypervolumes, not regrets.
    """
    spaces = sorted({each.space for each in outcomes})
    by_name: dict[str, dict[str, FloatArray]] = {}
    for each in outcomes:
        by_name.setdefault(each.optimiser, {})[each.space] = each.values[:, -1]
    complete = {name: found for name, found in by_name.items() if len(found) == len(spaces)}
    num_seeds = min((len(values) for found in complete.values() for values in found.values()), default=0)
    if len(complete) < 2 or num_seeds * len(spaces) < 2:
        return None
    columns = {name: np.concatenate([found[space][:num_seeds] for space in spaces]) for name, found in complete.items()}
    values = np.column_stack(list(columns.values()))
    values = np.nan_to_num(values, nan=-np.inf if higher_is_better else np.inf)
    return rank_groups(list(columns), values if higher_is_better else -values, LEVEL)
