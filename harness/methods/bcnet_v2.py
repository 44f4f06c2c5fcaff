"""BCNetV2 (Su et al., 2022, the journal version of BCNet): more groups than widths, and one path per step.

Taken from the paper: with a smallest width of L_s of L groups, the layer has T groups; a width c uses groups 1..c on
the left path and T-c+1..T on the right; the complement of c is L + L_s - c. Instead of both paths on every batch
(Eq. 10), odd batches train the left path and even ones the right (Eq. 22), for the memory and compute of one path.

Left open there: the text gives T = L + L_s - 1, the derivation of Eq. 21 and the published configurations give T = L +
L_s. Only with the latter do a width on the left and its complement on the right cover every group exactly once, which
is the claimed fairness. So the default departs from the paper's text: it is ``groups="eq21"`` (T = 5, so layers are
1.25 times as wide as the space's maximum, while every sub-network keeps its width and cost). ``groups="paper"`` follows
the text, T = 4. L_s is 1 by default, because the space has all widths; with ``base_width=2`` or 3 only widths L_s to 4
are trained, uniformly, in 4 + L_s (or 3 + L_s) groups, and scores of architectures with narrower slots mean nothing.
Nor does the paper say which width the right path
takes after the left one has had c: ``right`` chooses the ``complement`` (with T = 5 each pair of steps then trains
every group once; with T = 4 it trains one of the four twice, each as often as the others in the long run), the ``same``
width, or a ``new`` random one. The published trainer does not alternate. ``update="both"`` trains both paths of one
width on every batch (Eq. 10) at twice the cost; `right` then says which width the second batch of a pair takes.

Score: mean of the accuracies of both paths, batch normalisation by batch statistics.
"""

from __future__ import annotations

from torch import Tensor

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_WIDTHS
from harness.method import register
from harness.methods.bcnet import check_base_width, train_paths
from harness.supernet.exhaustive import SupernetEvaluator
from harness.supernet.network import PATHS
from harness.supernet.training import WIDTHS, Batch, make_supernet, random_arch, train_supernet
from harness.task import Task

SPARE_GROUPS = {"eq21": 0, "paper": -1}
"""Groups per slot beyond L + L_s."""
RIGHT = ("complement", "same", "new")
UPDATES = ("alternate", "both")


@register("bcnet_v2", paper="Su et al., BCNetV2, 2022", summary="five groups per slot, left and right in turn")
class BCNetV2:
    """Bilaterally coupled network, second version.

    Args:
        groups: Groups per slot: "eq21" for L + L_s, "paper" for L + L_s - 1.
        right: Width that follows c, on the right path: "complement", "same" or "new".
        update: Paths of a batch: "alternate" for the left and the right one in turn (Eq. 22), "both" (Eq. 10).
        base_width: L_s, the narrowest width that is trained, 1..3.
    """

    def __init__(
        self, groups: str = "eq21", right: str = "complement", update: str = "alternate", base_width: int = 1
    ) -> None:
        """Keep the options."""
        if groups not in SPARE_GROUPS:
            raise ArgumentError(f"groups is {groups!r}: allowed are {', '.join(SPARE_GROUPS)}")
        if right not in RIGHT:
            raise ArgumentError(f"right is {right!r}: allowed are {', '.join(RIGHT)}")
        if update not in UPDATES:
            raise ArgumentError(f"update is {update!r}: allowed are {', '.join(UPDATES)}")
        check_base_width(base_width)
        self.groups = groups
        self.right = right
        self.update = update
        self.base_width = base_width

    @property
    def num_groups(self) -> int:
        """T, the groups of every slot."""
        return NUM_WIDTHS + self.base_width + SPARE_GROUPS[self.groups]

    def arch_of(self, task: Task, number: int) -> tuple[int, ...]:
        """Width of a step; where paths alternate, even numbers are left, odd ones right."""
        place = number % 2
        arch = random_arch(task.rng(WIDTHS, number if self.right == "new" else number - place), self.base_width)
        if place and self.right == "complement":
            return tuple(NUM_WIDTHS + self.base_width - digit for digit in arch)
        return arch

    def fit(self, task: Task) -> SupernetEvaluator:
        """Train the supernet of the task."""
        supernet = make_supernet(task, self.num_groups)

        def step(batch: Batch) -> Tensor:
            arch = self.arch_of(task, batch.number)
            paths = PATHS if self.update == "both" else (PATHS[batch.number % 2],)
            loss = train_paths(supernet, batch, arch, paths)
            batch.record(arch, loss)
            return loss

        cost = train_supernet(task, supernet, step)
        return SupernetEvaluator(supernet, task, PATHS, facts=cost)
