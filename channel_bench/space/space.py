"""The search spaces: what an architecture is, and every way to write one.

A space has seven *slots*; in each the width is one of four, written as a digit 1..4 that stands for a quarter,
a half, three quarters or all of the slot's maximum. 4^7 = 16,384 architectures per space.

    >>> space = get_space("resnet")
    >>> space.arch("4344424")
    (4, 3, 4, 4, 4, 2, 4)
    >>> space.channels("4344424")
    (256, 192, 256, 512, 512, 256, 512)
    >>> space.index((1, 1, 1, 1, 1, 1, 2))
    1

An architecture is accepted as

- text of 7 digits, ``"4344424"``, or 7 numbers between commas, dashes, colons, bars or underscores:
  ``"256,192,256,512,512,256,512"``, ``"4_3_4_4_4_2_4"``;
- an integer of 7 digits, ``4344424``, which is what pandas makes of such a text in a CSV file;
- 7 integers (tuple, list, NumPy, pandas): digits where all are 1..4, otherwise absolute channels. In a space so narrow
  that channels look like digits (resnet-mini) bare integers are always digits;
- 7 floats: width ratios, each 0.25, 0.5, 0.75 or 1.0, not all 1.0, which could as well be digits;
- one integer: the index, base 4 over (digit - 1), slot 0 most significant;
- a dict with one key that leaves no doubt: ``{"digits": ...}``, ``{"ratios": ...}``, ``{"channels": ...}`` or
  ``{"index": ...}``.

A batch is a 2-D array, a pandas DataFrame of seven columns, a sequence of texts, of integers of 7 digits or of 7-number
sequences, or a dict whose value is a batch; any other flat sequence of numbers is one architecture, so a batch of
indices is ``{"index": ...}``. Anything else raises ArchError: nothing is rounded, floored or guessed. In resnet-mini,
numbers between dashes, colons, bars or underscores that could be digits and channels are refused.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import numbers
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArchError, ArgumentError
from channel_bench.space import cost
from channel_bench.space.families import is_built_in, layers_of
from channel_bench.space.layers import NUM_SLOTS, Layer, blocks_of

Arch = tuple[int, ...]
FloatArray = npt.NDArray[np.float64]
Int8Array = npt.NDArray[np.int8]
IntArray = npt.NDArray[np.int64]

NUM_WIDTHS = 4
NUM_ARCHS = NUM_WIDTHS**NUM_SLOTS
RATIOS = (0.25, 0.5, 0.75, 1.0)

_MINI_FLOPS = 10_000_000
"""A hundredth of the full spaces' widest networks."""
_PLACE_VALUES = NUM_WIDTHS ** np.arange(NUM_SLOTS - 1, -1, -1, dtype=np.int64)
_TEXT_TO_BASE4 = str.maketrans("1234", "0123")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?|-?\.[0-9]+")
_SEPARATORS = {",": "commas", "-": "dashes", ":": "colons", "|": "bars", "_": "underscores"}
_LEAST_NUMBER = 1111111
"""The least integer whose digits are an architecture; indices and channels are far below, so none can be meant."""
_ZERO_BASED = "; digits start at 1, which is a quarter of the width: if yours start at 0, add 1 to each"
_ENCODINGS = "7 digits 1..4, 7 width ratios, 7 channel counts, or an index"


