"""The leaderboard: entries that carry their scores, and numbers that are recomputed from them.

    >>> board = make_board(read_entries(entries_dir()), load("resnet-mini"))
    >>> print_sheet(board_sheet(board))              # or: channel-harness leaderboard

An entry is one JSON file per method:

    {"method": "autoslim", "paper": "Yu and Huang, 2019", "url": "https://arxiv.org/abs/1903.11728",
     "code": "channel-harness rank autoslim --space resnet-mini --seeds 3", "notes": null,
     "results": {"resnet-mini": {"scores": {"file": "autoslim.resnet-mini.parquet", "sha256": "..."},
                                 "seeds": [0, 1, 2], "compute": {"train_gmac": 66.7, "fit_s": 93, "device": "cpu"},
                                 "reported": null}}}

``scores`` is a file beside the JSON, one column ``score`` or, with several supernets, ``seed0``, ``seed1`` ...; or
{"baseline": "flops"}; or null where only ``reported`` numbers of a paper are known, which are shown as such and never
beside recomputed ones as if they were. A file that may not be passed on has {"external": NAME, "sha256", "source"}: it
is recomputed for whoever has it. The sum of every file is checked, so that scores and entry cannot drift apart.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from channel_bench import shipped
from channel_bench.durable import write_atomic
from channel_bench.errors import ArgumentError, CorruptFileError, MissingDataError, os_reason, unknown_name
from channel_bench.record import parquet_bytes
from channel_bench.space import NUM_ARCHS, Space, get_space, list_spaces
from channel_bench.table import Table
from harness.baselines import BASELINES
from harness.report import Report, make_report
from harness.report_sheets import interval_text, interval_words
from harness.scores import Scores, read_scores
from harness.sheets import Sheet, decimals, to_html, to_markdown

ENTRY_KEYS = ("method", "paper", "url", "code", "notes", "results")
RESULT_KEYS = ("scores", "seeds", "compute", "reported")
SCORES_KEYS = (("file", "sha256"), ("baseline",), ("external", "sha256", "source"))
COMPUTE_KEYS = ("train_gmac", "fit_s", "device")
REPORTED_KEYS = ("kendall", "spearman", "pearson", "source")
MARKERS = ("<!-- leaderboard -->", "<!-- end of leaderboard -->")
"""What the overview stands between in a README."""
MIN_SHARE = 0.99
"""Share of the architectures that an entry has to score."""


@dataclass(frozen=True)
class Result:
    """An entry's scores in one space, or what its paper reports."""

    space: str
    scores: dict[str, str] | None
    """One of SCORES_KEYS; None where there are only reported numbers."""
    seeds: list[int]
    """Of the supernets, in the order of the columns; [] where there is no such thing."""
    compute: dict[str, Any] | None
    """COMPUTE_KEYS: billions of multiply-accumulates and seconds of one training, and the device."""
    reported: dict[str, Any] | None
    """REPORTED_KEYS; numbers of somebody else, never recomputed."""


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


@dataclass(frozen=True)
class Board:
    """Entries of one space, judged."""

    space: str
    report: Report | None
    """Of the entries that have scores here; None without the space's table, or without any scores."""
    entries: dict[str, Entry]
    """By the name of the row."""
    reported: list[Entry]
    """Those that report numbers of this space."""
    absent: dict[str, str] = field(default_factory=dict)
    """Entries whose scores are not here, and why."""


def entries_dir() -> Path:
    """Folder of the entries that come with the package."""
    return shipped.shipped_dir() / "leaderboard"


# -- reading --------------------------------------------------------------------------------------------------------


