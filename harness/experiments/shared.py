"""What experiments have in common: the truth, Kendall where both are known, a supernet's ranking, means of cells.

    >>> truth = truth_of(setting)
    >>> kendall_where_known(scores, truth)

A cell holds None where there is no value, because JSON has no NaN.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.space import FloatArray
from channel_bench.table.ranks import rounded
from harness.experiments.contract import Setting
from harness.stats.metrics import kendall


def truth_of(setting: Setting) -> FloatArray:
    """True accuracies to 0.0001 points, float64 (16384,) in index order, NaN where the table has none."""
    return rounded(setting.truth().accuracies())


def kendall_where_known(scores: npt.ArrayLike, truth: FloatArray) -> float:
    """Kendall tau-b over what has both a score and a truth."""
    values = np.asarray(scores, np.float64)
    there = np.isfinite(values) & np.isfinite(truth)
    return float(kendall(values[there], truth[there]))


def full_epochs(setting: Setting) -> int:
    """Epochs that a supernet is trained for in full."""
    from harness.task import supernet_recipe

    return supernet_recipe(setting.space, setting.task.epochs).epochs


def ranked_supernet(method: str, seed: int, epochs: int, setting: Setting) -> dict[str, Any]:
    """Train a method's supernet with its default options, score every architecture, and hold it against the truth.

    Returns:
        ``epochs``, ``kendall``, ``train_macs`` (None where the method does not count them) and ``fit_s``.
    """
    from harness.methods import get_method
    from harness.ranking.request import prepare_task
    from harness.ranking.run import rank

    task = prepare_task(dataclasses.replace(setting.task, seed=seed, epochs=epochs))
    scores = rank(method, get_method(method), task)
    return {
        "epochs": epochs,
        "kendall": kendall_where_known(scores.values, setting.truth().accuracies()),
        "train_macs": scores.facts.get("train_macs"),
        "fit_s": scores.facts["fit_s"],
    }


def average(values: Iterable[float | None]) -> float:
    """Mean of the values that are there; NaN without any."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else math.nan


def known_or_nan(values: Iterable[float | None]) -> FloatArray:
    """Values as an array, NaN where there is none."""
    return np.array([math.nan if value is None else value for value in values], np.float64)
