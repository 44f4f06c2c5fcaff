"""Scores of a method: one number per architecture, higher is better; read from and written to files.

    >>> scores = read_scores(Path("my.csv"), get_space("resnet"))

Accepted are the formats of `harness.score_formats` (CSV, JSON, Parquet, arrays of numpy) with one row per architecture:
architectures in any notation, and a column of scores, or one for each seed. Part of the space is enough; what is
missing is named, never filled in.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArchError, ArgumentError
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, RATIOS, Space, is_own
from channel_bench.support.durable import write_atomic
from harness.score_formats import (
    ARCH_COLUMNS,
    INDEX_COLUMN,
    NO_NAME,
    NUMBER,
    SCORE_COLUMNS,
    Content,
    has_arch_labels,
    parquet_of,
    read_content,
    score_stem,
)

_SEED_COLUMN = re.compile(r"seed(0|[1-9][0-9]{0,17})")
_SEPARATORS = "[-, :|_]+"
_SEVEN = re.compile(f"[0-9.]+({_SEPARATORS}[0-9.]+){{6}}")


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
    every = scores.space.texts()
    texts = [every[index] for index in scores.indices.tolist()]
    facts = {"method": scores.method, **space_facts(scores.space), **scores.facts}
    write_atomic((path, parquet_of({"arch": texts, "score": scores.values, **scores.columns}, facts)))


def space_facts(space: Space) -> dict[str, str]:
    """What a score file says of its space: its name, and of a space of one's own the fingerprint of its networks."""
    return {"space": space.name} | ({"space_fingerprint": space.fingerprint} if is_own(space) else {})


def read_scores(path: Path, space: Space, *, arch_column: str | None = None, score_column: str | None = None) -> Scores:
    """Read a file of scores.

    Args:
        path: In a format of `harness.score_formats`, such as .csv, .parquet or .json.
        space: The space that the architectures are of.
        arch_column: Name of the column of architectures; default the first of ARCH_COLUMNS that is there, or row labels
            that are architectures.
        score_column: Name of the column of scores, with a minus before it where lower is better (``-val_loss``);
            default the first of SCORE_COLUMNS that is there.

    Raises:
        MissingDataError: There is no such file.
        CorruptFileError: The file cannot be read as its ending says, or is not what was written.
        ArgumentError: No such column, a value is no architecture or no finite number, or an architecture is there
            twice.
    """
    return _File(path, read_content(path), space).scores(arch_column, score_column)


def read_columns(path: Path, space: Space, score_columns: Sequence[str | None]) -> list[Scores]:
    """Read several columns of one file, which is read once; arguments and errors as `read_scores`."""
    file = _File(path, read_content(path), space)
    return [file.scores(None, column) for column in score_columns]


def read_seeds(
    path: Path, space: Space, *, arch_column: str | None = None, score_column: str | None = None
) -> list[Scores]:
    """Read a file of scores that may hold several seeds of one method, in columns ``seed0``, ``seed1`` ...

    Arguments and errors as `read_scores`.

    Returns:
        One for each seed, with it among the facts; a single one where the file has a column of scores, or where
        `score_column` names one.
    """
    file = _File(path, read_content(path), space)
    seeds = file.seed_columns if score_column is None else {}
    if not seeds:
        return [file.scores(arch_column, score_column)]
    # Our own leaderboard calls its files METHOD.SPACE.parquet.
    method = str(file.content.facts.get("method", score_stem(path).removesuffix(f".{space.name}")))
    found = [(seed, file.scores(arch_column, column)) for column, seed in seeds.items()]
    return [
        Scores(method, space, each.indices, each.values, {**each.facts, "seed": seed}, each.columns)
        for seed, each in found
    ]


def column_names(path: Path) -> list[str]:
    """Names of the columns of a file of scores, in lower case.

    Raises:
        MissingDataError: There is no such file.
        CorruptFileError: The file cannot be read as its ending says.
    """
    return read_content(path).names


