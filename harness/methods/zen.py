"""Zen-score: how much a random network without skip lines changes where its input changes a little.

Lin et al., ICCV 2021, arXiv 2102.01063, Algorithm 1: skip lines are removed and weights are drawn from N(0, 1); with x
and e standard normal noise and f the features before pooling,

    Delta = E |f(x) - f(x + a e)|,   a = 0.01,   Zen = log Delta + sum over normalisations of log sigma_i,

sigma_i the root of the mean over channels of the variance that normalisation i divides by: what normalisation takes
from the scale is given back. The mean is over as many noise images as the batch has, the norm that of an image's
features. The paper repeats it with new weights; here the fit takes the mean over architectures.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost

STEP = 0.01


@register("zen", paper="Lin et al., ICCV 2021, arXiv 2102.01063", summary="zero-cost: Gaussian complexity of a network")
class Zen(ZeroCost):
    """Zen-score."""

    passes = 2

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `zen`; of the batch only the number of images counts."""
        return zen(net, len(batch.labels))


@torch.no_grad()
def zen(net: RandomNet, num_images: int) -> float:
    """Zen-score: log Delta + sum of log sigma_i."""
    net.weights = [net.noise_like(weight.shape) for weight in net.weights]
    shape = (num_images, *net.space.input_shape)
    x, change = net.noise_like(shape), net.noise_like(shape)
    log_scale = 0.0

    def add(y: Tensor) -> None:
        nonlocal log_scale
        log_scale += math.log(y.var((0, 2, 3), correction=0).mean().sqrt().item())

    features = net.features(x, skip=False, after_conv=add)
    changed = net.features(x + STEP * change, skip=False)
    return math.log((features - changed).flatten(1).norm(dim=1).mean().item()) + log_scale
