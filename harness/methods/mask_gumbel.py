"""Masked widths with Gumbel softmax: FBNetV2 (Wan et al., CVPR 2020, arXiv 2004.05565), as NATS-Bench runs it.

Taken from the papers (NATS-Bench: Dong et al., 2021, arXiv 2009.00437, whose size-search script calls it
``mask_gumbel``): the network always runs at full width; the output of a layer, after a normalisation without scale and
shift, is multiplied by a mixture of prefix masks, weighted by a Gumbel softmax sample of the layer's distribution over
widths. Weights and distribution are trained in turn on two halves of the images; temperature 10 to 0.1 linearly; Adam
with learning rate 0.0003. In a first part of the training the distribution rests, and each mask on its own is the full
one, with a probability that falls from 1 to 0, or a random prefix.

Left open there, because nothing is tied: here a slot has one sample per pass, for all its layers. The length of the
first part is an option of the script; ``warmup=0.3`` follows its example.

Score: validation accuracy of the sub-network (a mask of one width is the same as cutting the channels off), batch
normalisation by batch statistics; ``score="distribution"`` and the column ``log_prob`` as in `tas`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from channel_bench.space.layers import Layer
from harness.method import register
from harness.methods.tas import DistributionEvaluator, check_score
from harness.supernet.differentiable import Betas, check_temperatures, gumbel, search_widths, temperature
from harness.supernet.network import Supernet, batch_norm
from harness.supernet.training import make_supernet
from harness.task import Task

PREFIXES = torch.tril(torch.ones(NUM_WIDTHS, NUM_WIDTHS))
"""Which groups each width keeps, (4 widths, 4 groups)."""


@register("mask_gumbel", paper="Wan et al., CVPR 2020, arXiv 2004.05565", summary="learned mixture of prefix masks")
class MaskGumbel:
    """Masked widths with Gumbel softmax.

    Args:
        score: "shared" for the accuracy of the sub-network, "distribution" for the log-probability of its widths.
        tau_max: First temperature.
        tau_min: Last temperature, > 0.
        tau_schedule: "cosine" or "linear".
        arch_lr: Learning rate of the distribution, > 0.
        warmup: Share of the training in which the distribution rests, in [0, 1].
    """

    def __init__(
        self,
        score: str = "shared",
        tau_max: float = 10.0,
        tau_min: float = 0.1,
        tau_schedule: str = "linear",
        arch_lr: float = 3e-4,
        warmup: float = 0.3,
    ) -> None:
        """Keep the options."""
        check_score(score)
        check_temperatures(tau_max, tau_min, tau_schedule)
        if not (0 < arch_lr < math.inf and 0 <= warmup <= 1):
            raise ArgumentError(f"arch_lr {arch_lr}, warmup {warmup}: allowed are numbers > 0, and in [0, 1]")
        self.score = score
        self.tau_max, self.tau_min, self.tau_schedule = tau_max, tau_min, tau_schedule
        self.arch_lr = arch_lr
        self.warmup = warmup

    def fit(self, task: Task) -> DistributionEvaluator:
        """Train the supernet of the task, and the distribution."""
        supernet, betas = make_supernet(task), Betas(task, std=1e-3)

        def forward(images: Tensor, log_probs: Tensor, progress: float, rng: np.random.Generator) -> Tensor:
            return masked_forward(supernet, images, self.masks(log_probs, progress, rng))

        facts = search_widths(task, supernet, betas, forward, arch_lr=self.arch_lr, frozen_until=self.warmup)
        return DistributionEvaluator(supernet, task, betas, self.score, facts)

    def masks(self, log_probs: Tensor, progress: float, rng: np.random.Generator) -> Tensor:
        """What the groups of each slot are multiplied by, (7, 4)."""
        if progress < self.warmup:
            keep_all = rng.random(NUM_SLOTS) < 1 - progress / self.warmup
            return PREFIXES[np.where(keep_all, NUM_WIDTHS - 1, rng.integers(NUM_WIDTHS, size=NUM_SLOTS))]
        tau = temperature(self.tau_max, self.tau_min, self.tau_schedule, progress)
        return functional.softmax(gumbel(log_probs, tau, rng), 1) @ PREFIXES


def masked_forward(supernet: Supernet, images: Tensor, masks: Tensor) -> Tensor:
    """Logits of the full network whose groups of channels are multiplied by masks (7, 4)."""
    on_device = masks.to(images.device)

    def mask(layer: Layer, y: Tensor) -> Tensor:
        slot = layer.writes
        scale, shift = supernet.cut_norm(layer, NUM_WIDTHS, "left")
        # The scale stays 1 and the shift 0: no gradient is wanted for them.
        normalised = batch_norm(y, scale.detach(), shift.detach())
        return normalised * on_device[slot].repeat_interleave(supernet.group_size(slot))[:, None, None]

    return supernet(images, (NUM_WIDTHS,) * NUM_SLOTS, normalise=mask)
