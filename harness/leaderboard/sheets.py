"""Boards as tables of text: all spaces at a glance, then each space, then what papers report.

>>> print_sheet(board_sheet(board))              # or: channel-harness leaderboard
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.judge.comparison import Row
from harness.judge.verdict import Report
from harness.leaderboard.board import Board
from harness.leaderboard.keys import REPORTED_KEYS
from harness.method import PROXIES
from harness.report.sheets import Sheet, decimals
from harness.report.verdict_sheets import interval_text, interval_words


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


def overview_sheet(boards: Sequence[Board], *, short: bool = False) -> Sheet:
    """Kendall of every entry in every space: one row per entry, the best of the last space with methods on top.

    Args:
        boards: From `make_board`.
        short: Leave out what is no supernet and no baseline: fits to the scores of other entries, and proxies.
    """
    reports = [board.report for board in boards if board.report is not None]
    # What needs no training: the baselines, which cost nothing at all, and the proxies, which cost seconds.
    free = {row.name for report in reports for row in report.comparison.baselines} | set(PROXIES)
    names = _order(boards)
    kept = [name for name in names if not (short and (name in PROXIES or _is_derived(name, boards)))]
    lines = [[_shown_name(name, name in free), *(_overview_cell(board, name) for board in boards)] for name in kept]
    ceilings = [None if board.report is None else board.report.comparison.ceiling for board in boards]
    lines.append(["noise ceiling", *("-" if each is None else decimals(each.kendall, 3) for each in ceilings)])
    marks = ["#: rank, shared by rows not significantly worse than its first"] * any(
        any(board.ranks.values()) for board in boards
    )
    marks += [_SINGLE] * any(len(row.rankings) == 1 for report in reports for row in report.comparison.methods)
    level = f"; in brackets the {reports[0].level:.0%} interval" if reports and reports[0].num_replicates else ""
    return Sheet(
        f"Kendall tau-b with trained accuracy{level}",
        ["method", *(board.space for board in boards)],
        lines,
        [
            "reported: a number of a paper, without scores to recompute it from; free: needs no training",
            *["; ".join(marks)] * bool(marks),
            *[f"{len(names) - len(kept)} more rows, proxies and fits to scores, are on the whole board"]
            * (len(kept) < len(names)),
        ],
    )


def _is_derived(name: str, boards: Sequence[Board]) -> bool:
    found = (board.entries[name].results[board.space] for board in boards if name in board.entries)
    return any("derived" in (result.scores or {}) for result in found)


def _order(boards: Sequence[Board]) -> list[str]:
    """Names of all entries: by falling Kendall in the space with the most methods, then those that it does not have."""
    reporting = [[entry.method for entry in board.reported] for board in boards]
    names = list(
        dict.fromkeys(name for board, more in zip(boards, reporting, strict=True) for name in [*board.entries, *more])
    )
    fullest = max(boards, key=lambda board: 0 if board.report is None else len(board.report.comparison.methods))
    rows = fullest.report.comparison.rows if fullest.report else []
    places = {row.name: -np.nan_to_num(row.kendall, nan=-2) for row in rows}
    return sorted(names, key=lambda name: places.get(name, 3.0))


def _shown_name(name: str, free: bool) -> str:
    return f"{name} (free)" if free else name


def _overview_cell(board: Board, name: str) -> str:
    rows = [] if board.report is None else board.report.comparison.rows
    row = next((row for row in rows if row.name == name and name in board.entries), None)
    if row is not None and board.report is not None:
        interval = interval_text(board.report.interval(name))
        rank = board.ranks.get(name)
        shown = decimals(row.kendall, 3) + (f" ({interval}){_single(row)}" if interval != "-" else "")
        return shown if rank is None else f"#{rank} {shown}"
    entry = next((entry for entry in board.reported if entry.method == name), None)
    reported = (entry.results[board.space].reported or {}) if entry is not None else {}
    return "-" if reported.get("kendall") is None else f"reported {reported['kendall']:.3f}"


def board_sheet(board: Board) -> Sheet:
    """Everything recomputed, by falling Kendall, baselines among the methods."""
    columns = ["rank", "method", "seeds", "Kendall", "interval", "Spearman", "Pearson", "of ceiling", "equal FLOPs"]
    lines, notes = [], []
    if board.report is not None:
        shown = [row for row in board.report.comparison.rows if row.name in board.entries]
        shown.sort(key=lambda row: -np.nan_to_num(row.kendall, nan=-2))
        lines = [_board_line(row, board) for row in shown]
        notes = _board_notes(board.report, any(board.ranks.values()))
    notes += [f"{name}: {why}" for name, why in board.absent.items()]
    links = {entry.paper: entry.url for entry in board.entries.values() if entry.paper and entry.url}
    links |= {entry.method: entry.code for entry in board.entries.values() if entry.code}
    return Sheet(f"{board.space}: recomputed from scores", [*columns, "worth", "GMAC", "paper"], lines, notes, links)


def _board_line(row: Row, board: Board) -> list[str]:
    """One entry as text, in the order of the columns."""
    entry, rank = board.entries[row.name], board.ranks.get(row.name)
    compute = entry.results[board.space].compute or {}
    return [
        "-" if rank is None else str(rank),
        _shown_name(entry.method, row.kind == "baseline" or entry.method in PROXIES),
        str(len(row.rankings) or "-"),
        decimals(row.kendall, 3),
        interval_text(None if board.report is None else board.report.interval(row.name)) + _single(row),
        decimals(row.spearman, 3),
        decimals(row.pearson, 3),
        "-" if row.of_ceiling is None else decimals(row.of_ceiling.kendall, 3),
        "-" if row.equal_flops is None else decimals(row.equal_flops.mean, 3),
        "-" if row.worth is None else row.worth.text,
        _gmac(row.kind, compute),
        entry.paper or "-",
    ]


def _single(row: Row) -> str:
    """A mark where the interval cannot cover other seeds."""
    return " *" if len(row.rankings) == 1 else ""


_SINGLE = "*: one supernet, no interval over seeds"


def _gmac(kind: str, compute: Mapping[str, Any]) -> str:
    if kind == "baseline":
        return "0"
    return "-" if compute.get("train_gmac") is None else f"{compute['train_gmac']:,.0f}"


_RANKS = (
    "rank in the space among supernets and scores in closed form, shared by rows that tests cannot tell apart; a row"
    " that is significantly worse than the first of the rank above begins a new one (paired tests of all pairs, after"
    " Holm)"
)


def _board_notes(report: Report, ranked: bool) -> list[str]:
    comparison = report.comparison
    notes = [f"truth: table {comparison.table}, {comparison.truth}; n = {comparison.rows[0].n:,} architectures"]
    if comparison.ceiling is not None:
        notes.append(f"noise ceiling, what a perfect predictor would reach: Kendall {comparison.ceiling.kendall:.3f}")
    if any(len(row.rankings) == 1 for row in comparison.methods):
        notes.append(_SINGLE)
    if ranked:
        notes.append(_RANKS)
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
