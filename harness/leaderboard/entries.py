"""Entries of the leaderboard: what one is, read and checked, made from score files.

    >>> entries = read_entries(entries_dir())
    >>> read_entry_scores(entries[0], get_space("resnet-mini"))      # a `Scores` per seed

An entry is one JSON file per method:

    {"method": "autoslim", "paper": "Yu and Huang, 2019", "url": "https://arxiv.org/abs/1903.11728",
     "code": "channel-harness rank autoslim --space resnet-mini --seeds 3", "notes": null,
     "results": {"resnet-mini": {"scores": {"file": "autoslim.resnet-mini.parquet", "sha256": "..."},
                                 "seeds": [0, 1, 2], "compute": {"train_gmac": 66.7, "fit_s": 93, "device": "cpu"},
                                 "reported": null}}}

``scores`` is a file beside the JSON, one column ``score`` or, with several supernets, ``seed0``, ``seed1`` ...; or
{"baseline": "flops"}; or null where only ``reported`` numbers of a paper are known. A file that is not public
has {"external": NAME, "sha256", "source"}: it is recomputed for whoever has it. The sum of every file is checked, so
that scores and entry cannot drift apart. Scores that are a fit to those of another entry of the folder
(`harness.smoothing`) have {"derived": METHOD, "form": FORM} and no file: they are fitted when they are read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from channel_bench.errors import ArgumentError, ChannelBenchError, CorruptFileError, MissingDataError, unknown_name
from channel_bench.space import NUM_ARCHS, Space, is_own
from channel_bench.support.durable import write_atomic
from channel_bench.support.reading import MIB, is_file, is_there, parse_json, read_file
from channel_bench.table import shipped
from harness.judge.groups import check_name, numbered
from harness.leaderboard.keys import ENTRY_KEYS, check_entry, check_url
from harness.score_formats import MAX_SCORE_BYTES, parquet_of
from harness.scores import Scores, read_columns, space_facts
from harness.smoothing import FORMS, smooth_scores

MIN_SHARE = 0.99
"""Share of the architectures that an entry has to score."""
MAX_ENTRY_BYTES = MIB
"""Of the JSON of an entry; the largest of the package has a few kilobytes."""


@dataclass(frozen=True)
class Result:
    """An entry's scores in one space, or what its paper reports."""

    space: str
    scores: dict[str, str] | None
    """One of SCORES_KEYS; None where there are only reported numbers."""
    seeds: list[int]
    """Of the supernets, in the order of the columns; [] for a baseline, or where the seed is unknown."""
    compute: dict[str, Any] | None
    """COMPUTE_KEYS: billions of multiply-accumulates and seconds of one training, and the device."""
    reported: dict[str, Any] | None
    """REPORTED_KEYS; numbers of a paper, never recomputed."""


@dataclass(frozen=True)
class Entry:
    """One method on the leaderboard."""

    method: str
    paper: str | None
    url: str | None
    code: str | None
    """Where its code is, or the command that makes the scores."""
    notes: str | None
    results: dict[str, Result]
    """By space."""
    path: Path
    """The JSON file."""


def entries_dir() -> Path:
    """Folder of the entries that come with the package."""
    return shipped.shipped_dir() / "leaderboard"


# -- reading --------------------------------------------------------------------------------------------------------


def read_entries(folder: Path, on_broken: Callable[[ChannelBenchError], object] | None = None) -> list[Entry]:
    """All entries of a folder, by file name.

    Args:
        folder: Of the JSON files.
        on_broken: Called with the error of each entry that cannot be read, which is left out; without it, the first
            such error is raised. Raised is also the error of the only entry, or of all of them.

    Raises:
        MissingDataError: There is no such folder, or no entry in it.
        CorruptFileError: A file is not JSON.
        ArgumentError: A key is missing or unknown, a value is of the wrong kind or out of range, or two entries have
            one name.
    """
    try:
        paths = sorted(folder.glob("*.json"))
    except (OSError, ValueError):  # a name that no folder can have
        paths = []
    if not paths:
        raise MissingDataError(f"there is no leaderboard entry (*.json) in {str(folder)[:200]!r}")
    entries: dict[str, Entry] = {}
    errors: list[ChannelBenchError] = []
    for path in paths:
        try:
            entry = read_entry(path)
            if entry.method in entries:
                raise ArgumentError(
                    f"two entries in {str(folder)!r} are called {entry.method!r}: {path.name} and"
                    f" {entries[entry.method].path.name}; names must differ"
                )
            entries[entry.method] = entry
        except ChannelBenchError as error:
            errors.append(error)
    if errors and (on_broken is None or not entries):
        raise errors[0]
    if on_broken is not None:
        for each in errors:
            on_broken(each)
    return list(entries.values())


