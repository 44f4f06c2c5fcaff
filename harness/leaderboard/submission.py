"""A submission: entries held against their folder, and their rows recomputed, as Markdown.

    >>> entries = check_folder(Path("data/leaderboard"))
    >>> print(submission_markdown([entries[0]], len(entries), boards))

This is what a pull request is checked by: `channel-harness check-entry data/leaderboard/mine.json`. The whole folder
has to be in order, because a change of one file can break the entry of another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from channel_bench.errors import ArgumentError, MissingDataError
from channel_bench.space import get_space
from harness.leaderboard.board import Board
from harness.leaderboard.entries import Entry, check_entry_scores, read_entries
from harness.leaderboard.sheets import board_sheet, reported_sheet
from harness.report.sheets import Sheet, to_markdown


def check_folder(folder: Path) -> list[Entry]:
    """Every entry of a folder, each with its scores; files that are not public may be missing.

    Raises:
        MissingDataError, CorruptFileError, ArgumentError, UnknownNameError: As `read_entries` and `read_entry_scores`,
            for the first thing that is wrong.
        ArgumentError: A score file belongs to no entry.
    """
    entries = read_entries(folder)
    named = set()
    for entry in entries:
        for space, result in entry.results.items():
            try:
                check_entry_scores(entry, get_space(space))
            except MissingDataError:
                if "external" not in (result.scores or {}):
                    raise
            named.add((result.scores or {}).get("file"))
    lost = sorted(path.name for path in folder.glob("*.parquet") if path.name not in named)
    if lost:
        raise ArgumentError(f"{str(folder)!r} has {lost[0]!r}, which no entry names: add its entry, or delete it")
    return entries


def chosen_entries(entries: Sequence[Entry], paths: Sequence[Path]) -> list[Entry]:
    """The entries of some files.

    Raises:
        MissingDataError: A file is not among them.
    """
    by_path = {entry.path.resolve(): entry for entry in entries}
    for path in paths:
        if path.resolve() not in by_path:
            raise MissingDataError(f"{str(path)!r} is no entry (*.json) of its folder: it does not exist there")
    return [by_path[path.resolve()] for path in paths]


def submission_markdown(chosen: Sequence[Entry], num_entries: int, boards: Sequence[Board]) -> str:
    """What was checked, and the recomputed rows of the chosen entries, space by space.

    Args:
        chosen: Entries to show.
        num_entries: Of the folder, all of which were checked.
        boards: Of their spaces, each with all entries of the folder.
    """
    names = {entry.method for entry in chosen}
    lines = [["entries in the folder, each with its keys and SHA-256", f"{num_entries}, in order"]]
    lines.append(["recomputed below", ", ".join(sorted(names)) or "none"])
    sheets = [Sheet("checked", ["what", "result"], lines)]
    for board in boards:
        mine = dataclasses.replace(
            board,
            entries={row: entry for row, entry in board.entries.items() if entry.method in names},
            reported=[entry for entry in board.reported if entry.method in names],
            absent={name: why for name, why in board.absent.items() if name in names},
        )
        among = f", among {len(board.ranks)} rows" if board.ranks else ""
        if mine.entries:
            sheet = board_sheet(mine)
            sheets.append(dataclasses.replace(sheet, title=sheet.title + among))
        reported = reported_sheet(mine)
        if reported is not None:
            sheets.append(reported)
    return "\n".join(map(to_markdown, sheets))
