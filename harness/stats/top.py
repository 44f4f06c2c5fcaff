"""Choosing by a ranking: how good its best architectures are, and what it picks under a budget.

    >>> found = bootstrap_top({"mine": scores}, table.cells(), space.flops(), budgets=[5e8])
    >>> found.interval("mine", "p_at_top10")
    >>> choose(scores, table.cells(), space.flops(), budget=5e8).regret_unseen

What is best in a table is mostly luck: among the best ten by one run and by the others are one or none in common. So
intervals come from resampling runs, the architectures being what they are (the best of 16,384 is not in a third of all
samples of them), and a choice is also held against a best that was found without the runs it is measured on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError
from channel_bench.space import FloatArray
from channel_bench.table.ranks import best_of, rounded, within
from harness.stats.bootstrap import NUM_REPLICATES, Bootstrap, Labels, run_replicates
from harness.stats.metrics import TOP_SIZES, TopK, TrueRanks, checked, regrets
from harness.stats.ranks import IntArray


@dataclass(frozen=True)
class Choice:
    """What a ranking chooses within a budget."""

    budget: float
    """Largest allowed cost."""
    num_fitting: int
    """Architectures that cost at most the budget."""
    chosen: tuple[int, ...]
    """Positions of those that share the highest score."""
    accuracy: float
    """Mean accuracy of the chosen, percent."""
    best: float
    """Highest accuracy that fits, which luck has raised."""
    regret: float
    """best - accuracy, percentage points, >= 0; above 0 for a perfect ranking, too."""
    regret_unseen: float
    """Mean over runs of: accuracy in this run of the best by the other runs, minus that of the chosen. Luck raises
    neither; below 0 the choice is better than choosing by the other runs. NaN where an architecture that fits lacks a
    run, or there is one run only."""


def choose(scores: npt.ArrayLike, accuracies: npt.ArrayLike, costs: npt.ArrayLike, budget: float) -> Choice:
    """The best-scored architecture within a budget, and what it is worth.

    Args:
        scores: float (n,).
        accuracies: Of every run, float (n, num_runs), NaN where a run is missing, one at least in each row.
        costs: float (n,).
        budget: Largest allowed cost.

    Raises:
        ArgumentError: Shapes differ, or a value is not finite.
        BudgetError: Nothing costs as little as the budget.
    """
    values, cost = checked("scores", scores), checked("costs", costs)
    labels = Labels(accuracies)
    means = rounded(labels.means)
    (found,) = regrets(values, means, cost, [budget])
    cells = np.atleast_2d(np.asarray(accuracies, np.float64).T).T
    return Choice(
        budget=found.budget,
        num_fitting=found.num_fitting,
        chosen=found.chosen,
        accuracy=found.accuracy,
        best=found.best,
        regret=found.regret,
        regret_unseen=_regret_unseen(cells, within(cost, budget), np.array(found.chosen)),
    )


def _regret_unseen(cells: FloatArray, fits: IntArray, chosen: IntArray) -> float:
    if cells.shape[1] < 2 or not np.isfinite(cells[fits]).all():
        return math.nan
    differences = []
    for run in range(cells.shape[1]):
        others = rounded(np.delete(cells, run, 1)[fits].mean(1))
        best = fits[best_of(others, np.arange(len(fits)))]
        differences.append(cells[best, run].mean() - cells[chosen, run].mean())
    return float(np.mean(differences))


def bootstrap_top(
    methods: Mapping[str, npt.ArrayLike],
    accuracies: npt.ArrayLike,
    costs: npt.ArrayLike,
    budgets: Sequence[float] = (),
    *,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
    num_threads: int | None = None,
    on_replicate: Callable[[], object] | None = None,
) -> Bootstrap:
    """Precision and best rank at the top, and regrets within budgets, on the data and with runs resampled.

    Args:
        methods: Scores by name, float (n,) each.
        accuracies: float (n, num_runs), NaN where a run is missing, at least one in each row.
        costs: float (n,).
        budgets: Largest allowed costs.
        num_replicates: How often, >= 1.
        seed: Of the resampling.
        num_threads: None for one per core that this process may use.
        on_replicate: Called after each replicate.

    Returns:
        Metrics ``p_at_top{k}`` and ``br_at_{k}`` for k of TOP_SIZES up to n, then ``regret_{i}`` for the i-th budget.

    Raises:
        ArgumentError: Shapes differ, a value is not finite, or no architecture has two runs.
        BudgetError: Nothing costs as little as a budget.
    """
    labels, cost = Labels(accuracies), checked("costs", costs)
    if not (labels.num_runs > 1).any():
        raise ArgumentError("runs cannot be resampled: no architecture has two")
    sizes = [k for k in TOP_SIZES if k <= len(labels)]
    columns = {name: checked(f"scores of {name!r}", scores) for name, scores in methods.items()}
    for column in columns.values():
        regrets(column, labels.means, cost, list(budgets))  # refuses what does not fit together
    measure = _TopMeasure(list(columns.values()), cost, sizes, budgets)

    def replicate(number: int) -> FloatArray:
        return measure.of(labels.resampled(np.random.default_rng([seed, number])))

    return Bootstrap(
        methods=tuple(columns),
        metrics=tuple(
            [name for k in sizes for name in (f"p_at_top{k}", f"br_at_{k}")]
            + [f"regret_{number}" for number in range(len(budgets))]
        ),
        over=("runs",),
        estimates=measure.of(rounded(labels.means)),
        replicates=run_replicates(replicate, num_replicates, num_threads, on_replicate),
        bounds=((0.0, 1.0), (1.0, float(len(labels)))) * len(sizes) + ((0.0, math.inf),) * len(budgets),
        seed_variances=np.zeros((len(columns), 2 * len(sizes) + len(budgets))),
        num_seeds=np.ones(len(columns), np.intp),
    )


class _TopMeasure:
    """The metrics of all methods for one truth after another; whatever all truths share is computed once.

    Sets of architectures (the top k, the choices) lie behind one another in one array, so that a truth is looked up
    once for all of them.
    """

    def __init__(
        self, columns: list[FloatArray], costs: FloatArray, sizes: Sequence[int], budgets: Sequence[float]
    ) -> None:
        self._shape = (len(columns), len(sizes))
        self._tops = [TopK(k, column) for column in columns for k in sizes]
        self._contested = [number for number, top in enumerate(self._tops) if top.share < 1]
        parts = [np.concatenate([top.sure, top.tied]) for top in self._tops]
        self._rows, self._starts = _joined(parts)
        self._sizes = np.array([top.k for top in self._tops])
        self._limits = np.repeat(self._sizes, [len(part) for part in parts])
        self._weights = _joined(
            [np.r_[np.ones(len(top.sure)), np.full(len(top.tied), top.share)] for top in self._tops]
        )[0]
        self._fitting = [within(costs, budget) for budget in budgets]
        chosen = [best_of(column, fits) for column in columns for fits in self._fitting]
        self._chosen, self._choices = _joined(chosen)
        self._num_chosen = np.array([len(each) for each in chosen])

    def of(self, truth: FloatArray) -> FloatArray:
        """Precision and best rank for each size in turn, then regrets, (num_methods, num_metrics)."""
        num_methods = self._shape[0]
        found = [np.empty((num_methods, 0))]
        if self._tops:
            every = TrueRanks(truth)
            ranks = every[self._rows]
            precision = np.add.reduceat((ranks <= self._limits) * self._weights, self._starts) / self._sizes
            best = np.minimum.reduceat(ranks, self._starts).astype(np.float64)
            for number in self._contested:
                best[number] = self._tops[number].best_rank(every)
            found.append(np.stack([precision, best], 1).reshape(num_methods, -1))
        if self._fitting:
            highest = np.array([truth[fits].max() for fits in self._fitting])
            accuracies = np.add.reduceat(truth[self._chosen], self._choices) / self._num_chosen
            found.append(highest - accuracies.reshape(num_methods, -1))
        return np.concatenate(found, axis=1)


def _joined(parts: Sequence[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], IntArray]:
    """Arrays behind one another, and where each begins."""
    if not parts:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    return np.concatenate(parts), np.cumsum([0, *(len(part) for part in parts[:-1])])
