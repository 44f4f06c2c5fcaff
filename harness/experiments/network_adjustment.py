"""Network adjustment proper: train, probe, adjust, scale, and train anew, iteration after iteration.

    channel-harness experiment network_adjustment --space resnet-mini

Chen et al., CVPR 2020, Algorithm 1 (adjusting.py). In every iteration a network is trained from scratch with spatial
dropout and probed by dropping channels of each slot (dropout_probe.py). The slots that lose most are widened, those
that lose least narrowed, and all are scaled until the FLOPs are what they were. The result is the network with the best
validation accuracy. Three starts: the widest network (1x), the uniform .5x, and one of the FLOPs of .5x whose widths
grow linearly with depth, as in PyramidNet. Three probes: the loss at equal FLOPs (the public code), the accuracy at
equal FLOPs (the paper's text), and the loss where every slot loses an equal share of its channels: without FUR.

The judge is apart from the search: every network on the way is trained from scratch without dropout, on all training
images, with seeds that no table and no other cell has, and tested on the test images, which the search never sees.

Chosen where the paper is silent, or otherwise than there:

- K is 6 of 18 layers at first, so 2 of our 7 slots, and falls at the paper's pace to 1. r_A is .1 (text), of the first
  width and equal for all ranks; the public code can decay it with the rank.
- One channel is up to a tenth of a small network. So widths are real numbers inside the loop, which Scale keeps exactly
  at the FLOPs; the network trained has whole numbers, rounded so that its FLOPs are within 1% where that can be.
- No upper limit of a width; the lower one is 2 channels, the narrowest layer of the grid (paper: 4, of 16).
- Deviation: 6 iterations instead of 10, and 10 epochs instead of the recipe's 20 while searching (the paper's search on
  ImageNet has 10 epochs too), to keep a space within 8 minutes on two cores. Judging has the full recipe.
- Networks on the grid are trained, too, and not looked up: an accuracy of the table is a mean of three other seeds, and
  beside fresh means its own luck would count as an effect of the adjustment.
- Probed networks are trained on whole batches only: the few images that are left over would be a batch whose statistics
  spoil the running averages.
- All tensors of a slot lose the same channels, because in our spaces skip lines tie them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from channel_bench.errors import ExperimentError
from channel_bench.recipe import get_recipe
from channel_bench.record import Job
from channel_bench.space import NUM_SLOTS, FloatArray, Space
from channel_bench.table.ranks import ACCURACY_DECIMALS
from harness.experiments.adjusting import Channels, Iterate, adjust, growing, num_adjusted
from harness.experiments.claims import Claim, paired_claim
from harness.experiments.contract import Cell, Measured, Outcome, Setting, register_experiment
from harness.report.sheets import Sheet, decimals
from harness.search.bill import FIRST_SEED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ITERATIONS = 6
SEARCH_EPOCHS = 10
NUM_ANEW = 5
"""Trainings from scratch of every network on the way."""
FULL, UNIFORM, PYRAMID = "1x", "uniform", "pyramid"
STARTS = {FULL: "1x", UNIFORM: "uniform .5x", PYRAMID: "growing, .5x"}
FIRST_SHARE = 0.25
"""Of the growing start: the share of its maximum that the first slot has."""
FUR_LOSS, FUR_ACCURACY, PLAIN_LOSS = "fur-loss", "fur-accuracy", "plain-loss"
VARIANTS: dict[str, dict[str, Any]] = {
    FUR_LOSS: {"measure": "loss", "fur": True},
    FUR_ACCURACY: {"measure": "accuracy", "fur": True},
    PLAIN_LOSS: {"measure": "loss", "fur": False},
}
SOURCE = "Chen et al., CVPR 2020, Table 2"
POINTS = "percentage points"


@register_experiment(
    "network_adjustment",
    paper="Chen et al., CVPR 2020 (Network Adjustment), Algorithm 1, Table 2, Figure 3",
    summary="widths adjusted at constant FLOPs, each iteration trained and probed anew",
)
class NetworkAdjustment:
    """A cell per start and seed: the iterates of every probe, each judged; all probes begin with one training."""

    def cells(self, setting: Setting) -> list[Cell]:
        """The widest networks first."""
        return [
            Cell(cell_key(start, seed), {"start": start, "seed": seed}) for start in STARTS for seed in setting.seeds
        ]

    def measure(self, cell: Cell, setting: Setting) -> dict[str, Any]:
        """The iterates of every probe, and the accuracy of each trained anew."""
        from harness.experiments.dropout_probe import DropoutProbe
        from harness.ranking.request import prepare_task

        seed = cell.options["seed"]
        task = prepare_task(dataclasses.replace(setting.task, seed=seed))
        recipe = get_recipe(
            setting.space.recipe, epochs=setting.task.epochs or SEARCH_EPOCHS, precision=setting.task.precision
        )
        widths, flops = start_of(setting.space, cell.options["start"])
        prober, judge, found = DropoutProbe(task, recipe), _Judge(setting, seed), {}
        for variant, how in VARIANTS.items():
            probe = functools.partial(prober.probe, **how)
            iterates = adjust(setting.space, widths, flops, probe, ITERATIONS)
            found[variant] = [_plain(each, setting.space, judge) for each in iterates]
        return {"flops": flops, "iterates": found}

    def outcome(self, measured: Measured, setting: Setting) -> Outcome:
        """What adjustment gains, its iterates, and the widths that it ends with."""
        found = _Found(measured, setting)
        return Outcome(
            [_gains_sheet(found), _iterations_sheet(found), _widths_sheet(found)],
            _claims(found),
            figures={"network_adjustment": lambda: _draw(found)},
            notes=[
                f"{ITERATIONS} iterations where the paper has 10, and {SEARCH_EPOCHS} epochs of training while"
                " searching (or --epochs); judging has the full recipe.",
                "Networks on the grid are trained, too: the table's accuracies come from other seeds.",
            ],
        )


def cell_key(start: str, seed: int) -> str:
    """Key of a cell."""
    return f"{start}-seed{seed}"


def start_of(space: Space, start: str) -> tuple[FloatArray, float]:
    """Real numbers of channels that a start has, (7,), and the FLOPs to keep."""
    arch = ("4" if start == FULL else "2") * NUM_SLOTS
    flops = float(space.flops(arch))
    if start == PYRAMID:
        return growing(space, flops, FIRST_SHARE), flops
    return np.array(space.channels(arch), np.float64), flops


def returned(iterates: list[dict[str, Any]]) -> int:
    """Number of the iterate with the best validation accuracy, the first of equal ones; the start counts, too."""
    return int(np.argmax([each["val_accuracy"] for each in iterates]))


# -- cells ------------------------------------------------------------------------------------------------------------


class _Judge:
    """Trains networks from scratch by the recipe of the space's table; equal ones once."""

    def __init__(self, setting: Setting, seed: int) -> None:
        from channel_bench.training.datasets import load_dataset
        from channel_bench.training.devices import pick_device

        task = setting.task
        self._space, self._recipe = setting.space, get_recipe(setting.space.recipe)
        self._data = load_dataset(
            task.dataset or self._space.dataset, data_dir=task.data_dir, device=pick_device(task.device)
        )
        self._seeds = range(FIRST_SEED + seed * NUM_ANEW, FIRST_SEED + (seed + 1) * NUM_ANEW)
        self._known: dict[Channels, list[float]] = {}

    def accuracies(self, channels: Channels) -> list[float]:
        """Test accuracy of each training that did not diverge, percent.

        Raises:
            ExperimentError: All of them diverged.
        """
        from channel_bench.training.backends import train_jobs

        if channels not in self._known:
            jobs = [Job("1" * NUM_SLOTS, 0, seed) for seed in self._seeds]
            records = train_jobs(self._space.with_channels(channels), jobs, self._recipe, self._data)
            found = [record.best_test_acc for record in records]
            self._known[channels] = [round(each, ACCURACY_DECIMALS) for each in found if each is not None]
            if not self._known[channels]:
                raise ExperimentError(f"every training of {channels} channels diverged: choose another data set")
        return self._known[channels]


