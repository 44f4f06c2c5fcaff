"""Options that several commands of ``channel-harness`` have, and how NAME=VALUE texts are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from channel_bench.errors import ArgumentError
from channel_bench.space import list_spaces
from channel_bench.support.durable import check_writable

SpaceOption = Annotated[str, typer.Option("--space", help=f"One of {', '.join(list_spaces())}.")]
RunOption = Annotated[int | None, typer.Option("--run", help="One run as the truth [default: the mean over runs].")]
EqualFlopsOption = Annotated[bool, typer.Option("--equal-flops", help="Also Kendall within deciles of FLOPs.")]
ArchColumnOption = Annotated[
    str | None, typer.Option("--arch-column", help="Column of architectures [default: arch, subnet, ...].")
]
ScoreColumnOption = Annotated[
    str | None, typer.Option("--score-column", help="Column of scores, -NAME where lower is better [default: score].")
]
DrawsOption = Annotated[
    int, typer.Option("--draws", help="Draws for what a ranking is worth in trained architectures; 0 for none.")
]
ReplicatesOption = Annotated[
    int, typer.Option("--replicates", help="Bootstrap replicates for intervals and tests; 0 for none.")
]

_WORDS: dict[str, Any] = {"true": True, "yes": True, "false": False, "no": False, "none": None}


def parse_options(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs; numbers, yes/no and JSON are read as such, anything else stays text."""
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ArgumentError(f"--option {text!r} is not NAME=VALUE")
        if value.lower() in _WORDS:
            options[name] = _WORDS[value.lower()]
            continue
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def check_before(out: Path, figures: bool) -> None:
    """Find out before the long work whether its results can be written and drawn."""
    check_writable(out / "report.json")
    if figures:
        from harness.report.figures import check_packages

        check_packages()
