"""AutoSlim (Yu and Huang, 2019, arXiv 1903.11728), trained as universally slimmable networks (arXiv 1903.05134).

Taken from the papers: the sandwich rule and in-place distillation. Each step runs n = 4 sub-networks on the same
batch: the widest, on the labels; the narrowest and n - 2 random ones, on the softmax of the widest, which is treated
as a constant. The gradients are summed, not averaged, and one optimiser step is taken.

Left open there: each slot of a random sub-network is drawn uniformly among its four widths. The variant that the
authors of Channel-Bench-Macro used softens both softmaxes by a temperature of 3 without the usual factor of 9;
``temperature=3``.

Score: validation accuracy of the sub-network, batch normalisation by batch statistics, as greedy slimming did.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from harness.method import register
from harness.supernet.exhaustive import SupernetEvaluator
from harness.supernet.training import Batch, make_supernet, random_arch, train_supernet
from harness.task import Task


@register("autoslim", paper="Yu and Huang, 2019, arXiv 1903.11728", summary="sandwich rule with in-place distillation")
class AutoSlim:
    """Sandwich rule with in-place distillation.

    Args:
        num_subnets: Sub-networks per step, >= 2: the widest, the narrowest, and random ones.
        temperature: Temperature of the distillation, > 0.
        distill: Whether the others learn from the widest; False trains them on the labels.
    """

    def __init__(self, num_subnets: int = 4, temperature: float = 1.0, distill: bool = True) -> None:
        """Keep the options."""
        if num_subnets < 2:
            raise ArgumentError(f"num_subnets is {num_subnets}: allowed are 2 and above (the widest and the narrowest)")
        if not 0 < temperature < math.inf:
            raise ArgumentError(f"temperature is {temperature}: allowed are numbers > 0")
        self.num_subnets = num_subnets
        self.temperature = temperature
        self.distill = distill

    def fit(self, task: Task) -> SupernetEvaluator:
        """Train the supernet of the task."""
        supernet = make_supernet(task)

        def step(batch: Batch) -> Tensor:
            logits = supernet(batch.images, (NUM_WIDTHS,) * NUM_SLOTS)
            loss = functional.cross_entropy(logits, batch.labels)
            loss.backward()
            students: list[Tensor] = []
            teacher = functional.softmax(logits.detach() / self.temperature, 1)
            drawn = [random_arch(batch.rng) for _ in range(self.num_subnets - 2)]
            for arch in [(1,) * NUM_SLOTS, *drawn]:
                student = supernet(batch.images, arch)
                if self.distill:
                    # Cross-entropy and KL divergence with a constant teacher have the same gradient.
                    functional.cross_entropy(student / self.temperature, teacher).backward()
                else:
                    functional.cross_entropy(student, batch.labels).backward()
                students.append(student.detach())
            for arch, answers in zip(drawn, students[1:], strict=True):
                batch.record(arch, functional.cross_entropy(answers, batch.labels))
            return loss.detach()

        cost = train_supernet(task, supernet, step)
        return SupernetEvaluator(supernet, task, facts=cost)
