"""How fast runs are trained: the usual training loop against ours, alone and packed, on this machine.

    python tests/perf/bench_build.py                                     # CPU: mini spaces, embedded digits
    python tests/perf/bench_build.py --data cifar10 --budget-s 540       # GPU: full spaces
    python tests/perf/bench_build.py --data FOLDER --sweep               # GPU: 1, 2, 3, 4 processes

For a small, a median and a large architecture of each space (5, 50 and 95% quantile of FLOPs), every way of training takes
turns on the same images: a pass of training and one of evaluation per round, the first round is not counted. What is
printed follows from the time per image: a RUN IS NOT TRAINED TO ITS END, its time is extrapolated to all epochs of the
recipe. Device-hours of the whole table are an ESTIMATE, linear in FLOPs between the three architectures.

The ways:
  usual    one run on one thread, torch DataLoader with worker processes, PIL images through torchvision's RandomCrop, flip, ToTensor,
           Normalize, PyTorch's default arithmetic (cuDNN may use TF32), loss and hits read with .item() at every step
  single   one run, our step in PyTorch
  packed   several worker processes on the device, each with a stack of networks where the space is small, as
           `channel-bench build --backend torch` has them; a stack here is of equal widths, real ones are padded to
           their widest
  native   on a CPU, mini spaces: the compiled trainer, alone and on every core; it evaluates within its pass, so its
           images/s are a little too low, its runs per hour are not

FLOP/s count 2 per multiply-accumulate: 3 passes' worth per training image, less the gradient of the images.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import statistics
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import nn

import channel_bench as cb
from channel_bench.builder.packing import runs_per_gpu
from channel_bench.builder.work import default_stack
from channel_bench.recipe import Recipe, get_recipe
from channel_bench.space import NUM_ARCHS, Space
from channel_bench.training.backends import pick_backend
from channel_bench.training.datasets import Dataset, TrainLoader, channel_statistics, load_dataset, make_dataset
from channel_bench.training.devices import device_name, pick_device
from channel_bench.training.models import build_model
from channel_bench.training.models.stacked import StackedModel
from channel_bench.training.native import NativeTrainer, initial_parameters
from channel_bench.training.step import Trainer, arithmetic

QUANTILES = {"small": 0.05, "median": 0.5, "large": 0.95}
NUM_RUNS = 3
NUM_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Way:
    """One way of training that is measured; a row of the output."""

    name: str
    usual: bool = False
    precision: str = "fp32"
    graph: bool | None = None
    processes: int = 1
    stack: int = 1
    threads: int = 1
    native: bool = False
    channels_first: bool = False
    """Against the layout that the package chooses; on a GPU, for the choice."""

    @property
    def runs(self) -> int:
        """Runs that are trained at the same time."""
        return self.processes * self.stack


def ways(space: Space, device: torch.device, data: Dataset, precision: str, sweep: bool) -> list[Way]:
    """Rows of the output; a further trainer is a further row, and a branch in `serve`."""
    stack = default_stack(space)
    if device.type == "cpu":
        return [
            Way("usual", usual=True),  # one thread: with more, mini networks are slower, by far where cores are busy
            Way("single", precision=precision),
            Way("packed", precision=precision, processes=NUM_CORES, stack=stack),
            *native_ways(space, data, precision),
        ]
    free, _ = torch.cuda.mem_get_info(device)
    images = len(data.train_labels) + len(data.test_labels)
    automatic = runs_per_gpu(space, free, num_images=images)
    counts = (1, 2, 3, 4) if sweep else (automatic,)
    return [
        Way("usual", usual=True),
        Way("single fp32 --no-graph", graph=False),
        Way("single fp32"),
        Way(f"single {precision} --no-graph", precision=precision, graph=False),
        Way(f"single {precision}", precision=precision),
        *(Way(f"packed {precision}", precision=precision, processes=count, stack=stack) for count in counts),
    ]


def native_ways(space: Space, data: Dataset, precision: str) -> list[Way]:
    """The native trainer where it can train this, alone and on every core."""
    if pick_backend(space, get_recipe(space.recipe, precision=precision), data)[0] != "native":
        return []
    return [Way("native", native=True), Way("native packed", native=True, processes=NUM_CORES)]


# -- what is timed -------------------------------------------------------------------------------------------------


class Ours:
    """Passes of `channel_bench.training.step.Trainer`, for one network or a stack."""

    def __init__(self, space: Space, arch: str, way: Way, recipe: Recipe, data: Dataset) -> None:
        """Build and, on a GPU, capture."""
        self.recipe = dataclasses.replace(recipe, precision=way.precision)
        self.data, self.epoch = data, 0
        self.generators = [torch.Generator(data.device).manual_seed(seed) for seed in range(way.stack)]
        weights = [torch.Generator().manual_seed(seed) for seed in range(way.stack)]
        alone = way.stack == 1
        model = build_model(space, arch, weights[0]) if alone else StackedModel(space, [arch] * way.stack, weights)
        self.loader = TrainLoader(data.train_images, data.train_labels, self.recipe)
        with arithmetic(way.precision):
            layout = torch.contiguous_format if way.channels_first else None
            num_nets = None if alone else way.stack
            self.trainer = Trainer(model, self.loader, num_nets=num_nets, graph=way.graph, layout=layout)
            self.test_images = self.trainer.prepare(data.test_images)  # a replay keeps the arithmetic of its capture

    def train(self) -> None:
        """One pass over the training images, read at its end."""
        with arithmetic(self.recipe.precision):
            plans = [self.loader.plan(generator) for generator in self.generators]
            torch.stack(self.trainer.epoch(self.epoch % self.recipe.epochs, plans)).tolist()
        self.epoch += 1

    def evaluate(self) -> None:
        """One pass over the test images, read at its end."""
        with arithmetic(self.recipe.precision):
            torch.stack(self.trainer.evaluate(self.test_images, self.data.test_labels)).tolist()


class Native:
    """The native trainer, which trains and evaluates in one call: an epoch's evaluation is part of its pass."""

    def __init__(self, space: Space, arch: str, recipe: Recipe, data: Dataset) -> None:
        """Draw the weights."""
        recipe = dataclasses.replace(recipe, epochs=1)
        self.arch, self.trainer = arch, NativeTrainer(space, recipe, data)
        self.parameters = initial_parameters(space, arch, torch.Generator().manual_seed(0))

    def train(self) -> None:
        """One pass over the training images, and one over the test images."""
        run = self.trainer.train(self.arch, self.parameters, torch.Generator().manual_seed(0))
        self.parameters = run.parameters

    def evaluate(self) -> None:
        """Nothing: it is done."""


