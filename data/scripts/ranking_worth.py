"""What is a ranking worth? Everything that ranks all widths, on every space, on one scale.

    python data/scripts/ranking_worth.py -o data/consensus [--external FOLDER]

For each space: free scores; every supernet of the leaderboard as it is, by a concave fit, and by a consensus of
theories (mean over all supernets of all methods, interval over methods by the t distribution, since supernets of one
method are alike); n trained networks and an additive fit to them; the ceiling of the table's own noise. Where a space
has no supernets of ours, what papers report, and scores that others released (`--external`). Writes worth.json,
worth.md and worth.png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import channel_bench as cb
from channel_bench.errors import ChannelBenchError, MissingDataError
from channel_bench.support.durable import write_atomic
from channel_bench.support.terminal import progress, say
from harness.judge.baselines import BASELINES, additive_curve, baseline_scores
from harness.judge.comparison import compare
from harness.leaderboard.entries import Entry, entries_dir, read_entries, read_entry_scores
from harness.method import PROXIES
from harness.report.figures import COLOURS, GREY, draw_named
from harness.scores import Scores
from harness.smoothing import smooth_scores
from harness.stats.metrics import kendall
from harness.stats.student import half_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPACES = ("mobilenet", "resnet", "mobilenet-mini", "resnet-mini", "mobilenet-mini-placed")
KINDS = ("free", "reported", "supernet", "concave", "consensus", "trained", "ceiling")
"""Kinds of rows: a score without training; a number of a paper; supernets as they are, by a concave fit and by a
consensus of theories; trained networks and an additive fit; the noise of the table."""
SIZES = (8, 16, 32, 64, 128, 512)


def rows_of(space_name: str, entries: Sequence[Entry], external: Path | None) -> list[dict[str, Any]]:
    """Rows of one space: kind, name, Kendall, interval, and how many supernets it is a mean over."""
    table = cb.load(space_name)
    space, truth = table.space, table.accuracies()
    there = np.isfinite(truth)

    def tau(scores: Scores) -> float:
        mine = there[scores.indices]
        return kendall(scores.values[mine], truth[scores.indices][mine])

    def row(kind: str, name: str, value: float, low: float | None = None, high: float | None = None, n: int = 1) -> Any:
        return {"kind": kind, "name": name, "kendall": value, "low": low, "high": high, "num_supernets": n}

    free = baseline_scores(space)
    rows = [row("free", name, kendall(free[name][there], truth[there])) for name in BASELINES]
    supernets: dict[str, list[Scores]] = {}
    for entry in entries:
        result = entry.results.get(space_name)
        if result is None or entry.method in PROXIES:
            continue  # proxies are no supernets, and have a page of their own
        if result.reported is not None and result.reported["kendall"] is not None:
            rows.append(row("reported", entry.method, result.reported["kendall"]))
        if result.scores is not None and result.scores.keys() & {"file", "external"}:
            try:
                supernets[entry.method] = read_entry_scores(entry, space, external) or []
            except MissingDataError as error:
                say(f"left out: {error}")
    for kind in ("supernet", "concave", "consensus"):
        by_method = []
        for name, seeds in supernets.items():
            smooth = seeds if kind == "supernet" else [smooth_scores(each, kind) for each in seeds]
            taus = [tau(each) for each in smooth]
            by_method.append(float(np.mean(taus)))
            low, high = t_interval(taus) if len(taus) > 1 else (None, None)
            rows.append(row(kind, name, by_method[-1], low, high, len(taus)))
        if len(by_method) > 1:
            count = sum(map(len, supernets.values()))
            rows.append(row(kind, "mean of all", float(np.mean(by_method)), *t_interval(by_method), count))
    curve = additive_curve(space, truth, sizes=SIZES)
    rows += [row("trained", f"{each.n} trained", each.mean, each.low, each.high) for each in curve.points]
    ceiling = compare(None, table).ceiling
    if ceiling is not None:
        rows.append(row("ceiling", "ceiling", ceiling.kendall))
    return rows


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of a mean."""
    mean, half = float(np.mean(values)), float(half_width(values))
    return mean - half, mean + half


