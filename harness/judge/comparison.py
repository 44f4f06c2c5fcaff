"""Scores beside the truth: correlations of methods, and of the free baselines, with the accuracies of a table.

    >>> comparison = compare(read_scores(path, table.space), table)
    >>> comparison.rows[0].kendall

Every comparison carries the free baselines on the same architectures and the noise ceiling, and says which accuracy the
truth is, how many architectures it rests on, and which have no score. Several files of one method are seeds of its
supernet: its row has their mean. `harness.judge.verdict` adds intervals, tests, figures and pages.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_ARCHS, FloatArray
from channel_bench.table import Table
from harness.judge.baselines import (
    BASELINES,
    AdditiveCurve,
    ExchangeRate,
    additive_curve,
    baseline_scores,
    exchange_rate,
)
from harness.scores import Scores
from harness.stats.metrics import Correlations, EqualFlops, correlations, equal_flops
from harness.stats.noise import Ceilings, LeaveOneRunOut, ceilings, fraction_of_ceiling, leave_one_run_out, reliability

MAX_NAME = 120
"""Characters of the name of a method."""
SETTINGS = ("dataset", "validated_on", "bn", "score_by", "num_train", "num_val", "recipe", "options")
"""Facts of a score file that make it another method, not another seed of the same."""


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
    """What a few trained architectures reach, where it was asked for and the table can tell."""
    no_curve: str | None = None
    """Why the table cannot."""

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
    scores: Scores | Sequence[Scores] | Mapping[str, Scores | Sequence[Scores]] | None,
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
        ArgumentError: The spaces differ, fewer than 2 architectures have all scores and an accuracy, or two rankings
            cannot be told apart.
    """
    groups = named_groups(scores)
    rankings = [each for group in groups.values() for each in group]
    for each in rankings:
        if each.space != table.space:
            raise ArgumentError(
                f"scores are of space {each.space.name!r}, table {table.name!r} of {table.space.name!r}"
            )
    truth = table.accuracies(run, metric)
    scored = commonly_scored(rankings)
    both = scored & np.isfinite(truth)
    if both.sum() < 2:
        raise ArgumentError(
            f"{int(both.sum())} architectures have both a score and an accuracy in table {table.name!r}:"
            " at least 2 are needed"
        )
    cells = table.cells(metric)[both]
    ceiling = _ceiling(cells, run)
    curve = no_curve = None
    if num_draws is not None:
        try:
            curve = additive_curve(table.space, truth, num_draws=num_draws, form=form, among=both)
        except ArgumentError as error:
            if not rankings:
                raise
            no_curve = str(error)  # a small table says less of a method, but not nothing
    flops = table.space.flops()[both]

    def row(name: str, kind: str, columns: list[FloatArray], **more: Any) -> Row:
        found = mean_correlations([correlations(column, truth[both]) for column in columns])
        equal = [equal_flops(column, truth[both], flops) for column in columns] if at_equal_flops else []
        return Row(
            name,
            kind,
            **dataclasses.asdict(found),
            of_ceiling=None if ceiling is None else fraction_of_ceiling(found, ceiling),
            equal_flops=_mean_equal_flops(equal),
            worth=None if curve is None else exchange_rate(found.kendall, curve),
            **more,
        )

    rows = []
    for name, group in groups.items():
        columns = [dense_values(each)[both] for each in group]
        judged = [_ranking(each, column, truth[both], cells) for each, column in zip(group, columns, strict=True)]
        means = {fact: _mean_fact(group, fact) for fact in ("train_macs", "fit_s", "score_s")}
        rows.append(row(name, "method", columns, rankings=judged, **means))
    rows.sort(key=lambda row: -np.nan_to_num(row.kendall, nan=-2))
    rows += [row(name, "baseline", [column[both]]) for name, column in baseline_scores(table.space).items()]
    first = rankings[0].facts if rankings else {}
    return Comparison(
        space=table.space.name,
        table=table.name,
        dataset=table.info.dataset,
        truth=table.meaning(metric, run),
        rows=rows,
        missing=[table.space.text(int(index)) for index in np.flatnonzero(~scored)],
        num_untrained=int((scored & ~np.isfinite(truth)).sum()) if rankings else 0,
        facts={key: fact for key, fact in first.items() if all(each.facts.get(key) == fact for each in rankings)},
        ceiling=ceiling,
        curve=curve,
        no_curve=no_curve,
    )


def _ceiling(cells: FloatArray, run: int | None) -> Ceilings | None:
    """Of the mean over runs, or of one; None where no architecture has two."""
    if not (np.isfinite(cells).sum(1) > 1).any():
        return None
    noise = reliability(cells)
    return ceilings(noise.of_mean if run is None else noise.of_run)


def group_rankings(rankings: Sequence[Scores]) -> dict[str, list[Scores]]:
    """Rankings by the name of their method, each method's by seed.

    Rankings of one name are seeds of one method where they agree in SETTINGS. Otherwise they are methods of their own,
    named by what differs: "bcnet bn=recalibrated".

    Where none of one name says its seed, as CSV and JSON cannot, they are numbered as they are given.

    Raises:
        ArgumentError: Two rankings have name, settings and seed in common, or all of their scores; or a name is that of
            a free baseline.
    """
    found: dict[str, list[Scores]] = {}
    for name in dict.fromkeys(each.method for each in rankings):
        mine = numbered([each for each in rankings if each.method == name])
        differing = [key for key in SETTINGS if len({_as_text(each.facts.get(key)) for each in mine}) > 1]
        for each in mine:
            told = ", ".join(_difference(key, each, mine) for key in differing)
            found.setdefault(f"{name} {told}".strip(), []).append(each)
    for name, group in found.items():
        seeds = [each.facts.get("seed") for each in group]
        twice = next((seed for number, seed in enumerate(seeds) if seed in seeds[:number]), seeds)
        if twice is not seeds:
            which = "no seed" if twice is None else f"seed {twice}"
            raise ArgumentError(
                f"two rankings of {name!r} have {which}: give each ranking once, or names as in NAME=FILE"
            )
        group.sort(key=_by_seed)
    return found


