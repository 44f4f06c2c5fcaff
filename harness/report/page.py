"""A report as one self-contained HTML page: compare methods, point at an architecture, filter by budget.

    >>> Path("report.html").write_text(report_page(report), encoding="utf-8")

The page has plotly.js within and loads nothing; its content security policy forbids it to. What it shows is computed in
Python, but for what depends on a budget that is typed in: Kendall and the choice of every row within it, for the seed
whose scores the page has (`Arrays.scores`).

plotly.js draws every figure, and of the scatter the axes; its points are drawn on a canvas above them. With 16,384
points and 14 rows a letter of a budget is answered in 40 to 90 ms (headless Chromium without a GPU); as SVG the points
alone take plotly.js over a second, and its WebGL shows nothing where a browser has none.

Arrays travel as base64 of little-endian values, scores and accuracies exact to the bit, so that ties stay ties.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from channel_bench.errors import missing_package, printable
from channel_bench.space import NUM_ARCHS, NUM_WIDTHS, FloatArray
from channel_bench.support.page import assemble, common_parts, pack_array
from channel_bench.support.terminal import finite
from channel_bench.table.explore import roles_of
from channel_bench.table.ranks import ACCURACY_DECIMALS
from harness.judge.comparison import Row
from harness.judge.details import Detail
from harness.judge.verdict import Report, shown_pairs
from harness.report.sheets import Sheet, decimals, equal_flops_sheet, provenance, seen_runs, title_of, to_html
from harness.report.verdict_sheets import choice_sheet, p_text, test_sheet, top_sheet, verdict_sheet
from harness.stats.bootstrap import Interval

PAGES = Path(__file__).parent / "pages"
NUM_SHOWN = 6
"""Methods that the plots show at first, beside FLOPs and the best free baseline."""


def report_page(report: Report, more: Sequence[Sheet] = ()) -> str:
    """The page as text.

    Args:
        report: From `harness.judge.verdict.make_report`.
        more: Further tables, folded below the report's own.

    Raises:
        MissingPackageError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise missing_package("the page of a report", "plotly", error) from None
    comparison = report.comparison
    data = {
        "title": f"Width search on {comparison.space}",
        "about": f"{title_of(comparison)}; truth: {comparison.truth}; n = {comparison.rows[0].n:,} architectures.",
        "verdict": _verdict(report),
        "noise": _noise(report),
        "warnings": _warnings(report),
        "metric": report.metric,
        "level": report.level if report.num_replicates else None,
        "columns": verdict_sheet(report).columns,
        "lines": verdict_sheet(report).rows,
        "ceiling": None if comparison.ceiling is None else comparison.ceiling.kendall,
        "rows": [_row(report, row) for row in comparison.rows],
        "shown": _shown(report),
        "slots": _slots(report),
        "effects": _true_effects(report),
        "widest": {"flops": int(report.arrays.space.flops().max()), "params": int(report.arrays.space.params().max())},
        "provenance": _provenance(report),
        "notes": verdict_sheet(report).notes,
        "arrays": _arrays(report),
    }
    return assemble(
        PAGES,
        "report",
        title=f"{data['title']}, judged",
        data=_printable(finite(data)),
        more={**common_parts(), "plotly": get_plotlyjs(), "tables": "".join(map(_folded, [*_tables(report), *more]))},
    )


