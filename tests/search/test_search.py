"""Width search under a budget: every searcher against slow or closed references; counting, verdict, command."""

import dataclasses
import itertools
import json
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import Isolated, make_info, make_rows, write_table
from hypothesis import given, settings
from hypothesis import strategies as st

import channel_bench as cb
from channel_bench.errors import (
    ArgumentError,
    BudgetError,
    MethodError,
    MissingDataError,
    MissingPackageError,
    UnknownNameError,
)
from channel_bench.space import cost
from channel_bench.table import Table
from harness import method as method_module
from harness.report.search_sheets import print_verdict
from harness.scores import make_scores, read_scores, write_scores
from harness.search.regret import Candidate, judge, search_and_judge
from harness.search.run import search
from harness.searcher import SEARCHERS, Budget, Found, Lookup, Queries, register_searcher
from harness.searchers import fur, get_searcher, prior
from harness.searchers.expectation import expected_cost, slot_costs

SPACE = cb.get_space("resnet-mini")
ALL = np.arange(len(SPACE))
DIGITS = SPACE.archs().astype(int)
HARNESS = "channel-harness"


class Given:
    """An evaluator of 16,384 given scores; notes what it is asked for."""

    def __init__(self, values):
        self.values = np.asarray(values, float)
        self.asked = []

    def score(self, archs):
        indices = SPACE.index(archs)
        self.asked += indices.tolist()
        return self.values[indices]


class Additive(Given):
    """An evaluator whose score is a sum of one term per slot, and that knows its terms."""

    def __init__(self, terms):
        self.terms = np.asarray(terms, float)
        super().__init__(self.terms[np.arange(7), DIGITS - 1].sum(1))

    def slot_effects(self):
        return self.terms


def flops_budget(share):
    return Budget("flops", SPACE.flops(), share * SPACE.flops("4444444"))


def digit_budget(limit):
    return Budget("digits", DIGITS.sum(1), limit)


def additive(seed, concave=False):
    """Random increasing terms."""
    steps = np.random.default_rng(seed).random((7, 4))
    return Additive((-np.sort(-steps, axis=1) if concave else steps).cumsum(1))


def run(searcher, evaluator, budget, seed=0, **options):
    return search(SPACE, evaluator, budget, np.random.default_rng(seed), get_searcher(searcher, **options))


# -- budgets --------------------------------------------------------------------------------------------------------


def test_a_budget_is_kept_up_to_its_limit():
    budget = Budget("params", SPACE.params(), SPACE.params("2222222"))
    assert budget.fits.tolist() == [SPACE.params(arch) <= SPACE.params("2222222") for arch in SPACE.texts()]
    assert budget.fits[SPACE.index("2222222")] and str(budget) == f"params <= {SPACE.params('2222222'):,}"


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-3, 1e12), st.floats(1e-3, 1e12), st.integers(0, 2**32 - 1))
def test_a_joint_budget_is_kept_where_all_of_its_parts_are(first, second, seed):
    rng = np.random.default_rng(seed)
    # Costs at the limit, and one step of floating point around it, are where a share could round to the wrong side.
    near = [np.nextafter(first, 0), first, np.nextafter(first, np.inf), first * 2, first / 3]
    parts = [Budget("a", rng.choice(near, len(ALL)), first), Budget("b", rng.random(len(ALL)) * 2 * second, second)]
    assert (Budget.joint(parts).fits == (parts[0].fits & parts[1].fits)).all()
    assert Budget.joint(parts[:1]) is parts[0]


def test_what_is_no_budget_and_what_nothing_fits_is_refused():
    for costs, limit, message in (
        (np.ones(3), 1, r"shape \(3,\)"),
        (np.full(len(ALL), np.nan), 1, "not finite"),
        (SPACE.flops(), 0, "allowed are numbers > 0"),
        (SPACE.flops(), np.inf, "allowed are numbers > 0"),
    ):
        with pytest.raises(ArgumentError, match=message):
            Budget("flops", costs, limit)
    with pytest.raises(ArgumentError, match="at least one budget"):
        Budget.joint([])
    with pytest.raises(BudgetError, match="no architecture has flops <= 10: the least flops is"):
        run("greedy", additive(0), Budget("flops", SPACE.flops(), 10))
    apart = [Budget("a", 1.0 + (DIGITS[:, 0] > 1), 1), Budget("b", 1.0 + (DIGITS[:, 0] == 1), 1)]
    with pytest.raises(BudgetError, match="a <= 1 and b <= 1, though each of the budgets alone can be kept"):
        run("greedy", additive(0), Budget.joint(apart))


# -- questions ------------------------------------------------------------------------------------------------------


def test_every_architecture_is_asked_for_once_and_counted_once():
    evaluator = additive(0)
    asked = []
    queries = Queries(SPACE, evaluator, asked.append)
    archs = ["4444444", "1111111", "4444444"]
    assert queries.score(archs).tolist() == evaluator.values[SPACE.index(archs)].tolist()
    assert queries.score(np.array([[4] * 7, [2] * 7], np.int8))[0] == evaluator.values[-1]
    assert queries.num_queries == 3 == sum(asked) and sorted(evaluator.asked) == sorted(set(evaluator.asked))
    # Beneath another one it answers from what it knows, and each counts for itself.
    above = Queries(SPACE, queries)
    above.score(["1111111", "3333333"])
    assert (above.num_queries, queries.num_queries, len(evaluator.asked)) == (2, 4, 4)
    assert (above.slot_effects() == evaluator.terms).all()


@pytest.mark.parametrize("searcher", sorted(set(SEARCHERS.built_in) - {"argmax"}))
def test_a_search_counts_what_the_evaluator_was_asked_for(searcher):
    evaluator = additive(1)
    found = run(searcher, evaluator, flops_budget(0.4), **({"generations": 4} if searcher == "evolutionary" else {}))
    assert found.num_queries == len(evaluator.asked) == len(set(evaluator.asked))
    assert found.score == evaluator.values[SPACE.index(found.arch)]
    assert all(step.score == evaluator.values[SPACE.index(step.arch)] for step in found.history)
    counts = [step.num_queries for step in found.history]
    assert counts == sorted(counts) and (not counts or counts[-1] <= found.num_queries)


