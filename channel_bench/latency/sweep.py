"""Sweep: the measured latency of every number of output channels, for a layer of each resolution.

    >>> found = sweep(space, TorchStopwatch(space, torch.device("cpu"), batch_size=256))
    >>> found.curves[0].widths, found.curves[0].ms

What HTAS (Jiang, Wang and Zhu, ICME 2020) chooses its widths from: kernels work in tiles, so some widths are as fast as
narrower ones. It sweeps one convolution per resolution. Slots whose layers are alike share a curve here: the same size,
kernel, stride, inputs and largest width. A slot is swept in the first block that writes it, the stem aside, whose input
is no width; in MobileNet an expanded slot is written by a 1x1 and a depthwise convolution, and both count. A layer
reads as many channels as its slot has at most (f of HTAS knows output widths only), and a depthwise one as many as it
writes. Rounds, their order and the statistic are those of measure.py.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.latency.measure import OnSample, Timing, summary, time_under_conditions
from channel_bench.latency.model import Conditions
from channel_bench.space import NUM_SLOTS, Space
from channel_bench.space.layers import IMAGE, Layer
from channel_bench.support.durable import write_atomic

FORMAT = "sweep-1"
MAX_EXPANSION = 8.0


class ChannelStopwatch(Protocol):
    """What times a layer of any channels; stopwatch.py has PyTorch's."""

    @property
    def conditions(self) -> Conditions:
        """What it times on, and how."""
        ...

    def time_channels(self, layer: Layer, inputs: int, outputs: int) -> float:
        """Latency of a layer, ms."""
        ...


@dataclass(frozen=True)
class Swept:
    """What is swept together: alike layers, once for all slots that they stand for."""

    layers: tuple[Layer, ...]
    """Of one block; all of them write the first of the slots."""
    slots: tuple[int, ...]

    def inputs(self, space: Space, layer: Layer, outputs: int) -> int:
        """Input channels of a layer at a width."""
        return outputs if layer.depthwise else space.max_channels[layer.reads]


@dataclass(frozen=True)
class Curve:
    """Latency over the width of a slot."""

    slots: tuple[int, ...]
    layers: tuple[str, ...]
    """Names of the layers whose latencies are summed."""
    size: tuple[int, int]
    """Height and width of their output."""
    max_channels: int
    """Of the slot in the space; the sweep goes beyond it."""
    widths: tuple[int, ...]
    ms: tuple[float, ...]
    """Per width, the lower quartile over rounds."""
    even_ms: tuple[float, ...]
    """The same over every other round only; beside `odd_ms` it shows the noise."""
    odd_ms: tuple[float, ...]

    @property
    def noise_percent(self) -> float:
        """Mean difference between the two halves of the rounds."""
        even, odd = np.array(self.even_ms), np.array(self.odd_ms)
        return float(100 * np.abs(even / odd - 1).mean())


@dataclass(frozen=True)
class Sweep:
    """All curves of a space under one set of conditions."""

    space: Space
    expansion: float
    step: int
    curves: tuple[Curve, ...]
    conditions: Conditions

    def facts(self) -> dict[str, Any]:
        """Everything of the sweep, as its file has it."""
        return {
            "format": FORMAT,
            "space": self.space.name,
            "space_fingerprint": self.space.fingerprint,
            "unit": "ms",
            "expansion": self.expansion,
            "step": self.step,
            "curves": [dataclasses.asdict(curve) for curve in self.curves],
            "conditions": dataclasses.asdict(self.conditions),
        }

    def write(self, path: str | Path) -> None:
        """Write the sweep as JSON, whole or not at all.

        Raises:
            StorageError: The file system refused.
        """
        write_atomic((Path(path), f"{json.dumps(self.facts(), indent=1, allow_nan=False)}\n".encode()))


def swept_of(space: Space) -> list[Swept]:
    """What is swept in a space, in the order of slots; every slot is in one of them."""
    found: dict[Any, Swept] = {}
    for slot in range(NUM_SLOTS):
        writers = [layer for layer in space.layers if layer.writes == slot and layer.reads != IMAGE]
        layers = tuple(layer for layer in writers if layer.block == writers[0].block)
        shapes = [
            (layer.input_size, layer.kernel, layer.stride, None if layer.depthwise else space.max_channels[layer.reads])
            for layer in layers
        ]
        key = (tuple(shapes), space.max_channels[slot])
        known = found.get(key)
        found[key] = Swept(layers, (slot,)) if known is None else Swept(known.layers, (*known.slots, slot))
    return list(found.values())


