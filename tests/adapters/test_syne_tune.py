"""Syne Tune on the table: what its schedulers report in the simulator is what the table says."""

import dataclasses
import logging

import numpy as np
import pytest
from conftest import make_info, make_rows, write_table
from optional import needs

import channel_bench as cb
from channel_bench.adapters.shared import arch_of, config_of
from channel_bench.adapters.syne_tune import blackbox, export
from channel_bench.errors import ArgumentError, MissingDataError
from channel_bench.table import Table

pytestmark = [
    needs("syne_tune"),
    # pandas 3.1 announces its own changes to what Syne Tune and fastparquet call.
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.set_index"),
    pytest.mark.filterwarnings("ignore:The 'fastparquet' engine is deprecated"),
    pytest.mark.filterwarnings("ignore:The 'future.infer_string' option"),
]


@pytest.fixture(scope="module")
def table():
    return cb.load("resnet-mini")


@pytest.fixture(scope="module")
def box(table):
    return blackbox(table)


@pytest.mark.parametrize("arch", ["1111111", "4344424", "2314132", "4444444"])
@pytest.mark.parametrize("run", [0, 2])
def test_a_look_up_is_the_tables(table, box, arch, run):
    config = config_of(table.space, arch)
    found = box.objective_function(config, fidelity={"epoch": 20}, seed=run)
    seconds = table.column("train_s")[table.space.index(arch), run]
    assert found["metric_accuracy"] == table.accuracy(arch, run)
    assert found["metric_error"] == 100 - table.accuracy(arch, run)
    assert found["metric_elapsed_time"] == seconds
    assert (found["metric_flops"], found["metric_params"]) == (table.space.flops(arch), table.space.params(arch))
    curve = box.objective_function(config, seed=run)
    best_so_far = np.maximum.accumulate(table.curves(arch)["test_acc"][run])
    assert curve[:, 0] == pytest.approx(best_so_far, abs=1e-5) and curve[-1, 0] == table.accuracy(arch, run)
    assert (np.diff(curve[:, 0]) >= 0).all()
    assert curve[:, 2] == pytest.approx(seconds * np.arange(1, 21) / 20)


def test_the_last_epoch_and_the_mean_are_to_be_had(table):
    config = config_of(table.space, "4344424")
    box = blackbox(table, metric="test_acc", mean=True)
    assert box.num_seeds == 1
    found = box.objective_function(config)[:, 0]
    assert found == pytest.approx(table.curves("4344424")["test_acc"].mean(0, float), abs=1e-5)
    assert found[-1] == pytest.approx(table.accuracy("4344424", metric="test_acc"), abs=1e-12)


@pytest.mark.parametrize("slowdown", [0, -1, float("nan"), float("inf")])
def test_time_runs_forward(table, slowdown):
    with pytest.raises(ArgumentError, match=f"slowdown is {slowdown}: allowed are finite numbers > 0"):
        blackbox(table, slowdown=slowdown)


def test_rows_are_all_architectures_in_index_order(table, box):
    assert len(box.hyperparameters) == 16384 and box.num_seeds == 3 and list(box.fidelity_values) == list(range(1, 21))
    frame = table.frame()[[f"slot{slot}" for slot in range(7)]]
    assert (box.hyperparameters.to_numpy() == frame.to_numpy()).all()
    assert np.array_equal(box.objectives_evaluations[:, :, -1, 0], table.cells())


def tuned(box, scheduler, folder, monkeypatch, **stop):
    """What Syne Tune's tuner logs of a search in its simulator."""
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend.simulator_backend.simulator_callback import SimulatorCallback
    from syne_tune.blackbox_repository import UserBlackboxBackend
    from syne_tune.experiments import load_experiment

    monkeypatch.setenv("SYNETUNE_FOLDER", str(folder))
    logging.getLogger().setLevel(logging.ERROR)
    tuner = Tuner(
        trial_backend=UserBlackboxBackend(box, elapsed_time_attr="metric_elapsed_time"),
        scheduler=scheduler,
        stop_criterion=StoppingCriterion(**stop),
        n_workers=4,
        sleep_time=0,
        callbacks=[SimulatorCallback()],
        save_tuner=False,
        tuner_name="mini",
        suffix_tuner_name=False,
    )
    tuner.run()
    return load_experiment("mini").results


