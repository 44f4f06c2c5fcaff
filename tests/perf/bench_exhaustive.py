"""What scoring all 16,384 sub-networks of a supernet costs, shared against one by one.

    python tests/perf/bench_exhaustive.py                                              # mini spaces, CPU
    python tests/perf/bench_exhaustive.py --spaces resnet mobilenet --device cuda --num-images 10000 --budget-s 540

Shared, every sub-network is scored, chunk by chunk as `channel-harness rank` does, in a random order of chunks. One by
one, a random sample of each chunk is, right after it, and its time is scaled to the chunk: those figures are
extrapolations. The ratio is that of the medians over rounds. With a budget each space and path gets an equal part of it
and stops after the chunk that uses it up; what was timed is then scaled to all 16 chunks, and the output says how many
it was. The weights are untrained and the images of the full spaces random, which changes no time. The saved
multiply-accumulates are an exact count of what the walk does (`harness.supernet.exhaustive.count_macs`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch

from channel_bench.space import NUM_ARCHS, Space, get_space
from channel_bench.training.datasets import Dataset, load_dataset
from channel_bench.training.devices import device_name, pick_device
from channel_bench.training.step import arithmetic
from harness.method import SCORE_CHUNK
from harness.supernet.exhaustive import SupernetEvaluator, count_macs
from harness.supernet.network import Supernet
from harness.supernet.training import make_supernet
from harness.task import Task, make_task


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", default=["resnet-mini", "mobilenet-mini"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--num-images", type=int, default=5000, help="validation images of the full spaces")
    parser.add_argument("--sample", type=int, default=208, help="sub-networks run one by one per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget-s", type=float, default=float("inf"), help="seconds for everything that is timed")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = pick_device(arguments.device)
    with arithmetic():
        rows = [
            measure(get_space(name), device, arguments, path) for name in arguments.spaces for path in ("left", "right")
        ]
    if arguments.json:
        print(json.dumps({"device": device_name(device), "torch": torch.__version__, "rows": rows}, indent=2))
        return
    print(f"{device_name(device)}, PyTorch {torch.__version__}, at most {arguments.rounds} rounds")
    for row in rows:
        memory = "" if row["peak_gib"] is None else f", {row['peak_gib']:.1f} GiB of GPU memory"
        print(
            f"{row['space']:15} {row['path']:5} all {NUM_ARCHS:,} on {row['num_images']:,} images: {row['shared_s']:.1f} s"
            f" shared{row['scaled']}, {row['alone_s']:.0f} s one by one (extrapolated from {row['num_alone']}):"
            f" {row['ratio']:.1f}x; MACs {row['macs_ratio']:.2f}x; {row['images_per_s']:,.0f} images x networks/s{memory}"
        )


def measure(space: Space, device: torch.device, arguments: argparse.Namespace, path: str) -> dict[str, object]:
    """Times of one space and path."""
    task = make_task(space, images_of(space, arguments.num_images, device), validate_on="test")
    net = make_supernet(task)
    rng = np.random.default_rng(0)
    chunks = np.split(space.archs(), NUM_ARCHS // SCORE_CHUNK)
    per_chunk = -(-arguments.sample // len(chunks))
    for share in (True, False):  # first calls pay for choosing kernels
        seconds(net, task, path, share, chunks[-1][-4:])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    deadline = time.perf_counter() + arguments.budget_s / (2 * len(arguments.spaces))
    shared, alone, num_timed = [], [], 0
    while len(shared) < arguments.rounds and (not shared or time.perf_counter() < deadline):
        times = []
        for number in rng.permutation(len(chunks)):
            sample = rng.choice(chunks[number], per_chunk, replace=False)
            scale = SCORE_CHUNK / per_chunk
            times.append(
                (seconds(net, task, path, True, chunks[number]), scale * seconds(net, task, path, False, sample))
            )
            if time.perf_counter() > deadline:
                break
        num_timed += len(times)
        for total, values in zip((shared, alone), zip(*times, strict=True), strict=True):
            total.append(statistics.mean(values) * len(chunks))
    shared_s, alone_s = statistics.median(shared), statistics.median(alone)
    num_chunks = len(shared) * len(chunks)
    return {
        "space": space.name,
        "path": path,
        "num_images": len(task.val_labels),
        "rounds": len(shared),
        "shared_s": shared_s,
        "scaled": "" if num_timed == num_chunks else f" (extrapolated from {num_timed} of {num_chunks} chunks)",
        "alone_s": alone_s,
        "num_alone": num_timed * per_chunk,
        "ratio": alone_s / shared_s,
        "macs_ratio": float(space.flops().sum()) / count_macs(net, path),
        "images_per_s": NUM_ARCHS * len(task.val_labels) / shared_s,
        "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
    }


def seconds(net: Supernet, task: Task, path: str, share: bool, archs: np.ndarray) -> float:
    """Time to score architectures; the results are read, so a GPU has finished."""
    evaluator = SupernetEvaluator(net, task, (path,), share=share)
    started = time.perf_counter()
    evaluator.score(archs)
    return time.perf_counter() - started


def images_of(space: Space, count: int, device: torch.device) -> Dataset:
    """The digits for the mini spaces, random images for the others."""
    digits = load_dataset("digits", device=device)
    if digits.image_shape == space.input_shape:
        return digits
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, *space.input_shape), generator=generator, dtype=torch.uint8).to(device)
    labels = torch.randint(space.num_classes, (count,), generator=generator).to(device)
    return Dataset("random", pixels, labels, pixels, labels, "none")


if __name__ == "__main__":
    main()
