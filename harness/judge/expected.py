"""Zero-cost proxies in closed form: what a proxy gives on average over initial weights, for all widths at once.

    >>> expected_synflow(get_space("resnet"))            # float64 (16384,), no network is built

A proxy is measured on a network with random weights. Where its mean over these weights follows from the widths, there
is nothing to measure: the mean is free, and has none of a draw's noise. `harness.methods` measures the same proxies on
real networks (`synflow`, `l2_norm`, `swap`); tests hold the two against each other.

Weights are those of `channel_bench.training.models.initialise`, PyTorch's defaults: uniform between -a and a,
a = 1 / sqrt(f), with f the fan-in, the inputs of one output. So E|w| = 1 / (2 sqrt(f)) and E w^2 = 1 / (3 f).
"""

from __future__ import annotations

import numpy as np

from channel_bench.space import NUM_ARCHS, FloatArray, IntArray, Space
from channel_bench.space.layers import CLASSES, IMAGE, Layer

_DECIMALS = 9
"""Far above rounding errors and far below differences: widths that are equal on paper tie. Broken ties alone move
Kendall by up to .008."""


def expected_synflow(space: Space) -> FloatArray:
    """Logarithm of the mean of SynFlow over initial weights.

    SynFlow (Tanaka et al., NeurIPS 2020, arXiv 2006.05467, Eq. 2): the sum over weights of |theta dR/dtheta|, where R
    is the sum of the outputs for an image of ones, all weights replaced by their absolute values. As a score of whole
    networks it is measured without batch normalisation (Abdelfattah et al., ICLR 2021), so that the network is linear:
    with positive weights no ReLU cuts anything off. R is then the sum over paths of products of |w|, and because
    weights are independent, its mean is the same sum with E|w| in place of every |w|:

    - a layer with fan-in f multiplies by f E|w| = sqrt(f) / 2, f = inputs k^2, of a depthwise layer k^2;
    - a block b of factor T_b with a skip line multiplies by T_b + 1, one without by T_b;
    - the classifier adds its C outputs: C sqrt(inputs) / 2.

    The sum over one layer's weights of theta dR/dtheta is the part of R that flows through the layer, because R is
    linear in them: E R, times T_b / (T_b + 1) inside a block with a skip line. So the mean of SynFlow is

        E R (1 + sum over blocks of (number of layers of b) (T_b / (T_b + 1), or 1 without a skip line)).

    As in `num_paths`, images have no border. Where nothing is skipped the sum is half of log-paths and a constant, and
    ranks alike; skip lines set the two apart, because they count more beside sqrt(f) / 2 than beside f.

    Returns:
        float64 (16384,) in index order.
    """
    channels = space.channel_counts(space.archs())
    log_flow = np.zeros(NUM_ARCHS)
    passes = np.ones(NUM_ARCHS)  # of the classifier
    for block in space.blocks:
        through = np.ones(NUM_ARCHS)
        for layer in block:
            through = through * np.sqrt(_fan_in(layer, space, channels)) / 2
        has_skip = any(layer.skip for layer in block)
        log_flow += np.log(through + has_skip)
        passes += len(block) * (through / (through + has_skip))
    classifier = np.sqrt(_fan_in(space.layers[-1], space, channels)) / 2
    total: FloatArray = log_flow + np.log(space.num_classes * classifier) + np.log(passes)
    return np.round(total, _DECIMALS)


def expected_l2_norm(space: Space) -> FloatArray:
    """Sum over layers of the root of the mean squared L2 norm of the weights.

    L2 norm as a proxy (Abdelfattah et al., ICLR 2021, and NAS-Bench-Suite-Zero, Krishnakumar et al., NeurIPS 2022): the
    sum over convolutions and the linear layer of the norm of their weights. A layer with o outputs has o f weights,
    so E |W|^2 = o f / (3 f) = o / 3: the fan-in cancels, and the score is the sum over layers of sqrt(o / 3). The mean
    norm itself is lower by a share of about 1 / (10 o f), because a root is concave.

    Returns:
        float64 (16384,) in index order.
    """
    channels = space.channel_counts(space.archs())
    norms = [np.sqrt(_outputs(layer, space, channels) / 3) for layer in space.layers]
    total: FloatArray = np.sum(norms, axis=0)
    return np.round(total, _DECIMALS)


def relu_count(space: Space) -> FloatArray:
    """Number of ReLU units of a network: channels times positions, over all layers with an activation.

    What counts activation patterns saturates towards it. SWAP (Peng et al., ICLR 2024, arXiv 2403.04161) counts the
    units that differ on a batch, at most all of them; each unit adds a row to the kernel of NASWOT (Mellor et al., ICML
    2021, arXiv 2006.04647).

    Returns:
        float64 (16384,) in index order, whole numbers.
    """
    channels = space.channel_counts(space.archs())
    units = np.zeros(NUM_ARCHS, np.int64)
    for layer in space.layers:
        if layer.relu:
            height, width = layer.output_size
            units += channels[:, layer.writes] * height * width
    return units.astype(np.float64)


def _fan_in(layer: Layer, space: Space, channels: IntArray) -> IntArray:
    """Inputs of one output of a layer, int64 (num_archs,); channels are (num_archs, 7)."""
    if layer.depthwise:
        inputs = np.ones(len(channels), np.int64)
    elif layer.reads == IMAGE:
        inputs = np.full(len(channels), space.input_shape[0], np.int64)
    else:
        inputs = channels[:, layer.reads]
    return inputs * layer.kernel**2


def _outputs(layer: Layer, space: Space, channels: IntArray) -> IntArray:
    """Outputs of a layer, int64 (num_archs,)."""
    return np.full(len(channels), space.num_classes) if layer.writes == CLASSES else channels[:, layer.writes]
