"""Options and arguments that several commands have, and how their texts are read."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from channel_bench.errors import ArchError, ArgumentError, CorruptFileError
from channel_bench.recipe import list_recipes
from channel_bench.space import NUM_SLOTS, Space, get_space, list_spaces
from channel_bench.support.reading import MIB, is_there, read_file
from channel_bench.support.terminal import parse_quantity

if TYPE_CHECKING:
    from channel_bench.latency import LatencyModel
    from channel_bench.table import Table

MAX_ARCHS_BYTES = 4 * MIB
"""Of a list of architectures: all 16,384 of them as ratios have less than 1 MiB."""

SPACES_HELP = f"One of {', '.join(list_spaces())}, or the TOML file of another space."
SpaceArgument = Annotated[str, typer.Argument(metavar="SPACE", help=SPACES_HELP)]
OwnSpaceOption = Annotated[
    str | None,
    typer.Option("--space", metavar="FILE.toml", help="TOML file of the space, where it is not one of this package."),
]
ArchArgument = Annotated[
    str,
    typer.Argument(metavar="ARCH", help="7 digits 1..4, or 7 channels or width ratios separated by commas or dashes."),
]
TableOption = Annotated[str | None, typer.Option("--table", help="Name or path of a table [default: the space's own].")]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Folder of downloaded data [default: $CHANNEL_BENCH_DATA, or the user's cache folder]."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
CsvOption = Annotated[
    bool, typer.Option("--csv", help="Print CSV instead of text: a row per architecture, channels as slot0 .. slot6.")
]
MetricOption = Annotated[
    str, typer.Option("--metric", help="Accuracy: best_test_acc (best epoch) or test_acc (last epoch).")
]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help=f"Recipe: one of {', '.join(list_recipes())} [default: the space's own].")
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Images: digits, digits-placed, cifar10, a folder of Parquet, or an .npz file [default: the space's own].",
    ),
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

EngineOption = Annotated[str, typer.Option("--engine", help="local (this machine) or ray (a cluster).")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="Address of the Ray cluster: auto, ray://HOST:PORT or HOST:PORT [default: Ray on this machine only].",
    ),
]

LogOption = Annotated[
    Path | None, typer.Option("--log", help="CSV file of learning curves, a row per epoch; written while it trains.")
]
TensorboardOption = Annotated[
    Path | None, typer.Option("--tensorboard", help="Folder to write TensorBoard's event files of the same curves to.")
]


def read_archs(texts: Sequence[str], space: Space) -> list[str]:
    """Architectures of a command line, as 7 digits: written there, on the lines of a file, or of standard input (-).

    A text that is an architecture is never taken for the name of a file. In files, empty lines, lines that begin with #
    and a first line "arch" are skipped.

    Raises:
        ArchError: A text is neither an architecture nor a file; the message names the line.
        CorruptFileError: A file is too large or not text.
    """
    found = []
    for text in texts:
        if text == "-":
            data = sys.stdin.buffer.read(MAX_ARCHS_BYTES + 1)
            if len(data) > MAX_ARCHS_BYTES:
                raise CorruptFileError(
                    f"standard input has more than {MAX_ARCHS_BYTES:,} bytes: allowed are lists of architectures"
                )
            found += _archs_of_lines(data, "standard input", space)
        elif text not in space and is_there(text):
            data = read_file(Path(text), "list of architectures", MAX_ARCHS_BYTES)
            found += _archs_of_lines(data, f"file {text!r}", space)
        else:
            found += [space.text(each) for each in _listed_archs(text)]
    return found


def _listed_archs(text: str) -> list[str]:
    """A text as it is, or its parts where commas part texts of seven digits: "4344424,1111111".

    Raises:
        ArchError: There are commas, and the parts are neither that nor seven.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and all(len(part) == NUM_SLOTS and part.isdigit() for part in parts):
        return parts
    if len(parts) not in (1, NUM_SLOTS):
        raise ArchError(
            f"{text[:60]!r} has {len(parts)} parts between commas: allowed are {NUM_SLOTS} digits, ratios or channels"
            " of one architecture, or several architectures of 7 digits each"
        )
    return [text]


def _archs_of_lines(data: bytes, what: str, space: Space) -> list[str]:
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise CorruptFileError(f"{what} is not a list of architectures: it is not UTF-8 text") from None
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#") or (number == 1 and text == "arch"):
            continue
        try:
            found.append(space.text(text))
        except ArchError as error:
            raise ArchError(f"line {number} of {what}: {error}") from None
    if not found:
        raise ArgumentError(f"{what} holds no architecture: allowed is one on each line")
    return found


def read_slots(texts: Iterable[str]) -> dict[int, int]:
    """The values of --slot, "SLOT=DIGIT": digit by slot; `Table.top` checks that both exist.

    Raises:
        ArgumentError: A text is something else, or a slot is given twice.
    """
    slots: dict[int, int] = {}
    for text in texts:
        slot, equals, digit = text.partition("=")
        numbers = [part.strip() for part in (slot, digit)]
        if not equals or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in numbers):
            raise ArgumentError(f"--slot {text!r} is not SLOT=DIGIT, such as 0=2: slots are 0..6, digits 1..4")
        if int(slot) in slots:
            raise ArgumentError(f"--slot gives slot {int(slot)} twice: a slot has one digit")
        slots[int(slot)] = int(digit)
    return slots


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

    is_file = not text.endswith(".toml") and (Path(text).suffix or is_there(text))
    return Path(text) if is_file else find_table(text, None, data_dir)


def know_space(space: str | None) -> None:
    """Register the space of --space, so that files of it can be read."""
    if space is not None:
        get_space(space)


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