def numbered(rankings: Sequence[Scores]) -> list[Scores]:
    """Rankings of one method with seeds 0, 1, ... where there are several and none of them says its seed.

    Raises:
        ArgumentError: Two have the same scores: one file given twice is not two seeds.
    """
    if len(rankings) < 2 or any(each.facts.get("seed") is not None for each in rankings):
        return list(rankings)
    for one, other in combinations(rankings, 2):
        if np.array_equal(one.indices, other.indices) and np.array_equal(one.values, other.values):
            raise ArgumentError(f"two rankings of {one.method!r} have the same scores: give each ranking once")
    return [dataclasses.replace(each, facts={**each.facts, "seed": number}) for number, each in enumerate(rankings)]


def check_name(name: str) -> None:
    """Refuse a name of a method that is taken, or that cannot be told in a table.

    Raises:
        ArgumentError: The name is empty, not printable, longer than MAX_NAME, or that of a free baseline.
    """
    if name in BASELINES or name == "noise ceiling":
        raise ArgumentError(
            f"{name!r} is the name of a free baseline or of the ceiling: call yours otherwise, NAME=FILE"
        )
    if not name.strip() or not name.isprintable() or len(name) > MAX_NAME:
        raise ArgumentError(
            f"{name[:MAX_NAME]!r} is not a name for a method: allowed are 1 to {MAX_NAME} printable characters"
        )


def _by_seed(scores: Scores) -> tuple[bool, int, str]:
    seed = scores.facts.get("seed")
    return (False, seed, "") if isinstance(seed, int) else (True, 0, str(seed))


def named_groups(
    scores: Scores | Sequence[Scores] | Mapping[str, Scores | Sequence[Scores]] | None,
) -> dict[str, list[Scores]]:
    """Whatever `compare` takes, as rankings by name.

    Raises:
        ArgumentError: As `group_rankings`; or a name has no rankings, or what is given are no scores.
    """
    if scores is None:
        return {}
    if isinstance(scores, Scores):
        groups = {scores.method: [scores]}
    elif isinstance(scores, Mapping):
        groups = {name: [given] if isinstance(given, Scores) else list(given) for name, given in scores.items()}
    else:
        if any(not isinstance(each, Scores) for each in scores):
            raise ArgumentError("rankings are not all of `Scores`: read_scores reads them from files")
        groups = group_rankings(scores)
    for name, group in groups.items():
        check_name(name)
        if not group or any(not isinstance(each, Scores) for each in group):
            raise ArgumentError(f"rankings of {name!r} are {len(group)} things that are not all of `Scores`")
    return groups


def _difference(key: str, scores: Scores, others: Sequence[Scores]) -> str:
    """The setting as "key=value"; of one that is a dict, what of it differs."""
    value = scores.facts.get(key)
    if not isinstance(value, dict):
        return f"{key}={value}"
    values = [each.facts.get(key) for each in others]
    parts = [
        part for part in value if any(not isinstance(other, dict) or other.get(part) != value[part] for other in values)
    ]
    return ", ".join(f"{part}={value[part]}" for part in parts) or f"{key}={_as_text(value)}"


def _as_text(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def commonly_scored(rankings: Sequence[Scores]) -> npt.NDArray[np.bool_]:
    """Which architectures all rankings score, bool (16384,); all where there are no rankings."""
    counts = np.zeros(NUM_ARCHS, np.int64)
    for each in rankings:
        counts[each.indices] += 1
    return np.asarray(counts == len(rankings))


def dense_values(scores: Scores) -> FloatArray:
    """Scores in index order, float64 (16384,), NaN where there is none."""
    values = np.full(NUM_ARCHS, np.nan)
    values[scores.indices] = scores.values
    return values


def mean_correlations(found: Sequence[Correlations]) -> Correlations:
    """Mean of each correlation; NaN where one of them is not defined."""
    taus, rhos, rs = (
        float(np.mean([getattr(each, name) for each in found])) for name in ("kendall", "spearman", "pearson")
    )
    return Correlations(taus, rhos, rs, found[0].n)


def _mean_equal_flops(found: Sequence[EqualFlops]) -> EqualFlops | None:
    if len(found) < 2:
        return found[0] if found else None
    means = {name: np.mean([getattr(each, name) for each in found], axis=0) for name in ("kendall", "mean", "partial")}
    return dataclasses.replace(
        found[0], kendall=tuple(means["kendall"].tolist()), mean=float(means["mean"]), partial=float(means["partial"])
    )


def _ranking(scores: Scores, values: FloatArray, truth: FloatArray, cells: FloatArray) -> Ranking:
    found = correlations(values, truth)
    can_tell = cells.shape[1] > 1 and np.isfinite(cells).all(1).sum() > 2
    return Ranking(
        seed=scores.facts.get("seed"),
        kendall=found.kendall,
        spearman=found.spearman,
        pearson=found.pearson,
        seen=leave_one_run_out(values, cells) if can_tell else None,
        num_missing=NUM_ARCHS - len(scores.indices),
        facts=scores.facts,
    )


def _mean_fact(rankings: Sequence[Scores], fact: str) -> float | None:
    values = [scores.facts[fact] for scores in rankings if isinstance(scores.facts.get(fact), (int, float))]
    return float(np.mean(values)) if values else None
