"""Measure the latency of a space: time all layers and some whole networks in rounds, and make a model of them.

    >>> model = measure(space, TorchStopwatch(space, torch.device("cpu"), batch_size=4))

The model and its file are those of latency.py. Nothing here imports torch: what times PyTorch's layers is stopwatch.py,
and anything else with its two functions (a phone, a simulator) will do.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.latency.model import Agreement, Check, Conditions, LatencyModel
from channel_bench.space import NUM_ARCHS, NUM_WIDTHS, Arch, FloatArray, Space
from channel_bench.space.layers import Layer

Schedule = list[tuple[Layer | None, tuple[int, ...]]]
"""What is timed: a layer and the digits of its slots, or no layer and those of a whole network."""
Timing = tuple[str, Callable[[], float]]
"""What is timed in a round: its name, and what times it once, ms."""
OnSample = Callable[[int, str], None]

MIN_NETWORKS = 6
"""A line through three networks can be left-one-out, and three others have a correlation."""
NOISY_PERCENT = 5.0
"""Differences between halves of the rounds from which a measurement is called noisy."""
QUANTILE = 0.25
"""What a round's latencies are summed up by. Other processes only ever add time, and in more than half of the rounds on
a busy machine; on a quiet one the lower quartile and the median are the same within noise."""


class Stopwatch(Protocol):
    """What times a forward pass; stopwatch.py has PyTorch's."""

    @property
    def conditions(self) -> Conditions:
        """What it times on, and how."""
        ...

    def time_layer(self, layer: Layer, digits: tuple[int, ...]) -> float:
        """Latency of a layer, ms; digits 1..4 in the order of `Layer.slots`."""
        ...

    def time_network(self, arch: Arch) -> float:
        """Latency of the whole network of an architecture, ms."""
        ...


def measure(
    space: Space,
    stopwatch: Stopwatch,
    *,
    num_repeats: int = 30,
    num_networks: int = 32,
    seed: int = 0,
    on_sample: OnSample | None = None,
) -> LatencyModel:
    """Time all layers and a sample of whole networks, and make a model of them.

    A round times everything once in an order of its own, so that whatever drifts (clocks, temperature, other processes)
    hits all alike; the first round warms up and is thrown away. A latency is the lower quartile over the others.

    Half of the networks fit an affine correction of the sums (least squares of the relative error, scale and offset
    >= 0): a constant for what a network costs beside its layers, a factor for layers that run faster one at a time. It
    is used if it predicts each of them better from the rest than the bare sum does. The other half only tests.

    Args:
        space: The search space.
        stopwatch: What times.
        num_repeats: Rounds beside the first, >= 2.
        num_networks: Whole networks, drawn uniformly, 6..16384.
        seed: Which networks, and in which order everything is timed; >= 0.
        on_sample: Called after every timing with 1 and what was timed.

    Raises:
        ArgumentError: num_repeats, num_networks or seed is out of range, or the stopwatch gave no positive number.
    """
    check_plan(num_repeats, num_networks, seed)
    rng = np.random.default_rng(seed)
    archs = [tuple(digits) for digits in space.sample(num_networks, rng).tolist()]
    schedule: Schedule = [
        (layer, digits)
        for layer in space.layers
        for digits in itertools.product(range(1, NUM_WIDTHS + 1), repeat=len(layer.slots))
    ]
    schedule += [(None, arch) for arch in archs]
    timings = [_timing(stopwatch, layer, digits) for layer, digits in schedule]
    rounds, conditions = time_under_conditions(space, stopwatch.conditions, timings, num_repeats, rng, on_sample)
    layers_ms: dict[str, FloatArray] = {}
    for (layer, digits), value in zip(schedule, summary(rounds), strict=True):
        if layer is not None:
            values = layers_ms.setdefault(layer.name, np.empty((NUM_WIDTHS,) * len(digits)))
            values[tuple(digit - 1 for digit in digits)] = value
    return _corrected(LatencyModel(space, layers_ms, conditions), archs, rounds[:, -num_networks:])


def _timing(stopwatch: Stopwatch, layer: Layer | None, digits: tuple[int, ...]) -> Timing:
    """A layer or a network of the schedule as what times it."""
    text = "".join(map(str, digits))
    if layer is None:
        return f"network {text}", lambda: stopwatch.time_network(digits)
    return f"{layer.name} {text}", lambda: stopwatch.time_layer(layer, digits)


def time_under_conditions(
    space: Space,
    conditions: Conditions,
    timings: Sequence[Timing],
    num_repeats: int,
    rng: np.random.Generator,
    on_sample: OnSample | None = None,
) -> tuple[FloatArray, Conditions]:
    """Time in rounds after one that warms up, and write down under which conditions.

    Returns:
        Milliseconds (num_repeats, len(timings)), and the conditions with what is known afterwards.
    """
    load_average, start_s = load_now(), time.monotonic()
    rounds = time_rounds(timings, 1 + num_repeats, rng, on_sample)[1:]
    return rounds, dataclasses.replace(
        conditions,
        input_shape=space.input_shape,
        num_repeats=num_repeats,
        statistic=f"lower quartile of {num_repeats} rounds",
        measured_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        measure_s=round(time.monotonic() - start_s, 1),
        load_average=load_average,
    )


