"""Scores of a method: one number per architecture, higher is better; read from and written to files.

    >>> scores = read_scores(Path("my.csv"), get_space("resnet"))

Accepted are CSV, Parquet and JSON with one row per architecture: a column of architectures (7 digits, an index, or the
channels of the seven slots) and a column of scores. Part of the space is enough; what is missing is named, never
filled in. JSON may be a list of rows, a list of rows under one key (the released BCNetV2 score files are), or one
object that maps architectures to scores.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from channel_bench.errors import ArchError, ArgumentError, CorruptFileError, MissingDataError, os_reason
from channel_bench.record import parquet_bytes
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, Space
from channel_bench.support.durable import write_atomic

ARCH_COLUMNS = ("arch", "architecture", "subnet", "width", "channels")
SCORE_COLUMNS = ("score", "scores")
INDEX_COLUMN = "index"
"""Taken for architectures only where there is no other column: data frames number their rows under this name, too."""
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
    """How they were made: recipe, seed, data set, seconds ..."""
    columns: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """Other scores of the same architectures, such as the validation loss; float64 (n,) each."""

    @property
    def missing(self) -> list[str]:
        """Architectures without a score, as text."""
        there = np.zeros(NUM_ARCHS, bool)
        there[self.indices] = True
        return [self.space.text(int(index)) for index in np.flatnonzero(~there)]


def make_scores(
    method: str,
    space: Space,
    indices: npt.ArrayLike,
    values: npt.ArrayLike,
    facts: dict[str, Any] | None = None,
    columns: dict[str, npt.NDArray[np.float64]] | None = None,
) -> Scores:
    """Check and sort scores.

    Args:
        method: Name that reports show.
        space: The space.
        indices: Integers (n,).
        values: Numbers (n,), higher is better.
        facts: How they were made.
        columns: Other scores of the same architectures, numbers (n,) each.

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
    others = {name: np.asarray(column, np.float64)[order] for name, column in (columns or {}).items()}
    twice = np.flatnonzero(np.diff(rows) == 0)
    if twice.size:
        raise ArgumentError(f"architecture {space.text(int(rows[twice[0]]))} has more than one score")
    return Scores(method, space, rows, scores, facts or {}, others)


def write_scores(scores: Scores, path: Path) -> None:
    """Write scores as Parquet: ``arch`` (7 digits), ``score``, then the other columns; facts in the metadata.

    Raises:
        ArgumentError: The path has another ending than .parquet.
        StorageError: The file cannot be written; what was there is untouched.
    """
    if path.suffix != ".parquet":
        raise ArgumentError(f"score file {str(path)!r} must end in .parquet")
    texts = [scores.space.text(int(index)) for index in scores.indices]
    facts = {"method": scores.method, "space": scores.space.name, **scores.facts}
    table = pa.table({"arch": texts, "score": scores.values, **scores.columns})
    write_atomic((path, parquet_bytes(table.replace_schema_metadata({METADATA_KEY: json.dumps(facts).encode()}))))


def read_scores(path: Path, space: Space, *, arch_column: str | None = None, score_column: str | None = None) -> Scores:
    """Read a file of scores.

    Args:
        path: .csv, .parquet or .json.
        space: The space that the architectures are of.
        arch_column: Name of the column of architectures; default the first of ARCH_COLUMNS that is there.
        score_column: Name of the column of scores, with a minus before it where lower is better (``-val_loss``);
            default the first of SCORE_COLUMNS that is there.

    Raises:
        MissingDataError: There is no such file.
        CorruptFileError: The file cannot be read as its ending says.
        ArgumentError: No such column, a value is no architecture or no finite number, or an architecture is there
            twice.
    """
    columns, facts = _read_columns(path)
    if facts.get("space", space.name) != space.name:
        raise ArgumentError(f"{str(path)!r} holds scores of space {facts['space']!r}, not {space.name!r}")
    sign = -1.0 if score_column is not None and score_column.startswith("-") else 1.0
    score_column = score_column.removeprefix("-") if score_column is not None else None
    score_name = _pick(columns, score_column, SCORE_COLUMNS, "scores", "--score-column", path)
    rest = [name for name in columns if name != score_name]
    usual = (INDEX_COLUMN,) if rest == [INDEX_COLUMN] else ARCH_COLUMNS
    arch_name = _pick(columns, arch_column, usual, "architectures", "--arch-column", path)
    if arch_name == score_name:
        raise ArgumentError(f"{str(path)!r}: column {arch_name!r} cannot be both architectures and scores")
    indices = _read_archs(path, space, columns[arch_name], arch_name)
    scores = columns[score_name]
    if all(type(score) is float for score in scores):
        values = [sign * score for score in scores]
    else:
        archs = columns[arch_name]
        values = [sign * _read_score(path, row, archs[row], score) for row, score in enumerate(scores)]
    try:
        return make_scores(str(facts.pop("method", path.stem)), space, indices, values, facts)
    except ArgumentError as error:
        raise ArgumentError(f"{str(path)!r}: {error}") from None


