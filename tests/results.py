"""Make every kind of result by the command lines alone, to hold two versions of the code against each other.

    git worktree add ../before v0.1.0
    PYTHONPATH=../before python tests/results.py ../results-before
    CHANNEL_BENCH_RESULTS=../results-before python -m pytest -m slow tests/test_results.py

A change that should move no result, such as a new layout, makes the same files. Everything is computed on one thread on
the CPU; the numbers of two machines may differ in their last bits, so compare on one machine. What a clock or a process
decides (seconds, host, file paths) is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

BENCH = "channel_bench.cli"
HARNESS = "harness.cli"
METHODS = "autoslim,bcnet,bcnet_v2,fair,fur,htas,mask_gumbel,tas,uniform"
SPACES = ("resnet-mini", "mobilenet-mini")
CLOCKED = {"fit_s", "score_s", "train_s"}
"""Seconds: of a run, of fitting, of scoring."""
OF_SECONDS = {"content_sha256", "info_sha256"}
"""Hashes of a table that was built here: they hold its seconds."""
PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "data" / "published"


def run(folder: Path, name: str, module: str, *words: str) -> str:
    """Run a command line; keep what it prints as NAME.json where that is JSON and it has a name."""
    env = os.environ | {"CHANNEL_BENCH_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name}: exit code {done.returncode}: {done.stderr[-500:]}")
    if "--json" in words and name:
        (folder / f"{name}.json").write_text(json.dumps(unclocked(json.loads(done.stdout)), indent=1, sort_keys=True))
    return done.stdout


def unclocked(value: Any) -> Any:
    """A JSON value without what a clock or the place decides."""
    if isinstance(value, dict):
        return {key: unclocked(inner) for key, inner in value.items() if key not in CLOCKED | OF_SECONDS}
    return [unclocked(inner) for inner in value] if isinstance(value, list) else value


def contents_of(path: Path) -> dict[str, Any]:
    """A Parquet file as JSON can hold it: every column bit for bit (numbers as hex), and its facts."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    columns = {
        name: [value.hex() if isinstance(value, float) else value for value in table[name].to_pylist()]
        for name in table.column_names
        if name not in CLOCKED
    }
    metadata = {
        key.decode(): unclocked(json.loads(value))
        for key, value in (table.schema.metadata or {}).items()
        if value[:1] == b"{" and key != b"pandas"
    }
    return {"columns": columns, "metadata": metadata}


def curves_of(path: Path) -> dict[str, Any]:
    """The learning curves of a table, by metric, as the SHA-256 of their bytes."""
    import h5py

    with h5py.File(path) as file:
        return {name: hashlib.sha256(np.ascontiguousarray(file[name][:]).tobytes()).hexdigest() for name in file}


def keep_contents(folder: Path) -> None:
    """Describe every Parquet and HDF5 file of a folder of results in a JSON file."""
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("scores-*/*.parquet")]):
        name = str(path.relative_to(folder)).replace("/", "-")
        (folder / f"{name}.json").write_text(json.dumps(contents_of(path)))
    for path in sorted(folder.glob("*.h5")):
        (folder / f"{path.name}.json").write_text(json.dumps(curves_of(path)))


def make_results(folder: Path) -> None:
    """Fill a folder with results, one JSON file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for space in SPACES:
        few = f"built-{space}"
        run(folder, few, BENCH, "build", space, "--archs", "12", "--runs", "2", "--out", few, "--epochs", "4")
        run(folder, few, BENCH, "collect", few, "-o", f"{few}.parquet")
        run(folder, f"verify-{space}", BENCH, "verify", f"{few}.parquet", "--json")
        run(folder, f"query-{space}", BENCH, "query", space, "4344424", "1111111", "--json")
        run(folder, f"top-{space}", BENCH, "top", space, "--max-flops", "0.5x", "--json")
        run(folder, f"pareto-{space}", BENCH, "pareto", space, "--json")
        run(folder, f"compare-{space}", BENCH, "compare", f"{few}.parquet", f"{few}.parquet", "--json")
        train = ("train", space, "4344424", "--epochs", "2", "--json")
        run(folder, f"train-native-{space}", BENCH, *train, "--backend", "native")
        run(folder, f"train-torch-{space}", BENCH, *train, "--backend", "torch")
        names = METHODS if space == "resnet-mini" else "bcnet_v2,tas,uniform"
        rank = ("--space", space, "--epochs", "3", "--no-truth", "-o")
        run(folder, f"rank-{space}", HARNESS, "rank", names, *rank, f"scores-{space}")
        run(
            folder, f"rank-additive-{space}", HARNESS, "rank", "uniform+concave", *rank,
            f"scores-{space}/additive-seed0.parquet", "--option", "samples=256",
        )  # fmt: skip
        files = sorted(str(path.relative_to(folder)) for path in folder.glob(f"scores-{space}/*.parquet"))
        judged = ("--space", space, "--json")
        run(
            folder,
            f"report-{space}",
            HARNESS,
            "report",
            *files,
            *judged,
            "--replicates",
            "200",
            "-o",
            f"report-{space}",
        )
        run(folder, f"score-{space}", HARNESS, "score", files[0], *judged, "--smooth", "log", "--equal-flops")
        run(folder, f"noise-{space}", HARNESS, "noise", *judged)
        run(folder, f"baselines-{space}", HARNESS, "baselines", *judged, "--additive")
        for searcher in ("greedy", "random", "exhaustive", "evolutionary"):
            run(
                folder, f"search-{searcher}-{space}", HARNESS, "search", files[-1], *judged,
                "--max-flops", "0.4x", "--searcher", searcher,
            )  # fmt: skip
        shipped = json.loads(run(folder, "", BENCH, "verify", space, "--json"))
        (folder / f"shipped-{space}.json").write_text(json.dumps(shipped))
    run(folder, "leaderboard", HARNESS, "leaderboard", "--json", "--replicates", "50")
    if PUBLISHED.exists():
        run(folder, "download", BENCH, "download", "--from", str(PUBLISHED))
        for space in ("resnet", "mobilenet"):
            run(folder, f"query-{space}", BENCH, "query", space, "4344424", "1111111", "--json")
            run(folder, f"baselines-{space}", HARNESS, "baselines", "--space", space, "--json")
    keep_contents(folder)


if __name__ == "__main__":
    make_results(Path(sys.argv[1]).resolve())
