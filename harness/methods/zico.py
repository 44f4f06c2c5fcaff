"""ZiCo: how large gradients are, against how much they change from batch to batch.

Li et al., ICLR 2023, arXiv 2301.11300, Eq. 11: with gradients of the mean loss on several batches,

    score = sum over layers of log(sum over the layer's weights of E|g| / sqrt(Var|g|)).

Two batches, as in the paper's experiments: the halves of the batch here. A weight whose two gradients have one size has
no ratio and is left out, as in the paper's code; a layer without a ratio adds nothing. The variance has ddof 0.
"""

from __future__ import annotations

import math

import torch

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost


@register("zico", paper="Li et al., ICLR 2023, arXiv 2301.11300", summary="zero-cost: gradients over their deviation")
class Zico(ZeroCost):
    """Inverse coefficient of variation of gradients."""

    passes = 3

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `zico`."""
        return zico(net, batch)


def zico(net: RandomNet, batch: Batch) -> float:
    """Sum over layers of the logarithm of the sum of E|g| / sqrt(Var|g|)."""
    halves = zip(batch.images.tensor_split(2), batch.labels.tensor_split(2), strict=True)
    by_half = [net.gradients(net.loss(Batch(*half))) for half in halves]
    score = 0.0
    for gradients in zip(*by_half, strict=True):
        sizes = torch.stack(gradients).abs().double()
        deviations = sizes.std(0, correction=0)
        there = deviations > 0
        total = (sizes.mean(0)[there] / deviations[there]).sum().item()
        score += math.log(total) if total > 0 else 0.0
    return score
