"""Commands of the leaderboard: leaderboard, enter, check-entry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from channel_bench.cli.options import DataDirOption, JsonOption
from channel_bench.errors import ArgumentError, ChannelBenchError, MissingDataError
from channel_bench.space import get_space, list_spaces
from channel_bench.support.terminal import print_json, progress, say
from harness.cli.options import (
    FILES_HELP,
    ArchColumnOption,
    ReplicatesOption,
    ScoreColumnOption,
    SpaceOption,
    check_before,
)

if TYPE_CHECKING:
    from harness.leaderboard.board import Board
    from harness.leaderboard.entries import Entry

NUM_REPLICATES = 200
"""Fewer than a report has: a board has many more rows, and most of an interval is the scatter of supernets."""


def leaderboard(
    spaces: Annotated[
        list[str] | None,
        typer.Option("--space", help="Spaces to show, or TOML files of others [default: all]; repeatable."),
    ] = None,
    entries: Annotated[
        Path | None, typer.Option("--entries", help="Folder of entries [default: the entries of the package].")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write the page, README.md and figure into."),
    ] = None,
    external: Annotated[
        Path | None,
        typer.Option("--external", help="Folder of score files that are not public."),
    ] = None,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw kendall.png; needs 'channel-bench[report]'.")
    ] = True,
    readme: Annotated[
        Path | None,
        typer.Option("--readme", help="Markdown file whose overview to update, between markers."),
    ] = None,
    replicates: ReplicatesOption = NUM_REPLICATES,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Recompute and show the leaderboard.

    Checks every entry, recomputes every number from its score files, and lists apart what papers report without
    scores. An entry that cannot be read, or whose scores are damaged or missing, is named on standard error and left
    out; the exit code stays 0 while any entry can be read.
    """
    from harness.leaderboard.board import to_json
    from harness.leaderboard.entries import entries_dir, read_entries
    from harness.leaderboard.files import check_readme, write_boards
    from harness.leaderboard.sheets import sheets_of
    from harness.report.sheets import print_sheet

    names = [get_space(name).name for name in spaces or list_spaces()]
    found = read_entries(entries or entries_dir(), _say_broken)
    if out is not None:
        check_before(out, figures)
        if readme is not None:
            check_readme(readme)
    elif readme is not None:
        raise ArgumentError("--readme needs --out FOLDER, which is where its figure is written")
    boards = [_board(found, name, external, replicates, data_dir) for name in names]
    written = [] if out is None else write_boards(boards, out, figures=figures, readme=readme)
    if json_output:
        print_json(to_json(boards))
    else:
        for number, sheet in enumerate(sheets_of(boards)):
            if number:
                print()
            print_sheet(sheet)
    if written:
        say(f"wrote {', '.join(path.name for path in written)} in {out}")


def _say_broken(error: ChannelBenchError) -> None:
    say(f"left out: {error}")


def _board(entries: list[Entry], space: str, external: Path | None, replicates: int, data_dir: Path | None) -> Board:
    """One space judged; only the numbers of papers where its table is missing."""
    from channel_bench.table import load
    from harness.judge.verdict import num_steps
    from harness.leaderboard.board import make_board

    try:
        table = load(space, None, data_dir)
    except MissingDataError as error:
        say(f"{space}: {error}")
        table = None
    with progress(f"resampling {space}", num_steps(replicates)) as advance:
        return make_board(
            entries,
            space,
            table,
            external_dir=external,
            num_replicates=replicates,
            on_step=lambda: advance(1, ""),
            on_broken=_say_broken,
        )


def enter(
    method: Annotated[str, typer.Argument(help="Name on the leaderboard.")],
    space: SpaceOption,
    entries: Annotated[Path, typer.Option("--entries", help="Folder to write the entry into.")],
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE...", help=f"Score files, one for each seed: {FILES_HELP}.")
    ] = None,
    paper: Annotated[str | None, typer.Option(help="Authors, venue and year of the paper.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of the paper.")] = None,
    code: Annotated[str | None, typer.Option(help="Address of the code, or the command that makes the scores.")] = None,
    notes: Annotated[str | None, typer.Option(help="What a reader should know about the scores.")] = None,
    arch_column: ArchColumnOption = None,
    score_column: ScoreColumnOption = None,
) -> None:
    """Add a method to the leaderboard.

    Writes its entry, a JSON file, and one file with the scores of all seeds. METHOD+FORM without files enters a fit to
    the scores of METHOD, which the folder must have.
    """
    from harness.cli.files import read_files
    from harness.leaderboard.entries import make_derived_entry, make_entry, write_entry

    if files:
        rankings = read_files(files, get_space(space), arch_column, score_column, named=False)
        made = make_entry(rankings, method=method, paper=paper, url=url, code=code, notes=notes)
    else:
        made = make_derived_entry(method, get_space(space), entries, notes)
    written = write_entry(made, entries)
    say(f"wrote {', '.join(map(str, written))}; see 'channel-harness leaderboard --entries {entries}'")


def check_entry(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Entries (.json) whose rows to recompute.")
    ] = None,
    entries: Annotated[
        Path | None, typer.Option("--entries", help="Folder of all entries [default: that of the first FILE].")
    ] = None,
    external: Annotated[
        Path | None,
        typer.Option("--external", help="Folder of score files that are not public."),
    ] = None,
    replicates: ReplicatesOption = NUM_REPLICATES,
    data_dir: DataDirOption = None,
) -> None:
    """Check entries as a pull request is checked.

    Reads every entry of the folder, holds every score file against its SHA-256, and prints the recomputed rows of
    FILE in Markdown, with their ranks among all entries. The first thing that is wrong is one line and exit code 2.
    A space whose table is not here is named and left out.
    """
    from harness.leaderboard.submission import check_folder, chosen_entries, submission_markdown

    if entries is None and not files:
        raise ArgumentError("nothing to check: give the file of an entry, or --entries FOLDER")
    found = check_folder(entries or (files or [])[0].parent)
    chosen = chosen_entries(found, files or [])
    spaces = dict.fromkeys(space for entry in chosen for space in entry.results)
    boards = [_board(found, space, external, replicates, data_dir) for space in spaces]
    print(submission_markdown(chosen, len(found), boards), end="")