def test_architectures_without_a_score_are_never_chosen():
    rng = np.random.default_rng(0)
    budget = flops_budget(0.5)
    there = np.sort(rng.permutation(len(ALL))[:9000])
    scores = make_scores("part", SPACE, there, rng.normal(size=len(there)))
    best = there[budget.fits[there]][np.argmax(scores.values[budget.fits[there]])]
    assert run("exhaustive", scores, budget).arch == SPACE.text(int(best))
    for searcher, options in (("random", {}), ("evolutionary", {"generations": 5}), ("greedy", {})):
        found = run(searcher, scores, budget, **options)
        assert budget.fits[SPACE.index(found.arch)] and SPACE.index(found.arch) in there
    assert Queries(SPACE, Lookup(scores)).score_indices([int(np.setdiff1d(ALL, there)[0])]).tolist() == [-np.inf]
    wide = make_scores("wide", SPACE, np.flatnonzero(~budget.fits), np.ones((~budget.fits).sum()))
    with pytest.raises(MissingDataError, match="none of the .* architectures with flops <= .* has a score"):
        run("greedy", wide, budget)
    with pytest.raises(MissingDataError, match="cannot go on from 4444444: none of the 7 .* has a score"):
        run("greedy", make_scores("one", SPACE, [0], [1.0]), budget)
    with pytest.raises(MissingDataError, match="argmax needs the score of architecture"):
        run("argmax", make_scores("one", SPACE, [0], [1.0]), budget)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda archs: np.ones((len(archs), 1)), "it must return float64 of shape"),
        (lambda archs: np.ones(len(archs), int), "returned int64"),
        (lambda archs: np.full(len(archs), np.nan), "returned nan for architecture .......: scores must be finite"),
    ],
)
def test_an_evaluator_that_breaks_the_contract_is_told_how(answer, message):
    with pytest.raises(MethodError, match=message):
        search(
            SPACE,
            types.SimpleNamespace(score=answer),
            flops_budget(0.5),
            np.random.default_rng(0),
            get_searcher("random"),
        )


def test_knowledge_that_an_evaluator_does_not_offer_or_offers_wrongly_is_named():
    budget = flops_budget(0.5)
    with pytest.raises(MethodError, match=r"effects of single slots, and Given has no function slot_effects\(\)"):
        run("fur", Given(ALL), budget)
    with pytest.raises(MethodError, match=r"a file of scores has no function training_losses\(\)"):
        run("evolutionary", make_scores("file", SPACE, ALL, ALL), budget, initial="prior")
    for effects in (np.ones((4, 7)), np.full((7, 4), np.inf), np.full((7, 4), "x")):
        with pytest.raises(MethodError, match=r"it must return finite numbers of shape \(7, 4\)"):
            run("fur", types.SimpleNamespace(score=additive(0).score, slot_effects=lambda e=effects: e), budget)
    wrong = types.SimpleNamespace(score=additive(0).score, training_losses=lambda: (["1111111"], [1.0, 2.0]))
    with pytest.raises(MethodError, match="for 1 architectures: it must return one finite number each"):
        run("evolutionary", wrong, budget, initial="prior")


# -- greedy slimming ------------------------------------------------------------------------------------------------


def test_greedy_slimming_walks_as_computed_by_hand():
    # A step in slot l costs 7 - l points of score and one digit; so the last slot goes first, then the one before.
    found = run("greedy", Additive(np.outer(np.arange(7, 0, -1), np.arange(1, 5))), digit_budget(24))
    assert [step.arch for step in found.history] == ["4444443", "4444442", "4444441", "4444431"]
    # 7 candidates each time, but at 4444441 the last slot has none.
    assert [step.num_queries for step in found.history] == [7, 14, 21, 27]
    assert (found.arch, found.score, found.num_queries) == ("4444431", 28 * 4 - 3 - 2, 27)
    whole = run("greedy", Additive(np.outer(np.arange(7, 0, -1), np.arange(1, 5))), digit_budget(28))
    assert (whole.arch, whole.num_queries, whole.history) == ("4444444", 1, ())
    last = run("greedy", Additive(np.outer(np.arange(7, 0, -1), np.arange(1, 5))), digit_budget(7))
    assert last.arch == "1111111" and len(last.history) == 21


def test_greedy_slimming_takes_of_equal_scores_the_one_with_fewer_flops():
    found = run("greedy", Given(np.zeros(len(ALL))), digit_budget(27))
    candidates = ["4" * slot + "3" + "4" * (6 - slot) for slot in range(7)]
    assert found.arch == min(candidates, key=SPACE.flops)


def test_greedy_slimming_is_optimal_where_slots_have_diminishing_returns_and_equal_costs():
    for seed in range(5):
        evaluator = additive(seed, concave=True)
        for limit in (9, 14, 20, 25):
            optimum = evaluator.values[digit_budget(limit).fits].max()
            assert run("greedy", evaluator, digit_budget(limit)).score == pytest.approx(optimum, abs=1e-12)


def test_greedy_slimming_says_where_costs_that_fall_with_a_width_leave_it_stranded():
    costs = np.where(ALL == SPACE.index("2111111"), 1.0, 2.0)
    narrow_first = Additive(np.vstack([[9, 6, 3, 0], np.tile([0, 1, 2, 3], (6, 1))]))
    with pytest.raises(BudgetError, match="greedy slimming ended at 1111111, which does not have odd <= 1"):
        run("greedy", narrow_first, Budget("odd", costs, 1.0))


# -- searches by sampling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("searcher", "options"), [("random", {"num_samples": 16384}), ("evolutionary", {})])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_with_enough_questions_the_optimum_of_an_additive_score_is_found(searcher, options, share):
    evaluator = additive(3, concave=True)
    found = run(searcher, evaluator, flops_budget(share), **options)
    assert found.score == evaluator.values[flops_budget(share).fits].max()
    assert found.arch == run("exhaustive", evaluator, flops_budget(share)).arch


