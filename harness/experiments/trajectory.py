"""The greedy pass of AutoSlim as a whole curve: every width from the widest to the narrowest, and what each is worth.

    channel-harness experiment trajectory --space resnet-mini

AutoSlim (Yu and Huang, 2019, section 3) slims the widest network step by step; its one pass answers every budget at
once (its Figure 3 and Algorithm 1). Here each step has its costs, its score, its true accuracy, its rank and its regret
among the architectures that cost no more. Nothing is trained: the scores are those of the leaderboard's supernets.

Chosen where the paper is silent. Scores tie often, because accuracies on a few hundred images take a few hundred
values; of candidates with equal scores the first in index order is taken, that is, the one that narrows the first
slot. The same pass with ties drawn at random shows how much hangs on that. A pass asks for at most 21 steps of 7
candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from channel_bench.space import NUM_ARCHS, NUM_SLOTS, NUM_WIDTHS, FloatArray
from channel_bench.table.ranks import ACCURACY_DECIMALS, rounded
from harness.experiments.contract import Cell, Measured, Outcome, Setting, register_experiment
from harness.experiments.rankings import leaderboard_scores
from harness.experiments.shared import average, known_or_nan, truth_of
from harness.report.sheets import Sheet, decimals
from harness.report.verdict_sheets import short
from harness.stats.vanilla import UNIFORM, uniform_choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BUDGETS = (0.25, 0.5, 0.75)
COSTS = ("flops", "params", "memory")
"""And latency, where it was measured (``--latency``)."""
NUM_RANDOM = 20
SHOWN_METHOD = "autoslim"


@register_experiment(
    "trajectory",
    paper="Yu and Huang, 2019 (AutoSlim), Algorithm 1 and Figure 3",
    summary="one greedy pass from widest to narrowest, step by step against the truth",
)
class Trajectory:
    """A cell per method: the passes over the scores of each of its supernets."""

    def cells(self, setting: Setting) -> list[Cell]:
        """A cell per method of the leaderboard that has scores of the space."""
        return [Cell(name, {"method": name}) for name in sorted(leaderboard_scores(setting.space))]

    def measure(self, cell: Cell, setting: Setting) -> dict[str, Any]:
        """The pass of every supernet, and passes with ties drawn at random."""
        judge = _Judge(setting)
        found = leaderboard_scores(setting.space)[cell.options["method"]]
        passes = []
        for number, scores in enumerate(each.values for each in found[: setting.num_seeds]):
            way = greedy_pass(scores)
            drawn = [greedy_pass(scores, np.random.default_rng([number, draw])) for draw in range(NUM_RANDOM)]
            passes.append(
                {
                    **judge.steps(way),
                    "scores": [float(scores[index]) for index in way],
                    "num_tied_steps": tied_steps(scores, way),
                    "within": {
                        f"{cost} {share}": {
                            "regret": judge.regret_of(way, cost, share),
                            "drawn": [judge.regret_of(each, cost, share) for each in drawn],
                        }
                        for cost in judge.costs
                        for share in BUDGETS
                    },
                }
            )
        return {"passes": passes}

    def outcome(self, measured: Measured, setting: Setting) -> Outcome:
        """Regret of every method's pass at several budgets of every cost, and one pass in full."""
        judge, rows = _Judge(setting), []
        for name, found in measured.items():
            passes = found["passes"]
            line = [name, str(len(passes)), decimals(average(each["num_tied_steps"] for each in passes), 1)]
            for cost in judge.costs:
                for share in BUDGETS:
                    line.append(decimals(average(each["within"][f"{cost} {share}"]["regret"] for each in passes), 2))
            spread = [float(np.std(known_or_nan(each["within"]["flops 0.5"]["drawn"]))) for each in passes]
            rows.append([*line, decimals(average(spread), 2)])
        rows.sort(key=lambda row: float(row[4]))
        uniform = [average([judge.uniform_regret(cost, share)]) for cost in judge.costs for share in BUDGETS]
        rows.append([UNIFORM, "-", "-", *(decimals(regret, 2) for regret in uniform), "-"])
        columns = [f"{cost} {share:g}x" for cost in judge.costs for share in BUDGETS]
        sheets = [
            Sheet(
                f"Regret of one greedy pass at several budgets, {setting.space.name}",
                ["scores of", "supernets", "tied steps", *columns, "spread by ties"],
                rows,
                [
                    "regret: percentage points below the best architecture within the budget, mean over supernets;"
                    " budgets are shares of the widest network's cost",
                    "tied steps: steps of a pass at which several candidates share the best score; spread by ties:"
                    f" standard deviation of the regret at .5x FLOPs over {NUM_RANDOM} passes that draw among them",
                    "memory: bytes of an inference of one image, parameters and the most activations alive at once",
                ],
            )
        ]
        shown = SHOWN_METHOD if SHOWN_METHOD in measured else next(iter(measured))
        sheets.append(_steps_sheet(shown, measured[shown]["passes"][0], setting))
        return Outcome(
            sheets,
            figures={"trajectory": lambda: _draw(measured, setting)},
            notes=["Of candidates with equal scores the first in index order is taken; AutoSlim does not say."],
        )


