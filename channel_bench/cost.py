"""FLOPs and parameters of every architecture, in closed form, for any number of architectures at once.

``flops`` counts multiply-accumulates of convolutions and the final linear layer, the way every width-search
paper counts them; normalisation, activation, addition and pooling count nothing. ``params`` counts everything
that is learned: convolutions (no bias), the affine pair of each batch normalisation, the linear layer and its
bias. Both equal the published integers on all 32,768 rows of the published tables.

Symbols: ``c0 .. c6`` are the channels of the seven slots, ``s`` the input channels, ``a1`` the number of pixels
of a stage-1 feature map, ``a2`` of a stage-2 feature map.

    >>> from channel_bench.space import get_space
    >>> get_space("resnet").flops("4444444")
    1436226560
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
KERNEL = 9  # taps of a 3x3 convolution


def flops(family: str, channels: IntArray, input_shape: tuple[int, int, int], num_classes: int) -> IntArray:
    """Multiply-accumulates of one forward pass of one image.

    Args:
        family: "resnet" or "mobilenet".
        channels: int64 (num_archs, 7), channels of each slot.
        input_shape: (channels, height, width) of the input image.
        num_classes: Outputs of the linear layer.

    Returns:
        int64 (num_archs,).
    """
    s, height, width = input_shape
    a1 = _halved(height) * _halved(width)
    a2 = _halved(_halved(height)) * _halved(_halved(width))
    c0, c1, c2, c3, c4, c5, c6 = np.moveaxis(channels, -1, 0)
    stem = KERNEL * s * c0 * a1
    if family == "resnet":
        stage1 = 2 * KERNEL * c0 * (c1 + c2) * a1
        down = KERNEL * c3 * (c0 + c4) * a2
        stage2 = 2 * KERNEL * c4 * (c5 + c6) * a2
        return stem + stage1 + down + stage2 + c4 * num_classes
    assert family == "mobilenet"
    stage1 = (c1 + c2) * (2 * c0 + KERNEL) * a1
    down = c3 * (c0 * a1 + (KERNEL + c4) * a2)
    stage2 = c5 * (2 * c4 + KERNEL) * a2
    return stem + stage1 + down + stage2 + c4 * c6 * a2 + c6 * num_classes


def params(family: str, channels: IntArray, input_shape: tuple[int, int, int], num_classes: int) -> IntArray:
    """Number of learnable parameters.

    Args:
        family: "resnet" or "mobilenet".
        channels: int64 (num_archs, 7), channels of each slot.
        input_shape: (channels, height, width) of the input image; only the channels matter.
        num_classes: Outputs of the linear layer.

    Returns:
        int64 (num_archs,).
    """
    s = input_shape[0]
    c0, c1, c2, c3, c4, c5, c6 = np.moveaxis(channels, -1, 0)
    stem = KERNEL * s * c0 + 2 * c0
    if family == "resnet":
        convs = KERNEL * (2 * c0 * (c1 + c2) + c3 * (c0 + c4) + 2 * c4 * (c5 + c6))
        norms = 2 * (c1 + c0 + c2 + c0 + c3 + c4 + c5 + c4 + c6 + c4)
        return stem + convs + norms + (c4 + 1) * num_classes
    assert family == "mobilenet"
    convs = 2 * c0 * (c1 + c2) + c3 * (c0 + c4) + 2 * c4 * c5 + c4 * c6
    depthwise = KERNEL * (c1 + c2 + c3 + c5)
    norms = 2 * (2 * (c1 + c2 + c3 + c5) + c0 + c0 + c4 + c4 + c6)
    return stem + convs + depthwise + norms + (c6 + 1) * num_classes


def _halved(size: int) -> int:
    """Output size of a 3x3 convolution with stride 2 and padding 1."""
    return (size + 1) // 2
