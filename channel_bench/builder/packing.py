"""How many runs share a GPU: what `--runs-per-gpu auto` means.

    >>> runs_per_gpu(get_space("mobilenet"), memory_bytes=80 * 2**30)
    4

One run of a narrow network does not keep a large GPU busy, several processes do. This is a RULE OF THUMB THAT NO GPU
HAS MEASURED: `python tests/perf/bench_build.py --sweep` measures it on yours. It only has to be safe (no run may die of
memory) and roughly right: each process needs memory and a CPU core, and more than a few are not expected to gain.
"""

from __future__ import annotations

import math

import numpy as np

from channel_bench.space import Space

MAX_RUNS = 4
"""More processes than this share little more than the scheduler's overhead."""
BUSY_FLOPS = 400e6
"""Multiply-accumulates per image from which one run at batch 256 is taken to fill a large GPU."""
PROCESS_BYTES = 2 * 2**30
"""What a process takes before its first step: the CUDA context, its libraries and their workspaces."""
MEMORY_SHARE = 0.85
"""Share of the free memory to plan with; the rest is for fragmentation and for what else runs there."""
COPIES = 4.0
"""Bytes of a step per byte of fp32 activations: outputs of convolutions, of normalisations and of ReLU are kept or
computed in place, gradients come and go, and a graph of the smaller last batch shares the memory of the first."""


def run_bytes(space: Space, batch_size: int = 256, num_images: int = 60_000) -> int:
    """Upper estimate of the device memory that the widest network of a space needs, bytes.

    Args:
        space: The search space.
        batch_size: Images per step.
        num_images: Training and test images; they lie on the device as bytes, the test images also as fp32.

    Returns:
        Process + images + 5 copies of the parameters (weights, gradients, momentum, what a capture saves, a cast) +
        activations.
    """
    widest = "4444444"
    pixels = int(np.prod(space.input_shape))
    images = num_images * pixels * (1 + 4)
    parameters = 5 * 4 * space.params(widest)
    activations = COPIES * 4 * batch_size * _num_activations(space, widest)
    return int(PROCESS_BYTES + images + parameters + activations)


def _num_activations(space: Space, arch: str) -> int:
    """Values that the convolutions of a network put out for one image."""
    channels = space.channels(arch)
    return sum(channels[layer.writes] * math.prod(layer.output_size) for layer in space.layers[:-1])


def runs_per_gpu(space: Space, memory_bytes: int, *, batch_size: int = 256, num_images: int = 60_000) -> int:
    """Processes to put on a GPU: enough to keep it busy with networks of median size, few enough to fit.

    Args:
        space: The search space.
        memory_bytes: Free memory of the GPU.
        batch_size: Images per step of the recipe.
        num_images: Training and test images.

    Returns:
        min(MAX_RUNS, 1 + BUSY_FLOPS / median flops x 256 / batch_size, what fits), at least 1.
    """
    wanted = 1 + int(BUSY_FLOPS / float(np.median(space.flops())) * 256 / batch_size)
    fitting = int(MEMORY_SHARE * memory_bytes / run_bytes(space, batch_size, num_images))
    return max(1, min(MAX_RUNS, wanted, fitting))
