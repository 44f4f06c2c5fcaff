"""Networks made from layers as data: the same as those written out, and trained alike by every program."""

import dataclasses

import numpy as np
import pytest
import torch
from families import FAMILIES, chain, mixed, plain, space_of
from test_native import generator, torch_steps, train
from torch import nn
from torch.nn import functional

import channel_bench as cb
from channel_bench.recipe import get_recipe
from channel_bench.space import Space
from channel_bench.space.families import check_layers
from channel_bench.space.space import BUILT_IN
from channel_bench.training import native
from channel_bench.training.backends import pick_backend
from channel_bench.training.datasets import make_dataset
from channel_bench.training.models import build_model
from channel_bench.training.models.stacked import StackedModel
from harness.check.checker import check_method
from harness.judge.baselines import num_paths
from harness.method import METHODS

ARCHS = ["4444444", "1111111", "1413214", "3142341"]
SPACES = [space_of(family) for family in FAMILIES]


def as_own(name):
    """A space of the package, as if its family were somebody else's."""
    space = cb.get_space(name)
    return dataclasses.replace(space, family="somebody's", own_layers=space.layers)


@pytest.mark.parametrize("name", cb.list_spaces())
def test_the_network_of_a_built_in_family_made_from_its_layers_is_the_one_written_out(name):
    space, own = cb.get_space(name), as_own(name)
    assert check_layers("somebody's", space.layers, space.input_shape[1:]) == space.layers
    for arch in ARCHS[1:]:
        written = build_model(space, arch, torch.Generator().manual_seed(0))
        made = build_model(own, arch, torch.Generator().manual_seed(0))
        there, wanted = made.state_dict(), written.state_dict()
        assert list(there) == list(wanted) and all(torch.equal(there[key], wanted[key]) for key in wanted)
        images = torch.randn(4, *space.input_shape, generator=torch.Generator().manual_seed(1))
        for training in (True, False):  # the second pass uses the statistics that the first left behind
            assert torch.equal(made.train(training)(images), written.train(training)(images))


def test_what_follows_from_layers_is_the_same_for_a_family_of_ones_own():
    for name in BUILT_IN:
        space, own = cb.get_space(name), as_own(name)
        for cost in ("flops", "params", "memory"):
            assert np.array_equal(getattr(own, cost)(), getattr(space, cost)())
        assert own.fingerprint != space.fingerprint


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_costs_are_those_of_the_modules(space):
    for arch in ARCHS:
        model = build_model(space, arch, torch.Generator())
        macs = []

        def count(module, _, y, macs=macs):
            macs.append(module.weight[0].numel() * y[0].numel())

        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.register_forward_hook(count)
        model.eval()(torch.zeros(1, *space.input_shape))
        assert space.flops(arch) == sum(macs)
        assert space.params(arch) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_each_network_of_a_stack_computes_what_it_computes_alone(space):
    generators = [[torch.Generator().manual_seed(number) for number in range(len(ARCHS))] for _ in range(2)]
    stack = StackedModel(space, ARCHS, generators[0]).double()
    alone = [build_model(space, arch, each).double() for arch, each in zip(ARCHS, generators[1], strict=True)]
    images = torch.rand(6, len(ARCHS), *space.input_shape, generator=torch.Generator().manual_seed(9)).double()
    for training in (True, False, True):
        logits = stack.train(training)(images)
        for number, model in enumerate(alone):
            assert torch.allclose(logits[:, number], model.train(training)(images[:, number]), atol=1e-12, rtol=0)


@pytest.mark.parametrize("arch", ["4444444", "1231423"])
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_a_step_of_the_native_trainer_is_that_of_pytorch_in_double_precision(space, arch, digits):
    reason = native.reason_not(space, get_recipe("mini"), digits)
    if reason is not None:
        pytest.skip(f"no native trainer here: {reason}")
    rng = np.random.default_rng(0)
    split = (rng.integers(256, size=(80, 1, 8, 8), dtype=np.uint8), rng.integers(10, size=80))
    dataset, recipe = make_dataset("noise", split, split), get_recipe("mini", epochs=1, batch_size=80)
    run = train(space, arch, recipe, dataset)
    model = build_model(space, arch, generator())
    flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert np.array_equal(native.initial_parameters(space, arch, generator()), flat.numpy())
    parameters, statistics, loss = torch_steps(model, recipe, dataset, torch.float64)
    assert np.median(np.abs(run.parameters - parameters)) < 1e-7
    assert np.abs(run.parameters - parameters).max() < 1e-4
    assert np.abs(run.statistics - statistics).max() < 2e-6
    assert run.curves["train_loss"][0] == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(
    ("stem", "what"),
    [
        ({"kernel": 5}, "5x5 convolution of stride 1"),
        ({"kernel": 1, "stride": 2}, "1x1 convolution of stride 2"),
        ({"kernel": 3, "stride": 4}, "3x3 convolution of stride 4"),
    ],
)
def test_what_the_native_trainer_has_no_convolution_for_is_trained_by_pytorch(stem, what, digits):
    def other(image_size):
        return chain(image_size, [("stem.0", 0, stem)] + [(f"conv{slot}.0", slot, {}) for slot in range(1, 7)])

    space = space_of(other)
    backend, reason = pick_backend(space, get_recipe("mini"), digits)
    assert backend == "torch" and what in reason and "'stem.0'" in reason
    odd = Space("odd", "plain", (8,) * 7, (1, 12, 12), "digits", "mini", own_layers=plain((12, 12)))
    images = np.zeros((64, 1, 12, 12), np.uint8)
    split = (images, np.zeros(64, np.int64))
    recipe = get_recipe("mini")
    assert "3x3 convolution of stride 2" not in str(native.reason_not(odd, recipe, make_dataset("x", split, split)))
    three_halves = dataclasses.replace(odd, own_layers=(*_halved((12, 12)),))
    assert "stride 2" in str(native.reason_not(three_halves, recipe, make_dataset("x", split, split)))


def _halved(image_size):
    """12, 6, 3 and then 2 pixels."""
    half = {"kernel": 3, "stride": 2}
    return chain(image_size, [(f"conv{slot}.0", slot, half if slot < 3 else {}) for slot in range(7)])


def test_bfloat16_and_a_skip_line_run_through_the_network():
    space = space_of(mixed)
    model = build_model(space, "4321234", torch.Generator().manual_seed(0))
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert logits.dtype == torch.float32 and torch.isfinite(logits).all()
    loss = functional.cross_entropy(model(images), torch.zeros(8, dtype=torch.int64))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_paths_are_what_a_network_of_ones_gives(space):
    net = build_model(space, "3142341", torch.Generator()).double()
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent, _, own = name.rpartition(".")
            setattr(net.get_submodule(parent), own, nn.Identity())
        elif isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"  # an image without a border
            module._reversed_padding_repeated_twice = [part for part in module.padding for _ in range(2)]
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    logits = net.eval()(torch.ones(1, *space.input_shape, dtype=torch.float64))
    count = num_paths(space)[space.index("3142341")]
    assert logits[0].tolist() == pytest.approx([float(count)] * 10, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("method", METHODS.built_in)
def test_every_method_keeps_its_contract_on_families_that_it_does_not_know(method, space):
    failed = [finding for finding in check_method(method, space) if finding.failed]
    assert failed == []
