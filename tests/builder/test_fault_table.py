"""The fault table: what can go wrong while a table is built, and that nothing is lost and nothing is there twice.

Each test arranges a fault for real processes where that can be done: kill -9 of a worker, of a builder, of a node of a
cluster; two builders at once; a full disk; clocks that go back; torn and duplicate parts.
"""

import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import NUM_PLANNED, PATIENCE_S, Builds, gated, read_records, wait_for
from conftest import make_record

import channel_bench as cb
from channel_bench.builder import leases as leases_module
from channel_bench.builder import work as work_module
from channel_bench.builder.build import build
from channel_bench.builder.collect import collect, merge
from channel_bench.builder.leases import DEAD_AFTER_S, Leases
from channel_bench.builder.plan import Plan, Workers, parse_shard, pick_archs, shard_archs
from channel_bench.builder.status import status
from channel_bench.builder.store import RunStore
from channel_bench.builder.work import SharedWork
from channel_bench.errors import ArgumentError, BuildError, ConflictError
from channel_bench.recipe import get_recipe
from channel_bench.record import Job
from channel_bench.support.durable import LEFTOVER_AGE_S, TEMPORARY_PREFIX, remove_leftovers
from channel_bench.support.processes import is_gone, this_process

SPACE = cb.get_space("resnet-mini")
ARCHS = pick_archs(SPACE, "6")
ONE_WORKER = Workers(device="cpu", num_workers=1)
ROOT = Path(__file__).parents[2]
PLANNED = sorted(f"{arch}-{run}" for arch in ARCHS for run in range(2))


@pytest.fixture
def builds(tmp_path):
    """Builders of tmp_path / "runs", held at the gate."""
    with Builds(tmp_path, gated(tmp_path)) as builds:
        yield builds


def dead_process():
    """Name of a process of this machine that is no more."""
    code = "from channel_bench.support.processes import this_process; print(this_process())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def make_builder(store, name, process):
    """What a builder of another life leaves: its file, and a lease."""
    (store.folder / "builders").mkdir(exist_ok=True)
    (store.folder / "leases").mkdir(exist_ok=True)
    (store.folder / "builders" / name).write_text(json.dumps({"process": process, "host": "node7"}) + "\n1\n")


@pytest.mark.processes
def test_two_builders_at_once_train_every_run_exactly_once(builds):
    builds.allow(0)
    builders = [builds.start("--workers", "1", "--stack", "1") for _ in range(2)]
    wait_for(lambda: len(builds.at_gate()) == 2, "a run of each builder")
    builds.allow()
    outputs = [builds.finish(builder) for builder in builders]
    assert builds.trained() == list(builds.parts()) == PLANNED
    counts = [int(output.split(": ")[1].split(" trained now")[0]) for output in outputs]
    assert sum(counts) == 12 and min(counts) > 0 and all("12 of 12 runs" in output for output in outputs)
    for folder in ("leases", "builders", "failed"):
        assert not list(builds.out.glob(f"{folder}/*"))


@pytest.mark.processes
def test_of_two_builders_one_is_killed_and_the_other_finishes(builds):
    builds.allow(0)
    victim = builds.start("--workers", "1", "--stack", "1")
    wait_for(builds.at_gate, "the first run", victim)
    (held,) = (path.stem for path in builds.out.glob("leases/*"))
    other = builds.start("--workers", "1", "--stack", "1")
    wait_for(lambda: len(builds.at_gate()) == 2, "a run of each builder", other)
    victim.kill()
    wait_for(lambda: len(builds.workers()) == 1, "the worker of the killed builder to end")
    builds.allow(4)
    wait_for(lambda: len(builds.parts()) == 4, "runs of the builder that is left", other)
    before = builds.parts()
    builds.allow()
    assert "12 of 12 runs" in builds.finish(other)
    after = builds.parts()
    assert list(after) == PLANNED and {name: after[name] for name in before} == before
    # The run that the victim's worker had in its hands was trained twice, no other; it is there once.
    assert builds.trained() == sorted([*PLANNED, held])
    assert not list(builds.out.glob("leases/*")) and not list(builds.out.rglob(f"{TEMPORARY_PREFIX}*"))


