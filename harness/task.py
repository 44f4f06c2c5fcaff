"""What a method gets: the space, images to train and to validate on, a recipe, a device, a seed. Never the table.

    >>> task = make_task("resnet-mini", load_dataset("digits"), seed=0)
    >>> task.train_images.shape, task.val_images.shape, task.recipe.epochs
    (torch.Size([900, 1, 8, 8]), torch.Size([300, 1, 8, 8]), 150)

By default a method validates on a part of the training images that is held out from its training (``"holdout"``), so
that it never sees the test images, on which the truth was measured. The literature validated on the test images;
``validate_on="test"`` does that, and every score file records which it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from channel_bench.errors import ArgumentError
from channel_bench.recipe import Recipe, get_recipe
from channel_bench.space import Space, get_space
from channel_bench.training.datasets import NAMED_DATASETS, Dataset, TrainLoader, channel_statistics, normalise
from channel_bench.training.step import check_device

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
    """All that a method gets: what to rank, on which images, and with which means. Make one with `make_task`.

    The images are uint8 and on the task's device; `train_loader` and `validation_batches` normalise them. A method must
    leave these tensors unchanged.

    Attributes:
        space: The space to rank: its layers, channels, FLOPs and parameters (`channel_bench.space.Space`).
        dataset: Name of the data set, one of `NAMED_DATASETS` or the name of a folder.
        train_images: uint8 (num_train, channels, height, width), values 0..255; everything that may be trained on.
        train_labels: int64 (num_train,), classes 0..space.num_classes - 1.
        val_images: uint8 (num_val, channels, height, width), values 0..255; what sub-networks are scored on.
        val_labels: int64 (num_val,), classes 0..space.num_classes - 1.
        validate_on: What the validation images are: "holdout", a quarter of the training images (at most 5,000) that is
            taken out of `train_images`; or "test", the test images.
        recipe: How to train a supernet: epochs (the budget), batch size, learning rate and schedule, momentum, weight
            decay, augmentation, precision. `harness.supernet.train_supernet` follows it, and a network of
            `harness.supernet.make_supernet` computes in its precision. A method with networks of its own must do so.
        data_sha256: SHA-256 over the images and labels of a data set from a folder, whose name does not say what is in
            it; empty for one that comes by name.
        seed: Seed of everything random, >= 0. Draw from `rng` and `generator`, which are made from it.
        bn: What normalises a sub-network when it is scored: "batch", the statistics of the validation batch, or
            "recalibrated", those of a fixed set of training images.
        score_by: What a sub-network is scored by: "accuracy" on the validation images, or "loss", its negative.
        on_epoch: To be called after each epoch with its number from 1, the number of epochs, and a note for people such
            as "loss 0.312"; None if nobody watches. `harness.supernet.train_supernet` calls it.
        checkpoints: Folder for checkpoints, from which a ranking that was killed continues; None to keep none.
            `harness.supernet.train_supernet` uses it.
        on_losses: To be called after each epoch with the mean training loss, nats, of every epoch so far, those before
            an interruption included; None if nobody keeps them. `harness.supernet.train_supernet` calls it.
    """

    space: Space
    dataset: str
    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
    val_labels: Tensor
    validate_on: str
    recipe: Recipe
    seed: int
    bn: str = "batch"
    score_by: str = "accuracy"
    on_epoch: Callable[[int, int, str], None] | None = None
    checkpoints: Path | None = None
    data_sha256: str = ""
    on_losses: Callable[[Sequence[float]], None] | None = None

    @property
    def device(self) -> torch.device:
        """Device of the images, where networks belong too: ``net.to(task.device)``."""
        return self.train_images.device

    def rng(self, *stream: int) -> np.random.Generator:
        """Make a NumPy generator from the task's seed.

        The same stream gives the same numbers in every call, and different streams are independent: take one number
        per purpose, and where a draw belongs to a step or an architecture, its number as a second one. Then what was
        drawn before changes nothing: ``task.rng(20, batch.number)``.

        Args:
            *stream: Integers >= 0. `harness.supernet` uses 0, 1, 2, 10 and 11 as the first one; take 20
                and above.
        """
        return np.random.default_rng([self.seed, *stream])

    def generator(self, *stream: int, device: torch.device | str = "cpu") -> torch.Generator:
        """Make a torch generator from the task's seed, for ``torch.randn(..., generator=task.generator(20))``.

        Args:
            *stream: As for `rng`.
            device: Where the generator draws. CPU and GPU draw different numbers from one seed; what is drawn on the
                CPU is the same everywhere.
        """
        (seed,) = np.random.SeedSequence([self.seed, *stream]).generate_state(1, np.uint64).tolist()
        return torch.Generator(device).manual_seed(seed)

    def validation_batches(self) -> tuple[tuple[int, ...], list[tuple[Tensor, Tensor]]]:
        """Normalise the validation images and part them into batches, the same ones in every call.

        Batch normalisation uses the statistics of the batch, so every sub-network must see the same batches. They are
        of equal size; where the number of images has no fitting divisor, sizes differ by one.

            _, batches = task.validation_batches()
            for images, labels in batches:
                correct += (net(images).argmax(1) == labels).sum()

        With ``bn="recalibrated"`` every batch begins with the same training images, the calibration images, whose
        statistics normalise the validation images behind them (`harness.supernet.network.batch_norm`). Labels are those
        of the validation images alone, the last ``len(labels)`` of the batch.

        Returns:
            The sizes of the calibration batches that every batch begins with (empty with ``bn="batch"``); and per batch
            float32 (num_calibration + batch, channels, height, width) and int64 (batch,), with at most 2,500 validation
            images each.
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
        """Make what gives the training batches of the recipe: shuffled, randomly cropped and mirrored, normalised.

        `harness.supernet.train_supernet` does this for you. A training loop of your own reads

            loader = task.train_loader()
            for epoch in range(task.recipe.epochs):
                generator = task.generator(20, epoch, device=task.device)   # decides order and augmentation
                for elapsed, images, labels in loader.epoch(generator):
                    lr = task.recipe.lr_at(epoch + elapsed)
                    ...

        where `elapsed` is the share of the epoch that is over, in [0, 1), and a batch is float32
        (batch, channels, height, width) and int64 (batch,). The last batch of an epoch may be smaller.
        """
        return TrainLoader(self.train_images, self.train_labels, self.recipe)


