"""A table against new runs: a true table is left in peace, a falsified one is called out."""

import dataclasses
import json
import math

import numpy as np
import pytest
from conftest import make_info, make_rows, write_table

import channel_bench as cb
from channel_bench.builder import retrain
from channel_bench.builder.collect import collect
from channel_bench.builder.plan import pick_archs
from channel_bench.builder.retrain import audit
from channel_bench.builder.store import RunStore
from channel_bench.errors import ArgumentError
from channel_bench.recipe import get_recipe
from channel_bench.record import Job
from channel_bench.table import Table
from channel_bench.table.noise import LocalNoise
from channel_bench.training.backends import train_jobs

SPACE = cb.get_space("resnet-mini")
RECIPE = get_recipe("mini", epochs=4)


@pytest.fixture(scope="module")
def built_path(digits, tmp_path_factory):
    """A table of 8 architectures x 3 runs, really trained for a few epochs."""
    folder = tmp_path_factory.mktemp("retrain")
    store = RunStore.create(folder / "runs", SPACE, RECIPE, digits.name, digits.digest)
    for run in range(3):
        for record in train_jobs(SPACE, [Job(arch, run, run) for arch in pick_archs(SPACE, "8")], RECIPE, digits):
            store.add(record)
    collect(store.folder, folder / "table.parquet")
    return folder / "table.parquet"


def falsified(path, out, change, **facts):
    """The same table with other accuracies and new hashes, as a careful forger would write it."""
    table = Table.read(path)
    rows = table.arrow.to_pylist()
    for row in rows:
        row["best_test_acc"] = float(np.clip(change(row), 0, 100))
    info = dataclasses.replace(table.info, curves_file=None, curves_sha256=None, **facts)
    return write_table(out, rows, info)


def test_a_true_table_agrees_and_a_falsified_one_is_called_out(built_path, tmp_path, run_cli):
    code, output, errors = run_cli("channel-bench", "verify", built_path, "--retrain", 4, "--device", "cpu")
    assert code == 0, output + errors
    assert "intact" in output and "expected; 0 diverged" in output and "the table agrees with new runs" in output
    cells = Table.read(built_path).cells()
    std = math.sqrt(np.nanmean(np.nanvar(cells[np.isfinite(cells).all(1)], 1, ddof=1)))
    other = falsified(built_path, tmp_path / "f.parquet", lambda row: row["best_test_acc"] - 8 * std)
    assert run_cli("channel-bench", "verify", other)[0] == 0  # its hashes are in order
    code, output, _ = run_cli("channel-bench", "verify", other, "--retrain", 4, "--device", "cpu")
    assert code == 1 and "OUTSIDE" in output and "DOES NOT AGREE" in output
    code, output, _ = run_cli("channel-bench", "verify", other, "--retrain", 4, "--device", "cpu", "--json")
    found = json.loads(output)["retrained"]
    assert code == 1 and not found["agrees"] and found["mean_difference"] > 5 * found["mean_difference_se"]
    assert len(found["rows"]) == 4 and found["num_inside"] < 4


def test_a_new_run_is_by_the_recipe_with_a_seed_of_its_own(built_path, digits):
    table = Table.read(built_path)
    seen = []
    found = audit(table, 1, digits, seed=5, on_row=seen.append)
    (row,) = found.rows
    assert seen == [row] and row.seed >= 2**40
    (record,) = train_jobs(SPACE, [Job(row.arch, 0, row.seed)], RECIPE, digits)
    assert (row.accuracy, row.runs) == (record.best_test_acc, tuple(table.cells()[SPACE.index(row.arch)]))
    again = audit(table, 1, digits, seed=5)
    assert again == found and audit(table, 1, digits, seed=6).rows[0].seed != row.seed


def test_what_cannot_be_retrained_is_refused(built_path, tmp_path, digits, run_cli, small_table_path):
    table = Table.read(built_path)
    for count in (0, 9):
        with pytest.raises(ArgumentError, match=f"cannot retrain {count} architectures: allowed are 1..8"):
            audit(table, count, digits)
    other = dataclasses.replace(digits, digest="0" * 64)
    with pytest.raises(ArgumentError, match="these images of 'digits' have 000000000000"):
        audit(table, 1, other)
    single = write_table(tmp_path / "s.parquet", [r for r in table.arrow.to_pylist() if r["run"] == 0], table.info)
    with pytest.raises(ArgumentError, match="single runs only"):
        audit(Table.read(single), 1, digits)
    code, _, errors = run_cli("channel-bench", "verify", small_table_path, "--retrain", 1)
    assert code == 2 and "recipe that this version cannot follow" in errors
    code, _, errors = run_cli(
        "channel-bench", "verify", built_path, "--retrain", 1, "--precision", "tf32", "--device=cpu"
    )
    assert code == 2 and "allowed are fp32, bf16" in errors
    elsewhere = falsified(built_path, tmp_path / "e.parquet", lambda row: row["best_test_acc"], dataset="my-images")
    code, _, errors = run_cli("channel-bench", "verify", elsewhere, "--retrain", 1)
    assert code == 2 and "my-images" in errors


