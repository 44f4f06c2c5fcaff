"""The table asked as a search space of NASLib: its arguments, its metrics, the values of NATS-Bench's own code."""

import enum
import random

import numpy as np
import pytest
from conftest import make_info, make_rows, write_table

import channel_bench as cb
from channel_bench.adapters.naslib import Metric, SearchSpace
from channel_bench.errors import ArgumentError, MissingDataError, UnknownNameError
from channel_bench.table import Table

DATASET = "digits"


@pytest.fixture(scope="module")
def table():
    return cb.load("resnet-mini")


@pytest.fixture
def graph(table):
    return SearchSpace(table, "4344424", rng=np.random.default_rng(0))


def test_a_query_is_the_tables(table, graph):
    assert graph.query(Metric.TEST_ACCURACY, DATASET) == pytest.approx(table.accuracy("4344424"))
    assert graph.query(Metric.TEST_ACCURACY, DATASET, is_random=1) == table.accuracy("4344424", 1)
    last = SearchSpace(table, "4344424", metric="test_acc")
    assert last.query("TEST_ACCURACY", DATASET) == pytest.approx(table.accuracy("4344424", metric="test_acc"))
    assert graph.query(Metric.FLOPS, DATASET) == table.space.flops("4344424") / 1e6
    assert graph.query(Metric.PARAMETERS, DATASET) == table.space.params("4344424") / 1e6
    seconds = table.column("train_s")[table.space.index("4344424")].mean()
    assert graph.query(Metric.TRAIN_TIME, DATASET) == pytest.approx(seconds)
    assert graph.query(Metric.TRAIN_TIME, DATASET, epoch=4) == pytest.approx(seconds / 4)
    assert graph.query(Metric.EPOCH, DATASET) == 20
    assert graph.query(Metric.HP, DATASET)["flops"] == graph.query(Metric.FLOPS, DATASET)
    raw = graph.query(Metric.RAW, DATASET, epoch=19)
    assert raw["test-loss"] == graph.query(Metric.TEST_LOSS, DATASET, epoch=19)


@pytest.mark.parametrize("name", ["TRAIN_ACCURACY", "TEST_ACCURACY", "TRAIN_LOSS", "TEST_LOSS"])
def test_curves_are_the_tables(table, graph, name):
    curves = table.curves("4344424")[name.lower().replace("accuracy", "acc")].astype(float)
    assert graph.query(name, DATASET, full_lc=True) == pytest.approx(curves.mean(0))
    assert graph.query(name, DATASET, full_lc=True, is_random=2) == pytest.approx(curves[2])
    assert graph.query(name, DATASET, epoch=7) == pytest.approx(curves.mean(0)[7])
    random.seed(0)
    drawn = [tuple(graph.query(name, DATASET, full_lc=True, is_random=True)) for _ in range(20)]
    assert set(drawn) == {tuple(curve) for curve in curves.tolist()}  # whole runs, never a mixture


def test_the_metric_of_naslib_itself_is_understood(graph):
    other = enum.Enum("Metric", list(reversed(Metric.__members__)))  # NASLib's: another class, other values
    assert graph.query(other.TEST_LOSS, DATASET, epoch=3) == graph.query(Metric.TEST_LOSS, DATASET, epoch=3)
    assert graph.query(metric=other.FLOPS, dataset=DATASET, path="x", epoch=-1, full_lc=False, dataset_api={}) > 0


def test_the_values_are_those_of_nats_bench_itself(table):
    """NASLib's search space hands a query on to NATS-Bench, so its values are the reference."""
    pytest.importorskip("nats_bench", reason="no nats_bench here: pip install 'channel-bench[adapters]'")
    from natsbench import real_api

    indices = [0, 77, table.space.index("4344424"), 16383]
    api = real_api(table, indices)
    keys = {"TRAIN_ACCURACY": "train-accuracy", "TEST_ACCURACY": "test-accuracy"}
    keys |= {"TRAIN_LOSS": "train-loss", "TEST_LOSS": "test-loss", "TRAIN_TIME": "train-all-time"}
    for index in indices:
        graph = SearchSpace(table, index)
        for name, key in keys.items():
            theirs = [api.get_more_info(index, "cifar10", e, hp="20", is_random=False)[key] for e in range(20)]
            assert graph.query(name, DATASET, full_lc=True, hp=20) == pytest.approx(theirs)
            one = api.get_more_info(index, "cifar10", 5, hp="20", is_random=1)[key]
            assert graph.query(name, DATASET, epoch=5, is_random=1) == pytest.approx(one)
        costs = api.get_cost_info(index, "cifar10", hp="20")
        found = [graph.query(name, DATASET) for name in ("FLOPS", "PARAMETERS")]
        assert found == pytest.approx([costs["flops"], costs["params"]])


