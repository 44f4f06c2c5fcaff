"""Closed-form costs against the published integers, and against a count over the real modules."""

import json

import numpy as np
import pytest
import torch
from conftest import PUBLISHED_FILES
from torch import nn

import channel_bench as cb
from channel_bench.training.models import build_model


@pytest.mark.parametrize("name", PUBLISHED_FILES)
def test_all_published_costs_are_reproduced_exactly(name, published_dir):
    space = cb.get_space(name)
    rows = json.loads((published_dir / PUBLISHED_FILES[name]).read_text())
    assert len(rows) == 16384
    assert space.flops().tolist() == [rows[text]["flops"] for text in space.texts()]
    assert space.params().tolist() == [rows[text]["params"] for text in space.texts()]


def counted_macs(model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of convolutions and linear layers, from the shapes that really flow."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        fan_in = module.weight[0].numel()
        total += output[0].numel() * fan_in

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    model.eval()(torch.zeros(1, *input_shape))
    return total


@pytest.mark.parametrize("name", cb.list_spaces())
def test_costs_equal_a_count_over_the_modules(name):
    space = cb.get_space(name)
    sample = [space.text(arch) for arch in space.sample(6, np.random.default_rng(0)).tolist()]
    for text in ["1111111", "4444444", *sample]:
        model = build_model(space, text, torch.Generator())
        assert space.params(text) == sum(parameter.numel() for parameter in model.parameters())
        assert space.flops(text) == counted_macs(model, space.input_shape)


def test_known_corners_and_shapes():
    assert cb.get_space("resnet").flops("1111111") == 90_096_896
    assert cb.get_space("resnet").flops("4444444") == 1_436_226_560
    assert cb.get_space("mobilenet").flops("1111111") == 14_285_312
    assert cb.get_space("mobilenet").flops("4444444") == 211_281_920
    space = cb.get_space("mobilenet")
    assert isinstance(space.flops("1111111"), int)
    assert space.flops(["1111111", "4444444"]).tolist() == [14_285_312, 211_281_920]
    assert (space.params(space.archs()) == space.params()).all()


def live_bytes(model: nn.Module, space: cb.Space) -> int:
    """Parameters, and the most activations alive while a layer computes, from the shapes that really flow."""
    sizes: dict[str, tuple[int, int]] = {}

    def note(name):
        def hook(module, inputs, output):
            sizes[name] = inputs[0].numel(), output.numel()

        return hook

    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(note(name))
    model.eval()(torch.zeros(1, *space.input_shape))
    alive = []
    for block in space.blocks:
        kept = sizes[block[0].name][0] if any(layer.skip for layer in block) else 0
        alive += [sum(sizes[layer.name]) + (kept if place else 0) for place, layer in enumerate(block)]
    return 4 * (sum(parameter.numel() for parameter in model.parameters()) + max(alive))


@pytest.mark.parametrize("name", ["resnet-mini", "mobilenet-mini", "mobilenet"])
def test_memory_equals_a_count_over_the_modules(name):
    space = cb.get_space(name)
    for text in ["1111111", "4444444", "2143214", "4111111"]:
        assert space.memory(text) == live_bytes(build_model(space, text, torch.Generator()), space)


def test_memory_by_hand():
    """The stem makes 2 x 4 x 4; most is alive in block 1's second convolution: input, output and the skip line."""
    space = cb.get_space("resnet-mini")
    assert space.max_channels[0] == 8
    assert space.memory("1111111") == 4 * (space.params("1111111") + 3 * 2 * 4 * 4)