def test_a_dead_builder_of_another_machine_is_told_by_its_counter_alone(store, monkeypatch):
    make_builder(store, "far", "othermachine.1.2")
    (store.folder / "leases" / "1111111-0.1").write_text("far")
    moment = [1000.0]
    monkeypatch.setattr(leases_module.time, "monotonic", lambda: moment[0])
    with Leases(store.folder) as leases:
        for step in range(5):  # as long as it moves it lives, however slowly
            moment[0] += DEAD_AFTER_S - 1
            (store.folder / "builders" / "far").write_text(
                json.dumps({"process": "othermachine.1.2"}) + f"\n{step + 2}\n"
            )
            assert not leases.take([("1111111", 0)])
        moment[0] += DEAD_AFTER_S - 1
        assert not leases.take([("1111111", 0)])
        moment[0] += 2
        assert leases.take([("1111111", 0)]) == {("1111111", 0)}
        assert (store.folder / "leases" / "1111111-0.2").read_text() == leases.id
        with Leases(store.folder) as third:
            assert not third.take([("1111111", 0)])
        leases.release(("1111111", 0), done=True)
    assert not list(store.folder.glob("leases/*")) and not list(store.folder.glob("builders/*"))


def test_leases_do_not_know_what_time_it_is(store, monkeypatch):
    # The wall clock goes back by years, and files carry times of the future.
    make_builder(store, "here", this_process())
    lease = store.folder / "leases" / "1111111-0.1"
    lease.write_text("here")
    for path in (lease, store.folder / "builders" / "here"):
        os.utime(path, (4e9, 4e9))
    monkeypatch.setattr(time, "time", lambda: 1.0)
    with Leases(store.folder) as leases:
        assert not leases.take([("1111111", 0)]) and leases.take([("2222222", 0)])
        make_builder(store, "here", dead_process())
        assert leases.take([("1111111", 0)])


@pytest.mark.processes
def test_parts_of_the_future_count_and_the_build_goes_on(tmp_path, digits):
    recipe = get_recipe("mini", epochs=2)
    store = RunStore.create(tmp_path / "runs", SPACE, recipe, "digits", digits.digest)
    store.add(make_record(ARCHS[0], 0))
    os.utime(store.path((ARCHS[0], 0)), (4e9, 4e9))
    report = build(Plan(space=SPACE, archs=ARCHS[:2], num_runs=1, recipe=recipe), store.folder, ONE_WORKER)
    assert (report.num_found, report.num_trained) == (1, 1)
    found = status(store)
    assert (found.num_done, found.num_missing, found.idle_s) == (2, 0, 0.0)


def test_of_racing_builders_one_gets_a_dead_ones_lease(store):
    make_builder(store, "gone", dead_process())
    for run in range(20):
        (store.folder / "leases" / f"1111111-{run}.1").write_text("gone")
    keys = [("1111111", run) for run in range(20)]
    with Leases(store.folder) as first, Leases(store.folder) as second:
        there = first._scan()  # both have seen the same before either acts
        won = [{key for key in keys if leases._take(key, there[key])} for leases in (first, second)]
        assert won == [set(keys), set()]


def test_runs_held_elsewhere_are_waited_for_and_taken_over(store, monkeypatch):
    monkeypatch.setattr(work_module, "POLL_S", 0.0)
    jobs = [Job("1111111", run, run) for run in range(4)]
    waits = []
    with Leases(store.folder) as other, Leases(store.folder) as own:
        assert other.take([("1111111", run) for run in (0, 1, 2)])
        work = SharedWork(store, own, [jobs], waits.append)
        assert work.take() == jobs[3:] and work.take() == [] and not work.is_over and waits == [3]
        store.add(make_record("1111111", 0))
        other.release(("1111111", 0), done=True)  # finished there
        other.release(("1111111", 1), done=False)  # failed there
        assert work.take() == [jobs[1]] and work.num_elsewhere == 1
        assert work.take() == [] and waits == [3]
        os.truncate(store.folder / "builders" / other.id, 0)
        make_builder(store, other.id, dead_process())
        assert work.take() == [jobs[2]] and work.is_over


