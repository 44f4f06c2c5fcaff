"""SynFlow: how much flows through a network whose weights are all positive.

Tanaka et al., NeurIPS 2020, arXiv 2006.05467, Eq. 2: R is the sum of the outputs for an image of ones, with the
absolute values of all weights and without batch normalisation; the score is the sum over weights of |w dR/dw|, the
logarithm of it here, which changes no rank. As a score of whole networks: Abdelfattah et al., ICLR 2021, arXiv
2101.08134, Eq. 1. Its mean over initial weights has a closed form, which costs nothing and has no noise:
`expected-synflow` (harness/judge/expected.py).
"""

from __future__ import annotations

import math

import torch

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost


@register(
    "synflow", paper="Tanaka et al., NeurIPS 2020, arXiv 2006.05467", summary="zero-cost: log of the synaptic flow"
)
class SynFlow(ZeroCost):
    """Synaptic flow."""

    passes = 3

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `synflow`; no image of the batch is looked at."""
        return synflow(net)

    def num_seen(self, batch: Batch) -> int:
        """The image of ones."""
        return 1


def synflow(net: RandomNet) -> float:
    """Logarithm of the sum over weights of |w dR/dw|."""
    # In double precision, as in the papers' code: R is a product over layers.
    net.weights = [weight.detach().double().abs().requires_grad_() for weight in net.weights]
    net.bias = net.bias.double().abs()
    ones = torch.ones(1, *net.space.input_shape, dtype=torch.float64, device=net.bias.device)
    gradients = net.gradients(net(ones, norm=False).sum())
    return math.log(sum((weight * each).sum().item() for weight, each in zip(net.weights, gradients, strict=True)))
