"""Boards as files: Markdown, a page that loads nothing, and a figure.

>>> write_boards(boards, Path("data/leaderboard"))       # or: channel-harness leaderboard -o data/leaderboard
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from channel_bench.errors import ArgumentError, CorruptFileError
from channel_bench.support.durable import write_atomic
from channel_bench.support.reading import MIB, read_file
from harness.leaderboard.board import Board
from harness.leaderboard.sheets import overview_sheet, sheets_of
from harness.report.sheets import to_html, to_markdown

MARKERS = ("<!-- leaderboard -->", "<!-- end of leaderboard -->")
"""The overview of a README stands between these two comments."""
MAX_README_BYTES = 16 * MIB


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

    The figure comes first and Markdown, which points at it, last.

    Args:
        boards: From `make_board`.
        folder: Made where it is missing.
        figures: Whether to draw.
        readme: A Markdown file that has the overview between MARKERS, which is replaced.

    Raises:
        ArgumentError: `readme` has not both of MARKERS.
        MissingDataError: `readme` cannot be read.
        CorruptFileError: `readme` is not UTF-8 text.
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
    files["leaderboard.html"] = board_html(boards, data_url).encode()
    files["README.md"] = f"# Leaderboard\n\n{_HOW}\n{board_markdown(boards, image)}".encode()
    contents = {folder / name: data for name, data in files.items()}
    if readme is not None:
        contents[readme] = _with_overview(readme, to_markdown(overview_sheet(boards, short=True))).encode()
    write_atomic(*contents.items())
    return list(contents)


def check_readme(path: Path) -> None:
    """Refuse a Markdown file that has no place for the overview, before the long work; errors as `write_boards`."""
    _with_overview(path, "")


def _with_overview(path: Path, table: str) -> str:
    try:
        text = read_file(path, "Markdown file", MAX_README_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"Markdown file {str(path)!r} is not UTF-8 text: {error.reason}") from None
    before, begin, rest = text.partition(MARKERS[0])
    _, end, after = rest.partition(MARKERS[1])
    if not begin or not end:
        raise ArgumentError(f"{str(path)!r} has no place for the overview: put it between {' and '.join(MARKERS)}")
    return f"{before}{begin}\n{table}{end}{after}"


_HOW = """Every number in the first table of a space is recomputed from the scores of its entry, a JSON file in this
folder with a score file beside it. This page is written by `channel-harness leaderboard -o data/leaderboard`; how to
add an entry stands in the README of the project.
"""
