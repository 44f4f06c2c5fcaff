"""The builder: kill it or its workers at any moment, start it again, and every run is there once."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from builders import NUM_PLANNED, PATIENCE_S, PLAN, Builds, gated, read_records, wait_for
from conftest import Given, make_info, make_record, write_table

import channel_bench as cb
from channel_bench.builder.build import build
from channel_bench.builder.collect import collect
from channel_bench.builder.engines import Outcome
from channel_bench.builder.engines.local import LocalEngine
from channel_bench.builder.leases import Leases
from channel_bench.builder.plan import Plan, Workers, pick_archs
from channel_bench.builder.store import Failure, RunStore
from channel_bench.builder.work import default_stack, make_stacks
from channel_bench.errors import ArchError, ArgumentError, BuildError, CorruptFileError, MissingDataError, StorageError
from channel_bench.recipe import get_recipe
from channel_bench.record import CURVE_METRICS, Job
from channel_bench.support.durable import TEMPORARY_PREFIX
from channel_bench.support.processes import this_process
from channel_bench.table import Table
from channel_bench.table.verify import verify
from channel_bench.training.backends import pick_backend, train_jobs

SPACE = cb.get_space("resnet-mini")
ONE_WORKER = Workers(device="cpu", num_workers=1)


def plan(archs, num_runs=1, **more):
    return Plan(space=SPACE, archs=archs, num_runs=num_runs, **more)


@pytest.fixture
def builds(tmp_path):
    """Builders of tmp_path / "runs", held at the gate."""
    with Builds(tmp_path, gated(tmp_path)) as builds:
        yield builds


def assert_complete(out: Path, table_path: Path) -> None:
    collect(out, table_path)
    facts = verify(table_path)
    assert (facts["num_rows"], facts["num_archs"], facts["num_incomplete_archs"]) == (NUM_PLANNED, 6, 0)
    assert not list(out.rglob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.processes
def test_a_builder_that_is_killed_again_and_again_loses_nothing_and_trains_nothing_twice(builds, run_cli):
    # Killed while its worker starts, then with workers in the middle of their stacks.
    builds.allow(1)
    moments = (("1", builds.workers), ("2", lambda: builds.parts() and len(builds.at_gate()) == 2))
    for num_workers, has_come in moments:
        builder = builds.start("--workers", num_workers, "--stack", "3")
        wait_for(has_come, "the moment to kill it", builder)
        builder.kill()
        wait_for(lambda: not builds.workers(), "the workers of a killed builder to end")
    before = builds.parts()
    assert len(before) == 1 and list(builds.out.rglob(f"{TEMPORARY_PREFIX}*"))

    code, output, errors = run_cli("channel-bench", "build", *PLAN, "--out", builds.out, "--workers", "1")
    assert code == 0, errors
    assert f"{NUM_PLANNED - 1} trained now" in output and "1 were there" in output
    after = builds.parts()
    assert len(after) == NUM_PLANNED and {name: after[name] for name in before} == before
    assert_complete(builds.out, builds.folder / "table.parquet")


@pytest.mark.processes
def test_killed_workers_are_replaced_and_the_build_completes(builds):
    builds.allow(0)
    builder = builds.start("--workers", "2", "--stack", "2")
    wait_for(builds.workers, "workers", builder)
    os.kill(builds.workers()[0], signal.SIGKILL)
    builds.allow(4)
    wait_for(lambda: len(builds.parts()) == 4 and len(builds.at_gate()) == 2, "4 runs and 2 to come", builder)
    before = builds.parts()
    os.kill(builds.workers()[0], signal.SIGKILL)
    builds.allow()
    assert f"{NUM_PLANNED} of {NUM_PLANNED} runs" in builds.finish(builder)
    after = builds.parts()
    assert {name: after[name] for name in before} == before
    assert_complete(builds.out, builds.folder / "table.parquet")


@pytest.mark.processes
def test_an_interrupted_builder_stops_its_workers_and_says_how_to_go_on(builds):
    builds.allow(1)
    builder = builds.start("--workers", "2", "--stack", "1")
    wait_for(lambda: builds.parts() and len(builds.at_gate()) == 2, "a run, and two to come", builder)
    before = builds.parts()
    builder.send_signal(signal.SIGINT)
    _, errors = builder.communicate(timeout=PATIENCE_S)
    assert builder.returncode == 130
    assert "every finished run" in errors and "is kept" in errors
    assert ": interrupted" in errors and "Traceback" not in errors
    wait_for(lambda: not builds.workers(), "the workers to end")
    assert builds.parts() == before


shares_built = pytest.mark.xdist_group("built")  # one build serves all


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small finished store and its table."""
    folder = tmp_path_factory.mktemp("built")
    recipe = get_recipe("mini", epochs=2)
    report = build(plan(pick_archs(SPACE, "4"), 2, recipe=recipe), folder / "runs", ONE_WORKER)
    assert (report.num_planned, report.num_found, report.num_trained) == (8, 0, 8)
    collect(folder / "runs", folder / "table.parquet")
    return folder


