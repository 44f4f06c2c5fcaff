"""Zero-cost proxies, each against its definition written out slowly, and how a method ranks by one."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from families import deep, mixed, plain, space_of
from scipy.stats import rankdata
from torch import nn
from torch.nn import functional

import channel_bench as cb
from channel_bench.errors import ArgumentError, MethodError, UnknownNameError
from channel_bench.training.models import build_model
from harness.check.checker import small_task
from harness.method import PROXIES
from harness.methods import get_method, zero_cost
from harness.methods.az_nas import AzNas, az_nas
from harness.methods.epe_nas import epe_nas
from harness.methods.fisher import fisher
from harness.methods.grad_norm import grad_norm
from harness.methods.grasp import grasp
from harness.methods.jacov import jacov
from harness.methods.l2_norm import l2_norm
from harness.methods.meco import meco
from harness.methods.nwot import nwot
from harness.methods.plain import plain as plain_proxy
from harness.methods.snip import snip
from harness.methods.swap import swap
from harness.methods.synflow import synflow
from harness.methods.zen import zen
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost, correlations_of, normal_scores
from harness.methods.zico import zico

SPACE = cb.get_space("resnet-mini")
MINI = [SPACE, cb.get_space("mobilenet-mini")]
SPACES = [*MINI, space_of(mixed), space_of(deep), space_of(plain)]
ARCH = "2131213"
NAMES = [space.name for space in MINI]


def double(net):
    net.weights = [weight.detach().double().requires_grad_() for weight in net.weights]
    net.bias = net.bias.double()
    return net


def drawn(space, arch=ARCH, seed=0):
    """A network of a proxy, and the module of the same weights, both in double precision."""
    net = RandomNet(space, arch, torch.Generator().manual_seed(seed), torch.Generator().manual_seed(99))
    return double(net), build_model(space, arch, torch.Generator().manual_seed(seed)).double().train()


def batch_of(space, num_images=8):
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(num_images, *space.input_shape, generator=generator, dtype=torch.float64)
    return Batch(images, torch.arange(num_images) % 3)


def weighted(model):
    return [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def slow_gradients(model, batch):
    """Weight and gradient of each layer by backward()."""
    model.zero_grad()
    functional.cross_entropy(model(batch.images), batch.labels).backward()
    return [(module.weight.detach().numpy(), module.weight.grad.numpy()) for module in weighted(model)]


def outputs_of(space, model, images, skip=True):
    """Outputs of the convolutions, of the activations, of all layers and of the blocks, by hand."""
    x, convs, relus, layers, blocks = images, [], [], [], []
    for block in space.blocks:
        y = x
        for layer in block:
            y = model.get_submodule(layer.name)(y)
            convs.append(y)
            mean, variance = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), keepdim=True, correction=0)
            y = (y - mean) / (variance + 1e-5).sqrt()
            y = y + x if layer.skip and skip else y
            if layer.relu:
                y = y.clamp(min=0)
                relus.append(y)
            layers.append(y)
        x = y
        blocks.append(x)
    return SimpleNamespace(convs=convs, relus=relus, layers=layers, blocks=blocks)


both = pytest.mark.parametrize("space", MINI, ids=NAMES)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_a_random_network_is_the_one_that_the_table_trains(space):
    net, model = drawn(space)
    batch = batch_of(space)
    assert all(torch.equal(one, two.weight) for one, two in zip(net.weights, weighted(model), strict=True))
    assert torch.allclose(net(batch.images), model(batch.images), rtol=1e-10)


def test_the_layout_of_a_full_space_changes_rounding_only(monkeypatch):
    space, generator = cb.get_space("mobilenet"), torch.Generator().manual_seed(3)
    batch = Batch(torch.randn(4, 3, 32, 32, generator=generator), torch.arange(4))
    found, strides = {}, []
    for layout in (torch.channels_last, torch.contiguous_format):
        if layout == torch.contiguous_format:
            monkeypatch.setattr(zero_cost, "layout_on_cpu", lambda images: torch.contiguous_format)
        net = RandomNet(space, "1111111", torch.Generator().manual_seed(4))
        net(batch.images, after_conv=lambda y: strides.append(y.stride()) if y.ndim == 4 else None)
        found[layout] = [proxy(net, batch) for proxy in (snip, grad_norm, nwot, epe_nas)]
    assert found[torch.channels_last] == pytest.approx(found[torch.contiguous_format], rel=1e-3)
    half = len(strides) // 2
    assert all(stride[1] == 1 for stride in strides[:half]) and all(stride[1] > 1 for stride in strides[half:])


@both
def test_norms_and_sensitivities(space):
    net, model = drawn(space)
    batch = batch_of(space)
    pairs = slow_gradients(model, batch)
    assert grad_norm(net, batch) == pytest.approx(sum(np.sqrt((gradient**2).sum()) for _, gradient in pairs))
    by_weight = np.concatenate([(weight * gradient).ravel() for weight, gradient in pairs])
    assert snip(net, batch) == pytest.approx(np.abs(by_weight).sum())
    assert plain_proxy(net, batch) == pytest.approx(by_weight.sum(), abs=1e-9)
    assert l2_norm(net) == pytest.approx(sum(np.sqrt((weight**2).sum()) for weight, _ in pairs))


def test_behind_a_normalisation_the_signed_sensitivities_add_up_to_nothing(monkeypatch):
    monkeypatch.setattr(zero_cost, "EPS", 1e-30)
    net, _ = drawn(SPACE, "3333333")
    batch = batch_of(SPACE)
    gradients = net.gradients(net.loss(batch))
    sums = [(weight * each).sum().item() for weight, each in zip(net.weights, gradients, strict=True)]
    assert sums[:-1] == pytest.approx([0] * (len(sums) - 1), abs=1e-10)
    assert plain_proxy(net, batch) == pytest.approx(sums[-1], abs=1e-9) and abs(sums[-1]) > 1e-3


def test_grasp_is_the_change_of_the_gradient_along_itself():
    net, model = drawn(SPACE)
    batch = batch_of(SPACE)
    start = slow_gradients(model, batch)
    start = [(weight.copy(), gradient.copy()) for weight, gradient in start]
    ends = []
    step = 1e-6
    for sign in (1, -1):
        for module, (weight, gradient) in zip(weighted(model), start, strict=True):
            module.weight.data = torch.from_numpy(weight + sign * step * gradient)
        ends.append([gradient.copy() for _, gradient in slow_gradients(model, batch)])
    products = [(up - down) / (2 * step) for up, down in zip(*ends, strict=True)]
    expected = -sum((weight * product).sum() for (weight, _), product in zip(start, products, strict=True))
    assert grasp(net, batch) == pytest.approx(expected, rel=1e-4)


def test_fisher_by_channel_and_image():
    net, model = drawn(SPACE)
    batch = batch_of(SPACE)
    kept = []

    def keep(module, inputs, output):
        output.retain_grad()
        kept.append(output)

    for module in weighted(model):
        module.register_forward_hook(keep)
    functional.cross_entropy(model(batch.images), batch.labels).backward()
    expected = 0.0
    for y in kept:
        for channel in range(y.shape[1]):
            sums = [(y[n, channel] * y.grad[n, channel]).sum().item() for n in range(len(y))]
            expected += sum(each**2 for each in sums) / (2 * len(y))
    assert fisher(net, batch) == pytest.approx(expected)


@both
def test_synflow_of_a_positive_network(space):
    net, model = drawn(space)
    for block in space.blocks:
        for layer in block:
            parent = model.get_submodule(layer.block)
            setattr(parent, layer.norm.partition(".")[2], nn.Identity())
    for parameter in model.parameters():
        parameter.data.abs_()
    model(torch.ones(1, *space.input_shape, dtype=torch.float64)).sum().backward()
    total = sum((module.weight * module.weight.grad).sum().item() for module in weighted(model))
    assert synflow(net) == pytest.approx(math.log(total))


@both
def test_activation_patterns(space):
    net, model = drawn(space)
    batch = batch_of(space)
    codes = torch.cat([y.flatten(1) for y in outputs_of(space, model, batch.images).relus], 1) > 0
    kernel = [[(one == other).sum().item() for other in codes] for one in codes]
    sign, logdet = np.linalg.slogdet(np.array(kernel, np.float64))
    assert sign == 1 and nwot(net, batch) == pytest.approx(logdet)
    assert swap(net, batch) == len({tuple(unit) for unit in codes.T.tolist()})


def test_images_with_one_code_have_a_low_kernel_and_not_none():
    net, _ = drawn(SPACE)
    batch = batch_of(SPACE)
    twice = Batch(torch.cat([batch.images[:7], batch.images[:1]]), batch.labels)
    assert math.isfinite(nwot(net, twice)) and nwot(net, twice) < nwot(net, batch)


def slow_jacobian(model, batch):
    images = batch.images.clone().requires_grad_()
    model(images).sum().backward()
    return images.grad.flatten(1).numpy()


@both
def test_correlations_of_input_gradients(space):
    net, model = drawn(space)
    batch = batch_of(space)
    rows = slow_jacobian(model, batch)
    values = np.linalg.eigvals(np.corrcoef(rows)).real
    assert jacov(net, batch) == pytest.approx(-sum(np.log(v + 1e-5) + 1 / (v + 1e-5) for v in values), rel=1e-6)
    per_class = {}
    for label in range(3):
        found = np.corrcoef(rows[batch.labels.numpy() == label])
        per_class[label] = sum(math.log(abs(value) + 1e-5) for value in found.ravel()), len(found)
    assert epe_nas(net, batch) == pytest.approx(sum(abs(total) for total, _ in per_class.values()))


def test_many_classes_are_compared_with_each_other():
    space = dataclasses.replace(SPACE, num_classes=101)
    net, model = drawn(space)
    batch = batch_of(space)
    rows = slow_jacobian(model, batch)
    found = [np.corrcoef(rows[batch.labels.numpy() == label]) for label in range(3)]
    a, b, c = (np.log(np.abs(each) + 1e-5).sum() / len(each) for each in found)
    assert epe_nas(net, batch) == pytest.approx((abs(a - b) + abs(a - c) + abs(b - c)) / 3)


@both
def test_zico_weight_by_weight(space):
    net, model = drawn(space)
    batch = batch_of(space)
    first = [g.copy() for _, g in slow_gradients(model, Batch(batch.images[:4], batch.labels[:4]))]
    second = [g.copy() for _, g in slow_gradients(model, Batch(batch.images[4:], batch.labels[4:]))]
    score = 0.0
    for one, two in zip(first, second, strict=True):
        total = 0.0
        for a, b in zip(np.abs(one).ravel(), np.abs(two).ravel(), strict=True):
            deviation = math.sqrt(((a - (a + b) / 2) ** 2 + (b - (a + b) / 2) ** 2) / 2)
            total += (a + b) / 2 / deviation if deviation > 0 else 0.0
        score += math.log(total)
    assert zico(net, batch) == pytest.approx(score)


@both
def test_meco_layer_by_layer(space):
    net, model = drawn(space)
    noise = torch.randn(1, *space.input_shape, generator=torch.Generator().manual_seed(99))
    expected = 0.0
    for y in outputs_of(space, model, noise.double()).layers:
        rows = y[0].flatten(1).detach().numpy()
        rows = rows[rows.std(1) > 0]
        constant = y.shape[1] - len(rows)
        if y.shape[1] < y.shape[2] * y.shape[3]:
            expected += min([1.0] * bool(constant) + [float(np.linalg.eigvals(np.corrcoef(rows)).real.min())])
    net.noise_like = lambda shape, draw=net.noise_like: draw(shape).double()
    assert expected > 1e-3 and meco(net) == pytest.approx(expected, abs=1e-9)


def test_zen_by_hand():
    net, model = drawn(SPACE)
    noise = torch.Generator().manual_seed(99)
    for module, weight in zip(weighted(model), net.weights, strict=True):
        module.weight.data = torch.randn(weight.shape, generator=noise).double()
    x, change = (torch.randn(6, *SPACE.input_shape, generator=noise).double() for _ in range(2))
    first = outputs_of(SPACE, model, x, skip=False)
    second = outputs_of(SPACE, model, x + 0.01 * change, skip=False)
    apart = first.blocks[-1] - second.blocks[-1]
    delta = np.mean([math.sqrt((image**2).sum().item()) for image in apart])
    scales = [math.sqrt(np.mean([y[:, c].var(correction=0).item() for c in range(y.shape[1])])) for y in first.convs]
    net.noise_like = lambda shape, draw=net.noise_like: draw(shape).double()
    assert zen(net, 6) == pytest.approx(math.log(delta) + sum(map(math.log, scales)))


@both
def test_az_nas_block_by_block(space):
    net, model = drawn(space)
    noise = torch.Generator().manual_seed(99)
    images = torch.randn(6, *space.input_shape, generator=noise).double()
    blocks = outputs_of(space, model, images).blocks
    entropies = []
    for y in blocks:
        rows = y.detach().permute(0, 2, 3, 1).reshape(-1, y.shape[1]).numpy()
        shares = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
        shares = shares / shares.sum()
        entropies.append(-sum(share * math.log(share + 1e-8) for share in shares))
    flows = []
    for before, after in zip(blocks, blocks[1:], strict=False):
        signs = torch.randn(after.shape, generator=noise).sign().double()
        (gradient,) = torch.autograd.grad(after, before, signs, retain_graph=True)
        stride = before.shape[2] // after.shape[2]
        outer = []
        for image in range(6):
            for row in range(after.shape[2]):
                for column in range(after.shape[3]):
                    at = (slice(row * stride, (row + 1) * stride), slice(column * stride, (column + 1) * stride))
                    outer.append(np.outer(gradient[image, :, at[0], at[1]].ravel(), signs[image, :, row, column]))
        largest = np.linalg.svd(np.mean(outer, axis=0), compute_uv=False)[0]
        flows.append(2 - largest - 1 / largest)
    net.noise_like = lambda shape, draw=net.noise_like: draw(shape).double()
    expected = (sum(entropies), min(np.diff(entropies)), np.mean(flows), space.flops(ARCH))
    assert az_nas(net, 6) == pytest.approx(expected, rel=1e-6)


def test_az_nas_adds_logarithms_of_ranks():
    measured = np.array([[0.1, 5, -3, 100], [0.4, 5, -1, 300], [0.2, 9, -2, 200]])
    ranks = np.array([[1, 1.5, 1, 1], [3, 1.5, 3, 3], [2, 3, 2, 2]])
    assert AzNas().combine(measured) == pytest.approx(np.log(ranks / 3).sum(1))


def test_correlations_and_normal_scores():
    rows = np.random.default_rng(0).normal(size=(5, 9))
    assert correlations_of(rows) == pytest.approx(np.corrcoef(rows))
    rows[2] = 4.0
    found = correlations_of(rows)
    assert found[2].tolist() == [0, 0, 1, 0, 0] and found[0, 1] == pytest.approx(np.corrcoef(rows[:2])[0, 1])
    assert normal_scores(np.array([3.0, -1e30, 7.0, 3.0, 1e30])) == pytest.approx(
        [-0.2533471, -1.2815516, 0.5244005, -0.2533471, 1.2815516]
    )


# -- as methods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_is_finite_in_families_that_it_does_not_know_and_its_seed_decides_it(name):
    for space in (space_of(mixed), space_of(deep), space_of(plain, input_shape=(3, 9, 5))):
        net, _ = drawn(space)
        net = RandomNet(space, ARCH, torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
        batch = Batch(batch_of(space).images.float(), batch_of(space).labels)
        method = get_method(name, samples=22)
        first = method.measure(net, batch)
        assert np.isfinite(first).all()
        net = RandomNet(space, ARCH, torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
        assert method.measure(net, batch) == first


def test_scores_depend_on_the_seed_and_not_on_the_order():
    task = small_task()
    archs = SPACE.sample(50, np.random.default_rng(0))
    calls = []
    watched = dataclasses.replace(task, on_epoch=lambda *arguments: calls.append(arguments))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    evaluator = get_method("swap", samples=30, num_images=16).fit(watched)
    assert torch.equal(torch.get_rng_state(), before)
    scores = evaluator.score(archs)
    again = get_method("swap", samples=30, num_images=16).fit(task)
    assert (again.score(archs[::-1])[::-1] == scores).all() and len(np.unique(scores)) > 20
    other = get_method("swap", samples=30, num_images=16).fit(small_task(seed=1))
    assert (other.score(archs) != scores).any()
    assert calls == [(1, 2, "15 networks"), (2, 2, "30 networks")]
    flops = SPACE.flops(SPACE.archs()[np.sort(task.rng(20).choice(16384, 30, replace=False))])
    assert evaluator.facts["num_measured"] == 30 and evaluator.facts["train_macs"] == 16 * flops.sum()


class Digits(ZeroCost):
    """Counts the digits, on a scale that no sum fits."""

    passes = 1

    def measure(self, net, batch):
        return math.exp(5.0 * sum(net.arch))


@pytest.fixture
def quick(monkeypatch):
    """Networks that nobody draws."""
    net = monkeypatch.setattr
    net(zero_cost, "net_of", lambda task, index: SimpleNamespace(arch=task.space[index]))


def test_a_fit_ranks_what_was_not_measured_whatever_the_scale(quick):
    scores = Digits(samples=60).fit(small_task()).score(SPACE.archs())
    expected = SPACE.archs().sum(1)
    assert np.corrcoef(rankdata(scores), rankdata(expected))[0, 1] > 0.98
    log = Digits(samples=60, form="linear").fit(small_task()).score(SPACE.archs())
    assert np.corrcoef(rankdata(log), rankdata(expected))[0, 1] > 0.99


def test_all_samples_are_scores_as_measured(quick):
    evaluator = Digits(samples=16384).fit(small_task())
    assert (evaluator.score(SPACE.archs()) == [math.exp(5.0 * total) for total in SPACE.archs().sum(1)]).all()
    assert "fit_r2" not in evaluator.facts


def test_bad_options_and_proxies_are_refused(quick):
    for options, error, message in (
        ({"samples": 21}, ArgumentError, "number of scores to fit form 'onehot' to is 21: allowed are 22"),
        ({"samples": 16385}, ArgumentError, "to 16,384"),
        ({"samples": "all"}, ArgumentError, "option 'samples' of method 'zico' is 'all': allowed are values of type"),
        ({"num_images": 3}, ArgumentError, "num_images is 3: allowed are 4 and above"),
        ({"form": "cubic"}, UnknownNameError, "unknown additive form 'cubic'"),
    ):
        with pytest.raises(error, match=message):
            get_method("zico", **options)
    few = dataclasses.replace(small_task(), train_images=torch.zeros(3, 1, 8, 8, dtype=torch.uint8))
    few = dataclasses.replace(few, train_labels=few.train_labels[:3])
    with pytest.raises(ArgumentError, match="a proxy needs 4 training images at least: there are 3"):
        Digits(samples=60).fit(few)
    for value, message in ((math.nan, "proxy of architecture [1-4]{7} is .nan.: it must be finite"), (2.0, "no addit")):
        bad = type("Bad", (Digits,), {"measure": lambda self, net, batch, value=value: value})
        with pytest.raises(MethodError, match=message):
            bad(samples=60).fit(small_task())
