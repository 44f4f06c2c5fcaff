"""HTAS proper: widths chosen by measured latency, networks made of them, and searches for two settings of this machine.

    channel-harness experiment hardware --space resnet-mini --jobs 1

HTAS (Jiang, Wang and Zhu, ICME 2020) says that latency does not follow FLOPs, because kernels work in tiles: some
widths are as fast as narrower ones. It measures every width x of a layer of each resolution, up to e = 2 times the
largest, fits f(x) = k x + b, scores a width by s(x) = f(x) - m(x), what it saves against the trend, and keeps the best
of each of g = 8 groups of neighbours; TAS then searches among these choices, with latency in its loss. Three parts:

*Choices.* The sweep of every slot (`channel_bench.latency.sweep`, ``channel-bench latency SPACE --sweep``) on this
machine. Whether the steps are there at all: the choices of half of the rounds are judged by the other half, which had
no part in them. On networks this small a call is mostly overhead, so a layer of the full space is swept as well.

*Networks* of random choices, one choice per slot, off our grid and so trained for real: those scored best, evenly
spaced ones (e / g of the largest and its multiples), and one drawn at random from each group. Many candidates of each
kind are timed, and threes of nearly equal latency are taken, one of each kind; they are timed again and trained. Then
each network is compared with the one of the other kind that is nearest in latency (accuracy at equal latency), or in
accuracy (latency at equal accuracy); a kind's gain is the median, because a few networks fall far out: those with a
single channel somewhere hardly learn.

*Two settings*: batches of 1 and of 256 images. The latency of every layer is measured in both; HTAS with a latency
target halfway from the narrowest network to the widest searches a width for each, and both widths are timed in both,
in turns (its Table 5).

Depth is out of scope: HTAS searches it too, and our spaces have one depth.

Departs from the paper. Its latencies are means of 2,000 runs; here they are lower quartiles over few rounds, each in an
order of its own, of the time that the thread had the processor: on a machine with more processes than cores a call of
2 ms of work was seen to take 2 or 20, and even the lower quartile over rounds to be three times too long. Its two
devices are a GPU and a CPU; here two settings of one CPU thread are. Its search chooses among its 8 widths; a supernet
of this benchmark has the four quarters, so the searches choose among those, for 15 epochs instead of 150, with ten
times the learning rate of the distribution in return. Widths are judged by random networks, not by a search.

Chosen where it is silent. A curve is swept with all input channels of the space's widest network, not of the expanded
one; slots with alike layers share one, and in MobileNet the depthwise convolution of an expanded slot counts with the
1x1 that writes it. All three kinds of choices go up to e times the largest width, so that range does not decide. The
target, lambda (2, as in TAS) and the loss with them are those of `harness.methods.htas`. Where no layer gets slower
with its width, latency is free and the widest network counts as found.

Bounds: 12 rounds of the sweeps, 6 of the full layer, with about 200 of its widths, 8 of the layers of each setting, 20
of the last comparison; 48 candidates of each kind and seed, timed in 4 rounds, of which 16 are timed in 12 rounds and
trained once each. That is about three minutes of processor time per mini space, eight on the clock at a
load of 7 on two cores. ``--jobs 1`` keeps the experiment from timing against itself.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.latency.measure import load_now, measure, summary, time_rounds
from channel_bench.latency.sweep import Curve, Sweep, sweep
from channel_bench.space import NUM_SLOTS, FloatArray, Space, get_space
from harness.experiments.claims import Claim, paired_claim
from harness.experiments.contract import Cell, Measured, Outcome, Setting, register_experiment
from harness.experiments.shared import average, truth_of
from harness.methods.htas_choices import PowerLaw, choice_scores, choose_widths, fit_power_law
from harness.report.sheets import Sheet, decimals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPANSION, NUM_GROUPS = 2.0, 8
"""e and g of the paper."""
SWEEP_ROUNDS, FULL_ROUNDS, MODEL_ROUNDS, MATCH_ROUNDS, CROSS_ROUNDS = 12, 6, 8, 4, 20
FULL_SLOT, FULL_BATCH, FULL_WIDTHS = 1, 1, 200
"""The layer of the full space: which slot, images at a time, about how many widths."""
NUM_CANDIDATES, NUM_NETWORKS = 48, 16
"""Of each kind and seed: timed, and of these trained."""
BATCHES = (1, 256)
"""The two settings."""
SWEEP_BATCH = 256
SCORED, EVEN, DRAWN = "scored", "even", "drawn"
KINDS = (SCORED, EVEN, DRAWN)
TARGET, LATENCY_WEIGHT, SEARCH_EPOCHS, ARCH_LR = 0.5, 2.0, 15, 0.01
FULL = "full-layer"
WIDEST, NARROWEST = "4" * NUM_SLOTS, "1" * NUM_SLOTS
PAPER = "Jiang et al., 2020"


@register_experiment(
    "hardware",
    paper="Jiang, Wang and Zhu, ICME 2020 (HTAS), Tables 1, 2, 5, Figures 2, 3",
    summary="widths chosen by measured latency, networks of them, searches for two settings of this machine",
)
class Hardware:
    """A cell for the full space's layer, and two per seed: choices with their networks, and searches."""

    def cells(self, setting: Setting) -> list[Cell]:
        """The trainings first."""
        if setting.space.own_layers:
            raise ArgumentError(
                f"experiment 'hardware' also times a full space of the family, {setting.space.family!r} has none: take"
                " a space of family 'resnet' or 'mobilenet'"
            )
        return [
            *(Cell(f"search-seed{seed}", {"seed": seed}) for seed in setting.seeds),
            *(Cell(f"choices-seed{seed}", {"seed": seed}) for seed in setting.seeds),
            Cell(FULL, {}),
        ]

    def measure(self, cell: Cell, setting: Setting) -> dict[str, Any]:
        """Time, and train."""
        if cell.key == FULL:
            return _full_layer(setting)
        return (_searches if cell.key.startswith("search-") else _choices)(cell.options["seed"], setting)

    def outcome(self, measured: Measured, setting: Setting) -> Outcome:
        """Tables of choices, of networks and of the two settings."""
        choices = [measured[f"choices-seed{seed}"] for seed in setting.seeds]
        searches = [measured[f"search-seed{seed}"] for seed in setting.seeds]
        curves = [[Curve(**curve) for curve in each["curves"]] for each in choices]
        full = Curve(**measured[FULL]["curves"][0])
        loads = [load for each in measured.values() for load in each["load"] if load is not None]
        cores = sorted({each["cores"] for each in measured.values()})
        space = setting.space
        return Outcome(
            [
                choices_sheet(curves, full, space),
                networks_sheet([each["networks"] for each in choices], space),
                cross_sheet(searches, space),
            ],
            [
                *choice_claims(curves),
                *network_claims([each["networks"] for each in choices]),
                cross_claim(searches),
            ],
            figures={"hardware": lambda: _draw(curves, full, choices, space)},
            notes=[
                "Depth is not searched. Latencies are of this machine while others used it, load average"
                + (f" {min(loads):g} to {max(loads):g}" if loads else " unknown")
                + f" on {', '.join(map(str, cores))} cores: processor time of one thread, and what is"
                " compared was timed in turns.",
                f"Sweep and networks: batches of {SWEEP_BATCH}, one thread; {SWEEP_ROUNDS} rounds. Layer of the full"
                f" space: batches of {FULL_BATCH}, {FULL_ROUNDS} rounds.",
                f"Searches: four widths per slot, {SEARCH_EPOCHS} epochs, lambda {LATENCY_WEIGHT:g}, target halfway"
                " from the narrowest to the widest network by f.",
            ],
        )


