"""One run: train one architecture by a recipe and return its record with learning curves.

    >>> data = load_dataset("digits")
    >>> record = train_run(get_space("resnet-mini"), "4344424", get_recipe("mini"), seed=0, dataset=data)
    >>> record.best_test_acc  # percent

A run is a function of (space, architecture, recipe, seed, data set): every random draw comes from generators that
derive from the architecture and the seed, and the global ones are not touched. The same call gives the same record on
the same machine with the same number of threads; across machines results agree in distribution.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from channel_bench.errors import ArgumentError
from channel_bench.recipe import Recipe
from channel_bench.record import CURVE_METRICS, Job, RunRecord
from channel_bench.space import Space
from channel_bench.training.datasets import Dataset, TrainLoader
from channel_bench.training.devices import device_name
from channel_bench.training.models.stacked import StackedModel
from channel_bench.training.reuse import Workbench, take_next
from channel_bench.training.slots import POLL_S, Slot, advance_ready, until_done
from channel_bench.training.step import Step, Trainer, arithmetic, check_device

OnEpoch = Callable[[int, dict[str, float]], None]
OnTrained = Callable[[dict[str, Tensor]], None]
"""Takes the trained weights and running statistics by the names of `models.build_model`, copies on the CPU."""


def train_run(
    space: Space,
    arch: Any,
    recipe: Recipe,
    seed: int,
    dataset: Dataset,
    *,
    run: int = 0,
    on_epoch: OnEpoch | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_trained: OnTrained | None = None,
    graph: bool | None = None,
) -> RunRecord:
    """Train one network from scratch, on the device that holds the data set.

    Args:
        space: The search space.
        arch: The architecture, in any encoding of `Space.arch`.
        recipe: How to train.
        seed: >= 0; with the architecture it decides initial weights, order and augmentation.
        dataset: Images of the space's input shape.
        run: Number that the record carries.
        on_epoch: Called after each epoch with its number from 1 and its value of each of CURVE_METRICS.
        on_step: Called after each step of an epoch.
        on_trained: Called at the end with the weights.
        graph: Whether steps are replayed as CUDA graphs, which changes no result; None for where the device is a GPU.

    Returns:
        The record; status "diverged" where the loss became NaN or infinite.

    Raises:
        ArchError: arch is not an architecture of the space.
        ArgumentError: The data set does not fit the space, seed is negative, or the device cannot do what was asked.
    """
    recipe.check_rates()
    dataset.check_fits(space)
    check_device(recipe, dataset.device, graph)
    text = space.text(arch)
    with arithmetic(recipe.precision):
        slot = Slot(dataset.device)
        job = Job(text, run, seed)
        bench = Workbench(space, recipe, dataset, graph, slot.stream)
        slot.start(_run_in_steps(space, job, recipe, dataset, bench, slot.stream, on_epoch, on_step, on_trained))
        while slot.record is None:
            if not advance_ready([slot]):
                time.sleep(POLL_S)
        return slot.record


def train_packed(
    space: Space,
    jobs: Sequence[Job],
    recipe: Recipe,
    dataset: Dataset,
    num_slots: int,
    *,
    graph: bool | None = None,
) -> Iterator[RunRecord]:
    """Train several runs at once in this process, each as `train_run` trains it: their steps take turns.

    On a GPU each slot has a stream of its own, so kernels of different runs overlap; processes would share the device
    in slices of time. On a CPU nothing is gained, and each record is that of `train_run`, bit by bit.

    The seeds of an architecture are trained in one slot, one after the other, as far as no slot stays empty for it:
    what the first has captured as CUDA graphs the others replay (reuse.py).

    Args:
        space: The search space.
        jobs: The runs, in the order to start them but for what was just said.
        recipe: How to train.
        dataset: Images of the space's input shape.
        num_slots: Runs at once, >= 1.
        graph: As in `train_run`.

    Yields:
        The record of each job as soon as it is finished; `train_s` is its wall time beside the others.

    Raises:
        ArgumentError: As `train_run`.
    """
    if num_slots < 1:
        raise ArgumentError(f"number of slots is {num_slots}: allowed are 1 and above")
    recipe.check_rates()
    dataset.check_fits(space)
    check_device(recipe, dataset.device, graph)
    waiting = list(jobs)
    with arithmetic(recipe.precision):
        slots = [Slot(dataset.device) for _ in range(min(num_slots, len(jobs)))]
        benches = {slot: Workbench(space, recipe, dataset, graph, slot.stream) for slot in slots}
        archs: dict[Slot, str] = {}

        def start(slot: Slot) -> None:
            others = [arch for other, arch in archs.items() if other is not slot]
            job = take_next(waiting, archs.get(slot), others)
            archs[slot] = job.arch
            slot.start(_run_in_steps(space, job, recipe, dataset, benches[slot], slot.stream))

        for slot in slots:
            start(slot)
        while slots:
            if not advance_ready(slots):
                time.sleep(POLL_S)
            for slot in [slot for slot in slots if slot.record is not None]:
                yield slot.record  # type: ignore[misc]  # it is not None
                if waiting:
                    start(slot)
                else:
                    slots.remove(slot)
                    del benches[slot], archs[slot]  # the others get its memory


def _run_in_steps(
    space: Space,
    job: Job,
    recipe: Recipe,
    dataset: Dataset,
    bench: Workbench,
    stream: torch.cuda.Stream | None,
    on_epoch: OnEpoch | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_trained: OnTrained | None = None,
) -> Generator[None, None, RunRecord]:
    """A run that pauses after each step, and while the device has not finished an epoch; it returns its record."""
    started = time.perf_counter()
    device = dataset.device
    weights, batches = run_generators(space, job, device)
    loader, trainer, test_images = bench.begin(job.arch, weights)
    curves: dict[str, list[float]] = {name: [] for name in CURVE_METRICS}
    for epoch in range(recipe.epochs):
        for step in trainer.steps(epoch, [loader.plan(batches)]):
            if on_step is not None:
                on_step(step)
            yield
        means = torch.stack((*trainer.means(), *trainer.evaluate(test_images, dataset.test_labels)))
        yield from until_done(stream)
        # The one place of an epoch where the host waits for the device.
        values = dict(zip(CURVE_METRICS, means.tolist(), strict=True))
        for name, value in values.items():
            curves[name].append(value)
        if on_epoch is not None:
            on_epoch(epoch + 1, values)
        if not (math.isfinite(values["train_loss"]) and math.isfinite(values["test_loss"])):
            break  # NaN stays NaN; the record says so instead of an accuracy
    if on_trained is not None:
        on_trained(
            {
                name: tensor.detach().to("cpu", copy=True).contiguous()
                for name, tensor in trainer.model.state_dict().items()
            }
        )
    for values_so_far in curves.values():
        values_so_far.extend([math.nan] * (recipe.epochs - len(values_so_far)))
    return make_record(space, job, recipe, curves, time.perf_counter() - started, device, 1)


def train_stack(
    space: Space, jobs: Sequence[Job], recipe: Recipe, dataset: Dataset, *, graph: bool | None = None
) -> list[RunRecord]:
    """Train several networks of one space together, as one program (models/stacked.py).

    Each network gets the initial weights, the order and the augmentation that `train_run` would give it, so the first
    steps agree up to the order of floating-point sums; after some dozens of steps that difference has grown as chaotic
    systems let it, and results agree in distribution. A diverging network does not disturb the others.

    Args:
        space: The search space.
        jobs: The runs; architectures of similar widths waste the least.
        recipe: How to train.
        dataset: Images of the space's input shape.
        graph: As in `train_run`.

    Returns:
        A record per job, in order; `train_s` is the wall time divided by the number of jobs.

    Raises:
        ArchError: A job's arch is not an architecture of the space.
        ArgumentError: The data set does not fit the space, there are no jobs, a seed is negative, or the device cannot
            do what was asked.
    """
    recipe.check_rates()
    dataset.check_fits(space)
    if not jobs:
        raise ArgumentError("a stack needs at least one job")
    check_device(recipe, dataset.device, graph)
    with arithmetic(recipe.precision):
        return _train_stack(space, jobs, recipe, dataset, graph)


def _train_stack(
    space: Space, jobs: Sequence[Job], recipe: Recipe, dataset: Dataset, graph: bool | None
) -> list[RunRecord]:
    started = time.perf_counter()
    device = dataset.device
    generators = [run_generators(space, job, device) for job in jobs]
    model = StackedModel(space, [job.arch for job in jobs], [weights for weights, _ in generators])
    loader = TrainLoader(dataset.train_images, dataset.train_labels, recipe)
    trainer = Trainer(model, loader, num_nets=len(jobs), graph=graph)
    test_images = trainer.prepare(dataset.test_images)
    curves: dict[str, list[Tensor]] = {name: [] for name in CURVE_METRICS}
    for epoch in range(recipe.epochs):
        plans = [loader.plan(batches) for _, batches in generators]
        values = (*trainer.epoch(epoch, plans), *trainer.evaluate(test_images, dataset.test_labels))
        for name, value in zip(CURVE_METRICS, values, strict=True):
            curves[name].append(value)
    per_net = {name: torch.stack(values).T.tolist() for name, values in curves.items()}
    train_s = (time.perf_counter() - started) / len(jobs)
    records = []
    for number, job in enumerate(jobs):
        own = {name: values[number] for name, values in per_net.items()}
        records.append(make_record(space, job, recipe, own, train_s, device, len(jobs)))
    return records


def make_record(
    space: Space,
    job: Job,
    recipe: Recipe,
    curves: dict[str, list[float]],
    train_s: float,
    device: torch.device,
    stack: int,
    backend: str = "torch",
) -> RunRecord:
    """Record of a job that was trained to the end, or to its divergence."""
    return RunRecord.from_curves(
        curves,
        arch=job.arch,
        run=job.run,
        seed=job.seed,
        num_epochs=recipe.epochs,
        flops=space.flops(job.arch),
        params=space.params(job.arch),
        train_s=round(train_s, 4),
        device=device_name(device),
        torch=torch.__version__,
        stack=stack,
        backend=backend,
    )


def run_generators(space: Space, job: Job, device: torch.device) -> tuple[torch.Generator, torch.Generator]:
    """Independent generators of a run: for the weights (always CPU, so that devices agree); for order and augmentation.

    Raises:
        ArgumentError: The seed is negative.
    """
    if job.seed < 0:
        raise ArgumentError(f"seed {job.seed} is negative: allowed are 0 and above")
    weights, batches = np.random.SeedSequence([job.seed, space.index(job.arch)]).generate_state(2, np.uint64).tolist()
    return torch.Generator().manual_seed(weights), torch.Generator(device).manual_seed(batches)
