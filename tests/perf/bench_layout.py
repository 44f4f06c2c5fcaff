"""How a CPU likes its tensors: a training step in fp32 and bf16, channels first and last, depthwise in fp32 or not.

    python tests/perf/bench_layout.py [--threads 1] [--batch 64] [--repeats 3]

Both full spaces, two architectures each. Prints the shortest step of each variant and its ratio to fp32 with channels
first; the variants take turns. bf16 is only fast where the processor has AMX (`lscpu`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn import Conv2d, functional

import channel_bench as cb
from channel_bench.training.models import build_model
from channel_bench.training.models.precision import DepthwiseConv2d, forward

ARCHS = {"resnet": ("1111111", "2222222"), "mobilenet": ("1111113", "2342431")}
VARIANTS = {
    "fp32 first": ("fp32", torch.contiguous_format, False),
    "fp32 last": ("fp32", torch.channels_last, False),
    "bf16 first": ("bf16", torch.contiguous_format, False),
    "bf16 last": ("bf16", torch.channels_last, False),
    "bf16 last, depthwise in bf16": ("bf16", torch.channels_last, True),
}


@contextmanager
def plain_depthwise(plain: bool) -> Iterator[None]:
    """Within the block depthwise convolutions are what autocast makes of any other, if plain."""
    own = DepthwiseConv2d.forward
    if plain:
        DepthwiseConv2d.forward = Conv2d.forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        DepthwiseConv2d.forward = own  # type: ignore[method-assign]


def make_step(space: cb.Space, arch: str, batch: int, variant: str) -> Callable[[], None]:
    precision, layout, plain = VARIANTS[variant]
    model = build_model(space, arch, torch.Generator().manual_seed(0)).train().to(memory_format=layout)
    images = torch.randn(batch, *space.input_shape).contiguous(memory_format=layout)
    labels = torch.randint(space.num_classes, (batch,))

    def step() -> None:
        with plain_depthwise(plain):
            functional.cross_entropy(forward(model, images, precision), labels).backward()
        model.zero_grad()

    return step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, archs in ARCHS.items():
        space = cb.get_space(name)
        for arch in archs:
            steps = {variant: make_step(space, arch, options.batch, variant) for variant in VARIANTS}
            times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
            for repeat in range(options.repeats + 1):
                for variant, step in steps.items():
                    started = time.perf_counter()
                    step()
                    if repeat:  # the first call pays for choosing kernels
                        times[variant].append(time.perf_counter() - started)
            plain = min(times["fp32 first"])
            for variant, found in times.items():
                print(f"{name:9} {arch} {variant:29} {1e3 * min(found):8.1f} ms {plain / min(found):5.2f}x", flush=True)


if __name__ == "__main__":
    main()
