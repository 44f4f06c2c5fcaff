"""Base widths: sub-spaces by count, effects of made-up cells by hand, and one real cell."""

import json

import numpy as np
import pytest

from harness.experiments import base_widths
from harness.experiments.base_widths import (
    BASES,
    EXHAUSTIVE,
    QUARTILES,
    SUPERNETS,
    BaseWidths,
    measure_subspace,
    subspace,
    supernets_of,
)
from harness.experiments.claims import NOT_SEEN, SEEN
from harness.experiments.contract import Setting
from harness.experiments.shared import truth_of
from harness.experiments.weight_shared import EVOLUTION_PRIOR, GREEDY, Trained
from harness.methods import get_method
from harness.ranking.request import TaskOptions

KENDALL = {"bcnet": 0.3, "v2-base1": 0.32, "bcnet-base": 0.35, "v2-text-base": 0.36, "v2-base": 0.4}


def setting_of(num_seeds=2, **task):
    return Setting(task=TaskOptions(space="resnet-mini", **task), num_seeds=num_seeds)


def part_of(key, base, seed):
    stem = key if key in KENDALL else key[:-1]
    accuracy = 90 + base + 10 * KENDALL[stem] + seed
    end = {"accuracy": accuracy, "regret": 100 - accuracy}
    return {
        "ranking": {"kendall": KENDALL[stem] + 0.1 * seed - 0.1 * (base == 3 and stem == "v2-base"), "spearman": 0.5,
                    "pearson": 0.4, "n": {2: 2187, 3: 128}[base], "train_macs": 3e9, "fit_s": 1.0},
        "limits": dict.fromkeys(QUARTILES, 5e6),
        "best": dict.fromkeys(QUARTILES, 100.0),
        "searches": {name: {share: [end] for share in QUARTILES} for name in (EVOLUTION_PRIOR, GREEDY, EXHAUSTIVE)},
    }  # fmt: skip


@pytest.fixture
def outcome():
    setting = setting_of()
    measured = {
        cell.key: {
            str(base): part_of(cell.key.rsplit("-", 1)[0], base, cell.options["seed"]) for base in cell.options["bases"]
        }
        for cell in BaseWidths().cells(setting)
    }
    return BaseWidths().outcome(json.loads(json.dumps(measured)), setting)


def test_sub_spaces_are_the_architectures_without_narrower_slots():
    space = setting_of().space
    assert subspace(space, 2).sum() == 3**7 == 2187 and subspace(space, 3).sum() == 2**7 == 128
    assert subspace(space, 1).all()
    assert subspace(space, 2)[space.index("2222222")] and not subspace(space, 2)[space.index("4444441")]
    assert [space.text(int(index)) for index in np.flatnonzero(subspace(space, 3))[[0, -1]]] == ["3333333", "4444444"]


def test_every_supernet_can_be_made_and_has_the_groups_that_its_name_says():
    groups = {}
    for key, each in SUPERNETS.items():
        method = get_method(each.method, **each.options)
        groups[key] = getattr(method, "num_groups", 4)
        assert f"T = {groups[key]}" in each.name
        assert method.base_width in (1, *each.bases)
    assert groups == {"bcnet": 4, "bcnet-base2": 4, "bcnet-base3": 4, "v2-base2": 6, "v2-base3": 7,
                      "v2-text-base2": 5, "v2-text-base3": 6, "v2-base1": 5}  # fmt: skip
    for base in BASES:
        assert all(base in SUPERNETS[key].bases for key in supernets_of(base))


def test_a_base_width_is_judged_on_its_sub_space_alone():
    space = setting_of().space
    digits = space.archs().astype(float)
    # Right on the sub-space, wrong elsewhere: the best would be another one if anything else counted.
    truth = digits.sum(1)
    scores = np.where(subspace(space, 3), truth, np.nan)
    archs = space.archs()[::100]
    trained = Trained(space, scores, (archs, np.ones(len(archs))), 1, 0.0)
    found = measure_subspace(trained, np.where(subspace(space, 3), truth, truth + 100), 0)
    assert found["ranking"]["n"] == 128 and found["ranking"]["kendall"] == 1
    for share, part in QUARTILES.items():
        inside = np.flatnonzero(subspace(space, 3))
        fitting = inside[space.flops()[inside] <= found["limits"][share]]
        assert len(fitting) / 128 == pytest.approx(part, abs=0.05)
        assert found["best"][share] == truth[fitting].max()
        assert [end["regret"] for end in found["searches"][EXHAUSTIVE][share]] == [0]


def test_claims_are_the_differences_of_bcnet_v2_and_what_it_is_held_against(outcome):
    assert [round(claim.effect, 6) for claim in outcome.claims] == [0.1, 1.0, 0.05, 0.04, 0.0, 1.0, -0.05, -0.06]
    verdicts = [claim.verdict for claim in outcome.claims]
    assert verdicts[:4] == [SEEN] * 4 and verdicts[6:] == [NOT_SEEN] * 2
    assert all("Su et al. 2022" in claim.source for claim in outcome.claims)


def test_the_tables_state_n_and_the_best_that_fits(outcome):
    second, third = outcome.sheets
    assert "2,187 architectures" in second.title and "128 architectures" in third.title
    assert [row[0] for row in second.rows] == [*(SUPERNETS[key].name for key in supernets_of(2)), "best that fits"]
    # BCNet: 90 + 2 + 3, and the mean of seeds 0 and 1.
    assert second.rows[0][1:2] + second.rows[0][5:] == [
        "0.350",
        "95.50",
        "95.50",
        "95.50",
        "4.500",
        "4.500",
        "4.500",
        "3",
    ]
    assert "n = 128, mean over 2 seeds" in third.notes[0]
    axes = outcome.figures["base_widths"]().axes
    assert len(axes) == 4 and all(len(panel.get_lines()) == 2 * 5 for panel in axes)


def test_a_real_cell_scores_the_sub_space_only():
    setting = setting_of(1, epochs=1)
    cell = next(cell for cell in BaseWidths().cells(setting) if cell.key == "v2-base3-seed0")
    values = json.loads(json.dumps(BaseWidths().measure(cell, setting), allow_nan=False))
    assert set(values) == {"3"} and values["3"]["ranking"]["n"] == 128
    truth = truth_of(setting)
    for ends in values["3"]["searches"].values():
        for end in ends["75%"]:
            assert set(end["arch"]) <= {"3", "4"} and end["accuracy"] == truth[setting.space.index(end["arch"])]


def test_a_supernet_of_all_widths_is_scored_on_both(monkeypatch):
    asked = []
    space = setting_of().space

    def fake(method, options, setting, seed, among):
        asked.append(int(among.sum()))
        archs = space.archs()[::100]
        scores = np.where(among, space.flops(), np.nan).astype(float)
        return Trained(space, scores, (archs, np.linspace(1, 2, len(archs))), 1, 0.0)

    monkeypatch.setattr(base_widths, "train", fake)
    monkeypatch.setattr(base_widths, "QUARTILES", {"50%": 0.5})
    cell = next(cell for cell in BaseWidths().cells(setting_of()) if cell.key == "bcnet-seed0")
    values = BaseWidths().measure(cell, setting_of())
    assert asked == [2187] and [values[base]["ranking"]["n"] for base in ("2", "3")] == [2187, 128]