def _printable(value: Any) -> Any:
    """A value of dicts, lists and texts without control characters, which names and facts of score files may have."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: _printable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_printable(inner) for inner in value]
    return value


# -- words ----------------------------------------------------------------------------------------------------------


def _verdict(report: Report) -> str:
    """The best method, how sure that is, and whether it beats the free baselines."""
    methods = report.comparison.methods
    free = report.comparison.best_baseline
    if not methods:
        known = f"{free.name} is best, Kendall {decimals(free.kendall, 3)}"
        return f"No method is judged here: of the free baselines {known}."
    best = methods[0]
    if math.isnan(best.kendall):
        return "No method is best: Kendall is defined for none of them."
    found = f"Best of {len(methods)} methods: " if len(methods) > 1 else ""
    found += f"{best.name}, Kendall {best.kendall:.3f}{_within(report, report.interval(best.name))}"
    if best.of_ceiling is not None and math.isfinite(best.of_ceiling.kendall):
        found += f", {best.of_ceiling.kendall:.0%} of the noise ceiling"
    return f"{found}. {_beside(report, best, free)}"


def _beside(report: Report, best: Row, free: Row) -> str:
    if math.isnan(free.kendall):
        return "No free baseline has a defined Kendall."
    named = f"the best free baseline, {free.name} ({free.kendall:.3f})"
    gain = best.kendall - free.kendall
    if not report.differences:
        return f"It is {gain:+.3f} from {named}, untested."
    pair = report.paired(best.name, free.name)
    interval, p = pair.difference.interval, pair.difference.p_value
    adjusted = pair.p_adjusted if pair.p_adjusted is not None else p
    told_apart = adjusted < 1 - report.level
    verb = "It cannot be told apart from" if not told_apart else "It beats" if gain > 0 else "It is below"
    number = len(shown_pairs(report.comparison))
    tested = f"paired p {p_text(p)}, adjusted for the {number} comparisons of the report {p_text(adjusted)}"
    return f"{verb} {named}: difference {gain:+.3f}{_within(report, interval, '+')}, {tested}."


def _within(report: Report, interval: Interval | None, sign: str = "") -> str:
    if interval is None or math.isnan(interval.low):
        return ""
    return f" ({report.level:.0%} interval {interval.low:{sign}.3f} to {interval.high:{sign}.3f})"


def _noise(report: Report) -> str:
    ceiling = report.comparison.ceiling
    if ceiling is None:
        return "The noise ceiling is unknown: no architecture has two runs."
    reached = "A perfect predictor would reach that and not 1, because the accuracies themselves are noisy."
    return f"Noise ceiling: Kendall {ceiling.kendall:.3f}. {reached}"


def _warnings(report: Report) -> list[str]:
    """What must not be overlooked: scores that have seen the accuracies, or that lack architectures."""
    found = [note for row in report.comparison.methods for note in seen_runs(row)]
    found += [note for note in verdict_sheet(report).notes if "above the ceiling" in note]
    compared, judged = report.comparison.rows[0].n, int(np.isfinite(report.arrays.truth).sum())
    if compared < judged:
        found.append(f"Only {compared:,} of the table's {judged:,} architectures are compared: not all have all scores")
    return found


def _provenance(report: Report) -> list[list[str]]:
    comparison = report.comparison
    over = " and ".join({"archs": "architectures", "runs": "runs", "seeds": "seeds"}[what] for what in report.over)
    return [
        ["Table", comparison.table],
        ["Content SHA-256", report.table_sha256 or "none, the table was not read from a file"],
        ["Data set", comparison.dataset],
        ["Accuracy", f"{report.metric}: {comparison.truth}"],
        ["Architectures", f"{comparison.rows[0].n:,} of {NUM_ARCHS:,}"],
        ["Scores", provenance(comparison.facts, comparison.dataset) if comparison.facts else "see Score files"],
        ["Intervals", f"{report.level:.0%}, {report.num_replicates:,} replicates over {over}" if over else "none"],
        ["Costs", "FLOPs are multiply-accumulates of one image, parameters all that is learned; exact integers"],
        ["Written by", f"channel-bench {report.version}"],
    ]


# -- tables ---------------------------------------------------------------------------------------------------------


def _tables(report: Report) -> list[Sheet]:
    """What stands below the plots, folded."""
    sheets = [test_sheet(report)] if report.differences and report.comparison.methods else []
    sheets.append(top_sheet(report))
    if report.budgets:
        sheets.append(choice_sheet(report))
    sheets.append(equal_flops_sheet(report.comparison.rows))
    if report.comparison.methods:
        sheets.append(_files_sheet(report))
    return sheets


def _files_sheet(report: Report) -> Sheet:
    lines = [
        [
            row.name,
            "-" if ranking.seed is None else str(ranking.seed),
            decimals(ranking.kendall),
            f"{ranking.num_missing:,}",
            provenance(ranking.facts, report.comparison.dataset),
        ]
        for row in report.comparison.methods
        for ranking in row.rankings
    ]
    return Sheet("score files", ["method", "seed", "Kendall", "without score", "how they came about"], lines)


def _folded(sheet: Sheet) -> str:
    title = html.escape(sheet.title[0].upper() + sheet.title[1:])
    return f"<details><summary>{title}</summary>{to_html(sheet)}</details>\n"


# -- numbers --------------------------------------------------------------------------------------------------------


def _shown(report: Report) -> list[int]:
    """Numbers of the rows that plots show at first."""
    rows = report.comparison.rows
    methods = [number for number, row in enumerate(rows) if row.kind == "method"][:NUM_SHOWN]
    free = [number for number, row in enumerate(rows) if row.kind == "baseline"]
    if not methods:
        return free
    named = {"flops", report.comparison.best_baseline.name}
    return methods + [number for number in free if rows[number].name in named]


def _row(report: Report, row: Row) -> dict[str, Any]:
    detail = report.detail(row.name)
    interval = detail.intervals.get("kendall")
    return {
        "name": row.name,
        "kind": row.kind,
        "seed": detail.seed,
        "kendall": row.kendall,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "seeds": [[ranking.seed, ranking.kendall] for ranking in row.rankings],
        **_diagnosis(detail),
    }


def _diagnosis(detail: Detail) -> dict[str, Any]:
    found = detail.diagnosis
    calibration, along = found.calibration, found.along
    return {
        "effects": None if found.effects is None else found.effects.scores.tolist(),
        "calibration": {name: getattr(calibration, name).tolist() for name in ("predicted", "mean", "low", "high")},
        "along": None if along is None else {"flops": along.middle.tolist(), "kendall": along.kendall.tolist()},
    }


def _true_effects(report: Report) -> list[list[float]] | None:
    """(7, 4); the same whatever row they stand beside."""
    found = [detail.diagnosis.effects for detail in report.details if detail.diagnosis.effects is not None]
    return found[0].truth.tolist() if found else None


def _slots(report: Report) -> list[dict[str, Any]]:
    space = report.arrays.space
    channels = space.channel_counts([(digit,) * len(space.max_channels) for digit in range(1, NUM_WIDTHS + 1)])
    roles = roles_of(space)
    return [{"role": role, "channels": column} for role, column in zip(roles, channels.T.tolist(), strict=True)]


def _arrays(report: Report) -> dict[str, Any]:
    """What is compared, by position among the compared architectures; the scores of the i-th row as "scores_{i}"."""
    arrays = report.arrays
    both = arrays.compared
    truth = arrays.truth[both]
    found = {
        "index": pack_array(np.flatnonzero(both), "<i4"),
        "truth": pack_array(truth, "<f8"),
        # What `harness.stats.top.choose` goes by; divided by 10^4 they are numpy's rounded accuracies to the bit.
        "rounded": pack_array(np.rint(truth * 10**ACCURACY_DECIMALS), "<i4"),
        "std": _exact(arrays.stds[both].astype(np.float32).astype(np.float64)),
        "flops": pack_array(arrays.space.flops()[both], "<f8"),  # whole numbers below 2**53, so exact
        "params": pack_array(arrays.space.params()[both], "<f8"),
    }
    for number, row in enumerate(report.comparison.rows):
        found[f"scores_{number}"] = _exact(arrays.scores[row.name][both])
    return found


def _exact(values: FloatArray) -> dict[str, str]:
    """Packed as 32 bits where they hold the very values, as most score files do."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    same = np.array_equal(narrow.astype(np.float64), values, equal_nan=True)
    return pack_array(values, "<f4" if same else "<f8")
