"""A report as figures, PNG and PDF, with matplotlib (extra ``report``).

    >>> draw_figures(report)["kendall.pdf"]          # bytes

Methods keep one colour through all figures, free baselines are grey, the truth is black. Scatters, calibration and
slot effects show the seed with the median Kendall of each method.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import missing_package
from channel_bench.space import NUM_WIDTHS, FloatArray
from channel_bench.table.ranks import best_of, within
from harness.judge.comparison import Row
from harness.judge.details import Detail
from harness.judge.verdict import Report
from harness.report.verdict_sheets import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008, then Tol's muted scheme: told apart by readers with any colour vision, and on either background.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#332288", "#44AA99",
)  # fmt: skip
GREY = "#8a8f98"
MAX_PANELS = 12
"""Rows of a report that figures with one panel each show."""
PANELS_PER_ROW = 4
REFERENCE = "flops"
"""The free baseline that is drawn beside the methods, next to the best one."""
DPI = 160
_NUM_CELLS = (130, 110)
"""Across and up, of a panel of the scatter."""
_STYLE = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "legend.frameon": False,
    "text.parse_math": False,  # names of methods are not formulas
    "pdf.fonttype": 42,  # fonts stay text, which publishers ask for
    "savefig.facecolor": "white",
}


def draw_figures(report: Report) -> dict[str, bytes]:
    """All figures of a report by file name, as PNG and as PDF.

    Equal reports give equal bytes with one version of matplotlib: no dates are written.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    matplotlib = _matplotlib()
    files: dict[str, bytes] = {}
    with matplotlib.rc_context(_STYLE):
        for name, draw in FIGURES.items():
            figure = draw(report)
            if figure is not None:
                files |= figure_files(name, figure)
    return files


