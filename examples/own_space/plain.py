"""A family of one's own: a plain network in the manner of VGG, seven 3x3 convolutions and no skip connection.

    channel-bench train examples/own_space/plain-mini.toml 4321234

Slot i is the width of convolution i. The second and the fifth one halve the size of the image.
"""

from channel_bench.space.layers import CLASSES, IMAGE, Layer

STRIDES = (1, 2, 1, 1, 2, 1, 1)


def plain(image_size):
    """The layers for images of (height, width), in the order of the forward pass."""
    layers, reads, size = [], IMAGE, image_size
    for slot, stride in enumerate(STRIDES):
        layers.append(Layer(f"conv{slot}.0", reads, slot, size, kernel=3, stride=stride))
        reads, size = slot, layers[-1].output_size
    return [*layers, Layer("classifier", reads, CLASSES, size, relu=False)]
