"""BCNet's ablation: what both paths, the complement, the evolutionary search and its prior start are worth each.

    channel-harness experiment bcnet_ablation --space resnet-mini

After the journal version (Su et al., 2022, arXiv 2203.13714, "BCNetV2"): Table 10 adds the parts of BCNet one by one
and reports the accuracy of what was searched on ImageNet; Table 11 sets both paths on every batch (Eq. 10) beside one
path in turn (Eq. 22); Figures 4 and 10 are about the search's start and its length. Here every supernet is crossed with
every search, and the truth is looked up, so that nothing found has to be trained.

Six supernets per seed, each trained once and scored on all architectures:

- unilateral or bilateral, without or with complement: `bcnet` with ``paths`` and ``complement``;
- BCNetV2 with five groups, alternating or with both paths: `bcnet_v2` with ``update``.

Searches within .3, .5 and .7 of the widest network's MACs: greedy slimming; the evolutionary search from a random and
from a prior population; 2,000 draws from the prior and no evolution; 2,000 random draws. Base widths, the remaining
factor of the table, leave a sub-space and are an experiment of their own (`base_widths`).

Chosen where the papers are silent:

- epochs are equal, as in the papers; a batch on both paths costs twice a batch on one. Costs stand in the tables, and
  one claim of ours is at equal compute: BCNetV2, which alternates, against the unilateral supernet;
- the complement of the unilateral supernet is that of `bcnet`, K - c and K for K, on the same path;
- three searches of each kind per supernet, and the same random numbers for all supernets and kinds: a difference is
  then one of supernets or searches. A seed's value is the mean over them and over budgets;
- queries are distinct architectures asked for. The evolutionary search repeats itself, and ends long before the 2,000
  that 50 generations of 40 could ask for; from there on it keeps what it has;
- "equal", the claim of Table 11, is held to be seen where alternating paths lose less than a margin: 0.1 percentage
  points, the last digit of that table, and .02 of Kendall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.experiments.claims import Claim, paired_claim
from harness.experiments.contract import Cell, Measured, Outcome, Setting, register_experiment
from harness.experiments.shared import average, truth_of
from harness.experiments.weight_shared import (
    EVOLUTION,
    EVOLUTION_PRIOR,
    GREEDY,
    PRIOR_ONLY,
    QUERIES,
    RANDOM_ONLY,
    ablation_searchers,
    best_within,
    first_generations,
    flops_budgets,
    mean_of,
    mean_within,
    ranking_of,
    searches_of,
    seeds_in_words,
    train,
)
from harness.report.sheets import Sheet, decimals, giga

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BUDGETS = {".3x": 0.3, ".5x": 0.5, ".7x": 0.7}
"""Shares of the widest network's MACs."""
MARGIN_KENDALL, MARGIN_POINTS = 0.02, 0.1
_V2 = "Su et al. 2022 (BCNetV2)"


@dataclass(frozen=True)
class _Supernet:
    name: str
    method: str
    options: dict[str, Any]


SUPERNETS = {
    "v2-both": _Supernet("BCNetV2, both paths", "bcnet_v2", {"update": "both"}),
    "bilateral-complement": _Supernet("bilateral, complement", "bcnet", {}),
    "bilateral-none": _Supernet("bilateral", "bcnet", {"complement": "none"}),
    "v2-alternate": _Supernet("BCNetV2, alternating", "bcnet_v2", {}),
    "unilateral-complement": _Supernet("unilateral, complement", "bcnet", {"paths": "left"}),
    "unilateral-none": _Supernet("unilateral", "bcnet", {"paths": "left", "complement": "none"}),
}
"""The most expensive first."""
BCNET = "bilateral-complement"
SHOWN = ("unilateral-none", "unilateral-complement", "bilateral-none", BCNET, "v2-both", "v2-alternate")
SEARCHES = (GREEDY, EVOLUTION, EVOLUTION_PRIOR, PRIOR_ONLY, RANDOM_ONLY)