@pytest.mark.parametrize(
    ("searcher", "options"), [("random", {"num_samples": 20}), ("evolutionary", {"generations": 2}), ("argmax", {})]
)
def test_a_seed_decides_a_search_and_the_global_generator_is_left_alone(searcher, options):
    budget = flops_budget(1.0)
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    first = run(searcher, additive(0), budget, 5, **options)
    assert np.random.get_state()[1].tolist() == before
    np.random.seed(2)
    assert run(searcher, additive(0), budget, 5, **options) == first
    others = [run(searcher, additive(0), budget, seed, **options) for seed in range(4)]
    assert searcher == "argmax" or len({found.arch for found in others}) > 1


def test_random_search_asks_for_as_many_as_it_is_told_or_as_there_are():
    assert run("random", additive(0), flops_budget(0.5), num_samples=17).num_queries == 17
    few = digit_budget(8)
    assert run("random", additive(0), few).num_queries == 8 == run("exhaustive", additive(0), few).num_queries


def test_the_evolutionary_search_has_no_more_questions_than_places_and_never_gets_worse():
    found = run("evolutionary", additive(0), flops_budget(0.3), population=12, generations=6)
    scores = [step.score for step in found.history]
    assert found.num_queries <= 72 and len(scores) == 6 and scores == sorted(scores) and scores[-1] == found.score
    # A single architecture that fits is found, too.
    assert run("evolutionary", additive(0), digit_budget(7), generations=3).arch == "1111111"


def test_a_tournament_is_won_by_the_fitting_then_the_best_then_the_first():
    from harness.searchers.evolutionary import _winners

    values = {"CV": np.array([[0.0], [0.0], [0.5], [0.2]]), "F": np.array([[3.0], [1.0], [-9.0], [0.0]])}
    candidates = np.array([[2, 0, 1], [2, 3, 3], [2, 2, 2], [0, 2, 3]])
    assert _winners(values, candidates).tolist() == [[1], [3], [2], [0]]
    values["F"][0] = 1.0
    assert _winners(values, np.array([[0, 1], [1, 0]])).tolist() == [[0], [1]]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.07, 1.0), st.floats(0.07, 1.0), st.booleans())
def test_no_search_leaves_its_budget(seed, flops, params, smooth):
    parts = [
        Budget("flops", SPACE.flops(), flops * SPACE.flops("4444444")),
        Budget("params", SPACE.params(), params * SPACE.params("4444444")),
    ]
    rng = np.random.default_rng(seed)
    evaluator = Additive(rng.normal(size=(7, 4)))
    if not smooth:
        evaluator.values = rng.normal(size=len(ALL))
    for searcher, options in (
        ("greedy", {}),
        ("exhaustive", {}),
        ("random", {"num_samples": 5}),
        ("evolutionary", {"population": 6, "generations": 3}),
        ("fur", {"iterations": 4}),
    ):
        try:
            found = run(searcher, evaluator, Budget.joint(parts), seed, **options)
        except BudgetError:
            assert not (parts[0].fits & parts[1].fits).any()
            continue
        assert SPACE.flops(found.arch) <= parts[0].limit and SPACE.params(found.arch) <= parts[1].limit


# -- argmax ---------------------------------------------------------------------------------------------------------


def test_the_argmax_of_a_separable_score_is_its_maximum():
    for seed in range(5):
        evaluator = Additive(np.random.default_rng(seed).normal(size=(7, 4)))
        found = run("argmax", evaluator, flops_budget(1.0))
        assert found.arch == "".join(map(str, evaluator.terms.argmax(1) + 1))
        assert found.score == evaluator.values.max() and found.num_queries <= 22 + 9


def test_argmax_says_when_its_result_does_not_fit_or_means_nothing():
    with pytest.raises(BudgetError, match=r"4444444, has flops 88,864, not flops <= 44,432: argmax cannot keep"):
        run("argmax", additive(0), flops_budget(0.5))
    # A product of two slots is not a sum, however small it is beside the rest.
    with pytest.raises(ArgumentError, match="not a sum of one term per slot"):
        run("argmax", Given(additive(0).values + 1e-3 * DIGITS[:, 0] * DIGITS[:, 1]), flops_budget(1.0))


# -- expectations and the prior -------------------------------------------------------------------------------------


def distribution(seed):
    return np.random.default_rng(seed).dirichlet(np.ones(4), 7)


