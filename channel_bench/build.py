"""The builder: work out which runs are missing, have an engine train them, collect the table.

    >>> report = build(get_space("resnet-mini"), Path("runs"), archs=pick_archs(space, "24"), num_runs=2)
    >>> collect(Path("runs"), Path("table.parquet"))

Nothing about progress is remembered anywhere but in the store: missing = planned - there. Killing the builder and
starting it again with the same arguments continues; other arguments (more runs, more architectures) add to it.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from channel_bench.bulk import read_all
from channel_bench.durable import check_writable, write_atomic
from channel_bench.engines import Outcome
from channel_bench.engines.local import LocalEngine
from channel_bench.errors import ArgumentError, BuildError, MissingDataError, StorageError
from channel_bench.recipe import Recipe, get_recipe
from channel_bench.record import (
    CURVE_METRICS,
    Job,
    TableInfo,
    curves_hash,
    parquet_bytes,
    read_info,
    with_info,
)
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, Space
from channel_bench.store import RunStore

PICK_SEED = 20210421
"""Seed of the order in which a number of architectures is picked; any number of them contains every smaller one."""


MAX_COUNT = 2**15 - 1
"""Largest number of a run; the schema's column has 16 bits."""
MAX_SEED = 2**62


@dataclass(frozen=True)
class BuildReport:
    """What one call of `build` did."""

    num_planned: int
    num_found: int
    """Runs that were already there."""
    num_trained: int
    num_diverged: int
    """Of the trained ones, those whose loss became NaN or infinite."""
    set_aside: list[Path]
    """Where damaged runs were moved; those that are planned have been trained again."""


def pick_archs(space: Space, text: str) -> list[str]:
    """Read the choice of architectures of a command line.

    Args:
        space: The search space.
        text: "all"; a number, for that many picked at random but always the same; or architectures of 7 digits
            separated by commas.

    Returns:
        Architectures as text, without duplicates.

    Raises:
        ArgumentError: The text is none of these.
    """
    if text == "all":
        return space.texts()
    text = text.strip()
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) < NUM_SLOTS:
        if not 1 <= int(text) <= NUM_ARCHS:
            raise ArgumentError(f"cannot build {text} architectures: allowed are 1..{NUM_ARCHS}, or 'all'")
        order = np.random.RandomState(PICK_SEED).permutation(NUM_ARCHS)
        return [space.text(int(index)) for index in order[: int(text)]]
    return list(dict.fromkeys(space.text(part.strip()) for part in text.split(",")))


