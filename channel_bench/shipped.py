"""The complete tables of mini spaces that come with the package: where they are, and what the manifest says.

    >>> shipped_path(get_space("resnet-mini")).name
    'resnet-mini.v1.parquet'

In the repository they stand in data/; an installed package has the same folder as channel_bench/tables/.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from channel_bench.durable import write_atomic
from channel_bench.errors import MissingDataError
from channel_bench.space import Space

TABLE_NAME = "digits-16384x3"
"""Name of every shipped table: its data set, architectures and runs."""
SPACES = ("resnet-mini", "mobilenet-mini")
"""Spaces whose table belongs here."""
MANIFEST = "manifest.json"


def shipped_dir() -> Path:
    """Folder of the shipped tables."""
    package = Path(__file__).parent
    installed = package / "tables"
    return installed if installed.is_dir() else package.parent / "data"


def shipped_path(space: Space) -> Path:
    """File of the table that is shipped for a mini space.

    Raises:
        MissingDataError: The package came without it.
    """
    path = shipped_dir() / f"{space.name}.v1.parquet"
    if not path.exists():
        raise MissingDataError(
            f"space {space.name!r} has no table in {str(path.parent)!r}: build one with 'channel-bench build"
            f" {space.name}' and 'channel-bench collect', then pass its path"
        )
    return path


def read_manifest() -> dict[str, Any]:
    """What is shipped: per file its bytes and SHA-256, per table its rows, hash of content, recipe and versions."""
    manifest: dict[str, Any] = json.loads((shipped_dir() / MANIFEST).read_text())
    return manifest


def make_manifest(folder: Path) -> dict[str, Any]:
    """Describe the tables of a folder, each after a whole `verify`.

    Raises:
        CorruptFileError: A table does not check out.
    """
    from channel_bench.verify import verify

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