def test_a_search_loop_walks_the_space(table, graph):
    archs = list(graph.get_arch_iterator())
    assert len(archs) == len(set(archs)) == 16384 and archs[1] == table.space.channels("1111112")
    child = SearchSpace(table, rng=np.random.default_rng(1))
    assert child.arch == "4444444"
    seen = set()
    for _ in range(300):
        child.mutate(graph)
        assert sum(a != b for a, b in zip(child.arch, graph.arch, strict=True)) == 1
        seen.add(child.get_hash())
    neighbours = {other.get_hash() for other in graph.get_nbhd()}
    assert len(neighbours) == 21 and seen == neighbours
    child.set_spec(archs[5])
    assert child.get_channels() == list(archs[5]) and child.arch == table.space.text(5)
    first, again = (SearchSpace(table, rng=np.random.default_rng(7)) for _ in range(2))
    for each in (first, again):
        each.sample_random_architecture(dataset_api=None)
    assert first.get_hash() == again.get_hash() and first.get_type() == "resnet-mini" and first.QUERYABLE


def test_neighbours_answer_as_their_parent_does(table):
    parent = SearchSpace(table, metric="test_acc", search_on="test", rng=np.random.default_rng(0))
    other = parent.get_nbhd()[0]
    assert other.query("VAL_ACCURACY") == pytest.approx(table.accuracy(other.arch, metric="test_acc"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("VAL_ACCURACY", DATASET), MissingDataError, "no validation split"),
        (("VAL_LOSS", DATASET, None, 3, True), MissingDataError, "no validation split"),
        (("TEST_TIME", DATASET), MissingDataError, "TRAIN_TIME has the evaluations in it"),
        (("LATENCY", DATASET), MissingDataError, "a table holds no latencies"),
        (("TEST_ACC", DATASET), UnknownNameError, "unknown metric 'TEST_ACC'.*did you mean 'TEST_ACCURACY'"),
        (("TEST_ACCURACY", "cifar10"), MissingDataError, "has no results on 'cifar10'"),
        (("TEST_ACCURACY", DATASET, None, 20), ArgumentError, "iepoch is 20: allowed are 0..19"),
        (("FLOPS", DATASET, None, -1, True), ArgumentError, "FLOPS has no learning curve"),
        (("TEST_LOSS", DATASET), MissingDataError, "the same epoch"),
    ],
)
def test_what_a_table_does_not_hold_says_why(graph, arguments, error, message):
    with pytest.raises(error, match=message):
        graph.query(*arguments)


@pytest.mark.parametrize("options", [{}, {"is_random": True}, {"full_lc": True}, {"full_lc": True, "is_random": True}])
def test_an_architecture_that_was_not_trained_says_so(tmp_path, options):
    space = cb.get_space("resnet-mini")
    small = Table.read(write_table(tmp_path / "t.parquet", make_rows(space, 64, 2), make_info(space)))
    with pytest.raises(MissingDataError, match="no finished run of architecture 1111112"):
        SearchSpace(small, "1111112").query("TEST_ACCURACY", **options)
    with pytest.raises(MissingDataError, match="no learning curves"):
        SearchSpace(small, "1111111").query("TEST_ACCURACY", full_lc=True)


@pytest.mark.parametrize("run", [3, -1, 1.5])
def test_a_run_that_is_not_there_says_so(graph, run):
    for full_lc in (False, True):
        with pytest.raises(ArgumentError, match="is_random is .*: allowed are False, True and the runs"):
            graph.query("TEST_LOSS", DATASET, None, 3, full_lc, is_random=run)


def test_a_search_may_see_the_test_images_where_it_is_told_to(table):
    graph = SearchSpace(table, "4344424", search_on="test")
    assert graph.query(Metric.VAL_ACCURACY, DATASET) == graph.query(Metric.TEST_ACCURACY, DATASET)
    assert graph.query(Metric.VAL_LOSS, DATASET, full_lc=True) == graph.query(Metric.TEST_LOSS, DATASET, full_lc=True)
    with pytest.raises(ArgumentError, match="search_on is 'valid'"):
        SearchSpace(table, search_on="valid")
