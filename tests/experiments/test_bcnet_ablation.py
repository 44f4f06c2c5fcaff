"""The ablation concludes what its cells say: effects of made-up cells by hand, and one real cell of few widths."""

import json

import numpy as np
import pytest

from harness.experiments import bcnet_ablation
from harness.experiments.bcnet_ablation import BCNET, BUDGETS, SEARCHES, SUPERNETS, BCNetAblation
from harness.experiments.claims import NOT_SEEN, OPEN, SEEN
from harness.experiments.contract import Setting
from harness.experiments.shared import truth_of
from harness.experiments.weight_shared import EVOLUTION, EVOLUTION_PRIOR, GREEDY, PRIOR_ONLY, QUERIES, Draws
from harness.methods import get_method
from harness.ranking.request import TaskOptions

KENDALL = {
    "unilateral-none": 0.50, "unilateral-complement": 0.52, "bilateral-none": 0.60, "bilateral-complement": 0.59,
    "v2-both": 0.70, "v2-alternate": 0.69,
}  # fmt: skip
GREEDY_POINTS = {key: 80 + 10 * value for key, value in KENDALL.items()}
"""True accuracy found by greedy search; evolution finds 1 more, with a prior start 1.5 more."""
GAIN = {GREEDY: 0.0, EVOLUTION: 1.0, EVOLUTION_PRIOR: 1.5}


def setting_of(num_seeds=3, **task):
    return Setting(task=TaskOptions(space="resnet-mini", **task), num_seeds=num_seeds)


def end_of(accuracy, search):
    course = [None if search == GREEDY else 95 - accuracy + 10 / number for number in QUERIES]
    course[-1] = 95 - accuracy
    return {"arch": "1111111", "score": 1.0, "accuracy": accuracy, "regret": 95 - accuracy, "num_queries": 50,
            "regret_at": course}  # fmt: skip


def cell_of(supernet, seed):
    """A cell whose values differ between seeds by what all supernets share, 0.1 and 1 point."""
    searches = {
        search: {
            budget: [end_of(GREEDY_POINTS[supernet] + seed + GAIN.get(search, -1.0), search)] * (1 + (search != GREEDY))
            for budget in BUDGETS
        }
        for search in SEARCHES
    }
    return {
        "ranking": {"kendall": KENDALL[supernet] + 0.1 * seed, "spearman": 0.5, "pearson": 0.4, "n": 16384,
                    "train_macs": 7_000_000_000, "fit_s": 1.0},
        "best": dict.fromkeys(BUDGETS, 95.0),
        "first_generations": {start: dict.fromkeys(BUDGETS, 85.0) for start in ("random", "prior")},
        "searches": searches,
    }  # fmt: skip


def outcome_of(change=lambda key, seed, cell: None, num_seeds=3):
    setting = setting_of(num_seeds)
    measured = {f"{key}-seed{seed}": cell_of(key, seed) for key in SUPERNETS for seed in setting.seeds}
    for key in SUPERNETS:
        for seed in setting.seeds:
            change(key, seed, measured[f"{key}-seed{seed}"])
    return BCNetAblation().outcome(json.loads(json.dumps(measured)), setting)


def test_every_cell_is_a_supernet_of_the_ablation_that_can_be_made():
    cells = BCNetAblation().cells(setting_of(2))
    assert len(cells) == 6 * 2
    made = {cell.key: get_method(cell.options["method"], **cell.options["options"]) for cell in cells}
    shown = {key: (method.paths, method.complement) for key, method in made.items() if key.startswith(("uni", "bi"))}
    assert {value for key, value in shown.items() if key.endswith("seed0")} == {
        ("both", "even"), ("both", "none"), ("left", "even"), ("left", "none")
    }  # fmt: skip
    assert {made[f"v2-{update}-seed1"].update for update in ("both", "alternate")} == {"both", "alternate"}


def test_each_claim_is_the_difference_of_the_two_rows_that_it_names():
    claims = outcome_of().claims
    assert [round(claim.effect, 6) for claim in claims] == [
        0.10, 1.0,  # two paths
        -0.01, -0.1,  # complement
        1.0,  # evolution
        0.5, 0.5,  # prior, at the end and after 100
        0.9 + 1.5,  # all together
        0.19,  # BCNetV2 at equal compute
        0.02 - 0.01, 0.1 - 0.1,  # one path in turn, with its margins
    ]  # fmt: skip
    # What seeds share cancels in pairs, so that every interval is a point here.
    assert [claim.verdict for claim in claims[:10]] == [SEEN, SEEN, NOT_SEEN, NOT_SEEN, *[SEEN] * 6]
    assert {claim.unit for claim in claims} == {"Kendall", "percentage points"}
    assert all("Table 1" in claim.source or "Figures" in claim.source for claim in claims)
    assert all(claim.verdict == OPEN for claim in outcome_of(num_seeds=1).claims)