# -- choices and lines: arithmetic on what was measured ---------------------------------------------------------------


def even_widths(most: int) -> list[int]:
    """Evenly spaced choices up to the largest swept width, at least 1 each."""
    return [max(1, round(most * place / NUM_GROUPS)) for place in range(1, NUM_GROUPS + 1)]


def choices_of(curve: Curve, rng: np.random.Generator) -> dict[str, list[int]]:
    """The choices of a slot by kind, ascending, one of each group of neighbours.

    Args:
        curve: Its sweep, of at least 8 widths.
        rng: Draws one of each group.
    """
    groups = np.array_split(np.array(curve.widths), NUM_GROUPS)
    return {
        SCORED: scored_widths(curve.widths, curve.ms).tolist(),
        EVEN: even_widths(curve.widths[-1]),
        DRAWN: [int(rng.choice(group)) for group in groups],
    }


def scored_widths(widths: Sequence[int], latencies: Sequence[float]) -> Any:
    """The best of each group by s = f - m, f linear as in the paper."""
    return choose_widths(widths, latencies, fit_power_law(widths, latencies), NUM_GROUPS)


def held_out_gain(curve: Curve) -> float:
    """How much choices save, on rounds that did not choose them, against a width drawn from the same group.

    Each half of the rounds chooses for the other, whose trend judges. Choices that only noise made save 0 on average.

    Returns:
        Percent of the mean latency.
    """
    gains = []
    for chooses, judges in ((curve.even_ms, curve.odd_ms), (curve.odd_ms, curve.even_ms)):
        chosen = set(scored_widths(curve.widths, chooses).tolist())
        scores = choice_scores(curve.widths, judges, fit_power_law(curve.widths, judges))
        saved = []
        for group in np.array_split(np.arange(len(curve.widths)), NUM_GROUPS):
            (place,) = [each for each in group if curve.widths[each] in chosen]
            saved.append(scores[place] - scores[group].mean())
        gains.append(100 * float(np.mean(saved)) / float(np.mean(judges)))
    return float(np.mean(gains))


