"""The layers as data against the networks as modules."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import channel_bench as cb
from channel_bench.space import NUM_SLOTS, Space
from channel_bench.space.layers import CLASSES, IMAGE
from channel_bench.training.models import build_model

SPACES = [cb.get_space(name) for name in cb.list_spaces()]
ODD = [
    Space("odd", family, (8,) * 7, (2, 13, 7), "digits", "mini", num_classes=3) for family in ("resnet", "mobilenet")
]
"""Images whose sides are no multiple of four, nor equal."""


def model_of(space, arch):
    return build_model(space, arch, torch.Generator().manual_seed(0)).eval()


def images_of(space):
    return torch.randn(2, *space.input_shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("space", SPACES + ODD, ids=lambda space: f"{space.name}-{space.family}")
def test_every_layer_is_what_the_module_of_its_name_does(space):
    arch = tuple(space.sample(1, np.random.default_rng(0))[0].tolist())
    widths = [*space.channels(arch), space.input_shape[0], space.num_classes]
    model, seen = model_of(space, arch), []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda *call, name=name: seen.append((name, *call)))
    model(images_of(space))
    assert [layer.name for layer in space.layers] == [name for name, *_ in seen]
    for layer, (_, module, (x,), y) in zip(space.layers, seen, strict=True):
        assert (x.shape[1], y.shape[1]) == (widths[layer.reads], widths[layer.writes])
        if layer.writes == CLASSES:
            assert isinstance(module, nn.Linear) and (layer.kind, layer.output_size) == ("classifier", (1, 1))
            continue
        assert (tuple(x.shape[2:]), tuple(y.shape[2:])) == (layer.input_size, layer.output_size)
        assert module.kernel_size == (layer.kernel,) * 2 and module.stride == (layer.stride,) * 2
        assert module.padding == (layer.kernel // 2,) * 2 and module.bias is None
        assert module.groups == (x.shape[1] if layer.depthwise else 1)
        norm = model.get_submodule(layer.norm)
        assert isinstance(norm, nn.BatchNorm2d) and norm.num_features == y.shape[1]
    assert space.layers[-1].input_size == space.layers[-2].output_size


@pytest.mark.parametrize("space", SPACES + ODD, ids=lambda space: f"{space.name}-{space.family}")
def test_the_chain_of_blocks_is_the_forward_pass(space):
    model, x = model_of(space, "1" * NUM_SLOTS), images_of(space)
    with torch.no_grad():
        expected = model(x)
        for block in space.blocks:
            y = x
            for layer in block:
                y = model.get_submodule(layer.norm)(model.get_submodule(layer.name)(y))
                y = x + y if layer.skip else y
                y = functional.relu(y) if layer.relu else y
            x = y
        assert torch.equal(model.classifier(x.mean((2, 3))), expected)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_blocks_are_all_layers_but_the_classifier_and_slots_are_the_seven(space):
    *convolutions, classifier = space.layers
    assert [layer for block in space.blocks for layer in block] == convolutions
    assert [block[0].block for block in space.blocks] == list(dict.fromkeys(layer.block for layer in convolutions))
    assert convolutions[0].slots == (0,) and len(classifier.slots) == 1
    assert {slot for layer in space.layers for slot in layer.slots} == set(range(NUM_SLOTS))
    assert {IMAGE, CLASSES}.isdisjoint(range(NUM_SLOTS))
    for block in space.blocks:  # a skip line joins what one slot sets
        assert not block[-1].skip or block[0].reads == block[-1].writes


def test_the_layers_need_no_torch():
    code = "import sys; import channel_bench as cb;print(len(cb.get_space('resnet').layers), 'torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "12 False\n"
    )
