"""The loop that trains a supernet: order, augmentation, schedule and optimiser are the same for every method.

A method supplies one function, which runs its sub-networks on a batch, adds up their gradients, and returns the loss to
show. So two methods differ in what they sample and in their losses, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from channel_bench.errors import MethodError
from harness.supernet import Supernet
from harness.task import Task

# Streams of the task's seed.
WEIGHTS, BATCHES, WIDTHS = range(3)

StepFunction = Callable[[Tensor, Tensor], Tensor]
"""(images, labels) of a batch to the loss to show, a detached scalar; gradients are added to the parameters."""


def make_supernet(task: Task, num_groups: int = 4) -> Supernet:
    """A supernet of the task's space on its device, with weights from its seed."""
    return Supernet(task.space, task.generator(WEIGHTS), num_groups).to(task.device)


def train_supernet(task: Task, supernet: Supernet, step: StepFunction) -> None:
    """Train a supernet by the task's recipe.

    Args:
        task: Images, recipe, seed, progress.
        supernet: Changed in place.
        step: Called once per batch, between clearing the gradients and the optimiser's step.

    Raises:
        MethodError: The loss became NaN or infinite; a ranking by such weights would be noise.
    """
    recipe = task.recipe
    optimizer = torch.optim.SGD(
        supernet.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    loader, generator = task.train_loader(), task.generator(BATCHES, task.device)
    for epoch in range(recipe.epochs):
        loss_sum = torch.zeros((), device=task.device)
        for elapsed, images, labels in loader.epoch(generator):
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr_at(epoch + elapsed)
            optimizer.zero_grad()
            loss_sum += step(images, labels) * len(labels)
            optimizer.step()
        loss = (loss_sum / len(task.train_labels)).item()
        if not torch.isfinite(loss_sum):
            raise MethodError(
                f"the supernet's loss became {loss} in epoch {epoch + 1} of {recipe.epochs}: lower its lr"
            )
        if task.on_epoch is not None:
            task.on_epoch(epoch + 1, recipe.epochs, f"loss {loss:.3f}")
