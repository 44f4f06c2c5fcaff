"""Layers as the networks of all families put them together, by PyTorch's operations or by fused kernels.

A convolution is followed by its batch normalisation, then by a sum with a skip connection, a ReLU, both or neither.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from channel_bench.training import fused_depthwise
from channel_bench.training.fused import is_wanted, norm_add_relu
from channel_bench.training.models.precision import DepthwiseConv2d


def run_block(block: nn.Sequential, x: Tensor, skip: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """block(x), plus a skip connection where there is one, through a ReLU where asked.

    Args:
        block: Convolutions, each with its batch normalisation, and ReLUs.
        x: Its input.
        skip: Added to the last normalisation; only with a block that ends in one.
        relu: Whether a ReLU follows at the end.
    """
    fuse_norms = block.training and is_wanted(x)
    fuse_depthwise = block.training and fused_depthwise.is_wanted(x)
    if not (fuse_norms or fuse_depthwise):
        return _with_skip(block(x), skip, relu)
    modules = list(block)
    while modules:
        if fuse_depthwise and _is_around_depthwise(modules[:5]):
            x = _fused_depthwise(modules[0], modules[2], modules[3], x)
            del modules[:5]
            continue
        module = modules.pop(0)
        if fuse_norms and isinstance(module, nn.BatchNorm2d):
            if not modules:
                return _fused(module, x, skip, relu)
            x = _fused(module, x, None, True)
            del modules[0]  # the ReLU that follows is part of it
        else:
            x = module(x)
    return _with_skip(x, skip, relu)


def _with_skip(y: Tensor, skip: Tensor | None, relu: bool) -> Tensor:
    y = y if skip is None else skip + y
    return functional.relu(y) if relu else y


def _is_around_depthwise(modules: list[nn.Module]) -> bool:
    """Whether these are normalisation, ReLU, depthwise convolution, normalisation, ReLU."""
    kinds = (nn.BatchNorm2d, nn.ReLU, DepthwiseConv2d, nn.BatchNorm2d, nn.ReLU)
    return len(modules) == len(kinds) and all(map(isinstance, modules, kinds))


def run_layer(conv: nn.Module, norm: nn.BatchNorm2d, x: Tensor, skip: Tensor | None = None, *, relu: bool) -> Tensor:
    """A convolution, its normalisation, a sum with a skip connection where there is one, and a ReLU where asked."""
    y: Tensor = conv(x)
    if norm.training and is_wanted(x):
        return _fused(norm, y, skip, relu)
    return _with_skip(norm(y), skip, relu)


def _fused(norm: nn.BatchNorm2d, x: Tensor, skip: Tensor | None, relu: bool) -> Tensor:
    """A normalisation with what follows it, and its bookkeeping as PyTorch's module does it."""
    _count(norm)
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


def _fused_depthwise(first: nn.Module, conv: nn.Module, second: nn.Module, x: Tensor) -> Tensor:
    """A depthwise convolution with both normalisations and their ReLUs."""
    assert isinstance(conv, DepthwiseConv2d)
    norms = []
    for norm in (first, second):
        assert isinstance(norm, nn.BatchNorm2d) and norm.momentum is not None
        assert norm.running_mean is not None and norm.running_var is not None
        _count(norm)
        norms.append(
            fused_depthwise.Norm(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps)
        )
    return fused_depthwise.norm_depthwise_norm(x, norms[0], conv.weight, norms[1], stride=conv.stride[0])


def _count(norm: nn.BatchNorm2d) -> None:
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
