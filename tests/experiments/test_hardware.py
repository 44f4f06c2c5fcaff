"""HTAS proper: choices of a staircase, lines through made-up networks, conclusions from made-up cells, a real cell."""

import dataclasses
import json
import math

import numpy as np
import pytest

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.latency import Conditions
from channel_bench.latency.sweep import Curve, swept_of, widths_of
from channel_bench.space import get_space
from harness.experiments import hardware
from harness.experiments.claims import NOT_SEEN, SEEN
from harness.experiments.contract import Setting
from harness.experiments.hardware import (
    DRAWN,
    EVEN,
    FULL,
    KINDS,
    SCORED,
    Hardware,
    accuracy_at_equal_latency,
    choices_of,
    even_widths,
    held_out_gain,
    matched,
    repeats,
    saved_at_equal_accuracy,
)
from harness.ranking.request import TaskOptions

SETTING = Setting(task=TaskOptions(space="resnet-mini"), num_seeds=3)
MULTIPLES_OF_4 = [4, 8, 12, 16, 20, 24, 28, 32]


def curve_of(widths, ms, even=None, odd=None, **options):
    given = {"slots": (0,), "layers": ("block1.3",), "size": (4, 4), "max_channels": len(widths) // 2, **options}
    return Curve(widths=tuple(widths), ms=tuple(ms), even_ms=tuple(even or ms), odd_ms=tuple(odd or ms), **given)


def staircase(most=32, tile=4):
    """A tile of channels takes a millisecond, however full it is."""
    return [float(math.ceil(width / tile)) for width in range(1, most + 1)]


def test_the_choices_of_a_staircase_are_its_full_tiles():
    found = choices_of(curve_of(range(1, 33), staircase()), np.random.default_rng(0))
    assert found[SCORED] == MULTIPLES_OF_4 and found[EVEN] == MULTIPLES_OF_4
    assert [math.ceil(width / 4) for width in found[DRAWN]] == [1, 2, 3, 4, 5, 6, 7, 8]
    shifted = [float(math.ceil((width + 2) / 4)) for width in range(1, 33)]
    assert choices_of(curve_of(range(1, 33), shifted), np.random.default_rng(0))[SCORED] == [
        *(2, 6, 10, 14, 18, 22, 26, 30)
    ]


def test_even_choices_end_at_the_widest_and_start_at_one():
    assert even_widths(24) == [3, 6, 9, 12, 15, 18, 21, 24] and even_widths(8) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_steps_that_repeat_are_gains_and_noise_is_none():
    steps = curve_of(range(1, 33), staircase())
    # In a tile of four the last width saves 1.5 widths of the trend against the mean; k is (1 - 1/n^2) / 4 nearly.
    k = np.polyfit(range(1, 33), staircase(), 1)[0]
    assert held_out_gain(steps) == pytest.approx(100 * 1.5 * k / 4.5) and repeats(steps) == pytest.approx(1)
    widths, rng = np.arange(1, 33), np.random.default_rng(0)
    draws = [curve_of(widths, widths, *(widths + rng.normal(0, 0.1, (2, 32))).tolist()) for _ in range(300)]
    gains = [held_out_gain(each) for each in draws]
    assert abs(np.mean(gains)) < 3 * np.std(gains) / math.sqrt(len(gains))
    flat = curve_of(range(1, 33), [2.0] * 32)
    assert repeats(flat) is None or abs(repeats(flat)) <= 1


def test_networks_are_matched_by_latency_each_once():
    slow, fast = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([4.1, 0.0, 3.1, 2.2, 2.1])
    # Aimed at are 1.4, the 10th percentile of the slower kind, and 3.7, the 90th of the other.
    assert matched({SCORED: slow, EVEN: fast}, 2) == {SCORED: [0, 3], EVEN: [4, 0]}
    assert sorted(matched({SCORED: slow}, 5)[SCORED]) == [0, 1, 2, 3, 4]


def networks_on_a_line(height, faster=1.0):
    """Accuracy is 80 + 5 times the logarithm of ms; scored networks are `height` better, or faster.

    From one network to the next latency grows by exp(.4), and accuracy by 2.
    """
    made = {}
    for kind in KINDS:
        better, factor = (height, faster) if kind == SCORED else (0.0, 1.0)
        made[kind] = [
            {
                "channels": [1] * 7,
                "ms": math.exp(0.4 * place) * factor,
                "accuracy": 80 + 2 * place + better,
                "flops": 10_000,
            }
            for place in range(6)
        ]
    return made


def test_better_networks_are_found_at_equal_latency_and_faster_ones_at_equal_accuracy():
    for networks in (networks_on_a_line(height=2.0), networks_on_a_line(height=0.0, faster=math.exp(-0.4))):
        assert accuracy_at_equal_latency(networks, SCORED, EVEN) == pytest.approx(2)
        assert saved_at_equal_accuracy(networks, SCORED, DRAWN) == pytest.approx(100 * (1 - math.exp(-0.4)))
        assert accuracy_at_equal_latency(networks, EVEN, SCORED) == pytest.approx(-2)


def test_what_falls_far_out_or_diverged_changes_no_gain():
    made = networks_on_a_line(height=2.0)
    made[EVEN][0]["accuracy"] = None
    made[SCORED][5]["ms"] *= 3
    made[SCORED][0]["accuracy"] = 10.0
    assert accuracy_at_equal_latency(made, SCORED, EVEN) == pytest.approx(2)
    made[EVEN] = [{**each, "accuracy": None} for each in made[EVEN]]
    with pytest.raises(ArgumentError, match="no network of even choices was trained to the end"):
        accuracy_at_equal_latency(made, SCORED, EVEN)


def made_up(height=2.0, own_ms=(0.9, 1.8), steps=True):
    """Cells of three seeds."""
    space, cells = SETTING.space, {}
    surroundings = {"load": [1.0, 2.5], "cores": 2}
    curves = []
    for each in swept_of(space):
        widths = widths_of(space, each, 2.0)
        ms = staircase(widths[-1], widths[-1] // 8) if steps else [1.0 + width for width in widths]
        curve = curve_of(widths, ms, slots=each.slots, max_channels=widths[-1] // 2)
        curves.append(json.loads(json.dumps(dataclasses.asdict(curve))))
    for seed in SETTING.seeds:
        cells[f"choices-seed{seed}"] = {
            "curves": curves,
            "networks": networks_on_a_line(height + seed / 10),
            **surroundings,
        }
        found = {"1": "2222222", "256": "3333333"}
        ms = {
            "2222222": {"1": own_ms[0], "256": 2.0},
            "3333333": {"1": 1.0, "256": own_ms[1] + seed / 100},
            **{arch: {"1": 1.0, "256": 2.0} for arch in ("4444444", "1111111")},
        }
        cells[f"search-seed{seed}"] = {
            "found": {batch: {"arch": arch, "latency_is_free": batch == "1"} for batch, arch in found.items()},
            "ms": ms,
            "accuracy": {arch: 90.0 for arch in ms} | {"1111111": None},
            "flops": {arch: int(space.flops(arch)) for arch in ms},
            **surroundings,
        }
    return {**cells, FULL: {"curves": curves[:1], **surroundings}}


def claims_of(cells):
    claims = Hardware().outcome(cells, SETTING).claims
    return [(claim.verdict, claim.effect) for claim in claims]


def test_faster_networks_of_other_choices_and_steps_and_settings_are_seen():
    (again, _), *networks, (cross, effect) = claims_of(made_up())
    assert again == SEEN and [verdict for verdict, _ in networks] == [SEEN] * 4
    assert networks[1][1] == pytest.approx(2.1)
    assert cross == SEEN and effect == pytest.approx(100 * np.mean([0.1, 1 - 1.81 / 2]))


def test_slower_networks_are_not_seen():
    (_, effect), *networks, (cross, _) = claims_of(made_up(height=-2.0, own_ms=(1.1, 2.2), steps=False))
    # On a line without steps every width has a score of 0, and nothing is saved.
    assert abs(effect) < 1e-9
    assert [verdict for verdict, _ in networks] == [NOT_SEEN] * 4 and cross == NOT_SEEN


def test_the_tables_say_what_was_measured():
    outcome = Hardware().outcome(made_up(), SETTING)
    choices, networks, cross = outcome.sheets
    assert [row[0] for row in choices.rows] == ["0, 1, 2", "3", "4, 5, 6", "0, 1, 2 of resnet"]
    assert choices.rows[1][-1] == ", ".join(map(str, MULTIPLES_OF_4)) and choices.rows[1][7] == "1.00"
    assert [row[:2] for row in networks.rows] == [[kind, "18"] for kind in KINDS]
    assert networks.rows[1][-2] == "+2.10" and networks.rows[0][-2:] == ["-", "-"]
    assert cross.rows[0][:4] == ["batch 1 (latency is free)", "0", "2222222", "90.00"]
    assert cross.rows[0][5:] == ["0.900", "2.000"] and cross.rows[-1][3] == "-"
    assert "load average 1 to 2.5 on 2 cores" in outcome.notes[0]
    assert len(outcome.figures["hardware"]().axes) == 3


class FakeStopwatch:
    """A multiply-accumulate takes a nanosecond; at a batch of one wider layers are no slower."""

    def __init__(self, space, batch_size, seed):
        self.space, self.batch_size = space, batch_size
        self.conditions = Conditions("fake", "none", 1, batch_size, "exact")

    def time_channels(self, layer, inputs, outputs):
        return 1.0 + math.ceil(outputs / 4)

    def time_layer(self, layer, digits):
        return 1.0 - digits[-1] / 100 if self.batch_size == 1 else 1.0 + digits[-1]

    def time_network(self, arch):
        return 1.0 + float(self.space.flops(arch)) / 1e6


@pytest.fixture
def tiny(monkeypatch):
    for name in ("SWEEP_ROUNDS", "FULL_ROUNDS", "MODEL_ROUNDS", "CROSS_ROUNDS", "MATCH_ROUNDS", "NUM_NETWORKS"):
        monkeypatch.setattr(hardware, name, 2)
    monkeypatch.setattr(hardware, "NUM_CANDIDATES", 3)


def test_a_search_where_latency_is_free_finds_the_widest(tiny, monkeypatch):
    monkeypatch.setattr(hardware, "_stopwatch", FakeStopwatch)
    setting = Setting(task=TaskOptions(space="resnet-mini", epochs=1), num_seeds=1)
    found = Hardware().measure(Hardware().cells(setting)[0], setting)
    assert found["found"]["1"]["arch"] == "4444444" and found["found"]["1"]["latency_is_free"]
    assert not found["found"]["256"]["latency_is_free"]
    widest = get_space("resnet-mini").flops("4444444")
    assert found["ms"]["4444444"] == {"1": pytest.approx(1 + widest / 1e6), "256": pytest.approx(1 + widest / 1e6)}


def test_a_real_cell_times_and_trains_networks_of_the_choices(tiny):
    setting = Setting(task=TaskOptions(space="resnet-mini"), num_seeds=1)
    cell = next(cell for cell in Hardware().cells(setting) if cell.key == "choices-seed0")
    found = Hardware().measure(cell, setting)
    assert json.loads(json.dumps(found, allow_nan=False))
    space, curves = cb.get_space("resnet-mini"), found["curves"]
    for kind in KINDS:
        for network in found["networks"][kind]:
            assert network["ms"] > 0 and 0 <= network["accuracy"] <= 100
            assert network["flops"] == space.with_channels(network["channels"]).flops("1111111")
            for curve, choices in zip(curves, found["choices"], strict=True):
                assert all(network["channels"][slot] in choices[kind] for slot in curve["slots"])
    # Which widths are chosen is the clock's doing, and a single one may be too narrow to learn anything.
    assert max(network["accuracy"] for kind in KINDS for network in found["networks"][kind]) > 20