def test_a_run_finished_between_look_and_lease_is_not_trained(store, monkeypatch):
    with Leases(store.folder) as leases:
        work = SharedWork(store, leases, [[Job("1111111", 0, 0)]])
        take = leases.take

        def slow_take(keys):
            store.add(make_record("1111111", 0))
            return take(keys)

        monkeypatch.setattr(leases, "take", slow_take)
        assert work.take() == [] and work.is_over and work.num_elsewhere == 1
        assert leases.running() == set()


def test_setting_aside_never_loses_a_good_part_that_was_put_there_meanwhile(store, monkeypatch):
    store.add(make_record())
    path = store.path(("1234123", 0))
    good = path.read_bytes()
    path.write_text("torn")
    replace = os.replace

    def slow_replace(source, target):
        if source == path:  # a worker that outlived its builder
            path.unlink()
            path.write_bytes(good)
        replace(source, target)

    with Leases(store.folder) as leases:
        monkeypatch.setattr(os, "replace", slow_replace)
        assert store.set_aside_corrupt(leases) == []
    assert path.read_bytes() == good and not list((store.folder / "corrupt").iterdir())


@pytest.mark.processes
def test_a_torn_part_is_trained_again_once(builds, digits):
    store = RunStore.create(builds.out, SPACE, get_recipe("mini", epochs=2), "digits", digits.digest)
    for arch in ARCHS:
        for run in range(2):
            store.add(make_record(arch, run))
    path = store.path((ARCHS[0], 1))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    builders = [builds.start("--workers", "1") for _ in range(2)]
    outputs = [builds.finish(builder) for builder in builders]
    assert all("12 of 12 runs" in output for output in outputs)
    assert builds.trained() == [f"{ARCHS[0]}-1"]
    assert len(read_records(store)) == 12 and len(list(builds.out.glob("corrupt/*"))) == 1


@pytest.mark.processes
def test_a_full_disk_ends_the_build_and_loses_nothing(builds, tmp_path):
    builds.allow(1)
    builder = builds.start("--workers", "1", "--stack", "1")
    wait_for(lambda: builds.parts() and builds.at_gate(), "a run, and another one", builder)
    (tmp_path / "full").touch()
    builds.allow()
    _, errors = builder.communicate(timeout=PATIENCE_S)
    assert builder.returncode == 2
    assert "No space left on device" in errors.splitlines()[-1] and "Traceback" not in errors
    before = builds.parts()
    assert 1 <= len(before) < NUM_PLANNED
    assert not list(builds.out.rglob(f"{TEMPORARY_PREFIX}*")) and not list(builds.out.glob("leases/*"))
    (tmp_path / "full").unlink()
    recipe = get_recipe("mini", epochs=2)
    report = build(Plan(space=SPACE, archs=ARCHS, num_runs=2, recipe=recipe), builds.out, ONE_WORKER)
    assert (report.num_found, report.num_trained) == (len(before), NUM_PLANNED - len(before))
    assert list(builds.parts()) == PLANNED and len(read_records(RunStore.open(builds.out))) == NUM_PLANNED


