"""AZ-NAS: four proxies, put together by ranks.

Lee and Ham, CVPR 2024, arXiv 2403.19232, section 3, on noise images, with f_l the output of primary block l (the stem
is the first), of c_l channels:

- expressivity: the sum over blocks of the entropy of p = eigenvalues of the covariance of f_l over images and
  positions, divided by their sum (Eq. 1 and 2);
- progressivity: the smallest rise of that entropy from a block to the next (Eq. 3);
- trainability: with v random signs and u = v df_l/df_{l-1}, s the largest singular value of the mean over images and
  positions of the outer products of u and v: the mean over blocks of 2 - s - 1/s, which is largest, 0, at s = 1 (Eq. 5
  and 6). A block that shrinks the image has as many positions of u for one of v, which count as channels;
- complexity: multiply-accumulates;

and the score is the sum of log(rank / n) of the four among the n networks that are measured, n the best (Eq. 7). The
paper draws weights from He's normal distribution, these are the networks' own: behind a normalisation scale is lost.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.space import FloatArray
from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost

TINY = 1e-8
"""Keeps the logarithm of an eigenvalue of 0, and the inverse of a singular value of 0, finite."""


@register("az_nas", paper="Lee and Ham, CVPR 2024, arXiv 2403.19232", summary="zero-cost: four proxies by ranks")
class AzNas(ZeroCost):
    """Expressivity, progressivity, trainability and complexity."""

    passes = 3

    def measure(self, net: RandomNet, batch: Batch) -> tuple[float, ...]:
        """See `az_nas`; of the batch only the number of images counts."""
        return az_nas(net, len(batch.labels))

    def combine(self, measured: FloatArray) -> FloatArray:
        """Sum over the four of log(rank / n)."""
        from scipy.stats import rankdata

        return np.asarray(np.log(rankdata(measured, axis=0) / len(measured)).sum(1), np.float64)


def az_nas(net: RandomNet, num_images: int) -> tuple[float, float, float, float]:
    """Expressivity, progressivity, trainability, and complexity in multiply-accumulates."""
    blocks: list[Tensor] = []
    net.features(net.noise_like((num_images, *net.space.input_shape)), after_block=blocks.append)
    entropies = [entropy(block.detach()) for block in blocks]
    flows = []
    for before, after in zip(blocks, blocks[1:], strict=False):
        signs = net.noise_like(after.shape).sign()
        (gradient,) = torch.autograd.grad(after, before, signs, retain_graph=True)
        largest = singular_value(gradient, signs)
        flows.append(2 - largest - 1 / (largest + TINY))
    complexity = float(net.space.flops(net.arch))
    return sum(entropies), float(np.diff(entropies).min()), float(np.mean(flows)), complexity


def entropy(features: Tensor) -> float:
    """Entropy, nats, of the shares of the principal components of (batch, channels, height, width)."""
    rows = features.transpose(0, 1).flatten(1).double()
    rows = rows - rows.mean(1, keepdim=True)
    eigenvalues = torch.linalg.eigvalsh(rows @ rows.T / rows.shape[1]).clamp(min=0)
    shares = eigenvalues / eigenvalues.sum().clamp(min=TINY)
    return float(-(shares * (shares + TINY).log()).sum())


def singular_value(gradient: Tensor, signs: Tensor) -> float:
    """Largest singular value of the mean outer product of the gradient by a block's input with that by its output."""
    stride = -(-gradient.shape[2] // signs.shape[2])
    height, width = (stride * size for size in signs.shape[2:])
    padded = functional.pad(gradient, (0, width - gradient.shape[3], 0, height - gradient.shape[2]))
    inputs = functional.pixel_unshuffle(padded, stride).transpose(0, 1).flatten(1)
    outputs = signs.transpose(0, 1).flatten(1)
    return float(torch.linalg.matrix_norm(inputs @ outputs.T / inputs.shape[1], 2))
