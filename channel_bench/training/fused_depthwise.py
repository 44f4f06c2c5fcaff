"""A depthwise convolution between two batch normalisations with ReLU, of a training batch, as one operation.

    >>> y = norm_depthwise_norm(x, first, weight, second)   # relu(norm(depthwise(relu(norm(x)))))

The first normalisation and its ReLU are applied where the convolution reads, and never stored; the statistics of the
second are gathered where it writes. Backward, the sums that the first normalisation needs are gathered where the
gradient of its ReLU is written. Counted in passes over the activations (a model: no GPU has timed it), forward and
backward read or write 5 + 15 times at stride 1, where the kernels of fused.py around PyTorch's convolution do 8 + 18.
Results agree with PyTorch's operations up to rounding, not bit by bit.

**Off unless the environment variable CHANNEL_BENCH_FUSED_DEPTHWISE is 1**, because no GPU has run or timed it yet.
Where Triton or a GPU is missing, PyTorch's operations do the work.
"""

from __future__ import annotations

import functools
import importlib
import os
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from channel_bench.training.fused import (
    MAX_ELEMENTS,
    batch_statistics,
    can_run_on,
    gradient_sums,
    gradients,
    normalised,
)

VARIABLE = "CHANNEL_BENCH_FUSED_DEPTHWISE"


class Norm(NamedTuple):
    """A batch normalisation; all tensors are float32 (C,)."""

    scale: Tensor
    shift: Tensor
    running_mean: Tensor
    """Moved towards the mean of the batch."""
    running_var: Tensor
    """Moved towards the variance of the batch as a sample."""
    momentum: float = 0.1
    """How far both are moved."""
    eps: float = 1e-5
    """Added to the variance."""


def is_wanted(x: Tensor) -> bool:
    """Whether networks use the kernels for x: the environment asks for it, and they can run there."""
    return os.environ.get(VARIABLE) == "1" and can_run_on(x.device)


def norm_depthwise_norm(x: Tensor, first: Norm, weight: Tensor, second: Norm, *, stride: int = 1) -> Tensor:
    """relu(norm(depthwise(relu(norm(x))))) with the statistics of the batch.

    Args:
        x: float32 or bfloat16 (batch, C, height, width).
        first: The normalisation before the convolution.
        weight: float32 or bfloat16 (C, 1, K, K) with K odd; images are padded by K // 2 zeros.
        second: The normalisation after it.
        stride: Of the convolution.

    Returns:
        Of x's dtype, (batch, C, ceil(height / stride), ceil(width / stride)).
    """
    if not _fits(x, weight, stride):
        return plain_norm_depthwise_norm(x, first, weight, second, stride=stride)
    y: Tensor = _NormDepthwiseNorm.apply(x, weight, *first, *second, stride)
    return y