def column_names(path: Path) -> list[str]:
    """Names of the columns of a file of scores, in lower case.

    Raises:
        MissingDataError: There is no such file.
        CorruptFileError: The file cannot be read as its ending says.
    """
    return list(_read_columns(path)[0])


def _read_archs(path: Path, space: Space, values: Sequence[Any], column: str) -> Sequence[int]:
    """Indices of the architectures of a file."""
    if column != INDEX_COLUMN and all(type(value) is str and len(value) == NUM_SLOTS for value in values):
        with contextlib.suppress(ArchError):  # row by row, which can say where it went wrong
            found: list[int] = space.index(list(values)).tolist()
            return found
    indices = []
    for number, value in enumerate(values):
        try:
            indices.append(_read_arch(space, value, column))
        except ArchError as error:
            raise ArgumentError(f"{str(path)!r}, row {number}: {error}") from None
    return indices


def _read_arch(space: Space, value: Any, column: str) -> int:
    """Index of an architecture in a file, where digits often arrive as one integer (4344424)."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if column == INDEX_COLUMN:
        return int(space.index({"index": value}))
    if isinstance(value, str):
        value = value.strip().strip("()[]").strip()
        if re.fullmatch(r"[0-9]+([-, ]+[0-9]+){6}", value):
            value = re.sub(r"[-, ]+", ",", value)
        elif re.fullmatch(r"[0-9]{1,5}", value):
            value = int(value)
    if column == "channels" and isinstance(value, str) and re.fullmatch(r"[0-9]+(,[0-9]+){6}", value):
        value = [int(part) for part in value.split(",")]
    if column == "channels" and isinstance(value, (list, tuple)):
        value = {"channels": value}
    if isinstance(value, int) and 10 ** (NUM_SLOTS - 1) <= value < 10**NUM_SLOTS:  # far above any index
        value = str(value)
    return int(space.index(space.arch(value)))


def _read_score(path: Path, number: int, arch: Any, score: Any) -> float:
    """A score as a float; CSV readers make null of "nan" and of an empty cell."""
    if score is None:
        return math.nan
    try:
        if isinstance(score, (bool, str, bytes)):
            raise TypeError
        return float(score)
    except (TypeError, ValueError, OverflowError):
        too_large = isinstance(score, int) and not isinstance(score, bool)
        shown = "an integer too large for a score" if too_large else repr(score)
        raise ArgumentError(
            f"{str(path)!r}, row {number}: score {shown[:60]} of {str(arch)[:60]} is not a number"
        ) from None


def _pick(
    columns: dict[str, Sequence[Any]], asked: str | None, usual: tuple[str, ...], what: str, option: str, path: Path
) -> str:
    asked = None if asked is None else asked.strip().lower()
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
    suffix = path.suffix.lower()
    if suffix not in readers:
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
        columns, facts = readers[suffix](data)
    except (pa.ArrowException, ValueError, TypeError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CorruptFileError(f"cannot read {str(path)!r} as {suffix[1:].upper()}: {reason}") from None
    names = [name.strip().lower() for name in columns]
    if len(set(names)) != len(names):
        raise ArgumentError(f"{str(path)!r} has more than one column of a name: {', '.join(columns)}")
    return dict(zip(names, columns.values(), strict=True)), facts


def _read_csv(data: bytes) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    return _columns_of(pa_csv.read_csv(io.BytesIO(data))), {}


def _read_parquet(data: bytes) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    table = pq.read_table(pa.BufferReader(data))
    facts = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"{}"))
    if not isinstance(facts, dict):
        raise ValueError("its metadata is not an object")
    return _columns_of(table), facts


def _columns_of(table: pa.Table) -> dict[str, Sequence[Any]]:
    if len(set(table.column_names)) != len(table.column_names):
        raise ValueError(f"more than one column of a name: {', '.join(table.column_names)}")
    return table.to_pydict()


def _read_json(data: bytes) -> tuple[dict[str, Sequence[Any]], dict[str, Any]]:
    content = json.loads(data, object_pairs_hook=_object)
    if isinstance(content, dict) and len(content) == 1 and isinstance(next(iter(content.values())), list):
        content = next(iter(content.values()))
    if isinstance(content, dict):
        return {"arch": list(content), "score": list(content.values())}, {}
    if not isinstance(content, list) or not content or not all(isinstance(row, dict) for row in content):
        raise ValueError("expected a list of objects, or an object that maps architectures to scores")
    names = list(content[0])
    for number, row in enumerate(content):
        if row.keys() != set(names):
            raise ValueError(f"row {number} has the keys {', '.join(row)}, the first row {', '.join(names)}")
    return {name: [row[name] for row in content] for name in names}, {}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key that is there twice would silently hide the first."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is there more than once in an object")
    return result
