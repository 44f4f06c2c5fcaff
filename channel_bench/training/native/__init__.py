"""The native trainer: a tiny network trained on a CPU core by one compiled program, several times as fast as PyTorch.

    >>> records = train_native(space, [Job("4344424", 0, 0)], get_recipe("mini"), load_dataset("digits"))

A step of a network with a few hundred parameters is, in PyTorch, the overhead of a hundred calls; stacking networks
(models/stacked.py) divides that overhead, this removes it. Initial weights, order and augmentation are those of
`train.train_run`, so the first steps agree up to the order of floating-point sums; after some dozens of steps that
difference has grown as chaotic systems let it, and results agree in distribution. A run depends on nothing but itself:
not on what is trained beside it, nor on the number of threads.

trainer.cpp is compiled on first use (`channel_bench.support.compiled`) by the machine's C++ compiler. If there is no
compiler, or the program cannot train what is asked, `reason_not` says why and PyTorch trains.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from channel_bench.errors import ArgumentError
from channel_bench.recipe import Recipe
from channel_bench.record import CURVE_METRICS, Job, RunRecord
from channel_bench.space import Space
from channel_bench.space.layers import Layer
from channel_bench.support.compiled import load_library
from channel_bench.training.datasets import Dataset, TrainLoader, normalise
from channel_bench.training.models import allocate, blank_model
from channel_bench.training.run import make_record, run_generators

LANES = 16
"""Images that the program works on side by side; batches are multiples of it."""
BACKEND = "native"

_SOURCE = Path(__file__).with_name("trainer.cpp")
Float32Array = npt.NDArray[np.float32]


class _UnitSpec(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int32) for name in ("input", "skip", "kernel", "stride", "depthwise", "cin", "cout", "relu")
    ]


class _TrainSpec(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in (
                "num_units",
                "num_classes",
                "image_channels",
                "image_size",
                "num_train",
                "num_test",
                "epochs",
                "batch_size",
                "crop_padding",
            )
        ),
        ("momentum", ctypes.c_float),
        ("weight_decay", ctypes.c_float),
    ]


@dataclass(frozen=True)
class NativeRun:
    """What the program gave back for one network."""

    curves: dict[str, list[float]]
    """One value per epoch for each of CURVE_METRICS."""
    parameters: Float32Array
    """float32 (num_params,), all trained parameters in the order of the module's `parameters()`."""
    statistics: Float32Array
    """float32, running mean and variance of every batch normalisation in turn."""


def reason_not(space: Space, recipe: Recipe, dataset: Dataset, device: torch.device | None = None) -> str | None:
    """Say in a few words why the program cannot train this; None if it can.

    Args:
        space: The search space.
        recipe: How to train.
        dataset: What it is trained on.
        device: Where it is trained; default the data set's device.
    """
    device = device or dataset.device
    if device.type != "cpu":
        return f"the device is {device}, the native trainer is for CPUs"
    if recipe.precision != "fp32":
        return f"precision is {recipe.precision!r}, the native trainer computes in fp32"
    num_train = len(dataset.train_labels)
    if recipe.batch_size % LANES or num_train % recipe.batch_size % LANES:
        return f"batches of {recipe.batch_size} out of {num_train} images are not all multiples of {LANES}"
    height, width = dataset.image_shape[1:]
    if height != width or height % 4:
        return f"images of {height}x{width} are not square with an edge divisible by 4"
    for layer in space.own_layers[:-1]:
        if not _has_kernel_for(layer):
            return (
                f"layer {layer.name!r} of family {space.family!r} is a {layer.kernel}x{layer.kernel} convolution of"
                f" stride {layer.stride}: the native trainer has 3x3 of stride 1 and 2, 1x1 of stride 1"
            )
    try:
        _library()
    except ArgumentError as error:
        return str(error)
    return None


def _has_kernel_for(layer: Layer) -> bool:
    """Whether the program has a convolution for a layer; a stride of 2 halves a size, so the size is even."""
    is_halved = layer.stride == 2 and layer.kernel == 3 and layer.input_size[0] % 2 == 0
    return is_halved or (layer.stride == 1 and layer.kernel in ((3,) if layer.depthwise else (1, 3)))


