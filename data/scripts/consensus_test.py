"""The preregistered test of the consensus of theories, on spaces that nobody had trained before it was written down.

    python data/scripts/consensus_test.py --work FOLDER            # train what is missing, then evaluate; resumable
    python data/scripts/consensus_test.py                          # evaluate what is in data/preregistered

`data/preregistered/consensus.toml` says what is tested, how, and what would count as failure. Its SHA-256 is a constant
of this program (consensus_registered.py), which does nothing with another text; so neither can change after a truth was
seen without the history showing it. The same holds for `amendment.toml`, which replaces two spaces that could not be
trained. Spaces that are not finished are named as such, never left out for their result.

Truths go to data/preregistered/tables/, raw scores of supernets to data/preregistered/scores/, the outcome to
consensus.results.json, .md and .png and consensus.exploratory.md beside the preregistration.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from consensus_outcome import evaluate, known_spaces, leave_one_out
from consensus_registered import FOLDER, archs_of, changed_code, read_preregistration, scores_of, table_of
from consensus_sheets import draw, exploratory_markdown, markdown

import channel_bench as cb
from channel_bench.errors import ArgumentError, ChannelBenchError
from channel_bench.space import Space
from channel_bench.support.durable import write_atomic
from channel_bench.training.datasets import placed_digits
from harness.report.figures import draw_named
from harness.score_formats import parquet_of
from harness.scores import read_scores, space_facts

RESULTS = FOLDER / "consensus.results.json"
EXPLORATORY = FOLDER / "consensus.exploratory.md"


def compute(facts: dict[str, Any], work: Path, workers: int) -> None:
    """Build all truths and train all supernets, the primary ones of every space first; what is there is not redone."""
    supernets = facts["supernets"]
    for part, methods in enumerate((supernets["primary"], supernets["secondary"])):
        for number, entry in enumerate(facts["space"]):
            space, data = cb.load_space(FOLDER / entry["file"]), images_of(entry, work)
            if part == 0:
                build(space, entry, archs_of(space, facts, number), facts["truth"]["num_runs"], data, work, workers)
            for method in methods:
                train(space, entry, method, supernets["num_seeds"], data, work, workers)


def images_of(entry: dict[str, Any], work: Path) -> Path | None:
    """The file of a space's images, None where they are the embedded digits.

    Raises:
        ArgumentError: The images are not those that were registered.
    """
    if "placed" not in entry:
        return None
    made = placed_digits(entry["placed"]["num_train"], entry["placed"]["canvas"])
    if made.digest != entry["placed"]["digest"]:
        raise ArgumentError(f"placed digits have digest {made.digest}, registered is {entry['placed']['digest']}")
    path = work / f"digits-placed-{entry['placed']['canvas']}.npz"
    work.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        names = ("train_images", "train_labels", "test_images", "test_labels")
        np.savez(path, **{name: getattr(made, name).numpy() for name in names})
    return path


def build(
    space: Space, entry: dict[str, Any], archs: list[str], num_runs: int, data: Path | None, work: Path, workers: int
) -> None:
    """Train the truth of a space; its table, without learning curves, goes to data/preregistered/tables/."""
    file, out = FOLDER / entry["file"], table_of(space)
    if out.exists():
        return
    images = [] if data is None else ["--dataset", str(data)]
    runs, collected = work / "runs" / space.name, work / "tables" / f"{space.name}.parquet"
    wanted = ["--archs", ",".join(archs), "--runs", str(num_runs), "--backend", "native", "--workers", str(workers)]
    collected.parent.mkdir(parents=True, exist_ok=True)
    run("channel_bench.cli", "build", str(file), *wanted, "--out", str(runs), *images)
    run("channel_bench.cli", "collect", str(runs), "--space", str(file), "-o", str(collected))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic((out, collected.read_bytes()))


def train(
    space: Space, entry: dict[str, Any], method: str, num_seeds: int, data: Path | None, work: Path, workers: int
) -> None:
    """Train the supernets of a method; their raw scores go to data/preregistered/scores/, a column for each seed."""
    out = scores_of(space, method)
    if out.exists():
        return
    images = [] if data is None else ["--dataset", str(data)]
    folder = work / "scores" / space.name
    wanted = ["--seeds", str(num_seeds), "--jobs", str(workers), "--no-truth", "-o", str(folder)]
    run("harness.cli", "rank", method, "--space", str(FOLDER / entry["file"]), *wanted, *images)
    parts = [read_scores(folder / f"{method}-seed{seed}.parquet", space) for seed in range(num_seeds)]
    columns = {f"seed{seed}": part.values for seed, part in enumerate(parts)}
    kept = ("recipe", "num_train", "num_val", "bn", "score_by", "validated_on", "options", "code_version")
    made = {name: parts[0].facts[name] for name in kept if name in parts[0].facts}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(
        (out, parquet_of({"arch": space.texts(), **columns}, {"method": method, **space_facts(space), **made}))
    )


def run(*words: str) -> None:
    """Run a command line of this project in a process of its own.

    Raises:
        ArgumentError: It failed; it has said why.
    """
    print("+", words[1], words[2], flush=True)
    if subprocess.run([sys.executable, "-m", *words], check=False).returncode:
        raise ArgumentError(f"{words[1]} {words[2]} failed: see above; the same command continues")


def main() -> None:
    """Train what is missing, if asked to; evaluate; write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="Folder for unfinished training; without it nothing is trained.")
    parser.add_argument("--workers", type=int, default=2, help="Processes that train.")
    parser.add_argument(
        "--released", type=Path, help="Folder of the authors' released scores, for the exploratory part."
    )
    parser.add_argument("--changed-code", action="store_true", help="Go on though the code is not as registered.")
    arguments = parser.parse_args()
    try:
        facts = read_preregistration()
        changed = changed_code(facts)
        if changed and not arguments.changed_code:
            raise ArgumentError(
                f"{', '.join(changed)} is not as registered: check out the commit that"
                " docs/explanation/consensus-test.md names, or say --changed-code, which the outcome will show"
            )
        if arguments.work is not None:
            compute(facts, arguments.work.resolve(), arguments.workers)
        results, judged = evaluate(facts)
        everywhere = [*known_spaces(arguments.released), *judged]
        results["exploratory"] = {"leave_one_space_out": leave_one_out(everywhere)}
        write_atomic(
            (RESULTS, (json.dumps(results, indent=1) + "\n").encode()),
            (RESULTS.with_suffix(".md"), markdown(results).encode()),
            (EXPLORATORY, exploratory_markdown(results["exploratory"]["leave_one_space_out"]).encode()),
        )
        if results["spaces"]:
            figure = draw_named(RESULTS.stem, lambda: draw(results))[f"{RESULTS.stem}.png"]
            write_atomic((RESULTS.with_suffix(".png"), figure))
    except ChannelBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(markdown(results))


if __name__ == "__main__":
    main()
