"""The layers of the networks as data: what each is, and which slots give its input and output channels.

    >>> [layer.name for layer in get_space("resnet").layers if layer.stride == 2]
    ['stem.0', 'block3.0']

The one description of a skeleton. From it follow the costs (cost.py), the look-up tables of latency (latency/), the
memory of a run (builder/packing.py), the compiled trainer (training/native/) and the weight-shared network
(harness/supernet). Here are the layers of both built-in families, which training/models also writes out as PyTorch
modules; tests compare the two. families.py finds and checks those of other families.

A network is a chain of blocks: the stem, four or five blocks of two or three convolutions, in MobileNet an output
convolution, then the classifier. Every convolution is without bias and has a batch normalisation behind it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

NUM_SLOTS = 7
IMAGE, CLASSES = 7, 8
"""Stand for the image and the classes where a layer names a slot. They go on behind the seven slots, so that a list of
nine numbers of channels needs no cases, and a list of seven digits refuses them."""


@dataclass(frozen=True)
class Layer:
    """A convolution with its normalisation and what follows it, or the pooling with the linear layer."""

    name: str
    """Name of its convolution or linear layer in the network (channel_bench/training/models)."""
    reads: int
    """Slot of its input channels, or IMAGE."""
    writes: int
    """Slot of its output channels, or CLASSES."""
    input_size: tuple[int, int]
    """Height and width of its input."""
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    """Whether each output channel reads one input channel; reads and writes are then the same slot."""
    relu: bool = True
    """Whether an activation follows (after the sum, where there is one)."""
    skip: bool = False
    """Whether the skip line, the input of its block, is added to its output."""

    @property
    def slots(self) -> tuple[int, ...]:
        """Slots whose digits its width depends on: what it reads, then what it writes."""
        return tuple(dict.fromkeys(slot for slot in (self.reads, self.writes) if slot not in (IMAGE, CLASSES)))

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of its output; convolutions are padded by half a kernel."""
        height, width = self.input_size
        return (-(-height // self.stride), -(-width // self.stride)) if self.writes != CLASSES else (1, 1)

    @property
    def kind(self) -> str:
        """One of "stem", "depthwise", "conv3x3", "conv1x1", "classifier"."""
        if self.writes == CLASSES:
            return "classifier"
        if self.reads == IMAGE:
            return "stem"
        return "depthwise" if self.depthwise else f"conv{self.kernel}x{self.kernel}"

    @property
    def block(self) -> str:
        """Name of its block in the network."""
        return self.name.partition(".")[0]

    @property
    def norm(self) -> str:
        """Name of its normalisation in the network; the classifier has none."""
        assert self.writes != CLASSES
        position = int(self.name.rpartition(".")[2])
        return f"{self.block}.{position + 1}"

    @property
    def key(self) -> str:
        """Its name without dots, which PyTorch's containers refuse."""
        return self.name.replace(".", "_")


def blocks_of(layers: Sequence[Layer]) -> tuple[tuple[Layer, ...], ...]:
    """Group all layers but the last one, the classifier, by block; `Space.blocks` has those of a space."""
    return tuple(tuple(block) for _, block in itertools.groupby(layers[:-1], lambda layer: layer.block))


@functools.cache
def resnet_layers(image_size: tuple[int, int]) -> tuple[Layer, ...]:
    """The layers of a ResNet for images of (height, width), in the order of the forward pass."""
    stem = Layer("stem.0", IMAGE, 0, image_size, kernel=3, stride=2)
    half = stem.output_size
    stage1 = _basic_block(1, 0, 1, 0, half) + _basic_block(2, 0, 2, 0, half)
    down = _basic_block(3, 0, 3, 4, half, stride=2)
    quarter = down[-1].output_size
    stage2 = _basic_block(4, 4, 5, 4, quarter) + _basic_block(5, 4, 6, 4, quarter)
    return (stem, *stage1, *down, *stage2, Layer("classifier", 4, CLASSES, quarter, relu=False))


@functools.cache
def mobilenet_layers(image_size: tuple[int, int]) -> tuple[Layer, ...]:
    """The layers of a MobileNet; argument and result as `resnet_layers`."""
    stem = Layer("stem.0", IMAGE, 0, image_size, kernel=3, stride=2)
    half = stem.output_size
    stage1 = _inverted_block(1, 0, 1, 0, half) + _inverted_block(2, 0, 2, 0, half)
    down = _inverted_block(3, 0, 3, 4, half, stride=2)
    quarter = down[-1].output_size
    stage2 = (*_inverted_block(4, 4, 5, 4, quarter), Layer("out.0", 4, 6, quarter))
    return (stem, *stage1, *down, *stage2, Layer("classifier", 6, CLASSES, quarter, relu=False))


def _basic_block(
    number: int, reads: int, hidden: int, writes: int, size: tuple[int, int], stride: int = 1
) -> tuple[Layer, ...]:
    """Two 3x3 convolutions; a block that halves the size has no skip line."""
    first = Layer(f"block{number}.0", reads, hidden, size, kernel=3, stride=stride)
    return (first, Layer(f"block{number}.3", hidden, writes, first.output_size, kernel=3, skip=stride == 1))


def _inverted_block(
    number: int, reads: int, expanded: int, writes: int, size: tuple[int, int], stride: int = 1
) -> tuple[Layer, ...]:
    """A 1x1 convolution that expands, a depthwise one, a linear 1x1; a block that halves the size has no skip line."""
    expand = Layer(f"block{number}.0", reads, expanded, size)
    filters = Layer(f"block{number}.3", expanded, expanded, size, kernel=3, stride=stride, depthwise=True)
    project = Layer(f"block{number}.6", expanded, writes, filters.output_size, relu=False, skip=stride == 1)
    return (expand, filters, project)
