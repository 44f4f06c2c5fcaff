"""Scores of a method: one number per architecture, higher is better; read from and written to files.

    >>> scores = read_scores(Path("my.csv"), get_space("resnet"))

Accepted are CSV, Parquet and JSON with one row per architecture: a column of architectures (7 digits, an index, or the
channels of the seven slots) and a column of scores. Part of the space is enough; what is missing is named, never
filled in. JSON may be a list of rows, a list of rows under one key (the released BCNetV2 score files are), or one
object that maps architectures to scores.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from channel_bench.durable import write_atomic
from channel_bench.errors import ArchError, ArgumentError, CorruptFileError, MissingDataError, os_reason
from channel_bench.space import NUM_ARCHS, Space

ARCH_COLUMNS = ("arch", "architecture", "subnet", "width", "channels", "index")
SCORE_COLUMNS = ("score", "scores")
METADATA_KEY = b"channel_bench_scores"


@dataclass(frozen=True)
class Scores:
    """Scores of some or all architectures of a space."""

    method: str
    """Name that reports show."""
    space: Space
    indices: npt.NDArray[np.int64]
    """int64 (n,), ascending, without duplicates."""
    values: npt.NDArray[np.float64]
    """float64 (n,), finite, higher is better."""
    facts: dict[str, Any] = field(default_factory=dict)
    """How they came about: recipe, seed, data set, seconds ..."""

    @property
    def missing(self) -> list[str]:
        """Architectures without a score, as text."""
        there = np.zeros(NUM_ARCHS, bool)
        there[self.indices] = True
        return [self.space.text(int(index)) for index in np.flatnonzero(~there)]


def make_scores(
    method: str, space: Space, indices: npt.ArrayLike, values: npt.ArrayLike, facts: dict[str, Any] | None = None
) -> Scores:
    """Check and sort scores.

    Args:
        method: Name that reports show.
        space: The space.
        indices: Integers (n,).
        values: Numbers (n,), higher is better.
        facts: How they came about.

    Raises:
        ArgumentError: No scores, NaN or infinite ones, or two of one architecture.
    """
    rows, scores = np.asarray(indices, np.int64), np.asarray(values, np.float64)
    if len(rows) == 0:
        raise ArgumentError(f"{method!r} has no scores")
    wrong = np.flatnonzero(~np.isfinite(scores))
    if wrong.size:
        first = int(wrong[0])
        raise ArgumentError(
            f"score of architecture {space.text(int(rows[first]))} is {scores[first]} ({wrong.size} of {len(scores)}"
            " scores are not finite): leave those rows out, part of the space is allowed"
        )
    order = np.argsort(rows, kind="stable")
    rows, scores = rows[order], scores[order]
    twice = np.flatnonzero(np.diff(rows) == 0)
    if twice.size:
        raise ArgumentError(f"architecture {space.text(int(rows[twice[0]]))} has more than one score")
    return Scores(method, space, rows, scores, facts or {})


def write_scores(scores: Scores, path: Path) -> None:
    """Write scores as Parquet: columns ``arch`` (7 digits) and ``score``, facts in the metadata.

    Raises:
        ArgumentError: The path has another ending than .parquet.
        StorageError: The file cannot be written; what was there is untouched.
    """
    if path.suffix != ".parquet":
        raise ArgumentError(f"score file {str(path)!r} must end in .parquet")
    texts = [scores.space.text(int(index)) for index in scores.indices]
    facts = {"method": scores.method, "space": scores.space.name, **scores.facts}
    table = pa.table({"arch": texts, "score": scores.values})
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(facts).encode()}), sink, compression="zstd")
    write_atomic(path, sink.getvalue().to_pybytes())


def read_scores(path: Path, space: Space, *, arch_column: str | None = None, score_column: str | None = None) -> Scores:
    """Read a file of scores.

    Args:
        path: .csv, .parquet or .json.
        space: The space that the architectures are of.
        arch_column: Name of the column of architectures; default the first of ARCH_COLUMNS that is there.
        score_column: Name of the column of scores; default the first of SCORE_COLUMNS that is there.

    Raises:
        MissingDataError: There is no such file.
        CorruptFileError: The file cannot be read as its ending says.
        ArgumentError: No such column, a value is no architecture or no finite number, or an architecture is there
            twice.
    """
    columns, facts = _read_columns(path)
    if facts.get("space", space.name) != space.name:
        raise ArgumentError(f"{str(path)!r} holds scores of space {facts['space']!r}, not {space.name!r}")
    arch_values = columns[_pick(columns, arch_column, ARCH_COLUMNS, "architectures", "--arch-column", path)]
    score_values = columns[_pick(columns, score_column, SCORE_COLUMNS, "scores", "--score-column", path)]
    indices, values = [], []
    for number, (arch, score) in enumerate(zip(arch_values, score_values, strict=True)):
        try:
            indices.append(_read_arch(space, arch))
        except ArchError as error:
            raise ArgumentError(f"{str(path)!r}, row {number}: {error}") from None
        score = math.nan if score is None else score  # CSV readers make null of "nan" and of an empty cell
        if isinstance(score, bool) or not isinstance(score, (int, float)):
            raise ArgumentError(f"{str(path)!r}, row {number}: score {score!r} of {arch} is not a number")
        values.append(float(score))
    try:
        return make_scores(facts.pop("method", path.stem), space, indices, values, facts)
    except ArgumentError as error:
        raise ArgumentError(f"{str(path)!r}: {error}") from None


def _read_arch(space: Space, value: Any) -> int:
    """Index of an architecture in a file, where digits often arrive as one integer (4344424)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and value >= NUM_ARCHS and str(value) in space:
        value = str(value)
    if isinstance(value, str):
        value = value.strip().strip("()[]").replace("-", ",").replace(" ", "").strip(",")
        if value.isdigit() and len(value) < 7:
            value = int(value)
    return int(space.index(value))


