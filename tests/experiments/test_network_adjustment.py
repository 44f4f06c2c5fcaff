"""Network adjustment: the loop with probes of known answer, dropout by hand, and conclusions from made-up cells."""

import dataclasses

import numpy as np
import pytest
import torch

import channel_bench as cb
from channel_bench.errors import BudgetError
from channel_bench.recipe import get_recipe
from channel_bench.space import NUM_SLOTS
from harness.experiments import network_adjustment
from harness.experiments.adjusting import (
    MIN_CHANNELS,
    TOLERANCE,
    Probed,
    adjust,
    chosen_slots,
    flops_of,
    growing,
    num_adjusted,
    scaled_to,
    slot_flops,
    whole_channels,
)
from harness.experiments.claims import NOT_SEEN, SEEN
from harness.experiments.contract import EXPERIMENTS, Cell, Setting
from harness.experiments.dropout_probe import DropoutNetwork, DropoutProbe, probe_rates, train_rates
from harness.experiments.network_adjustment import (
    FULL,
    FUR_LOSS,
    ITERATIONS,
    NUM_ANEW,
    PLAIN_LOSS,
    PYRAMID,
    STARTS,
    UNIFORM,
    VARIANTS,
    NetworkAdjustment,
    cell_key,
    returned,
    start_of,
)
from harness.ranking.request import TaskOptions, prepare_task

SPACES = ["resnet-mini", "mobilenet-mini"]
SETTING = Setting(task=TaskOptions(space="resnet-mini"), num_seeds=2)


def test_k_falls_from_two_slots_to_one():
    # 6 of 18 layers less half a layer an iteration, as shares of seven slots: 2.33, 2.14, 1.94, 1.75, 1.56, 1.36 ...
    assert [num_adjusted(iteration) for iteration in range(10)] == [2] * 5 + [1] * 5
    assert num_adjusted(12) == num_adjusted(20) == 0


def test_the_slots_that_lose_most_are_widened_and_those_that_lose_least_narrowed():
    widths = np.full(NUM_SLOTS, 5.0)
    assert chosen_slots([0, 3, 1, 9, 2, -1, 0.5], widths, 2) == ((3, 1), (5, 0))
    assert chosen_slots([1] * NUM_SLOTS, widths, 2) == ((0, 1), (6, 5))
    widths[5] = MIN_CHANNELS
    assert chosen_slots([0, 3, 1, 9, 2, -1, 0.5], widths, 2) == ((3, 1), (0, 6))
    assert chosen_slots([1, 2, 3, 4, 5, 6, 7], widths, 0) == ((), ())


@pytest.mark.parametrize("name", SPACES)
def test_scale_keeps_the_flops_and_whole_channels_keep_them_within_a_hundredth(name):
    space, rng = cb.get_space(name), np.random.default_rng(0)
    flops, near = space.flops("2222222"), 0
    for _ in range(60):
        wanted = np.array(space.channels("2222222")) * rng.uniform(0.6, 1.8, NUM_SLOTS)
        widths = scaled_to(space, wanted, flops)
        assert flops_of(space, widths) == pytest.approx(flops, rel=1e-9)
        ratios = (widths / wanted)[widths > MIN_CHANNELS + 1e-9]
        assert ratios == pytest.approx(ratios[0]) and widths.min() >= MIN_CHANNELS
        channels = whole_channels(space, widths, flops)
        assert np.abs(np.array(channels) - widths).max() < 1
        near += abs(space.with_channels(channels).flops("1111111") / flops - 1) <= TOLERANCE
    assert near >= 57  # where none of the 128 ways to round is near enough, the nearest one is taken


def test_whole_channels_of_whole_channels_are_the_same():
    space = cb.get_space("resnet-mini")
    channels = space.channels("2424314")
    assert whole_channels(space, np.array(channels, float), space.flops("2424314")) == channels


@pytest.mark.parametrize("name", SPACES)
def test_growing_widths_grow_linearly_at_equal_flops(name):
    space = cb.get_space(name)
    flops = space.flops("2222222")
    widths = growing(space, flops, 0.25)
    shares = widths / np.array(space.max_channels)
    assert flops_of(space, widths) == pytest.approx(flops, rel=1e-9)
    assert shares[0] == pytest.approx(0.25) and np.diff(shares) == pytest.approx(np.diff(shares)[0])
    with pytest.raises(BudgetError, match="no network of this kind"):
        growing(space, space.flops("1111111") - 1, 0.25)


