"""The state of a build, read from its folder."""

import dataclasses
import json
import os
import platform

import pytest
from conftest import make_record

from channel_bench.builder.leases import Leases
from channel_bench.builder.status import RECENT_S, status
from channel_bench.builder.store import Failure
from channel_bench.errors import CorruptFileError
from channel_bench.support.processes import this_process

ARCHS = ["1111111", "2222222", "3333333"]


def finished_at(store, moments):
    for (arch, run), moment in moments.items():
        store.add(make_record(arch, run))
        os.utime(store.path((arch, run)), (moment, moment))


def test_counts_rate_and_time_left(store):
    store.write_plan(ARCHS, 2)
    finished_at(store, {("1111111", 0): 1e9, ("1111111", 1): 1e9, ("2222222", 0): 1e9 + 60, ("4444444", 0): 1e9 + 119})
    found = status(store)
    assert (found.num_planned, found.num_done, found.num_missing, found.num_unplanned) == (6, 3, 3, 1)
    # The first run began a second before it ended, so four runs took two minutes.
    assert found.runs_per_hour == pytest.approx(120)
    assert found.time_left_s == pytest.approx(90)
    assert found.builders == [] and found.idle_s > 0


def test_a_stack_that_ends_at_once_counts_from_its_beginning(store):
    store.write_plan(ARCHS, 2)
    for run in range(2):
        for arch in ARCHS:
            store.add(dataclasses.replace(make_record(arch, run), stack=6, train_s=10.0))
            os.utime(store.path((arch, run)), (1e9 + 0.001 * run, 1e9 + 0.001 * run))
    assert status(store).runs_per_hour == pytest.approx(360, rel=1e-3)


def test_the_rate_forgets_what_is_long_past(store):
    store.write_plan(ARCHS, 2)
    finished_at(store, {("1111111", 0): 1e9 - 10 * RECENT_S, ("1111111", 1): 1e9, ("2222222", 0): 1e9 + 19})
    assert status(store).runs_per_hour == pytest.approx(360)


def test_an_empty_store_and_one_without_a_plan(store):
    found = status(store)
    assert (found.num_planned, found.num_done, found.runs_per_hour, found.idle_s) == (0, 0, None, None)
    store.add(make_record())
    found = status(store)
    assert (found.num_planned, found.num_done) == (1, 1) and found.runs_per_hour == pytest.approx(3600)


def test_damaged_runs_are_named_and_missing(store):
    store.write_plan(["1234123"], 2)
    store.add(make_record())
    store.add(make_record(run=1))
    store.path(("1234123", 1)).write_text("damaged")
    found = status(store)
    assert found.corrupt == [str(store.path(("1234123", 1)))]
    assert (found.num_done, found.num_missing) == (1, 1)
    assert store.path(("1234123", 1)).exists()  # looking changes nothing
    store.plans()[0].write_text("{")
    with pytest.raises(CorruptFileError, match="plan.json"):
        status(store)


def test_a_builder_at_work_is_seen_and_not_disturbed(store):
    assert status(store).builders == []
    with Leases(store.folder) as leases:
        assert leases.take([("1111111", 0)])
        found = status(store)
        assert found.builders == [f"{platform.node()}, process {os.getpid()}"] and found.num_running == 1
        assert not leases.take([("1111111", 0)])
    found = status(store)
    assert (found.builders, found.num_running) == ([], 0)


def test_failed_runs_are_named_until_they_succeed(store, run_cli):
    store.write_plan(ARCHS, 1)
    store.add_failure(make_failure("2222222", error="out of memory:\n  no room"))
    assert [failure.arch for failure in status(store).failed] == ["2222222"] and status(store).num_missing == 3
    output = run_cli("channel-bench", "status", store.folder)[1]
    assert "failed: 2222222 run 0 after 3 tries on node7: out of memory: no room" in output
    assert "1 failed run: causes in" in output
    store.add(make_record("2222222", 0))  # by a builder that was killed before it could clear the record
    assert status(store).failed == []
    store.clear_failure(("2222222", 0))
    assert not list((store.folder / "failed").iterdir())


def make_failure(arch, error):
    return Failure(arch=arch, run=0, seed=0, error=error, trace="", host="node7", time="2026-01-01", tries=3)


def test_the_plan_is_that_of_all_shards_and_of_the_last_request(store):
    store.write_plan(["1111111"], 2, "a", "request", store.plans())
    store.write_plan(["2222222"], 2, "b", "request", store.plans())
    assert store.planned() == {"1111111": 2, "2222222": 2}
    store.write_plan(["2222222"], 2, "c", "request", store.plans())
    assert len(store.plans()) == 2  # a shard that is started again
    store.write_plan(["3333333"], 1, "d")  # while the others are alive
    assert store.planned() == {"1111111": 2, "2222222": 2, "3333333": 1}
    store.write_plan(["3333333"], 1, "e", "", store.plans())
    assert store.planned() == {"3333333": 1} and len(store.plans()) == 1


def test_status_from_the_command_line(store, run_cli):
    store.write_plan(ARCHS, 1)
    finished_at(store, {("1111111", 0): 1e9, ("2222222", 0): 1e9 + 119})
    code, output, _ = run_cli("channel-bench", "status", store.folder)
    assert code == 0
    assert "2 of 3 planned runs done (0 diverged), 1 missing" in output
    assert "60 runs per hour" in output and "60 s left" in output and "no builder is at work" in output
    parsed = json.loads(run_cli("channel-bench", "status", store.folder, "--json")[1])
    assert parsed["num_missing"] == 1
    code, _, errors = run_cli("channel-bench", "status", store.folder.parent)
    assert code == 2 and "is not a folder of runs" in errors


@pytest.mark.parametrize(
    "change",
    [{"num_runs": 10**9}, {"num_runs": "2"}, {"num_runs": 0}, {"archs": 5}, {"archs": ["5555555"]}, {"request": 5}],
)
def test_a_plan_that_no_builder_writes_is_refused_at_once(store, change):
    store.write_plan(ARCHS, 2)
    (path,) = store.plans()
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CorruptFileError, match="plan.json"):
        status(store)


def test_the_largest_plan_that_there_can_be_is_counted_and_not_listed(store):
    store.write_plan(store.space.texts(), 32767)
    store.add(make_record())
    found = status(store)
    assert (found.num_planned, found.num_done) == (16384 * 32767, 1)


@pytest.mark.processes
@pytest.mark.parametrize(
    "name", ["builders/x", "leases/1111111-0.1", "failed/1111111-0.json", "parts/11/1111111-0.json"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "text", "huge"])
def test_what_no_builder_wrote_neither_hangs_nor_breaks_status(store, name, kind):
    store.add(make_record())
    path = store.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text('{"process": "' + this_process().partition(".")[0] + '", "host": "x", "arch": []}')
    else:
        path.touch()
        os.truncate(path, 2**40)
    found = status(store)
    assert found.num_done == 1 and found.failed == []
    assert found.corrupt == ([str(path)] if name.startswith("parts") else [])
    with Leases(store.folder) as leases:
        moved = store.set_aside_corrupt(leases)
        assert len(moved) == len(found.corrupt)


@pytest.mark.parametrize(
    "change",
    [{"run": "0"}, {"seed": -1}, {"tries": 10**30}, {"error": 5}, {"arch": "../../x"}, {"arch": 5}, {"host": None}],
    ids=repr,
)
def test_a_record_of_a_failure_that_no_builder_writes_is_passed_over(store, change):
    store.add_failure(make_failure("2222222", "no room"))
    (path,) = (store.folder / "failed").iterdir()
    assert len(status(store).failed) == 1
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert status(store).failed == []
