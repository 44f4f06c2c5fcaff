"""Files of scores in the formats that people have, as named columns.

    >>> content = read_content(Path("my.csv.gz"))
    >>> content.names, content.column("score")

Nothing here knows what an architecture is worth: a format says only which values stand in which column. Where a file
has no names for its columns, they get the names that `harness.scores` looks for, if and only if there is one way to
read the file; otherwise it is refused.

Files come from others, so everything is bounded before it is decoded: bytes, rows (`MAX_ROWS`), and values
(`MAX_VALUES`). Nothing is unpickled.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from channel_bench.errors import ArgumentError, CorruptFileError
from channel_bench.record import parquet_bytes
from channel_bench.space import NUM_ARCHS
from channel_bench.support.reading import MIB, parse_json, read_file

MAX_SCORE_BYTES = 64 * MIB
"""Of a file, and of its columns where it is compressed: 256 columns of 64 bits take half of it."""
MAX_TEXT_BYTES = 16 * MIB
"""Of text, decompressed: 1 KiB for each architecture."""
MAX_ROWS = 4 * NUM_ARCHS
"""A file has one row per architecture; one that has several is refused later, by the name of the architecture."""
MAX_VALUES = 256 * NUM_ARCHS
"""Rows times columns of a file."""
MAX_CELL = 256
"""Characters of a text in a binary file; the channels of seven slots take under 40."""
METADATA_KEY = b"channel_bench_scores"
HASH_KEY = b"channel_bench_scores_sha256"
NO_NAME = ""
"""Of a column of row labels: the index of a data frame that nobody named."""
ARCH_COLUMNS = ("arch", "architecture", "subnet", "width", "channels")
SCORE_COLUMNS = ("score", "scores")
INDEX_COLUMN = "index"
_DELIMITERS = ",;\t"
_ARCH = re.compile(r"[1-4]{7}|[(\[ ]*[0-9.]+([-, :|_]+[0-9.]+){6}[)\] ]*")


@dataclass(frozen=True)
class Content:
    """Columns of a file, their values not decoded before they are asked for."""

    columns: dict[str, Any]
    """Lists, or arrays of Arrow, all of one length, by name in lower case and in the order of the file."""
    facts: dict[str, Any] = field(default_factory=dict)
    """From the metadata of a Parquet file that this package wrote."""

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return list(self.columns)

    def column(self, name: str) -> Sequence[Any]:
        """Values of a column as Python objects.

        Raises:
            ValueError: A text is longer than MAX_CELL.
        """
        values = self.columns[name]
        return values if isinstance(values, list) else _decoded(name, values)


def read_content(path: Path) -> Content:
    """Read a file as its ending says; ``.gz`` may follow any ending.

    Raises:
        MissingDataError: There is no such file.
        CorruptFileError: It is no regular file of a reasonable size, or cannot be read as its ending says.
        ArgumentError: The ending is unknown, or two columns have one name.
    """
    suffix = score_suffix(path)
    if suffix is None:
        raise ArgumentError(f"score file {str(path)[-200:]!r} must end in {', '.join(_READERS)}; .gz may follow")
    data = read_file(path, "score file", MAX_SCORE_BYTES)
    if not data.strip():
        raise CorruptFileError(f"score file {str(path)!r} is empty")
    read, most = _READERS[suffix]
    try:
        content = read(_decompressed(data, most) if path.suffix.lower() == ".gz" else data)
    except _FAULTS as error:
        reason = " ".join(str(error).split())[:160]
        raise CorruptFileError(f"cannot read {str(path)!r} as {suffix[1:].upper()}: {reason}") from None
    except _DamagedError as error:
        raise CorruptFileError(f"score file {str(path)!r}: {error}") from None
    names = [name.strip().lower() for name in content.columns]
    if len(set(names)) != len(names):
        raise ArgumentError(f"{str(path)!r} has more than one column of a name: {', '.join(content.columns)}")
    return Content(dict(zip(names, content.columns.values(), strict=True)), content.facts)


def score_suffix(path: Path) -> str | None:
    """The ending that says the format of a score file, without ``.gz``; None if no format has it."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else (suffixes or [""])[-1]
    return suffix if suffix in _READERS else None


