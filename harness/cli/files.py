"""Score files as arguments of a command: a file, a folder or a pattern, each with or without a name before it."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Sequence
from pathlib import Path

from channel_bench.errors import ArgumentError, MissingDataError
from channel_bench.space import Space, list_spaces
from channel_bench.support.reading import parse_json, read_file
from harness.leaderboard.entries import MAX_ENTRY_BYTES
from harness.leaderboard.keys import ENTRY_KEYS
from harness.score_formats import score_suffix
from harness.scores import Scores, read_seeds

MAX_FILES = 10_000
"""That one argument may stand for."""


def read_files(
    texts: Sequence[str], space: Space, arch_column: str | None, score_column: str | None, *, named: bool = True
) -> list[Scores]:
    """Scores of all files that arguments name, one for each seed, in the order given.

    Args:
        texts: FILE or NAME=FILE each, where FILE is a file, a folder or a pattern ("runs/*.csv").
        space: The space that the architectures are of.
        arch_column: As `harness.scores.read_scores`.
        score_column: As `harness.scores.read_scores`.
        named: Whether NAME= is understood.

    Raises:
        ArgumentError: An argument is neither a file nor NAME=FILE; or as `harness.scores.read_scores`.
        MissingDataError: A file is missing, or no file fits a folder or pattern.
        CorruptFileError: A file cannot be read.
    """
    found = []
    for text in texts:
        name, files = _named(text) if named else ("", text)
        for path in _paths(files, space):
            read = read_seeds(path, space, arch_column=arch_column, score_column=score_column)
            found += [dataclasses.replace(each, method=name) if name else each for each in read]
    return found


def _named(text: str) -> tuple[str, str]:
    """Name ("" if none is given) and file of an argument; an existing path is never split at "="."""
    name, sign, file = text.partition("=")
    if not sign or os.path.exists(text):
        return "", text
    if not name or not file:
        raise ArgumentError(f"{text[:200]!r} is neither a file nor NAME=FILE: give the name and the file")
    return name, file


def _paths(text: str, space: Space) -> list[Path]:
    """The score files that a file, a folder or a pattern stands for, by name."""
    path = Path(text)
    if os.path.isdir(text):
        found = [each for each in sorted(path.iterdir()) if _is_of_space(each, space)]
        what = f"folder {text[:200]!r} has no score file of space {space.name!r}"
    elif os.path.exists(text) or not glob.has_magic(text):
        return [path]
    else:
        found = [Path(each) for each in sorted(glob.glob(text))]
        what = f"no file fits the pattern {text[:200]!r}"
    if not found:
        raise MissingDataError(what)
    if len(found) > MAX_FILES:
        raise ArgumentError(f"{text[:200]!r} stands for {len(found):,} files: allowed are at most {MAX_FILES:,}")
    return found


def _is_of_space(path: Path, space: Space) -> bool:
    """Whether a file of a folder has scores, and not by its name those of another space: METHOD.SPACE.parquet.

    The entries of a leaderboard lie beside its score files, as JSON too.
    """
    suffix = score_suffix(path)
    others = set(list_spaces()) - {space.name}
    if suffix is None or path.name.startswith(".") or others.intersection(path.name.split(".")):
        return False
    if path.suffix != ".json" or path.stat().st_size > MAX_ENTRY_BYTES:
        return True
    data = read_file(path, "score file", MAX_ENTRY_BYTES)
    if not all(f'"{key}"'.encode() in data for key in ENTRY_KEYS):
        return True
    content = parse_json(data, f"score file {str(path)!r}")
    return not (isinstance(content, dict) and set(ENTRY_KEYS) <= content.keys())
