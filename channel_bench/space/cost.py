"""FLOPs and parameters of every architecture, in closed form, for any number of architectures at once.

``flops`` counts multiply-accumulates of convolutions and the final linear layer, as every width-search paper counts
them; normalisation, activation, addition and pooling count nothing. ``params`` counts everything that is learned:
convolutions (no bias), the affine pair of each batch normalisation, the linear layer and its bias. Both are sums over
the layers of layers.py, and equal the published integers on all 32,768 rows of the published tables. ``memory`` is the
least number of bytes that inference on one image can do with, layer after layer; AutoSlim searches under such a limit.

    >>> from channel_bench.space import get_space
    >>> get_space("resnet").flops("4444444")
    1436226560
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from channel_bench.space.layers import CLASSES, Layer

BYTES_PER_NUMBER = 4
"""In single precision."""


def flops(layers: Sequence[Layer], widths: Sequence[Any]) -> Any:
    """Multiply-accumulates of one forward pass of one image.

    Args:
        layers: All layers of the network (`Space.layers`).
        widths: Nine entries: the channels of the seven slots, those of the image, and the number of classes. An entry
            is a number, or an array (num_archs,) for many architectures at once.

    Returns:
        A number, or an array (num_archs,).
    """
    return sum(layer_flops(layer, widths[layer.reads], widths[layer.writes]) for layer in layers)


def params(layers: Sequence[Layer], widths: Sequence[Any]) -> Any:
    """Number of learnable parameters; arguments and result as `flops`."""
    return sum(layer_params(layer, widths[layer.reads], widths[layer.writes]) for layer in layers)


def memory(layers: Sequence[Layer], widths: Sequence[Any]) -> Any:
    """Bytes of an inference of one image in single precision: all parameters, and the most activations alive at once.

    Alive while a layer computes are its input, its output, and the input of its block where a skip line still needs it.
    Nothing is computed in place, and pooling and activation cost nothing. AutoSlim (Yu and Huang, 2019, section 4)
    limits "memory footprint" without saying how it is counted; this is ours.

    Args:
        layers: As `flops`.
        widths: As `flops`.

    Returns:
        A number, or an array (num_archs,).
    """
    held: dict[str, Any] = {}
    peak: Any = 0
    skipping = {layer.block for layer in layers if layer.skip}
    for layer in layers:
        read, written = _size(layer.input_size, widths[layer.reads]), _size(layer.output_size, widths[layer.writes])
        is_first = layer.block not in held
        skip_line = held.setdefault(layer.block, read if layer.block in skipping else 0)
        peak = np.maximum(peak, read + written + (0 if is_first else skip_line))
    return BYTES_PER_NUMBER * (params(layers, widths) + peak)


def _size(pixels: tuple[int, int], channels: Any) -> Any:
    height, width = pixels
    return height * width * channels


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
