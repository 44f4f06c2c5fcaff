"""The fast way to find theories against the plain one, and their mean as a free score."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SCRIPTS
from families import mixed, plain, space_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from slow_theories import slow_theories

import channel_bench as cb
from channel_bench.errors import ArgumentError
from harness.judge.baselines import baseline_scores
from harness.stats import theories as module
from harness.stats.metrics import kendall
from harness.stats.theories import mean_of_theories, theories

PERF = Path(__file__).parents[1] / "perf"
FEW = ("no-classifier", "inner", "root-depth", "half", "n_in", "n_out", "acts", "n_harm", "inv", "root")
"""Parts to leave out where a quick test will do."""


@pytest.mark.parametrize(
    ("space", "leave_out"),
    [
        (cb.get_space("resnet-mini"), ()),
        (cb.get_space("mobilenet"), FEW[:5]),
        (space_of(mixed), ("spatial", "one", "log")),
        (space_of(plain), FEW[2:]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_fast_way_finds_what_the_plain_one_does(space, leave_out):
    names, scores, ranks = slow_theories(space, leave_out)
    found = theories(space, leave_out)
    assert found.names == names and len(names) > 10
    assert np.array_equal(found.scores, scores) and np.array_equal(found.ranks, ranks)


@pytest.mark.parametrize("some", [slice(0, 1), slice(0, 64), slice(None, None, 4096)])
def test_theories_that_some_architectures_cannot_tell_apart_are_compared_on_all(monkeypatch, some):
    space = cb.get_space("mobilenet-mini")
    expected = theories(space, FEW)
    module._theories.cache_clear()
    monkeypatch.setattr(module, "_SOME", some)
    assert theories(space, FEW).names == expected.names


def test_the_architectures_of_the_first_look_have_every_width_of_every_slot():
    archs = cb.get_space("resnet").archs()[module._SOME]
    assert len(archs) == 269 and all(set(column) == {1, 2, 3, 4} for column in archs.T.tolist())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_arrays_rank_alike_where_their_average_ranks_are_equal(pairs):
    one, other = np.array(pairs, np.float64).T
    alike = np.array_equal(rankdata(one), rankdata(other))
    assert module._rank_alike(one, other) == module._rank_alike(other, one) == alike
    assert (module._order(one) == module._order(other)) == alike
    assert module._rank_alike(one, 2 * one + 1)


def test_ranks_are_computed_when_they_are_asked_for():
    module._theories.cache_clear()
    found = theories(cb.get_space("resnet-mini"), FEW)
    assert "ranks" not in vars(found)
    some = np.array([7, 3, 16000, 250])
    assert np.array_equal(found.ranks_of(some), rankdata(found.scores[:, some].round(7), axis=1))
    assert "ranks" not in vars(found)
    assert found.ranks is found.ranks and not found.ranks.flags.writeable


def test_theories_of_which_none_depends_on_the_widths_are_refused(monkeypatch):
    monkeypatch.setattr(module, "_standardised", lambda space, grammar: iter(()))
    with pytest.raises(ArgumentError, match="no theory that is left depends on the widths: leave out less"):
        theories(cb.get_space("resnet-mini"), ["all"])


# -- their mean ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [cb.get_space("mobilenet-mini"), space_of(mixed)], ids=lambda space: space.name)
def test_the_mean_is_that_of_all_theories_whatever_their_order(space):
    mean = baseline_scores(space)["mean-of-theories"]
    scores = theories(space).scores
    assert np.array_equal(mean, scores.mean(0).round(8)) and np.array_equal(mean, scores[::-1].mean(0).round(8))
    assert np.corrcoef(mean, space.archs().sum(1))[0, 1] > 0.5


def test_the_mean_is_kept_and_the_theories_are_not():
    space = cb.get_space("resnet-mini")
    mean_of_theories.cache_clear()
    module._theories.cache_clear()
    first = mean_of_theories(space)
    assert mean_of_theories(cb.get_space("resnet-mini")) is first and not first.flags.writeable
    assert module._theories.cache_info().currsize == 0


def test_the_mean_is_as_good_as_its_docstring_says():
    for name, tau in (("resnet-mini", 0.744), ("mobilenet-mini", 0.699)):
        assert f"{kendall(mean_of_theories(cb.get_space(name)), cb.load(name).accuracies()):.3f}" == f"{tau:.3f}"
    spaces = json.loads((SCRIPTS.parent / "preregistered" / "consensus.results.json").read_text())["spaces"]
    taus = [found["free"]["mean-of-theories"] for found in spaces.values()]
    assert (len(taus), f"{min(taus):.3f}", f"{max(taus):.3f}") == (5, "0.647", "0.746")
    assert all(figure in " ".join(mean_of_theories.__doc__.split()) for figure in (".744 and .699", ".647 to .746"))


@pytest.mark.slow
def test_the_benchmark_prints_how_much_faster_the_fast_way_is():
    command = [sys.executable, PERF / "bench_theories.py", "--space", "resnet-mini", "--rounds", "1", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["theories"] == 284 and found["times_slow"]["fast"] > 1
