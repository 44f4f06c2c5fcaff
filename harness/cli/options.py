"""Options that several commands of ``channel-harness`` share, and the reading of NAME=VALUE texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from channel_bench.cli.options import SPACES_HELP
from channel_bench.errors import ArgumentError
from channel_bench.support.durable import check_writable

ValidateOnOption = Annotated[
    str,
    typer.Option(
        "--validate-on",
        help="Images to score on: a part held out of the training images (holdout), or the test images (test).",
    ),
]
SpaceOption = Annotated[str, typer.Option("--space", help=SPACES_HELP)]
RunOption = Annotated[
    int | None, typer.Option("--run", help="Take one run of each network as the truth [default: the mean over runs].")
]
EqualFlopsOption = Annotated[bool, typer.Option("--equal-flops", help="Also compute Kendall within deciles of FLOPs.")]
FILES_HELP = "CSV, JSON, Parquet, or arrays of numpy; a folder or a pattern such as 'runs/*.csv' stands for its files"
ArchColumnOption = Annotated[
    str | None, typer.Option("--arch-column", help="Column of architectures [default: arch, subnet, ...].")
]
ScoreColumnOption = Annotated[
    str | None, typer.Option("--score-column", help="Column of scores, -NAME where lower is better [default: score].")
]
DrawsOption = Annotated[
    int,
    typer.Option("--draws", help="Random draws for the worth of a ranking in trained architectures; 0 leaves it out."),
]
ReplicatesOption = Annotated[
    int, typer.Option("--replicates", help="Bootstrap replicates behind intervals and tests; 0 leaves them out.")
]

_WORDS: dict[str, Any] = {"true": True, "yes": True, "false": False, "no": False, "none": None}


def parse_options(texts: Sequence[str], flag: str = "--option") -> dict[str, Any]:
    """Read NAME=VALUE texts; numbers, yes/no, none and JSON are read as such, anything else stays text.

    Raises:
        ArgumentError: A text is not NAME=VALUE.
    """
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ArgumentError(f"{flag} {text!r} is not NAME=VALUE")
        options[name] = _value(value)
    return options


def options_by_method(texts: Sequence[str], methods: Sequence[str]) -> list[dict[str, Any]]:
    """Read NAME=VALUE and METHOD.NAME=VALUE texts, and give every method its options.

    NAME=VALUE goes to every method that has this option, or to the only method. METHOD.NAME=VALUE goes to one method,
    and wins over the former. METHOD is written as on the command line or as in the score files.

    Args:
        texts: The values of --option.
        methods: The chosen methods, as on the command line.

    Returns:
        The options of each method, in their order.

    Raises:
        ArgumentError: A text has another form, names a method that is not chosen, or an option that none has.
        UnknownNameError, MissingDataError, MethodError: A method cannot be found.
    """
    if not texts:
        return [{} for _ in methods]
    from harness.methods import method_name, method_options

    allowed = [method_options(method) for method in methods]
    known_as = [{method, method_name(method)} for method in methods]
    for_all: list[dict[str, Any]] = [{} for _ in methods]
    for_one: list[dict[str, Any]] = [{} for _ in methods]
    for text in texts:
        place, equals, value = text.partition("=")
        method, dot, name = place.rpartition(".")
        if not equals or not name.isidentifier() or (dot and not method):
            raise ArgumentError(f"--option {text!r} is not NAME=VALUE or METHOD.NAME=VALUE")
        if dot:
            chosen = [number for number, names in enumerate(known_as) if method in names]
            if not chosen:
                raise ArgumentError(f"--option {text!r} is for {method!r}: the chosen methods are {', '.join(methods)}")
        else:
            chosen = [number for number, options in enumerate(allowed) if name in options or len(methods) == 1]
            if not chosen:
                listed = "; ".join(
                    f"{method} has {', '.join(options) or 'none'}"
                    for method, options in zip(methods, allowed, strict=True)
                )
                raise ArgumentError(f"no chosen method has an option {name!r}: {listed}")
        for number in chosen:
            (for_one if dot else for_all)[number][name] = _value(value)
    return [general | special for general, special in zip(for_all, for_one, strict=True)]


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text


def check_before(out: Path, figures: bool) -> None:
    """Find out before the long work whether its results can be written and drawn."""
    check_writable(out / "report.json")
    if figures:
        from harness.report.figures import check_packages

        check_packages()