def greedy_pass(scores: FloatArray, rng: np.random.Generator | None = None) -> list[int]:
    """Indices from the widest to the narrowest architecture, each a step narrower in the slot that costs least score.

    Args:
        scores: float64 (16384,) in index order.
        rng: Draws among candidates with equal scores; without it the first in index order is taken.

    Returns:
        22 indices.
    """
    digits = np.full(NUM_SLOTS, NUM_WIDTHS)
    way = [_index(digits)]
    while (digits > 1).any():
        slots = np.flatnonzero(digits > 1)
        candidates = np.array([_index(_narrower(digits, slot)) for slot in slots])
        order = np.argsort(candidates)
        slots, candidates = slots[order], candidates[order]
        best = np.flatnonzero(scores[candidates] == scores[candidates].max())
        chosen = best[0] if rng is None else rng.choice(best)
        digits = _narrower(digits, slots[chosen])
        way.append(int(candidates[chosen]))
    return way


def tied_steps(scores: FloatArray, way: list[int]) -> int:
    """Number of steps of a pass at which several candidates shared the best score."""
    num = 0
    for before in way[:-1]:
        digits = np.array(np.unravel_index(before, (NUM_WIDTHS,) * NUM_SLOTS)) + 1
        found = [scores[_index(_narrower(digits, slot))] for slot in np.flatnonzero(digits > 1)]
        num += found.count(max(found)) > 1
    return num


def _narrower(digits: Any, slot: Any) -> Any:
    changed = digits.copy()
    changed[slot] -= 1
    return changed


def _index(digits: Any) -> int:
    return int(np.ravel_multi_index(tuple(digits - 1), (NUM_WIDTHS,) * NUM_SLOTS))


class _Judge:
    """The truth of a space beside its costs."""

    def __init__(self, setting: Setting) -> None:
        self.space = setting.space
        self.truth = truth_of(setting)
        self.costs: dict[str, Any] = {cost: getattr(setting.space, cost)() for cost in COSTS}
        latencies = setting.latencies()
        if latencies is not None:
            self.costs["latency"] = latencies

    def steps(self, way: list[int]) -> dict[str, list[Any]]:
        """What each step of a pass costs and is worth among what has no more FLOPs."""
        fits = [self.costs["flops"] <= self.costs["flops"][index] for index in way]
        return {
            "archs": [self.space.text(index) for index in way],
            "accuracy": [float(self.truth[index]) if np.isfinite(self.truth[index]) else None for index in way],
            "rank": [self._rank(each, index) for each, index in zip(fits, way, strict=True)],
            "num_fitting": [int(each.sum()) for each in fits],
            "regret": [self._regret(each, index) for each, index in zip(fits, way, strict=True)],
            **{cost: [values[index].item() for index in way] for cost, values in self.costs.items()},
        }

    def regret_of(self, way: list[int], cost: str, share: float) -> float | None:
        """Regret of the first architecture of a pass within a share of the widest's cost."""
        fits = self._within(cost, share)
        index = next((each for each in way if fits[each]), None)
        return None if index is None else self._regret(fits, index)

    def uniform_regret(self, cost: str, share: float) -> float | None:
        """Regret of the uniform width within a share of the widest's cost."""
        fits = self._within(cost, share)
        index = uniform_choice(self.space, fits)
        return None if index is None else self._regret(fits, index)

    def _within(self, cost: str, share: float) -> Any:
        return self.costs[cost] <= share * self.costs[cost][NUM_ARCHS - 1]

    def _rank(self, fits: Any, index: int) -> int | None:
        return int((self.truth[fits] > self.truth[index]).sum()) + 1 if np.isfinite(self.truth[index]) else None

    def _regret(self, fits: Any, index: int) -> float | None:
        if not np.isfinite(self.truth[index]):
            return None
        return round(float(np.nanmax(self.truth[fits]) - self.truth[index]), ACCURACY_DECIMALS)


