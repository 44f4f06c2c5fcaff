"""How long to train to rank: curves against scipy, and conclusions from made-up cells."""

import numpy as np
import pytest
from scipy import stats

import channel_bench as cb
from harness.experiments.claims import NOT_SEEN, SEEN
from harness.experiments.contract import Cell, Setting
from harness.experiments.epochs import FREE, MARGIN, SHARES, TABLE, Epochs
from harness.judge.baselines import baseline_scores
from harness.ranking.request import TaskOptions


def setting_of(**options):
    return Setting(task=TaskOptions(space="resnet-mini"), **options)


def made_up(setting, kendall_of, curves=((0.1, 0.6), (0.1, 0.7))):
    """Cells as they would be measured; Kendall by method and share, a little different in every seed."""
    cells = {}
    for cell in Epochs().cells(setting):
        if cell.key == TABLE:
            cells[cell.key] = {"kendall": [list(each) for each in curves], "free": 0.7}
            continue
        value = kendall_of(cell.options["method"], cell.options["share"]) + 0.001 * cell.options["seed"] ** 2
        cells[cell.key] = {"epochs": 10, "kendall": value, "train_macs": 2e9, "fit_s": 3.0}
    return cells


def test_curves_are_held_against_the_other_runs():
    found = Epochs().measure(Cell(TABLE), setting_of())
    table = cb.load("resnet-mini")
    archs, curves = table.all_curves()
    rows = table.space.index(archs)
    for run, epoch in ((0, 1), (2, 19)):
        others = np.delete(table.cells(), run, 1).mean(1)[rows]
        expected = stats.kendalltau(curves["test_acc"][:, run, epoch], others).statistic
        assert found["kendall"][run][epoch] == pytest.approx(expected, abs=1e-9)
    free = stats.kendalltau(baseline_scores(table.space)[FREE], table.accuracies()).statistic
    assert found["free"] == pytest.approx(free, abs=1e-9)


def test_what_ranks_as_well_is_seen_and_what_loses_more_than_the_margin_is_not():
    losses = {0.1: 0.1, 0.25: 0.5 * MARGIN, 0.5: -0.1, 1.0: 0.0, 2.0: 0.0}
    setting = setting_of(num_seeds=3)
    outcome = Epochs().outcome(made_up(setting, lambda method, share: 0.6 - losses[share]), setting)
    for claims in (outcome.claims[:3], outcome.claims[3:]):
        assert [claim.verdict for claim in claims] == [NOT_SEEN, SEEN, SEEN]
        assert [claim.effect for claim in claims] == pytest.approx([MARGIN - 0.1, 0.5 * MARGIN, MARGIN + 0.1])


def test_sheets_hold_every_length_and_the_cost_of_training_all():
    setting = setting_of(num_seeds=2)
    outcome = Epochs().outcome(made_up(setting, lambda method, share: share / 4), setting)
    supernets, networks = outcome.sheets
    assert [row[:2] for row in supernets.rows] == [
        [name, f"{s:.0%}"] for name, all_of in SHARES.items() for s in all_of
    ]
    assert supernets.rows[0][5:] == ["-0.225", "2.0", "3"]
    assert networks.rows == [["1", "0.100", "0.000", "8,192"], ["2", "0.650", "0.100", "16,384"]]
    assert len(outcome.figures["epochs"]().axes) == 2 and outcome.notes == []


def test_a_table_without_curves_is_said():
    setting = setting_of(num_seeds=2)
    outcome = Epochs().outcome(made_up(setting, lambda method, share: 0.5, curves=()), setting)
    assert len(outcome.sheets) == 1 and "no learning curves" in outcome.notes[0]
    assert outcome.figures["epochs"]().axes
