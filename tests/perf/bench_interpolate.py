"""What TAS's interpolation of channels takes by its blocks, against the whole matrix.

    python tests/perf/bench_interpolate.py [--space resnet] [--batch 16] [--rounds 5]

Processor time of one thread, forward and backward, of all pairs of unequal widths of every layer that mixes channels:
the median over rounds, in which both ways take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.space import NUM_WIDTHS, Space, get_space
from channel_bench.training.devices import prepare_process
from harness.methods.tas import interpolate


def by_the_whole_matrix(x: Tensor, channels: int) -> Tensor:
    """The same as `interpolate`, as one matrix over all channels."""
    matrix = functional.adaptive_avg_pool1d(torch.eye(x.shape[1])[None], channels)[0]
    return torch.einsum("bchw,cd->bdhw", x, matrix)


def cases_of(space: Space, batch: int) -> list[tuple[Tensor, int]]:
    """Outputs of layers at a width, and the number of channels that they are brought to."""
    found = []
    for layer in space.layers[:-1]:
        if layer.depthwise:
            continue
        widths = [space.max_channels[layer.writes] * digit // NUM_WIDTHS for digit in range(1, NUM_WIDTHS + 1)]
        found += [
            (torch.randn(batch, narrow, *layer.output_size), wide)
            for wide in widths
            for narrow in widths
            if narrow < wide
        ]
    return found


def seconds(way: Callable[[Tensor, int], Tensor], cases: list[tuple[Tensor, int]]) -> float:
    """Processor time of all cases, forward and backward."""
    started = time.process_time()
    for x, channels in cases:
        way(x.detach().requires_grad_(), channels).sum().backward()
    return time.process_time() - started


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="resnet")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    prepare_process(1)
    cases = cases_of(get_space(arguments.space), arguments.batch)
    for x, channels in cases:
        assert torch.allclose(interpolate(x, channels), by_the_whole_matrix(x, channels), atol=1e-5)
    times = [(seconds(by_the_whole_matrix, cases), seconds(interpolate, cases)) for _ in range(arguments.rounds)]
    whole, blocks = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(slow / fast for slow, fast in times)
    print(
        f"{arguments.space}, batch {arguments.batch}, {len(cases)} interpolations, one thread: whole matrix"
        f" {whole:.2f} s, blocks {blocks:.2f} s, {ratio:.1f} times as fast"
    )


if __name__ == "__main__":
    main()
