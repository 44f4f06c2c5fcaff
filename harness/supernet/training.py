"""The loop that trains a supernet: order, augmentation, schedule and optimiser are the same for every method.

A method supplies one function, which runs its sub-networks on a batch, adds up their gradients, and returns the loss to
show. So two methods differ in what they sample and in their losses, and in nothing else.

All that is random in a step is a function of the seed and of the step's number, never of what was drawn before. So a
checkpoint is weights and optimiser state at the end of an epoch, and a training that was killed ends in the same bits
as one that was not, on the same device.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from channel_bench.errors import MethodError
from channel_bench.support.durable import write_atomic
from channel_bench.training.datasets import TrainLoader
from harness.supernet.network import Supernet
from harness.task import Task

# Streams of the task's seed; a method's own start at 10.
WEIGHTS, BATCHES, WIDTHS = range(3)

CHECKPOINT_SHARE = 0.05
"""Share of the time that checkpoints may take. They are written at the end of an epoch, where the last one lies so far
back that writing another keeps to it. What lies behind the last one is lost when a ranking is killed."""
FIRST_CHECKPOINT_S = 0.1
"""What the first one is taken to cost."""


@dataclass(frozen=True)
class Batch:
    """What a step gets."""

    number: int
    """Number of the step, from 0."""
    epoch: int
    """Number of the epoch, from 0."""
    progress: float
    """Share of the training that is over, in [0, 1)."""
    images: Tensor
    """Normalised float32 (batch, channels, height, width)."""
    labels: Tensor
    """int64 (batch,)."""
    rng: np.random.Generator
    """Of this step alone."""


StepFunction = Callable[[Batch], Tensor]
"""Takes a batch, adds gradients to the parameters, returns the loss to show, a detached scalar."""


class Stateful(Protocol):
    """What a checkpoint can hold: modules, optimisers, or an object of a method's own."""

    def state_dict(self) -> Any:
        """All that has to be kept."""
        ...

    def load_state_dict(self, state: Any, /) -> Any:
        """Become what `state_dict` kept."""
        ...


def make_supernet(task: Task, num_groups: int = 4, norm_per_width: bool = False) -> Supernet:
    """A supernet of the task's space on its device, with weights from its seed."""
    return Supernet(task.space, task.generator(WEIGHTS), num_groups, norm_per_width).to(task.device)


def random_arch(rng: np.random.Generator) -> tuple[int, ...]:
    """Seven digits, each uniform in 1..4."""
    return tuple(rng.integers(1, 5, 7).tolist())


def train_supernet(
    task: Task,
    supernet: Supernet,
    step: StepFunction,
    *,
    also: Mapping[str, Stateful] | None = None,
    images: tuple[Tensor, Tensor] | None = None,
) -> dict[str, Any]:
    """Train a supernet by the task's recipe, from the task's checkpoint where there is one.

    Args:
        task: Images, recipe, seed, progress, folder of checkpoints.
        supernet: Changed in place.
        step: Called once per batch, between clearing the gradients and the optimiser's step.
        also: What else a checkpoint must hold, by name.
        images: uint8 images and labels to train on; default all of the task's training images.

    Returns:
        What it cost: ``train_macs``, multiply-accumulates of forward and backward passes (three times forward), and
        ``train_s``, seconds of training, those before an interruption included.

    Raises:
        MethodError: The loss became NaN or infinite; a ranking by such weights would be noise.
    """
    recipe = task.recipe
    optimizer = torch.optim.SGD(
        supernet.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    parts: dict[str, Stateful] = {"supernet": supernet, "optimizer": optimizer, **(also or {})}
    loader = TrainLoader(*(images or (task.train_images, task.train_labels)), recipe)
    num_steps = -(-len(loader.labels) // recipe.batch_size)
    path = None if task.checkpoints is None else task.checkpoints / "supernet.pt"
    first, earlier_s = _resume(path, parts, supernet, task)
    started = saved = time.perf_counter()
    cost = FIRST_CHECKPOINT_S
    for epoch in range(first, recipe.epochs):
        loss_sum = torch.zeros((), device=task.device)
        batches = loader.epoch(task.generator(BATCHES, epoch, device=task.device))
        for number, (elapsed, pixels, labels) in enumerate(batches, epoch * num_steps):
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr_at(epoch + elapsed)
            optimizer.zero_grad()
            progress = (epoch + elapsed) / recipe.epochs
            loss_sum += step(Batch(number, epoch, progress, pixels, labels, task.rng(WIDTHS, number))) * len(labels)
            optimizer.step()
        loss = (loss_sum / len(loader.labels)).item()
        if not np.isfinite(loss):
            raise MethodError(
                f"the supernet's loss became {loss} in epoch {epoch + 1} of {recipe.epochs}: lower its lr"
            )
        now = time.perf_counter()
        if path is not None and (now - saved > cost / CHECKPOINT_SHARE or epoch + 1 == recipe.epochs):
            _save(path, parts, epoch + 1, supernet.forward_macs, earlier_s + now - started)
            saved = time.perf_counter()
            cost = saved - now
        if task.on_epoch is not None:
            task.on_epoch(epoch + 1, recipe.epochs, f"loss {loss:.3f}")
    return {
        "train_macs": 3 * supernet.forward_macs,
        "train_s": round(earlier_s + time.perf_counter() - started, 2),
    }


def _save(path: Path, parts: Mapping[str, Stateful], epoch: int, forward_macs: int, seconds: float) -> None:
    buffer = io.BytesIO()
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"epoch": epoch, "forward_macs": forward_macs, "train_s": seconds, "states": states}, buffer)
    write_atomic((path, buffer.getvalue()))


def _resume(path: Path | None, parts: Mapping[str, Stateful], supernet: Supernet, task: Task) -> tuple[int, float]:
    """Load a checkpoint where there is one; number of epochs and seconds that lie behind it."""
    if path is None or not path.exists():
        return 0, 0.0
    try:
        # On the CPU: each part moves what it loads to where its parameters are, and Adam wants its step count here.
        kept = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(kept["states"][name])
        supernet.forward_macs = kept["forward_macs"]
        epoch, seconds = int(kept["epoch"]), float(kept["train_s"])
    except Exception as error:  # torch.load fails in many ways on a file that is not its own
        reason = " ".join(str(error).split())[:120]
        raise MethodError(f"checkpoint {str(path)!r} cannot be used ({reason}): delete it to start anew") from None
    if task.on_epoch is not None:
        for number in range(epoch):
            task.on_epoch(number + 1, task.recipe.epochs, "from the checkpoint")
    return epoch, seconds
