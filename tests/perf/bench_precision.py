"""What precision, layout and the way of partial sums change in the time of a supernet: ratios of paths measured in turns.

    python tests/perf/bench_precision.py                                     # CPU, full spaces
    python tests/perf/bench_precision.py --device cuda --batch 256
    python tests/perf/bench_precision.py --spaces resnet-mini mobilenet-mini --rounds 1    # a trial, seconds

  step      forward and backward of `uniform` on one batch, mean over some architectures: bf16 against fp32, channels
            last (NHWC) against channels first (NCHW)
  scoring   a walk over neighbouring architectures: the same
  sums      partial sums of every distinct convolution that a walk branches at: a dense convolution for each group
            ("apart") against one grouped convolution

All variants of a part take turns within a round; what is printed is the median over rounds of the ratio within a round.
On a CPU times are those of the process on one thread, so that neighbours on the machine disturb little. Weights and
images are random, which changes no time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from channel_bench.space import Space, get_space
from channel_bench.space.layers import IMAGE
from channel_bench.training.devices import device_name, pick_device
from channel_bench.training.step import arithmetic
from harness.supernet.cumulation import WAYS, partial_sums
from harness.supernet.exhaustive import Walk
from harness.supernet.network import Supernet

VARIANTS = [(precision, layout) for precision in ("fp32", "bf16") for layout in ("NCHW", "NHWC")]
FORMATS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


class InLayout(Supernet):
    """A supernet that keeps a layout in training, whatever its precision."""

    layout = torch.contiguous_format

    def prepare(self, images: torch.Tensor, layout: torch.memory_format = torch.preserve_format) -> torch.Tensor:
        """In the layout of the class, or in that of a walk."""
        wanted = self.layout if torch.is_grad_enabled() else layout
        return super().prepare(images, wanted)


def seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Of the process on a CPU, of the clock on a GPU."""
    if device.type != "cuda":
        started = time.process_time()
        call()
        return time.process_time() - started
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


def in_turns(calls: dict[str, Callable[[], Any]], device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, by round; a first round chooses kernels and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(1 + rounds):
        for name, call in calls.items():
            taken = seconds(call, device)
            if number:
                times[name].append(taken)
    return times


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """How many times the first takes as long as the second, median over rounds."""
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def network_of(space: Space, variant: tuple[str, str], device: torch.device) -> InLayout:
    """A supernet in a precision and layout."""
    net = InLayout(space, torch.Generator().manual_seed(0), precision=variant[0]).to(device)
    net.layout = FORMATS[variant[1]]
    return net


def step_calls(space: Space, device: torch.device, batch: int, archs: np.ndarray) -> dict[str, Callable[[], Any]]:
    """A step of training in each variant, on the same batch and architectures."""
    images = torch.randn(batch, *space.input_shape, generator=torch.Generator().manual_seed(1)).to(device)
    labels = (torch.arange(batch) % space.num_classes).to(device)

    def step(net: Supernet) -> None:
        for arch in archs.tolist():
            functional.cross_entropy(net(images, arch), labels).backward()

    nets = {" ".join(variant): network_of(space, variant, device) for variant in VARIANTS}
    return {name: lambda net=net: step(net) for name, net in nets.items()}  # type: ignore[misc]


def scoring_calls(space: Space, device: torch.device, batch: int, count: int) -> dict[str, Callable[[], Any]]:
    """A walk in each variant, over the same neighbouring architectures."""
    images = torch.randn(batch, *space.input_shape, generator=torch.Generator().manual_seed(1)).to(device)
    archs = space.archs()[5000 : 5000 + count]

    def walk(variant: tuple[str, str], net: Supernet) -> None:
        Walk(net, layout=FORMATS[variant[1]]).run(images, archs, lambda rows, logits: None)

    nets = {variant: network_of(space, variant, device) for variant in VARIANTS}
    return {" ".join(variant): lambda v=variant, n=net: walk(v, n) for variant, net in nets.items()}  # type: ignore[misc]


def sums_calls(space: Space, device: torch.device, batch: int, precision: str) -> dict[str, Callable[[], Any]]:
    """All distinct branching convolutions at full width, in each way."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    net = Supernet(space, torch.Generator().manual_seed(0)).to(device)
    cases: dict[tuple[Any, ...], Any] = {}
    for layer in net.layers:
        if layer.reads not in (IMAGE, layer.writes):
            weight = net.cut_weight(layer, 4, 4, "left").detach()
            shape = (batch, weight.shape[1], *(edge * layer.stride for edge in layer.output_size))
            cases[(tuple(weight.shape), shape, layer.stride)] = (
                layer,
                torch.randn(shape, device=device).to(kind),
                weight,
            )

    @torch.no_grad()
    def run(way: str) -> None:
        for layer, x, weight in cases.values():
            partial_sums(layer, x, weight, 4, way)

    return {way: lambda way=way: run(way) for way in WAYS}  # type: ignore[misc]


def measure(space: Space, device: torch.device, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All parts of a space."""
    archs = space.sample(arguments.archs, np.random.default_rng(0))
    rows = []
    parts = {
        "step": step_calls(space, device, arguments.batch, archs),
        "scoring": scoring_calls(space, device, arguments.batch // 2, arguments.scored),
    }
    for part, calls in parts.items():
        times = in_turns(calls, device, arguments.rounds)
        ratios = {
            "bf16 NCHW against fp32 NCHW": ratio(times, "fp32 NCHW", "bf16 NCHW"),
            "bf16 NHWC against fp32 NCHW": ratio(times, "fp32 NCHW", "bf16 NHWC"),
            "bf16 NHWC against fp32 NHWC": ratio(times, "fp32 NHWC", "bf16 NHWC"),
            "NHWC against NCHW in fp32": ratio(times, "fp32 NCHW", "fp32 NHWC"),
            "NHWC against NCHW in bf16": ratio(times, "bf16 NCHW", "bf16 NHWC"),
        }
        rows.append({"space": space.name, "part": part, "seconds": _medians(times), "ratios": ratios})
    for precision in ("fp32", "bf16"):
        times = in_turns(sums_calls(space, device, arguments.batch // 2, precision), device, arguments.rounds)
        ratios = {f"apart against grouped in {precision}": ratio(times, "grouped", "apart")}
        rows.append({"space": space.name, "part": "sums", "seconds": _medians(times), "ratios": ratios})
    return rows


def _medians(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(values), 4) for name, values in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", default=["resnet", "mobilenet"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=64, help="images of a step; half as many are scored")
    parser.add_argument("--archs", type=int, default=4, help="architectures of a step")
    parser.add_argument("--scored", type=int, default=64, help="architectures of a walk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = pick_device(arguments.device)
    with arithmetic():
        rows = [row for name in arguments.spaces for row in measure(get_space(name), device, arguments)]
    if arguments.json:
        print(json.dumps({"device": device_name(device), "torch": torch.__version__, "rows": rows}, indent=1))
        return
    print(
        f"{device_name(device)} ({platform.processor() or platform.machine()}), PyTorch {torch.__version__}, one thread"
    )
    for row in rows:
        told = "; ".join(f"{name} {value:.2f} times as fast" for name, value in row["ratios"].items())
        print(f"{row['space']:15} {row['part']:8} {told}")


if __name__ == "__main__":
    main()