def _plain(iterate: Iterate, space: Space, judge: _Judge) -> dict[str, Any]:
    """An iterate as values of JSON."""
    return {
        "widths": iterate.widths.round(4).tolist(),
        "channels": list(iterate.channels),
        "flops": space.with_channels(iterate.channels).flops("1" * NUM_SLOTS),
        "losses": [round(loss, 6) for loss in iterate.probed.losses],
        "val_accuracy": iterate.probed.accuracy,
        "wider": list(iterate.wider),
        "narrower": list(iterate.narrower),
        "anew": judge.accuracies(iterate.channels),
    }


# -- outcome ----------------------------------------------------------------------------------------------------------


class _Found:
    """What was measured, by start and variant."""

    def __init__(self, measured: Measured, setting: Setting) -> None:
        self.setting, self.space = setting, setting.space
        self._measured = measured

    def runs(self, start: str, variant: str) -> list[list[dict[str, Any]]]:
        """Iterates of every seed."""
        return [self._measured[cell_key(start, seed)]["iterates"][variant] for seed in self.setting.seeds]

    def accuracies(self, start: str, variant: str) -> FloatArray:
        """Mean accuracy anew, (seeds, iterates)."""
        return np.array([[np.mean(each["anew"]) for each in run] for run in self.runs(start, variant)])

    def gains(self, start: str, variant: str, place: int | None = None) -> FloatArray:
        """What the returned iterate, or that of a place, has more than the start, (seeds,)."""
        accuracies = self.accuracies(start, variant)
        places = [returned(run) if place is None else place for run in self.runs(start, variant)]
        gains: FloatArray = accuracies[np.arange(len(places)), places] - accuracies[:, 0]
        return gains

    def widths(self, start: str, variant: str, place: int) -> FloatArray:
        """Mean channels over seeds, (7,)."""
        mean: FloatArray = np.mean([run[place]["channels"] for run in self.runs(start, variant)], axis=0)
        return mean


