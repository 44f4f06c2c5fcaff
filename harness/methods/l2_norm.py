"""L2 norm: the length of the weights.

Abdelfattah et al., ICLR 2021, arXiv 2101.08134 (their code), and NAS-Bench-Suite-Zero (Krishnakumar et al., NeurIPS
2022, arXiv 2210.03230): the sum over convolutions and the linear layer of the norm of their weights. No image is looked
at, nothing is computed but the weights. Its mean over them is the free baseline `expected-l2-norm`, up to a share of a
percent (harness/judge/expected.py).
"""

from __future__ import annotations

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost


@register("l2_norm", paper="Abdelfattah et al., ICLR 2021, arXiv 2101.08134", summary="zero-cost: norm of the weights")
class L2Norm(ZeroCost):
    """Norm of the weights."""

    passes = 0

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `l2_norm`."""
        return l2_norm(net)


def l2_norm(net: RandomNet) -> float:
    """Sum over layers of |W|."""
    return sum(weight.norm().item() for weight in net.weights)
