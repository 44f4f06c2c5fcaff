"""TAS and HTAS against a literal, padded forward pass, closed forms and synthetic latencies; what learns from what."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

import channel_bench as cb
from channel_bench.errors import ArgumentError, CorruptFileError, MethodError, MissingDataError
from channel_bench.latency import Conditions, LatencyModel
from channel_bench.recipe import get_recipe
from channel_bench.space.layers import CLASSES, IMAGE
from channel_bench.training.datasets import TrainLoader
from channel_bench.training.models import build_model
from harness.methods import get_method
from harness.methods.htas import mac_slopes, measured_slopes, way_to_widest
from harness.methods.tas import DistributionEvaluator, draw_pairs, interpolate, mixed_forward, share_depthwise_norms
from harness.supernet.differentiable import (
    ARCH_BATCHES,
    Betas,
    check_temperatures,
    expected_macs,
    gumbel,
    search_widths,
    temperature,
)
from harness.supernet.loss_records import LossRecords
from harness.supernet.network import Supernet
from harness.supernet.training import BATCHES, make_supernet
from harness.task import make_task, supernet_recipe

SPACE = cb.get_space("resnet-mini")
MINI = ["resnet-mini", "mobilenet-mini"]
WIDEST = (4,) * 7


def task_of(digits, name="resnet-mini", epochs=1, num_images=192, **changes):
    """A task of few images, in batches of 32 without augmentation."""
    space = cb.get_space(name)
    recipe = get_recipe(supernet_recipe(space, epochs), batch_size=32, crop_padding=0)
    task = make_task(space, digits, recipe=recipe, **changes)
    return dataclasses.replace(
        task, train_images=task.train_images[:num_images], train_labels=task.train_labels[:num_images]
    )


def net_of(name, norm_per_width=True, dtype=torch.float64):
    """A supernet whose scales and shifts differ between widths and channels, as after training."""
    net = Supernet(cb.get_space(name), torch.Generator().manual_seed(0), norm_per_width=norm_per_width)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for scale, shift in zip(net.scales.values(), net.shifts.values(), strict=True):
            scale.uniform_(0.5, 1.5, generator=generator)
            shift.uniform_(-0.5, 0.5, generator=generator)
    share_depthwise_norms(net)
    return net.to(dtype)


def images_of(count=6, dtype=torch.float64):
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(9)).to(dtype)


# -- temperatures and samples -----------------------------------------------------------------------------------


def test_temperatures_fall_from_the_first_to_the_last_by_cosine_or_line():
    assert [temperature(5, 0.1, "cosine", progress) for progress in (0, 0.5, 1)] == pytest.approx([5, 2.55, 0.1])
    assert temperature(5, 0.1, "cosine", 0.25) == pytest.approx(0.1 + 4.9 * (1 + 2**-0.5) / 2)
    assert [temperature(10, 0.1, "linear", progress) for progress in (0, 0.25, 1)] == pytest.approx([10, 7.525, 0.1])
    for wrong in ((1, 2, "cosine"), (1, 0, "cosine"), (float("inf"), 1, "cosine"), (float("nan"), 1, "cosine")):
        with pytest.raises(ArgumentError, match="allowed are 0 < tau_min <= tau_max"):
            check_temperatures(*wrong)
    with pytest.raises(ArgumentError, match="tau_schedule is 'step': allowed are cosine, linear"):
        check_temperatures(5, 1, "step")


def test_the_likeliest_of_a_gumbel_sample_is_drawn_by_the_probabilities():
    probabilities = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    rng = np.random.default_rng(0)
    logs = probabilities.log().expand(7, 4)
    samples = torch.cat([gumbel(logs, 0.5, rng).argmax(1) for _ in range(1000)])
    assert stats.chisquare(samples.bincount(minlength=4), 7000 * probabilities).pvalue > 1e-4
    # The temperature scales, after the noise.
    one, other = (gumbel(logs, tau, np.random.default_rng(1)) for tau in (1.0, 0.25))
    assert torch.allclose(other, 4 * one)


def test_pairs_are_two_different_widths_drawn_one_after_the_other():
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    perturbed = torch.tensor(weights).log().expand(7, 4)
    rng = np.random.default_rng(0)
    drawn = [tuple(pair) for _ in range(1000) for pair in draw_pairs(perturbed, rng)[0]]
    ordered = list(itertools.permutations(range(1, 5), 2))
    assert set(drawn) == set(ordered)
    # The first by its probability, the second by its probability among the rest.
    expected = [weights[i - 1] * weights[j - 1] / (1 - weights[i - 1]) for i, j in ordered]
    assert stats.chisquare([drawn.count(pair) for pair in ordered], 7000 * np.array(expected)).pvalue > 1e-4


def test_the_shares_of_a_pair_sum_to_one_and_carry_the_gradient_of_a_logistic_function():
    perturbed = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    pairs, shares = draw_pairs(perturbed, np.random.default_rng(0))
    for slot, ((first, second), share) in enumerate(zip(pairs, shares, strict=True)):
        difference = perturbed[slot, first - 1] - perturbed[slot, second - 1]
        assert share.sum().item() == pytest.approx(1)
        assert share[0].item() == pytest.approx(torch.sigmoid(difference).item())
        (gradient,) = torch.autograd.grad(share[0], perturbed, retain_graph=True)
        expected = torch.zeros(7, 4, dtype=torch.float64)
        product = share[0].item() * share[1].item()
        expected[slot, first - 1], expected[slot, second - 1] = product, -product
        assert torch.allclose(gradient, expected)


def test_a_distribution_of_one_width_still_gives_two():
    perturbed = torch.tensor([[400.0, 0.0, 0.0, 0.0]]).expand(7, 4)
    pairs, shares = draw_pairs(perturbed, np.random.default_rng(0))
    assert all(pair[0] == 1 != pair[1] for pair in pairs)
    assert torch.stack(shares).tolist() == [[1.0, 0.0]] * 7


# -- the mixed forward pass -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 4), (2, 3), (2, 4), (3, 4), (9, 12), (24, 96), (5, 5)])
def test_interpolation_is_adaptive_pooling_along_the_channels(inputs, outputs):
    x = torch.randn(3, inputs, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pooled = functional.adaptive_avg_pool3d(x[:, None], (outputs, 4, 5))[:, 0]
    assert torch.allclose(interpolate(x, outputs), pooled)
    by_hand = [
        x[:, j * inputs // outputs : -(-(j + 1) * inputs // outputs)].mean(1, keepdim=True) for j in range(outputs)
    ]
    assert torch.allclose(interpolate(x, outputs), torch.cat(by_hand, 1))


@pytest.mark.parametrize("name", cb.list_spaces())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_interpolation_by_blocks_has_the_bits_and_the_layout_of_the_whole_matrix(name, dtype):
    generator = torch.Generator().manual_seed(0)
    for most, (a, b) in itertools.product(
        sorted(set(cb.get_space(name).max_channels)), itertools.combinations(range(1, 5), 2)
    ):
        inputs, outputs = most * a // 4, most * b // 4
        x = torch.randn(2, inputs, 4, 4, generator=generator, dtype=dtype).requires_grad_()
        slope = torch.randn(2, outputs, 4, 4, generator=generator, dtype=dtype)
        matrix = functional.adaptive_avg_pool1d(torch.eye(inputs)[None], outputs)[0].T.contiguous().to(dtype)
        whole, blocks = torch.einsum("jc,bchw->bjhw", matrix, x), interpolate(x, outputs)
        assert torch.equal(whole, blocks) and whole.stride() == blocks.stride()
        assert torch.equal(*(torch.autograd.grad(each, x, slope)[0] for each in (whole, blocks)))


def padded_forward(net, images, pairs, shares):
    """The mixture as the published code runs it: zeros up to full width, whole filters, pooling along the channels."""

    def full(x, slot):
        missing = net.space.max_channels[slot] - x.shape[1]
        return torch.cat([x, x.new_zeros(len(x), missing, *x.shape[2:])], 1)

    def norm(layer, x, digit):
        width = x.shape[1]
        scale, shift = (pair[layer.key][digit - 1, :width] for pair in (net.scales, net.shifts))
        return functional.batch_norm(x, None, None, scale, shift, training=True)

    x = images
    for block in net.blocks:
        y = x
        for layer in block:
            y = y if layer.reads == IMAGE else full(y, layer.reads)
            weight = net.weights[layer.key]
            groups = len(weight) if layer.depthwise else 1
            y = functional.conv2d(y, weight, stride=layer.stride, padding=layer.kernel // 2, groups=groups)
            widths = [net.space.max_channels[layer.writes] * digit // 4 for digit in pairs[layer.writes]]
            if layer.depthwise:
                y = norm(layer, y[:, : max(widths)], max(pairs[layer.writes]))
            else:
                mixed = 0
                for width, digit, share in zip(widths, pairs[layer.writes], shares[layer.writes], strict=True):
                    part = norm(layer, y[:, :width], digit)
                    size = (max(widths), *part.shape[2:])
                    mixed = mixed + share * functional.adaptive_avg_pool3d(part[:, None], size)[:, 0]
                y = mixed
            y = x + y if layer.skip else y
            y = functional.relu(y) if layer.relu else y
        x = y
    pooled = functional.adaptive_avg_pool2d(x, 1).flatten(1)
    return functional.linear(pooled, net.classifier_weight[:, : pooled.shape[1]], net.classifier_bias)


@pytest.mark.parametrize("name", MINI)
def test_the_mixture_is_that_of_the_published_code(name):
    net, rng = net_of(name), np.random.default_rng(0)
    for _ in range(6):
        pairs, shares = draw_pairs(torch.from_numpy(rng.normal(size=(7, 4))), rng)
        expected = padded_forward(net, images_of(), pairs, shares)
        assert torch.allclose(mixed_forward(net, images_of(), pairs, shares), expected, atol=1e-10)
        # Which of the two was drawn first does not matter.
        turned = mixed_forward(net, images_of(), [pair[::-1] for pair in pairs], [share.flip(0) for share in shares])
        assert torch.allclose(turned, expected, atol=1e-10)


@pytest.mark.parametrize("name", MINI)
def test_a_mixture_that_is_all_of_the_wider_width_is_that_sub_network(name):
    net = net_of(name)
    one, none = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    arch = (2, 4, 3, 2, 4, 3, 2)
    pairs = [[2, 1], [4, 1], [3, 2], [2, 1], [4, 3], [3, 1], [2, 1]]
    alone = net(images_of(), arch)
    assert torch.allclose(mixed_forward(net, images_of(), pairs, [one] * 7), alone, atol=1e-12)
    # All of the narrower one is another network: its channels are stretched, and read by more filters.
    stretched = mixed_forward(net, images_of(), pairs, [none] * 7)
    narrow = net(images_of(), tuple(min(pair) for pair in pairs))
    assert not torch.allclose(stretched, alone, atol=1e-2) and not torch.allclose(stretched, narrow, atol=1e-2)


@pytest.mark.parametrize("name", MINI)
def test_only_the_normalisations_of_the_two_widths_are_used(name):
    net, pairs = net_of(name), [[1, 3]] * 7
    shares = [torch.tensor([0.4, 0.6], dtype=torch.float64)] * 7
    mixed_forward(net, images_of(), pairs, shares).square().sum().backward()
    for layer in net.layers:
        touched = net.scales[layer.key].grad.abs().sum(1) + net.shifts[layer.key].grad.abs().sum(1) > 0
        assert touched.tolist() == ([False, False, False, True] if layer.depthwise else [True, False, True, False])


@pytest.mark.parametrize("name", MINI)
def test_every_width_of_every_layer_gets_a_normalisation_that_was_trained(name, digits):
    net = get_method("tas").fit(task_of(digits, name, epochs=4)).supernet
    for layer in net.layers:
        scales = net.scales[layer.key].detach()
        for digit in (1, 2, 3, 4):
            used = scales[digit - 1, net.channels_of(layer.writes, digit)]
            assert (used != 1).double().mean() > 0.5, (layer.key, digit)
        assert (scales == scales[0]).all() == layer.depthwise


def test_the_gradient_reaches_the_distribution_as_finite_differences_say():
    net = net_of("mobilenet-mini")
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64).requires_grad_()

    def loss(values):
        rng = np.random.default_rng(4)  # the same noise and the same pairs each time
        mixture = draw_pairs(gumbel(values.log_softmax(1), 2.0, rng), rng)
        return functional.cross_entropy(mixed_forward(net, images_of(), *mixture), torch.arange(6))

    (gradient,) = torch.autograd.grad(loss(logits), logits)
    for place in [(0, 0), (1, 3), (3, 1), (4, 2), (6, 3)]:
        step = torch.zeros(7, 4, dtype=torch.float64)
        step[place] = 1e-6
        with torch.no_grad():
            slope = (loss(logits + step) - loss(logits - step)) / 2e-6
        assert gradient[place].item() == pytest.approx(slope.item(), rel=1e-3, abs=1e-7)
    assert (gradient.abs().sum(1) > 0).all()


# -- costs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cb.list_spaces())
def test_the_expected_cost_of_an_architecture_is_its_flops(name):
    space = cb.get_space(name)
    net = Supernet(space, torch.Generator())
    archs = np.concatenate([space.sample(20, np.random.default_rng(0)), [[1] * 7, [4] * 7]])
    for arch in archs:
        assert expected_macs(net, torch.from_numpy(arch / 4)).item() == space.flops(tuple(arch.tolist()))
    ratios = torch.from_numpy(np.random.default_rng(1).uniform(0.25, 1, 7)).requires_grad_()
    scaled = lambda values: expected_macs(net, values) / space.flops(WIDEST)  # noqa: E731
    assert torch.autograd.gradcheck(scaled, ratios)


def betas_at(task, arch, sharpness=50.0):
    """Betas whose probabilities are (nearly) one at an architecture."""
    betas = Betas(task, std=0.01)
    with torch.no_grad():
        betas.logits.zero_()
        betas.logits[torch.arange(7), torch.tensor(arch) - 1] = sharpness
    return betas


def test_betas_are_small_normal_numbers_and_know_their_widths(digits):
    task = task_of(digits)
    values = torch.cat([Betas(dataclasses.replace(task, seed=seed), 0.01).logits.detach() for seed in range(20)])
    assert stats.kstest(values.flatten() / 0.01, "norm").pvalue > 1e-3
    betas = betas_at(task, (1, 2, 3, 4, 4, 2, 1))
    assert betas.expected_ratios().tolist() == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.5, 0.25])
    assert betas.likeliest() == (1, 2, 3, 4, 4, 2, 1)
    betas.logits.data.zero_()
    assert betas.expected_ratios().tolist() == pytest.approx([0.625] * 7)


@pytest.mark.parametrize(("arch", "sign"), [((4,) * 7, 1), ((1,) * 7, -1), ("inside", 0)])
def test_the_penalty_pushes_towards_the_target_from_either_side(arch, sign, digits):
    task = task_of(digits)
    net = make_supernet(task, norm_per_width=True)
    costs = SPACE.flops() / SPACE.flops(WIDEST)
    if arch == "inside":  # within 5% of the largest cost below the target
        arch = tuple(SPACE.archs()[np.flatnonzero((costs < 0.5) & (costs > 0.46))[0]].tolist())
    betas = betas_at(task, arch, sharpness=3.0)
    penalty = get_method("tas", flops_weight=2.0, flops_target=0.5).make_penalty(net, betas)
    expected = expected_macs(net, betas.expected_ratios())
    assert penalty().item() == pytest.approx(2 * sign * np.log(expected.item()))
    (gradient,) = torch.autograd.grad(penalty(), betas.logits)
    with torch.no_grad():
        betas.logits -= 0.01 * gradient
    change = (expected_macs(net, betas.expected_ratios()) - expected).item()
    assert np.sign(change) == -sign


def test_the_edges_of_the_tolerance_belong_to_the_region_without_a_penalty(digits):
    task = task_of(digits)
    net = make_supernet(task, norm_per_width=True)
    share = SPACE.flops("2222222") / SPACE.flops(WIDEST)
    for target, sign in ((share, 0), (share - 1e-9, 1), (share + 0.0499, 0), (share + 0.0501, -1)):
        betas = betas_at(task, (2,) * 7)
        penalty = get_method("tas", flops_weight=1.0, flops_target=target).make_penalty(net, betas)
        assert np.sign(penalty().item()) == sign
    assert get_method("tas").make_penalty(net, betas) is None


@pytest.mark.parametrize(("target", "wider"), [(0.05, False), (1.0, True)])
def test_the_penalty_moves_the_expected_cost_of_a_search(target, wider, digits):
    task = task_of(digits, epochs=2)
    options = {"arch_lr": 0.3, "flops_weight": 20.0, "flops_target": target}
    found = np.exp(get_method("tas", **options).fit(task).slot_effects()) @ [0.25, 0.5, 0.75, 1]
    assert (found > 0.625).all() if wider else (found < 0.625).all()


# -- what learns from what --------------------------------------------------------------------------------------


class Linear(nn.Module):
    """A stand-in for a supernet: logits linear in the pixels, plus what the distribution adds to them."""

    forward_macs = 0

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.randn(64, 10, generator=torch.Generator().manual_seed(0)))
        self.mixing = torch.randn(28, 10, generator=torch.Generator().manual_seed(1))
        self.loss_records = LossRecords()
        self.epoch_losses = []

    def run(self, images, log_probs):
        return images.flatten(1) @ self.weight * (1 + log_probs.flatten().exp() @ self.mixing)


def test_weights_and_distribution_take_turns_on_their_own_halves(digits):
    task = task_of(digits, epochs=2, num_images=190)
    net, betas = Linear(), Betas(task, 0.01)
    penalty_of = lambda betas: 0.1 * betas.expected_ratios().sum()  # noqa: E731
    search_widths(
        task,
        net,
        betas,
        lambda images, log_probs, progress, rng: net.run(images, log_probs),
        arch_lr=0.05,
        arch_weight_decay=0.01,
        penalty=lambda: penalty_of(betas),
    )
    # The same by hand: beta learns from the first half, by Adam, and only then the weights from the second, by SGD.
    other, probe = Linear(), Betas(task, 0.01)
    loaders = [
        TrainLoader(task.train_images[part], task.train_labels[part], task.recipe)
        for part in (slice(None, 95), slice(95, None))
    ]
    adam = torch.optim.Adam([probe.logits], 0.05, betas=(0.5, 0.999), weight_decay=0.01)
    sgd = torch.optim.SGD([other.weight], 1.0, momentum=0.9)
    for epoch in range(2):
        pairs = zip(
            loaders[0].epoch(task.generator(ARCH_BATCHES, epoch)),
            loaders[1].epoch(task.generator(BATCHES, epoch)),
            strict=True,
        )
        for (_, images, labels), (elapsed, own_images, own_labels) in pairs:
            adam.zero_grad()
            loss = functional.cross_entropy(other.run(images, probe.log_probs()), labels) + penalty_of(probe)
            loss.backward()
            adam.step()
            sgd.zero_grad()
            functional.cross_entropy(other.run(own_images, probe.log_probs().detach()), own_labels).backward()
            sgd.param_groups[0]["lr"] = task.recipe.lr_at(epoch + elapsed)
            sgd.step()
    assert torch.allclose(net.weight, other.weight, atol=1e-6)
    assert torch.allclose(betas.logits, probe.logits, atol=1e-6)
    assert not torch.allclose(betas.logits, Betas(task, 0.01).logits, atol=0.05)


@pytest.mark.parametrize("name", ["tas", "htas", "mask_gumbel"])
def test_the_images_of_the_distribution_never_train_the_weights(name, digits):
    task = task_of(digits)
    labels = task.train_labels.clone()
    labels[:96] = (labels[:96] + 1) % 10
    relabelled = dataclasses.replace(task, train_labels=labels)
    options = {"warmup": 0.0} if name == "mask_gumbel" else {}
    # A distribution that learns so slowly that it is the same in both runs, up to rounding.
    found = [get_method(name, arch_lr=1e-30, **options).fit(each).supernet for each in (task, relabelled)]
    for one, other in zip(*(net.parameters() for net in found), strict=True):
        assert torch.equal(one, other)
    moved = [get_method(name, arch_lr=0.1, **options).fit(each).slot_effects() for each in (task, relabelled)]
    assert np.abs(moved[0] - moved[1]).max() > 0.05


def test_the_loss_of_the_mixture_falls(digits):
    notes = []
    task = task_of(digits, epochs=8, num_images=600, on_epoch=lambda epoch, epochs, note: notes.append(note))
    get_method("tas").fit(task)
    losses = [float(note.removeprefix("loss ")) for note in notes]
    chance = np.log(10)
    assert np.mean(losses[-3:]) < min(np.mean(losses[:2]), chance) - 0.1


def test_an_interrupted_search_ends_in_the_same_distribution(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.supernet.training.CHECKPOINT_SHARE", math.inf)
    whole = get_method("tas", arch_lr=0.05).fit(task_of(digits, "mobilenet-mini", epochs=3))

    def stop(epoch, epochs, note):
        if epoch == 2:
            raise KeyboardInterrupt

    task = dataclasses.replace(task_of(digits, "mobilenet-mini", epochs=3, on_epoch=stop), checkpoints=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        get_method("tas", arch_lr=0.05).fit(task)
    resumed = get_method("tas", arch_lr=0.05).fit(dataclasses.replace(task, on_epoch=None))
    assert (resumed.slot_effects() == whole.slot_effects()).all()
    for one, other in zip(resumed.supernet.parameters(), whole.supernet.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["tas", "htas", "mask_gumbel"])
def test_a_search_that_diverges_is_an_error_and_not_a_ranking(name, digits):
    task = task_of(digits)
    broken = dataclasses.replace(task, recipe=get_recipe(task.recipe, lr=1e38))
    with pytest.raises(MethodError, match="became (nan|inf)") as caught:
        get_method(name, **({"warmup": 0.0} if name == "mask_gumbel" else {})).fit(broken)
    assert "\n" not in str(caught.value) and "lower" in str(caught.value)


# -- scores -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tas", "mask_gumbel"])
def test_log_probabilities_are_written_beside_accuracies_and_can_be_the_score(name, digits):
    task, archs = task_of(digits), SPACE.sample(20, np.random.default_rng(0))
    options = {"arch_lr": 0.2} | ({"warmup": 0.0} if name == "mask_gumbel" else {})
    shared = get_method(name, **options).fit(task)
    columns = shared.columns(archs)
    by_hand = [sum(shared.slot_effects()[slot, digit - 1] for slot, digit in enumerate(arch)) for arch in archs]
    assert columns["log_prob"] == pytest.approx(by_hand, rel=1e-12)
    assert np.exp(shared.slot_effects()).sum(1) == pytest.approx(1)
    assert np.ptp(columns["log_prob"]) > 0.1
    assert (shared.score(archs) == columns["val_acc"]).all()
    assert np.exp(shared.slot_effects()) == pytest.approx(np.array(shared.facts["probabilities"]), abs=1e-4)
    assert shared.facts["likeliest"] == "".join(map(str, shared.slot_effects().argmax(1) + 1))
    distribution = get_method(name, score="distribution", **options).fit(task)
    assert (distribution.score(archs) == columns["log_prob"]).all()
    assert (distribution.columns(archs)["val_acc"] == columns["val_acc"]).all()
    json.dumps(shared.facts)


def test_a_sub_network_is_scored_by_the_normalisation_of_its_widths(digits):
    task = task_of(digits)
    net = net_of("resnet-mini", dtype=torch.float32)
    evaluator = DistributionEvaluator(net, task, Betas(task, 0.01), "shared", {})
    _, ((images, labels),) = task.validation_batches()
    archs = SPACE.sample(8, np.random.default_rng(0))
    with torch.no_grad():
        hits = [(net(images, arch).argmax(1) == labels).double().mean().item() for arch in archs.tolist()]
    assert evaluator.score(archs) == pytest.approx(100 * np.array(hits))


# -- HTAS -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", cb.list_spaces())
def test_a_slope_is_the_share_of_a_layer_in_all_multiply_accumulates(name):
    space = cb.get_space(name)
    net, macs = Supernet(space, torch.Generator()), {}
    with torch.device("meta"):
        model = build_model(space, WIDEST, torch.Generator()).to("meta")
        for module_name, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(
                    lambda module, inputs, output, key=module_name: macs.update(
                        {key: output[0].numel() * module.weight[0].numel()}
                    )
                )
        model(torch.empty(2, *space.input_shape))
    slopes = mac_slopes(net)
    assert sum(slopes) == pytest.approx(1)
    assert slopes == pytest.approx([macs[layer.name] / sum(macs.values()) for layer in net.layers])
    classifier = space.max_channels[net.feature_slot] * space.num_classes
    assert sum(macs.values()) + classifier == space.flops(WIDEST)


def test_the_latency_penalty_is_lambda_times_the_sum_over_layers_and_pushes_down(digits):
    task = task_of(digits, "mobilenet-mini")
    net, betas = make_supernet(task, norm_per_width=True), Betas(task, 0.5)
    penalty = get_method("htas", latency_weight=3.0).make_penalty(net, betas)
    ratios = betas.expected_ratios().tolist()
    terms = [slope * ratios[layer.writes] for slope, layer in zip(mac_slopes(net), net.layers, strict=True)]
    assert penalty().item() == pytest.approx(3 * sum(terms))
    (gradient,) = torch.autograd.grad(penalty(), betas.logits)
    # More of the widest always costs more, more of the narrowest less.
    assert (gradient[:, 3] > 0).all() and (gradient[:, 0] < 0).all()
    assert get_method("htas").make_penalty(net, betas) is None


@pytest.mark.parametrize("name", MINI)
def test_the_default_of_htas_ranks_as_tas_does_and_is_not_pulled_to_the_narrowest(name, digits):
    archs = np.concatenate([cb.get_space(name).sample(20, np.random.default_rng(0)), [[1] * 7]]).astype(np.int8)
    task = task_of(digits, name, epochs=2)
    both = [get_method(method, arch_lr=0.05).fit(task) for method in ("htas", "tas")]
    found, expected = (evaluator.columns(archs) for evaluator in both)
    assert all((found[key] == expected[key]).all() for key in expected)
    literal = get_method("htas", arch_lr=0.05, latency_weight=2.0).fit(task)
    means = [np.exp(each.slot_effects()) @ [0.25, 0.5, 0.75, 1] for each in (both[0], literal)]
    assert means[0].mean() > means[1].mean()


def test_a_latency_file_without_a_weight_is_refused():
    with pytest.raises(ArgumentError, match="'lat.json' changes nothing at latency_weight 0: add latency_weight above"):
        get_method("htas", latency="lat.json")


def test_a_latency_target_without_a_weight_or_out_of_range_is_refused():
    with pytest.raises(ArgumentError, match=r"latency_target 0.5 changes nothing at latency_weight 0"):
        get_method("htas", latency_target=0.5)
    with pytest.raises(ArgumentError, match=r"latency_target is 1.5: allowed are 0, for none, to 1"):
        get_method("htas", latency_weight=2.0, latency_target=1.5)


def test_the_way_to_the_widest_counts_slopes():
    slopes = torch.tensor([1.0, 3.0, 0.0])
    assert way_to_widest(slopes, torch.full((3,), 0.25)) == 0 and way_to_widest(slopes, torch.ones(3)) == 1
    assert way_to_widest(slopes, torch.tensor([1.0, 0.25, 0.25])) == pytest.approx(0.25)


@pytest.mark.parametrize(("width", "sign"), [(4, 1), (3, 0), (1, -1)])
def test_a_latency_target_pulls_down_above_it_up_below_it_and_not_at_it(width, sign, digits):
    task = task_of(digits)
    net, betas = make_supernet(task, norm_per_width=True), Betas(task, 0.0)
    with torch.no_grad():
        betas.logits[:, width - 1] += 1.0  # the likeliest network is 0, 2/3 or all of the way to the widest
    penalty = get_method("htas", latency_weight=3.0, latency_target=0.69).make_penalty(net, betas)
    ratio = float(betas.expected_ratios().detach()[0])
    share = sum(mac_slopes(net)) * ratio
    assert penalty().item() == pytest.approx(3 * sign * np.log(share), abs=1e-6)


def test_a_latency_that_does_not_grow_cannot_be_aimed_at(tmp_path, digits):
    linear_latencies("resnet-mini", lambda layer: -0.01, lambda layer: 1.0).write(tmp_path / "latency.json")
    options = {"latency_weight": 2.0, "latency": str(tmp_path / "latency.json"), "latency_target": 0.5}
    with pytest.raises(ArgumentError, match="has no layer that gets slower with its width"):
        get_method("htas", **options).fit(task_of(digits, epochs=1))


@pytest.mark.parametrize("target", [0.25, 0.75])
def test_a_search_ends_near_its_latency_target(target, digits):
    options = {"arch_lr": 0.1, "latency_weight": 100.0, "latency_target": target}
    task = task_of(digits, epochs=4)
    found = get_method("htas", **options).fit(task).facts["likeliest"]
    net = make_supernet(task)
    ratios = torch.tensor([int(found[layer.writes]) / 4 for layer in net.layers])
    assert way_to_widest(torch.tensor(mac_slopes(net)), ratios) == pytest.approx(target, abs=0.2)


def test_the_latency_penalty_narrows_a_search(digits):
    found = np.exp(get_method("htas", arch_lr=0.3, latency_weight=100.0).fit(task_of(digits, epochs=2)).slot_effects())
    assert (found @ [0.25, 0.5, 0.75, 1] < 0.625).all()


def linear_latencies(name, k, b):
    """Latencies that grow by k(layer) ms per output channel from b(layer) on, whatever a layer reads."""
    space = cb.get_space(name)
    tables = {}
    for layer in space.layers:
        if layer.writes == CLASSES:
            tables[layer.name] = np.full(4, 0.5)
            continue
        widths = space.max_channels[layer.writes] * np.arange(1, 5) / 4
        tables[layer.name] = np.broadcast_to(k(layer) * widths + b(layer), (4,) * len(layer.slots)).copy()
    return LatencyModel(space, tables, Conditions("made up by a test", "none", 1, 1, "exact"))


@pytest.mark.parametrize("name", MINI)
def test_slopes_of_latencies_that_are_linear_in_the_width_are_found(name, tmp_path):
    space = cb.get_space(name)
    k = lambda layer: 0.01 * (1 + layer.depthwise) * layer.output_size[0] * layer.kernel  # noqa: E731
    b = lambda layer: 0.1 * layer.output_size[0]  # noqa: E731
    linear_latencies(name, k, b).write(tmp_path / "latency.json")
    slopes = measured_slopes(Supernet(space, torch.Generator()), str(tmp_path / "latency.json"))
    layers = space.layers[:-1]
    full = [space.max_channels[layer.writes] for layer in layers]
    counted = [0 if layer.reads == IMAGE else 1 for layer in layers]  # the stem reads no slot
    total = sum(c * (k(layer) * w + b(layer)) for c, layer, w in zip(counted, layers, full, strict=True))
    expected = [c * k(layer) * w / total for c, layer, w in zip(counted, layers, full, strict=True)]
    assert slopes == pytest.approx(expected) and slopes[0] == 0 and max(slopes) > 0


def test_measured_latencies_change_the_distribution_that_is_found(tmp_path, digits):
    # Only block 3's hidden layer costs anything worth mentioning, so its slot is narrowed and the others hardly.
    k = lambda layer: 10.0 if layer.name == "block3.0" else 1e-9  # noqa: E731
    linear_latencies("resnet-mini", k, lambda layer: 0.01).write(tmp_path / "latency.json")
    task = task_of(digits, epochs=2)
    options = {"arch_lr": 0.1, "latency_weight": 1000.0, "latency": str(tmp_path / "latency.json")}
    found = np.exp(get_method("htas", **options).fit(task).slot_effects()) @ [0.25, 0.5, 0.75, 1]
    assert found[3] < 0.53 < np.delete(found, 3).min()


@pytest.mark.parametrize("problem", ["missing", "another space", "damaged"])
def test_a_latency_file_that_does_not_fit_is_refused_before_the_training(problem, tmp_path, digits):
    path = tmp_path / "latency.json"
    if problem == "another space":
        linear_latencies("mobilenet-mini", lambda layer: 1, lambda layer: 1).write(path)
    elif problem == "damaged":
        path.write_text("{}")
    error, message = {
        "missing": (MissingDataError, "does not exist: measure one with 'channel-bench latency SPACE -o FILE'"),
        "another space": (ArgumentError, "is for space 'mobilenet-mini', not 'resnet-mini'"),
        "damaged": (CorruptFileError, "is not a latency file, or damaged"),
    }[problem]
    epochs = []
    task = task_of(digits, on_epoch=lambda *arguments: epochs.append(arguments))
    with pytest.raises(error, match=message) as caught:
        get_method("htas", latency=str(path), latency_weight=2.0).fit(task)
    assert "\n" not in str(caught.value) and not epochs


def test_a_missing_latency_file_is_one_line_on_the_command_line(run_cli, tmp_path):
    options = (
        "--no-truth",
        "--option",
        "latency=no-such.json",
        "--option",
        "latency_weight=2",
        "-o",
        tmp_path / "scores.parquet",
    )
    code, _, error = run_cli("channel-harness", "rank", "htas", "--space", "resnet-mini", *options)
    assert code == 2 and "latency file 'no-such.json' does not exist" in error and "Traceback" not in error
    assert not list(tmp_path.glob("*.parquet"))


# -- options ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("tas", {option: value}) for option, value in (
            ("score", "both"), ("tau_min", 0.0), ("tau_max", 0.05), ("tau_schedule", "step"), ("arch_lr", 0.0),
            ("arch_lr", float("inf")), ("arch_lr", float("nan")), ("flops_weight", -1.0),
            ("flops_weight", float("inf")), ("flops_target", 0.0), ("flops_target", 1.5),
        )),
        *(("htas", {option: value}) for option, value in (
            ("latency_weight", -1.0), ("latency_weight", float("inf")), ("latency_weight", float("nan")),
            ("score", "both"), ("arch_lr", -1.0),
        )),
        *(("mask_gumbel", {option: value}) for option, value in (
            ("score", "both"), ("tau_min", -1.0), ("arch_lr", float("inf")), ("warmup", 1.1), ("warmup", -0.1),
            ("warmup", float("nan")),
        )),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused_in_one_line(name, options):
    with pytest.raises(ArgumentError, match="allowed are") as caught:
        get_method(name, **options)
    (option,) = options
    assert "\n" not in str(caught.value) and (option in str(caught.value) or option.startswith("tau"))