@shares_built
def test_a_row_of_the_table_is_what_a_single_training_gives(built, digits):
    table = Table.read(built / "table.parquet")
    arch = pick_archs(SPACE, "4")[2]
    (record,) = train_jobs(SPACE, [Job(arch, 1, 1)], get_recipe("mini", epochs=2), digits)
    assert table.accuracy(arch, run=1) == record.best_test_acc
    assert table.accuracy(arch, run=1, metric="test_acc") == record.test_acc
    curves = table.curves(arch)
    for metric in CURVE_METRICS:
        assert curves[metric].shape == (2, 2)
        assert curves[metric][1].tolist() == np.float32(record.curves[metric]).tolist()


@shares_built
def test_the_table_names_its_provenance(built, digits):
    info = Table.read(built / "table.parquet").info
    assert (info.space, info.dataset, info.dataset_digest) == ("resnet-mini", "digits", digits.digest)
    assert info.recipe["epochs"] == 2 and info.recipe["name"] == "mini(epochs=2)"
    assert info.recipe_fingerprint == get_recipe("mini", epochs=2).fingerprint
    assert info.devices == ["cpu"] and info.torch_versions and "over 2 epochs" in info.accuracy
    assert info.curves_file == "table.h5"
    with h5py.File(built / "table.h5") as file:
        assert file["test_acc"].shape == (4, 2, 2)


@shares_built
def test_collecting_again_gives_the_same_content_under_another_name(built, tmp_path):
    collect(built / "runs", tmp_path / "other.parquet")
    first, second = Table.read(built / "table.parquet"), Table.read(tmp_path / "other.parquet")
    assert first.info.content_sha256 == second.info.content_sha256
    assert first.name == second.name == "digits-4x2"


@shares_built
def test_more_runs_and_architectures_add_to_a_store(built, tmp_path):
    import shutil

    out = tmp_path / "runs"
    shutil.copytree(built / "runs", out)
    recipe = get_recipe("mini", epochs=2)
    damaged = RunStore.open(out).path((pick_archs(SPACE, "5")[0], 0))
    damaged.write_text("damaged")
    report = build(plan(pick_archs(SPACE, "5"), 3, recipe=recipe), out, ONE_WORKER)
    assert (report.num_planned, report.num_found, report.num_trained, len(report.set_aside)) == (15, 7, 8, 1)
    assert len(read_records(RunStore.open(out))) == 15


def test_what_a_worker_left_half_written_is_gone_when_the_build_ends(tmp_path):
    code = "from channel_bench.support.processes import this_process; print(this_process())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    recipe = get_recipe("mini", epochs=1)
    store = RunStore.create(tmp_path / "runs", SPACE, recipe, "digits", json_digest())
    store.add(make_record("1111111", 0))  # nothing is left to train, and no worker needed
    left = [store.folder / "parts" / f"{TEMPORARY_PREFIX}{process}-half" for process in (dead, this_process())]

    def die_writing(*_):
        for path in left:
            path.write_bytes(b"half a run")

    report = build(plan(["1111111"], recipe=recipe), store.folder, Workers(device="cpu"), on_start=die_writing)
    assert report.num_found == 1
    assert [path.exists() for path in left] == [False, True]  # the second one's writer lives


