"""The native trainer against PyTorch: the same steps, the same statistics, the same distribution of results."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.recipe import get_recipe
from channel_bench.record import CURVE_METRICS, Job
from channel_bench.space import Space
from channel_bench.support.compiled import load_library
from channel_bench.training import native
from channel_bench.training.backends import pick_backend, train_jobs
from channel_bench.training.datasets import TrainLoader, make_dataset
from channel_bench.training.models import build_model
from channel_bench.training.run import run_generators, train_run

MINI = ["resnet-mini", "mobilenet-mini"]


@pytest.fixture(scope="module", autouse=True)
def compiler(digits):
    reason = native.reason_not(cb.get_space("resnet-mini"), get_recipe("mini"), digits)
    if reason is not None:
        pytest.skip(f"no native trainer here: {reason}")


def generator():
    return torch.Generator().manual_seed(1)


def torch_steps(model, recipe, dataset, dtype):
    """Plain PyTorch in a floating-point type of choice: trained parameters, running statistics, training loss."""
    model = model.to(dtype).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    loss_sum = 0.0
    for elapsed, images, labels in TrainLoader(dataset.train_images, dataset.train_labels, recipe).epoch(generator()):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at(elapsed)
        loss = functional.cross_entropy(model(images.to(dtype)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(labels)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    statistics = torch.cat([value for norm in norms for value in (norm.running_mean, norm.running_var)])
    parameters = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return parameters.double().numpy(), statistics.double().numpy(), loss_sum / len(dataset.train_labels)


def train(space, arch, recipe, dataset):
    """What the native trainer makes of the weights and draws of `generator`."""
    parameters = native.initial_parameters(space, arch, generator())
    return native.NativeTrainer(space, recipe, dataset).train(arch, parameters, generator())


def first_images(dataset, count):
    return dataclasses.replace(
        dataset, train_images=dataset.train_images[:count], train_labels=dataset.train_labels[:count]
    )


@pytest.mark.parametrize("name", [*MINI, "resnet", "mobilenet"])
def test_it_draws_the_weights_of_the_module(name):
    space = cb.get_space(name)
    for arch in ["1111111", "4444444", "1234321"][: 3 if name in MINI else 1]:
        module = build_model(space, arch, generator())
        flat = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
        assert np.array_equal(native.initial_parameters(space, arch, generator()), flat.numpy())


# Every kernel: widths of every remainder of the register tiles, images whose stages are 8, 6, 4, 3 and 2 pixels wide.
@pytest.mark.parametrize("size", [8, 12, 16])
@pytest.mark.parametrize(
    ("family", "maxima"),
    [
        ("resnet", (4, 8, 12, 20, 28, 24, 4)),
        ("resnet", (20, 4, 4, 8, 4, 4, 8)),
        ("mobilenet", (4, 8, 20, 12, 20, 28, 24)),
        ("mobilenet", (8, 4, 4, 4, 4, 4, 4)),
    ],
)
@pytest.mark.parametrize("arch", ["4444444", "1231423"])
def test_a_step_is_that_of_pytorch_in_double_precision(family, maxima, size, arch):
    space = Space("steps", family, maxima, (1, size, size), "digits", "mini")
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(80, 1, size, size), dtype=np.uint8)
    split = (images, rng.integers(10, size=80))
    dataset = make_dataset("noise", split, split)
    recipe = get_recipe("mini", epochs=1, batch_size=80)
    run = train(space, arch, recipe, dataset)
    parameters, statistics, loss = torch_steps(build_model(space, arch, generator()), recipe, dataset, torch.float64)
    # A step moves parameters by 1e-2; rounding alone may turn a ReLU whose input is nearly zero.
    assert np.median(np.abs(run.parameters - parameters)) < 1e-7
    assert np.abs(run.parameters - parameters).max() < 1e-4
    assert np.abs(run.statistics - statistics).max() < 2e-6
    assert run.curves["train_loss"][0] == pytest.approx(loss, abs=1e-6)


def test_colour_images_mirrored_and_cropped_train_like_pytorch():
    space = Space("colour", "resnet", (8, 8, 8, 16, 16, 16, 16), (3, 32, 32), "cifar10", "paper")
    rng = np.random.default_rng(0)
    split = (rng.integers(256, size=(48, 3, 32, 32), dtype=np.uint8), rng.integers(10, size=48))
    dataset = make_dataset("noise", split, split)
    recipe = get_recipe("paper", epochs=1, batch_size=32)  # a whole batch and a smaller last one
    run = train(space, "4321234", recipe, dataset)
    parameters, statistics, _ = torch_steps(build_model(space, "4321234", generator()), recipe, dataset, torch.float64)
    assert np.median(np.abs(run.parameters - parameters)) < 1e-6
    assert np.abs(run.statistics - statistics).max() < 1e-5


@pytest.mark.parametrize("name", MINI)
def test_after_some_steps_it_is_no_further_from_double_precision_than_pytorch(name, digits):
    """Training amplifies rounding a hundredfold in a step; so the yardstick is what PyTorch's own rounding does."""
    space, recipe = cb.get_space(name), get_recipe("mini", epochs=1)
    data = first_images(digits, 192)  # three steps
    ours, theirs = [], []
    for arch in ["4344424", "1213421", "2222222", "4111114", "1444441", "3333333", "1234123", "4141414"]:
        run = train(space, arch, recipe, data)
        truth, _, _ = torch_steps(build_model(space, arch, generator()), recipe, data, torch.float64)
        single, _, _ = torch_steps(build_model(space, arch, generator()), recipe, data, torch.float32)
        ours.append(np.abs(run.parameters - truth).mean())
        theirs.append(np.abs(single - truth).mean())
    # Both are spread over decades, so their logarithms are compared; a mistake in a step would be five decades away.
    assert np.mean(np.log10(ours)) < np.mean(np.log10(theirs)) + 1


