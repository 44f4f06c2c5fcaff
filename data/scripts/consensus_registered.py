"""What was registered of the test of the consensus: its text under lock, its architectures, the places of its files.

    >>> facts = read_preregistration()             # refused if a byte of it is another
    >>> archs_of(space, facts, number)

A part of consensus_test.py, which says how it is run.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.space import Space

PREREGISTRATION_SHA256 = "4ef34cbf5d396b08d51ccc197b829dbbed664ee250e7e78b088512db1d4231e6"
AMENDMENT_SHA256 = "b14352249b9480e69f9673315ab38a3771ae187c050ce3623b2915771a038a56"
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "data" / "preregistered"
PREREGISTRATION = FOLDER / "consensus.toml"
AMENDMENT = FOLDER / "amendment.toml"
"""What had to be changed before any outcome was computed, and why."""


def read_preregistration(path: Path = PREREGISTRATION, amendment: Path = AMENDMENT) -> dict[str, Any]:
    """The preregistration as amended, if both are the texts that this program was written for.

    Raises:
        ArgumentError: The bytes of one have another SHA-256.
    """
    facts = read_locked(path, PREREGISTRATION_SHA256)
    replaced = {entry["file"]: entry for entry in read_locked(amendment, AMENDMENT_SHA256)["replace"]}
    for entry in facts["space"]:
        if entry["file"] in replaced:
            other = replaced[entry["file"]]
            entry |= {"file": other["by"], "placed": other["placed"]}
    return facts


def read_locked(path: Path, sha256: str) -> dict[str, Any]:
    """A TOML file whose bytes are known.

    Raises:
        ArgumentError: They have another SHA-256.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ArgumentError(
            f"{path.name} has SHA-256 {found}, the one that was registered has {sha256}: a preregistration is not"
            " edited; take it from the commit that docs/explanation/consensus-test.md names"
        )
    reader = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    facts: dict[str, Any] = reader.loads(content.decode())
    return facts


def changed_code(facts: dict[str, Any]) -> list[str]:
    """Files of the procedure that are not as they were registered."""
    return [
        name
        for name, sha256 in facts["procedure"]["sha256"].items()
        if hashlib.sha256((ROOT / name).read_bytes()).hexdigest() != sha256
    ]


def archs_of(space: Space, facts: dict[str, Any], number: int) -> list[str]:
    """The architectures whose truth is built: drawn by `Space.sample` with the registered seed and the space's number.

    Args:
        space: The space.
        facts: The preregistration.
        number: Position of the space in it, from 0.
    """
    truth = facts["truth"]
    rng = np.random.default_rng([truth["seed"], number])
    return [space.text(arch) for arch in space.sample(truth["num_archs"], rng).tolist()]


def table_of(space: Space) -> Path:
    """Where the truth of a space is."""
    return FOLDER / "tables" / f"{space.name}.parquet"


def scores_of(space: Space, method: str) -> Path:
    """Where the raw scores of a method are."""
    return FOLDER / "scores" / f"{method}.{space.name}.parquet"
