"""What a consensus of theories owes to its parts: sharpness, grammar, number of scores, number of supernets.

    python data/scripts/consensus_ablation.py --space resnet-mini --space mobilenet-mini -o data/consensus

For every supernet of the leaderboard that has scores in a space, Kendall with the table of: its scores as they are,
each additive form, the consensus; the consensus with other betas, with each part of the grammar left out, and by
random scores only. Then several supernets together: the seeds of each method, and all methods of each seed. Beside
them the free scores and the best theory by the truth, which nobody could have chosen.
Writes ablation.json and ablation.md.

The truth enters when a row is finished. Choosing among the rows by their Kendall is choosing by the truth.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import channel_bench as cb
from channel_bench.errors import ChannelBenchError
from channel_bench.space import NUM_ARCHS, Space
from channel_bench.support.durable import write_atomic
from channel_bench.support.terminal import progress
from harness.judge.baselines import baseline_scores
from harness.leaderboard.entries import entries_dir, read_entries, read_entry_scores
from harness.method import PROXIES
from harness.scores import Scores
from harness.smoothing import average_scores
from harness.stats.additive import FORMS, additive_fit
from harness.stats.consensus import fit_consensus
from harness.stats.metrics import kendall
from harness.stats.theories import AGGREGATES, QUANTITIES, SETS, WEIGHTS, theories

BETAS = (5.0, 10.0, 40.0, 80.0, 1000.0)
SAMPLES = (16, 32, 64, 256, 1024)
DRAWS = 5
PARTS = (*SETS, *WEIGHTS, *QUANTITIES, *AGGREGATES)


def supernets(space: Space) -> dict[str, list[Scores]]:
    """Scores of all seeds of every supernet of the leaderboard that has a file of them in a space."""
    found = {}
    for entry in read_entries(entries_dir()):
        result = entry.results.get(space.name)
        if result is not None and entry.method not in PROXIES and "file" in (result.scores or {}):
            found[entry.method] = read_entry_scores(entry, space) or []
    return found


def ablate(space: Space, truth: np.ndarray, on_step: Callable[[], object]) -> dict[str, Any]:
    """All figures of one space.

    Args:
        space: The space.
        truth: float64 (16384,), NaN where there is none.
        on_step: Called after each treatment.
    """
    there = np.isfinite(truth)
    methods = supernets(space)
    single = {f"{name}/{number}": each for name, seeds in methods.items() for number, each in enumerate(seeds)}
    archs = space.archs()

    def tau(values: np.ndarray) -> float:
        return kendall(values[there], truth[there])

    def consensus(scores: Scores, chosen: Any = slice(None), **options: Any) -> float:
        return tau(fit_consensus(archs[scores.indices[chosen]], scores.values[chosen], space, **options).scores)

    def over(function: Callable[[Scores], float], parts: Iterable[Scores] | None = None) -> dict[str, Any]:
        values = [function(each) for each in (single.values() if parts is None else parts)]
        on_step()
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return {"mean": float(np.mean(values)), "sd": sd, "values": [round(value, 6) for value in values]}

    def raw(scores: Scores) -> float:
        mine = there[scores.indices]
        return kendall(scores.values[mine], truth[scores.indices][mine])

    rows: dict[str, Any] = {"raw": over(raw)}
    for form in FORMS:
        rows[form] = over(lambda each, form=form: tau(additive_fit(archs[each.indices], each.values, form, space)))
    rows["consensus"] = over(consensus)
    for beta in BETAS:
        rows[f"consensus, beta {beta:g}"] = over(lambda each, beta=beta: consensus(each, beta=beta))
    for count in SAMPLES:

        def sampled(each: Scores, count: int = count) -> float:
            draws = (np.random.default_rng(draw).choice(len(each.indices), count, False) for draw in range(DRAWS))
            return float(np.mean([consensus(each, np.sort(chosen)) for chosen in draws]))

        rows[f"consensus by {count} scores"] = over(sampled)
    for part in PARTS:
        rows[f"consensus without {part}"] = over(lambda each, part=part: consensus(each, leave_out=[part]))
    seeds = {name: average_scores(parts) for name, parts in methods.items() if len(parts) > 1}
    rows["3 seeds, raw"] = over(raw, seeds.values())
    rows["3 seeds, consensus"] = over(consensus, seeds.values())
    # HTAS without its latency ranks as TAS does: the same scores cannot be averaged twice.
    different = [parts for name, parts in methods.items() if name != "htas"]
    everyone = [average_scores(each, "standard") for each in zip(*different, strict=True)]
    rows["all methods, raw"] = over(raw, everyone)
    rows["all methods, consensus"] = over(consensus, everyone)
    known = theories(space)
    each_theory = [tau(score.round(7)) for score in known.scores]
    free = {name: tau(values) for name, values in baseline_scores(space).items()}
    best = int(np.argmax(each_theory))
    return {
        "space": space.name,
        "supernets": list(single),
        "theories": len(known.names),
        "rows": rows,
        "free": free,
        "best_theory_by_truth": {"name": known.names[best], "kendall": each_theory[best]},
        "raised": int(np.sum(np.array(rows["consensus"]["values"]) > np.array(rows["raw"]["values"]))),
    }


def markdown(found: Sequence[dict[str, Any]]) -> str:
    """The means as a table, a column per space."""
    lines = [
        "| Kendall, mean over supernets | " + " | ".join(f"`{each['space']}`" for each in found) + " |",
        "|---|" + "---|" * len(found),
    ]
    for name in found[0]["rows"]:
        lines.append(f"| {name} | " + " | ".join(f"{each['rows'][name]['mean']:.3f}" for each in found) + " |")
    for name in found[0]["free"]:
        lines.append(f"| {name} (free) | " + " | ".join(f"{each['free'][name]:.3f}" for each in found) + " |")
    lines.append(
        "| best theory, by the truth | "
        + " | ".join(f"{each['best_theory_by_truth']['kendall']:.3f}" for each in found)
        + " |"
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read, ablate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", action="append", required=True, help="repeatable")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for ablation.json and ablation.md")
    arguments = parser.parse_args()
    steps = 1 + len(FORMS) + 1 + len(BETAS) + len(SAMPLES) + len(PARTS) + 4
    try:
        spaces = [cb.get_space(name) for name in arguments.space]
        found = []
        with progress("consensus", steps * len(spaces)) as advance:
            for space in spaces:
                found.append(ablate(space, cb.load(space).accuracies(), lambda: advance(1, "")))
        arguments.out.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"num_archs": NUM_ARCHS, "spaces": found}, indent=1) + "\n"
        write_atomic(
            (arguments.out / "ablation.json", content.encode()),
            (arguments.out / "ablation.md", markdown(found).encode()),
        )
    except ChannelBenchError as error:
        parser.exit(2, f"consensus_ablation: {' '.join(str(error).split())}\n")
    print(markdown(found), end="")


if __name__ == "__main__":
    main()
