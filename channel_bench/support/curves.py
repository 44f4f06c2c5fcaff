"""Learning curves while they grow: a CSV file that is always whole, and TensorBoard where it is wanted.

>>> log = CurveLog(Path("curves.csv"), None)
>>> log({"train_loss": [2.3, 1.9], "test_acc": [11.0, 40.5]})     # all epochs so far, after each one
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from channel_bench.errors import missing_package
from channel_bench.support.durable import check_writable, make_folder, write_atomic

Curves = Mapping[str, Sequence[float | None]]
"""A value per epoch and name; None or NaN where there is none, as after a divergence."""


class CurveLog:
    """Writes learning curves; make it before the long work, because it finds out what cannot be written.

    Args:
        file: CSV file to write; None for none. It is replaced.
        tensorboard: Folder of event files; None for none.

    Raises:
        StorageError: One of them cannot be written.
        MissingPackageError: TensorBoard is not installed.
    """

    def __init__(self, file: Path | None, tensorboard: Path | None) -> None:
        """Check both."""
        self._file, self._folder = file, tensorboard
        self._writer: Any = None
        self._num_told = 0
        if file is not None:
            check_writable(file)
        if tensorboard is not None:
            _summary_writer()
            make_folder(tensorboard)

    def __call__(self, curves: Curves) -> None:
        """Write all epochs so far.

        Args:
            curves: Lists of one length. It may have grown by several epochs, as after a checkpoint.
        """
        num_epochs = max(map(len, curves.values()), default=0)
        if self._file is not None:
            text = io.StringIO()
            lines = csv.writer(text, lineterminator="\n")
            lines.writerow(["epoch", *curves])
            lines.writerows(
                [number + 1, *map(_cell, values)] for number, values in enumerate(zip(*curves.values(), strict=True))
            )
            write_atomic((self._file, text.getvalue().encode()))
        if self._folder is not None:
            if self._writer is None:
                # What an interrupted training has written there is told anew, from the first epoch on.
                self._writer = _summary_writer()(str(self._folder), purge_step=1)
            for epoch in range(self._num_told, num_epochs):
                for name, values in curves.items():
                    if _is_number(values[epoch]):
                        self._writer.add_scalar(name, values[epoch], epoch + 1)
            self._writer.flush()
        self._num_told = num_epochs

    def close(self) -> None:
        """Write out what TensorBoard still has to write."""
        if self._writer is not None:
            self._writer.close()


def _cell(value: float | None) -> str:
    return repr(float(value)) if value is not None and _is_number(value) else ""


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _summary_writer() -> Any:
    """The class that writes event files.

    Raises:
        MissingPackageError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise missing_package("--tensorboard", "tensorboard", error, "keep the curves as CSV with --log") from None
    return SummaryWriter