def test_asha_and_random_search_report_what_the_table_says(table, box, tmp_path, monkeypatch):
    from syne_tune.optimizer.baselines import ASHA, RandomSearch

    np.random.seed(0)  # the simulator draws the run of each trial from NumPy's global generator
    space = box.configuration_space
    asha = ASHA(space, metric="metric_error", time_attr="epoch", max_t=20, random_seed=0)
    searches = {
        "random": (RandomSearch(space, metrics=["metric_error"], random_seed=0), {"max_num_trials_completed": 8}),
        "asha": (asha, {"max_num_trials_started": 40}),
    }
    lengths, busy = {}, {}
    slow = blackbox(table, slowdown=1000)
    for name, (scheduler, stop) in searches.items():
        log = tuned(slow, scheduler, tmp_path / name, monkeypatch, **stop)
        assert len(log) > 20
        for _, row in log.iterrows():
            arch = arch_of(table.space, {f"slot{slot}": int(row[f"config_slot{slot}"]) for slot in range(7)})
            best = np.maximum.accumulate(table.curves(arch)["test_acc"], 1)[:, int(row["epoch"]) - 1]
            assert np.abs(best - row["metric_accuracy"]).min() < 1e-5  # of one of the runs
            assert row["metric_error"] == pytest.approx(100 - row["metric_accuracy"])
            assert row["metric_flops"] == table.space.flops(arch)
        seconds = table.column("train_s")
        for number, trial in log.groupby("trial_id"):
            arch = arch_of(table.space, {f"slot{slot}": int(trial[f"config_slot{slot}"].iloc[0]) for slot in range(7)})
            shares = 1000 * seconds[table.space.index(arch)] * trial["epoch"].max() / 20
            assert np.abs(shares - trial["metric_elapsed_time"].max()).min() < 1e-6, f"time of trial {number}"
        busy[name] = log["st_tuner_time"].max() / log["trial_id"].nunique()
        lengths[name] = log.groupby("trial_id")["epoch"].max()
    assert (lengths["random"] == 20).sum() >= 8
    assert (lengths["asha"] < 20).sum() > 20  # most trials were stopped early
    assert busy["asha"] < busy["random"] / 2


def test_files_are_read_by_syne_tune(table, box, tmp_path):
    pytest.importorskip("fastparquet", reason="no fastparquet here, which Syne Tune writes with")
    from syne_tune.blackbox_repository.blackbox_tabular import deserialize

    folder = export(table, tmp_path / "a" / "box")
    (read,) = deserialize(str(folder)).values()
    assert read.objectives_names == box.objectives_names and read.configuration_space == box.configuration_space
    assert np.array_equal(read.objectives_evaluations, box.objectives_evaluations.astype(np.float32))
    assert (read.hyperparameters.to_numpy() == box.hyperparameters.to_numpy()).all()
    with pytest.raises(ArgumentError, match="holds something"):
        export(table, folder)


def test_a_table_without_curves_or_times_has_one_fidelity(tmp_path):
    space = cb.get_space("resnet")
    rows = [row | {"train_s": None} for row in make_rows(space, 64, 3)]
    rows = [row for row in rows if (row["arch"], row["run"]) != (space.text(256), 1)]
    table = Table.read(write_table(tmp_path / "t.parquet", rows, make_info(space)))
    box = blackbox(table)
    assert box.objectives_names == ["metric_accuracy", "metric_error", "metric_flops", "metric_params"]
    assert len(box.hyperparameters) == 63 and list(box.fidelity_values) == [2]
    config = config_of(space, "1111111")
    assert box.objective_function(config, fidelity=2, seed=1)["metric_accuracy"] == table.accuracy("1111111", 1)
    with pytest.raises(ArgumentError, match="metric 'valid' is not one of"):
        blackbox(table, metric="valid")
    lonely = [row for row in rows if row["arch"] == space.text(256)]
    with pytest.raises(MissingDataError, match="no architecture with all of its 3 runs"):
        blackbox(Table.read(write_table(tmp_path / "u.parquet", lonely, dataclasses.replace(table.info, name="u"))))
