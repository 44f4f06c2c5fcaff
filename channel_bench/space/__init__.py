"""What an architecture is, its layers and its costs; NumPy and nothing above it.

    >>> from channel_bench.space import get_space
    >>> get_space("resnet").channels("4344424")
    (256, 192, 256, 512, 512, 256, 512)

`space` has the encodings and the list of spaces, `layers` the layers of both families as data, `cost` FLOPs and
parameters in closed form.
"""

from __future__ import annotations

from channel_bench.space.space import (
    NUM_ARCHS,
    NUM_SLOTS,
    NUM_WIDTHS,
    RATIOS,
    Arch,
    FloatArray,
    Int8Array,
    IntArray,
    Space,
    get_space,
    is_batch,
    list_spaces,
)

__all__ = [
    "NUM_ARCHS",
    "NUM_SLOTS",
    "NUM_WIDTHS",
    "RATIOS",
    "Arch",
    "FloatArray",
    "Int8Array",
    "IntArray",
    "Space",
    "get_space",
    "is_batch",
    "list_spaces",
]
