"""The facade of NATS-Bench beside NATS-Bench itself, on the same results."""

import random

import pytest
from natsbench import real_api
from optional import needs

import channel_bench as cb
from channel_bench.nats import create

pytestmark = needs("nats_bench")


@pytest.fixture(scope="module")
def table():
    return cb.load("mobilenet-mini")


@pytest.fixture(scope="module")
def indices(table):
    return [0, 1, 5000, table.space.index("4344424"), 16383]


@pytest.fixture(scope="module")
def real(table, indices):
    return real_api(table, indices)


def test_names_and_numbers_of_architectures_are_the_same(table, indices, real):
    api = create(table)
    assert len(api) == len(real) and all(api[index] == real[index] for index in range(0, 16384, 97))
    assert [api.query_index_by_arch(real[index]) for index in indices] == indices


@pytest.mark.parametrize("epoch", [None, 0, 7, 19])
@pytest.mark.parametrize("run", [False, 0, 2])
def test_more_info_is_the_same(table, indices, real, epoch, run):
    api = create(table, metric="test_acc")
    for index in indices:
        ours = api.get_more_info(real[index], "digits", epoch, hp="20", is_random=run)
        theirs = real.get_more_info(real[index], "cifar10", epoch, hp="20", is_random=run)
        shared = set(ours) & set(theirs) - {"comment"}
        assert shared == set(ours) - {"comment"} and len(shared) == 6
        assert {key: ours[key] for key in shared} == pytest.approx({key: theirs[key] for key in shared})


def test_costs_and_simulated_trainings_are_the_same(table, indices, real):
    api = create(table, metric="test_acc", search_on="test")
    for index in indices:
        costs = real.get_cost_info(index, "cifar10", hp="20")
        ours = dict(api.get_cost_info(index, "digits", "20"))
        assert ours == pytest.approx({key: costs[key] for key in ours})
    found = []
    for each, dataset in ((api, "digits"), (real, "cifar10")):
        random.seed(5)  # both draw the run from Python's global generator
        answers = [each.simulate_train_eval(index, dataset, hp="20") for index in indices]
        found.append([(accuracy, seconds, used) for accuracy, _, seconds, used in answers])
        assert each.used_time == pytest.approx(found[-1][-1][2])
    assert [value for row in found[0] for value in row] == pytest.approx([value for row in found[1] for value in row])