def test_an_expected_cost_is_the_sum_over_all_architectures():
    widths = distribution(0)
    probabilities = widths[np.arange(7), DIGITS - 1].prod(1)
    assert probabilities.sum() == pytest.approx(1)
    assert expected_cost(SPACE.params(), widths) == pytest.approx((probabilities * SPACE.params()).sum(), rel=1e-12)
    for slot, digit in itertools.product(range(7), range(1, 5)):
        there = DIGITS[:, slot] == digit
        expected = (probabilities * SPACE.params())[there].sum() / probabilities[there].sum()
        assert slot_costs(SPACE.params(), widths)[slot, digit - 1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_between_two_widths_the_expected_cost_is_the_closed_form(name):
    space = cb.get_space(name)
    widths = np.random.default_rng(0).uniform(0.25, 1, 7)
    channels = widths * space.max_channels
    for count, costs in ((cost.flops, space.flops()), (cost.params, space.params())):
        exact = count(space.layers, [*channels, space.input_shape[0], space.num_classes])
        assert expected_cost(costs, fur.interpolated(widths)) == pytest.approx(exact, rel=1e-12)


def test_mean_losses_are_those_of_the_best_records_and_dread_what_they_never_saw():
    archs = np.array([[1] * 7, [2] * 7, [1] * 6 + [2], [3] * 7], np.int8)
    means = prior.mean_losses(archs, np.array([1.0, 3.0, 2.0, 9.0]), keep=3)
    # Slot 0 has digit 1 with losses 1 and 2, digit 2 with 3; digit 3 is in no kept record.
    assert means[0].tolist() == [1.5, 3.0, 5.0, 5.0] and means[6].tolist() == [1.0, 2.5, 5.0, 5.0]


def brute_force_two_slots(losses, shares):
    """Least expected loss where only slots 0 and 1 matter: row 0 on a fine grid, row 1 solved exactly.

    Given row 0, row 1 is a linear programme over a simplex with one inequality: its solutions mix at most two digits.
    So row 0 may be taken to mix two digits as well.
    """
    best = np.inf
    part = np.linspace(0, 1, 20001)[:, None]
    pairs = list(itertools.combinations(range(4), 2))
    for (a, b), (c, d) in itertools.product(pairs, pairs):
        row = part * np.eye(4)[a] + (1 - part) * np.eye(4)[b]
        given = row @ shares
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = (1 - given[:, d]) / (given[:, c] - given[:, d])
        for t in (np.zeros_like(bound), np.ones_like(bound), bound):
            fits = (t >= 0) & (t <= 1) & (t * given[:, c] + (1 - t) * given[:, d] <= 1 + 1e-12)
            expected = row @ losses[0] + t * losses[1, c] + (1 - t) * losses[1, d]
            best = min(best, expected[fits].min(initial=np.inf))
    return best


@pytest.mark.parametrize("seed", range(3))
def test_the_prior_is_as_good_as_brute_force_where_two_slots_matter(seed):
    rng = np.random.default_rng(seed)
    losses = np.zeros((7, 4))
    losses[:2] = np.sort(rng.random((2, 4)))[:, ::-1]
    shares = np.outer([1, 2, 3, 4], [1, 2, 3, 4]) / rng.uniform(3, 9)
    budget = Budget("product", shares[DIGITS[:, 0] - 1, DIGITS[:, 1] - 1], 1.0)
    widths = prior.literal_distribution(losses, budget, np.random.default_rng(0))
    assert widths.min() >= 0 and widths.sum(1) == pytest.approx(np.ones(7))
    assert expected_cost(budget.costs, widths) <= 1 + 1e-9
    assert (widths * losses).sum() == pytest.approx(brute_force_two_slots(losses, shares), abs=1e-4)


def test_the_prior_keeps_every_part_of_a_budget_and_is_never_worse_than_the_best_architecture(monkeypatch):
    monkeypatch.setattr(prior, "NUM_STARTS", 2)
    losses = np.random.default_rng(1).random((7, 4)) - np.arange(4) / 2
    parts = [
        Budget("flops", SPACE.flops(), 0.3 * SPACE.flops("4444444")),
        Budget("params", SPACE.params(), 0.35 * SPACE.params("4444444")),
    ]
    budget = Budget.joint(parts)
    widths = prior.literal_distribution(losses, budget, np.random.default_rng(0))
    assert all(expected_cost(part.costs, widths) <= part.limit * (1 + 1e-9) for part in parts)
    sums = losses[np.arange(7), DIGITS - 1].sum(1)
    assert prior.sum_over_slots(losses) == pytest.approx(sums)
    assert (widths * losses).sum() <= sums[budget.fits].min() + 1e-12
    # Where nothing binds every slot takes its best digit.
    free = prior.literal_distribution(losses, flops_budget(1.0), np.random.default_rng(0))
    assert (free * losses).sum() == pytest.approx(losses.min(1).sum())


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_the_softmax_prior_gives_a_population_where_the_literal_one_gives_an_architecture(share):
    rng = np.random.default_rng(0)
    losses = np.sort(rng.random((7, 4)))[:, ::-1]  # wider is better, by steps of any size
    budget = flops_budget(share)
    spread = prior.softmax_distribution(losses, budget)
    literal = prior.literal_distribution(losses, budget, np.random.default_rng(0))
    for widths in (spread, literal):
        assert widths.min() >= 0 and widths.sum(1) == pytest.approx(np.ones(7))
        assert expected_cost(budget.costs, widths) <= budget.limit * (1 + 1e-9)
    distinct = {}
    for name, widths in (("softmax", spread), ("literal", literal)):
        drawn = prior.sample(widths, 2000, np.random.default_rng(1))
        distinct[name] = len(np.unique(drawn[budget.fits[drawn]]))
    assert distinct["softmax"] >= 100 and distinct["literal"] <= 10
    # The spread costs little of the loss: far less than equal probabilities within the budget.
    least, mean = (literal * losses).sum(), losses.mean(1).sum()
    assert least <= (spread * losses).sum() < least + 0.35 * (mean - least)
    # The less the temperature, the closer to the literal solution.
    colder = prior.softmax_distribution(losses, budget, temperature=0.05)
    assert least - 1e-6 <= (colder * losses).sum() < (spread * losses).sum()


def test_the_softmax_prior_is_the_gibbs_distribution_where_nothing_binds():
    losses = np.random.default_rng(3).random((7, 4))
    widths = prior.softmax_distribution(losses, flops_budget(1.0), temperature=0.5)
    expected = np.exp(-losses / (0.5 * np.ptp(losses, axis=1).mean()))
    assert widths == pytest.approx(expected / expected.sum(1, keepdims=True), abs=1e-4)
    assert prior.softmax_distribution(np.ones((7, 4)), flops_budget(1.0)) == pytest.approx(np.full((7, 4), 0.25))


@pytest.mark.parametrize("form", ["softmax", "literal"])
def test_each_form_of_the_prior_makes_the_first_generation(form, monkeypatch):
    monkeypatch.setattr(prior, "NUM_STARTS", 1)
    evaluator = additive(2, concave=True)
    evaluator.training_losses = lambda: (SPACE.archs(), 10 - evaluator.values)
    budget = flops_budget(0.4)
    run("evolutionary", evaluator, budget, initial="prior", prior=form, generations=1)
    losses = prior.mean_losses(SPACE.archs(), 10 - evaluator.values)
    rng = np.random.default_rng(0)
    widths = (
        prior.softmax_distribution(losses, budget)
        if form == "softmax"
        else prior.literal_distribution(losses, budget, rng)
    )
    assert sorted(evaluator.asked) == sorted(prior.draw(widths, 40, budget.fits, rng).tolist())


def test_draws_follow_the_distribution_fit_and_are_filled_up():
    widths = distribution(2)
    everything = np.ones(len(ALL), bool)
    # The first of many draws of one architecture each has the distribution itself.
    first = [int(prior.draw(widths, 1, everything, np.random.default_rng(seed))[0]) for seed in range(4000)]
    shares = np.array([[(DIGITS[first, slot] == digit).mean() for digit in range(1, 5)] for slot in range(7)])
    assert np.abs(shares - widths).max() < 5 * np.sqrt(0.25 / 4000)
    certain = np.eye(4)[[3, 2, 3, 3, 3, 1, 3]]
    drawn = prior.draw(certain, 40, everything, np.random.default_rng(0))
    assert SPACE.text(int(drawn[0])) == "4344424" and len(set(drawn.tolist())) == 40
    allowed = digit_budget(8).fits
    drawn = prior.draw(certain, 40, allowed, np.random.default_rng(0))
    assert sorted(drawn.tolist()) == np.flatnonzero(allowed).tolist()


def test_a_prior_from_true_losses_starts_the_search_ahead(monkeypatch):
    monkeypatch.setattr(prior, "NUM_STARTS", 1)
    records = np.random.default_rng(0).integers(0, len(ALL), 3000)
    starts = {"random": [], "prior": []}
    for seed, (initial, scores) in itertools.product(range(4), starts.items()):
        evaluator = additive(seed, concave=True)
        evaluator.training_losses = lambda values=evaluator.values: (SPACE.archs()[records], 10 - values[records])
        scores.append(run("evolutionary", evaluator, flops_budget(0.4), initial=initial, generations=1).score)
    assert np.mean(starts["prior"]) > np.mean(starts["random"]) + 0.1


# -- FUR ------------------------------------------------------------------------------------------------------------


def test_utilisation_is_score_lost_per_cost_saved_by_one_step_down():
    effects = np.random.default_rng(0).normal(size=(7, 4))
    budget = flops_budget(0.5)
    arch = (4, 3, 2, 1, 4, 2, 3)
    ratios = fur.utilisation(effects, budget, np.array(arch) / 4)
    for slot, digit in enumerate(arch):
        high = max(digit, 2)  # the narrowest width has no step down; the one up to it counts
        wide, narrow = (SPACE.flops(arch[:slot] + (width,) + arch[slot + 1 :]) for width in (high, high - 1))
        gain = effects[slot, high - 1] - effects[slot, high - 2]
        assert ratios[slot] == pytest.approx(gain / (wide - narrow), rel=1e-9)
    free = Budget("flat", np.ones(len(ALL)), 1.0)
    assert (fur.utilisation(effects, free, np.full(7, 0.5)) == np.sign(effects[:, 1] - effects[:, 0]) * np.inf).all()


def test_widths_are_scaled_to_the_budget_and_to_no_more_than_the_widest():
    budget = flops_budget(0.4)
    widths = fur.scaled_to(budget, np.array([1, 2, 1, 2, 1, 2, 1.0]) / 2)
    assert expected_cost(budget.costs, fur.interpolated(widths)) == pytest.approx(budget.limit, rel=1e-9)
    inner = (widths > 0.25) & (widths < 1)
    assert inner.sum() > 2 and widths[[0, 2, 4, 6]] == pytest.approx(np.full(4, widths[0]))
    assert fur.scaled_to(flops_budget(1.0), np.ones(7)) == pytest.approx(np.ones(7))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.25, 1), min_size=7, max_size=7), st.integers(0, 2**32 - 1))
