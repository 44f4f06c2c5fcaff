"""From a method's name to its scores of all 16,384 architectures: fit, score, label with how it was done."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from channel_bench._version import __version__
from channel_bench.space import NUM_ARCHS
from channel_bench.step import arithmetic
from channel_bench.terminal import progress
from channel_bench.train import device_name
from harness.method import Evaluator, Method, score_all
from harness.scores import Scores, make_scores
from harness.task import Task


def rank_with_progress(name: str, method: Method, task: Task, options: dict[str, Any] | None = None) -> Scores:
    """`rank`, with a bar for training and one for scoring where standard error is a terminal."""
    evaluator, fit_s = fit_with_progress(name, method, task)
    with progress("scoring widths", NUM_ARCHS) as advance:
        return _score(name, task, evaluator, fit_s, options, lambda count: advance(count, ""))


def fit_with_progress(name: str, method: Method, task: Task) -> tuple[Evaluator, float]:
    """Fit a method to a task, with a bar where standard error is a terminal; what scores, and the seconds it took."""
    with progress(f"training {name}", task.recipe.epochs) as advance:
        observed = dataclasses.replace(task, on_epoch=lambda epoch, num_epochs, note: advance(1, note))
        return _fit(method, observed)


def rank(name: str, method: Method, task: Task, options: dict[str, Any] | None = None) -> Scores:
    """Fit a method to a task and score every architecture.

    Args:
        name: Name that the scores carry.
        method: The method.
        task: What it may see.
        options: The options that the method was made with, for the facts.

    Returns:
        Scores with the facts of how they came about.

    Raises:
        MethodError: The method broke its contract, or its training diverged.
    """
    evaluator, fit_s = _fit(method, task)
    return _score(name, task, evaluator, fit_s, options, None)


def _fit(method: Method, task: Task) -> tuple[Evaluator, float]:
    started = time.perf_counter()
    with arithmetic():
        return method.fit(task), time.perf_counter() - started


def _score(
    name: str,
    task: Task,
    evaluator: Evaluator,
    fit_s: float,
    options: dict[str, Any] | None,
    on_scored: Callable[[int], None] | None,
) -> Scores:
    started = time.perf_counter()
    with arithmetic():
        values = score_all(evaluator, task, on_scored)
    facts = facts_of(task, options, fit_s) | {"score_s": round(time.perf_counter() - started, 2)}
    return make_scores(name, task.space, np.arange(NUM_ARCHS), values, facts)


def facts_of(task: Task, options: dict[str, Any] | None, fit_s: float) -> dict[str, Any]:
    """How the scores of a method came about.

    Args:
        task: What it was fitted to.
        options: The options that it was made with.
        fit_s: Seconds that fitting took.
    """
    return {
        "dataset": task.dataset,
        "validated_on": task.validate_on,
        "num_train": len(task.train_labels),
        "num_val": len(task.val_labels),
        "recipe": task.recipe.to_dict(),
        "seed": task.seed,
        "options": options or {},
        "fit_s": round(fit_s, 2),
        "device": device_name(task.device),
        "torch": torch.__version__,
        "code_version": __version__,
    }