@dataclass(frozen=True)
class _File:
    """A file of scores, for messages that say where something stands."""

    path: Path
    content: Content
    space: Space
    _read: dict[str, tuple[Sequence[Any], Sequence[int]]] = field(default_factory=dict, repr=False)

    @property
    def seed_columns(self) -> dict[str, int]:
        """Seeds by the name of their column, ascending, where the file has no column of scores."""
        if any(name in self.content.columns for name in SCORE_COLUMNS):
            return {}
        found = {name: int(match[1]) for name in self.content.names if (match := _SEED_COLUMN.fullmatch(name))}
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def scores(self, arch_column: str | None, score_column: str | None) -> Scores:
        """Scores of one column; arguments and errors as `read_scores`."""
        path, space, facts = self.path, self.space, dict(self.content.facts)
        if facts.get("space", space.name) != space.name:
            raise ArgumentError(f"{str(path)!r} holds scores of space {facts['space']!r}, not {space.name!r}")
        if facts.get("space_fingerprint", space.fingerprint) != space.fingerprint:
            raise ArgumentError(
                f"{str(path)!r} holds scores of other networks under the name {space.name!r}: the TOML file of the"
                " space or its family is not as it was"
            )
        arch_name, score_name = self._names(arch_column, score_column)
        sign = -1.0 if score_column is not None and score_column.startswith("-") else 1.0
        archs, indices = self._archs(arch_name)
        scores = self._column(score_name)
        if all(type(score) is float for score in scores):
            values = [sign * score for score in scores]
        else:
            values = [sign * self._score(row, archs[row], score) for row, score in enumerate(scores)]
        try:
            return make_scores(facts.pop("method", score_stem(path)), space, indices, values, facts)
        except ArgumentError as error:
            raise ArgumentError(f"{str(path)!r}: {error}") from None

    def _archs(self, name: str) -> tuple[Sequence[Any], Sequence[int]]:
        """A column of architectures as it stands, and their indices; for all columns of scores only once."""
        if name not in self._read:
            values = self._column(name)
            self._read[name] = values, self._indices(values, name)
        return self._read[name]

    def _names(self, arch_column: str | None, score_column: str | None) -> tuple[str, str]:
        """Names of the columns of architectures and scores."""
        score_column = score_column.removeprefix("-") if score_column is not None else None
        score_name = self._pick(score_column, SCORE_COLUMNS, "scores", "--score-column")
        rest = [name for name in self.content.names if name != score_name]
        usual = (INDEX_COLUMN,) if rest == [INDEX_COLUMN] else ARCH_COLUMNS
        if not any(name in rest for name in usual) and has_arch_labels(self.content):
            usual = (NO_NAME,)
        arch_name = self._pick(arch_column, usual, "architectures", "--arch-column")
        if arch_name == score_name:
            raise ArgumentError(f"{str(self.path)!r}: column {arch_name!r} cannot be both architectures and scores")
        return arch_name, score_name

    def _pick(self, asked: str | None, usual: tuple[str, ...], what: str, option: str) -> str:
        columns = self.content.names
        shown = ", ".join(name or "row labels without a name" for name in columns[:20]) or "none"
        asked = None if asked is None else asked.strip().lower()
        if asked is not None and asked not in columns:
            raise ArgumentError(f"{str(self.path)!r} has no column {asked!r}: it has {shown}")
        name = asked if asked is not None else next((name for name in usual if name in columns), None)
        if name is None:
            raise ArgumentError(
                f"{str(self.path)!r} has no column of {what}: looked for {', '.join(usual)}, it has {shown}; name yours"
                f" with {option}"
            )
        return name

    def _column(self, name: str) -> Sequence[Any]:
        try:
            return self.content.column(name)
        except (ValueError, OverflowError) as error:
            raise ArgumentError(f"{str(self.path)!r}: column {name!r}: {error}") from None

    def _indices(self, values: Sequence[Any], column: str) -> Sequence[int]:
        """Indices of the architectures of a column."""
        if column != INDEX_COLUMN and all(type(value) is str and len(value) == NUM_SLOTS for value in values):
            with contextlib.suppress(ArchError):  # row by row, which can say where it went wrong
                found: list[int] = self.space.index(list(values)).tolist()
                return found
        plain = [_plain_arch(value, column) for value in values]
        if _are_ratios(plain):
            plain = [{"ratios": [float(part) for part in _parts(value)]} for value in plain]
        indices = []
        for row, value in enumerate(plain):
            try:
                indices.append(int(self.space.index(self.space.arch(value))))
            except ArchError as error:
                raise ArgumentError(f"{str(self.path)!r}, row {row}: {error}{_zero_hint(value)}") from None
        self._check_one_notation(plain)
        return indices

    def _check_one_notation(self, plain: Sequence[Any]) -> None:
        """Refuse indices among digits: digits whose leading zeros a program dropped look like them."""
        rows = [row for row, value in enumerate(plain) if isinstance(value, int)]
        if rows and any(isinstance(value, str) for value in plain):
            raise ArgumentError(
                f"{str(self.path)!r}, row {rows[0]}: {plain[rows[0]]} is an index, other rows have seven digits or"
                " channels: write all architectures in one notation; digits start at 1"
            )

    def _score(self, row: int, arch: Any, score: Any) -> float:
        """A score as a float, also of text; NaN where there is none."""
        if score is None:
            return math.nan
        text = score.strip() if isinstance(score, str) else None
        if text is not None and text.lower() in _NO_SCORE:
            return math.nan
        try:
            if text is not None and not NUMBER.fullmatch(text):
                return _INFINITE[text.lower().lstrip("+")]
            if isinstance(score, (bool, bytes)):
                raise TypeError
            return float(score)
        except (KeyError, TypeError, ValueError, OverflowError):
            too_large = isinstance(score, int) and not isinstance(score, bool)
            shown = "an integer too large for a score" if too_large else repr(score)
            raise ArgumentError(
                f"{str(self.path)!r}, row {row}: score {shown[:60]} of {str(arch)[:60]} is not a number"
            ) from None


