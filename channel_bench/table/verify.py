"""Check a table file, from its schema down to every learning curve; `channel-bench verify` runs this.

    >>> verify("table.parquet")["num_rows"]

Reading a table already checks its schema, counts, keys, costs and hashes (table.py); this adds what takes longer.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from channel_bench.errors import CorruptFileError
from channel_bench.record import ACCURACY_METRICS, curves_hash
from channel_bench.table.table import Table


def verify(path: str | Path) -> dict[str, Any]:
    """Check a table file: schema, content hash, keys, costs, accuracies, counts, curves.

    Returns:
        The provenance of the table, and counts of architectures, runs and diverged runs.

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
            raise CorruptFileError(
                f"table {str(path)!r}: runs {twin} and {row['run']} of {row['arch']} have the same seed"
            )
    if table.info.curves_file is not None:
        _verify_curves(table)
    per_arch = np.bincount(table.space.index(table.arrow.column("arch").to_pylist()))
    return {
        **dataclasses.asdict(table.info),
        "num_rows": len(statuses),
        "num_archs": int((per_arch > 0).sum()),
        "num_runs": table.num_runs,
        "num_incomplete_archs": int(((per_arch > 0) & (per_arch < table.num_runs)).sum()),
        "num_diverged": statuses.count("diverged"),
    }


def _verify_curves(table: Table) -> None:
    """Compare the learning curves with their hash, and with the metrics of every row."""
    archs, curves = table.all_curves()
    if curves_hash(archs, curves) != table.info.curves_sha256:
        raise CorruptFileError(f"table {str(table.path)!r}: its learning curves were changed after they were written")
    ok = table.arrow.column("status").to_numpy() == "ok"
    at = (
        np.searchsorted(archs, table.arrow.column("arch").to_numpy().astype(str)[ok]),
        table.arrow.column("run").to_numpy()[ok],
    )
    accuracies = curves["test_acc"][at]
    stated = {name: curve[at][:, -1] for name, curve in curves.items()}
    stated |= {"best_test_acc": accuracies.max(1), "best_epoch": accuracies.argmax(1) + 1}
    for name, values in stated.items():
        wrong = np.flatnonzero(values.astype(np.float32) != table.arrow.column(name).to_numpy()[ok].astype(np.float32))
        if wrong.size:
            row = np.flatnonzero(ok)[wrong[0]]
            key = f"{table.arrow.column('arch')[row]} run {table.arrow.column('run')[row]}"
            raise CorruptFileError(f"table {str(table.path)!r}: {name} of {key} contradicts its learning curve")
