"""Read the file of a table: bounded, and refused unless it is the one that was written.

    >>> arrow, info = read_table_file(Path("resnet.parquet"))

A table file comes from others. Before anything is read it has to be a regular file of a reasonable size whose footer
promises a reasonable number of rows, and a text that would be written out for every row has to be short. Then columns,
metadata and hashes are checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from channel_bench.errors import CorruptFileError, MissingDataError, StorageError, os_reason
from channel_bench.record import METADATA_KEY, SCHEMA, TableInfo, column_values, content_hash, read_info
from channel_bench.support.reading import MIB, check_file, is_there, parse_json

MAX_FILE_BYTES = 512 * MIB
"""A table of three runs of everything has 1.3 MB."""
MAX_UNPACKED_BYTES = 1024 * MIB
MAX_ROWS = 2**21
"""128 runs of every architecture."""
MAX_RUNS = 2048
"""Runs of one architecture. For each run a table in memory has a cell for every architecture, so a single row of run
32,767 would take 4 GiB."""
MAX_TEXT = 1000
"""Characters of a text in a row, such as the name of a device."""

_TEXTS = [field.name for field in SCHEMA if pa.types.is_string(field.type)]


def read_table_file(path: Path) -> tuple[pa.Table, TableInfo]:
    """Read the rows and the provenance of a table, and hold them against the hashes that the file states.

    Args:
        path: A table file (.parquet).

    Returns:
        Columns of record.SCHEMA, and the metadata.

    Raises:
        MissingDataError: There is no such file.
        StorageError: The system does not let it be read.
        CorruptFileError: The file is not a table, too large, or not the one that was written.
    """
    shown = repr(str(path))
    try:
        check_file(path, "table", MAX_FILE_BYTES)
    except MissingDataError:
        if is_there(path):
            raise
        raise MissingDataError(f"table file {shown} does not exist") from None
    except CorruptFileError as error:
        raise CorruptFileError(f"cannot read table {shown}: {error}") from None
    try:
        with _frugal_memory(), pa.OSFile(str(path)) as source:
            stated = pq.ParquetFile(source)
            info = _read_info(stated, path)
            arrow = _read_rows(source, stated.metadata, shown)
            arrow.validate(full=True)  # texts may be bytes that are no UTF-8
    except FileNotFoundError:
        raise MissingDataError(f"table file {shown} does not exist") from None
    except PermissionError as error:
        raise StorageError(f"cannot read table {shown}: {os_reason(error)}") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        # A ValueError is text in the footer that is not UTF-8.
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a Parquet file, or damaged"
        raise CorruptFileError(f"cannot read table {shown}: {reason}") from None
    if len(arrow) != info.num_rows:
        raise CorruptFileError(f"table {shown} has {len(arrow)} rows, but {info.num_rows} were written")
    if content_hash(arrow) != info.content_sha256:
        raise CorruptFileError(f"table {shown} was changed after it was written: its content hash differs")
    return arrow, info


@contextlib.contextmanager
def _frugal_memory() -> Iterator[None]:
    """Take Arrow's memory from the system's allocator, which gives back what a read needs only for a moment.

    Arrow's own allocators keep it for later reads: a process that loads one table would be 35 MiB larger.
    """
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def _read_info(file: pq.ParquetFile, path: Path) -> TableInfo:
    """Provenance out of the footer, after its promises were found to be reasonable."""
    footer, shown = file.metadata, repr(str(path))
    unpacked = sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))
    for what, count, most in (
        ("rows", footer.num_rows, MAX_ROWS),
        ("bytes when it is unpacked", unpacked, MAX_UNPACKED_BYTES),
    ):
        if not 0 <= count <= most:
            raise CorruptFileError(f"table {shown} has {count:,} {what}: allowed are at most {most:,}")
    schema = file.schema_arrow
    if (raw := (schema.metadata or {}).get(METADATA_KEY)) is not None:
        parse_json(raw, f"channel-bench metadata of {shown}")
    info = read_info(schema, str(path))
    there = {field.name: str(field.type) for field in schema}
    wanted = {field.name: str(field.type) for field in SCHEMA}
    if there != wanted or len(schema) != len(SCHEMA):
        differ = [f"{name} is {there.get(name, 'missing')}" for name in wanted if there.get(name) != wanted[name]]
        differ += [f"{name} is unknown" for name in there if name not in wanted]
        raise CorruptFileError(
            f"table {shown} has columns that differ from this version's:"
            f" {'; '.join(differ[:10]) or 'a name stands twice'}"
        )
    return info


def _read_rows(source: pa.NativeFile, footer: pq.FileMetaData, shown: str) -> pa.Table:
    """All rows, after their texts were found to be short."""
    _check_texts(source, footer, shown)
    source.seek(0)
    arrow = pq.ParquetFile(source, metadata=footer).read(use_threads=False)
    runs = column_values(arrow.column("run"))
    if len(runs) and runs.max() >= MAX_RUNS:
        raise CorruptFileError(f"table {shown} has a run {runs.max():,}: allowed are 0..{MAX_RUNS - 1}")
    return arrow


def _check_texts(source: pa.NativeFile, footer: pq.FileMetaData, shown: str) -> None:
    """Refuse a text that is long."""
    source.seek(0)
    # By its dictionary a text is there once, whatever the number of rows that have it. Arrow could write it out for
    # every row, but not without importing pyarrow.compute, which takes longer than to read these columns twice.
    texts = pq.ParquetFile(source, metadata=footer, read_dictionary=_TEXTS).read(_TEXTS, use_threads=False)
    for name, column in zip(texts.column_names, texts.columns, strict=True):
        for chunk in column.chunks:
            longest = _longest(chunk.dictionary if isinstance(chunk, pa.DictionaryArray) else chunk)
            if longest > MAX_TEXT:
                raise CorruptFileError(
                    f"table {shown}: column {name!r} has a text of {longest:,} bytes: allowed are at most {MAX_TEXT:,}"
                )


def _longest(texts: pa.StringArray) -> int:
    """Bytes of the longest of some texts."""
    offsets = np.frombuffer(texts.buffers()[1] or b"", np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return int(np.diff(offsets).max(initial=0))
