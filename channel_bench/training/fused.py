"""Batch normalisation of a training batch, a sum with a skip connection, and a ReLU, as one operation.

    >>> y = norm_add_relu(x, scale, shift, skip, running_mean, running_var)    # relu(batch_norm(x) + skip)

As PyTorch's operations each of the three reads and writes all activations, in the forward and in the backward pass.
Triton kernels (fused_kernels.py) read x twice and write once. They round once, at the end, where in bfloat16 PyTorch
rounds after each operation: results agree up to rounding, not bit by bit.

**Off unless the environment variable CHANNEL_BENCH_FUSED_NORM is 1**, because no GPU has run or timed it yet. Where
Triton or a GPU is missing, PyTorch's operations do the work.
"""

from __future__ import annotations

import functools
import importlib
import os
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

VARIABLE = "CHANNEL_BENCH_FUSED_NORM"
MAX_ELEMENTS = 2**31 - 2**11
"""Of a tensor; the kernels count them in 32 bits, and the last program counts past the end."""


def is_wanted(x: Tensor) -> bool:
    """Whether networks use the kernels for x: the environment asks for it, and they can run there."""
    return os.environ.get(VARIABLE) == "1" and can_run_on(x.device)


def norm_add_relu(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    skip: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    relu: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """relu(batch_norm(x) + skip) with the statistics of the batch.

    Args:
        x: float32 or bfloat16 (batch, C, height, width).
        scale: float32 (C,), the weight of the normalisation.
        shift: float32 (C,), its bias.
        skip: Of x's shape and dtype; None to add nothing.
        running_mean: float32 (C,), moved towards the mean of the batch.
        running_var: float32 (C,), moved towards the variance of the batch as a sample.
        relu: False for no activation.
        momentum: How far both are moved.
        eps: Added to the variance.

    Returns:
        Of x's shape and dtype.
    """
    if not _fits(x, skip):
        return plain_norm_add_relu(
            x, scale, shift, skip, running_mean, running_var, relu=relu, momentum=momentum, eps=eps
        )
    y: Tensor = _NormAddRelu.apply(x, scale, shift, skip, running_mean, running_var, relu, momentum, eps)
    return y


def plain_norm_add_relu(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    skip: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    *,
    relu: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """The same by PyTorch's operations."""
    y = functional.batch_norm(x, running_mean, running_var, scale, shift, True, momentum, eps)
    y = y if skip is None else skip + y
    return functional.relu(y) if relu else y


def _fits(x: Tensor, skip: Tensor | None) -> bool:
    """Whether the kernels can take these tensors. PyTorch refuses a single pixel, which has no variance."""
    if not can_run_on(x.device) or x.dtype not in (torch.float32, torch.bfloat16) or x.numel() > MAX_ELEMENTS:
        return False
    return x.numel() > x.shape[1] and (skip is None or (skip.dtype == x.dtype and skip.shape == x.shape))


def can_run_on(device: torch.device) -> bool:
    """Whether Triton's kernels can run there; its interpreter runs them on a CPU, slowly, for tests."""
    is_possible = device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
    return is_possible and _kernels() is not None


@functools.cache
def _kernels() -> ModuleType | None:
    """The kernels, or None without Triton."""
    try:
        return importlib.import_module("channel_bench.training.fused_kernels")
    except ImportError:
        return None


class _NormAddRelu(torch.autograd.Function):
    """The kernels with their gradients. Tensors have channels last: M pixels of C channels."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        skip: Tensor | None,
        running_mean: Tensor,
        running_var: Tensor,
        relu: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        """Two passes over x: its statistics, then the result."""
        x = x.contiguous(memory_format=torch.channels_last)
        skip = None if skip is None else skip.contiguous(memory_format=torch.channels_last)
        mean, inverse = batch_statistics(x, running_mean, running_var, momentum, eps)
        y = normalised(x, skip, scale, shift, mean, inverse, relu)
        ctx.save_for_backward(x, y if relu else None, scale, mean, inverse)
        ctx.has_skip = skip is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Two passes over x and dy: sums over pixels, then the gradients."""
        x, y, scale, mean, inverse = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        sums = gradient_sums(dy, y, x, mean)
        dx, dskip = gradients(dy, y, x, scale, mean, inverse, sums, ctx.has_skip)
        return dx, sums[1] * inverse, sums[0], dskip, None, None, None, None, None


def batch_statistics(
    x: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation (C,) of a batch with channels last; the running statistics are moved."""
    kernels: Any = _kernels()
    grid, sizes = _tiles(x)
    partial = x.new_empty((2, grid[0], x.shape[1]), dtype=torch.float32)
    mean, inverse = x.new_empty((2, x.shape[1]), dtype=torch.float32)
    num_pixels, channels = x.numel() // x.shape[1], x.shape[1]
    with torch.cuda.device_of(x):
        kernels.add_up[grid](x, partial, num_pixels, channels, kernels.NUM_ROWS, *sizes)
        kernels.finish[grid[1:]](
            x, partial, mean, inverse, running_mean, running_var, num_pixels, channels, grid[0], eps, momentum, *sizes
        )
    return mean, inverse


def normalised(
    x: Tensor, skip: Tensor | None, scale: Tensor, shift: Tensor, mean: Tensor, inverse: Tensor, relu: bool
) -> Tensor:
    """relu((x - mean) * inverse * scale + shift + skip), with channels last."""
    kernels: Any = _kernels()
    y = torch.empty_like(x, memory_format=torch.channels_last)
    with torch.cuda.device_of(x):
        # A kernel that adds nothing never reads its skip, but wants an address.
        kernels.apply[_elements(x)](
            x, x if skip is None else skip, y, scale, shift, mean, inverse, x.numel(), x.shape[1],
            skip is not None, relu, kernels.NUM_ELEMENTS,
        )  # fmt: skip
    return y


def gradient_sums(dy: Tensor, y: Tensor | None, x: Tensor, mean: Tensor) -> Tensor:
    """Sums over pixels (2, C) of the gradient before the ReLU, d, and of d * (x - mean); y is None without a ReLU."""
    kernels: Any = _kernels()
    grid, sizes = _tiles(x)
    partial = x.new_empty((2, grid[0], x.shape[1]), dtype=torch.float32)
    with torch.cuda.device_of(x):
        kernels.add_up_gradients[grid](
            dy, x if y is None else y, x, mean, partial, x.numel() // x.shape[1], x.shape[1], y is not None,
            kernels.NUM_ROWS, *sizes,
        )  # fmt: skip
    return partial.sum(1)


def gradients(
    dy: Tensor,
    y: Tensor | None,
    x: Tensor,
    scale: Tensor,
    mean: Tensor,
    inverse: Tensor,
    sums: Tensor,
    has_skip: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Gradients of x and of the skip connection from `gradient_sums`."""
    kernels: Any = _kernels()
    dx = torch.empty_like(x, memory_format=torch.channels_last)
    dskip = torch.empty_like(dx) if has_skip else None
    with torch.cuda.device_of(x):
        kernels.apply_gradients[_elements(x)](
            dy, x if y is None else y, x, dx, dx if dskip is None else dskip, scale, mean, inverse, sums,
            x.numel() // x.shape[1], x.numel(), x.shape[1], has_skip, y is not None, kernels.NUM_ELEMENTS,
        )  # fmt: skip
    return dx, dskip


def _tiles(x: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Programs over pixels and channels, and the channels and pixels that a program reads at a time."""
    kernels: Any = _kernels()
    channels = x.shape[1]
    grid = (-(-x.numel() // channels // kernels.NUM_ROWS), -(-channels // kernels.NUM_CHANNELS))
    return grid, (kernels.NUM_CHANNELS, kernels.TILE)


def _elements(x: Tensor) -> tuple[int]:
    """Programs over all elements."""
    kernels: Any = _kernels()
    return (-(-x.numel() // kernels.NUM_ELEMENTS),)