def test_a_diverged_run_is_recorded_and_not_tried_again(tmp_path):
    recipe = get_recipe("mini", epochs=2, lr=1e30)
    arguments = (plan(["4444444"], recipe=recipe), tmp_path / "runs", Workers(device="cpu"))
    assert build(*arguments).num_diverged == 1
    assert build(*arguments).num_found == 1
    collect(tmp_path / "runs", tmp_path / "t.parquet")
    assert verify(tmp_path / "t.parquet")["num_diverged"] == 1
    with pytest.raises(MissingDataError):
        Table.read(tmp_path / "t.parquet").accuracy("4444444")


def test_a_job_that_is_refused_is_reported_and_the_others_are_done(tmp_path):
    # The worker refuses a negative seed, once and for all; the other job must still be done.
    store = RunStore.create(tmp_path / "runs", SPACE, get_recipe("mini", epochs=1), "digits", json_digest())
    engine = LocalEngine(store=store, dataset="digits", devices=["cpu"], num_workers=1)
    outcomes = {
        outcome.job.seed: outcome for outcome in engine.run(Given([[Job("1111111", 0, -1)], [Job("1111111", 1, 1)]]))
    }
    assert outcomes[-1].status == "failed" and "seed -1 is negative" in outcomes[-1].error
    assert outcomes[1].status == "ok"
    assert store.keys() == {("1111111", 1)}


def json_digest():
    from channel_bench.training.datasets import load_dataset

    return load_dataset("digits").digest


@pytest.mark.processes
def test_a_worker_that_dies_after_its_run_is_durable_does_not_train_it_again(tmp_path, monkeypatch):
    # kill -9 between making a run durable and saying so, arranged inside the worker.
    store = RunStore.create(tmp_path / "runs", SPACE, get_recipe("mini", epochs=1), "digits", json_digest())
    (tmp_path / "sitecustomize.py").write_text(
        "import os, channel_bench.builder.store as store\n"
        "add = store.RunStore.add\n"
        "def add_and_die(self, record):\n"
        "    add(self, record)\n"
        "    with open(self.folder / 'trained', 'a') as file:\n"
        "        file.write(f'{record.arch} {record.run}\\n')\n"
        "    os.kill(os.getpid(), 9)\n"
        "store.RunStore.add = add_and_die\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    engine = LocalEngine(store=store, dataset="digits", devices=["cpu"], num_workers=1)
    (outcome,) = engine.run(Given([[Job("1111111", 0, 0)]]))
    assert outcome.status == "ok"
    assert (store.folder / "trained").read_text() == "1111111 0\n"
    assert outcome.best_test_acc == store.read(("1111111", 0)).best_test_acc


class FakeEngine(LocalEngine):
    """The engine with its process replaced by a function of the jobs, to arrange failures that are hard to provoke."""

    def __init__(self, store, answer, num_workers=2):
        super().__init__(store=store, dataset="digits", devices=["cpu"], num_workers=num_workers)
        self.answer, self.asked = answer, []

    def _start_worker(self, device):
        return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, worker, jobs):
        self.asked.append(list(jobs))
        return self.answer(jobs, self.asked)


def all_ok(jobs):
    return [Outcome(job, "ok", 50.0) for job in jobs]


def all_failed(jobs, retry=True):
    return [Outcome(job, "failed", error="arranged", retry=retry) for job in jobs]


def test_one_bad_job_does_not_take_its_stack_with_it(store):
    jobs = [Job("1111111", run, run) for run in range(4)]
    engine = FakeEngine(store, lambda jobs, asked: all_failed(jobs) if jobs[-1].run == 3 else all_ok(jobs), 1)
    outcomes = {outcome.job.run: outcome.status for outcome in engine.run(Given([jobs]))}
    assert outcomes == {0: "ok", 1: "ok", 2: "ok", 3: "failed"}
    assert [len(asked) for asked in engine.asked] == [4, 1, 1, 1, 1, 1]  # the stack, three singles, two more tries


def test_workers_that_all_die_once_lose_nothing(store):
    jobs = [Job("1111111", run, run) for run in range(30)]

    def answer(jobs, asked):
        return all_failed(jobs) if jobs[0].run < 12 and asked.count(list(jobs)) == 1 else all_ok(jobs)

    engine = FakeEngine(store, answer, 12)
    assert {outcome.status for outcome in engine.run(Given([job] for job in jobs))} == {"ok"}


