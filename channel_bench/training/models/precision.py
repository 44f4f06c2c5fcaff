"""Where a network in bfloat16 computes in fp32 all the same; without autocast these functions change nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


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
