"""What a report says of one row beyond the comparison: metrics, choices within budgets, and where the ranking errs.

>>> detail_of(comparison.rows[0], evidence, [5e8]).picks[0].regret
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.space import FloatArray
from harness.judge.comparison import Row
from harness.judge.evidence import Evidence
from harness.stats.bootstrap import Bootstrap, Interval
from harness.stats.diagnostics import (
    KendallAlong,
    RankCalibration,
    SlotEffects,
    kendall_along,
    rank_calibration,
    slot_effects,
)
from harness.stats.metrics import summary
from harness.stats.top import choose


@dataclass(frozen=True)
class Pick:
    """What a method chooses within a budget: `harness.stats.top.Choice` of every seed, averaged."""

    budget: float
    """Largest allowed FLOPs."""
    num_fitting: int
    """Architectures that cost at most the budget."""
    archs: list[str]
    """Chosen with each seed; the first where several share the highest score."""
    num_tied: list[int]
    """How many do, with each seed."""
    accuracy: float
    """Of the chosen, percent, mean over seeds."""
    best: float
    """Highest accuracy that fits, percent."""
    regret: float
    """best - accuracy, percentage points."""
    regret_unseen: float
    """The same against a best found without the run it is measured on; see `harness.stats.top.Choice`."""
    interval: Interval | None
    """Of `regret`; None without replicates or with single runs only."""


@dataclass(frozen=True)
class Diagnosis:
    """Which slots, ranks and sizes a ranking gets wrong."""

    effects: SlotEffects | None
    """None where the scores are constant, or the architectures do not determine effects."""
    calibration: RankCalibration
    along: KendallAlong | None
    """Along FLOPs; None where there are too few architectures for windows."""


@dataclass(frozen=True)
class Detail:
    """What a report says of one row beyond the comparison."""

    name: str
    summary: dict[str, float]
    """`harness.stats.metrics.summary`, mean over seeds."""
    intervals: dict[str, Interval]
    """By the metric's name in `summary`: correlations, and the metrics of the top where the table has several runs."""
    picks: list[Pick]
    """One for each budget that an architecture fits."""
    diagnosis: Diagnosis
    """Of the seed with the median Kendall, which figures show."""
    seed: int | None
    """That seed."""


def median_seed(row: Row) -> int:
    """Number of the ranking with the median Kendall, the lower one of two."""
    order = np.argsort([ranking.kendall for ranking in row.rankings], kind="stable")
    return int(order[(len(order) - 1) // 2]) if len(order) else 0


def drawable(scores: FloatArray) -> FloatArray:
    """Scores as they are, or scaled to within 0 and 1 where they are too large or too close for a picture."""
    low, high = float(np.nanmin(scores)), float(np.nanmax(scores))
    largest = max(abs(low), abs(high))
    if largest < 1e30 and (high == low or high - low > 1e-9 * largest > 1e-30):
        return scores
    return np.asarray((scores / 2 - low / 2) / max(high / 2 - low / 2, 5e-324))


def detail_of(row: Row, evidence: Evidence, budgets: Sequence[float]) -> Detail:
    """Everything about a row but its intervals."""
    columns, median = evidence.columns[row.name], median_seed(row)
    measured = zip(columns, evidence.correlations[row.name], evidence.equal_flops[row.name], strict=True)
    summaries = [summary(column, evidence.truth, found, equal) for column, found, equal in measured]
    return Detail(
        name=row.name,
        summary={name: float(np.mean([each[name] for each in summaries])) for name in summaries[0]},
        intervals={},
        picks=[_pick(columns, evidence, budget) for budget in budgets],
        diagnosis=_diagnose(columns[median], evidence),
        seed=row.rankings[median].seed if row.rankings else None,
    )


def with_intervals(detail: Detail, resampled: list[Bootstrap], level: float) -> Detail:
    """The detail with intervals from `resample`, correlations first, then the metrics of the top."""
    intervals = {
        name: found.interval(detail.name, name, level)
        for found in resampled
        for name in found.metrics
        if name in detail.summary
    }
    if len(resampled) < 2:
        return dataclasses.replace(detail, intervals=intervals)
    regrets = [resampled[1].interval(detail.name, f"regret_{number}", level) for number in range(len(detail.picks))]
    picks = [dataclasses.replace(pick, interval=each) for pick, each in zip(detail.picks, regrets, strict=True)]
    return dataclasses.replace(detail, intervals=intervals, picks=picks)


def _pick(columns: Sequence[FloatArray], evidence: Evidence, budget: float) -> Pick:
    choices = [choose(column, evidence.labels, evidence.flops, budget) for column in columns]
    return Pick(
        budget=choices[0].budget,
        archs=[evidence.space.text(tuple(evidence.archs[choice.chosen[0]].tolist())) for choice in choices],
        num_tied=[len(choice.chosen) for choice in choices],
        num_fitting=choices[0].num_fitting,
        best=choices[0].best,
        interval=None,
        **{
            name: float(np.mean([getattr(choice, name) for choice in choices]))
            for name in ("accuracy", "regret", "regret_unseen")
        },
    )


def _diagnose(scores: FloatArray, evidence: Evidence) -> Diagnosis:
    scores = drawable(scores)
    effects = along = None
    with contextlib.suppress(ArgumentError):  # constant scores, or architectures that do not determine effects
        effects = slot_effects(evidence.archs, scores, evidence.truth, evidence.space)
    with contextlib.suppress(ArgumentError):  # too few for windows
        along = kendall_along(scores, evidence.truth, evidence.flops)
    return Diagnosis(effects, rank_calibration(scores, evidence.truth), along)
