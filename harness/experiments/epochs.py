"""How long must one train to rank? Every network for a few epochs, and supernets for a part of theirs.

    channel-harness experiment epochs --space resnet-mini

Two papers say that ranks settle early. AutoSlim (Yu and Huang, 2019, section 3.2) trains its estimator for "10 to
20%" of the epochs of a full training; network adjustment (Chen et al., CVPR 2020, section 4) measures utilisation after
fewer epochs than a network is trained for, because only ranks matter. Both are held against the truth here:

- *Networks*: accuracy of one run after epoch e, against the mean of the other runs' best accuracies, which it has not
  seen. That is what training all 16,384 once for e epochs gives, read off the table's learning curves. The learning
  rate is that of the whole training, which is still high after a few epochs.
- *Supernets*: trained anew for a share of their epochs, each with its own full cosine.

Chosen where the papers are silent: "as good" means within .02 of the Kendall of the full training; AutoSlim's 200% is
left out, because it costs as much as all its other trainings together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from channel_bench.errors import MissingDataError
from channel_bench.space import NUM_ARCHS
from harness.experiments.claims import Claim, paired_claim
from harness.experiments.contract import Cell, Measured, Outcome, Setting, register_experiment
from harness.experiments.shared import full_epochs, kendall_where_known, ranked_supernet
from harness.judge.baselines import baseline_scores
from harness.report.sheets import Sheet, decimals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = {"autoslim": (0.1, 0.25, 0.5, 1.0), "uniform": (0.1, 0.25, 0.5, 1.0, 2.0), "fur": (0.1, 0.25, 0.5, 1.0, 2.0)}
"""Of the epochs that the recipe gives a supernet."""
TABLE = "networks"
MARGIN = 0.02
"""By how much less Kendall still counts as equal."""
FREE = "log-paths"
"""The free baseline that stands beside the supernets, which needs no training at all."""
CLAIMS = (
    ("autoslim", "AutoSlim's supernet ranks as well", "Yu and Huang, 2019, section 3.2"),
    ("fur", "FUR ranks as well", "Chen et al., CVPR 2020, section 4"),
)


@register_experiment(
    "epochs",
    paper="Yu and Huang, 2019, section 3.2; Chen et al., CVPR 2020, section 4",
    summary="how long networks and supernets must be trained to rank",
)
class Epochs:
    """A cell for the table's curves, and one per method, share of the epochs and seed."""

    def cells(self, setting: Setting) -> list[Cell]:
        """The longest trainings first."""
        cells = [
            Cell(f"{method}-{share * 100:.0f}-seed{seed}", {"method": method, "share": share, "seed": seed})
            for method, shares in SHARES.items()
            for share in shares
            for seed in setting.seeds
        ]
        return [*sorted(cells, key=lambda cell: -cell.options["share"]), Cell(TABLE)]

    def measure(self, cell: Cell, setting: Setting) -> dict[str, Any]:
        """Kendall after every epoch of the curves, or of one supernet."""
        if cell.key == TABLE:
            return _of_networks(setting)
        epochs = max(1, round(cell.options["share"] * full_epochs(setting)))
        return ranked_supernet(cell.options["method"], cell.options["seed"], epochs, setting)

    def outcome(self, measured: Measured, setting: Setting) -> Outcome:
        """Kendall by epochs and cost, for networks and supernets."""
        networks = measured[TABLE]
        sheets = [_supernets_sheet(measured, setting)]
        if networks["kendall"]:
            sheets.append(_networks_sheet(networks, setting))
        claims = [
            _claim(measured, setting, method, statement, source, share)
            for method, statement, source in CLAIMS
            for share in (0.1, 0.25, 0.5)
        ]
        notes = [] if networks["kendall"] else ["The table has no learning curves: the part on networks is missing."]
        return Outcome(sheets, claims, {"epochs": lambda: _draw(measured, setting)}, notes)


def _of_networks(setting: Setting) -> dict[str, Any]:
    """Kendall of every run after every epoch with the mean of the other runs; [] for a table without curves."""
    table = setting.truth()
    free = float(kendall_where_known(baseline_scores(setting.space)[FREE], table.accuracies()))
    try:
        archs, curves = table.all_curves()
    except MissingDataError:
        return {"kendall": [], "free": free}
    rows, cells = setting.space.index(archs), table.cells()
    found = []
    for run in range(table.num_runs):
        others = np.delete(cells, run, 1).mean(1)[rows] if table.num_runs > 1 else cells[rows, 0]
        accuracy = curves["test_acc"][:, run]
        found.append([kendall_where_known(accuracy[:, epoch], others) for epoch in range(accuracy.shape[1])])
    return {"kendall": found, "free": free}


