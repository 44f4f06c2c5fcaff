"""What the benchmarks of the builder compute from their times, and that the short ones run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import load_script
from optional import needs
from torch.utils.flop_counter import FlopCounterMode

import channel_bench as cb
from channel_bench.training.models import build_model

PERF = Path(__file__).parent / "perf"


@pytest.fixture(scope="module")
def bench():
    return load_script(PERF / "bench_build.py")


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "resnet-mini"])
def test_flop_are_those_that_pytorch_counts(bench, name):
    space = cb.get_space(name)
    model = build_model(space, "1213141", torch.Generator().manual_seed(0))
    images = torch.zeros(2, *space.input_shape)
    train, test = bench.flop_per_image(space, "1213141")
    if space.family == "resnet":  # PyTorch counts the gradients of a depthwise convolution as those of a dense one
        with FlopCounterMode(display=False) as counter:
            model(images).sum().backward()
        assert counter.get_total_flops() == 2 * train
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    assert counter.get_total_flops() == 2 * test


def test_the_estimate_is_exact_where_time_is_linear_in_flops(bench):
    space = cb.get_space("resnet")
    archs = ["1111121", "3232323", "4444443"]
    seconds = [10 + 1e-7 * space.flops(arch) for arch in archs]
    expected = (10 + 1e-7 * space.flops()).mean() * 16384 * 3 / 3600
    assert bench.device_hours(space, archs, seconds) == pytest.approx(expected)


def test_images_are_those_of_the_data_set_and_random_ones_say_so(bench):
    data = bench.load("digits", 100)
    assert (len(data.train_labels), len(data.test_labels), data.name) == (100, 20, "digits")
    data = bench.load("random", 50)
    assert (data.name, data.image_shape, len(data.test_labels)) == ("random", (3, 32, 32), 10)


def test_collecting_synthetic_runs_is_measured():
    command = [sys.executable, PERF / "bench_collect.py", "--archs", "20", "--runs", "3", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["synthetic_runs"] == 60 and found["collect_s"] < found["process_s"] and found["peak_mib"] > 10


@pytest.mark.slow
def test_the_benchmark_runs():
    command = [sys.executable, PERF / "bench_build.py", "--spaces", "resnet-mini", "--images", "300", "--budget-s", "1"]
    done = subprocess.run([*command, "--device", "cpu", "--json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert [cell["name"] for cell in found["cells"]] == 3 * ["usual", "single", "packed"]
    assert all(cell["run_s"] > 0 and 0 < cell["share_of_peak"] < 1 for cell in found["cells"])
    assert np.isclose(found["cells"][0]["times_usual"], 1)


@pytest.mark.slow
@needs("nats_bench")
@needs("syne_tune")
def test_both_sides_of_every_look_up_give_the_same():
    command = [sys.executable, PERF / "bench_adapters.py", "--archs", "17", "--rounds", "1", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 12 and all(line["us"] > 0 and line["other_us"] > 0 for line in found)
