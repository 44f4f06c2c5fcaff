"""Measured latency: look-up tables of every layer, and their sum for any architecture.

    >>> model = load_latency("latency.json")        # written by `channel-bench latency resnet -o latency.json`
    >>> model.predict("4344424")                    # ms
    >>> table.top(10, max_latency=5.0, latency=model)

A layer's latency depends on the widths that it reads and writes, so on one or two of the seven digits. `measure` times
every layer at each of its 4 or 16 combinations, and the latency of all 16,384 architectures is a sum of look-ups. That
layers add up is an assumption; so `measure` also times whole networks, and the file says how wrong the sum is on them.

Nothing here imports torch: what times PyTorch's layers is stopwatch.py, and anything else with its two functions (a
phone, a simulator) will do.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from channel_bench._version import __version__
from channel_bench.durable import write_atomic
from channel_bench.errors import (
    ArgumentError,
    ChannelBenchError,
    CorruptFileError,
    MissingDataError,
    StorageError,
    os_reason,
)
from channel_bench.layers import Layer, layers_of
from channel_bench.space import NUM_ARCHS, NUM_WIDTHS, Arch, Space, get_space, is_batch

FloatArray = npt.NDArray[np.float64]

FORMAT = 1
MIN_NETWORKS = 6
"""A line through three networks can be left-one-out, and three others have a correlation."""
NOISY_PERCENT = 5.0
"""Differences between halves of the rounds from which a measurement is called noisy."""
QUANTILE = 0.25
"""What a round's latencies are summed up by. Other processes only ever add time, and in more than half of the rounds on
a busy machine; on a quiet one the lower quartile and the median are the same within noise."""


@dataclass(frozen=True)
class Conditions:
    """What was measured, on what, and how. Latencies of other conditions are other latencies."""

    device: str
    """Name of the GPU or CPU."""
    torch: str
    """Version of PyTorch, or what else ran the networks."""
    threads: int
    """CPU threads; on a GPU they only launch."""
    batch_size: int
    """Images per forward pass; a latency is that of the whole batch."""
    arithmetic: str
    """Precision and layout, in words."""
    input_shape: tuple[int, ...] = ()
    """(channels, height, width) of an image; this and what follows is filled in by `measure`."""
    num_repeats: int = 0
    """Rounds, each of which times every layer and network once."""
    statistic: str = ""
    """What a latency is, over calls and rounds."""
    measured_at: str = ""
    """End of the measurement, UTC, ISO 8601."""
    measure_s: float = 0.0
    """Duration of the measurement."""
    load_average: float | None = None
    """Processes that ran or waited on this machine in the minute before, as the system counts them; None: unknown."""
    code_version: str = __version__


@dataclass(frozen=True)
class Agreement:
    """How well one series of latencies gives another; percent are of the latter."""

    num_archs: int
    pearson: float | None
    """None where a series is constant."""
    kendall: float | None
    """Tau-b; None where a series is constant."""
    mape: float
    """Mean absolute percentage error."""
    bias: float
    """Mean percentage error with its sign."""


@dataclass(frozen=True)
class Check:
    """Whole networks, drawn at random and timed in turns with the layers, against the model."""

    archs: tuple[str, ...]
    measured_ms: tuple[float, ...]
    num_fitted: int
    """The first so many fitted the correction; the others only tested it."""
    sums: Agreement
    """Bare sums of layers, on the tested networks."""
    corrected: Agreement
    """Corrected sums, on the tested networks; the model's own if `is_corrected`."""
    is_corrected: bool
    """Whether the model corrects its sums: decided among the fitted networks alone, each predicted from the others."""
    repeat: Agreement
    """All networks in even rounds against odd rounds: noise that no model can predict."""


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """Latency of every architecture of a space under one set of conditions: offset + scale * sum of look-ups."""

    space: Space
    layers_ms: Mapping[str, FloatArray]
    """By name of the layer, milliseconds, float64 (4,) or (4, 4): axes are `Layer.slots`, positions digit - 1."""
    conditions: Conditions
    check: Check | None = None
    """None for tables that were not checked on whole networks."""
    scale: float = 1.0
    offset_ms: float = 0.0

    def __post_init__(self) -> None:
        """Check the tables.

        Raises:
            ArgumentError: A layer is missing or unknown, a table has another shape, or a latency is not positive.
        """
        layers = {layer.name: layer for layer in layers_of(self.space)}
        if set(self.layers_ms) != set(layers):
            differ = ", ".join(sorted(set(self.layers_ms) ^ set(layers)))
            raise ArgumentError(f"latencies are not those of the layers of {self.space.name!r}: {differ}")
        for name, values in self.layers_ms.items():
            wanted = (NUM_WIDTHS,) * len(layers[name].slots)
            if np.shape(values) != wanted:
                raise ArgumentError(f"latencies of {name!r} have shape {np.shape(values)}: allowed is {wanted}")
            if not (np.isfinite(values).all() and (values > 0).all()):
                raise ArgumentError(f"latencies of {name!r} are not all positive numbers")
        if not (math.isfinite(self.scale + self.offset_ms) and self.scale > 0 and self.offset_ms >= 0):
            raise ArgumentError(f"scale {self.scale} and offset {self.offset_ms}: allowed are > 0 and >= 0")

    def predict(self, archs: Any = None) -> Any:
        """Latency of architectures.

        Args:
            archs: One architecture or a batch, in any encoding of `Space.arch`; None for all in index order.

        Returns:
            Milliseconds of a forward pass of `conditions.batch_size` images: a float for one architecture, else float64
            (num_archs,).

        Raises:
            ArchError: Not an architecture of the space.
        """
        sums = self.sum_layers(archs)
        return self.offset_ms + self.scale * sums

    def sum_layers(self, archs: Any = None) -> Any:
        """Bare sums of look-ups, without the correction; arguments, returns, raises: as `predict`."""
        digits = self.space.archs() if archs is None else self.space.digits(archs)
        sums = np.zeros(len(digits))
        for layer in layers_of(self.space):
            sums += self.layers_ms[layer.name][tuple(digits[:, slot] - 1 for slot in layer.slots)]
        return sums if archs is None or is_batch(archs) else float(sums[0])

    def write(self, path: str | Path) -> None:
        """Write the model as JSON, whole or not at all.

        Raises:
            StorageError: The file system refused.
        """
        facts = self.facts()
        text = json.dumps({**facts, "sha256": _hash(facts)}, indent=1, allow_nan=False)
        write_atomic((Path(path), f"{text}\n".encode()))

    def facts(self) -> dict[str, Any]:
        """Everything of the model, as its file has it."""
        return {
            "format": FORMAT,
            "space": self.space.name,
            "space_fingerprint": self.space.fingerprint,
            "unit": "ms",
            "layer_slots": {layer.name: layer.slots for layer in layers_of(self.space)},
            "layers_ms": {name: values.tolist() for name, values in self.layers_ms.items()},
            "scale": self.scale,
            "offset_ms": self.offset_ms,
            "conditions": dataclasses.asdict(self.conditions),
            "check": None if self.check is None else dataclasses.asdict(self.check),
        }