def chosen_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the figure and the table show: all but single methods where there is a mean of all."""
    summarised = {row["kind"] for row in rows if row["name"] == "mean of all"}
    return [row for row in rows if row["kind"] not in summarised or row["name"] == "mean of all"]


LABELS = {
    "supernet": "supernets as they are",
    "concave": "supernets, concave fit",
    "consensus": "supernets, consensus",
}


def label(row: dict[str, Any]) -> str:
    """A row's name for people."""
    if row["kind"] in LABELS:
        return LABELS[row["kind"]] + ("" if row["name"] == "mean of all" else f" ({row['name']})")
    return f"{row['name']} ({row['kind']})" if row["kind"] in ("free", "reported") else row["name"]


def draw(found: dict[str, list[dict[str, Any]]]) -> Figure:
    """A panel for each space: Kendall of every row with its interval, best on top, the ceiling as a line."""
    from matplotlib.figure import Figure

    colours = dict(zip(KINDS, (GREY, COLOURS[4], COLOURS[0], COLOURS[5], COLOURS[1], COLOURS[2], "black"), strict=True))
    num_columns = -(-len(found) // 2)
    figure = Figure(figsize=(5.5 * num_columns, 9), layout="constrained")
    axes = figure.subplots(2, num_columns, squeeze=False).ravel()
    for axis in axes[len(found) :]:
        axis.set_axis_off()
    for axis, (space, rows) in zip(axes, found.items(), strict=False):
        ceiling = next((row["kendall"] for row in rows if row["kind"] == "ceiling"), None)
        shown = sorted((row for row in chosen_rows(rows) if row["kind"] != "ceiling"), key=lambda row: row["kendall"])
        for height, row in enumerate(shown):
            if row["low"] is not None:
                axis.plot([row["low"], row["high"]], [height, height], color=colours[row["kind"]], linewidth=1.4)
            axis.plot(row["kendall"], height, "o", color=colours[row["kind"]], markersize=5)
        if ceiling is not None:
            axis.axvline(ceiling, color="black", linewidth=1, linestyle="--")
            axis.text(ceiling - 0.01, len(shown) - 0.3, f"ceiling {ceiling:.2f}", ha="right", va="bottom", fontsize=8)
        axis.set_yticks(range(len(shown)), [label(row) for row in shown])
        axis.set_ylim(-0.7, len(shown) + 0.4)
        axis.set_title(space)
        axis.set_xlabel("Kendall tau-b with trained accuracy")
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    return figure


def markdown(found: dict[str, list[dict[str, Any]]]) -> str:
    """A table: one row per name, one column per space."""
    every = [row for rows in found.values() for row in chosen_rows(rows)]
    names = list(dict.fromkeys(map(label, sorted(every, key=lambda row: KINDS.index(row["kind"])))))
    lines = [f"| Kendall | {' | '.join(f'`{space}`' for space in found)} |", "|---" * (1 + len(found)) + "|"]
    for name in names:
        cells = []
        for rows in found.values():
            row = next((row for row in chosen_rows(rows) if label(row) == name), None)
            interval = "" if row is None or row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
            cells.append("-" if row is None else f"{row['kendall']:.3f}{interval}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compute, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--space", action="append", help="repeatable [those of the package]")
    parser.add_argument("--external", type=Path, help="folder of score files that others released")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        entries = read_entries(entries_dir())
        spaces = arguments.space or SPACES
        with progress("ranking", len(spaces)) as advance:
            for space in spaces:
                found[space] = rows_of(space, entries, arguments.external)
                advance(1, space)
        arguments.out.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"spaces": found}, indent=1) + "\n"
        write_atomic(
            (arguments.out / "worth.json", content.encode()),
            (arguments.out / "worth.md", markdown(found).encode()),
            (arguments.out / "worth.png", draw_named("worth", lambda: draw(found))["worth.png"]),
        )
    except ChannelBenchError as error:
        parser.exit(2, f"ranking_worth: {' '.join(str(error).split())}\n")
    print(markdown(found), end="")


if __name__ == "__main__":
    main()
