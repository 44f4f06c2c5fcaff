"""What a search costs and what it gives, end to end; and how methods rank when all of them spend the same.

    channel-harness experiment costs --space resnet-mini

A width-search paper ends with a network: a supernet was trained, asked for scores, and what was found was trained from
scratch. Here the evolutionary search of BCNet asks the supernets of the leaderboard within three budgets, and what it
finds is trained anew, with seeds that no table has. Beside it stands what the papers compare with: the uniform width,
as the exact multiplier that the budget allows, which lies off our grid and is therefore trained; the best of 20 random
networks after a sixth of their epochs, replayed from the table's curves; the choice of a free score, log-paths;
and the best that fits in the table.

*Equal compute.* A method that trains three sub-networks a step (AutoSlim) spends three times what one does. So every
method is trained again, for as many epochs as cost the median of what the methods of the leaderboard spend.

Chosen where the papers are silent: a question costs a pass of that one sub-network over all validation images, as if
nothing were shared between them. HTAS is left out of equal compute: without a latency target it equals TAS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from channel_bench.errors import BudgetError, MissingDataError
from channel_bench.recipe import get_recipe
from channel_bench.space import FloatArray, Space
from channel_bench.table.ranks import ACCURACY_DECIMALS, rounded
from harness.experiments.claims import Claim, paired_claim
from harness.experiments.contract import Cell, Measured, Outcome, Setting, register_experiment
from harness.experiments.rankings import leaderboard_scores
from harness.experiments.shared import average, full_epochs, kendall_where_known, ranked_supernet, truth_of
from harness.judge.baselines import baseline_scores
from harness.report.sheets import Sheet, decimals
from harness.stats.vanilla import random_choices

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.search.bill import FinalTraining

BUDGETS = (0.25, 0.5, 0.75)
"""Shares of the widest network's FLOPs."""
NUM_FINAL = 10
"""Trainings of every width that was found."""
NUM_REPLAYS = 200
SEARCHER = "evolutionary"
FREE = "log-paths"
SAME_AS_ANOTHER = ("htas",)
BASELINES = "baselines"
CLAIMS = (
    ("bcnet", "Su et al., CVPR 2021, Tables 1 to 4"),
    ("autoslim", "Yu and Huang, 2019, Table 1"),
    ("tas", "Dong and Yang, NeurIPS 2019, Table 2"),
    ("fur", "Chen et al., CVPR 2020, Table 2"),
)


@register_experiment(
    "costs",
    paper="Su et al., CVPR 2021, Tables 1 to 4 (BCNet); Yu and Huang, 2019, Table 1",
    summary="what a search costs end to end and what it gives, and rankings at equal compute",
)
class Costs:
    """A cell per method's searches, one for the baselines, one per method and seed at equal compute."""

    def cells(self, setting: Setting) -> list[Cell]:
        """The trainings first, the most expensive per epoch at the front."""
        known = leaderboard_scores(setting.space)
        epochs = equal_epochs({name: _gmac(found) for name, found in known.items()}, full_epochs(setting))
        equal = [
            Cell(f"equal-{name}-seed{seed}", {"method": name, "epochs": epochs[name], "seed": seed})
            for name in sorted(epochs, key=lambda name: epochs[name])
            for seed in setting.seeds
            if name not in SAME_AS_ANOTHER
        ]
        return [*equal, *(Cell(f"search-{name}", {"method": name}) for name in sorted(known)), Cell(BASELINES)]

    def measure(self, cell: Cell, setting: Setting) -> dict[str, Any]:
        """Searches and final trainings, or a supernet and its Kendall."""
        if cell.key == BASELINES:
            return _baselines(setting)
        if "epochs" in cell.options:
            return ranked_supernet(cell.options["method"], cell.options["seed"], cell.options["epochs"], setting)
        return _searches(cell.options["method"], setting)

    def outcome(self, measured: Measured, setting: Setting) -> Outcome:
        """The two tables and the figure."""
        sheets = [_end_to_end_sheet(measured, setting), _equal_sheet(measured, setting)]
        notes = [
            "A width on the grid is looked up for its regret and trained anew for the last columns; the exact uniform"
            " multiplier is only trained.",
            "The intervals of the claims are over supernets; the uniform multiplier is a mean of"
            f" {NUM_FINAL} trainings at each of three budgets, whose own error is not in them.",
        ]
        claims = [_against_uniform(measured, setting, *each) for each in CLAIMS if f"search-{each[0]}" in measured]
        return Outcome(sheets, claims, figures={"costs": lambda: _draw(measured, setting)}, notes=notes)


