"""A report as files: JSON, Markdown, LaTeX, one HTML page, and figures.

>>> write_report(make_report(rankings, table), Path("report"))   # or: channel-harness report ... -o report
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from channel_bench.support.durable import write_atomic
from harness.judge.verdict import Report
from harness.report.figures import FIGURES
from harness.report.sheets import Sheet
from harness.report.verdict_sheets import report_latex, report_markdown

FILE_NAMES = (
    *(f"report.{ending}" for ending in ("json", "md", "tex", "html")),
    *(f"{name}.{ending}" for name in FIGURES for ending in ("png", "pdf")),
)
"""All that a report may consist of."""


def write_report(report: Report, folder: str | Path, *, figures: bool = True, more: Sequence[Sheet] = ()) -> list[Path]:
    """Write report.json, .md, .tex and .html, and the figures as PNG and PDF; all of them or none.

    Figures come first, and report.json, which says of what report they are, last.

    Args:
        report: From `make_report`.
        folder: Made where it is missing; files of these names are replaced, or deleted where this report has none.
        figures: Whether to make figures and page, which needs the extra ``report``.
        more: Further tables for page and Markdown, such as those of experiments.

    Returns:
        What was written.

    Raises:
        MissingPackageError: A package that draws is not installed.
        StorageError: The file system refused; what was there is untouched.
    """
    folder = Path(folder)
    drawn: dict[str, bytes] = {}
    if figures:
        from harness.report.figures import draw_figures
        from harness.report.page import report_page

        drawn = draw_figures(report) | {"report.html": report_page(report, more).encode()}
    files = {
        "report.tex": report_latex(report),
        "report.md": report_markdown(report, [name for name in drawn if name.endswith(".png")], more),
        "report.json": json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n",
    }
    contents = {folder / name: data for name, data in drawn.items()}
    contents |= {folder / name: text.encode() for name, text in files.items()}
    write_atomic(*contents.items())
    for path in {folder / name for name in FILE_NAMES} - contents.keys():
        with contextlib.suppress(OSError):
            path.unlink()  # of an earlier report: beside the new files it would be taken for one of them
    return list(contents)
