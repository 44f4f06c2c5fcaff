"""The complete tables of mini spaces that come with the package: where they are, and what the manifest says.

    >>> shipped_path(get_space("resnet-mini")).name
    'resnet-mini.v1.parquet'

In the repository they stand in data/; an installed package has the same folder as channel_bench/tables/.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from channel_bench.errors import MissingDataError
from channel_bench.space import Space

TABLE_NAME = "digits-16384x3"
"""Name of every shipped table: its data set, architectures and runs."""
SPACES = ("resnet-mini", "mobilenet-mini")
"""Spaces whose table belongs here."""
MANIFEST = "manifest.json"


def shipped_dir() -> Path:
    """Folder of the shipped tables."""
    package = Path(__file__).parents[1]
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
