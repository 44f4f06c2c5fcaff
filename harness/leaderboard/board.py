"""The leaderboard: entries judged by their scores, numbers of papers apart from those that are recomputed.

    >>> board = make_board(read_entries(entries_dir()), "resnet-mini", load("resnet-mini"))
    >>> print_sheet(board_sheet(board))              # or: channel-harness leaderboard

Nothing that is shown as recomputed is taken from an entry but its scores; what a paper reports without scores is in
a table of its own.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from channel_bench.errors import ArgumentError, MissingDataError, os_reason
from channel_bench.space import get_space
from channel_bench.support.durable import write_atomic
from channel_bench.table import Table
from harness.judge.comparison import Row
from harness.judge.verdict import Report, make_report
from harness.leaderboard.entries import REPORTED_KEYS, Entry, read_entry_scores
from harness.report.sheets import Sheet, decimals, to_html, to_markdown
from harness.report.verdict_sheets import interval_text, interval_words
from harness.scores import Scores

MARKERS = ("<!-- leaderboard -->", "<!-- end of leaderboard -->")
"""What the overview stands between in a README."""


@dataclass(frozen=True)
class Board:
    """Entries of one space, judged."""

    space: str
    report: Report | None
    """Of the entries that have scores here; None without the space's table, or without any scores."""
    entries: dict[str, Entry]
    """By the name of the row."""
    reported: list[Entry]
    """Those that report numbers of this space."""
    absent: dict[str, str] = field(default_factory=dict)
    """Entries whose scores are not here, and why."""


# -- judging --------------------------------------------------------------------------------------------------------


def make_board(
    entries: Sequence[Entry],
    space: str,
    table: Table | None,
    *,
    external_dir: Path | None = None,
    num_replicates: int = 1000,
    on_step: Callable[[], object] | None = None,
) -> Board:
    """Recompute every number of a space from the scores.

    Args:
        entries: From `read_entries`.
        space: Its name.
        table: Its truth; None where that is not here, and then only reported numbers are shown.
        external_dir: Folder of score files that may not be passed on.
        num_replicates: Of the bootstrap.
        on_step: As `make_report`.

    Raises:
        As `read_entry_scores`, but for external files, and `make_report`.
    """
    mine = [entry for entry in entries if space in entry.results]
    groups: dict[str, list[Scores]] = {}
    absent, rows = {}, {}
    for entry in mine:
        scores = entry.results[space].scores
        if scores is None:
            continue
        rows[scores.get("baseline", entry.method)] = entry
        try:
            found = read_entry_scores(entry, get_space(space), external_dir)
        except MissingDataError as error:
            if "external" not in scores:
                raise
            absent[entry.method] = str(error)
            continue
        if found is not None:
            groups[entry.method] = found
    report = None
    if table is not None and rows.keys() - absent.keys():
        report = make_report(groups, table, num_replicates=num_replicates, budgets=[], on_step=on_step)
    elif table is None:
        absent = dict.fromkeys((entry.method for entry in rows.values()), "its table is not here")
    reported = [entry for entry in mine if entry.results[space].reported is not None]
    return Board(space, report, rows, reported, absent)


def overview_sheet(boards: Sequence[Board]) -> Sheet:
    """Kendall of every entry in every space: one row per entry, the best of the last space with methods on top."""
    names = list(dict.fromkeys(name for board in boards for name in [*board.entries, *_reporting(board)]))
    last = max(boards, key=lambda board: 0 if board.report is None else len(board.report.comparison.methods))
    order = {
        row.name: -np.nan_to_num(row.kendall, nan=-2) for row in (last.report.comparison.rows if last.report else [])
    }
    names.sort(key=lambda name: order.get(name, 3.0))
    lines = []
    for name in names:
        free = any(name in {row.name for row in board.report.comparison.baselines} for board in boards if board.report)
        lines.append([f"{name} (free)" if free else name, *(_overview_cell(board, name) for board in boards)])
    ceilings = [None if board.report is None else board.report.comparison.ceiling for board in boards]
    lines.append(["noise ceiling", *("-" if each is None else decimals(each.kendall, 3) for each in ceilings)])
    reports = [board.report for board in boards if board.report is not None]
    level = f"; in brackets the {reports[0].level:.0%} interval" if reports and reports[0].num_replicates else ""
    return Sheet(
        f"Kendall tau-b with trained accuracy{level}",
        ["method", *(board.space for board in boards)],
        lines,
        [
            "reported: a number of a paper, without scores to recompute it from; free: needs no training",
            *[_SINGLE] * any(len(row.rankings) == 1 for report in reports for row in report.comparison.methods),
        ],
    )