def test_evaluation_is_that_of_pytorch_with_running_statistics(digits):
    space, recipe = cb.get_space("mobilenet-mini"), get_recipe("mini", epochs=1)
    model = build_model(space, "3213421", generator())
    run = train(space, "3213421", recipe, digits)
    start = 0
    for parameter in model.parameters():
        values = torch.from_numpy(run.parameters[start : start + parameter.numel()])
        parameter.data.copy_(values.view_as(parameter))
        start += parameter.numel()
    start = 0
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for buffer in (module.running_mean, module.running_var):
                buffer.copy_(torch.from_numpy(run.statistics[start : start + len(buffer)]))
                start += len(buffer)
    from channel_bench.training.datasets import normalise
    from channel_bench.training.evaluation import evaluate_on_device

    loader = TrainLoader(digits.train_images, digits.train_labels, recipe)
    loss, acc = evaluate_on_device(model, normalise(digits.test_images, *loader.statistics), digits.test_labels)
    assert run.curves["test_loss"][0] == pytest.approx(loss.item(), abs=1e-5)
    assert run.curves["test_acc"][0] == pytest.approx(acc.item(), abs=1e-9)


@pytest.mark.parametrize("name", MINI)
def test_whole_runs_agree_with_pytorch_in_distribution(name, digits):
    """Paired by architecture and seed, which leaves only what rounding and chaos do; that is noise of mean zero."""
    space, recipe = cb.get_space(name), get_recipe("mini", epochs=3)
    archs = [space.text(arch) for arch in space.sample(5, np.random.default_rng(3)).tolist()]
    jobs = [Job(arch, 0, seed) for arch in archs for seed in range(2)]
    ours = np.array([record.test_acc for record in native.train_native(space, jobs, recipe, digits)])
    theirs = np.array([record.test_acc for record in train_jobs(space, jobs, recipe, digits, backend="torch")])
    difference = ours - theirs
    assert abs(difference.mean()) < 4 * difference.std(ddof=1) / math.sqrt(len(jobs))
    assert np.corrcoef(ours, theirs)[0, 1] > 0.6


