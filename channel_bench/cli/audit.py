"""Commands that check a table against itself, new runs, or another table: verify, compare."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from channel_bench.cli.options import (
    DataDirOption,
    DeviceOption,
    JsonOption,
    MetricOption,
    OwnSpaceOption,
    PrecisionOption,
    ThreadsOption,
    decimals,
    know_space,
    table_counts,
    table_file,
)
from channel_bench.support.terminal import counted, print_json, print_table, progress, show

if TYPE_CHECKING:
    from channel_bench.builder.retrain import Audit, Retrained


def verify(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="Table file, or a space for its default table.")],
    space: OwnSpaceOption = None,
    retrain: Annotated[int | None, typer.Option(help="Retrain this many of its architectures, with new seeds.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which architectures are retrained, and their new seeds.")] = 0,
    precision: PrecisionOption = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Images to retrain on [default: the data set that the table names].")
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Check a table file, optionally by retraining.

    Checked are schema, content hash, keys, costs, accuracies and learning curves. With --retrain, some architectures
    are trained again, and the new accuracies are compared with the table's.

    Exit code: 0 if all is well, 1 if the new runs do not fit the table, 2 if the file is damaged or cannot be checked.
    """
    from channel_bench.table.verify import verify as run_verify

    know_space(space)
    path = table_file(table, data_dir)
    facts = run_verify(path)
    if not json_output:
        show(f"{table}: intact, {table_counts(facts)}")
        show(
            f"space {facts['space']}, data set {facts['dataset']}, recipe {facts['recipe']['name']}; {facts['source']}"
        )
        show(f"content SHA-256 {facts['content_sha256']}")
    result = None if retrain is None else _audit(path, retrain, seed, precision, dataset, device, threads, data_dir)
    if json_output:
        print_json(facts if result is None else {**facts, "retrained": dataclasses.asdict(result)})
    elif result is not None:
        _print_audit(result)
    if result is not None and not result.agrees:
        raise typer.Exit(1)


def _audit(
    path: Path,
    num_archs: int,
    seed: int,
    precision: str | None,
    dataset: str | None,
    device: str,
    threads: int,
    data_dir: Path | None,
) -> Audit:
    from channel_bench.builder.retrain import audit
    from channel_bench.table import Table
    from channel_bench.training.datasets import load_dataset
    from channel_bench.training.devices import pick_device, prepare_process

    prepare_process(threads)
    table = Table.read(path)
    data = load_dataset(dataset or table.info.dataset, data_dir=data_dir, device=pick_device(device))
    with progress(f"retraining {table.space.name}", max(num_archs, 0)) as advance:

        def trained(row: Retrained) -> None:
            advance(1, f"{row.arch}: {decimals(row.accuracy)}, table {row.mean:.4f}")

        return audit(table, num_archs, data, seed=seed, precision=precision, on_row=trained)


def _print_audit(result: Audit) -> None:
    rows = [
        [
            row.arch,
            None if row.accuracy is None else f"{row.accuracy:.2f}",
            " ".join(f"{accuracy:.2f}" for accuracy in row.runs),
            f"{row.mean:.3f}",
            f"{row.std:.3f}",
            None if row.z is None else f"{row.z:+.2f}",
            "inside" if row.inside else "DIVERGED" if row.accuracy is None else "OUTSIDE",
        ]
        for row in result.rows
    ]
    print_table(
        ["arch", "new", "runs of the table", "mean", "std of a run", "z", "band"],
        rows,
        title=f"{counted(len(rows), 'architecture')} retrained with new seeds, data set {result.dataset},"
        f" recipe {result.recipe}",
        caption="best_test_acc, percent; std of a run is pooled over architectures of similar accuracy",
    )
    show(
        f"{result.num_inside} of {len(rows)} new runs are inside their band, {result.num_expected_inside:.1f} expected;"
        f" {result.num_diverged} diverged"
    )
    show(
        f"mean difference {decimals(result.mean_difference)} points, 0 +- {decimals(result.mean_difference_se)} from"
        f" seeds alone; p = {result.p_shift:.2g} for it, {result.p_spread:.2g} for the spread"
    )
    show(
        "the table agrees with new runs"
        if result.agrees
        else "the table DOES NOT AGREE with new runs: seeds alone would almost never give this"
    )


def compare(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="Table file, or a space for its default table.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="Table file, or a space for its default table.")],
    space: OwnSpaceOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Compare two tables of one space.

    Printed are their correlations and mean difference, beside the values to expect if only the seeds differed, and
    whether the tables agree: they do if both are within three standard errors of that.
    """
    from channel_bench.table import Table
    from channel_bench.table.compare import compare_tables

    know_space(space)
    tables = [Table.read(table_file(text, data_dir)) for text in (first, second)]
    agreement = compare_tables(tables[0], tables[1], metric)
    if json_output:
        infos = [dataclasses.asdict(table.info) for table in tables]
        facts = {**dataclasses.asdict(agreement), "verdict": agreement.verdict, "agrees": agreement.agrees}
        print_json({"first": infos[0], "second": infos[1], "metric": metric, **facts})
        return
    notes = [
        f"{name}: data set {table.info.dataset}, recipe {table.info.recipe['name']}; {table.meaning(metric)}"
        f"; a run's standard deviation is {decimals(std)}"
        for name, table, std in zip(("first", "second"), tables, agreement.run_std, strict=True)
    ]
    if agreement.shared_runs:
        notes.append(f"NOT independent: {agreement.shared_runs:,} runs are in both, so the expectation does not apply")
    print_table(
        ["agreement", "measured", "expected from seeds alone"],
        [
            ["Kendall tau-b", decimals(agreement.kendall), decimals(agreement.expected_kendall)],
            ["Pearson", decimals(agreement.pearson), decimals(agreement.expected_pearson)],
            ["Spearman", decimals(agreement.spearman), "-"],
            [
                "mean difference, points",
                decimals(agreement.mean_difference),
                f"0 +- {decimals(agreement.mean_difference_se)}",
            ],
        ],
        title=f"{first} and {second}: {agreement.num_archs:,} architectures of {agreement.space} in both",
        caption="\n".join(notes),
    )
    show(agreement.verdict)
