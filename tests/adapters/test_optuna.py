"""Optuna on the table: every value of a study is the table's, and pruning follows the curves."""

import numpy as np
import pytest
from conftest import make_info, make_rows, write_table
from optional import needs

import channel_bench as cb
from channel_bench.adapters.optuna import arch_of, config_of, objective, optuna_space, suggest
from channel_bench.errors import ArgumentError, MissingDataError
from channel_bench.table import Table

pytestmark = needs("optuna")


@pytest.fixture(scope="module")
def table():
    return cb.load("resnet-mini")


@pytest.fixture
def optuna():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def study_of(optuna, function, num_trials, **options):
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1), **{"direction": "maximize"} | options)
    study.optimize(function, n_trials=num_trials)
    return study


@pytest.mark.parametrize(("run", "metric"), [(None, "best_test_acc"), (1, "test_acc")])
def test_every_value_of_a_tpe_study_is_the_tables(table, optuna, run, metric):
    study = study_of(optuna, objective(table, run, metric), 40)
    archs = [arch_of(table.space, trial.params) for trial in study.trials]
    assert [trial.value for trial in study.trials] == [table.accuracy(arch, run, metric) for arch in archs]
    assert study.trials[0].params.keys() == optuna_space(table.space).keys()
    assert len(set(archs)) > 20 and study.best_value == max(table.accuracy(archs, run, metric))


def test_a_pruned_trial_has_seen_the_curve_up_to_its_end(table, optuna):
    study = study_of(optuna, objective(table, 0, prune=True), 40, pruner=optuna.pruners.MedianPruner())
    states = [trial.state.name for trial in study.trials]
    assert {"COMPLETE", "PRUNED"} == set(states)
    for trial in study.trials:
        arch = arch_of(table.space, trial.params)
        seen = trial.intermediate_values
        assert list(seen) == list(range(1, len(seen) + 1))
        best = np.maximum.accumulate(table.curves(arch)["test_acc"][0])
        assert list(seen.values()) == pytest.approx(best[: len(seen)], abs=1e-5)
        if trial.state.name == "COMPLETE":
            assert len(seen) == 20 and seen[20] == trial.value == table.accuracy(arch, 0)


def test_means_are_reported_where_no_run_is_named(table, optuna):
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial(config_of(table.space, "4344424"))
    study.optimize(objective(table, metric="test_acc", prune=True), n_trials=1)
    (trial,) = study.trials
    assert list(trial.intermediate_values.values()) == pytest.approx(table.curves("4344424")["test_acc"].mean(0))
    assert trial.value == table.accuracy("4344424", metric="test_acc")


def test_two_objectives_are_accuracy_and_cost(table, optuna):
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.NSGAIISampler(seed=0))
    study.optimize(objective(table, cost="flops"), n_trials=30)
    for trial in study.trials:
        arch = arch_of(table.space, trial.params)
        assert trial.values == [table.accuracy(arch), table.space.flops(arch)]


@pytest.mark.parametrize("space", cb.list_spaces())
def test_the_space_of_optuna_has_every_width_and_no_other(optuna, space):
    space = cb.get_space(space)
    columns = space.channel_counts([(digit,) * 7 for digit in range(1, 5)]).T.tolist()
    for distribution, column in zip(optuna_space(space).values(), columns, strict=True):
        there = [value for value in range(column[-1] + 9) if distribution._contains(value)]
        assert there == column
    trial = optuna.trial.FixedTrial(config_of(space, "1234123"))
    assert suggest(trial, space) == "1234123"
    asked = optuna.create_study().ask(optuna_space(space))
    assert asked.params == config_of(space, arch_of(space, asked.params))


def test_what_an_objective_cannot_be_is_said_before_the_first_trial(table, optuna, tmp_path):
    for options, error, message in (
        ({"run": 7}, ArgumentError, "run 7 is not one of 0, 1, 2"),
        ({"metric": "valid"}, ArgumentError, "metric 'valid' is not one of"),
        ({"cost": "time"}, ArgumentError, "cost is 'time', prune False: allowed are flops and params"),
        ({"cost": "flops", "prune": True}, ArgumentError, "without prune"),
    ):
        with pytest.raises(error, match=message):
            objective(table, **options)
    space = table.space
    small = Table.read(write_table(tmp_path / "t.parquet", make_rows(space, 64, 2), make_info(space)))
    with pytest.raises(MissingDataError, match="no learning curves"):
        objective(small, prune=True)
    with pytest.raises(MissingDataError, match="no finished run of architecture"):
        objective(small)(optuna.trial.FixedTrial(config_of(space, "1111112")))
