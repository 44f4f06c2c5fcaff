"""What a search costs: the exact multiplier, equal compute, and conclusions from made-up cells."""

import pytest

import channel_bench as cb
from channel_bench.errors import BudgetError
from harness.experiments.claims import NOT_SEEN, SEEN
from harness.experiments.contract import Setting
from harness.experiments.costs import BASELINES, BUDGETS, NUM_FINAL, Costs, equal_epochs, exact_uniform
from harness.ranking.request import TaskOptions

SETTING = Setting(task=TaskOptions(space="resnet-mini"), num_seeds=2)


def test_equal_epochs_spend_the_median():
    assert equal_epochs({"one": 10.0, "two": 20.0, "six": 60.0}, 150) == {"one": 300, "two": 150, "six": 50}
    assert equal_epochs({"one": 1.0, "dear": 1e9, "two": 2.0}, 10)["dear"] == 1


@pytest.mark.parametrize("name", ["resnet-mini", "mobilenet"])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_the_multiplier_is_the_largest_that_fits(name, share):
    space = cb.get_space(name)
    limit = share * space.flops("4444444")
    channels = exact_uniform(space, limit)
    assert space.with_channels(channels).flops("1111111") <= limit
    multiplier = min((count + 0.5) / most for count, most in zip(channels, space.max_channels, strict=True))
    wider = [max(1, round((multiplier + 1e-6) * most)) for most in space.max_channels]
    assert space.with_channels(wider).flops("1111111") > limit


def test_all_of_it_fits_at_the_full_budget_and_nothing_below_one_channel():
    space = cb.get_space("resnet-mini")
    assert exact_uniform(space, space.flops("4444444")) == space.max_channels
    with pytest.raises(BudgetError, match="no uniform multiplier"):
        exact_uniform(space, 10)


def made_up(found_anew, uniform_anew):
    """Cells of two supernets a method; one method finds better widths than the other."""
    one = {"arch": "4444444", "num_queries": 100, "query_flops": 5_000_000, "accuracy": 90.0, "regret": 1.0}
    cells = {}
    for cell in Costs().cells(SETTING):
        if cell.key.startswith("equal-"):
            cells[cell.key] = {"kendall": 0.6 + cell.options["seed"] / 100, "train_macs": 2e9, "fit_s": 1.0}
        elif cell.key != BASELINES:
            anew = found_anew(cell.options["method"])
            searches = [
                {str(share): {**one, "anew": [anew + seed], "final_macs": 3e9, "final_s": 1.0} for share in BUDGETS}
                for seed in (0.0, 0.1)
            ]
            supernets = [{"seed": seed, "kendall": 0.5, "searches": each} for seed, each in enumerate(searches)]
            cells[cell.key] = {"supernets": supernets, "train_gmac": 20.0, "fit_s": 30.0}
    final = {"anew": [uniform_anew], "final_macs": 3e9, "final_s": 1.0}
    kinds = {
        "uniform": {"channels": [1] * 7, **final},
        "free": {"arch": "1111111", "accuracy": 90.0, "regret": 2.0, **final},
        "best": {"arch": "1111111", "accuracy": 92.0, "regret": 0.0, **final},
        "random": {"regret": 3.0, "std": 1.0, "accuracy": 89.0, "trainings": 4.8, "macs": 5e9},
    }
    return {**cells, BASELINES: {"budgets": {str(share): kinds for share in BUDGETS}, "num_val_images": 300}}


def test_a_better_width_is_seen_and_a_worse_one_is_not():
    outcome = Costs().outcome(made_up(lambda method: 95.0 if method == "bcnet" else 80.0, 90.0), SETTING)
    verdicts = {claim.statement.split()[3]: (claim.verdict, claim.effect) for claim in outcome.claims}
    assert verdicts["bcnet"] == (SEEN, pytest.approx(5.05)) and verdicts["autoslim"] == (NOT_SEEN, pytest.approx(-9.95))


def test_costs_are_added_up_and_methods_stand_by_what_they_give():
    outcome = Costs().outcome(made_up(lambda method: 95.0 if method == "bcnet" else 80.0, 90.0), SETTING)
    costs, equal = outcome.sheets
    assert costs.rows[0][:6] == ["bcnet", "20.0", "30", f"{5e6 * 300 / 1e9:.1f}", "100", f"{3 / NUM_FINAL:.1f}"]
    assert [row[0] for row in costs.rows[-4:]] == [
        *("best in the table", "log-paths, free", "uniform multiplier", "best of 20 random")
    ]
    assert {row[0] for row in equal.rows}.isdisjoint({"htas"}) and equal.rows[0][3:] == [
        *("0.605", "0.007", "20.0", "0.500", "+0.105")
    ]
    assert len(outcome.figures["costs"]().axes) == 2
