"""One run: train one architecture by a recipe and return its record with learning curves.

    >>> data = load_dataset("digits")
    >>> record = train_run(get_space("resnet-mini"), "4344424", get_recipe("mini"), seed=0, dataset=data)
    >>> record.best_test_acc  # percent

A run is a function of (space, architecture, recipe, seed, data set): every random draw comes from generators that
derive from the architecture and the seed, and the global ones are not touched. The same call gives the same record on
the same machine with the same number of threads; across machines results agree in distribution.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from channel_bench.datasets import Dataset, EpochPlan, TrainLoader, normalise
from channel_bench.errors import ArgumentError
from channel_bench.models import build_model
from channel_bench.models.stacked import StackedModel
from channel_bench.recipe import Recipe
from channel_bench.record import CURVE_METRICS, Job, RunRecord
from channel_bench.space import Space

EVAL_BATCH_SIZE = 2000
OnEpoch = Callable[[int, dict[str, float]], None]


def train_run(
    space: Space,
    arch: Any,
    recipe: Recipe,
    seed: int,
    dataset: Dataset,
    *,
    run: int = 0,
    on_epoch: OnEpoch | None = None,
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

    Returns:
        The record; status "diverged" where the loss became NaN or infinite.

    Raises:
        ArchError: arch is not an architecture of the space.
        ArgumentError: The data set does not fit the space, or seed is negative.
    """
    dataset.check_fits(space)
    text = space.text(arch)
    with exact_arithmetic():
        return _train_run(space, Job(text, run, seed), recipe, dataset, on_epoch)


def _train_run(space: Space, job: Job, recipe: Recipe, dataset: Dataset, on_epoch: OnEpoch | None) -> RunRecord:
    started = time.perf_counter()
    device = dataset.device
    weights, batches = run_generators(space, job, device)
    model = build_model(space, job.arch, weights).to(device)
    optimizer = _make_optimizer(model, recipe)
    loader = TrainLoader(dataset.train_images, dataset.train_labels, recipe)
    test_images = normalise(dataset.test_images, *loader.statistics)
    curves: dict[str, list[float]] = {name: [] for name in CURVE_METRICS}
    for epoch in range(recipe.epochs):
        train_loss, train_acc = _train_epoch(model, optimizer, loader, epoch, batches)
        test_loss, test_acc = evaluate(model, test_images, dataset.test_labels)
        values = dict(zip(CURVE_METRICS, (train_loss, train_acc, test_loss, test_acc), strict=True))
        for name, value in values.items():
            curves[name].append(value)
        if on_epoch is not None:
            on_epoch(epoch + 1, values)
        if not (math.isfinite(train_loss) and math.isfinite(test_loss)):
            break  # NaN stays NaN; the record says so instead of an accuracy
    for values_so_far in curves.values():
        values_so_far.extend([math.nan] * (recipe.epochs - len(values_so_far)))
    return make_record(space, job, recipe, curves, time.perf_counter() - started, device, 1)


def train_stack(space: Space, jobs: Sequence[Job], recipe: Recipe, dataset: Dataset) -> list[RunRecord]:
    """Train several networks of one space together, as one program (models/stacked.py).

    Each network gets the initial weights, the order and the augmentation that `train_run` would give it, so the first
    steps agree up to the order of floating-point sums; after some dozens of steps that difference has grown as chaotic
    systems let it, and results agree in distribution. A diverging network does not disturb the others.

    Args:
        space: The search space.
        jobs: The runs; architectures of similar widths waste the least.
        recipe: How to train.
        dataset: Images of the space's input shape.

    Returns:
        A record per job, in order; `train_s` is the wall time divided by the number of jobs.

    Raises:
        ArchError: A job's arch is not an architecture of the space.
        ArgumentError: The data set does not fit the space, there are no jobs, or a seed is negative.
    """
    dataset.check_fits(space)
    if not jobs:
        raise ArgumentError("a stack needs at least one job")
    with exact_arithmetic():
        return _train_stack(space, jobs, recipe, dataset)