def read_entries(folder: Path) -> list[Entry]:
    """All entries of a folder, by file name.

    Raises:
        MissingDataError: There is no such folder, or no entry in it.
        CorruptFileError: A file is not JSON.
        ArgumentError: A key is missing or unknown, a value is of the wrong kind, or two entries have one name.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise MissingDataError(f"there is no leaderboard entry (*.json) in {str(folder)!r}")
    entries = [read_entry(path) for path in paths]
    names = [entry.method for entry in entries]
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise ArgumentError(f"two entries in {str(folder)!r} are called {twice!r}: names must differ")
    return entries


def read_entry(path: Path) -> Entry:
    """One entry, checked but for its scores; errors as `read_entries`."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise MissingDataError(f"cannot read entry {str(path)!r}: {os_reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"entry {str(path)!r} is not JSON: {' '.join(str(error).split())}") from None
    check = _Check(path)
    check.keys("the entry", content, ENTRY_KEYS)
    check.kind("method", content["method"], str, allow_none=False)
    for key in ("paper", "url", "code", "notes"):
        check.kind(key, content[key], str)
    check.kind("results", content["results"], dict, allow_none=False)
    results = {space: check.result(space, result) for space, result in content["results"].items()}
    if not results:
        check.fail("results is empty: at least one space is needed")
    return Entry(**{key: content[key] for key in ENTRY_KEYS if key != "results"}, results=results, path=path)


