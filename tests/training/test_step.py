"""The training step: it never makes the host wait, its graph path leaves no trace, and precisions agree.

No GPU is needed but for the tests marked gpu. What a CUDA graph does besides replaying is run here with stand-ins.
"""

import contextlib
import dataclasses
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.recipe import get_recipe
from channel_bench.record import Job
from channel_bench.training import evaluation, graphs, step
from channel_bench.training.backends import train_jobs
from channel_bench.training.datasets import TrainLoader
from channel_bench.training.models import build_model
from channel_bench.training.models.precision import HAS_FOREACH_COPY, DepthwiseConv2d, cast_weights, forward
from channel_bench.training.models.stacked import StackedModel
from channel_bench.training.run import train_run, train_stack
from channel_bench.training.step import Trainer, arithmetic, check_device, make_optimizer

SPACE = cb.get_space("resnet-mini")


def make_trainer(data, recipe, arch="2341234", **options):
    model = build_model(SPACE, arch, torch.Generator().manual_seed(0))
    return Trainer(model, TrainLoader(data.train_images, data.train_labels, recipe), **options)


def run(trainer, num_epochs, seed=1):
    """Losses and accuracies of some epochs, with the weights that they led to."""
    generator = torch.Generator(trainer._device).manual_seed(seed)
    means = [trainer.epoch(epoch, [trainer._loader.plan(generator)]) for epoch in range(num_epochs)]
    return [[float(value) for value in pair] for pair in means], [p.detach().cpu() for p in trainer.model.parameters()]


class Waits(TorchDispatchMode):
    """Counts operations whose result the host needs, at which it would wait for a GPU."""

    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique", "_to_copy")

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function._schema.name.removeprefix("aten::")
        if name in self.WAITING and not (name == "_to_copy" and kwargs.get("device") is None):
            self.names.append(name)
        return function(*args, **kwargs)


@pytest.mark.parametrize("num_nets", [None, 2])
def test_the_host_waits_for_nothing_before_the_end_of_an_epoch(digits, monkeypatch, num_nets):
    recipe = get_recipe("mini", batch_size=500)
    if num_nets is None:
        trainer = make_trainer(digits, recipe)
    else:
        generators = [torch.Generator().manual_seed(seed) for seed in range(num_nets)]
        model = StackedModel(SPACE, ["2341234", "1111111"], generators)
        trainer = Trainer(model, TrainLoader(digits.train_images, digits.train_labels, recipe), num_nets=num_nets)
    plans = [trainer._loader.plan(torch.Generator().manual_seed(seed)) for seed in range(num_nets or 1)]
    images = trainer.prepare(digits.test_images)
    reads = []
    for name in ("tolist", "item", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__"):
        original = getattr(torch.Tensor, name)

        def spy(self, *args, name=name, original=original, **kwargs):
            reads.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, spy)
    with Waits() as waits:
        means = [*trainer.epoch(0, plans), *trainer.evaluate(images, digits.test_labels)]
        assert waits.names == [] and reads == []
        means[0].tolist()
    assert reads == ["tolist"]


def test_an_epoch_is_read_once(digits, monkeypatch):
    # The values of a whole run: one read per epoch, all four curves together.
    reads = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: reads.append(tuple(self.shape)) or original(self))
    train_run(SPACE, "1111111", get_recipe("mini", epochs=3), 0, digits)
    assert reads == [(4,)] * 3


def test_what_a_device_cannot_do_is_refused_before_training(digits):
    tf32 = get_recipe("mini", precision="tf32")
    for train in (
        lambda recipe, **options: train_run(SPACE, "1111111", recipe, 0, digits, **options),
        lambda recipe, **options: train_stack(SPACE, [Job("1111111", 0, 0)], recipe, digits, **options),
        lambda recipe, **options: train_jobs(SPACE, [Job("1111111", 0, 0)], recipe, digits, **options),
        lambda recipe, **options: make_trainer(digits, recipe, **options),
    ):
        with pytest.raises(ArgumentError, match="precision 'tf32' .* device 'cpu': allowed are fp32, bf16"):
            train(tf32)
        with pytest.raises(ArgumentError, match="CUDA graph cannot be used on device 'cpu'.*needs a GPU"):
            train(get_recipe("mini", epochs=1), graph=True)
    check_device(get_recipe("mini", precision="bf16"), torch.device("cpu"), graph=False)


