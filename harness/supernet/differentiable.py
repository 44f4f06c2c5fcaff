"""What methods with a learned distribution over widths share: halves of the data, two optimisers, temperatures, costs.

A row of logits per slot, beta (7, 4), says how likely each width is. In turn, beta takes a step on a batch of the first
half of the training images, and the weights one on a batch of the second half (Dong and Yang, 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from channel_bench.errors import ArgumentError, MethodError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from channel_bench.space.cost import layer_flops
from channel_bench.space.layers import IMAGE
from channel_bench.training.datasets import EpochPlan, TrainLoader, normalise
from channel_bench.training.optimizers import Adam
from harness.supernet.network import Supernet
from harness.supernet.training import Batch, train_supernet
from harness.task import Task

BETA, ARCH_BATCHES = 10, 11
"""Streams of the task's seed."""
TAU_SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    "linear": lambda progress: 1 - progress,
}
"""Share of the way from the last temperature to the first that is left."""

Forward = Callable[[Tensor, Tensor, float, np.random.Generator], Tensor]
"""(images, log-probabilities (7, 4), progress, this step's generator) to logits."""
Penalty = Callable[[], Tensor]
"""What is added to the loss of the distribution, a scalar on the CPU that carries gradients."""


class Betas(nn.Module):
    """Logits of the distribution over the widths of each slot, on the CPU, where the sampling is.

    Args:
        task: Its seed draws the initial values.
        std: Their standard deviation.
    """

    def __init__(self, task: Task, std: float) -> None:
        """Draw the logits."""
        super().__init__()
        self.logits = nn.Parameter(std * torch.randn(NUM_SLOTS, NUM_WIDTHS, generator=task.generator(BETA)))

    def log_probs(self) -> Tensor:
        """Log-probabilities (7, 4)."""
        return functional.log_softmax(self.logits, 1)

    def expected_ratios(self) -> Tensor:
        """Expected width of each slot as a share of its maximum, (7,)."""
        return functional.softmax(self.logits, 1) @ (torch.arange(1.0, NUM_WIDTHS + 1) / NUM_WIDTHS)

    def likeliest(self) -> tuple[int, ...]:
        """The likeliest digit of each slot."""
        return tuple((self.logits.argmax(1) + 1).tolist())


def temperature(first: float, last: float, schedule: str, progress: float) -> float:
    """Temperature of the Gumbel softmax at a share of the training."""
    return last + (first - last) * TAU_SCHEDULES[schedule](progress)


def check_temperatures(first: float, last: float, schedule: str) -> None:
    """Refuse temperatures or a schedule that are out of range.

    Raises:
        ArgumentError: They are.
    """
    if not 0 < last <= first < math.inf:
        raise ArgumentError(f"temperatures are {first} and {last}: allowed are 0 < tau_min <= tau_max")
    if schedule not in TAU_SCHEDULES:
        raise ArgumentError(f"tau_schedule is {schedule!r}: allowed are {', '.join(TAU_SCHEDULES)}")


def gumbel(log_probs: Tensor, tau: float, rng: np.random.Generator) -> Tensor:
    """Perturbed and scaled log-probabilities, (7, 4): their softmax is a Gumbel softmax sample (Jang et al., 2017)."""
    return (log_probs + torch.from_numpy(rng.gumbel(size=tuple(log_probs.shape))).to(log_probs)) / tau


