"""Families of networks: the two built in, and those of others, registered, installed, or named by module or file.

    >>> @register_family("plain")
    ... def plain(image_size):
    ...     stem = Layer("stem.0", IMAGE, 0, image_size, kernel=3, stride=2)
    ...     return (stem, ..., Layer("classifier", 6, CLASSES, size, relu=False))

A family is one function from the size of an image to the layers as data. All else follows from them: costs, latencies,
the networks in PyTorch (training/models/layered.py), the compiled trainer where it can, and the weight-shared network.
`check_layers` says what they must be.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from channel_bench.errors import ArgumentError, ChannelBenchError, unknown_name
from channel_bench.space.layers import CLASSES, IMAGE, NUM_SLOTS, Layer, blocks_of, mobilenet_layers, resnet_layers
from channel_bench.support.loading import run_as_module
from channel_bench.support.reading import MIB, read_file

LayersOf = Callable[[tuple[int, int]], Sequence[Layer]]
"""Height and width of an image to the layers of its networks; each layer's channels are the slots that it names."""

GROUP = "channel_bench.families"
"""Entry-point group under which installed packages offer families."""
MAX_LAYERS, MAX_KERNEL, MAX_STRIDE = 1000, 15, 16
MAX_CODE_BYTES = MIB

_BUILT_IN: dict[str, LayersOf] = {"resnet": resnet_layers, "mobilenet": mobilenet_layers}
_registered: dict[str, LayersOf] = {}
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,59}")
_LAYER_NAME = re.compile(r"(stem|out|[a-z]{1,20}[0-9]{1,4})\.(0|[1-9][0-9]{0,3})")


def is_built_in(family: str) -> bool:
    """Whether a family comes with this package, with networks written out in training/models."""
    return family in _BUILT_IN


def list_families() -> list[str]:
    """Names of the families that are built in or registered in this process."""
    return [*_BUILT_IN, *_registered]


