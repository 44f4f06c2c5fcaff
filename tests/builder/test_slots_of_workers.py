"""Several runs at once on a GPU: slots of one process, whose records come in any order."""

import dataclasses

import pytest
from conftest import Given

import channel_bench as cb
from channel_bench.builder.build import JOBS_PER_SLOT, _default_workers, _Setup, _slots_per_worker
from channel_bench.builder.engines import PACKED_TRAINER
from channel_bench.builder.engines.local import LocalEngine
from channel_bench.builder.engines.trainer import JobTrainer
from channel_bench.builder.plan import Plan, Workers
from channel_bench.builder.store import RunStore
from channel_bench.recipe import get_recipe
from channel_bench.record import Job
from channel_bench.training.backends import train_jobs

SPACE = cb.get_space("resnet-mini")
RECIPE = get_recipe("mini", epochs=2, batch_size=600)
JOBS = [Job("4444444", 0, 0), Job("1111111", 0, 0), Job("2341234", 1, 1)]
GPUS = ["cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("space", "devices", "workers", "num_slots", "num_workers"),
    [
        ("resnet", GPUS, {}, 3, 2),
        ("resnet-mini", GPUS, {"stack": 1}, 3, 2),
        ("resnet-mini", GPUS, {}, 1, 6),  # stacks of networks
        ("resnet", GPUS, {"num_workers": 4}, 1, None),  # so many processes were asked for
    ],
)
def test_runs_on_a_gpu_share_a_process(space, devices, workers, num_slots, num_workers):
    plan = Plan(space=cb.get_space(space), archs=["1111111"], num_runs=1)
    setup = _Setup(None, devices, 3, "torch")
    assert _slots_per_worker(plan, Workers(**workers), setup) == num_slots
    if num_workers is not None:
        assert _default_workers(setup, num_slots) == num_workers
    assert _slots_per_worker(plan, Workers(**workers), dataclasses.replace(setup, devices=["cpu"])) == 1
    assert JOBS_PER_SLOT >= 2


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