def widths_of(space: Space, swept: Swept, expansion: float, step: int = 1) -> list[int]:
    """The widths of a sweep: multiples of the step, up to the expanded maximum."""
    return list(range(step, int(expansion * space.max_channels[swept.slots[0]]) + 1, step))


def num_sweep_samples(space: Space, num_repeats: int, expansion: float = 2.0, step: int = 1) -> int:
    """How many timings `sweep` takes."""
    return (1 + num_repeats) * sum(
        len(each.layers) * len(widths_of(space, each, expansion, step)) for each in swept_of(space)
    )


def check_sweep(num_repeats: int, expansion: float, step: int, seed: int = 0) -> None:
    """Refuse what `sweep` would refuse, before anything is built.

    Raises:
        ArgumentError: num_repeats, expansion, step or seed is out of range.
    """
    if num_repeats < 2:
        raise ArgumentError(f"number of repeats is {num_repeats}: allowed are 2 and above")
    if not 1 <= expansion <= MAX_EXPANSION:
        raise ArgumentError(f"expansion is {expansion}: allowed are 1..{MAX_EXPANSION:g}")
    if step < 1:
        raise ArgumentError(f"step is {step}: allowed are 1 and above")
    if seed < 0:
        raise ArgumentError(f"seed {seed} is negative: allowed are 0 and above")


def sweep(
    space: Space,
    stopwatch: ChannelStopwatch,
    *,
    expansion: float = 2.0,
    step: int = 1,
    num_repeats: int = 30,
    seed: int = 0,
    slots: Iterable[int] = range(NUM_SLOTS),
    on_sample: OnSample | None = None,
) -> Sweep:
    """Time every width of every slot.

    Args:
        space: The search space.
        stopwatch: What times.
        expansion: Up to how many times the largest width of a slot, 1..8; 2 as in HTAS.
        step: Time multiples of it only, >= 1. An odd step meets every place within a tile of a power of two.
        num_repeats: Rounds beside the first, >= 2.
        seed: Order of all timings, >= 0.
        slots: Sweep what stands for one of these; all by default.
        on_sample: Called after every timing with 1 and what was timed.

    Raises:
        ArgumentError: An argument is out of range, a step leaves no width, or the stopwatch gave no positive number.
    """
    check_sweep(num_repeats, expansion, step, seed)
    wanted = set(slots)
    chosen = [each for each in swept_of(space) if wanted & set(each.slots)]
    plan = [(each, widths_of(space, each, expansion, step)) for each in chosen]
    if not all(widths for _, widths in plan):
        raise ArgumentError(f"step {step} leaves no width of a slot of {space.name!r}: take a smaller one")

    def timing(each: Swept, layer: Layer, width: int) -> Timing:
        inputs = each.inputs(space, layer, width)
        return f"{layer.name} of {width} channels", lambda: stopwatch.time_channels(layer, inputs, width)

    timings = [timing(each, layer, width) for each, widths in plan for layer in each.layers for width in widths]
    rng = np.random.default_rng(seed)
    rounds, conditions = time_under_conditions(space, stopwatch.conditions, timings, num_repeats, rng, on_sample)
    curves, first = [], 0
    for each, widths in plan:
        part = rounds[:, first : first + len(each.layers) * len(widths)]
        # Rounds before layers: a sum of layers within a round, then the statistic over rounds.
        total = part.reshape(num_repeats, len(each.layers), len(widths)).sum(1)
        first += part.shape[1]
        curves.append(
            Curve(
                slots=each.slots,
                layers=tuple(layer.name for layer in each.layers),
                size=each.layers[-1].output_size,
                max_channels=space.max_channels[each.slots[0]],
                widths=tuple(widths),
                ms=tuple(summary(total).tolist()),
                even_ms=tuple(summary(total[::2]).tolist()),
                odd_ms=tuple(summary(total[1::2]).tolist()),
            )
        )
    return Sweep(space, float(expansion), step, tuple(curves), conditions)
