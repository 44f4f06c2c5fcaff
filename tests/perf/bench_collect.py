"""What it takes to collect a whole table: wall time and memory of `collect` on 98,304 synthetic runs of 60 epochs.

    python tests/perf/bench_collect.py [--archs 16384] [--runs 6] [--keep FOLDER]

The runs are SYNTHETIC: made-up numbers in the store's own format, in a temporary folder, never trained. 16,384
architectures x 6 runs are as many as the two full spaces have together at 3 runs each. `collect` runs in a process of its
own, whose peak memory is read when it has ended.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import channel_bench as cb
from channel_bench.builder.store import RunStore
from channel_bench.recipe import get_recipe
from channel_bench.record import CURVE_METRICS, RunRecord

COLLECT = """
import sys, time
from pathlib import Path
from channel_bench.builder.collect import collect
started = time.perf_counter()
table = collect(Path(sys.argv[1]), Path(sys.argv[2]))
print(len(table), time.perf_counter() - started)
"""


def make_store(folder: Path, num_archs: int, num_runs: int) -> None:
    """Write synthetic parts without the fsync of each that a builder would pay for."""
    space = cb.get_space("resnet")
    store = RunStore.create(folder, space, get_recipe("paper"), "synthetic", "synthetic")
    rng = np.random.default_rng(0)
    flops, params = space.flops().tolist(), space.params().tolist()
    for index, arch in enumerate(space.texts()[:num_archs]):
        for run in range(num_runs):
            noise = rng.random((len(CURVE_METRICS), 60))
            curves = dict(zip(CURVE_METRICS, (100 * noise).tolist(), strict=True))
            record = RunRecord.from_curves(
                curves,
                arch=arch,
                run=run,
                seed=run,
                num_epochs=60,
                flops=flops[index],
                params=params[index],
                train_s=1.0,
                device="synthetic",
                torch="synthetic",
                stack=1,
                backend="torch",
            )
            path = store.path((arch, run))
            path.parent.mkdir(parents=True, exist_ok=True)
            body = record.to_json()
            path.write_text(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archs", type=int, default=16384)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--keep", type=Path, help="Folder for the synthetic runs; used again where it is there.")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary) / "runs"
        if not folder.exists():
            make_store(folder, arguments.archs, arguments.runs)
        started = time.perf_counter()
        command = [sys.executable, "-c", COLLECT, str(folder), str(Path(temporary) / "synthetic.parquet")]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        num_rows, collect_s = output.split()
        wall_s = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # the only child so far
        peak_mib = peak / (2**20 if sys.platform == "darwin" else 2**10)
        found = {
            "synthetic_runs": int(num_rows),
            "collect_s": round(float(collect_s), 1),
            "process_s": round(wall_s, 1),
            "peak_mib": round(peak_mib),
        }
    if arguments.json:
        print(json.dumps(found))
        return
    print(
        f"collected {found['synthetic_runs']:,} SYNTHETIC runs of 60 epochs in {found['collect_s']} s"
        f" (process {found['process_s']} s), peak memory {found['peak_mib']:,} MiB"
    )


if __name__ == "__main__":
    main()