def _pick(
    columns: dict[str, Sequence[Any]], asked: str | None, usual: tuple[str, ...], what: str, option: str, path: Path
) -> str:
    if asked is not None and asked not in columns:
        raise ArgumentError(f"{str(path)!r} has no column {asked!r}: it has {', '.join(columns)}")
    name = asked or next((name for name in usual if name in columns), None)
    if name is None:
        raise ArgumentError(
            f"{str(path)!r} has no column of {what}: looked for {', '.join(usual)}, it has"
            f" {', '.join(columns) or 'none'}; name yours with {option}"
        )
    return name


def _read_columns(path: Path) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    """All columns of a file, and the facts in its metadata."""
    readers = {".csv": _read_csv, ".parquet": _read_parquet, ".json": _read_json}
    if path.suffix not in readers:
        raise ArgumentError(f"score file {str(path)!r} must end in {', '.join(readers)}")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingDataError(f"score file {str(path)!r} does not exist") from None
    except OSError as error:
        raise MissingDataError(f"cannot read score file {str(path)!r}: {os_reason(error)}") from None
    if not data.strip():
        raise CorruptFileError(f"score file {str(path)!r} is empty")
    try:
        return readers[path.suffix](data)
    except (pa.ArrowException, ValueError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CorruptFileError(f"cannot read {str(path)!r} as {path.suffix[1:].upper()}: {reason}") from None


def _read_csv(data: bytes) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    return pa_csv.read_csv(io.BytesIO(data)).to_pydict(), {}


def _read_parquet(data: bytes) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    table = pq.read_table(pa.BufferReader(data))
    facts = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    return table.to_pydict(), facts


def _read_json(data: bytes) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    content = json.loads(data)
    if isinstance(content, dict) and len(content) == 1 and isinstance(next(iter(content.values())), list):
        content = next(iter(content.values()))
    if isinstance(content, dict):
        return {"arch": list(content), "score": list(content.values())}, {}
    if not isinstance(content, list) or not content or not all(isinstance(row, dict) for row in content):
        raise ValueError("expected a list of objects, or an object that maps architectures to scores")
    names = list(content[0])
    for number, row in enumerate(content):
        if list(row) != names:
            raise ValueError(f"row {number} has the keys {', '.join(row)}, the first row {', '.join(names)}")
    return {name: [row[name] for row in content] for name in names}, {}
