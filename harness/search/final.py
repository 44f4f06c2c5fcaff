"""The end of a search: the found width is trained from scratch.

    >>> trained = train_final(space, "4232422", num_seeds=3, dataset=load_dataset("digits"))
    >>> trained.mean, trained.macs

The seeds are none of a table's, so that the result is a new measurement beside it. Distillation is that of TAS (Dong
and Yang, NeurIPS 2019, section 3.2): the widest network, trained by the same recipe, teaches with (1 - a) cross-entropy
+ a T^2 KL, a = .9 and T = 4 as in its public code; there the teacher has its own, longer recipe.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.recipe import Recipe, get_recipe
from channel_bench.record import Job
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS, Space
from channel_bench.table.ranks import ACCURACY_DECIMALS
from channel_bench.training.backends import train_jobs
from channel_bench.training.datasets import Dataset, TrainLoader, normalise
from channel_bench.training.evaluation import evaluate_on_device
from channel_bench.training.models import build_model
from channel_bench.training.run import run_generators
from channel_bench.training.step import arithmetic, make_optimizer
from harness.search.bill import FIRST_SEED, FinalTraining

KD_WEIGHT, KD_TEMPERATURE = 0.9, 4.0
WIDEST = str(NUM_WIDTHS) * NUM_SLOTS


def train_final(
    space: Space,
    arch: Any,
    num_seeds: int,
    dataset: Dataset,
    recipe: Recipe | None = None,
    *,
    distill: bool = False,
    on_done: Callable[[float], object] | None = None,
) -> FinalTraining:
    """Train a width from scratch with several seeds.

    Args:
        space: The space.
        arch: The width, in any encoding of `Space.arch`.
        num_seeds: >= 1.
        dataset: What to train and test on.
        recipe: How; None for that of the space's tables.
        distill: Whether the widest network teaches (module docstring).
        on_done: Called with the accuracy after each training.

    Raises:
        ArchError: No such architecture.
        ArgumentError: num_seeds is below 1, or the data set does not fit the space.
    """
    if num_seeds < 1:
        raise ArgumentError(f"number of final trainings is {num_seeds}: allowed are 1 and above")
    chosen = recipe or get_recipe(space.recipe)
    chosen.check_rates()
    dataset.check_fits(space)
    text, started = space.text(arch), time.perf_counter()
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + num_seeds))
    per_image = 3 * chosen.epochs * len(dataset.train_labels)
    macs = num_seeds * space.flops(text) * per_image
    teacher = None
    if distill:
        teacher = distilled(space, WIDEST, chosen, FIRST_SEED, dataset)[0]
        # The teacher's own training, and a forward pass of it for every image of a student.
        macs += space.flops(WIDEST) * per_image * (3 + num_seeds) // 3
    found = []
    for seed in seeds:
        if teacher is None:
            (record,) = train_jobs(space, [Job(text, 0, seed)], chosen, dataset)
            accuracy = record.best_test_acc
        else:
            accuracy = distilled(space, text, chosen, seed, dataset, teacher)[1]
        found.append(math.nan if accuracy is None else float(accuracy))
        if on_done is not None:
            on_done(found[-1])
    finished = tuple(round(value, ACCURACY_DECIMALS) for value in found if math.isfinite(value))
    seconds = round(time.perf_counter() - started, 2)
    return FinalTraining(text, finished, num_seeds - len(finished), seeds, macs, seconds, distill)


def distilled(
    space: Space, arch: str, recipe: Recipe, seed: int, dataset: Dataset, teacher: nn.Module | None = None
) -> tuple[nn.Module, float]:
    """Train a network with PyTorch, taught by another where one is given.

    Without a teacher, and with the same weights, order and augmentation, it is `channel_bench.training.run.train_run`.

    Returns:
        The network after its last epoch, and its best test accuracy over epochs, percent; NaN where it diverged.
    """
    device = dataset.device
    weights, batches = run_generators(space, Job(arch, 0, seed), device)
    loader = TrainLoader(dataset.train_images, dataset.train_labels, recipe)
    model = build_model(space, arch, weights).to(device)
    optimizer = make_optimizer(model, recipe, recipe.lr_at(0), fused=False)
    test_images = normalise(dataset.test_images, *loader.statistics)
    best = math.nan
    with arithmetic(recipe.precision):
        for epoch in range(recipe.epochs):
            model.train()
            for elapsed, images, labels in loader.epoch(batches):
                for group in optimizer.param_groups:
                    group["lr"] = recipe.lr_at(epoch + elapsed)
                optimizer.zero_grad()
                _loss(model(images), labels, None if teacher is None else _answer(teacher, images)).backward()
                optimizer.step()
            loss, accuracy = (value.item() for value in evaluate_on_device(model, test_images, dataset.test_labels))
            if not math.isfinite(loss):
                return model, math.nan
            best = accuracy if math.isnan(best) else max(best, accuracy)
    return model, best


@torch.no_grad()
def _answer(teacher: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = teacher.eval()(images)
    return logits


def _loss(logits: Tensor, labels: Tensor, taught: Tensor | None) -> Tensor:
    own = functional.cross_entropy(logits, labels)
    if taught is None:
        return own
    soft = functional.kl_div(
        functional.log_softmax(logits / KD_TEMPERATURE, 1),
        functional.log_softmax(taught / KD_TEMPERATURE, 1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - KD_WEIGHT) * own + KD_WEIGHT * KD_TEMPERATURE**2 * soft
