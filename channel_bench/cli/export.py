"""The command that writes a table in the format of another library: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from channel_bench.cli.options import DataDirOption, MetricOption, SpaceArgument, TableOption, load_table
from channel_bench.errors import unknown_name
from channel_bench.support.terminal import show

FORMATS = ("csv", "json", "syne-tune")


def export(
    space: SpaceArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; for syne-tune a new folder.")],
    format_name: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "csv",
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
) -> None:
    """Write a table in the format of other programs.

    csv and json have a row per trained architecture, the columns of `Table.frame`. syne-tune is the folder of a tabular
    blackbox: every run, and every epoch where the table has learning curves.
    """
    if format_name not in FORMATS:
        raise unknown_name("format", format_name, FORMATS)
    loaded = load_table(space, table, data_dir)
    if format_name == "syne-tune":
        from channel_bench.adapters.syne_tune import export as export_blackbox

        export_blackbox(loaded, out, metric=metric)
    else:
        from channel_bench.support.durable import write_atomic

        frame = loaded.frame(metric)
        text = frame.to_csv(index=False) if format_name == "csv" else frame.to_json(orient="records", indent=1) + "\n"
        write_atomic((out, text.encode()))
    show(f"wrote {out}: {loaded.meaning(metric)}")