def draw_named(name: str, draw: Callable[[], Figure]) -> dict[str, bytes]:
    """Draw a figure in the style of the report, and return it as ``name.png`` and ``name.pdf``.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    with _matplotlib().rc_context(_STYLE):
        return figure_files(name, draw())


def figure_files(name: str, figure: Figure) -> dict[str, bytes]:
    """A figure as ``name.png`` and ``name.pdf``."""
    png, pdf = io.BytesIO(), io.BytesIO()
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # once laid out, it need not be again for each format
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    figure.savefig(pdf, format="pdf", dpi=2 * DPI, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return {f"{name}.png": png.getvalue(), f"{name}.pdf": pdf.getvalue()}


def check_packages() -> None:
    """Refuse to go on without the packages that draw.

    Raises:
        MissingPackageError: matplotlib or plotly is not installed.
    """
    for name in ("matplotlib", "plotly"):
        if importlib.util.find_spec(name) is None:
            raise missing_package("a report with figures and page", name, "not installed", "add --no-figures")


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise missing_package("a figure", "matplotlib", error) from None
    return matplotlib


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _grid(
    across: int,
    down: int,
    panel: tuple[float, float],
    margins: tuple[float, float, float, float],
    gaps: tuple[float, float],
) -> tuple[Figure, npt.NDArray[Any]]:
    """Panels of this width and height, with left, right, bottom and top margins and gaps between them, all in inches.

    For figures of many panels: working out the margins takes matplotlib as long as drawing them.
    """
    from matplotlib.figure import Figure

    left, right, bottom, top = margins
    width = left + across * panel[0] + (across - 1) * gaps[0] + right
    height = bottom + down * panel[1] + (down - 1) * gaps[1] + top
    figure = Figure(figsize=(width, height))
    places = {
        "left": left / width, "right": 1 - right / width, "bottom": bottom / height, "top": 1 - top / height,
        "wspace": gaps[0] / panel[0], "hspace": gaps[1] / panel[1],
    }  # fmt: skip
    return figure, figure.subplots(down, across, squeeze=False, sharey=True, gridspec_kw=places)


def _colours(report: Report) -> dict[str, str]:
    """Colour of every row."""
    methods = [row.name for row in report.comparison.methods]
    found = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(methods)}
    return found | {row.name: GREY for row in report.comparison.baselines}


def _shown(report: Report) -> list[Detail]:
    """Methods, best first, and the references, as many as there are panels."""
    references = _references(report)
    methods = [row.name for row in report.comparison.methods][: MAX_PANELS - len(references)]
    return [report.detail(name) for name in [*methods, *references]]


def _references(report: Report) -> list[str]:
    return list(dict.fromkeys([report.comparison.best_baseline.name, REFERENCE]))


def _unit(report: Report) -> tuple[str, float]:
    """Name and size of the unit that FLOPs of this space are shown in."""
    return ("MFLOPs", 1e6) if report.arrays.space.flops().max() >= 1e6 else ("kFLOPs", 1e3)


def _heading(report: Report, text: str) -> str:
    comparison = report.comparison
    return f"{text}\nspace {comparison.space}, table {comparison.table} ({comparison.dataset})"


# -- correlations ---------------------------------------------------------------------------------------------------


def draw_kendall(report: Report) -> Figure:
    """Kendall of every row with its interval, seeds as rings, beside the ceiling."""
    rows = _ascending(report)
    figure = _figure(6.4, 0.9 + 0.27 * len(rows))
    forest(figure.add_subplot(), report, rows, _colours(report))
    figure.suptitle(_heading(report, "Kendall tau-b with trained accuracy"), fontsize=9.5)
    return figure


def forest(axes: Axes, report: Report, rows: Sequence[Row], colours: Mapping[str, str]) -> None:
    """Draw rows, the first at the bottom, into axes; what has no colour is grey."""
    for place, row in enumerate(rows):
        if math.isnan(row.kendall):
            axes.text(0.02, place, "undefined", va="center", color=GREY, transform=axes.get_yaxis_transform())
            continue
        interval, colour = report.interval(row.name), colours.get(row.name, GREY)
        if interval is not None and not math.isnan(interval.low):
            axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2.2, alpha=0.55)
        if len(row.rankings) > 1:
            taus = [ranking.kendall for ranking in row.rankings]
            axes.plot(taus, [place] * len(taus), "o", markerfacecolor="none", color=colour, markersize=4.5)
        axes.plot([row.kendall], [place], "o" if row.kind == "method" else "D", color=colour, markersize=5.5)
    ceiling = report.comparison.ceiling
    if ceiling is not None and not math.isnan(ceiling.kendall):
        axes.axvline(ceiling.kendall, color="black", linewidth=1, linestyle=(0, (4, 2)))
        axes.text(
            ceiling.kendall, 1.0, f"noise ceiling {ceiling.kendall:.3f} ", ha="right", va="bottom", fontsize=8,
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [f"{row.name} (free)" if row.kind == "baseline" else row.name for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="x", color="#dfe3e8", linewidth=0.7)
    axes.set_axisbelow(True)
    level = f", line: {report.level:.0%} interval" if report.num_replicates else ""
    axes.set_xlabel(f"Kendall tau-b (dot: mean, rings: seeds{level})")


def draw_board(reports: Sequence[Report]) -> bytes:
    """Kendall of every row of several reports, a panel each, as PNG.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    matplotlib = _matplotlib()
    names = sorted({row.name for report in reports for row in report.comparison.methods})
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    with matplotlib.rc_context(_STYLE):
        across = min(2, len(reports))
        counts = [len(report.comparison.rows) for report in reports]
        heights = [1.1 + 0.24 * max(counts[place : place + across]) for place in range(0, len(reports), across)]
        figure = _figure(5.4 * across, sum(heights))
        figure.set_layout_engine("constrained", h_pad=0.12)
        grid = figure.subplots(len(heights), across, squeeze=False, gridspec_kw={"height_ratios": heights})
        panels = list(grid.flat)
        for axes in panels[len(reports) :]:
            axes.set_axis_off()
        for axes, report in zip(panels, reports, strict=False):
            forest(axes, report, _ascending(report), colours)
            axes.set_title(f"{report.comparison.space} ({report.comparison.dataset})", pad=16)
        return figure_files("kendall", figure)["kendall.png"]


def _ascending(report: Report) -> list[Row]:
    return sorted(report.comparison.rows, key=lambda row: np.nan_to_num(row.kendall, nan=-2))