def _reporting(board: Board) -> list[str]:
    return [entry.method for entry in board.reported]


def _overview_cell(board: Board, name: str) -> str:
    rows = [] if board.report is None else board.report.comparison.rows
    row = next((row for row in rows if row.name == name and name in board.entries), None)
    if row is not None and board.report is not None:
        interval = interval_text(board.report.interval(name))
        return decimals(row.kendall, 3) + (f" ({interval}){_single(row)}" if interval != "-" else "")
    entry = next((entry for entry in board.reported if entry.method == name), None)
    reported = (entry.results[board.space].reported or {}) if entry is not None else {}
    return "-" if reported.get("kendall") is None else f"reported {reported['kendall']:.3f}"


def board_sheet(board: Board) -> Sheet:
    """Everything recomputed, by falling Kendall, baselines among the methods."""
    columns = ["method", "seeds", "Kendall", "interval", "Spearman", "Pearson", "of ceiling", "equal FLOPs", "worth"]
    lines, notes = [], []
    if board.report is not None:
        comparison = board.report.comparison
        shown = [row for row in comparison.rows if row.name in board.entries]
        for row in sorted(shown, key=lambda row: -np.nan_to_num(row.kendall, nan=-2)):
            entry = board.entries[row.name]
            compute = entry.results[board.space].compute or {}
            lines.append(
                [
                    f"{entry.method} (free)" if row.kind == "baseline" else entry.method,
                    str(len(row.rankings) or "-"),
                    decimals(row.kendall, 3),
                    interval_text(board.report.interval(row.name)) + _single(row),
                    decimals(row.spearman, 3),
                    decimals(row.pearson, 3),
                    "-" if row.of_ceiling is None else decimals(row.of_ceiling.kendall, 3),
                    "-" if row.equal_flops is None else decimals(row.equal_flops.mean, 3),
                    "-" if row.worth is None else row.worth.text,
                    _gmac(row.kind, compute),
                    entry.paper or "-",
                ]
            )
        notes += _board_notes(board.report)
    notes += [f"{name}: {why}" for name, why in board.absent.items()]
    links = {entry.paper: entry.url for entry in board.entries.values() if entry.paper and entry.url}
    links |= {entry.method: entry.code for entry in board.entries.values() if entry.code}
    return Sheet(f"{board.space}: recomputed from scores", [*columns, "GMAC", "paper"], lines, notes, links)


def _single(row: Row) -> str:
    """Marks an interval that says nothing of other seeds."""
    return " *" if len(row.rankings) == 1 else ""


_SINGLE = "*: one supernet only, so that the interval says nothing of other seeds"


def _gmac(kind: str, compute: Mapping[str, Any]) -> str:
    if kind == "baseline":
        return "0"
    return "-" if compute.get("train_gmac") is None else f"{compute['train_gmac']:,.0f}"


def _board_notes(report: Report) -> list[str]:
    comparison = report.comparison
    notes = [f"truth: table {comparison.table}, {comparison.truth}; n = {comparison.rows[0].n:,} architectures"]
    if comparison.ceiling is not None:
        notes.append(f"noise ceiling, what a perfect predictor would reach: Kendall {comparison.ceiling.kendall:.3f}")
    if any(len(row.rankings) == 1 for row in comparison.methods):
        notes.append(_SINGLE)
    return [
        *notes,
        f"interval: {report.level:.0%}, {interval_words(report, report.over)}",
        "worth: trained architectures from which an additive fit ranks the rest as well; GMAC: multiply-accumulates of"
        " one training in billions",
    ]


def reported_sheet(board: Board) -> Sheet | None:
    """Numbers of papers, which nobody can recompute; None where there are none."""
    if not board.reported:
        return None
    lines = []
    for entry in board.reported:
        reported = entry.results[board.space].reported or {}
        values = [reported[key] for key in REPORTED_KEYS[:-1]]
        texts = ["-" if value is None else f"{value:.3f}" for value in values]
        lines.append([entry.method, *texts, reported["source"]])
    lines.sort(key=lambda line: line[1], reverse=True)
    note = "as reported: there are no scores to recompute these from, and no seeds, so nobody knows how sure they are"
    return Sheet(
        f"{board.space}: reported in papers", ["method", "Kendall", "Spearman", "Pearson", "source"], lines, [note]
    )


# -- writing --------------------------------------------------------------------------------------------------------