def register_family(name: str) -> Callable[[LayersOf], LayersOf]:
    """Decorator that gives a family a name in this process; registering a name again replaces its family.

    Args:
        name: Lower-case letters, digits, "-" and "_", as a space names it.

    Raises:
        ArgumentError: The name is none, or belongs to a built-in family.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ArgumentError(f"name of a family is {str(name)[:60]!r}: allowed are lower-case letters, digits, - and _")
    if name in _BUILT_IN:
        raise ArgumentError(f"family {name!r} is built in: choose another name")

    def decorate(layers: LayersOf) -> LayersOf:
        _registered[name] = layers
        return layers

    return decorate


def layers_of(family: str, image_size: tuple[int, int], folder: Path | None = None) -> tuple[Layer, ...]:
    """The layers of a family's networks; `Space.layers` has those of a space.

    Args:
        family: The name of a family that is built in, registered or installed; "module:function"; or
            "file.py:function", whose code is run.
        image_size: Height and width of an image.
        folder: Where a file is looked for; default the current folder.

    Returns:
        Layers in the order of the forward pass; the last one is the classifier.

    Raises:
        UnknownNameError: There is no such family, or no such function in the module or file.
        MissingDataError, CorruptFileError: The file is missing, or no regular file of a reasonable size.
        ArgumentError: The code cannot be imported or run, or its layers are no network (`check_layers`).
    """
    if family in _BUILT_IN:
        return tuple(_BUILT_IN[family](image_size))
    found = _find(family, folder or Path())
    try:
        layers = found(image_size)
    except Exception as error:
        raise ArgumentError(f"family {family!r} gives no layers for images of {image_size}: {_shown(error)}") from error
    return check_layers(family, layers, image_size)


def check_layers(family: str, layers: Any, image_size: tuple[int, int]) -> tuple[Layer, ...]:
    """Refuse layers that are no network of seven widths.

    - Layers are a chain: each reads what the one before it writes, slot and size; the first one reads IMAGE, and the
      last one is ``Layer("classifier", slot, CLASSES, size, relu=False)``.
    - Slots are numbered in the order in which they are first written, 0 to 6, all of them.
    - Names are BLOCK.POSITION: the block "stem", "out" or letters with a number ("conv3"), its layers next to each
      other, and positions two apart at least, because the normalisation has the next one.
    - A depthwise layer reads the slot that it writes.
    - A skip line ends at the last layer of its block, which writes the slot and the size that the block reads.
    - Kernels are odd, because convolutions are padded by half of them.

    Args:
        family: Its name, for the message.
        layers: What the family gave.
        image_size: Height and width of an image.

    Returns:
        The layers.

    Raises:
        ArgumentError: The first thing that is wrong.
    """
    try:
        found = tuple(layers)
    except TypeError:
        found = ()
    if not 2 <= len(found) <= MAX_LAYERS or not all(isinstance(layer, Layer) for layer in found):
        raise ArgumentError(
            f"family {family!r} gives no layers: allowed are 2 to {MAX_LAYERS} of channel_bench's Layer"
        )
    try:
        for layer in found:
            _check_types(layer)
        _check_chain(found, image_size)
        _check_names(found[:-1])
        _check_slots(found[:-1])
        for block in blocks_of(found):
            _check_skip(block)
    except _WrongLayer as error:
        layer, what = error.args
        raise ArgumentError(f"family {family!r}, layer {str(layer.name)[:60]!r}: {what}") from None
    num_slots = len({layer.writes for layer in found[:-1]})
    if num_slots != NUM_SLOTS:
        raise ArgumentError(f"family {family!r} writes {num_slots} slots: allowed are {NUM_SLOTS}, 0 to 6")
    return found


class _WrongLayer(Exception):
    """A layer, and what is wrong with it."""


def _check_types(layer: Layer) -> None:
    """The fields of a layer are of the right types, and in range."""
    if not isinstance(layer.name, str):
        raise _WrongLayer(layer, "its name is no text")
    size = layer.input_size
    if not (isinstance(size, tuple) and len(size) == 2 and all(type(edge) is int and edge >= 1 for edge in size)):
        raise _WrongLayer(layer, f"input_size is {str(size)[:60]}: allowed are two whole numbers >= 1, (height, width)")
    for name, allowed, what in (
        ("reads", (*range(NUM_SLOTS), IMAGE), "slots 0..6, or IMAGE"),
        ("writes", (*range(NUM_SLOTS), CLASSES), "slots 0..6, or CLASSES for the classifier"),
        ("kernel", range(1, MAX_KERNEL + 1, 2), f"odd numbers 1..{MAX_KERNEL}"),
        ("stride", range(1, MAX_STRIDE + 1), f"whole numbers 1..{MAX_STRIDE}"),
    ):
        value = getattr(layer, name)
        if type(value) is not int or value not in allowed:
            raise _WrongLayer(layer, f"{name} is {str(value)[:60]!r}: allowed are {what}")
    for name in ("depthwise", "relu", "skip"):
        if type(getattr(layer, name)) is not bool:
            raise _WrongLayer(layer, f"{name} is {str(getattr(layer, name))[:60]!r}: allowed are True and False")


def _check_chain(layers: Sequence[Layer], image_size: tuple[int, int]) -> None:
    """Each layer reads what the one before it writes, and the last one is the classifier."""
    slot, size = IMAGE, image_size
    for layer in layers:
        if layer.writes == CLASSES and layer is not layers[-1]:
            raise _WrongLayer(layer, "only the last layer, 'classifier', writes CLASSES")
        if (layer.reads, layer.input_size) != (slot, size):
            raise _WrongLayer(
                layer,
                f"it reads {_named(layer.reads)} of {layer.input_size} pixels, the layer before it writes"
                f" {_named(slot)} of {size}",
            )
        if layer.depthwise and layer.reads != layer.writes:
            raise _WrongLayer(
                layer, f"it is depthwise, but reads {_named(layer.reads)} and writes {_named(layer.writes)}"
            )
        slot, size = layer.writes, layer.output_size
    last = layers[-1]
    if last != Layer("classifier", last.reads, CLASSES, last.input_size, relu=False):
        raise _WrongLayer(last, "the last layer must be Layer('classifier', SLOT, CLASSES, SIZE, relu=False)")


def _check_names(layers: Sequence[Layer]) -> None:
    """Convolutions have names of blocks and positions that leave room for their normalisations."""
    last: dict[str, int] = {}
    for layer in layers:
        name = _LAYER_NAME.fullmatch(layer.name)
        if name is None:
            raise _WrongLayer(layer, "allowed are names BLOCK.POSITION, with a block 'stem', 'out' or such as 'conv3'")
        block, position = name[1], int(name[2])
        if block in last and block != next(reversed(last)):
            raise _WrongLayer(layer, f"the layers of block {block!r} do not follow each other")
        if position < last.get(block, -2) + 2:
            raise _WrongLayer(layer, "positions within a block must be two apart: the normalisation has the next one")
        last[block] = position


def _check_slots(layers: Sequence[Layer]) -> None:
    """Slots have their numbers in the order in which they are first written: `harness.supernet` decides them so."""
    num_written = 0
    for layer in layers:
        if layer.writes > num_written:
            raise _WrongLayer(
                layer, f"it writes slot {layer.writes} before slot {num_written}: number slots as they are written"
            )
        num_written = max(num_written, layer.writes + 1)


def _check_skip(block: Sequence[Layer]) -> None:
    """A skip line joins the input of a block to its output."""
    first, last = block[0], block[-1]
    joins = first.reads == last.writes and first.input_size == last.output_size
    for layer in block:
        if layer.skip and not (layer is last and joins):
            raise _WrongLayer(
                layer,
                "a skip line ends at the last layer of its block, with the slot and the size that the block reads",
            )


def _named(slot: int) -> str:
    return {IMAGE: "IMAGE", CLASSES: "CLASSES"}.get(slot, f"slot {slot}")


def _find(family: str, folder: Path) -> LayersOf:
    """The function of a family that is not built in; errors as `layers_of`."""
    if family in _registered:
        return _registered[family]
    source, colon, name = family.rpartition(":")
    if colon:
        module = _import(source, folder)
        function = getattr(module, name, None)
        if not callable(function):
            functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise unknown_name(f"family of {source!r}", name, functions)
        layers: LayersOf = function
        return layers
    if family.endswith(".py"):
        raise ArgumentError(f"family {family!r} is a file: add the function that gives its layers, {family}:FUNCTION")
    installed = installed_in(GROUP)
    if family in installed:
        their_layers: LayersOf = load_installed("family", family, installed[family])
        return their_layers
    known = [*list_families(), *installed, "file.py:function", "module:function"]
    raise unknown_name("family", family, known)


def installed_in(group: str) -> dict[str, Any]:
    """Entry points of a group by name; looked up only where a name is not known otherwise."""
    import importlib.metadata

    return {entry.name: entry for entry in importlib.metadata.entry_points(group=group)}


def load_installed(kind: str, name: str, entry_point: Any) -> Any:
    """What an entry point names.

    Raises:
        ArgumentError: It cannot be imported.
    """
    try:
        return entry_point.load()
    except Exception as error:
        raise ArgumentError(
            f"installed {kind} {name!r} ({entry_point.value}) cannot be imported: {_shown(error)}"
        ) from error


def _import(source: str, folder: Path) -> ModuleType:
    """Import a module by name or a file by path."""
    try:
        return _import_file(folder / source) if source.endswith(".py") else importlib.import_module(source)
    except ChannelBenchError:
        raise
    except (Exception, SystemExit) as error:
        raise ArgumentError(f"cannot import {source[:200]!r}: {_shown(error)}") from error


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name that follows from its content, so that an edited file is a module of its own."""
    content = read_file(path, "file of a family", MAX_CODE_BYTES)
    name = f"channel_bench_family_{hashlib.sha256(str(path.resolve()).encode() + content).hexdigest()[:16]}"
    return sys.modules[name] if name in sys.modules else run_as_module(path, name)


def _shown(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
