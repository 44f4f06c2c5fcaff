"""Scoring all sub-networks at once against running them one by one."""

import itertools
import math
import weakref

import numpy as np
import pytest
import torch
from families import FAMILIES, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from standalone import cut_out
from test_supernet import MINI, make_supernet
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import channel_bench as cb
from channel_bench.space.layers import IMAGE
from channel_bench.training.models import build_model
from harness.supernet.exhaustive import BUNDLE_ELEMENTS, SupernetEvaluator, Walk, count_macs
from harness.supernet.network import PATHS, Supernet, batch_norm
from harness.task import make_task

ARCHS = {name: cb.get_space(name).sample(200, np.random.default_rng(3)) for name in MINI}


def all_logits(net, images, archs, path="left", calibration=(), **options):
    """Logits (n, images, classes) by the walk; every row must come exactly once."""
    found = {}

    def keep(rows, logits):
        for place, row in enumerate(rows):
            assert row not in found
            found[row] = logits[:, place]

    Walk(net, path, calibration, **options).run(images, archs, keep)
    assert sorted(found) == list(range(len(archs)))
    return torch.stack([found[row] for row in range(len(archs))])


def one_by_one(net, images, archs, path="left", calibration=()):
    with torch.no_grad():
        logits = [net(images, arch, path, calibration) for arch in archs.tolist()]
    return torch.stack(logits)[:, sum(calibration) :]


def pixels(count, dtype=torch.float64):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(9)).to(dtype)


@pytest.mark.parametrize(("path", "num_groups"), [("left", 4), ("right", 5)])
@pytest.mark.parametrize("name", MINI)
def test_two_hundred_sub_networks_equal_those_run_one_by_one(name, path, num_groups):
    archs = ARCHS[name]
    net = make_supernet(name, num_groups, dtype=torch.float64)
    exact = one_by_one(net, pixels(16), archs, path)
    assert (all_logits(net, pixels(16), archs, path) - exact).abs().max() < 1e-9
    single, archs = net.float(), archs[::2]
    images = pixels(16, torch.float32)
    fast, slow = all_logits(single, images, archs, path), one_by_one(single, images, archs, path)
    assert (fast - slow).abs().max() < 1e-3
    assert (fast.argmax(2) == slow.argmax(2)).double().mean() >= 0.999
    assert len(torch.unique(slow.argmax(2))) > 2  # the networks do not all say the same


@pytest.mark.parametrize("name", MINI)
@pytest.mark.parametrize("path", PATHS)
def test_siblings_give_the_same_together_as_alone(name, path):
    net, archs = make_supernet(name, 5, dtype=torch.float64), cb.get_space(name).archs()[4000:4200]
    alone = one_by_one(net, pixels(5), archs, path)
    for bundle_elements in (1, 3000, 2**40):
        together = all_logits(net, pixels(5), archs, path, bundle_elements=bundle_elements)
        assert (together - alone).abs().max() < 1e-9, bundle_elements


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
@pytest.mark.parametrize(("path", "num_groups", "norm_per_width"), [("left", 4, False), ("right", 5, True)])
def test_sub_networks_of_a_family_of_ones_own_equal_those_run_one_by_one(family, path, num_groups, norm_per_width):
    space = space_of(family)
    net = Supernet(space, torch.Generator().manual_seed(0), num_groups, norm_per_width).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (*net.scales.values(), *net.shifts.values()):
            parameter.add_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64))
    archs = space.sample(50, np.random.default_rng(0))
    exact = one_by_one(net, pixels(5), archs, path)
    for bundle_elements in (1, 3000, 2**40):
        found = all_logits(net, pixels(5), archs, path, bundle_elements=bundle_elements)
        assert (found - exact).abs().max() < 1e-9
    assert len(torch.unique(exact.argmax(2))) > 2