@register_experiment(
    "bcnet_ablation",
    paper="Su et al., BCNetV2, 2022, Tables 10 and 11, Figures 4 and 10",
    summary="what both paths, complement, evolution and prior of BCNet are worth",
)
class BCNetAblation:
    """A cell trains one supernet, scores all architectures and searches."""

    def cells(self, setting: Setting) -> list[Cell]:
        """Supernets times seeds."""
        return [
            Cell(f"{key}-seed{seed}", {"supernet": key, "method": each.method, "options": each.options, "seed": seed})
            for key, each in SUPERNETS.items()
            for seed in setting.seeds
        ]

    def measure(self, cell: Cell, setting: Setting) -> dict[str, Any]:
        """Correlations, and what each search found within each budget."""
        truth, seed = truth_of(setting), cell.options["seed"]
        trained = train(cell.options["method"], cell.options["options"], setting, seed, np.isfinite(truth))
        widest = setting.space.flops("4444444")
        budgets = flops_budgets(setting.space, {name: share * widest for name, share in BUDGETS.items()})
        return {
            "ranking": ranking_of(trained, truth),
            "best": {name: best_within(trained, truth, budget) for name, budget in budgets.items()},
            "first_generations": first_generations(trained, truth, budgets, seed),
            "searches": searches_of(trained, truth, budgets, ablation_searchers(), seed),
        }

    def outcome(self, measured: Measured, setting: Setting) -> Outcome:
        """The ablation's table, the one of updates, the course of searches, and the claims."""
        found = _Found(measured, setting)
        sheets = [
            _ablation_sheet(found),
            _supernet_sheet(found),
            _update_sheet(found),
            _course_sheet(found),
            _start_sheet(found),
        ]
        notes = [
            "Supernets are trained for equal epochs, as in the papers; both paths on every batch cost twice one path.",
            "Accuracies are the table's, of what a search chose by the supernet's scores; nothing is trained again.",
            "Queries are distinct architectures; an evolutionary search that has ended keeps what it has.",
        ]
        return Outcome(
            sheets,
            _claims(found),
            {"bcnet_ablation": lambda: _draw_course(found), "supernets": lambda: _draw_supernets(found)},
            notes,
        )


class _Found:
    """What was measured, by supernet and seed."""

    def __init__(self, measured: Measured, setting: Setting) -> None:
        self._measured = measured
        self.space = setting.space.name
        self.seeds = list(setting.seeds)

    def cells(self, supernet: str) -> list[dict[str, Any]]:
        """The cells of a supernet, one per seed."""
        return [self._measured[f"{supernet}-seed{seed}"] for seed in self.seeds]

    def ranking(self, supernet: str, key: str) -> list[float]:
        """A value of the ranking per seed."""
        return [cell["ranking"][key] for cell in self.cells(supernet)]

    def searched(self, supernet: str, search: str, key: str = "accuracy", at: int | None = None) -> list[float]:
        """Mean over budgets and repetitions of what a search found, per seed."""
        return [mean_of(cell["searches"][search], key, at) for cell in self.cells(supernet)]

    def within(self, supernet: str, search: str, budget: str, key: str = "accuracy", at: int | None = None) -> float:
        """Mean over seeds and repetitions within one budget."""
        return average([mean_within(cell["searches"][search][budget], key, at) for cell in self.cells(supernet)])

    @property
    def best(self) -> dict[str, float]:
        """The best true accuracy within each budget, which is the same in every cell."""
        best: dict[str, float] = self.cells(BCNET)[0]["best"]
        return best

    @property
    def facts(self) -> str:
        """Space, number of architectures and seeds, in words."""
        return f"{self.space}, n = {self.cells(BCNET)[0]['ranking']['n']:,}, mean over {seeds_in_words(self.seeds)}"


