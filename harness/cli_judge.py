"""The commands of ``channel-harness`` that judge: score, baselines, noise, report, leaderboard, enter.

They need scores and a table, and never train. `harness.cli` puts them beside those that do.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from channel_bench.cli import DataDirOption, JsonOption, MetricOption, TableOption
from channel_bench.durable import check_writable
from channel_bench.errors import ArgumentError, MissingDataError
from channel_bench.space import Space, get_space, list_spaces
from channel_bench.terminal import parse_quantity, print_json, progress, say

if TYPE_CHECKING:
    from harness.entries import Entry
    from harness.leaderboard import Board
    from harness.scores import Scores

NUM_REPLICATES = 1000
"""As `harness.report.NUM_REPLICATES`, which imports what the command line needs not."""

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


def score(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Scores: .csv, .parquet or .json.")],
    space: SpaceOption,
    average: Annotated[
        str | None, typer.Option(help="Average of several files, one per supernet seed: mean, or rank (mean rank).")
    ] = None,
    smooth: Annotated[
        str | None, typer.Option(help="Rank by an additive fit to the scores: onehot, linear, log or concave.")
    ] = None,
    smooth_samples: Annotated[
        int | None, typer.Option(help="Fit to so many of the scores, drawn at random [default: all].")
    ] = None,
    at_equal_flops: EqualFlopsOption = False,
    draws: DrawsOption = 50,
    table: TableOption = None,
    arch_column: ArchColumnOption = None,
    score_column: ScoreColumnOption = None,
    metric: MetricOption = "best_test_acc",
    run: RunOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Compare a file of scores, or an average of several, with the truth; higher scores are better."""
    if len(files) > 1 and average is None:
        raise ArgumentError(f"{len(files)} files of scores: add --average mean (or rank) to score their average")
    if smooth_samples is not None and smooth is None:
        raise ArgumentError("--smooth-samples without --smooth has nothing to fit: add --smooth FORM")
    from channel_bench.table import load
    from harness.comparison import compare
    from harness.scores import read_scores
    from harness.sheets import print_comparison
    from harness.smoothing import average_scores, smooth_scores

    found = get_space(space)
    parts = [read_scores(file, found, arch_column=arch_column, score_column=score_column) for file in files]
    scores = parts[0] if average is None else average_scores(parts, average)
    if smooth is not None:
        scores = smooth_scores(scores, smooth, smooth_samples)
    comparison = compare(
        scores,
        load(found, table, data_dir),
        metric,
        run,
        at_equal_flops=at_equal_flops,
        num_draws=_num_draws(draws),
    )
    print_comparison(comparison, json_output)


