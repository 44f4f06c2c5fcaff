"""Commands that get a table and ask it: download, query, top, pareto, explore."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from channel_bench.cli.options import (
    DataDirOption,
    JsonOption,
    MetricOption,
    SpaceArgument,
    TableOption,
    latency_budget,
    latency_conditions,
    load_table,
)
from channel_bench.errors import ArgumentError
from channel_bench.support.terminal import parse_quantity, print_json, print_table

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
        print(f"wrote {path}")


def query(
    space: SpaceArgument,
    archs: Annotated[
        list[str],
        typer.Argument(metavar="ARCH...", help="7 digits 1..4, or 7 channels or width ratios separated by commas."),
    ],
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Look up the accuracy and costs of architectures.

    For each architecture: mean and standard deviation over runs, rank, accuracy of every run, FLOPs, parameters and
    channels.
    """
    loaded = load_table(space, table, data_dir)
    _print_results(loaded, [loaded.query(arch, metric) for arch in archs], metric, json_output)


def top(
    space: SpaceArgument,
    k: Annotated[int, typer.Option("-k", help="Number of architectures.")] = 10,
    max_flops: Annotated[
        str | None, typer.Option(help="Budget in multiply-accumulates: 5e8, 500M, or 0.5x of the widest.")
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(help="Budget in parameters: 5e6, 5M, or 0.5x of the widest.")
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option(help="Budget in ms: 2.5, or 0.5x of the widest; needs --latency.")
    ] = None,
    latency: Annotated[Path | None, typer.Option(help="Latency file, written by 'channel-bench latency'.")] = None,
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """List the most accurate architectures.

    With budgets, only architectures that keep all of them count.
    """
    loaded = load_table(space, table, data_dir)
    model, budget_ms = latency_budget(loaded, latency, max_latency)
    results = loaded.top(
        k,
        max_flops=parse_quantity(max_flops, loaded.space.flops("4444444"), "--max-flops"),
        max_params=parse_quantity(max_params, loaded.space.params("4444444"), "--max-params"),
        max_latency=budget_ms,
        latency=model,
        metric=metric,
    )
    _print_results(loaded, results, metric, json_output, model)


def pareto(
    space: SpaceArgument,
    cost: Annotated[str, typer.Option(help="Cost: flops or params.")] = "flops",
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """List the Pareto front of cost and accuracy.

    These are the architectures that no other architecture beats in both cost and accuracy.
    """
    loaded = load_table(space, table, data_dir)
    _print_results(loaded, loaded.pareto(cost, metric), metric, json_output)


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
    print(f"wrote {out}: {num_bytes / 2**20:.1f} MiB, open it in a browser")


def _print_results(
    table: Table, results: list[Result], metric: str, json_output: bool, latency: LatencyModel | None = None
) -> None:
    if json_output:
        print_json(
            {
                "space": table.space.name,
                "table": table.name,
                "dataset": table.info.dataset,
                "metric": metric,
                "accuracy": table.meaning(metric),
                "results": [
                    {
                        **dataclasses.asdict(result),
                        **({} if latency is None else {"latency_ms": latency.predict(result.arch)}),
                    }
                    for result in results
                ],
                **({} if latency is None else {"latency": dataclasses.asdict(latency.conditions)}),
            }
        )
        return
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
            *([] if latency is None else [f"{latency.predict(result.arch):.4g}"]),
            "-".join(map(str, result.channels)),
        ]
        for result in results
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