def repeats(curve: Curve) -> float | None:
    """Spearman correlation of the scores of the two halves of the rounds; None where one is constant."""
    from scipy import stats

    halves = [choice_scores(curve.widths, ms, fit_power_law(curve.widths, ms)) for ms in (curve.even_ms, curve.odd_ms)]
    if any(np.ptp(half) == 0 for half in halves):
        return None
    return float(stats.spearmanr(*halves).statistic)


def explained(curve: Curve, fit: PowerLaw) -> float:
    """Share of the variance of latencies that a fit explains; NaN where they are constant."""
    found = np.array(curve.ms)
    total = float(((found - found.mean()) ** 2).sum())
    return 1 - float(((fit(curve.widths) - found) ** 2).sum()) / total if total else math.nan


def matched(latencies: dict[str, FloatArray], num: int) -> dict[str, list[int]]:
    """Pick networks of equal latency, one of each kind for every latency aimed at.

    Aimed at are latencies evenly spaced between the 10th and the 90th percentile that all kinds reach; each kind gives
    the nearest network that is not taken.

    Args:
        latencies: By kind, of its candidates, (n,) each.
        num: Networks of each kind, 1..n.

    Returns:
        By kind, places of its candidates, num each, in the order of what was aimed at.
    """
    low = max(float(np.quantile(each, 0.1)) for each in latencies.values())
    high = min(float(np.quantile(each, 0.9)) for each in latencies.values())
    picked: dict[str, list[int]] = {kind: [] for kind in latencies}
    for target in np.linspace(low, high, num):
        for kind, each in latencies.items():
            free = np.setdiff1d(np.arange(len(each)), picked[kind])
            picked[kind].append(int(free[np.argmin(np.abs(each[free] - target))]))
    return picked


def at_equal(values: FloatArray, given: FloatArray, other_values: FloatArray, other_given: FloatArray) -> float:
    """How much higher a value is in one kind than in another where what is given is equal.

    Each network of either kind meets the nearest of the other in what is given; of equally near ones the first.

    Returns:
        Median of all differences.
    """
    distance = np.abs(given[:, None] - other_given[None, :])
    ahead = values - other_values[distance.argmin(1)]
    behind = values[distance.argmin(0)] - other_values
    return float(np.median(np.concatenate([ahead, behind])))


def accuracy_at_equal_latency(networks: dict[str, list[dict[str, Any]]], first: str, second: str) -> float:
    """Percentage points that one kind of networks is better by."""
    (accuracy, ms), (other_accuracy, other_ms) = _series(networks, first), _series(networks, second)
    return at_equal(accuracy, ms, other_accuracy, other_ms)


def saved_at_equal_accuracy(networks: dict[str, list[dict[str, Any]]], first: str, second: str) -> float:
    """Percent of latency that one kind of networks saves."""
    (accuracy, ms), (other_accuracy, other_ms) = _series(networks, first), _series(networks, second)
    return 100 * (1 - math.exp(at_equal(ms, accuracy, other_ms, other_accuracy)))