def draw_worth(report: Report) -> Figure | None:
    """Kendall of additive fits to n trained architectures, and where the methods lie on that curve."""
    comparison = report.comparison
    curve = comparison.curve
    if curve is None:
        return None
    colours = _colours(report)
    figure = _figure(6.4, 4.2)
    axes = figure.add_subplot()
    sizes = [point.n for point in curve.points]
    axes.fill_between(
        sizes,
        [point.low for point in curve.points],
        [point.high for point in curve.points],
        color="black",
        alpha=0.1,
        linewidth=0,
        label=f"{curve.level:.0%} of {curve.num_draws} draws",
    )
    axes.plot(
        sizes, [point.mean for point in curve.points], color="black", marker="o", markersize=3, label="their mean"
    )
    references = [row for row in comparison.baselines if row.name in _references(report)]
    for row in [*comparison.methods[: len(COLOURS)], *references]:
        if not math.isnan(row.kendall):
            worth = "" if row.worth is None else f": {row.worth.text}"
            style = "-" if row.kind == "method" or row.name == REFERENCE else ":"
            axes.axhline(row.kendall, color=colours[row.name], ls=style, linewidth=1.2, label=f"{row.name}{worth}")
    if comparison.ceiling is not None:
        axes.axhline(
            comparison.ceiling.kendall, color="black", linewidth=1, linestyle=(0, (4, 2)), label="noise ceiling"
        )
    drawn = [curve.points[0].mean, *(row.kendall for row in comparison.rows if not math.isnan(row.kendall))]
    axes.set_ylim(bottom=min(drawn) - 0.05)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes[::2], [str(n) for n in sizes[::2]])
    axes.minorticks_off()
    axes.set_xlabel("trained architectures in an additive fit")
    axes.set_ylabel("Kendall tau-b on the rest")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    figure.suptitle(_heading(report, "What a ranking is worth in trained architectures"), fontsize=9.5)
    return figure


# -- diagnostics ----------------------------------------------------------------------------------------------------


def _panels(
    report: Report, title: str, draw: Callable[[Axes, Detail], object], x: str, y: str, *, beside: float = 0.15
) -> Figure:
    """One panel for every shown row, `beside` inches from the edge."""
    details = _shown(report)
    across = min(PANELS_PER_ROW, len(details))
    down = -(-len(details) // across)
    figure, grid = _grid(across, down, (1.95, 1.6), (0.65, beside, 0.75, 0.75), (0.2, 0.5))
    for place, axes in enumerate(grid.flat):
        if place >= len(details):
            axes.set_axis_off()
            continue
        draw(axes, details[place])
        axes.locator_params(nbins=4)  # few numbers are easier to read, and labels are most of the work of drawing
        axes.set_title(figure_title(report, details[place]))
    for column in range(across):
        lowest = max(place for place in range(column, len(details), across))
        grid.flat[lowest].set_xlabel(x)  # not one for all, which the legend of the figure would lie on
    figure.supylabel(y, fontsize=9, x=0.01)
    figure.suptitle(_heading(report, title), fontsize=9.5)
    return figure


def figure_title(report: Report, detail: Detail) -> str:
    """Name and Kendall of what is drawn, which is one seed of a method that has several."""
    row = next(row for row in report.comparison.rows if row.name == detail.name)
    drawn = [each for each in row.rankings if each.seed == detail.seed] if len(row.rankings) > 1 else [row]
    seed = f", seed {detail.seed}" if len(row.rankings) > 1 else ""
    tau = drawn[0].kendall
    return f"{row.name}{seed}" + ("" if math.isnan(tau) else f"  {tau:.3f}")


def draw_scatter(report: Report) -> Figure:
    """Score against accuracy of every architecture, coloured by FLOPs, with the choices within budgets."""
    arrays = report.arrays
    unit, scale = _unit(report)
    flops, truth = arrays.space.flops() / scale, arrays.truth
    order = np.flatnonzero(arrays.compared)
    marks = ("o", "s", "^", "D", "v", "P")
    drawn: dict[str, Any] = {}

    def draw(axes: Axes, detail: Detail) -> None:
        scores = arrays.scores[detail.name]
        drawn["points"] = _cells(axes, scores[order], truth[order], flops[order])
        for number, budget in enumerate(report.budgets):
            fits = order[within(arrays.space.flops()[order], budget)]
            best = best_of(scores, fits)[0]
            (drawn[f"within {short(budget)}"],) = axes.plot(
                [scores[best]], [truth[best]], marks[number % len(marks)], markersize=6.5, color="white",
                markeredgecolor="#c1121f", markeredgewidth=1.4, linestyle="none", clip_on=False, zorder=5,
            )  # fmt: skip
        axes.tick_params(axis="x", labelsize=7)

    figure = _panels(
        report,
        "Score against trained accuracy, and the choice within budgets (colour: mean FLOPs)",
        draw,
        "score",
        "accuracy, percent",
        beside=0.95,
    )
    width = figure.get_figwidth()
    bar = figure.add_axes((1 - 0.8 / width, 0.25, 0.14 / width, 0.5))
    figure.colorbar(drawn.pop("points"), cax=bar, label=unit)
    if drawn:
        figure.legend(drawn.values(), drawn.keys(), loc="lower center", ncols=len(drawn), fontsize=8)
    return figure


def _cells(axes: Axes, x: FloatArray, y: FloatArray, values: FloatArray) -> Any:
    """A scatter as a grid of small cells with the mean of the points in each: that draws several times as fast."""
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=_NUM_CELLS)
    sums = np.histogram2d(x, y, bins=(x_edges, y_edges), weights=values)[0]
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    extent = (x_edges[0], x_edges[-1], y_edges[0], y_edges[-1])
    return axes.imshow(
        means.T, origin="lower", extent=extent, aspect="auto", interpolation="nearest", cmap="viridis",
        vmin=values.min(), vmax=values.max(),
    )  # fmt: skip


