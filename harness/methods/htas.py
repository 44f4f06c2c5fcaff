"""HTAS: TAS with the latency of the hardware in its loss (Jiang, Wang and Zhu, ICME 2020).

Taken from the paper: latency as a function of a layer's output width, f(x) = k x + b, fitted for each size of feature
map; the loss of the distribution is the cross-entropy plus lambda times the sum over layers of f at the expected output
width. Only the output width counts, so a layer that reads more channels is not charged for them. The rest is `tas`.

Departs from the paper: lambda, ``latency_weight``, is 0 by default. The paper searches for one fast network and gives
no lambda ("the same setting as TAS", where it is 2). The sum has no target, so it always pulls to narrower widths: at 2
the distribution settles at 1111111 in both mini spaces, which says nothing about how widths rank. A ranking of a whole
space has no budget, so the penalty is off, as TAS's is in `tas`. Then HTAS scores as TAS does, bit by bit: its two own
ideas, this penalty and the choice of widths below, both serve a search under a latency. ``latency_weight=2`` is the
literal setting.

Left open there: the unit of f, and which hardware. A ranking must not depend on what else the machine was doing, so by
default f counts multiply-accumulates: k is what one more output channel of a layer costs at full input width, b is 0,
as a share of the whole network. Measured latencies come from ``channel-bench latency``: ``latency=FILE`` fits k and b
for each size of feature map to them; it needs a ``latency_weight`` above 0.

Added: a target. ``latency_target`` replaces the sum by TAS's cost loss (its Eq. 7) on latency: the logarithm of what
the expected widths cost, up where the likeliest network is slower than the target, down where it is faster by more than
5%, else nothing. The target is a share of the way from the narrowest to the widest network, by f: on a small network
most latency is there at any width, so that a share of the widest's latency may be out of reach. For the same reason the
logarithm is of the part that widths decide, and b is left out. A layer whose k came out negative counts as free.

The paper's other half chooses which widths to search among: it scores a width by how much faster it is than the fit
says and keeps the best of each group (htas_choices.py). This benchmark has four fixed widths per slot, so it cannot
judge that choice.

Score: as `tas`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from channel_bench.errors import ArgumentError
from channel_bench.latency import load_latency
from channel_bench.space import NUM_WIDTHS
from channel_bench.space.cost import layer_flops
from channel_bench.space.layers import IMAGE
from harness.method import register
from harness.methods.htas_choices import LayerGroup, fit_layers
from harness.methods.tas import TAS, TOLERANCE
from harness.supernet.differentiable import Betas, Penalty
from harness.supernet.network import Supernet


@register("htas", paper="Jiang, Wang and Zhu, ICME 2020", summary="TAS with a penalty on expected latency")
class HTAS(TAS):
    """TAS with a penalty on expected latency.

    Args:
        latency_weight: Weight of the penalty, >= 0; at 0 the ranking is that of `TAS`.
        latency: File of measured latencies of the space, written by ``channel-bench latency``; empty to count
            multiply-accumulates.
        score: As in `TAS`.
        tau_max: As in `TAS`.
        tau_min: As in `TAS`.
        tau_schedule: As in `TAS`.
        arch_lr: As in `TAS`.
        latency_target: Latency aimed at, in (0, 1], as a share of the way from the narrowest network's to the widest's;
            0 for no target: the penalty always pulls to narrower widths.
    """

    def __init__(
        self,
        latency_weight: float = 0.0,
        latency: str = "",
        score: str = "shared",
        tau_max: float = 5.0,
        tau_min: float = 0.1,
        tau_schedule: str = "cosine",
        arch_lr: float = 1e-3,
        latency_target: float = 0.0,
    ) -> None:
        """Keep the options."""
        super().__init__(score, tau_max, tau_min, tau_schedule, arch_lr)
        if not 0 <= latency_weight < math.inf:
            raise ArgumentError(f"latency_weight is {latency_weight}: allowed are numbers >= 0")
        if latency and not latency_weight:
            raise ArgumentError(
                f"latency file {latency!r} changes nothing at latency_weight 0: add latency_weight above 0, such as 2"
            )
        if not 0 <= latency_target <= 1:
            raise ArgumentError(f"latency_target is {latency_target}: allowed are 0, for none, to 1")
        if latency_target and not latency_weight:
            raise ArgumentError(
                f"latency_target {latency_target} changes nothing at latency_weight 0: add latency_weight above 0, such"
                " as 2"
            )
        self.latency_target = latency_target
        self.latency_weight = latency_weight
        self.latency = latency

    def make_penalty(self, supernet: Supernet, betas: Betas) -> Penalty | None:
        """Lambda times the sum over layers of f at the expected output width, as a share of that at full width.

        With a target, lambda times its logarithm, up, down or not at all (module docstring).
        """
        if not self.latency_weight:
            return None
        slopes = measured_slopes(supernet, self.latency) if self.latency else mac_slopes(supernet)
        slots = [layer.writes for layer in supernet.layers]
        if self.latency_target:
            return self._targeted(torch.tensor(slopes).clamp(min=0), slots, betas)
        weights = self.latency_weight * torch.tensor(slopes)
        return lambda: weights @ betas.expected_ratios()[slots]

    def _targeted(self, slopes: Tensor, slots: list[int], betas: Betas) -> Penalty:
        """TAS's cost loss on latency.

        Raises:
            ArgumentError: No layer gets slower with its width.
        """
        if not slopes.sum() > 0:
            raise ArgumentError(
                f"latency file {self.latency!r} has no layer that gets slower with its width: no latency can be aimed"
                " at; measure with a larger batch"
            )

        def penalty() -> Tensor:
            way = way_to_widest(slopes, torch.tensor(betas.likeliest())[slots] / NUM_WIDTHS)
            sign = 1.0 if way > self.latency_target else -1.0 if way < self.latency_target - TOLERANCE else 0.0
            return self.latency_weight * sign * (slopes @ betas.expected_ratios()[slots]).log()

        return penalty


def way_to_widest(slopes: Tensor, ratios: Tensor) -> float:
    """Latency as a share of the way from the narrowest network's, 0, to the widest's, 1.

    Args:
        slopes: Per layer, not all 0.
        ratios: Per layer, its output width as a share of the largest.
    """
    narrowest = 1 / NUM_WIDTHS
    return float(slopes @ (ratios - narrowest) / (slopes.sum() * (1 - narrowest)))


def mac_slopes(supernet: Supernet) -> list[float]:
    """Per layer, what its full output width costs at full input width, as a share of what all layers cost."""
    space = supernet.space
    widths = (*space.max_channels, space.input_shape[0])
    macs = [layer_flops(layer, widths[layer.reads], widths[layer.writes]) for layer in supernet.layers]
    return [share / sum(macs) for share in macs]


def measured_slopes(supernet: Supernet, path: str) -> list[float]:
    """Per layer, k times its full output width, as a share of f summed over layers; b has no gradient.

    The stem has no fit, because its input is not a width; it counts as 0.

    Raises:
        MissingDataError: There is no such file.
        CorruptFileError: It cannot be read.
        ArgumentError: It is of another space.
    """
    space = supernet.space
    fits = fit_layers(load_latency(path, space))
    slopes, total = [], 0.0
    for layer in supernet.layers:
        inputs = None if layer.depthwise or layer.reads == IMAGE else space.max_channels[layer.reads]
        fit = fits.get(LayerGroup(layer.output_size, layer.kind, inputs))
        slopes.append(0.0 if fit is None else fit.k * space.max_channels[layer.writes])
        total += 0.0 if fit is None else float(fit(space.max_channels[layer.writes]))
    return [slope / total for slope in slopes]
