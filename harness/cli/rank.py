"""Commands that fit methods and check them: demo, methods, rank, check."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from channel_bench.cli.options import (
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
from channel_bench.errors import ArgumentError
from channel_bench.space import get_space, list_spaces
from channel_bench.support.durable import check_writable
from channel_bench.support.processes import num_cores
from channel_bench.support.terminal import (
    print_json,
    print_table,
    progress,
    resumable,
    say,
)
from harness.cli.options import RunOption, SpaceOption, parse_options

if TYPE_CHECKING:
    from harness.check.checker import Finding
    from harness.method import Method
    from harness.scores import Scores
    from harness.task import Task


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
    from harness.report.sheets import print_comparison

    comparison = run_demo(out, archs, seed=seed, epochs=epochs)
    print_comparison(comparison, json_output)
    say(f"wrote {out}/runs, {out}/table.parquet, {out}/table.h5 and {out}/scores.parquet")


def methods(json_output: JsonOption = False) -> None:
    """List all methods, built in and installed."""
    from harness.methods import list_methods

    found = [(info, _defaults(info.factory)) for info in list_methods()]
    if json_output:
        print_json(
            [{"name": i.name, "paper": i.paper, "summary": i.summary, "options": options} for i, options in found]
        )
        return
    print_table(
        ["method", "summary", "paper", "options"],
        [
            [info.name, info.summary, info.paper, " ".join(f"{name}={value}" for name, value in options.items())]
            for info, options in found
        ],
    )


def rank(
    method: Annotated[
        str,
        typer.Argument(
            metavar="METHOD",
            help="Name of a method ('channel-harness methods' lists them), several with commas, or all.",
        ),
    ],
    space: SpaceOption,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Score file to write (.parquet); a folder for several [scores-SPACE]."),
    ] = None,
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
    bn: Annotated[
        str, typer.Option(help="Normalise by the validation batch (batch) or by training images (recalibrated).")
    ] = "batch",
    score_by: Annotated[str, typer.Option(help="Score sub-networks by accuracy or by (negative) loss.")] = "accuracy",
    epochs: EpochsOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the supernet.")] = 0,
    seeds: Annotated[int, typer.Option(help="Train that many supernets, with seeds from --seed on.")] = 1,
    jobs: Annotated[
        int | None, typer.Option(help="Rankings at a time [default: one per CPU core, one on a GPU].")
    ] = None,
    metric: MetricOption = "best_test_acc",
    run: RunOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Train a method's supernet, score all 16,384 widths, compare with the truth.

    Killed, the same command goes on where it was if --out is given, and with several methods or seeds always.
    """
    found = get_space(space)
    for name, number in (("threads", threads), ("seeds", seeds), ("jobs", jobs)):
        if number is not None and number < 1:
            raise ArgumentError(f"number of {name} is {number}: allowed are 1 and above")
    options = parse_options(option or [])
    from channel_bench.table import load
    from harness.judge.comparison import compare
    from harness.methods import get_method, list_methods
    from harness.report.sheets import print_comparison

    # What can be wrong is found before the long work starts.
    truth = None if no_truth else load(found, table, data_dir)
    if truth is not None:
        truth.accuracies(run, metric)
    names = list(dict.fromkeys(method.split(",")))
    if method == "all":
        names = [info.name for info in list_methods() if info.factory]
    several = len(names) > 1 or seeds > 1
    if several and options:
        raise ArgumentError("--option goes with one method and one seed: rank the others without it")
    if several:
        out = out or Path(f"scores-{found.name}")
    elif out is not None and out.suffix != ".parquet":
        raise ArgumentError(f"score file {str(out)!r} must end in .parquet")
    elif no_truth and out is None:
        raise ArgumentError("--no-truth without --out would throw the scores away: add --out FILE.parquet")
    if out is not None:
        check_writable(out / "check" if several else out)
    chosen = {name: get_method(name, **options) for name in names}
    import torch

    from channel_bench.training.datasets import load_dataset
    from channel_bench.training.devices import pick_device
    from harness.task import make_task, supernet_recipe

    torch.set_num_threads(threads)
    data = load_dataset(dataset or found.dataset, data_dir=data_dir, download=download_data, device=pick_device(device))
    recipe = supernet_recipe(found, epochs)
    task = make_task(found, data, seed=seed, recipe=recipe, validate_on=validate_on, bn=bn, score_by=score_by)
    if not several:
        scores = _rank_one(names[0], chosen[names[0]], task, out, options)
        if truth is not None:
            print_comparison(compare(scores, truth, metric, run), json_output)
        return
    passed_on = {
        "--dataset": dataset, "--validate-on": validate_on, "--bn": bn, "--score-by": score_by, "--epochs": epochs,
        "--device": device, "--threads": threads, "--data-dir": data_dir,
    }  # fmt: skip
    assert out is not None
    rankings = _rank_several(names, task, seeds, out, jobs, passed_on)
    if truth is not None:
        print_comparison(compare(rankings, truth, metric, run), json_output)