def equal_epochs(gmac: dict[str, float], full: int) -> dict[str, int]:
    """Epochs at which every method costs the median of what they cost in full.

    Args:
        gmac: Cost of each method's full training, > 0.
        full: Its epochs.
    """
    target = float(np.median(list(gmac.values())))
    return {name: max(1, round(full * target / cost)) for name, cost in gmac.items()}


def exact_uniform(space: Space, budget: float) -> tuple[int, ...]:
    """Channels of the largest uniform multiplier of the widest network that fits, each rounded, at least one.

    Raises:
        BudgetError: Not even one channel everywhere fits.
    """

    def channels(multiplier: float) -> tuple[int, ...]:
        return tuple(max(1, round(multiplier * most)) for most in space.max_channels)

    def fits(multiplier: float) -> bool:
        return bool(space.with_channels(channels(multiplier)).flops("1111111") <= budget)

    if not fits(0.0):
        raise BudgetError(f"no uniform multiplier of space {space.name!r} has {budget:,.15g} FLOPs")
    inside, outside = 0.0, 1.0
    if fits(outside):
        return channels(outside)
    for _ in range(30):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if fits(middle) else (inside, middle)
    return channels(inside)


# -- cells ------------------------------------------------------------------------------------------------------------


def _gmac(found: list[Any]) -> float:
    return float(np.mean([scores.facts["train_gmac"] for scores in found]))


def _searches(method: str, setting: Setting) -> dict[str, Any]:
    """The search of every supernet within every budget, its find looked up and trained anew."""
    from harness.search.run import search
    from harness.searcher import Budget

    space, truth = setting.space, truth_of(setting)
    trainer, supernets = _Trainer(setting), []
    for scores in leaderboard_scores(space)[method][: setting.num_seeds]:
        seed, found = scores.facts.get("seed") or 0, {}
        for share in BUDGETS:
            budget = Budget("flops", space.flops(), share * space.flops("4444444"))
            end = search(space, scores, budget, np.random.default_rng(seed), SEARCHER)
            final = trainer.train(end.arch)
            found[str(share)] = {
                "arch": end.arch,
                "num_queries": end.num_queries,
                "query_flops": end.query_flops,
                **_worth(truth, budget.fits, space.index(end.arch)),
                **_of_final(final),
            }
        kendall = kendall_where_known(scores.values, truth)
        supernets.append({"seed": seed, "kendall": kendall, "searches": found})
    first = leaderboard_scores(space)[method][0].facts
    return {"supernets": supernets, "train_gmac": _gmac(leaderboard_scores(space)[method]), "fit_s": first["fit_s"]}


def _baselines(setting: Setting) -> dict[str, Any]:
    """What needs no supernet, within every budget."""
    space, table = setting.space, setting.truth()
    truth, trainer = rounded(table.accuracies()), _Trainer(setting)
    free, found = baseline_scores(space)[FREE], {}
    for share in BUDGETS:
        limit = share * space.flops("4444444")
        fits = space.flops() <= limit
        channels = exact_uniform(space, limit)
        chosen = int(np.where(fits, free, -np.inf).argmax())
        best = int(np.where(fits & np.isfinite(truth), truth, -np.inf).argmax())
        found[str(share)] = {
            "uniform": {"channels": list(channels), **_of_final(trainer.train_channels(channels))},
            "free": {"arch": space.text(chosen), **_worth(truth, fits, chosen), **_of_final(trainer.train(chosen))},
            "best": {"arch": space.text(best), **_worth(truth, fits, best), **_of_final(trainer.train(best))},
            "random": _random(table, truth, fits, trainer.num_images),
        }
    return {"budgets": found, "num_val_images": trainer.num_val_images}


def _random(table: Any, truth: FloatArray, fits: Any, num_images: int) -> dict[str, Any] | None:
    """The mean of many replays; None for a table without curves."""
    try:
        replayed = random_choices(table, fits, NUM_REPLAYS, np.random.default_rng(0))
    except MissingDataError:
        return None
    regrets = replayed.regret(truth, fits)
    return {
        "regret": float(regrets.mean()),
        "std": float(regrets.std(ddof=1)),
        "accuracy": float(truth[replayed.chosen].mean()),
        "trainings": replayed.trainings,
        "macs": 3 * num_images * replayed.trainings * float(table.space.flops()[fits].mean()),
    }


def _worth(truth: FloatArray, fits: Any, index: int) -> dict[str, Any]:
    """True accuracy and regret of an architecture; None where it was not trained."""
    if not np.isfinite(truth[index]):
        return {"accuracy": None, "regret": None}
    best = float(np.nanmax(truth[fits]))
    return {"accuracy": float(truth[index]), "regret": round(best - float(truth[index]), ACCURACY_DECIMALS)}


