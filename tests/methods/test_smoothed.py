"""Additive fits to scores, averages over seeds, the wrapper around a method, and the ablation of both."""

import dataclasses
import importlib.util
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Isolated
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from scipy.stats import rankdata

import channel_bench as cb
from channel_bench.errors import ArchError, ArgumentError, MethodError, UnknownNameError
from channel_bench.support.terminal import finite
from channel_bench.table import Table
from harness import method as method_module
from harness.judge.baselines import baseline_scores
from harness.judge.comparison import compare
from harness.method import register
from harness.methods import get_method
from harness.ranking.run import rank
from harness.report.sheets import print_comparison
from harness.scores import make_scores, read_scores, write_scores
from harness.smoothing import average_scores, smooth_scores
from harness.stats.additive import FORMS, additive_fit, check_design, fit_effects, num_parameters
from harness.stats.metrics import correlations
from harness.task import make_task, supernet_recipe

SPACE = cb.get_space("resnet-mini")
ARCHS = SPACE.archs()
SOME = SPACE.sample(80, np.random.default_rng(0))
ALL_FORMS = list(FORMS)


def effects_of(form, rng):
    """Effects (7, 4) that a form can be, made without its functions."""
    slopes = rng.normal(size=(7, 1))
    return {
        "onehot": rng.normal(size=(7, 4)),
        "linear": slopes * np.array([0.25, 0.5, 0.75, 1]),
        "log": slopes * np.log([1, 2, 3, 4]),
        "concave": np.sort(rng.exponential(size=(7, 4)), axis=1)[:, ::-1].cumsum(1),
        "log-rising": np.abs(slopes) * np.log([1, 2, 3, 4]),
        # Roots of equal slopes are equal: the only slopes that this form recovers.
        "root-log-rising": np.full((7, 1), abs(slopes[0, 0])) * np.log([1, 2, 3, 4]),
    }[form]


def sums(effects, archs):
    """Sum of effects, slot by slot."""
    return np.array([sum(effects[slot, digit - 1] for slot, digit in enumerate(arch)) for arch in archs])


def onehot_columns(archs):
    """Constant, then an indicator of each width but the first of each slot: (n, 22)."""
    columns = [np.ones(len(archs))]
    columns += [archs[:, slot] == digit for slot in range(7) for digit in (2, 3, 4)]
    return np.column_stack(columns).astype(float)


# -- the fit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ALL_FORMS)
def test_additive_scores_are_recovered_from_a_few_of_them(form):
    rng = np.random.default_rng(1)
    effects = effects_of(form, rng)
    scores = 70 + sums(effects, SOME)
    fit = fit_effects(SOME, scores, form, SPACE)
    assert np.allclose(fit.predict(ARCHS), 70 + sums(effects, ARCHS), atol=1e-7)
    assert np.allclose(fit.effects, effects - effects.mean(1, keepdims=True), atol=1e-7)
    assert fit.r2 == pytest.approx(1) and fit.num_scores == 80 and fit.form == form
    assert (additive_fit(SOME, scores, form, SPACE) == fit.predict(ARCHS)).all()


@pytest.mark.parametrize(
    ("form", "columns"),
    [
        ("onehot", onehot_columns),
        ("linear", lambda archs: np.column_stack([np.ones(len(archs)), archs])),
        ("log", lambda archs: np.column_stack([np.ones(len(archs)), np.log(archs / 4)])),
    ],
)
def test_unconstrained_forms_are_numpys_least_squares(form, columns):
    rng = np.random.default_rng(2)
    for archs in (SOME, ARCHS):
        scores = rng.normal(size=len(archs))
        solution = np.linalg.lstsq(columns(archs), scores, rcond=None)[0]
        fit = fit_effects(archs, scores, form, SPACE)
        assert np.allclose(fit.predict(ARCHS), columns(ARCHS) @ solution, atol=1e-8)
        residual = scores - columns(archs) @ solution
        assert fit.r2 == pytest.approx(1 - residual.var() / scores.var(), abs=1e-9)