@pytest.mark.parametrize(("capability", "allowed"), [((7, 5), ["fp32"]), ((8, 0), ["fp32", "tf32", "bf16"])])
def test_old_gpus_have_neither_tf32_nor_bf16(monkeypatch, capability, allowed):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    for precision in ("fp32", "tf32", "bf16"):
        refused = contextlib.nullcontext() if precision in allowed else pytest.raises(ArgumentError, match="fp32$")
        with refused:
            check_device(get_recipe("paper", precision=precision), torch.device("cuda"))


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_arithmetic_is_set_and_put_back(precision, monkeypatch):
    # These flags are the process's own, with or without a GPU.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32
    with pytest.raises(KeyError), arithmetic(precision):
        assert cudnn.allow_tf32 == matmul.allow_tf32 == (precision == "tf32")
        assert cudnn.deterministic and not cudnn.benchmark
        raise KeyError
    assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark, matmul.allow_tf32) == before


def test_autocast_computes_in_bfloat16_with_weights_and_loss_in_fp32(digits):
    trainer = make_trainer(digits, get_recipe("mini", precision="bf16", epochs=1))
    kinds = {}
    for name, module in trainer.model.named_modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(lambda module, inputs, output, name=name: kinds.update({name: output.dtype}))
    run(trainer, 1)
    # The classifier's logits would tie in the 8 bits of bfloat16, so pooling and classifier compute in fp32.
    assert kinds.pop("classifier") == torch.float32
    assert len(kinds) == 11 and set(kinds.values()) == {torch.bfloat16}
    assert {tensor.dtype for tensor in trainer.model.state_dict().values()} == {torch.float32, torch.int64}
    logits = forward(trainer.model, trainer.prepare(digits.test_images[:2]), "bf16")
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("space", ["resnet-mini", "mobilenet-mini"])
def test_logits_in_bf16_do_not_tie(space, digits):
    single = build_model(cb.get_space(space), "2341234", torch.Generator().manual_seed(0))
    stack = StackedModel(cb.get_space(space), ["2341234"], [torch.Generator().manual_seed(0)])
    images = torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    alone, stacked = forward(single, images, "bf16"), forward(stack, images[:, None], "bf16")[:, 0]
    for logits in (alone, stacked):
        assert not torch.equal(logits, logits.bfloat16().float())
        assert all(len(column.unique()) > 495 for column in logits.T)
    assert torch.allclose(alone, stacked, atol=0.05)


@pytest.mark.skipif(not HAS_FOREACH_COPY, reason="this PyTorch copies tensors only one by one")
@pytest.mark.parametrize(("space", "num_cast"), [("resnet-mini", 11), ("mobilenet-mini", 10)])
@pytest.mark.parametrize("stacked", [False, True])
def test_casting_all_weights_together_is_what_autocast_does(monkeypatch, space, num_cast, stacked):
    calls = []
    original = torch._foreach_copy_
    monkeypatch.setattr(torch, "_foreach_copy_", lambda to, tensors: calls.append(len(to)) or original(to, tensors))

    def results(together):
        model = build_model(cb.get_space(space), "2341234", torch.Generator().manual_seed(0))
        images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        if stacked:
            model = StackedModel(
                cb.get_space(space), ["2341234"] * 2, [torch.Generator().manual_seed(i) for i in (0, 1)]
            )
            images = images[:, None].expand(-1, 2, -1, -1, -1)
        model.to(memory_format=torch.channels_last)
        weights = list(model.parameters())
        logits = forward(model, images, "bf16", cast_weights(model) if together else None)
        logits.square().mean().backward()
        assert all(a is b for a, b in zip(weights, model.parameters(), strict=True))  # fp32 weights are in place again
        return [logits.detach(), *(weight.grad for weight in weights), *model.buffers()]

    plain, together = results(False), results(True)
    assert calls == [num_cast, num_cast]  # forward and backward; depthwise convolutions stay in fp32 on a CPU
    for a, b in zip(plain, together, strict=True):
        assert a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)