def _of_final(final: FinalTraining) -> dict[str, Any]:
    return {"anew": list(final.accuracies), "final_macs": final.macs, "final_s": final.seconds}


class _Trainer:
    """Trains widths from scratch by the recipe of the space's table; each architecture once."""

    def __init__(self, setting: Setting) -> None:
        from channel_bench.training.datasets import load_dataset
        from channel_bench.training.devices import pick_device
        from harness.ranking.request import prepare_task

        options = setting.task
        self._space = setting.space
        self._data = load_dataset(
            options.dataset or self._space.dataset, data_dir=options.data_dir, device=pick_device(options.device)
        )
        self.num_val_images = len(prepare_task(options).val_labels)
        self.num_images = get_recipe(self._space.recipe).epochs * len(self._data.train_labels)
        self._done: dict[Any, FinalTraining] = {}

    def train(self, arch: Any) -> FinalTraining:
        """An architecture of the space."""
        return self._train(self._space, self._space.text(arch))

    def train_channels(self, channels: tuple[int, ...]) -> FinalTraining:
        """A network off the grid."""
        return self._train(self._space.with_channels(channels), "1111111")

    def _train(self, space: Space, arch: str) -> FinalTraining:
        from harness.search.final import train_final

        if (space, arch) not in self._done:
            self._done[space, arch] = train_final(space, arch, NUM_FINAL, self._data)
        return self._done[space, arch]


# -- outcome ----------------------------------------------------------------------------------------------------------


def _end_to_end_sheet(measured: Measured, setting: Setting) -> Sheet:
    """A row per method and baseline: what was spent, what was found."""
    budgets, num_val = measured[BASELINES]["budgets"], measured[BASELINES]["num_val_images"]
    rows = []
    for key, found in measured.items():
        if not key.startswith("search-"):
            continue
        searches = [each["searches"] for each in found["supernets"]]
        middle = [each["0.5"] for each in searches]
        rows.append(
            [
                key.removeprefix("search-"),
                f"{found['train_gmac']:.1f}",
                f"{found['fit_s']:.0f}",
                f"{average(each['query_flops'] for each in middle) * num_val / 1e9:.1f}",
                f"{average(each['num_queries'] for each in middle):.0f}",
                f"{average(each['final_macs'] for each in middle) / NUM_FINAL / 1e9:.1f}",
                *(decimals(average(each[str(share)]["regret"] for each in searches), 2) for share in BUDGETS),
                *(decimals(average(average(each[str(share)]["anew"]) for each in searches), 2) for share in BUDGETS),
            ]
        )
    rows.sort(key=lambda row: -float(row[-2]))
    names = {"best": "best in the table", "free": f"{FREE}, free", "uniform": "uniform multiplier"}
    for kind, name in names.items():
        each = [budgets[str(share)][kind] for share in BUDGETS]
        regrets = [decimals(one["regret"], 2) if "regret" in one else "-" for one in each]
        cost = f"{each[1]['final_macs'] / NUM_FINAL / 1e9:.1f}"
        rows.append([name, "0", "0", "0", "0", cost, *regrets, *(decimals(average(one["anew"]), 2) for one in each)])
    random = [budgets[str(share)]["random"] for share in BUDGETS]
    if all(random):
        rows.append(
            ["best of 20 random", "0", "0", "0", "0", f"{random[1]['macs'] / 1e9:.1f}"]
            + [decimals(one["regret"], 2) for one in random]
            + ["-"] * len(BUDGETS)
        )
    return Sheet(
        f"What a search costs and what it gives, {setting.space.name}",
        [
            *("widths by", "supernet GMAC", "s", "query GMAC", "queries", "final GMAC"),
            *(f"regret {share:g}x" for share in BUDGETS),
            *(f"anew {share:g}x" for share in BUDGETS),
        ],
        rows,
        [
            f"{SEARCHER} search over the scores of the leaderboard's supernets; costs are those at .5x FLOPs, mean over"
            " supernets; final: one training",
            "regret: percentage points below the best in the table within the budget, mean over supernets",
            f"anew: accuracy of {NUM_FINAL} new trainings from scratch, percent, mean over supernets",
            "best in the table: found by 49,152 trainings; its regret is 0, and its accuracy anew is lower because luck"
            " has raised the best",
        ],
    )


