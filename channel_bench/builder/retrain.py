"""Check a table against new runs of some of its architectures; `channel-bench verify --retrain`.

    >>> audit(Table.read("table.parquet"), 20, load_dataset("digits")).agrees

The new runs get seeds that the table does not have: with the same seed only the same machine and software would give
the same numbers, and there it would only prove that they repeat. What is tested is whether new runs come from the
distribution that the table's runs of the same architecture came from.

For architecture i with mean m_i over n_i runs, a new accuracy a_i has z_i = (a_i - m_i) / (s_i sqrt(1 + 1 / n_i)). s_i
is the standard deviation of a run around its architecture's mean, pooled over the architectures whose means are nearest
(`channel_bench.table.noise.LocalNoise`), because narrow networks are noisier than wide ones. With K new runs, mean(z^2)
follows F(K, df) and each z follows Student's t (df), where df is the number of degrees of freedom of the pooled
variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.recipe import Recipe, get_recipe
from channel_bench.record import Job
from channel_bench.table import Table
from channel_bench.table.noise import LocalNoise
from channel_bench.training.datasets import Dataset

METRIC = "best_test_acc"
BAND = 0.95
"""Share of new runs that are expected inside their band."""
ALARM = 0.001
"""A table fails the check where its new runs would be this improbable."""
FIRST_SEED = 2**40
"""New seeds are drawn from here on; builders count from 0."""


@dataclass(frozen=True)
class Retrained:
    """A new run beside those of the table; accuracies in percent."""

    arch: str
    seed: int
    accuracy: float | None
    """None where the new run diverged."""
    runs: tuple[float, ...]
    """The table's finished runs of this architecture."""
    mean: float
    std: float
    """Standard deviation of a run, pooled over the architectures nearest in accuracy."""
    z: float | None
    inside: bool
    """Whether the new accuracy lies in the band that holds BAND of all new runs."""


@dataclass(frozen=True)
class Audit:
    """All new runs, and whether a table that is right could have led to them; differences are new minus table."""

    space: str
    dataset: str
    recipe: str
    rows: tuple[Retrained, ...]
    num_inside: int
    num_expected_inside: float
    num_diverged: int
    mean_difference: float | None
    """Percentage points; None where every new run diverged."""
    mean_difference_se: float | None
    """What seeds alone give it."""
    p_spread: float
    """Probability of a mean(z^2) as large or larger."""
    p_shift: float
    """Probability of a mean difference as far from zero or farther."""
    p_diverged: float
    """Probability of this many diverged runs or more, at the table's rate."""
    agrees: bool
    """Whether none of the three is below ALARM."""


def audit(
    table: Table,
    num_archs: int,
    dataset: Dataset,
    *,
    seed: int = 0,
    precision: str | None = None,
    on_row: Callable[[Retrained], None] | None = None,
) -> Audit:
    """Train random architectures of a table once more, by its recipe and with new seeds.

    Args:
        table: The table; some of its architectures must have two finished runs or more.
        num_archs: How many to draw from those with a finished run.
        dataset: What the table was trained on, on the device to use.
        seed: Decides which architectures, and their new seeds.
        precision: Another arithmetic than the recipe's, to see whether it gives the same accuracies.
        on_row: Called with each new run.

    Returns:
        The new runs and the verdict.

    Raises:
        ArgumentError: num_archs is out of range, the data set is another, the table has no repeated runs or no readable
            recipe, or the device cannot do the precision.
    """
    from channel_bench.builder.work import default_stack, make_stacks
    from channel_bench.training.backends import train_jobs

    recipe = get_recipe(_recipe_of(table), precision=precision)
    _check_dataset(table, dataset)
    trained = np.flatnonzero(np.isfinite(table.accuracies(metric=METRIC)))
    if not 1 <= num_archs <= len(trained):
        raise ArgumentError(f"cannot retrain {num_archs} architectures: allowed are 1..{len(trained)}")
    resolution = 100 / len(dataset.test_labels)
    noise = LocalNoise(table.cells(METRIC)[trained], resolution)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(trained), num_archs, replace=False)
    texts = [table.space.text(int(trained[position])) for position in chosen]
    there = set(table.arrow.column("seed").to_pylist())
    fresh = (int(value) for value in iter(lambda: rng.integers(FIRST_SEED, 2**62), None))
    jobs = [Job(text, 0, next(value for value in fresh if value not in there)) for text in texts]
    position_of = dict(zip(texts, chosen.tolist(), strict=True))
    rows = {}
    for stack in make_stacks(table.space, jobs, default_stack(table.space), 1):
        for record in train_jobs(table.space, stack, recipe, dataset):
            position = position_of[record.arch]
            assert record.seed is not None
            row = judge_run(noise, position, record.arch, record.seed, record.best_test_acc)
            rows[record.arch] = row
            if on_row is not None:
                on_row(row)
    statuses = table.arrow.column("status").to_pylist()
    rate = (statuses.count("diverged") + 1) / (len(statuses) + 2)
    return _conclude(table, recipe, dataset.name, [rows[text] for text in texts], noise, rate)


