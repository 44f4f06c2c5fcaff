"""The loop that trains a supernet: order, augmentation, schedule and optimiser are the same for every method.

A method supplies one function, the step: it runs sub-networks on a batch, calls ``backward()`` on their losses, and
returns the loss to show. So two methods differ in what they sample and in their losses, and in nothing else.

    >>> supernet = make_supernet(task)
    >>> def step(batch):
    ...     loss = functional.cross_entropy(supernet(batch.images, random_arch(batch.rng)), batch.labels)
    ...     loss.backward()
    ...     return loss.detach()
    >>> cost = train_supernet(task, supernet, step)

Everything random in a step is a function of the seed and of the step's number, never of what was drawn before. So a
checkpoint is weights and optimiser state at the end of an epoch, and a training that was killed ends in the same bits
as one that was not, on the same device.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from channel_bench.errors import MethodError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from channel_bench.support.durable import write_atomic
from channel_bench.training.datasets import TrainLoader
from channel_bench.training.optimizers import SGD
from harness.supernet.loss_records import LossRecords
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
    """What a step gets: a batch of training images, and where in the training it is.

    Attributes:
        number: Number of the step, from 0, over all epochs.
        epoch: Number of the epoch, from 0.
        progress: Share of the training that is over, in [0, 1).
        images: float32 (batch, channels, height, width), augmented and normalised, on the task's device. The last batch
            of an epoch may be smaller.
        labels: int64 (batch,), on the task's device.
        rng: NumPy generator of this step alone, made from the task's seed and the step's number; draw everything random
            of the step from it (``random_arch(batch.rng)``).
        records: Where `record` keeps what it is told.
    """

    number: int
    epoch: int
    progress: float
    images: Tensor
    labels: Tensor
    rng: np.random.Generator
    records: LossRecords = field(default_factory=LossRecords)

    def record(self, arch: Sequence[int], loss: Tensor) -> None:
        """Keep the training loss of an architecture, which the search of BCNet can start from (``initial=prior``).

        Record the architectures that the step drew at random, each with its loss on the labels, so that losses can be
        compared. What every step trains, such as the widest network, would crowd out the others.

        Args:
            arch: Seven digits 1..4.
            loss: A scalar without gradient (``loss.detach()``); it is not read before the end of the epoch, so that a
                GPU is not waited for.
        """
        self.records.add(arch, loss)


StepFunction = Callable[[Batch], Tensor]
"""Takes a batch, adds gradients to the parameters, returns the loss to show: a scalar tensor without gradient."""


class Stateful(Protocol):
    """What a checkpoint can hold: modules, optimisers, or an object of a method's own."""

    def state_dict(self) -> Any:
        """Everything that a checkpoint must keep."""
        ...

    def load_state_dict(self, state: Any, /) -> Any:
        """Restore what `state_dict` returned."""
        ...


def make_supernet(task: Task, num_groups: int = 4, norm_per_width: bool = False) -> Supernet:
    """Make a supernet of the task's space, on its device, with initial weights from its seed.

    Args:
        task: Gives space, seed, device and precision.
        num_groups: Groups of channels per slot, >= 4. Each group has a quarter of the slot's maximum of channels, and a
            sub-network of digit c uses c groups; more than 4 (BCNetV2 has 5) make the layers wider than the maximum.
        norm_per_width: Whether batch normalisation has a scale and shift for every width of a slot (as in TAS), or one
            that all widths share.

    Returns:
        A module; ``supernet(images, arch)`` runs a sub-network (`Supernet.forward`).

    Raises:
        ArgumentError: num_groups is below 4.
    """
    supernet = Supernet(task.space, task.generator(WEIGHTS), num_groups, norm_per_width, task.recipe.precision)
    return supernet.to(task.device)


def random_arch(rng: np.random.Generator, narrowest: int = 1) -> tuple[int, ...]:
    """Draw an architecture: seven digits, each uniform in narrowest..4.

    Args:
        rng: In a step ``batch.rng``, elsewhere ``task.rng(...)``.
        narrowest: Smallest digit, 1..4.
    """
    return tuple(rng.integers(narrowest, NUM_WIDTHS + 1, NUM_SLOTS).tolist())