class _Check:
    """Says what is wrong with an entry."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fail(self, what: str) -> None:
        raise ArgumentError(f"entry {str(self._path)!r}: {what}")

    def keys(self, where: str, value: Any, wanted: Sequence[str]) -> None:
        self.kind(where, value, dict, allow_none=False)
        missing = [key for key in wanted if key not in value]
        unknown = [key for key in value if key not in wanted]
        if missing or unknown:
            told = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(unknown)}"] * bool(unknown)
            self.fail(f"{where} {' and '.join(told)}: its keys are {', '.join(wanted)}")

    def kind(self, where: str, value: Any, kind: type | tuple[type, ...], allow_none: bool = True) -> None:
        if (value is None and allow_none) or (isinstance(value, kind) and not isinstance(value, bool)):
            return
        names = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        self.fail(f"{where} is {str(value)[:60]!r}: allowed is {names}{' or null' if allow_none else ''}")

    def result(self, space: str, value: Any) -> Result:
        if space not in list_spaces():
            raise unknown_name(f"space in entry {str(self._path)!r}", space, list_spaces())
        self.keys(f"results of {space}", value, RESULT_KEYS)
        scores, reported, compute = value["scores"], value["reported"], value["compute"]
        if scores is not None:
            self.kind(f"scores of {space}", scores, dict)
            wanted = next((keys for keys in SCORES_KEYS if keys[0] in scores), SCORES_KEYS[0])
            self.keys(f"scores of {space}", scores, wanted)
            for key in wanted:
                self.kind(f"{key} of {space}", scores[key], str, allow_none=False)
            if "baseline" in scores and scores["baseline"] not in BASELINES:
                raise unknown_name(f"baseline in entry {str(self._path)!r}", scores["baseline"], BASELINES)
            file = scores.get("file", scores.get("external", "file"))
            if Path(file).name != file:
                self.fail(f"score file {file!r} is not a file name: it lies beside the entry")
        self.kind(f"seeds of {space}", value["seeds"], list, allow_none=False)
        for seed in value["seeds"]:
            self.kind(f"a seed of {space}", seed, int, allow_none=False)
        if compute is not None:
            self.keys(f"compute of {space}", compute, COMPUTE_KEYS)
            for key, kind in zip(COMPUTE_KEYS, ((int, float), (int, float), (str,)), strict=True):
                self.kind(f"{key} of {space}", compute[key], kind)
        if reported is not None:
            self.keys(f"reported of {space}", reported, REPORTED_KEYS)
            for key in REPORTED_KEYS[:-1]:
                self.kind(f"{key} of {space}", reported[key], (int, float))
            self.kind(f"source of {space}", reported["source"], str, allow_none=False)
        if scores is None and reported is None:
            self.fail(f"{space} has neither scores nor reported numbers")
        return Result(space, scores, list(value["seeds"]), compute, reported)


def read_entry_scores(entry: Entry, space: Space, external_dir: Path | None = None) -> list[Scores] | None:
    """Scores of an entry in a space, one for each seed; None where it is a baseline or has none.

    Args:
        entry: The entry.
        space: One of its spaces.
        external_dir: Folder of score files that may not be passed on.

    Raises:
        MissingDataError: A file is not there; of an external one the message says where it comes from.
        CorruptFileError: A file is not the one that the entry names, by its SHA-256.
        ArgumentError: A file does not hold what scores must be, or other seeds than the entry says.
    """
    result = entry.results[space.name]
    scores = result.scores
    if scores is None or "baseline" in scores:
        return None
    if "external" in scores:
        path = (external_dir or Path()) / scores["external"]
        if external_dir is None or not path.is_file():
            raise MissingDataError(
                f"scores of {entry.method!r} are not here: {scores['external']} from {scores['source']}; name its"
                " folder with --external"
            )
    else:
        path = entry.path.parent / scores["file"]
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MissingDataError(f"cannot read score file {str(path)!r}: {os_reason(error)}") from None
    if digest != scores["sha256"]:
        raise CorruptFileError(
            f"score file {str(path)!r} has SHA-256 {digest[:16]}..., the entry says {scores['sha256'][:16]}..."
        )
    seeds: list[int | None] = [*result.seeds] or [None]
    columns = [f"seed{seed}" for seed in seeds] if len(seeds) > 1 else [None]
    found = [read_scores(path, space, score_column=column) for column in columns]
    if len(found[0].indices) < MIN_SHARE * NUM_ARCHS:
        raise ArgumentError(
            f"score file {str(path)!r} has {len(found[0].indices):,} of {NUM_ARCHS:,} architectures: an entry needs"
            f" {MIN_SHARE:.0%}, because all are compared on what all have"
        )
    facts = {**(result.compute or {})}
    facts["train_macs"] = facts["train_gmac"] * 1e9 if facts.get("train_gmac") else None
    return [
        Scores(entry.method, space, each.indices, each.values, {**each.facts, **facts, "seed": seed})
        for seed, each in zip(seeds, found, strict=True)
    ]


# -- judging --------------------------------------------------------------------------------------------------------


def make_board(
    entries: Sequence[Entry],
    space: str,
    table: Table | None,
    *,
    external_dir: Path | None = None,
    num_replicates: int = 1000,
    on_step: Callable[[], object] | None = None,
) -> Board:
    """Recompute every number of a space from the scores.

    Args:
        entries: From `read_entries`.
        space: Its name.
        table: Its truth; None where that is not here, and then only reported numbers are shown.
        external_dir: Folder of score files that may not be passed on.
        num_replicates: Of the bootstrap.
        on_step: As `make_report`.

    Raises:
        As `read_entry_scores`, but for external files, and `make_report`.
    """
    mine = [entry for entry in entries if space in entry.results]
    groups: dict[str, list[Scores]] = {}
    absent, rows = {}, {}
    for entry in mine:
        scores = entry.results[space].scores
        if scores is None:
            continue
        rows[scores.get("baseline", entry.method)] = entry
        try:
            found = read_entry_scores(entry, get_space(space), external_dir)
        except MissingDataError as error:
            if "external" not in scores:
                raise
            absent[entry.method] = str(error)
            continue
        if found is not None:
            groups[entry.method] = found
    report = None
    if table is not None and rows.keys() - absent.keys():
        report = make_report(groups, table, num_replicates=num_replicates, budgets=[], on_step=on_step)
    elif table is None:
        absent = dict.fromkeys((entry.method for entry in rows.values()), "its table is not here")
    reported = [entry for entry in mine if entry.results[space].reported is not None]
    return Board(space, report, rows, reported, absent)


def overview_sheet(boards: Sequence[Board]) -> Sheet:
    """Kendall of every entry in every space: one row per entry, the best of the last space with methods on top."""
    names = list(dict.fromkeys(name for board in boards for name in [*board.entries, *_reporting(board)]))
    last = max(boards, key=lambda board: 0 if board.report is None else len(board.report.comparison.methods))
    order = {
        row.name: -np.nan_to_num(row.kendall, nan=-2) for row in (last.report.comparison.rows if last.report else [])
    }
    names.sort(key=lambda name: order.get(name, 3.0))
    lines = []
    for name in names:
        free = any(name in {row.name for row in board.report.comparison.baselines} for board in boards if board.report)
        lines.append([f"{name} (free)" if free else name, *(_overview_cell(board, name) for board in boards)])
    ceilings = [None if board.report is None else board.report.comparison.ceiling for board in boards]
    lines.append(["noise ceiling", *("-" if each is None else decimals(each.kendall, 3) for each in ceilings)])
    reports = [board.report for board in boards if board.report is not None]
    level = f"; in brackets the {reports[0].level:.0%} interval" if reports and reports[0].num_replicates else ""
    return Sheet(
        f"Kendall tau-b with trained accuracy{level}",
        ["method", *(board.space for board in boards)],
        lines,
        ["reported: a number of a paper, without scores to recompute it from; free: needs no training"],
    )


def _reporting(board: Board) -> list[str]:
    return [entry.method for entry in board.reported]


def _overview_cell(board: Board, name: str) -> str:
    rows = [] if board.report is None else board.report.comparison.rows
    row = next((row for row in rows if row.name == name and name in board.entries), None)
    if row is not None and board.report is not None:
        interval = interval_text(board.report.interval(name))
        return decimals(row.kendall, 3) + (f" ({interval})" if interval != "-" else "")
    entry = next((entry for entry in board.reported if entry.method == name), None)
    reported = (entry.results[board.space].reported or {}) if entry is not None else {}
    return "-" if reported.get("kendall") is None else f"reported {reported['kendall']:.3f}"


def board_sheet(board: Board) -> Sheet:
    """Everything recomputed, by falling Kendall, baselines among the methods."""
    columns = ["method", "seeds", "Kendall", "interval", "Spearman", "Pearson", "of ceiling", "equal FLOPs", "worth"]
    lines, notes = [], []
    if board.report is not None:
        comparison = board.report.comparison
        shown = [row for row in comparison.rows if row.name in board.entries]
        for row in sorted(shown, key=lambda row: -np.nan_to_num(row.kendall, nan=-2)):
            entry = board.entries[row.name]
            compute = entry.results[board.space].compute or {}
            lines.append(
                [
                    f"{entry.method} (free)" if row.kind == "baseline" else entry.method,
                    str(len(row.rankings) or "-"),
                    decimals(row.kendall, 3),
                    interval_text(board.report.interval(row.name)),
                    decimals(row.spearman, 3),
                    decimals(row.pearson, 3),
                    "-" if row.of_ceiling is None else decimals(row.of_ceiling.kendall, 3),
                    "-" if row.equal_flops is None else decimals(row.equal_flops.mean, 3),
                    "-" if row.worth is None else row.worth.text,
                    _gmac(row.kind, compute),
                    entry.paper or "-",
                ]
            )
        notes += _board_notes(board.report)
    notes += [f"{name}: {why}" for name, why in board.absent.items()]
    links = {entry.paper: entry.url for entry in board.entries.values() if entry.paper and entry.url}
    links |= {entry.method: entry.code for entry in board.entries.values() if entry.code}
    return Sheet(f"{board.space}: recomputed from scores", [*columns, "GMAC", "paper"], lines, notes, links)


def _gmac(kind: str, compute: Mapping[str, Any]) -> str:
    if kind == "baseline":
        return "0"
    return "-" if compute.get("train_gmac") is None else f"{compute['train_gmac']:,.0f}"


def _board_notes(report: Report) -> list[str]:
    comparison = report.comparison
    notes = [f"truth: table {comparison.table}, {comparison.truth}; n = {comparison.rows[0].n:,} architectures"]
    if comparison.ceiling is not None:
        notes.append(f"noise ceiling, what a perfect predictor would reach: Kendall {comparison.ceiling.kendall:.3f}")
    return [
        *notes,
        f"interval: {report.level:.0%}, {interval_words(report, report.over)}",
        "worth: trained architectures from which an additive fit ranks the rest as well; GMAC: multiply-accumulates of"
        " one training in billions",
    ]


def reported_sheet(board: Board) -> Sheet | None:
    """Numbers of papers, which nobody can recompute; None where there are none."""
    if not board.reported:
        return None
    lines = []
    for entry in board.reported:
        reported = entry.results[board.space].reported or {}
        values = [reported[key] for key in REPORTED_KEYS[:-1]]
        texts = ["-" if value is None else f"{value:.3f}" for value in values]
        lines.append([entry.method, *texts, reported["source"]])
    lines.sort(key=lambda line: line[1], reverse=True)
    note = "as reported: there are no scores to recompute these from, and no seeds, so nobody knows how sure they are"
    return Sheet(
        f"{board.space}: reported in papers", ["method", "Kendall", "Spearman", "Pearson", "source"], lines, [note]
    )


# -- writing --------------------------------------------------------------------------------------------------------


def sheets_of(boards: Sequence[Board]) -> list[Sheet]:
    """All tables of the leaderboard: all spaces at a glance, then space by space."""
    sheets = [overview_sheet(boards)]
    for board in boards:
        if board.entries:
            sheets.append(board_sheet(board))
        reported = reported_sheet(board)
        if reported is not None:
            sheets.append(reported)
    return sheets


def board_markdown(boards: Sequence[Board], figure: str | None = None) -> str:
    """The leaderboard in Markdown."""
    picture = [f"![Kendall of every entry beside the noise ceiling]({figure})\n"] if figure else []
    return "\n".join([*picture, *map(to_markdown, sheets_of(boards))])


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>Channel-Bench leaderboard</title><style>
:root { color-scheme: light dark; --line: light-dark(#c9d0d8, #39424d); --muted: light-dark(#525b66, #a7b1bc); }
body { margin: 0 auto; padding: 0 16px 32px; max-width: 1400px; font: 16px/1.45 system-ui, sans-serif;
  background: light-dark(#ffffff, #12161b); color: light-dark(#1b1f24, #e8edf2); }
h1 { font-size: 1.4rem; } figure { margin: 28px 0; } figcaption { font-weight: 650; margin-bottom: 6px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px 4px 0; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
ul { margin: 8px 0 0; padding-left: 18px; color: var(--muted); font-size: 0.875rem; }
img { max-width: 100%; height: auto; background: #fff; }
</style></head><body><h1>Channel-Bench leaderboard</h1>
<p>Every number in the first tables is recomputed from the scores of an entry; what papers report stands apart.</p>
"""


