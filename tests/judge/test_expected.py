"""Zero-cost proxies in closed form against the proxies measured on networks with random weights."""

import numpy as np
import pytest
import torch
from families import mixed, plain, space_of
from scipy.stats import spearmanr
from torch import nn

import channel_bench as cb
from channel_bench.training.models import build_model
from harness.judge.baselines import baseline_scores, num_paths
from harness.judge.expected import expected_l2_norm, expected_synflow, relu_count

MINI = [cb.get_space("resnet-mini"), cb.get_space("mobilenet-mini")]
ALL = [*MINI, space_of(mixed)]
IDS = [space.name for space in ALL]


def network(space, arch, seed):
    return build_model(space, arch, torch.Generator().manual_seed(seed)).double()


def slow_synflow(space, net, border=True):
    """Sum of |theta dR/dtheta|, by the definition; without a border, images go round."""
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent, _, own = name.rpartition(".")
            setattr(net.get_submodule(parent), own, nn.Identity())
        elif isinstance(module, nn.Conv2d) and not border:
            module.padding_mode = "circular"
            module._reversed_padding_repeated_twice = [part for part in module.padding for _ in range(2)]
    for parameter in net.parameters():
        parameter.data.abs_()
    weights = [module.weight for module in net.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    output = net.eval()(torch.ones(1, *space.input_shape, dtype=torch.float64)).sum()
    gradients = torch.autograd.grad(output, weights)
    return sum((weight * gradient).abs().sum().item() for weight, gradient in zip(weights, gradients, strict=True))


@pytest.mark.parametrize("space", ALL, ids=IDS)
def test_expected_synflow_is_the_mean_of_synflow_over_initial_weights(space):
    expected = np.exp(expected_synflow(space)[space.index("2143421")])
    draws = [slow_synflow(space, network(space, "2143421", seed), border=False) for seed in range(16)]
    assert abs(np.mean(draws) - expected) < 4 * np.std(draws, ddof=1) / np.sqrt(len(draws))
    assert np.std(draws) < expected  # else the line above says nothing


@pytest.mark.parametrize("space", MINI, ids=[space.name for space in MINI])
def test_expected_synflow_ranks_as_what_is_measured_with_borders(space):
    archs = space.sample(20, np.random.default_rng(0))
    means = [
        np.log(np.mean([slow_synflow(space, network(space, arch, seed)) for seed in range(6)]))
        for arch in archs.tolist()
    ]
    assert spearmanr(expected_synflow(space)[space.index(archs)], means).statistic > 0.98


@pytest.mark.parametrize("space", ALL, ids=IDS)
def test_expected_l2_norm_is_that_of_initial_weights(space):
    archs = space.sample(12, np.random.default_rng(0))
    layers = (nn.Conv2d, nn.Linear)

    def norm(arch, seed):
        modules = network(space, arch, seed).modules()
        return sum(module.weight.norm().item() for module in modules if isinstance(module, layers))

    means = np.array([np.mean([norm(arch, seed) for seed in range(3)]) for arch in archs.tolist()])
    expected = expected_l2_norm(space)[space.index(archs)]
    assert means == pytest.approx(expected, rel=0.06)
    assert spearmanr(expected, means).statistic > 0.98


@pytest.mark.parametrize("space", ALL, ids=IDS)
def test_the_count_of_relu_units_is_that_of_a_network(space, monkeypatch):
    from torch.nn import functional

    seen = []

    def counted(x, inplace=False):
        seen.append(x[0].numel())
        return torch.clamp(x, min=0)

    monkeypatch.setattr(functional, "relu", counted)
    network(space, "2143421", 0)(torch.zeros(2, *space.input_shape, dtype=torch.float64))
    assert relu_count(space)[space.index("2143421")] == sum(seen) > 0


def test_a_small_network_by_hand():
    space = cb.get_space("resnet-mini")  # 8 8 8 16 16 16 16 channels, images of 1x8x8
    index = space.index("1111111")  # 2 2 2 4 4 4 4
    assert relu_count(space)[index] == 16 * (2 + 4 * 2) + 4 * (4 + 4 + 4 * 4)
    outputs = [2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 10]
    assert expected_l2_norm(space)[index] == pytest.approx(sum(np.sqrt(each / 3) for each in outputs))
    stem, narrow, down, wide = np.sqrt(9) / 2, 9 * 2 / 4, 9 * np.sqrt(2 * 4) / 4, 9 * 4 / 4
    flow = stem * (narrow + 1) ** 2 * down * (wide + 1) ** 2 * 10 * np.sqrt(4) / 2
    layers = 1 + 1 + 2 + 4 * narrow / (narrow + 1) + 4 * wide / (wide + 1)
    assert expected_synflow(space)[index] == pytest.approx(np.log(flow * layers))


def test_without_skip_lines_expected_synflow_is_half_of_log_paths():
    space = space_of(plain)
    paths = np.array([float(count) for count in num_paths(space)])
    difference = expected_synflow(space) - np.log(paths) / 2
    assert np.ptp(difference) < 1e-8


@pytest.mark.parametrize("space", cb.list_spaces())
def test_widths_that_are_equal_on_paper_tie(space):
    """The hidden widths of two blocks of one stage can be swapped."""
    space = cb.get_space(space)
    swapped = space.archs()[:, [0, 2, 1, 3, 4, 5, 6]]
    scores = baseline_scores(space)
    for name in ("expected-synflow", "expected-l2-norm", "relu-count"):
        assert (scores[name] == scores[name][space.index(swapped)]).all()
        assert len(np.unique(scores[name])) > 40