def test_runs_that_are_durable_count_whatever_the_worker_says(store):
    store.add(make_record("1111111", 0))
    jobs = [Job("1111111", run, run) for run in range(2)]
    engine = FakeEngine(store, lambda jobs, asked: all_failed(jobs, retry=False), 1)
    outcomes = {outcome.job.run: outcome for outcome in engine.run(Given([jobs]))}
    assert (outcomes[0].status, outcomes[0].best_test_acc, outcomes[1].status) == ("ok", 50.0, "failed")


def test_no_error_in_a_feeder_leaves_the_builder_waiting(store):
    def explode(jobs, asked):
        raise MemoryError("arranged")

    outcomes = list(FakeEngine(store, explode).run(Given([[Job("1111111", run, run) for run in range(3)]])))
    assert [outcome.status for outcome in outcomes] == ["failed"] * 3
    assert "could not hand it out: MemoryError('arranged')" in outcomes[0].error


def test_after_many_lost_runs_in_a_row_the_rest_is_not_tried(store):
    jobs = [[Job("1111111", run, run)] for run in range(100)]
    engine = FakeEngine(store, lambda jobs, asked: all_failed(jobs, retry=False), 1)
    outcomes = list(engine.run(Given(jobs)))
    assert len(outcomes) == 100 and len(engine.asked) == 10
    assert "not tried after 10 lost runs in a row" in outcomes[-1].error


def test_a_system_that_starts_no_processes_ends_the_build_and_does_not_hang(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    archs = pick_archs(SPACE, "30")
    with pytest.raises(BuildError, match="30 of 30 runs failed, .*Too many open files"):
        build(plan(archs), tmp_path / "runs", Workers(device="cpu", num_workers=3))


@shares_built
def test_runs_of_one_seed_or_of_other_recipes_do_not_pass_verification(built, tmp_path):
    import shutil

    shutil.copytree(built / "runs", tmp_path / "runs")
    store = RunStore.open(tmp_path / "runs")
    first, second = sorted(store.keys())[:2]
    store.path(second).unlink()
    store.add(dataclasses.replace(store.read(first), run=1))
    with pytest.raises(CorruptFileError, match="has seed 0, not that of its run"):
        collect(tmp_path / "runs", tmp_path / "t.parquet")
    rows = Table.read(built / "table.parquet").arrow.to_pylist()
    rows[1]["seed"] = 0
    with pytest.raises(CorruptFileError, match="runs 0 and 1 of .* have the same seed"):
        verify(write_table(tmp_path / "t.parquet", rows, make_info(SPACE)))
    (tmp_path / "t.parquet").unlink()
    store.path(second).unlink()
    record = store.read(first)
    shorter = {name: values[:1] for name, values in record.curves.items()}
    store.add(dataclasses.replace(record, run=1, seed=1, num_epochs=1, curves=shorter))
    collect(tmp_path / "runs", tmp_path / "t.parquet")
    with pytest.raises(CorruptFileError, match="was trained for 1 epochs, its recipe has 2"):
        verify(tmp_path / "t.parquet")


@shares_built
def test_damaged_curves_do_not_pass_verification(built, tmp_path):
    collect(built / "runs", tmp_path / "t.parquet")
    assert verify(tmp_path / "t.parquet")["num_rows"] == 8
    for damage in (
        lambda file: file.__delitem__("arch"),
        lambda file: file["train_loss"].__setitem__(slice(None), 0),
        lambda file: file.move("test_acc", "x") or file.__setitem__("test_acc", np.zeros((4, 1, 2), "f4")),
    ):
        with h5py.File(tmp_path / "t.h5", "a") as file:
            damage(file)
        with pytest.raises(CorruptFileError, match="curves"):
            verify(tmp_path / "t.parquet")
        collect(built / "runs", tmp_path / "t.parquet")
    with h5py.File(tmp_path / "t.h5", "a") as file:
        file["test_acc"][3, 1] = 77
    with pytest.raises(CorruptFileError, match="curves .* were changed after they were written"):
        verify(tmp_path / "t.parquet")


@shares_built
def test_collect_replaces_nothing_that_is_not_its_own(built, tmp_path):
    (tmp_path / "notes.h5").write_text("mine")
    with pytest.raises(StorageError, match="notes.h5' exists and does not belong to a table"):
        collect(built / "runs", tmp_path / "notes.parquet")
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(StorageError, match="pipe.h5' exists and does not belong to a table"):
        collect(built / "runs", tmp_path / "pipe.parquet")
    (tmp_path / "d.parquet").mkdir()
    with pytest.raises(StorageError, match="it is a folder"):
        collect(built / "runs", tmp_path / "d.parquet")
    collect(built / "runs", tmp_path / "own.parquet")
    (tmp_path / "own.parquet").unlink()  # as a kill between the two files would leave it
    collect(built / "runs", tmp_path / "own.parquet")
    assert (tmp_path / "notes.h5").read_text() == "mine" and not (tmp_path / "d.h5").exists()


def test_workers_that_cannot_start_fail_the_build_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BuildError, match="2 of 2 runs failed, .* could not start"):
        build(plan(["1111111", "1111112"]), tmp_path / "runs", ONE_WORKER)