def _against_uniform(measured: Measured, setting: Setting, method: str, source: str) -> Claim:
    """Accuracy anew of what each supernet's searches found, less that of the uniform multiplier, mean over budgets."""
    budgets = measured[BASELINES]["budgets"]
    uniform = float(np.mean([average(budgets[str(share)]["uniform"]["anew"]) for share in BUDGETS]))
    found = [
        float(np.mean([average(each["searches"][str(share)]["anew"]) for share in BUDGETS]))
        for each in measured[f"search-{method}"]["supernets"]
    ]
    statement = f"a search with {method} finds a better width than the uniform multiplier of equal FLOPs"
    return paired_claim(statement, source, found, [uniform] * len(found), "percentage points")


def _equal_sheet(measured: Measured, setting: Setting) -> Sheet:
    """Kendall at equal compute beside Kendall at equal epochs."""
    full, rows = full_epochs(setting), []
    known = leaderboard_scores(setting.space)
    epochs = equal_epochs({name: _gmac(found) for name, found in known.items()}, full)
    for name in epochs:
        if name in SAME_AS_ANOTHER:
            continue
        found = [measured[f"equal-{name}-seed{seed}"] for seed in setting.seeds]
        before = [each["kendall"] for each in measured[f"search-{name}"]["supernets"]]
        values = np.array([each["kendall"] for each in found])
        macs = [each["train_macs"] for each in found]
        rows.append(
            [
                name,
                str(epochs[name]),
                "-" if None in macs else f"{np.mean(macs) / 1e9:.1f}",
                decimals(float(values.mean()), 3),
                decimals(float(values.std(ddof=1)), 3) if len(values) > 1 else "-",
                f"{measured[f'search-{name}']['train_gmac']:.1f}",
                decimals(average(before), 3),
                f"{values.mean() - average(before):+.3f}",
            ]
        )
    rows.sort(key=lambda row: -float(row[3]))
    return Sheet(
        f"Kendall at equal compute, {setting.space.name}",
        ["method", "epochs", "GMAC", "Kendall", "std", f"GMAC of {full} epochs", "Kendall", "difference"],
        rows,
        [f"mean over {len(setting.seeds)} supernets, each with a full cosine; std: over them (ddof=1)"],
    )


def _draw(measured: Measured, setting: Setting) -> Figure:
    """Left, regret at half the FLOPs over the compute of supernet and questions; right, Kendall at equal compute."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    num_val = measured[BASELINES]["num_val_images"]
    places: dict[tuple[float, float], list[str]] = {}  # one for methods whose supernets are the same
    for key, found in measured.items():
        if key.startswith("search-"):
            searches = [each["searches"]["0.5"] for each in found["supernets"]]
            spent = found["train_gmac"] + average(each["query_flops"] for each in searches) * num_val / 1e9
            regret = average(each["regret"] for each in searches)
            places.setdefault((round(spent, 1), round(regret, 3)), []).append(key.removeprefix("search-"))
    for place, names in places.items():
        left.plot(*place, "o", color="C0", markersize=4)
        # Two names are long, and the room above is for those of the neighbours.
        shift, side = (-3, "top") if len(names) > 1 else (3, "bottom")
        left.annotate(", ".join(names), place, (4, shift), textcoords="offset points", fontsize=8, va=side)
    left.margins(x=0.12)
    middle = measured[BASELINES]["budgets"]["0.5"]
    if middle["free"]["regret"] is not None:
        left.axhline(middle["free"]["regret"], color="black", linestyle=":", linewidth=0.8, label=f"{FREE}, free")
    if middle["random"]:
        left.axhline(middle["random"]["regret"], color="C1", linestyle="--", linewidth=0.8, label="best of 20 random")
    left.set_ylim(bottom=0)
    left.set_xlabel("supernet and questions, GMAC")
    left.set_ylabel("regret at .5x FLOPs, percentage points")
    names = [row[0] for row in _equal_sheet(measured, setting).rows]
    for height, name in enumerate(names[::-1]):
        before = average(each["kendall"] for each in measured[f"search-{name}"]["supernets"])
        after = [measured[f"equal-{name}-seed{seed}"]["kendall"] for seed in setting.seeds]
        right.plot([before, np.mean(after)], [height, height], color="#bbbbbb", linewidth=1)
        right.plot(before, height, "o", color="white", markeredgecolor="C0", label=None if height else "equal epochs")
        right.plot(np.mean(after), height, "o", color="C0", label=None if height else "equal compute")
    right.set_yticks(range(len(names)), names[::-1])
    right.set_xlabel("Kendall tau-b with the truth")
    figure.legend(fontsize=8, loc="outside lower center", ncols=4)
    figure.suptitle(f"{setting.space.name}: what is spent and what it gives")
    return figure
