"""The weight-shared network of a space: one set of weights, any of 16,384 sub-networks cut out of it.

Every slot has T groups of channels (a quarter of the slot's maximum each; T = 4 but for BCNetV2). A sub-network of
digit c uses c groups of the slot, on the left path the first c, on the right path the last c, in every layer of the
slot: outputs of the producing convolution, its normalisation, depthwise filters, and inputs of the consuming
convolution. So a weight is W[outputs, inputs], and the skip connections of a stage, which share one slot, always join
equal channels.

Batch normalisation uses the statistics of the batch, in training and in evaluation, with one scale and shift per
channel id (or, as TAS has it, per channel id and width). Averages that were accumulated over widths would mean nothing
to any one of them. What can be had instead is recalibration: `calibration` splits a batch into images that only give
statistics, and images that are normalised by the mean of those.

In "bf16" the convolutions and what follows them run in bfloat16, from weights in fp32. Pooling and classifier stay in
fp32: with 8 bits, half of the images of a data set have two classes with one logit. "tf32" is a setting of the device
(`channel_bench.training.step.arithmetic`), and changes nothing here.

The layers are those of `channel_bench.space.layers`: the forward pass here runs them for one sub-network,
exhaustive.py for all of them at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_WIDTHS, Space
from channel_bench.space.layers import IMAGE, Layer
from channel_bench.training.step import layout_on_cpu
from harness.supernet.loss_records import LossRecords

PATHS = ("left", "right")

Normalise = Callable[[Layer, Tensor], Tensor]
"""(layer, output of its convolution) to what takes the place of its batch normalisation."""


class Supernet(nn.Module):
    """Weights of all sub-networks of a space; `harness.supernet.make_supernet` makes one for a task.

    Args:
        space: The search space.
        generator: CPU generator of the initial weights (PyTorch's default distributions, fan-in of the full width).
        num_groups: T, groups of channels per slot, >= 4; with more than 4 the layers are wider than the space's
            maximum.
        norm_per_width: Whether every width of a slot has a scale and shift of its own (TAS), or all share one.
        precision: "fp32", "tf32" or "bf16".

    Attributes:
        forward_macs: Multiply-accumulates of all forward passes so far; training costs three times that.
        loss_records: Training losses of the architectures that it was trained on (`Batch.record`).
        epoch_losses: Mean training loss of every epoch so far, nats.
    """

    def __init__(
        self,
        space: Space,
        generator: torch.Generator,
        num_groups: int = NUM_WIDTHS,
        norm_per_width: bool = False,
        precision: str = "fp32",
    ) -> None:
        """Draw the weights."""
        super().__init__()
        if num_groups < NUM_WIDTHS:
            raise ArgumentError(f"a supernet of {num_groups} groups cannot hold widths of {NUM_WIDTHS}")
        self.space = space
        self.num_groups = num_groups
        self.norm_per_width = norm_per_width
        self.precision = precision
        self.forward_macs = 0
        self.loss_records = LossRecords()
        self.epoch_losses: list[float] = []
        self._flops = space.flops()
        self.blocks = space.blocks
        self.layers = [layer for block in self.blocks for layer in block]
        self.weights, self.scales, self.shifts = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for layer in self.layers:
            inputs = 1 if layer.depthwise else space.input_shape[0] if layer.reads == IMAGE else self._full(layer.reads)
            outputs = self._full(layer.writes)
            self.weights[layer.key] = _uniform((outputs, inputs, layer.kernel, layer.kernel), generator)
            shape = (NUM_WIDTHS, outputs) if norm_per_width else (outputs,)
            self.scales[layer.key] = nn.Parameter(torch.ones(shape))
            self.shifts[layer.key] = nn.Parameter(torch.zeros(shape))
        self.feature_slot = self.layers[-1].writes
        """Slot of the classifier's input."""
        features = self._full(self.feature_slot)
        self.classifier_weight = _uniform((space.num_classes, features), generator)
        self.classifier_bias = nn.Parameter(
            torch.empty(space.num_classes).uniform_(
                -1 / math.sqrt(features), 1 / math.sqrt(features), generator=generator
            )
        )

    def group_size(self, slot: int) -> int:
        """Channels of one group of a slot."""
        return self.space.max_channels[slot] // NUM_WIDTHS

    def _full(self, slot: int) -> int:
        return self.group_size(slot) * self.num_groups

    def channels_of(self, slot: int, digit: int, path: str = "left") -> slice:
        """Channel ids that a digit of a slot stands for."""
        width, full = self.group_size(slot) * digit, self._full(slot)
        return slice(0, width) if path == "left" else slice(full - width, full)

    def forward(
        self,
        images: Tensor,
        arch: Sequence[int],
        path: str = "left",
        calibration: Sequence[int] = (),
        normalise: Normalise | None = None,
    ) -> Tensor:
        """Logits (batch, num_classes) of one sub-network.

        Args:
            images: Normalised float (batch, channels, height, width).
            arch: Seven digits 1..4; other encodings of `Space.arch` are read, too.
            path: "left" for the first groups of every slot, "right" for the last.
            calibration: Sizes of the batches of calibration images that come first (`batch_norm`).
            normalise: Takes the place of batch normalisation where a method does something else there.
        """
        arch = arch if isinstance(arch, tuple) else self.space.arch(arch)
        self.forward_macs += len(images) * int(self._flops[self.space.index(arch)])
        # Tensor units read channels last without copying.
        x = self.prepare(images, torch.channels_last if self.precision == "bf16" else self.layout_of(images))
        for block in self.blocks:
            y = x
            for layer in block:
                weight, scale, shift = self.cut_layer(layer, arch, path)
                y = convolve(layer, y, weight)
                y = batch_norm(y, scale, shift, calibration) if normalise is None else normalise(layer, y).to(y.dtype)
                y = x + y if layer.skip else y
                y = functional.relu(y) if layer.relu else y
            x = y
        channels = self.channels_of(self.feature_slot, arch[self.feature_slot], path)
        return functional.linear(self.pool(x), self.classifier_weight[:, channels], self.classifier_bias)

    def layout_of(self, images: Tensor) -> torch.memory_format:
        """How images lie in memory: channels last in fp32 on a CPU where images are those of the full spaces.

        A CPU is 1.1 to 1.3 times as fast with it (tests/perf/bench_precision.py). What a GPU does in fp32 has not been
        measured, and the small images of the mini spaces keep the layout that their published scores were made with.
        """
        return layout_on_cpu(images) if self.precision == "fp32" else torch.preserve_format

    def prepare(self, images: Tensor, layout: torch.memory_format = torch.preserve_format) -> Tensor:
        """Images as the convolutions take them: in bfloat16 for "bf16", else as they are; in a layout."""
        return images.to(torch.bfloat16 if self.precision == "bf16" else images.dtype, memory_format=layout)

    def pool(self, x: Tensor) -> Tensor:
        """Mean over pixels, (batch, channels), in the precision of the classifier."""
        return x.mean((2, 3), dtype=self.classifier_weight.dtype)

    def cut_layer(self, layer: Layer, arch: Sequence[int], path: str) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, scale and shift of a layer in a sub-network, as views."""
        weight = self.cut_weight(layer, arch[layer.writes], 0 if layer.reads == IMAGE else arch[layer.reads], path)
        return weight, *self.cut_norm(layer, arch[layer.writes], path)

    def cut_weight(self, layer: Layer, digit_out: int, digit_in: int, path: str) -> Tensor:
        """Weight of a convolution between these widths, as a view; a depthwise one does not depend on digit_in."""
        weight = self.weights[layer.key][self.channels_of(layer.writes, digit_out, path)]
        if layer.depthwise or layer.reads == IMAGE:
            return weight
        return weight[:, self.channels_of(layer.reads, digit_in, path)]

    def cut_norm(self, layer: Layer, digit: int, path: str) -> tuple[Tensor, Tensor]:
        """Scale and shift (channels,) of a layer at a width, as views."""
        channels = self.channels_of(layer.writes, digit, path)
        scale, shift = self.scales[layer.key], self.shifts[layer.key]
        if self.norm_per_width:
            scale, shift = scale[digit - 1], shift[digit - 1]
        return scale[channels], shift[channels]


def convolve(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of a layer with a weight that was cut for it, in the precision of x."""
    groups = len(weight) if layer.depthwise else 1
    return functional.conv2d(x, weight.to(x.dtype), stride=layer.stride, padding=layer.kernel // 2, groups=groups)


def batch_norm(y: Tensor, scale: Tensor, shift: Tensor, calibration: Sequence[int] = ()) -> Tensor:
    """Batch normalisation of (batch, channels, height, width) by statistics of the batch itself.

    Args:
        y: What to normalise.
        scale: (channels,).
        shift: (channels,).
        calibration: Sizes of calibration batches, which come first in y. Each is normalised by its own statistics; the
            images after them by the mean over calibration batches of mean and (unbiased) variance, which is what
            PyTorch accumulates with ``momentum=None``. Empty: one batch, normalised by its own statistics.
    """
    if not calibration:
        return functional.batch_norm(y, None, None, scale, shift, training=True)
    *batches, rest = y.split([*calibration, len(y) - sum(calibration)])
    var, mean = moments(batches, scale.dtype).mean(0)
    normalised = [functional.batch_norm(batch, None, None, scale, shift, training=True) for batch in batches]
    return torch.cat([*normalised, functional.batch_norm(rest, mean, var, scale, shift)])


def moments(batches: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Unbiased variance and mean of each batch by channel, (batches, 2, channels)."""
    return torch.stack([torch.stack(torch.var_mean(batch.to(dtype), (0, 2, 3))) for batch in batches])


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> nn.Parameter:
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))
