"""What one run leaves behind, and the one schema that every file of runs derives from.

A `RunRecord` is the row of one (architecture, run) with its learning curves. `SCHEMA` names every column with its
type, unit and meaning; a table file is these columns plus a `TableInfo` in its metadata. `content_hash` identifies
the content of a table whatever wrote it, however it is compressed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from channel_bench.errors import CorruptFileError

METADATA_KEY = b"channel_bench"
FORMAT = 2
CURVE_METRICS = ("train_loss", "train_acc", "test_loss", "test_acc")
"""Learning curves, one value per epoch: losses in nats, accuracies in percent."""
ACCURACY_METRICS = ("best_test_acc", "test_acc")
_ARCH = re.compile("[1-4]{7}")

STATUSES = {
    "ok": "trained to the last epoch",
    "diverged": "the loss became NaN or infinite; all metrics are null",
}


MAX_NUMBER = 2**15 - 1
"""Largest number of a run, of epochs, of networks in a stack: their columns have 16 bits."""
MAX_LOSS = float(np.finfo(np.float32).max)
"""Losses are means of 32-bit numbers, and curves are kept as such."""
RANGES: dict[str, tuple[float, float]] = {
    "run": (0, MAX_NUMBER),
    "seed": (0, 2**63 - 1),
    "test_acc": (0, 100),
    "best_test_acc": (0, 100),
    "best_epoch": (1, MAX_NUMBER),
    "train_acc": (0, 100),
    "train_loss": (-MAX_LOSS, MAX_LOSS),
    "test_loss": (-MAX_LOSS, MAX_LOSS),
    "num_epochs": (1, MAX_NUMBER),
    "flops": (1, 2**63 - 1),
    "params": (1, 2**63 - 1),
    "train_s": (0, sys.float_info.max),
    "stack": (1, MAX_NUMBER),
}
"""Smallest and largest value of every number in the file of a run; none may be infinite."""
RESULTS = ("test_acc", "best_test_acc", "best_epoch", "train_acc", "train_loss", "test_loss")
"""Columns that a run with status "ok" has, and a diverged one has not."""
MAX_TEXT = 200
"""Characters of a text in the file of a run, such as the name of a device."""
MAX_INFO_TEXT = 10_000
"""Characters of a text in the metadata of a table, such as where it comes from."""


def _column(name: str, kind: pa.DataType, meaning: str, unit: str = "", nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable, metadata={"meaning": meaning, "unit": unit})


SCHEMA = pa.schema(
    [
        _column("arch", pa.string(), "architecture, 7 digits 1..4", nullable=False),
        _column("run", pa.int16(), "number of the run of this architecture, from 0", nullable=False),
        _column("seed", pa.int64(), "seed that the run's generators derive from; null where unknown"),
        _column("status", pa.string(), "; ".join(f"{key}: {text}" for key, text in STATUSES.items()), nullable=False),
        _column("test_acc", pa.float64(), "test accuracy after the last epoch", "percent"),
        _column("best_test_acc", pa.float64(), "best test accuracy over all epochs", "percent"),
        _column("best_epoch", pa.int16(), "first epoch that reached best_test_acc, from 1"),
        _column("train_acc", pa.float64(), "accuracy on augmented training images, during the last epoch", "percent"),
        _column(
            "train_loss", pa.float64(), "cross-entropy on augmented training images, during the last epoch", "nats"
        ),
        _column("test_loss", pa.float64(), "cross-entropy on the test images after the last epoch", "nats"),
        _column("num_epochs", pa.int16(), "epochs trained", nullable=False),
        _column(
            "flops",
            pa.int64(),
            "multiply-accumulates of convolutions and linear layer, one image",
            "MAC",
            nullable=False,
        ),
        _column("params", pa.int64(), "learnable parameters", nullable=False),
        _column("train_s", pa.float64(), "wall time of the run", "seconds"),
        _column("device", pa.string(), "device that trained it"),
        _column("torch", pa.string(), "version of PyTorch that trained it"),
        _column("stack", pa.int16(), "networks that were trained together as one program; 1 is alone"),
        _column("backend", pa.string(), "program that trained it: PyTorch (torch) or the native trainer (native)"),
    ]
)


_COLUMNS = [
    (column.name, column.nullable, pa.types.is_string(column.type), pa.types.is_integer(column.type))
    for column in SCHEMA
]
"""The schema as plain values, for what looks at every run."""


@dataclass(frozen=True)
class Job:
    """One run to train: what decides it besides space, recipe and data set."""

    arch: str
    """Seven digits."""
    run: int
    """Number that the record carries."""
    seed: int
    """>= 0."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One finished run: a row of `SCHEMA`, and its curves."""

    arch: str
    run: int
    seed: int | None
    status: str
    test_acc: float | None
    best_test_acc: float | None
    best_epoch: int | None
    train_acc: float | None
    train_loss: float | None
    test_loss: float | None
    num_epochs: int
    flops: int
    params: int
    train_s: float | None
    device: str | None
    torch: str | None
    stack: int | None
    backend: str | None
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    """One list of num_epochs values per name of CURVE_METRICS; None after a divergence. Empty where unknown."""

    def row(self) -> dict[str, Any]:
        """The columns of `SCHEMA`."""
        return {name: getattr(self, name) for name in SCHEMA.names}

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back to an equal record; floats keep every bit."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> RunRecord:
        """Read what `to_json` wrote.

        Raises:
            CorruptFileError: The text is not a record, or a value is none that a run can have.
        """
        try:
            record = cls(**json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant))
        except (ValueError, TypeError, RecursionError) as error:
            raise CorruptFileError(f"not a run record: {error}") from None
        _check_record(record)
        return record

    @classmethod
    def from_curves(cls, curves: dict[str, list[float]], **facts: Any) -> RunRecord:
        """Derive status and metrics from the curves; the best epoch is the first that reached the best accuracy."""
        lost = [epoch for epoch, loss in enumerate(curves["train_loss"]) if not math.isfinite(loss)]
        lost += [epoch for epoch, loss in enumerate(curves["test_loss"]) if not math.isfinite(loss)]
        if lost:  # what came after the epoch of the divergence says nothing, whether it was computed or not
            kept = min(lost) + 1
            curves = {name: values[:kept] + [math.nan] * (len(values) - kept) for name, values in curves.items()}
        finite: dict[str, list[float | None]] = {
            name: [value if math.isfinite(value) else None for value in values] for name, values in curves.items()
        }
        if any(None in values for values in finite.values()):
            nothing: dict[str, Any] = dict.fromkeys(RESULTS)
            return cls(status="diverged", curves=finite, **nothing, **facts)
        accs = curves["test_acc"]
        last: dict[str, Any] = {name: values[-1] for name, values in curves.items()}
        return cls(
            status="ok", curves=finite, best_test_acc=max(accs), best_epoch=accs.index(max(accs)) + 1, **last, **facts
        )


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _check_record(record: RunRecord) -> None:
    """Refuse a record with a value that no run can have.

    Raises:
        CorruptFileError: There is one; the message names it.
    """
    for name, nullable, is_text, is_whole in _COLUMNS:
        value = getattr(record, name)
        if value is None and nullable:
            continue
        low, high = RANGES.get(name, (0, 0))
        if not (is_plain_text(value) if is_text else _is_number(value, low, high, is_whole)):
            text = f"text of at most {MAX_TEXT} printable characters"
            raise _wrong(name, value, text if is_text else f"a number {low}..{high}")
    if not _ARCH.fullmatch(record.arch):
        raise _wrong("arch", record.arch, "7 digits 1..4")
    if record.status not in STATUSES:
        raise _wrong("status", record.status, " or ".join(STATUSES))
    for name in RESULTS:
        if (getattr(record, name) is None) == (record.status == "ok"):
            raise _wrong(name, getattr(record, name), f"a number exactly where the status, {record.status!r}, is 'ok'")
    _check_curves(record)