def _series(networks: dict[str, list[dict[str, Any]]], kind: str) -> tuple[FloatArray, FloatArray]:
    """Accuracies, and logarithms of latency, of the networks of a kind whose training did not diverge.

    Raises:
        ArgumentError: There is none.
    """
    known = [each for each in networks[kind] if each["accuracy"] is not None]
    if not known:
        raise ArgumentError(f"no network of {kind} choices was trained to the end")
    return np.array([each["accuracy"] for each in known]), np.log([each["ms"] for each in known])


# -- cells ------------------------------------------------------------------------------------------------------------


def _surroundings(before: float | None) -> dict[str, Any]:
    """What a cell says of the machine."""
    from channel_bench.support.processes import num_cores

    return {"load": [before, load_now()], "cores": num_cores()}


def _stopwatch(space: Space, batch_size: int, seed: int) -> Any:
    """PyTorch on one CPU thread: the settings are of the CPU wherever networks are trained."""
    import torch

    from channel_bench.latency.stopwatch import TorchStopwatch

    torch.set_num_threads(1)
    return TorchStopwatch(space, torch.device("cpu"), batch_size, seed, processor_time=True)


def _curves(found: Sweep) -> dict[str, Any]:
    facts = found.facts()
    return {"curves": facts["curves"], "conditions": facts["conditions"]}


def _full_layer(setting: Setting) -> dict[str, Any]:
    """The sweep of a layer of the full space of the family, at a batch of one."""
    before, space = load_now(), get_space(setting.space.family)
    # An odd step meets every place within a tile.
    step = int(EXPANSION * space.max_channels[FULL_SLOT]) // FULL_WIDTHS | 1
    clock = _stopwatch(space, FULL_BATCH, 0)
    found = sweep(space, clock, expansion=EXPANSION, step=step, num_repeats=FULL_ROUNDS, slots=(FULL_SLOT,))
    return {**_curves(found), **_surroundings(before)}


def _choices(seed: int, setting: Setting) -> dict[str, Any]:
    """The sweep, its choices, and networks of them: timed in turns, then trained."""
    before, space = load_now(), setting.space
    found = sweep(space, _stopwatch(space, SWEEP_BATCH, seed), expansion=EXPANSION, num_repeats=SWEEP_ROUNDS, seed=seed)
    rng = np.random.default_rng([seed, 1])
    choices = [choices_of(curve, rng) for curve in found.curves]
    of_slot = {slot: each for curve, each in zip(found.curves, choices, strict=True) for slot in curve.slots}
    rows = rng.integers(NUM_GROUPS, size=(NUM_CANDIDATES, NUM_SLOTS)).tolist()
    candidates = {
        kind: [tuple(of_slot[slot][kind][group] for slot, group in enumerate(row)) for row in rows] for kind in KINDS
    }
    places = matched(_network_latencies(space, candidates, MATCH_ROUNDS, seed), NUM_NETWORKS)
    made = {kind: [candidates[kind][place] for place in places[kind]] for kind in KINDS}
    latencies = _network_latencies(space, made, SWEEP_ROUNDS, seed)
    train = _trainer(setting)
    networks = {
        kind: [
            {
                "channels": list(channels),
                "ms": float(latencies[kind][place]),
                "accuracy": train(channels),
                "flops": int(space.with_channels(channels).flops(NARROWEST)),
            }
            for place, channels in enumerate(made[kind])
        ]
        for kind in KINDS
    }
    return {**_curves(found), "choices": choices, "networks": networks, **_surroundings(before)}


def _network_latencies(
    space: Space, networks: dict[str, list[tuple[int, ...]]], num_rounds: int, seed: int
) -> dict[str, FloatArray]:
    """Latency of networks of any channels, ms, all timed in turns; in the shape that they have."""
    arch = (1,) * NUM_SLOTS

    def timing(channels: Sequence[int]) -> tuple[str, Callable[[], float]]:
        clock = _stopwatch(space.with_channels(channels), SWEEP_BATCH, seed)
        return "network", lambda: float(clock.time_network(arch))

    timings = [timing(channels) for kind in KINDS for channels in networks[kind]]
    found = summary(time_rounds(timings, 1 + num_rounds, np.random.default_rng([seed, 2, num_rounds]))[1:])
    return dict(zip(KINDS, found.reshape(len(KINDS), -1), strict=True))


