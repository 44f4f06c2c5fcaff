"""Scores beside the truth: correlations of methods, and of the free baselines, with the accuracies of a table.

    >>> comparison = compare(read_scores(path, table.space), table)
    >>> comparison.rows[0].kendall

Every comparison carries the free baselines on the same architectures and the noise ceiling, and says which accuracy the
truth is, how many architectures it rests on, and which have no score. Several files of one method are seeds of its
supernet: its row has their mean. `harness.judge.verdict` adds intervals, tests, figures and pages.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_ARCHS
from channel_bench.table import Table
from harness.judge.baselines import (
    BASELINES,
    AdditiveCurve,
    ExchangeRate,
    additive_curve,
    exchange_rate,
)
from harness.judge.evidence import Evidence, Rankings
from harness.scores import Scores
from harness.stats.metrics import Correlations, EqualFlops
from harness.stats.noise import Ceilings, LeaveOneRunOut, ceilings, fraction_of_ceiling, leave_one_run_out, reliability


@dataclass(frozen=True)
class Ranking:
    """One set of scores of a method, from one supernet."""

    seed: int | None
    """Of the supernet; None where the file does not say."""
    kendall: float
    spearman: float
    pearson: float
    seen: LeaveOneRunOut | None
    """Held against each run; None where no run can be left out."""
    num_missing: int
    """Architectures of the space without a score."""
    facts: dict[str, Any]
    """How the scores came about."""


@dataclass(frozen=True)
class Row:
    """Correlations of a method, or of a free baseline, with the truth."""

    name: str
    kind: str
    """"method" or "baseline"."""
    kendall: float
    """Mean over the rankings of a method."""
    spearman: float
    pearson: float
    n: int
    of_ceiling: Ceilings | None = None
    """Shares of the noise ceiling that the three reach; None where the noise is unknown."""
    equal_flops: EqualFlops | None = None
    """What is left at equal FLOPs, where it was asked for; means over the rankings."""
    worth: ExchangeRate | None = None
    """In trained architectures, where it was asked for."""
    rankings: list[Ranking] = field(default_factory=list)
    """Of a method, by seed; a baseline has none."""
    train_macs: float | None = None
    """Multiply-accumulates of one training, mean over rankings, where the method counts them."""
    fit_s: float | None = None
    """Seconds of one training, mean over rankings."""
    score_s: float | None = None
    """Seconds of scoring all widths, mean over rankings."""

    @property
    def seed_std(self) -> float | None:
        """Standard deviation of Kendall over rankings (ddof=1); None below two."""
        taus = [ranking.kendall for ranking in self.rankings]
        return float(np.std(taus, ddof=1)) if len(taus) > 1 else None


@dataclass(frozen=True)
class Comparison:
    """Methods and the free baselines against the truth of one table."""

    space: str
    table: str
    dataset: str
    truth: str
    """Which accuracy the truth is, in words."""
    rows: list[Row]
    """Methods by falling Kendall, then the baselines."""
    missing: list[str]
    """Architectures that a method has no score of, as text; none of the rows rests on them."""
    num_untrained: int
    """Architectures with a score that the table has no accuracy of; they are left out."""
    facts: dict[str, Any]
    """How the scores came about, as far as all score files say the same."""
    ceiling: Ceilings | None = None
    """Noise ceiling of these architectures, in closed form; None where none has two runs."""
    curve: AdditiveCurve | None = None
    """Kendall that fits to a few trained architectures reach, if asked for and the table has enough of them."""
    no_curve: str | None = None
    """Why there is no curve, if it was asked for."""

    @property
    def methods(self) -> list[Row]:
        """Rows of methods."""
        return [row for row in self.rows if row.kind == "method"]

    @property
    def baselines(self) -> list[Row]:
        """Rows of free baselines."""
        return [row for row in self.rows if row.kind == "baseline"]

    @property
    def best_baseline(self) -> Row:
        """The free baseline with the highest Kendall, which a method has to beat."""
        return max(self.baselines, key=lambda row: -math.inf if math.isnan(row.kendall) else row.kendall)


def compare(
    scores: Rankings | None,
    table: Table,
    metric: str = "best_test_acc",
    run: int | None = None,
    *,
    at_equal_flops: bool = False,
    num_draws: int | None = None,
    form: str = "log",
) -> Comparison:
    """Correlate scores, and the free baselines on the same architectures, with the accuracies of a table.

    Args:
        scores: Of one method; of several, all compared on the architectures that all of them score, those of one
            method being seeds of it (`group_rankings`), or by name; None for the baselines alone, on everything the
            table has.
        table: The truth.
        metric: Which accuracy is the truth.
        run: One run as the truth, or None for the mean over runs.
        at_equal_flops: Correlate within deciles of FLOPs as well.
        num_draws: Draws for `additive_curve`, from which the worth of every row follows; None for neither.
        form: Form of those fits.

    Raises:
        ArgumentError: As `Evidence.gather` and `additive_curve`.
    """
    evidence = Evidence.gather(scores, table, metric, run)
    return compare_evidence(evidence, at_equal_flops=at_equal_flops, num_draws=num_draws, form=form)


def compare_evidence(
    evidence: Evidence, *, at_equal_flops: bool = False, num_draws: int | None = None, form: str = "log"
) -> Comparison:
    """Correlate what was gathered; arguments and errors as `compare`."""
    table, space = evidence.table, evidence.space
    rankings = [each for group in evidence.groups.values() for each in group]
    ceiling = _ceiling(evidence)
    curve, no_curve = (None, None) if num_draws is None else _curve(evidence, num_draws, form)
    methods = [_row(name, evidence, ceiling, curve, at_equal_flops) for name in evidence.groups]
    methods.sort(key=lambda row: -np.nan_to_num(row.kendall, nan=-2))
    baselines = [_row(name, evidence, ceiling, curve, at_equal_flops) for name in BASELINES]
    first = rankings[0].facts if rankings else {}
    untrained = evidence.scored & ~np.isfinite(evidence.accuracies)
    return Comparison(
        space=space.name,
        table=table.name,
        dataset=table.info.dataset,
        truth=table.meaning(evidence.metric, evidence.run),
        rows=methods + baselines,
        missing=[space.text(int(index)) for index in np.flatnonzero(~evidence.scored)],
        num_untrained=int(untrained.sum()) if rankings else 0,
        facts={key: fact for key, fact in first.items() if all(each.facts.get(key) == fact for each in rankings)},
        ceiling=ceiling,
        curve=curve,
        no_curve=no_curve,
    )


def _ceiling(evidence: Evidence) -> Ceilings | None:
    """Of the mean over runs, or of one; None where no architecture has two."""
    if not evidence.has_repeats:
        return None
    noise = reliability(evidence.cells)
    return ceilings(noise.of_mean if evidence.run is None else noise.of_run)


def _curve(evidence: Evidence, num_draws: int, form: str) -> tuple[AdditiveCurve | None, str | None]:
    """What a few trained architectures reach, or why the table cannot tell."""
    try:
        curve = additive_curve(
            evidence.space, evidence.accuracies, num_draws=num_draws, form=form, among=evidence.compared
        )
    except ArgumentError as error:
        if not evidence.groups:
            raise
        return None, str(error)  # a small table says less of a method, but not nothing
    return curve, None


def _row(
    name: str, evidence: Evidence, ceiling: Ceilings | None, curve: AdditiveCurve | None, at_equal_flops: bool
) -> Row:
    """A method or a free baseline, means over its seeds."""
    found = _mean_correlations(evidence.correlations[name])
    group = evidence.groups.get(name, [])
    return Row(
        name,
        "method" if group else "baseline",
        **dataclasses.asdict(found),
        of_ceiling=None if ceiling is None else fraction_of_ceiling(found, ceiling),
        equal_flops=_mean_equal_flops(evidence.equal_flops[name]) if at_equal_flops else None,
        worth=None if curve is None else exchange_rate(found.kendall, curve),
        rankings=[_ranking(evidence, name, number) for number in range(len(group))],
        train_macs=_mean_fact(group, "train_macs"),
        fit_s=_mean_fact(group, "fit_s"),
        score_s=_mean_fact(group, "score_s"),
    )


def _mean_correlations(found: Sequence[Correlations]) -> Correlations:
    """Mean of each correlation; NaN where one of them is not defined."""
    taus, rhos, rs = (
        float(np.mean([getattr(each, name) for each in found])) for name in ("kendall", "spearman", "pearson")
    )
    return Correlations(taus, rhos, rs, found[0].n)


def _mean_equal_flops(found: Sequence[EqualFlops]) -> EqualFlops:
    if len(found) == 1:
        return found[0]
    means = {name: np.mean([getattr(each, name) for each in found], axis=0) for name in ("kendall", "mean", "partial")}
    return dataclasses.replace(
        found[0], kendall=tuple(means["kendall"].tolist()), mean=float(means["mean"]), partial=float(means["partial"])
    )


def _ranking(evidence: Evidence, name: str, number: int) -> Ranking:
    """One seed of a method."""
    scores, found, cells = evidence.groups[name][number], evidence.correlations[name][number], evidence.cells
    can_tell = cells.shape[1] > 1 and np.isfinite(cells).all(1).sum() > 2
    return Ranking(
        seed=scores.facts.get("seed"),
        kendall=found.kendall,
        spearman=found.spearman,
        pearson=found.pearson,
        seen=leave_one_run_out(evidence.columns[name][number], cells) if can_tell else None,
        num_missing=NUM_ARCHS - len(scores.indices),
        facts=scores.facts,
    )


def _mean_fact(rankings: Sequence[Scores], fact: str) -> float | None:
    values = [scores.facts[fact] for scores in rankings if isinstance(scores.facts.get(fact), (int, float))]
    return float(np.mean(values)) if values else None