def test_stacks_hold_every_job_once_in_shares_for_all_workers():
    jobs = [Job(arch, run, run) for arch in pick_archs(SPACE, "50") for run in range(3)]
    for size, num_workers in ((8, 2), (1, 2), (1000, 4), (8, 1000)):
        stacks = make_stacks(SPACE, jobs, size, num_workers)
        assert sorted(map(repr, sum(stacks, []))) == sorted(map(repr, jobs))
        assert max(map(len, stacks)) == min(size, -(-150 // num_workers))
        costs = [sum(SPACE.flops(job.arch) for job in stack) for stack in stacks]
        assert costs == sorted(costs, reverse=True)
    assert make_stacks(SPACE, [], 8, 2) == []
    assert [default_stack(cb.get_space(name)) for name in cb.list_spaces()] == [1, 1, 8, 8, 8]


@pytest.mark.processes
def test_a_stacked_build_has_the_runs_that_were_planned_and_says_it_was_stacked(tmp_path):
    recipe = get_recipe("mini", epochs=1)
    archs = pick_archs(SPACE, "3")
    build(plan(archs, 2, recipe=recipe), tmp_path / "runs", Workers(device="cpu", num_workers=1, backend="torch"))
    records = read_records(RunStore.open(tmp_path / "runs"))
    assert [(record.arch, record.run, record.seed) for record in records] == [
        (a, r, r) for a in sorted(archs) for r in (0, 1)
    ]
    assert {(record.stack, record.backend) for record in records} == {(6, "torch")}


@pytest.mark.processes
@shares_built
def test_a_build_says_which_program_trains_and_why_not_the_faster_one(built, tmp_path, digits):
    recipe = get_recipe("mini", epochs=1, batch_size=100)
    notes = []
    one = plan(["1111111"], recipe=recipe)
    with pytest.raises(ArgumentError, match="backend 'native' cannot train this: batches of 100"):
        build(one, tmp_path / "runs", dataclasses.replace(ONE_WORKER, backend="native"))
    assert not (tmp_path / "runs").exists()
    build(one, tmp_path / "runs", ONE_WORKER, on_note=notes.append)
    (record,) = read_records(RunStore.open(tmp_path / "runs"))
    assert record.backend == "torch"
    assert len(notes) == 1 and "batches of 100 out of 1200" in notes[0]
    expected = pick_backend(SPACE, get_recipe("mini"), digits)[0]
    assert set(Table.read(built / "table.parquet").arrow.column("backend").to_pylist()) == {expected}


def test_picked_architectures_are_the_same_every_time_and_nested():
    assert pick_archs(SPACE, "5") == pick_archs(SPACE, "24")[:5]
    assert len(set(pick_archs(SPACE, "16384"))) == 16384 and len(pick_archs(SPACE, "all")) == 16384
    assert pick_archs(SPACE, "4444444,1111111,4444444") == ["4444444", "1111111"]
    for text in ("0", "-3", "16385"):
        with pytest.raises(ArgumentError, match="allowed are 1..16384, or 'all'"):
            pick_archs(SPACE, text)
    with pytest.raises(ArchError):
        pick_archs(SPACE, "many")


def test_bad_arguments_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ArgumentError, match="3 channel means, the images have 1 channels"):
        build(plan(["1111111"], recipe=get_recipe("paper", epochs=2)), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    with pytest.raises(MissingDataError, match="not a folder of runs"):
        collect(tmp_path, tmp_path / "t.parquet")
    RunStore.create(tmp_path / "empty", SPACE, get_recipe("mini"), "digits", "x")
    with pytest.raises(MissingDataError, match="has no finished runs yet"):
        collect(tmp_path / "empty", tmp_path / "t.parquet")
    with pytest.raises(ArgumentError, match="must end in .parquet"):
        collect(tmp_path / "empty", tmp_path / "t.csv")


@pytest.mark.processes
@pytest.mark.parametrize("earlier", ["torch", "native"])
def test_a_resumed_build_says_when_another_program_would_train_the_rest(tmp_path, digits, earlier):
    later = {"torch": "native", "native": "torch"}[earlier]
    recipe = get_recipe("mini", epochs=1)
    if pick_backend(SPACE, recipe, digits)[0] != "native":
        pytest.skip("no C++ compiler for the native trainer")
    notes = []
    first, both = plan(["1111111"], recipe=recipe), plan(["1111111", "1111112"], recipe=recipe)
    workers = {name: dataclasses.replace(ONE_WORKER, backend=name) for name in ("torch", "native")}
    build(first, tmp_path / "runs", workers[earlier], on_note=notes.append)
    build(first, tmp_path / "runs", workers[later], on_note=notes.append)  # nothing is left to train
    assert notes == []
    # "auto" is the native trainer here.
    build(both, tmp_path / "runs", ONE_WORKER if later == "native" else workers[later], on_note=notes.append)
    (note,) = notes
    assert f"trained by {earlier}, the next ones are trained by {later}" in note
    assert f"give --backend {earlier}" in note


def test_a_build_with_few_epochs_of_a_shifted_cosine_says_so_and_one_of_rate_0_is_refused(tmp_path):
    notes = []
    two = get_recipe("mini", epochs=2, lr_shift=1)
    build(plan(["1111111"], recipe=two), tmp_path / "runs", ONE_WORKER, on_note=notes.append)
    assert len(notes) == 1 and "--lr-shift 0" in notes[0]
    with pytest.raises(ArgumentError, match="learning rate 0 only"):
        plan(["1111111"], recipe=get_recipe("mini", epochs=1, lr_shift=1))


def test_collect_says_what_an_unfinished_build_lacks(tmp_path, run_cli, digits):
    recipe = get_recipe("mini", epochs=2)
    stores = [RunStore.create(tmp_path / name, SPACE, recipe, "digits", digits.digest) for name in ("a", "b")]
    stores[0].write_plan(["1111111", "2222222"], 3)
    stores[0].add(make_record("1111111", 0))
    stores[0].add(make_record("1111111", 2))
    stores[0].add_failure(
        Failure(arch="2222222", run=1, seed=1, error="no room", trace="", host="node7", time="2026-01-01", tries=3)
    )
    stores[1].add(make_record("2222222", 0))
    out = tmp_path / "t.parquet"
    code, output, errors = run_cli("channel-bench", "collect", stores[0].folder, "-o", out)
    assert code == 0 and "2 runs" in output
    assert errors.splitlines() == [
        f"'{stores[0].folder}' is not finished: 4 of 6 planned runs are not in the table, 1 of them failed;"
        " no builder is at work"
    ]
    with Leases(stores[0].folder):
        _, _, errors = run_cli("channel-bench", "collect", *(store.folder for store in stores), "-o", out)
    assert "3 of 6 planned runs are not in the table, 1 of them failed; a builder is at work (" in errors
    assert f", process {os.getpid()})" in errors and len(errors.splitlines()) == 1
    for key in (("1111111", 1), ("2222222", 1), ("2222222", 2)):
        stores[1].add(make_record(*key))
    assert run_cli("channel-bench", "collect", *(store.folder for store in stores), "-o", out)[2] == ""


@shares_built
def test_the_table_file_is_plain_parquet(built):
    frame = pq.read_table(built / "table.parquet").to_pandas()
    assert len(frame) == 8 and frame["status"].eq("ok").all()
    metadata = json.loads(pq.read_schema(built / "table.parquet").metadata[b"channel_bench"])
    assert metadata["space"] == "resnet-mini"
