"""Gradient norm: how far one step of the loss would go.

Abdelfattah et al., ICLR 2021, arXiv 2101.08134, section 3.1: the L2 norm of the gradient of the loss on one batch, as
the sum over layers of the norm of each layer's gradient (their code; the text says the sum of gradients).
"""

from __future__ import annotations

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost


@register("grad_norm", paper="Abdelfattah et al., ICLR 2021, arXiv 2101.08134", summary="zero-cost: norm of gradients")
class GradNorm(ZeroCost):
    """Gradient norm."""

    passes = 3

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `grad_norm`."""
        return grad_norm(net, batch)


def grad_norm(net: RandomNet, batch: Batch) -> float:
    """Sum over layers of |dL/dW|."""
    return sum(gradient.norm().item() for gradient in net.gradients(net.loss(batch)))
