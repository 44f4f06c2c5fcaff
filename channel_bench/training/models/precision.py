"""A network in bfloat16: its forward pass, and where it computes in fp32 all the same.

Without autocast the latter functions change nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def forward(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    """Logits in fp32; with "bf16" autocast computes in bfloat16, from fp32 weights, those operations it deems safe.

    Autocast's cache of cast weights is off: each weight is used once in a forward pass, so it would save nothing, and
    a cache that outlives the capture of a graph would be wrong.
    """
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
        logits: Tensor = model(images)
    return logits.float() if precision == "bf16" else logits


def pool_in_fp32(x: Tensor) -> Tensor:
    """Means over height and width, of bfloat16 in fp32: (batch, channels, height, width) to (batch, channels).

    mean() and not AdaptiveAvgPool2d, whose CUDA backward pass is not deterministic.
    """
    return (x.float() if x.dtype == torch.bfloat16 else x).mean((2, 3))


@contextlib.contextmanager
def no_autocast(x: Tensor) -> Iterator[None]:
    """Compute in the dtypes of the operands, where x is in bfloat16."""
    if x.dtype != torch.bfloat16:
        yield
        return
    with torch.autocast(x.device.type, enabled=False):
        yield


def classify(x: Tensor, classifier: nn.Linear) -> Tensor:
    """Pool and classify in fp32: with the 8 bits of bfloat16 many logits of an image would tie."""
    with no_autocast(x):
        logits: Tensor = classifier(pool_in_fp32(x))
    return logits


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution, which autocast on a CPU computes in fp32 and hands on in the dtype of its input.

    A CPU has no fast depthwise convolution in bfloat16: tests/perf/bench_layout.py measures both.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        if x.device.type != "cpu" or x.dtype != torch.bfloat16:
            return super().forward(x)
        with no_autocast(x):
            return super().forward(x.float()).to(x.dtype)
