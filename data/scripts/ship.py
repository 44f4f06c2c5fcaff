"""Write the tables that come with the package: collect both folders of runs into data/, then the manifest.

channel-bench build resnet-mini --out runs/resnet-mini && channel-bench build mobilenet-mini --out runs/mobilenet-mini
python data/scripts/ship.py runs/resnet-mini runs/mobilenet-mini
"""

from __future__ import annotations

import argparse
from pathlib import Path

from channel_bench.collect import collect
from channel_bench.shipped import TABLE_NAME, write_manifest
from channel_bench.store import RunStore


def main() -> None:
    """Collect, check, describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="Folders of complete runs, one per mini space.")
    folder = Path(__file__).parents[1]
    for runs in parser.parse_args().runs:
        space = RunStore.open(runs).space
        out = folder / f"{space.name}.v1.parquet"
        table = collect(runs, out)
        print(f"{out}: {len(table):,} runs")
    print(f"{write_manifest(folder)}: every table is named {TABLE_NAME!r}")


if __name__ == "__main__":
    main()