ANY_ARCHS = st.lists(st.tuples(*[st.integers(1, 4)] * 7), min_size=1, max_size=12, unique=True)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    archs=ANY_ARCHS,
    name=st.sampled_from(MINI),
    path=st.sampled_from(PATHS),
    num_groups=st.integers(4, 6),
    norm_per_width=st.booleans(),
    calibration=st.sampled_from([(), (3,), (4, 3)]),
    bundle_elements=st.sampled_from([0, 2**11, 2**13, 2**40]),
)
def test_any_sub_networks_in_any_order_and_setting_are_exact(
    archs, name, path, num_groups, norm_per_width, calibration, bundle_elements
):
    net = make_supernet(name, num_groups, dtype=torch.float64, norm_per_width=norm_per_width)
    images, archs = pixels(4 + sum(calibration)), np.array(archs, np.int8)
    found = all_logits(net, images, archs, path, calibration, bundle_elements=bundle_elements)
    assert (found - one_by_one(net, images, archs, path, calibration)).abs().max() < 1e-9


@pytest.mark.parametrize(("path", "bundle_elements"), [("left", 2**13), ("right", 2**40)])
@pytest.mark.parametrize("name", MINI)
def test_all_architectures_come_out_once_and_right(name, path, bundle_elements):
    space, net = cb.get_space(name), make_supernet(name, dtype=torch.float64)
    found = all_logits(net, pixels(2), space.archs(), path, bundle_elements=bundle_elements)
    assert len(found) == 16384
    archs = np.concatenate([ARCHS[name][:40], np.array([(1,) * 7, (4,) * 7], np.int8)])
    assert (found[space.index(archs)] - one_by_one(net, pixels(2), archs, path)).abs().max() < 1e-9


@pytest.mark.parametrize("name", MINI)
@pytest.mark.parametrize("path", PATHS)
def test_a_scale_and_shift_per_width_end_the_nesting_and_stay_exact(name, path):
    net = make_supernet(name, norm_per_width=True, dtype=torch.float64)
    archs = np.concatenate([ARCHS[name][:60], cb.get_space(name).archs()[:70]])
    archs = np.unique(archs, axis=0)
    assert (all_logits(net, pixels(8), archs, path) - one_by_one(net, pixels(8), archs, path)).abs().max() < 1e-9


@pytest.mark.parametrize(("name", "path"), [("resnet-mini", "left"), ("mobilenet-mini", "right")])
def test_recalibration_is_shared_exactly(name, path):
    net, archs = make_supernet(name, dtype=torch.float64), ARCHS[name][:80]
    calibration, images = (7, 6), pixels(7 + 6 + 9)
    found = all_logits(net, images, archs, path, calibration)
    assert found.shape == (80, 9, 10)
    assert (found - one_by_one(net, images, archs, path, calibration)).abs().max() < 1e-9