@pytest.mark.processes
def test_a_run_that_fails_is_on_record_until_a_later_build_trains_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    fails, is_trained = sorted(ARCHS[:2], key=SPACE.flops)  # the costliest comes first
    (tmp_path / "sitecustomize.py").write_text(
        "import channel_bench.training.backends as train\n"
        "whole = train.train_jobs\n"
        "def train_jobs(space, jobs, *rest, **more):\n"
        f"    if jobs[0].arch == {fails!r}:\n"
        '        raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory")\n'
        "    return whole(space, jobs, *rest, **more)\n"
        "train.train_jobs = train_jobs\n"
    )
    plan = Plan(space=SPACE, archs=ARCHS[:2], num_runs=1, recipe=get_recipe("mini", epochs=1))
    workers = Workers(device="cpu", stack=1, num_workers=1)
    with pytest.raises(BuildError, match="1 of 2 runs failed, .*out of memory: RuntimeError"):
        build(plan, tmp_path / "runs", dataclasses.replace(workers, max_retries=1))
    store = RunStore.open(tmp_path / "runs")
    assert store.keys() == {(is_trained, 0)}
    (failure,) = status(store).failed
    assert (failure.arch, failure.run, failure.tries, failure.host) == (fails, 0, 2, platform.node())
    assert "in train_jobs" in failure.trace and failure.error.startswith("out of memory: ")
    (tmp_path / "sitecustomize.py").unlink()
    assert build(plan, tmp_path / "runs", workers).num_trained == 1
    assert status(store).failed == [] and not list(store.folder.glob("failed/*"))


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(store):
    parts = store.folder / "parts" / "12"
    parts.mkdir(parents=True)
    ages = {f"{this_process()}-a": 0, f"{dead_process()}-b": 0, "othermachine.1.2-c": 0, "othermachine.1.2-d": 1}
    for name, is_old in ages.items():
        path = parts / f"{TEMPORARY_PREFIX}{name}"
        path.write_text("half")
        if is_old:
            moment = time.time() - LEFTOVER_AGE_S - 60
            os.utime(path, (moment, moment))
    remove_leftovers(store.folder)
    left = {path.name.removeprefix(TEMPORARY_PREFIX) for path in parts.iterdir()}
    assert left == {f"{this_process()}-a", "othermachine.1.2-c"}


def test_a_process_is_gone_when_it_is_and_its_pid_does_not_bring_it_back():
    machine, pid, started = this_process().split(".")
    assert not is_gone(this_process()) and is_gone(dead_process())
    assert is_gone(f"{machine}.{pid}.1") and not is_gone(f"other.{pid}.1") and not is_gone("")
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    wait_for(lambda: is_gone(f"{machine}.{zombie.pid}.x"), "the zombie")
    zombie.wait()


def test_duplicate_runs_merge_when_equal_and_are_named_when_not(tmp_path, run_cli):
    stores = [RunStore.create(tmp_path / name, SPACE, get_recipe("mini"), "digits", "d1") for name in "abc"]
    for store in stores[:2]:
        store.add(make_record("1111111", 0))
    stores[1].add(make_record("1111111", 1))
    assert [key for _, keys in merge(stores) for key in keys] == [("1111111", 0), ("1111111", 1)]
    for run in range(2):
        stores[2].add(make_record("1111111", run, accuracy=49.0))
    with pytest.raises(ConflictError, match="2 runs have different results: 1111111 run 0 in '.*/a' and '.*/c'"):
        merge(stores)
    arguments = ("collect", *(store.folder for store in stores), "-o", tmp_path / "t.parquet")
    code, _, errors = run_cli("channel-bench", *arguments)
    assert code == 2 and "move parts" in errors and not (tmp_path / "t.parquet").exists()
    other = RunStore.create(tmp_path / "other", SPACE, get_recipe("mini"), "digits", "d1", base_seed=3)
    with pytest.raises(ConflictError, match="different kinds: base_seed is 0 and 3"):
        merge([stores[0], other])


