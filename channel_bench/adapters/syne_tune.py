"""The table as a tabular blackbox of Syne Tune: (configuration, seed, epoch, objective).

    >>> from syne_tune.blackbox_repository import UserBlackboxBackend
    >>> box = blackbox(cb.load("resnet-mini"))
    >>> backend = UserBlackboxBackend(box, elapsed_time_attr="metric_elapsed_time")
    >>> box.objective_function(config_of(space, "4344424"), fidelity={"epoch": 20}, seed=0)["metric_accuracy"]

A configuration has the channels of each slot, as ordinals of equal distance; a seed is a run. Fidelities are the epochs
1 .. of the learning curves, or only the last epoch where the table has none. Objectives, named as in Syne Tune's own
blackboxes:

- metric_accuracy: percent; what the table calls so, best epoch so far or of that epoch;
- metric_error: 100 - metric_accuracy, percent, for schedulers that minimise;
- metric_elapsed_time: seconds since the training began, evaluations included; absent where the table has no times. A
  table has the time of a whole run, of which every epoch gets the same share;
- metric_flops, metric_params: counts, the same at every epoch.

Trainings of the mini tables last some tenths of a second. Syne Tune's simulator is made for hours: an epoch lasts
0.01 s at least, a message 0.05 s, and the tuner looks every 5 s. `slowdown=1000` makes seconds of milliseconds, so that
these delays do not decide who wins; times of a simulation divided by it are those of the table.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from channel_bench.adapters.shared import (
    SLOTS,
    accuracies_by_epoch,
    arch_of,
    config_of,
    epochs_of,
    has_curves,
    library,
    widths,
)
from channel_bench.errors import ArgumentError, MissingDataError, StorageError, os_reason
from channel_bench.space import FloatArray, Space
from channel_bench.table import Table

__all__ = ["arch_of", "blackbox", "config_of", "configuration_space", "export"]

EPOCH = "epoch"
"""Name of the fidelity."""


def configuration_space(space: Space) -> dict[str, Any]:
    """Seven ordinals, slot0 .. slot6, in channels.

    Raises:
        MissingPackageError: Syne Tune is not installed.
    """
    ordinal = library("syne_tune.config_space").ordinal
    return {slot: ordinal(list(channels), kind="equal") for slot, channels in widths(space).items()}


def blackbox(table: Table, *, metric: str = "best_test_acc", mean: bool = False, slowdown: float = 1) -> Any:
    """Make a `BlackboxTabular` of a table.

    Args:
        table: The table. Architectures that lack a run are left out, since a blackbox knows no missing value.
        metric: "best_test_acc" (best epoch so far) or "test_acc" (that epoch).
        mean: One seed that is the mean over runs, in place of one seed per run.
        slowdown: What metric_elapsed_time is multiplied by, > 0.

    Returns:
        A `syne_tune.blackbox_repository.blackbox_tabular.BlackboxTabular`; its rows are in index order.

    Raises:
        MissingPackageError: Syne Tune is not installed.
        ArgumentError: No such metric, or slowdown is no finite number above 0.
        MissingDataError: The table does not have the metric, or no architecture has all runs.
        CorruptFileError: The file of curves is damaged.
    """
    if not (math.isfinite(slowdown) and slowdown > 0):
        raise ArgumentError(f"slowdown is {slowdown!r}: allowed are finite numbers > 0")
    module = library("syne_tune.blackbox_repository.blackbox_tabular")
    randint = library("syne_tune.config_space").randint
    import pandas as pd

    indices, epochs, objectives = _objectives(table, metric, slowdown)
    values = np.stack(list(objectives.values()), -1)
    channels = table.space.channel_counts(table.space.archs()[indices])
    return module.BlackboxTabular(
        hyperparameters=pd.DataFrame(channels, columns=list(SLOTS)),
        configuration_space=configuration_space(table.space),
        fidelity_space={EPOCH: randint(int(epochs[0]), int(epochs[-1]))},
        objectives_evaluations=values.mean(1, keepdims=True) if mean else values,
        fidelity_values=epochs,
        objectives_names=list(objectives),
    )


def export(
    table: Table, folder: str | Path, *, metric: str = "best_test_acc", mean: bool = False, slowdown: float = 1
) -> Path:
    """Write Syne Tune's files of a blackbox, which `blackbox_tabular.deserialize` reads.

    The one task is named as the table's space. Syne Tune writes objectives in single precision: accuracies to about
    0.000004 points, counts above 16,777,216 to seven digits.

    Args:
        table: The table.
        folder: New or empty; folders above it are made.
        metric: As in `blackbox`.
        mean: As in `blackbox`.
        slowdown: As in `blackbox`.

    Returns:
        The folder.

    Raises:
        ArgumentError: The folder holds something.
        StorageError: It cannot be written.
        MissingPackageError: Syne Tune or fastparquet, which it writes with, is not installed.
        MissingDataError: As `blackbox`.
    """
    module = library("syne_tune.blackbox_repository.blackbox_tabular")
    library("fastparquet")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ArgumentError(f"{str(folder)!r} holds something: give the name of a new folder")
        facts = {
            "table": table.name,
            "metric": metric,
            "slowdown": slowdown,
            "content_sha256": table.info.content_sha256,
        }
        boxes = {table.space.name: blackbox(table, metric=metric, mean=mean, slowdown=slowdown)}
        module.serialize(boxes, str(folder), metadata=facts)
    except OSError as error:
        raise StorageError(f"cannot write {str(folder)!r}: {os_reason(error)}") from None
    return folder


def _objectives(table: Table, metric: str, slowdown: float) -> tuple[Any, Any, dict[str, FloatArray]]:
    """Indices (num_archs,), epochs (num_epochs,), and float64 (num_archs, num_runs, num_epochs) per objective."""
    cells = table.cells(metric)
    complete = np.asarray(np.isfinite(cells).all(1))
    if has_curves(table):
        archs, curves = table.all_curves()
        rows = np.asarray(table.space.index(archs))
        kept = complete[rows]
        indices, epochs = rows[kept], np.arange(1, epochs_of(table) + 1)
        accuracy = accuracies_by_epoch(curves["test_acc"][kept], cells[indices], metric)
    else:
        indices, epochs = np.flatnonzero(complete), np.array([epochs_of(table)])
        accuracy = cells[indices][..., None]
    if not len(indices):
        raise MissingDataError(f"table {table.name!r} has no architecture with all of its {table.num_runs} runs")
    objectives = {"metric_accuracy": accuracy, "metric_error": 100 - accuracy}
    seconds = table.column("train_s")[indices]
    if np.isfinite(seconds).all():
        objectives["metric_elapsed_time"] = slowdown * seconds[..., None] * (epochs / epochs_of(table))
    for name in ("flops", "params"):
        counts = getattr(table.space, name)()[indices].astype(np.float64)
        objectives[f"metric_{name}"] = np.broadcast_to(counts[:, None, None], accuracy.shape)
    return indices, epochs, objectives
