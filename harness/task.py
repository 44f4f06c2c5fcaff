"""What a method may see: the space, images to train and validate on, a recipe as budget, a device, a seed. No table.

    >>> task = make_task("resnet-mini", load_dataset("digits"), seed=0)

By default a method validates on a part of the training images that is held out from it (`holdout`), so that the test
images, which the truth was measured on, stay unseen. The literature scored on the test images; `validate_on="test"`
does that, and every score file says which it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from channel_bench.errors import ArgumentError
from channel_bench.recipe import Recipe, get_recipe
from channel_bench.space import Space, get_space
from channel_bench.training.datasets import Dataset, TrainLoader, channel_statistics, normalise

VALIDATE_ON = ("holdout", "test")
NORMALISE_BY = ("batch", "recalibrated")
SCORE_BY = ("accuracy", "loss")
MAX_HOLDOUT = 5000
MAX_VALIDATION_BATCH = 2500
"""Largest batch whose statistics normalise a sub-network; BCNet's paper uses 2,048, AutoSlim's about as many per
GPU."""
CALIBRATION_BATCHES, CALIBRATION_BATCH_SIZE = 20, 256
"""Training images whose statistics recalibrate a sub-network, as in the released configurations of BCNet; there they
are drawn anew for every sub-network, here they are the same for all, which leaves less noise between them."""

# How a supernet is trained, as opposed to a single network (channel_bench/recipe.py). "paper": Su et al., section
# 7.4; no weight decay, because it would shrink the channels that narrow widths seldom use.
_SUPERNET_RECIPES = {
    "paper": Recipe(name="supernet-paper", epochs=300, weight_decay=0.0, lr_schedule="step", lr_shift=0),
    "mini": Recipe(
        name="supernet-mini",
        epochs=150,
        batch_size=64,
        weight_decay=0.0,
        lr_schedule="step",
        lr_shift=0,
        crop_padding=1,
        flip=False,
        mean=None,
        std=None,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One judgement: what to rank, on what, with which means. Make one with `make_task`."""

    space: Space
    dataset: str
    """Name of the data set."""
    train_images: Tensor
    """uint8 (num_train, channels, height, width); all that may be trained on."""
    train_labels: Tensor
    """int64 (num_train,)."""
    val_images: Tensor
    """uint8 (num_val, channels, height, width); what sub-networks are scored on."""
    val_labels: Tensor
    """int64 (num_val,)."""
    validate_on: str
    """What the validation images are: "holdout" (training images taken out of training) or "test"."""
    recipe: Recipe
    """How to train a supernet; its epochs are the budget."""
    seed: int
    """Seed of everything random; derive generators with `generator` and `rng`."""
    bn: str = "batch"
    """What normalises a sub-network on validation images: "batch", the statistics of the validation batch, or
    "recalibrated", those of a fixed set of training images."""
    score_by: str = "accuracy"
    """What a sub-network is scored by: validation "accuracy" or (negative) "loss"."""
    on_epoch: Callable[[int, int, str], None] | None = None
    """To be called after each epoch with its number from 1, the number of epochs, and a note."""
    checkpoints: Path | None = None
    """Folder where a method may keep checkpoints; None for none."""

    @property
    def device(self) -> torch.device:
        """Where the images are and the supernet belongs."""
        return self.train_images.device

    def rng(self, *stream: int) -> np.random.Generator:
        """A NumPy generator; different streams are independent."""
        return np.random.default_rng([self.seed, *stream])

    def generator(self, *stream: int, device: torch.device | str = "cpu") -> torch.Generator:
        """A torch generator; different streams are independent."""
        (seed,) = np.random.SeedSequence([self.seed, *stream]).generate_state(1, np.uint64).tolist()
        return torch.Generator(device).manual_seed(seed)

    def validation_batches(self) -> tuple[tuple[int, ...], list[tuple[Tensor, Tensor]]]:
        """Normalised validation images and labels, in one fixed partition into equal batches.

        Batch normalisation uses the statistics of the batch, so every sub-network must see the same batches. Where the
        number of images has no fitting divisor, batches differ by one image. With ``bn="recalibrated"`` every batch is
        preceded by the calibration images.

        Returns:
            The sizes of the calibration batches that every batch begins with (none with ``bn="batch"``), and per batch
            float32 (calibration + batch, channels, height, width), int64 (batch,); at most MAX_VALIDATION_BATCH
            validation images each.
        """
        statistics = channel_statistics(self.train_images, self.recipe)
        images = normalise(self.val_images, *statistics)
        num_batches = -(-len(images) // MAX_VALIDATION_BATCH)
        pairs = zip(images.tensor_split(num_batches), self.val_labels.tensor_split(num_batches), strict=True)
        if self.bn == "batch":
            return (), list(pairs)
        first = normalise(self.train_images[: CALIBRATION_BATCHES * CALIBRATION_BATCH_SIZE], *statistics)
        sizes = tuple(len(part) for part in first.tensor_split(-(-len(first) // CALIBRATION_BATCH_SIZE)))
        return sizes, [(torch.cat([first, batch]), labels) for batch, labels in pairs]

    def train_loader(self) -> TrainLoader:
        """Training batches by the recipe: shuffled, augmented, normalised."""
        return TrainLoader(self.train_images, self.train_labels, self.recipe)


def supernet_recipe(space: Space, epochs: int | None = None) -> Recipe:
    """How supernets of a space are trained by default, with another number of epochs where one is given."""
    return get_recipe(_SUPERNET_RECIPES[space.recipe], epochs=epochs)


def make_task(
    space: str | Space,
    dataset: Dataset,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    validate_on: str = "holdout",
    bn: str = "batch",
    score_by: str = "accuracy",
    on_epoch: Callable[[int, int, str], None] | None = None,
) -> Task:
    """Set up a task.

    Args:
        space: The space to rank.
        dataset: Images of the space's input shape, on the device to use.
        seed: >= 0.
        recipe: How to train a supernet; default that of the space (`supernet_recipe`).
        validate_on: "holdout" (a quarter of the training images, at most 5,000, taken out of training) or "test".
        bn: What normalises sub-networks when they are scored, "batch" or "recalibrated".
        score_by: What sub-networks are scored by, "accuracy" or "loss".
        on_epoch: Progress callback of the method.

    Raises:
        ArgumentError: An argument is out of range, or the data set does not fit the space.
    """
    space = get_space(space)
    dataset.check_fits(space)
    if seed < 0:
        raise ArgumentError(f"seed {seed} is negative: allowed are 0 and above")
    choices = (("validate_on", validate_on, VALIDATE_ON), ("bn", bn, NORMALISE_BY), ("score_by", score_by, SCORE_BY))
    for name, value, allowed in choices:
        if value not in allowed:
            raise ArgumentError(f"{name} {value!r} is not one of {', '.join(allowed)}")
    if recipe is not None and recipe.precision != "fp32":
        raise ArgumentError(f"supernets are trained in fp32, recipe {recipe.name!r} has precision {recipe.precision!r}")
    train, val = (dataset.train_images, dataset.train_labels), (dataset.test_images, dataset.test_labels)
    if validate_on == "holdout":
        num_images = len(dataset.train_labels)
        # The same images for every seed and method.
        order = torch.from_numpy(np.random.RandomState(0).permutation(num_images)).to(dataset.device)
        num_held_out = min(MAX_HOLDOUT, num_images // 4)
        if num_held_out < 2:
            raise ArgumentError(f"{num_images} training images are too few to hold a quarter of them out")
        held_out, kept = order[:num_held_out], order[num_held_out:]
        val = (dataset.train_images[held_out], dataset.train_labels[held_out])
        train = (dataset.train_images[kept], dataset.train_labels[kept])
    return Task(
        space=space,
        dataset=dataset.name,
        train_images=train[0],
        train_labels=train[1],
        val_images=val[0],
        val_labels=val[1],
        validate_on=validate_on,
        recipe=recipe or supernet_recipe(space),
        seed=seed,
        bn=bn,
        score_by=score_by,
        on_epoch=on_epoch,
    )
