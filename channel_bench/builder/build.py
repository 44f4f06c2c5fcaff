"""The builder: work out which runs are missing, and have an engine train them.

    >>> report = build(get_space("resnet-mini"), Path("runs"), archs=pick_archs(space, "24"), num_runs=2)

Nothing about progress is remembered anywhere but in the store: missing = planned - there. Killing the builder and
starting it again with the same arguments continues; other arguments (more runs, more architectures) add to it. Several
builders may work on one folder at once, also from several machines: a run is leased before it is trained (leases.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from channel_bench.builder.engines import MAX_RETRIES, Engine, Outcome
from channel_bench.builder.engines.local import LocalEngine
from channel_bench.builder.engines.ray import Cluster, RayEngine
from channel_bench.builder.leases import Leases
from channel_bench.builder.store import Failure, RunStore
from channel_bench.builder.work import SharedWork
from channel_bench.errors import ArgumentError, BuildError, StorageError, unknown_name
from channel_bench.recipe import Recipe, get_recipe
from channel_bench.record import Job
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, Space
from channel_bench.support.durable import remove_leftovers
from channel_bench.support.processes import num_cores

if TYPE_CHECKING:
    from channel_bench.training.datasets import Dataset

PICK_SEED = 20210421
"""Seed of the order in which a number of architectures is picked; any number of them contains every smaller one."""

MAX_COUNT = 2**15 - 1
"""Largest number of a run; the schema's column has 16 bits."""
MAX_SEED = 2**62
MAX_RUNS_PER_GPU = 64
ENGINES = ("local", "ray")


@dataclass(frozen=True)
class BuildReport:
    """What one call of `build` did."""

    num_planned: int
    num_found: int
    """Runs that were already there."""
    num_trained: int
    num_diverged: int
    """Of the trained ones, those whose loss became NaN or infinite."""
    num_elsewhere: int
    """Runs that other builders of the folder finished meanwhile."""
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


def parse_shard(text: str) -> tuple[int, int]:
    """Read a shard of a command line: "3/16" is the third of sixteen, (3, 16).

    Raises:
        ArgumentError: The text is something else, or there is no such shard.
    """
    number, _, total = text.partition("/")
    if all(part.isascii() and part.isdecimal() for part in (number, total)) and 1 <= int(number) <= int(total):
        return int(number), int(total)
    raise ArgumentError(f"shard {text!r} is not I/N with whole numbers 1 <= I <= N, such as 3/16")


