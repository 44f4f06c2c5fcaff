"""FLOPs and parameters of every architecture, in closed form, for any number of architectures at once.

``flops`` counts multiply-accumulates of convolutions and the final linear layer, the way every width-search
paper counts them; normalisation, activation, addition and pooling count nothing. ``params`` counts everything
that is learned: convolutions (no bias), the affine pair of each batch normalisation, the linear layer and its
bias. Both are sums over the layers of layers.py, and equal the published integers on all 32,768 rows of the
published tables.

    >>> from channel_bench.space.space import get_space
    >>> get_space("resnet").flops("4444444")
    1436226560
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from channel_bench.space.layers import CLASSES, Layer, layers_of

if TYPE_CHECKING:  # which imports this module
    from channel_bench.space.space import Space

IntArray = npt.NDArray[np.int64]


def flops(space: Space, channels: IntArray) -> IntArray:
    """Multiply-accumulates of one forward pass of one image.

    Args:
        space: The search space: layers, size and channels of the image, number of classes.
        channels: int64 (num_archs, 7), channels of each slot.

    Returns:
        int64 (num_archs,).
    """
    widths = _widths(space, channels)
    return sum(layer_flops(layer, widths[layer.reads], widths[layer.writes]) for layer in layers_of(space))


def params(space: Space, channels: IntArray) -> IntArray:
    """Number of learnable parameters; arguments and result as `flops`."""
    widths = _widths(space, channels)
    return sum(layer_params(layer, widths[layer.reads], widths[layer.writes]) for layer in layers_of(space))


def layer_flops(layer: Layer, inputs: Any, outputs: Any) -> Any:
    """Multiply-accumulates of a layer: pixels of its output x taps x input channels (of a filter) x output channels.

    Args:
        layer: The layer.
        inputs: Its input channels: a number, an array or a tensor, and so is the result.
        outputs: Its output channels.
    """
    height, width = layer.output_size
    return height * width * layer.kernel**2 * (1 if layer.depthwise else inputs) * outputs


def layer_params(layer: Layer, inputs: Any, outputs: Any) -> Any:
    """Learnable parameters of a layer: its weights, and scale and shift (or the bias) of each output channel."""
    per_channel = 1 if layer.writes == CLASSES else 2
    return (layer.kernel**2 * (1 if layer.depthwise else inputs) + per_channel) * outputs


def _widths(space: Space, channels: IntArray) -> list[Any]:
    """Channels of the seven slots, (num_archs,) each, of the image and of the classes."""
    return [*np.moveaxis(channels, -1, 0), space.input_shape[0], space.num_classes]
