"""What a build is asked for is checked when it is written down, before anything is loaded or touched."""

import pytest

import channel_bench as cb
from channel_bench.builder.plan import Plan, Workers
from channel_bench.errors import ArchError, ArgumentError, UnknownNameError
from channel_bench.recipe import get_recipe
from channel_bench.record import Job

SPACE = cb.get_space("resnet-mini")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_runs": 0}, "number of runs is 0: allowed are 1..32767"),
        ({"num_runs": 40000}, "number of runs is 40000"),
        ({"base_seed": -1}, "base seed -1 is out of range"),
        ({"base_seed": 10**20}, "allowed are 0..4611686018427387904"),
        ({"shard": (3, 2)}, "shard 3 of 2 does not exist: allowed are 1..2"),
        ({"shard": (1, 2)}, "1 architectures cannot make 2 shards"),
    ],
)
def test_a_plan_refuses_bad_values(values, message):
    with pytest.raises(ArgumentError, match=message):
        Plan(**{"space": SPACE, "archs": ["1111111"], "num_runs": 1, **values})


def test_a_plan_refuses_what_is_no_architecture():
    with pytest.raises(ArchError, match="1111115"):
        Plan(space=SPACE, archs=["1111115"], num_runs=1)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"num_workers": 0}, ArgumentError, "number of workers is 0"),
        ({"stack": 0}, ArgumentError, "number of networks in a stack is 0"),
        ({"threads": 0}, ArgumentError, "number of threads is 0"),
        ({"runs_per_gpu": 33}, ArgumentError, "number of runs per GPU is 33: allowed are 1..32"),
        ({"runs_per_gpu": None, "engine": "ray"}, ArgumentError, "with engine ray, give a number"),
        ({"max_retries": -1}, ArgumentError, "number of retries is -1: allowed are 0..32767"),
        ({"engine": "slurm"}, UnknownNameError, "slurm"),
        ({"address": "auto"}, ArgumentError, "address 'auto' is for a Ray cluster: add --engine ray"),
        ({"backend": "numpy"}, ArgumentError, "allowed are auto, native, torch"),
    ],
)
def test_workers_refuse_bad_values(values, error, message):
    with pytest.raises(error, match=message):
        Workers(**values)


def test_a_plan_counts_an_architecture_once_and_takes_the_defaults_of_its_space():
    plan = Plan(space=SPACE, archs=["4444444", "1111111", "4444444"], num_runs=2, base_seed=5)
    assert plan.jobs() == [Job(arch, run, 5 + run) for run in range(2) for arch in ("4444444", "1111111")]
    assert plan.num_planned == 4
    assert (plan.chosen_recipe, plan.chosen_dataset) == (get_recipe("mini"), "digits")
    assert plan.request() == ""


def test_only_the_shards_of_one_request_share_its_name():
    def request(shard, num_runs=1):
        return Plan(space=SPACE, archs=["1111111", "4444444"], num_runs=num_runs, shard=shard).request()

    assert request((1, 2)) == request((2, 2)) != request((1, 2), num_runs=2)
