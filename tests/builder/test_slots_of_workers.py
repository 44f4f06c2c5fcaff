"""Several runs at once on a GPU: slots of one process, whose records come in any order."""

import dataclasses

import pytest
from conftest import Given

import channel_bench as cb
from channel_bench.builder.build import _default_workers, _Setup, _slots_on_gpu, _trainer, _workers_per_gpu
from channel_bench.builder.engines import PACKED_TRAINER, TRAINER, ray
from channel_bench.builder.engines.local import LocalEngine
from channel_bench.builder.engines.trainer import JobTrainer
from channel_bench.builder.plan import Plan, Workers, pick_archs
from channel_bench.builder.store import RunStore
from channel_bench.builder.work import make_hand_outs
from channel_bench.recipe import get_recipe
from channel_bench.record import Job
from channel_bench.space.own import for_worker
from channel_bench.support.processes import num_cores
from channel_bench.training.backends import train_jobs

SPACE = cb.get_space("resnet-mini")
RECIPE = get_recipe("mini", epochs=2, batch_size=600)
JOBS = [Job("4444444", 0, 0), Job("1111111", 0, 0), Job("2341234", 1, 1)]
GPUS = ["cuda:0", "cuda:1"]
ARCHS = pick_archs(SPACE, "8")


@pytest.mark.parametrize(
    ("space", "workers", "num_slots", "per_gpu"),
    [
        ("resnet", {}, 3, 1),
        ("resnet-mini", {"stack": 1}, 3, 1),
        ("resnet-mini", {}, 0, 3),  # stacks of networks
        ("resnet", {"num_workers": 4}, 1, 3),  # so many processes were asked for
        ("resnet", {"engine": "ray"}, 3, 1),
        ("resnet-mini", {"engine": "ray"}, 0, 3),
    ],
)
def test_runs_on_a_gpu_share_a_process(space, workers, num_slots, per_gpu):
    plan, asked = Plan(space=cb.get_space(space), archs=["1111111"], num_runs=1), Workers(**workers)
    setup = _Setup(None, GPUS, 3, "torch")
    assert _slots_on_gpu(plan, asked, setup) == num_slots
    assert _workers_per_gpu(setup, num_slots) == per_gpu and _default_workers(setup, per_gpu) == 2 * per_gpu
    assert _slots_on_gpu(plan, asked, dataclasses.replace(setup, backend="native")) == 0
    assert _default_workers(dataclasses.replace(setup, devices=["cpu"]), per_gpu) == num_cores()
    trainer, options = _trainer(asked, setup, num_slots)
    if num_slots:
        assert (trainer, options) == (PACKED_TRAINER, {"num_slots": num_slots, "graph": None})
    else:
        assert (trainer, options) == (TRAINER, {"backend": "torch", "graph": None})


def jobs_of(archs, num_runs):
    """In the order of a plan: run 0 of every architecture first."""
    return [Job(arch, run, run) for run in range(num_runs) for arch in archs]


@pytest.mark.parametrize(
    ("num_slots", "num_workers", "num_runs", "sizes"),
    [
        (1, 2, 3, [3] * 8),  # an architecture at a time
        (2, 2, 3, [12, 12]),  # two of them for each slot: 3 seeds are fewer than JOBS_PER_SLOT
        (4, 1, 3, [24]),
        (2, 4, 3, [6] * 4),  # an equal share
        (1, 8, 5, [5] * 8),
        (3, 1, 5, [15, 15, 10]),
        (1, 16, 3, [2] * 8 + [1] * 8),  # more workers than architectures part their seeds
        (2, 99, 3, [1] * 24),
    ],
)
def test_hand_outs_keep_seeds_together_in_shares_for_all_workers(num_slots, num_workers, num_runs, sizes):
    jobs = jobs_of(ARCHS, num_runs)
    found = make_hand_outs(SPACE, jobs, num_slots, num_workers)
    assert sorted(map(len, found), reverse=True) == sizes
    assert sorted(map(repr, sum(found, []))) == sorted(map(repr, jobs))
    costs = [sum(SPACE.flops(job.arch) for job in jobs) for jobs in found]
    assert costs == sorted(costs, reverse=True)
    for jobs in found:
        archs = [job.arch for job in jobs]
        assert archs == sorted(archs, key=archs.index)  # the seeds of each one after the other
    if max(sizes) >= num_runs:
        assert all(len({tuple(each) for each in found if any(job.arch == arch for job in each)}) == 1 for arch in ARCHS)
    assert make_hand_outs(SPACE, [], num_slots, num_workers) == []


