"""MeCo: how far the feature maps of a layer are from being linear combinations of each other.

Jiang, Wang and Bie, NeurIPS 2023, "MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum Eigenvalue of
Correlation": one image of standard normal noise; for each layer the Pearson correlation matrix of its channels over
positions, and the score is the sum over layers of the smallest eigenvalue. A layer is here a convolution with its
normalisation and activation.

Where a layer has more channels than positions, the smallest eigenvalue is 0 whatever the widths are. On images of 8x8
pixels that is every layer of the last stage, of 2x2 positions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost, correlations_of


@register("meco", paper="Jiang et al., NeurIPS 2023", summary="zero-cost: smallest eigenvalues of feature correlations")
class Meco(ZeroCost):
    """Smallest eigenvalues of the correlations of feature maps."""

    passes = 1

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `meco`; no image of the batch is looked at."""
        return meco(net)

    def num_seen(self, batch: Batch) -> int:
        """The image of noise."""
        return 1


@torch.no_grad()
def meco(net: RandomNet) -> float:
    """Sum over layers of the smallest eigenvalue of the correlations of channels."""
    score = 0.0

    def add(y: Tensor) -> None:
        nonlocal score
        channels = y[0].flatten(1).double().cpu().numpy()
        # Of as many channels as positions the centred rows are dependent: 0 on paper, and rounding errors otherwise.
        if channels.shape[0] < channels.shape[1]:
            score += max(float(np.linalg.eigvalsh(correlations_of(channels))[0]), 0.0)

    net.features(net.noise_like((1, *net.space.input_shape)), after_layer=add)
    return score