def plain_norm_depthwise_norm(x: Tensor, first: Norm, weight: Tensor, second: Norm, *, stride: int = 1) -> Tensor:
    """The same by PyTorch's operations."""
    a = functional.relu(_plain_norm(x, first))
    z = functional.conv2d(a, weight.to(a.dtype), None, stride, weight.shape[-1] // 2, 1, len(weight))
    return functional.relu(_plain_norm(z, second))


def _plain_norm(x: Tensor, norm: Norm) -> Tensor:
    return functional.batch_norm(
        x, norm.running_mean, norm.running_var, norm.scale, norm.shift, True, norm.momentum, norm.eps
    )


def _fits(x: Tensor, weight: Tensor, stride: int) -> bool:
    """Whether the kernels can take these tensors. PyTorch refuses a single pixel, which has no variance."""
    if not can_run_on(x.device) or x.dtype not in (torch.float32, torch.bfloat16) or x.numel() > MAX_ELEMENTS:
        return False
    batch, channels, height, width = x.shape
    is_depthwise = weight.shape[:2] == (channels, 1) and weight.shape[2] == weight.shape[3] and weight.shape[2] % 2 == 1
    return is_depthwise and batch * _strided(height, stride) * _strided(width, stride) > 1


def _strided(size: int, stride: int) -> int:
    return -(-size // stride)


@functools.cache
def _kernels() -> ModuleType:
    """The kernels; only where `can_run_on` says that there is Triton."""
    return importlib.import_module("channel_bench.training.fused_depthwise_kernels")


class _NormDepthwiseNorm(torch.autograd.Function):
    """The kernels with their gradients. Tensors have channels last; x and z are before a normalisation, y is after."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale1: Tensor,
        shift1: Tensor,
        running_mean1: Tensor,
        running_var1: Tensor,
        momentum1: float,
        eps1: float,
        scale2: Tensor,
        shift2: Tensor,
        running_mean2: Tensor,
        running_var2: Tensor,
        momentum2: float,
        eps2: float,
        stride: int,
    ) -> Tensor:
        """A pass over x for its statistics; one that reads x and writes z; one that reads z and writes y."""
        kernels: Any = _kernels()
        x = x.contiguous(memory_format=torch.channels_last)
        mean1, inverse1 = batch_statistics(x, running_mean1, running_var1, momentum1, eps1)
        batch, channels, height, width = x.shape
        shape = (batch, channels, _strided(height, stride), _strided(width, stride))
        z = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        grid = _programs(z)
        partial = x.new_empty((2, grid[0], channels), dtype=torch.float32)
        mean2, inverse2 = x.new_empty((2, channels), dtype=torch.float32)
        num_pixels = z.numel() // channels
        tile = (kernels.NUM_ROWS, kernels.NUM_CHANNELS, kernels.TILE)
        with torch.cuda.device_of(x):
            kernels.convolve[grid](
                x, z, _taps(weight), scale1, shift1, mean1, inverse1, partial, *x.shape[2:], *z.shape[2:], num_pixels,
                channels, stride, weight.shape[-1], *tile,
            )  # fmt: skip
            kernels.merge[grid[1:]](
                partial, mean2, inverse2, running_mean2, running_var2, num_pixels, channels, grid[0], eps2, momentum2,
                *tile,
            )  # fmt: skip
        y = normalised(z, None, scale2, shift2, mean2, inverse2, True)
        ctx.save_for_backward(x, z, y, weight, scale1, shift1, mean1, inverse1, scale2, mean2, inverse2)
        ctx.stride = stride
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """From y to z, from z to the ReLU before it and to the weights, from there to x."""
        kernels: Any = _kernels()
        x, z, y, weight, scale1, shift1, mean1, inverse1, scale2, mean2, inverse2 = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        sums2 = gradient_sums(dy, y, z, mean2)
        dz, _ = gradients(dy, y, z, scale2, mean2, inverse2, sums2)
        channels, kernel = x.shape[1], weight.shape[-1]
        d = torch.empty_like(x, memory_format=torch.channels_last)
        first = scale1, shift1, mean1, inverse1
        sizes = (*x.shape[2:], *z.shape[2:])
        tile = (kernels.NUM_ROWS, kernels.NUM_CHANNELS, kernels.TILE)
        grid, grid_z = _programs(x), _programs(z)
        partial = x.new_empty((2, grid[0], channels), dtype=torch.float32)
        partial_weights = x.new_empty((grid_z[0], kernel * kernel, channels), dtype=torch.float32)
        num_taps = 1 << (kernel * kernel - 1).bit_length()  # the next power of 2
        with torch.cuda.device_of(x):
            kernels.convolve_back[grid](
                dz, x, d, _taps(weight), *first, partial, *sizes, x.numel() // channels, channels, ctx.stride, kernel,
                *tile,
            )  # fmt: skip
            kernels.weigh[grid_z](
                dz, x, *first, partial_weights, *sizes, z.numel() // channels, channels, ctx.stride, kernel, num_taps,
                *tile,
            )  # fmt: skip
        sums1 = partial.sum(1)
        dx, _ = gradients(d, None, x, scale1, mean1, inverse1, sums1)
        dweight = partial_weights.sum(0).T.reshape(weight.shape).to(weight.dtype)
        of_first = sums1[1] * inverse1, sums1[0], None, None, None, None
        of_second = sums2[1] * inverse2, sums2[0], None, None, None, None
        return dx, dweight, *of_first, *of_second, None


def _taps(weight: Tensor) -> Tensor:
    """Weights with the K * K taps of a channel one after the other."""
    return weight.reshape(len(weight), -1).contiguous()


def _programs(x: Tensor) -> tuple[int, int]:
    """Programs over the pixels and the channels of a tensor."""
    kernels: Any = _kernels()
    channels = x.shape[1]
    return -(-x.numel() // channels // kernels.NUM_ROWS), -(-channels // kernels.NUM_CHANNELS)
