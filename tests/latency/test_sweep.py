"""Sweep: which layers stand for which slots, sums of layers on a clock that counts, one real one, the command."""

import json
import time

import numpy as np
import pytest
import torch

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.latency import Conditions
from channel_bench.latency.stopwatch import TorchStopwatch
from channel_bench.latency.sweep import num_sweep_samples, sweep, swept_of
from channel_bench.space.cost import layer_flops


class CountingStopwatch:
    """A clock on which a multiply-accumulate takes a microsecond."""

    conditions = Conditions("counter", "none", 1, 1, "exact")

    def time_channels(self, layer, inputs, outputs):
        return layer_flops(layer, inputs, outputs) / 1e3


def test_slots_with_alike_layers_share_a_curve():
    found = [(each.slots, [layer.name for layer in each.layers]) for each in swept_of(cb.get_space("resnet-mini"))]
    assert found == [((0, 1, 2), ["block1.3"]), ((3,), ["block3.0"]), ((4, 5, 6), ["block3.3"])]
    found = [(each.slots, [layer.name for layer in each.layers]) for each in swept_of(cb.get_space("mobilenet-mini"))]
    # Block 3 expands as blocks 1 and 2 do, but its depthwise convolution halves the size.
    assert found == [
        *(((0,), ["block1.6"]), ((1, 2), ["block1.0", "block1.3"]), ((3,), ["block3.0", "block3.3"])),
        *(((4,), ["block3.6"]), ((5,), ["block4.0", "block4.3"]), ((6,), ["out.0"])),
    ]


@pytest.mark.parametrize("name", cb.list_spaces())
def test_every_slot_is_in_one_curve(name):
    slots = [slot for each in swept_of(cb.get_space(name)) for slot in each.slots]
    assert sorted(slots) == list(range(7))


def test_on_a_clock_that_counts_a_curve_is_the_sum_of_its_layers():
    found = sweep(cb.get_space("mobilenet-mini"), CountingStopwatch(), num_repeats=4)
    curve = found.curves[1]
    # 1x1 from 8 channels on 4x4, and a 3x3 depthwise one: 16 (8 x + 9 x) multiply-accumulates.
    assert curve.widths == tuple(range(1, 49)) and curve.max_channels == 24
    assert curve.ms == pytest.approx([16 * 17 * width / 1e3 for width in curve.widths])
    assert curve.noise_percent == 0 and found.conditions.num_repeats == 4


def test_half_of_the_rounds_show_the_noise():
    class Alternating(CountingStopwatch):
        calls = 0

        def time_channels(self, layer, inputs, outputs):
            self.calls += 1
            return 1.0 if (self.calls - 1) // 32 % 2 else 1.5  # 32 timings a round; the first, of 5, warms up

    found = sweep(cb.get_space("resnet-mini"), Alternating(), num_repeats=4, slots=(3,))
    (curve,) = found.curves
    assert set(curve.even_ms) == {1.0} and set(curve.odd_ms) == {1.5}
    assert curve.noise_percent == pytest.approx(100 / 3)


def test_a_step_and_an_expansion_bound_the_widths():
    space, asked = cb.get_space("resnet"), []
    found = sweep(space, CountingStopwatch(), num_repeats=2, expansion=1.5, step=63, slots=(1,),
                  on_sample=lambda number, what: asked.append(what))  # fmt: skip
    assert [curve.widths for curve in found.curves] == [(63, 126, 189, 252, 315, 378)]
    assert len(asked) == 3 * 6 and num_sweep_samples(space, 2, 1.5, 63) == 3 * (6 + 12 + 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expansion": 0.5}, "expansion is 0.5: allowed are 1..8"),
        ({"step": 0}, "step is 0: allowed are 1 and above"),
        ({"step": 17}, "step 17 leaves no width of a slot"),
        ({"num_repeats": 1}, "number of repeats is 1: allowed are 2 and above"),
        ({"seed": -1}, "seed -1 is negative"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        sweep(cb.get_space("resnet-mini"), CountingStopwatch(), **options)


@pytest.mark.parametrize("name", ["resnet-mini", "mobilenet-mini"])
def test_a_layer_of_any_channels_computes_what_its_convolution_does(name):
    space = cb.get_space(name)
    clock = TorchStopwatch(space, torch.device("cpu"), batch_size=2)
    for each in swept_of(space):
        for layer in each.layers:
            inputs = each.inputs(space, layer, 5)
            with torch.inference_mode():
                y = clock.channels_call(layer, inputs, 5)()
            assert y.shape == (2, 5, *layer.output_size) and torch.isfinite(y).all()
            assert (y.min() >= 0) == layer.relu
            assert clock.time_channels(layer, inputs, 5) > 0


def test_the_command_writes_the_sweep_of_a_space(run_cli, tmp_path):
    path = tmp_path / "sweep.json"
    words = ("channel-bench", "latency", "resnet-mini", "--sweep", "--device", "cpu", "--batch-size", 1)
    code, out, _ = run_cli(*words, "--repeats", 2, "--step", 4, "-o", path)
    facts = json.loads(path.read_text())
    assert code == 0 and "block3.3" in out and facts["format"] == "sweep-1"
    assert [curve["widths"] for curve in facts["curves"]] == [[4, 8, 12, 16], *[[4, 8, 12, 16, 20, 24, 28, 32]] * 2]
    assert all(np.array(curve["ms"]).min() > 0 for curve in facts["curves"])
    code, _, err = run_cli(*words, "--expansion", 9, "-o", path)
    assert code == 2 and "expansion is 9.0: allowed are 1..8" in err


def test_processor_time_leaves_out_what_a_thread_waits(monkeypatch):
    space = cb.get_space("resnet-mini")
    waits = lambda: time.sleep(0.02)  # noqa: E731
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        clock = TorchStopwatch(space, torch.device("cpu"), 1, processor_time=True)
        monkeypatch.setattr(clock, "channels_call", lambda *shape: waits)
        assert 0 < clock.time_channels(space.layers[1], 8, 8) < 10
        torch.set_num_threads(2)
        with pytest.raises(ArgumentError, match="processor time on 'cpu' with 2 threads: allowed is 'cpu' with 1"):
            TorchStopwatch(space, torch.device("cpu"), 1, processor_time=True)
    finally:
        torch.set_num_threads(threads)