def _train_stack(space: Space, jobs: Sequence[Job], recipe: Recipe, dataset: Dataset) -> list[RunRecord]:
    started = time.perf_counter()
    device = dataset.device
    generators = [run_generators(space, job, device) for job in jobs]
    model = StackedModel(space, [job.arch for job in jobs], [weights for weights, _ in generators]).to(device)
    optimizer = _make_optimizer(model, recipe)
    loader = TrainLoader(dataset.train_images, dataset.train_labels, recipe)
    test_images = normalise(dataset.test_images, *loader.statistics)
    curves: dict[str, list[Tensor]] = {name: [] for name in CURVE_METRICS}
    for epoch in range(recipe.epochs):
        plans = [loader.plan(batches) for _, batches in generators]
        values = (
            *_train_stack_epoch(model, optimizer, loader, epoch, plans),
            *_evaluate_stack(model, test_images, dataset.test_labels),
        )
        for name, value in zip(CURVE_METRICS, values, strict=True):
            curves[name].append(value)
    per_net = {name: torch.stack(values).double().cpu().T.tolist() for name, values in curves.items()}
    train_s = (time.perf_counter() - started) / len(jobs)
    records = []
    for number, job in enumerate(jobs):
        own = {name: values[number] for name, values in per_net.items()}
        records.append(make_record(space, job, recipe, own, train_s, device, len(jobs)))
    return records


BACKENDS = ("auto", "native", "torch")


def pick_backend(space: Space, recipe: Recipe, dataset: Dataset, backend: str = "auto") -> tuple[str, str | None]:
    """Which program trains: the native trainer (native/) for the mini spaces where it can, else PyTorch.

    Args:
        space: The search space.
        recipe: How to train.
        dataset: What on, and on which device.
        backend: One of BACKENDS.

    Returns:
        "native" or "torch"; and for "auto", why the native trainer is not used where it would be the faster one.

    Raises:
        ArgumentError: There is no such backend, or it cannot train this.
    """
    if backend not in BACKENDS:
        raise ArgumentError(f"backend is {backend!r}: allowed are {', '.join(BACKENDS)}")
    if backend == "torch" or (backend == "auto" and not (space.is_mini and dataset.device.type == "cpu")):
        return "torch", None
    from channel_bench.native import reason_not

    reason = reason_not(space, recipe, dataset)
    if reason is not None and backend == "native":
        raise ArgumentError(f"backend 'native' cannot train this: {reason}")
    return ("native" if reason is None else "torch"), reason


def train_jobs(
    space: Space, jobs: Sequence[Job], recipe: Recipe, dataset: Dataset, *, backend: str = "auto"
) -> list[RunRecord]:
    """Train the runs that an engine hands out together, by the backend that `pick_backend` picks.

    PyTorch trains one job alone and several as a stack; the native trainer one after the other.

    Returns, raises: As `train_stack`.
    """
    if pick_backend(space, recipe, dataset, backend)[0] == "native":
        from channel_bench.native import train_native

        return train_native(space, jobs, recipe, dataset)
    if len(jobs) == 1:
        (job,) = jobs
        return [train_run(space, job.arch, recipe, job.seed, dataset, run=job.run)]
    return train_stack(space, jobs, recipe, dataset)


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """On a GPU: convolutions in true fp32, as the published table was trained, and by algorithms that repeat.

    PyTorch lets cuDNN round the inputs of fp32 convolutions to TF32 unless it is told otherwise.
    """
    if not torch.cuda.is_available():
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def _make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


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


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: TrainLoader,
    epoch: int,
    generator: torch.Generator,
) -> tuple[float, float]:
    """One pass over the training images; mean loss in nats and accuracy in percent on the batches as they came."""
    model.train()
    num_images, device = len(loader.labels), loader.labels.device
    # Sums stay on the device and are read once per epoch: reading a batch's loss would wait for the GPU at every step.
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    num_correct = torch.zeros((), dtype=torch.int64, device=device)
    for elapsed, batch, targets in loader.epoch(generator):
        for group in optimizer.param_groups:
            group["lr"] = loader.recipe.lr_at(epoch + elapsed)
        logits = model(batch)
        loss = functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(targets)
        num_correct += (logits.detach().argmax(1) == targets).sum()
    return (loss_sum / num_images).item(), 100 * num_correct.item() / num_images