def shard_archs(space: Space, archs: Sequence[str], number: int, total: int) -> list[str]:
    """The architectures of one shard: as many as in the others to within one, and as costly, whoever computes it.

    The costliest first, each goes to the shard that has cost the least so far and still has room.

    Args:
        space: The search space.
        archs: All architectures, as text, in any order.
        number: Which shard, 1..total.
        total: Number of shards.

    Raises:
        ArgumentError: There are more shards than architectures, or there is no such shard.
    """
    if total == number == 1:
        return list(archs)
    if not 1 <= number <= total:
        raise ArgumentError(f"shard {number} of {total} does not exist: allowed are 1..{total}")
    if total > len(archs):
        raise ArgumentError(f"{len(archs)} architectures cannot make {total} shards: ask for at most {len(archs)}")
    room = -(-len(archs) // total)
    shards: list[list[str]] = [[] for _ in range(total)]
    heap = [(0, shard) for shard in range(total)]
    for arch in sorted(archs, key=lambda arch: (-space.flops(arch), arch)):
        cost, shard = heapq.heappop(heap)
        shards[shard].append(arch)
        if len(shards[shard]) < room:
            heapq.heappush(heap, (cost + space.flops(arch), shard))
    return shards[number - 1]


def build(
    space: Space,
    out: Path,
    *,
    archs: Sequence[str],
    num_runs: int,
    recipe: Recipe | None = None,
    dataset: str | None = None,
    num_workers: int | None = None,
    runs_per_gpu: int | None = 1,
    stack: int | None = None,
    threads: int = 1,
    device: str = "auto",
    base_seed: int = 0,
    shard: tuple[int, int] = (1, 1),
    max_retries: int = MAX_RETRIES,
    engine: str = "local",
    address: str | None = None,
    backend: str = "auto",
    graph: bool | None = None,
    data_dir: Path | None = None,
    download: bool = False,
    on_start: Callable[[int, int, list[Path]], None] | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    on_wait: Callable[[int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> BuildReport:
    """Train every planned run that is not in the store yet, together with whoever else builds there.

    Args:
        space: The search space.
        out: Folder of the run store.
        archs: Architectures as text of 7 digits.
        num_runs: Runs of each, >= 1; run r has seed base_seed + r.
        recipe: How to train; default the space's own.
        dataset: What to train on, as `load_dataset` takes it; default the space's own.
        num_workers: Worker processes; default `runs_per_gpu` on each GPU, or one per CPU core where there is none.
        runs_per_gpu: Worker processes on each GPU; None for as many as `packing.runs_per_gpu` finds room for.
        stack: Networks that a worker trains together as one program (models/stacked.py); 1 for one at a time, default
            `default_stack`. Results agree in distribution, not bit by bit.
        threads: CPU threads of each worker.
        device: "auto" and "cuda" are all GPUs of this machine, or of the cluster; "cpu", "cuda:1" ...
        base_seed: Seed of run 0.
        shard: (i, n) to train the i-th of n parts of the architectures only (`shard_archs`), 1 <= i <= n.
        max_retries: How often a run is tried again after it failed.
        engine: "local" for this machine, "ray" for a cluster.
        address: Of the Ray cluster: "auto", "ray://host:port" or "host:port"; default one of this machine only.
        backend: "native" for the compiled trainer (native/), "torch", or "auto" (`train.pick_backend`).
        graph: Whether steps are replayed as CUDA graphs; None for where they can be.
        data_dir: Folder of downloaded data.
        download: Fetch the data set where it is missing.
        on_start: Called once with the number of planned runs, of those found, and the damaged ones that were moved.
        on_outcome: Called with each outcome, in the caller's thread.
        on_wait: Called at most once, in any thread, with the number of runs that only other builders still work on.
        on_note: Called with what the user should know and is no error.

    Returns:
        What was done.

    Raises:
        ArgumentError: An argument is out of range, the data set does not fit, or the device cannot do what is asked.
        StorageError: The store cannot be written, or holds other runs.
        MissingPackageError: Ray is not installed.
        BuildError: Some runs failed repeatedly, which is on record in the folder, or the cluster cannot be reached.
    """
    _check_counts(num_runs, num_workers, stack, threads, base_seed)
    _check_engine(engine, address, runs_per_gpu, max_retries, backend)
    recipe = recipe or get_recipe(space.recipe)
    texts = shard_archs(space, list(dict.fromkeys(space.text(arch) for arch in archs)), *shard)
    planned = [Job(text, run, base_seed + run) for run in range(num_runs) for text in texts]
    # What cannot be trained here is refused before the folder is touched.
    devices = _pick_devices(device, recipe, graph) if engine == "local" else []
    if runs_per_gpu is None:
        runs_per_gpu = _packed(space, recipe, devices)
    source = dataset or space.dataset
    data = _load_fitting(space, recipe, source, data_dir, download)
    if devices:
        backend = _pick_backend(space, recipe, data, backend, devices[0], on_note)
    with contextlib.ExitStack() as context:
        cluster = None
        if engine == "ray":
            cluster = context.enter_context(Cluster(address, device, threads, runs_per_gpu, num_workers))
        workers = cluster.num_workers() if cluster else num_workers or _default_workers(devices, runs_per_gpu)
        store = RunStore.create(out, space, recipe, data.name, data.digest, base_seed)
        leases = context.enter_context(_joined(store, texts, num_runs, _request(archs, num_runs, shard[1])))
        missing, set_aside = _take_stock(store, leases, planned)
        num_found = len(planned) - len(missing)
        if on_start is not None:
            on_start(len(planned), num_found, set_aside)
        common: dict[str, Any] = {"store": store, "threads": threads, "max_retries": max_retries}
        common["options"] = {"backend": backend, "graph": graph}
        chosen: Engine
        if cluster is None:
            chosen = LocalEngine(dataset=source, devices=devices, num_workers=workers, data_dir=data_dir, **common)
        else:
            chosen = RayEngine(cluster, dataset=data, token=leases.token, **common)
        stacks = make_stacks(space, missing, default_stack(space) if stack is None else stack, workers)
        work = SharedWork(store, leases, stacks, on_wait)
        outcomes = _train(chosen, work, store, on_outcome)
        leases.tidy(store.keys())  # a builder that died meanwhile may have finished what it held
        remove_leftovers(store.folder)  # of workers that were killed while they wrote
    _raise_failures(outcomes, len(planned))
    num_diverged = sum(outcome.status == "diverged" for outcome in outcomes)
    return BuildReport(len(planned), num_found, len(outcomes), num_diverged, work.num_elsewhere, set_aside)


def _check_counts(num_runs: int, num_workers: int | None, stack: int | None, threads: int, base_seed: int) -> None:
    counts = {"runs": num_runs, "workers": num_workers, "networks in a stack": stack, "threads": threads}
    for name, value in counts.items():
        if value is not None and not 1 <= value <= MAX_COUNT:
            raise ArgumentError(f"number of {name} is {value}: allowed are 1..{MAX_COUNT}")
    if not 0 <= base_seed <= MAX_SEED:
        raise ArgumentError(f"base seed {base_seed} is out of range: allowed are 0..{MAX_SEED}")


def _check_engine(engine: str, address: str | None, runs_per_gpu: int | None, max_retries: int, backend: str) -> None:
    from channel_bench.training.backends import BACKENDS

    if runs_per_gpu is None and engine == "ray":
        raise ArgumentError("the GPUs of a cluster are not measured for 'auto': give a number of runs per GPU")
    if runs_per_gpu is not None and not 1 <= runs_per_gpu <= MAX_RUNS_PER_GPU:
        raise ArgumentError(f"number of runs per GPU is {runs_per_gpu}: allowed are 1..{MAX_RUNS_PER_GPU}")
    if not 0 <= max_retries <= MAX_COUNT:
        raise ArgumentError(f"number of retries is {max_retries}: allowed are 0..{MAX_COUNT}")
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if engine == "local" and address is not None:
        raise ArgumentError(f"address {address!r} is of a Ray cluster: add --engine ray")
    if backend not in BACKENDS:
        raise ArgumentError(f"backend is {backend!r}: allowed are {', '.join(BACKENDS)}")


def _load_fitting(space: Space, recipe: Recipe, source: str, data_dir: Path | None, download: bool) -> Dataset:
    """The data set, whose images the space and the recipe must be for."""
    from channel_bench.training.datasets import channel_statistics, load_dataset

    data = load_dataset(source, data_dir=data_dir, download=download)
    data.check_fits(space)
    channel_statistics(data.train_images[:2], recipe)  # a recipe for other images must not bind the folder to it
    return data


def _pick_backend(
    space: Space, recipe: Recipe, data: Dataset, backend: str, device: str, on_note: Callable[[str], None] | None
) -> str:
    """What "auto" means here, with a note where that is the slower program."""
    import torch

    from channel_bench.training.backends import pick_backend

    chosen, reason = pick_backend(space, recipe, data, backend, torch.device(device))
    if reason is not None and on_note is not None:
        on_note(f"PyTorch trains, which is several times slower than the native trainer: {reason}")
    return chosen


@contextlib.contextmanager
def _joined(store: RunStore, archs: Sequence[str], num_runs: int, request: str) -> Iterator[Leases]:
    """Be one of the folder's builders, with a plan of one's own."""
    plans = store.plans()
    with Leases(store.folder) as leases:
        # While others are at work the plan is what all were asked for; who comes to an idle folder starts a new one.
        store.write_plan(archs, num_runs, leases.id, request, [] if leases.others() else plans)
        yield leases


def _request(archs: Sequence[str], num_runs: int, num_shards: int) -> str:
    """What the shards of one request have in common; empty where the request is not split."""
    if num_shards == 1:
        return ""
    return hashlib.sha256(json.dumps([sorted(archs), num_runs, num_shards]).encode()).hexdigest()


def _take_stock(store: RunStore, leases: Leases, planned: Sequence[Job]) -> tuple[list[Job], list[Path]]:
    """Clear away what the dead have left.

    Returns:
        The planned jobs whose run is not there, and where damaged runs were moved.
    """
    remove_leftovers(store.folder)
    set_aside = store.set_aside_corrupt(leases)
    there = store.keys()
    leases.tidy(there)
    return [job for job in planned if (job.arch, job.run) not in there], set_aside


def _train(
    engine: Engine, work: SharedWork, store: RunStore, on_outcome: Callable[[Outcome], None] | None
) -> list[Outcome]:
    """Have the engine do the work, and see to each outcome when it comes."""
    outcomes = []
    with contextlib.closing(engine.run(work)) as finished:
        for outcome in finished:
            outcomes.append(outcome)
            _note_failure(store, outcome)
            work.finish(outcome.job, done=outcome.status != "failed")
            if on_outcome is not None:
                on_outcome(outcome)
    return outcomes


def _note_failure(store: RunStore, outcome: Outcome) -> None:
    job = outcome.job
    with contextlib.suppress(StorageError):  # on a full disk the run has failed all the same
        if outcome.status != "failed":
            store.clear_failure((job.arch, job.run))
        elif outcome.num_tries:
            failure = Failure(
                arch=job.arch,
                run=job.run,
                seed=job.seed,
                error=outcome.error,
                trace=outcome.trace,
                host=outcome.host or platform.node(),
                time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                tries=outcome.num_tries,
            )
            store.add_failure(failure)


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


def _pick_devices(device: str, recipe: Recipe, graph: bool | None) -> list[str]:
    """Devices of this machine by a name, all GPUs where none is named; each can do what is asked."""
    import torch

    from channel_bench.training.devices import pick_device
    from channel_bench.training.step import check_device

    chosen = pick_device(device)
    devices = [chosen]
    if chosen.type == "cuda" and chosen.index is None:
        devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    for each in devices:
        check_device(recipe, each, graph)
    return [str(each) for each in devices]


def _packed(space: Space, recipe: Recipe, devices: Sequence[str]) -> int:
    """Runs per GPU that the smallest of the GPUs has room for."""
    import torch

    from channel_bench.builder.packing import runs_per_gpu

    free = [torch.cuda.mem_get_info(device)[0] for device in devices if device.startswith("cuda")]
    return min((runs_per_gpu(space, memory, batch_size=recipe.batch_size) for memory in free), default=1)


def _default_workers(devices: Sequence[str], runs_per_gpu: int) -> int:
    if devices[0].startswith("cuda"):
        return len(devices) * runs_per_gpu
    return num_cores()
