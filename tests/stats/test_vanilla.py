"""The baselines of the papers: the uniform width by hand, the replay of 20 random networks against a slow one."""

import dataclasses

import numpy as np
import pytest
from conftest import make_info, make_rows, write_table

import channel_bench as cb
from channel_bench.errors import ArgumentError, BudgetError, MissingDataError
from channel_bench.table import Table
from harness.stats.vanilla import RANDOM, UNIFORM, random_choices, uniform_choice, vanilla_choices

SPACE = cb.get_space("resnet-mini")
TABLE = cb.load("resnet-mini")
EVERYTHING = np.ones(len(SPACE), bool)


def within(share):
    return SPACE.flops() <= share * SPACE.flops("4444444")


@pytest.mark.parametrize(("share", "arch"), [(1, "4444444"), (0.99, "3333333"), (0.5, "2222222"), (0.1, "1111111")])
def test_the_uniform_width_is_the_widest_of_four_that_fits(share, arch):
    assert SPACE.text(uniform_choice(SPACE, within(share))) == arch


def test_no_uniform_width_fits_below_the_narrowest():
    assert uniform_choice(SPACE, np.zeros(len(SPACE), bool)) is None
    assert uniform_choice(SPACE, SPACE.flops() < SPACE.flops("1111111")) is None


def test_one_candidate_is_a_uniform_draw_of_what_fits():
    fits = within(0.5)
    found = random_choices(TABLE, fits, 4000, np.random.default_rng(0), num_candidates=1)
    assert fits[found.chosen].all()
    mean = TABLE.accuracies()[fits].mean()
    assert abs(TABLE.accuracies()[found.chosen].mean() - mean) < 4 * TABLE.accuracies()[fits].std() / np.sqrt(4000)


def test_all_as_candidates_after_the_whole_training_are_the_best_of_a_run():
    archs, curves = TABLE.all_curves()
    fits = within(0.3)
    found = random_choices(TABLE, fits, 20, np.random.default_rng(0), len(SPACE), TABLE.info.recipe["epochs"])
    rows = np.flatnonzero(fits[SPACE.index(archs)])
    last = curves["test_acc"][rows, :, -1]
    assert {int(index) for index in found.chosen} <= set(np.flatnonzero(fits))
    for index in found.chosen:
        position = np.flatnonzero(SPACE.index([archs[row] for row in rows]) == index)[0]
        assert (last[position] == last.max(0)).any()


def test_the_cost_is_all_candidates_for_a_few_epochs_and_the_rest_of_one():
    found = random_choices(TABLE, EVERYTHING, 1, np.random.default_rng(0))
    assert (found.epochs, found.num_epochs) == (4, 20)  # a sixth of 20, rounded up
    assert found.trainings == pytest.approx((20 * 4 + 16) / 20)


def test_more_epochs_and_more_candidates_choose_better():
    fits = within(0.5)

    def regret(candidates, epochs):
        found = random_choices(TABLE, fits, 300, np.random.default_rng(0), candidates, epochs)
        return found.regret(TABLE.accuracies(), fits).mean()

    assert regret(20, 20) < regret(20, 2) < regret(1, 2)
    assert regret(20, 20) < regret(3, 20)


def test_the_same_seed_draws_the_same():
    first = random_choices(TABLE, EVERYTHING, 5, np.random.default_rng(3)).chosen.tolist()
    assert first == random_choices(TABLE, EVERYTHING, 5, np.random.default_rng(3)).chosen.tolist()


def test_choices_are_judged_by_the_given_truth():
    truth = TABLE.accuracies()
    uniform, random = vanilla_choices(TABLE, truth, within(0.5), 50, 0)
    best = truth[within(0.5)].max()
    assert (uniform.name, uniform.arch, uniform.trainings) == (UNIFORM, "2222222", 0)
    assert uniform.regret == pytest.approx(best - truth[SPACE.index("2222222")], abs=1e-3)
    assert (random.name, random.arch) == (RANDOM, None)
    assert random.accuracy == pytest.approx(best - random.regret, abs=1e-3)


def test_a_table_without_curves_has_the_uniform_width_only(tmp_path):
    table = Table.read(write_table(tmp_path / "t.parquet", make_rows(SPACE, len(SPACE), 2), make_info(SPACE)))
    assert [each.name for each in vanilla_choices(table, table.accuracies(), EVERYTHING, 5, 0)] == [UNIFORM]
    with pytest.raises(MissingDataError, match="no learning curves"):
        random_choices(table, EVERYTHING, 1, np.random.default_rng(0))


def test_bad_numbers_and_empty_budgets_are_refused():
    for draws, candidates, epochs in [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 21)]:
        with pytest.raises(ArgumentError, match="allowed are 1 and above"):
            random_choices(TABLE, EVERYTHING, draws, np.random.default_rng(0), candidates, epochs)
    with pytest.raises(BudgetError, match="has all of its curves"):
        random_choices(TABLE, ~EVERYTHING, 1, np.random.default_rng(0))
    with pytest.raises(BudgetError, match="has an accuracy"):
        vanilla_choices(TABLE, TABLE.accuracies(), ~EVERYTHING, 1, 0)


def test_a_diverged_run_is_no_candidate(monkeypatch):
    curves = {"test_acc": np.full((len(SPACE), 1, 3), 50.0)}
    curves["test_acc"][5, 0, 2] = np.nan
    monkeypatch.setattr(TABLE, "all_curves", lambda: (SPACE.texts(), curves))
    fits = np.isin(np.arange(len(SPACE)), [5, 6])
    found = random_choices(TABLE, fits, 20, np.random.default_rng(0))
    assert set(found.chosen.tolist()) == {6}
    assert dataclasses.replace(found, epochs=3).trainings == pytest.approx(1)
