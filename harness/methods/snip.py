"""SNIP: how much the loss depends on whether each weight is there.

Lee, Ajanthan and Torr, ICLR 2019, arXiv 1810.02340: connection sensitivity |w dL/dw| of one batch at initialisation,
there to prune by. As a score of whole networks, its sum over weights (Abdelfattah et al., ICLR 2021, arXiv 2101.08134,
Eq. 1). The package in examples/snip_package measures the same, for every architecture and without a fit.
"""

from __future__ import annotations

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost


@register("snip", paper="Lee et al., ICLR 2019, arXiv 1810.02340", summary="zero-cost: sum of |w dL/dw|")
class Snip(ZeroCost):
    """Connection sensitivity."""

    passes = 3

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `snip`."""
        return snip(net, batch)


def snip(net: RandomNet, batch: Batch) -> float:
    """Sum over weights of |w dL/dw|."""
    gradients = net.gradients(net.loss(batch))
    return sum((weight * each).abs().sum().item() for weight, each in zip(net.weights, gradients, strict=True))