@dataclass(frozen=True)
class Space:
    """One search space; get it by name from `get_space`, or make one of your own (own.py)."""

    name: str
    """Unique name, also in file metadata."""
    family: str
    """Skeleton of the network: "resnet", "mobilenet", or another one (families.py)."""
    max_channels: tuple[int, ...]
    """Channels of each slot at digit 4; all divisible by 4."""
    input_shape: tuple[int, int, int]
    """(channels, height, width) of an input image."""
    dataset: str
    """Name of the data set that its ground truth is trained on (channel_bench.training.datasets)."""
    recipe: str
    """Name of the recipe that its ground truth is trained with (channel_bench/recipe.py)."""
    num_classes: int = 10
    """Outputs of the linear layer."""
    table: str | None = None
    """File of the default table of a space of one's own; None where there is none, or where the package knows it."""
    own_layers: tuple[Layer, ...] = dataclasses.field(default=(), repr=False)
    """Layers of a family that is not built in, so that they are there in every process; found where they are empty."""

    def __post_init__(self) -> None:
        """Find the layers of a family that is not built in."""
        image_size = self.input_shape[1:]
        if not is_built_in(self.family) and (not self.own_layers or self.own_layers[0].input_size != image_size):
            object.__setattr__(self, "own_layers", layers_of(self.family, image_size))

    # -- one architecture, in and out ---------------------------------------------------------------------------

    def arch(self, value: Any) -> Arch:
        """Read one architecture in any accepted encoding (see the module docstring).

        Args:
            value: The architecture.

        Returns:
            Seven digits 1..4.

        Raises:
            ArchError: The value is not an architecture of this space.
        """
        value = _plain(value)
        if isinstance(value, str):
            return self._parse_text(value)
        if isinstance(value, dict):
            return self._parse_dict(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return self._parse_number(value) if value >= _LEAST_NUMBER else self._parse_index(value)
        if isinstance(value, (tuple, list)):
            return self._parse_sequence(value)
        raise ArchError(f"{_shown(value)} is not an architecture: allowed are {_ENCODINGS}")

    def index(self, value: Any) -> Any:
        """Index of an architecture, or of each in a batch.

        Args:
            value: One architecture, or a batch of num_archs.

        Returns:
            int, or int64 (num_archs,) for a batch; 0 is "1111111", 16383 is "4444444".

        Raises:
            ArchError: A value is not an architecture of this space.
        """
        # The common cases first: this is the path of a table look-up, counted in hundreds of nanoseconds.
        if isinstance(value, str) and len(value) == NUM_SLOTS and not value.strip("1234"):
            return int(value.translate(_TEXT_TO_BASE4), NUM_WIDTHS)
        if type(value) is int and 0 <= value < NUM_ARCHS:
            return value
        if is_batch(value):
            return (self.digits(value) - 1) @ _PLACE_VALUES
        return functools.reduce(lambda total, digit: total * NUM_WIDTHS + digit - 1, self.arch(value), 0)

    def digits(self, batch: Any) -> Int8Array:
        """Read a batch of architectures.

        Args:
            batch: A 2-D array, a sequence of texts or of other single encodings, or a dict of a batch. A single
                architecture counts as a batch of one.

        Returns:
            int8 (num_archs, 7), digits 1..4.

        Raises:
            ArchError: A value is not an architecture; the message names the first such row.
        """
        if not is_batch(batch):
            return np.array([self.arch(batch)], np.int8)
        batch = _rows_of(batch)
        if isinstance(batch, np.ndarray) and batch.ndim == 2 and batch.dtype.kind in "iu":
            if batch.shape[1] == NUM_SLOTS and ((batch >= 1) & (batch <= NUM_WIDTHS)).all():
                return batch.astype(np.int8)
        batch = _plain(batch)
        if isinstance(batch, dict):
            ((kind, values),) = batch.items()
            return self._one_by_one([{kind: row} for row in _plain(_rows_of(values))])
        # Lengths first and through C loops: a table's column of 49,152 texts is read this way when it is loaded.
        if set(map(type, batch)) == {int}:
            batch = [str(number) if _LEAST_NUMBER <= number < 10**NUM_SLOTS else number for number in batch]
        if set(map(type, batch)) == {str} and set(map(len, batch)) == {NUM_SLOTS}:
            codes = np.frombuffer("".join(batch).encode("ascii", "replace"), np.uint8).reshape(-1, NUM_SLOTS)
            if ((codes >= ord("1")) & (codes <= ord("4"))).all():
                return (codes - ord("0")).astype(np.int8)
        return self._one_by_one(batch)

    def text(self, value: Any) -> str:
        """The architecture as text of 7 digits; the key used in every file."""
        return "".join(map(str, self.arch(value)))

    def channels(self, value: Any) -> tuple[int, ...]:
        """Absolute channels of the seven slots."""
        return tuple(
            digit * most // NUM_WIDTHS for digit, most in zip(self.arch(value), self.max_channels, strict=True)
        )

    def channel_counts(self, batch: Any) -> IntArray:
        """Absolute channels of a batch, int64 (num_archs, 7)."""
        return self.digits(batch).astype(np.int64) * np.array(self.max_channels) // NUM_WIDTHS

    def ratios(self, value: Any) -> tuple[float, ...]:
        """Width ratios of the seven slots, each 0.25, 0.5, 0.75 or 1.0."""
        return tuple(RATIOS[digit - 1] for digit in self.arch(value))

    # -- the space as a collection ------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of architectures."""
        return NUM_ARCHS

    def __getitem__(self, index: int) -> Arch:
        """Architecture of an index; negative indices are refused, as everywhere else."""
        return self._parse_dict({"index": index})

    def __contains__(self, value: object) -> bool:
        """Whether `arch` would accept the value."""
        try:
            self.arch(value)
        except ArchError:
            return False
        return True

    def __iter__(self) -> Iterator[Arch]:
        """All architectures in index order."""
        return itertools.product(range(1, NUM_WIDTHS + 1), repeat=NUM_SLOTS)

    def archs(self) -> Int8Array:
        """All architectures in index order, int8 (16384, 7), read-only."""
        return _all_digits()

    def texts(self) -> list[str]:
        """All architectures in index order as text."""
        return ["".join(row) for row in itertools.product("1234", repeat=NUM_SLOTS)]

    def neighbors(self, value: Any) -> list[Arch]:
        """Architectures that differ in one slot by one width step; 7 to 14 of them."""
        arch = self.arch(value)
        steps = [(slot, arch[slot] + step) for slot in range(NUM_SLOTS) for step in (-1, 1)]
        return [arch[:slot] + (digit,) + arch[slot + 1 :] for slot, digit in steps if 1 <= digit <= NUM_WIDTHS]

    def sample(self, num_archs: int, rng: np.random.Generator) -> Int8Array:
        """Draw distinct architectures uniformly.

        Args:
            num_archs: How many, 1..16384.
            rng: The generator; the global one is never used.

        Returns:
            int8 (num_archs, 7).

        Raises:
            ArgumentError: num_archs is out of range.
        """
        if not 1 <= num_archs <= NUM_ARCHS:
            raise ArgumentError(f"cannot sample {num_archs} distinct architectures: allowed are 1..{NUM_ARCHS}")
        return self.archs()[rng.choice(NUM_ARCHS, num_archs, replace=False)]

    def with_channels(self, channels: Sequence[int]) -> Space:
        """A space of the same skeleton whose architecture "1111111" has these channels, on the grid or off it.

        For networks that are trained and not looked up: a width multiplier of .6, or an iterate of network adjustment.

        Args:
            channels: Of the seven slots, each >= 1.

        Raises:
            ArgumentError: They are no seven integers >= 1.
        """
        counts = [_plain(count) for count in channels]
        whole = all(isinstance(count, int) and not isinstance(count, bool) and count >= 1 for count in counts)
        if len(counts) != NUM_SLOTS or not whole:
            raise ArgumentError(f"channels are {_shown(counts)}: allowed are {NUM_SLOTS} integers >= 1")
        name = f"{self.name}@{'-'.join(map(str, counts))}"
        return dataclasses.replace(self, name=name, max_channels=tuple(NUM_WIDTHS * count for count in counts))

    # -- layers and costs ---------------------------------------------------------------------------------------

    @functools.cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of its networks, in the order of the forward pass; the last one is the classifier."""
        _, height, width = self.input_shape
        return self.own_layers or layers_of(self.family, (height, width))

    @functools.cached_property
    def blocks(self) -> tuple[tuple[Layer, ...], ...]:
        """The layers without the classifier, by block."""
        return blocks_of(self.layers)

    def flops(self, archs: Any = None) -> Any:
        """Multiply-accumulates of one image (convolutions and linear layer; see cost.py).

        Args:
            archs: One architecture, a batch, or None for all in index order.

        Returns:
            int for one architecture, int64 (num_archs,) otherwise.
        """
        return self._cost("flops", archs)

    def params(self, archs: Any = None) -> Any:
        """Learnable parameters (see cost.py); arguments and result as `flops`."""
        return self._cost("params", archs)

    def memory(self, archs: Any = None) -> Any:
        """Bytes of an inference of one image (see cost.py); arguments and result as `flops`."""
        return self._cost("memory", archs)

    def _cost(self, name: str, archs: Any) -> Any:
        counts = _all_costs(self, name)
        if archs is None:
            return counts.copy()
        index = self.index(archs)
        return counts[index] if isinstance(index, np.ndarray) else int(counts[index])

    @property
    def fingerprint(self) -> str:
        """16 hex digits of everything that defines the networks; two spaces with the same one are the same."""
        # The name of a family that is not built in says nothing about its layers.
        family: Any = [dataclasses.astuple(layer) for layer in self.own_layers] or self.family
        facts = [family, self.max_channels, self.input_shape, self.num_classes]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def is_mini(self) -> bool:
        """Whether its networks are so small that a training step is overhead and not arithmetic."""
        return bool(self.flops("4444444") < _MINI_FLOPS)

    # -- readers of each encoding -------------------------------------------------------------------------------

    def _parse_text(self, text: str) -> Arch:
        separator = next((mark for mark in _SEPARATORS if mark in text), None)
        if separator is not None:
            return self._parse_separated(text, separator)
        if len(text) != NUM_SLOTS or text.strip("1234"):
            hint = _ZERO_BASED if len(text) == NUM_SLOTS and not text.strip("0123") else ""
            raise ArchError(
                f"{_shown(text)} is not an architecture: allowed is text of 7 digits 1..4, such as '4344424'{hint}"
            )
        return tuple(map(int, text))

    def _parse_separated(self, text: str, separator: str) -> Arch:
        """Seven numbers between marks of one kind."""
        parts = [part.strip() for part in text.split(separator)]
        if not all(_NUMBER.fullmatch(part) for part in parts):
            raise ArchError(
                f"{_shown(text)} is not an architecture: between {_SEPARATORS[separator]}, only integers and ratios"
                " are allowed"
            )
        # Python refuses to read integers of thousands of digits; as floats they are refused with their slot.
        values = [float(part) if "." in part or len(part) > 20 else int(part) for part in parts]
        kind = None
        # Commas were there first and mean digits in a space where channels look like digits. Between other marks stand
        # channels, too, as the command line prints them, so there a text with two readings has none.
        if separator != "," and self._looks_like_digits and len(parts) == NUM_SLOTS:
            readings = [name for name in ("digits", "channels") if self._fits(name, values)]
            if len(readings) == 2:
                raise ArchError(
                    f"{_shown(text)} could be digits and channels of space {self.name!r}: write digits without"
                    f" {_SEPARATORS[separator]}, or {{'channels': values}}"
                )
            kind = readings[0] if readings else None
        return self._parse_sequence(values, kind)

    def _fits(self, kind: str, values: Sequence[float]) -> bool:
        """Whether seven numbers are an architecture in an encoding."""
        return all(
            isinstance(number, int) and number in self._allowed(kind, slot) for slot, number in enumerate(values)
        )

    def _parse_number(self, number: int) -> Arch:
        """An integer whose seven digits are an architecture."""
        text = str(number) if number < 10**NUM_SLOTS else ""
        if text and not text.strip("1234"):
            return tuple(map(int, text))
        hint = _ZERO_BASED if text and not text.strip("0123") else ""
        raise ArchError(
            f"{_shown(number)} is not an architecture: index {_shown(number)} is out of range, allowed are"
            f" 0..{NUM_ARCHS - 1}, and as digits allowed are 7 of 1..4, such as 4344424{hint}"
        )

    def _parse_index(self, index: int) -> Arch:
        if not 0 <= index < NUM_ARCHS:
            hint = ""
            if 0 < index < 10**NUM_SLOTS:
                if not (text := str(index)).strip("1234") and len(text) == NUM_SLOTS:
                    hint = f"; for digits pass the text '{index}'"
                elif len(text) < NUM_SLOTS and not text.strip("0123"):  # a CSV reader dropped the first 0
                    hint = _ZERO_BASED
            raise ArchError(f"index {_shown(index)} is out of range: allowed are 0..{NUM_ARCHS - 1}{hint}")
        return tuple(int(index // place) % NUM_WIDTHS + 1 for place in _PLACE_VALUES.tolist())

    def _parse_dict(self, value: dict[str, Any]) -> Arch:
        if len(value) != 1:
            raise ArchError(f"an architecture as a dict has exactly one key, got {sorted(map(str, value))}")
        ((kind, values),) = value.items()
        values = _plain(values)
        if kind not in ("digits", "ratios", "channels", "index"):
            raise ArchError(f"unknown encoding {kind!r}: allowed are 'digits', 'ratios', 'channels', 'index'")
        if kind == "index":
            if isinstance(values, bool) or not isinstance(values, int):
                raise ArchError(f"index {_shown(values)} is not an integer 0..{NUM_ARCHS - 1}")
            return self._parse_index(values)
        if not isinstance(values, (tuple, list)):
            raise ArchError(f"{kind!r} of an architecture must be 7 numbers, got {_shown(values)}")
        return self._parse_sequence(values, kind)

    def _parse_sequence(self, values: Sequence[Any], kind: str | None = None) -> Arch:
        values = [_plain(number) for number in values]
        if len(values) != NUM_SLOTS:
            raise ArchError(
                f"an architecture has {NUM_SLOTS} slots, got {len(values)} values {_shown(values)}"
                "; write a batch of indices as {'index': values}"
            )
        for slot, number in enumerate(values):
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise ArchError(f"value {_shown(number)} of slot {slot} is not a number: allowed are {_ENCODINGS}")
        kind = kind or self._kind_of(values)
        arch = []
        for slot, number in enumerate(values):
            allowed = self._allowed(kind, slot)
            if number not in allowed:
                hint = ""
                if kind == "digits":
                    zero_based = all(digit in range(NUM_WIDTHS) for digit in values)
                    narrow = "; write channels as {'channels': values}" if self._looks_like_digits else ""
                    hint = _ZERO_BASED if zero_based else narrow
                raise ArchError(
                    f"{kind.rstrip('s')} {_shown(number)} of slot {slot} is not one of"
                    f" {', '.join(map(str, allowed))}{hint}"
                )
            arch.append(allowed.index(number) + 1)
        return tuple(arch)

    @property
    def _looks_like_digits(self) -> bool:
        """Whether channels of some architecture are all 1..4, so that bare integers cannot be told apart."""
        return max(self.max_channels) // NUM_WIDTHS <= NUM_WIDTHS

    def _kind_of(self, values: Sequence[float]) -> str:
        """Encoding of 7 bare numbers."""
        if not all(isinstance(number, int) for number in values):
            if all(number == 1 for number in values):
                raise ArchError(
                    "7 times 1.0 could mean the ratios of the widest or the digits of the narrowest: write"
                    " {'ratios': values} or {'digits': values}"
                )
            return "ratios"
        if self._looks_like_digits or all(1 <= number <= NUM_WIDTHS for number in values):
            return "digits"
        # Small numbers that fit no slot are mistyped digits, not channels; only the message depends on this.
        fits = all(number in self._allowed("channels", slot) for slot, number in enumerate(values))
        return "digits" if max(values) < 10 and not fits else "channels"

    def _allowed(self, kind: str, slot: int) -> tuple[float, ...]:
        if kind == "digits":
            return tuple(range(1, NUM_WIDTHS + 1))
        if kind == "ratios":
            return RATIOS
        assert kind == "channels"
        return tuple(digit * self.max_channels[slot] // NUM_WIDTHS for digit in range(1, NUM_WIDTHS + 1))

    def _one_by_one(self, rows: Sequence[Any]) -> Int8Array:
        digits = np.empty((len(rows), NUM_SLOTS), np.int8)
        for number, row in enumerate(rows):
            try:
                if isinstance(plain := _plain(row), numbers.Number) and not _is_number(plain):
                    raise ArchError(f"write a batch of indices as {{'index': values}}, got {_shown(row)}")
                digits[number] = self.arch(row)
            except ArchError as error:
                raise ArchError(f"row {number}: {error}") from None
        return digits


def is_batch(value: Any) -> bool:
    """Whether a value stands for several architectures rather than one (see the module docstring)."""
    if isinstance(value, (str, bytes, numbers.Number)):
        return False
    if getattr(value, "ndim", None) == 2:
        return True
    value = _plain(value)
    if isinstance(value, dict):
        if len(value) != 1:
            return False
        ((kind, inner),) = value.items()
        inner = _plain(inner)
        return isinstance(inner, (list, tuple)) if kind == "index" else is_batch(inner)
    if not isinstance(value, (list, tuple)):
        return False
    return not value or not isinstance(first := _plain(value[0]), numbers.Number) or _is_number(first)


def _is_number(value: Any) -> bool:
    """Whether a number can only be the digits of an architecture."""
    return isinstance(value, int) and value >= _LEAST_NUMBER


def _rows_of(batch: Any) -> Any:
    """The rows of a pandas DataFrame, in the order of its columns; anything else stays.

    Raises:
        ArchError: Its columns are numbered, and not in that order.
    """
    if not (hasattr(batch, "columns") and hasattr(batch, "to_numpy")):
        return batch
    ends = [re.search(r"[0-9]+$", str(name)) for name in batch.columns]
    positions = [int(end[0]) for end in ends if end]
    if len(positions) == NUM_SLOTS and positions != sorted(positions):
        raise ArchError(f"columns {list(map(str, batch.columns))} are not in the order of the slots: sort them")
    return batch.to_numpy()


def _plain(value: Any) -> Any:
    """A value in Python's own types: what has `tolist` (NumPy, pandas columns, tensors) and bytes; others stay."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def _shown(value: Any) -> str:
    """A value for an error message, on one line and not longer than a line."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python refuses to print integers of thousands of digits
        return f"an integer of {value.bit_length()} bits"
    return text if len(text) <= 60 else text[:57] + "..."


@functools.cache
def _all_digits() -> Int8Array:
    digits = (np.arange(NUM_ARCHS)[:, None] // _PLACE_VALUES % NUM_WIDTHS + 1).astype(np.int8)
    digits.flags.writeable = False
    return digits


@functools.lru_cache(maxsize=64)
def _all_costs(space: Space, name: str) -> IntArray:
    """A cost ("flops", "params", "memory") of all architectures in index order, int64 (16384,), read-only."""
    channels = space.channel_counts(space.archs())
    count = {"flops": cost.flops, "params": cost.params, "memory": cost.memory}[name]
    counts: IntArray = count(space.layers, [*channels.T, space.input_shape[0], space.num_classes])
    counts.flags.writeable = False
    return counts


# The full spaces are those of Channel-Bench-Macro (Su et al., BCNetV2); what each slot is stands in models/.
# The mini spaces have the same skeletons, for grey images of 8x8 and 12x12; data/README.md says why these maxima.
BUILT_IN = {
    space.name: space
    for space in (
        Space("resnet", "resnet", (256, 256, 256, 512, 512, 512, 512), (3, 32, 32), "cifar10", "paper"),
        Space("mobilenet", "mobilenet", (128, 768, 768, 768, 256, 1536, 1024), (3, 32, 32), "cifar10", "paper"),
        Space("resnet-mini", "resnet", (8, 8, 8, 16, 16, 16, 16), (1, 8, 8), "digits", "mini"),
        Space("mobilenet-mini", "mobilenet", (8, 24, 24, 24, 12, 48, 32), (1, 8, 8), "digits", "mini"),
        Space("mobilenet-mini-placed", "mobilenet", (16, 8, 8, 24, 24, 8, 48), (1, 12, 12), "digits-placed", "mini"),
    )
}