def _trainer(setting: Setting) -> Callable[[Sequence[int]], float | None]:
    """What trains a network of any channels once, by the recipe of the space's table: its accuracy, or None."""
    from channel_bench.training.datasets import load_dataset
    from channel_bench.training.devices import pick_device
    from harness.search.final import train_final

    options, space = setting.task, setting.space
    data = load_dataset(options.dataset or space.dataset, data_dir=options.data_dir, device=pick_device(options.device))

    def train(channels: Sequence[int]) -> float | None:
        found = train_final(space.with_channels(channels), NARROWEST, 1, data)
        return found.mean if found.accuracies else None

    return train


def _searches(seed: int, setting: Setting) -> dict[str, Any]:
    """A width for each setting, and all of them timed in both."""
    before, space = load_now(), setting.space
    truth = truth_of(setting)
    clocks = {batch: _stopwatch(space, batch, seed) for batch in BATCHES}
    found = {batch: _search(seed, setting, clocks[batch]) for batch in BATCHES}
    archs = list(dict.fromkeys([*(each["arch"] for each in found.values()), WIDEST, NARROWEST]))
    plan = [(batch, arch) for batch in BATCHES for arch in archs]

    def timing(batch: int, arch: str) -> tuple[str, Callable[[], float]]:
        return arch, lambda: float(clocks[batch].time_network(space.arch(arch)))

    timings = [timing(*each) for each in plan]
    rounds = time_rounds(timings, 1 + CROSS_ROUNDS, np.random.default_rng([seed, 3]))[1:]
    latencies: dict[str, dict[str, float]] = {arch: {} for arch in archs}
    for (batch, arch), value in zip(plan, summary(rounds), strict=True):
        latencies[arch][str(batch)] = float(value)
    accuracies = {arch: float(truth[space.index(arch)]) for arch in archs}
    return {
        "found": {str(batch): each for batch, each in found.items()},
        "ms": latencies,
        "accuracy": {arch: value if math.isfinite(value) else None for arch, value in accuracies.items()},
        "flops": {arch: int(space.flops(arch)) for arch in archs},
        **_surroundings(before),
    }


