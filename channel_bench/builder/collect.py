"""From folders of runs to one table file: read, merged, described, written.

    >>> table = collect([Path("runs-1"), Path("runs-2")], Path("table.parquet"))

The folders are only read; a run that is in several counts once. The learning curves go to an HDF5 file beside the
table, and both files change together or not at all.
"""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa

from channel_bench.builder.bulk import Float32Array, read_all
from channel_bench.builder.leases import Watch
from channel_bench.builder.store import KIND, RunKey, RunStore
from channel_bench.errors import ArgumentError, ChannelBenchError, ConflictError, MissingDataError, StorageError
from channel_bench.record import CURVE_METRICS, RunRecord, TableInfo, curves_hash, parquet_bytes, read_info, with_info
from channel_bench.support.durable import check_writable, write_atomic
from channel_bench.support.reading import check_file, is_there

MAX_CURVES_BYTES = 2**35
"""More than all curves that `bulk.MAX_CURVE_VALUES` admits."""
NUM_SHOWN = 3
"""Conflicting runs that a message names; it only counts the others."""


def collect(runs: Path | Sequence[Path], out: Path, *, on_note: Callable[[str], None] | None = None) -> pa.Table:
    """Write the runs of one or several stores as one table file, with their curves in an HDF5 file beside it.

    Args:
        runs: Folder of the run store, or several of the same kind; a run that is in several counts once.
        out: Table file to write (.parquet); the curves go to the same name with .h5.
        on_note: Called with a line for each folder whose builders were asked for runs that the table does not have.

    Returns:
        The table as it was written.

    Raises:
        MissingDataError: The folders have no runs.
        CorruptFileError: A run is damaged.
        ConflictError: The folders are of different kinds, or hold different results of one run.
        StorageError: A file cannot be written; what was there is untouched.
        ArgumentError: out has another ending than .parquet.
    """
    curves_path = out.with_suffix(".h5")
    _check_target(out, curves_path)
    stores = [RunStore.open(folder) for folder in ([runs] if isinstance(runs, Path) else runs)]
    rows, archs, curves = read_all(merge(stores))
    if not archs:
        folders = ", ".join(repr(str(store.folder)) for store in stores)
        raise MissingDataError(f"{folders} {'has' if len(stores) == 1 else 'have'} no finished runs yet")
    table = with_info(rows, _provenance(stores, rows, archs, curves, curves_path.name))
    if on_note is not None:
        for line in _unfinished(stores, rows):
            on_note(line)
    content = read_info(table.schema, str(out)).content_sha256
    write_atomic((curves_path, _curves_file(archs, curves, content)), (out, parquet_bytes(table)))
    return table


def _unfinished(stores: Sequence[RunStore], rows: pa.Table) -> Iterator[str]:
    """A line for each store that is not finished: how many runs are missing or failed, and who is at work."""
    there = Counter(rows.column("arch").to_pylist())
    keys = set(zip(rows.column("arch").to_pylist(), rows.column("run").to_pylist(), strict=True))
    for store in stores:
        planned = store.planned() or {}
        # Without a gap the count says it; where there may be one, runs are looked at one by one.
        num_missing = sum(
            num_runs if there[arch] == 0 else sum((arch, run) not in keys for run in range(num_runs))
            for arch, num_runs in planned.items()
        )
        if not num_missing:
            continue
        failed = [failure for failure in store.failures() if (failure.arch, failure.run) not in keys]
        builders = Watch(store.folder).alive()
        more = f" and {len(builders) - 1} more" if len(builders) > 1 else ""
        at_work = f"a builder is at work ({builders[0]}{more})" if builders else "no builder is at work"
        yield (
            f"{str(store.folder)!r} is not finished: {num_missing:,} of {sum(planned.values()):,} planned runs are not"
            f" in the table, {len(failed):,} of them failed; {at_work}"
        )


def _check_target(out: Path, curves_path: Path) -> None:
    """Refuse, before the long reading, what cannot be written or is not ours to replace."""
    if out.suffix != ".parquet":
        raise ArgumentError(f"table {str(out)!r} must end in .parquet")
    if is_there(curves_path) and not is_there(out) and not _is_curves_file(curves_path):
        raise StorageError(
            f"{str(curves_path)!r} exists and does not belong to a table: choose another name, or move it"
        )
    check_writable(out)