def train_supernet(
    task: Task,
    supernet: Supernet,
    step: StepFunction,
    *,
    also: Mapping[str, Stateful] | None = None,
    images: tuple[Tensor, Tensor] | None = None,
) -> dict[str, Any]:
    """Train a supernet by the task's recipe with SGD; continue from the task's checkpoint if it has one.

    Args:
        task: Gives images, recipe, seed, the callback after each epoch, and the folder of checkpoints.
        supernet: Trained in place.
        step: Called once per batch with a `Batch`. Gradients are cleared before and the optimiser's step is taken
            after, so it calls ``backward()`` as often as it likes: gradients add up. Returns the loss to show, a scalar
            tensor without gradient (``loss.detach()``).
        also: What else a checkpoint must hold, by name: other modules, optimisers, or objects with ``state_dict`` and
            ``load_state_dict``. Without it, what a step changes besides the supernet is lost when a ranking is killed.
        images: uint8 (n, channels, height, width) and int64 (n,) to train on; default all training images of the task.

    Returns:
        What the training cost, for the ``facts`` of the evaluator: ``train_macs``, multiply-accumulates of forward and
        backward passes (three times those of the forward passes), and ``train_s``, seconds, those before an
        interruption included.

    Raises:
        MethodError: The step returns no scalar tensor or adds no gradients, the loss became NaN or infinite, or the
            checkpoint cannot be read.
    """
    recipe = task.recipe
    optimizer = SGD(supernet.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    records = supernet.loss_records
    parts: dict[str, Stateful] = {
        "supernet": supernet,
        "optimizer": optimizer,
        "loss_records": records,
        **(also or {}),
    }
    loader = TrainLoader(*(images or (task.train_images, task.train_labels)), recipe)
    path = None if task.checkpoints is None else task.checkpoints / "supernet.pt"
    first, earlier_s = _resume(path, parts, supernet, task)
    started = saved = time.perf_counter()
    cost = FIRST_CHECKPOINT_S
    for epoch in range(first, recipe.epochs):
        mean = _train_epoch(task, supernet, step, optimizer, loader, epoch, is_first=epoch == first)
        records.end_epoch()
        if not np.isfinite(mean):
            raise MethodError(
                f"the supernet's loss became {mean} in epoch {epoch + 1} of {recipe.epochs}: lower its lr"
            )
        supernet.epoch_losses.append(mean)
        now = time.perf_counter()
        if path is not None and (now - saved > cost / CHECKPOINT_SHARE or epoch + 1 == recipe.epochs):
            _save(path, parts, epoch + 1, supernet, earlier_s + now - started)
            saved = time.perf_counter()
            cost = saved - now
        if task.on_epoch is not None:
            task.on_epoch(epoch + 1, recipe.epochs, f"loss {mean:.3f}")
        if task.on_losses is not None:
            task.on_losses(supernet.epoch_losses)
    return {
        "train_macs": 3 * supernet.forward_macs,
        "train_s": round(earlier_s + time.perf_counter() - started, 2),
    }


def _train_epoch(
    task: Task,
    supernet: Supernet,
    step: StepFunction,
    optimizer: torch.optim.Optimizer,
    loader: TrainLoader,
    epoch: int,
    is_first: bool,
) -> float:
    """One epoch, and the mean over images of the losses that its steps returned; the first one's step is checked."""
    recipe = task.recipe
    begin = epoch * -(-len(loader.labels) // recipe.batch_size)
    loss_sum = torch.zeros((), device=task.device)
    batches = loader.epoch(task.generator(BATCHES, epoch, device=task.device))
    for number, (elapsed, images, labels) in enumerate(batches, begin):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at(epoch + elapsed)
        optimizer.zero_grad()
        progress = (epoch + elapsed) / recipe.epochs
        batch = Batch(number, epoch, progress, images, labels, task.rng(WIDTHS, number), supernet.loss_records)
        loss = step(batch)
        if is_first and number == begin:
            _check_step(loss, supernet)
        loss_sum += loss * len(labels)
        optimizer.step()
    return (loss_sum / len(loader.labels)).item()


def _check_step(loss: Any, supernet: Supernet) -> None:
    """Refuse what a step cannot mean, at the first one."""
    if not isinstance(loss, Tensor) or loss.ndim:
        kind = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise MethodError(f"step(batch) returned {kind}: return the loss to show, a scalar: loss.detach()")
    if all(parameter.grad is None for parameter in supernet.parameters()):
        raise MethodError("step(batch) added no gradients to the supernet: call loss.backward() before it returns")


def _save(path: Path, parts: Mapping[str, Stateful], epoch: int, supernet: Supernet, seconds: float) -> None:
    buffer = io.BytesIO()
    content = {
        "epoch": epoch,
        "forward_macs": supernet.forward_macs,
        "epoch_losses": supernet.epoch_losses,
        "train_s": seconds,
        "states": {name: part.state_dict() for name, part in parts.items()},
    }
    torch.save(content, buffer)
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
        supernet.epoch_losses = list(kept["epoch_losses"])
        epoch, seconds = int(kept["epoch"]), float(kept["train_s"])
    except Exception as error:  # torch.load fails in many ways on a file that is not its own
        reason = " ".join(str(error).split())[:120]
        raise MethodError(f"checkpoint {str(path)!r} cannot be used ({reason}): delete it to start anew") from None
    if task.on_epoch is not None:
        for number in range(epoch):
            task.on_epoch(number + 1, task.recipe.epochs, "from the checkpoint")
    if task.on_losses is not None:
        task.on_losses(supernet.epoch_losses)
    return epoch, seconds