def _check_curves(record: RunRecord) -> None:
    curves: object = record.curves
    if not isinstance(curves, dict) or (curves and curves.keys() != set(CURVE_METRICS)):
        raise _wrong("curves", curves, f"a list for each of {', '.join(CURVE_METRICS)}")
    for name, values in curves.items():
        if not isinstance(values, list) or len(values) != record.num_epochs:
            raise _wrong(f"curve {name}", values, f"a list of {record.num_epochs} values, one for each epoch")
        low, high = RANGES[name]
        numbers = [value for value in values if value is not None]
        # All at once, because a run of 60 epochs has 240 of them. Without NaN, which no JSON has, they are ordered.
        if (
            not set(map(type, numbers)) <= {int, float}
            or not low <= min(numbers, default=low) <= max(numbers, default=low) <= high
        ):
            raise _wrong(f"curve {name}", values, f"numbers {low}..{high}")


def _is_number(value: object, low: float, high: float, whole: bool) -> bool:
    # Comparing is exact between int and float of any size, and False for NaN.
    return (type(value) is int or (type(value) is float and not whole)) and low <= value <= high


def is_plain_text(value: object) -> bool:
    """Whether a value is text that can stand in the file of a run: short, and safe to print."""
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()


def _wrong(name: str, value: object, allowed: str) -> CorruptFileError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return CorruptFileError(f"not a run record: {name} is {shown}, allowed is {allowed}")