def _rank_one(name: str, method: Method, task: Task, out: Path | None, options: dict[str, Any]) -> Scores:
    """One ranking in this process; resumable where it goes to a file."""
    from harness.ranking.run import rank, rank_to_file

    if out is None:
        return rank(name, method, task, options, show=True)
    with resumable(f"what is done, in {out}.partial,"):
        scores = rank_to_file(name, method, task, out, options)
    say(f"wrote {out}")
    return scores


def _rank_several(
    names: list[str], task: Task, num_seeds: int, folder: Path, jobs: int | None, passed_on: dict[str, Any]
) -> list[Scores]:
    """Every method and seed, each in a process of its own with these options; what is there is kept."""
    from harness.ranking.batch import rank_many
    from harness.ranking.run import settings

    total = len(names) * num_seeds
    num_jobs = min(jobs or (num_cores() if task.device.type == "cpu" else 1), total)
    with resumable(f"every finished ranking in {folder}"), progress("ranking", total) as advance:

        def done(name: str, seed: int, what: str) -> None:
            advance(1, f"{name} seed {seed}: {what}")
            if what not in ("found", "done"):
                say(f"{name} seed {seed} failed: {what}")

        rankings = rank_many(
            task.space,
            names,
            range(task.seed, task.seed + num_seeds),
            folder,
            [str(word) for option in passed_on.items() if option[1] is not None for word in option],
            num_jobs,
            lambda name, seed: settings(dataclasses.replace(task, seed=seed)),
            done,
        )
    say(f"{len(rankings)} score files are in {folder}")
    return rankings


def check(
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help="module:Class, path/to/file.py:Class, or the name of a method.")
    ],
    space: Annotated[
        str, typer.Option("--space", help=f"One of {', '.join(list_spaces())}; mini spaces take seconds.")
    ] = "resnet-mini",
    option: Annotated[
        list[str] | None, typer.Option("--option", help="Option of the method, NAME=VALUE; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the task.")] = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    json_output: JsonOption = False,
) -> None:
    """Hold a method to its contract, on a task of seconds; exit code 1 where it breaks it."""
    options = parse_options(option or [])
    found = get_space(space)
    if threads < 1:
        raise ArgumentError(f"number of threads is {threads}: allowed are 1 and above")
    import torch

    from harness.check.checker import NUM_STEPS, check_method

    torch.set_num_threads(threads)
    # What a method prints goes where the progress goes: standard output is for the findings.
    with contextlib.redirect_stdout(sys.stderr), progress(f"checking {method}", NUM_STEPS) as advance:
        findings = check_method(
            method, found, options=options, device=device, seed=seed, on_step=lambda text: advance(1, text)
        )
    num_failed = sum(finding.failed for finding in findings)
    if json_output:
        facts = [{**dataclasses.asdict(finding), "requirement": finding.requirement} for finding in findings]
        print_json({"method": method, "space": found.name, "passed": num_failed == 0, "findings": facts})
    else:
        _print_findings(method, findings)
    if num_failed:
        raise typer.Exit(1)


def _print_findings(method: str, findings: list[Finding]) -> None:
    """A line per finding, and one below it with how to mend what failed; not a table, because both may be long."""
    from harness.check.checker import NOT_REACHED

    for finding in findings:
        if finding.found != NOT_REACHED:
            outcome = finding.outcome.upper() if finding.failed else finding.outcome
            print(f"{finding.check:<11} {outcome:<8} {finding.found}")
        if finding.remedy:
            print(f"{'':<20} {'mend' if finding.failed else 'hint'}: {finding.remedy}")
    missed = [finding.check for finding in findings if finding.found == NOT_REACHED]
    if missed:
        print(f"{NOT_REACHED}: {', '.join(missed)}")
    failed = [finding.check for finding in findings if finding.failed]
    print(f"{method} {'breaks its contract: ' + ', '.join(failed) if failed else 'fulfils its contract'}")


def _defaults(factory: Callable[..., Any] | None) -> dict[str, Any]:
    """Options of a method's constructor with their defaults; what JSON does not have, as text."""
    if factory is None:
        return {}
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # made by C code that does not tell
        return {}
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    return {each.name: each.default if isinstance(each.default, _JSON_TYPES) else str(each.default) for each in named}


_JSON_TYPES = (bool, int, float, str, type(None))
