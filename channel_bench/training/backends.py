"""Which program trains: the compiled trainer of the mini networks, or PyTorch. The only module that knows both.

>>> pick_backend(get_space("resnet-mini"), get_recipe("mini"), load_dataset("digits"))
('native', None)
>>> records = train_jobs(get_space("resnet-mini"), [Job("4344424", 0, 0)], get_recipe("mini"), load_dataset("digits"))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from channel_bench.errors import ArgumentError
from channel_bench.recipe import Recipe
from channel_bench.record import Job, RunRecord
from channel_bench.space import Space
from channel_bench.training.datasets import Dataset
from channel_bench.training.native import reason_not, train_native
from channel_bench.training.run import train_run, train_stack
from channel_bench.training.step import check_device

BACKENDS = ("auto", "native", "torch")


def pick_backend(
    space: Space, recipe: Recipe, dataset: Dataset, backend: str = "auto", device: torch.device | None = None
) -> tuple[str, str | None]:
    """Which program trains: the native trainer (native/) for the mini spaces where it can, else PyTorch.

    Args:
        space: The search space.
        recipe: How to train.
        dataset: What it is trained on.
        backend: One of BACKENDS.
        device: Where it is trained; default the data set's device.

    Returns:
        "native" or "torch"; and for "auto", why the native trainer is not used where it would be the faster one.

    Raises:
        ArgumentError: There is no such backend, or it cannot train this.
    """
    if backend not in BACKENDS:
        raise ArgumentError(f"backend is {backend!r}: allowed are {', '.join(BACKENDS)}")
    device = device or dataset.device
    if backend == "torch" or (backend == "auto" and not (space.is_mini and device.type == "cpu")):
        return "torch", None

    reason = reason_not(space, recipe, dataset, device)
    if reason is not None and backend == "native":
        raise ArgumentError(f"backend 'native' cannot train this: {reason}")
    return ("native" if reason is None else "torch"), reason


def train_jobs(
    space: Space,
    jobs: Sequence[Job],
    recipe: Recipe,
    dataset: Dataset,
    *,
    backend: str = "auto",
    graph: bool | None = None,
) -> list[RunRecord]:
    """Train the runs that an engine hands out together, by the backend that `pick_backend` picks.

    PyTorch trains one job alone and several as a stack; the native trainer one after the other.

    Arguments, returns, raises: As `train_stack`.
    """
    check_device(recipe, dataset.device, graph)
    if pick_backend(space, recipe, dataset, backend)[0] == "native":
        return train_native(space, jobs, recipe, dataset)
    if len(jobs) == 1:
        (job,) = jobs
        return [train_run(space, job.arch, recipe, job.seed, dataset, run=job.run, graph=graph)]
    return train_stack(space, jobs, recipe, dataset, graph=graph)