@dataclass(frozen=True, kw_only=True)
class TableInfo:
    """Provenance of a table of runs; stored as JSON in the metadata of its file."""

    name: str
    """Name of the table ("cifar10-published")."""
    space: str
    space_fingerprint: str
    dataset: str
    dataset_digest: str | None
    """SHA-256 of the decoded images and labels; None where unknown."""
    recipe: dict[str, Any]
    recipe_fingerprint: str
    accuracy: str
    """What the accuracy of this table is, in one sentence; printed beside every accuracy."""
    source: str
    """Where the runs come from."""
    code_version: str
    torch_versions: list[str]
    devices: list[str]
    curves_file: str | None = None
    """Name of the HDF5 file of curves beside the table; None where there are none."""
    curves_sha256: str | None = None
    """`curves_hash` of that file's contents."""
    num_rows: int = 0
    """Rows of the table; this and the next two are filled in by `with_info`."""
    content_sha256: str = ""
    """`content_hash` of the rows."""
    info_sha256: str = ""
    """SHA-256 of all other fields, so that a table is not relabelled unnoticed."""
    format: int = FORMAT


def make_arrow(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Arrow table of `SCHEMA` in canonical row order: by architecture, then by run."""
    return canonical_order(pa.Table.from_pylist(list(rows), schema=SCHEMA))


def canonical_order(table: pa.Table) -> pa.Table:
    """Sort rows by architecture, then by run."""
    return table.sort_by([("arch", "ascending"), ("run", "ascending")])


def with_info(table: pa.Table, info: TableInfo) -> pa.Table:
    """Attach provenance, count and hashes to a table in canonical order."""
    info = dataclasses.replace(info, num_rows=len(table), content_sha256=content_hash(table))
    info = dataclasses.replace(info, info_sha256=_info_hash(info))
    return table.replace_schema_metadata({METADATA_KEY: json.dumps(dataclasses.asdict(info), sort_keys=True).encode()})


def _info_hash(info: TableInfo) -> str:
    facts = dataclasses.asdict(dataclasses.replace(info, info_sha256=""))
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the contents of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def read_info(schema: pa.Schema, path: str) -> TableInfo:
    """Read the provenance of a table file.

    Raises:
        CorruptFileError: There is none, or it is of a format that this version does not know.
    """
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise CorruptFileError(
            f"{path!r} is Parquet but not a channel-bench table: it has no {METADATA_KEY.decode()!r} metadata"
        )
    try:
        values = json.loads(raw)
        if values.get("format") != FORMAT:
            raise CorruptFileError(
                f"{path!r} has table format {values.get('format')}, this version reads format {FORMAT}: collect or"
                " download it again"
            )
        info = TableInfo(**values)
        if _info_hash(info) != info.info_sha256:
            raise CorruptFileError(f"{path!r} was changed after it was written: the hash of its metadata differs")
        _check_info(info)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptFileError(f"{path!r} has unreadable channel-bench metadata: {error}") from None
    return info


def _check_info(info: TableInfo) -> None:
    """Refuse metadata of other types than those that are written, whoever hashed them.

    Raises:
        ValueError: A field is not what it should be.
    """
    for field_ in dataclasses.fields(info):
        name, value = field_.name, getattr(info, field_.name)
        optional = str(field_.type).endswith(" | None")
        kind = str(field_.type).removesuffix(" | None")
        if optional and value is None:
            continue
        if kind == "str":
            _check_text(name, value)
        elif kind == "list[str]":
            if not isinstance(value, list):
                raise ValueError(f"{name} is {repr(value)[:60]}: allowed are lists of texts")
            for number, text in enumerate(value):
                _check_text(f"{name}[{number}]", text)
        elif kind == "int" and not (type(value) is int and value >= 0):
            raise ValueError(f"{name} is {repr(value)[:60]}: allowed are whole numbers from 0")
        elif kind == "dict[str, Any]" and not isinstance(value, dict):
            raise ValueError(f"{name} is {repr(value)[:60]}: allowed are objects")
    epochs = info.recipe.get("epochs")
    if not _is_number(epochs, 1, MAX_NUMBER, whole=True):
        raise ValueError(f"epochs of the recipe are {str(epochs)[:60]!r}: allowed are 1..{MAX_NUMBER}")
    if not isinstance(info.recipe.get("name"), str):
        raise ValueError("the recipe has no name")
    file = info.curves_file
    if file is not None and (len(file) > 255 or file in ("", ".", "..") or set("/\\\0") & set(file)):
        raise ValueError(f"curves_file is {file[:60]!r}: allowed is the name of a file beside the table")
    if (file is None) != (info.curves_sha256 is None):
        raise ValueError("curves_file and curves_sha256 go together, one of them is missing")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or len(value) > MAX_INFO_TEXT:
        raise ValueError(f"{name} is {repr(value)[:60]}: allowed are texts of at most {MAX_INFO_TEXT:,} characters")


def content_hash(table: pa.Table) -> str:
    """SHA-256 of what a table says, independent of row groups, compression and writer.

    Hashed per column of `SCHEMA`: its name and type, one byte per row for null or not, and the little-endian values
    with nulls as zero; texts as their lengths (int32) and their UTF-8 bytes.

    Args:
        table: Columns of `SCHEMA`, in canonical order (`canonical_order`).
    """
    digest = hashlib.sha256()
    for column in SCHEMA:
        values = table.column(column.name)
        digest.update(f"{column.name}:{column.type}:{len(values)}\n".encode())
        valid = valid_rows(values)
        digest.update(valid.astype(np.uint8).tobytes())
        if not valid.any():
            continue
        if pa.types.is_string(column.type):
            offsets, text = _text_buffers(values)
            digest.update(np.diff(offsets).astype("<i4").tobytes())
            digest.update(text)
        else:
            numbers = column_values(values)
            digest.update(numbers.astype(numbers.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def curves_hash(archs: Sequence[str], curves: dict[str, npt.NDArray[np.float32]]) -> str:
    """SHA-256 of learning curves, independent of chunks and compression.

    Args:
        archs: Architectures as text, ascending.
        curves: float32 (num_archs, num_runs, num_epochs) per name of CURVE_METRICS.
    """
    digest = hashlib.sha256(json.dumps(list(archs)).encode())
    for name in CURVE_METRICS:
        digest.update(f"{name}:{curves[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(curves[name], "<f4").tobytes())
    return digest.hexdigest()


# Arrow's own to_numpy() imports pandas as soon as it may have to copy, which would cost a query from the command line
# more than everything else together; so the three functions below read the buffers, whose layout Arrow guarantees.


def valid_rows(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which rows of a column are not null, bool (num_rows,)."""
    parts = [np.zeros(0, bool)]
    for chunk in column.chunks:
        bits = chunk.buffers()[0]
        if chunk.null_count == 0 or bits is None:
            parts.append(np.ones(len(chunk), bool))
        else:
            unpacked = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
            parts.append(unpacked[chunk.offset : chunk.offset + len(chunk)].astype(bool))
    return np.concatenate(parts)


def column_values(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Values of a numeric column, (num_rows,) of the column's type; nulls are 0."""
    kind = column.type.to_pandas_dtype()
    parts = [np.zeros(0, kind)]
    for chunk in column.chunks:
        parts.append(np.frombuffer(chunk.buffers()[1], kind)[chunk.offset : chunk.offset + len(chunk)])
    return np.where(valid_rows(column), np.concatenate(parts), kind(0))


def _text_buffers(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], memoryview]:
    """Offsets (num_rows + 1,) and UTF-8 bytes of all texts of a column; nulls are empty."""
    array = pa.concat_arrays([chunk.fill_null("") if chunk.null_count else chunk for chunk in column.chunks])
    _, raw_offsets, text = array.buffers()
    offsets = np.frombuffer(raw_offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    return offsets, memoryview(text)[offsets[0] : offsets[-1]] if text is not None else memoryview(b"")
