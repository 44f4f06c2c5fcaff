"""Measured latency: look-up tables of every layer, and their sum for any architecture.

    >>> model = load_latency("latency.json")        # written by `channel-bench latency resnet -o latency.json`
    >>> model.predict("4344424")                    # ms
    >>> table.top(10, max_latency=5.0, latency=model)

A layer's latency depends on the widths that it reads and writes, so on one or two of the seven digits. measure.py times
every layer at each of its 4 or 16 combinations, and the latency of all 16,384 architectures is a sum of look-ups. That
layers add up is an assumption; so whole networks are timed as well, and the file says how far off the sums are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from channel_bench._version import __version__
from channel_bench.errors import ArgumentError, ChannelBenchError, CorruptFileError, MissingDataError
from channel_bench.space import NUM_WIDTHS, FloatArray, Space, get_space, is_batch, space_of_file
from channel_bench.support.durable import write_atomic
from channel_bench.support.fields import check_fields
from channel_bench.support.reading import MIB, is_there, parse_json, read_file

FORMAT = 1
MAX_FILE_BYTES = 16 * MIB
"""A file has 30 kB; with all 16,384 networks timed as well it would have 1 MB."""


@dataclass(frozen=True)
class Conditions:
    """What was measured, on what, and how. Latencies under other conditions differ."""

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
    """(channels, height, width) of an image; this and what follows is filled in by measure.py."""
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
    """How well one series of latencies predicts another; percentages are relative to the latter."""

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
    """Number of networks, counted from the first, that fitted the correction; the others only tested it."""
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
        layers = {layer.name: layer for layer in self.space.layers}
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
        for layer in self.space.layers:
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
            "layer_slots": {layer.name: layer.slots for layer in self.space.layers},
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
        space: The space that it must be for; None for any.

    Raises:
        MissingDataError: There is no such file, or it cannot be read.
        CorruptFileError: It is not a latency file, too large, was changed, or was measured on other networks of the
            same name.
        ArgumentError: It is for another space.
    """
    shown = repr(str(path))
    try:
        data = read_file(Path(path), "latency file", MAX_FILE_BYTES)
    except MissingDataError as error:
        if is_there(path):
            raise
        raise MissingDataError(f"{error}: measure one with 'channel-bench latency SPACE -o FILE'") from None
    try:
        facts = parse_json(data, f"{shown} is not a latency file, or damaged: it")
        stated, version = facts.pop("sha256"), facts["format"]
    except (KeyError, TypeError, AttributeError):
        raise CorruptFileError(f"{shown} is not a latency file, or damaged") from None
    if version != FORMAT:
        raise CorruptFileError(f"latency file {shown} is of format {version!r}: this version reads {FORMAT}")
    if _hash(facts) != stated:
        raise CorruptFileError(f"latency file {shown} was changed after it was written: its hash differs")
    try:
        measured = space_of_file(f"latency file {shown}", "measured on", facts["space"], facts["space_fingerprint"])
    except (KeyError, TypeError):
        raise CorruptFileError(f"latency file {shown} names no space") from None
    try:
        model = _from_facts(facts, measured)
    except (ChannelBenchError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CorruptFileError(f"latency file {shown} cannot be read by this version: {error}") from None
    if space is not None and model.space != get_space(space):
        raise ArgumentError(f"latency file {shown} is for space {model.space.name!r}, not {get_space(space).name!r}")
    return model


def _from_facts(facts: dict[str, Any], space: Space) -> LatencyModel:
    """The model of a file whose hash is right; whoever made it, its values have to be of the types that are used."""
    check_fields(Conditions, facts["conditions"], "conditions")
    conditions = {**facts["conditions"], "input_shape": tuple(facts["conditions"]["input_shape"])}
    check = facts["check"]
    if check is not None:
        check_fields(Check, check, "check")
        agreements = {name: Agreement(**check[name]) for name in ("sums", "corrected", "repeat")}
        series = {name: tuple(check[name]) for name in ("archs", "measured_ms")}
        check = Check(**{**check, **agreements, **series})
    for name in ("scale", "offset_ms"):
        if isinstance(facts[name], bool) or not isinstance(facts[name], (int, float)):
            raise CorruptFileError(f"{name} is {str(facts[name])[:60]!r}: allowed are numbers")
    return LatencyModel(
        space,
        {name: np.array(values, np.float64) for name, values in facts["layers_ms"].items()},
        Conditions(**conditions),
        check,
        facts["scale"],
        facts["offset_ms"],
    )


def _hash(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
