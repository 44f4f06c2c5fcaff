"""What optimisers found, as tables and figures.

>>> for sheet in sheets_of(study): print_sheet(sheet)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.optimise.judge import LEVEL, Outcome
from harness.report.figures import COLOURS, GREY
from harness.report.sheets import Sheet
from harness.stats.critical import Groups

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = (0.25, 0.5, 1.0)
"""Of the budget, at which the table looks."""


@dataclass(frozen=True)
class Study:
    """Several optimisers on one or more tables."""

    outcomes: list[Outcome]
    floors: dict[str, float]
    """By space: the worth of whoever trains all architectures once."""
    tables: dict[str, str]
    """By space: the table and which accuracy it holds, in words."""
    groups: Groups | None
    budget: float
    unit: str
    """Of the budget: "trainings" or "s of training"."""
    num_seeds: int
    second: str | None = None
    """The second objective, None for accuracy alone."""
    notes: tuple[str, ...] = ()

    @property
    def measure(self) -> str:
        """What a value is."""
        return "regret, percentage points" if self.second is None else "hypervolume, percent of the true front's"

    @property
    def spaces(self) -> list[str]:
        """Names of the spaces, in the order in which they were asked for."""
        return list(self.floors)

    def of(self, space: str) -> list[Outcome]:
        """Outcomes of a space, the best at the whole budget first."""
        sign = 1 if self.second is None else -1
        found = [each for each in self.outcomes if each.space == space]
        return sorted(found, key=lambda each: np.nan_to_num(sign * each.mean()[-1], nan=np.inf))

    def to_dict(self) -> dict[str, Any]:
        """Everything as values of JSON; curves are means over seeds."""
        return {
            "budget": self.budget,
            "unit": self.unit,
            "num_seeds": self.num_seeds,
            "measure": self.measure,
            "second_objective": self.second,
            "tables": self.tables,
            "floors": self.floors,
            "optimisers": [
                {
                    "optimiser": each.optimiser,
                    "space": each.space,
                    "trials": each.num_trials,
                    "budgets": each.budgets.tolist(),
                    "mean": each.mean().tolist(),
                    "half_width": each.half_width().tolist(),
                    "seen": each.seen.mean(0).tolist(),
                }
                for each in self.outcomes
            ],
            "groups": None if self.groups is None else vars(self.groups),
            "notes": list(self.notes),
        }


def sheets_of(study: Study) -> list[Sheet]:
    """A table per space, and the ranks over all of them."""
    sheets = [_space_sheet(study, space) for space in study.spaces]
    if study.groups is not None:
        sheets.append(_ranks_sheet(study, study.groups))
    return sheets


def _space_sheet(study: Study, space: str) -> Sheet:
    outcomes = study.of(space)
    scale, decimals = (1.0, 3) if study.second is None else (100.0, 2)
    places = [int(np.argmin(np.abs(outcomes[0].budgets - share * study.budget))) for share in SHARES]
    rows = []
    for each in outcomes:
        mean, half = each.mean() * scale, each.half_width()[-1] * scale
        cells = [_number(mean[place], decimals) for place in places]
        interval = "-" if math.isnan(half) else f"+-{half:.{decimals}f}"
        seen = _number(each.seen.mean(0)[-1] * scale, decimals)
        rows.append([each.optimiser, *cells, interval, seen, f"{each.num_trials:,.0f}"])
    rows.append(["all 16,384 once", *["-"] * (len(SHARES) - 1), f"{study.floors[space] * scale:.{decimals}f}", "-"])
    rows[-1] += [f"{0 if study.second is None else 100:.{decimals}f}", "16,384"]
    heads = [f"at {outcomes[0].budgets[place]:,.4g}" for place in places]
    return Sheet(
        f"Optimisers on {space}: {study.measure}",
        ["optimiser", *heads, f"{LEVEL:.0%}", "seen run", "networks"],
        rows,
        [
            f"mean over {study.num_seeds} searches, after so many {study.unit}; {study.tables[space]}",
            "a search sees one run of each network and is judged by the mean of the others; seen run: by its own run",
            "all 16,384 once: the best of one run, by the others: what noise alone leaves",
        ],
    )


def _ranks_sheet(study: Study, groups: Groups) -> Sheet:
    letters = {name: "" for name in groups.names}
    for number, (first, last) in enumerate(groups.cliques):
        for name in groups.names[first : last + 1]:
            letters[name] += chr(ord("a") + number)
    test = "not defined" if math.isnan(groups.p_value) else f"p = {groups.p_value:.2g}"
    return Sheet(
        f"Mean rank over {len(study.spaces)} space{'s' * (len(study.spaces) != 1)} and {study.num_seeds} searches",
        ["optimiser", "mean rank", "group"],
        [
            [name, f"{rank:.2f}", letters[name] or "-"]
            for name, rank in zip(groups.names, groups.mean_ranks, strict=True)
        ],
        [
            f"Friedman's test that all are equal: {test}; Nemenyi's critical difference"
            f" {groups.critical_difference:.2f}, level {groups.level:.0%}, {groups.num_blocks} blocks",
            "optimisers that share a letter cannot be told apart; it says nothing of other spaces",
        ],
    )


def _number(value: float, decimals: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{decimals}f}"


def draw_curves(study: Study) -> Figure:
    """Best so far against what was spent, a panel per space, with the interval of the mean."""
    from matplotlib.figure import Figure

    across = min(2, len(study.spaces))
    down = math.ceil(len(study.spaces) / across)
    figure = Figure(figsize=(5.2 * across, 3.4 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flat
    colours = _colours(study)
    for axes, space in zip(panels, study.spaces, strict=False):
        for each in study.of(space):
            scale = 1.0 if study.second is None else 100.0
            mean, half = each.mean() * scale, np.nan_to_num(each.half_width()) * scale
            axes.plot(each.budgets, mean, color=colours[each.optimiser], linewidth=1.4, label=each.optimiser)
            axes.fill_between(each.budgets, mean - half, mean + half, color=colours[each.optimiser], alpha=0.12, lw=0)
        axes.axhline(
            study.floors[space] * (1 if study.second is None else 100),
            color=GREY,
            linewidth=1,
            linestyle=(0, (4, 2)),
            label="all 16,384 once",
        )
        axes.set_title(space)
        axes.set_xlabel(study.unit)
        axes.set_ylabel(study.measure)
        if study.second is None:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
    for axes in list(panels)[len(study.spaces) :]:
        axes.set_axis_off()
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)))
    return figure


def draw_ranks(study: Study, groups: Groups) -> Figure:
    """Critical-difference diagram (Demsar, 2006): mean ranks on a line, bars over what cannot be told apart."""
    from matplotlib.figure import Figure

    count = len(groups.names)
    figure = Figure(figsize=(6.4, 0.9 + 0.26 * count + 0.12 * len(groups.cliques)), layout="constrained")
    axes = figure.add_subplot()
    colours = _colours(study)
    for place, (name, rank) in enumerate(zip(groups.names, groups.mean_ranks, strict=True)):
        axes.plot([1, rank], [place, place], color="#dfe3e8", linewidth=1, zorder=1)
        axes.plot(rank, place, "o", color=colours[name], zorder=3)
    for number, (first, last) in enumerate(groups.cliques):
        height = count - 0.4 + 0.35 * number
        axes.plot(groups.mean_ranks[first : last + 1 : last - first], [height, height], color="black", linewidth=2.5)
    axes.set_yticks(range(count), groups.names)
    axes.set_ylim(count - 0.2 + 0.35 * len(groups.cliques), -0.6)
    axes.set_xlim(1, max(groups.mean_ranks) + 0.3)
    axes.set_xlabel(f"mean rank; bars: cannot be told apart (critical difference {groups.critical_difference:.2f})")
    return figure


def _colours(study: Study) -> dict[str, str]:
    names: Sequence[str] = sorted({each.optimiser for each in study.outcomes})
    return {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
