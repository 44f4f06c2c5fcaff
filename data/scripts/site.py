"""Build the whole site in one go: the documentation, the leaderboard, and for each mini space an explorer and a report.

    python data/scripts/site.py --out site             # needs pip install '.[train,report,docs]'

Pages are made first and handed to ``mkdocs build --strict`` by a folder, whose files docs/hooks.py adds and links from
the home page; so that mkdocs checks these links, too. Explorers and reports hold a whole table, and the licence of the
published ones does not say that they may be passed on: only the tables that come with the package get such pages. The
leaderboard has the published spaces where ``channel-bench download`` has been run. No page asks another host.
"""

from __future__ import annotations

import argparse
import base64
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from channel_bench.errors import MissingDataError
from channel_bench.space import list_spaces
from channel_bench.table import load
from channel_bench.table.explore import write_explorer
from channel_bench.table.shipped import SPACES
from harness.leaderboard.board import Board, make_board
from harness.leaderboard.entries import Entry, entries_dir, read_entries
from harness.leaderboard.files import board_html
from harness.report.figures import draw_board
from harness.report.page import report_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = "CHANNEL_BENCH_PAGES"
"""Environment variable that names the folder of pages to docs/hooks.py."""


def board_of(entries: list[Entry], space: str, num_replicates: int) -> Board:
    """One space judged; only the numbers of papers where its table is missing."""
    try:
        table = load(space)
    except MissingDataError as error:
        print(f"{space}: {error}", file=sys.stderr)
        table = None
    return make_board(entries, space, table, num_replicates=num_replicates, budgets=None)


def write_pages(folder: Path, num_replicates: int) -> list[Path]:
    """Write leaderboard.html, explore-SPACE.html and report-SPACE.html."""
    entries = read_entries(entries_dir())
    boards = {space: board_of(entries, space, num_replicates) for space in list_spaces()}
    figure = draw_board([board.report for board in boards.values() if board.report is not None])
    pages = {"leaderboard.html": board_html([*boards.values()], f"data:image/png;base64,{_base64(figure)}")}
    for space in SPACES:
        report = boards[space].report
        assert report is not None, f"the table of {space} comes with the package"
        pages[f"report-{space}.html"] = report_page(report)
        write_explorer(load(space), folder / f"explore-{space}.html")
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return sorted(folder.glob("*.html"))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def main() -> int:
    """Make the pages, then the site."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="Folder of the site; what is in it is replaced.")
    parser.add_argument("--replicates", type=int, default=1000, help="Of the bootstrap behind intervals and ranks.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pages = write_pages(Path(folder), arguments.replicates)
        command = [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            arguments.out.resolve(),
        ]
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, PAGES: folder}).returncode
    if code == 0:
        print(f"wrote {arguments.out}: the documentation, and {', '.join(path.name for path in pages)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