def _claims(found: _Found) -> list[Claim]:
    """The paper's three, the first one for each start."""
    nothing = [0.0] * len(found.setting.seeds)
    with_fur = {start: found.gains(start, FUR_LOSS) for start in STARTS}
    without = np.mean([found.gains(start, PLAIN_LOSS) for start in STARTS], axis=0)
    return [
        *(
            paired_claim(f"adjustment gains over its start: {name}", SOURCE, with_fur[start].tolist(), nothing, POINTS)
            for start, name in STARTS.items()
        ),
        paired_claim(
            "dropping equal FLOPs (FUR) gains more than dropping equal shares of channels, mean over starts",
            f"{SOURCE} and its ablation",
            np.mean(list(with_fur.values()), axis=0).tolist(),
            without.tolist(),
            POINTS,
        ),
        paired_claim(
            "adjustment gains more from growing widths than from uniform ones of equal FLOPs",
            "Chen et al., CVPR 2020, section 4",
            with_fur[PYRAMID].tolist(),
            with_fur[UNIFORM].tolist(),
            POINTS,
        ),
    ]


def _gains_sheet(found: _Found) -> Sheet:
    """A row per start and probe."""
    rows = []
    for start, name in STARTS.items():
        for variant in VARIANTS:
            runs, accuracies = found.runs(start, variant), found.accuracies(start, variant)
            gains, last = found.gains(start, variant), found.gains(start, variant, -1)
            off = max(abs(each["flops"] / found_flops(found, start) - 1) for run in runs for each in run)
            rows.append(
                [
                    name,
                    variant,
                    decimals(float(accuracies[:, 0].mean()), 2),
                    decimals(float((accuracies[:, 0] + gains).mean()), 2),
                    f"{gains.mean():+.2f}",
                    decimals(float(gains.std(ddof=1)), 2) if len(gains) > 1 else "-",
                    ", ".join(str(returned(run)) for run in runs),
                    f"{last.mean():+.2f}",
                    f"{off:.2%}",
                ]
            )
    return Sheet(
        f"What network adjustment gains, {found.space.name}",
        ["start", "probe", "start accuracy", "returned", "gain", "std", "iterates", "last gain", "FLOPs off"],
        rows,
        [
            f"accuracies: percent, {NUM_ANEW} trainings from scratch per network and seed; gain: percentage points over"
            " the start, mean and standard deviation (ddof=1) over seeds",
            "returned: the iterate with the best validation accuracy in each seed, its numbers under iterates (0 is the"
            " start); FLOPs off: the most that an iterate's FLOPs differ from the start's",
        ],
    )


