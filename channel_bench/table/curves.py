"""Learning curves of a table: read once, checked against the table's hash, kept.

    >>> curves = read_curves(Path("table.h5"), table.info, table.num_runs, table.space)
    >>> curves.of(table.space.index("4344424"))["test_acc"]

The file (HDF5) lies beside the table's. It is read whole at the first question, because only then can its hash be
compared with the one that the table states; from then on a question is a look-up in memory. That takes 16 bytes per run
and epoch: 16 MB for three runs of 20 epochs of every architecture, 47 MB for 60 epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, CorruptFileError
from channel_bench.record import CURVE_METRICS, TableInfo, curves_hash
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, Space
from channel_bench.support.reading import MIB, check_file

MAX_BYTES = 2048 * MIB
"""Of the file, and of the curves in memory."""

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Curves:
    """The curves of a table in memory; arrays are read-only."""

    archs: list[str]
    """Those that have curves, ascending."""
    values: Mapping[str, Float32Array]
    """float32 (num_archs, num_runs, num_epochs) per name of CURVE_METRICS: losses in nats, accuracies in percent."""
    rows: npt.NDArray[np.int32]
    """Row of every architecture of the space in `values`, (16384,); -1 where it has none."""

    def of(self, index: int) -> dict[str, Float32Array] | None:
        """Curves of the architecture of an index, float32 (num_runs, num_epochs) each; None where it has none."""
        row = self.rows[index]
        return None if row < 0 else {name: values[row] for name, values in self.values.items()}


def read_curves(path: Path, info: TableInfo, num_runs: int, space: Space) -> Curves:
    """Read and check a file of curves.

    Args:
        path: The HDF5 file.
        info: Provenance of the table that it belongs to.
        num_runs: Runs of that table.
        space: Space of that table.

    Raises:
        MissingDataError: There is no such file.
        CorruptFileError: It is damaged, or belongs to another table.
    """
    import h5py

    shown = repr(str(path))
    try:
        check_file(path, "curves file", MAX_BYTES)
        with h5py.File(path, "r") as file:
            if file.attrs["content_sha256"] != info.content_sha256:
                raise CorruptFileError(
                    f"curves {shown} belong to another table than the one beside them: collect again"
                )
            archs, values = _read_arrays(file, (num_runs, info.recipe["epochs"]), shown)
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RuntimeError, MemoryError) as error:
        raise CorruptFileError(f"cannot read curves {shown}: {str(error)[:200]}") from None
    if curves_hash(archs, values) != info.curves_sha256:
        raise CorruptFileError(f"curves {shown} were changed after they were written: their hash differs")
    try:
        indices = space.index(archs)
    except ArgumentError as error:
        raise CorruptFileError(f"curves {shown}: {error}") from None
    if (np.diff(indices) <= 0).any():
        raise CorruptFileError(f"curves {shown}: architectures are duplicate or out of order")
    rows = np.full(NUM_ARCHS, -1, np.int32)
    rows[indices] = np.arange(len(archs))
    for array in values.values():
        array.flags.writeable = False
    return Curves(archs, values, rows)


def _read_arrays(file: Any, cells: tuple[int, int], shown: str) -> tuple[list[str], dict[str, Float32Array]]:
    """Architectures and curves, after all shapes were found to be those of the table."""
    import h5py

    num_archs = file["arch"].shape[0]
    wanted: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {"arch": ((num_archs,), np.dtype(f"S{NUM_SLOTS}"))}
    wanted |= {metric: ((num_archs, *cells), np.dtype(np.float32)) for metric in CURVE_METRICS}
    if num_archs > NUM_ARCHS or 4 * len(CURVE_METRICS) * num_archs * cells[0] * cells[1] > MAX_BYTES:
        raise CorruptFileError(f"curves {shown} of {num_archs:,} architectures would exceed {MAX_BYTES:,} bytes")
    for name, (shape, dtype) in wanted.items():
        # A link, or data that HDF5 would take from another file, could be any file of this machine.
        is_own = isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Dataset)
        if not is_own or file[name].external or file[name].is_virtual:
            raise CorruptFileError(f"curves {shown}: {name} is missing, or not in the file itself")
        if file[name].shape != shape or file[name].dtype != dtype:
            raise CorruptFileError(
                f"curves {shown}: {name} is {file[name].dtype} {file[name].shape}, it should be {dtype} {shape}"
            )
    archs = [text.decode("ascii") for text in file["arch"][:].tolist()]
    return archs, {metric: file[metric][:] for metric in CURVE_METRICS}