def merge(stores: Sequence[RunStore]) -> list[tuple[RunStore, list[RunKey]]]:
    """Which runs to read from which of several stores, so that each is read once.

    Two results of a run are equal when all is equal but how long it took, where, and in what company.

    Returns:
        Every store with its runs that no earlier one has, in order.

    Raises:
        ConflictError: The stores are of different kinds, or hold different results of one run.
        CorruptFileError: A run that is in several stores is damaged in one.
    """
    _check_kind(stores)
    source_of: dict[RunKey, RunStore] = {}
    sources, conflicts = [], []
    for store in stores:
        fresh = []
        for key in sorted(store.keys()):
            source = source_of.setdefault(key, store)
            if source is store:
                fresh.append(key)
            elif _result(source.read(key)) != _result(store.read(key)):
                conflicts.append(f"{key[0]} run {key[1]} in {str(source.folder)!r} and {str(store.folder)!r}")
        sources.append((store, fresh))
    if conflicts:
        more = f" and {len(conflicts) - NUM_SHOWN} more" if len(conflicts) > NUM_SHOWN else ""
        raise ConflictError(
            f"{len(conflicts)} runs have different results: {'; '.join(conflicts[:NUM_SHOWN])}{more}"
            "; decide which folder is right, and move parts/../ARCH-RUN.json out of the other one"
        )
    return sources


def _check_kind(stores: Sequence[RunStore]) -> None:
    first = stores[0]
    for store in stores[1:]:
        for name in KIND:
            one, other = getattr(first.info, name), getattr(store.info, name)
            if one != other:
                raise ConflictError(
                    f"{str(first.folder)!r} and {str(store.folder)!r} hold runs of different kinds: {name} is"
                    f" {one!r} and {other!r}; collect each kind into its own table"
                )


def _result(record: RunRecord) -> RunRecord:
    """A record without what may differ between two trainings of one run."""
    return dataclasses.replace(record, train_s=None, device=None, torch=None, stack=None, backend=None)


def _provenance(
    stores: Sequence[RunStore], rows: pa.Table, archs: Sequence[str], curves: dict[str, Float32Array], curves_file: str
) -> TableInfo:
    """What the table says of itself; what all runs have in common is that of the first store."""
    space, info = stores[0].space, stores[0].info
    return TableInfo(
        name=f"{info.dataset}-{len(archs)}x{curves[CURVE_METRICS[0]].shape[1]}",
        space=space.name,
        space_fingerprint=info.space_fingerprint,
        dataset=info.dataset,
        dataset_digest=info.dataset_digest,
        recipe=info.recipe,
        recipe_fingerprint=info.recipe_fingerprint,
        accuracy=f"best test accuracy over {info.recipe['epochs']} epochs, percent",
        source="trained by channel-bench build",
        code_version=", ".join(sorted({store.info.code_version for store in stores})),
        torch_versions=sorted(filter(None, rows.column("torch").unique().to_pylist())),
        devices=sorted(filter(None, rows.column("device").unique().to_pylist())),
        curves_file=curves_file,
        curves_sha256=curves_hash(archs, curves),
    )


def _curves_file(archs: Sequence[str], curves: dict[str, Float32Array], content_sha256: str) -> bytes:
    """HDF5 file of dense curves, chunked by architecture."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["content_sha256"] = content_sha256
        file.create_dataset("arch", data=np.array(archs, "S7"))
        for metric, values in curves.items():
            chunks = (min(256, len(archs)), *values.shape[1:])
            file.create_dataset(metric, data=values, chunks=chunks, compression="gzip", shuffle=True)
    return buffer.getvalue()


def _is_curves_file(path: Path) -> bool:
    """Whether a file is one that `collect` wrote, perhaps in the moment before it was killed."""
    try:
        check_file(path, "file of curves", MAX_CURVES_BYTES)
        with h5py.File(path, "r") as file:
            return "content_sha256" in file.attrs
    except (ChannelBenchError, OSError):
        return False