def found_flops(found: _Found, start: str) -> float:
    """The FLOPs that a start's adjustment has to keep."""
    return start_of(found.space, start)[1]


def _iterations_sheet(found: _Found) -> Sheet:
    """Accuracy and FLOPs of every iteration with the first probe; accuracy with the others."""
    columns, table = ["iteration", "K"], []
    for name in STARTS.values():
        columns += [f"{name}: {FUR_LOSS}", "FLOPs", *(variant for variant in VARIANTS if variant != FUR_LOSS)]
    for place in range(ITERATIONS + 1):
        row = [str(place), str(num_adjusted(place)) if place < ITERATIONS else "-"]
        for start in STARTS:
            flops = np.mean([run[place]["flops"] for run in found.runs(start, FUR_LOSS)])
            others = [variant for variant in VARIANTS if variant != FUR_LOSS]
            row += [_accuracy(found, start, FUR_LOSS, place), f"{flops:,.0f}"]
            row += [_accuracy(found, start, variant, place) for variant in others]
        table.append(row)
    return Sheet(
        f"Accuracy and FLOPs of every iteration, {found.space.name}",
        columns,
        table,
        ["mean over seeds; FLOPs: with fur-loss; K: slots that are widened, and narrowed, after the iteration"],
    )


def _accuracy(found: _Found, start: str, variant: str, place: int) -> str:
    return decimals(float(found.accuracies(start, variant)[:, place].mean()), 2)


def _widths_sheet(found: _Found) -> Sheet:
    """Channels of every slot at the start and at the end of each probe's iterations."""
    rows = []
    for start, name in STARTS.items():
        rows.append([name, "start", *(f"{count:.0f}" for count in found.widths(start, FUR_LOSS, 0))])
        rows += [
            [name, f"end, {variant}", *(decimals(float(count), 1) for count in found.widths(start, variant, -1))]
            for variant in VARIANTS
        ]
    columns = ["start", "widths", *(f"slot {slot}" for slot in range(NUM_SLOTS))]
    notes = [f"channels after {ITERATIONS} iterations, mean over seeds"]
    return Sheet(f"Change of widths, {found.space.name}", columns, rows, notes)


def _draw(found: _Found) -> Figure:
    """Above, accuracy of every iteration from each start; below, widths at start and end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.6), layout="constrained")
    panels, places = figure.subplots(2, len(STARTS)), np.arange(ITERATIONS + 1)
    maxima, slots = np.array(found.space.max_channels), np.arange(NUM_SLOTS)
    for column, (start, name) in enumerate(STARTS.items()):
        above, below = panels[0, column], panels[1, column]
        for number, variant in enumerate(VARIANTS):
            accuracies = found.accuracies(start, variant)
            above.plot(places, accuracies.mean(0), "o-", color=f"C{number}", markersize=4, label=variant)
            above.fill_between(
                places, accuracies.min(0), accuracies.max(0), color=f"C{number}", alpha=0.12, linewidth=0
            )
            end = found.widths(start, variant, -1) / maxima
            below.plot(slots, end, "o-", color=f"C{number}", markersize=4, linewidth=1, label=f"end, {variant}")
        below.step(slots, found.widths(start, FUR_LOSS, 0) / maxima, where="mid", color="black", label="start")
        above.set_title(f"from {name}")
        above.set_xlabel("iteration")
        below.set_xlabel("slot")
        below.set_ylim(bottom=0)
    panels[0, 0].set_ylabel("accuracy anew, percent")
    panels[1, 0].set_ylabel("share of the slot's maximum")
    panels[0, 0].legend(fontsize=8)
    panels[1, 0].legend(fontsize=8)
    figure.suptitle(f"{found.space.name}: network adjustment, mean over seeds (bands: all of them)")
    return figure
