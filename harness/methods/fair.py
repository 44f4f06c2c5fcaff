"""Strict fairness (FairNAS, Chu et al., ICCV 2021, arXiv 1907.01845), applied to widths.

Taken from the paper: every choice of every layer is trained equally often, not only in expectation. Each step draws one
permutation of the four widths per slot, independently; the j-th of four sub-networks takes the j-th entry of each. The
gradients of the four are summed and one optimiser step is taken, so each width of each slot is trained exactly once
per step.

Left open there: the paper chooses operators, not widths. Widths share their first groups, so what is equal here is how
often a width is trained, not a group of channels: those are trained in the ratio 4 : 3 : 2 : 1, as under `uniform`.

Score: validation accuracy of the sub-network, batch normalisation by batch statistics.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from harness.method import register
from harness.supernet.exhaustive import SupernetEvaluator
from harness.supernet.training import Batch, make_supernet, train_supernet
from harness.task import Task


@register("fair", paper="Chu et al., ICCV 2021, on widths", summary="every width of every slot exactly once per step")
class Fair:
    """Strict fairness over widths."""

    def fit(self, task: Task) -> SupernetEvaluator:
        """Train the supernet of the task."""
        supernet = make_supernet(task)

        def step(batch: Batch) -> Tensor:
            permutations = [1 + batch.rng.permutation(NUM_WIDTHS) for _ in range(NUM_SLOTS)]
            total = torch.zeros((), device=batch.labels.device)
            for digits in zip(*permutations, strict=True):
                arch = tuple(map(int, digits))
                loss = functional.cross_entropy(supernet(batch.images, arch), batch.labels)
                loss.backward()
                batch.record(arch, loss.detach())
                total += loss.detach()
            return total / NUM_WIDTHS

        cost = train_supernet(task, supernet, step)
        return SupernetEvaluator(supernet, task, facts=cost)