def supernet_recipe(space: Space, epochs: int | None = None, precision: str | None = None) -> Recipe:
    """The recipe by which supernets of a space are trained by default; what is given replaces what it says."""
    return get_recipe(_SUPERNET_RECIPES[space.recipe], epochs=epochs, precision=precision)


def make_task(
    space: str | Space,
    dataset: Dataset,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    validate_on: str = "holdout",
    bn: str = "batch",
    score_by: str = "accuracy",
    num_val: int | None = None,
    on_epoch: Callable[[int, int, str], None] | None = None,
) -> Task:
    """Set up a task.

    Args:
        space: The space to rank.
        dataset: Images of the space's input shape, on the device to use.
        seed: >= 0.
        recipe: How to train a supernet; default that of the space (`supernet_recipe`).
        validate_on: "holdout" (a quarter of the training images, at most 5,000, taken out of training) or "test".
        bn: "batch" or "recalibrated", as `Task.bn`.
        score_by: "accuracy" or "loss", as `Task.score_by`.
        num_val: Score on so many of the validation images, >= 2; default all. What is trained on stays the same.
        on_epoch: Called by the method after each epoch, as `Task.on_epoch`.

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
    recipe = recipe or supernet_recipe(space)
    check_device(recipe, dataset.device)
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
    if num_val is not None:
        if not 2 <= num_val <= len(val[1]):
            raise ArgumentError(f"number of validation images is {num_val}: allowed are 2 to {len(val[1])}")
        val = (val[0][:num_val], val[1][:num_val])
    return Task(
        space=space,
        dataset=dataset.name,
        train_images=train[0],
        train_labels=train[1],
        val_images=val[0],
        val_labels=val[1],
        validate_on=validate_on,
        recipe=recipe,
        seed=seed,
        bn=bn,
        score_by=score_by,
        on_epoch=on_epoch,
        data_sha256="" if dataset.name in NAMED_DATASETS else dataset.digest,
    )
