"""Write the tables that come with the package: collect folders of complete runs into data/, then the manifest.

channel-bench build resnet-mini --out runs/resnet-mini    # and the other mini spaces
python data/scripts/ship.py runs/resnet-mini
python data/scripts/make_croissant.py                  # describes what was written
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from channel_bench.builder.collect import collect
from channel_bench.builder.store import RunStore
from channel_bench.support.durable import write_atomic
from channel_bench.table.shipped import MANIFEST
from channel_bench.table.verify import verify


def make_manifest(folder: Path) -> dict[str, Any]:
    """Describe the tables of a folder, each after a whole `verify`.

    Raises:
        CorruptFileError: A table does not check out.
    """
    tables = {}
    for path in sorted(folder.glob("*.v1.parquet")):
        facts = verify(path)
        files = [path, *([path.with_name(facts["curves_file"])] if facts["curves_file"] else [])]
        tables[path.name] = {
            "files": {
                file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
                for file in files
            },
            **{
                name: facts[name]
                for name in (
                    "name",
                    "space",
                    "space_fingerprint",
                    "dataset",
                    "dataset_digest",
                    "num_archs",
                    "num_runs",
                    "num_rows",
                    "num_diverged",
                    "content_sha256",
                    "curves_sha256",
                    "recipe",
                    "recipe_fingerprint",
                    "code_version",
                    "torch_versions",
                    "devices",
                )
            },
        }
    return {"format": 1, "tables": tables}


def write_manifest(folder: Path) -> Path:
    """Write the manifest of a folder of tables.

    Raises:
        CorruptFileError: A table does not check out.
        StorageError: The file cannot be written.
    """
    path = folder / MANIFEST
    write_atomic((path, (json.dumps(make_manifest(folder), indent=1, sort_keys=True) + "\n").encode()))
    return path


def main() -> None:
    """Collect, check, describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="Folders of complete runs, one per mini space.")
    folder = Path(__file__).parents[1]
    for runs in parser.parse_args().runs:
        space = RunStore.open(runs).space
        out = folder / f"{space.name}.v1.parquet"
        table = collect(runs, out)
        print(f"{out}: {table.name}, {len(table):,} runs")
    print(write_manifest(folder))


if __name__ == "__main__":
    main()