def _claims(found: _Found) -> list[Claim]:
    """The gains of Table 10 in its order, each with the rest as in the row before, and the equality of Table 11."""
    kendall = {key: found.ranking(key, "kendall") for key in SUPERNETS}

    def gain(what: str, source: str, first: list[float], second: list[float], unit: str) -> Claim:
        return paired_claim(what, f"{_V2}, {source}", first, second, unit)

    points, greedy = "percentage points", {key: found.searched(key, GREEDY) for key in SUPERNETS}
    random, prior = found.searched(BCNET, EVOLUTION), found.searched(BCNET, EVOLUTION_PRIOR)
    at = QUERIES.index(100)
    return [
        gain("two paths rank better than one", "Table 10, Eq. 10", kendall["bilateral-none"],
             kendall["unilateral-none"], "Kendall"),
        gain("two paths lead greedy search to a better width than one", "Table 10, Eq. 10", greedy["bilateral-none"],
             greedy["unilateral-none"], points),
        gain("with complement two paths rank better than without", "Table 10, Eq. 11", kendall[BCNET],
             kendall["bilateral-none"], "Kendall"),
        gain("with complement greedy search finds a better width than without", "Table 10, Eq. 11", greedy[BCNET],
             greedy["bilateral-none"], points),
        gain("on BCNet evolutionary search finds a better width than greedy search", "Table 10", random,
             greedy[BCNET], points),
        gain("a prior start finds a better width than a random start", "Table 10, Eq. 13-15", prior, random, points),
        gain("after 100 queries a prior start is ahead of a random start", "Figures 4 and 10, Eq. 13-15",
             [-value for value in found.searched(BCNET, EVOLUTION_PRIOR, "regret_at", at)],
             [-value for value in found.searched(BCNET, EVOLUTION, "regret_at", at)], points),
        gain("all parts together find a better width than greedy search on one path", "Table 10", prior,
             greedy["unilateral-none"], points),
        gain("at the compute of one path, left and right in turn (BCNetV2) rank better than left alone",
             "Table 10, Eq. 22", kendall["v2-alternate"], kendall["unilateral-none"], "Kendall"),
        gain(f"one path in turn ranks as well as both paths on every batch, to less than {MARGIN_KENDALL} (the effect"
             " is what is left of that)", "Table 11, Eq. 10 and 22",
             [value + MARGIN_KENDALL for value in kendall["v2-alternate"]], kendall["v2-both"], "Kendall"),
        gain(f"one path in turn finds as good a width as both paths on every batch, to less than {MARGIN_POINTS} points"
             " (the effect is what is left of that)", "Table 11, Eq. 10 and 22",
             [value + MARGIN_POINTS for value in found.searched("v2-alternate", EVOLUTION_PRIOR)],
             found.searched("v2-both", EVOLUTION_PRIOR), points),
    ]  # fmt: skip


def _ablation_sheet(found: _Found) -> Sheet:
    """A row per supernet and search, as in Table 10, and the best that there is."""
    rows = [
        [SUPERNETS[key].name, search]
        + [decimals(found.within(key, search, budget), 2) for budget in BUDGETS]
        + [decimals(average(found.searched(key, search, "regret")), 3)]
        + [f"{average(found.searched(key, search, 'num_queries')):,.0f}"]
        for key in SHOWN
        for search in SEARCHES
    ]
    best = ["the table", "best that fits", *(decimals(found.best[name], 2) for name in BUDGETS), decimals(0, 3), "-"]
    return Sheet(
        "True accuracy of what was found within a budget (as Table 10)",
        ["supernet", "search", *BUDGETS, "regret", "queries"],
        [*rows, best],
        [f"{found.facts}; budgets in MACs of the widest network; regret: percentage points below the best that fits"],
    )


def _supernet_sheet(found: _Found) -> Sheet:
    """A row per supernet: how it ranks, and what it cost."""
    return Sheet(
        "How supernets rank all widths",
        ["supernet", "Kendall", "+-", "Spearman", "Pearson", "GMAC"],
        [[SUPERNETS[key].name, *_ranking_texts(found, key)] for key in SHOWN],
        [f"{found.facts}; +-: standard deviation of Kendall over seeds; GMAC: of one training, in billions"],
    )


def _update_sheet(found: _Found) -> Sheet:
    """Both paths on every batch beside one in turn, as Table 11."""
    return Sheet(
        "Paths of a batch of BCNetV2 (as Table 11)",
        ["update", "Kendall", "+-", "Spearman", "Pearson", "GMAC", *BUDGETS],
        [
            [name, *_ranking_texts(found, key)]
            + [decimals(found.within(key, EVOLUTION_PRIOR, budget), 2) for budget in BUDGETS]
            for key, name in (("v2-both", "both paths (Eq. 10)"), ("v2-alternate", "one in turn (Eq. 22)"))
        ],
        [f"{found.facts}; budgets: true accuracy found by evolutionary search with prior start"],
    )


def _ranking_texts(found: _Found, supernet: str) -> list[str]:
    kendall = found.ranking(supernet, "kendall")
    return [
        decimals(average(kendall), 3),
        decimals(float(np.std(kendall, ddof=1)), 3) if len(kendall) > 1 else "-",
        decimals(average(found.ranking(supernet, "spearman")), 3),
        decimals(average(found.ranking(supernet, "pearson")), 3),
        giga(average(found.ranking(supernet, "train_macs"))),
    ]


