"""Check a table file from the outside in, down to every learning curve; what `channel-bench verify` runs.

    >>> verify("table.parquet")["num_rows"]

Reading a table already checks its schema, counts, keys, costs and hashes (table.py); this adds what takes longer.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from channel_bench.errors import CorruptFileError
from channel_bench.record import ACCURACY_METRICS
from channel_bench.table import Table


def verify(path: str | Path) -> dict[str, Any]:
    """Check a table file from the outside in: schema, content hash, keys, costs, accuracies, counts, curves.

    Returns:
        What was found: the provenance, and counts of architectures, runs and diverged runs.

    Raises:
        MissingDataError: There is no such file.
        CorruptFileError: A check failed; the message says which.
    """
    table = Table.read(path)
    statuses = table.arrow.column("status").to_pylist()
    for metric in ACCURACY_METRICS:
        column = table.arrow.column(metric)
        if column.null_count == len(column):
            continue
        for key, status, value in zip(
            table.arrow.column("arch").to_pylist(), statuses, column.to_pylist(), strict=True
        ):
            if (value is None) != (status != "ok") or (value is not None and not 0 <= value <= 100):
                raise CorruptFileError(f"table {str(path)!r}: {metric} of {key} is {value} with status {status!r}")
    rows = table.arrow.select(["arch", "run", "seed", "num_epochs", "best_test_acc", "test_acc"]).to_pylist()
    num_epochs = table.info.recipe["epochs"]
    seeds: dict[tuple[str, int], int] = {}
    for row in rows:
        if row["num_epochs"] != num_epochs:
            raise CorruptFileError(
                f"table {str(path)!r}: {row['arch']} run {row['run']} was trained for {row['num_epochs']} epochs, its"
                f" recipe has {num_epochs}"
            )
        if row["seed"] is not None and (twin := seeds.setdefault((row["arch"], row["seed"]), row["run"])) != row["run"]:
            raise CorruptFileError(f"table {str(path)!r}: runs {twin} and {row['run']} of {row['arch']} have one seed")
    if table.info.curves_file is not None:
        _verify_curves(table, rows)
    per_arch = np.bincount(table.space.index(table.arrow.column("arch").to_pylist()))
    return {
        **dataclasses.asdict(table.info),
        "num_rows": len(statuses),
        "num_archs": int((per_arch > 0).sum()),
        "num_runs": table.num_runs,
        "num_incomplete_archs": int(((per_arch > 0) & (per_arch < table.num_runs)).sum()),
        "num_diverged": statuses.count("diverged"),
    }


def _verify_curves(table: Table, rows: list[dict[str, Any]]) -> None:
    """Hold every learning curve against the accuracies of its row."""
    of_arch: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["best_test_acc"] is None:
            continue
        if row["arch"] not in of_arch:
            of_arch = {row["arch"]: table.curves(row["arch"])}
        curve = of_arch[row["arch"]]["test_acc"][row["run"]]
        if curve.max() != np.float32(row["best_test_acc"]) or curve[-1] != np.float32(row["test_acc"]):
            raise CorruptFileError(
                f"table {str(table.path)!r}: the learning curve of {row['arch']} run {row['run']} contradicts its row"
            )