def score_stem(path: Path) -> str:
    """The name of a score file without its endings."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


class _DamagedError(Exception):
    """The values of a file are not those that were written."""


_FAULTS = (
    *(CorruptFileError, ValueError, TypeError, KeyError, OSError, EOFError, RuntimeError),  # with their kinds
    *(pa.ArrowException, csv.Error, zlib.error, zipfile.BadZipFile),
    *(SyntaxError, tokenize.TokenError),  # numpy reads the header of an array as Python text
)
"""What readers raise on a file that is not what its ending says; of numpy and Arrow, too."""


def _decompressed(data: bytes, most: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise ValueError(f"decompressed it has more than the {most:,} bytes that are allowed")
    return found


def _check_size(num_rows: int, num_values: int) -> None:
    """Refuse more rows or values than a file of scores can have."""
    if num_rows > MAX_ROWS:
        raise ValueError(f"it has {num_rows:,} rows: a file of scores has at most {MAX_ROWS:,}")
    if num_values > MAX_VALUES:
        raise ValueError(f"it has {num_values:,} values: a file of scores has at most {MAX_VALUES:,}")


# -- text -----------------------------------------------------------------------------------------------------------


def _text_of(data: bytes) -> str:
    """UTF-8, or UTF-16 where the file begins with a byte order mark, as Windows writes it."""
    if len(data) > MAX_TEXT_BYTES:
        raise ValueError(f"it has {len(data):,} bytes of text: allowed are at most {MAX_TEXT_BYTES:,}")
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    if not text.strip():
        raise ValueError("it is empty")
    return text


def _read_csv(data: bytes) -> Content:
    return _csv_columns(_text_of(data))


def _read_tsv(data: bytes) -> Content:
    return _csv_columns(_text_of(data), "\t")


def _csv_columns(text: str, delimiter: str | None = None) -> Content:
    """Columns of texts, as they stand in the file; lines that begin with # are comments."""
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if not line.lstrip().startswith("#") and line.strip()]
    comments = [line.lstrip().lstrip("#").strip() for line in lines[: _num_leading_comments(lines)] if line.strip()]
    if not kept:
        raise ValueError("it has only comments")
    delimiter = delimiter or _delimiter_of(kept[0])
    rows = list(_csv_rows(kept, delimiter))
    if comments and all(_is_number(cell) or _ARCH.fullmatch(cell) for cell in rows[0]):
        header = next(iter(_csv_rows([comments[-1]], delimiter)), [])  # numpy.savetxt writes the header as a comment
        if len(header) == len(rows[0]):
            rows.insert(0, header)
    header, body = rows[0], rows[1:]
    for number, row in enumerate(body):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} values, the header {len(header)} names")
    if len(set(header)) != len(header):
        raise ValueError(f"more than one column of a name: {', '.join(header)}")
    columns: dict[str, Any] = {name: [row[place] for row in body] for place, name in enumerate(header)}
    if delimiter != ",":
        columns = {name: _with_decimal_points(name, values) for name, values in columns.items()}
    return Content(_with_series(columns))


def _num_leading_comments(lines: Sequence[str]) -> int:
    return next((number for number, line in enumerate(lines) if not line.lstrip().startswith("#")), len(lines))


def _csv_rows(lines: Iterable[str], delimiter: str) -> Iterable[list[str]]:
    num_values = 0
    for number, row in enumerate(csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)):
        num_values += len(row)
        _check_size(number, num_values)
        yield [cell.strip() for cell in row]


def _delimiter_of(header: str) -> str:
    """The one delimiter that a header has; the comma where it has several."""
    found = [delimiter for delimiter in _DELIMITERS if delimiter in re.sub(r'"[^"]*"', "", header)]
    return found[0] if len(found) == 1 else ","


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None


NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"([+-]?)([0-9]*),([0-9]+)([eE][+-]?[0-9]+)?")