def build(
    space: Space,
    out: Path,
    *,
    archs: Sequence[str],
    num_runs: int,
    recipe: Recipe | None = None,
    dataset: str | None = None,
    num_workers: int | None = None,
    stack: int | None = None,
    threads: int = 1,
    device: str = "auto",
    base_seed: int = 0,
    data_dir: Path | None = None,
    download: bool = False,
    on_start: Callable[[int, int, list[Path]], None] | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> BuildReport:
    """Train every planned run that is not in the store yet.

    Args:
        space: The search space.
        out: Folder of the run store.
        archs: Architectures as text of 7 digits.
        num_runs: Runs of each, >= 1; run r has seed base_seed + r.
        recipe: How to train; default the space's own.
        dataset: What to train on, as `load_dataset` takes it; default the space's own.
        num_workers: Worker processes; default one per GPU, or per CPU core where there is none.
        stack: Networks that a worker trains together as one program (models/stacked.py); 1 for one at a time, default
            `default_stack`. Results agree in distribution, not bit by bit.
        threads: CPU threads of each worker.
        device: "auto", "cpu", "cuda", "cuda:1" ...
        base_seed: Seed of run 0.
        data_dir: Folder of downloaded data.
        download: Fetch the data set where it is missing.
        on_start: Called once with the number of planned runs, of those found, and the damaged ones that were moved.
        on_outcome: Called with each outcome, in the caller's thread.

    Returns:
        What was done.

    Raises:
        ArgumentError: An argument is out of range, the data set does not fit, or the device cannot do the precision.
        StorageError: The store cannot be written, holds other runs, or is in use.
        BuildError: Some runs failed repeatedly; all others are kept.
    """
    from channel_bench.datasets import channel_statistics, load_dataset
    from channel_bench.step import check_device
    from channel_bench.train import pick_device

    _check_counts(num_runs, num_workers, stack, threads, base_seed)
    recipe = recipe or get_recipe(space.recipe)
    source = dataset or space.dataset
    chosen_device = pick_device(device)
    check_device(recipe, chosen_device)
    data = load_dataset(source, data_dir=data_dir, download=download)
    data.check_fits(space)
    channel_statistics(data.train_images[:2], recipe)  # a recipe for other images must not bind the folder to it
    store = RunStore.create(out, space, recipe, data.name, data.digest, base_seed)
    lock = store.lock()
    try:
        texts = list(dict.fromkeys(space.text(arch) for arch in archs))
        store.write_plan(texts, num_runs)
        set_aside = store.set_aside_corrupt()
        planned = [Job(text, run, base_seed + run) for run in range(num_runs) for text in texts]
        there = store.keys()
        missing = [job for job in planned if (job.arch, job.run) not in there]
        if on_start is not None:
            on_start(len(planned), len(planned) - len(missing), set_aside)
        workers = num_workers or _default_workers(chosen_device.type)
        engine = LocalEngine(
            store=store,
            dataset=source,
            device=str(chosen_device),
            num_workers=workers,
            lock=lock,
            threads=threads,
            data_dir=data_dir,
        )
        stacks = make_stacks(space, missing, default_stack(space) if stack is None else stack, workers)
        outcomes = []
        with contextlib.closing(engine.run(stacks)) as stream:
            for outcome in stream:
                outcomes.append(outcome)
                if on_outcome is not None:
                    on_outcome(outcome)
    finally:
        os.close(lock)
    _raise_failures(outcomes, len(planned))
    num_diverged = sum(outcome.status == "diverged" for outcome in outcomes)
    return BuildReport(len(planned), len(planned) - len(missing), len(outcomes), num_diverged, set_aside)


def _check_counts(num_runs: int, num_workers: int | None, stack: int | None, threads: int, base_seed: int) -> None:
    counts = {"runs": num_runs, "workers": num_workers, "networks in a stack": stack, "threads": threads}
    for name, value in counts.items():
        if value is not None and not 1 <= value <= MAX_COUNT:
            raise ArgumentError(f"number of {name} is {value}: allowed are 1..{MAX_COUNT}")
    if not 0 <= base_seed <= MAX_SEED:
        raise ArgumentError(f"base seed {base_seed} is out of range: allowed are 0..{MAX_SEED}")


def _raise_failures(outcomes: Sequence[Outcome], num_planned: int) -> None:
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        first = failed[0]
        raise BuildError(
            f"{len(failed)} of {num_planned} runs failed, the others are kept; first {first.job.arch} run"
            f" {first.job.run}: {first.error}; start the same command again to retry"
        )


def default_stack(space: Space) -> int:
    """Networks per stack where none is asked for: 8 in the mini spaces, whose steps are overhead; 1 in the full ones.

    On a CPU core more than 8 gain nothing (tests/perf/bench_stack.py).
    """
    return 8 if space.is_mini else 1


def make_stacks(space: Space, jobs: Sequence[Job], size: int, num_workers: int) -> list[list[Job]]:
    """Put jobs into stacks of similar widths, the longest stack first.

    A stack is padded to its widest network slot by slot, so neighbours share the widths of the slots that cost most.
    The longest first, and stacks no larger than an equal share of the work, keep all workers busy to the end.
    """
    size = max(1, min(size, -(-len(jobs) // num_workers)))
    if size > 1:
        jobs = sorted(jobs, key=lambda job: (job.arch[4], job.arch[0], job.arch[3], job.arch, job.run))
    stacks = [list(jobs[start : start + size]) for start in range(0, len(jobs), size)]
    return sorted(stacks, key=lambda stack: -sum(space.flops(job.arch) for job in stack))


def _default_workers(device_type: str) -> int:
    if device_type == "cuda":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def collect(runs: Path, out: Path) -> pa.Table:
    """Write the runs of a store as one table file, with their curves in an HDF5 file beside it.

    Args:
        runs: Folder of the run store.
        out: Table file to write (.parquet); the curves go to the same name with .h5.

    Returns:
        The table as it was written.

    Raises:
        MissingDataError: The folder has no runs.
        CorruptFileError: A run is damaged.
        StorageError: A file cannot be written; what was there is untouched.
        ArgumentError: out has another ending than .parquet.
    """
    if out.suffix != ".parquet":
        raise ArgumentError(f"table {str(out)!r} must end in .parquet")
    curves_path = out.with_suffix(".h5")
    if curves_path.exists() and not out.exists() and not _is_curves_file(curves_path):
        raise StorageError(f"{str(curves_path)!r} is there and not of a table: choose another name or move it")
    check_writable(out)
    store = RunStore.open(runs)
    rows, archs, curves = read_all(store)
    if not archs:
        raise MissingDataError(f"{str(runs)!r} has no finished runs yet")
    info = TableInfo(
        name=f"{store.info.dataset}-{len(archs)}x{curves[CURVE_METRICS[0]].shape[1]}",
        space=store.space.name,
        space_fingerprint=store.info.space_fingerprint,
        dataset=store.info.dataset,
        dataset_digest=store.info.dataset_digest,
        recipe=store.info.recipe,
        recipe_fingerprint=store.info.recipe_fingerprint,
        accuracy=f"best test accuracy over {store.info.recipe['epochs']} epochs, percent",
        source="trained by channel-bench build",
        code_version=store.info.code_version,
        torch_versions=sorted(filter(None, rows.column("torch").unique().to_pylist())),
        devices=sorted(filter(None, rows.column("device").unique().to_pylist())),
        curves_file=curves_path.name,
        curves_sha256=curves_hash(archs, curves),
    )
    table = with_info(rows, info)
    content = read_info(table.schema, str(out)).content_sha256
    write_atomic((curves_path, _curves_file(archs, curves, content)), (out, parquet_bytes(table)))
    return table


def _curves_file(archs: Sequence[str], curves: dict[str, npt.NDArray[np.float32]], content_sha256: str) -> bytes:
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
        with h5py.File(path, "r") as file:
            return "content_sha256" in file.attrs
    except OSError:
        return False