def test_on_the_full_factorial_design_onehot_effects_are_slot_means():
    scores = np.random.default_rng(3).gumbel(size=16384)
    fit = fit_effects(ARCHS, scores, "onehot", SPACE)
    means = np.array([[scores[ARCHS[:, slot] == digit].mean() for digit in (1, 2, 3, 4)] for slot in range(7)])
    assert np.allclose(fit.effects, means - scores.mean()) and fit.intercept == pytest.approx(scores.mean())


def best_concave(target):
    """Least squares to four values by a non-decreasing concave function plus a constant: all active sets tried."""
    ramps = np.array([[0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]], float).T
    best, least = None, np.inf
    for used in itertools.chain.from_iterable(itertools.combinations(range(3), k) for k in range(4)):
        design = np.column_stack([np.ones(4), ramps[:, list(used)]])
        solution = np.linalg.lstsq(design, target, rcond=None)[0]
        error = ((design @ solution - target) ** 2).sum()
        if (solution[1:] >= 0).all() and error < least:
            best, least = design @ solution, error
    return best


def test_concave_is_the_best_of_all_active_sets_in_every_slot():
    # The full design is orthogonal between slots, so each slot is a problem of four points.
    rng = np.random.default_rng(4)
    scores = sums(np.concatenate([rng.normal(size=(6, 4)), [[1, 0.5, 0.2, 0]]]), ARCHS) + rng.normal(size=16384)
    free = fit_effects(ARCHS, scores, "onehot", SPACE).effects
    fit = fit_effects(ARCHS, scores, "concave", SPACE)
    assert np.allclose(fit.effects, [best_concave(row) for row in free], atol=1e-8)
    assert (fit.effects[6] == 0).all()  # a slot whose scores fall throughout has no effect


def test_concave_is_scipys_bounded_least_squares_on_part_of_the_space():
    rng = np.random.default_rng(5)
    scores = rng.normal(size=80)

    def columns(archs):
        ramps = [np.minimum(archs - 1, height) for height in (1, 2, 3)]
        return np.column_stack([np.ones(len(archs)), *ramps]).astype(float)

    lower = np.r_[-np.inf, np.zeros(21)]
    solution = lsq_linear(columns(SOME), scores, (lower, np.inf), method="bvls", tol=1e-14).x
    assert np.allclose(additive_fit(SOME, scores, "concave", SPACE), columns(ARCHS) @ solution, atol=1e-6)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_concave_effects_never_fall_and_level_off(seed):
    fit = fit_effects(SOME, np.random.default_rng(seed).normal(size=80), "concave", SPACE)
    steps = np.diff(fit.effects, axis=1)
    assert (steps >= -1e-12).all() and (np.diff(steps, axis=1) <= 1e-12).all()


def test_concave_is_onehot_where_that_obeys_the_constraints():
    rng = np.random.default_rng(6)
    steps = np.array([3.0, 2.0, 1.0])
    scores = sums(np.tile(np.r_[0, steps.cumsum()], (7, 1)), SOME) + 0.1 * rng.normal(size=80)
    free = fit_effects(SOME, scores, "onehot", SPACE)
    slopes = np.diff(free.effects, axis=1)
    assert (slopes > 0).all() and (np.diff(slopes, axis=1) < 0).all() and free.r2 < 1 - 1e-5
    assert np.allclose(fit_effects(SOME, scores, "concave", SPACE).effects, free.effects, atol=1e-9)


@given(
    form=st.sampled_from(ALL_FORMS),
    seed=st.integers(0, 2**32 - 1),
    factor=st.floats(1e-3, 1e3),
    offset=st.floats(-1e3, 1e3),
)
@settings(max_examples=40, deadline=None)
def test_a_factor_and_an_offset_of_scores_are_those_of_the_fit(form, seed, factor, offset):
    scores = np.random.default_rng(seed).normal(size=80)
    changed = additive_fit(SOME, factor * scores + offset, form, SPACE)
    expected = factor * additive_fit(SOME, scores, form, SPACE) + offset
    assert np.allclose(changed, expected, rtol=0, atol=1e-7 * (factor + 1e-3 * abs(offset)))


@given(form=st.sampled_from(ALL_FORMS), order=st.permutations(range(80)))
@settings(max_examples=30, deadline=None)
def test_the_order_of_scores_does_not_matter(form, order):
    scores = np.random.default_rng(7).normal(size=80)
    shuffled = additive_fit(SOME[order], scores[order], form, SPACE)
    assert np.allclose(shuffled, additive_fit(SOME, scores, form, SPACE), atol=1e-8)


