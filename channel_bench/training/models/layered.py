"""The network of a family that is not built in, made from its layers as data (channel_bench/space/families.py).

Its modules have the names that the layers say: a block is a sequence, a convolution stands at its position, its
normalisation behind it. The built-in families are written out by hand instead; tests hold both ways against each other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from channel_bench.space.layers import Layer, blocks_of
from channel_bench.training.models.blocks import run_layer
from channel_bench.training.models.precision import DepthwiseConv2d, classify


class LayerNetwork(nn.Module):
    """One network.

    Args:
        layers: All layers, in the order of the forward pass.
        channels: Channels of the seven slots.
        input_channels: Channels of the input image.
        num_classes: Outputs of the linear layer.
    """

    def __init__(self, layers: Sequence[Layer], channels: Sequence[int], input_channels: int, num_classes: int) -> None:
        """Build the layers; weights are PyTorch's defaults until `initialise`."""
        super().__init__()
        widths = (*channels, input_channels, num_classes)
        self._blocks = blocks_of(layers)
        for block in self._blocks:
            modules: OrderedDict[str, nn.Module] = OrderedDict()
            for layer in block:
                inputs, outputs = widths[layer.reads], widths[layer.writes]
                kind, groups = (DepthwiseConv2d, outputs) if layer.depthwise else (nn.Conv2d, 1)
                conv = kind(inputs, outputs, layer.kernel, layer.stride, layer.kernel // 2, groups=groups, bias=False)
                modules[layer.name.partition(".")[2]] = conv
                modules[layer.norm.partition(".")[2]] = nn.BatchNorm2d(outputs)
            self.add_module(block[0].block, nn.Sequential(modules))
        self.classifier = nn.Linear(widths[layers[-1].reads], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, input_channels, height, width)."""
        x = images
        for block in self._blocks:
            y, modules = x, iter(getattr(self, block[0].block))
            for layer, conv, norm in zip(block, modules, modules, strict=False):
                y = run_layer(conv, norm, y, x if layer.skip else None, relu=layer.relu)
            x = y
        return classify(x, self.classifier)
