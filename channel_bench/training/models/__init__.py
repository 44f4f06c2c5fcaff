"""The networks: a built-in family per file, others from their layers; built for widths, drawn from a generator.

    >>> model = build_model(get_space("resnet"), "4344424", torch.Generator().manual_seed(0))

Both built-in families fix the same facts: 3x3 stride-2 stem, two stages at a half and a quarter of the input's size,
batch normalisation after every convolution, no bias but in the linear layer. A skip connection joins equal widths only,
because the slots tie them; nothing is padded or projected. Networks of other families are made by layered.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from channel_bench.space import Space
from channel_bench.training.models.layered import LayerNetwork
from channel_bench.training.models.mobilenet import MobileNet
from channel_bench.training.models.resnet import ResNet

_FAMILIES: dict[str, type[ResNet] | type[MobileNet]] = {"resnet": ResNet, "mobilenet": MobileNet}


def build_model(space: Space, arch: Any, generator: torch.Generator) -> nn.Module:
    """Build the network of an architecture on the CPU.

    Args:
        space: The search space.
        arch: The architecture, in any encoding of `Space.arch`.
        generator: CPU generator of the initial weights. The global generator is neither read nor moved.

    Returns:
        A module from float (batch, *space.input_shape) to logits (batch, space.num_classes).

    Raises:
        ArchError: arch is not an architecture of the space.
    """
    model = allocate(blank_model(space, space.channels(arch)))
    initialise(model, generator)
    return model


def blank_model(space: Space, channels: Sequence[int]) -> ResNet | MobileNet | LayerNetwork:
    """A network of these channels on the meta device: shapes without memory, and nothing drawn from a generator."""
    with torch.device("meta"):
        if space.own_layers:
            return LayerNetwork(space.own_layers, channels, space.input_shape[0], space.num_classes)
        return _FAMILIES[space.family](channels, space.input_shape[0], space.num_classes)


def allocate(model: nn.Module) -> nn.Module:
    """Give a network of the meta device memory on the CPU, whose content is whatever was there.

    As ``to_empty`` does, which asks PyTorch's symbolic shapes and so imports SymPy for it, a second in every process.
    """
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(_memory_for(parameter), parameter.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, _memory_for(buffer))
    return model


def _memory_for(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype)


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights from PyTorch's default distributions, but from the generator that is given.

    The published table was trained with the defaults: uniform in +-1/sqrt(fan_in) for convolution and linear weights
    and for the linear bias; batch normalisation starts at scale 1 and shift 0.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for parameter in module.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