@pytest.mark.skipif(not HAS_FOREACH_COPY, reason="this PyTorch copies tensors only one by one")
def test_a_run_that_casts_its_weights_together_is_the_same_run(digits):
    recipe = get_recipe("mini", precision="bf16", batch_size=500)
    each, together = (run(make_trainer(digits, recipe, cast_together=value), 1) for value in (False, True))
    assert each[0] == together[0] and all(torch.equal(a, b) for a, b in zip(each[1], together[1], strict=True))
    assert make_trainer(digits, get_recipe("mini"), cast_together=True)._cast_together == {}  # fp32 casts nothing


@pytest.mark.parametrize("stacked", [False, True])
def test_depthwise_convolutions_on_a_cpu_stay_in_fp32(stacked):
    space = cb.get_space("mobilenet-mini")
    model = build_model(space, "2341234", torch.Generator().manual_seed(0))
    if stacked:
        model = StackedModel(space, ["2341234"], [torch.Generator().manual_seed(0)])
    depthwise = [module for module in model.modules() if isinstance(module, DepthwiseConv2d)]
    assert len(depthwise) == 4
    layer = depthwise[0]
    x = torch.randn(8, layer.in_channels, 4, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, layer(x.float()).bfloat16())  # the weights were not rounded


class Counts(TorchDispatchMode):
    """Counts additions of a number to a whole number in place, as PyTorch's batch normalisation makes one a step."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name == "aten::add_" and not isinstance(args[1], torch.Tensor):
            self.total += args[0].dtype == torch.int64
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("num_nets", [None, 2])
def test_batch_normalisation_counts_its_batches_without_a_kernel_each(digits, num_nets):
    recipe = get_recipe("mini", batch_size=500, epochs=2)
    if num_nets is None:
        trainer = make_trainer(digits, recipe)
    else:
        model = StackedModel(SPACE, ["2341234"] * 2, [torch.Generator().manual_seed(0) for _ in range(2)])
        trainer = Trainer(model, TrainLoader(digits.train_images, digits.train_labels, recipe), num_nets=2)
    plans = [trainer._loader.plan(torch.Generator().manual_seed(seed)) for seed in range(num_nets or 1)]
    with Counts() as counts:
        trainer.epoch(0, plans)
    counters = [tensor for name, tensor in trainer.model.state_dict().items() if name.endswith("num_batches_tracked")]
    assert len(counters) == 11 and {int(value) for value in counters} == {3}
    assert counts.total == 2 * 3  # the position and the number of the next step
    with pytest.raises(KeyError), step._uncounted(trainer._norms):
        raise KeyError
    assert all(norm.num_batches_tracked == 3 for norm in trainer._norms)


def test_a_step_in_bf16_is_that_of_fp32_up_to_rounding(digits):
    results = [
        run(make_trainer(digits, get_recipe("mini", batch_size=1200, precision=name)), 1) for name in ("fp32", "bf16")
    ]
    (start,) = [list(build_model(SPACE, "2341234", torch.Generator().manual_seed(0)).parameters())]
    (((loss, _),), weights), (((other_loss, _),), other_weights) = results
    assert 0 < abs(other_loss - loss) < 0.02
    updates = [torch.cat([(a - b).flatten() for a, b in zip(w, start, strict=True)]) for w in (weights, other_weights)]
    assert torch.cosine_similarity(*updates, dim=0) > 0.98


@pytest.mark.slow
def test_bf16_trains_as_well_as_fp32(digits):
    # The same runs both ways, of a wide network, whose seeds differ least. About two minutes.
    plain, other = (
        np.array([train_run(SPACE, "4444444", recipe, seed, digits).best_test_acc for seed in range(8)])
        for recipe in (get_recipe("mini"), get_recipe("mini", precision="bf16"))
    )
    difference = other - plain
    assert np.abs(difference).max() > 0  # it is another arithmetic
    print(f"bf16 - fp32: {difference.mean():.3f} +- {difference.std(ddof=1) / np.sqrt(8):.3f} points")
    assert abs(difference.mean()) < 3 * difference.std(ddof=1) / np.sqrt(8)
    assert abs(difference.mean()) < 1


@pytest.mark.skipif(not step.HAS_FUSED_SGD, reason="this PyTorch has no fused SGD")
def test_the_fused_optimiser_is_the_same_sgd():
    recipe = get_recipe("mini")
    results = []
    for lr, fused in ((0.1, False), (0.1, True), (torch.tensor(0.1), True)):
        model = build_model(SPACE, "1234123", torch.Generator().manual_seed(0))
        try:
            optimizer = make_optimizer(model, recipe, lr, fused)
        except RuntimeError as error:
            pytest.skip(f"this PyTorch has no fused SGD on a CPU: {error}")
        generator = torch.Generator().manual_seed(1)
        for _ in range(5):
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
        results.append([parameter.detach() for parameter in model.parameters()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def with_stand_ins(monkeypatch):
    """Take the path of a GPU on the CPU: rates in a tensor, and a graph that makes the call that it was made from."""
    made = []

    class Graph:
        def __init__(self, call, pool):
            self.call, self.shared, self.replays = call, pool, 0
            (self.size,) = call.args

        def replay(self):
            self.replays += 1
            with torch.set_grad_enabled(self.call.func.__name__ == "_step"):
                self.call()

        def pool(self):
            return "pool"

    def capture(call, pool, stream):
        made.append(Graph(call, pool))
        call()  # a real capture runs nothing; this one does, so more has to be put back
        return made[-1]

    nothing = types.SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(step, "_reads_lr_on", lambda device: True)
    monkeypatch.setattr(graphs, "own_stream", lambda owner, device: nothing)
    monkeypatch.setattr(graphs, "capture", capture)
    for name, stand_in in {
        "device": lambda device: contextlib.nullcontext(),
        "stream": lambda stream: contextlib.nullcontext(),
        "current_stream": lambda: nothing,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return made


@pytest.mark.skipif(not step.HAS_FUSED_SGD, reason="this PyTorch has no fused SGD")
@pytest.mark.parametrize(("batch_size", "sizes"), [(500, [500, 200]), (600, [600]), (5000, [1200])])
@pytest.mark.parametrize("schedule", ["epoch", "step"])
def test_warming_up_and_capturing_leave_no_trace(digits, monkeypatch, batch_size, sizes, schedule):
    recipe = get_recipe("mini", batch_size=batch_size, lr_schedule=schedule, epochs=3)
    expected, weights = run(make_trainer(digits, recipe), 3)
    made = with_stand_ins(monkeypatch)
    plain, plain_weights = run(make_trainer(digits, recipe, graph=False), 3)
    assert made == []
    trainer = make_trainer(digits, recipe)
    assert [graph.size for graph in made] == sizes
    assert [graph.shared for graph in made] == [None, "pool"][: len(sizes)]
    replayed, replayed_weights = run(trainer, 3)
    assert [graph.replays for graph in made] == [3 * (1200 // size if size == sizes[0] else 1) for size in sizes]
    assert replayed == plain
    for a, b in zip(plain_weights, replayed_weights, strict=True):
        assert torch.equal(a, b)
    # Against the plain optimiser, which gets its rates from the host in double precision.
    assert np.allclose(replayed[0], expected[0], rtol=1e-4)
    if batch_size > 500:  # a few steps, before chaos has amplified the rounding
        for a, b in zip(weights, replayed_weights, strict=True):
            assert torch.allclose(a, b, atol=2e-3)


@pytest.mark.skipif(not step.HAS_FUSED_SGD, reason="this PyTorch has no fused SGD")
def test_a_stack_takes_the_same_path(digits, monkeypatch):
    recipe = get_recipe("mini", batch_size=500, epochs=2)
    jobs = [Job("2341234", 0, 0), Job("1111111", 0, 1)]
    made = with_stand_ins(monkeypatch)
    plain = train_stack(SPACE, jobs, recipe, digits, graph=False)
    replayed = train_stack(SPACE, jobs, recipe, digits)
    # Both steps of 500 images and the one of 200, and 597 test images, in each of two epochs.
    assert [(graph.size, graph.replays) for graph in made] == [(500, 4), (200, 2), (597, 2)]
    assert [record.curves for record in plain] == [record.curves for record in replayed]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("num_nets", [None, 2])
def test_evaluating_as_graphs_changes_no_result(digits, monkeypatch, num_nets, precision):
    monkeypatch.setattr(evaluation, "EVAL_BATCH_SIZE", 250 * (num_nets or 1))
    recipe = get_recipe("mini", batch_size=600, precision=precision, epochs=2)

    def curves(graph):
        if num_nets is None:
            return train_run(SPACE, "2341234", recipe, 0, digits, graph=graph).curves
        jobs = [Job("2341234", 0, 0), Job("1111111", 0, 1)]
        return [record.curves for record in train_stack(SPACE, jobs, recipe, digits, graph=graph)]

    made = with_stand_ins(monkeypatch)
    plain, replayed = curves(False), curves(None)
    assert plain == replayed
    # 597 images are two batches of 250 and one of 97, in each of two epochs.
    assert [(graph.size, graph.replays) for graph in made] == [(600, 4), (250, 4), (97, 2)]
    assert [graph.shared for graph in made] == [None, "pool", "pool"]


def test_images_of_a_number_that_was_not_prepared_are_evaluated_without_a_graph(digits, monkeypatch):
    made = with_stand_ins(monkeypatch)
    trainer = make_trainer(digits, get_recipe("mini", batch_size=600, epochs=1))
    images = trainer.prepare(digits.test_images)
    assert [graph.size for graph in made] == [600, 597]
    found = trainer.evaluate(images[:100], digits.test_labels[:100])
    assert made[1].replays == 0
    assert found == evaluation.evaluate_on_device(trainer.model, images[:100], digits.test_labels[:100])


@pytest.mark.parametrize("num_nets", [None, 2])
def test_cutting_out_all_crops_of_an_epoch_ahead_changes_no_result(digits, num_nets, monkeypatch):
    monkeypatch.setattr(step, "CROPPED_TOGETHER", 512)
    # Two epochs, so that the second overwrites the crops of the first; 1,200 images leave a smaller last batch.
    recipe = get_recipe("mini", batch_size=500, crop_padding=2, flip=True, epochs=2)

    def results(crop_ahead):
        loader = TrainLoader(digits.train_images, digits.train_labels, recipe)
        model = build_model(SPACE, "2341234", torch.Generator().manual_seed(0))
        if num_nets is not None:
            model = StackedModel(SPACE, ["2341234", "1111111"], [torch.Generator().manual_seed(i) for i in range(2)])
        trainer = Trainer(model, loader, num_nets=num_nets, crop_ahead=crop_ahead)
        images = []
        trainer.model.register_forward_pre_hook(lambda module, inputs: images.append(inputs[0].clone()))
        generator = torch.Generator().manual_seed(1)
        for epoch in range(2):
            means = trainer.epoch(epoch, [loader.plan(generator) for _ in range(num_nets or 1)])
        return images, [*means, *trainer.model.parameters()]

    each, ahead = results(False), results(True)
    assert len(each[0]) == len(ahead[0]) == 2 * 3
    for one, other in zip([*each[0], *each[1]], [*ahead[0], *ahead[1]], strict=True):
        assert one.stride() == other.stride() and torch.equal(one, other)


def test_crops_of_colour_images_ahead_are_those_of_each_step():
    images = torch.randint(256, (7, 3, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    loader = TrainLoader(images, torch.arange(7), get_recipe("paper"))
    plan = loader.plan(torch.Generator().manual_seed(1))
    crops = loader.crops(plan.order, plan.rows, plan.columns, plan.mirrored)
    ahead = torch.zeros(loader.crops_shape(7), dtype=torch.uint8).copy_(crops.movedim(-3, -1))
    assert ahead.is_contiguous() and torch.equal(ahead.movedim(-1, -3), crops)


def test_crops_are_cut_out_ahead_on_a_gpu_with_room_only(monkeypatch):
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8000, 10**9))
    assert step.has_room_to_crop_ahead(1000, gpu)
    assert not step.has_room_to_crop_ahead(1001, gpu)
    assert not step.has_room_to_crop_ahead(1, torch.device("cpu"))


@contextlib.contextmanager
def no_waiting_for_the_gpu():
    """Within the block PyTorch raises an error where the host would wait for the device."""

    def set_mode(mode):
        with warnings.catch_warnings():  # it warns that it is a prototype, and warnings are errors here
            warnings.simplefilter("ignore")
            torch.cuda.set_sync_debug_mode(mode)

    set_mode("error")
    try:
        yield
    finally:
        set_mode("default")


def test_the_warning_of_a_prototype_is_no_error(monkeypatch):
    # What PyTorch's own function does on a GPU, where warnings are errors as everywhere in these tests.
    modes = []

    def set_mode(mode):
        modes.append(mode)
        warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    with pytest.raises(KeyError), no_waiting_for_the_gpu():
        raise KeyError
    assert modes == ["error", "default"]
    with pytest.raises(UserWarning):
        torch.cuda.set_sync_debug_mode("error")


@pytest.mark.processes
def test_a_trainer_is_freed_without_the_collector_the_first_one_too():
    # In a process of its own: the first optimiser of a process imports much, and an error that an import has caught
    # would keep the frames that led to it.
    script = """
