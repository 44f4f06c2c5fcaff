"""The command ``channel-harness``: see the demo, list methods, rank with one, score a file, show the baselines.

Every command that prints a table prints JSON with --json. Bad input is one line on standard error and exit code 2.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from channel_bench.cli import (
    DataDirOption,
    DatasetOption,
    DeviceOption,
    DownloadOption,
    EpochsOption,
    JsonOption,
    MetricOption,
    TableOption,
    ThreadsOption,
)
from channel_bench.durable import check_writable
from channel_bench.errors import ArgumentError
from channel_bench.space import get_space, list_spaces
from channel_bench.terminal import main_of, make_app, print_json, print_table, say

app = make_app("channel-harness", "The judge of width-search methods: rank, score, compare with the trained truth.")

SpaceOption = Annotated[str, typer.Option("--space", help=f"One of {', '.join(list_spaces())}.")]
RunOption = Annotated[int | None, typer.Option("--run", help="One run as the truth [default: the mean over runs].")]


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write to; the same folder again continues.")
    ] = Path("channel-bench-demo"),
    archs: Annotated[int, typer.Option(help="Networks to train, each twice.")] = 40,
    epochs: EpochsOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the supernet.")] = 0,
    json_output: JsonOption = False,
) -> None:
    """See the whole line work on embedded data: networks, table, supernet, scores, report; about two minutes."""
    from harness.demo import run_demo
    from harness.report import print_comparison

    comparison = run_demo(out, archs, seed=seed, epochs=epochs)
    print_comparison(comparison, json_output)
    say(f"wrote {out}/runs, {out}/table.parquet, {out}/table.h5 and {out}/scores.parquet")


@app.command()
def methods(json_output: JsonOption = False) -> None:
    """List all methods, built in and installed."""
    from harness.method import list_methods

    found = list_methods()
    if json_output:
        print_json([{"name": info.name, "paper": info.paper, "summary": info.summary} for info in found])
        return
    print_table(["method", "summary", "paper"], [[info.name, info.summary, info.paper] for info in found])


@app.command()
def rank(
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help="Name of a method; 'channel-harness methods' lists them.")
    ],
    space: SpaceOption,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Score file to write (.parquet).")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="Option of the method, NAME=VALUE; repeatable.")
    ] = None,
    table: TableOption = None,
    no_truth: Annotated[bool, typer.Option("--no-truth", help="Only write the scores; needs no table.")] = False,
    dataset: DatasetOption = None,
    download_data: DownloadOption = False,
    validate_on: Annotated[
        str, typer.Option(help="Score on held-out training images (holdout) or on the test images (test).")
    ] = "holdout",
    epochs: EpochsOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the supernet.")] = 0,
    metric: MetricOption = "best_test_acc",
    run: RunOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Train a method's supernet, score all 16,384 widths, compare with the truth."""
    found = get_space(space)
    if out is not None and out.suffix != ".parquet":
        raise ArgumentError(f"score file {str(out)!r} must end in .parquet")
    if no_truth and out is None:
        raise ArgumentError("--no-truth without --out would throw the scores away: add --out FILE.parquet")
    if threads < 1:
        raise ArgumentError(f"number of threads is {threads}: allowed are 1 and above")
    options = _options(option or [])
    from channel_bench.table import load
    from harness.report import compare, print_comparison

    # What can be wrong is found before the long work starts.
    truth = None if no_truth else load(found, table, data_dir)
    if truth is not None:
        truth.accuracies(run, metric)
    if out is not None:
        check_writable(out)
    from harness.method import get_method

    chosen = get_method(method, **options)
    import torch

    from channel_bench.datasets import load_dataset
    from channel_bench.train import pick_device
    from harness.ranking import rank_with_progress
    from harness.scores import write_scores
    from harness.task import make_task, supernet_recipe

    torch.set_num_threads(threads)
    target = pick_device(device)
    data = load_dataset(dataset or found.dataset, data_dir=data_dir, download=download_data, device=target)
    task = make_task(found, data, seed=seed, recipe=supernet_recipe(found, epochs), validate_on=validate_on)
    scores = rank_with_progress(method, chosen, task, options)
    if out is not None:
        write_scores(scores, out)
        say(f"wrote {out}")
    if truth is not None:
        print_comparison(compare(scores, truth, metric, run), json_output)


@app.command()
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
    table: TableOption = None,
    arch_column: Annotated[
        str | None, typer.Option(help="Column of architectures [default: arch, subnet, ...].")
    ] = None,
    score_column: Annotated[str | None, typer.Option(help="Column of scores [default: score].")] = None,
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
    from harness.report import compare, print_comparison
    from harness.scores import read_scores
    from harness.smoothing import average_scores, smooth_scores

    found = get_space(space)
    parts = [read_scores(file, found, arch_column=arch_column, score_column=score_column) for file in files]
    scores = parts[0] if average is None else average_scores(parts, average)
    if smooth is not None:
        scores = smooth_scores(scores, smooth, smooth_samples)
    print_comparison(compare(scores, load(found, table, data_dir), metric, run), json_output)


@app.command()
def baselines(
    space: SpaceOption,
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    run: RunOption = None,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show what scores that need no training reach: FLOPs, parameters, widths."""
    from channel_bench.table import load
    from harness.report import compare, print_comparison

    print_comparison(compare(None, load(space, table, data_dir), metric, run), json_output)


_WORDS: dict[str, Any] = {"true": True, "yes": True, "false": False, "no": False, "none": None}


def _options(texts: list[str]) -> dict[str, Any]:
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


def main() -> None:
    """Entry point of the console script."""
    main_of(app, "channel-harness")


if __name__ == "__main__":
    main()
