"""Latency: the arithmetic of look-ups on clocks that count, the pieces against the networks, one real measurement."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

import channel_bench as cb
from channel_bench.errors import ArgumentError, CorruptFileError, MissingDataError, UnknownNameError
from channel_bench.latency import Conditions, LatencyModel, load_latency
from channel_bench.latency import model as latency
from channel_bench.latency.measure import agreement, measure, num_samples
from channel_bench.latency.stopwatch import TorchStopwatch
from channel_bench.space.cost import layer_flops
from channel_bench.space.layers import CLASSES, IMAGE
from channel_bench.table import Table
from channel_bench.training.models import build_model
from harness.methods.htas_choices import LayerGroup, PowerLaw, choice_scores, choose_widths, fit_layers, fit_power_law

SPACE = cb.get_space("resnet-mini")


def macs(space, layer, digits):
    """Multiply-accumulates of a layer at these digits."""
    widths = {IMAGE: space.input_shape[0], CLASSES: space.num_classes}
    widths |= {slot: space.max_channels[slot] * d // 4 for slot, d in zip(layer.slots, digits, strict=True)}
    return layer_flops(layer, widths[layer.reads], widths[layer.writes])


class CountingStopwatch:
    """A clock on which a multiply-accumulate takes a microsecond, and a network `scale` and `offset_ms` more."""

    conditions = Conditions("counter", "none", 1, 1, "exact")

    def __init__(self, space, scale=1.0, offset_ms=0.0, disturb=lambda: 1.0):
        self.space, self.scale, self.offset_ms, self.disturb = space, scale, offset_ms, disturb

    def time_layer(self, layer, digits):
        return macs(self.space, layer, digits) / 1e3 * self.disturb()

    def time_network(self, arch):
        return (self.offset_ms + self.scale * self.space.flops(arch) / 1e3) * self.disturb()


@pytest.fixture(scope="module")
def model():
    return measure(SPACE, CountingStopwatch(SPACE, 1.25, 3.0), num_repeats=2, num_networks=16)


@pytest.mark.parametrize("name", cb.list_spaces())
def test_on_a_clock_that_counts_multiply_accumulates_the_sums_are_the_flops(name):
    space = cb.get_space(name)
    found = measure(space, CountingStopwatch(space), num_repeats=2, num_networks=6)
    np.testing.assert_allclose(found.sum_layers(), space.flops() / 1e3, rtol=1e-12)
    np.testing.assert_allclose(found.predict(), space.flops() / 1e3, rtol=1e-6)
    assert (found.check.sums.pearson, found.check.sums.kendall) == (pytest.approx(1), pytest.approx(1))
    assert found.check.sums.mape == pytest.approx(0, abs=1e-9)


def test_an_affine_difference_between_layers_and_networks_is_found_and_tested_on_other_networks(model):
    check = model.check
    assert check.is_corrected
    assert (model.scale, model.offset_ms) == (pytest.approx(1.25), pytest.approx(3.0))
    np.testing.assert_allclose(model.predict(), 3.0 + 1.25 * SPACE.flops() / 1e3, rtol=1e-9)
    assert check.num_fitted == 8 and check.sums.num_archs == check.corrected.num_archs == 8
    tested = SPACE.flops(list(check.archs[8:])) / 1e3
    bias = 100 * (tested / (3.0 + 1.25 * tested) - 1)
    assert check.sums.bias == pytest.approx(bias.mean()) == pytest.approx(-check.sums.mape)
    assert check.corrected.mape == pytest.approx(0, abs=1e-9)
    assert list(check.measured_ms[8:]) == pytest.approx(3.0 + 1.25 * tested)
    assert len(set(check.archs)) == 16 and check.repeat.mape == 0


def test_a_correction_that_does_not_help_is_not_used():
    rng = np.random.default_rng(3)

    class NoisyNetworks(CountingStopwatch):
        def time_network(self, arch):
            return super().time_network(arch) * rng.uniform(0.99, 1.01)

    found = measure(SPACE, NoisyNetworks(SPACE), num_repeats=2, num_networks=6)
    assert not found.check.is_corrected and (found.scale, found.offset_ms) == (1.0, 0.0)
    np.testing.assert_allclose(found.predict(), SPACE.flops() / 1e3, rtol=1e-12)
    assert 0 < found.check.sums.mape < 1 and found.check.corrected.mape != found.check.sums.mape


def test_a_prediction_is_the_sum_of_its_look_ups(model):
    arch = (4, 3, 4, 1, 2, 2, 4)
    parts = [model.layers_ms[layer.name][tuple(arch[slot] - 1 for slot in layer.slots)] for layer in SPACE.layers]
    assert model.sum_layers(arch) == pytest.approx(sum(parts), rel=1e-14)
    assert model.predict("4341224") == model.offset_ms + model.scale * model.sum_layers(arch)
    assert isinstance(model.predict(arch), float)
    batch = SPACE.sample(5, np.random.default_rng(0))
    assert batch.dtype == np.int8 and model.predict(batch).tolist() == [model.predict(row) for row in batch]
    everything = model.predict()
    assert everything.shape == (16384,) and everything.dtype == np.float64 and (everything > 0).all()
    cube = everything.reshape((4,) * 7)
    assert all((np.diff(cube, axis=slot) > 0).all() for slot in range(7))  # as multiply-accumulates do
    with pytest.raises(ArgumentError, match="is not an architecture"):
        model.predict("4344425")


def test_disturbed_rounds_and_the_first_one_leave_no_trace():
    rng = np.random.default_rng(0)
    num_timings = iter(range(10**9))
    per_round = num_samples(SPACE, 1, 6) // 2

    def disturb():  # cold in the first round, then now and then another process takes the core
        return 100.0 if next(num_timings) < per_round else rng.choice([1.0, 3.0], p=[0.6, 0.4])

    found = measure(SPACE, CountingStopwatch(SPACE, disturb=disturb), num_repeats=40, num_networks=6)
    np.testing.assert_allclose(found.sum_layers(), SPACE.flops() / 1e3, rtol=1e-12)
    assert next(num_timings) == 41 * per_round


def test_every_round_times_everything_once_in_an_order_of_its_own():
    seen = []
    measure(SPACE, CountingStopwatch(SPACE), num_repeats=2, num_networks=6, on_sample=lambda n, note: seen.append(note))
    rounds = np.array(seen).reshape(3, -1)
    assert len(set(seen)) == rounds.shape[1] == num_samples(SPACE, 2, 6) // 3
    assert len({tuple(row) for row in rounds}) == 3 and len({tuple(sorted(row)) for row in rounds}) == 1


def test_an_agreement_is_that_of_the_definitions():
    found = agreement(np.array([1.0, 3.0, 2.0]), np.array([1.0, 2.0, 4.0]))
    assert (found.mape, found.bias) == (pytest.approx(100 / 3), pytest.approx(0))
    assert found.kendall == pytest.approx(1 / 3) and found.pearson == pytest.approx(1 / np.sqrt(2 * 14 / 3))
    constant = agreement(np.ones(3), np.array([1.0, 2.0, 4.0]))
    assert constant.kendall is None and constant.pearson is None


# -- PyTorch's stopwatch ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopwatches():
    return {
        name: TorchStopwatch(cb.get_space(name), torch.device("cpu"), 3) for name in ("resnet-mini", "mobilenet-mini")
    }


@pytest.mark.parametrize("name", ["resnet-mini", "mobilenet-mini"])
@pytest.mark.parametrize("arch", ["4444444", "1432413"])
def test_the_timed_layers_one_after_the_other_are_the_timed_network(name, arch, stopwatches):
    space, stopwatch = cb.get_space(name), stopwatches[name]
    digits = space.arch(arch)
    images = torch.randn(3, *space.input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        x, line = images, None
        for layer in space.layers:
            block_begins = layer.name.startswith("block") and layer.name.endswith(".0")
            line = x.clone() if block_begins else line
            x = stopwatch.layer_call(layer, tuple(digits[slot] for slot in layer.slots), x, line)()
        whole = stopwatch.network_call(digits, images)()
    torch.testing.assert_close(x, whole)


@pytest.mark.parametrize("name", ["resnet-mini", "mobilenet-mini"])
def test_the_timed_network_is_that_of_the_table_with_its_normalisation_folded(name, stopwatches):
    space = cb.get_space(name)
    images = torch.randn(3, *space.input_shape, generator=torch.Generator().manual_seed(1))
    plain = build_model(space, "4444444", torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        torch.testing.assert_close(stopwatches[name].network_call((4,) * 7, images)(), plain(images))
    assert sum(isinstance(part, torch.nn.BatchNorm2d) for part in plain.modules()) > 0


def test_times_are_positive_and_more_work_takes_longer(stopwatches):
    space = cb.get_space("resnet")
    stopwatch = TorchStopwatch(space, torch.device("cpu"), 1)
    layer = space.layers[6]
    narrow, wide = (min(stopwatch.time_layer(layer, digits) for _ in range(3)) for digits in ((1, 1), (4, 4)))
    assert 0 < narrow < wide  # sixteen times the work
    assert stopwatches["resnet-mini"].time_network((4,) * 7) > 0


@pytest.mark.gpu
def test_on_a_gpu_the_clock_is_its_own_and_covers_the_work():
    stopwatch = TorchStopwatch(cb.get_space("resnet"), torch.device("cuda"), 256)
    narrow, wide = (stopwatch.time_network((digit,) * 7) for digit in (1, 4))
    assert 0 < narrow < wide
    # No GPU computes 1.4 GMAC x 256 in true fp32 faster than 250 TFLOP/s; timing launches alone would be faster.
    assert wide > 2 * 256 * cb.get_space("resnet").flops("4444444") / 250e12 * 1e3
    assert stopwatch.conditions.device == torch.cuda.get_device_name()


def test_memory_that_is_not_there_is_one_line(monkeypatch):
    stopwatch = TorchStopwatch(SPACE, torch.device("cpu"), 2)

    def full(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(torch, "randn", full)
    with pytest.raises(ArgumentError, match="a batch of 2 images of .* needs more memory than 'cpu' has"):
        stopwatch.time_network((4,) * 7)


# -- files --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("latency") / "latency.json"
    model.write(path)
    return path


def test_a_file_gives_the_same_model_back(model, path):
    found = load_latency(path, "resnet-mini")
    assert (found.space, found.conditions, found.check) == (model.space, model.conditions, model.check)
    assert found.predict().tolist() == model.predict().tolist()
    conditions = found.conditions
    assert (conditions.device, conditions.input_shape, conditions.num_repeats) == ("counter", (1, 8, 8), 2)
    assert conditions.measured_at.endswith("+00:00") and conditions.measure_s >= 0


def changed(path, out, fix_hash=True, **facts):
    written = {**json.loads(path.read_text()), **facts}
    if fix_hash:
        del written["sha256"]
        written["sha256"] = latency._hash(written)
    out.write_text(json.dumps(written))
    return out


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"scale": 2.0, "fix_hash": False}, "was changed after it was written"),
        ({"format": 9}, "is of format 9: this version reads 1"),
        ({"space": "resnt"}, "is of space 'resnt', which is not known here"),
        ({"space": "resnet"}, "on other networks under the name 'resnet'"),
        ({"layers_ms": {}}, "not those of the layers of 'resnet-mini': block1.0"),
        ({"scale": -1.0}, "scale -1.0 and offset .*: allowed are > 0"),
        ({"conditions": {}}, "cannot be read by this version"),
        ({"check": {}}, "cannot be read by this version"),
        ({"check": 3}, "cannot be read by this version"),
        ({"scale": True}, "scale is 'True': allowed are numbers"),
        ({"offset_ms": "0"}, "offset_ms is '0': allowed are numbers"),
        ({"scale": 10**400}, "does not fit 64 bits"),
        ({"space": 5}, "is of space '5', which is not known here"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_a_file_that_is_not_what_was_written_is_refused(facts, message, path, tmp_path):
    with pytest.raises((CorruptFileError, UnknownNameError), match=message):
        load_latency(changed(path, tmp_path / "x.json", **facts))


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("conditions", "device", 5, "conditions: device is 5: allowed are texts"),
        ("conditions", "device", "half \ud800", "half a surrogate pair"),
        ("conditions", "threads", True, "threads is True: allowed are whole numbers"),
        ("conditions", "measure_s", "1", "measure_s is '1': allowed are finite numbers"),
        ("conditions", "input_shape", 8, "input_shape is 8: allowed are lists"),
        ("conditions", "input_shape", [1, 8, "8"], r"input_shape\[2\] is '8': allowed are whole numbers"),
        ("conditions", "color", "red", "has a field 'color'"),
        ("check", "num_fitted", None, "num_fitted is None: allowed are whole numbers"),
        ("check", "is_corrected", 1, "is_corrected is 1: allowed are true and false"),
        ("check", "archs", [1], r"archs\[0\] is 1: allowed are texts"),
        ("check", "sums", {}, "check: sums has no field 'num_archs'"),
        ("check", "sums", [], "check: sums is a list: allowed is an object"),
    ],
)
def test_values_of_a_wrong_type_are_refused_whoever_hashed_them(part, name, value, message, path, tmp_path):
    facts = json.loads(path.read_text())[part]
    with pytest.raises(CorruptFileError, match=message):
        load_latency(changed(path, tmp_path / "x.json", **{part: facts | {name: value}}))


def test_a_file_is_bounded_and_says_a_thing_once(path, tmp_path, monkeypatch):
    (tmp_path / "twice.json").write_text('{"format": 1, "format": 1}')
    with pytest.raises(CorruptFileError, match="key 'format' stands twice"):
        load_latency(tmp_path / "twice.json")
    monkeypatch.setattr(latency, "MAX_FILE_BYTES", 100)
    with pytest.raises(CorruptFileError, match="allowed are at most 100 bytes"):
        load_latency(path)


def test_tables_of_a_wrong_shape_or_value_are_refused(path, tmp_path):
    for name, values, message in (
        ("stem.0", [1.0, 2.0], r"have shape \(2,\): allowed is \(4,\)"),
        ("stem.0", [1.0, 2.0, 0.0, 1.0], "not all positive"),
        ("stem.0", [1.0, 2.0, None, 1.0], "not all positive"),
        ("stem.0", "fast", "cannot be read"),
    ):
        tables = json.loads(path.read_text())["layers_ms"]
        with pytest.raises(CorruptFileError, match=message):
            load_latency(changed(path, tmp_path / "x.json", layers_ms={**tables, name: values}))


def test_other_files_and_spaces_are_refused(path, tmp_path):
    with pytest.raises(MissingDataError, match="measure one with 'channel-bench latency SPACE -o FILE'"):
        load_latency(tmp_path / "none.json")
    with pytest.raises(CorruptFileError, match="is a folder: only regular files are read"):
        load_latency(tmp_path)
    for content in (b"", b"{", b"[]", b"3", b"{}", b"\xff\xfe\x00", path.read_bytes()[:-200], b"[" * 100_000):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(CorruptFileError, match="is not a latency file"):
            load_latency(tmp_path / "bad.json")
    with pytest.raises(ArgumentError, match="is for space 'resnet-mini', not 'resnet'"):
        load_latency(path, "resnet")


def test_loading_and_predicting_need_neither_torch_nor_scipy(path):
    code = (
        "import sys; from channel_bench.latency.model import load_latency;"
        f"load_latency({str(path)!r}).predict(); import harness.methods.htas_choices;"
        "print(sorted({'torch', 'scipy', 'pandas', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_plans_out_of_range_are_refused(model):
    watch = CountingStopwatch(SPACE)
    for repeats in (1, 0, -3):
        with pytest.raises(ArgumentError, match="number of repeats is"):
            measure(SPACE, watch, num_repeats=repeats)
    for networks in (5, 16385):
        with pytest.raises(ArgumentError, match="number of networks is .*: allowed are 6..16384"):
            measure(SPACE, watch, num_networks=networks)
    for batch_size in (0, 65537):
        with pytest.raises(ArgumentError, match=r"batch size is .*: allowed are 1\.\.65536"):
            TorchStopwatch(SPACE, torch.device("cpu"), batch_size)
    with pytest.raises(ArgumentError, match="the stopwatch gave a latency of nan"):
        measure(SPACE, CountingStopwatch(SPACE, disturb=lambda: np.nan))
    with pytest.raises(ArgumentError, match="latencies are not those of the layers"):
        LatencyModel(SPACE, {**model.layers_ms, "block9.0": np.ones(4)}, model.conditions)


# -- the table and the command line -------------------------------------------------------------------------------


def test_top_takes_a_model_or_its_predictions(small_table_path, model):
    table = Table.read(small_table_path)
    everything = model.predict()
    budget = float(np.median(everything[::256]))
    found = table.top(64, max_latency=budget, latency=model)
    fitting = {index for index in range(0, 16384, 256) if everything[index] <= budget}
    assert {result.index for result in found} == fitting and 0 < len(fitting) < 64
    for same in (everything, everything.tolist()):
        assert table.top(64, max_latency=budget, latency=same) == found
    other = cb.get_space("mobilenet-mini")
    wrong = measure(other, CountingStopwatch(other), num_repeats=2, num_networks=6)
    for bad, message in (
        (wrong, "latencies are for space 'mobilenet-mini', the table is for 'resnet-mini'"),
        ("latency.json", "neither a LatencyModel nor numbers"),
        (np.where(everything > budget, np.nan, everything), "values that are not numbers"),
    ):
        with pytest.raises(ArgumentError, match=message):
            table.top(1, max_latency=budget, latency=bad)
    with pytest.raises(ArgumentError, match="no trained architecture has latency <= 0.001: the least is"):
        table.top(1, max_latency=0.001, latency=model)


def test_a_measurement_from_the_command_line_is_a_budget_of_top(tmp_path, small_table_path, run_cli, monkeypatch):
    monkeypatch.setattr("channel_bench.latency.stopwatch.SAMPLE_MS", 0.05)  # really measured, but fast
    out = tmp_path / "latency.json"
    plan = ("latency", "resnet-mini", "--device", "cpu", "--batch-size", 2, "--repeats", 2, "--networks", 6, "-o", out)
    code, output, _ = run_cli("channel-bench", *plan, "--processor-time", "--json")
    printed = json.loads(output)
    assert printed["conditions"]["arithmetic"].endswith(", processor time")
    assert code == 0 and list(tmp_path.iterdir()) == [out]
    model = load_latency(out, "resnet-mini")
    assert printed["conditions"]["batch_size"] == model.conditions.batch_size == 2
    assert printed["conditions"]["torch"] == torch.__version__ and model.conditions.threads == 1
    everything = model.predict()
    assert (everything > 0).all() and printed["predicted_ms"]["max"] == everything.max()
    assert len(model.check.archs) == 6 and all(0 < value < 1000 for value in model.check.measured_ms)

    top = ("top", "resnet-mini", "--table", small_table_path, "-k", 64, "--latency", out, "--max-latency")
    predicted = everything[::256]  # what the small table holds
    budget = float(np.median(predicted))
    num_fitting = int((predicted <= budget).sum())  # 32, or more where a few short timings give equal sums
    code, output, _ = run_cli("channel-bench", *top, repr(budget), "--json")
    found = json.loads(output)
    assert code == 0 and len(found["results"]) == num_fitting and found["latency"]["batch_size"] == 2
    assert all(row["latency_ms"] == model.predict(row["arch"]) <= budget for row in found["results"])
    code, output, _ = run_cli("channel-bench", *top, repr(budget))
    assert code == 0 and "ms: predicted, batch size 2, images 1x8x8, on" in output
    assert f"{model.predict(found['results'][0]['arch']):.4g}" in output
    share = json.loads(run_cli("channel-bench", *top, "2x", "--json")[1])
    assert all(row["latency_ms"] <= 2 * model.predict("4444444") for row in share["results"])


def test_the_printed_table_states_error_noise_and_conditions(tmp_path, run_cli, monkeypatch):
    counting = CountingStopwatch(SPACE, 1.25, 3.0)
    monkeypatch.setattr("channel_bench.latency.stopwatch.TorchStopwatch", lambda *args, **options: counting)
    arguments = ("latency", "resnet-mini", "--device", "cpu", "--repeats", 2, "--networks", 16, "-o")
    code, output, errors = run_cli("channel-bench", *arguments, tmp_path / "a.json")
    rows = {line[:14].strip(): line[14:].split() for line in output.splitlines()}
    assert code == 0 and errors == ""
    assert rows["corrected sum"][:4] == ["8", "1.0000", "1.0000", "0.00"]
    assert rows["sum of layers"][3] == f"{-float(rows['sum of layers'][4]):.2f}" != "0.00"
    assert "+3 ms, x 1.25" in output and "from 8 other networks" in output
    assert "batch size 1, images 1x8x8, on counter" in output
    assert "lower quartile of 2 rounds, CPU threads 1, torch none, exact" in output
    rng = np.random.default_rng(0)
    counting.disturb = lambda: rng.uniform(1, 3)
    code, _, errors = run_cli("channel-bench", *arguments, tmp_path / "b.json")
    assert code == 0 and errors.startswith("NOISY: halves of the rounds differ by") and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("latency resnt -o {0}/x.json", "did you mean 'resnet'"),
        ("latency resnet-mini", "Missing option '--out'"),
        ("latency resnet-mini -o {0}/x.csv", "must end in .json"),
        ("latency resnet-mini -o {0}/file/x.json", "cannot make folder"),
        ("latency resnet-mini -o {0}/x.json --repeats 1", "number of repeats is 1"),
        ("latency resnet-mini -o {0}/x.json --networks 5", "number of networks is 5"),
        ("latency resnet-mini -o {0}/x.json --batch-size 0", "batch size is 0"),
        ("latency resnet-mini -o {0}/x.json --threads 0", "number of threads is 0"),
        ("latency resnet-mini -o {0}/x.json --device cpu --threads 2 --processor-time", "allowed is 'cpu' with 1"),
        ("latency resnet-mini -o {0}/x.json --device gpu", "device 'gpu' cannot be used here"),
        ("latency resnet-mini -o {0}/x.json --device meta", "device 'meta' cannot be timed"),
        ("latency resnet-mini -o {0}/x.json --seed -1", "seed -1 is negative"),
        ("top resnet-mini --table {1} --max-latency 5", "--latency and --max-latency go together"),
        ("top resnet-mini --table {1} --latency {2}", "--latency and --max-latency go together"),
        ("top resnet-mini --table {1} --latency {2} --max-latency soon", "--max-latency 'soon' is not a budget"),
        ("top resnet-mini --table {1} --latency {0}/none.json --max-latency 5", "none.json' does not exist"),
        ("top resnet-mini --table {1} --latency {0}/file --max-latency 5", "is not a latency file"),
        ("top resnet-mini --table {1} --latency {2} --max-latency 0.0001", "no trained architecture has latency"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, message, tmp_path, small_table_path, path, run_cli):
    (tmp_path / "file").write_text("x")
    words = [word.format(tmp_path, small_table_path, path) for word in arguments.split()]
    code, output, errors = run_cli("channel-bench", *words)
    assert code == 2 and output == "" and errors.count("\n") == 1 and message in errors
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_interrupted_it_writes_nothing(tmp_path, run_cli, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(TorchStopwatch, "time_network", interrupt)
    code, _, errors = run_cli("channel-bench", "latency", "resnet-mini", "--device", "cpu", "-o", tmp_path / "x.json")
    assert code == 130 and "interrupted" in errors and list(tmp_path.iterdir()) == []


# -- HTAS: choices of widths --------------------------------------------------------------------------------------

WIDTHS = np.arange(4, 260, 4)


@pytest.mark.parametrize("law", [PowerLaw(0.02, 1.0, 0.5), PowerLaw(3e-4, 1.7, 0.1), PowerLaw(0.9, 0.4, -0.3)])
def test_a_fit_finds_the_law_that_made_the_data(law):
    given = fit_power_law(WIDTHS, law(WIDTHS), alpha=law.alpha)
    assert (given.k, given.alpha, given.b) == pytest.approx((law.k, law.alpha, law.b))
    found = fit_power_law(WIDTHS, law(WIDTHS), alpha=None)
    assert (found.k, found.alpha, found.b) == pytest.approx((law.k, law.alpha, law.b), rel=1e-4)


def test_a_linear_fit_is_that_of_numpy():
    noisy = 0.02 * WIDTHS + np.random.default_rng(0).normal(size=len(WIDTHS))
    found = fit_power_law(WIDTHS, noisy)
    slope, constant = np.polyfit(WIDTHS, noisy, 1)
    assert (found.k, found.alpha, found.b) == pytest.approx((slope, 1.0, constant))
    free = fit_power_law(WIDTHS, noisy, alpha=None)

    def error(law):
        return ((law(WIDTHS) - noisy) ** 2).sum()

    others = [fit_power_law(WIDTHS, noisy, alpha=alpha) for alpha in np.linspace(0.1, 4, 200)]
    assert error(free) <= min(map(error, others)) + 1e-12


def test_linear_latencies_score_zero():
    latencies = 0.03 * WIDTHS + 0.2
    assert choice_scores(WIDTHS, latencies, fit_power_law(WIDTHS, latencies)) == pytest.approx(0, abs=1e-12)


def test_on_a_staircase_the_choices_are_the_widest_of_each_step():
    widths = np.arange(1, 65)
    latencies = np.ceil(widths / 8)  # kernels that work in tiles of 8 channels
    fit = fit_power_law(widths, latencies)
    assert fit.alpha == 1.0
    assert choose_widths(widths, latencies, fit).tolist() == [8, 16, 24, 32, 40, 48, 56, 64]
    shuffled = np.random.default_rng(0).permutation(64)
    assert choose_widths(widths[shuffled], latencies[shuffled], fit).tolist() == [8, 16, 24, 32, 40, 48, 56, 64]


def test_each_group_keeps_its_highest_score_and_of_equal_ones_the_narrowest():
    flat = PowerLaw(0.0, 1.0, 5.0)
    widths, latencies = [1, 2, 3, 4, 5, 6, 7], [3.0, 2.0, 2.0, 9.0, 4.0, 1.0, 1.0]
    assert choice_scores(widths, latencies, flat).tolist() == [2.0, 3.0, 3.0, -4.0, 1.0, 4.0, 4.0]
    assert choose_widths(widths, latencies, flat, num_groups=3).tolist() == [2, 5, 6]  # of 1 2 3, 4 5, 6 7
    assert choose_widths(widths, latencies, flat, num_groups=7).tolist() == widths
    assert choose_widths(widths, latencies, flat, num_groups=1).tolist() == [6]


@pytest.mark.parametrize("name", ["resnet", "mobilenet-mini"])
def test_a_law_is_fitted_to_each_resolution_and_kind_of_layer(name):
    space = cb.get_space(name)
    fits = fit_layers(measure(space, CountingStopwatch(space), num_repeats=2, num_networks=6))
    if name == "resnet":
        assert list(fits) == [
            LayerGroup((16, 16), "conv3x3", 256),
            LayerGroup((8, 8), "conv3x3", 256),
            LayerGroup((8, 8), "conv3x3", 512),
        ]
    else:
        assert {group.kind for group in fits} == {"conv1x1", "depthwise"}
        assert {group.size for group in fits} == {(4, 4), (2, 2)}
    for group, fit in fits.items():  # multiply-accumulates are proportional to the output width
        taps = 1 if group.kind == "conv1x1" else 9
        per_channel = taps * (group.inputs or 1) * group.size[0] * group.size[1] / 1e3
        assert (fit.k, fit.b) == (pytest.approx(per_channel), pytest.approx(0, abs=1e-6 * per_channel))


def test_bad_widths_and_groups_are_refused():
    fit = PowerLaw(1.0, 1.0, 0.0)
    for call, message in (
        (lambda: fit_power_law([1, 2], [1.0]), r"widths have shape \(2,\), latencies \(1,\)"),
        (lambda: fit_power_law([], []), r"allowed is \(n,\)"),
        (lambda: fit_power_law([0, 1], [1.0, 2.0]), "positive numbers"),
        (lambda: fit_power_law([1, 2], [1.0, np.nan]), "positive numbers"),
        (lambda: fit_power_law(["a", "b"], [1.0, 2.0]), "have to be numbers"),
        (lambda: fit_power_law([3, 3], [1.0, 2.0]), "1 different widths cannot be fitted: at least 2"),
        (lambda: fit_power_law([1, 2], [1.0, 2.0], alpha=None), "2 different widths .* at least 3"),
        (lambda: fit_power_law([1, 2], [1.0, 2.0], alpha=0.0), "alpha is 0.0"),
        (lambda: choose_widths([1, 1, 2], [1.0, 2.0, 3.0], fit, 2), "occurs more than once"),
        (lambda: choose_widths([1, 2], [1.0, 2.0], fit), "2 widths cannot make 8 groups: allowed are 1..2"),
        (lambda: choose_widths([1, 2], [1.0, 2.0], fit, 0), "cannot make 0 groups"),
        (lambda: choice_scores([[1, 2]], [[1.0, 2.0]], fit), r"allowed is \(n,\)"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


# -- the measured examples ----------------------------------------------------------------------------------------

EXAMPLES = Path(__file__).parents[2] / "examples" / "latency"


def example_row(space):
    """What examples/README.md says of a space: networks that the correction did not see, then a later session's."""
    model = load_latency(EXAMPLES / f"{space}.json")
    held_out = model.check.corrected if model.check.is_corrected else model.check.sums
    cells = [f"{held_out.mape:.1f}", f"{held_out.kendall:.2f}", f"{model.check.repeat.mape:.1f}"]
    again = EXAMPLES / f"{space}.second.json"
    if again.exists():
        later = load_latency(again).check
        predicted = np.array([model.predict(arch) for arch in later.archs])
        errors = np.abs(predicted / np.array(later.measured_ms) - 1) * 100
        cells += [f"{np.median(errors):.1f}", f"{np.quantile(errors, 0.95):.1f}"]
        cells += [f"{kendalltau(predicted, later.measured_ms)[0]:.2f}"]
    else:
        cells += ["-", "-", "-"]
    return f"| `{space}` | {model.conditions.batch_size} | {' | '.join(cells)} |"


@pytest.mark.parametrize("space", ["resnet-mini", "mobilenet-mini", "resnet", "mobilenet"])
def test_the_examples_are_as_good_as_their_page_says(space):
    assert example_row(space) in (EXAMPLES.parent / "README.md").read_text().splitlines()


def test_an_example_limits_a_choice(run_cli):
    path = EXAMPLES / "resnet-mini.json"
    words = ("channel-bench", "top", "resnet-mini", "-k", 2, "--latency", path, "--max-latency", "0.8x")
    code, output, _ = run_cli(*words)
    assert code == 0 and "AMD EPYC" in output