import gc, weakref
import torch
import channel_bench as cb
from channel_bench.recipe import get_recipe
from channel_bench.training.datasets import TrainLoader, load_dataset
from channel_bench.training.models import build_model
from channel_bench.training.models.precision import DepthwiseConv2d
from channel_bench.training.step import Trainer

gc.disable()
data, recipe = load_dataset("digits"), get_recipe("mini", epochs=1, batch_size=1200)

def train():
    loader = TrainLoader(data.train_images, data.train_labels, recipe)
    model = build_model(cb.get_space("resnet-mini"), "1111111", torch.Generator().manual_seed(0))
    trainer = Trainer(model, loader)
    trainer.epoch(0, [loader.plan(torch.Generator().manual_seed(0))])
    return [weakref.ref(trainer), weakref.ref(trainer.model), weakref.ref(loader)]

print([[reference() is None for reference in train()] for _ in range(2)])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([[True] * 3] * 2)


def test_living_trainers_have_streams_of_their_own_and_dead_ones_hand_them_on(monkeypatch):
    made = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.append(object()) or made[-1])
    monkeypatch.setattr(graphs, "_FREE_STREAMS", {})

    class Owner:
        pass

    device = torch.device("cuda", 0)
    owners = [Owner() for _ in range(3)]
    streams = [graphs.own_stream(owner, device) for owner in owners]
    assert streams == made and len(set(made)) == 3
    del owners[1]
    heir, another = Owner(), Owner()
    assert graphs.own_stream(heir, device) is streams[1]
    assert graphs.own_stream(another, device) not in streams