def _with_decimal_points(name: str, values: list[Any]) -> list[Any]:
    """A column whose numbers have decimal commas, with points instead; any other column as it is.

    Raises:
        ValueError: Every comma of the column could as well part thousands.
    """
    found = [_DECIMAL_COMMA.fullmatch(value) for value in values]
    others = [value for value, match in zip(values, found, strict=True) if match is None]
    if not any(found) or not all(re.fullmatch(r"[+-]?[0-9]*([eE][+-]?[0-9]+)?", value) for value in others):
        return values
    # A comma before other than three digits, or after a zero, is never one of thousands.
    if not any(m and (len(m[3]) != 3 or m[2].startswith("0") or not m[2] or len(m[2]) > 3 or m[4]) for m in found):
        first = next(value for value, match in zip(values, found, strict=True) if match)
        raise ValueError(f"{first!r} of column {name!r} may be a decimal or a thousand: write decimal points")
    return [value.replace(",", ".") for value in values]


# -- JSON -----------------------------------------------------------------------------------------------------------


def _read_json(data: bytes) -> Content:
    text = _text_of(data)
    lines = _json_lines(text)
    return _json_columns(lines if lines is not None else parse_json(text, "the file"))


def _read_json_lines(data: bytes) -> Content:
    lines = [line for line in _text_of(data).splitlines() if line.strip()]
    return _json_columns(_parsed_lines(lines))


def _json_lines(text: str) -> list[Any] | None:
    """Rows of a file that has one JSON object a line; None if it is one document."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or not (lines[0].startswith("{") and lines[0].endswith("}")):
        return None
    try:
        parse_json(lines[0], "row 0")
    except CorruptFileError:
        return None
    return _parsed_lines(lines)


def _parsed_lines(lines: Sequence[str]) -> list[Any]:
    _check_size(len(lines), len(lines))
    return [parse_json(line, f"row {number}") for number, line in enumerate(lines)]


_EXPECTED = (
    "expected a list of objects, an object that maps architectures to scores, one list for each column, pairs of"
    " architecture and score, or what to_json of pandas writes"
)


def _json_columns(content: Any) -> Content:
    """Columns of any of the documents that say which value belongs to which architecture."""
    if isinstance(content, dict):
        return _columns_of_object(content)
    if not isinstance(content, list) or not content:
        raise ValueError(_EXPECTED)
    _check_size(len(content), len(content))
    if all(isinstance(row, dict) for row in content):
        return _columns_of_rows(content)
    if all(isinstance(row, list) and len(row) == 2 for row in content):
        return _columns_of_pairs(content)
    raise ValueError(_EXPECTED)


def _columns_of_object(content: dict[str, Any]) -> Content:
    values = list(content.values())
    if {"columns", "data"} <= content.keys() or content.keys() == {"name", "index", "data"}:
        return _columns_of_split(content)
    if content.keys() == {"schema", "data"} and isinstance(content["schema"], dict):
        return _columns_of_table(content)
    if len(content) == 1 and isinstance(values[0], list):
        return _json_columns(values[0])
    if content and all(isinstance(value, list) for value in values):
        return Content(_equally_long(content))
    if content and all(isinstance(value, dict) for value in values):
        return _columns_of_nested(content)
    if any(isinstance(value, (list, dict)) for value in values):
        raise ValueError(_EXPECTED)
    if _has_names(content):
        return _columns_of_rows([content])
    _check_size(len(content), len(content))
    return Content({"arch": list(content), "score": values})


def _has_names(names: Iterable[str]) -> bool:
    """Whether these are names of columns: both an architecture and a score by their usual names."""
    known = {name.strip().lower() for name in names}
    return bool(known.intersection(ARCH_COLUMNS) and known.intersection(SCORE_COLUMNS))


def _columns_of_rows(rows: Sequence[dict[str, Any]]) -> Content:
    names = list(rows[0])
    _check_size(len(rows), len(rows) * len(names))
    for number, row in enumerate(rows):
        if row.keys() != set(names):
            raise ValueError(f"row {number} has the keys {', '.join(row)}, the first row {', '.join(names)}")
    return Content({name: [row[name] for row in rows] for name in names})


def _columns_of_pairs(pairs: Sequence[list[Any]]) -> Content:
    """Pairs of architecture and score."""
    if all(_is_arch(score) for _, score in pairs):
        raise ValueError("the second value of every pair looks like an architecture: write [architecture, score]")
    return Content({"arch": [arch for arch, _ in pairs], "score": [score for _, score in pairs]})


def _columns_of_split(content: dict[str, Any]) -> Content:
    """What ``to_json(orient="split")`` writes, of a frame or of a series."""
    data, labels = content["data"], content.get("index")
    names = content.get("columns", [content.get("name") or "score"])
    if "columns" not in content:
        data = [[value] for value in data]
    rows = data if labels is None else [[label, *row] for label, row in zip(labels, data, strict=True)]
    names = [*([] if labels is None else [NO_NAME]), *map(str, names)]
    _check_size(len(rows), len(rows) * len(names))
    if any(not isinstance(row, list) or len(row) != len(names) for row in rows) or len(set(names)) != len(names):
        raise ValueError("its rows do not have the values that its columns name")
    return Content(_with_series({name: [row[place] for row in rows] for place, name in enumerate(names)}))


def _columns_of_table(content: dict[str, Any]) -> Content:
    """What ``to_json(orient="table")`` writes."""
    rows = content["data"]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError(_EXPECTED)
    columns = _columns_of_rows(rows).columns
    if content["schema"].get("primaryKey") == [INDEX_COLUMN]:
        columns = {NO_NAME if name == INDEX_COLUMN else name: values for name, values in columns.items()}
    return Content({"score" if name == "values" else name: values for name, values in columns.items()})


def _columns_of_nested(content: dict[str, dict[str, Any]]) -> Content:
    """Objects in an object: by row and column, by column and row (both of pandas), or scores under one name."""
    inner = next(iter(content.values()))
    _check_size(max(len(content), len(inner)), sum(map(len, content.values())))
    by_row = all(map(_is_arch, content)) or (not all(map(_is_arch, inner)) and _has_names(inner))
    by_column = all(map(_is_arch, inner)) or _has_names(content)
    if by_row == by_column:
        raise ValueError(_EXPECTED)
    if by_row:
        labels, rows = list(content), content
        columns = _columns_of_rows(list(rows.values())).columns
    else:
        labels = list(inner)
        if any(column.keys() != inner.keys() for column in content.values()):
            raise ValueError("its columns do not have the same rows")
        columns = {name: [column[label] for label in labels] for name, column in content.items()}
    if NO_NAME in columns:
        raise ValueError("one of its columns has no name")
    return Content({NO_NAME: labels, **columns})


def _equally_long(columns: Mapping[str, list[Any]]) -> dict[str, Any]:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length:,}" for name, length in list(lengths.items())[:10])
        raise ValueError(f"its columns differ in length: {shown}")
    _check_size(max(lengths.values()), sum(lengths.values()))
    return dict(columns)


# -- labels of rows -------------------------------------------------------------------------------------------------


def _with_series(columns: dict[str, Any]) -> dict[str, Any]:
    """A series without a name, which pandas calls 0, as the score of its index."""
    if set(columns) == {NO_NAME, "0"}:
        return {NO_NAME: columns[NO_NAME], "score": columns["0"]}
    return columns


def _is_arch(value: Any) -> bool:
    """Whether a value is written as an architecture, and cannot be the number of a row."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        value = str(value)
    return isinstance(value, str) and _ARCH.fullmatch(value) is not None


