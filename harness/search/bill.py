"""What a search costs: the supernet's training, the questions, the final training; in multiply-accumulates and seconds.

>>> bill_of(scores.facts, found.query_flops).query_macs

Seconds depend on the machine and on what else it did; multiply-accumulates do not. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FIRST_SEED = 2**30
"""Of trainings from scratch that judge what was found: builders of tables count from 0."""


@dataclass(frozen=True)
class FinalTraining:
    """A width that was trained from scratch (`harness.search.final`)."""

    arch: str
    accuracies: tuple[float, ...]
    """Best test accuracy of every seed that did not diverge, percent."""
    num_diverged: int
    seeds: tuple[int, ...]
    macs: int
    """Multiply-accumulates of all trainings, forward and backward (three times forward), a teacher's included."""
    seconds: float
    distilled: bool

    @property
    def mean(self) -> float:
        """Over seeds, percent; NaN where all diverged."""
        return float(np.mean(self.accuracies)) if self.accuracies else math.nan

    @property
    def std(self) -> float:
        """Over seeds (ddof=1); NaN below two."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else math.nan


@dataclass(frozen=True)
class Bill:
    """What a search cost, in multiply-accumulates and seconds; None where it is not known."""

    train_macs: int | None
    """Of the supernet's training."""
    train_s: float | None
    query_macs: int | None
    """Of scoring what was asked for, each once on every validation image, as if one by one."""
    final_macs: int | None = None
    """Of the final trainings; None where there were none."""
    final_s: float | None = None


def bill_of(facts: Mapping[str, Any], query_flops: int) -> Bill:
    """Add up a search without its final training.

    Args:
        facts: How the scores were made; "train_macs", "fit_s" and "num_val" where they are known.
        query_flops: Sum of the FLOPs of all architectures that were asked for.
    """
    train, seconds, images = (_number(facts.get(name)) for name in ("train_macs", "fit_s", "num_val"))
    return Bill(
        train_macs=None if train is None else int(train),
        train_s=seconds,
        query_macs=None if images is None else query_flops * int(images),
    )


def _number(fact: Any) -> float | None:
    """A fact of a score file as a number; None where it is none."""
    return float(fact) if isinstance(fact, (int, float)) and not isinstance(fact, bool) else None
