"""How much it saves to keep decoded images: loading a folder of Parquet files by decoding, and from what is kept.

    python tests/perf/bench_decoded.py FOLDER

The kept arrays are checked in full each time, and the data set's own digest is computed both times.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from channel_bench.training.datasets import load_dataset


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as data_dir:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            load_dataset(folder, data_dir=Path(data_dir))
            times.append(time.perf_counter() - started)
    print(f"decoded and kept {times[0]:.2f} s, kept {min(times[1:]):.2f} s: {times[0] / min(times[1:]):.1f}x")


if __name__ == "__main__":
    main()