@pytest.mark.parametrize("factor", [1e-310, 1e-200, 1e200, 1e300])
@pytest.mark.parametrize("form", ALL_FORMS)
def test_tiny_and_huge_scores_fit_alike(form, factor):
    scores = np.random.default_rng(8).normal(size=80)
    expected = additive_fit(SOME, scores, form, SPACE)
    found = additive_fit(SOME, scores * factor, form, SPACE) / factor
    assert np.allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("form", "baseline"), [("log", "sum-log-width"), ("linear", "digit-sum"), ("onehot", "digit-sum")]
)
def test_sums_that_are_equal_on_paper_tie(form, baseline):
    exact = baseline_scores(SPACE)[baseline]
    found = additive_fit(SOME, exact[SPACE.index(SOME)], form, SPACE)
    assert len(np.unique(found)) == len(np.unique(exact))
    assert correlations(found, exact).kendall == pytest.approx(1, abs=1e-12)


def test_a_concave_fit_to_scores_that_fall_with_every_width_is_constant():
    assert len(np.unique(additive_fit(SOME, -SOME.sum(1), "concave", SPACE))) == 1


def test_noise_falls_to_the_share_that_the_parameters_can_hold():
    rng = np.random.default_rng(9)
    truth = sums(effects_of("concave", rng), ARCHS)
    noise = rng.normal(size=16384) * truth.std()
    for form in ("onehot", "concave"):
        error = additive_fit(ARCHS, truth + noise, form, SPACE) - truth
        assert error.std() < 1.5 * noise.std() * np.sqrt(22 / 16384)


NARROW = ARCHS[(ARCHS != 3).all(1)]
TOGETHER = ARCHS[ARCHS[:, 2] == ARCHS[:, 5]]


@pytest.mark.parametrize(
    ("archs", "form", "message"),
    [
        (ARCHS[:21], "onehot", "21 scores cannot determine the 22 parameters .* at least 22, or take form 'log'"),
        (ARCHS[:7], "log", "7 scores cannot determine the 8 parameters of additive form 'log': give at least 8$"),
        (ARCHS[:0], "linear", "0 scores cannot determine"),
        (ARCHS[:4096], "linear", "slot 0 of the 4096 scored architectures has 1 of 4 widths: .* 'linear' needs 2"),
        (NARROW, "concave", "slot 0 of the 2187 scored architectures has 3 of 4 widths: .* 'concave' needs 4"),
        (TOGETHER, "onehot", "cannot tell the 22 parameters of additive form 'onehot' apart"),
        (TOGETHER, "log", "cannot tell the 8 parameters of additive form 'log' apart"),
    ],
)
def test_architectures_that_do_not_determine_the_fit_are_refused(archs, form, message):
    scores = np.arange(len(archs), dtype=float)
    for function in (lambda: additive_fit(archs, scores, form, SPACE), lambda: check_design(archs, form, SPACE)):
        with pytest.raises(ArgumentError, match=message) as caught:
            function()
        assert "\n" not in str(caught.value)


def test_scores_that_have_no_fit_are_refused():
    scores = np.arange(80.0)
    for value in (np.nan, np.inf):
        with pytest.raises(ArgumentError, match=f"score of architecture {SPACE.text(SOME[3])} is {value}"):
            additive_fit(SOME, np.where(np.arange(80) == 3, value, scores), "log", SPACE)
    with pytest.raises(ArgumentError, match="all 80 scores are 5.0"):
        additive_fit(SOME, np.full(80, 5.0), "log", SPACE)
    for wrong in (scores[:79], scores[:, None]):
        with pytest.raises(ArgumentError, match=r"scores of 80 architectures have shape \(.*\): allowed is"):
            additive_fit(SOME, wrong, "log", SPACE)
    with pytest.raises(UnknownNameError, match="unknown additive form 'cubic'"):
        additive_fit(SOME, scores, "cubic", SPACE)
    with pytest.raises(ArchError, match="row 79"):
        additive_fit([*SOME[:79].tolist(), [5] * 7], scores, "log", SPACE)


