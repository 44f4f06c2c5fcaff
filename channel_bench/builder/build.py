"""The builder: work out which runs are missing, and have an engine train them.

    >>> plan = Plan(space=space, archs=pick_archs(space, "24"), num_runs=2)
    >>> report = build(plan, Path("runs"), Workers(device="cpu"))

Nothing about progress is remembered anywhere but in the store: missing = planned - there. Killing the builder and
starting it again with the same plan continues; another plan (more runs, more architectures) adds to it. Several
builders may work on one folder at once, also from several machines: a run is leased before it is trained (leases.py).
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channel_bench.builder.engines import PACKED_TRAINER, TRAINER, Engine, Outcome
from channel_bench.builder.engines.local import LocalEngine
from channel_bench.builder.engines.ray import RayEngine
from channel_bench.builder.leases import Leases, RunKey
from channel_bench.builder.plan import Plan, Workers
from channel_bench.builder.store import Failure, RunStore
from channel_bench.builder.work import SharedWork, default_stack, make_hand_outs, make_stacks
from channel_bench.errors import BuildError, StorageError
from channel_bench.recipe import Recipe
from channel_bench.record import Job
from channel_bench.space import Space
from channel_bench.support.cluster import Cluster
from channel_bench.support.durable import remove_leftovers
from channel_bench.support.processes import num_cores

if TYPE_CHECKING:
    from channel_bench.training.datasets import Dataset


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


@dataclass(frozen=True)
class _Setup:
    """What the workers of this machine or cluster will train with, after everything was found to work."""

    data: Dataset
    devices: list[str]
    """Devices of this machine; none where a cluster trains."""
    runs_per_gpu: int
    backend: str


def build(
    plan: Plan,
    out: Path,
    workers: Workers | None = None,
    *,
    on_start: Callable[[int, int, list[Path]], None] | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    on_wait: Callable[[int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> BuildReport:
    """Train every planned run that is not in the store yet, together with all other builders of the folder.

    Args:
        plan: What to train.
        out: Folder of the run store.
        workers: How to train; None for one worker per GPU, or per CPU core, of this machine.
        on_start: Called once with the number of planned runs, of those found, and the damaged ones that were moved.
        on_outcome: Called with each outcome, in the caller's thread.
        on_wait: Called at most once, in any thread, with the number of runs that only other builders still work on.
        on_note: Called with what the user should know and is no error.

    Returns:
        What was done.

    Raises:
        ArgumentError: The data set does not fit, or the device cannot do what is asked.
        StorageError: The store cannot be written, or holds other runs.
        MissingPackageError: Ray is not installed.
        BuildError: Some runs failed repeatedly, which is on record in the folder.
        ClusterError: The cluster cannot be reached, or no worker can be set up on it.
    """
    workers = workers or Workers()
    caution = plan.chosen_recipe.caution
    if caution is not None and on_note is not None:
        on_note(caution)
    # What cannot be trained here is refused before the folder is touched.
    setup = _set_up(plan, workers, on_note)
    with contextlib.ExitStack() as context:
        cluster = None
        num_slots = _slots_on_gpu(plan, workers, setup)
        per_gpu = _workers_per_gpu(setup, num_slots)
        if workers.engine == "ray":
            cluster = context.enter_context(
                Cluster(workers.address, workers.device, workers.threads, per_gpu, workers.num_workers)
            )
        if not (cluster.on_gpu if cluster else setup.devices[0].startswith("cuda")):
            num_slots = 0
        num_workers = cluster.num_workers() if cluster else workers.num_workers or _default_workers(setup, per_gpu)
        store = RunStore.create(out, plan.space, plan.chosen_recipe, setup.data.name, setup.data.digest, plan.base_seed)
        leases = context.enter_context(_joined(store, plan))
        missing, there, set_aside = _take_stock(store, leases, plan.jobs())
        if missing and on_note is not None:
            _note_backend(store, there, _expected_backend(plan, setup, cluster), on_note)
        num_found = plan.num_planned - len(missing)
        if on_start is not None:
            on_start(plan.num_planned, num_found, set_aside)
        if num_slots:
            stacks = make_hand_outs(plan.space, missing, num_slots, num_workers)
        else:
            stacks = make_stacks(plan.space, missing, _stack_size(plan, workers), num_workers)
        work = SharedWork(store, leases, stacks, on_wait)
        engine = _make_engine(plan, workers, setup, store, leases, cluster, num_workers, num_slots)
        outcomes = _train(engine, work, store, on_outcome)
        leases.tidy(store.keys())  # a builder that died meanwhile may have finished what it held
        remove_leftovers(store.folder)  # of workers that were killed while they wrote
    _raise_failures(outcomes, plan.num_planned)
    num_diverged = sum(outcome.status == "diverged" for outcome in outcomes)
    return BuildReport(plan.num_planned, num_found, len(outcomes), num_diverged, work.num_elsewhere, set_aside)


def _set_up(plan: Plan, workers: Workers, on_note: Callable[[str], None] | None) -> _Setup:
    """Find devices, images and the program that trains; refuse what does not go together."""
    recipe = plan.chosen_recipe
    devices = _pick_devices(workers.device, recipe, workers.graph, on_note) if workers.engine == "local" else []
    runs_per_gpu = workers.runs_per_gpu
    if runs_per_gpu is None:
        runs_per_gpu = _packed(plan.space, recipe, devices)
    data = _load_fitting(plan, workers)
    backend = workers.backend
    if devices:
        backend = _pick_backend(plan, data, backend, devices[0], on_note)
    return _Setup(data, devices, runs_per_gpu, backend)


def _pick_devices(device: str, recipe: Recipe, graph: bool | None, on_note: Callable[[str], None] | None) -> list[str]:
    """Devices of this machine by a name, all GPUs where none is named; each can do what is asked."""
    import torch

    from channel_bench.training.devices import pick_device, precision_caution
    from channel_bench.training.step import check_device

    chosen = pick_device(device)
    devices = [chosen]
    if chosen.type == "cuda" and chosen.index is None:
        devices = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    for each in devices:
        check_device(recipe, each, graph)
    caution = precision_caution(recipe.precision, devices[0])
    if caution is not None and on_note is not None:
        on_note(caution)
    return [str(each) for each in devices]


def _packed(space: Space, recipe: Recipe, devices: Sequence[str]) -> int:
    """Runs per GPU that the smallest of the GPUs has room for."""
    import torch

    from channel_bench.builder.packing import runs_per_gpu

    free = [torch.cuda.mem_get_info(device)[0] for device in devices if device.startswith("cuda")]
    return min((runs_per_gpu(space, memory, batch_size=recipe.batch_size) for memory in free), default=1)


def _stack_size(plan: Plan, workers: Workers) -> int:
    return default_stack(plan.space) if workers.stack is None else workers.stack


def _slots_on_gpu(plan: Plan, workers: Workers, setup: _Setup) -> int:
    """Runs at once in a process that trains on a GPU; 0 where `train_jobs` trains what it gets, as on a CPU.

    Processes on one GPU get it in slices of time, streams of one process share it; so there is one process, unless a
    number of processes is asked for, or networks are stacked.
    """
    if _stack_size(plan, workers) > 1 or setup.backend == "native":  # which a GPU has not, as train_jobs will say
        return 0
    return 1 if workers.num_workers is not None else setup.runs_per_gpu


def _workers_per_gpu(setup: _Setup, num_slots: int) -> int:
    return setup.runs_per_gpu if num_slots < 2 else 1


def _default_workers(setup: _Setup, per_gpu: int) -> int:
    return len(setup.devices) * per_gpu if setup.devices[0].startswith("cuda") else num_cores()


def _load_fitting(plan: Plan, workers: Workers) -> Dataset:
    """The data set; the space and the recipe must be for its images."""
    from channel_bench.training.datasets import channel_statistics, load_dataset

    data = load_dataset(plan.chosen_dataset, data_dir=workers.data_dir, download=workers.download)
    data.check_fits(plan.space)
    # A recipe for other images must not bind the folder to it.
    channel_statistics(data.train_images[:2], plan.chosen_recipe)
    return data


def _pick_backend(plan: Plan, data: Dataset, backend: str, device: str, on_note: Callable[[str], None] | None) -> str:
    """What "auto" means here, with a note where that is the slower program."""
    import torch

    from channel_bench.training.backends import pick_backend

    chosen, reason = pick_backend(plan.space, plan.chosen_recipe, data, backend, torch.device(device))
    if reason is not None and on_note is not None:
        on_note(f"PyTorch trains, which is several times slower than the native trainer: {reason}")
    return chosen


def _expected_backend(plan: Plan, setup: _Setup, cluster: Cluster | None) -> str:
    """The program that will train: on a cluster, what its nodes would pick if they are like this machine."""
    import torch

    from channel_bench.training.backends import pick_backend

    if cluster is None:
        return setup.backend
    device = torch.device("cuda" if cluster.on_gpu else "cpu")
    return pick_backend(plan.space, plan.chosen_recipe, setup.data, setup.backend, device)[0]


def _note_backend(store: RunStore, there: Set[RunKey], backend: str, on_note: Callable[[str], None]) -> None:
    """Say so where the folder's runs were trained by another program than the next ones will be."""
    earlier = store.backends(there) - {backend}
    if earlier:
        names = " and ".join(sorted(earlier))
        on_note(
            f"runs in {str(store.folder)!r} were trained by {names}, the next ones are trained by {backend}: they agree"
            f" in distribution, not bit by bit; give --backend {min(earlier)} to go on with the same program"
        )