def baselines(
    space: SpaceOption,
    additive: Annotated[
        bool, typer.Option("--additive", help="Also what an additive fit to 8 ... 512 trained architectures reaches.")
    ] = False,
    form: Annotated[
        str, typer.Option(help="Form of that fit: log, linear, onehot or concave (the last two from 22 on).")
    ] = "log",
    draws: Annotated[int, typer.Option(help="Random draws of the trained architectures.")] = 50,
    at_equal_flops: EqualFlopsOption = False,
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    run: RunOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show what scores that need no training reach: FLOPs, parameters, widths; and a few trained architectures."""
    from channel_bench.table import load
    from harness.comparison import compare
    from harness.sheets import print_comparison

    comparison = compare(
        None,
        load(space, table, data_dir),
        metric,
        run,
        at_equal_flops=at_equal_flops,
        num_draws=_num_draws(draws) if additive else None,
        form=form,
    )
    print_comparison(comparison, json_output)


def report(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Scores (.csv, .parquet, .json), or NAME=FILE. Several files of one method are seeds of it.",
        ),
    ],
    space: SpaceOption,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the page, figures, Markdown, LaTeX and JSON.")
    ] = None,
    replicates: ReplicatesOption = NUM_REPLICATES,
    draws: DrawsOption = 50,
    form: Annotated[str, typer.Option(help="Form of the additive fit behind that.")] = "log",
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", help="FLOPs to choose within: 5e8, 500M, 0.5x; repeatable [default: .25x .5x .75x]."),
    ] = None,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw; needs 'channel-bench[report]'.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
    table: TableOption = None,
    arch_column: ArchColumnOption = None,
    score_column: ScoreColumnOption = None,
    metric: MetricOption = "best_test_acc",
    run: RunOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Judge one or many methods: intervals, tests, choices within budgets, diagnostics; as page, figures and tables."""
    from channel_bench.table import load
    from harness.report import make_report, num_steps
    from harness.report_files import write_report
    from harness.report_sheets import print_report

    found = get_space(space)
    budgets = [parse_quantity(text, float(found.flops().max()), "--budget") or 0.0 for text in budget or []]
    if out is not None:
        _check_before(out, figures)
    truth = load(found, table, data_dir)
    rankings = [_read_named(text, found, arch_column, score_column) for text in files]
    with progress("resampling", num_steps(replicates)) as advance:
        made = make_report(
            rankings,
            truth,
            metric,
            run,
            num_replicates=replicates,
            num_draws=_num_draws(draws),
            form=form,
            budgets=budgets or None,
            seed=seed,
            on_step=lambda: advance(1, ""),
        )
    written = [] if out is None else write_report(made, out, figures=figures)
    if json_output:
        print_json(made.to_dict())
    else:
        print_report(made)
    if written:
        say(f"wrote {', '.join(path.name for path in written)} in {out}")


def _check_before(out: Path, figures: bool) -> None:
    """Find out before the long work whether its results can be written and drawn."""
    check_writable(out / "report.json")
    if figures:
        from harness.plots import check_packages

        check_packages()


def _read_named(text: str, space: Space, arch_column: str | None, score_column: str | None) -> Scores:
    """Scores of a file given as FILE or NAME=FILE; a file that is there is never taken for a name."""
    from harness.scores import read_scores

    name, sign, file = text.partition("=")
    if not sign or Path(text).exists():
        name, file = "", text
    elif not name or not file:
        raise ArgumentError(f"{text!r} is not NAME=FILE: both are needed")
    scores = read_scores(Path(file), space, arch_column=arch_column, score_column=score_column)
    return dataclasses.replace(scores, method=name) if name else scores


def _num_draws(draws: int) -> int | None:
    if draws < 0 or draws == 1:
        raise ArgumentError(f"number of draws is {draws}: allowed are 2 and more, or 0 for none")
    return draws or None


def noise(
    space: SpaceOption,
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show how noisy the accuracies are, and how high any score can reach: reliability, run to run, ceilings."""
    from channel_bench.table import load
    from harness.noise import print_noise, report_noise

    print_noise(report_noise(load(space, table, data_dir), metric), json_output)


def leaderboard(
    spaces: Annotated[
        list[str] | None, typer.Option("--space", help="Spaces to show [default: all]; repeatable.")
    ] = None,
    entries: Annotated[
        Path | None, typer.Option("--entries", help="Folder of entries [default: those that come with the package].")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for README.md, leaderboard.html and kendall.png.")
    ] = None,
    external: Annotated[
        Path | None, typer.Option("--external", help="Folder of score files that are not passed on with the entries.")
    ] = None,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw kendall.png; needs 'channel-bench[report]'.")
    ] = True,
    readme: Annotated[
        Path | None, typer.Option("--readme", help="Markdown file whose overview, between two markers, is replaced.")
    ] = None,
    replicates: ReplicatesOption = NUM_REPLICATES,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Check every entry, recompute every number from its scores, and show them beside what papers report."""
    from harness.entries import entries_dir, read_entries
    from harness.leaderboard import check_readme, sheets_of, to_json, write_boards
    from harness.sheets import print_sheet

    found = read_entries(entries or entries_dir())
    names = [get_space(name).name for name in spaces or list_spaces()]
    if out is not None:
        _check_before(out, figures)
        if readme is not None:
            check_readme(readme)
    elif readme is not None:
        raise ArgumentError("--readme without --out: its figure is written there, add --out FOLDER")
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


def _board(entries: list[Entry], space: str, external: Path | None, replicates: int, data_dir: Path | None) -> Board:
    """One space judged; without its table, what is reported alone."""
    from channel_bench.table import load
    from harness.leaderboard import make_board
    from harness.report import num_steps

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
        )


def enter(
    method: Annotated[str, typer.Argument(help="Name on the leaderboard.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Score files, one for each seed.")],
    space: SpaceOption,
    entries: Annotated[Path, typer.Option("--entries", help="Folder of entries to put it into.")],
    paper: Annotated[str | None, typer.Option(help="Authors, venue and year.")] = None,
    url: Annotated[str | None, typer.Option(help="Where the paper is.")] = None,
    code: Annotated[str | None, typer.Option(help="Where the code is, or the command that makes the scores.")] = None,
    notes: Annotated[str | None, typer.Option(help="What a reader has to know.")] = None,
    arch_column: ArchColumnOption = None,
    score_column: ScoreColumnOption = None,
) -> None:
    """Put a method on the leaderboard: its entry, and its scores of all seeds in one file."""
    from harness.entries import make_entry, write_entry
    from harness.scores import read_scores

    found = get_space(space)
    rankings = [read_scores(file, found, arch_column=arch_column, score_column=score_column) for file in files]
    made = make_entry(rankings, method=method, paper=paper, url=url, code=code, notes=notes)
    written = write_entry(made, entries)
    say(f"wrote {', '.join(map(str, written))}; see 'channel-harness leaderboard --entries {entries}'")