def read_entry(path: Path) -> Entry:
    """One entry, checked but for its scores; errors as `read_entries`."""
    content = _read_json(path)
    check_entry(path, content)
    results = {space: Result(space, **result) for space, result in content["results"].items()}
    return Entry(**{key: content[key] for key in ENTRY_KEYS if key != "results"}, results=results, path=path)


def _read_json(path: Path) -> Any:
    return parse_json(read_file(path, "entry", MAX_ENTRY_BYTES), f"entry {str(path)!r}")


def read_entry_scores(entry: Entry, space: Space, external_dir: Path | None = None) -> list[Scores] | None:
    """Scores of an entry in a space, one for each seed; None where it is a baseline or has no scores.

    Args:
        entry: The entry.
        space: One of its spaces.
        external_dir: Folder of score files that are not public.

    Raises:
        MissingDataError: A file is missing; for one that is not public the message says where it comes from.
        CorruptFileError: A file is not the one that the entry names, by its SHA-256.
        ArgumentError: A file does not hold what scores must be, or other seeds than the entry says; or scores are a fit
            to those of an entry that the folder does not have in this space.
    """
    result = entry.results[space.name]
    if result.scores is None or "baseline" in result.scores:
        return None
    if "derived" in result.scores:
        return _derived(entry, result.scores, space)
    path = _score_file(entry, result.scores, external_dir)
    seeds: list[int | None] = [*result.seeds] or [None]
    columns = [f"seed{seed}" for seed in seeds] if len(seeds) > 1 else [None]
    found = read_columns(path, space, columns)
    _check_share(len(found[0].indices), f"score file {str(path)!r} has")
    facts = {**(result.compute or {})}
    facts["train_macs"] = None if facts.get("train_gmac") is None else facts["train_gmac"] * 1e9
    return [
        Scores(entry.method, space, each.indices, each.values, {**each.facts, **facts, "seed": seed})
        for seed, each in zip(seeds, found, strict=True)
    ]


def check_entry_scores(entry: Entry, space: Space) -> None:
    """Whether an entry's scores in a space can be had; no fit is made for it. Raises as `read_entry_scores`."""
    scores = entry.results[space.name].scores or {}
    if "derived" in scores:
        _source_of(entry, scores, space)
    else:
        read_entry_scores(entry, space)


def _derived(entry: Entry, scores: Mapping[str, str], space: Space) -> list[Scores]:
    """Scores by a fit to those of another entry of the folder."""
    source = _source_of(entry, scores, space)
    return [smooth_scores(each, scores["form"]) for each in read_entry_scores(source, space) or []]


def _source_of(entry: Entry, scores: Mapping[str, str], space: Space) -> Entry:
    """The entry of the folder whose scores an entry is a fit to."""
    path = entry.path.with_name(f"{_slug(scores['derived'])}.json")
    source = read_entry(path) if is_file(path) else None
    result = None if source is None else source.results.get(space.name)
    if source is None or result is None or source.method != scores["derived"] or "file" not in (result.scores or {}):
        raise ArgumentError(
            f"entry {str(entry.path)!r} is a fit to scores of {scores['derived']!r} in {space.name}: its folder has no"
            " entry with a file of these"
        )
    if entry.results[space.name].seeds != result.seeds:
        raise ArgumentError(
            f"entry {str(entry.path)!r} has seeds {entry.results[space.name].seeds} in {space.name}, the scores that it"
            f" is a fit to have {result.seeds}"
        )
    return source