def _search(seed: int, setting: Setting, clock: Any) -> dict[str, Any]:
    """Measure the layers in a setting, and search with a target between the narrowest and the widest network."""
    from harness.methods.htas import HTAS
    from harness.ranking.request import prepare_task

    model = measure(setting.space, clock, num_repeats=MODEL_ROUNDS, num_networks=8, seed=seed)
    epochs = setting.task.epochs or SEARCH_EPOCHS
    task = prepare_task(dataclasses.replace(setting.task, seed=seed, epochs=epochs, threads=1))
    facts = {
        "modelled_ms": {arch: float(model.sum_layers(arch)) for arch in (NARROWEST, WIDEST)},
        "conditions": dataclasses.asdict(model.conditions),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latency.json"
        model.write(path)
        method = HTAS(latency_weight=LATENCY_WEIGHT, latency=str(path), arch_lr=ARCH_LR, latency_target=TARGET)
        if not _grows(setting.space, path):
            return {"arch": WIDEST, "latency_is_free": True, **facts}
        evaluator = method.fit(task)
    return {"arch": evaluator.facts["likeliest"], "latency_is_free": False, **facts}


def _grows(space: Space, path: Path) -> bool:
    """Whether any layer of a latency file gets slower with its width."""
    from channel_bench.latency import load_latency
    from harness.methods.htas_choices import fit_layers

    return any(fit.k > 0 for fit in fit_layers(load_latency(path, space)).values())


# -- outcome ----------------------------------------------------------------------------------------------------------


def choices_sheet(curves: list[list[Curve]], full: Curve, space: Space) -> Sheet:
    """A row per curve: fit, noise, gain on held-out rounds, and the choices of the first seed."""
    rows = []
    for number, first in enumerate(curves[0]):
        rows.append(_curve_row(", ".join(map(str, first.slots)), [each[number] for each in curves]))
    rows.append(_curve_row(f"{', '.join(map(str, full.slots))} of {space.family}", [full]))
    return Sheet(
        f"Choices by measured latency, {space.name}",
        ["slots", "layers", "output", "up to", "f(x), ms", "alpha", "R2", "repeats", "gain %", "choices, first seed"],
        rows,
        [
            "f: first seed, alpha 1 as in the paper; alpha: the exponent that fits best; R2: variance that f explains",
            "repeats: Spearman correlation of the scores s = f - m of two halves of the rounds, mean over seeds; gain:"
            " what choices of one half save in the other half against a width drawn from the same group, percent",
        ],
    )


def _curve_row(slots: str, curves: list[Curve]) -> list[str]:
    first = curves[0]
    fit, free = (fit_power_law(first.widths, first.ms, alpha) for alpha in (1.0, None))
    known = [value for value in map(repeats, curves) if value is not None]
    return [
        slots,
        " + ".join(first.layers),
        f"{first.size[0]}x{first.size[1]}",
        str(first.widths[-1]),
        f"{fit.k:.3g} x {'+' if fit.b >= 0 else '-'} {abs(fit.b):.3g}",
        f"{free.alpha:.2f}",
        decimals(explained(first, fit), 2),
        decimals(float(np.mean(known)), 2) if known else "-",
        f"{np.mean([held_out_gain(curve) for curve in curves]):+.1f}",
        ", ".join(map(str, scored_widths(first.widths, first.ms))),
    ]


def networks_sheet(seeds: list[dict[str, list[dict[str, Any]]]], space: Space) -> Sheet:
    """A row per kind of choices: networks of them, and what the scored ones give beside it."""
    rows = []
    for kind in KINDS:
        known = [[one for one in each[kind] if one["accuracy"] is not None] for each in seeds]
        rows.append(
            [
                kind,
                str(sum(map(len, known))),
                *(
                    decimals(average(average(one[name] for one in each) / scale for each in known), places)
                    for name, scale, places in (("accuracy", 1, 2), ("ms", 1, 3), ("flops", 1e3, 1))
                ),
                *(
                    ["-", "-"]
                    if kind == SCORED
                    else [
                        f"{average(accuracy_at_equal_latency(each, SCORED, kind) for each in seeds):+.2f}",
                        f"{average(saved_at_equal_accuracy(each, SCORED, kind) for each in seeds):+.1f}",
                    ]
                ),
            ]
        )
    return Sheet(
        f"Networks of random choices, {space.name}",
        ["choices", "networks", "accuracy", "ms", "kFLOPs", "scored: points at equal ms", "scored: % faster"],
        rows,
        [
            f"{NUM_NETWORKS} networks of each kind and seed, off the grid, each trained once; means over {len(seeds)}"
            " seeds; picked in threes of nearly equal latency",
            "scored: what networks of scored choices gain against the row, median over each network and the nearest of"
            " the other kind in latency or in accuracy",
        ],
    )


def cross_sheet(searches: list[dict[str, Any]], space: Space) -> Sheet:
    """A row per setting that was searched for and per seed: accuracy and latency in both settings; and the ends."""
    rows = []
    for batch in BATCHES:
        for number, each in enumerate(searches):
            found = each["found"][str(batch)]
            free = " (latency is free)" if found["latency_is_free"] else ""
            rows.append([f"batch {batch}{free}", str(number), *_cross_row(found["arch"], [each], space)])
    for name, arch in (("widest", WIDEST), ("narrowest", NARROWEST)):
        rows.append([name, "all", *_cross_row(arch, searches, space)])
    return Sheet(
        f"Widths found for two settings, timed in both, {space.name}",
        ["searched for", "seed", "arch", "accuracy", "FLOPs", *(f"ms, batch {batch}" for batch in BATCHES)],
        rows,
        ["accuracy: looked up in the table; FLOPs: share of the widest's; ms: lower quartile over rounds in turns"],
    )


def _cross_row(arch: str, searches: list[dict[str, Any]], space: Space) -> list[str]:
    accuracy = searches[0]["accuracy"][arch]
    return [
        arch,
        "-" if accuracy is None else decimals(accuracy, 2),
        f"{searches[0]['flops'][arch] / space.flops(WIDEST):.2f}",
        *(decimals(average(each["ms"][arch][str(batch)] for each in searches), 3) for batch in BATCHES),
    ]


def choice_claims(curves: list[list[Curve]]) -> list[Claim]:
    """Whether chosen widths are faster for their size on rounds that did not choose them."""
    gains = [float(np.mean([held_out_gain(curve) for curve in each])) for each in curves]
    return [
        paired_claim(
            "widths of the best scores are faster for their size than drawn ones when timed again",
            f"{PAPER}, Tables 1, 2, Figures 2, 3",
            gains,
            [0.0] * len(gains),
            "percent of latency",
        )
    ]


def network_claims(seeds: list[dict[str, list[dict[str, Any]]]]) -> list[Claim]:
    """What scored choices give against evenly spaced and drawn ones."""
    words = {EVEN: "evenly spaced choices", DRAWN: "choices drawn from the same groups"}
    claims = []
    for kind, text in words.items():
        saved = [saved_at_equal_accuracy(each, SCORED, kind) for each in seeds]
        better = [accuracy_at_equal_latency(each, SCORED, kind) for each in seeds]
        zeros = [0.0] * len(seeds)
        claims += [
            paired_claim(
                f"HTAS's choices give faster networks at equal accuracy than {text}",
                f"{PAPER}, Table 3",
                saved,
                zeros,
                "percent of latency",
            ),
            paired_claim(
                f"HTAS's choices give better networks at equal latency than {text}",
                f"{PAPER}, Table 3",
                better,
                zeros,
                "percentage points",
            ),
        ]
    return claims


def cross_claim(searches: list[dict[str, Any]]) -> Claim:
    """Whether a width is faster where it was searched for than the width that was searched for the other setting."""
    effects = []
    for each in searches:
        found = {batch: each["found"][str(batch)]["arch"] for batch in BATCHES}
        first, second = BATCHES
        effects.append(
            average(
                100 * (1 - each["ms"][found[own]][str(own)] / each["ms"][found[other]][str(own)])
                for own, other in ((first, second), (second, first))
            )
        )
    return paired_claim(
        "a width searched for a setting is faster in it than the one searched for the other",
        f"{PAPER}, Table 5",
        effects,
        [0.0] * len(effects),
        "percent of latency",
    )


def _draw(curves: list[list[Curve]], full: Curve, choices: list[dict[str, Any]], space: Space) -> Figure:
    """Sweeps with their trend and choices, of the full space's layer and of two slots here; networks of each kind."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_curve(left, full, "C0", f"{space.family}: {' + '.join(full.layers)}")
    left.set_title(f"layer of the full space, batch of {FULL_BATCH}")
    widest = sorted(curves[0], key=lambda curve: curve.widths[-1])
    for number, curve in enumerate((widest[0], widest[-1])):
        _draw_curve(middle, curve, f"C{number}", " + ".join(curve.layers))
    middle.set_title(f"{space.name}, batch of {SWEEP_BATCH}, first seed")
    for axes in (left, middle):
        axes.set_xlabel("output channels")
        axes.set_ylabel("latency, ms")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
    for number, kind in enumerate(KINDS):
        known = [one for each in choices for one in each["networks"][kind] if one["accuracy"] is not None]
        right.plot([one["ms"] for one in known], [one["accuracy"] for one in known], "os^"[number], color=f"C{number}",
                   markersize=4, alpha=0.7, label=f"{kind} choices")  # fmt: skip
    right.set_xlabel("latency of the network, ms")
    right.set_ylabel("accuracy, percent")
    right.set_title("networks of random choices, all seeds")
    right.legend(fontsize=8)
    figure.suptitle(f"{space.name}: measured latency, the trend f, and the best widths of {NUM_GROUPS} groups")
    return figure


def _draw_curve(axes: Any, curve: Curve, color: str, label: str) -> None:
    fit, chosen = fit_power_law(curve.widths, curve.ms), scored_widths(curve.widths, curve.ms)
    found = dict(zip(curve.widths, curve.ms, strict=True))
    axes.plot(curve.widths, curve.ms, ".", markersize=3, color=color, label=label)
    axes.plot(curve.widths, fit(curve.widths), color=color, linewidth=0.8)
    axes.plot(chosen, [found[width] for width in chosen], "o", markersize=6, markerfacecolor="none", color=color)
