"""Partial sums by one grouped convolution and by dense ones: equal, and the faster one is taken where measured."""

import itertools

import numpy as np
import pytest
import torch
from test_exhaustive import all_logits, one_by_one, pixels
from test_supernet import MINI, make_supernet
from torch.nn import functional

import channel_bench as cb
from harness.supernet import cumulation
from harness.supernet.cumulation import WAYS, faster, partial_sums
from harness.supernet.network import PATHS

RESNET = cb.get_space("resnet")
LAYERS = {(layer.kernel, layer.stride): layer for block in RESNET.blocks for layer in block}


@pytest.mark.parametrize("shape", list(LAYERS))
@pytest.mark.parametrize("num_groups", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_partial_sums_add_up_to_the_convolution_in_both_ways(shape, num_groups, dtype):
    layer, generator = LAYERS[shape], torch.Generator().manual_seed(0)
    x = torch.randn(3, 8 * num_groups, 9, 9, generator=generator).to(dtype)
    weight = torch.randn(10, 8 * num_groups, layer.kernel, layer.kernel, generator=generator).to(dtype)
    whole = functional.conv2d(x.double(), weight.double(), stride=layer.stride, padding=layer.kernel // 2)
    found = [partial_sums(layer, x, weight, num_groups, way) for way in WAYS]
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype] * whole.std()
    assert (found[0].double() - found[1].double()).abs().max() <= tolerance
    for sums in found:
        assert sums.shape == (3, num_groups, *whole.shape[1:]) and sums.dtype == dtype
        assert (sums.double().sum(1) - whole).abs().max() <= tolerance


@pytest.mark.parametrize(("name", "path"), list(itertools.product(MINI, PATHS)))
def test_a_walk_gives_the_same_in_both_ways(name, path):
    archs = cb.get_space(name).sample(40, np.random.default_rng(1))
    net = make_supernet(name, 5, dtype=torch.float64)
    exact = one_by_one(net, pixels(5), archs, path)
    for way in WAYS:
        assert (all_logits(net, pixels(5), archs, path, way=way) - exact).abs().max() < 1e-9


def test_the_faster_way_is_measured_once_for_each_shape(monkeypatch):
    monkeypatch.setattr(cumulation, "_chosen", {})
    layer, measured = LAYERS[3, 1], []
    for first in range(2):
        times = iter([2.0 - first, 1.0 + first])
        monkeypatch.setattr(cumulation, "seconds", lambda call, times=times: measured.append(call()) or next(times))
        x, blocks = torch.randn(2, 8 + 4 * first, 5, 5), torch.randn(12, 2 + first, 3, 3)
        # The second call would find no more times.
        assert [faster(layer, x, blocks, 4) for _ in range(2)] == [WAYS[1 - first]] * 2
    assert [len(result) for result in measured] == [2] * 4


def test_on_a_cpu_no_clock_decides(monkeypatch):
    monkeypatch.setattr(cumulation, "seconds", lambda call: pytest.fail("measured"))
    x, weight = torch.randn(2, 8, 5, 5), torch.randn(3, 8, 3, 3)
    found = partial_sums(LAYERS[3, 1], x, weight, 4)
    assert torch.equal(found, partial_sums(LAYERS[3, 1], x, weight, 4, "grouped"))


def test_a_time_is_the_shortest_of_some_calls():
    calls = []
    assert 0 <= cumulation.seconds(lambda: calls.append(1)) < 1
    assert len(calls) == 1 + cumulation.MEASURED_CALLS
