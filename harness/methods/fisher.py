"""Fisher: what the loss would lose with each channel.

Theis et al., 2018, arXiv 1801.05787, Eq. 2, as Turner et al. (BlockSwap, ICLR 2020, arXiv 1906.04113, Eq. 2) score
whole networks: for each channel c, with a its activations at the N images of a batch and g the gradient of the loss
by them,

    Delta_c = 1 / (2 N) sum over images of (sum over positions of a g)^2,

summed over channels and layers. The activations are those behind each convolution, before its normalisation, and the
logits; the loss is the mean over the batch (both as in the code of Abdelfattah et al., ICLR 2021, arXiv 2101.08134).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost


@register(
    "fisher", paper="Turner et al., ICLR 2020, arXiv 1906.04113", summary="zero-cost: Fisher information of channels"
)
class Fisher(ZeroCost):
    """Fisher information of the channels."""

    passes = 3

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `fisher`."""
        return fisher(net, batch)


def fisher(net: RandomNet, batch: Batch) -> float:
    """Sum over layers and channels of Delta_c."""
    activations: list[Tensor] = []
    logits = net(batch.images, after_conv=activations.append)
    gradients = torch.autograd.grad(functional.cross_entropy(logits, batch.labels), activations)
    total = 0.0
    for activation, gradient in zip(activations, gradients, strict=True):
        by_channel = (activation * gradient).flatten(2).sum(2) if activation.ndim > 2 else activation * gradient
        total += by_channel.square().mean(0).sum().item() / 2
    return total
