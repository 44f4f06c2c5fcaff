"""All runs of one or several stores at once, as columns: what `collect` reads with, at thousands of runs per second.

    >>> rows, archs, curves = read_all([(store, sorted(store.keys()))])

The checks are those of `RunStore.read`, part by part, and so are the errors. Parts are read by a few threads, and the
JSON of a few thousand at a time is parsed by Arrow straight into columns; objects of Python are made only for parts
that Arrow cannot take.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from channel_bench.builder.store import MAX_PART_BYTES, RunKey, RunStore
from channel_bench.errors import ArgumentError, ChannelBenchError
from channel_bench.record import (
    CURVE_METRICS,
    RANGES,
    RESULTS,
    SCHEMA,
    STATUSES,
    RunRecord,
    canonical_order,
    column_values,
    is_plain_text,
    make_arrow,
    valid_rows,
)
from channel_bench.support.reading import read_file

Float32Array = npt.NDArray[np.float32]

NUM_PARTS = 2048
"""Parts that are parsed together; at 60 epochs their JSON is about 10 MB."""
NUM_READ_IN_A_ROW = 64
"""Parts that a thread reads at a time."""
NUM_THREADS = 8
"""Threads that read: what they wait for is the file system, also where it is far away."""

MAX_CURVE_VALUES = 2**28
"""Values of one curve of all runs together, missing runs included: 1 GiB. 3 runs of 60 epochs of a space have 1%."""

_JSON_SCHEMA = pa.schema(
    [
        *(pa.field(field.name, field.type) for field in SCHEMA),
        pa.field("curves", pa.struct([pa.field(name, pa.list_(pa.float64())) for name in CURVE_METRICS])),
    ]
)
_NUM_FIELDS = len(_JSON_SCHEMA) + len(CURVE_METRICS)
_REQUIRED = [field.name for field in SCHEMA if not field.nullable]


def read_all(
    sources: Sequence[tuple[RunStore, Sequence[RunKey]]],
) -> tuple[pa.Table, list[str], dict[str, Float32Array]]:
    """Read runs.

    Args:
        sources: Stores, each with those of its runs that are wanted, in order; no run twice.

    Returns:
        A table of record.SCHEMA in canonical order; its distinct architectures as text, ascending; and float32
        (num_archs, num_runs, num_epochs) per name of CURVE_METRICS, NaN where there is nothing. Without a run the
        table is empty and so are the others.

    Raises:
        CorruptFileError: A part does not check out; the message names it.
        ArgumentError: The curves are too many for one table.
        StorageError: A part cannot be read.
    """
    tables, blocks = [SCHEMA.empty_table()], []
    for store, keys in sources:
        for rows, curves in _batches(store, keys):
            tables.append(rows)
            blocks.append(curves)
    table = pa.concat_tables(tables).combine_chunks()
    archs, row_of = np.unique(np.array(table.column("arch").to_pylist(), str), return_inverse=True)
    if not blocks:
        return table, [], {}
    runs = column_values(table.column("run"))
    shape = (len(archs), 1 + int(runs.max()), max(block.shape[2] for block in blocks))
    if math.prod(shape) > MAX_CURVE_VALUES:
        raise ArgumentError(
            f"curves of {shape[0]} architectures x {shape[1]} runs x {shape[2]} epochs do not fit one table: allowed"
            f" are {MAX_CURVE_VALUES:,} values, and missing runs count; collect fewer runs or folders at a time"
        )
    dense = {metric: np.full(shape, np.nan, np.float32) for metric in CURVE_METRICS}
    start = 0
    for block in blocks:
        part = slice(start, start := start + block.shape[1])
        for metric, values in zip(CURVE_METRICS, block, strict=True):
            dense[metric][row_of[part], runs[part], : values.shape[1]] = values
    return canonical_order(table) if len(sources) > 1 else table, archs.tolist(), dense


def _batches(store: RunStore, keys: Sequence[RunKey]) -> Iterator[tuple[pa.Table, Float32Array]]:
    """Rows, and curves float32 (4, num_rows, num_epochs), of NUM_PARTS runs at a time."""
    chunks = [keys[start : start + NUM_PARTS] for start in range(0, len(keys), NUM_PARTS)]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for chunk in chunks:
            # A task for each part would cost more than the reading.
            tasks = [chunk[start : start + NUM_READ_IN_A_ROW] for start in range(0, len(chunk), NUM_READ_IN_A_ROW)]
            read = pool.map(lambda task: [_read_body(store, key) for key in task], tasks)
            parsed = _parse(store, chunk, [body for bodies in read for body in bodies])
            yield parsed or _parse_slowly([store.read(key) for key in chunk])


def _read_body(store: RunStore, key: RunKey) -> bytes | None:
    """The JSON of a part whose checksum is right; None where something is wrong with it."""
    try:
        checksum, _, body = read_file(store.path(key), "run", MAX_PART_BYTES).partition(b"\n")
    except ChannelBenchError:
        return None
    body = body.removesuffix(b"\n")
    # Arrow would take an absent field for null; the number of them tells.
    good = hashlib.sha256(body).hexdigest().encode() == checksum and body.count(b'":') == _NUM_FIELDS
    return body if good and b"\n" not in body else None


def _parse(store: RunStore, keys: Sequence[RunKey], bodies: list[bytes | None]) -> tuple[pa.Table, Float32Array] | None:
    """Rows and curves; None where a part needs a closer look."""
    lines = [body for body in bodies if body is not None]
    if len(lines) < len(keys):
        return None
    text = b"\n".join(lines)
    options = pj.ParseOptions(explicit_schema=_JSON_SCHEMA, unexpected_field_behavior="error")
    try:
        # One block: a line must not be longer than a block.
        table = pj.read_json(pa.BufferReader(text), pj.ReadOptions(block_size=len(text) + 1), options).combine_chunks()
        table.validate(full=True)  # texts may be bytes that are no UTF-8
    except pa.ArrowException:
        return None
    archs, runs = [arch for arch, _ in keys], np.array([run for _, run in keys])
    seeds = table.column("seed")
    as_named = (
        table.num_rows == len(keys)
        and not any(table.column(name).null_count for name in (*_REQUIRED, "seed", "curves"))
        and table.column("arch").to_pylist() == archs
        and np.array_equal(column_values(table.column("run")), runs)
        and np.array_equal(column_values(seeds), runs + store.info.base_seed)
    )
    curves = table.column("curves").combine_chunks() if as_named else None
    stacked = []
    for metric in CURVE_METRICS if curves is not None else ():
        lists = pc.struct_field(curves, metric)
        lengths = pc.list_value_length(lists)
        if lists.null_count or pc.min(lengths) != pc.max(lengths) or pc.min(lengths).as_py() < 1:
            return None
        flat = pa.chunked_array([pc.list_flatten(lists)])
        values = np.where(pc.is_null(flat).to_numpy(), np.nan, column_values(flat))
        if not _in_range(metric, values[~np.isnan(values)]):
            return None
        stacked.append(values.astype(np.float32).reshape(len(keys), -1))
    if not as_named or len({values.shape for values in stacked}) != 1:
        return None
    rows = table.select(SCHEMA.names).cast(SCHEMA)
    return (rows, np.stack(stacked)) if _is_plausible(rows, stacked[0].shape[1]) else None


def _is_plausible(rows: pa.Table, num_epochs: int) -> bool:
    """Whether all rows hold what runs can have, as `RunRecord.from_json` checks it one by one."""
    finished = np.array(rows.column("status").to_pylist()) == "ok"
    for column in SCHEMA:
        values = rows.column(column.name)
        valid = valid_rows(values)
        if pa.types.is_string(column.type):
            good = all(is_plain_text(text) for text in values.unique().to_pylist() if text is not None)
        else:
            good = _in_range(column.name, column_values(values)[valid])
        if not good or (column.name in RESULTS and not np.array_equal(valid, finished)):
            return False
    statuses = set(rows.column("status").unique().to_pylist())
    return statuses <= STATUSES.keys() and bool(np.all(column_values(rows.column("num_epochs")) == num_epochs))


def _in_range(name: str, values: npt.NDArray[Any]) -> bool:
    low, high = RANGES[name]
    return bool(np.all((values >= low) & (values <= high)))


def _parse_slowly(records: list[RunRecord]) -> tuple[pa.Table, Float32Array]:
    """As `_parse`, from records that need not have curves of one length."""
    longest = max(record.num_epochs for record in records)
    curves = np.full((len(CURVE_METRICS), len(records), longest), np.nan, np.float32)
    for number, record in enumerate(records):
        for metric, values in record.curves.items():
            curves[CURVE_METRICS.index(metric), number, : len(values)] = np.array(values, np.float32)
    return make_arrow(record.row() for record in records), curves
