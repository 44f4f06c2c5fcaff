"""Uniform single-path training: the natural control for every weight-shared width search.

Each step draws one architecture, every slot uniformly among its four widths, and takes a step on the cross-entropy of
its left sub-network (the single-path one-shot recipe of Guo et al., ECCV 2020, applied to widths; called the unilateral
principle in BCNet, Su et al., CVPR 2021). A channel group is trained whenever its slot is at least that wide, so the
first group is trained four times as often as the last.

Score: validation accuracy of the sub-network, batch normalisation by batch statistics.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from harness.method import register
from harness.supernet.exhaustive import SupernetEvaluator
from harness.supernet.training import Batch, make_supernet, random_arch, train_supernet
from harness.task import Task


@register("uniform", paper="Guo et al., ECCV 2020, on widths", summary="one random sub-network per step")
class Uniform:
    """Uniform single-path training."""

    def fit(self, task: Task) -> SupernetEvaluator:
        """Train the supernet of the task."""
        supernet = make_supernet(task)

        def step(batch: Batch) -> Tensor:
            arch = random_arch(batch.rng)
            loss = functional.cross_entropy(supernet(batch.images, arch), batch.labels)
            loss.backward()
            batch.record(arch, loss.detach())
            return loss.detach()

        cost = train_supernet(task, supernet, step)
        return SupernetEvaluator(supernet, task, facts=cost)