def time_rounds(
    timings: Sequence[Timing], num_rounds: int, rng: np.random.Generator, on_sample: OnSample | None = None
) -> FloatArray:
    """Milliseconds (num_rounds, len(timings)); each round in an order of its own.

    Raises:
        ArgumentError: A timing gave no positive number.
    """
    rounds = np.empty((num_rounds, len(timings)))
    for latencies in rounds:
        for position in rng.permutation(len(timings)).tolist():
            name, timed = timings[position]
            latency_ms = timed()
            if not 0 < latency_ms < math.inf:
                raise ArgumentError(f"the stopwatch gave a latency of {latency_ms} ms: allowed are positive numbers")
            latencies[position] = latency_ms
            if on_sample is not None:
                on_sample(1, name)
    return rounds


def num_samples(space: Space, num_repeats: int, num_networks: int) -> int:
    """How many timings `measure` takes."""
    return (1 + num_repeats) * (sum(NUM_WIDTHS ** len(layer.slots) for layer in space.layers) + num_networks)


def check_plan(num_repeats: int, num_networks: int, seed: int = 0) -> None:
    """Refuse what `measure` would refuse, before anything is built.

    Raises:
        ArgumentError: num_repeats, num_networks or seed is out of range.
    """
    if num_repeats < 2:
        raise ArgumentError(f"number of repeats is {num_repeats}: allowed are 2 and above")
    if not MIN_NETWORKS <= num_networks <= NUM_ARCHS:
        raise ArgumentError(f"number of networks is {num_networks}: allowed are {MIN_NETWORKS}..{NUM_ARCHS}")
    if seed < 0:
        raise ArgumentError(f"seed {seed} is negative: allowed are 0 and above")


def summary(rounds: FloatArray) -> FloatArray:
    """Latencies (n,) of rounds (num_rounds, n)."""
    return np.asarray(np.quantile(rounds, QUANTILE, axis=0))


def _corrected(model: LatencyModel, archs: list[Arch], rounds: FloatArray) -> LatencyModel:
    """The model with its check, and with the correction if that helps; rounds are (num_rounds, num_networks)."""
    measured, sums = summary(rounds), model.sum_layers(archs)
    num_fitted = len(archs) // 2
    fitted, tested = slice(num_fitted), slice(num_fitted, None)
    scale, offset = _fit(sums[fitted], measured[fitted])
    is_corrected = bool(
        scale > 0
        and _error_left_out(sums[fitted], measured[fitted]) < np.abs(sums[fitted] / measured[fitted] - 1).mean()
    )
    check = Check(
        archs=tuple(model.space.text(arch) for arch in archs),
        measured_ms=tuple(measured.tolist()),
        num_fitted=num_fitted,
        sums=agreement(sums[tested], measured[tested]),
        corrected=agreement(offset + scale * sums[tested], measured[tested]),
        is_corrected=is_corrected,
        repeat=agreement(summary(rounds[::2]), summary(rounds[1::2])),
    )
    if not is_corrected:
        scale, offset = 1.0, 0.0
    return dataclasses.replace(model, check=check, scale=scale, offset_ms=offset)


def _fit(sums: FloatArray, measured: FloatArray) -> tuple[float, float]:
    """Scale and offset >= 0 that minimise the squares of (offset + scale * sum) / measured - 1.

    Without the sign a line through noisy networks may trade a steep slope for an offset that makes others negative.
    """
    from scipy import optimize

    design = np.stack([sums, np.ones_like(sums)], 1) / measured[:, None]
    scale, offset = optimize.nnls(design, np.ones_like(sums))[0].tolist()
    return scale, offset


def _error_left_out(sums: FloatArray, measured: FloatArray) -> float:
    """Mean absolute relative error, each latency predicted by a fit to all others."""
    errors = []
    for left_out in range(len(sums)):
        scale, offset = _fit(np.delete(sums, left_out), np.delete(measured, left_out))
        errors.append(abs((offset + scale * sums[left_out]) / measured[left_out] - 1))
    return float(np.mean(errors))


def agreement(predicted: FloatArray, measured: FloatArray) -> Agreement:
    """Compare two series of latencies, float64 (num_archs,) each, num_archs >= 2 and measured > 0."""
    from scipy import stats

    errors = 100 * (predicted / measured - 1)
    constant = np.ptp(predicted) == 0 or np.ptp(measured) == 0
    return Agreement(
        num_archs=len(measured),
        pearson=None if constant else float(np.corrcoef(predicted, measured)[0, 1]),
        kendall=None if constant else float(stats.kendalltau(predicted, measured, variant="b").statistic),
        mape=float(np.abs(errors).mean()),
        bias=float(errors.mean()),
    )


def load_now() -> float | None:
    """Processes that ran or waited in the last minute; None where the system does not tell."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # not on this system
        return None
