"""How often uniform, fair, BCNet and BCNetV2 train each width and each group of channels, and by which gradients."""

import importlib

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.recipe import get_recipe
from harness.methods import bcnet, get_method
from harness.supernet.network import Supernet
from harness.supernet.training import WIDTHS, Batch
from harness.task import make_task, supernet_recipe

SPACE = cb.get_space("resnet-mini")
WIDEST = (4,) * 7


@pytest.fixture(scope="module")
def task(digits):
    """One epoch of three batches."""
    return make_task(SPACE, digits, recipe=get_recipe(supernet_recipe(SPACE, 1), batch_size=300))


def step_of(monkeypatch, method, task):
    """A method's step function and its supernet, without the training."""
    module = importlib.import_module(type(method).__module__)
    found = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "train_supernet", lambda task, net, step, **options: found.extend((net, step)) or {})
        method.fit(task)
    return tuple(found)


def batch_of(task, number, count=8):
    images = torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(number))
    return Batch(number, 0, 0.0, images, torch.arange(count) % 10, task.rng(WIDTHS, number))


def simulate(monkeypatch, method, task, num_steps):
    """Sub-networks (arch, path) of each step, run on a supernet whose forward pass only notes them."""
    net, step = step_of(monkeypatch, method, task)
    calls = []

    def note(images, arch, path="left"):
        calls[-1].append((tuple(arch), path))
        return net.classifier_bias.expand(len(images), -1)

    with monkeypatch.context() as patch:
        patch.setattr(net, "forward", note)
        for number in range(num_steps):
            calls.append([])
            step(batch_of(task, number, count=1))
    return net, calls


