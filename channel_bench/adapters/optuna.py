"""The table as an objective of Optuna.

    >>> study = optuna.create_study(direction="maximize")
    >>> study.optimize(objective(cb.load("resnet-mini"), run=0), n_trials=200)
    >>> arch_of(space, study.best_params)                         # its seven digits

A trial has seven integers, slot0 .. slot6, in channels, whose step is the quarter of a slot. With `prune=True` a trial
reports its accuracy after every epoch and ends when the study's pruner says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from channel_bench.adapters.shared import accuracies_by_epoch, arch_of, config_of, library, widths
from channel_bench.errors import ArgumentError
from channel_bench.space import FloatArray, Space
from channel_bench.table import Table

__all__ = ["arch_of", "config_of", "objective", "optuna_space", "suggest"]

COSTS = ("flops", "params")


def optuna_space(space: Space) -> dict[str, Any]:
    """Seven `IntDistribution`s by slot, as `study.ask`, `create_trial` and samplers of a fixed space take them.

    Raises:
        MissingPackageError: Optuna is not installed.
    """
    distribution = library("optuna.distributions").IntDistribution
    return {slot: distribution(channels[0], channels[-1], step=channels[0]) for slot, channels in widths(space).items()}


def suggest(trial: Any, space: Space) -> str:
    """Let a trial choose an architecture: its seven digits."""
    chosen = {
        slot: trial.suggest_int(slot, channels[0], channels[-1], step=channels[0])
        for slot, channels in widths(space).items()
    }
    return arch_of(space, chosen)


def objective(
    table: Table,
    run: int | None = None,
    metric: str = "best_test_acc",
    *,
    prune: bool = False,
    cost: str | None = None,
) -> Callable[[Any], Any]:
    """Make the function that `study.optimize` calls.

    Args:
        table: The table.
        run: One run, or None for the mean over runs. A search on one run that is judged by the mean of the others
            does not profit from its luck.
        metric: "best_test_acc" (best epoch so far) or "test_acc" (that epoch).
        prune: Report the accuracy after every epoch, from 1, and raise TrialPruned when the study says so.
        cost: "flops" or "params": return (accuracy, cost), for directions ["maximize", "minimize"].

    Returns:
        A function of a trial that returns the accuracy in percent, `Table.accuracy` of the architecture.

    Raises:
        MissingPackageError: Optuna is not installed.
        ArgumentError: No such run, metric or cost, or prune with cost: Optuna prunes with one objective only.
        MissingDataError: The table does not have the metric, or with prune, no learning curves. The function raises it
            where the table lacks the architecture.
    """
    optuna = library("optuna")
    if cost is not None and (cost not in COSTS or prune):
        raise ArgumentError(
            f"cost is {cost!r}, prune {prune!r}: allowed are {' and '.join(COSTS)}, without prune, or None"
        )
    table.accuracies(run, metric)  # refuses a run or a metric that is not there before the first trial
    if prune:
        table.all_curves()

    def accuracy_of(trial: Any) -> Any:
        arch = suggest(trial, table.space)
        accuracy = table.accuracy(arch, run, metric)
        if prune:
            for epoch, value in enumerate(_by_epoch(table, arch, run, metric).tolist(), 1):
                trial.report(value, epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned(f"{arch} after epoch {epoch}")
        return accuracy if cost is None else (accuracy, getattr(table.space, cost)(arch))

    return accuracy_of


def _by_epoch(table: Table, arch: str, run: int | None, metric: str) -> FloatArray:
    """Accuracy after every epoch, percent, float64 (num_epochs,): of a run, or the mean over those that are there."""
    cells = table.cells(metric)[table.space.index(arch)]
    runs = np.flatnonzero(np.isfinite(cells)) if run is None else np.array([run])
    values = accuracies_by_epoch(table.curves(arch)["test_acc"][runs], cells[runs], metric)
    return np.asarray(values.mean(0))