def load_latency(path: str | Path, space: str | Space | None = None) -> LatencyModel:
    """Load a model that `LatencyModel.write` wrote.

    Args:
        path: The file.
        space: The space that it has to be of; None for any.

    Raises:
        MissingDataError: There is no such file.
        StorageError: It cannot be read.
        CorruptFileError: It is not a latency file, was changed, or is of other networks under the space's name.
        ArgumentError: It is of another space.
    """
    shown = repr(str(path))
    try:
        text = Path(path).read_text("utf-8")
    except FileNotFoundError:
        raise MissingDataError(
            f"latency file {shown} does not exist: 'channel-bench latency SPACE -o FILE' measures one"
        ) from None
    except UnicodeDecodeError:
        raise CorruptFileError(f"{shown} is not a latency file: it is not text") from None
    except OSError as error:
        raise StorageError(f"cannot read latency file {shown}: {os_reason(error)}") from None
    try:
        facts = json.loads(text)
        stated, version = facts.pop("sha256"), facts["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CorruptFileError(f"{shown} is not a latency file, or damaged") from None
    if version != FORMAT:
        raise CorruptFileError(f"latency file {shown} is of format {version!r}: this version reads {FORMAT}")
    if _hash(facts) != stated:
        raise CorruptFileError(f"latency file {shown} was changed after it was written: its hash differs")
    try:
        model = _from_facts(facts)
        same = model.space.fingerprint == facts["space_fingerprint"]
    except (ChannelBenchError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptFileError(f"latency file {shown} cannot be read by this version: {error}") from None
    if not same:
        raise CorruptFileError(f"latency file {shown} is of other networks under the name {model.space.name!r}")
    if space is not None and model.space != get_space(space):
        raise ArgumentError(f"latency file {shown} is of space {model.space.name!r}, not {get_space(space).name!r}")
    return model


def _from_facts(facts: dict[str, Any]) -> LatencyModel:
    conditions = {**facts["conditions"], "input_shape": tuple(facts["conditions"]["input_shape"])}
    check = facts["check"]
    if check is not None:
        agreements = {name: Agreement(**check[name]) for name in ("sums", "corrected", "repeat")}
        series = {name: tuple(check[name]) for name in ("archs", "measured_ms")}
        check = Check(**{**check, **agreements, **series})
    return LatencyModel(
        get_space(facts["space"]),
        {name: np.array(values, np.float64) for name, values in facts["layers_ms"].items()},
        Conditions(**conditions),
        check,
        facts["scale"],
        facts["offset_ms"],
    )


def _hash(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


# -- measuring ----------------------------------------------------------------------------------------------------


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
    on_sample: Callable[[int, str], None] | None = None,
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
    plan: list[tuple[Layer | None, tuple[int, ...]]] = [
        (layer, digits)
        for layer in layers_of(space)
        for digits in itertools.product(range(1, NUM_WIDTHS + 1), repeat=len(layer.slots))
    ]
    plan += [(None, arch) for arch in archs]
    load_average, start_s = _load_average(), time.monotonic()
    rounds = np.empty((1 + num_repeats, len(plan)))
    for number in range(len(rounds)):
        for position in rng.permutation(len(plan)).tolist():
            layer, digits = plan[position]
            found = stopwatch.time_network(digits) if layer is None else stopwatch.time_layer(layer, digits)
            if not 0 < found < math.inf:
                raise ArgumentError(f"the stopwatch gave a latency of {found} ms: allowed are positive numbers")
            rounds[number, position] = found
            if on_sample is not None:
                on_sample(1, f"{layer.name if layer else 'network'} {''.join(map(str, digits))}")
    conditions = dataclasses.replace(
        stopwatch.conditions,
        input_shape=space.input_shape,
        num_repeats=num_repeats,
        statistic=f"lower quartile of {num_repeats} rounds",
        measured_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        measure_s=round(time.monotonic() - start_s, 1),
        load_average=load_average,
    )
    rounds = rounds[1:]
    layers_ms: dict[str, FloatArray] = {}
    for (layer, digits), value in zip(plan, _summary(rounds), strict=True):
        if layer is not None:
            values = layers_ms.setdefault(layer.name, np.empty((NUM_WIDTHS,) * len(digits)))
            values[tuple(digit - 1 for digit in digits)] = value
    return _corrected(LatencyModel(space, layers_ms, conditions), archs, rounds[:, -num_networks:])


def num_samples(space: Space, num_repeats: int, num_networks: int) -> int:
    """How many timings `measure` takes."""
    return (1 + num_repeats) * (sum(NUM_WIDTHS ** len(layer.slots) for layer in layers_of(space)) + num_networks)


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


def _summary(rounds: FloatArray) -> FloatArray:
    """(num_rounds, n) to (n,)."""
    return np.asarray(np.quantile(rounds, QUANTILE, axis=0))


def _corrected(model: LatencyModel, archs: list[Arch], rounds: FloatArray) -> LatencyModel:
    """The model with its check, and with the correction if that helps; rounds are (num_rounds, num_networks)."""
    measured, sums = _summary(rounds), model.sum_layers(archs)
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
        repeat=agreement(_summary(rounds[::2]), _summary(rounds[1::2])),
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


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # not on this system
        return None