def group_counts(net, subnets):
    """How often each group of each slot belongs to one of these sub-networks, (7, T), by the supernet's own slices."""
    counts = np.zeros((7, net.num_groups), int)
    for arch, path in subnets:
        for slot, digit in enumerate(arch):
            channels = net.channels_of(slot, digit, path)
            size = net.group_size(slot)
            counts[slot, channels.start // size : channels.stop // size] += 1
    return counts


def width_counts(subnets):
    """How often each width of each slot was run, (7, 4)."""
    archs = np.array([arch for arch, _ in subnets])
    return (archs[:, :, None] == np.arange(1, 5)).sum(0)


def looks_uniform(counts):
    """Whether counts fit equal probabilities, at a level that a correct sampler fails once in 10,000 seeds."""
    return stats.chisquare(counts).pvalue > 1e-4


# -- uniform and fair -------------------------------------------------------------------------------------------


def test_uniform_runs_one_left_sub_network_and_favours_the_first_groups(monkeypatch, task):
    net, calls = simulate(monkeypatch, get_method("uniform"), task, 600)
    assert all(len(step) == 1 and step[0][1] == "left" for step in calls)
    subnets = [subnet for step in calls for subnet in step]
    assert all(looks_uniform(counts) for counts in width_counts(subnets))
    # The digits of two slots are independent.
    assert looks_uniform(np.bincount([4 * arch[2] + arch[5] - 5 for arch, _ in subnets], minlength=16))
    trained = group_counts(net, subnets)
    assert (trained[:, 0] == 600).all()
    assert trained.mean(0) / 150 == pytest.approx([4, 3, 2, 1], abs=0.15)


def test_fair_runs_every_width_once_per_step_so_groups_exactly_four_to_one(monkeypatch, task):
    net, calls = simulate(monkeypatch, get_method("fair"), task, 200)
    for step in calls:
        assert (width_counts(step) == 1).all()
        assert (group_counts(net, step) == [4, 3, 2, 1]).all()
        assert {path for _, path in step} == {"left"}
    # Permutations are independent over slots: what goes with what is left to chance.
    subnets = [subnet for step in calls for subnet in step]
    assert looks_uniform(np.bincount([4 * arch[2] + arch[5] - 5 for arch, _ in subnets], minlength=16))
    assert looks_uniform(np.bincount([step[0][0][3] - 1 for step in calls]))


def test_fair_sums_the_gradients_of_its_four_sub_networks(monkeypatch, task):
    net, step = step_of(monkeypatch, get_method("fair"), task)
    batch, archs = batch_of(task, 0), []
    forward = net.forward
    monkeypatch.setattr(net, "forward", lambda images, arch: archs.append(arch) or forward(images, arch))
    shown = step(batch)
    losses = [functional.cross_entropy(forward(batch.images, arch), batch.labels) for arch in archs]
    assert len(losses) == 4 and shown.item() == pytest.approx(sum(losses).item() / 4)
    expected = torch.autograd.grad(sum(losses), list(net.parameters()))
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


# -- BCNet ------------------------------------------------------------------------------------------------------

COUNTS = {
    "even": ([2, 2, 2, 2], [2, 2, 2, 2], [2, 2, 2, 2], [4, 4, 4, 4]),
    "clamp": ([2, 2, 2, 2], [2, 2, 2, 2], [2, 2, 2, 2], [3, 2, 2, 3]),
    "mirror": ([3, 2, 2, 3], [2, 3, 3, 2], [2, 3, 3, 2], [3, 2, 2, 3]),
    "released": ([2, 1, 1, 2], [2, 1, 1, 2], [2, 2, 2, 2], [3, 2, 2, 3]),
}
"""How often a pair of steps trains each group, after a first width of 1, 2, 3, 4."""
FREQUENCIES = {
    "even": [1 / 4] * 4,
    "clamp": [3 / 8, 1 / 4, 1 / 4, 1 / 8],
    "mirror": [1 / 4] * 4,
    "released": [1 / 2, 1 / 4, 1 / 8, 1 / 8],
}


@pytest.mark.parametrize("complement", list(COUNTS))
def test_a_pair_of_steps_of_bcnet_trains_groups_and_widths_as_its_complement_says(monkeypatch, task, complement):
    net, calls = simulate(monkeypatch, get_method("bcnet", complement=complement), task, 400)
    seen = set()
    for one, other in zip(calls[::2], calls[1::2], strict=True):
        (arch, _), (complementary, _) = one[0], other[0]
        assert one == [(arch, "left"), (arch, "right")]
        assert other == [(complementary, "left"), (complementary, "right")]
        for digit, counts in zip(arch, group_counts(net, one + other).tolist(), strict=True):
            assert counts == COUNTS[complement][digit - 1]
            seen.add(digit)
    assert seen == {1, 2, 3, 4}
    firsts = [step[0] for step in calls[::2]]
    assert all(looks_uniform(counts) for counts in width_counts(firsts))
    shares = width_counts([step[0] for step in calls]).sum(0) / (7 * 400)
    assert shares == pytest.approx(FREQUENCIES[complement], abs=0.05)


def test_the_even_complement_trains_all_groups_of_a_slot_equally_often(monkeypatch, task):
    net, calls = simulate(monkeypatch, get_method("bcnet"), task, 100)
    trained = group_counts(net, [subnet for step in calls for subnet in step])
    assert (trained == trained[:, :1]).all() and trained.min() > 0


def test_every_third_step_can_train_the_full_network(monkeypatch, task):
    method = get_method("bcnet", full_every=3, complement="mirror")
    _, calls = simulate(monkeypatch, method, task, 300)
    archs = [step[0][0] for step in calls]
    assert archs[2::3] == [WIDEST] * 100
    assert [tuple(5 - digit for digit in arch) for arch in archs[0::3]] == archs[1::3]
    assert len(set(archs[0::3])) > 90


def test_the_loss_of_bcnet_is_half_of_either_path(monkeypatch, task):
    net, step = step_of(monkeypatch, get_method("bcnet"), task)
    batch = batch_of(task, 0)
    shown = step(batch)
    arch = get_method("bcnet").arch_of(task, 0)
    losses = [functional.cross_entropy(net(batch.images, arch, path), batch.labels) for path in ("left", "right")]
    assert arch != WIDEST and losses[0].item() != pytest.approx(losses[1].item(), rel=1e-3)
    half = (losses[0] + losses[1]) / 2
    assert shown.item() == pytest.approx(half.item())
    for parameter, gradient in zip(net.parameters(), torch.autograd.grad(half, list(net.parameters())), strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_without_a_complement_every_batch_of_bcnet_has_a_new_width(monkeypatch, task):
    _, calls = simulate(monkeypatch, get_method("bcnet", complement="none"), task, 400)
    assert all([path for _, path in step] == ["left", "right"] and step[0][0] == step[1][0] for step in calls)
    archs = [step[0][0] for step in calls]
    assert all(looks_uniform(counts) for counts in width_counts([step[0] for step in calls]))
    # The second of two batches knows nothing of the first.
    digits = np.array([archs[::2], archs[1::2]])[:, :, 0]
    assert looks_uniform(np.bincount(4 * digits[0] + digits[1] - 5, minlength=16))


LEFT_COUNTS = ([2, 1, 1, 0], [2, 2, 0, 0], [2, 1, 1, 0], [2, 2, 2, 2])
"""How often the left paths of c and of its complement, 3, 2, 1 and 4, train each group, for c = 1, 2, 3, 4."""


def test_the_unilateral_path_can_have_a_complement(monkeypatch, task):
    method = get_method("bcnet", paths="left")
    net, calls = simulate(monkeypatch, method, task, 400)
    assert all(len(step) == 1 and step[0][1] == "left" for step in calls)
    for one, other in zip(calls[::2], calls[1::2], strict=True):
        for digit, counts in zip(one[0][0], group_counts(net, one + other).tolist(), strict=True):
            assert counts == LEFT_COUNTS[digit - 1]
    assert method.fit(task).paths == ("left",)


def test_the_unilateral_path_without_a_complement_is_uniform_bit_for_bit(task):
    archs = SPACE.sample(20, np.random.default_rng(0))
    one, other = (get_method("bcnet", paths="left", complement="none").fit(task), get_method("uniform").fit(task))
    assert one.columns(archs)["val_loss"].tolist() == other.columns(archs)["val_loss"].tolist()
    assert one.facts["train_macs"] == other.facts["train_macs"]
    for mine, its in zip(one.training_losses(), other.training_losses(), strict=True):
        assert mine.tolist() == its.tolist()


@pytest.mark.parametrize(("base_width", "together"), [(2, [4, 5, 5, 4]), (3, [3, 4, 4, 3])])
def test_four_groups_are_not_trained_equally_often_by_widths_above_a_base(monkeypatch, task, base_width, together):
    method = get_method("bcnet", complement="mirror", base_width=base_width)
    net, calls = simulate(monkeypatch, method, task, 200)
    assert net.num_groups == 4
    archs = [step[0][0] for step in calls]
    assert {digit for arch in archs for digit in arch} == set(range(base_width, 5))
    assert [tuple(4 + base_width - digit for digit in arch) for arch in archs[::2]] == archs[1::2]
    every = [((digit,) * 7, path) for digit in range(base_width, 5) for path in ("left", "right")]
    assert group_counts(net, every).tolist() == [together] * 7


# -- BCNetV2 ----------------------------------------------------------------------------------------------------


def test_a_pair_of_steps_of_bcnet_v2_trains_each_of_five_groups_once(monkeypatch, task):
    net, calls = simulate(monkeypatch, get_method("bcnet_v2"), task, 400)
    assert net.num_groups == 5
    for (left,), (right,) in zip(calls[::2], calls[1::2], strict=True):
        assert (left[1], right[1]) == ("left", "right")
        assert (group_counts(net, [left, right]) == 1).all()
    subnets = [subnet for step in calls for subnet in step]
    assert all(looks_uniform(counts) for counts in width_counts(subnets[::2]))
    assert (width_counts(subnets[::2]) == width_counts(subnets[1::2])[:, ::-1]).all()


def test_with_four_groups_bcnet_v2_trains_the_group_where_its_paths_meet_twice(monkeypatch, task):
    net, calls = simulate(monkeypatch, get_method("bcnet_v2", groups="paper"), task, 400)
    assert net.num_groups == 4
    total = np.zeros((7, 4), int)
    for (left,), (right,) in zip(calls[::2], calls[1::2], strict=True):
        counts = group_counts(net, [left, right])
        assert (counts == 1 + (np.arange(1, 5) == np.array(left[0])[:, None])).all()
        total += counts
    assert all(looks_uniform(counts) for counts in total - 200)


BASE_COUNTS = {
    ("eq21", 1): [4, 4, 4, 4, 4],
    ("eq21", 2): [3, 3, 3, 3, 3, 3],
    ("eq21", 3): [2, 2, 2, 2, 2, 2, 2],
    ("paper", 1): [5, 5, 5, 5],
    ("paper", 2): [3, 4, 4, 4, 3],
    ("paper", 3): [2, 2, 3, 3, 2, 2],
}
"""How often each group is trained by both paths of every width from the base to 4."""


@pytest.mark.parametrize(("groups", "base_width"), list(BASE_COUNTS))
def test_above_a_base_width_eq21_alone_trains_all_groups_equally_often(monkeypatch, task, groups, base_width):
    method = get_method("bcnet_v2", groups=groups, base_width=base_width)
    net, calls = simulate(monkeypatch, method, task, 600)
    expected = BASE_COUNTS[groups, base_width]
    assert net.num_groups == method.num_groups == len(expected)
    every = [((digit,) * 7, path) for digit in range(base_width, 5) for path in ("left", "right")]
    assert group_counts(net, every).tolist() == [expected] * 7
    subnets = [subnet for step in calls for subnet in step]
    counts = width_counts(subnets)
    assert (counts[:, : base_width - 1] == 0).all()
    assert all(looks_uniform(row) for row in width_counts(subnets[::2])[:, base_width - 1 :])
    if groups == "eq21":
        for left, right in zip(calls[::2], calls[1::2], strict=True):
            assert (group_counts(net, left + right) == 1).all()


def test_bcnet_v2_can_train_both_paths_of_a_width_on_every_batch(monkeypatch, task):
    net, calls = simulate(monkeypatch, get_method("bcnet_v2", update="both"), task, 100)
    for one, other in zip(calls[::2], calls[1::2], strict=True):
        arch, complement = one[0][0], tuple(5 - digit for digit in one[0][0])
        assert one == [(arch, "left"), (arch, "right")]
        assert other == [(complement, "left"), (complement, "right")]
        assert (group_counts(net, one + other) == 2).all()


@pytest.mark.parametrize("update", ["alternate", "both"])
def test_the_loss_of_bcnet_v2_is_the_mean_over_the_paths_of_its_batch(monkeypatch, task, update):
    method = get_method("bcnet_v2", update=update)
    net, step = step_of(monkeypatch, method, task)
    batch = batch_of(task, 1)
    shown, arch = step(batch), method.arch_of(task, 1)
    paths = ("left", "right") if update == "both" else ("right",)
    mean = sum(functional.cross_entropy(net(batch.images, arch, path), batch.labels) for path in paths) / len(paths)
    assert shown.item() == pytest.approx(mean.item())
    for parameter, gradient in zip(net.parameters(), torch.autograd.grad(mean, list(net.parameters())), strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [("bcnet", {"complement": "none"}), ("bcnet", {"paths": "left"}),
     ("bcnet", {"complement": "mirror", "base_width": 2}),
     ("bcnet_v2", {"update": "both"}), ("bcnet_v2", {"base_width": 3})],
)  # fmt: skip
def test_every_variant_keeps_the_losses_of_its_widths(task, name, options):
    method = get_method(name, **options)
    archs, losses = method.fit(task).training_losses()
    assert archs.tolist() == [list(method.arch_of(task, number)) for number in range(3)]
    assert losses.mean() == pytest.approx(1)


@pytest.mark.parametrize("right", ["same", "new"])
def test_the_right_path_can_take_the_same_or_a_new_width(monkeypatch, task, right):
    _, calls = simulate(monkeypatch, get_method("bcnet_v2", right=right), task, 400)
    assert [step[0][1] for step in calls] == ["left", "right"] * 200
    archs = [step[0][0] for step in calls]
    same = [left == other for left, other in zip(archs[::2], archs[1::2], strict=True)]
    assert all(same) if right == "same" else sum(same) <= 1
    digits = np.array([archs[::2], archs[1::2]])[:, :, 0]
    assert right == "same" or looks_uniform(np.bincount(4 * digits[0] + digits[1] - 5, minlength=16))


@pytest.mark.parametrize("name", ["bcnet", "bcnet_v2"])
def test_pairs_go_on_over_the_end_of_an_epoch(monkeypatch, digits, name):
    # Three batches per epoch, so that the second pair begins in the first epoch and ends in the second.
    task = make_task(SPACE, digits, recipe=get_recipe(supernet_recipe(SPACE, 2), batch_size=300))
    calls, forward = [], Supernet.forward
    monkeypatch.setattr(
        Supernet,
        "forward",
        lambda net, images, arch, path="left", **rest: (
            calls.append((arch, path)) or forward(net, images, arch, path, **rest)
        ),
    )
    evaluator = get_method(name).fit(task)
    per_step = 2 if name == "bcnet" else 1
    assert len(calls) == 6 * per_step
    for start in range(0, len(calls), 2 * per_step):
        counts = group_counts(evaluator.supernet, calls[start : start + 2 * per_step])
        assert (counts == counts[:, :1]).all()
    assert len({arch for arch, _ in calls}) > 4


@pytest.mark.parametrize("name", ["bcnet", "bcnet_v2"])
def test_the_score_is_the_mean_accuracy_of_both_paths(name, task):
    evaluator = get_method(name).fit(task)
    _, ((images, labels),) = task.validation_batches()
    arch = (3, 1, 2, 2, 1, 3, 2)
    with torch.no_grad():
        hits = [
            (evaluator.supernet(images, arch, path).argmax(1) == labels).double().mean() for path in ("left", "right")
        ]
    assert hits[0] != hits[1]
    assert evaluator.score(np.array([arch], np.int8)) == pytest.approx([50 * sum(hits).item()])


def test_bcnet_keeps_the_loss_of_every_step_relative_to_its_epoch(monkeypatch, digits):
    task = make_task(SPACE, digits, recipe=get_recipe(supernet_recipe(SPACE, 2), batch_size=300))
    method, shown, train = get_method("bcnet", full_every=3), [], bcnet.train_supernet

    def watch(task, net, step, **options):
        return train(task, net, lambda batch: shown.append(step(batch)) or shown[-1], **options)

    monkeypatch.setattr(bcnet, "train_supernet", watch)
    archs, losses = method.fit(task).training_losses()
    # Every third step trains the full network, which is not drawn: among the best records there would be no other.
    assert archs.tolist() == [list(method.arch_of(task, number)) for number in (0, 1, 3, 4)]
    expected = np.array([loss.item() for loss in shown]).reshape(2, 3)[:, :2]
    assert losses == pytest.approx((expected / expected.mean(1, keepdims=True)).ravel())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bcnet", {"complement": "odd"}, "complement is 'odd': allowed are even, clamp, mirror, released, none"),
        ("bcnet", {"paths": "right"}, "paths is 'right': allowed are both, left"),
        ("bcnet", {"base_width": 2}, "complement is 'even' with base_width 2: allowed are mirror and none"),
        ("bcnet", {"base_width": 0, "complement": "none"}, "base_width is 0: allowed are 1 to 3"),
        ("bcnet_v2", {"base_width": 4}, "base_width is 4: allowed are 1 to 3"),
        ("bcnet_v2", {"update": "right"}, "update is 'right': allowed are alternate, both"),
        ("bcnet", {"full_every": 2}, "full_every is 2: allowed are 0 .never. and 3"),
        ("bcnet_v2", {"groups": "six"}, "groups is 'six': allowed are eq21, paper"),
        ("bcnet_v2", {"right": "left"}, "right is 'left': allowed are complement, same, new"),
    ],
)
def test_unknown_variants_are_refused_in_one_line(name, options, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        get_method(name, **options)
    assert "\n" not in str(caught.value)