def noise_of(accuracy):
    """Standard deviation of a made-up run: narrow networks are noisier."""
    return 0.2 + (95 - accuracy) / 20


def simulated(tmp_path, monkeypatch, num_archs, num_runs, shift=0.0, blow=1.0, diverged=()):
    """A table of made-up runs, and new ones that are drawn instead of trained."""
    rng = np.random.default_rng(0)
    rows = make_rows(SPACE, num_archs, num_runs)
    truth = {row["arch"]: 80 + 15 * rng.beta(5, 2) for row in rows}
    for row in rows:
        row["best_test_acc"] = truth[row["arch"]] + noise_of(truth[row["arch"]]) * rng.normal()
    info = dataclasses.asdict(make_info(SPACE))
    info |= {"recipe": RECIPE.to_dict(), "recipe_fingerprint": RECIPE.fingerprint}
    table = Table.read(write_table(tmp_path / "t.parquet", rows, type(make_info(SPACE))(**info)))

    def draw(space, jobs, recipe, dataset):
        for number, job in enumerate(jobs):
            noise = np.random.default_rng(job.seed).normal() * blow * noise_of(truth[job.arch])
            accuracy = None if number in diverged else truth[job.arch] + shift + noise
            yield dataclasses.make_dataclass("R", ["arch", "seed", "best_test_acc"])(job.arch, job.seed, accuracy)

    monkeypatch.setattr("channel_bench.training.backends.train_jobs", draw)
    return table


@pytest.mark.parametrize(("num_archs", "num_runs", "num_new"), [(2048, 3, 40), (12, 3, 6), (2048, 2, 1)])
def test_seeds_alone_seldom_raise_an_alarm(tmp_path, monkeypatch, digits, num_archs, num_runs, num_new):
    table = simulated(tmp_path, monkeypatch, num_archs, num_runs)
    found = [audit(table, num_new, digits, seed=seed) for seed in range(100)]
    assert sum(not audit.agrees for audit in found) <= 1
    inside = sum(audit.num_inside for audit in found) / (100 * num_new)
    assert inside == pytest.approx(0.95, abs=0.05 if num_archs > 100 else 0.06)
    assert sum(audit.p_spread < 0.1 for audit in found) < 25


@pytest.mark.parametrize(("changes", "which"), [({"shift": 0.6}, "p_shift"), ({"blow": 3.0}, "p_spread")])
def test_a_shift_or_a_wider_spread_is_seen(tmp_path, monkeypatch, digits, changes, which):
    table = simulated(tmp_path, monkeypatch, 2048, 3, **changes)
    found = audit(table, 60, digits)
    assert not found.agrees and getattr(found, which) < retrain.ALARM


def test_diverged_runs_are_outside_and_too_many_are_an_alarm(tmp_path, monkeypatch, digits):
    some = audit(simulated(tmp_path, monkeypatch, 2048, 3, diverged={0}), 8, digits)
    assert (some.num_diverged, some.num_inside <= 7, some.rows.count(None)) == (1, True, 0)
    assert [row.inside for row in some.rows if row.accuracy is None] == [False]
    all_lost = audit(simulated(tmp_path, monkeypatch, 2048, 3, diverged=range(8)), 8, digits)
    assert not all_lost.agrees and all_lost.mean_difference is None and all_lost.p_diverged < retrain.ALARM


def test_the_noise_is_that_of_the_nearest_accuracies(monkeypatch):
    monkeypatch.setattr("channel_bench.table.noise.NUM_NEIGHBOURS", 4)
    means = np.array([50.0, 51, 52, 53, 90, 91, 92, 93, 94])
    halves = np.array([4.0, 4, 4, 4, 1, 1, 1, 1, 1])
    noise = LocalNoise(np.stack([means - halves, means + halves], 1), 0.01)
    assert [noise.std(mean) for mean in (10, 51, 53)] == pytest.approx([math.sqrt(32)] * 3)
    assert [noise.std(mean) for mean in (91, 94, 99)] == pytest.approx([math.sqrt(2)] * 3)
    assert noise.freedom == 4
    row = retrain.judge_run(noise, 5, "1111111", 0, 94.0)
    assert row.z == pytest.approx(3 / (math.sqrt(2) * math.sqrt(1.5))) and row.inside  # t with 4 degrees: 2.78
    assert not retrain.judge_run(noise, 5, "1111111", 0, 97.0).inside
    assert LocalNoise(np.full((3, 2), 80.0), 0.01).std(80) == 0.01
