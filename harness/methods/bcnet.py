"""BCNet, the bilaterally coupled network (Su et al., CVPR 2021, arXiv 2105.10533).

Taken from the paper: every width is trained and scored on two paths of one set of weights, the first c groups of every
slot and the last c (Eq. 10); and each batch is followed by one on the complementary width, so that every group of
channels is trained equally often (Eq. 11). The score is the mean of the accuracies of both paths (Eq. 12).

Left open there: the complement of c out of K groups is K - c, which for c = K would be an empty layer. ``complement``
chooses among

- ``even``, K - c, and K for K: always a network, all groups of a slot and all four widths trained equally often;
- ``clamp``, at least one group: the outer groups are trained more often after a full width;
- ``mirror``, K + 1 - c: all widths equally often, the groups not;
- ``released``, what the range arithmetic of the published code amounts to: 1 and 2 are exchanged, and 3 and 4 are both
  followed by 1. Widths 1 to 4 are then trained with frequencies 1/2, 1/4, 1/8, 1/8.

The paper writes the sum over both batches, the published code takes an optimiser step after each; so does this. The
code of the conference version also trains the full network every third step: ``full_every=3``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from harness.method import register
from harness.supernet.exhaustive import SupernetEvaluator
from harness.supernet.network import PATHS
from harness.supernet.training import WIDTHS, Batch, make_supernet, random_arch, train_supernet
from harness.task import Task

COMPLEMENTS = {
    "even": {1: 3, 2: 2, 3: 1, 4: 4},
    "clamp": {1: 3, 2: 2, 3: 1, 4: 1},
    "mirror": {1: 4, 2: 3, 3: 2, 4: 1},
    "released": {1: 2, 2: 1, 3: 1, 4: 1},
}


@register("bcnet", paper="Su et al., CVPR 2021, arXiv 2105.10533", summary="left and right paths, complementary widths")
class BCNet:
    """Bilaterally coupled network.

    Args:
        complement: Which width follows a width: "even", "clamp", "mirror" or "released".
        full_every: 0, or 3: every third step trains the full network.
    """

    def __init__(self, complement: str = "even", full_every: int = 0) -> None:
        """Keep the options."""
        if complement not in COMPLEMENTS:
            raise ArgumentError(f"complement is {complement!r}: allowed are {', '.join(COMPLEMENTS)}")
        if full_every not in (0, 3):
            raise ArgumentError(f"full_every is {full_every}: allowed are 0 (never) and 3 (every third step)")
        self.complement = complement
        self.full_every = full_every

    def arch_of(self, task: Task, number: int) -> tuple[int, ...]:
        """Width of a step: a random one, then its complement, then the full one where that is asked for."""
        place = number % (self.full_every or 2)
        if place == 2:
            return (NUM_WIDTHS,) * NUM_SLOTS
        arch = random_arch(task.rng(WIDTHS, number - place))
        return arch if place == 0 else tuple(COMPLEMENTS[self.complement][digit] for digit in arch)

    def fit(self, task: Task) -> SupernetEvaluator:
        """Train the supernet of the task."""
        supernet = make_supernet(task)

        def step(batch: Batch) -> Tensor:
            arch = self.arch_of(task, batch.number)
            total = torch.zeros((), device=batch.labels.device)
            for path in PATHS:  # each with its own backward pass, so that the activations of one are alive
                loss = functional.cross_entropy(supernet(batch.images, arch, path), batch.labels) / len(PATHS)
                loss.backward()
                total += loss.detach()
            if not (self.full_every and batch.number % self.full_every == 2):  # the full network is not drawn
                batch.record(arch, total)
            return total

        cost = train_supernet(task, supernet, step)
        return SupernetEvaluator(supernet, task, PATHS, facts=cost)
