"""How much a small space is like the published space of its family, by two measures that need both truths.

    channel-bench download && python data/scripts/resemblance.py

The *profile* is the slopes of accuracy on the logarithm of each slot's width, divided by their sum; two profiles are
compared by their cosine and by the sum of absolute differences (0 where they are alike). The *theories* are those of
`harness.stats.theories` that both spaces have: each has a Kendall with the truth in one space and in the other, and
Spearman's correlation of the two says whether what explains one space explains the other.

Writes resemblance.json, resemblance.md and resemblance.png beside the preregistration. What is computed from all
published accuracies together goes into them, no accuracy does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import channel_bench as cb
from channel_bench.errors import ChannelBenchError
from channel_bench.space import NUM_SLOTS
from channel_bench.support.durable import write_atomic
from channel_bench.table import Table
from harness.report.figures import COLOURS, GREY, draw_named
from harness.stats.metrics import kendall
from harness.stats.noise import ceilings, reliability
from harness.stats.theories import theories

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[1] / "preregistered"
SPACES = FOLDER / "spaces"
SMALL = {
    "mobilenet": (
        "mobilenet-mini",
        "mobilenet-mini-placed",
        SPACES / "test-mobilenet-wide.toml",
        SPACES / "test-mobilenet-placed-12.toml",
    ),
    "resnet": ("resnet-mini", SPACES / "test-resnet-filters.toml", SPACES / "test-resnet-placed-12.toml"),
}
"""Small spaces by the published one of their family."""
_DECIMALS = 7
"""Of standardised theories, where two widths count as equal."""


def compare(small: Table, full: Table) -> dict[str, Any]:
    """One space beside the published one: profile, its cosine and difference, agreement on theories, ceiling.

    Args:
        small: Its truth, of all or of some architectures.
        full: The truth that it should resemble.
    """
    from pilot import profile_of
    from scipy.stats import spearmanr

    theirs = [profile_of(table.space, *trained(table)) for table in (small, full)]
    mine, other = theirs
    found, reference = theory_taus(small), theory_taus(full)
    common = [name for name in found if name in reference]
    agreement = spearmanr([found[name] for name in common], [reference[name] for name in common]).statistic
    cells = small.cells()
    share = reliability(cells[np.isfinite(cells).any(1)]).of_mean
    return {
        "space": small.space.name,
        "max_channels": list(small.space.max_channels),
        "num_archs": len(trained(small)[1]),
        "profile": mine.round(3).tolist(),
        "cosine": round(float(mine @ other / np.linalg.norm(mine) / np.linalg.norm(other)), 3),
        "l1": round(float(np.abs(mine - other).sum()), 3),
        "num_theories": len(common),
        "spearman_theories": round(float(agreement), 3),
        "kendall_ceiling": round(float(ceilings(share).kendall), 3),
    }


def trained(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Architectures that have a truth, int8 (n, 7), and their accuracies, float64 (n,)."""
    accuracies = table.accuracies()
    there = np.isfinite(accuracies)
    return table.space.archs()[there], accuracies[there]


def theory_taus(table: Table) -> dict[str, float]:
    """Kendall of every theory of a space with its truth."""
    accuracies = table.accuracies()
    there = np.isfinite(accuracies)
    known = theories(table.space)
    scores = known.scores[:, there].round(_DECIMALS)
    return {name: kendall(row, accuracies[there]) for name, row in zip(known.names, scores, strict=True)}


def markdown(results: dict[str, Any]) -> str:
    """The comparison as a table."""
    lines = [
        "| space | at most channels | profile of slots 0 ... 6 | cosine | difference | theories (Spearman) | ceiling |",
        "|---|---|---|---|---|---|---|",
    ]
    for family, each in results.items():
        lines.append(f"| **{family}**, published | | {shown(each['profile'])} | | | | {each['kendall_ceiling']:.2f} |")
        for row in each["small"]:
            channels = " ".join(map(str, row["max_channels"]))
            some = "" if row["num_archs"] == 16384 else f" ({row['num_archs']})"
            lines.append(
                f"| {row['space']}{some} | {channels} | {shown(row['profile'])} | {row['cosine']:.2f} |"
                f" {row['l1']:.2f} | {row['spearman_theories']:+.2f} | {row['kendall_ceiling']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def shown(profile: list[float]) -> str:
    """A profile to two decimals."""
    return " ".join(f"{share:.2f}" for share in profile)


def draw(results: dict[str, Any]) -> Figure:
    """The profiles: a panel for each family, the published one in grey behind the small ones."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    slots = np.arange(NUM_SLOTS)
    for panel, (family, each) in zip(panels, results.items(), strict=True):
        panel.bar(slots, each["profile"], 0.8, color=GREY, alpha=0.45, label=f"{family}, published")
        for colour, row in zip(COLOURS, each["small"], strict=False):
            name = f"{row['space']} (difference {row['l1']:.2f})"
            panel.plot(slots, row["profile"], "o-", color=colour, markersize=4, linewidth=1.2, label=name)
        panel.set_title(family)
        panel.set_xlabel("slot")
        panel.legend(fontsize=7, loc="upper right")
    panels[0].set_ylabel("share of log slope")
    top = max(max(row["profile"]) for each in results.values() for row in each["small"])
    panels[0].set_ylim(min(0, panels[0].get_ylim()[0]), 1.75 * top)
    return figure


def main() -> None:
    """Compare what is there, and write it."""
    from pilot import profile_of

    results: dict[str, Any] = {}
    try:
        for family, names in SMALL.items():
            full = cb.load(family)
            spaces = [cb.get_space(name) for name in names]
            ready = [space for space in spaces if space.table is None or Path(space.table).exists()]
            share = reliability(full.cells()).of_mean
            results[family] = {
                "profile": profile_of(full.space, *trained(full)).round(3).tolist(),
                "kendall_ceiling": round(float(ceilings(share).kendall), 3),
                "small": [compare(cb.load(space), full) for space in ready],
            }
    except ChannelBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    figure = draw_named("resemblance", lambda: draw(results))["resemblance.png"]
    write_atomic(
        (FOLDER / "resemblance.json", (json.dumps(results, indent=1) + "\n").encode()),
        (FOLDER / "resemblance.md", markdown(results).encode()),
        (FOLDER / "resemblance.png", figure),
    )
    print(markdown(results))


if __name__ == "__main__":
    main()
