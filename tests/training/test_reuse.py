"""Seeds of an architecture share a trainer: each run is that on a fresh one, bit by bit, and graphs stay valid."""

import dataclasses
import gc
import weakref

import pytest
import torch
from test_step import with_stand_ins

import channel_bench as cb
from channel_bench.recipe import get_recipe
from channel_bench.record import Job
from channel_bench.training import reuse, step
from channel_bench.training.datasets import TrainLoader
from channel_bench.training.models import build_model
from channel_bench.training.reuse import Workbench, take_next
from channel_bench.training.run import train_packed, train_run
from channel_bench.training.step import Trainer

SPACES = [cb.get_space(name) for name in ("resnet-mini", "mobilenet-mini")]
SEEDS = [Job("2341234", run, run) for run in range(2)]
OTHERS = [Job("1111111", 0, 0), *SEEDS, Job("1111111", 1, 1)]


@pytest.fixture(scope="module")
def few(digits):
    """So few images that a run is short, and their last batch is a smaller one."""
    parts = {name: getattr(digits, name)[:100] for name in ("train_images", "train_labels")}
    tests = {name: getattr(digits, name)[:50] for name in ("test_images", "test_labels")}
    return dataclasses.replace(digits, **parts, **tests)


@pytest.fixture
def built(monkeypatch):
    """A weak reference to each trainer that workbenches make, with those that were alive when it was begun."""
    made = []

    class Noted(Trainer):
        def __init__(self, model, *arguments, **options):
            gc.collect()
            made.append([None, sum(each[0]() is not None for each in made)])
            super().__init__(model, *arguments, **options)
            made[-1][0] = weakref.ref(self)

    monkeypatch.setattr(reuse, "Trainer", Noted)
    return made


def facts(record):
    """All of a record but its time; as text, in which NaN equals itself."""
    return repr(dataclasses.replace(record, train_s=0))


def alone(space, record, recipe, data, **options):
    return facts(train_run(space, record.arch, recipe, record.seed, data, run=record.run, **options))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_a_run_on_a_used_trainer_is_that_on_a_fresh_one(few, built, space, precision):
    recipe = get_recipe("mini", batch_size=60, epochs=2, precision=precision)
    packed = list(train_packed(space, SEEDS, recipe, few, 1))
    assert len(built) == 1
    assert packed[0].curves["train_loss"] != packed[1].curves["train_loss"]
    assert [facts(record) for record in packed] == [alone(space, record, recipe, few) for record in packed]


@pytest.mark.skipif(not step.HAS_FUSED_SGD, reason="this PyTorch has no fused SGD")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_graph_is_replayed_for_the_next_seed(few, built, monkeypatch, precision):
    recipe = get_recipe("mini", batch_size=60, epochs=2, precision=precision)
    graphs = with_stand_ins(monkeypatch)
    packed = list(train_packed(SPACES[0], SEEDS, recipe, few, 1))
    # A graph for each of two sizes of batch, and one for the test images: captured once, replayed in both runs.
    assert len(built) == 1 and [(graph.size, graph.replays) for graph in graphs] == [(60, 4), (40, 4), (50, 4)]
    assert [facts(record) for record in packed] == [alone(SPACES[0], record, recipe, few) for record in packed]
    assert len(graphs) == 3 * 3  # alone, each captures its own


