"""Where in a space a ranking is right: histograms of accuracy, FLOPs and parameters, and Kendall within their quarters.

    channel-harness experiment regions --space resnet-mini

BCNet shows the three histograms of Channel-Bench-Macro (Su et al., CVPR 2021, Figure 5). A correlation over the whole
space is easy where accuracies lie far apart. Within a quarter of the space, between the quartiles of a quantity, what
is large no longer helps. Judged are all entries of the leaderboard that have scores of the space, and the free
baselines; nothing is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from channel_bench.space import FloatArray
from harness.experiments.contract import Cell, Measured, Outcome, Setting, register_experiment
from harness.experiments.rankings import scores_at_hand
from harness.experiments.shared import average
from harness.judge.baselines import baseline_scores
from harness.report.sheets import Sheet, decimals
from harness.stats.metrics import kendall

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_BINS = 40
QUARTERS = ("lowest", "second", "third", "highest")
_UNITS = {"accuracy": "best test accuracy, percent", "flops": "MACs of an image, millions", "params": "thousands"}
_SCALES = {"accuracy": 1.0, "flops": 1e6, "params": 1e3}


@register_experiment(
    "regions",
    paper="Su et al., CVPR 2021, Figure 5",
    summary="histograms of a table, and how well rankings hold within its quarters",
)
class Regions:
    """One cell: a table, and all scores that the package has of its space."""

    def cells(self, setting: Setting) -> list[Cell]:
        """The one cell."""
        return [Cell("regions")]

    def measure(self, cell: Cell, setting: Setting) -> dict[str, Any]:
        """Histograms, and Kendall over the whole space and within each quarter, for each ranking and seed."""
        space, table = setting.space, setting.truth()
        truth = table.accuracies()
        there = np.isfinite(truth)
        quantities = {
            "accuracy": truth,
            "flops": space.flops().astype(np.float64),
            "params": space.params().astype(np.float64),
        }
        places = {name: _quarters(values, there) for name, values in quantities.items()}
        rankings = [
            {"name": name, "kind": kind, "seed": number, **_within(scores, truth, there, places)}
            for name, kind, columns in _rankings(setting)
            for number, scores in enumerate(columns)
        ]
        return {
            "num_archs": int(there.sum()),
            "table": table.name,
            "histograms": {name: _histogram(values[there]) for name, values in quantities.items()},
            "rankings": rankings,
        }

    def outcome(self, measured: Measured, setting: Setting) -> Outcome:
        """A table of Kendall by quarter of FLOPs and of accuracy, best ranking first, and the histograms."""
        found = measured["regions"]
        names = list(dict.fromkeys((each["name"], each["kind"]) for each in found["rankings"]))
        rows = []
        for name, kind in names:
            own = [each for each in found["rankings"] if each["name"] == name]
            means = {key: [average(each[key][place] for each in own) for place in range(4)] for key in _SCALES}
            rows.append((name, kind, average(each["whole"] for each in own), means, len(own)))
        rows.sort(key=lambda row: -row[2])
        sheets = [
            Sheet(
                f"Kendall within quarters of {what}, {setting.space.name}",
                ["ranking", "kind", "supernets", "whole space", *QUARTERS],
                [
                    [name, kind, str(num) if kind == "method" else "-", decimals(whole, 3)]
                    + [decimals(value, 3) for value in means[what]]
                    for name, kind, whole, means, num in rows
                ],
                [
                    f"quarters: between the quartiles of {what}; table {found['table']},"
                    f" n = {found['num_archs']:,}; mean over supernets"
                ],
            )
            for what in ("flops", "accuracy", "params")
        ]
        return Outcome(sheets, figures={"regions": lambda: _draw(found, rows, setting)})


def _rankings(setting: Setting) -> list[tuple[str, str, list[FloatArray]]]:
    """Every ranking of the whole space that the package knows: name, kind, scores in index order per supernet."""
    space = setting.space
    found = [(name, "method", [each.values for each in scores]) for name, scores in scores_at_hand(space).items()]
    baselines = baseline_scores(space)
    return found + [(name, "baseline", [np.asarray(values, np.float64)]) for name, values in baselines.items()]


def _quarters(values: FloatArray, there: np.ndarray) -> FloatArray:
    """Quarter 0..3 of every architecture, by the quartiles of those that are there; a value of a quartile is below."""
    return np.searchsorted(np.quantile(values[there], (0.25, 0.5, 0.75)), values, side="left").astype(np.float64)


def _within(scores: FloatArray, truth: FloatArray, there: np.ndarray, places: dict[str, FloatArray]) -> dict[str, Any]:
    """Kendall over all architectures, and within each quarter of each quantity."""
    whole: dict[str, Any] = {"whole": kendall(scores[there], truth[there])}
    for name, quarter in places.items():
        parts = [there & (quarter == number) for number in range(len(QUARTERS))]
        whole[name] = [kendall(scores[part], truth[part]) for part in parts]
    return whole


def _histogram(values: FloatArray) -> dict[str, Any]:
    counts, edges = np.histogram(values, NUM_BINS)
    return {
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "quartiles": np.quantile(values, (0.25, 0.5, 0.75)).tolist(),
    }


def _draw(found: dict[str, Any], rows: list[Any], setting: Setting) -> Figure:
    """Three histograms with their quartiles; below each, Kendall within its quarters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.6), layout="constrained")
    axes = figure.subplots(2, 3, height_ratios=(1, 1.2), sharey="row")
    for column, (name, scale) in enumerate(_SCALES.items()):
        histogram, upper, lower = found["histograms"][name], axes[0][column], axes[1][column]
        edges = np.array(histogram["edges"]) / scale
        upper.stairs(histogram["counts"], edges, fill=True, color="#8da0cb")
        for quartile in histogram["quartiles"]:
            upper.axvline(quartile / scale, color="black", linewidth=0.8, linestyle=":")
        upper.set_xlabel({"accuracy": "", "flops": "", "params": "parameters, "}[name] + _UNITS[name])
        for label, kind, _, means, _ in rows:
            free = kind == "baseline"
            lower.plot(range(4), means[name], color="#999999" if free else None, marker="o", markersize=3,
                       linewidth=1, linestyle="--" if free else "-", label=None if free else label)  # fmt: skip
        lower.set_xticks(range(4), QUARTERS)
        lower.set_xlabel(f"quarter of {name}")
    axes[0][0].set_ylabel("architectures")
    axes[1][0].set_ylabel("Kendall tau-b within")
    axes[1][2].plot([], [], color="#999999", linestyle="--", label="free baselines")
    axes[1][2].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.suptitle(f"{setting.space.name}: where rankings hold (dotted: quartiles)")
    return figure
