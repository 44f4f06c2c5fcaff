"""Masked widths: prefix masks against sub-networks, soft masks against a literal pass, and the warm-up's masks."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

import channel_bench as cb
from channel_bench.recipe import get_recipe
from harness.methods import get_method, mask_gumbel
from harness.methods.mask_gumbel import PREFIXES, masked_forward
from harness.supernet.differentiable import Betas, gumbel
from harness.supernet.network import Supernet
from harness.task import make_task, supernet_recipe

MINI = ["resnet-mini", "mobilenet-mini"]


def task_of(digits, epochs=1, **changes):
    space = cb.get_space("resnet-mini")
    task = make_task(space, digits, recipe=get_recipe(supernet_recipe(space, epochs), batch_size=32), **changes)
    return dataclasses.replace(task, train_images=task.train_images[:192], train_labels=task.train_labels[:192])


def net_of(name):
    return Supernet(cb.get_space(name), torch.Generator().manual_seed(0)).double()


def images_of(count=6):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize("name", MINI)
def test_prefix_masks_are_the_sub_network_of_their_widths(name):
    net = net_of(name)
    for arch in [(1,) * 7, (4,) * 7, *map(tuple, cb.get_space(name).sample(8, np.random.default_rng(0)).tolist())]:
        masks = PREFIXES[torch.tensor(arch) - 1].double()
        assert masks.sum(1).tolist() == list(arch)
        assert torch.allclose(masked_forward(net, images_of(), masks), net(images_of(), arch), atol=1e-10)


@pytest.mark.parametrize("name", MINI)
def test_soft_masks_multiply_what_normalisation_without_scale_and_shift_leaves(name):
    net = net_of(name)
    masks = torch.rand(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = images_of()
    for block in net.blocks:
        y = x
        for layer in block:
            weight = net.weights[layer.key]
            groups = len(weight) if layer.depthwise else 1
            y = functional.conv2d(y, weight, stride=layer.stride, padding=layer.kernel // 2, groups=groups)
            mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), correction=0, keepdim=True)
            y = (y - mean) / (var + 1e-5).sqrt()
            for group, part in enumerate(y.tensor_split(4, 1)):
                part *= masks[layer.writes, group]
            y = x + y if layer.skip else y
            y = functional.relu(y) if layer.relu else y
        x = y
    expected = functional.linear(x.mean((2, 3)), net.classifier_weight, net.classifier_bias)
    found = masked_forward(net, images_of(), masks)
    assert torch.allclose(found, expected, atol=1e-10)
    assert not torch.allclose(found, net(images_of(), (4,) * 7), atol=1e-2)


def test_scales_and_shifts_are_not_trained(digits):
    net = get_method("mask_gumbel").fit(task_of(digits)).supernet
    assert all((scale == 1).all() for scale in net.scales.values())
    assert all((shift == 0).all() for shift in net.shifts.values())


def test_masks_are_mixtures_of_prefixes_by_a_gumbel_softmax():
    method = get_method("mask_gumbel", tau_max=4.0, tau_min=2.0, warmup=0.0)
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    masks = method.masks(logits.log_softmax(1), 0.5, np.random.default_rng(3))
    sample = gumbel(logits.log_softmax(1), 3.0, np.random.default_rng(3)).softmax(1)
    # Group g is there in all widths above it.
    by_hand = torch.stack([sample[:, group:].sum(1) for group in range(4)], 1)
    assert torch.allclose(masks, by_hand) and torch.allclose(masks[:, 0], torch.ones(7))
    (gradient,) = torch.autograd.grad(masks[:, 2].sum(), logits)
    assert (gradient.abs().sum(1) > 0).all()


@pytest.mark.parametrize("progress", [0.0, 0.15, 0.299])
def test_in_the_warm_up_each_slot_is_full_or_a_random_prefix(progress):
    method, rng = get_method("mask_gumbel", warmup=0.3), np.random.default_rng(0)
    drawn = torch.stack([method.masks(torch.zeros(7, 4), progress, rng) for _ in range(600)])
    assert ((drawn == 0) | (drawn == 1)).all() and (drawn.diff(dim=2) <= 0).all()
    digits = drawn.sum(2).long().numpy()
    full = 1 - progress / 0.3
    shares = np.array([(1 - full) / 4] * 3 + [full + (1 - full) / 4])
    if full == 1:
        assert (digits == 4).all()
        return
    for slot in range(7):
        assert stats.chisquare(np.bincount(digits[:, slot], minlength=5)[1:], 600 * shares).pvalue > 1e-4
    # One slot's mask says nothing about another's.
    pairs = np.bincount(4 * digits[:, 1] + digits[:, 5] - 5, minlength=16)
    assert stats.chisquare(pairs, 600 * np.outer(shares, shares).ravel()).pvalue > 1e-4


def test_the_distribution_rests_in_the_warm_up_and_moves_after_it(digits, monkeypatch):
    task = task_of(digits, epochs=2)
    start = Betas(task, std=1e-3).log_probs().detach().numpy()
    resting = get_method("mask_gumbel", warmup=1.0, arch_lr=0.1).fit(task)
    assert resting.slot_effects() == pytest.approx(start, abs=1e-12)
    moved = get_method("mask_gumbel", warmup=0.5, arch_lr=0.1).fit(task)
    assert (np.abs(moved.slot_effects() - start).max(1) > 1e-3).all()
    # A pass for the weights in each step, and one for the distribution where it does not rest.
    passes = []
    forward = mask_gumbel.masked_forward
    monkeypatch.setattr(
        mask_gumbel,
        "masked_forward",
        lambda net, images, masks: passes.append(masks.requires_grad) or forward(net, images, masks),
    )
    get_method("mask_gumbel", warmup=0.5).fit(task)
    assert passes == [False] * 3 + [True, False] * 3
