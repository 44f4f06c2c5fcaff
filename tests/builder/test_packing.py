"""How many runs share a GPU: the rule's own arithmetic; whether it is a good rule, only a GPU can say."""

import gc

import pytest
import torch

import channel_bench as cb
from channel_bench.builder.packing import MAX_RUNS, _num_activations, run_bytes, runs_per_gpu
from channel_bench.training.models import build_model

GIB = 2**30


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "resnet-mini", "mobilenet-mini"])
def test_activations_are_those_of_the_convolutions(name):
    space = cb.get_space(name)
    model = build_model(space, "4321432", torch.Generator().manual_seed(0)).eval()
    sizes = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: sizes.append(output[0].numel()))
    model(torch.zeros(1, *space.input_shape))
    assert _num_activations(space, "4321432") == sum(sizes)


def test_the_rule_packs_small_networks_and_never_beyond_memory():
    resnet, mobilenet, mini = (cb.get_space(name) for name in ("resnet", "mobilenet", "resnet-mini"))
    assert runs_per_gpu(resnet, 141 * GIB) == 1
    assert runs_per_gpu(mobilenet, 80 * GIB) == runs_per_gpu(mini, 80 * GIB) == MAX_RUNS
    for space in (resnet, mobilenet, mini):
        counts = [runs_per_gpu(space, memory * GIB) for memory in (0, 1, 4, 8, 16, 24, 48, 80, 141)]
        assert counts == sorted(counts) and counts[0] == 1
        for memory, count in zip((0, 1, 4, 8, 16, 24, 48, 80, 141), counts, strict=True):
            assert count == 1 or count * run_bytes(space) <= 0.85 * memory * GIB
    assert runs_per_gpu(mobilenet, 80 * GIB, batch_size=2048) < MAX_RUNS


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_on_a_gpu_a_run_needs_no_more_than_was_planned(name):
    from channel_bench.recipe import get_recipe
    from channel_bench.training.datasets import TrainLoader
    from channel_bench.training.step import Trainer

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    space = cb.get_space(name)
    gc.collect()
    torch.cuda.empty_cache()  # what earlier tests left is none of this run's
    torch.cuda.reset_peak_memory_stats()
    images = torch.zeros(1000, *space.input_shape, dtype=torch.uint8, device="cuda")
    loader = TrainLoader(images, torch.zeros(1000, dtype=torch.int64, device="cuda"), get_recipe("paper"))
    trainer = Trainer(build_model(space, "4444444", torch.Generator().manual_seed(0)), loader)
    trainer.epoch(0, [loader.plan(torch.Generator("cuda").manual_seed(0))])[0].item()
    assert torch.cuda.max_memory_reserved() < run_bytes(space, num_images=1000)
