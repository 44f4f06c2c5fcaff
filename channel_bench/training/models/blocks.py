"""Layers as the networks of all families put them together, by PyTorch's operations or by fused kernels.

A convolution is followed by its batch normalisation, then by a sum with a skip connection, a ReLU, both or neither.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from channel_bench.training.fused import is_wanted, norm_add_relu


def run_block(block: nn.Sequential, x: Tensor, skip: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """block(x), plus a skip connection where there is one, through a ReLU where asked.

    Args:
        block: Convolutions, each with its batch normalisation, and ReLUs.
        x: Its input.
        skip: Added to the last normalisation; only with a block that ends in one.
        relu: Whether a ReLU follows at the end.
    """
    if not (block.training and is_wanted(x)):
        y = block(x)
        y = y if skip is None else skip + y
        return functional.relu(y) if relu else y
    modules = list(block)
    for number, module in enumerate(modules):
        if isinstance(module, nn.BatchNorm2d):
            is_last = number == len(modules) - 1  # else a ReLU follows, which is part of the fused operation
            x = _fused(module, x, skip if is_last else None, relu if is_last else True)
        elif not isinstance(module, nn.ReLU):
            x = module(x)
    return x


def run_layer(conv: nn.Module, norm: nn.BatchNorm2d, x: Tensor, skip: Tensor | None = None, *, relu: bool) -> Tensor:
    """A convolution, its normalisation, a sum with a skip connection where there is one, and a ReLU where asked."""
    y: Tensor = conv(x)
    if norm.training and is_wanted(x):
        return _fused(norm, y, skip, relu)
    y = norm(y)
    y = y if skip is None else skip + y
    return functional.relu(y) if relu else y


def _fused(norm: nn.BatchNorm2d, x: Tensor, skip: Tensor | None, relu: bool) -> Tensor:
    """A normalisation with what follows it, and its bookkeeping as PyTorch's module does it."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    return norm_add_relu(
        x,
        norm.weight,
        norm.bias,
        skip,
        norm.running_mean,
        norm.running_var,
        relu=relu,
        momentum=norm.momentum,
        eps=norm.eps,
    )