def board_html(boards: Sequence[Board], image: str | None = None) -> str:
    """The leaderboard as one page that loads nothing.

    Args:
        boards: From `make_board`.
        image: A picture as a data URL.
    """
    picture = f'<img alt="Kendall of every entry beside the noise ceiling" src="{html.escape(image)}">' if image else ""
    return _PAGE + picture + "".join(map(to_html, sheets_of(boards))) + "</body></html>\n"


def write_boards(
    boards: Sequence[Board], folder: Path, *, figures: bool = True, readme: Path | None = None
) -> list[Path]:
    """Write README.md, leaderboard.html and, with `figures`, kendall.png; all of them or none.

    Args:
        boards: From `make_board`.
        folder: Made where it is missing.
        figures: Whether to draw.
        readme: A Markdown file that has the overview between MARKERS, which is replaced.

    Raises:
        ArgumentError: `readme` has not both of MARKERS.
        MissingDataError: `readme` cannot be read.
        MissingPackageError: matplotlib is not installed.
        StorageError: The file system refused; what was there is untouched.
    """
    files: dict[str, bytes] = {}
    reports = [board.report for board in boards if board.report is not None]
    if figures and reports:
        from harness.plots import draw_board

        files["kendall.png"] = draw_board(reports)
    image = "kendall.png" if files else None
    data_url = f"data:image/png;base64,{base64.b64encode(files[image]).decode()}" if image else None
    files["README.md"] = f"# Leaderboard\n\n{_HOW}\n{board_markdown(boards, image)}".encode()
    files["leaderboard.html"] = board_html(boards, data_url).encode()
    contents = {folder / name: data for name, data in files.items()}
    if readme is not None:
        contents[readme] = _with_overview(readme, to_markdown(overview_sheet(boards))).encode()
    write_atomic(*contents.items())
    return list(contents)


