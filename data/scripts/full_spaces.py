"""What rankings made on the full spaces with re-encoded images are worth against the published tables.

    python data/scripts/full_spaces.py -o data/cifar10-jpeg75 [--data-dir FOLDER]

Reads every score file METHOD.SPACE.parquet of the folder, and judges it as it is, by its validation loss where it has
one, and, for supernets, by a consensus of theories fitted to either. Beside them stand the free scores and the ceiling
of the table's noise. Writes results.json and results.md into the folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import channel_bench as cb
from channel_bench.errors import ChannelBenchError, MissingDataError
from channel_bench.support.durable import write_atomic
from channel_bench.support.terminal import say
from harness.judge.comparison import Comparison, compare
from harness.method import SUPERNETS
from harness.report.sheets import Sheet, to_markdown
from harness.scores import Scores, read_scores
from harness.smoothing import smooth_scores

LOSS = "by validation loss"
FACTS = ("dataset", "options", "seed", "num_measured", "train_macs", "fit_s", "score_s", "device", "torch")
OF_SUPERNETS = ("recipe", "num_val")
"""What is kept of how scores came about; proxies are not trained, and see no validation image."""


def rankings_of(path: Path, space: cb.Space) -> dict[str, Scores]:
    """Rankings of a file by their name."""
    method = path.name.split(".")[0]
    found = {method: read_scores(path, space)}
    if method not in SUPERNETS:
        return found
    found[f"{method}, {LOSS}"] = read_scores(path, space, score_column="-val_loss")
    for name, scores in list(found.items()):
        plain, _, how = name.partition(",")
        found[f"{plain}+consensus{',' if how else ''}{how}"] = smooth_scores(scores, "consensus")
    return found


def judged(folder: Path, data_dir: Path | None) -> list[tuple[Comparison, dict[str, Any]]]:
    """A comparison for each space that has a file, and how its scores came about."""
    spaces = sorted({path.name.split(".")[1] for path in folder.glob("*.parquet")})
    if not spaces:
        raise MissingDataError(f"{str(folder)!r} has no score file METHOD.SPACE.parquet: make one with rank --out")
    results = []
    for name in spaces:
        table = cb.load(name, data_dir=data_dir)
        groups: dict[str, list[Scores]] = {}
        facts = {}
        for path in sorted(folder.glob(f"*.{name}.parquet")):
            found = rankings_of(path, table.space)
            groups |= {each: [scores] for each, scores in found.items()}
            first = next(iter(found.values())).facts
            kept = FACTS + OF_SUPERNETS if path.name.split(".")[0] in SUPERNETS else FACTS
            facts[path.name] = {key: first[key] for key in kept if key in first}
        results.append((compare(groups, table), facts))
    return results


def sheet_of(comparison: Comparison) -> Sheet:
    """Rows from the best to the worst, and the ceiling."""
    ceiling = comparison.ceiling
    assert ceiling is not None  # the published tables have three runs
    ordered = sorted(comparison.rows, key=lambda row: -row.kendall)
    named = {row.name + (" (free)" if row.kind == "baseline" else ""): row for row in ordered}
    lines = [
        [
            name,
            *(f"{value:.3f}" for value in (each.kendall, each.spearman, each.pearson, each.kendall / ceiling.kendall)),
        ]
        for name, each in [*named.items(), ("noise ceiling", ceiling)]
    ]
    columns = ["ranking", "Kendall", "Spearman", "Pearson", "of the ceiling"]
    return Sheet(f"{comparison.space}: against the published accuracies, n = {ordered[0].n:,}", columns, lines)


def main() -> None:
    """Judge and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the score files and results")
    parser.add_argument("--data-dir", type=Path, help="folder of the published tables")
    arguments = parser.parse_args()
    try:
        results = judged(arguments.out, arguments.data_dir)
    except ChannelBenchError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    content = {
        comparison.space: {
            "n": comparison.rows[0].n,
            "kendall": {row.name: round(row.kendall, 4) for row in comparison.rows},
            "scores": facts,
        }
        for comparison, facts in results
    }
    text = "\n".join(to_markdown(sheet_of(comparison)) for comparison, _ in results)
    written = {
        arguments.out / "results.json": (json.dumps(content, indent=1) + "\n").encode(),
        arguments.out / "results.md": text.encode(),
    }
    write_atomic(*written.items())
    for path in written:
        say(f"wrote {path}")


if __name__ == "__main__":
    main()
