"""Commands that judge scores and never train: score, baselines, noise, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from channel_bench.cli.options import DataDirOption, JsonOption, MetricOption, TableOption
from channel_bench.errors import ArgumentError
from channel_bench.space import get_space
from channel_bench.support.terminal import parse_quantity, print_json, progress, say
from harness.cli.options import (
    FILES_HELP,
    ArchColumnOption,
    DrawsOption,
    EqualFlopsOption,
    ReplicatesOption,
    RunOption,
    ScoreColumnOption,
    SpaceOption,
    check_before,
    parse_options,
)

NUM_REPLICATES = 1000
"""As `harness.judge.verdict.NUM_REPLICATES`; importing that module here would slow every command down."""


def score(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=f"Score files: {FILES_HELP}.")],
    space: SpaceOption,
    average: Annotated[
        str | None,
        typer.Option(help="Average several by: mean, rank (mean of ranks) or standard (mean of standardised scores)."),
    ] = None,
    smooth: Annotated[
        str | None,
        typer.Option(
            help="Rank by a fit to the scores: consensus (theories of accuracy that agree with them), or an additive"
            " one: onehot, linear, log, concave, log-rising or root-log-rising."
        ),
    ] = None,
    smooth_option: Annotated[
        list[str] | None,
        typer.Option("--smooth-option", help="NAME=VALUE of --smooth consensus: beta or leave_out; repeatable."),
    ] = None,
    smooth_samples: Annotated[
        int | None, typer.Option(help="Number of scores to fit to, drawn at random [default: all].")
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
    """Compare scores with the trained accuracies.

    Prints the correlations of one score file, or of the average of several, beside those of scores that need no
    training, such as FLOPs. Higher scores are better.
    """
    if smooth_samples is not None and smooth is None:
        raise ArgumentError("--smooth-samples without --smooth has nothing to fit: add --smooth FORM")
    if smooth_option and smooth is None:
        raise ArgumentError("--smooth-option without --smooth has nothing to fit: add --smooth FORM")
    from channel_bench.table import load
    from harness.cli.files import read_files
    from harness.judge.comparison import compare
    from harness.report.sheets import print_comparison
    from harness.smoothing import average_scores, smooth_scores

    found = get_space(space)
    parts = read_files(files, found, arch_column, score_column, named=False)
    if len(parts) > 1 and average is None:
        raise ArgumentError(f"{len(parts)} sets of scores: add --average mean (or rank) to score their average")
    scores = parts[0] if average is None else average_scores(parts, average)
    if smooth is not None:
        scores = smooth_scores(
            scores, smooth, smooth_samples, options=parse_options(smooth_option or [], "--smooth-option")
        )
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
        bool,
        typer.Option("--additive", help="Also rank by an additive fit to 8 to 512 trained architectures."),
    ] = False,
    form: Annotated[
        str, typer.Option(help="Form of that fit: log, linear, onehot or concave. The last two need 22 architectures.")
    ] = "log",
    draws: Annotated[int, typer.Option(help="How often the trained architectures are drawn at random.")] = 50,
    at_equal_flops: EqualFlopsOption = False,
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    run: RunOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show what scores without training reach.

    These are FLOPs, parameters and simple functions of the widths. A method should rank better than all of them.
    """
    from channel_bench.table import load
    from harness.judge.comparison import compare
    from harness.report.sheets import print_comparison

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
            help=f"Score files, each as FILE or NAME=FILE: {FILES_HELP}. Files of one method are its seeds.",
        ),
    ],
    space: SpaceOption,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the page, figures, Markdown, LaTeX and JSON.")
    ] = None,
    replicates: ReplicatesOption = NUM_REPLICATES,
    draws: DrawsOption = 50,
    form: Annotated[str, typer.Option(help="Form of the fit to each draw: log, linear, onehot or concave.")] = "log",
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            help="Largest allowed FLOPs: 5e8, 500M or 0.5x; repeatable [default: .25x .5x .75x].",
        ),
    ] = None,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw figures and the page; needs 'channel-bench[report]'.")
    ] = True,
    experiments: Annotated[
        Path | None,
        typer.Option(help="Folder of finished experiments, whose claims go on the page; see 'experiment'."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    table: TableOption = None,
    arch_column: ArchColumnOption = None,
    score_column: ScoreColumnOption = None,
    metric: MetricOption = "best_test_acc",
    run: RunOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Judge methods, with intervals and tests.

    Prints correlations with the trained accuracies, tests between methods, and what each method chooses within
    budgets. With --out, writes a page, figures, Markdown, LaTeX and JSON.
    """
    from channel_bench.table import load
    from harness.cli.files import read_files
    from harness.experiments.files import read_sheets
    from harness.judge.verdict import make_report, num_steps
    from harness.report.files import write_report
    from harness.report.verdict_sheets import print_report

    found = get_space(space)
    budgets = [parse_quantity(text, float(found.flops().max()), "--budget") or 0.0 for text in budget or []]
    if out is not None:
        check_before(out, figures)
    more = [] if experiments is None else read_sheets(experiments, found)
    truth = load(found, table, data_dir)
    rankings = read_files(files, found, arch_column, score_column)
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
    written = [] if out is None else write_report(made, out, figures=figures, more=more)
    if json_output:
        print_json(made.to_dict())
    else:
        print_report(made)
    if written:
        say(f"wrote {', '.join(path.name for path in written)} in {out}")


def _num_draws(draws: int) -> int | None:
    if draws < 0 or draws == 1:
        raise ArgumentError(f"number of draws is {draws}: allowed are 2 and more, or 0 to leave them out")
    return draws or None


def noise(
    space: SpaceOption,
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show the noise of a table and its ceilings.

    Runs of one architecture differ by their seeds. From their differences follow the reliability of the accuracies
    and the noise ceiling: the highest correlation that any score can be expected to reach.
    """
    from channel_bench.table import load
    from harness.judge.noise import report_noise
    from harness.report.noise_sheets import print_noise

    print_noise(report_noise(load(space, table, data_dir), metric), json_output)