def test_the_nearest_architecture_is_that_of_all_in_the_cell(widths, seed):
    widths = np.array(widths)
    allowed = np.random.default_rng(seed).random(len(ALL)) < 0.5
    cell = (np.abs(DIGITS / 4 - widths) < 0.25 - 1e-9).all(1) & allowed
    index = fur.nearest(widths, allowed)
    distances = ((DIGITS / 4 - widths) ** 2).sum(1)
    if cell.any():
        assert distances[index] <= distances[cell].min() + 1e-9
    assert index is None or allowed[index]


def test_fur_moves_flops_to_where_they_are_used_and_returns_its_best_iterate():
    terms = np.zeros((7, 4))
    terms[[1, 3]] = [0, 1, 2, 3]  # only these two slots matter
    found = run("fur", Additive(terms), flops_budget(0.3), iterations=20)
    start = fur.nearest(fur.scaled_to(flops_budget(0.3), np.ones(7)), flops_budget(0.3).fits)
    assert found.history[0].arch == SPACE.text(start)
    assert found.arch[1] == found.arch[3] == "4" and found.score == 6 > found.history[0].score
    assert found.score == max(step.score for step in found.history)
    assert run("fur", Additive(terms), flops_budget(0.3), iterations=0).num_queries == 1
    with pytest.raises(BudgetError, match="the narrowest architecture does not have odd <= 1: FUR cannot start"):
        run("fur", Additive(terms), Budget("odd", 1.0 + (DIGITS.sum(1) == 7), 1.0))


# -- registry -------------------------------------------------------------------------------------------------------


def test_searchers_are_found_by_name_and_refuse_unknown_options():
    assert set(SEARCHERS.names()) >= set(SEARCHERS.built_in)
    with pytest.raises(UnknownNameError, match="unknown searcher 'gredy': .*did you mean 'greedy'"):
        get_searcher("gredy")
    with pytest.raises(ArgumentError, match="searcher 'greedy' has no option 'steps': it has none"):
        get_searcher("greedy", steps=1)
    with pytest.raises(ArgumentError, match="has no option 'size': it has initial, population, generations"):
        get_searcher("evolutionary", size=1)
    for searcher, options in (
        ("evolutionary", {"population": "many"}),
        ("evolutionary", {"population": 2.5}),
        ("random", {"num_samples": True}),
        ("fur", {"step": "0.1"}),
    ):
        with pytest.raises(ArgumentError, match="allowed are values of type"):
            get_searcher(searcher, **options)
    assert get_searcher("evolutionary", mutation_eta=20).mutation_eta == 20
    for searcher, options in (
        ("evolutionary", {"population": 1}),
        ("evolutionary", {"mutation_eta": 0.5}),
        ("evolutionary", {"keep": 0}),
        ("evolutionary", {"initial": "clever"}),
        ("evolutionary", {"prior": "clever"}),
        ("evolutionary", {"temperature": 0}),
        ("random", {"num_samples": 0}),
        ("fur", {"iterations": -1}),
        ("fur", {"num_slots": 4}),
        ("fur", {"step": 1.0}),
    ):
        with pytest.raises(ArgumentError, match="allowed are|is not one of (random, prior|softmax, literal)"):
            get_searcher(searcher, **options)