def _slug(method: str) -> str:
    """The name of a method as part of a file name."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in method)


def _score_file(entry: Entry, scores: Mapping[str, str], external_dir: Path | None) -> Path:
    """The score file of an entry, held against its SHA-256."""
    if "external" not in scores:
        path = entry.path.parent / scores["file"]
    elif external_dir is not None and is_file(external_dir / scores["external"]):
        path = external_dir / scores["external"]
    else:
        raise MissingDataError(
            f"scores of {entry.method!r} are not here: {scores['external']} from {scores['source']}; name its"
            " folder with --external"
        )
    digest = hashlib.sha256(read_file(path, "score file", MAX_SCORE_BYTES)).hexdigest()
    if digest != scores["sha256"]:
        raise CorruptFileError(
            f"score file {str(path)!r} has SHA-256 {digest[:16]}..., the entry says {scores['sha256'][:16]}..."
        )
    return path


def _check_share(num_scored: int, what: str) -> None:
    """Refuse scores of so few architectures that they would shrink the comparison for all other entries."""
    if num_scored < MIN_SHARE * NUM_ARCHS:
        raise ArgumentError(
            f"{what} {num_scored:,} of {NUM_ARCHS:,} architectures: an entry needs {MIN_SHARE:.0%}, because entries are"
            " compared on the architectures that all of them score"
        )


# -- making ---------------------------------------------------------------------------------------------------------


def make_entry(
    rankings: Sequence[Scores], *, method: str, paper: str | None, url: str | None, code: str | None, notes: str | None
) -> dict[Path, bytes]:
    """A new entry from score files of one method and space: JSON and score file, by name.

    Args:
        rankings: One for each seed, of the same architectures.
        method: Its name.
        paper: Authors, year, title.
        url: Of the paper.
        code: Where the code is, or the command that makes the scores.
        notes: What a reader should know about the scores.

    Raises:
        ArgumentError: The rankings cover different architectures, different spaces or too few architectures; seeds are
            missing or equal; two rankings have the same scores; the name is reserved or not printable; or the address
            is not one of the web.
    """
    check_name(method)
    if url is not None:
        check_url(url)
    rankings = numbered(rankings)
    seeds = _checked_seeds(rankings)
    space, indices = rankings[0].space, rankings[0].indices
    columns = [f"seed{seed}" for seed in seeds] if len(rankings) > 1 else ["score"]
    every = space.texts()
    texts = [every[index] for index in indices.tolist()]
    values = {column: each.values for column, each in zip(columns, rankings, strict=True)}
    data = parquet_of({"arch": texts, **values}, space_facts(space) if is_own(space) else None)
    slug = _slug(method)
    file = f"{slug}.{space.name}.parquet"
    result = {
        "scores": {"file": file, "sha256": hashlib.sha256(data).hexdigest()},
        "seeds": seeds,
        "compute": _compute(rankings),
        "reported": None,
    }
    entry = {"method": method, "paper": paper, "url": url, "code": code, "notes": notes}
    content = {**entry, "results": {space.name: result}}
    return {Path(f"{slug}.json"): _entry_bytes(content), Path(file): data}


def make_derived_entry(method: str, space: Space, folder: Path, notes: str | None = None) -> dict[Path, bytes]:
    """A new entry of METHOD+FORM: a fit to the scores of the entry of METHOD in the same folder.

    Args:
        method: METHOD+FORM, with one of `harness.smoothing.FORMS`.
        space: Its space.
        folder: Where the entry of METHOD is.
        notes: What a reader should know about the scores.

    Returns:
        The JSON by its name, for `write_entry`.

    Raises:
        MissingDataError: The folder has no entry of METHOD.
        ArgumentError: It has none with scores in this space, or the name is not METHOD+FORM.
        UnknownNameError: There is no such form.
    """
    name, plus, form = method.rpartition("+")
    if not plus or not name:
        raise ArgumentError(
            f"{method!r} without score files: give one for each seed, or METHOD+FORM for a fit to those of an entry"
        )
    if form not in FORMS:
        raise unknown_name("form", form, FORMS)
    source = read_entry(folder / f"{_slug(name)}.json")
    result = source.results.get(space.name)
    if result is None or source.method != name or "file" not in (result.scores or {}):
        raise ArgumentError(f"entry {str(source.path)!r} has no scores of {name!r} in {space.name}: enter them first")
    content = {
        "method": method,
        "paper": source.paper,
        "url": source.url,
        "code": f"channel-harness rank {method} --space SPACE",
        "notes": notes or f"derived: {FORMS[form]}; nothing was trained beyond {name}",
        "results": {
            space.name: {
                "scores": {"derived": name, "form": form},
                "seeds": result.seeds,
                "compute": result.compute,
                "reported": None,
            }
        },
    }
    return {Path(f"{_slug(method)}.json"): _entry_bytes(content)}


def _checked_seeds(rankings: Sequence[Scores]) -> list[int]:
    """Seeds of rankings that can share one file; [] for a single ranking without a seed."""
    first = rankings[0]
    _check_share(len(first.indices), "the rankings score")
    if any(each.space != first.space or not np.array_equal(each.indices, first.indices) for each in rankings):
        raise ArgumentError("the rankings cover different architectures: an entry has one file for all seeds")
    seeds = [each.facts.get("seed") for each in rankings]
    known = [seed for seed in seeds if isinstance(seed, int) and not isinstance(seed, bool)]
    if len(rankings) > 1 and (len(known) < len(seeds) or len(set(known)) < len(known)):
        raise ArgumentError(f"seeds of the rankings are {seeds}: several rankings need seeds that differ")
    return known


def _entry_bytes(content: dict[str, Any]) -> bytes:
    """An entry as JSON for people: indented, the list of seeds on one line."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return (re.sub(r"\[\s+(\d[\d,\s]*?)\s+\]", lambda seeds: f"[{' '.join(seeds[1].split())}]", text) + "\n").encode()