def test_shards_are_all_of_the_work_once_at_equal_cost(tmp_path):
    archs = pick_archs(SPACE, "200")
    for total in (1, 3, 7, 200):
        shards = [shard_archs(SPACE, archs, number, total) for number in range(1, total + 1)]
        assert sorted(sum(shards, [])) == sorted(archs)
        assert {len(shard) for shard in shards} <= {200 // total, -(-200 // total)} or total == 7
        costs = [sum(map(SPACE.flops, shard)) for shard in shards]
        assert total == 200 or max(costs) < 1.05 * min(costs)
        if total > 1:
            assert shards[0] == shard_archs(SPACE, archs[::-1], 1, total)  # whatever the order of the request
    assert parse_shard("3/16") == (3, 16)
    for text in ("0/2", "3/2", "1", "1/0", "-1/2", "a/b", "1/2/3", "²/3"):
        with pytest.raises(ArgumentError, match="is not I/N"):
            parse_shard(text)
    with pytest.raises(ArgumentError, match="2 architectures cannot make 3 shards"):
        shard_archs(SPACE, archs[:2], 1, 3)


@pytest.mark.processes
def test_shards_of_one_folder_or_of_several_make_the_table(tmp_path, digits):
    recipe = get_recipe("mini", epochs=1)
    shards = [Plan(space=SPACE, archs=ARCHS[:4], num_runs=1, recipe=recipe, shard=(number, 2)) for number in (1, 2)]
    for shard in shards:
        assert build(shard, tmp_path / "one", ONE_WORKER).num_trained == 2
    one = RunStore.open(tmp_path / "one")
    assert status(one).num_planned == 4
    for number in (1, 2):  # the same runs, as if each shard had been trained into a folder of its own
        own = RunStore.create(tmp_path / f"own{number}", SPACE, recipe, "digits", digits.digest)
        for arch in shard_archs(SPACE, ARCHS[:4], number, 2):
            own.add(one.read((arch, 0)))
        assert build(shards[number - 1], own.folder, ONE_WORKER).num_found == status(own).num_planned == 2
    collect(tmp_path / "one", tmp_path / "one.parquet")
    table = collect([tmp_path / "own1", tmp_path / "own2", tmp_path / "one"], tmp_path / "all.parquet")
    assert table.column("arch").to_pylist() == sorted(ARCHS[:4])


# Ray


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A Ray cluster of two nodes with a core each, whose workers are held at the gate."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in gated(tmp_path_factory.mktemp("site")).items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster
        cluster.shutdown()


def ray_workers():
    """Processes on this machine that train as Ray actors of this package."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.slow  # 40 s; that Ray trains, listens and ends as it should is in the default suite
@pytest.mark.filterwarnings("ignore")
def test_a_build_on_a_cluster_outlives_its_driver_a_worker_and_a_node(builds, cluster):
    # One test, because the start of a driver and its workers is what costs. The node comes last: it does not return.
    words = ("--stack", "1", "--engine", "ray", "--address", cluster.address)
    builds.allow(1)
    driver = builds.start(*words)
    wait_for(lambda: builds.parts() and builds.at_gate(), "a run, and another one", driver)
    driver.kill()
    wait_for(lambda: not ray_workers(), "the workers of a killed driver to end")
    before = builds.parts()
    assert len(before) == 1

    driver = builds.start(*words)
    wait_for(lambda: len(builds.at_gate()) == 2, "a run on each node", driver)
    first = ray_workers()
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: len(set(ray_workers()) - {first[0]}) == 2, "another worker", driver)
    builds.allow(5)
    wait_for(lambda: len(builds.parts()) == 5, "runs after a worker was killed", driver)
    before |= builds.parts()
    cluster.remove_node(cluster.second, allow_graceful=False)
    builds.allow()
    output, errors = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 0 and "12 of 12 runs" in output and "11 trained now" in output
    assert errors == f"12 runs planned, 1 found in {builds.out}, 11 to train\n"  # and not a word of Ray's
    after = builds.parts()
    assert list(after) == PLANNED and {name: after[name] for name in before} == before
    assert len(read_records(RunStore.open(builds.out))) == NUM_PLANNED
    for left in ("leases/*", "failed/*", f"parts/*/{TEMPORARY_PREFIX}*"):
        assert not list(builds.out.glob(left))