def test_a_run_depends_on_nothing_but_itself(digits):
    space, recipe = cb.get_space("resnet-mini"), get_recipe("mini", epochs=2)
    jobs = [Job("4344424", 0, 0), Job("1111111", 2, 7)]
    together = native.train_native(space, jobs, recipe, digits)
    (alone,) = native.train_native(space, jobs[1:], recipe, digits)
    assert alone.curves == together[1].curves
    assert (alone.backend, alone.stack, alone.run, alone.seed) == ("native", 1, 2, 7)
    assert together[0].curves != together[1].curves


def test_it_starts_from_the_weights_and_sees_the_images_of_train_run(digits):
    space, recipe = cb.get_space("resnet-mini"), get_recipe("mini", epochs=1, batch_size=1200)
    (ours,) = native.train_native(space, [Job("3214321", 0, 5)], recipe, digits)
    theirs = train_run(space, "3214321", recipe, 5, digits)
    for metric in CURVE_METRICS:
        assert ours.curves[metric] == pytest.approx(theirs.curves[metric], abs=2e-5)


def test_a_divergence_is_recorded_and_not_hidden(digits):
    space, recipe = cb.get_space("resnet-mini"), get_recipe("mini", epochs=2, lr=1e12)
    (record,) = native.train_native(space, [Job("2222222", 0, 0)], recipe, digits)
    assert record.status == "diverged" and record.test_acc is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"batch_size": 100}, r"batches of 100 out of 1200 images are not all multiples of 16"),
        ({"batch_size": 1008}, None),
    ],
)
def test_what_it_cannot_train_is_said_and_left_to_pytorch(digits, change, reason):
    space, recipe = cb.get_space("resnet-mini"), get_recipe("mini", epochs=1, **change)
    if reason is None:
        assert pick_backend(space, recipe, digits) == ("native", None)
        return
    assert pick_backend(space, recipe, digits)[0] == "torch"
    with pytest.raises(ArgumentError, match=reason):
        pick_backend(space, recipe, digits, "native")
    with pytest.raises(ArgumentError, match=reason):
        native.train_native(space, [Job("1111111", 0, 0)], recipe, digits)


def test_backends_are_named_and_the_full_spaces_left_to_pytorch(digits):
    mini, recipe = cb.get_space("resnet-mini"), get_recipe("mini")
    assert pick_backend(mini, recipe, digits) == ("native", None)
    assert pick_backend(mini, recipe, digits, "torch") == ("torch", None)
    assert pick_backend(cb.get_space("resnet"), recipe, digits) == ("torch", None)
    with pytest.raises(ArgumentError, match="backend is 'fast': allowed are auto, native, torch"):
        pick_backend(mini, recipe, digits, "fast")
    weights, _ = run_generators(mini, Job("1111111", 0, 3), digits.device)
    with pytest.raises(ArgumentError, match="seed -3 is negative"):
        run_generators(mini, Job("1111111", 0, -3), digits.device)
    assert weights.initial_seed() >= 0


def test_without_a_compiler_the_reason_is_one_line_and_pytorch_trains(digits, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    load_library.cache_clear()
    try:
        space, recipe = cb.get_space("resnet-mini"), get_recipe("mini", epochs=1)
        reason = native.reason_not(space, recipe, digits)
        assert reason is not None and "no-such-compiler" in reason and "\n" not in reason
        (record,) = train_jobs(space, [Job("1111111", 0, 0)], recipe, digits)
        assert record.backend == "torch"
    finally:
        monkeypatch.undo()
        load_library.cache_clear()


def test_a_compiler_that_fails_is_quoted(digits, monkeypatch, tmp_path):
    broken = tmp_path / "cc"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "cc: fatal: out of luck" >&2; exit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    load_library.cache_clear()
    try:
        reason = native.reason_not(cb.get_space("resnet-mini"), get_recipe("mini"), digits)
        assert reason is not None and "out of luck" in reason
    finally:
        monkeypatch.undo()
        load_library.cache_clear()
