"""SWAP: how many different patterns the units of a network have over a batch.

Peng et al., ICLR 2024, arXiv 2403.04161, Definition 3.3 and 3.4: the sample-wise activation pattern of a ReLU unit says
on which images of the batch it is on; the score is the number of different patterns. It saturates at the number of
units, the free baseline `relu-count` (harness/judge/expected.py): with 64 images nearly all units differ. The paper's
regularisation by a target size of the model (Definition 3.5) is left out, because it ranks by that size.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost


@register("swap", paper="Peng et al., ICLR 2024, arXiv 2403.04161", summary="zero-cost: number of activation patterns")
class Swap(ZeroCost):
    """Number of sample-wise activation patterns."""

    passes = 1

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `swap`."""
        return swap(net, batch)


@torch.no_grad()
def swap(net: RandomNet, batch: Batch) -> float:
    """Number of different patterns over the images, among all ReLU units."""
    patterns: list[Tensor] = []
    net.features(batch.images, after_relu=lambda y: patterns.append((y > 0).flatten(1)))
    bits = np.packbits(torch.cat(patterns, 1).T.cpu().numpy(), axis=1)
    rows = np.ascontiguousarray(bits).view(np.dtype((np.void, bits.shape[1])))
    return float(len(np.unique(rows)))