def test_a_gain_that_only_some_seeds_show_cannot_be_told():
    def worse_in_one(key, seed, cell):
        if key == "bilateral-none" and seed == 1:
            cell["ranking"]["kendall"] -= 0.15

    assert outcome_of(worse_in_one).claims[0].verdict == OPEN


def test_the_tables_show_what_was_found_in_each_budget():
    def only_half(key, seed, cell):
        for end in cell["searches"][GREEDY][".5x"]:
            end["accuracy"] += 3

    ablation, supernets, updates, course, start = outcome_of(only_half).sheets
    rows = {tuple(row[:2]): row[2:] for row in ablation.rows}
    assert len(rows) == 6 * 5 + 1
    # 80 + 10 x 0.5, and the mean of seeds 0, 1, 2, which is 1.
    assert rows["unilateral", GREEDY] == ["86.00", "89.00", "86.00", "9.000", "50"]
    assert rows["unilateral", EVOLUTION_PRIOR] == ["87.50"] * 3 + ["7.500", "50"]
    assert rows["the table", "best that fits"][:3] == ["95.00"] * 3
    assert [row[:3] for row in supernets.rows][:2] == [
        ["unilateral", "0.600", "0.100"], ["unilateral, complement", "0.620", "0.100"]
    ]  # fmt: skip
    assert [row[1] for row in updates.rows] == ["0.800", "0.790"]
    # BCNet with complement and a random start: 95 - (85.9 + 1 + 1) + 10 / queries.
    assert course.rows[0][1:4] == ["7.350", "7.200", "7.150"] and course.rows[0][-1] == "7.100"
    assert "greedy search ends at 8.100 after 50 queries" in course.notes[0]
    assert start.rows[0] == ["unilateral", "random", "85.00", "85.00", "85.00"]


def test_both_figures_are_drawn():
    figures = outcome_of(num_seeds=2).figures
    assert set(figures) == {"bcnet_ablation", "supernets"}
    panels = figures["bcnet_ablation"]().axes
    assert len(panels) == len(BUDGETS) and len(panels[0].get_lines()) == 5
    kendall, regret = figures["supernets"]().axes
    assert sorted(kendall.get_lines()[0].get_xdata()) == pytest.approx([0.5, 0.6])
    assert len(regret.get_lines()) == 6 * 4


def test_a_real_cell_of_few_widths(monkeypatch):
    setting, few = setting_of(1, epochs=1), np.arange(60, 16384, 64)[:120]
    whole = truth_of(setting)
    truth = np.full(16384, np.nan)
    truth[few] = whole[few]
    monkeypatch.setattr(bcnet_ablation, "truth_of", lambda setting: truth)
    monkeypatch.setattr(bcnet_ablation, "BUDGETS", {".5x": 0.5})
    monkeypatch.setattr(bcnet_ablation, "ablation_searchers", lambda: {PRIOR_ONLY: Draws("prior")})
    cell = next(cell for cell in BCNetAblation().cells(setting) if cell.key == f"{BCNET}-seed0")
    values = json.loads(json.dumps(BCNetAblation().measure(cell, setting), allow_nan=False))
    assert values["ranking"]["n"] == 120 and -1 <= values["ranking"]["kendall"] <= 1
    fitting = few[setting.space.flops()[few] <= 0.5 * setting.space.flops("4444444")]
    assert 20 < len(fitting) < 120 and values["best"] == {".5x": whole[fitting].max()}
    ends = values["searches"][PRIOR_ONLY][".5x"]
    assert len(ends) == 3
    for end in ends:
        index = setting.space.index(end["arch"])
        assert index in fitting and end["accuracy"] == whole[index] and end["num_queries"] == len(fitting)
        assert end["regret"] == pytest.approx(whole[fitting].max() - whole[index], abs=1e-4)
    assert whole[fitting].min() < values["first_generations"]["random"][".5x"] < whole[fitting].max()
