"""Jacobian covariance: how differently a network reacts to the images of a batch.

Mellor et al., 2020, arXiv 2006.04647, version 1: the gradients of the summed logits by the pixels, a row for each
image, their correlation matrix, and with v its eigenvalues

    score = -sum over i of (log(v_i + k) + 1 / (v_i + k)),   k = 1e-5.

In version 2 of the paper it gave way to `nwot`; as jacob_cov it is in Abdelfattah et al., ICLR 2021.
"""

from __future__ import annotations

import numpy as np

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost, correlations_of, input_gradients

OFFSET = 1e-5


@register(
    "jacov", paper="Mellor et al., 2020, arXiv 2006.04647v1", summary="zero-cost: correlations of input gradients"
)
class Jacov(ZeroCost):
    """Jacobian covariance."""

    passes = 3

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `jacov`."""
        return jacov(net, batch)


def jacov(net: RandomNet, batch: Batch) -> float:
    """Minus the divergence of the eigenvalues of the correlations from 1, up to a constant."""
    eigenvalues = np.linalg.eigvalsh(correlations_of(input_gradients(net, batch)))
    shifted = np.maximum(eigenvalues, 0) + OFFSET  # rounding makes zeros negative
    return float(-(np.log(shifted) + 1 / shifted).sum())
