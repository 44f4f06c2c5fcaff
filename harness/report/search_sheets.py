"""What a search found, as a table of text."""

from __future__ import annotations

import dataclasses
import math

from channel_bench.space import NUM_ARCHS
from channel_bench.support.terminal import counted, print_json, print_table
from harness.report.verdict_sheets import short
from harness.search.regret import Verdict


def print_verdict(verdict: Verdict, json_output: bool = False) -> None:
    """Print a verdict as a table, or as JSON."""
    if json_output:
        print_json(dataclasses.asdict(verdict))
        return
    costs = list(verdict.rows[0].costs)
    columns = ["width by", "arch", *costs, "score", "queries"]
    cells = [
        [row.name, row.arch, *map(_shown, row.costs.values()), _score_text(row.score), f"{row.num_queries:,}"]
        for row in verdict.rows
    ]
    first = verdict.rows[0]
    notes = [
        f"scores of {verdict.scored_by}{_arithmetic(verdict)}; channels of {first.arch}:"
        f" {', '.join(map(str, first.channels))}"
    ]
    if verdict.num_unscored:
        notes.append(f"{verdict.num_unscored:,} architectures that fit have no score and could not be chosen")
    if verdict.table is not None:
        columns += ["accuracy", "rank", "regret"]
        for row, line in zip(verdict.rows, cells, strict=True):
            known = row.accuracy is not None and row.rank is not None and row.regret is not None
            line += [f"{row.accuracy:.3f}", f"{row.rank:,}", f"{row.regret:.3f}"] if known else ["unknown"] * 3
        notes += [
            f"truth: {verdict.truth}; table {verdict.table}, data set {verdict.dataset}",
            f"rank among {verdict.num_ranked:,} that fit and are in the table; the best of them is {verdict.best} with"
            f" {verdict.best_accuracy:.3f}",
            "regret: percentage points below that best; queries: distinct architectures asked for",
        ]
    notes += [*_final_lines(verdict), *_cost_lines(verdict)]
    print_table(
        columns,
        cells,
        title=f"space {verdict.space}: {verdict.num_fitting:,} of {NUM_ARCHS:,} architectures have {verdict.budget}",
        caption="\n".join(notes),
    )


def _arithmetic(verdict: Verdict) -> str:
    """The precision of the scores, where their facts say it; those of others may say anything."""
    recipe = verdict.facts.get("recipe")
    precision = recipe.get("precision") if isinstance(recipe, dict) else None
    return f", in {precision}" if isinstance(precision, str) else ""


def _final_lines(verdict: Verdict) -> list[str]:
    """What the found width is worth when it is trained anew."""
    final = verdict.final
    if final is None:
        return []
    spread = f", std {final.std:.3f}" if len(final.accuracies) > 1 else ""
    lost = f"; {counted(final.num_diverged, 'training')} diverged" if final.num_diverged else ""
    taught = ", taught by the widest" if final.distilled else ""
    mean = f"{final.mean:.3f}{spread}" if final.accuracies else "no accuracy"
    return [f"{final.arch} trained anew with {counted(len(final.seeds), 'seed')}{taught}: {mean}{lost}"]


def _cost_lines(verdict: Verdict) -> list[str]:
    """What the search cost, as far as it is known."""
    bill = verdict.bill
    if bill is None:
        return []
    parts = []
    for what, macs, seconds in (
        ("training the supernet", bill.train_macs, bill.train_s),
        ("asking for scores one by one", bill.query_macs, None),
        ("final training", bill.final_macs, bill.final_s),
    ):
        if macs is not None:
            parts.append(f"{what} {short(macs)} multiply-accumulates" + (f", {seconds:,.0f} s" if seconds else ""))
    return ["cost: " + "; ".join(parts)] if parts else []


def _score_text(score: float) -> str:
    return "none" if math.isnan(score) else f"{score:.6g}"


def _shown(cost: int | float) -> str:
    return f"{cost:,}" if isinstance(cost, int) else f"{cost:,.4f}"