def has_arch_labels(content: Content) -> bool:
    """Whether rows have labels without a name that are architectures, and not just the numbers of the rows."""
    return NO_NAME in content.columns and all(map(_is_arch, content.column(NO_NAME)))


# -- binary ---------------------------------------------------------------------------------------------------------


def parquet_of(columns: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> bytes:
    """A Parquet file of scores, with a hash of its content in the metadata that reading it checks.

    Args:
        columns: ``arch`` as 7 digits, then float64 (n,) each.
        facts: How they were made, for the metadata.
    """
    table = pa.table(dict(columns))
    said = b"" if facts is None else json.dumps(facts).encode()
    metadata = {HASH_KEY: content_sha256(table, said).encode()}
    if facts is not None:
        metadata[METADATA_KEY] = said
    return parquet_bytes(table.replace_schema_metadata(metadata))


def content_sha256(table: pa.Table, facts: bytes) -> str:
    """SHA-256 of what a file of scores says, whatever wrote it and however it is compressed.

    Over the facts as they stand in the metadata, then every column: its name, and its values in the order of the
    architectures, text as UTF-8 lines and numbers as little-endian float64.

    Raises:
        ValueError: A column is neither text nor numbers.
    """
    digest = hashlib.sha256(facts)
    for name in table.column_names:
        _check_cells(name, table[name])
    order = pc.sort_indices(table["arch"].cast(pa.string())).to_numpy()
    for name in table.column_names:
        column = table[name]
        if pa.types.is_floating(column.type):
            values = np.ascontiguousarray(column.to_numpy()[order], "<f8").tobytes()
        else:
            values = "\n".join(column.cast(pa.string()).take(order).to_pylist()).encode()
        digest.update(f"\n{name} {column.null_count} {len(values)}\n".encode() + values)
    return digest.hexdigest()


def _read_parquet(data: bytes) -> Content:
    buffer = pa.BufferReader(data)
    found = pq.ParquetFile(buffer)
    _check_parquet(found)
    columns = [found.schema.column(number) for number in range(found.metadata.num_columns)]
    texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    # A dictionary stays one in memory: spelled out, one long text in a page of some bytes could fill any memory.
    table = pq.ParquetFile(buffer, metadata=found.metadata, read_dictionary=texts).read()
    if len(set(table.column_names)) != len(table.column_names):
        raise ValueError(f"more than one column of a name: {', '.join(table.column_names)}")
    metadata = table.schema.metadata or {}
    said = metadata.get(METADATA_KEY)
    facts = {} if said is None else parse_json(said, "the metadata")
    _check_facts(facts)
    stated = metadata.get(HASH_KEY)
    if stated is not None and _hash_or_none(table, said or b"") != stated:
        raise _DamagedError(
            f"its content is not what was written: the hash in its metadata, {stated[:16].decode('ascii', 'replace')}"
            "..., does not fit; get the file again, or, if you changed it, write it without that metadata"
        )
    named = {NO_NAME if name == "__index_level_0__" else name: table[name] for name in table.column_names}
    return Content(_with_series(named), facts)


def _check_parquet(file: pq.ParquetFile) -> None:
    """Refuse, by its metadata, a file that would take much memory to decode.

    The metadata of single chunks is left alone: Arrow ends the process where that is damaged.
    """
    found = file.metadata
    _check_size(found.num_rows, found.num_rows * found.num_columns)
    _check_size(found.num_row_groups, found.num_row_groups * found.num_columns)
    groups = [found.row_group(number) for number in range(found.num_row_groups)]
    _check_size(sum(group.num_rows for group in groups), 0)
    num_bytes = sum(group.total_byte_size for group in groups)
    columns = [file.schema.column(number) for number in range(found.num_columns)]
    num_bytes += found.num_rows * sum(column.length for column in columns if column.length > 0)
    if num_bytes > MAX_SCORE_BYTES:
        raise ValueError(f"decompressed it has {num_bytes:,} bytes: allowed are at most {MAX_SCORE_BYTES:,}")
    for column in columns:
        if column.physical_type == "BYTE_ARRAY" and column.max_repetition_level:
            raise ValueError(f"column {column.path} has lists of texts: allowed are numbers, lists of them and texts")


def _hash_or_none(table: pa.Table, facts: bytes) -> bytes | None:
    """The hash of a table; None where it is no table that this package writes."""
    try:
        return content_sha256(table, facts).encode()
    except (pa.ArrowException, KeyError, ValueError, TypeError, UnicodeError):
        return None


_AMOUNTS = ("fit_s", "score_s", "train_macs")


def _check_facts(facts: Any) -> None:
    """Refuse facts of another type or range than those that a report calculates with.

    Raises:
        ValueError: The first that is wrong.
    """
    if not isinstance(facts, dict):
        raise ValueError("its metadata is not an object")
    for name in ("method", "space"):
        if not isinstance(facts.get(name, ""), str):
            raise ValueError(f"{name!r} in its metadata is {str(facts[name])[:60]!r}: allowed is text")
    seed = facts.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise ValueError(f"'seed' in its metadata is {str(seed)[:60]!r}: allowed are integers from 0")
    for name in _AMOUNTS:
        value = facts.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0):
            raise ValueError(f"{name!r} in its metadata is {str(value)[:60]!r}: allowed are numbers from 0")