def test_a_searcher_of_ones_own_is_held_to_the_contract(monkeypatch):
    monkeypatch.setattr(SEARCHERS, "_known", Isolated(SEARCHERS))

    @register_searcher("widest")
    class Widest:
        def search(self, queries, budget, rng):
            return "4444444"

    assert run("widest", additive(0), flops_budget(1.0)) == Found("4444444", additive(0).values[-1], 1, ())
    assert "widest" in SEARCHERS.names()
    with pytest.raises(MethodError, match="searcher Widest ended with 4444444, which does not have flops <= 44,432"):
        run("widest", additive(0), flops_budget(0.5))
    with pytest.raises(MethodError, match="which has no score, though it has flops <= 88,864"):
        run("widest", make_scores("part", SPACE, [0], [1.0]), flops_budget(1.0))
    with pytest.raises(ArgumentError, match="searcher name 'widest' is taken"):
        register_searcher("widest")(type("Other", (), {}))


def test_a_searcher_of_another_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    (tmp_path / "far_search.py").write_text(
        "class Narrowest:\n    def search(self, queries, budget, rng):\n        return '1111111'\n"
    )
    info = tmp_path / "far_search-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-search\nVersion: 1.0\n")
    entries = "[channel_bench.searchers]\nnarrowest = far_search:Narrowest\nbroken = far_search:Nothing\n"
    (info / "entry_points.txt").write_text(entries)
    monkeypatch.syspath_prepend(tmp_path)
    assert {"narrowest", "broken"} <= set(SEARCHERS.names())
    assert run("narrowest", additive(0), flops_budget(0.5)).arch == "1111111"
    with pytest.raises(MethodError, match=r"installed searcher 'broken' \(far_search:Nothing\) cannot be imported"):
        get_searcher("broken")


def test_without_pymoo_the_evolutionary_search_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    monkeypatch.delitem(sys.modules, "harness.searchers.evolutionary", raising=False)
    with pytest.raises(MissingPackageError, match=r"pip install 'channel-bench\[search\]', or use another searcher"):
        get_searcher("evolutionary")


# -- the verdict ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """A table of 64 architectures whose accuracies `make_rows` makes up."""
    path = tmp_path_factory.mktemp("table") / "made-up.parquet"
    return Table.read(write_table(path, make_rows(SPACE, 64, 2), make_info(SPACE)))


def test_rank_and_regret_are_those_of_a_sorted_list(made_up):
    budget = flops_budget(0.3)
    trained = range(0, 16384, 256)
    truth = {index: 50 + ((index * 31) % 400 / 10 + (index * 31 + 7) % 400 / 10) / 2 for index in trained}
    fitting = sorted((truth[index] for index in trained if SPACE.flops(index) <= budget.limit), reverse=True)
    inside = [index for index in trained if SPACE.flops(index) <= budget.limit]
    candidates = [Candidate("one", "search", Found(SPACE.text(index), 0.0, 3, ())) for index in inside]
    verdict = judge(candidates, budget, SPACE, made_up)
    assert verdict.num_ranked == len(fitting) and verdict.num_fitting == int(budget.fits.sum())
    assert verdict.best_accuracy == fitting[0] and truth[SPACE.index(verdict.best)] == fitting[0]
    for index, row in zip(inside, verdict.rows, strict=True):
        assert row.accuracy == pytest.approx(truth[index]) and row.rank == 1 + fitting.index(truth[index])
        assert row.regret == pytest.approx(fitting[0] - truth[index], abs=1e-4)
        assert row.costs == {"flops": SPACE.flops(index)} and row.num_queries == 3
    assert min(row.regret for row in verdict.rows) == 0
    unknown = judge([Candidate("x", "search", Found("1111112", 0.0, 1, ()))], budget, SPACE, made_up).rows[0]
    assert (unknown.accuracy, unknown.rank, unknown.regret) == (None, None, None)
    single = judge(candidates, budget, SPACE, made_up, run=1)
    assert single.rows[0].accuracy == 50 + (inside[0] * 31 + 7) % 400 / 10 and single.truth.endswith("run 1")


def test_a_verdict_names_the_exhaustive_maximum_and_the_largest_beside_the_search(made_up):
    rng = np.random.default_rng(0)
    budget = Budget.joint([flops_budget(0.4), Budget("latency_ms", rng.random(len(ALL)), 0.5)])
    scores = make_scores("mine", SPACE, ALL[:-1], rng.normal(size=len(ALL) - 1))
    verdict = search_and_judge(scores, budget, SPACE, get_searcher("random", num_samples=9), name="random", seed=3)
    searched, best, largest = verdict.rows
    inside = np.flatnonzero(budget.fits)
    assert best.arch == SPACE.text(int(inside[np.argmax(scores.values[inside])])) and best.num_queries == len(inside)
    assert SPACE.flops(largest.arch) == SPACE.flops()[inside].max() and largest.num_queries == 0
    assert largest.score == scores.values[SPACE.index(largest.arch)]
    assert searched.num_queries == 9 and verdict.options == {"num_samples": 9} and verdict.seed == 3
    assert (verdict.table, verdict.num_ranked, searched.accuracy) == (None, None, None)
    assert list(searched.costs) == ["flops", "latency_ms"] and searched.costs["latency_ms"] <= 0.5
    evaluator = Given(rng.normal(size=len(ALL)))
    short = search_and_judge(evaluator, budget, SPACE, get_searcher("greedy"), name="greedy", exhaustive=False)
    assert [row.kind for row in short.rows] == ["search", "reference"] and len(evaluator.asked) < 200
    assert len(evaluator.asked) == len(set(evaluator.asked))


