"""The command that runs the papers' own experiments: experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from channel_bench.cli.options import (
    DataDirOption,
    DatasetOption,
    DeviceOption,
    EpochsOption,
    JsonOption,
    TableOption,
    ThreadsOption,
)
from channel_bench.errors import ArgumentError
from channel_bench.support.processes import num_cores
from channel_bench.support.terminal import print_json, print_table, progress, resumable, say
from harness.cli.options import SpaceOption, check_before

EVERY = "all"


def experiment(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Name of an experiment ('list' lists them), several with commas; or all."),
    ],
    space: SpaceOption = "resnet-mini",
    seeds: Annotated[int, typer.Option(help="Supernets, searches or trainings of each kind, each with its seed.")] = 3,
    seed: Annotated[int, typer.Option(help="First seed.")] = 0,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the results; with the same folder it continues.")
    ] = Path("experiments"),
    table: TableOption = None,
    latency: Annotated[
        Path | None,
        typer.Option(help="Latencies of the space, as 'channel-bench latency' measures them, for what can use them."),
    ] = None,
    dataset: DatasetOption = None,
    epochs: EpochsOption = None,
    jobs: Annotated[int | None, typer.Option(help="Worker processes at a time [default: one per CPU core].")] = None,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw the figures; needs 'channel-bench[report]'.")
    ] = True,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Run an experiment of the papers.

    Each is a table, a figure, and the claims of its paper with what is seen here. Stopped, it continues where it was:
    every piece of work is kept as soon as it is done.
    """
    from harness.experiments.contract import EXPERIMENTS, Setting
    from harness.experiments.files import print_result, write_files
    from harness.experiments.run import result_path, run_experiment
    from harness.ranking.request import TaskOptions

    if name == "list":
        _list(json_output)
        return
    names = list(EXPERIMENTS.built_in) if name == EVERY else list(dict.fromkeys(name.split(",")))
    if jobs is not None and jobs < 1:
        raise ArgumentError(f"number of jobs is {jobs}: allowed are 1 and above")
    task = TaskOptions(
        space=space, dataset=dataset, data_dir=data_dir, epochs=epochs, seed=seed, device=device, threads=threads
    )
    measured = None if latency is None else str(latency.resolve())
    setting = Setting(task=task, num_seeds=seeds, table=table, latency=measured)
    found = [EXPERIMENTS.make(each) for each in names]
    setting.truth()
    setting.latencies()
    check_before(out, figures)
    results = []
    for each, made in zip(names, found, strict=True):
        total = len(made.cells(setting))
        with resumable(f"every finished cell in {out}"), progress(each, total) as advance:

            def on_done(key: str, what: str, advance=advance) -> None:  # type: ignore[no-untyped-def]
                advance(1, f"{key}: {what}")
                if what not in ("found", "done"):
                    say(f"{key} failed: {what}")

            result = run_experiment(each, setting, out, jobs or num_cores(), on_done)
        write_files(result, out, figures=figures)
        results.append(result)
        if not json_output:
            print_result(result)
        drawn = " and its figures" if figures and result.outcome.figures else ""
        say(f"wrote {result_path(out, result.name, setting)}, its page{drawn}")
    if json_output:
        shown = [result.to_dict() for result in results]
        print_json(shown if len(shown) > 1 else shown[0])


def _list(json_output: bool) -> None:
    from harness.experiments.contract import EXPERIMENTS

    outlines = EXPERIMENTS.outlines()
    if json_output:
        print_json([{"name": each.name, "paper": each.paper, "summary": each.summary} for each in outlines])
        return
    print_table(["experiment", "what it asks", "after"], [[each.name, each.summary, each.paper] for each in outlines])