_NO_SCORE = ("", "nan", "na", "n/a", "#n/a", "null", "-nan")
_INFINITE = {"inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "-infinity": -math.inf}


def _plain_arch(value: Any, column: str) -> Any:
    """An architecture of a file as the space reads it, where digits often arrive as one integer (4344424)."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        value = _from_text(value.strip().strip("()[]").strip(), column)
    if column == INDEX_COLUMN:
        return {"index": value}
    if column == "channels" and isinstance(value, (list, tuple)):
        return {"channels": value}
    if isinstance(value, int) and 10 ** (NUM_SLOTS - 1) <= value < 10**NUM_SLOTS:  # far above any index
        return str(value)
    return value


def _from_text(text: str, column: str) -> Any:
    if re.fullmatch(r"-?[0-9]{1,18}(\.0)?" if column == INDEX_COLUMN else r"[0-9]{1,5}|[0-9]{1,18}\.0", text):
        return int(text.removesuffix(".0"))
    if not _SEVEN.fullmatch(text):
        return text
    parts = re.split(_SEPARATORS, text)
    if column == "channels" and all(part.isdigit() for part in parts):
        return [int(part) for part in parts]
    if all(NUMBER.fullmatch(part) for part in parts) and any(part.endswith(".") for part in parts):
        return [float(part) for part in parts]  # as numpy prints them: [1. 0.75 1. 1. 1. 0.5 1.]
    return ",".join(parts)


def _are_ratios(plain: Sequence[Any]) -> bool:
    """Whether a column holds ratios: seven of them in every row, and one in some row that no digit is.

    Then seven times 1 is the widest architecture, which alone could as well be the digits of the narrowest.
    """
    rows = list(map(_parts, plain))
    try:
        return all(
            isinstance(row, (list, tuple)) and len(row) == NUM_SLOTS and all(float(part) in RATIOS for part in row)
            for row in rows
        ) and any(float(part) != 1 for row in rows for part in row)
    except (TypeError, ValueError):
        return False


def _parts(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


def _zero_hint(value: Any) -> str:
    """What to do, behind the message about an architecture whose digits may count from zero."""
    if isinstance(value, dict):
        return ""
    digits = list(value) if isinstance(value, (list, tuple)) else re.sub("[^0-9]", "", str(value))
    is_short = isinstance(value, int) and value >= NUM_ARCHS and len(digits) < NUM_SLOTS
    fits = all(str(digit) in {"0", "1", "2", "3"} for digit in digits)
    if fits and (is_short or (len(digits) == NUM_SLOTS and any(str(digit) == "0" for digit in digits))):
        return "; digits start at 1: if yours start at 0, add 1 to each"
    return ""