def test_a_truth_that_cannot_judge_is_refused(made_up):
    narrow = Budget("few", np.where(ALL == 1, 1.0, 2.0), 1.0)
    with pytest.raises(ArgumentError, match="'made-up' holds no architecture with few <= 1"):
        judge([], narrow, SPACE, made_up)
    with pytest.raises(ArgumentError, match="the search was in space 'resnet', table 'made-up' is of 'resnet-mini'"):
        judge([], narrow, cb.get_space("resnet"), made_up)


def test_greedy_slimming_on_scores_of_others_starts_at_a_network_that_they_lack(published, scores_dir):
    space = cb.get_space("resnet")
    scores = read_scores(scores_dir / "bin20_min1_bcnet_2_resnet.json", space)
    assert scores.missing == ["4444444"]
    budget = Budget("flops", space.flops(), 0.5 * space.flops("4444444"))
    table = cb.load(space, data_dir=published)
    verdict = search_and_judge(scores, budget, space, get_searcher("greedy"), name="greedy", table=table)
    values = np.full(len(ALL), -np.inf)
    values[scores.indices] = scores.values
    arch = (4,) * 7
    while space.flops(arch) > budget.limit:  # the same walk, in plain Python
        narrower = [arch[:slot] + (arch[slot] - 1,) + arch[slot + 1 :] for slot in range(7) if arch[slot] > 1]
        arch = min(narrower, key=lambda arch: (-values[space.index(arch)], space.flops(arch)))
    row = verdict.rows[0]
    assert row.arch == space.text(arch)
    truth = table.accuracies().round(4)[budget.fits]
    accuracy = round(table.accuracy(arch), 4)
    assert row.rank == 1 + (truth > accuracy).sum() and row.regret == pytest.approx(truth.max() - accuracy, abs=1e-4)
    assert verdict.rows[1].score == values[budget.fits].max()


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def score_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("scores") / "mine.parquet"
    write_scores(make_scores("mine", SPACE, ALL[:-1], additive(0, concave=True).values[:-1], {"seed": 7}), path)
    return path


def test_the_command_searches_a_file_of_scores(run_cli, score_file, small_table_path):
    options = ["--space", "resnet-mini", "--max-flops", "0.4x", "--table", small_table_path, "--searcher", "greedy"]
    code, out, err = run_cli(HARNESS, "search", score_file, *options)
    assert (code, err) == (0, "")
    for words in ("have flops <= 35,545.6", "greedy", "exhaustive", "largest that fits", "uniform width", "regret"):
        assert words in out
    code, out, _ = run_cli(HARNESS, "search", score_file, *options, "--json")
    verdict = json.loads(out)
    expected = run("greedy", additive(0, concave=True), flops_budget(0.4))
    row = verdict["rows"][0]
    assert (row["arch"], row["score"], row["num_queries"]) == (expected.arch, expected.score, expected.num_queries)
    assert [step["arch"] for step in row["history"]] == [step.arch for step in expected.history]
    assert row["channels"] == list(SPACE.channels(expected.arch)) and verdict["facts"]["seed"] == 7
    # This table has no curves, and so no replay of random networks.
    names = ["greedy", "exhaustive", "largest that fits", "uniform width"]
    assert verdict["num_ranked"] < 64 and [row["name"] for row in verdict["rows"]] == names
    assert [row["kind"] for row in verdict["rows"]] == ["search"] + ["reference"] * 3


def test_the_command_takes_several_budgets_options_and_latencies(run_cli, score_file, tmp_path, monkeypatch):
    times = np.random.default_rng(0).random(len(ALL)) + DIGITS.sum(1)
    model = types.SimpleNamespace(predict=lambda archs: times[SPACE.index(archs)])
    monkeypatch.setattr("channel_bench.latency.load_latency", lambda path, space: model)
    code, out, err = run_cli(
        *(HARNESS, "search", score_file, "--space", "resnet-mini", "--no-truth", "--json", "--max-flops", "40k"),
        *("--max-params", "0.5x", "--max-latency", "0.7x", "--latency", tmp_path / "l.json", "--searcher", "random"),
        *("--option", "num_samples=30", "--seed", 4, "--no-exhaustive"),
    )
    assert (code, err) == (0, "")
    verdict = json.loads(out)
    limit = 0.7 * times[-1]
    assert verdict["budget"] == f"flops <= 40,000 and params <= 7,745 and latency_ms <= {limit:,.15g}"
    inside = (SPACE.flops() <= 40_000) & (SPACE.params() <= 7745) & (times <= limit)
    assert verdict["num_fitting"] == inside.sum() and verdict["table"] is None
    assert [row["name"] for row in verdict["rows"]] == ["random", "largest that fits", "uniform width"]
    row = verdict["rows"][0]
    assert inside[SPACE.index(row["arch"])] and row["num_queries"] == 30 and row["accuracy"] is None
    assert row["costs"]["latency_ms"] == times[SPACE.index(row["arch"])] and verdict["options"] == {"num_samples": 30}


def test_the_command_trains_a_method_and_asks_it_only_for_what_the_search_needs(run_cli, monkeypatch):
    monkeypatch.setattr(method_module.METHODS, "_known", Isolated(method_module.METHODS))
    evaluator = additive(0)

    @method_module.register("known", paper="none", summary="scores that are known")
    class Known:
        def __init__(self, depth: int = 1):
            assert depth == 2

        def fit(self, task):
            assert task.seed == 5 and task.recipe.epochs == 1
            return evaluator

    code, out, err = run_cli(
        *(HARNESS, "search", "known", "--space", "resnet-mini", "--max-flops", "0.4x", "--searcher", "fur", "--seed"),
        *(5, "--epochs", 1, "--no-exhaustive", "--method-option", "depth=2", "--json"),
    )
    assert (code, err) == (0, "")
    verdict = json.loads(out)
    assert verdict["rows"][0]["arch"] == run("fur", additive(0), flops_budget(0.4)).arch
    assert verdict["facts"]["options"] == {"depth": 2} and verdict["facts"]["dataset"] == "digits"
    assert verdict["rows"][0]["regret"] >= 0 and len(evaluator.asked) < 20