def test_forms_have_the_parameters_that_they_say():
    assert {form: num_parameters(form) for form in FORMS} == {
        "onehot": 22,
        "linear": 8,
        "log": 8,
        "concave": 22,
        "log-rising": 8,
        "root-log-rising": 8,
    }


# -- scores -----------------------------------------------------------------------------------------------------


def noisy_scores(name="mine", seed=0, count=16384, **facts):
    rng = np.random.default_rng(seed)
    # A multiple of 256 is an architecture of the small table; all seeds score the same architectures.
    others = np.random.default_rng(0).permutation(np.flatnonzero(np.arange(16384) % 256))
    indices = np.sort(np.r_[np.arange(0, 16384, 256), others][:count])
    return make_scores(name, SPACE, indices, ARCHS[indices].sum(1) + rng.normal(size=count), {"seed": seed, **facts})


def test_smoothed_scores_cover_the_space_and_say_what_they_are():
    scores = noisy_scores(count=600, dataset="digits")
    smooth = smooth_scores(scores, "linear")
    assert smooth.method == "mine+linear" and not smooth.missing
    assert (smooth.values == additive_fit(ARCHS[scores.indices], scores.values, "linear", SPACE)).all()
    assert smooth.facts["dataset"] == "digits"
    facts = smooth.facts["smoothing"]
    assert 0.8 < facts.pop("r2") < 1
    assert facts == {"form": "linear", "num_scores": 600, "of_num_scores": 600, "seed": None}


def test_a_seed_draws_the_samples_of_a_fit():
    scores = noisy_scores(count=500)
    one, again, other = (smooth_scores(scores, "log", 50, seed) for seed in (0, 0, 1))
    assert (one.values == again.values).all() and not (one.values == other.values).all()
    assert one.facts["smoothing"]["num_scores"] == 50 and one.facts["smoothing"]["seed"] == 0
    assert (smooth_scores(scores, "log", 500).values == smooth_scores(scores, "log").values).all()


@pytest.mark.parametrize("samples", [0, -1, 21, 501, True, 30.0, "many"])
def test_impossible_numbers_of_samples_are_refused(samples):
    with pytest.raises(ArgumentError, match="allowed are 22, which it needs at least, to 500"):
        smooth_scores(noisy_scores(count=500), "onehot", samples)


def test_scores_that_cannot_be_smoothed_are_named():
    with pytest.raises(ArgumentError, match="10 scores are too few for form .onehot.: give at least 22"):
        smooth_scores(noisy_scores(count=10), "onehot", 30)
    with pytest.raises(ArgumentError, match="'flat' cannot be smoothed: all 16384 scores are 1.0"):
        smooth_scores(make_scores("flat", SPACE, np.arange(16384), np.ones(16384)), "log")


def test_an_average_is_over_what_all_seeds_have():
    parts = [
        make_scores("a", SPACE, [1, 2, 3, 5], [1.0, 2.0, 4.0, 9.0], {"seed": 0, "dataset": "digits", "fit_s": 1.5}),
        make_scores("a", SPACE, [5, 3, 2, 9], [2.0, 1.0, 3.0, 7.0], {"seed": 1, "dataset": "digits", "fit_s": 2.25}),
    ]
    mean = average_scores(parts)
    assert mean.indices.tolist() == [2, 3, 5] and mean.values == pytest.approx([2.5, 2.5, 5.5])
    assert mean.values[0] == mean.values[1] and mean.method == "mean2(a)"
    assert mean.facts == {
        "dataset": "digits",
        "fit_s": 3.75,
        "average": {"how": "mean", "num": 2, "methods": ["a", "a"], "differing": {"seed": [0, 1]}},
    }
    # Ranks among the common three: (1, 2, 3) and (3, 1, 2).
    ranks = average_scores(parts, "rank")
    assert ranks.values == pytest.approx([2, 1.5, 2.5]) and ranks.method == "rank-mean2(a)"
    assert average_scores(parts[:1]).values.tolist() == parts[0].values.tolist()


def test_the_average_of_ranks_gives_ties_their_average_rank_and_ignores_scales():
    rng = np.random.default_rng(10)
    parts = [make_scores(f"m{i}", SPACE, np.arange(300), rng.integers(0, 9, 300) * 10.0**i) for i in range(4)]
    found = average_scores(parts, "rank")
    assert np.allclose(found.values, np.mean([rankdata(part.values) for part in parts], axis=0))
    assert found.method == "rank-mean4(m0, ..., m3)"


