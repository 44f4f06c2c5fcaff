"""The evidence of a report: gathered once, every correlation computed once, the same wherever it is asked from."""

import sys
from collections import Counter

import numpy as np
import pytest
from conftest import make_info, make_rows, write_table

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.table import Table
from harness.judge.baselines import BASELINES
from harness.judge.comparison import compare
from harness.judge.evidence import Evidence
from harness.judge.verdict import make_report
from harness.scores import make_scores
from harness.stats import metrics

SPACE = cb.get_space("resnet-mini")


def scores_of(values, name, indices=None, **facts):
    indices = np.arange(16384) if indices is None else indices
    return make_scores(name, SPACE, indices, values, facts)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("evidence") / "small.parquet"
    return Table.read(write_table(path, make_rows(SPACE, 120, 3), make_info(SPACE)))


@pytest.fixture(scope="module")
def rankings():
    """Two seeds of one method, and another method."""
    rng = np.random.default_rng(0)
    return [scores_of(rng.normal(size=16384), name, seed=seed) for name, seed in (("a", 0), ("a", 1), ("b", 0))]


@pytest.fixture
def calls(monkeypatch):
    """How often `correlations` and `equal_flops` are called with each array of scores, by whichever name."""
    counts = {"correlations": Counter(), "equal_flops": Counter()}
    for name, counter in counts.items():
        real = getattr(metrics, name)

        def counted(scores, *arguments, real=real, counter=counter, **options):
            counter[np.asarray(scores).tobytes()] += 1
            return real(scores, *arguments, **options)

        for module in list(sys.modules.values()):
            if module.__name__.startswith("harness.") and getattr(module, name, None) is real:
                monkeypatch.setattr(module, name, counted)
    return counts


def test_a_report_computes_every_correlation_once(calls, table, rankings):
    make_report(rankings, table, num_replicates=4, num_draws=2)
    columns = [each.tobytes() for group in Evidence.gather(rankings, table).columns.values() for each in group]
    assert len(columns) == 3 + len(BASELINES)
    assert [calls["correlations"][column] for column in columns] == [1] * len(columns)
    assert [calls["equal_flops"][column] for column in columns] == [1] * len(columns)
    # Nothing else is held against anything at equal FLOPs; other correlations are those of simulated ceilings.
    assert calls["equal_flops"].total() == len(columns)


def test_a_comparison_does_not_compute_what_it_was_not_asked_for(calls, table, rankings):
    compare(rankings, table)
    assert calls["correlations"].total() == 3 + len(BASELINES) and calls["equal_flops"].total() == 0


def test_arrays_are_of_the_architectures_that_all_score_and_that_are_trained(table):
    first = scores_of(np.arange(8000.0), "a", np.arange(8000))
    second = scores_of(np.arange(15000.0), "b", np.arange(1000, 16000))
    evidence = Evidence.gather([first, second], table, run=1)
    trained = np.isfinite(table.accuracies(1))
    expected = [index for index in range(1000, 8000) if trained[index]]
    assert np.flatnonzero(evidence.compared).tolist() == expected and 40 < len(expected) < 60
    assert evidence.columns["a"][0].tolist() == expected
    assert evidence.columns["b"][0].tolist() == [index - 1000 for index in expected]
    assert evidence.truth.tolist() == table.accuracies(1)[expected].tolist()
    assert evidence.cells.tolist() == table.cells()[expected].tolist()
    assert evidence.labels.tolist() == [[value] for value in evidence.truth.tolist()]
    assert evidence.flops.tolist() == SPACE.flops()[expected].tolist()
    assert evidence.archs.tolist() == SPACE.archs()[expected].tolist()


def test_scores_of_another_space_or_without_truth_are_refused(table):
    other = make_scores("a", cb.get_space("mobilenet-mini"), np.arange(5), np.arange(5.0), {})
    with pytest.raises(ArgumentError, match="scores are of space 'mobilenet-mini', table .* of 'resnet-mini'"):
        Evidence.gather(other, table)
    with pytest.raises(ArgumentError, match="1 architectures have both a score and an accuracy"):
        Evidence.gather(scores_of([1.0], "a", np.flatnonzero(np.isfinite(table.accuracies()))[:1]), table)
    with pytest.raises(ArgumentError, match="rankings of 'mine' are nothing: allowed is one `Scores` for each seed"):
        Evidence.gather({"mine": []}, table)