def _recipe_of(table: Table) -> Recipe:
    try:
        recipe = Recipe.from_dict(table.info.recipe)
        if recipe.fingerprint != table.info.recipe_fingerprint:
            raise ValueError("its fingerprint differs")
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"table {table.name!r} has a recipe that this version cannot follow: {error}; it cannot be retrained"
        ) from None
    return recipe


def _check_dataset(table: Table, dataset: Dataset) -> None:
    dataset.check_fits(table.space)
    if table.info.dataset_digest not in (None, dataset.digest):
        raise ArgumentError(
            f"table {table.name!r} was trained on {table.info.dataset!r} with SHA-256"
            f" {str(table.info.dataset_digest)[:12]}..., these images of {dataset.name!r} have {dataset.digest[:12]}..."
            "; pass the same ones with --dataset"
        )


def judge_run(noise: LocalNoise, position: int, arch: str, seed: int, accuracy: float | None) -> Retrained:
    """Hold a new accuracy against the architecture at a position of cells."""
    from scipy import stats

    mean, count = float(noise.means[position]), int(noise.counts[position])
    runs = noise.cells[position][np.isfinite(noise.cells[position])].tolist()
    std = noise.std(mean)
    z = None if accuracy is None else (accuracy - mean) / (std * math.sqrt(1 + 1 / count))
    inside = z is not None and abs(z) <= stats.t.ppf((1 + BAND) / 2, noise.freedom)
    return Retrained(arch, seed, accuracy, tuple(runs), mean, std, z, bool(inside))


def _conclude(
    table: Table, recipe: Recipe, dataset: str, rows: list[Retrained], noise: LocalNoise, diverged_rate: float
) -> Audit:
    from scipy import stats

    finished = [row for row in rows if row.accuracy is not None and row.z is not None]
    num_diverged = len(rows) - len(finished)
    p_diverged = float(stats.binom.sf(num_diverged - 1, len(rows), diverged_rate))
    difference = standard_error = None
    p_spread = p_shift = 1.0
    if finished:
        z = np.array([row.z for row in finished], float)
        differences = np.array([row.accuracy - row.mean for row in finished if row.accuracy is not None])
        variances = [row.std**2 * (1 + 1 / len(row.runs)) for row in finished]
        difference = float(differences.mean())
        standard_error = math.sqrt(sum(variances)) / len(finished)
        p_spread = float(stats.f.sf((z**2).mean(), len(z), noise.freedom))
        p_shift = float(2 * stats.t.sf(abs(difference) / standard_error, noise.freedom))
    return Audit(
        space=table.space.name,
        dataset=dataset,
        recipe=recipe.name,
        rows=tuple(rows),
        num_inside=sum(row.inside for row in rows),
        num_expected_inside=BAND * len(rows),
        num_diverged=num_diverged,
        mean_difference=difference,
        mean_difference_se=standard_error,
        p_spread=p_spread,
        p_shift=p_shift,
        p_diverged=p_diverged,
        agrees=min(p_spread, p_shift, p_diverged) >= ALARM,
    )