def _decoded(name: str, values: pa.ChunkedArray) -> list[Any]:
    """Values of a column of Arrow.

    Arrow makes an object of its own of every value on the way to Python's; NumPy's numbers and the few words of a
    dictionary go there directly.
    """
    _check_cells(name, values)
    found: list[Any]
    if values.null_count or not (pa.types.is_floating(values.type) or pa.types.is_dictionary(values.type)):
        found = values.to_pylist()
    elif pa.types.is_floating(values.type):
        found = values.to_numpy().tolist()
    else:
        words = [chunk.dictionary.to_pylist() for chunk in values.chunks]
        places = [chunk.indices.to_numpy().tolist() for chunk in values.chunks]
        found = [some[place] for some, those in zip(words, places, strict=True) for place in those]
    return found


def _check_cells(name: str, values: pa.ChunkedArray) -> None:
    """Refuse long texts: one that a dictionary holds may stand in every row."""
    if pa.types.is_dictionary(values.type):
        longest = max((_longest(chunk.dictionary) for chunk in values.chunks), default=0)
    else:
        longest = _longest(values)
    if longest > MAX_CELL:
        raise ValueError(f"a value of column {name!r} has {longest:,} bytes: allowed are at most {MAX_CELL}")


def _longest(values: Any) -> int:
    """Bytes of the longest text of an array; 0 if it holds none."""
    kind = values.type
    if not (pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind)):
        return 0
    return pc.max(pc.binary_length(values)).as_py() or 0