@pytest.mark.parametrize("name", MINI)
def test_a_recalibrated_sub_network_is_the_stand_alone_model_with_those_running_statistics(name):
    net, arch = make_supernet(name, dtype=torch.float64), (2, 1, 3, 4, 2, 3, 1)
    first, second, images = pixels(23).split([7, 7, 9])
    model = build_model(cb.get_space(name), arch, torch.Generator()).double()
    model.load_state_dict(cut_out(net, arch), strict=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over batches
            module.reset_running_stats()
    with torch.no_grad():
        model.train()
        model(first), model(second)
        expected = model.eval()(images)
        found = net(torch.cat([first, second, images]), arch, calibration=(7, 7))[14:]
    assert torch.allclose(found, expected, atol=1e-12, rtol=0)


def test_batch_norm_without_calibration_is_that_of_the_batch():
    y, scale, shift = pixels(6).repeat(1, 3, 1, 1), torch.rand(3).double(), torch.rand(3).double()
    reference = nn.BatchNorm2d(3).double()
    with torch.no_grad():
        reference.weight.copy_(scale)
        reference.bias.copy_(shift)
    assert torch.allclose(batch_norm(y, scale, shift), reference(y), atol=1e-12)


@pytest.mark.parametrize("name", MINI)
def test_any_subset_comes_out_in_its_own_order(name, digits):
    net, task = make_supernet(name), make_task(name, digits)
    space = cb.get_space(name)
    evaluator = SupernetEvaluator(net, task, PATHS)
    archs = ARCHS[name][[5, 5, 2, 9]]
    scores = evaluator.score(archs)
    assert scores[0] == scores[1]
    assert [evaluator.score(arch[None])[0] for arch in archs] == pytest.approx(scores.tolist(), abs=0.34)
    assert evaluator.score(archs[:0]).shape == (0,)
    # The whole space in its chunks is the whole space at once.
    block = space.archs()[1000:2100]
    losses = evaluator.columns(block)["val_loss"]
    assert np.allclose(losses[300:900], evaluator.columns(block[300:900])["val_loss"], atol=1e-5)


@pytest.mark.parametrize("bn", ["batch", "recalibrated"])
def test_columns_are_accuracy_and_cross_entropy_over_all_batches_and_paths(bn, digits, monkeypatch):
    monkeypatch.setattr("harness.task.MAX_VALIDATION_BATCH", 128)
    net, task = make_supernet("resnet-mini"), make_task("resnet-mini", digits, bn=bn)
    calibration, batches = task.validation_batches()
    assert len(batches) == 3 and (sum(calibration) == 900) == (bn == "recalibrated")
    archs = ARCHS["resnet-mini"][:4]
    for share in (True, False):
        columns = SupernetEvaluator(net, task, PATHS, share=share).columns(archs)
        for row, arch in enumerate(archs.tolist()):
            hits, loss = 0.0, 0.0
            for images, labels in batches:
                for path in PATHS:
                    with torch.no_grad():
                        logits = net(images, arch, path, calibration)[-len(labels) :]
                    hits += (logits.argmax(1) == labels).sum().item()
                    loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            assert columns["val_acc"][row] == pytest.approx(100 * hits / 600, abs=0.2)
            assert columns["val_loss"][row] == pytest.approx(loss / 600, abs=1e-5)


def test_the_score_is_what_the_task_says(digits):
    net = make_supernet("resnet-mini")
    archs = ARCHS["resnet-mini"][:30]
    by_loss = SupernetEvaluator(net, make_task("resnet-mini", digits, score_by="loss"))
    assert (by_loss.score(archs) == -by_loss.columns(archs)["val_loss"]).all()
    by_accuracy = SupernetEvaluator(net, make_task("resnet-mini", digits))
    assert (by_accuracy.score(archs) == by_accuracy.columns(archs)["val_acc"]).all()


@pytest.mark.parametrize(
    ("name", "num_macs", "saved"), [("resnet", 924_671_737_856, 9.95), ("mobilenet", 68_914_085_888, 19.94)]
)
def test_the_work_saved_is_counted_exactly(name, num_macs, saved):
    space = cb.get_space(name)
    net = Supernet(space, torch.Generator().manual_seed(0))
    for path in PATHS:
        assert count_macs(net, path) == num_macs
    assert round(int(space.flops().sum()) / num_macs, 2) == saved


def counted_by_hand(space):
    """MACs of all 16,384 with prefix, nesting and cumulation; the four widths of a slot add up to 2.5 full ones."""
    s, height, width = space.input_shape
    a1, a2 = height * width // 4, height * width // 16
    c0, c1, c2, c3, c4, c5, c6 = space.max_channels
    if space.family == "resnet":
        convolutions = (
            s * c0 * a1  # the stem
            + c0 * c1 * a1  # block 1: one pass over the groups of slot 0 gives its four sums,
            + 2.5 * c1 * c0 * a1  # and one over those of slot 1, for each width of slot 0, its four
            + 4 * 2.5 * (c0 * c2 + c2 * c0) * a1  # block 2, for each width of slots 0 and 1
            + 16 * 2.5 * c0 * c3 * a2
            + 64 * c3 * c4 * a2  # no skip: at full width
            + 256 * (c4 * c5 + 2.5 * c5 * c4) * a2
            + 1024 * 2.5 * (c4 * c6 + c6 * c4) * a2
        )
        return 9 * convolutions + 4096 * 2.5 * c4 * space.num_classes
    return (
        9 * s * c0 * a1
        + (c0 + 4 * 9 + 2.5 * c0) * c1 * a1  # 1x1, depthwise, 1x1
        + (4 * 2.5 * c0 + 16 * 9 + 4 * 2.5 * c0) * c2 * a1
        + (16 * 2.5 * c0 * a1 + 64 * 9 * a2 + 64 * c4 * a2) * c3
        + (256 * c4 + 1024 * 9 + 256 * 2.5 * c4) * c5 * a2
        + 1024 * 2.5 * c4 * c6 * a2
        + 4096 * c6 * space.num_classes  # one pass over the groups of slot 6
    )


@pytest.mark.parametrize("name", cb.list_spaces())
def test_the_work_is_what_can_be_counted_by_hand(name):
    net = Supernet(cb.get_space(name), torch.Generator().manual_seed(0))
    assert count_macs(net) == count_macs(net, "right") == counted_by_hand(net.space)


@pytest.mark.slow  # nothing travels together
@pytest.mark.parametrize(("name", "saved"), [("resnet", 5.33), ("mobilenet", 12.97)])
def test_the_work_saved_with_a_norm_per_width(name, saved):
    space = cb.get_space(name)
    net = Supernet(space, torch.Generator().manual_seed(0), norm_per_width=True)
    assert round(int(space.flops().sum()) / count_macs(net), 2) == saved


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_sub_networks_of_the_full_spaces_equal_those_run_one_by_one(name):
    space = cb.get_space(name)
    net = make_supernet(name)
    archs = space.sample(12, np.random.default_rng(5))
    images = torch.rand(8, *space.input_shape, generator=torch.Generator().manual_seed(9))
    for path in PATHS:
        found, expected = all_logits(net, images, archs, path), one_by_one(net, images, archs, path)
        assert (found - expected).abs().max() < 1e-3
        assert (found.argmax(2) == expected.argmax(2)).double().mean() >= 0.99


@pytest.mark.parametrize("name", MINI)
def test_alone_a_sub_network_costs_its_flops(name):
    space, net = cb.get_space(name), make_supernet(name, dtype=torch.float64)
    for arch in ARCHS[name][:5]:
        walk = Walk(net)
        walk.run(pixels(3), arch[None], lambda rows, logits: None)
        assert walk.macs == 3 * space.flops(arch)
        before = net.forward_macs
        net(pixels(3), arch.tolist())
        assert net.forward_macs - before == 3 * space.flops(arch)


@pytest.mark.parametrize(("name", "norm_per_width"), list(itertools.product(MINI, [False, True])))
def test_a_few_sub_networks_are_run_no_wider_than_they_are(name, norm_per_width):
    net = make_supernet(name, 5, norm_per_width=norm_per_width)

    def cost(archs):
        walk = Walk(net, "right")
        walk.run(pixels(3, torch.float32), np.array(archs, np.int8), lambda rows, logits: None)
        return walk.macs / 3

    narrow, wide = [(1, 2, 1, 2, 1, 2, 1), (1, 2, 1, 2, 1, 2, 2)], (4,) * 7
    assert net.space.flops(narrow[1]) <= cost(narrow) < net.space.flops(narrow).sum()
    # The wide one shares the stem alone, and makes the others no dearer but in the layers that read two open slots.
    assert cost([*narrow, wide]) < cost(narrow) + net.space.flops(wide)
    assert cost(ARCHS[name][:20]) < net.space.flops(ARCHS[name][:20]).sum()


class LiveBytes(TorchDispatchMode):
    """The bytes of the storages that were made within it and are still alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self._seen = 0, 0, set()

    def ignore(self, tensors):
        """Leave out what was there before, also where an operation returns a view of it."""
        self._seen |= {tensor.untyped_storage()._cdata for tensor in tensors}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key, size):
        self._seen.discard(key)
        self.live -= size


def memory_bound(net, num_images, bundle_elements):
    """The elements that the docstring of `Walk` promises not to exceed."""
    sizes = [num_images * net.space.max_channels[layer.writes] * math.prod(layer.output_size) for layer in net.layers]
    closed, total, place = set(), 0, 0
    for block in net.blocks:
        if block[-1].skip:
            total += max(sizes[place - 1], bundle_elements)
        for layer in block:
            if layer.reads not in (IMAGE, layer.writes) and layer.reads not in closed:
                closed.add(layer.reads)
                total += max(4 * sizes[place], bundle_elements)
            place += 1
    return total + 3 * max(*sizes, bundle_elements) + max(weight.numel() for weight in net.weights.values())


def share_of_bound(net, archs, bundle_elements):
    """Peak of a walk's memory as a share of what is promised."""
    images = pixels(8, torch.float32)
    with LiveBytes() as memory:
        memory.ignore([images, *net.parameters()])
        Walk(net, bundle_elements=bundle_elements).run(images, archs, lambda rows, logits: None)
    assert memory.live == 0  # or not everything was seen
    return memory.peak / (4 * memory_bound(net, len(images), bundle_elements))


@pytest.mark.parametrize("name", MINI)
def test_memory_stays_within_what_the_walk_promises(name):
    net, archs = make_supernet(name), cb.get_space(name).archs()
    # The way down to 4444444 with all that waits beside it, and half of all there is of the first four slots.
    archs = archs[((archs != 4).sum(1) <= 1) | (archs[:, 4:] == 4).all(1) & (archs[:, 0] >= 3)]
    assert 0.8 < share_of_bound(net, archs, 0) <= 1
    for bundle_elements in (2**12, 2**15):
        assert 0.1 < share_of_bound(net, archs, bundle_elements) <= 1
    assert share_of_bound(make_supernet(name, norm_per_width=True), archs, 0) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", MINI)
@pytest.mark.parametrize("bundle_elements", [0, 2**11, 2**13, 2**15, BUNDLE_ELEMENTS["cpu"]])
def test_memory_of_all_sub_networks_stays_within_it(name, bundle_elements):
    assert share_of_bound(make_supernet(name), cb.get_space(name).archs(), bundle_elements) <= 1


def test_the_memory_of_the_full_spaces_is_what_the_docstring_says():
    for name, gigabytes in (("resnet", 17), ("mobilenet", 22)):
        net = Supernet(cb.get_space(name), torch.Generator())
        assert round(4e-9 * memory_bound(net, 2500, 0)) == gigabytes


@pytest.mark.parametrize(("path", "bundle_elements"), [("left", None), ("right", 2**11), ("left", 2**40)])
@pytest.mark.parametrize("name", MINI)
def test_recalibration_in_parts_equals_that_of_all_images_at_once(name, path, bundle_elements):
    net, archs = make_supernet(name, dtype=torch.float64), ARCHS[name][:16]
    calibration, images = (7, 6, 6, 5), pixels(24 + 9)
    whole = all_logits(net, images, archs, path, calibration, bundle_elements=bundle_elements)
    for max_images in (1, 13, 20, 32):  # in four parts, in two, in two, and in one beside that of the others
        found = all_logits(
            net, images, archs, path, calibration, bundle_elements=bundle_elements, max_images=max_images
        )
        assert (found - whole).abs().max() < 1e-9
    assert (whole - one_by_one(net, images, archs, path, calibration)).abs().max() < 1e-9


class LargestTensor(TorchDispatchMode):
    """Notes how many elements the largest tensor has that any operation returns."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_recalibration_of_a_full_space_takes_no_more_than_a_validation_batch(name):
    space, found = cb.get_space(name), {}
    net = Supernet(space, torch.Generator(), 5).to("meta")
    archs = np.array([(4,) * 7, (1, 2, 3, 4, 3, 2, 1)], np.int8)
    for calibration in ((), (256,) * 20):
        images = torch.empty(sum(calibration) + 2500, *space.input_shape, device="meta")
        with LargestTensor() as largest:
            Walk(net, "left", calibration, bundle_elements=2**27).run(images, archs, lambda rows, logits: None)
        found[calibration] = largest.elements
    plain, recalibrated = found.values()
    assert recalibrated == plain < 2**31  # some kernels count elements in 32 bits
