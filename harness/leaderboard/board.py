"""The leaderboard: entries judged by their scores, numbers of papers apart from those that are recomputed.

    >>> board = make_board(read_entries(entries_dir()), "resnet-mini", load("resnet-mini"))
    >>> board.report.comparison.rows[0].kendall      # or: channel-harness leaderboard

From an entry only its scores are taken, and every number is recomputed from them. What a paper reports without scores
stands in a table of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from channel_bench.errors import ChannelBenchError, MissingDataError
from channel_bench.space import Space, get_space
from channel_bench.table import Table
from harness.judge.tiers import tiers
from harness.judge.verdict import Report, make_report
from harness.leaderboard.entries import Entry, read_entry_scores
from harness.method import PROXIES
from harness.scores import Scores


@dataclass(frozen=True)
class Board:
    """Entries of one space, judged."""

    space: str
    report: Report | None
    """On the entries whose scores are here; None without the table of the space, or without any scores."""
    entries: dict[str, Entry]
    """By the name of the row."""
    reported: list[Entry]
    """Those that report numbers of this space."""
    absent: dict[str, str] = field(default_factory=dict)
    """Entries whose scores are not here, and why."""
    ranks: dict[str, int | None] = field(default_factory=dict)
    """By the name of the row, shared where tests cannot tell rows apart (`harness.judge.tiers`); None untested.
    Fits to the scores of another entry have none: they are the same supernets once more. Nor have the package's
    zero-cost proxies: forty rows are 800 pairs, and between three seeds no difference is significant among so many."""


def make_board(
    entries: Sequence[Entry],
    space: str,
    table: Table | None,
    *,
    external_dir: Path | None = None,
    num_replicates: int = 200,
    budgets: Sequence[float] | None = (),
    on_step: Callable[[], object] | None = None,
    on_broken: Callable[[ChannelBenchError], object] | None = None,
) -> Board:
    """Recompute every number of a space from the scores.

    Args:
        entries: From `read_entries`.
        space: Its name.
        table: Its truth; None where it is missing, so that only reported numbers are shown.
        external_dir: Folder of score files that are not public.
        num_replicates: Of the bootstrap; 0 for no intervals, tests and ranks.
        budgets: FLOPs within which the report shows choices, as `make_report`; the board itself needs none.
        on_step: As `make_report`.
        on_broken: Called with the error of each entry whose scores cannot be used; its row is left out and named in
            `absent`. Without it, such an error is raised.

    Raises:
        As `read_entry_scores`, but for external files that are not here, and `make_report`.
    """
    mine = [entry for entry in entries if space in entry.results]
    scored = [entry for entry in mine if entry.results[space].scores is not None]
    rows = {(entry.results[space].scores or {}).get("baseline", entry.method): entry for entry in scored}
    reported = [entry for entry in mine if entry.results[space].reported is not None]
    groups, absent = _scores_of(scored, get_space(space), external_dir, on_broken)
    if table is None:
        absent = dict.fromkeys((entry.method for entry in scored), "its table is not here")
    report = None
    if table is not None and rows.keys() - absent.keys():
        report = make_report(groups, table, num_replicates=num_replicates, budgets=budgets, on_step=on_step)
    derived = {entry.method for entry in scored if "derived" in (entry.results[space].scores or {})}
    judged = [] if report is None else [row.name for row in report.comparison.rows if row.name in rows]
    ranked = [name for name in judged if name not in derived and name not in PROXIES]
    ranks = {} if report is None else tiers(report, ranked)
    return Board(space, report, rows, reported, absent, ranks)


def _scores_of(
    entries: Sequence[Entry],
    space: Space,
    external_dir: Path | None,
    on_broken: Callable[[ChannelBenchError], object] | None,
) -> tuple[dict[str, list[Scores]], dict[str, str]]:
    """Scores of the entries that have files, by method; and why those of others are missing."""
    groups, absent = {}, {}
    for entry in entries:
        try:
            found = read_entry_scores(entry, space, external_dir)
        except ChannelBenchError as error:
            is_external = "external" in (entry.results[space.name].scores or {})
            if not (is_external and isinstance(error, MissingDataError)):
                if on_broken is None:
                    raise
                on_broken(error)
            absent[entry.method] = str(error)
            continue
        if found is not None:
            groups[entry.method] = found
    return groups, absent


def to_json(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """All boards for JSON: the report of each without its details, and the numbers of papers."""
    found = []
    for board in boards:
        report = None if board.report is None else board.report.to_dict()
        if report is not None:
            report.pop("details")
        reported = {entry.method: entry.results[board.space].reported for entry in board.reported}
        ranked = {"space": board.space, "ranks": board.ranks, "report": report}
        found.append({**ranked, "reported": reported, "absent": board.absent})
    return found