def _steps_sheet(name: str, way: dict[str, Any], setting: Setting) -> Sheet:
    """One pass in full."""
    rows = [
        [
            way["archs"][place],
            *(short(way[cost][place]) for cost in COSTS),
            *([f"{way['latency'][place]:.4f}"] if "latency" in way else []),
            f"{way['scores'][place]:.6g}",
            _text(way["accuracy"][place]),
            "-" if way["rank"][place] is None else f"{way['rank'][place]:,}",
            f"{way['num_fitting'][place]:,}",
            _text(way["regret"][place]),
        ]
        for place in range(len(way["archs"]))
    ]
    costs = ["FLOPs", "parameters", "bytes", *(["ms"] if "latency" in way else [])]
    return Sheet(
        f"One pass in full: {name}, its first supernet, {setting.space.name}",
        ["arch", *costs, "score", "accuracy", "rank", "of", "regret"],
        rows,
        ["rank and regret: among the architectures with no more FLOPs"],
    )


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _draw(measured: Measured, setting: Setting) -> Figure:
    """Passes of all methods over FLOPs, beside the Pareto front and the uniform widths; and their regret."""
    from matplotlib.figure import Figure

    table = setting.truth()
    truth, flops = rounded(table.accuracies()), setting.space.flops()
    scale, unit = (1e6, "millions") if flops.max() > 1e7 else (1e3, "thousands")
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    there = np.flatnonzero(np.isfinite(truth))
    left.scatter(flops[there] / scale, truth[there], s=1, color="#dddddd", rasterized=True)
    front = table.pareto()
    left.step([each.flops / scale for each in front], [each.mean for each in front], where="post", color="black",
              linewidth=1, label="Pareto front")  # fmt: skip
    uniform = [setting.space.index(f"{digit}" * NUM_SLOTS) for digit in range(1, NUM_WIDTHS + 1)]
    left.plot(flops[uniform] / scale, truth[uniform], "s", color="black", markersize=4, label="uniform widths")
    for number, (name, found) in enumerate(measured.items()):
        passes, color = found["passes"], f"C{number}"
        first = passes[0]
        left.plot(np.array(first["flops"]) / scale, known_or_nan(first["accuracy"]), color=color, linewidth=1.2)
        regrets = np.array([known_or_nan(each["regret"]) for each in passes])
        costs = np.array([each["flops"] for each in passes]) / scale
        right.plot(costs.mean(0), regrets.mean(0), color=color, linewidth=1.2, label=name)
    left.set_xlabel(f"FLOPs, {unit}")
    left.set_ylabel("accuracy, percent")
    left.set_title("first supernet of each method")
    left.legend(loc="lower right", fontsize=8)
    right.set_xlabel(f"FLOPs of the step, {unit}")
    right.set_ylabel("regret, percentage points")
    right.set_title("mean over supernets of the same step")
    right.legend(fontsize=8)
    figure.suptitle(f"{setting.space.name}: greedy slimming from 4444444 to 1111111")
    return figure
