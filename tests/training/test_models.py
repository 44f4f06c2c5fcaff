"""The networks: topology facts that the closed form cannot see, and initialisation from a generator."""

import pytest
import torch
from torch import nn

import channel_bench as cb
from channel_bench.training.models import build_model
from channel_bench.training.models.resnet import ResNet


def seeded(name: str, arch: str, seed: int = 0) -> nn.Module:
    return build_model(cb.get_space(name), arch, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", cb.list_spaces())
def test_logits_have_one_row_per_image(name):
    space = cb.get_space(name)
    assert seeded(name, "1213141")(torch.zeros(3, *space.input_shape)).shape == (3, space.num_classes)


@pytest.mark.parametrize("name", ["resnet-mini", "mobilenet-mini"])
def test_weights_come_from_the_generator_and_the_global_one_is_left_alone(name):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = seeded(name, "2222222"), seeded(name, "2222222"), seeded(name, "2222222", seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_initial_weights_follow_the_default_distributions():
    model = seeded("resnet", "4444444")
    default = ResNet(cb.get_space("resnet").max_channels, 3, 10)
    for ours, theirs in zip(model.parameters(), default.parameters(), strict=True):
        if ours.numel() > 5000:
            assert ours.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.01)
            assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.02)
    assert torch.equal(model.block1[1].weight, torch.ones(256))
    assert torch.equal(model.block1[1].bias, torch.zeros(256))


@pytest.mark.parametrize(("name", "block"), [("resnet-mini", "block4"), ("mobilenet-mini", "block4")])
def test_a_silent_block_is_the_identity_where_there_is_a_skip_and_kills_the_signal_where_there_is_none(name, block):
    model = seeded(name, "4444444").eval()
    images = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        norm = [module for module in getattr(model, block) if isinstance(module, nn.BatchNorm2d)][-1]
        norm.weight.zero_()
        assert not torch.equal(model(images)[:1], model(images)[1:2])  # block 4 is skipped over, the image decides
        norm = [module for module in model.block3 if isinstance(module, nn.BatchNorm2d)][-1]
        norm.weight.zero_()
        assert torch.equal(model(images)[:1], model(images)[1:2])  # block 3 has no skip, all images look alike