def test_the_command_trains_in_a_precision_and_says_which(run_cli):
    words = (HARNESS, "search", "uniform", "--space", "resnet-mini", "--max-flops", "0.4x", "--searcher", "greedy")
    words = (*words, "--epochs", 1, "--no-exhaustive", "--no-truth", "--device", "cpu")
    found = {}
    for precision in ("fp32", "bf16"):
        code, out, err = run_cli(*words, "--precision", precision, "--json")
        assert code == 0, err
        found[precision] = json.loads(out)
        assert found[precision]["facts"]["recipe"]["precision"] == precision
    assert found["fp32"]["rows"][0]["history"] != found["bf16"]["rows"][0]["history"]
    code, out, _ = run_cli(*words, "--precision", "bf16")
    assert code == 0 and "scores of uniform, in bf16; channels of" in out


@pytest.mark.parametrize(
    ("facts", "words"), [({"recipe": {"precision": "tf32"}}, ", in tf32"), ({"recipe": "ours"}, ""), ({}, "")]
)
def test_a_verdict_says_the_precision_of_scores_where_it_is_known(capsys, facts, words):
    budget = flops_budget(0.5)
    chosen = Candidate("mine", "search", run("greedy", additive(0), budget))
    print_verdict(dataclasses.replace(judge([chosen], budget, SPACE), scored_by="mine", facts=facts))
    assert f"scores of mine{words}; channels of" in capsys.readouterr().out


def test_the_help_of_the_command_names_every_searcher(run_cli):
    code, out, _ = run_cli(HARNESS, "search", "--help")
    assert code == 0 and all(name in out for name in SEARCHERS.built_in)


BAD_INPUT = [
    ("{scores} --max-flops 10", "no architecture has flops <= 10: the least flops is"),
    ("{scores} --max-flops -3", "--max-flops '-3' is not a budget"),
    ("{scores}", "a search needs a budget: --max-flops, --max-params, --max-memory or --max-latency"),
    ("{scores} --max-latency 3", "--max-latency and --latency go together"),
    ("{scores} --latency x.json --max-flops 1x", "--max-latency and --latency go together"),
    ("{scores} --max-flops 1x --searcher gredy", "unknown searcher 'gredy'"),
    ("{scores} --max-flops 1x --searcher greedy --option a=1", "searcher 'greedy' has no option 'a'"),
    ("{scores} --max-flops 1x --option a", "--option 'a' is not NAME=VALUE"),
    ("{scores} --max-flops 1x --seed -1", "seed -1 is negative"),
    ("{scores} --max-flops 1x --threads 0", "number of threads is 0"),
    ("{scores} --max-flops 1x --method-option a=1", "--method-option is for a method that is trained"),
    (
        "{scores} --max-flops 1x --precision bf16",
        "--precision is for a method that is trained, not",
    ),
    (
        "uniform --max-flops 1x --precision tf32 --device cpu",
        "precision 'tf32' cannot be used on device 'cpu'",
    ),
    ("uniform --max-flops 1x --precision fp8", "precision of recipe .* is 'fp8': allowed is"),
    ("{scores} --max-flops 0.5x --searcher fur", "a file of scores has no function slot_effects"),
    ("{scores} --max-flops 0.5x --searcher argmax", "argmax needs the score of architecture 4444444"),
    ("{scores} --max-flops 0.5x --metric acc", "metric 'acc' is not one of"),
    ("{scores} --max-flops 0.5x --table none.parquet", "'none.parquet' does not exist"),
    ("none.csv --max-flops 0.5x", "score file 'none.csv' does not exist"),
    ("autoslm --max-flops 0.5x", "unknown method 'autoslm': .*did you mean 'autoslim'"),
    ("uniform --max-flops 0.5x --method-option a=1", "method 'uniform' has no option 'a'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT, ids=[arguments for arguments, _ in BAD_INPUT])
def test_bad_input_is_one_line_and_exit_code_2(run_cli, score_file, arguments, message):
    words = arguments.format(scores=score_file).split()
    code, out, err = run_cli(HARNESS, "search", *words, "--space", "resnet-mini")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert re.search(message, err), err


def test_a_search_in_a_file_loads_no_torch(score_file):
    command = (
        "import sys; from harness.cli import app; from channel_bench.support.terminal import run_app\n"
        "try: run_app(app, 'channel-harness', sys.argv[1:])\n"
        "except SystemExit: print(sorted({'torch', 'pymoo', 'sklearn'} & set(sys.modules)), file=sys.stderr)"
    )
    arguments = ["search", str(score_file), "--space", "resnet-mini", "--max-flops", "0.5x", "--searcher", "greedy"]
    done = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr


def test_with_curves_20_random_networks_are_a_reference_of_the_search_s_seed(run_cli, score_file):
    def chosen(seed):
        code, out, err = run_cli(
            *(HARNESS, "search", score_file, "--space", "resnet-mini", "--max-flops", "0.5x", "--searcher", "greedy"),
            *("--json", "--seed", seed),
        )
        assert (code, err) == (0, "")
        return json.loads(out)["rows"][-1]

    rows = [chosen(seed) for seed in (1, 1, 2, 3)]
    assert {row["name"] for row in rows} == {"best of 20 random"}
    assert rows[0] == rows[1] and len({row["arch"] for row in rows}) > 1
    assert all(row["costs"]["flops"] <= 0.5 * SPACE.flops("4444444") and row["regret"] >= 0 for row in rows)


def test_memory_is_a_budget(run_cli, score_file):
    code, out, _ = run_cli(
        *(HARNESS, "search", score_file, "--space", "resnet-mini", "--max-memory", "0.5x", "--searcher", "exhaustive"),
        "--json",
    )
    verdict = json.loads(out)
    limit = 0.5 * SPACE.memory("4444444")
    assert code == 0 and verdict["num_fitting"] == (SPACE.memory() <= limit).sum() < len(SPACE)
    assert verdict["rows"][0]["costs"]["memory"] <= limit
