"""Base widths: what BCNetV2 gains where the narrowest widths are left out, on the sub-space that is left.

    channel-harness experiment base_widths --space resnet-mini

After the journal version of BCNet (Su et al., 2022, arXiv 2203.13714, "BCNetV2"; Table 8, Figures 7 and 8): networks
that are searched seldom have their narrowest layers, so a base width l_s is left out of the search; the layer then
needs T = l + l_s - d groups for its channels to be trained equally often. With L_s = 2 groups of L = 4 the sub-space
has 3^7 = 2,187 architectures, with L_s = 3 it has 2^7 = 128. Everything here is of the sub-space alone: what is scored,
correlations, budgets, and the best that a search can find.

Supernets per seed, each trained once:

- BCNet as it is, T = 4, trained on all four widths; scored on both sub-spaces;
- BCNet that trains the widths L_s to 4 only, T = 4 (``complement=mirror``): less to train, but channels unequally
  often, 4 5 5 4 times for L_s = 2 and 3 4 4 3 times for L_s = 3. It separates the sub-space from the layout;
- BCNetV2 as it is, L_s = 1, T = 5; scored on both sub-spaces;
- BCNetV2 with the base width, T = L + L_s groups, after the derivation of Eq. 21;
- the same with T = L + L_s - 1, after the text (with one group as d), which is not equal: 3 4 4 4 3 and 2 2 3 3 2 2.

Chosen where the paper is silent: BCNetV2 alternates its paths (Eq. 22), so that it has half the compute of BCNet at
equal epochs; widths are drawn uniformly from L_s to 4. Budgets are the quartiles of the sub-space's MACs, since shares
of the widest network can leave nothing of it. The evolutionary search asks for most of so small a space, so there is
one per budget, and the exhaustive one beside it. The base widths of the paper are 2 to 8 of 20 groups: ours, a half and
three quarters, lie where it finds them harmful (about K/2), because the space has four groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from channel_bench.space import FloatArray, Space
from harness.experiments.claims import Claim, paired_claim
from harness.experiments.contract import Cell, Measured, Outcome, Setting, register_experiment
from harness.experiments.shared import average, truth_of
from harness.experiments.weight_shared import (
    EVOLUTION_PRIOR,
    GREEDY,
    Trained,
    best_within,
    flops_budgets,
    mean_of,
    mean_within,
    ranking_of,
    searches_of,
    seeds_in_words,
    train,
)
from harness.report.sheets import Sheet, decimals, giga
from harness.searcher import BoolArray
from harness.searchers import get_searcher
from harness.searchers.exhaustive import Exhaustive
from harness.searchers.greedy import Greedy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASES = (2, 3)
QUARTILES = {"25%": 0.25, "50%": 0.5, "75%": 0.75}
"""Share of the sub-space that fits, by name."""
EXHAUSTIVE = "exhaustive"
_SOURCE = "Su et al. 2022 (BCNetV2)"


@dataclass(frozen=True)
class _Supernet:
    name: str
    method: str
    options: dict[str, Any]
    bases: tuple[int, ...]
    """The sub-spaces that it is scored on."""


def _supernets() -> dict[str, _Supernet]:
    """By key, the most expensive first."""
    restricted = {
        f"bcnet-base{base}": _Supernet(
            f"BCNet, widths {base}-4, T = 4", "bcnet", {"complement": "mirror", "base_width": base}, (base,)
        )
        for base in BASES
    }
    second = {
        f"v2-base{base}": _Supernet(
            f"BCNetV2, widths {base}-4, T = {4 + base}", "bcnet_v2", {"base_width": base}, (base,)
        )
        for base in BASES
    }
    text = {
        f"v2-text-base{base}": _Supernet(
            f"BCNetV2, widths {base}-4, T = {3 + base}", "bcnet_v2", {"base_width": base, "groups": "paper"}, (base,)
        )
        for base in BASES
    }
    return {
        "bcnet": _Supernet("BCNet, widths 1-4, T = 4", "bcnet", {}, BASES),
        **restricted,
        **second,
        **text,
        "v2-base1": _Supernet("BCNetV2, widths 1-4, T = 5", "bcnet_v2", {}, BASES),
    }


SUPERNETS = _supernets()


@register_experiment(
    "base_widths",
    paper="Su et al., BCNetV2, 2022, Table 8, Figures 7 and 8",
    summary="BCNet and BCNetV2 where the narrowest widths are left out",
)
class BaseWidths:
    """A cell trains one supernet, scores a sub-space or both, and searches there."""

    def cells(self, setting: Setting) -> list[Cell]:
        """Supernets times seeds."""
        return [
            Cell(
                f"{key}-seed{seed}",
                {"method": each.method, "options": each.options, "bases": list(each.bases), "seed": seed},
            )
            for key, each in SUPERNETS.items()
            for seed in setting.seeds
        ]

    def measure(self, cell: Cell, setting: Setting) -> dict[str, Any]:
        """By base width: correlations, and what was found within each budget."""
        truth, bases = truth_of(setting), cell.options["bases"]
        among = np.isfinite(truth) & subspace(setting.space, min(bases))
        trained = train(cell.options["method"], cell.options["options"], setting, cell.options["seed"], among)
        return {
            str(base): measure_subspace(_cut(trained, subspace(setting.space, base)), truth, cell.options["seed"])
            for base in bases
        }

    def outcome(self, measured: Measured, setting: Setting) -> Outcome:
        """A table per base width, and the claims."""
        found = _Found(measured, setting)
        notes = [
            "Correlations, budgets and regret are of the sub-space alone: architectures all of whose slots have the"
            " base width or more.",
            "BCNetV2 trains one path per batch (Eq. 22), so at equal epochs it has half the compute of BCNet.",
            "The paper's best base width is a quarter to a third of the maximum; four groups allow a half and more.",
        ]
        return Outcome(
            [_sheet(found, base) for base in BASES],
            _claims(found),
            {"base_widths": lambda: _draw(found)},
            notes,
        )


def subspace(space: Space, base: int) -> BoolArray:
    """Which architectures have no slot narrower than a base width, bool (16384,)."""
    return np.asarray(space.archs().min(1) >= base)


def measure_subspace(trained: Trained, truth: FloatArray, seed: int) -> dict[str, Any]:
    """Correlations and searches among what is scored."""
    there = trained.scored
    limits = {
        name: np.quantile(trained.space.flops()[there], share, method="lower") for name, share in QUARTILES.items()
    }
    budgets = flops_budgets(trained.space, limits)
    searchers = {
        EVOLUTION_PRIOR: get_searcher("evolutionary", initial="prior"),
        GREEDY: Greedy(),
        EXHAUSTIVE: Exhaustive(),
    }
    return {
        "ranking": ranking_of(trained, truth),
        "limits": {name: budget.limit for name, budget in budgets.items()},
        "best": {name: best_within(trained, truth, budget) for name, budget in budgets.items()},
        "searches": searches_of(trained, truth, budgets, searchers, seed, num_repeats=1),
    }


def _cut(trained: Trained, among: BoolArray) -> Trained:
    """The same supernet, of which only some scores are known."""
    scores = np.where(among, trained.scores, np.nan)
    return Trained(trained.space, scores, trained.records, trained.train_macs, trained.fit_s)


class _Found:
    """What was measured, by supernet, base width and seed."""

    def __init__(self, measured: Measured, setting: Setting) -> None:
        self._measured = measured
        self.space = setting.space.name
        self.seeds = list(setting.seeds)

    def cells(self, supernet: str, base: int) -> list[dict[str, Any]]:
        """What a supernet measured on a sub-space, one per seed."""
        return [self._measured[f"{supernet}-seed{seed}"][str(base)] for seed in self.seeds]

    def ranking(self, supernet: str, base: int, key: str = "kendall") -> list[float]:
        """A value of the ranking per seed."""
        return [cell["ranking"][key] for cell in self.cells(supernet, base)]

    def searched(self, supernet: str, base: int, search: str, key: str = "accuracy") -> list[float]:
        """Mean over budgets and repetitions of what a search found, per seed."""
        return [mean_of(cell["searches"][search], key) for cell in self.cells(supernet, base)]


def supernets_of(base: int) -> list[str]:
    """Keys of what is compared on a sub-space, in the order of the tables."""
    return ["bcnet", f"bcnet-base{base}", "v2-base1", f"v2-text-base{base}", f"v2-base{base}"]


def _claims(found: _Found) -> list[Claim]:
    """BCNetV2 with a base width against BCNet, and against BCNet on the same widths."""
    claims = []
    for base in BASES:
        second = f"v2-base{base}"
        source = f"{_SOURCE}, Table 8, Figures 7 and 8, Eq. 21"
        claims += [
            paired_claim(f"l_s = {base}: BCNetV2 ranks better than BCNet", source, found.ranking(second, base),
                         found.ranking("bcnet", base), "Kendall"),
            paired_claim(f"l_s = {base}: BCNetV2 leads to a better width than BCNet", source,
                         found.searched(second, base, EVOLUTION_PRIOR), found.searched("bcnet", base, EVOLUTION_PRIOR),
                         "percentage points"),
            paired_claim(f"l_s = {base}: BCNetV2 ranks better than BCNet that trains the same widths", source,
                         found.ranking(second, base), found.ranking(f"bcnet-base{base}", base), "Kendall"),
            paired_claim(f"l_s = {base}: T = L + L_s ranks better than T = L + L_s - 1", f"{_SOURCE}, Eq. 21 and text",
                         found.ranking(second, base), found.ranking(f"v2-text-base{base}", base), "Kendall"),
        ]  # fmt: skip
    return claims


def _sheet(found: _Found, base: int) -> Sheet:
    """A row per supernet: how it ranks the sub-space, and what was found within each quartile."""
    rows = []
    for key in supernets_of(base):
        cells = found.cells(key, base)
        kendall = found.ranking(key, base)
        rows.append(
            [SUPERNETS[key].name, decimals(average(kendall), 3)]
            + [decimals(float(np.std(kendall, ddof=1)), 3) if len(kendall) > 1 else "-"]
            + [decimals(average(found.ranking(key, base, name)), 3) for name in ("spearman", "pearson")]
            + [
                decimals(average([mean_within(cell["searches"][EVOLUTION_PRIOR][name]) for cell in cells]), 2)
                for name in QUARTILES
            ]
            + [
                decimals(average(found.searched(key, base, search, "regret")), 3)
                for search in (EVOLUTION_PRIOR, GREEDY, EXHAUSTIVE)
            ]
            + [giga(average(found.ranking(key, base, "train_macs")))]
        )
    facts = found.cells("bcnet", base)[0]
    limits = ", ".join(f"{name} {limit / 1e6:,.3f}" for name, limit in facts["limits"].items())
    best = ["best that fits", *["-"] * 4, *(decimals(facts["best"][name], 2) for name in QUARTILES), *["-"] * 4]
    return Sheet(
        f"l_s = {base}: the {facts['ranking']['n']:,} architectures without narrower slots, {found.space}",
        ["supernet", "Kendall", "+-", "Spearman", "Pearson", *QUARTILES, "regret", "greedy", "exhaustive", "GMAC"],
        [*rows, best],
        [
            f"n = {facts['ranking']['n']:,}, mean over {seeds_in_words(found.seeds)}; +-: standard deviation of"
            " Kendall; GMAC: of one training, in billions",
            f"{', '.join(QUARTILES)}: true accuracy found by evolutionary search with prior start, where so much of the"
            f" sub-space fits ({limits} million MACs); regret: its mean over budgets, then that of greedy search and of"
            " the best score of all that fits, percentage points",
        ],
    )


def _draw(found: _Found) -> Figure:
    """A row per base width: Kendall, and regret of what is found; a dot per seed."""
    from matplotlib.figure import Figure

    from harness.report.figures import COLOURS

    figure = Figure(figsize=(9, 5), layout="constrained")
    for base, (left, right) in zip(BASES, figure.subplots(len(BASES), 2, sharey="row", sharex="col"), strict=True):
        keys = supernets_of(base)
        for row, key in enumerate(reversed(keys)):
            regret = found.searched(key, base, EVOLUTION_PRIOR, "regret")
            for axes, values in ((left, found.ranking(key, base)), (right, regret)):
                axes.plot(values, [row] * len(values), "o", color=COLOURS[1 if "v2" in key else 0], alpha=0.5,
                          markersize=5)  # fmt: skip
                axes.plot([average(values)], [row], "|", color="black", markersize=14, markeredgewidth=2)
        left.set_yticks(range(len(keys)), [SUPERNETS[key].name for key in reversed(keys)])
        left.set_ylim(-0.6, len(keys) - 0.4)
        left.set_title(f"l_s = {base}, n = {found.ranking(keys[0], base, 'n')[0]:,}", loc="left")
    left.set_xlabel("Kendall tau-b with the truth")
    right.set_xlabel("regret of what is found, percentage points")
    figure.suptitle(f"{found.space}: base widths (a dot per seed, a bar for their mean)")
    return figure