@pytest.mark.skipif(not step.HAS_FUSED_SGD, reason="this PyTorch has no fused SGD")
@pytest.mark.parametrize("graph", [False, True])
def test_starting_anew_overwrites_everything_in_place(few, monkeypatch, graph):
    if graph:
        with_stand_ins(monkeypatch)
    recipe = get_recipe("mini", batch_size=60, epochs=2, precision="bf16")
    loader = TrainLoader(few.train_images, few.train_labels, recipe)
    models = [build_model(SPACES[0], "2341234", torch.Generator().manual_seed(seed)) for seed in (0, 1, 1)]
    trainer, fresh = Trainer(models[0], loader), Trainer(models[2], loader)
    trainer.epoch(0, [loader.plan(torch.Generator().manual_seed(0))])

    def tensors(each):
        momenta = [buffer for state in each._optimizer.state.values() for buffer in state.values()]
        return [*each.model.parameters(), *each.model.buffers(), *(momenta if graph else [])]

    for tensor in tensors(trainer):  # as a run that diverged leaves them
        tensor.data.fill_(float("nan") if tensor.is_floating_point() else 7)
    places = [tensor.data_ptr() for tensor in tensors(trainer)]
    trainer.restart(models[1])
    assert [tensor.data_ptr() for tensor in tensors(trainer)] == places
    assert len(places) == len(tensors(fresh)) > 40
    assert all(torch.equal(a, b) for a, b in zip(tensors(trainer), tensors(fresh), strict=True))
    with pytest.raises(AssertionError):
        trainer.restart(build_model(SPACES[0], "1111111", torch.Generator()))


def test_a_run_after_a_diverged_one_is_none_the_worse(few, built, monkeypatch):
    recipe = get_recipe("mini", batch_size=60, epochs=3)
    original, seen = reuse.build_model, []

    def poisoned(*given):
        """The first run starts with a weight that is not a number."""
        model = original(*given)
        if not seen:
            model.stem[0].weight.data[0, 0, 0, 0] = float("nan")
        seen.append(model)
        return model

    monkeypatch.setattr(reuse, "build_model", poisoned)
    packed = list(train_packed(SPACES[0], SEEDS, recipe, few, 1))
    assert len(built) == 1 and [record.status for record in packed] == ["diverged", "ok"]
    assert facts(packed[1]) == alone(SPACES[0], packed[1], recipe, few)


@pytest.mark.parametrize("num_slots", [1, 2])
def test_another_architecture_gets_another_trainer_after_the_old_one_is_gone(few, built, num_slots):
    recipe = get_recipe("mini", batch_size=60, epochs=1)
    packed = list(train_packed(SPACES[0], OTHERS, recipe, few, num_slots))
    assert len(built) == 2
    assert [alive for _, alive in built] == list(range(num_slots)) + [0] * (2 - num_slots)
    assert sorted(map(facts, packed)) == sorted(alone(SPACES[0], record, recipe, few) for record in packed)


def test_the_seeds_of_an_architecture_stay_together_while_no_slot_is_empty():
    waiting = list(OTHERS)
    taken = [take_next(waiting, None, []), take_next(waiting, None, ["1111111"])]
    assert taken == [OTHERS[0], OTHERS[1]]
    assert take_next(waiting, "1111111", ["2341234"]) == OTHERS[3]  # its own, though another came before
    assert take_next(waiting, "1111111", ["2341234"]) == OTHERS[2]  # else it would have nothing to do
    assert waiting == []


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_on_a_gpu_a_graph_is_replayed_for_the_next_seed(digits, space, precision):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    data, recipe = digits.to("cuda"), get_recipe("mini", epochs=2, precision=precision)
    for num_slots in (1, 2):
        for record in train_packed(space, OTHERS, recipe, data, num_slots, graph=True):
            assert facts(record) == alone(space, record, recipe, data, graph=True)


@pytest.mark.gpu
def test_on_a_gpu_the_next_seed_captures_nothing(digits, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    data, captures = digits.to("cuda"), []
    original = torch.cuda.CUDAGraph.capture_begin
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "capture_begin", lambda self, *a, **k: captures.append(1) or original(self, *a, **k)
    )
    bench = Workbench(SPACES[0], get_recipe("mini", epochs=1), data, graph=True)
    for seed in range(3):
        bench.begin("2341234", torch.Generator().manual_seed(seed))
    assert bench.num_built == 1 and len(captures) == 3  # two sizes of batch, and the test images
