"""The weight-shared network of a space: one set of weights, any of 16,384 sub-networks cut out of it.

Every slot has T groups of channels (a quarter of the slot's maximum each; T = 4 but for BCNetV2). A sub-network of
digit c uses c groups of the slot, on the left path the first c, on the right path the last c, in every layer of the
slot: outputs of the producing convolution, its normalisation, depthwise filters, and inputs of the consuming
convolution. So a weight is W[outputs, inputs], and the skip connections of a stage, which share one slot, always join
equal channels.

Batch normalisation uses the statistics of the batch, in training and in evaluation, with one scale and shift per
channel id. Averages that were accumulated over widths would mean nothing to any one of them.

The forward pass is a list of stages, each of which depends on the slots up to a depth. This is what lets exhaustive.py
reuse the first stages among architectures that begin alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_WIDTHS, Space

PATHS = ("left", "right")
IMAGE = -1
"""Stands for the input image where a layer names the slot that it reads."""


@dataclass(frozen=True)
class _Layer:
    """A convolution with its normalisation."""

    conv: str
    """Name of the convolution in the stand-alone model (channel_bench/models); its normalisation is the next module."""
    reads: int
    """Slot of its input channels, or IMAGE."""
    writes: int
    """Slot of its output channels."""
    kernel: int
    stride: int = 1
    depthwise: bool = False

    @property
    def norm(self) -> str:
        """Name of the normalisation in the stand-alone model."""
        parent, _, position = self.conv.rpartition(".")
        return f"{parent}.{int(position) + 1}"

    @property
    def key(self) -> str:
        """Name of the weights here; a ParameterDict allows no dots."""
        return self.conv.replace(".", "_")


@dataclass(frozen=True)
class Stage:
    """A piece of the forward pass."""

    depth: int
    """It and the stages before it depend on slots 0 .. depth - 1 only."""
    layers: tuple[_Layer, ...]
    skip: bool = False
    """Whether its input is added to its output."""
    relu_after: bool = False
    """Whether an activation follows the sum. Inside, one follows every layer but the last."""


def _resnet_stages() -> list[Stage]:
    stages = [Stage(1, (_Layer("stem.0", IMAGE, 0, 3, 2),), relu_after=True)]
    for block, skip_in, hidden, skip_out in ((1, 0, 1, 0), (2, 0, 2, 0), (3, 0, 3, 4), (4, 4, 5, 4), (5, 4, 6, 4)):
        layers = (
            _Layer(f"block{block}.0", skip_in, hidden, 3, 2 if block == 3 else 1),
            _Layer(f"block{block}.3", hidden, skip_out, 3),
        )
        stages.append(Stage(max(hidden, skip_out) + 1, layers, skip=block != 3, relu_after=True))
    return stages


def _mobilenet_stages() -> list[Stage]:
    stages = [Stage(1, (_Layer("stem.0", IMAGE, 0, 3, 2),), relu_after=True)]
    for block, skip_in, hidden, skip_out in ((1, 0, 1, 0), (2, 0, 2, 0), (3, 0, 3, 4), (4, 4, 5, 4)):
        layers = (
            _Layer(f"block{block}.0", skip_in, hidden, 1),
            _Layer(f"block{block}.3", hidden, hidden, 3, 2 if block == 3 else 1, depthwise=True),
            _Layer(f"block{block}.6", hidden, skip_out, 1),
        )
        stages.append(Stage(max(hidden, skip_out) + 1, layers, skip=block != 3))
    stages.append(Stage(7, (_Layer("out.0", 4, 6, 1),), relu_after=True))
    return stages


class Supernet(nn.Module):
    """Weights of all sub-networks of a space.

    Args:
        space: The search space.
        generator: CPU generator of the initial weights (PyTorch's default distributions, fan-in of the full width).
        num_groups: T, groups of channels per slot, >= 4; with more than 4 the layers are wider than the space's
            maximum.
    """

    def __init__(self, space: Space, generator: torch.Generator, num_groups: int = NUM_WIDTHS) -> None:
        """Draw the weights."""
        super().__init__()
        if num_groups < NUM_WIDTHS:
            raise ArgumentError(f"a supernet of {num_groups} groups cannot hold widths of {NUM_WIDTHS}")
        self.space = space
        self.num_groups = num_groups
        self._group_sizes = [most // NUM_WIDTHS for most in space.max_channels]
        self.stages = {"resnet": _resnet_stages, "mobilenet": _mobilenet_stages}[space.family]()
        self.layers = [layer for stage in self.stages for layer in stage.layers]
        self.weights, self.scales, self.shifts = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for layer in self.layers:
            inputs = 1 if layer.depthwise else space.input_shape[0] if layer.reads == IMAGE else self._full(layer.reads)
            outputs = self._full(layer.writes)
            self.weights[layer.key] = _uniform((outputs, inputs, layer.kernel, layer.kernel), generator)
            self.scales[layer.key] = nn.Parameter(torch.ones(outputs))
            self.shifts[layer.key] = nn.Parameter(torch.zeros(outputs))
        self._feature_slot = self.layers[-1].writes
        features = self._full(self._feature_slot)
        self.classifier_weight = _uniform((space.num_classes, features), generator)
        self.classifier_bias = nn.Parameter(
            torch.empty(space.num_classes).uniform_(
                -1 / math.sqrt(features), 1 / math.sqrt(features), generator=generator
            )
        )

    def _full(self, slot: int) -> int:
        return self._group_sizes[slot] * self.num_groups

    def channels_of(self, slot: int, digit: int, path: str = "left") -> slice:
        """Channel ids that a digit of a slot stands for."""
        width, full = self._group_sizes[slot] * digit, self._full(slot)
        return slice(0, width) if path == "left" else slice(full - width, full)

    def forward(self, images: Tensor, arch: Sequence[int], path: str = "left") -> Tensor:
        """Logits (batch, num_classes) of one sub-network.

        Args:
            images: Normalised float (batch, channels, height, width).
            arch: Seven digits 1..4.
            path: "left" for the first groups of every slot, "right" for the last.
        """
        x = images
        for stage in self.stages:
            x = self.run_stage(stage, x, arch, path)
        return self.classify(x, arch, path)

    def run_stage(self, stage: Stage, x: Tensor, arch: Sequence[int], path: str = "left") -> Tensor:
        """Output of a stage; depends on the first `stage.depth` digits of arch only."""
        y = x
        for layer in stage.layers:
            y = self._convolve(layer, y, arch, path)
            if layer is not stage.layers[-1]:
                y = functional.relu(y)
        if stage.skip:
            y = x + y
        return functional.relu(y) if stage.relu_after else y

    def classify(self, x: Tensor, arch: Sequence[int], path: str = "left") -> Tensor:
        """Global average pooling and the linear layer; (batch, channels, height, width) to (batch, num_classes)."""
        channels = self.channels_of(self._feature_slot, arch[self._feature_slot], path)
        return functional.linear(x.mean((2, 3)), self.classifier_weight[:, channels], self.classifier_bias)

    def _convolve(self, layer: _Layer, x: Tensor, arch: Sequence[int], path: str) -> Tensor:
        weight, scale, shift = self._cut_layer(layer, arch, path)
        groups = len(weight) if layer.depthwise else 1
        y = functional.conv2d(x, weight, stride=layer.stride, padding=layer.kernel // 2, groups=groups)
        return functional.batch_norm(y, None, None, scale, shift, training=True)

    def _cut_layer(self, layer: _Layer, arch: Sequence[int], path: str) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, scale and shift of a layer in a sub-network, as views."""
        outputs = self.channels_of(layer.writes, arch[layer.writes], path)
        weight = self.weights[layer.key][outputs]
        if not layer.depthwise and layer.reads != IMAGE:
            weight = weight[:, self.channels_of(layer.reads, arch[layer.reads], path)]
        return weight, self.scales[layer.key][outputs], self.shifts[layer.key][outputs]

    def cut_out(self, arch: Sequence[int], path: str = "left") -> dict[str, Tensor]:
        """Weights of one sub-network under the names of the stand-alone model (channel_bench/models)."""
        state: dict[str, Tensor] = {}
        for layer in self.layers:
            weight, scale, shift = self._cut_layer(layer, arch, path)
            state |= {f"{layer.conv}.weight": weight, f"{layer.norm}.weight": scale, f"{layer.norm}.bias": shift}
        features = self.channels_of(self._feature_slot, arch[self._feature_slot], path)
        state |= {"classifier.weight": self.classifier_weight[:, features], "classifier.bias": self.classifier_bias}
        return {name: tensor.detach().clone() for name, tensor in state.items()}


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> nn.Parameter:
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))
