"""The weight-shared network against stand-alone models, and shared scoring against one by one."""

import numpy as np
import pytest
import torch
from standalone import cut_out
from torch.nn import functional

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.training.models import build_model
from harness.supernet.exhaustive import SupernetEvaluator
from harness.supernet.network import Supernet
from harness.task import make_task

MINI = ["resnet-mini", "mobilenet-mini"]


def make_supernet(name, num_groups=4, seed=0, dtype=torch.float32, norm_per_width=False):
    net = Supernet(cb.get_space(name), torch.Generator().manual_seed(seed), num_groups, norm_per_width)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():  # scales and shifts that differ between channels, as after training
        for scale, shift in zip(net.scales.values(), net.shifts.values(), strict=True):
            scale.uniform_(0.5, 1.5, generator=generator)
            shift.uniform_(-0.5, 0.5, generator=generator)
    return net.to(dtype)


def images(count=6, size=16, dtype=torch.float32):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(9)).to(dtype)


def sample(name, count):
    return [tuple(arch) for arch in cb.get_space(name).sample(count, np.random.default_rng(0)).tolist()]


@pytest.mark.parametrize("name", MINI)
@pytest.mark.parametrize("path", ["left", "right"])
@pytest.mark.parametrize("num_groups", [4, 5])
def test_a_sub_network_equals_the_stand_alone_model_of_its_weights(name, path, num_groups):
    net = make_supernet(name, num_groups, dtype=torch.float64)
    for arch in [(1,) * 7, (4,) * 7, *sample(name, 15)]:
        model = build_model(cb.get_space(name), arch, torch.Generator()).double()
        missing, unexpected = model.load_state_dict(cut_out(net, arch, path), strict=False)
        assert not unexpected and all("running" in key or "num_batches" in key for key in missing)
        batch = images(dtype=torch.float64)
        # In training mode a stand-alone network normalises by the statistics of the batch, as a supernet always does.
        assert torch.allclose(net(batch, arch, path), model.train()(batch), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", cb.list_spaces())
def test_the_widest_sub_network_is_the_same_on_both_paths(name):
    space = cb.get_space(name)
    net = make_supernet(name)
    batch = torch.rand(2, *space.input_shape, generator=torch.Generator().manual_seed(9))
    assert torch.equal(net(batch, (4,) * 7, "left"), net(batch, (4,) * 7, "right"))
    assert not torch.allclose(net(batch, (3,) * 7, "left"), net(batch, (3,) * 7, "right"))


@pytest.mark.parametrize("name", MINI)
def test_only_the_channels_of_a_sub_network_get_gradients(name):
    net = make_supernet(name)
    arch = (1, 2, 3, 2, 1, 3, 2)
    functional.cross_entropy(net(images(), arch), torch.arange(6)).backward()
    for layer in net.layers:
        used = net.channels_of(layer.writes, arch[layer.writes])
        touched = net.scales[layer.key].grad.abs() + net.shifts[layer.key].grad.abs() > 0
        assert touched[used].any() and not touched[used.stop :].any()


@pytest.mark.parametrize("name", MINI)
@pytest.mark.parametrize("paths", [("left",), ("left", "right")])
def test_shared_scoring_equals_one_by_one_in_any_order(name, paths, digits):
    net, task = make_supernet(name), make_task(name, digits)
    archs = cb.get_space(name).sample(100, np.random.default_rng(1))
    archs = np.concatenate([archs, archs[:3]])  # a repeated architecture gets its score again
    shared = SupernetEvaluator(net, task, paths)
    one_by_one = SupernetEvaluator(net, task, paths, share=False)
    expected = one_by_one.score(archs)
    assert (shared.score(archs) == expected).all()
    order = np.random.default_rng(2).permutation(len(archs))
    assert (shared.score(archs[order]) == expected[order]).all()
    assert (shared.score(archs[:1]) == expected[:1]).all()
    assert len(np.unique(expected)) > 5


def test_the_score_is_the_accuracy_of_the_sub_network(digits):
    net, task = make_supernet("resnet-mini"), make_task("resnet-mini", digits, validate_on="test")
    _, ((batch, labels),) = task.validation_batches()
    arch = (2, 1, 3, 4, 2, 2, 1)
    with torch.no_grad():
        hits = [(net(batch, arch, path).argmax(1) == labels).double().mean().item() for path in ("left", "right")]
    score = SupernetEvaluator(net, task, ("left", "right")).score(np.array([arch], np.int8))
    assert score == pytest.approx([50 * sum(hits)])


def test_impossible_supernets_and_paths_are_refused(digits):
    with pytest.raises(ArgumentError, match="3 groups cannot hold widths of 4"):
        Supernet(cb.get_space("resnet-mini"), torch.Generator(), num_groups=3)
    for paths in ((), ("middle",)):
        with pytest.raises(ArgumentError, match="are not among left, right"):
            SupernetEvaluator(make_supernet("resnet-mini"), make_task("resnet-mini", digits), paths)


def test_the_example_of_the_package_is_a_method_that_keeps_its_contract(tmp_path):
    import textwrap

    import harness.supernet
    from harness.check.checker import check_method

    example = harness.supernet.__doc__.split("--epochs 3``:\n")[1].split("\n`network`")[0]
    (tmp_path / "my_method.py").write_text(textwrap.dedent(example))
    assert not [found for found in check_method(f"{tmp_path}/my_method.py:Narrow", device="cpu") if found.failed]


def test_help_describes_every_field_of_what_a_method_gets():
    import dataclasses

    from harness.supernet import Batch
    from harness.task import Task

    for described in (Task, Batch):
        for field in dataclasses.fields(described):
            assert f"\n        {field.name}: " in described.__doc__, field.name


@pytest.mark.parametrize("name", ["mobilenet", "resnet"])
def test_images_of_the_full_spaces_lie_channels_last_which_changes_rounding_only(name):
    space, images = cb.get_space(name), torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    net = Supernet(space, torch.Generator().manual_seed(0)).double()
    assert net.layout_of(images) == torch.channels_last
    found = []
    for layout in (torch.channels_last, torch.contiguous_format):
        net.layout_of = lambda images, layout=layout: layout
        net.zero_grad()
        logits = net(images.double(), (1, 2, 1, 2, 1, 2, 1))
        functional.cross_entropy(logits, torch.arange(4)).backward()
        gradients = [parameter.grad.flatten() for parameter in net.parameters()]
        found.append(torch.cat([logits.detach().flatten(), *gradients]))
    assert (found[0] - found[1]).abs().max() < 1e-9 * found[0].abs().max()


def test_small_images_and_bf16_walks_keep_their_layout():
    for name, precision, edge in (("mobilenet-mini", "fp32", 8), ("resnet", "bf16", 32)):
        net = Supernet(cb.get_space(name), torch.Generator().manual_seed(0), precision=precision)
        assert net.layout_of(torch.zeros(1, 3, edge, edge)) == torch.preserve_format
    # Batches need not be contiguous; laid out anew, they would be convolved in another order, to other last bits.
    images = torch.zeros(3, 8, 8, 4).permute(3, 0, 1, 2)
    net = make_supernet("mobilenet-mini")
    assert net.prepare(images, net.layout_of(images)).stride() == images.stride()
