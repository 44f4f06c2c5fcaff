"""A finished experiment as Markdown, LaTeX and figures, beside its result file.

>>> write_files(result, Path("results"))      # regions.resnet-mini.md, .tex, .png, .pdf
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from channel_bench.errors import CorruptFileError, MissingDataError
from channel_bench.space import Space
from channel_bench.support.durable import write_atomic
from channel_bench.support.reading import is_folder, parse_json, read_file, shown_path
from harness.experiments.claims import Claim
from harness.experiments.run import MAX_RESULT_BYTES, Result
from harness.report.figures import draw_named
from harness.report.sheets import Sheet, decimals, print_sheet, to_latex, to_markdown


def sheets_of(result: Result) -> list[Sheet]:
    """The tables of an experiment; where it holds papers to their word, the claims first."""
    claims = result.outcome.claims
    sheets = list(result.outcome.sheets)
    if claims:
        sheets.insert(0, claims_sheet(claims))
    return sheets


def claims_sheet(claims: list[Claim]) -> Sheet:
    """A row per claim: what a paper says, the effect here with its interval over seeds, the verdict."""
    return Sheet(
        "What the papers say, and what is seen here",
        ["claim", "source", "effect", "interval", "unit", "seeds", "verdict"],
        [
            [
                claim.statement,
                claim.source,
                f"{claim.effect:+.3f}",
                "-" if claim.low is None or claim.high is None else f"{claim.low:+.3f} to {claim.high:+.3f}",
                claim.unit,
                str(claim.num_seeds),
                claim.verdict,
            ]
            for claim in claims
        ],
        [
            f"effect: above zero where the paper is right; interval: {claims[0].level:.0%}, Student's t over seeds of"
            " paired differences; seen where all of it is above zero, not seen where none of it is",
        ],
    )


def print_result(result: Result) -> None:
    """Print the tables and notes of an experiment."""
    for sheet in sheets_of(result):
        print_sheet(sheet)
    for note in result.outcome.notes:
        print(note)


def markdown_of(result: Result, figures: list[str]) -> str:
    """The experiment as a page of Markdown."""
    setting = result.setting
    seeds = f"seeds {setting.seeds[0]}..{setting.seeds[-1]}" if len(setting.seeds) > 1 else f"seed {setting.seeds[0]}"
    parts = [
        f"# {result.name} on {setting.space.name}: {result.summary}\n",
        f"After {result.paper}. {seeds[:1].upper()}{seeds[1:]};"
        f" {decimals(result.facts['seconds'] / 60, 1)} minutes of processes in all.\n",
        *(f"![{name}]({name})\n" for name in figures),
        *(to_markdown(sheet) for sheet in sheets_of(result)),
    ]
    if result.outcome.notes:
        parts.append("".join(f"- {note}\n" for note in result.outcome.notes))
    return "\n".join(parts)


def read_sheets(folder: Path, space: Space) -> list[Sheet]:
    """The claims of every finished experiment of a space in a folder; of one without claims its main table.

    Raises:
        MissingDataError: There is none.
        CorruptFileError: A file does not hold what an experiment wrote.
    """
    paths = sorted(folder.glob(f"*.{space.name}.json")) if is_folder(folder) else []
    if not paths:
        raise MissingDataError(f"there is no finished experiment (*.{space.name}.json) in {shown_path(folder)}")
    return [_main_sheet(path) for path in paths]


def _main_sheet(path: Path) -> Sheet:
    what = f"result of an experiment {shown_path(path)}"
    content = parse_json(read_file(path, "result of an experiment", MAX_RESULT_BYTES), what)
    try:
        name = f"experiment {content['experiment']}"
        if content["claims"]:
            claims = [
                Claim(**{key: value for key, value in each.items() if key != "verdict"}) for each in content["claims"]
            ]
            sheet = claims_sheet(claims)
        else:
            sheet = Sheet(**content["tables"][0])
        texts = [sheet.title, *sheet.columns, *sheet.notes, *(cell for row in sheet.rows for cell in row)]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CorruptFileError(f"{what} is none ({type(error).__name__}): run the experiment again") from None
    if any(not isinstance(text, str) for text in texts) or any(len(row) != len(sheet.columns) for row in sheet.rows):
        raise CorruptFileError(f"{what} has a table that is none: run the experiment again")
    return dataclasses.replace(sheet, title=f"{name}: {sheet.title}", links={})


def write_files(result: Result, out: Path, *, figures: bool = True) -> list[Path]:
    """Write the page, the LaTeX tables and the figures (PNG and PDF); all or none.

    Raises:
        MissingPackageError: matplotlib is not installed, and figures are asked for.
        StorageError: The file system refused; what was there is untouched.
    """
    stem = f"{result.name}.{result.setting.space.name}"
    drawn: dict[str, bytes] = {}
    if figures:
        for name, draw in result.outcome.figures.items():
            drawn |= draw_named(stem if name == result.name else f"{stem}.{name}", draw)
    texts = {
        f"{stem}.tex": "\n".join(to_latex(sheet) for sheet in sheets_of(result)),
        f"{stem}.md": markdown_of(result, [name for name in drawn if name.endswith(".png")]),
    }
    contents = {out / name: data for name, data in drawn.items()}
    contents |= {out / name: text.encode() for name, text in texts.items()}
    write_atomic(*contents.items())
    return list(contents)