def _course_sheet(found: _Found) -> Sheet:
    """Regret of the best found so far, by number of queries, on BCNet."""
    rows = [
        [
            search,
            *(decimals(average(found.searched(BCNET, search, "regret_at", at)), 3) for at in range(len(QUERIES))),
        ]
        for search in SEARCHES
        if search != GREEDY
    ]
    return Sheet(
        "Regret of the best found so far on BCNet, by queries (as Figures 4 and 10)",
        ["search", *(f"{number:,}" for number in QUERIES)],
        rows,
        [f"{found.facts} and three budgets, percentage points; greedy search ends at"
         f" {decimals(average(found.searched(BCNET, GREEDY, 'regret')), 3)} after"
         f" {average(found.searched(BCNET, GREEDY, 'num_queries')):,.0f} queries"],
    )  # fmt: skip


def _start_sheet(found: _Found) -> Sheet:
    """Mean accuracy of the first generation, by start."""
    return Sheet(
        "Mean true accuracy of the first 40 of the evolutionary search",
        ["supernet", "start", *BUDGETS],
        [
            [SUPERNETS[key].name, start]
            + [decimals(average([cell["first_generations"][start][name] for cell in found.cells(key)]), 2)
               for name in BUDGETS]
            for key in SHOWN
            for start in ("random", "prior")
        ],
        [found.facts],
    )  # fmt: skip


# -- figures ----------------------------------------------------------------------------------------------------------


def _draw_course(found: _Found) -> Figure:
    """Regret against queries on BCNet, a panel per budget; greedy search is a point."""
    from matplotlib.figure import Figure

    from harness.report.figures import COLOURS, GREY

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, len(BUDGETS), sharey=True)
    for axes, budget in zip(panels, BUDGETS, strict=True):
        for number, search in enumerate((EVOLUTION, EVOLUTION_PRIOR, PRIOR_ONLY, RANDOM_ONLY)):
            course = [found.within(BCNET, search, budget, "regret_at", at) for at in range(len(QUERIES))]
            drawn = search == RANDOM_ONLY
            axes.plot(QUERIES, course, color=GREY if drawn else COLOURS[number], marker="o", markersize=3,
                      linestyle="--" if search in (PRIOR_ONLY, RANDOM_ONLY) else "-", label=search)  # fmt: skip
        end = [found.within(BCNET, GREEDY, budget, key) for key in ("num_queries", "regret")]
        axes.plot(*([value] for value in end), marker="*", markersize=11, linestyle="none", color="black", label=GREEDY)
        axes.set_xscale("log")
        axes.set_xticks(QUERIES, [str(number) for number in QUERIES], rotation=60)
        axes.minorticks_off()
        axes.set_title(f"{budget} of the widest network's MACs")
        axes.set_xlabel("architectures asked for")
    panels[0].set_ylabel("regret, percentage points")
    panels[0].set_ylim(bottom=0)
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.suptitle(f"{found.space}: best found so far on BCNet, mean over {seeds_in_words(found.seeds)}")
    return figure


def _draw_supernets(found: _Found) -> Figure:
    """Kendall, and the accuracy found by greedy and evolutionary search, of each supernet; a dot per seed."""
    from matplotlib.figure import Figure

    from harness.report.figures import COLOURS

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    rows = {key: -place for place, key in enumerate(SHOWN)}
    for key, row in rows.items():
        kendall = found.ranking(key, "kendall")
        left.plot(kendall, [row] * len(kendall), "o", color=COLOURS[0], alpha=0.5, markersize=5)
        left.plot([average(kendall)], [row], "|", color="black", markersize=16, markeredgewidth=2)
        for number, (search, shift) in enumerate(((GREEDY, 0.15), (EVOLUTION_PRIOR, -0.15))):
            regret = found.searched(key, search, "regret")
            label = search if row == 0 else None
            right.plot(regret, [row + shift] * len(regret), "o", color=COLOURS[number], alpha=0.5, markersize=5,
                       label=label)  # fmt: skip
            right.plot([average(regret)], [row + shift], "|", color=COLOURS[number], markersize=12, markeredgewidth=2)
    left.set_yticks(list(rows.values()), [SUPERNETS[key].name for key in rows])
    left.set_xlabel("Kendall tau-b with the truth")
    right.set_xlabel("regret of what is found, percentage points")
    right.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.suptitle(f"{found.space}: supernets of the ablation (a dot per seed, a bar for their mean)")
    return figure