def train_native(
    space: Space,
    jobs: Sequence[Job],
    recipe: Recipe,
    dataset: Dataset,
    on_trained: Callable[[Job, dict[str, Tensor]], None] | None = None,
) -> list[RunRecord]:
    """Train networks one after the other with the compiled program.

    Args:
        space: The search space.
        jobs: The runs.
        recipe: How to train.
        dataset: Images of the space's input shape, on the CPU.
        on_trained: Called after each run with its weights and running statistics, by the names of
            `models.build_model`.

    Returns:
        A record per job, in order.

    Raises:
        ArchError: A job's arch is not an architecture of the space.
        ArgumentError: The data set does not fit the space, a seed is negative, or `reason_not` names a reason.
    """
    recipe.check_rates()
    dataset.check_fits(space)
    reason = reason_not(space, recipe, dataset)
    if reason is not None:
        raise ArgumentError(f"the native trainer cannot train this: {reason}")
    trainer = NativeTrainer(space, recipe, dataset)
    records = []
    for job in jobs:
        started = time.perf_counter()
        weights, batches = run_generators(space, job, dataset.device)
        run = trainer.train(job.arch, initial_parameters(space, job.arch, weights), batches)
        seconds = time.perf_counter() - started
        if on_trained is not None:
            on_trained(job, state_of(space, job.arch, run, recipe, dataset))
        records.append(make_record(space, job, recipe, run.curves, seconds, dataset.device, 1, BACKEND))
    return records


def state_of(space: Space, arch: str, run: NativeRun, recipe: Recipe, dataset: Dataset) -> dict[str, Tensor]:
    """What the `state_dict` of `models.build_model` would hold after a run, tensors on the CPU."""
    model = allocate(blank_model(space, space.channels(arch)))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    statistics = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
    for tensors, values in ((list(model.parameters()), run.parameters), (statistics, run.statistics)):
        parts = torch.from_numpy(values).split([tensor.numel() for tensor in tensors])  # type: ignore[union-attr]
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.data.copy_(part.view_as(tensor))  # type: ignore[union-attr]
    num_steps = recipe.epochs * math.ceil(len(dataset.train_labels) / recipe.batch_size)
    for norm in norms:
        norm.num_batches_tracked.fill_(num_steps)  # type: ignore[union-attr]
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def evaluate_native(
    space: Space, arch: str, state: Mapping[str, Tensor], statistics: tuple[Tensor, Tensor], dataset: Dataset
) -> tuple[float, float]:
    """Evaluate a trained network on the test images with the compiled program, as it does after every epoch.

    Args:
        space: The search space.
        arch: The architecture as text.
        state: Weights and running statistics on the CPU, by the names of `models.build_model`.
        statistics: Mean and standard deviation that images are standardised with (`channel_statistics`), on the CPU.
        dataset: Images of the space's input shape, on the CPU; square, with an edge divisible by 4.

    Returns:
        Mean cross-entropy in nats and accuracy in percent: to the bit those of the last epoch, for weights that this
        program trained.

    Raises:
        ArgumentError: There is no compiler.
        MemoryError: The machine has no memory left.
    """
    units = _units(space, arch)
    model = blank_model(space, space.channels(arch))
    parameters = torch.cat([state[name].flatten() for name, _ in model.named_parameters()]).numpy()
    names = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    running = torch.cat([state[f"{name}.{which}"] for name in names for which in ("running_mean", "running_var")])
    channels, size, _ = dataset.image_shape
    spec = _TrainSpec(
        num_units=len(units),
        num_classes=space.num_classes,
        image_channels=channels,
        image_size=size,
        num_test=len(dataset.test_labels),
        batch_size=LANES,
    )
    results = np.empty(2)
    arrays = (
        parameters,
        running.numpy(),
        dataset.test_images.contiguous().numpy(),
        dataset.test_labels.to(torch.int32).numpy(),
        _pixel_table(channels, statistics),
        results,
    )
    failed = _library().channel_bench_evaluate(
        ctypes.byref(spec),
        (_UnitSpec * len(units))(*units),
        *(array.ctypes.data_as(ctypes.c_void_p) for array in arrays),
    )
    if failed:
        raise MemoryError("the native trainer ran out of memory")
    return float(results[0]), float(results[1])


def initial_parameters(space: Space, arch: str, generator: torch.Generator) -> Float32Array:
    """The weights that `models.build_model` would draw, without making a module of them.

    Returns:
        float32 (num_params,), in the order of the module's `parameters()`.
    """
    units = _units(space, arch)
    parts = []

    def draw(count: int, fan_in: int) -> None:
        bound = 1 / math.sqrt(fan_in)
        parts.append(torch.empty(count).uniform_(-bound, bound, generator=generator))

    for unit in units:
        fan_in = unit.kernel**2 * (1 if unit.depthwise else unit.cin)
        draw(unit.cout * fan_in, fan_in)
        parts += [torch.ones(unit.cout), torch.zeros(unit.cout)]
    features = units[-1].cout
    draw(space.num_classes * features, features)
    draw(space.num_classes, features)
    return torch.cat(parts).numpy()


