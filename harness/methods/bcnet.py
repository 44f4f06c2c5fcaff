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
  followed by 1. Widths 1 to 4 are then trained with frequencies 1/2, 1/4, 1/8, 1/8;
- ``none``, no complement: every batch has a new random width (the ablation of the paper).

The paper writes the sum over both batches, the published code takes an optimiser step after each; so does this. The
code of the conference version also trains the full network every third step: ``full_every=3``.

``paths="left"`` leaves out the right path in training and score. What remains is the unilateral principle that the
paper argues against, here with any complement; with ``complement="none"`` it is `uniform`, bit for bit.

``base_width`` (L_s, of the journal version; `bcnet_v2`) trains only the widths L_s to 4 of four groups. The complement
is then L + L_s - c (``mirror``) or ``none``: K - c can be narrower than L_s. No layout of four groups trains all of
them equally often here, which is what BCNetV2 is for. Scores of architectures with narrower slots mean nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from harness.method import register
from harness.supernet.exhaustive import SupernetEvaluator
from harness.supernet.network import PATHS, Supernet
from harness.supernet.training import WIDTHS, Batch, make_supernet, random_arch, train_supernet
from harness.task import Task

NONE, MIRROR = "none", "mirror"
SIDES = {"both": PATHS, "left": PATHS[:1]}
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
        complement: Which width follows a width: "even", "clamp", "mirror" or "released"; or "none", a new random one.
        full_every: 0, or 3: every third step trains the full network.
        paths: "both", or "left" for the unilateral principle.
        base_width: L_s, the narrowest width that is trained, 1..3; above 1 the complement is "mirror" or "none".
    """

    def __init__(self, complement: str = "even", full_every: int = 0, paths: str = "both", base_width: int = 1) -> None:
        """Keep the options."""
        if complement not in (*COMPLEMENTS, NONE):
            raise ArgumentError(f"complement is {complement!r}: allowed are {', '.join((*COMPLEMENTS, NONE))}")
        if full_every not in (0, 3):
            raise ArgumentError(f"full_every is {full_every}: allowed are 0 (never) and 3 (every third step)")
        if paths not in SIDES:
            raise ArgumentError(f"paths is {paths!r}: allowed are {', '.join(SIDES)}")
        check_base_width(base_width)
        if base_width > 1 and complement not in (MIRROR, NONE):
            raise ArgumentError(
                f"complement is {complement!r} with base_width {base_width}: allowed are {MIRROR} and {NONE}, which"
                " never ask for a narrower width"
            )
        self.complement = complement
        self.full_every = full_every
        self.paths = paths
        self.base_width = base_width

    def arch_of(self, task: Task, number: int) -> tuple[int, ...]:
        """Width of a step: a random one, then its complement, then the full one where that is asked for."""
        place = number % (self.full_every or 2)
        if place == 2:
            return (NUM_WIDTHS,) * NUM_SLOTS
        if self.complement == NONE:
            return random_arch(task.rng(WIDTHS, number), self.base_width)
        arch = random_arch(task.rng(WIDTHS, number - place), self.base_width)
        return arch if place == 0 else self._complement_of(arch)

    def _complement_of(self, arch: tuple[int, ...]) -> tuple[int, ...]:
        if self.base_width > 1:
            return tuple(NUM_WIDTHS + self.base_width - digit for digit in arch)
        return tuple(COMPLEMENTS[self.complement][digit] for digit in arch)

    def fit(self, task: Task) -> SupernetEvaluator:
        """Train the supernet of the task."""
        supernet = make_supernet(task)
        paths = SIDES[self.paths]

        def step(batch: Batch) -> Tensor:
            arch = self.arch_of(task, batch.number)
            loss = train_paths(supernet, batch, arch, paths)
            if not (self.full_every and batch.number % self.full_every == 2):  # the full network is not drawn
                batch.record(arch, loss)
            return loss

        cost = train_supernet(task, supernet, step)
        return SupernetEvaluator(supernet, task, paths, facts=cost)


def check_base_width(base_width: int) -> None:
    """Refuse a narrowest width that leaves less than two widths."""
    if not isinstance(base_width, int) or base_width not in range(1, NUM_WIDTHS):
        raise ArgumentError(f"base_width is {base_width!r}: allowed are 1 to {NUM_WIDTHS - 1}")


def train_paths(supernet: Supernet, batch: Batch, arch: tuple[int, ...], paths: tuple[str, ...]) -> Tensor:
    """Add the gradients of the mean loss of a width over paths (Eq. 10); that loss, without gradient."""
    total = torch.zeros((), device=batch.labels.device)
    for path in paths:  # each with its own backward pass, so that the activations of one are alive
        loss = functional.cross_entropy(supernet(batch.images, arch, path), batch.labels) / len(paths)
        loss.backward()
        total += loss.detach()
    return total