@pytest.mark.parametrize("num", [3, 6, 7])
def test_means_that_are_equal_on_paper_tie(num):
    # 90.11, 90.12, ... in another order for each architecture: every mean is the same, every float sum is not.
    values = 90 + np.arange(1, num + 1) / 100
    rows = np.array([np.roll(values, shift) for shift in range(num)])
    high = np.full((num, 1), 95.0)
    parts = [make_scores("a", SPACE, np.arange(num + 1), row) for row in np.hstack([rows, high])]
    assert len(set(average_scores(parts).values[:num].tolist())) == 1


def test_facts_that_some_parts_lack_are_no_facts_of_the_average():
    one = noisy_scores("a", 0, fit_s=1.0, score_s="2", recipe={"name": "mini"})
    other = noisy_scores("b", 1, score_s=2.0, recipe={"name": "mini"})
    facts = average_scores([one, other]).facts
    assert facts["recipe"] == {"name": "mini"} and facts["average"]["methods"] == ["a", "b"]
    assert facts["average"]["differing"] == {"seed": [0, 1], "fit_s": [1.0, None], "score_s": ["2", 2.0]}
    json.dumps(facts)


def test_what_has_no_average_is_refused():
    one, other = noisy_scores(seed=0), noisy_scores(seed=1)
    for parts, how, message in (
        ([], "mean", "no scores to average"),
        ([one, other, one], "mean", r"scores 1 \(mine\) and 3 \(mine\) are the same"),
        ([one, dataclasses.replace(other, space=cb.get_space("resnet"))], "mean", "scores space 'resnet', the first"),
        (
            [make_scores("a", SPACE, [1], [1.0]), make_scores("b", SPACE, [2], [1.0])],
            "rank",
            "no architecture is scored in all 2",
        ),
    ):
        with pytest.raises(ArgumentError, match=message):
            average_scores(parts, how)
    with pytest.raises(UnknownNameError, match="unknown average 'median': known are mean, rank"):
        average_scores([one, other], "median")


def test_averaging_seeds_and_fitting_each_take_out_noise():
    truth = ARCHS.sum(1)
    seeds = [noisy_scores(seed=seed) for seed in range(4)]

    def error(scores):
        return np.std(scores.values - truth)

    raw, mean, fit = error(seeds[0]), error(average_scores(seeds)), error(smooth_scores(seeds[0], "linear"))
    assert mean == pytest.approx(raw / 2, rel=0.05) and fit < 0.1 * raw


def test_reports_say_what_was_done_to_scores(small_table_path, capsys):
    seeds = [noisy_scores(seed=seed, dataset="digits") for seed in range(3)]
    scores = smooth_scores(average_scores(seeds, "rank"), "log", 256)
    print_comparison(compare(scores, Table.read(small_table_path)))
    shown = capsys.readouterr().out
    assert "rank-mean3(mine)+log" in shown
    assert "mean rank of 3 score files that differ in seed; additive fit 'log' to 256 of 16384 scores, R2 0." in shown
    odd = make_scores("odd", SPACE, [0, 256], [1.0, 2.0], {"average": 3, "smoothing": {"form": 1}})
    print_comparison(compare(odd, Table.read(small_table_path)))
    odd = make_scores("odd", SPACE, [0, 256], [1.0, 2.0], {"average": {"differing": 5}})
    print_comparison(compare(odd, Table.read(small_table_path)))


# -- the wrapper ------------------------------------------------------------------------------------------------


class Counting:
    """A method whose scores are noisy sums of digits; notes how often it was fitted and what it scored."""

    def __init__(self, sigma: float = 1.0) -> None:
        self.sigma = sigma
        self.fits = 0
        self.scored = []

    def fit(self, task):
        self.fits += 1
        self.noise = np.random.default_rng(0).normal(size=16384) * self.sigma
        return self

    def score(self, archs):
        self.scored.append(SPACE.index(archs))
        return archs.sum(1) + self.noise[SPACE.index(archs)]

    def columns(self, archs):
        return {"val_loss": -archs.sum(1).astype(float)}


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setattr(method_module.METHODS, "_known", Isolated(method_module.METHODS))
    return register("counting", paper="none", summary="counts")(Counting)


