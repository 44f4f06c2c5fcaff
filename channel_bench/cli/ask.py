"""Commands that get a table and ask it: download, query, top, pareto, explore."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from channel_bench.cli.options import (
    CsvOption,
    DataDirOption,
    JsonOption,
    MetricOption,
    SpaceArgument,
    TableOption,
    latency_budget,
    latency_conditions,
    load_table,
    read_archs,
    read_slots,
)
from channel_bench.errors import ArgumentError
from channel_bench.support.terminal import parse_quantity, print_json, print_table, show

if TYPE_CHECKING:
    from channel_bench.latency import LatencyModel
    from channel_bench.table import Result, Table


def download(
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder that holds copies of the two published JSON files.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Base URL of a mirror to download from.")] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Download the published tables.

    Both JSON files of Channel-Bench-Macro are fetched, their SHA-256 is checked, and each becomes a table file.
    """
    from channel_bench.table.published import BASE_URL, install

    if source is not None and url is not None:
        raise ArgumentError("--from and --url exclude each other: give a folder of copies, or the URL of a mirror")
    paths = install(source=source, base_url=url or BASE_URL, data_dir=data_dir)
    for path in paths:
        show(f"wrote {path}")


def query(
    space: SpaceArgument,
    archs: Annotated[
        list[str],
        typer.Argument(
            metavar="ARCH...",
            help="7 digits 1..4, or 7 channels or width ratios separated by commas or dashes; a file with an"
            " architecture on each line; or - for standard input.",
        ),
    ],
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
    csv_output: CsvOption = False,
) -> None:
    """Look up the accuracy and costs of architectures.

    For each architecture: mean and standard deviation over runs, rank, accuracy of every run, FLOPs, parameters and
    channels.
    """
    loaded = load_table(space, table, data_dir)
    results = [loaded.query(arch, metric) for arch in read_archs(archs, loaded.space)]
    _print_results(loaded, results, metric, json_output, csv_output)


def top(
    space: SpaceArgument,
    k: Annotated[int, typer.Option("-k", help="Number of architectures.")] = 10,
    max_flops: Annotated[
        str | None, typer.Option(help="Budget in multiply-accumulates: 5e8, 500M, or 0.5x of the widest.")
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(help="Budget in parameters: 5e6, 5M, or 0.5x of the widest.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Budget in bytes of an inference of one image: 2M, or 0.5x of the widest.")
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option(help="Budget in ms: 2.5, or 0.5x of the widest; needs --latency.")
    ] = None,
    latency: Annotated[Path | None, typer.Option(help="Latency file, written by 'channel-bench latency'.")] = None,
    slot: Annotated[
        list[str] | None,
        typer.Option("--slot", help="SLOT=DIGIT: only architectures with this digit in this slot 0..6; repeatable."),
    ] = None,
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
    csv_output: CsvOption = False,
) -> None:
    """List the most accurate architectures.

    With budgets or slots, only architectures that keep to all of them count.
    """
    loaded = load_table(space, table, data_dir)
    model, budget_ms = latency_budget(loaded, latency, max_latency)
    results = loaded.top(
        k,
        max_flops=parse_quantity(max_flops, loaded.space.flops("4444444"), "--max-flops"),
        max_params=parse_quantity(max_params, loaded.space.params("4444444"), "--max-params"),
        max_memory=parse_quantity(max_memory, loaded.space.memory("4444444"), "--max-memory"),
        max_latency=budget_ms,
        latency=model,
        slots=read_slots(slot or []),
        metric=metric,
    )
    _print_results(loaded, results, metric, json_output, csv_output, model)


def pareto(
    space: SpaceArgument,
    cost: Annotated[str, typer.Option(help="Cost: flops or params.")] = "flops",
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
    csv_output: CsvOption = False,
) -> None:
    """List the Pareto front of cost and accuracy.

    These are the architectures that no other architecture beats in both cost and accuracy.
    """
    loaded = load_table(space, table, data_dir)
    _print_results(loaded, loaded.pareto(cost, metric), metric, json_output, csv_output)


def explore(
    space: SpaceArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Page to write (.html).")],
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
) -> None:
    """Write a table as one interactive HTML page.

    The page has sliders for an architecture, the Pareto front and every run, and it works offline.
    """
    from channel_bench.support.page import check_page_path
    from channel_bench.table.explore import write_explorer

    check_page_path(out)
    num_bytes = write_explorer(load_table(space, table, data_dir), out, metric)
    show(f"wrote {out}: {num_bytes / 2**20:.1f} MiB, open it in a browser")


def _print_results(
    table: Table,
    results: list[Result],
    metric: str,
    json_output: bool,
    csv_output: bool,
    latency: LatencyModel | None = None,
) -> None:
    if json_output and csv_output:
        raise ArgumentError("--json and --csv exclude each other: give one of them")
    predicted = None if latency is None else latency.predict([result.arch for result in results]).tolist()
    if json_output:
        _print_json(table, results, metric, latency, predicted)
    elif csv_output:
        _print_csv(table, results, predicted)
    else:
        _print_table(table, results, metric, latency, predicted)


def _print_json(
    table: Table, results: list[Result], metric: str, latency: LatencyModel | None, predicted: list[float] | None
) -> None:
    rows = [result.shown() for result in results]
    for row, milliseconds in zip(rows, predicted or [], strict=predicted is not None):
        row["latency_ms"] = milliseconds
    print_json(
        {
            "space": table.space.name,
            "table": table.name,
            "dataset": table.info.dataset,
            "metric": metric,
            "accuracy": table.meaning(metric),
            "results": rows,
            **({} if latency is None else {"latency": dataclasses.asdict(latency.conditions)}),
        }
    )


def _print_csv(table: Table, results: list[Result], predicted: list[float] | None) -> None:
    """One row per architecture, the columns of `Table.frame` and the index; what is missing is empty."""
    runs = [f"run{run}" for run in range(table.num_runs)]
    slots = [f"slot{slot}" for slot in range(len(table.space.max_channels))]
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    names = ["arch", "index", *slots, "flops", "params", *runs, "mean", "std", "rank"]
    writer.writerow([*names, *([] if predicted is None else ["latency_ms"])])
    for number, result in enumerate(results):
        row = result.shown()
        facts = [result.arch, result.index, *result.channels, result.flops, result.params, *row["accuracies"]]
        ends = [] if predicted is None else [predicted[number]]
        writer.writerow([*facts, row["mean"], row["std"], result.rank, *ends])
    print(lines.getvalue(), end="")


def _print_table(
    table: Table, results: list[Result], metric: str, latency: LatencyModel | None, predicted: list[float] | None
) -> None:
    runs = [f"run {run}" for run in range(table.num_runs)]
    rows = [
        [
            result.arch,
            f"{result.mean:.3f}",
            None if result.std is None else f"{result.std:.3f}",
            result.rank,
            *(None if accuracy is None else f"{accuracy:.2f}" for accuracy in result.accuracies),
            result.flops,
            result.params,
            *([] if predicted is None else [f"{predicted[number]:.4g}"]),
            "-".join(map(str, result.channels)),
        ]
        for number, result in enumerate(results)
    ]
    given = "" if latency is None else f"; ms: predicted, {latency_conditions(latency)}"
    print_table(
        ["arch", "mean", "std", "rank", *runs, "flops", "params", *([] if latency is None else ["ms"]), "channels"],
        rows,
        title=f"space {table.space.name}, table {table.name}, data set {table.info.dataset}",
        caption=(
            f"accuracy: {table.meaning(metric)}; std with ddof=1; rank among {len(table):,}"
            f"; flops are multiply-accumulates{given}"
        ),
    )
