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
from harness.baselines import AdditiveCurve, ExchangeRate, additive_curve, baseline_scores, exchange_rate, print_curve
from harness.metrics import EqualFlops, correlations, equal_flops
from harness.noise import Ceilings, LeaveOneRunOut, ceilings, fraction_of_ceiling, leave_one_run_out, reliability
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
    of_ceiling: Ceilings | None = None
    """Shares of the noise ceiling that the three reach; None where the noise is unknown."""
    equal_flops: EqualFlops | None = None
    """What is left at equal FLOPs, where it was asked for."""
    worth: ExchangeRate | None = None
    """In trained architectures, where it was asked for."""


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
    ceiling: Ceilings | None = None
    """Noise ceiling of these architectures, in closed form; None where none has two runs."""
    seen: LeaveOneRunOut | None = None
    """The method against each run; None without a method, or where no run can be left out."""
    curve: AdditiveCurve | None = None
    """What a few trained architectures reach, where it was asked for and the table can tell."""
    no_curve: str | None = None
    """Why the table cannot."""


def compare(
    scores: Scores | None,
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
        scores: Scores of a method; None for the baselines alone, on everything the table has.
        table: The truth.
        metric: Which accuracy is the truth.
        run: One run as the truth, or None for the mean over runs.
        at_equal_flops: Correlate within deciles of FLOPs as well.
        num_draws: Draws for `additive_curve`, from which the worth of every row follows; None for neither.
        form: Form of those fits.

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
    cells = table.cells(metric)[both]
    ceiling = seen = curve = no_curve = None
    if (np.isfinite(cells).sum(1) > 1).any():
        noise = reliability(cells)
        ceiling = ceilings(noise.of_mean if run is None else noise.of_run)
    if scores is not None and np.isfinite(cells).all(1).sum() > 2 and table.num_runs > 1:
        seen = leave_one_run_out(columns[0][2][both], cells)
    if num_draws is not None:
        try:
            curve = additive_curve(table.space, truth, num_draws=num_draws, form=form, among=both)
        except ArgumentError as error:
            if scores is None:
                raise
            no_curve = str(error)  # a small table says less of a method, but not nothing
    rows = []
    for name, kind, values in columns:
        found = correlations(values[both], truth[both])
        rows.append(
            Row(
                name,
                kind,
                **dataclasses.asdict(found),
                of_ceiling=None if ceiling is None else fraction_of_ceiling(found, ceiling),
                equal_flops=equal_flops(values[both], truth[both], table.space.flops()[both])
                if at_equal_flops
                else None,
                worth=None if curve is None else exchange_rate(found.kendall, curve),
            )
        )
    return Comparison(
        space=table.space.name,
        table=table.name,
        dataset=table.info.dataset,
        truth=table.meaning(metric, run),
        rows=rows,
        missing=[] if scores is None else scores.missing,
        num_untrained=int((scored & ~np.isfinite(truth)).sum()),
        facts={} if scores is None else scores.facts,
        ceiling=ceiling,
        seen=seen,
        curve=curve,
        no_curve=no_curve,
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
        [_line(row.name, row.kind, row, row.n) for row in comparison.rows] + _ceiling_lines(comparison),
        title=f"space {comparison.space}, table {comparison.table}, data set {comparison.dataset}",
        caption="\n".join(notes + _verdicts(comparison)),
    )
    if comparison.rows[0].equal_flops is not None:
        _print_equal_flops(comparison.rows)
    if comparison.curve is not None and comparison.rows[0].kind == "baseline":
        print()
        print_curve(comparison.curve)


def _line(name: str, kind: str, values: Row | Ceilings, n: int) -> list[str]:
    return [name, kind, *map(_decimals, (values.kendall, values.spearman, values.pearson)), f"{n:,}"]


def _ceiling_lines(comparison: Comparison) -> list[list[str]]:
    """The noise ceiling, and how much of it the method, or without one each baseline, reaches."""
    if comparison.ceiling is None:
        return []
    first = comparison.rows[0]
    told = [row for row in comparison.rows if row.kind == first.kind and row.of_ceiling is not None]
    return [_line("noise ceiling", "ceiling", comparison.ceiling, first.n)] + [
        _line(row.name, "of ceiling", row.of_ceiling, row.n) for row in told if row.of_ceiling is not None
    ]


def _verdicts(comparison: Comparison) -> list[str]:
    """What the numbers mean, in sentences."""
    first = comparison.rows[0]
    if comparison.ceiling is None:
        notes = ["noise ceiling unknown: no architecture has two runs"]
    else:
        notes = ["noise ceiling: what a scorer would reach that knew every accuracy but for the luck of its seeds"]
    if first.of_ceiling is not None and first.of_ceiling.kendall > 1:
        notes.append(f"{first.name} is above the ceiling: by luck, or because it has seen these accuracies")
    if comparison.seen is not None:
        for check in comparison.seen.checks:
            if check.flagged:
                notes.append(
                    f"{first.name} follows the noise of run {check.run}, which it must have seen: Kendall with the"
                    f" other runs' mean is {check.with_others:.4f}"
                )
    if comparison.curve is not None:
        told = [f"{row.name} {row.worth.text}" for row in comparison.rows if row.kind == first.kind and row.worth]
        notes.append(
            f"worth in trained architectures that an additive fit ({comparison.curve.form}) ranks by, interval over"
            f" {comparison.curve.num_draws} draws of them: {', '.join(told)}"
        )
    if comparison.no_curve is not None:
        notes.append(f"worth in trained architectures unknown: {comparison.no_curve}")
    return notes


def _print_equal_flops(rows: list[Row]) -> None:
    """Print what is left of correlations at equal FLOPs."""
    found = [(row.name, row.equal_flops) for row in rows if row.equal_flops is not None]
    deciles = range(1, len(found[0][1].kendall) + 1)
    print()
    print_table(
        ["scores", "Spearman given FLOPs", "mean", *(f"D{number}" for number in deciles)],
        [[name, *map(_decimals, (equal.partial, equal.mean, *equal.kendall))] for name, equal in found],
        title="at equal FLOPs: Kendall tau-b within deciles of FLOPs, D1 the smallest networks",
        caption="undefined: constant within the decile, or in the same order as FLOPs",
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
