"""NASWOT, here under its usual name nwot: how differently a network sees the images of a batch.

Mellor et al., ICML 2021, arXiv 2006.04647, Eq. 2 and 3: each image has a binary code, which of the ReLU units are on; K
has in row i and column j the number of units in which the codes of images i and j agree, and the score is log |det K|.
K is positive semidefinite, and singular where two images have one code: eigenvalues below 1e-5 count as 1e-5, so that
such a network has a low score and not none.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost

FLOOR = 1e-5


@register(
    "nwot", paper="Mellor et al., ICML 2021, arXiv 2006.04647", summary="zero-cost: kernel of activation patterns"
)
class Nwot(ZeroCost):
    """Kernel of activation patterns."""

    passes = 1

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `nwot`."""
        return nwot(net, batch)


@torch.no_grad()
def nwot(net: RandomNet, batch: Batch) -> float:
    """Logarithm of the determinant of the number of ReLU units in which images agree."""
    kernel = torch.zeros(len(batch.labels), len(batch.labels), device=batch.images.device, dtype=torch.float64)

    def add(y: Tensor) -> None:
        # In fp32 sums of zeros and ones are exact up to 2^24 units of a layer.
        on = (y > 0).flatten(1).float()
        kernel.add_(on @ on.T + (1 - on) @ (1 - on).T)

    net.features(batch.images, after_relu=add)
    eigenvalues = np.linalg.eigvalsh(kernel.cpu().numpy())
    return float(np.log(np.maximum(eigenvalues, FLOOR)).sum())
