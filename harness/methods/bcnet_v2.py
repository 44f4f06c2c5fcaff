"""BCNetV2 (Su et al., 2022, the journal version of BCNet): more groups than widths, and one path per step.

Taken from the paper: with a smallest width of L_s of L groups, the layer has T groups; a width c uses groups 1..c on
the left path and T-c+1..T on the right; the complement of c is L + L_s - c. Instead of both paths on every batch
(Eq. 10), odd batches train the left path and even ones the right (Eq. 22), for the memory and compute of one path.

Left open there: the text gives T = L + L_s - 1, the derivation of Eq. 21 and the published configurations give T = L +
L_s. Only with the latter do a width on the left and its complement on the right cover every group exactly once, which
is the claimed fairness. So the default departs from the paper's text: it is ``groups="eq21"`` (T = 5, so layers are
1.25 times as wide as the space's maximum, while every sub-network keeps its width and cost). ``groups="paper"`` follows
the text, T = 4. L_s is 1 here, because the space has all widths. Nor does the paper say which width the right path
takes after the left one has had c: ``right`` chooses the ``complement`` (with T = 5 each pair of steps then trains
every group once; with T = 4 it trains one of the four twice, each as often as the others in the long run), the ``same``
width, or a ``new`` random one. The published trainer does not alternate.

Score: mean of the accuracies of both paths, batch normalisation by batch statistics.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_WIDTHS
from harness.method import register
from harness.supernet.exhaustive import SupernetEvaluator
from harness.supernet.network import PATHS
from harness.supernet.training import WIDTHS, Batch, make_supernet, random_arch, train_supernet
from harness.task import Task

NUM_GROUPS = {"eq21": NUM_WIDTHS + 1, "paper": NUM_WIDTHS}
RIGHT = ("complement", "same", "new")


@register("bcnet_v2", paper="Su et al., BCNetV2, 2022", summary="five groups per slot, left and right in turn")
class BCNetV2:
    """Bilaterally coupled network, second version.

    Args:
        groups: Groups per slot: "eq21" for L + L_s = 5, "paper" for L + L_s - 1 = 4.
        right: Width on the right path after c on the left: "complement", "same" or "new".
    """

    def __init__(self, groups: str = "eq21", right: str = "complement") -> None:
        """Keep the options."""
        if groups not in NUM_GROUPS:
            raise ArgumentError(f"groups is {groups!r}: allowed are {', '.join(NUM_GROUPS)}")
        if right not in RIGHT:
            raise ArgumentError(f"right is {right!r}: allowed are {', '.join(RIGHT)}")
        self.groups = groups
        self.right = right

    def arch_of(self, task: Task, number: int) -> tuple[int, ...]:
        """Width of a step; even numbers are left, odd ones right."""
        place = number % 2
        arch = random_arch(task.rng(WIDTHS, number if self.right == "new" else number - place))
        return tuple(NUM_WIDTHS + 1 - digit for digit in arch) if place and self.right == "complement" else arch

    def fit(self, task: Task) -> SupernetEvaluator:
        """Train the supernet of the task."""
        supernet = make_supernet(task, NUM_GROUPS[self.groups])

        def step(batch: Batch) -> Tensor:
            arch = self.arch_of(task, batch.number)
            loss = functional.cross_entropy(supernet(batch.images, arch, PATHS[batch.number % 2]), batch.labels)
            loss.backward()
            batch.record(arch, loss.detach())
            return loss.detach()

        cost = train_supernet(task, supernet, step)
        return SupernetEvaluator(supernet, task, PATHS, facts=cost)
