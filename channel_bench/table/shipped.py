"""The complete tables of mini spaces that come with the package: where they are.

    >>> shipped_path(get_space("resnet-mini")).name
    'resnet-mini.v1.parquet'

In the repository they are in data/, beside a manifest with the hash of every file; an installed package has the same
folder as channel_bench/tables/.
"""

from __future__ import annotations

from pathlib import Path

from channel_bench.errors import MissingDataError
from channel_bench.space import NUM_ARCHS, Space

SPACES = ("resnet-mini", "mobilenet-mini", "mobilenet-mini-placed")
"""Spaces whose table belongs here."""
MANIFEST = "manifest.json"
"""For each table: its files with size and SHA-256, rows, hashes, recipe, and the versions that trained it."""


def table_name(space: Space) -> str:
    """Name of the shipped table of a mini space: its data set, architectures and runs ("digits-16384x3")."""
    return f"{space.dataset}-{NUM_ARCHS}x3"


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
