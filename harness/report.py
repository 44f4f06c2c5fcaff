"""Scores beside the truth: the only place where the two meet.

    >>> comparison = compare(read_scores(path, table.space), table)
    >>> comparison.rows[0].kendall

Every comparison carries the free baselines on the same architectures, and says which accuracy the truth is, how many
architectures it rests on, and which have no score.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_ARCHS
from channel_bench.table import Table
from channel_bench.terminal import print_json, print_table
from harness.baselines import baseline_scores
from harness.metrics import correlations
from harness.scores import Scores
from harness.smoothing import describe

NUM_NAMED = 5
"""How many missing architectures a report lists by name."""


@dataclass(frozen=True)
class Row:
    """Correlations of one set of scores with the truth."""

    name: str
    kind: str
    """"method" or "baseline"."""
    kendall: float
    spearman: float
    pearson: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """One or no method and the free baselines against the truth of one table."""

    space: str
    table: str
    dataset: str
    truth: str
    """Which accuracy the truth is, in words."""
    rows: list[Row]
    missing: list[str]
    """Architectures without a score, as text."""
    num_untrained: int
    """Architectures with a score that the table has no accuracy of; they are left out."""
    facts: dict[str, Any]
    """How the scores came about."""


def compare(scores: Scores | None, table: Table, metric: str = "best_test_acc", run: int | None = None) -> Comparison:
    """Correlate scores, and the free baselines on the same architectures, with the accuracies of a table.

    Args:
        scores: Scores of a method; None for the baselines alone, on everything the table has.
        table: The truth.
        metric: Which accuracy is the truth.
        run: One run as the truth, or None for the mean over runs.

    Raises:
        ArgumentError: The spaces differ, or fewer than 2 architectures have both a score and an accuracy.
    """
    if scores is not None and scores.space != table.space:
        raise ArgumentError(f"scores are of space {scores.space.name!r}, table {table.name!r} of {table.space.name!r}")
    truth = table.accuracies(run, metric)
    scored = np.zeros(NUM_ARCHS, bool)
    scored[slice(None) if scores is None else scores.indices] = True
    both = scored & np.isfinite(truth)
    if both.sum() < 2:
        raise ArgumentError(
            f"{int(both.sum())} architectures have both a score and an accuracy in table {table.name!r}:"
            " at least 2 are needed"
        )
    columns = []
    if scores is not None:
        values = np.full(NUM_ARCHS, np.nan)
        values[scores.indices] = scores.values
        columns.append((scores.method, "method", values))
    columns += [(name, "baseline", values) for name, values in baseline_scores(table.space).items()]
    rows = [
        Row(name, kind, **dataclasses.asdict(correlations(values[both], truth[both]))) for name, kind, values in columns
    ]
    return Comparison(
        space=table.space.name,
        table=table.name,
        dataset=table.info.dataset,
        truth=table.meaning(metric, run),
        rows=rows,
        missing=[] if scores is None else scores.missing,
        num_untrained=int((scored & ~np.isfinite(truth)).sum()),
        facts={} if scores is None else scores.facts,
    )


def print_comparison(comparison: Comparison, json_output: bool = False) -> None:
    """Print a comparison as a table with four decimals, or as JSON with all of them."""
    if json_output:
        print_json(dataclasses.asdict(comparison))
        return
    notes = [f"truth: {comparison.truth}", "Kendall is tau-b; higher scores are taken to be better"]
    if comparison.facts:
        notes.append("scores: " + _provenance(comparison))
    if comparison.missing:
        named = ", ".join(comparison.missing[:NUM_NAMED])
        more = f" and {len(comparison.missing) - NUM_NAMED:,} more" if len(comparison.missing) > NUM_NAMED else ""
        notes.append(f"{len(comparison.missing):,} of {NUM_ARCHS:,} architectures without a score: {named}{more}")
    if comparison.num_untrained and any(row.kind == "method" for row in comparison.rows):
        notes.append(f"{comparison.num_untrained:,} scored architectures are not in the table and were left out")
    if any(math.isnan(row.kendall) for row in comparison.rows):
        notes.append("undefined: the scores, or the truth, are constant")
    print_table(
        ["scores", "kind", "Kendall", "Spearman", "Pearson", "n"],
        [
            [row.name, row.kind, *map(_decimals, (row.kendall, row.spearman, row.pearson)), f"{row.n:,}"]
            for row in comparison.rows
        ],
        title=f"space {comparison.space}, table {comparison.table}, data set {comparison.dataset}",
        caption="\n".join(notes),
    )


@dataclass(frozen=True)
class SeedRow:
    """Correlations of a method with the truth, over the seeds of its supernet."""

    name: str
    kind: str
    """"method" or "baseline"."""
    seeds: list[int]
    """Empty for what has none."""
    kendall: list[float]
    """Of each seed."""
    spearman: list[float]
    pearson: list[float]
    train_macs: float | None
    """Multiply-accumulates of one training, mean over seeds, where the method counts them."""
    fit_s: float | None
    """Seconds of one training, mean over seeds."""
    score_s: float | None
    """Seconds of scoring all widths, mean over seeds."""


@dataclass(frozen=True)
class SeedComparison:
    """Several methods, each with several seeds, and the free baselines against the truth of one table."""

    space: str
    table: str
    dataset: str
    truth: str
    rows: list[SeedRow]
    """Methods by falling mean Kendall, then the baselines."""
    facts: dict[str, Any]
    """What all score files say alike of how they came about."""


def compare_seeds(
    rankings: list[Scores], table: Table, metric: str = "best_test_acc", run: int | None = None
) -> SeedComparison:
    """Correlate the rankings of several methods and seeds with the accuracies of a table.

    Args:
        rankings: At least one, all of the same architectures; those of one name are seeds of one method.
        table: The truth.
        metric: Which accuracy is the truth.
        run: One run as the truth, or None for the mean over runs.

    Raises:
        ArgumentError: As `compare`; or the rankings cover different architectures.
    """
    if any(not np.array_equal(scores.indices, rankings[0].indices) for scores in rankings):
        raise ArgumentError(
            "the rankings cover different architectures, so their correlations cannot be put side by side"
        )
    rows, baselines = [], []
    for name in dict.fromkeys(scores.method for scores in rankings):
        mine = [scores for scores in rankings if scores.method == name]
        compared = [compare(scores, table, metric, run).rows for scores in mine]
        found = [each[0] for each in compared]
        baselines = compared[0][1:]
        rows.append(
            SeedRow(
                name,
                "method",
                [scores.facts.get("seed", 0) for scores in mine],
                [row.kendall for row in found],
                [row.spearman for row in found],
                [row.pearson for row in found],
                *(_mean_fact(mine, fact) for fact in ("train_macs", "fit_s", "score_s")),
            )
        )
    rows.sort(key=lambda row: -np.nan_to_num(np.mean(row.kendall), nan=-2))
    rows += [
        SeedRow(row.name, row.kind, [], [row.kendall], [row.spearman], [row.pearson], None, None, None)
        for row in baselines
    ]
    first = rankings[0].facts
    alike = {key: value for key, value in first.items() if all(each.facts.get(key) == value for each in rankings)}
    return SeedComparison(table.space.name, table.name, table.info.dataset, table.meaning(metric, run), rows, alike)


def _mean_fact(rankings: list[Scores], fact: str) -> float | None:
    values = [scores.facts[fact] for scores in rankings if fact in scores.facts]
    return float(np.mean(values)) if values else None


def print_seed_comparison(comparison: SeedComparison, json_output: bool = False) -> None:
    """Print means and sample standard deviations over seeds, or everything as JSON."""
    if json_output:
        print_json(dataclasses.asdict(comparison))
        return
    notes = [
        f"truth: {comparison.truth}",
        "mean over seeds; +- is the sample standard deviation over seeds; Kendall is tau-b",
        "GMAC: multiply-accumulates of one training, forward and backward; a dash: not counted",
    ]
    if comparison.facts:
        notes.append("scores: " + _provenance(comparison))
    print_table(
        ["scores", "kind", "seeds", "Kendall", "+-", "Spearman", "Pearson", "GMAC", "fit s", "score s"],
        [
            [
                row.name,
                row.kind,
                str(len(row.seeds) or "-"),
                _decimals(float(np.mean(row.kendall))),
                f"{np.std(row.kendall, ddof=1):.4f}" if len(row.kendall) > 1 else "-",
                _decimals(float(np.mean(row.spearman))),
                _decimals(float(np.mean(row.pearson))),
                "-" if row.train_macs is None else f"{row.train_macs / 1e9:,.0f}",
                "-" if row.fit_s is None else f"{row.fit_s:.0f}",
                "-" if row.score_s is None else f"{row.score_s:.0f}",
            ]
            for row in comparison.rows
        ],
        title=f"space {comparison.space}, table {comparison.table}, data set {comparison.dataset}",
        caption="\n".join(notes),
    )


def _provenance(comparison: Comparison | SeedComparison) -> str:
    """How the scores came about, as far as their file says."""
    facts = comparison.facts
    told = [f"data set {facts['dataset']}"] if "dataset" in facts else []
    if facts.get("dataset", comparison.dataset) != comparison.dataset:
        told.append(f"which is NOT the table's {comparison.dataset}")
    if "validated_on" in facts:
        told.append(
            {"holdout": "validated on held-out training images"}.get(facts["validated_on"], "validated on test images")
        )
    if isinstance(facts.get("recipe"), dict):
        told.append(f"recipe {facts['recipe'].get('name')}")
    told += [f"{name} {facts[name]}" for name in ("seed", "device") if name in facts]
    known = ", ".join(told) or "nothing is known about how they came about"
    return "; ".join([known, *describe(facts)])


def _decimals(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"