def _read_npy(data: bytes) -> Content:
    return _array_columns({"score": _array_of(data)})


def _read_npz(data: bytes) -> Content:
    """Every array of an archive by its name."""
    arrays = {}
    left = MAX_SCORE_BYTES
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        _check_size(len(members), len(members))
        for member in members:
            left -= member.file_size
            if left < 0:
                raise ValueError(f"decompressed it has more than the {MAX_SCORE_BYTES:,} bytes that are allowed")
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"more than one array of the name {name}")
            arrays[name] = _array_of(archive.read(member))
    if len(arrays) == 1:
        arrays = {"score": next(iter(arrays.values()))}
    return _array_columns(arrays)


def _array_of(data: bytes) -> np.ndarray[Any, Any]:
    """An array of numbers or texts from the bytes of an .npy file, without unpickling anything.

    numpy allocates what the header says before it reads; so the header is held against the size first.
    """
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if dtype.kind not in "fiuUS":
        raise ValueError(f"its values are of type {dtype.name}: allowed are numbers and texts")
    _check_size(shape[0] if shape else 0, int(np.prod(shape, dtype=object)))
    if int(np.prod(shape, dtype=object)) * dtype.itemsize != len(data) - file.tell():
        raise ValueError("its size is not what its header says")
    found: np.ndarray[Any, Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def _array_columns(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Content:
    """Arrays beside one of architectures, or of all architectures in index order."""
    names = {name.strip().lower() for name in arrays}
    shapes = ", ".join(f"{name} {array.shape}" for name, array in list(arrays.items())[:10])
    if names.intersection((*ARCH_COLUMNS, INDEX_COLUMN)):
        if any(array.ndim == 0 or array.ndim > 2 for array in arrays.values()):
            raise ValueError(f"its arrays have the shapes {shapes}: allowed is one row for each architecture")
        return Content(_equally_long({name: array.tolist() for name, array in arrays.items()}))
    if any(array.shape != (NUM_ARCHS,) for array in arrays.values()):
        raise ValueError(
            f"its arrays have the shapes {shapes}: allowed is ({NUM_ARCHS},), the scores of all architectures in"
            " index order, or an array 'arch' beside them"
        )
    columns = {name: array.tolist() for name, array in arrays.items()}
    return Content({"arch": list(range(NUM_ARCHS)), **columns})


_READERS: dict[str, tuple[Callable[[bytes], Content], int]] = {
    ".csv": (_read_csv, MAX_TEXT_BYTES),
    ".tsv": (_read_tsv, MAX_TEXT_BYTES),
    ".parquet": (_read_parquet, MAX_SCORE_BYTES),
    ".json": (_read_json, MAX_TEXT_BYTES),
    ".jsonl": (_read_json_lines, MAX_TEXT_BYTES),
    ".npy": (_read_npy, MAX_SCORE_BYTES),
    ".npz": (_read_npz, MAX_SCORE_BYTES),
}