def draw_calibration(report: Report) -> Figure:
    """True ranks by predicted rank, as shares of all, 1 the best."""
    colours = _colours(report)

    def draw(axes: Axes, detail: Detail) -> None:
        found, colour = detail.diagnosis.calibration, colours[detail.name]
        there = found.n > 0
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=(0, (4, 2)))
        axes.fill_between(found.predicted[there], found.low[there], found.high[there], color=colour, alpha=0.25, lw=0)
        axes.plot(found.predicted[there], found.mean[there], color=colour, linewidth=1.6)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])

    title = "Where architectures of a predicted rank truly stand (band: first to ninth decile)"
    return _panels(report, title, draw, "predicted rank, 1 the best", "true rank")


def draw_effects(report: Report) -> Figure | None:
    """What each width of each slot adds, by the truth and by every method."""
    details = [detail for detail in _shown(report) if detail.diagnosis.effects is not None]
    if not details:
        return None
    colours, methods = _colours(report), {row.name for row in report.comparison.methods}
    first = details[0].diagnosis.effects
    assert first is not None
    figure, ((*panels,),) = _grid(len(first.truth), 1, (1.1, 1.9), (0.65, 1.5, 0.55, 0.75), (0.12, 0))
    widths = range(1, NUM_WIDTHS + 1)
    for slot, axes in enumerate(panels):
        axes.plot(widths, first.truth[slot], color="black", linewidth=2.4, label="truth")
        for detail in details:
            effects = detail.diagnosis.effects
            if effects is not None:
                style = "-" if detail.name in methods or detail.name == REFERENCE else ":"
                colour = colours[detail.name]
                axes.plot(widths, effects.scores[slot], color=colour, ls=style, linewidth=1.2, label=detail.name)
        axes.set_title(f"slot {slot}")
        axes.set_xticks(list(widths))
        axes.grid(axis="y", color="#dfe3e8", linewidth=0.7)
    figure.supxlabel("width, quarters of the slot's channels", fontsize=9)
    panels[0].set_ylabel("effect on accuracy, points")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="center right", fontsize=8)
    title = "What the widths of each slot add; scores scaled to spread as accuracies do"
    figure.suptitle(_heading(report, title), fontsize=9.5)
    return figure


def draw_along(report: Report) -> Figure | None:
    """Kendall among architectures of similar FLOPs, along FLOPs."""
    details = [detail for detail in _shown(report) if detail.diagnosis.along is not None]
    if not details:
        return None
    colours, methods = _colours(report), {row.name for row in report.comparison.methods}
    unit, scale = _unit(report)
    figure = _figure(6.4, 3.8)
    axes = figure.add_subplot()
    axes.axhline(0, color="black", linewidth=0.8)
    for detail in details:
        along = detail.diagnosis.along
        if along is not None:
            style = "-" if detail.name in methods or detail.name == REFERENCE else ":"
            colour = colours[detail.name]
            axes.plot(along.middle / scale, along.kendall, color=colour, ls=style, linewidth=1.5, label=detail.name)
    axes.set_xlabel(f"{unit}, median of a window of a tenth of the architectures")
    axes.set_ylabel("Kendall tau-b within the window")
    axes.grid(color="#dfe3e8", linewidth=0.7)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    figure.suptitle(_heading(report, "Kendall among networks of similar FLOPs"), fontsize=9.5)
    return figure


FIGURES: dict[str, Callable[[Report], Figure | None]] = {
    "kendall": draw_kendall,
    "worth": draw_worth,
    "scatter": draw_scatter,
    "slot_effects": draw_effects,
    "rank_calibration": draw_calibration,
    "kendall_along_flops": draw_along,
}
"""All figures by file name; one that has nothing to show is left out."""