def test_the_loop_finds_the_slot_that_is_best_and_trains_in_every_iteration():
    space, asked = cb.get_space("resnet-mini"), []

    def probe(iteration, channels):  # slot 3 alone is worth anything, slot 6 is harmful
        asked.append((iteration, channels))
        return Probed((0, 0, 0, 1, 0, 0, -1), float(iteration))

    start = np.array(space.channels("2222222"), float)
    flops = space.flops("2222222")
    iterates = adjust(space, start, flops, probe, 3)
    assert [number for number, _ in asked] == [0, 1, 2, 3] and [each.channels for each in iterates] == [
        channels for _, channels in asked
    ]
    assert [(each.wider[0], each.narrower[0]) for each in iterates[:-1]] == [(3, 6)] * 3 and iterates[-1].wider == ()
    for before, after in zip(iterates, iterates[1:], strict=False):
        changed = before.widths.copy()
        changed[[3, 0]] += 0.1 * start[[3, 0]]  # of equal losses the earlier slot is widened, the later one narrowed
        changed[[6, 5]] -= 0.1 * start[[6, 5]]
        assert after.widths == pytest.approx(scaled_to(space, changed, flops))
    assert iterates[-1].widths[3] > 1.2 * start[3] and iterates[-1].widths[6] < 0.8 * start[6]


@pytest.mark.parametrize("name", SPACES)
def test_a_slots_flops_are_what_a_channel_costs_times_channels(name):
    space = cb.get_space(name)
    channels = (3, 5, 7, 6, 9, 4, 8)
    costs = slot_flops(space, channels)
    for slot in range(NUM_SLOTS):
        less = [count - (place == slot) for place, count in enumerate(channels)]
        saved = space.with_channels(channels).flops("1111111") - space.with_channels(less).flops("1111111")
        assert costs[slot] == pytest.approx(channels[slot] * saved)
    rates = probe_rates(space, channels, fur=True)
    assert (
        rates * costs == pytest.approx(0.05 * costs.mean()) and (probe_rates(space, channels, fur=False) == 0.05).all()
    )


def test_dropout_in_training_grows_with_epoch_and_depth():
    assert (train_rates(0, 10) == 0).all()
    assert train_rates(9, 10) == pytest.approx(0.05 * 0.9 * np.arange(1, 8) / 7)


@pytest.mark.parametrize("name", SPACES)
def test_a_slot_without_its_channels_is_a_network_whose_weights_for_them_are_zero(name):
    space, channels = cb.get_space(name), (3, 5, 4, 6, 5, 4, 7)
    network = DropoutNetwork(space, channels, torch.Generator().manual_seed(0), torch.device("cpu"))
    network.model.eval()
    images, nothing = torch.randn(4, *space.input_shape), np.zeros(NUM_SLOTS)
    for slot in (0, 1, 4):
        rates = np.where(np.arange(NUM_SLOTS) == slot, 0.999999, 0.0)
        dropped = network.run(images, rates, torch.Generator().manual_seed(1))
        changed = DropoutNetwork(space, channels, torch.Generator().manual_seed(0), torch.device("cpu"))
        changed.model.eval()
        with torch.no_grad():
            for layer in space.layers[:-1]:
                if layer.writes == slot:  # scale and shift of every tensor of the slot
                    for parameter in changed.model.get_submodule(layer.norm).parameters():
                        parameter.zero_()
        assert torch.allclose(dropped, changed.run(images, nothing, torch.Generator()), atol=1e-6)
    # One mask for a slot and image: kept channels are scaled up, so the mean stays.
    half = np.where(np.arange(NUM_SLOTS) == 1, 0.5, 0.0)
    network.run(images, half, torch.Generator().manual_seed(2))
    assert set(network._masks[1].unique().tolist()) <= {0.0, 2.0} and network._masks[1].shape == (4, 5, 1, 1)
    assert network._masks[0] is None