class PILImages(torch.utils.data.Dataset[Any]):
    """Images as a usual data set hands them out: decoded, as PIL, transformed one by one."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, transform: Any) -> None:
        """Keep arrays as torchvision's CIFAR-10 does."""
        array = images.cpu().permute(0, 2, 3, 1).numpy()
        self.images, self.transform = (array[..., 0] if array.shape[-1] == 1 else array), transform
        self.labels = labels.tolist()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """One transformed image and its label."""
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class Usual:
    """The loop that one would write first."""

    def __init__(self, space: Space, arch: str, recipe: Recipe, data: Dataset, num_workers: int) -> None:
        """Build; loader processes start with the first pass and stay."""
        from torchvision import transforms

        mean, std = (statistic.flatten().tolist() for statistic in channel_statistics(data.train_images, recipe))
        size = data.image_shape[1:]
        plain = [transforms.ToTensor(), transforms.Normalize(mean, std)]
        augment = [transforms.RandomCrop(size, padding=recipe.crop_padding)]
        augment += [transforms.RandomHorizontalFlip()] if recipe.flip else []
        options: dict[str, Any] = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
        if num_workers:  # as everywhere on Linux; this process was spawned, and its children would be as well
            options["multiprocessing_context"] = "fork"
        options["pin_memory"] = data.device.type == "cuda"
        train = PILImages(data.train_images, data.train_labels, transforms.Compose(augment + plain))
        test = PILImages(data.test_images, data.test_labels, transforms.Compose(plain))
        self.train_loader = torch.utils.data.DataLoader(train, recipe.batch_size, shuffle=True, **options)
        self.test_loader = torch.utils.data.DataLoader(test, recipe.batch_size, **options)
        self.device = data.device
        self.model = build_model(space, arch, torch.Generator().manual_seed(0)).to(self.device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        self.loss = nn.CrossEntropyLoss()

    def train(self) -> None:
        """One pass over the training images."""
        self.model.train()
        loss_sum, num_correct = 0.0, 0
        for images, labels in self.train_loader:
            images, labels = images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
            logits = self.model(images)
            loss = self.loss(logits, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss_sum += loss.item() * len(labels)
            num_correct += int((logits.argmax(1) == labels).sum().item())

    @torch.no_grad()
    def evaluate(self) -> None:
        """One pass over the test images."""
        self.model.eval()
        loss_sum, num_correct = 0.0, 0
        for images, labels in self.test_loader:
            images, labels = images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
            logits = self.model(images)
            loss_sum += self.loss(logits, labels).item() * len(labels)
            num_correct += int((logits.argmax(1) == labels).sum().item())


def serve(pipe: Connection, data: Dataset, device: str, num_loader_workers: int) -> None:
    """A process that does what the benchmark says: set up a way, train a pass, evaluate a pass."""
    data = data.to(device)
    what: Ours | Usual | Native | None = None
    while True:
        command, arguments = pipe.recv()
        if command == "stop":
            return
        if command == "setup":
            what = None
            space, arch, way, recipe = arguments
            torch.set_num_threads(way.threads)
            space = cb.get_space(space)
            if way.usual:
                what = Usual(space, arch, recipe, data, num_loader_workers)
            elif way.native:
                what = Native(space, arch, recipe, data)
            else:
                what = Ours(space, arch, way, recipe, data)
        elif command == "drop":
            what = None
        else:
            getattr(what, command)()
        if data.device.type == "cuda":
            torch.cuda.synchronize()
        pipe.send("done")


class Crew:
    """The processes of one way; a command goes to all, and is over when all are."""

    def __init__(self, count: int, data: Dataset, device: torch.device, num_loader_workers: int) -> None:
        """Start them."""
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, data, str(device), num_loader_workers))
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def do(self, command: str, *arguments: Any) -> float:
        """Seconds until every process has done it."""
        started = time.perf_counter()
        for pipe in self.pipes:
            pipe.send((command, arguments))
        for pipe in self.pipes:
            pipe.recv()
        return time.perf_counter() - started

    def stop(self) -> None:
        """End them."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            with contextlib.suppress(OSError):  # it may have died
                pipe.send(("stop", ()))
            process.join(10)
            if process.is_alive():
                process.terminate()


# -- what follows from times ---------------------------------------------------------------------------------------


def flop_per_image(space: Space, arch: str) -> tuple[int, int]:
    """FLOP of a training image and of a test image: 2 x (3 x forward - stem's image gradient), 2 x forward."""
    forward = space.flops(arch)
    inputs, height, width = space.input_shape
    stem = 9 * inputs * space.channels(arch)[0] * ((height + 1) // 2) * ((width + 1) // 2)
    return 2 * (3 * forward - stem), 2 * forward


def device_hours(space: Space, archs: list[str], run_s: list[float]) -> float:
    """Estimate for 16,384 x 3 runs: seconds per run linear in FLOPs between, and beyond, the measured architectures."""
    flops = space.flops().astype(float)
    xs, ys = np.array([space.flops(arch) for arch in archs], float), np.array(run_s)
    seconds = np.interp(flops, xs, ys)
    for beyond, a, b in ((flops < xs[0], 0, 1), (flops > xs[-1], -2, -1)):
        slope = (ys[b] - ys[a]) / (xs[b] - xs[a])
        seconds[beyond] = np.maximum(ys.min() / 2, ys[a] + slope * (flops[beyond] - xs[a]))
    assert len(seconds) == NUM_ARCHS
    return float(seconds.mean() * NUM_ARCHS * NUM_RUNS / 3600)


def peak_flops(device: torch.device, precision: str, threads: int) -> float:
    """FLOP/s of a large matrix product, the best of a second's worth."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 8192 if device.type == "cuda" else 1536
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    best, deadline = float("inf"), time.perf_counter() + 1.5
    with arithmetic(precision):
        while time.perf_counter() < deadline:
            started = time.perf_counter()
            a @ b
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - started)
    torch.set_num_threads(before)
    return 2 * size**3 / best


def measure(
    space: Space, arch: str, rows: list[Way], crews: dict[int, Crew], recipe: Recipe, data: Dataset, budget_s: float
) -> list[dict[str, Any]]:
    """Time all ways in turns, and say what follows."""
    deadline = time.perf_counter() + budget_s
    setups = [crew.do("setup", space.name, arch, way, recipe) for way, crew in zip(rows, crews.values(), strict=True)]
    times: list[dict[str, list[float]]] = [{"train": [], "evaluate": []} for _ in rows]
    num_rounds = 0
    round_s = 0.0
    while num_rounds < 2 or (time.perf_counter() + round_s < deadline and num_rounds < 21):
        started = time.perf_counter()
        for way_times, crew in zip(times, crews.values(), strict=True):
            for command, seconds in way_times.items():
                seconds.append(crew.do(command))
        round_s = time.perf_counter() - started
        num_rounds += 1
    for crew in crews.values():
        crew.do("drop")
    found = []
    train_flop, test_flop = flop_per_image(space, arch)
    num_train, num_test = len(data.train_labels), len(data.test_labels)

    def seconds_per_run(number: int, train_s: float, test_s: float) -> float:
        """Of all epochs, when so many runs share the device."""
        per_epoch = train_s * full_train(space) / num_train + test_s * full_test(space) / num_test
        return (recipe.epochs * per_epoch + setups[number]) / rows[number].runs

    for number, (way, way_times) in enumerate(zip(rows, times, strict=True)):
        train, test = way_times["train"][1:], way_times["evaluate"][1:]
        base = times[0]["train"][1:], times[0]["evaluate"][1:]
        ratios = [
            seconds_per_run(0, *usual) / seconds_per_run(number, *ours)
            for usual, ours in zip(zip(*base, strict=True), zip(train, test, strict=True), strict=True)
        ]
        train_s, test_s = statistics.median(train), statistics.median(test)
        run_s = seconds_per_run(number, train_s, test_s)
        done = way.runs * (num_train * train_flop + num_test * test_flop)
        found.append(
            {
                "space": space.name,
                "arch": arch,
                "flops": space.flops(arch),
                **dataclasses.asdict(way),
                "setup_s": setups[number],
                "train_images_per_s": way.runs * num_train / train_s,
                "test_images_per_s": way.runs * num_test / test_s,
                "run_s": run_s,
                "runs_per_hour": 3600 / run_s,
                "times_usual": statistics.median(ratios),
                "flop_per_s": done / (train_s + test_s),
                "rounds": num_rounds - 1,
            }
        )
    return found


def full_train(space: Space) -> int:
    """Training images that a run of the space's table sees per epoch."""
    return 50_000 if space.dataset == "cifar10" else 1200


def full_test(space: Space) -> int:
    """Test images that are evaluated after each epoch."""
    return 10_000 if space.dataset == "cifar10" else 597


def load(source: str, num_images: int | None) -> Dataset:
    """The first images of a data set, a fifth as many test images; "random" is noise of CIFAR-10's shape."""
    if source == "random":
        rng = np.random.default_rng(0)
        splits = [
            (rng.integers(0, 256, (count, 3, 32, 32), np.uint8), rng.integers(0, 10, count))
            for count in ((num_images or 50_000), (num_images or 50_000) // 5)
        ]
        return make_dataset("random", splits[0], splits[1])
    data = load_dataset(source)
    if num_images is None:
        return data
    return dataclasses.replace(
        data,
        train_images=data.train_images[:num_images],
        train_labels=data.train_labels[:num_images],
        test_images=data.test_images[: max(1, num_images // 5)],
        test_labels=data.test_labels[: max(1, num_images // 5)],
    )


# -- the benchmark ---------------------------------------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    """What the command line asks for; None where the device or the data decide."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--data", help="cifar10, digits, a folder of Parquet images, or random [cifar10 on a GPU, else digits]"
    )
    parser.add_argument("--spaces", help="separated by commas [those of the data]")
    parser.add_argument("--images", type=int, help="training images per pass [GPU: 12800, CPU: digits all, else 512]")
    parser.add_argument("--precision", help="of ours [GPU: bf16, CPU: fp32]")
    parser.add_argument(
        "--ways", help="only those that begin so, separated by commas, and usual; each needs GPU memory of its own"
    )
    parser.add_argument("--sweep", action="store_true", help="GPU: packed with 1, 2, 3 and 4 processes")
    parser.add_argument("--loader-workers", type=int, default=min(8, NUM_CORES), help="of the usual loop")
    parser.add_argument(
        "--budget-s", type=float, default=240, help="time for all of it, about; at least one timed round each"
    )
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def pick_sizes(space: Space) -> dict[str, str]:
    """The architecture of each quantile of FLOPs, by the name of the quantile, smallest first."""
    order = np.argsort(space.flops(), kind="stable")
    return {size: space.text(int(order[int(share * (NUM_ARCHS - 1))])) for size, share in QUANTILES.items()}


def measure_space(
    space: Space,
    rows: list[Way],
    device: torch.device,
    data: Dataset,
    num_loader_workers: int,
    deadline: float,
    num_left: int,
) -> list[dict[str, Any]]:
    """Time all ways for each size of architecture.

    Args:
        space: The search space.
        rows: The ways.
        device: Where.
        data: Images, on the CPU.
        num_loader_workers: Loader processes of the usual way.
        deadline: Moment of `time.perf_counter` at which the whole benchmark should end.
        num_left: Architectures, of this space and of those after it, that share the time till then.
    """
    recipe, archs = get_recipe(space.recipe), pick_sizes(space)
    crews: dict[int, Crew] = {}
    found = []
    try:
        for position, way in enumerate(rows):
            crews[position] = Crew(way.processes, data, device, num_loader_workers if way.usual else 0)
            # A worker lives for many runs: what it loads for the first one is no part of a run.
            crews[position].do("setup", space.name, archs["small"], way, recipe)
        for step, (size, arch) in enumerate(archs.items()):
            budget_s = (deadline - time.perf_counter()) / (num_left - step)
            cells = measure(space, arch, rows, crews, recipe, data, budget_s)
            found += [cell | {"size": size} for cell in cells]
            print(f"{space.name} {size} {arch}: {cells[0]['rounds']} timed rounds", file=sys.stderr)
    finally:
        for crew in crews.values():
            crew.stop()
    return found


def estimate_hours(space: Space, rows: list[Way], cells: list[dict[str, Any]]) -> dict[str, float]:
    """Device-hours of the space's table by each way, from the cells of `measure_space`."""
    archs = list(pick_sizes(space).values())
    run_s = [cell["run_s"] for cell in cells]
    return {
        f"{way.name} x{way.runs}": device_hours(space, archs, run_s[position :: len(rows)])
        for position, way in enumerate(rows)
    }


def print_report(report: dict[str, Any]) -> None:
    """The report as a table for people."""
    print(f"device {report['device']}, {report['cores']} cores, PyTorch {report['torch']}, data {report['data']}")
    for name, peak in report["peak_flop_per_s"].items():
        print(f"peak of a large {name} product: {peak / 1e12:.2f} TFLOP/s")
    print(
        f"{'space':15} {'size':7} {'arch':8} {'way':24} {'procs':>5} {'stack':>5} {'images/s':>10} {'s/run':>9}"
        f" {'runs/h':>8} {'x usual':>8} {'TFLOP/s':>8} {'of peak':>8}"
    )
    for cell in report["cells"]:
        print(
            f"{cell['space']:15} {cell['size']:7} {cell['arch']:8} {cell['name']:24} {cell['processes']:5} {cell['stack']:5}"
            f" {cell['train_images_per_s']:10,.0f} {cell['run_s']:9.2f} {cell['runs_per_hour']:8,.1f}"
            f" {cell['times_usual']:8.2f} {cell['flop_per_s'] / 1e12:8.4f} {cell['share_of_peak']:8.1%}"
        )
    print(
        f"s/run: extrapolated to all epochs from {report['images_per_pass']:,} training images per pass, set-up included"
    )
    print("ESTIMATED device-hours of 16,384 x 3 runs, interpolated over FLOPs between the three architectures:")
    for name, of_way in report["estimated_device_hours_of_the_table"].items():
        print(f"  {name:15} " + "; ".join(f"{label} {value:,.1f}" for label, value in of_way.items()))


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    started = time.perf_counter()
    device = pick_device(arguments.device)
    on_gpu = device.type == "cuda"
    source = arguments.data or ("cifar10" if on_gpu else "digits")
    names = arguments.spaces or ("resnet-mini,mobilenet-mini" if source == "digits" else "mobilenet,resnet")
    spaces = [cb.get_space(name) for name in names.split(",")]
    data = load(source, arguments.images or (12_800 if on_gpu else None if source == "digits" else 512))
    precision = arguments.precision or ("bf16" if on_gpu else "fp32")
    precisions = ("fp32", "tf32", precision) if on_gpu else (precision,)
    peaks = {name: peak_flops(device, name, NUM_CORES) for name in precisions}
    found: list[dict[str, Any]] = []
    hours: dict[str, dict[str, float]] = {}
    deadline = started + arguments.budget_s
    for number, space in enumerate(spaces):
        rows = ways(space, device, data, precision, arguments.sweep)
        if arguments.ways:
            rows = [way for way in rows if way.usual or way.name.startswith(tuple(arguments.ways.split(",")))]
        num_left = len(QUANTILES) * (len(spaces) - number)
        cells = measure_space(space, rows, device, data, arguments.loader_workers, deadline, num_left)
        found += [cell | {"share_of_peak": cell["flop_per_s"] / peaks[cell["precision"]]} for cell in cells]
        hours[space.name] = estimate_hours(space, rows, cells)
    report = {
        "device": device_name(device),
        "cores": NUM_CORES,
        "torch": torch.__version__,
        "data": data.name,
        "images_per_pass": len(data.train_labels),
        "peak_flop_per_s": peaks,
        "cells": found,
        "estimated_device_hours_of_the_table": hours,
        "wall_s": time.perf_counter() - started,
    }
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        print_report(report)


if __name__ == "__main__":
    main()
