"""The pilot of the mini spaces: what maxima and settings make a benchmark in which width matters more than the seed.

    python data/scripts/pilot.py --family resnet --maxima 8,8,8,16,16,16,16 [--enlarge 2] [--epochs 15] [--placed 4000]

Trains some architectures with several seeds and prints, as one line of JSON: the range of accuracies; the reliability
of a 3-run mean (share of its variance over architectures that is not noise) and the Kendall ceiling that follows from
it; the share of each slot in the variance of an additive fit; and the profile of log slopes, with how far it is from
the profile of the published table of the same family, if that is here (`channel-bench download`). Wanted are a
reliability of at least .90 and no slot with much more than half. Nothing here writes a table; what came out is recorded
in data/README.md and docs/explanation/consensus-test.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import multiprocessing

import numpy as np
import torch
from torch.nn import functional

from channel_bench.builder.work import make_stacks
from channel_bench.errors import MissingDataError
from channel_bench.recipe import Recipe, get_recipe
from channel_bench.record import Job, RunRecord
from channel_bench.space import NUM_WIDTHS, FloatArray, Space
from channel_bench.table.sources import load
from channel_bench.training.backends import train_jobs
from channel_bench.training.datasets import Dataset, load_dataset, make_dataset, placed_digits


def main() -> None:
    """Train the pilot and print its line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=["resnet", "mobilenet"], required=True)
    parser.add_argument("--maxima", required=True, help="Seven channel maxima, comma-separated, each divisible by 4.")
    parser.add_argument("--train-images", type=int, default=1200)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--enlarge", type=int, default=1, help="Factor of a bilinear enlargement of the images.")
    parser.add_argument("--label-noise", type=float, default=0.0, help="Share of training labels drawn anew, once.")
    parser.add_argument(
        "--placed", type=int, default=0, help="Train on so many digits at random places, test on half as many."
    )
    parser.add_argument("--canvas", type=int, default=16, help="Edge of the image that --placed puts a digit into.")
    parser.add_argument("--archs", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()

    maxima = tuple(map(int, arguments.maxima.split(",")))
    recipe = get_recipe("mini", epochs=arguments.epochs, batch_size=arguments.batch_size)
    dataset = enlarged(
        shortened(load_dataset("digits"), arguments.train_images, arguments.label_noise), arguments.enlarge
    )
    if arguments.placed:
        dataset = placed_digits(arguments.placed, arguments.canvas)
        recipe = dataclasses.replace(recipe, crop_padding=0)
    space = Space("pilot", arguments.family, maxima, dataset.image_shape, "digits", "mini")
    archs = [space.text(arch) for arch in space.sample(arguments.archs, np.random.default_rng(0)).tolist()]
    jobs = [Job(arch, seed, seed) for arch in archs for seed in range(arguments.seeds)]
    stacks = make_stacks(space, jobs, 8, arguments.workers)
    with multiprocessing.get_context("fork").Pool(arguments.workers) as pool:
        parts = pool.starmap(train, [(space, stack, recipe, dataset) for stack in stacks], chunksize=1)
    of_job = {(record.arch, record.run): record.best_test_acc for part in parts for record in part}
    seconds = float(np.mean([record.train_s for part in parts for record in part]))
    cells = np.array([[of_job[arch, seed] for seed in range(arguments.seeds)] for arch in archs], float)
    profile = profile_of(space, archs, np.nanmean(cells, 1))
    facts = {
        **vars(arguments),
        **statistics(space, archs, cells),
        "profile": profile.round(3).tolist(),
        **resemblance(profile, arguments.family),
        "s_per_run": round(seconds, 3),
    }
    print(json.dumps(facts))


def train(space: Space, stack: list[Job], recipe: Recipe, dataset: Dataset) -> list[RunRecord]:
    """Train one stack in a worker process."""
    torch.set_num_threads(1)
    return train_jobs(space, stack, recipe, dataset)


def shortened(dataset: Dataset, num_train: int, label_noise: float) -> Dataset:
    """The first training images, a fixed share of their labels drawn anew."""
    labels = dataset.train_labels[:num_train].clone()
    generator = torch.Generator().manual_seed(0)
    noisy = torch.rand(num_train, generator=generator) < label_noise
    labels[noisy] = torch.randint(10, (num_train,), generator=generator)[noisy]
    return dataclasses.replace(dataset, train_images=dataset.train_images[:num_train], train_labels=labels)


def enlarged(dataset: Dataset, factor: int) -> Dataset:
    """The same images, larger by a whole factor."""
    splits = []
    for images, labels in (
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    ):
        large = functional.interpolate(images.double(), scale_factor=factor, mode="bilinear", align_corners=False)
        splits.append((large.round().to(torch.uint8).numpy(), labels.numpy()))
    return make_dataset("digits" if factor == 1 else "digits-enlarged", splits[0], splits[1])


def profile_of(space: Space, archs: object, accuracies: FloatArray) -> FloatArray:
    """Slopes of accuracy on the logarithm of each slot's width by least squares, divided by their sum: float64 (7,).

    The scale of the accuracies drops out. A slot whose width makes networks worse has a negative slope.
    """
    logs = np.log(space.digits(archs) / NUM_WIDTHS)
    design = np.column_stack([np.ones(len(logs)), logs])
    slopes: FloatArray = np.linalg.lstsq(design, np.asarray(accuracies, float), rcond=None)[0][1:]
    return slopes / slopes.sum()


def resemblance(profile: FloatArray, family: str) -> dict[str, float]:
    """Cosine and sum of absolute differences (0 to 2) to the profile of the published table, if that is here."""
    try:
        table = load(family)
    except MissingDataError:
        return {}
    other = profile_of(table.space, table.space.archs(), table.accuracies())
    cosine = profile @ other / np.linalg.norm(profile) / np.linalg.norm(other)
    return {"cosine": round(float(cosine), 3), "l1": round(float(np.abs(profile - other).sum()), 3)}


def statistics(space: Space, archs: list[str], cells: np.ndarray) -> dict[str, object]:
    """Range, noise and slot shares of accuracies (num_archs, num_seeds); NaN where a run diverged."""
    means = np.nanmean(cells, 1)
    run_variance = float(np.nanvar(cells, 1, ddof=1).mean())
    true_variance = float(means.var(ddof=1)) - run_variance / cells.shape[1]
    reliability = true_variance / (true_variance + run_variance / 3)
    # Least squares on log widths, which fits almost as well as one term per width and needs far fewer architectures.
    logs = np.log(space.digits(archs) / NUM_WIDTHS)
    design = np.column_stack([np.ones(len(archs)), logs])
    coefficients = np.linalg.lstsq(design, means, rcond=None)[0][1:]
    effects = coefficients**2 * np.log(np.arange(1, NUM_WIDTHS + 1) / NUM_WIDTHS).var()
    return {
        "range": [round(float(means.min()), 1), round(float(means.max()), 1)],
        "run_std": round(math.sqrt(run_variance), 2),
        "reliability": round(reliability, 3),
        "kendall_ceiling": round(2 / math.pi * math.asin(math.sqrt(max(0.0, reliability))), 3),
        "slot_shares": (effects / effects.sum()).round(2).tolist(),
        "num_diverged": int(np.isnan(cells).sum()),
    }


if __name__ == "__main__":
    main()
