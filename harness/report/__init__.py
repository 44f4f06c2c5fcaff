"""The judge's numbers as text, figures, pages and files.

    >>> from harness.report import make_report, write_report
    >>> write_report(make_report(rankings, load("resnet-mini")), "report")

`sheets` are tables of text for every format, `verdict_sheets` those of a report, `figures` its figures, `page` its
page, `files` all of them in a folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.judge.verdict import Report, make_report
    from harness.report.files import write_report

__all__ = ["Report", "make_report", "write_report"]


def __getattr__(name: str) -> Any:
    if name in {"Report", "make_report"}:
        from harness.judge import verdict

        return getattr(verdict, name)
    if name == "write_report":
        from harness.report import files

        return files.write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