@pytest.fixture
def task(digits):
    return make_task(SPACE, digits, recipe=supernet_recipe(SPACE, 1))


def test_a_name_with_a_plus_ranks_by_a_fit_to_the_methods_own_scores(counting, task):
    raw = rank("counting", get_method("counting"), task)
    for form in ("log", "concave"):
        method = get_method(f"counting+{form}")
        scores = rank(f"counting+{form}", method, task)
        assert (scores.values == smooth_scores(raw, form).values).all()
        assert method.method.fits == 1
        assert np.concatenate(method.method.scored).tolist() == list(range(16384))  # once each


def test_samples_are_all_that_is_scored(counting, task):
    method = get_method("counting+log", samples=100, sigma=0.5)
    evaluator = method.fit(task)
    scores = evaluator.score(ARCHS)
    evaluator.score(SOME)
    (scored,) = method.method.scored
    assert method.method.sigma == 0.5 and len(set(scored.tolist())) == 100
    assert (scores == additive_fit(ARCHS[scored], method.method.score(ARCHS[scored]), "log", SPACE)).all()
    assert evaluator.columns(ARCHS[:3]) == {}
    other = get_method("counting+log", samples=100).fit(dataclasses.replace(task, seed=1))
    other.score(SOME)
    assert set(other.inner.scored[0].tolist()) != set(scored.tolist())


def test_the_evaluator_keeps_the_contract_and_the_methods_own_columns(counting, task):
    evaluator = get_method("counting+concave").fit(task)
    order = np.random.default_rng(1).permutation(16384)
    assert (evaluator.score(ARCHS[order]) == evaluator.score(ARCHS)[order]).all()
    columns = evaluator.columns(SOME)
    assert set(columns) == {"raw_score", "val_loss"}
    assert (columns["raw_score"] == Counting().fit(None).score(SOME)).all()
    assert (columns["val_loss"] == -SOME.sum(1)).all()
    assert sum(map(len, evaluator.inner.scored)) == 16384
    assert evaluator.slot_effects().shape == (7, 4)


def test_what_can_be_wrong_is_found_before_training(counting, task):
    with pytest.raises(UnknownNameError, match="unknown method 'countin'"):
        get_method("countin+log")
    for name in ("counting+cubic", "counting+", "counting+log+log"):
        with pytest.raises(UnknownNameError, match="unknown form"):
            get_method(name)
    with pytest.raises(ArgumentError, match="has no option 'depth'"):
        get_method("counting+log", depth=3)
    with pytest.raises(ArgumentError, match="has no option 'samples'"):
        get_method("counting", samples=30)
    for samples in (7, 16385, "30", True):
        with pytest.raises(ArgumentError, match="allowed are 8, which it needs at least, to 16,384"):
            get_method("counting+log", samples=samples)
    seeds = []  # of which 22 random architectures do not determine 22 parameters
    for seed in range(20):
        method = get_method("counting+onehot", samples=22)
        try:
            method.fit(dataclasses.replace(task, seed=seed))
        except ArgumentError:
            seeds.append(seed)
            assert method.method.fits == 0
    assert seeds


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda archs: np.ones(len(archs)), "the method's scores cannot be smoothed: all 16384 scores are 1.0"),
        (lambda archs: np.full(len(archs), np.nan), "returned nan for architecture 1111111"),
        (lambda archs: np.ones(3), "must return float64 of shape"),
    ],
)
def test_a_method_whose_scores_cannot_be_fitted_is_told_why(counting, task, monkeypatch, score, message):
    monkeypatch.setattr(Counting, "score", staticmethod(score))
    with pytest.raises(MethodError, match=message):
        get_method("counting+log").fit(task).score(ARCHS[:5])


def test_a_supernet_is_ranked_by_samples_of_its_scores(task):
    evaluator = get_method("uniform+log", samples=10).fit(task)
    scores = evaluator.score(ARCHS)
    own = evaluator.inner.score(evaluator._archs)
    assert (scores == additive_fit(evaluator._archs, own, "log", SPACE)).all()