def test_a_training_with_dropout_learns_and_is_repeatable():
    task, recipe = prepare_task(TaskOptions(space="resnet-mini", seed=1)), get_recipe("mini", epochs=4)
    first, again = (
        DropoutProbe(task, recipe).probe(2, (5, 4, 4, 8, 8, 7, 8), measure="loss", fur=True) for _ in range(2)
    )
    assert first == again and first.accuracy > 30 and first.losses[0] > 0


def made_up(gains, off=0):
    """Cells in which every start gains what is asked for, at the iterate of the best validation accuracy."""

    def iterates(start, variant, seed):
        return [
            {
                "widths": [4.0] * 7,
                "channels": [4 + (place == ITERATIONS)] * 7,
                "flops": start_of(SETTING.space, start)[1] * (1 + off),
                "losses": [0.0] * 7,
                "val_accuracy": 90.0 if place == 2 else 80.0,
                "wider": [0],
                "narrower": [1],
                "anew": [80.0 + seed + (place == 2) * (gains(start, variant) + seed / 50)] * NUM_ANEW,
            }
            for place in range(ITERATIONS + 1)
        ]

    return {
        cell.key: {
            "flops": 1.0,
            "iterates": {variant: iterates(**cell.options, variant=variant) for variant in VARIANTS},
        }
        for cell in NetworkAdjustment().cells(SETTING)
    }


def test_gains_of_what_is_returned_are_held_against_the_start():
    gains = {FULL: 1.0, UNIFORM: 1.0, PYRAMID: 3.0}
    outcome = NetworkAdjustment().outcome(
        made_up(lambda start, variant: gains[start] - (variant == PLAIN_LOSS) * 2), SETTING
    )
    assert [claim.verdict for claim in outcome.claims[:3]] == [SEEN] * 3
    assert [claim.effect for claim in outcome.claims[:3]] == pytest.approx([1.01, 1.01, 3.01])
    assert [claim.effect for claim in outcome.claims[3:]] == pytest.approx([2.0, 2.0])
    worse = NetworkAdjustment().outcome(made_up(lambda start, variant: -1.0), SETTING)
    assert [claim.verdict for claim in worse.claims[:3]] == [NOT_SEEN] * 3


def test_sheets_hold_every_start_iteration_and_width():
    outcome = NetworkAdjustment().outcome(made_up(lambda start, variant: 1.0, off=0.004), SETTING)
    gains, iterations, widths = outcome.sheets
    assert gains.rows[0] == ["1x", FUR_LOSS, "80.50", "81.51", "+1.01", "0.01", "2, 2", "+0.00", "0.40%"]
    assert len(iterations.rows) == ITERATIONS + 1
    assert [row[2] for row in iterations.rows[1:4]] == ["80.50", "81.51", "80.50"]
    assert widths.rows[0][2:] == ["4"] * 7 and widths.rows[1][2:] == ["5.0"] * 7
    assert len(outcome.figures["network_adjustment"]().axes) == 2 * len(STARTS)


def test_the_first_of_equal_iterates_is_returned():
    assert returned([{"val_accuracy": value} for value in (80.0, 90.0, 90.0)]) == 1


def test_a_cell_measures_every_iterate_anew(monkeypatch):
    monkeypatch.setattr(network_adjustment, "ITERATIONS", 1)
    monkeypatch.setattr(network_adjustment, "NUM_ANEW", 2)
    setting = Setting(task=dataclasses.replace(SETTING.task, epochs=2))
    monkeypatch.setattr(
        network_adjustment, "VARIANTS", {FUR_LOSS: VARIANTS[FUR_LOSS], PLAIN_LOSS: VARIANTS[PLAIN_LOSS]}
    )
    found = NetworkAdjustment().measure(Cell(cell_key(UNIFORM, 0), {"start": UNIFORM, "seed": 0}), setting)
    start, end = found["iterates"][FUR_LOSS]
    assert start["channels"] == list(setting.space.channels("2222222")) and start["flops"] == found["flops"]
    assert len(end["anew"]) == 2 and min(end["anew"]) > 70  # judged by the full recipe, whatever --epochs
    assert start["wider"] and not end["wider"]
    other = found["iterates"][PLAIN_LOSS][0]  # one training, probed twice
    assert other["val_accuracy"] == start["val_accuracy"] and other["losses"] != start["losses"]
    assert "network_adjustment" in [each.name for each in EXPERIMENTS.outlines()]
