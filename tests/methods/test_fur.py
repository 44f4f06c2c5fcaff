"""FUR: elasticities, dropout as a literal model has it, probes of known losses, and scores that are sums over slots."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from standalone import cut_out
from torch import nn
from torch.nn import functional

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.space.layers import IMAGE
from channel_bench.training.datasets import channel_statistics, normalise
from channel_bench.training.models import build_model
from harness.methods import fur, get_method
from harness.methods.fur import clean_statistics, elasticities, run_with_dropout
from harness.supernet.training import make_supernet
from harness.task import make_task, supernet_recipe

SPACE = cb.get_space("resnet-mini")
MINI = ["resnet-mini", "mobilenet-mini"]
WIDEST = (4,) * 7


def task_of(digits, name="resnet-mini", epochs=1, num_images=128, **changes):
    space = cb.get_space(name)
    task = make_task(space, digits, recipe=supernet_recipe(space, epochs), **changes)
    first = {name: getattr(task, name)[:num_images] for name in ("train_images", "train_labels")}
    return dataclasses.replace(task, **first)


def net_of(task):
    """A supernet whose scales and shifts differ between channels, as after training."""
    net, generator = make_supernet(task), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for scale, shift in zip(net.scales.values(), net.shifts.values(), strict=True):
            scale.uniform_(0.5, 1.5, generator=generator)
            shift.uniform_(-0.5, 0.5, generator=generator)
    return net


def images_of(task, count=64):
    return normalise(task.train_images[:count], *channel_statistics(task.train_images, task.recipe))


# -- elasticities -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shares", "dropout"),
    [
        (
            "resnet",
            [0.474, 0.210, 0.210, 0.158, 0.526, 0.210, 0.210],
            [0.030, 0.068, 0.068, 0.091, 0.027, 0.068, 0.068],
        ),
        (
            "mobilenet",
            [0.600, 0.247, 0.247, 0.181, 0.377, 0.242, 0.079],
            [0.023, 0.057, 0.057, 0.078, 0.037, 0.058, 0.177],
        ),
    ],
)
def test_elasticities_and_probabilities_of_the_full_spaces(name, shares, dropout):
    found = elasticities(cb.get_space(name))
    assert found.round(3).tolist() == shares
    assert (0.05 * found.mean() / found).round(3).tolist() == dropout


@pytest.mark.parametrize("name", cb.list_spaces())
def test_an_elasticity_is_a_derivative_of_the_flops(name):
    space = cb.get_space(name)
    for slot, elasticity in enumerate(elasticities(space)):
        without = [space.flops(tuple(digit if place == slot else 4 for place in range(7))) for digit in (1, 2, 3, 4)]
        assert np.diff(without) == pytest.approx(elasticity * space.flops(WIDEST) / 4)


# -- dropout ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MINI)
def test_without_dropout_it_is_the_plain_network_under_the_same_statistics(name, digits):
    task = task_of(digits, name)
    net = net_of(task)
    images, generator = images_of(task), torch.Generator().manual_seed(0)
    before = generator.get_state()
    plain = run_with_dropout(net, images, np.zeros(7), generator)
    assert torch.allclose(plain, net(images, WIDEST), atol=1e-6)
    assert torch.equal(generator.get_state(), before)
    # With statistics: the stand-alone model in evaluation mode, whose averages were formed without momentum.
    model = build_model(task.space, WIDEST, torch.Generator())
    model.load_state_dict(cut_out(net, WIDEST), strict=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        model.train()(images_of(task, 128))
        expected = model.eval()(images)
    found = run_with_dropout(net, images, np.zeros(7), generator, clean_statistics(task, net))
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3)


def test_statistics_are_means_over_batches_of_training_images(digits, monkeypatch):
    task = task_of(digits, num_images=96)
    net = net_of(task)
    monkeypatch.setattr(fur, "CALIBRATION_BATCH_SIZE", 32)
    monkeypatch.setattr(fur, "CALIBRATION_BATCHES", 2)
    mean, variance = clean_statistics(task, net)["stem_0"]
    outputs = functional.conv2d(images_of(task), net.weights["stem_0"], stride=2, padding=1)
    parts = outputs.split(32)
    assert torch.allclose(mean, torch.stack([part.mean((0, 2, 3)) for part in parts]).mean(0), atol=1e-6)
    assert torch.allclose(variance, torch.stack([part.var((0, 2, 3)) for part in parts]).mean(0), atol=1e-6)


def inputs_under_dropout(monkeypatch, net, images, dropout, seed=0, statistics=None):
    """What every layer reads in a pass under dropout, by its name."""
    from harness.supernet import network as supernet

    read, convolve = {}, supernet.convolve
    with monkeypatch.context() as patch:
        patch.setattr(
            supernet, "convolve", lambda layer, x, weight: read.update({layer.name: x}) or convolve(layer, x, weight)
        )
        with torch.no_grad():
            run_with_dropout(net, images, np.array(dropout), torch.Generator().manual_seed(seed), statistics)
    return read


@pytest.mark.parametrize("name", MINI)
def test_all_tensors_of_a_slot_lose_the_same_channels(name, digits, monkeypatch):
    task = task_of(digits, name)
    net = net_of(task)
    with torch.no_grad():  # so positive that only dropout makes a channel vanish
        for shift in net.shifts.values():
            shift.fill_(20.0)
    dropout = [0.3, 0.5, 0.4, 0.5, 0.2, 0.5, 0.6]
    read = inputs_under_dropout(monkeypatch, net, images_of(task), dropout)
    gone = {}
    for layer in net.layers:
        if layer.reads != IMAGE and not layer.depthwise:
            gone.setdefault(layer.reads, []).append((read[layer.name] == 0).all(3).all(2))
    assert len(gone[0]) == 3 and len(gone[4]) == 2
    for slot, masks in gone.items():
        assert all(torch.equal(mask, masks[0]) for mask in masks)
        share, count = masks[0].double().mean().item(), masks[0].numel()
        assert abs(share - dropout[slot]) < 4 * np.sqrt(0.25 / count)
        # Each image has a mask of its own, and no channel is spared.
        assert len(masks[0].unique(dim=0)) > 1 and masks[0].any(0).all()


@pytest.mark.parametrize("name", MINI)
def test_kept_channels_are_scaled_up_once_so_that_the_mean_stays(name, digits, monkeypatch):
    task = task_of(digits, name)
    net, images = net_of(task), images_of(task, 8)
    statistics = clean_statistics(task, net)
    with torch.no_grad():  # the first block adds a constant, whatever it reads
        last = net.blocks[1][-1].key
        net.scales[last].zero_()
    plain = inputs_under_dropout(monkeypatch, net, images, np.zeros(7), statistics=statistics)
    total, num_repeats = 0, 100
    for seed in range(num_repeats):
        read = inputs_under_dropout(monkeypatch, net, images, [0.25] + [0] * 6, seed, statistics)
        for layer in ("block1.0", "block2.0"):
            kept = (read[layer] != 0) | (plain[layer] == 0)
            assert torch.allclose(read[layer][kept], plain[layer][kept] / 0.75, atol=1e-5)
        total = total + read["block2.0"]
    # In expectation nothing changes: the standard deviation of one sample is sqrt(p / (1 - p)) of its value.
    error = (total / num_repeats - plain["block2.0"]).abs()
    assert (error <= 5 * plain["block2.0"].abs() * np.sqrt(1 / 3 / num_repeats) + 1e-5).all()
    assert (error.sum() / plain["block2.0"].abs().sum()).item() < 0.1


def test_a_depthwise_layer_reads_all_channels_and_its_output_is_dropped_once(digits, monkeypatch):
    task = task_of(digits, "mobilenet-mini")
    net, images = net_of(task), images_of(task, 16)
    statistics = clean_statistics(task, net)
    plain = inputs_under_dropout(monkeypatch, net, images, np.zeros(7), statistics=statistics)
    read = inputs_under_dropout(monkeypatch, net, images, [0, 0.5] + [0] * 5, statistics=statistics)
    assert torch.equal(read["block1.3"], plain["block1.3"])
    kept = (read["block1.6"] != 0).any(3).any(2)
    assert 0.3 < kept.double().mean() < 0.7
    assert torch.allclose(read["block1.6"][kept], 2 * plain["block1.6"][kept], atol=1e-5)


# -- training and probing ---------------------------------------------------------------------------------------


def notes_of_training(monkeypatch, task, **options):
    """Dropout of every step of a training whose forward pass only notes it."""
    seen = []

    def note(network, images, dropout, generator, statistics=None):
        seen.append(np.array(dropout))
        return network.classifier_bias.expand(len(images), -1)

    with monkeypatch.context() as patch:
        patch.setattr(fur, "run_with_dropout", note)
        patch.setattr(fur.FUR, "probe", lambda self, task, network: np.zeros((7, 4)))
        get_method("fur", **options).fit(task)
    return np.array(seen)


def test_dropout_grows_with_the_epoch_and_the_depth(digits, monkeypatch):
    # One batch an epoch; 50 epochs, among them 29, where 29 / 50 * 50 is rounded to less than 29.
    seen = notes_of_training(monkeypatch, task_of(digits, epochs=50, num_images=64), p_max=0.3)
    expected = 0.3 * (np.arange(50) / 50)[:, None] * np.arange(1, 8) / 7
    assert seen == pytest.approx(expected)


def test_the_curve_is_trained_with_every_dropout_up_to_the_narrowest_width(digits, monkeypatch):
    seen = notes_of_training(monkeypatch, task_of(digits, epochs=300, num_images=64), score="curve")
    assert seen.shape == (300, 7) and seen.min() >= 0 and seen.max() <= 0.75
    assert seen.mean(0) == pytest.approx([0.375] * 7, abs=0.06) and (seen.max(0) > 0.73).all()
    assert np.abs(np.corrcoef(seen.T) - np.eye(7)).max() < 0.25


def known_loss(loss):
    """A forward pass whose cross-entropy is a function of the dropout, for labels of class 0."""

    def run(network, images, dropout, generator, statistics=None):
        assert statistics is not None
        logits = torch.zeros(len(images), 10, dtype=torch.float64)
        logits[:, 0] = -np.log((np.exp(loss(dropout)) - 1) / 9)
        return logits

    return run


def probe_known(monkeypatch, digits, loss, **options):
    task = task_of(digits)
    task = dataclasses.replace(task, val_labels=torch.zeros_like(task.val_labels))
    monkeypatch.setattr(fur, "run_with_dropout", known_loss(loss))
    return get_method("fur", **options).probe(task, make_supernet(task))


def test_the_linear_probe_finds_the_slopes_of_a_loss_that_is_linear_in_the_dropout(monkeypatch, digits):
    slopes = np.array([0.5, 1, 2, 0, 3, 1.5, -0.25])
    effects = probe_known(monkeypatch, digits, lambda dropout: 1 + slopes @ dropout)
    assert effects == pytest.approx(-slopes[:, None] * [0.75, 0.5, 0.25, 0], abs=1e-9)


def test_the_curve_measures_a_loss_at_the_widths_and_at_no_other_place(monkeypatch, digits):
    a, b = np.linspace(0.5, 2, 7), np.linspace(1, -0.5, 7)
    effects = probe_known(monkeypatch, digits, lambda dropout: 1 + a @ dropout + b @ dropout**2, score="curve")
    removed = np.array([0.75, 0.5, 0.25, 0])
    assert effects == pytest.approx(-(a[:, None] * removed + b[:, None] * removed**2), abs=1e-9)


def test_every_slot_is_probed_alone_where_it_costs_the_same_flops(monkeypatch, digits):
    seen = []
    probe_known(monkeypatch, digits, lambda dropout: seen.append(dropout.copy()) or 1.0, p0=0.1, repeats=3)
    assert not seen[0].any() and len(seen) == 1 + 7 * 3
    elastic = elasticities(SPACE)
    for slot in range(7):
        for dropout in seen[1 + 3 * slot : 4 + 3 * slot]:
            assert np.flatnonzero(dropout).tolist() == [slot]
            assert dropout[slot] * elastic[slot] == pytest.approx(0.1 * elastic.mean())


def test_a_slot_that_hardly_costs_anything_is_not_dropped_altogether(monkeypatch, digits):
    seen = []
    effects = probe_known(monkeypatch, digits, lambda dropout: seen.append(dropout.max()) or 1 + dropout.sum(), p0=0.99)
    assert max(seen) == fur.MAX_DROPOUT
    assert effects == pytest.approx(np.tile([-0.75, -0.5, -0.25, 0], (7, 1)))


def test_the_accuracy_can_be_measured_in_the_place_of_the_loss(monkeypatch, digits):
    def run(network, images, dropout, generator, statistics=None):
        wrong = round(len(images) * dropout.sum() / 2)  # this share of the images is answered by class 1
        return torch.eye(10)[[1] * wrong + [0] * (len(images) - wrong)]

    task = task_of(digits)
    task = dataclasses.replace(task, val_labels=torch.zeros_like(task.val_labels))
    monkeypatch.setattr(fur, "run_with_dropout", run)
    effects = get_method("fur", score="curve", measure="accuracy").probe(task, make_supernet(task))
    # 300 images: three quarters of 150 are 112 images, and so on.
    assert effects == pytest.approx(np.tile([-112 / 3, -75 / 3, -38 / 3, 0], (7, 1)))


def test_the_calibration_images_of_a_task_are_not_probed(monkeypatch, digits):
    task, sizes = task_of(digits, bn="recalibrated"), []
    monkeypatch.setattr(
        fur,
        "run_with_dropout",
        lambda network, images, *rest: sizes.append(len(images)) or torch.zeros(len(images), 10),
    )
    get_method("fur").probe(task, make_supernet(task))
    assert set(sizes) == {len(task.val_labels)}


@pytest.mark.parametrize("score", ["linear", "curve"])
def test_probing_changes_no_weight_and_repeats_itself(score, digits):
    task = task_of(digits)
    net = net_of(task)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    method = get_method("fur", score=score, repeats=2)
    effects = method.probe(task, net)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert (method.probe(task, net) == effects).all()
    assert not (method.probe(dataclasses.replace(task, seed=1), net)[:, :3] == effects[:, :3]).any()


@pytest.mark.parametrize(("score", "measure"), [("linear", "loss"), ("curve", "loss"), ("curve", "accuracy")])
def test_scores_are_sums_over_slots(score, measure, digits):
    evaluator = get_method("fur", score=score, measure=measure, repeats=1).fit(task_of(digits, epochs=3))
    effects = evaluator.slot_effects()
    assert effects.shape == (7, 4) and effects.dtype == np.float64 and (effects[:, 3] == 0).all()
    archs = SPACE.sample(50, np.random.default_rng(0))
    by_hand = [sum(effects[slot, digit - 1] for slot, digit in enumerate(arch)) for arch in archs]
    assert evaluator.score(archs) == pytest.approx(by_hand, rel=1e-12)
    assert evaluator.score(np.array([WIDEST], np.int8)).tolist() == [0]
    bends = np.diff(effects, 2, axis=1)
    assert np.allclose(bends, 0, atol=1e-12) == (score == "linear")
    effects[:] = 7
    assert (evaluator.slot_effects()[:, 3] == 0).all()
    assert np.array(evaluator.facts["slot_effects"]) == pytest.approx(evaluator.slot_effects(), abs=1e-6)
    json.dumps(evaluator.facts)


def test_a_network_trained_with_dropout_learns_and_suffers_where_channels_go(digits):
    losses = []
    task = make_task(
        SPACE,
        digits,
        recipe=supernet_recipe(SPACE, 12),
        on_epoch=lambda epoch, epochs, note: losses.append(float(note.removeprefix("loss "))),
    )
    effects = get_method("fur").fit(task).slot_effects()
    assert losses[-1] < 1.5 < losses[0]
    # Narrowing costs, and most where everything has to pass through: on the skip lines of the two stages.
    assert effects.sum(0)[0] < -0.5 and effects[:, 0].argmin() in (0, 4)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("score", "cubic"), ("measure", "time"), ("p0", 0.0), ("p0", 1.0), ("p0", float("nan")), ("p_max", -0.1),
        ("p_max", 1.0), ("repeats", 0),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused_in_one_line(option, value):
    with pytest.raises(ArgumentError, match="allowed are") as caught:
        get_method("fur", **{option: value})
    assert "\n" not in str(caught.value) and option in str(caught.value)