def test_finding_a_form_loads_neither_torch_nor_scipy():
    code = "import sys, harness.smoothing, harness.methods.smoothed; print({'torch', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


# -- the command line -------------------------------------------------------------------------------------------


@pytest.fixture
def seed_files(tmp_path):
    paths = [tmp_path / f"seed{seed}.parquet" for seed in range(3)]
    for seed, path in enumerate(paths):
        write_scores(noisy_scores(seed=seed, count=600, dataset="digits"), path)
    return paths


def as_json(row):
    return json.loads(json.dumps(finite(dataclasses.asdict(row))))


def test_files_are_averaged_and_smoothed_from_the_command_line(seed_files, small_table_path, run_cli):
    target = ("--space", "resnet-mini", "--table", small_table_path, "--json")
    parts = [read_scores(path, SPACE) for path in seed_files]
    table = Table.read(small_table_path)
    for options, expected in (
        (("--smooth", "concave"), smooth_scores(parts[0], "concave")),
        (("--smooth", "log", "--smooth-samples", 50), smooth_scores(parts[0], "log", 50)),
    ):
        code, output, _ = run_cli("channel-harness", "score", seed_files[0], *target, *options)
        assert code == 0
        assert json.loads(output)["rows"][0] == as_json(compare(expected, table).rows[0])
    for how in ("mean", "rank"):
        code, output, _ = run_cli(
            "channel-harness", "score", *seed_files, *target, "--average", how, "--smooth", "onehot"
        )
        expected = smooth_scores(average_scores(parts, how), "onehot")
        found = json.loads(output)
        assert code == 0 and found["rows"][0] == as_json(compare(expected, table).rows[0])
        assert found["facts"]["average"]["differing"] == {"seed": [0, 1, 2]}
        assert found["facts"]["smoothing"]["form"] == "onehot"


@pytest.mark.parametrize(
    ("num_files", "options", "message"),
    [
        (2, [], "2 sets of scores: add --average mean"),
        (2, ["--average", "median"], "unknown average 'median'"),
        (1, ["--smooth", "logs"], "unknown form 'logs': known are .*; did you mean 'log'"),
        (1, ["--smooth-samples", 30], "--smooth-samples without --smooth"),
        (1, ["--smooth", "onehot", "--smooth-samples", 9], "allowed are 22"),
        (0, ["--average", "mean"], "Missing argument"),
        (1, ["--average", "mean", "--smooth", "log", "--smooth-samples", 601], "allowed are 8"),
    ],
)
def test_bad_requests_are_one_line(num_files, options, message, seed_files, small_table_path, run_cli):
    target = ("--space", "resnet-mini", "--table", small_table_path)
    code, output, error = run_cli("channel-harness", "score", *seed_files[:num_files], *target, *options)
    assert code == 2 and output == "" and error.count("\n") == 1

    assert re.search(message, error)


def test_released_scores_gain_by_each_form(published, scores_dir, run_cli):
    space = cb.get_space("mobilenet")
    file, table = scores_dir / "bin20_min1_bcnet_2.json", cb.load(space, data_dir=published)
    scores = read_scores(file, space)
    found = {form: compare(smooth_scores(scores, form), table).rows[0].kendall for form in FORMS}
    raw = compare(scores, table).rows[0].kendall
    assert all(kendall > raw + 0.03 for kendall in found.values())
    expected = {
        "onehot": 0.4673,
        "linear": 0.4879,
        "log": 0.5490,
        "concave": 0.5903,
        "log-rising": 0.5525,
        "root-log-rising": 0.6516,
    }
    assert {form: round(kendall, 4) for form, kendall in found.items()} == expected
    words = ("--space", space.name, "--smooth", "log", "--draws", "2")
    code, output, _ = run_cli("channel-harness", "score", file, *words)
    assert code == 0 and ["bin20_min1_bcnet_2+log", "method", "0.5490"] in [
        row.split()[:3] for row in output.splitlines()
    ]


# -- the ablation -----------------------------------------------------------------------------------------------

SCRIPT = Path(__file__).parents[2] / "data" / "scripts" / "ablation.py"


