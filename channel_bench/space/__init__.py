"""What an architecture is, its layers and its costs; NumPy and nothing above it.

    >>> from channel_bench.space import get_space
    >>> get_space("resnet").channels("4344424")
    (256, 192, 256, 512, 512, 256, 512)

`space` has the encodings and the spaces of this package, `own` those of others, `layers` the layers of both families as
data, `families` those of others, `cost` FLOPs and parameters in closed form.
"""

from __future__ import annotations

from channel_bench.space.families import register_family
from channel_bench.space.own import (
    get_space,
    is_own,
    known_space,
    list_spaces,
    load_space,
    named_space,
    register_space,
    space_of_file,
)
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
    is_batch,
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
    "is_own",
    "known_space",
    "list_spaces",
    "load_space",
    "named_space",
    "register_family",
    "register_space",
    "space_of_file",
]
