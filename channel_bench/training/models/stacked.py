"""Many small networks of one space trained as one program.

A tiny network keeps neither a CPU nor a GPU busy: a step is the overhead of hundreds of calls. Here S networks share
each call: a convolution of all of them is one grouped convolution, a batch normalisation one of S times the channels.
Networks of different widths are padded with zero channels to the widest of the stack, slot by slot. The padding needs
no masks: a channel whose weights are zero on both sides has zero activations and zero gradients, so it stays zero under
SGD with momentum and weight decay.

    >>> model = StackedModel(space, ["4344424", "4344423"], [generator_0, generator_1])
    >>> logits = model(images)   # (batch, S, channels, height, width) -> (batch, S, num_classes)

Network s computes what `build_model(space, archs[s], generators[s])` computes, up to the order of floating-point sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from channel_bench.space import Space
from channel_bench.training.models import blank_model, build_model
from channel_bench.training.models.precision import no_autocast, pool_in_fp32


class StackedModel(nn.Module):
    """S networks as one.

    Args:
        space: The space of all.
        archs: S architectures as text.
        generators: CPU generator of each one's initial weights.
    """

    def __init__(self, space: Space, archs: Sequence[str], generators: Sequence[torch.Generator]) -> None:
        """Initialise each network on its own and copy its weights into the stack."""
        super().__init__()
        self.space = space
        self.num_nets = len(archs)
        channels = [space.channels(arch) for arch in archs]
        widest = [max(widths) for widths in zip(*channels, strict=True)]
        single = blank_model(space, widest)
        self.layers = nn.ModuleDict()
        for name, module in single.named_modules():
            if isinstance(module, nn.Conv2d):
                groups = self.num_nets * module.groups
                self.layers[_key(name)] = type(module)(
                    self.num_nets * module.in_channels,
                    self.num_nets * module.out_channels,
                    module.kernel_size[0],
                    module.stride[0],
                    module.padding[0],
                    groups=groups,
                    bias=False,
                )
            elif isinstance(module, nn.BatchNorm2d):
                self.layers[_key(name)] = nn.BatchNorm2d(self.num_nets * module.num_features)
        features = single.classifier.in_features
        self.classifier_weight = nn.Parameter(torch.zeros(self.num_nets, features, space.num_classes))
        self.classifier_bias = nn.Parameter(torch.zeros(self.num_nets, space.num_classes))
        self._load([build_model(space, arch, generator) for arch, generator in zip(archs, generators, strict=True)])
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def _load(self, models: Sequence[nn.Module]) -> None:
        for layer in self.layers.values():
            for parameter in layer.parameters():
                parameter.zero_()
        for number, model in enumerate(models):
            for name, module in model.named_modules():
                if isinstance(module, nn.Conv2d):
                    weight = module.weight
                    self._slot(_key(name), "weight", number)[: weight.shape[0], : weight.shape[1]] = weight
                elif isinstance(module, nn.BatchNorm2d):
                    self._slot(_key(name), "weight", number)[: module.num_features] = module.weight
                elif isinstance(module, nn.Linear):
                    self.classifier_weight[number, : module.in_features] = module.weight.T
                    self.classifier_bias[number] = module.bias

    def _slot(self, key: str, parameter: str, number: int) -> Tensor:
        """Part of a stacked parameter that belongs to one network, as a view."""
        whole: Tensor = getattr(self.layers[key], parameter)
        return whole.view(self.num_nets, -1, *whole.shape[1:])[number]

    def forward(self, images: Tensor) -> Tensor:
        """Logits of all networks.

        Args:
            images: Normalised float (batch, S, channels, height, width); the images of network s are images[:, s].

        Returns:
            (batch, S, num_classes).
        """
        x = images.flatten(1, 2).contiguous(memory_format=torch.channels_last)
        for block in self.space.blocks:
            y = x
            for layer in block:
                y = self.layers[_key(layer.norm)](self.layers[layer.key](y))
                y = x + y if layer.skip else y
                y = functional.relu(y) if layer.relu else y
            x = y
        with no_autocast(x):
            features = pool_in_fp32(x).view(len(x), self.num_nets, -1)
            logits = torch.einsum("bsf,sfc->bsc", features, self.classifier_weight)
            return logits + self.classifier_bias


def _key(name: str) -> str:
    """A module's name in the stand-alone network, without the dots that a ModuleDict refuses."""
    return name.replace(".", "_")
