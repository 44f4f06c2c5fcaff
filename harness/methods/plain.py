"""Plain: SNIP with its signs, the sum of w dL/dw.

Measured by Abdelfattah et al. (their code of ICLR 2021, arXiv 2101.08134) and in NAS-Bench-Suite-Zero (Krishnakumar et
al., NeurIPS 2022, arXiv 2210.03230). Behind a batch normalisation the loss does not depend on the length of a layer's
weights, so by Euler's theorem w dL/dw adds up to 0 over the layer, up to the normalisation's epsilon: what is left is
the classifier, and what epsilon does. Nothing in it says much about widths.
"""

from __future__ import annotations

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost


@register("plain", paper="Krishnakumar et al., NeurIPS 2022, arXiv 2210.03230", summary="zero-cost: sum of w dL/dw")
class Plain(ZeroCost):
    """Signed connection sensitivity."""

    passes = 3

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `plain`."""
        return plain(net, batch)


def plain(net: RandomNet, batch: Batch) -> float:
    """Sum over weights of w dL/dw."""
    gradients = net.gradients(net.loss(batch))
    return sum((weight * each).sum().item() for weight, each in zip(net.weights, gradients, strict=True))