def search_widths(
    task: Task,
    supernet: Supernet,
    betas: Betas,
    forward: Forward,
    *,
    arch_lr: float,
    arch_weight_decay: float = 1e-3,
    penalty: Penalty | None = None,
    frozen_until: float = 0.0,
) -> dict[str, Any]:
    """Train weights and distribution in turn.

    Args:
        task: Images, recipe, seed, progress, checkpoints.
        supernet: Changed in place.
        betas: Changed in place, by Adam with betas (0.5, 0.999).
        forward: Samples from the distribution and runs the supernet.
        arch_lr: Learning rate of the distribution.
        arch_weight_decay: Its weight decay.
        penalty: Added to the loss of the distribution.
        frozen_until: Share of the training before which the distribution stays as it is.

    Returns:
        What it cost (`train_supernet`), and the distribution that came out: ``probabilities`` (7 x 4), ``likeliest``.

    Raises:
        MethodError: The distribution or the loss became NaN or infinite.
    """
    half = len(task.train_labels) // 2
    own, other = ((task.train_images[part], task.train_labels[part]) for part in (slice(half, None), slice(None, half)))
    arch_batches = _ArchBatches(task, TrainLoader(*other, task.recipe))
    adam = Adam(betas.parameters(), arch_lr, betas=(0.5, 0.999), weight_decay=arch_weight_decay)

    def move_distribution(batch: Batch) -> None:
        images, labels = arch_batches.batch(batch.number)
        loss = functional.cross_entropy(forward(images, betas.log_probs(), batch.progress, batch.rng), labels).cpu()
        if penalty is not None:
            loss = loss + penalty()
        # Gradients of the distribution alone: this half of the images never trains the weights.
        (betas.logits.grad,) = torch.autograd.grad(loss, [betas.logits])
        adam.step()
        if not torch.isfinite(betas.logits).all():
            raise MethodError(
                f"the distribution over widths became nan or infinite in step {batch.number + 1}: lower arch_lr or the"
                " recipe's lr"
            )

    def step(batch: Batch) -> Tensor:
        # The weights' own step comes after this function. So the distribution moves first: each then answers to the
        # other's latest step.
        if batch.progress >= frozen_until:
            move_distribution(batch)
        logits = forward(batch.images, betas.log_probs().detach(), batch.progress, batch.rng)
        loss = functional.cross_entropy(logits, batch.labels)
        loss.backward()
        return loss.detach()

    cost = train_supernet(task, supernet, step, also={"betas": betas, "adam": adam}, images=own)
    probabilities = betas.log_probs().exp().detach()
    return cost | {
        "probabilities": [[round(value, 4) for value in row] for row in probabilities.tolist()],
        "likeliest": "".join(map(str, betas.likeliest())),
    }


class _ArchBatches:
    """Batches of the second half, as a function of the step's number."""

    def __init__(self, task: Task, loader: TrainLoader) -> None:
        self._task, self._loader = task, loader
        self._num_batches = -(-len(loader.labels) // loader.recipe.batch_size)
        self._plan: tuple[int, EpochPlan] | None = None

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Normalised images and labels of a step."""
        epoch, place = divmod(number, self._num_batches)
        if self._plan is None or self._plan[0] != epoch:
            generator = self._task.generator(ARCH_BATCHES, epoch, device=self._task.device)
            self._plan = epoch, self._loader.plan(generator)
        plan, size = self._plan[1], self._loader.recipe.batch_size
        part = slice(place * size, (place + 1) * size)
        crops = self._loader.crops(plan.order[part], plan.rows[part], plan.columns[part], plan.mirrored[part])
        return normalise(crops, *self._loader.statistics), self._loader.labels[plan.order[part]]


def expected_macs(supernet: Supernet, ratios: Tensor) -> Tensor:
    """Multiply-accumulates of a network of these (real) widths, differentiable.

    Exact for the widths of an architecture, because the count is a product of the two widths that a layer joins.

    Args:
        supernet: Gives layers and space.
        ratios: (7,), widths as shares of the maxima.
    """
    space = supernet.space
    channels = ratios * torch.tensor(space.max_channels, dtype=ratios.dtype)
    total = channels[supernet.feature_slot] * space.num_classes
    for layer in supernet.layers:
        inputs = space.input_shape[0] if layer.reads == IMAGE else channels[layer.reads]
        total = total + layer_flops(layer, inputs, channels[layer.writes])
    return total
