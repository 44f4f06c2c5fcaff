"""TAS, transformable architecture search (Dong and Yang, NeurIPS 2019, arXiv 1905.09717).

Taken from the paper and its code: a distribution over the widths of each layer, learned along with the weights on two
halves of the training images. A forward pass draws two different widths per slot from a Gumbel softmax, runs both on
shared filters, each with a normalisation of its own, brings them to equal channels by channel-wise interpolation
(adaptive average pooling along the channels), and mixes them by their renormalised probabilities. Temperature 5 to 0.1
by cosine; the distribution by Adam, learning rate 0.001, weight decay 0.001.

Left open there, because its networks tie nothing: here one pair of widths is drawn per slot and pass, for all layers of
the slot, so that skip connections join equal channels. In the MobileNet family the mixture is formed once, at the layer
that mixes channels; the depthwise filters act on its result, with one scale and shift per channel for all widths: with
those of the wider of the two, the ones of width 1 would never be trained.

Departs from the paper: the penalty on expected cost (``flops_weight``, 2 in the paper's search for one network) is 0 by
default. It pulls the distribution to one budget, and a ranking of the whole space has none; ``flops_weight=2`` is the
literal setting.

Score: S1, validation accuracy of the discrete sub-network, which is what the comparisons of the literature say they
use (``score="shared"``). S2, the log-probability of the widths, ``score="distribution"``, is written beside it in the
column ``log_prob``. That the searched weights were trained as mixtures and are scored as prefixes is TAS's own.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from channel_bench.space.layers import Layer
from harness.method import register
from harness.supernet.differentiable import (
    Betas,
    Penalty,
    check_temperatures,
    expected_macs,
    gumbel,
    search_widths,
    temperature,
)
from harness.supernet.exhaustive import SupernetEvaluator
from harness.supernet.network import Supernet, batch_norm
from harness.supernet.training import make_supernet
from harness.task import Task

SCORES = ("shared", "distribution")
TOLERANCE = 0.05
"""Share of the largest cost by which the likeliest network may lie below the target without a penalty."""


@register("tas", paper="Dong and Yang, NeurIPS 2019, arXiv 1905.09717", summary="learned distribution, mixed widths")
class TAS:
    """Transformable architecture search.

    Args:
        score: "shared" for the accuracy of the sub-network, "distribution" for the log-probability of its widths.
        tau_max: First temperature.
        tau_min: Last temperature, > 0.
        tau_schedule: "cosine" or "linear".
        arch_lr: Learning rate of the distribution, > 0.
        flops_weight: Weight of the penalty on expected FLOPs, >= 0.
        flops_target: Cost aimed at, as a share of the largest, in (0, 1].
    """

    def __init__(
        self,
        score: str = "shared",
        tau_max: float = 5.0,
        tau_min: float = 0.1,
        tau_schedule: str = "cosine",
        arch_lr: float = 1e-3,
        flops_weight: float = 0.0,
        flops_target: float = 0.5,
    ) -> None:
        """Keep the options."""
        check_score(score)
        check_temperatures(tau_max, tau_min, tau_schedule)
        if not (0 < arch_lr < math.inf and 0 <= flops_weight < math.inf and 0 < flops_target <= 1):
            raise ArgumentError(
                f"arch_lr {arch_lr}, flops_weight {flops_weight}, flops_target {flops_target}: allowed are numbers"
                " > 0, >= 0, and in (0, 1]"
            )
        self.score = score
        self.tau_max, self.tau_min, self.tau_schedule = tau_max, tau_min, tau_schedule
        self.arch_lr = arch_lr
        self.flops_weight, self.flops_target = flops_weight, flops_target

    def fit(self, task: Task) -> DistributionEvaluator:
        """Train the supernet of the task, and the distribution."""
        supernet, betas = make_supernet(task, norm_per_width=True), Betas(task, std=0.01)

        def forward(images: Tensor, log_probs: Tensor, progress: float, rng: np.random.Generator) -> Tensor:
            tau = temperature(self.tau_max, self.tau_min, self.tau_schedule, progress)
            return mixed_forward(supernet, images, *draw_pairs(gumbel(log_probs, tau, rng), rng))

        penalty = self.make_penalty(supernet, betas)
        facts = search_widths(task, supernet, betas, forward, arch_lr=self.arch_lr, penalty=penalty)
        share_depthwise_norms(supernet)
        return DistributionEvaluator(supernet, task, betas, self.score, facts)

    def make_penalty(self, supernet: Supernet, betas: Betas) -> Penalty | None:
        """The cost loss of the paper (its Eq. 7): the logarithm of the expected cost, up or down, or nothing."""
        if not self.flops_weight:
            return None
        space = supernet.space
        largest = float(space.flops((NUM_WIDTHS,) * NUM_SLOTS))
        target = self.flops_target * largest

        def penalty() -> Tensor:
            now = float(space.flops(betas.likeliest()))
            sign = 1.0 if now > target else -1.0 if now < target - TOLERANCE * largest else 0.0
            return self.flops_weight * sign * expected_macs(supernet, betas.expected_ratios()).log()

        return penalty


def check_score(score: str) -> None:
    """Refuse the name of an unknown score.

    Raises:
        ArgumentError: It is neither.
    """
    if score not in SCORES:
        raise ArgumentError(f"score is {score!r}: allowed are {', '.join(SCORES)}")


def draw_pairs(perturbed: Tensor, rng: np.random.Generator) -> tuple[list[list[int]], list[Tensor]]:
    """Two different widths per slot, drawn by the softmax, and their renormalised probabilities.

    Args:
        perturbed: (7, 4), Gumbel-perturbed log-probabilities over the temperature.
        rng: Draws the pairs.

    Returns:
        Digits (7 x 2), and tensors (2,) that carry gradients.
    """
    weights = functional.softmax(perturbed.detach().double(), 1).numpy() + 1e-7
    pairs = [rng.choice(NUM_WIDTHS, 2, replace=False, p=row / row.sum()) for row in weights]
    shares = [functional.softmax(row[torch.from_numpy(pair)], 0) for row, pair in zip(perturbed, pairs, strict=True)]
    return [[int(place) + 1 for place in pair] for pair in pairs], shares


def mixed_forward(supernet: Supernet, images: Tensor, pairs: list[list[int]], shares: list[Tensor]) -> Tensor:
    """Logits of the mixture of two widths per slot."""
    widest = [max(pair) for pair in pairs]
    on_device = torch.stack(shares).to(images.device)  # one copy for all slots

    def mix(layer: Layer, y: Tensor) -> Tensor:
        slot = layer.writes
        if layer.depthwise:
            scale, shift = supernet.cut_norm(layer, NUM_WIDTHS, "left")
            channels = supernet.channels_of(slot, widest[slot])
            return batch_norm(y, scale[channels], shift[channels])
        parts = []
        for digit, share in zip(pairs[slot], on_device[slot], strict=True):
            cut = y[:, supernet.channels_of(slot, digit)]
            parts.append(share * interpolate(batch_norm(cut, *supernet.cut_norm(layer, digit, "left")), y.shape[1]))
        return parts[0] + parts[1]

    return supernet(images, widest, normalise=mix)


@torch.no_grad()
def share_depthwise_norms(supernet: Supernet) -> None:
    """Give all widths of a depthwise layer the scale and shift that `mixed_forward` trained, those of the widest."""
    for layer in supernet.layers:
        if layer.depthwise:
            for pairs in (supernet.scales[layer.key], supernet.shifts[layer.key]):
                pairs.copy_(pairs[-1].clone())


def interpolate(x: Tensor, channels: int) -> Tensor:
    """Channel-wise interpolation: (batch, c, height, width) to (batch, channels, height, width).

    Channel j of C is the mean of the input channels floor(j c / C) .. ceil((j + 1) c / C) - 1. With d = gcd(c, C) that
    is d times one small matrix along the diagonal, C / d by c / d, for the d-th part of the work.
    """
    batch, inputs, height, width = x.shape
    if inputs == channels:
        return x
    blocks = math.gcd(inputs, channels)
    means = _means(inputs // blocks, channels // blocks, x.device, x.dtype)
    # Channels first, so that the result lies in memory as that of the whole matrix does: convolutions round by layout.
    parted = x.transpose(0, 1).reshape(blocks, inputs // blocks, batch * height * width)
    return (means @ parted).view(channels, batch, height, width).transpose(0, 1)


@functools.lru_cache(maxsize=256)
def _means(inputs: int, outputs: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The matrix of one block of an interpolation, kept on its device: it is needed in every layer of every step."""
    matrix = functional.adaptive_avg_pool1d(torch.eye(inputs)[None], outputs)[0].T.contiguous()
    return matrix.to(device, dtype)


