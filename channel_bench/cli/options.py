"""Options and arguments that several commands have, and how their texts are read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from channel_bench.errors import ArgumentError
from channel_bench.recipe import list_recipes
from channel_bench.space import list_spaces
from channel_bench.support.terminal import parse_quantity

if TYPE_CHECKING:
    from channel_bench.latency import LatencyModel
    from channel_bench.table import Table
SpaceArgument = Annotated[str, typer.Argument(metavar="SPACE", help=f"One of {', '.join(list_spaces())}.")]
ArchArgument = Annotated[
    str, typer.Argument(metavar="ARCH", help="7 digits 1..4, or 7 channels or width ratios separated by commas.")
]
TableOption = Annotated[str | None, typer.Option("--table", help="Name or path of a table [default: the space's own].")]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Folder of downloaded data [default: $CHANNEL_BENCH_DATA, or the user's cache folder]."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
MetricOption = Annotated[
    str, typer.Option("--metric", help="Accuracy: best_test_acc (best epoch) or test_acc (last epoch).")
]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help=f"Recipe: one of {', '.join(list_recipes())} [default: the space's own].")
]
DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", help="Images: digits, cifar10, or a folder of Parquet files [default: the space's own]."),
]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend", help="Program that trains: native (compiled), torch, or auto (native for mini spaces on a CPU)."
    ),
]
NoGraphOption = Annotated[
    bool, typer.Option("--no-graph", help="On a GPU, launch every kernel from Python instead of replaying CUDA graphs.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="Device to compute on: auto, cpu, cuda, cuda:1 ...")]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Epochs [default: the recipe's].")]
PrecisionOption = Annotated[
    str | None, typer.Option("--precision", help="Arithmetic: fp32, tf32 (GPU only) or bf16 [default: the recipe's].")
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Download CIFAR-10 if it is missing.")]
ThreadsOption = Annotated[
    int, typer.Option("--threads", help="CPU threads; their number changes results in the last bits.")
]


def latency_conditions(model: LatencyModel) -> str:
    """What a latency model was measured with, for captions."""
    shape = "x".join(map(str, model.conditions.input_shape))
    return f"batch size {model.conditions.batch_size}, images {shape}, on {model.conditions.device}"


def count_or_auto(option: str, text: str) -> int | None:
    """A whole number; None for "auto"."""
    if text == "auto":
        return None
    if not text.isascii() or not text.isdecimal():
        raise ArgumentError(f"{option} {text!r} is neither a whole number nor 'auto'")
    return int(text)


def table_file(text: str, data_dir: Path | None) -> Path:
    """A table file, or the file of a space's default table."""
    from channel_bench.table import find_table

    return Path(text) if Path(text).suffix or Path(text).exists() else find_table(text, None, data_dir)


def load_table(space: str, table: str | None, data_dir: Path | None) -> Table:
    """`channel_bench.load`, imported when a command needs it."""
    from channel_bench.table import load

    return load(space, table, data_dir)


def latency_budget(
    table: Table, file: Path | None, max_latency: str | None
) -> tuple[LatencyModel | None, float | None]:
    """The model of a latency file and the limit in ms; None and None where neither option is given."""
    if (file is None) != (max_latency is None):
        raise ArgumentError(
            "--latency and --max-latency go together: a table holds no latencies;"
            f" measure them with 'channel-bench latency {table.space.name} -o FILE'"
        )
    if file is None:
        return None, None
    from channel_bench.latency import load_latency

    model = load_latency(file, table.space)
    return model, parse_quantity(max_latency, model.predict("4444444"), "--max-latency")


def decimals(value: float | None) -> str:
    """A number with four decimals; "unknown" for None, "undefined" for NaN."""
    if value is None:
        return "unknown"
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def table_counts(facts: dict[str, object]) -> str:
    """How much a table file holds, in words; `facts` as `verify` gives them."""
    return (
        f"{facts['num_rows']:,} runs, {facts['num_archs']:,} architectures x {facts['num_runs']} runs"
        f" ({facts['num_incomplete_archs']} architectures with fewer, {facts['num_diverged']} runs diverged)"
    )
