"""A stack of networks against the networks one by one: same weights, same outputs, same training."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.recipe import get_recipe
from channel_bench.record import Job
from channel_bench.training.models import build_model
from channel_bench.training.models.stacked import StackedModel
from channel_bench.training.run import train_run, train_stack

MINI = ["resnet-mini", "mobilenet-mini"]
ARCHS = ["4444444", "1111111", "1413214", "3142341"]


def generators():
    return [torch.Generator().manual_seed(number) for number in range(len(ARCHS))]


@pytest.mark.parametrize("name", MINI)
def test_each_network_of_a_stack_computes_what_it_computes_alone(name):
    space = cb.get_space(name)
    stack = StackedModel(space, ARCHS, generators()).double()
    alone = [build_model(space, arch, generator).double() for arch, generator in zip(ARCHS, generators(), strict=True)]
    images = torch.rand(6, len(ARCHS), *space.input_shape, generator=torch.Generator().manual_seed(9)).double()
    for training in (True, False, True):  # the second pass uses the running statistics that the first left behind
        logits = stack.train(training)(images)
        for number, model in enumerate(alone):
            assert torch.allclose(logits[:, number], model.train(training)(images[:, number]), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", MINI)
def test_padding_stays_zero_under_training(name, digits):
    space = cb.get_space(name)
    jobs = [Job(arch, 0, seed) for seed, arch in enumerate(ARCHS)]
    seen = []
    forward = StackedModel.forward

    def spy(self, images):
        seen.append(self)
        return forward(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StackedModel, "forward", spy)
        train_stack(space, jobs, get_recipe("mini", epochs=2), digits)
    narrow = build_model(space, ARCHS[1], torch.Generator())
    for key, layer in seen[0].layers.items():
        if isinstance(layer, torch.nn.Conv2d):
            own = narrow.get_submodule(key.replace("_", ".")).weight
            weight = seen[0]._slot(key, "weight", 1)
            inside = weight[: own.shape[0], : own.shape[1]].clone()
            assert inside.count_nonzero() == inside.numel()
            assert weight.count_nonzero() == inside.numel()


@pytest.mark.parametrize("name", MINI)
def test_training_steps_of_a_stack_are_those_of_each_network(name):
    # In float64, where rounding cannot hide a difference in the gradients.
    space = cb.get_space(name)
    stack = StackedModel(space, ARCHS, generators()).double()
    alone = [build_model(space, arch, generator).double() for arch, generator in zip(ARCHS, generators(), strict=True)]
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    optimizers = [torch.optim.SGD(model.parameters(), **options) for model in [stack, *alone]]
    data = torch.Generator().manual_seed(9)
    for _ in range(5):
        images = torch.rand(40, len(ARCHS), *space.input_shape, generator=data).double()
        labels = torch.randint(10, (40, len(ARCHS)), generator=data)
        for optimizer in optimizers:
            optimizer.zero_grad()
        losses = functional.cross_entropy(stack(images).movedim(2, 1), labels, reduction="none").mean(0)
        losses.sum().backward()
        for number, model in enumerate(alone):
            loss = functional.cross_entropy(model(images[:, number]), labels[:, number])
            assert losses[number].item() == pytest.approx(loss.item(), abs=1e-9)
            loss.backward()
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("name", MINI)
def test_a_stack_gives_each_network_the_data_and_the_record_of_a_single_run(name, digits):
    space = cb.get_space(name)
    recipe = get_recipe("mini", epochs=1, batch_size=1200)
    jobs = [Job(arch, 5, seed) for seed, arch in enumerate(ARCHS)]
    for job, record in zip(jobs, train_stack(space, jobs, recipe, digits), strict=True):
        alone = train_run(space, job.arch, recipe, job.seed, digits, run=5)
        assert record.train_loss == pytest.approx(alone.train_loss, abs=1e-5)
        assert record.test_loss == pytest.approx(alone.test_loss, abs=1e-3)
        assert record.train_acc == alone.train_acc
        same = {"arch", "run", "seed", "status", "num_epochs", "flops", "params", "device", "torch"}
        assert {key: getattr(record, key) for key in same} == {key: getattr(alone, key) for key in same}
        assert (record.stack, alone.stack) == (4, 1)


@pytest.mark.slow
def test_stacked_and_single_accuracies_have_the_same_distribution(digits):
    # The same eight runs both ways: chaos makes them differ one by one, but not on average.
    space = cb.get_space("resnet-mini")
    recipe = get_recipe("mini", epochs=6)
    jobs = [Job("3333333", seed, seed) for seed in range(8)]
    stacked = np.array([record.test_loss for record in train_stack(space, jobs, recipe, digits)])
    alone = np.array([train_run(space, job.arch, recipe, job.seed, digits).test_loss for job in jobs])
    # The pairs start alike, so their difference is smaller than that of two independent groups.
    standard_error = np.sqrt((stacked.var(ddof=1) + alone.var(ddof=1)) / 8)
    assert abs(stacked.mean() - alone.mean()) < 3 * standard_error


def test_a_diverging_network_leaves_the_others_alone(digits, monkeypatch):
    space = cb.get_space("resnet-mini")
    recipe = get_recipe("mini", epochs=2)
    jobs = [Job(arch, 0, seed) for seed, arch in enumerate(ARCHS)]
    load = StackedModel._load

    def poison(self, models):
        load(self, models)
        self.classifier_bias.data[2] = float("nan")

    expected = train_stack(space, jobs, recipe, digits)
    monkeypatch.setattr(StackedModel, "_load", poison)
    poisoned = train_stack(space, jobs, recipe, digits)
    assert [record.status for record in poisoned] == ["ok", "ok", "diverged", "ok"]
    for number in (0, 1, 3):
        assert dataclasses.replace(poisoned[number], train_s=0) == dataclasses.replace(expected[number], train_s=0)


def test_bad_stacks_are_refused(digits):
    space, recipe = cb.get_space("resnet-mini"), get_recipe("mini")
    with pytest.raises(ArgumentError, match="at least one job"):
        train_stack(space, [], recipe, digits)
    with pytest.raises(ArgumentError, match="seed -1 is negative"):
        train_stack(space, [Job("1111111", 0, -1)], recipe, digits)
    with pytest.raises(ArgumentError, match="takes"):
        train_stack(cb.get_space("resnet"), [Job("1111111", 0, 0)], recipe, digits)