class DistributionEvaluator(SupernetEvaluator):
    """Scores by the sub-network or by the distribution, and writes both.

    Args:
        supernet: The trained weights.
        task: Gives the validation images.
        betas: The trained distribution.
        by: "shared" or "distribution".
        facts: What to write beside the scores.
    """

    def __init__(self, supernet: Supernet, task: Task, betas: Betas, by: str, facts: dict[str, Any]) -> None:
        """Keep the log-probabilities."""
        super().__init__(supernet, task, facts=facts)
        self._log_probs = betas.log_probs().detach().double().numpy()
        self._by = by

    def slot_effects(self) -> npt.NDArray[np.float64]:
        """Log-probability of each width of each slot, float64 (7, 4)."""
        return self._log_probs.copy()

    def score(self, archs: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """What was asked for: validation accuracy (or negative loss), or log-probability; float64 (n,)."""
        return super().score(archs) if self._by == "shared" else self._log_prob(archs)

    def columns(self, archs: npt.NDArray[np.int8]) -> dict[str, npt.NDArray[np.float64]]:
        """``val_acc`` and ``val_loss`` of the sub-networks, and ``log_prob``, float64 (n,) each."""
        return {**super().columns(archs), "log_prob": self._log_prob(archs)}

    def _log_prob(self, archs: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        return self._log_probs[np.arange(NUM_SLOTS), archs.astype(np.int64) - 1].sum(1)
