"""A place where runs are trained one after the other: the seeds of an architecture share a trainer, and so its graphs.

    >>> bench = Workbench(space, recipe, dataset)
    >>> bench.begin("4344424", weights_of_seed_0)    # builds a trainer; on a GPU captures its steps
    >>> bench.begin("4344424", weights_of_seed_1)    # the same trainer, started anew in place
    >>> bench.begin("1111111", weights_of_seed_0)    # another one; the first is gone before

A run on a trainer that was used before is that on a fresh one, bit by bit.
"""

from __future__ import annotations

from collections.abc import Collection, MutableSequence

import torch
from torch import Tensor

from channel_bench.recipe import Recipe
from channel_bench.record import Job
from channel_bench.space import Space
from channel_bench.training.datasets import Dataset, TrainLoader
from channel_bench.training.models import build_model
from channel_bench.training.step import Trainer


class Workbench:
    """Makes the trainer of each run, or takes the one that is there.

    Args:
        space: The search space.
        recipe: How to train.
        dataset: Images of the space's input shape.
        graph: As in `run.train_run`.
        stream: Where a trainer captures and replays; None for one of its own.

    Attributes:
        arch: The architecture that there is a trainer for; None before the first.
        num_built: Trainers that were made so far.
    """

    def __init__(
        self,
        space: Space,
        recipe: Recipe,
        dataset: Dataset,
        graph: bool | None = None,
        stream: torch.cuda.Stream | None = None,
    ) -> None:
        """Make nothing yet."""
        self.arch: str | None = None
        self.num_built = 0
        self._space, self._recipe, self._dataset = space, recipe, dataset
        self._graph, self._stream = graph, stream
        self._loader: TrainLoader | None = None
        self._ready: tuple[Trainer, Tensor] | None = None

    def begin(self, arch: str, weights: torch.Generator) -> tuple[TrainLoader, Trainer, Tensor]:
        """A trainer at the start of a run. The run before must be over.

        Args:
            arch: The architecture, as text.
            weights: CPU generator of the initial weights.

        Returns:
            The loader of the training images, the trainer, and the test images as it wants them.
        """
        if self._loader is None:
            self._loader = TrainLoader(self._dataset.train_images, self._dataset.train_labels, self._recipe)
        model = build_model(self._space, arch, weights)
        if self._ready is not None and self.arch == arch:
            trainer, test_images = self._ready
            trainer.restart(model)
        else:
            self.arch = self._ready = None  # its graphs and activations make room for the next ones
            trainer = Trainer(model, self._loader, graph=self._graph, stream=self._stream)
            test_images = trainer.prepare(self._dataset.test_images)
            self.num_built += 1
            self.arch, self._ready = arch, (trainer, test_images)
        return self._loader, trainer, test_images


def take_next(waiting: MutableSequence[Job], mine: str | None, others: Collection[str | None]) -> Job:
    """Take the next job for a workbench out of those that wait.

    A seed of the architecture that it has a trainer for; else the first of an architecture that no other workbench has,
    so that the seeds of each stay together; else the first.

    Args:
        waiting: At least one job, most urgent first; the one that is taken is removed.
        mine: The workbench's architecture.
        others: Those of the other workbenches.
    """
    own = (number for number, job in enumerate(waiting) if job.arch == mine)
    new = (number for number, job in enumerate(waiting) if job.arch not in others)
    return waiting.pop(next(own, next(new, 0)))