def _compute(rankings: Sequence[Scores]) -> dict[str, Any] | None:
    found: dict[str, Any] = {"train_gmac": None, "fit_s": None, "device": rankings[0].facts.get("device")}
    for key, fact, scale in (("train_gmac", "train_macs", 1e9), ("fit_s", "fit_s", 1.0)):
        values = [each.facts[fact] for each in rankings if isinstance(each.facts.get(fact), (int, float))]
        if len(values) == len(rankings):
            found[key] = round(float(np.mean(values)) / scale, 3)
    return found if any(value is not None for value in found.values()) else None


def write_entry(files: Mapping[Path, bytes], folder: Path) -> list[Path]:
    """Put a new entry into a folder; a result of the same method in another space is added to the entry that is there.

    A result whose score file is missing or is not the one that the entry names is replaced. The JSON is moved into
    place last: an entry that is there has its scores.

    Raises:
        ArgumentError: The folder has this method in this space.
        CorruptFileError: What is there under the name of the entry is not JSON.
        StorageError: The file system refused; what was there is untouched.
    """
    (name,) = [path for path in files if path.name.endswith(".json")]
    contents = {folder / path: data for path, data in files.items() if path != name}
    contents[folder / name] = files[name]
    if is_there(folder / name):
        before, new = read_entry(folder / name), json.loads(files[name])
        twice = [space for space in before.results.keys() & new["results"].keys() if _is_whole(before, space)]
        if twice or before.method != new["method"]:
            if before.method != new["method"]:
                raise ArgumentError(
                    f"{str(folder / name)!r} is the entry of {before.method!r}, whose file has the same name as that of"
                    f" {new['method']!r}: choose a name that differs in its letters and digits"
                )
            raise ArgumentError(
                f"{str(folder / name)!r} has {before.method!r} in {', '.join(sorted(before.results))}: delete that"
                " result first, or choose another name"
            )
        content = _read_json(folder / name)
        content["results"] |= new["results"]
        content |= {key: new[key] for key in ("paper", "url", "code", "notes") if new[key] is not None}
        contents[folder / name] = _entry_bytes(content)
    write_atomic(*contents.items())
    return list(contents)


def _is_whole(entry: Entry, space: str) -> bool:
    """Whether the score file of a result, where it has one beside the entry, is there and the one that it names."""
    scores = entry.results[space].scores
    if scores is None or "file" not in scores:
        return True
    try:
        _score_file(entry, scores, None)
    except (MissingDataError, CorruptFileError):
        return False
    return True