def _seeds(measured: Measured, setting: Setting, method: str, share: float) -> list[dict[str, Any]]:
    return [measured[f"{method}-{share * 100:.0f}-seed{seed}"] for seed in setting.seeds]


def _claim(measured: Measured, setting: Setting, method: str, statement: str, source: str, share: float) -> Claim:
    part = [each["kendall"] + MARGIN for each in _seeds(measured, setting, method, share)]
    whole = [each["kendall"] for each in _seeds(measured, setting, method, 1.0)]
    return paired_claim(
        f"{statement} after {share:.0%} of its epochs (less than {MARGIN:.2f} below, which is added to the effect)",
        source,
        part,
        whole,
        "Kendall",
    )


def _supernets_sheet(measured: Measured, setting: Setting) -> Sheet:
    rows = []
    for method, shares in SHARES.items():
        whole = np.array([each["kendall"] for each in _seeds(measured, setting, method, 1.0)])
        for share in shares:
            found = _seeds(measured, setting, method, share)
            values = np.array([each["kendall"] for each in found])
            macs = [each["train_macs"] for each in found]
            rows.append(
                [
                    method,
                    f"{share:.0%}",
                    str(found[0]["epochs"]),
                    decimals(float(values.mean()), 3),
                    decimals(float(values.std(ddof=1)), 3) if len(values) > 1 else "-",
                    f"{(values - whole).mean():+.3f}",
                    "-" if None in macs else f"{np.mean(macs) / 1e9:.1f}",
                    f"{np.mean([each['fit_s'] for each in found]):.0f}",
                ]
            )
    return Sheet(
        f"Kendall of supernets by length of training, {setting.space.name}",
        ["method", "share", "epochs", "Kendall", "std", "against 100%", "GMAC", "seconds"],
        rows,
        [
            f"mean over {len(setting.seeds)} supernets and their standard deviation (ddof=1); each with a full cosine",
            f"{FREE}, which needs no training: {measured[TABLE]['free']:.3f}",
            "GMAC, seconds: of one training, on a machine that did other work beside it",
        ],
    )


def _networks_sheet(networks: dict[str, Any], setting: Setting) -> Sheet:
    values = np.array(networks["kendall"])
    num_epochs = values.shape[1]
    rows = [
        [
            str(epoch + 1),
            decimals(float(values[:, epoch].mean()), 3),
            decimals(float(values[:, epoch].max() - values[:, epoch].min()), 3),
            f"{NUM_ARCHS * (epoch + 1) / num_epochs:,.0f}",
        ]
        for epoch in range(num_epochs)
    ]
    return Sheet(
        f"Kendall of networks after every epoch with the other runs' best, {setting.space.name}",
        ["epoch", "Kendall", "range over runs", "whole trainings"],
        rows,
        [
            "one run of every architecture, by its test accuracy after the epoch; whole trainings: what that costs",
            "the last row is what a finished run ranks like, the ceiling of a single run",
        ],
    )


def _draw(measured: Measured, setting: Setting) -> Figure:
    """Left networks, right supernets, over the share of their training."""
    from matplotlib.figure import Figure

    networks = measured[TABLE]
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for run, values in enumerate(networks["kendall"]):
        shares = np.arange(1, len(values) + 1) / len(values)
        left.plot(100 * shares, values, marker="o", markersize=3, linewidth=1, label=f"run {run}")
    left.set_title("every network, one run")
    left.set_xlabel("share of its epochs, percent")
    left.set_ylabel("Kendall tau-b with the truth")
    for method, shares_of in SHARES.items():
        found = [[each["kendall"] for each in _seeds(measured, setting, method, share)] for share in shares_of]
        right.errorbar(
            [100 * share for share in shares_of],
            [np.mean(each) for each in found],
            [np.std(each, ddof=1) if len(each) > 1 else 0 for each in found],
            marker="o",
            markersize=3,
            linewidth=1,
            capsize=2,
            label=method,
        )
    right.set_xscale("log")
    right.set_xticks([10, 25, 50, 100, 200], ["10", "25", "50", "100", "200"])
    right.minorticks_off()
    right.set_title("supernets, mean and std over seeds")
    right.set_xlabel("share of their epochs, percent")
    for axes in (left, right):
        axes.axhline(networks["free"], color="black", linewidth=0.8, linestyle=":", label=f"{FREE}, free")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", fontsize=8)
    figure.suptitle(f"{setting.space.name}: how long to train to rank")
    return figure
