"""What every adapter needs: names and channels of the seven widths, accuracies by epoch, the library itself.

>>> widths(get_space("resnet"))["slot0"]
(64, 128, 192, 256)
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from channel_bench.errors import ArchError, missing_package
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS, FloatArray, Space
from channel_bench.table import Table

SLOTS = tuple(f"slot{slot}" for slot in range(NUM_SLOTS))
"""Names of the widths, those of the columns of `Table.frame`."""


def library(module: str) -> Any:
    """Import a module of another library.

    Args:
        module: The module, of a library that `errors.EXTRAS` knows.

    Raises:
        MissingPackageError: It is not installed, or not whole.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_package("this adapter", module.partition(".")[0], error) from None


def widths(space: Space) -> dict[str, tuple[int, ...]]:
    """By slot: the channels that it can have, ascending."""
    return {
        slot: tuple(most * digit // NUM_WIDTHS for digit in range(1, NUM_WIDTHS + 1))
        for slot, most in zip(SLOTS, space.max_channels, strict=True)
    }


def arch_of(space: Space, values: Mapping[str, Any]) -> str:
    """The architecture of a configuration.

    Args:
        space: Its space.
        values: Channels by slot (slot0 .. slot6); other keys are left alone.

    Returns:
        Seven digits.

    Raises:
        ArchError: A slot is missing, or has channels that it cannot have.
    """
    missing = [slot for slot in SLOTS if slot not in values]
    if missing:
        raise ArchError(f"a configuration needs the channels of {', '.join(SLOTS)}: {', '.join(missing)} is missing")
    return space.text({"channels": [values[slot] for slot in SLOTS]})


def config_of(space: Space, arch: Any) -> dict[str, int]:
    """The configuration of an architecture in any encoding: channels by slot."""
    return dict(zip(SLOTS, space.channels(arch), strict=True))


def accuracies_by_epoch(curves: Any, cells: FloatArray, metric: str) -> FloatArray:
    """Accuracy of runs after every epoch, so that the last one is that of the table.

    Curves are kept in single precision. Where one is at the value that the table has in double precision, the table's
    is taken: a run ends in its accuracy to the last bit, and ties stay ties.

    Args:
        curves: Test accuracies, percent, float32 (..., num_epochs).
        cells: What the runs have in the table, percent, float64 (...,).
        metric: "test_acc": after each epoch; "best_test_acc": the best of the epochs so far.

    Returns:
        Percent, float64 (..., num_epochs).
    """
    reached = np.maximum.accumulate(curves, -1) if metric == "best_test_acc" else curves
    exact = np.asarray(cells)[..., None]
    return np.where(reached == exact.astype(np.float32), exact, reached.astype(np.float64))


def epochs_of(table: Table) -> int:
    """Epochs of a whole training."""
    return int(table.info.recipe["epochs"])


def has_curves(table: Table) -> bool:
    """Whether the table comes with learning curves."""
    return table.info.curves_file is not None and table.path is not None