def _with_overview(path: Path, table: str) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MissingDataError(f"cannot read {str(path)!r}: {os_reason(error)}") from None
    before, begin, rest = text.partition(MARKERS[0])
    _, end, after = rest.partition(MARKERS[1])
    if not begin or not end:
        raise ArgumentError(f"{str(path)!r} has no place for the overview: put it between {' and '.join(MARKERS)}")
    return f"{before}{begin}\n{table}{end}{after}"


_HOW = """Every number in the first table of a space is recomputed from the scores of its entry, a JSON file in this
folder with a score file beside it. This page is written by `channel-harness leaderboard -o data/leaderboard`; how to
add an entry stands in the README of the project.
"""


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
        notes: What a reader has to know.

    Raises:
        ArgumentError: The rankings cover different architectures or spaces, or seeds are missing or the same.
    """
    first = rankings[0]
    if any(each.space != first.space or not np.array_equal(each.indices, first.indices) for each in rankings):
        raise ArgumentError("the rankings cover different architectures: an entry has one file for all seeds")
    seeds = [each.facts.get("seed") for each in rankings]
    known = [seed for seed in seeds if isinstance(seed, int)]
    if len(rankings) > 1 and (len(known) < len(seeds) or len(set(known)) < len(known)):
        raise ArgumentError(f"seeds of the rankings are {seeds}: several rankings need seeds that differ")
    columns = [f"seed{seed}" for seed in seeds] if len(rankings) > 1 else ["score"]
    arrow = pa.table(
        {
            "arch": [first.space.text(int(index)) for index in first.indices],
            **{column: each.values for column, each in zip(columns, rankings, strict=True)},
        }
    )
    data = parquet_bytes(arrow)
    slug = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in method)
    file = f"{slug}.{first.space.name}.parquet"
    result = {
        "scores": {"file": file, "sha256": hashlib.sha256(data).hexdigest()},
        "seeds": known,
        "compute": _compute(rankings),
        "reported": None,
    }
    entry = {"method": method, "paper": paper, "url": url, "code": code, "notes": notes}
    content = {**entry, "results": {first.space.name: result}}
    return {Path(f"{slug}.json"): _entry_bytes(content), Path(file): data}


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

    Raises:
        ArgumentError: The folder has this method in this space.
        StorageError: The file system refused; what was there is untouched.
    """
    (name,) = [path for path in files if path.suffix == ".json"]
    contents = {folder / path: data for path, data in files.items()}
    if (folder / name).exists():
        before, new = read_entry(folder / name), json.loads(files[name])
        twice = before.results.keys() & new["results"].keys()
        if twice or before.method != new["method"]:
            raise ArgumentError(
                f"{str(folder / name)!r} has {before.method!r} in {', '.join(sorted(before.results))}: delete that"
                " result first, or choose another name"
            )
        content = json.loads((folder / name).read_bytes())
        content["results"] |= new["results"]
        content |= {key: new[key] for key in ("paper", "url", "code", "notes") if new[key] is not None}
        contents[folder / name] = _entry_bytes(content)
    write_atomic(*contents.items())
    return list(contents)


def to_json(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """All boards for JSON: the report of each without its diagnostics, and what is only reported."""
    found = []
    for board in boards:
        report = None if board.report is None else board.report.to_dict()
        if report is not None:
            report.pop("details")
        reported = {entry.method: entry.results[board.space].reported for entry in board.reported}
        found.append({"space": board.space, "report": report, "reported": reported, "absent": board.absent})
    return found