def _make_engine(
    plan: Plan,
    workers: Workers,
    setup: _Setup,
    store: RunStore,
    leases: Leases,
    cluster: Cluster | None,
    num_workers: int,
    num_slots: int,
) -> Engine:
    """The engine that trains: the cluster's where there is a cluster, else this machine's."""
    trainer, options = _trainer(workers, setup, num_slots)
    if cluster is not None:
        return RayEngine(
            cluster,
            store=store,
            dataset=setup.data,
            token=leases.token,
            threads=workers.threads,
            max_retries=workers.max_retries,
            options=options,
            trainer=trainer,
        )
    return LocalEngine(
        store=store,
        dataset=plan.chosen_dataset,
        devices=setup.devices,
        num_workers=num_workers,
        threads=workers.threads,
        data_dir=workers.data_dir,
        max_retries=workers.max_retries,
        options=options,
        trainer=trainer,
    )


def _trainer(workers: Workers, setup: _Setup, num_slots: int) -> tuple[str, dict[str, Any]]:
    """What workers train with, and its options."""
    if num_slots:
        return PACKED_TRAINER, {"num_slots": num_slots, "graph": workers.graph}
    return TRAINER, {"backend": setup.backend, "graph": workers.graph}


@contextlib.contextmanager
def _joined(store: RunStore, plan: Plan) -> Iterator[Leases]:
    """Be one of the folder's builders, with a plan of one's own."""
    plans = store.plans()
    with Leases(store.folder) as leases:
        # While other builders work, the folder's plan is what all of them were asked for; a builder that comes to an
        # idle folder starts a new plan.
        kept = [] if leases.others() else plans
        store.write_plan(plan.chosen_archs, plan.num_runs, leases.id, plan.request(), kept)
        yield leases


def _take_stock(store: RunStore, leases: Leases, planned: Sequence[Job]) -> tuple[list[Job], set[RunKey], list[Path]]:
    """Clear away what the dead have left.

    Returns:
        The planned jobs whose run is not there, all runs that are there, and where damaged runs were moved.
    """
    remove_leftovers(store.folder)
    set_aside = store.set_aside_corrupt(leases)
    there = store.keys()
    leases.tidy(there)
    return [job for job in planned if (job.arch, job.run) not in there], there, set_aside


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