def test_hand_outs_of_what_is_left_are_whole_as_well():
    left = [Job("1111111", 2, 2), Job("4444444", 0, 0), Job("1111111", 0, 0), Job("2222222", 1, 1)]
    assert make_hand_outs(SPACE, left, 1, 2) == [[left[1], left[3]], [left[2], left[0]]]


def test_a_worker_answers_in_the_order_of_the_jobs(store, digits):
    options = {"num_slots": 2, "graph": None}
    answers = JobTrainer(SPACE, RECIPE, digits, store, PACKED_TRAINER, options).answer(JOBS)
    for job, answer in zip(JOBS, answers, strict=True):
        (record,) = train_jobs(SPACE, [job], RECIPE, digits, backend="torch")
        assert answer == {"status": "ok", "best_test_acc": record.best_test_acc}
        assert store.read((job.arch, job.run)).best_test_acc == record.best_test_acc


@pytest.mark.processes
def test_worker_processes_can_train_in_slots(tmp_path, digits):
    store = RunStore.create(tmp_path / "runs", SPACE, RECIPE, "digits", digits.digest)
    engine = LocalEngine(
        store=store,
        dataset="digits",
        devices=["cpu"],
        num_workers=1,
        options={"num_slots": 2},
        trainer=PACKED_TRAINER,
    )
    outcomes = list(engine.run(Given([JOBS])))
    assert {outcome.job for outcome in outcomes} == set(JOBS)
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert store.keys() == {(job.arch, job.run) for job in JOBS}


def test_what_a_worker_on_a_cluster_does_can_be_done_in_slots(tmp_path, digits):
    # The actor's own class, in this process: it needs no Ray.
    store = RunStore.create(tmp_path / "runs", SPACE, RECIPE, "digits", digits.digest)
    setup = ray._Setup(
        folder=store.folder,
        token=store.folder,
        space=for_worker(SPACE),
        recipe=store.info.recipe,
        on_gpu=False,
        threads=1,
        trainer=PACKED_TRAINER,
        options={"num_slots": 2, "graph": None},
    )
    jobs = [JOBS[1], Job("1111111", 1, 1), JOBS[2]]
    answers = ray.Worker(setup, digits).answer([dataclasses.asdict(job) for job in jobs])
    assert [answer["status"] for answer in answers] == ["ok"] * 3
    assert store.keys() == {(job.arch, job.run) for job in jobs}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_workers_on_a_cluster_can_train_in_slots(tmp_path, digits):
    pytest.importorskip("ray", reason="Ray is not installed")
    from channel_bench.builder.leases import Leases
    from channel_bench.support.cluster import Cluster

    store = RunStore.create(tmp_path / "runs", SPACE, RECIPE, "digits", digits.digest)
    jobs = [*JOBS, Job("1111111", 1, 1)]
    with Cluster(None, "cpu", most_workers=1) as cluster, Leases(store.folder) as leases:
        engine = ray.RayEngine(
            cluster,
            store=store,
            dataset=digits,
            token=leases.token,
            options={"num_slots": 2, "graph": None},
            trainer=PACKED_TRAINER,
        )
        outcomes = list(engine.run(Given(make_hand_outs(SPACE, jobs, 2, 1))))
    assert {outcome.job for outcome in outcomes} == set(jobs) and {outcome.status for outcome in outcomes} == {"ok"}
    for job in jobs:
        (alone,) = train_jobs(SPACE, [job], RECIPE, digits, backend="torch")
        found = store.read((job.arch, job.run))
        assert dataclasses.replace(found, train_s=0) == dataclasses.replace(alone, train_s=0)