@pytest.fixture
def gpu_digits(digits):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return digits.to("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("num_jobs", [1, 4])
def test_on_a_gpu_a_graph_changes_no_result(gpu_digits, precision, num_jobs):
    # 1,200 images in batches of 128 have a smaller last batch, so both graphs are replayed.
    recipe = get_recipe("mini", epochs=2, precision=precision)
    jobs = [Job("4344424", run, run) for run in range(num_jobs)]
    without, graphed = (train_jobs(SPACE, jobs, recipe, gpu_digits, graph=graph) for graph in (False, True))
    for a, b in zip(without, graphed, strict=True):
        for name, values in a.curves.items():
            assert b.curves[name][0] == pytest.approx(values[0], rel=1e-4), name
        assert dataclasses.replace(a, train_s=0) == dataclasses.replace(b, train_s=0)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu_evaluating_as_graphs_changes_no_result(gpu_digits, monkeypatch, precision):
    monkeypatch.setattr(evaluation, "EVAL_BATCH_SIZE", 250)
    labels, generator = gpu_digits.test_labels, torch.Generator("cuda").manual_seed(0)
    with arithmetic(precision):
        trainer = make_trainer(gpu_digits, get_recipe("mini", epochs=2, precision=precision), graph=True)
        images = trainer.prepare(gpu_digits.test_images)
        assert sorted(trainer._evaluator._graphs) == [97, 250]
        for epoch in range(2):  # the second time with other weights, at the same addresses
            trainer.epoch(epoch, [trainer._loader.plan(generator)])
            replayed = trainer.evaluate(images, labels)
            plain = evaluation.evaluate_on_device(trainer.model, images, labels, precision=precision)
            assert torch.stack(replayed).tolist() == pytest.approx(torch.stack(plain).tolist(), rel=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("space", ["resnet-mini", "mobilenet-mini"])
def test_on_a_gpu_casting_all_weights_together_changes_no_result(gpu_digits, space):
    recipe = get_recipe("mini", precision="bf16", epochs=2)

    def results(together):
        model = build_model(cb.get_space(space), "2341234", torch.Generator().manual_seed(0))
        loader = TrainLoader(gpu_digits.train_images, gpu_digits.train_labels, recipe)
        return run(Trainer(model, loader, cast_together=together), 2)

    with arithmetic("bf16"):
        each, together = results(False), results(True)
    assert each[0] == together[0] and all(torch.equal(a, b) for a, b in zip(each[1], together[1], strict=True))


@pytest.mark.gpu
def test_on_a_gpu_cutting_out_crops_ahead_changes_no_result(gpu_digits, monkeypatch):
    monkeypatch.setattr(step, "CROPPED_TOGETHER", 512)
    recipe = get_recipe("mini", epochs=2)
    with arithmetic():
        ahead, each = (run(make_trainer(gpu_digits, recipe, crop_ahead=value), 2) for value in (True, False))
        assert make_trainer(gpu_digits, recipe)._crops is not None
    assert ahead[0] == each[0]
    assert all(torch.equal(a, b) for a, b in zip(ahead[1], each[1], strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_on_a_gpu_precisions_agree_within_the_noise_of_seeds(gpu_digits, precision):
    jobs = [Job("4444444", seed, seed) for seed in range(16)]
    found = [
        np.array(
            [record.best_test_acc for record in train_stack(SPACE, jobs, get_recipe("mini", **changes), gpu_digits)]
        )
        for changes in ({}, {"precision": precision})
    ]
    difference = found[1] - found[0]
    assert abs(difference.mean()) < max(3 * difference.std(ddof=1) / 4, 0.1)
    assert abs(difference.mean()) < 1


@pytest.mark.parametrize(("edge", "layout"), [(8, torch.contiguous_format), (32, torch.channels_last)])
def test_a_cpu_trains_large_images_with_channels_last(edge, layout):
    images = torch.randint(256, (4, 3, edge, edge), dtype=torch.uint8)
    recipe = get_recipe("paper", batch_size=4, epochs=2)
    loader = TrainLoader(images, torch.arange(4), recipe)
    trainer = Trainer(build_model(cb.get_space("resnet"), "1111111", torch.Generator().manual_seed(0)), loader)
    values = values_in(trainer, images, layout)
    # The other one, asked for, gives the same up to rounding.
    other = torch.contiguous_format if layout == torch.channels_last else torch.channels_last
    model = build_model(cb.get_space("resnet"), "1111111", torch.Generator().manual_seed(0))
    assert np.allclose(values, values_in(Trainer(model, loader, layout=other), images, other), rtol=1e-4)


def values_in(trainer, images, layout):
    """What an epoch and a pass of evaluation give, in which every tensor has the layout."""
    seen = []
    trainer.model.block1[0].register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    values = run(trainer, 1)[0]
    trainer.evaluate(trainer.prepare(images), torch.arange(len(images)))
    assert len(seen) == 2 and all(tensor.is_contiguous(memory_format=layout) for pair in seen for tensor in pair)
    return values


@pytest.mark.gpu
def test_on_a_gpu_weights_and_images_are_channels_last(gpu_digits, digits):
    recipe = get_recipe("mini", batch_size=1200, epochs=1)
    trainer = make_trainer(gpu_digits, recipe)
    seen = []
    stem = trainer.model.stem[0]
    stem.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].stride(1), output.stride(1))))
    assert trainer.model.block1[0].weight.is_contiguous(memory_format=torch.channels_last)
    trainer.evaluate(trainer.prepare(gpu_digits.test_images), gpu_digits.test_labels)
    assert {output for _, output in seen} == {1}
    # One epoch is one step here; the images differ, because generators of devices draw differently.
    assert run(trainer, 1)[0][0][0] == pytest.approx(run(make_trainer(digits, recipe), 1)[0][0][0], rel=0.02)


@pytest.mark.gpu
def test_on_a_gpu_the_host_waits_for_nothing_inside_an_epoch(gpu_digits):
    for graph in (False, True):
        trainer = make_trainer(gpu_digits, get_recipe("mini", epochs=1), graph=graph)
        images = trainer.prepare(gpu_digits.test_images)
        plan = trainer._loader.plan(torch.Generator("cuda").manual_seed(0))
        torch.cuda.synchronize()
        with no_waiting_for_the_gpu():  # PyTorch raises an error where the host would
            found = *trainer.epoch(0, [plan]), *trainer.evaluate(images, gpu_digits.test_labels)
        assert all(value.isfinite() for value in found) and found[1] > 10  # chance, percent