def sheets_of(boards: Sequence[Board]) -> list[Sheet]:
    """All tables of the leaderboard: all spaces at a glance, then space by space."""
    sheets = [overview_sheet(boards)]
    for board in boards:
        if board.entries:
            sheets.append(board_sheet(board))
        reported = reported_sheet(board)
        if reported is not None:
            sheets.append(reported)
    return sheets


def board_markdown(boards: Sequence[Board], figure: str | None = None) -> str:
    """The leaderboard in Markdown."""
    picture = [f"![Kendall of every entry beside the noise ceiling]({figure})\n"] if figure else []
    return "\n".join([*picture, *map(to_markdown, sheets_of(boards))])


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>Channel-Bench leaderboard</title><style>
:root { color-scheme: light dark; --line: light-dark(#c9d0d8, #39424d); --muted: light-dark(#525b66, #a7b1bc); }
body { margin: 0 auto; padding: 0 16px 32px; max-width: 1400px; font: 16px/1.45 system-ui, sans-serif;
  background: light-dark(#ffffff, #12161b); color: light-dark(#1b1f24, #e8edf2); }
h1 { font-size: 1.4rem; } figure { margin: 28px 0; } figcaption { font-weight: 650; margin-bottom: 6px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px 4px 0; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
ul { margin: 8px 0 0; padding-left: 18px; color: var(--muted); font-size: 0.875rem; }
img { max-width: 100%; height: auto; background: #fff; }
</style></head><body><h1>Channel-Bench leaderboard</h1>
<p>Every number in the first tables is recomputed from the scores of an entry; what papers report stands apart.</p>
"""


def board_html(boards: Sequence[Board], image: str | None = None) -> str:
    """The leaderboard as one page that loads nothing.

    Args:
        boards: From `make_board`.
        image: A picture as a data URL.
    """
    picture = f'<img alt="Kendall of every entry beside the noise ceiling" src="{html.escape(image)}">' if image else ""
    return _PAGE + picture + "".join(map(to_html, sheets_of(boards))) + "</body></html>\n"


def write_boards(
    boards: Sequence[Board], folder: Path, *, figures: bool = True, readme: Path | None = None
) -> list[Path]:
    """Write README.md, leaderboard.html and, with `figures`, kendall.png; all of them or none.

    Args:
        boards: From `make_board`.
        folder: Made where it is missing.
        figures: Whether to draw.
        readme: A Markdown file that has the overview between MARKERS, which is replaced.

    Raises:
        ArgumentError: `readme` has not both of MARKERS.
        MissingDataError: `readme` cannot be read.
        MissingPackageError: matplotlib is not installed.
        StorageError: The file system refused; what was there is untouched.
    """
    files: dict[str, bytes] = {}
    reports = [board.report for board in boards if board.report is not None]
    if figures and reports:
        from harness.report.figures import draw_board

        files["kendall.png"] = draw_board(reports)
    image = "kendall.png" if files else None
    data_url = f"data:image/png;base64,{base64.b64encode(files[image]).decode()}" if image else None
    files["README.md"] = f"# Leaderboard\n\n{_HOW}\n{board_markdown(boards, image)}".encode()
    files["leaderboard.html"] = board_html(boards, data_url).encode()
    contents = {folder / name: data for name, data in files.items()}
    if readme is not None:
        contents[readme] = _with_overview(readme, to_markdown(overview_sheet(boards))).encode()
    write_atomic(*contents.items())
    return list(contents)


def check_readme(path: Path) -> None:
    """Refuse a Markdown file that has no place for the overview, before the long work; errors as `write_boards`."""
    _with_overview(path, "")


def _with_overview(path: Path, table: str) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MissingDataError(f"cannot read {str(path)!r}: {os_reason(error)}") from None
    before, begin, rest = text.partition(MARKERS[0])
    _, end, after = rest.partition(MARKERS[1])
    if not begin or not end:
        raise ArgumentError(f"{str(path)!r} has no place for the overview: put it between {' and '.join(MARKERS)}")
    return f"{before}{begin}\n{table}{end}{after}"


_HOW = """Every number in the first table of a space is recomputed from the scores of its entry, a JSON file in this
folder with a score file beside it. This page is written by `channel-harness leaderboard -o data/leaderboard`; how to
add an entry stands in the README of the project.
"""


def to_json(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """All boards for JSON: the report of each without its diagnostics, and what is only reported."""
    found = []
    for board in boards:
        report = None if board.report is None else board.report.to_dict()
        if report is not None:
            report.pop("details")
        reported = {entry.method: entry.results[board.space].reported for entry in board.reported}
        found.append({"space": board.space, "report": report, "reported": reported, "absent": board.absent})
    return found
