"""Partial sums of a convolution, one per group of its input channels: the dearest calls of a walk, in two ways.

    >>> partial_sums(layer, x, weight, 4).shape     # x (batch, 4 c, height, width), weight (outputs, 4 c, k, k)
    (batch, 4, outputs, height, width)

One grouped convolution, or a dense one per group. Both do the same work and differ by rounding at most. Which is faster
depends on the library: some devices run grouped convolutions far below what they reach in dense ones. On a GPU both are
measured, once for each shape; on a CPU they take about the same time, so there it is always the grouped one, and a
score never depends on a clock.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.space.layers import Layer

WAYS = ("grouped", "apart")
MEASURED_IMAGES = 256
"""Images of a batch that are measured on, so that measuring takes no memory that the walk may lack."""
MEASURED_CALLS = 3

_chosen: dict[tuple[object, ...], str] = {}
"""The faster way, by device, precision and shape."""


def partial_sums(layer: Layer, x: Tensor, weight: Tensor, num_groups: int, way: str | None = None) -> Tensor:
    """What each group of input channels adds to a convolution.

    Args:
        layer: Gives kernel and stride.
        x: (batch, channels, height, width); the channels are num_groups equal groups.
        weight: (outputs, channels, kernel, kernel).
        num_groups: >= 1.
        way: "grouped" or "apart"; None for the faster one on the device of x.

    Returns:
        (batch, num_groups, outputs, height, width), in the precision of x.
    """
    # (num_groups * outputs, channels of a group, kernel, kernel): each group has its own block of outputs.
    blocks = weight.unflatten(1, (num_groups, -1)).transpose(0, 1).flatten(0, 1).to(x.dtype)
    if way is None:
        way = "grouped" if num_groups == 1 or x.device.type != "cuda" else faster(layer, x, blocks, num_groups)
    return _CALLS[way](layer, x, blocks, num_groups)


def faster(layer: Layer, x: Tensor, blocks: Tensor, num_groups: int) -> str:
    """The way that takes less time on the device of x; measured once for each shape in a process."""
    key = (x.device, x.dtype, tuple(x.shape[1:]), tuple(blocks.shape), layer.stride, num_groups)
    if key not in _chosen:
        few = x[:MEASURED_IMAGES]
        times = {way: seconds(functools.partial(call, layer, few, blocks, num_groups)) for way, call in _CALLS.items()}
        _chosen[key] = min(WAYS, key=lambda way: times[way])
    return _chosen[key]


def seconds(call: Callable[[], object]) -> float:
    """Shortest time of a call on the device, after one that warms up."""
    best = float("inf")
    for number in range(1 + MEASURED_CALLS):
        _wait()
        started = time.perf_counter()
        call()
        _wait()
        best = min(best, time.perf_counter() - started) if number else best
    return best


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _grouped(layer: Layer, x: Tensor, blocks: Tensor, num_groups: int) -> Tensor:
    y = functional.conv2d(x, blocks, stride=layer.stride, padding=layer.kernel // 2, groups=num_groups)
    return y.unflatten(1, (num_groups, -1))


def _apart(layer: Layer, x: Tensor, blocks: Tensor, num_groups: int) -> Tensor:
    joined: Tensor | None = None
    for group, (part, block) in enumerate(zip(x.chunk(num_groups, 1), blocks.chunk(num_groups), strict=True)):
        y = functional.conv2d(part, block, stride=layer.stride, padding=layer.kernel // 2)
        if joined is None:  # one result in memory beside all of them, not all of them twice
            joined = y.new_empty(len(y), num_groups, *y.shape[1:])
        joined[:, group] = y
    assert joined is not None
    return joined


_CALLS: dict[str, Callable[[Layer, Tensor, Tensor, int], Tensor]] = dict(zip(WAYS, (_grouped, _apart), strict=True))