class NativeTrainer:
    """The compiled program with a recipe and a data set.

    Args:
        space: The search space.
        recipe: How to train.
        dataset: Images of the space's input shape, on the CPU; nothing that `reason_not` names.
    """

    def __init__(self, space: Space, recipe: Recipe, dataset: Dataset) -> None:
        """Bring everything into the form that the program reads."""
        self._space, self._recipe = space, recipe
        self._loader = TrainLoader(dataset.train_images, dataset.train_labels, recipe)
        num_train, channels = len(dataset.train_labels), dataset.image_shape[0]
        rates = [
            recipe.lr_at(epoch + start / num_train)
            for epoch in range(recipe.epochs)
            for start in range(0, num_train, recipe.batch_size)
        ]
        self._images = (
            self._loader.padded.numpy(),
            dataset.train_labels.to(torch.int32).numpy(),
            dataset.test_images.contiguous().numpy(),
            dataset.test_labels.to(torch.int32).numpy(),
            _pixel_table(channels, self._loader.statistics),
        )
        self._rates = np.array(rates, np.float32)
        self._facts = {
            "num_classes": space.num_classes,
            "image_channels": channels,
            "image_size": dataset.image_shape[1],
            "num_train": num_train,
            "num_test": len(dataset.test_labels),
            "epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "crop_padding": recipe.crop_padding,
            "momentum": recipe.momentum,
            "weight_decay": recipe.weight_decay,
        }

    def train(self, arch: str, parameters: Float32Array, generator: torch.Generator) -> NativeRun:
        """Train one network.

        Args:
            arch: The architecture as text.
            parameters: float32 (num_params,), as of `initial_parameters`; left as they are.
            generator: Of order and augmentation, as for `TrainLoader.epoch`.

        Returns:
            Curves, trained parameters and running statistics.

        Raises:
            MemoryError: The machine has no memory left.
        """
        units = _units(self._space, arch)
        plans = [self._loader.plan(generator) for _ in range(self._recipe.epochs)]
        drawn = [
            torch.stack([getattr(plan, name) for plan in plans]).to(torch.int32).numpy()
            for name in ("order", "rows", "columns", "mirrored")
        ]
        trained = parameters.copy()
        curves = np.empty((len(CURVE_METRICS), self._recipe.epochs))
        statistics = np.empty(2 * sum(unit.cout for unit in units), np.float32)
        arrays = (trained, *self._images, *drawn, self._rates, curves, statistics)
        failed = _library().channel_bench_train(
            ctypes.byref(_TrainSpec(num_units=len(units), **self._facts)),
            (_UnitSpec * len(units))(*units),
            *(array.ctypes.data_as(ctypes.c_void_p) for array in arrays),
        )
        if failed:
            raise MemoryError("the native trainer ran out of memory")
        return NativeRun(dict(zip(CURVE_METRICS, curves.tolist(), strict=True)), trained, statistics)


def _pixel_table(channels: int, statistics: tuple[Tensor, Tensor]) -> Float32Array:
    """What each of the 256 pixel values becomes, float32 (1, channels, 1, 256)."""
    every_value = torch.arange(256, dtype=torch.uint8).expand(1, channels, 1, 256)
    return normalise(every_value, *statistics).numpy()


def _units(space: Space, arch: str) -> list[_UnitSpec]:
    """The network as a list of convolutions, in the order of the module's parameters."""
    widths = (*space.channels(arch), space.input_shape[0])
    units: list[_UnitSpec] = []
    for block in space.blocks:
        entry = len(units) - 1
        for layer in block:
            units.append(
                _UnitSpec(
                    input=len(units) - 1,
                    skip=entry if layer.skip else -1,
                    kernel=layer.kernel,
                    stride=layer.stride,
                    depthwise=layer.depthwise,
                    cin=widths[layer.reads],
                    cout=widths[layer.writes],
                    relu=layer.relu,
                )
            )
    return units


def _library() -> ctypes.CDLL:
    """The compiled program; errors as `load_library`."""
    return load_library(_SOURCE, "the native trainer")
