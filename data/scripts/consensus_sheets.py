"""The outcome of the test of the consensus as tables and a figure.

    >>> print(markdown(results))

A part of consensus_test.py, which says how it is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.report.figures import COLOURS, GREY

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def markdown(results: dict[str, Any]) -> str:
    """The outcome as tables: the hypotheses, then the spaces."""
    lines = [
        "| | consensus against | spaces with a gain | mean gain | 95% interval | p | p (Holm) | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results["primary"]:
        low, high = each["interval"] or (np.nan, np.nan)
        verdict = {True: "supported", False: "not supported", None: "too few spaces"}[each.get("supported")]
        lines.append(
            f"| {each['id']} | {each['against']} | {each['num_positive']} of {each['num_spaces']} |"
            f" {signed(each['mean'])} | {signed(low)} to {signed(high)} | {shown_p(each['p'])} |"
            f" {shown_p(each.get('p_holm'))} | {verdict} |"
        )
    forms = ("raw", "concave", "consensus")
    head = ("space", "supernets", "ceiling", "log-paths", "mean of theories", *forms)
    lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, space in results["spaces"].items():
        for method in dict.fromkeys(each.split(".")[0] for each in space["supernets"]):
            found = [own for each, own in space["supernets"].items() if each.split(".")[0] == method]
            taus = [space["kendall_ceiling"], space["free"]["log-paths"], space["free"]["mean-of-theories"]]
            taus += [float(np.mean([own[form] for own in found])) for form in forms]
            lines.append(f"| {name} | {method}, {len(found)} | {' | '.join(map(plain, taus))} |")
    lines += [f"| {name} | not finished |{' |' * (len(head) - 2)}" for name in results["not_finished"]]
    return "\n".join(lines) + "\n"


def exploratory_markdown(found: dict[str, Any]) -> str:
    """What was chosen without a space and what it gives there, as a table; beside it the registered settings."""
    whole = [number for number, choice in enumerate(found["choices"]) if choice["leave_out"] is None]
    betas = [f"{found['choices'][number]['beta']:g}" for number in whole]
    head = ["space", "supernets", "mean of theories", *(f"beta {beta}" for beta in betas), "chosen elsewhere", "gives"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in found["left_out"]:
        taus = [plain(found["kendall"][row["space"]][number]) for number in whole]
        choice = row["chosen_elsewhere"]
        without = "all sets" if choice["leave_out"] is None else f"without {choice['leave_out']}"
        free = plain(row["mean_of_theories"])
        cells = [row["space"], str(row["num_supernets"]), free, *taus, f"beta {choice['beta']:g}, {without}"]
        lines.append(f"| {' | '.join(cells)} | {plain(row['kendall'])} |")
    means = np.mean(list(found["kendall"].values()), 0)
    chosen = plain(float(np.mean([row["kendall"] for row in found["left_out"]])))
    free = plain(float(np.mean([row["mean_of_theories"] for row in found["left_out"]])))
    lines.append(f"| **mean** | | {free} | {' | '.join(plain(means[number]) for number in whole)} | | {chosen} |")
    return "\n".join(lines) + "\n"


def draw(results: dict[str, Any]) -> Figure:
    """Kendall on every finished space: free rankings, one supernet's scores, and what is made of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 0.6 + 0.62 * len(results["spaces"])), layout="constrained")
    axes = figure.subplots()
    for row, space in enumerate(results["spaces"].values()):
        axes.plot([space["kendall_ceiling"]] * 2, [row - 0.35, row + 0.35], color="black", linewidth=1.2)
        primary = [own for name, own in space["supernets"].items() if name.split(".")[0] in results["primary_methods"]]
        for number, (name, marker) in enumerate((("log-paths", "s"), ("mean-of-theories", "D"))):
            axes.plot(space["free"][name], row - 0.1 + 0.2 * number, marker, color=GREY, markersize=5)
        for colour, form in zip(COLOURS, ("raw", "concave", "consensus"), strict=False):
            axes.plot([own[form] for own in primary], [row] * len(primary), "o", color=colour, markersize=5, alpha=0.8)
    handles = [("|", "black", "noise ceiling"), ("s", GREY, "log-paths"), ("D", GREY, "mean of theories")]
    handles += [("o", colour, form) for colour, form in zip(COLOURS, ("raw", "concave", "consensus"), strict=False)]
    for marker, colour, label in handles:
        axes.plot([], [], marker, color=colour, label=label)
    axes.set_yticks(range(len(results["spaces"])), list(results["spaces"]))
    axes.invert_yaxis()
    axes.set_xlabel("Kendall with the trained truth")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def plain(value: float) -> str:
    """A Kendall as .123."""
    return f"{value:.3f}".replace("0.", ".", 1)


def signed(value: float | None) -> str:
    """A difference of Kendalls as +.123."""
    return "" if value is None else f"{value:+.3f}".replace("0.", ".", 1)


def shown_p(value: float | None) -> str:
    """A p value to two digits."""
    return "" if value is None else f"{value:.2g}"
