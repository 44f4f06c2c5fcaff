"""Families that the package does not have, for tests: each bends another rule that the built-in two happen to keep."""

from __future__ import annotations

from channel_bench.space import Space
from channel_bench.space.layers import CLASSES, IMAGE, Layer


def chain(image_size, parts):
    """Layers that read what the one before them writes: (name, slot, keywords of Layer) each."""
    layers, reads, size = [], IMAGE, image_size
    for name, writes, more in parts:
        layers.append(Layer(name, reads, writes, size, **more))
        reads, size = writes, layers[-1].output_size
    return (*layers, Layer("classifier", reads, CLASSES, size, relu=False))


THREE, HALF = {"kernel": 3}, {"kernel": 3, "stride": 2}


def plain(image_size):
    """Seven convolutions, no skip line; the classifier reads a slot that nothing else reads."""
    return chain(image_size, [(f"conv{slot}.0", slot, HALF if slot in (1, 4) else THREE) for slot in range(7)])


def deep(image_size):
    """Two convolutions a slot: the second one reads the slot that it writes, and is not depthwise."""
    return chain(
        image_size,
        [
            (f"conv{slot}.{2 * n}", slot, HALF if slot in (2, 5) and not n else THREE)
            for slot in range(7)
            for n in (0, 1)
        ],
    )


def mixed(image_size):
    """A hidden slot in two blocks, a skip line around one layer and a depthwise start, a layer without activation."""
    depthwise = {"kernel": 3, "depthwise": True}
    return chain(
        image_size,
        [
            ("stem.0", 0, THREE),
            ("block1.0", 1, THREE),
            ("block1.3", 0, {**THREE, "skip": True}),
            ("block2.0", 1, {}),
            ("block2.3", 0, {"skip": True, "relu": False}),
            ("block3.0", 0, depthwise),
            ("block3.2", 0, {"skip": True}),
            ("block4.0", 2, {**HALF, "relu": False}),
            ("block5.0", 2, {**THREE, "skip": True}),
            ("block6.0", 3, {}),
            ("block6.3", 3, depthwise),
            ("block6.6", 4, {"relu": False}),
            ("block7.0", 5, THREE),
            ("block7.3", 6, THREE),
            ("out.0", 4, {}),
        ],
    )


def space_of(layers, maxima=(4, 8, 8, 8, 12, 12, 12), input_shape=(1, 8, 8), **more) -> Space:
    """A space of one of these families, which is not registered."""
    name = layers.__name__
    facts = {"dataset": "digits", "recipe": "mini", "own_layers": layers(input_shape[1:]), **more}
    return Space(f"{name}-mini", f"families.py:{name}", maxima, input_shape, **facts)


FAMILIES = (plain, deep, mixed)