def _train_stack_epoch(
    model: StackedModel,
    optimizer: torch.optim.Optimizer,
    loader: TrainLoader,
    epoch: int,
    plans: Sequence[EpochPlan],
) -> tuple[Tensor, Tensor]:
    """As `_train_epoch` for S networks, each on its own plan; loss and accuracy are tensors (S,) on the device."""
    model.train()
    num_images, device = len(loader.labels), loader.labels.device
    loss_sum = torch.zeros(len(plans), dtype=torch.float64, device=device)
    num_correct = torch.zeros(len(plans), dtype=torch.int64, device=device)
    order, rows, columns, mirrored = (
        # (num_images, S): images of a batch first, as the model wants them
        torch.stack([getattr(plan, name) for plan in plans], 1)
        for name in ("order", "rows", "columns", "mirrored")
    )
    for start in range(0, num_images, loader.recipe.batch_size):
        for group in optimizer.param_groups:
            group["lr"] = loader.recipe.lr_at(epoch + start / num_images)
        part = slice(start, start + loader.recipe.batch_size)
        crops = loader.crops(order[part], rows[part], columns[part], mirrored[part])
        targets = loader.labels[order[part]]
        logits = model(normalise(crops, *(statistic[None] for statistic in loader.statistics)))
        losses = functional.cross_entropy(logits.movedim(2, 1), targets, reduction="none")
        optimizer.zero_grad()
        # The mean over a network's batch, summed over networks: no network's gradient knows of the others.
        losses.mean(0).sum().backward()
        optimizer.step()
        loss_sum += losses.detach().sum(0)
        num_correct += (logits.detach().argmax(2) == targets).sum(0)
    return loss_sum / num_images, 100 * num_correct.double() / num_images


@torch.no_grad()
def _evaluate_stack(model: StackedModel, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """As `evaluate` for S networks on the same images; loss and accuracy are tensors (S,) on the device."""
    model.eval()
    loss_sum = torch.zeros(model.num_nets, dtype=torch.float64, device=images.device)
    num_correct = torch.zeros(model.num_nets, dtype=torch.int64, device=images.device)
    size = max(1, EVAL_BATCH_SIZE // model.num_nets)
    for some_images, some_labels in zip(images.split(size), labels.split(size), strict=True):
        logits = model(some_images[:, None].expand(-1, model.num_nets, -1, -1, -1))
        targets = some_labels[:, None].expand(-1, model.num_nets)
        loss_sum += functional.cross_entropy(logits.movedim(2, 1), targets, reduction="none").sum(0)
        num_correct += (logits.argmax(2) == targets).sum(0)
    return loss_sum / len(labels), 100 * num_correct.double() / len(labels)


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Loss and accuracy with the running statistics of batch normalisation.

    Args:
        model: The network.
        images: Normalised float (num_images, channels, height, width).
        labels: int64 (num_images,).

    Returns:
        Mean cross-entropy in nats, accuracy in percent.
    """
    model.eval()
    loss_sum = torch.zeros((), dtype=torch.float64, device=images.device)
    num_correct = torch.zeros((), dtype=torch.int64, device=images.device)
    for some_images, some_labels in zip(images.split(EVAL_BATCH_SIZE), labels.split(EVAL_BATCH_SIZE), strict=True):
        logits = model(some_images)
        loss_sum += functional.cross_entropy(logits, some_labels, reduction="sum")
        num_correct += (logits.argmax(1) == some_labels).sum()
    return loss_sum.item() / len(labels), 100 * num_correct.item() / len(labels)


def pick_device(name: str = "auto") -> torch.device:
    """Device of a name: "auto" is the first GPU where there is one, else the CPU.

    Raises:
        ArgumentError: The name is no device, or none that is here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(f"device {name!r} cannot be used here ({reason}): try 'cpu', 'cuda' or 'auto'") from None
    return device


def device_name(device: torch.device) -> str:
    """The name that records carry: the GPU's own ("NVIDIA H200"), or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