@pytest.fixture
def ablation(monkeypatch):
    specification = importlib.util.spec_from_file_location("ablation", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "ablation", module)  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def loss_files(tmp_path):
    """Two seeds with a column of losses, the second without 1111111."""
    paths = []
    for seed in range(2):
        scores = noisy_scores(seed=seed, count=600)
        frame = pd.DataFrame({"arch": list(map(SPACE.text, scores.indices.tolist())), "score": scores.values})
        frame["val_loss"] = 50 - scores.values + np.random.default_rng(seed).normal(size=600)
        paths.append(tmp_path / f"s{seed}.csv")
        frame[seed:].to_csv(paths[-1], index=False)
    return paths


def run_ablation(ablation, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["ablation.py", *map(str, arguments)])
    ablation.main()
    return capsys.readouterr().out


def test_the_ablation_correlates_every_treatment_on_the_same_architectures(
    ablation, loss_files, small_table_path, monkeypatch, capsys
):
    options = ["--space", "resnet-mini", "--table", small_table_path, "--draws", 2, "--samples", 60, "--method", "m"]
    found = json.loads(run_ablation(ablation, monkeypatch, capsys, *loss_files, *options, "--json"))
    rows = {(row["scores"], row["treatment"], row["fitted_to"]): row for row in found["rows"]}
    assert len(rows) == len(found["rows"]) == 2 * (1 + 7 + 7 + 1 + 7) + 2
    table = Table.read(small_table_path)
    truth = table.accuracies()
    both = np.isfinite(truth)
    both[0] = False  # the second seed has no score of 1111111
    assert found["num_archs"] == both.sum() == 63
    seeds = [read_scores(path, SPACE) for path in loss_files]
    losses = [
        make_scores("m", SPACE, loss.indices, -loss.values)
        for loss in (read_scores(path, SPACE, score_column="val_loss") for path in loss_files)
    ]
    num_common = len(average_scores(seeds).indices)
    expected = {
        ("m", "raw", None): seeds,
        ("m by loss", "raw", None): losses,
        ("m, mean of 2 seeds", "raw", None): [average_scores(seeds)],
        ("m, mean of 2 seeds", "log", num_common): [smooth_scores(average_scores(seeds), "log")],
        ("m by loss", "concave", 60): [
            smooth_scores(loss, "concave", 60, draw) for loss in losses for draw in range(2)
        ],
    }
    for key, repeats in expected.items():
        each = []
        for scores in repeats:
            values = np.full(16384, np.nan)
            values[scores.indices] = scores.values
            each.append(correlations(values[both], truth[both]))
        row = rows[key]
        assert row["repeats"] == len(each)
        for name in ("kendall", "spearman", "pearson"):
            assert row[name] == pytest.approx(np.mean([getattr(one, name) for one in each]))
        if len(each) > 1:
            assert row["kendall_sd"] == pytest.approx(np.std([one.kendall for one in each], ddof=1))
    flops = rows["flops", "baseline", None]
    assert flops["kendall"] == pytest.approx(correlations(SPACE.flops()[both], truth[both]).kendall)
    shown = run_ablation(ablation, monkeypatch, capsys, *loss_files, *options)
    assert "sum-log-width" in shown and "63 architectures" in shown and "m by loss, mean of 2 seeds" in shown


def test_the_ablation_refuses_bad_input_in_one_line(ablation, loss_files, small_table_path, monkeypatch, capsys):
    target = ["--space", "resnet-mini", "--table", small_table_path]
    few = loss_files[0].with_name("few.csv")
    few.write_text("arch,score\n1111111,1\n1121111,2\n")
    for arguments, message in (
        ([few], "cannot determine the 22 parameters"),
        ([few.with_name("none.csv")], "does not exist"),
        ([*loss_files, "--samples", 3], "allowed are 22"),
        ([*loss_files, "--draws", 0], "allowed are 1 and above"),
        ([loss_files[0], few, "--method", "m"], "1 of the files of 'm' have no 'val_loss'"),
        ([loss_files[0], loss_files[0]], "are the same"),
    ):
        with pytest.raises(SystemExit) as stopped:
            run_ablation(ablation, monkeypatch, capsys, *arguments, *target)
        error = capsys.readouterr().err.splitlines()
        assert stopped.value.code == 2 and message in error[-1] and "Traceback" not in error[0]
