"""A network of any channels that is trained with spatial dropout, and probed by it: how network adjustment looks.

    >>> task = prepare_task(TaskOptions(space="resnet-mini", seed=3))
    >>> prober = DropoutProbe(task, get_recipe("mini"))
    >>> probed = prober.probe(2, (4, 5, 3, 8, 8, 7, 9), measure="loss", fur=True)

Numbers of the paper and its public code (Chen et al., CVPR 2020): the probability of dropout grows with the epoch and
the depth up to .05, batch normalisation uses its running statistics while probing, and each probe is repeated five
times. As in `harness.methods.fur`, all tensors of a slot lose the same channels, as they would by narrowing it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from channel_bench.errors import ExperimentError
from channel_bench.recipe import Recipe
from channel_bench.space import NUM_SLOTS, FloatArray, Space
from channel_bench.training.datasets import TrainLoader, normalise
from channel_bench.training.models import build_model
from channel_bench.training.step import arithmetic, make_optimizer
from harness.experiments.adjusting import Channels, Probed, slot_flops
from harness.task import Task

P_MAX, P_PROBE, REPEATS = 0.05, 0.05, 5
MAX_DROPOUT = 0.9
WEIGHTS, ORDER, TRAIN_MASKS, PROBE_MASKS = range(20, 24)
"""Streams of the task's seed."""


class DropoutNetwork:
    """A network of which every slot can lose channels at random.

    Args:
        space: Gives the skeleton.
        channels: Of the seven slots.
        generator: Of the initial weights.
        device: Where it is.
    """

    def __init__(self, space: Space, channels: Channels, generator: torch.Generator, device: torch.device) -> None:
        """Build it, with a hook behind every normalisation."""
        self.model = build_model(space.with_channels(channels), "1" * NUM_SLOTS, generator).to(device)
        self._masks: list[Tensor | None] = [None] * NUM_SLOTS
        depthwise = {layer.reads for layer in space.layers if layer.depthwise}
        for layer in space.layers[:-1]:
            # Channels that a depthwise layer keeps apart are dropped after it: once, before they are mixed.
            if layer.depthwise or layer.writes not in depthwise:
                hook = functools.partial(self._drop, layer.writes)
                self.model.get_submodule(layer.norm).register_forward_hook(hook)
        self._channels = channels

    def run(self, images: Tensor, rates: FloatArray, generator: torch.Generator) -> Tensor:
        """Logits under dropout.

        Args:
            images: Normalised float (batch, channels, height, width).
            rates: Probability of each slot, (7,).
            generator: Draws a mask per image and slot, on the device of the images.
        """
        for slot, rate in enumerate(rates.tolist()):
            self._masks[slot] = None
            if rate > 0:
                drawn = torch.rand((len(images), self._channels[slot], 1, 1), generator=generator, device=images.device)
                self._masks[slot] = (drawn >= rate) / (1 - rate)
        logits: Tensor = self.model(images)
        return logits

    def _drop(self, slot: int, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        mask = self._masks[slot]
        return output if mask is None else output * mask


class DropoutProbe:
    """Trains networks from scratch on the training images and probes them on the validation images.

    What is trained depends on seed, iteration and channels alone, so equal networks, such as the start of all probes,
    are trained once.

    Args:
        task: Gives images, space, device and seed.
        recipe: How to train.
    """

    def __init__(self, task: Task, recipe: Recipe) -> None:
        """Train nothing yet."""
        self._task, self._recipe = task, recipe
        self._trained: dict[tuple[int, Channels], tuple[DropoutNetwork, TrainLoader]] = {}

    def probe(self, iteration: int, channels: Channels, *, measure: str, fur: bool) -> Probed:
        """Train, where that was not done yet, and probe.

        Args:
            iteration: Of the adjustment; every one draws other weights, orders and masks.
            channels: Of the network.
            measure: "loss" or "accuracy": what gets worse.
            fur: Whether every slot loses the same FLOPs, or the same share of its channels.

        Raises:
            ExperimentError: The training diverged.
        """
        task = self._task
        with arithmetic(self._recipe.precision):
            if (iteration, channels) not in self._trained:
                self._trained[iteration, channels] = _trained(task, self._recipe, channels, iteration)
            network, loader = self._trained[iteration, channels]
            images = normalise(task.val_images, *loader.statistics)
            network.model.eval()
            generator = task.generator(PROBE_MASKS, iteration, device=task.device)
            base = _judged(network, images, task.val_labels, np.zeros(NUM_SLOTS), generator)
            losses = []
            # All repeats at once: a mask belongs to one image.
            many, labels = images.repeat(REPEATS, 1, 1, 1), task.val_labels.repeat(REPEATS)
            for slot, rate in enumerate(probe_rates(task.space, channels, fur=fur).tolist()):
                rates = np.where(np.arange(NUM_SLOTS) == slot, rate, 0.0)
                found = _judged(network, many, labels, rates, generator)
                losses.append(
                    found["loss"] - base["loss"] if measure == "loss" else base["accuracy"] - found["accuracy"]
                )
        if not np.isfinite([base["loss"], *losses]).all():
            raise ExperimentError(
                f"the network of {channels} channels diverged in iteration {iteration}: try another seed"
            )
        return Probed(tuple(losses), base["accuracy"])


def train_rates(epoch: int, epochs: int) -> FloatArray:
    """Probability of dropout of each slot in an epoch (from 0) of training, (7,)."""
    rates: FloatArray = P_MAX * epoch / epochs * np.arange(1, NUM_SLOTS + 1) / NUM_SLOTS
    return rates


def probe_rates(space: Space, channels: Channels, *, fur: bool) -> FloatArray:
    """Probability of dropout with which each slot is probed, (7,): equal FLOPs, or equal shares of channels."""
    taken = slot_flops(space, channels) if fur else np.ones(NUM_SLOTS)
    rates: FloatArray = np.minimum(P_PROBE * taken.mean() / taken, MAX_DROPOUT)
    return rates


def _trained(task: Task, recipe: Recipe, channels: Channels, iteration: int) -> tuple[DropoutNetwork, TrainLoader]:
    network = DropoutNetwork(task.space, channels, task.generator(WEIGHTS, iteration), task.device)
    # Whole batches only: four images that are left over would be a batch whose statistics spoil the running averages.
    whole = max(len(task.train_labels) // recipe.batch_size, 1) * recipe.batch_size
    loader = TrainLoader(task.train_images[:whole], task.train_labels[:whole], recipe)
    optimizer = make_optimizer(network.model, recipe, recipe.lr_at(0), fused=False)
    masks = task.generator(TRAIN_MASKS, iteration, device=task.device)
    network.model.train()
    for epoch in range(recipe.epochs):
        rates = train_rates(epoch, recipe.epochs)
        for elapsed, images, labels in loader.epoch(task.generator(ORDER, iteration, epoch, device=task.device)):
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr_at(epoch + elapsed)
            optimizer.zero_grad()
            functional.cross_entropy(network.run(images, rates, masks), labels).backward()
            optimizer.step()
    return network, loader


@torch.no_grad()
def _judged(
    network: DropoutNetwork, images: Tensor, labels: Tensor, rates: FloatArray, generator: torch.Generator
) -> dict[str, float]:
    """Mean loss in nats, and accuracy in percent."""
    logits = network.run(images, rates, generator)
    correct = (logits.argmax(1) == labels).double().mean().item()
    return {"loss": functional.cross_entropy(logits.double(), labels).item(), "accuracy": 100 * correct}
