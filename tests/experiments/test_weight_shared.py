"""Searches of known scores are judged by a known truth, on what is scored and nothing else."""

import numpy as np
import pytest

import channel_bench as cb
from channel_bench.errors import ArgumentError
from harness.experiments.weight_shared import (
    EVOLUTION,
    EVOLUTION_PRIOR,
    GREEDY,
    PRIOR_ONLY,
    QUERIES,
    RANDOM_ONLY,
    Draws,
    Trained,
    ablation_searchers,
    best_within,
    first_generations,
    flops_budgets,
    mean_of,
    ranking_of,
    searches_of,
)
from harness.searcher import Queries
from harness.searchers.greedy import Greedy

SPACE = cb.get_space("resnet-mini")
DIGITS = SPACE.archs().astype(float)
SUMS = DIGITS.sum(1)


def trained_of(scores, records=None):
    if records is None:
        archs = SPACE.archs()[::40]
        records = archs, -np.array(DIGITS[::40]).sum(1) + 29
    return Trained(SPACE, np.asarray(scores, float), records, 5, 0.1)


@pytest.fixture(scope="module")
def budgets():
    return flops_budgets(SPACE, {"half": 0.5 * SPACE.flops("4444444")})


def test_searches_of_the_truth_itself_end_at_its_best_and_of_its_opposite_at_its_worst(budgets):
    # Distinct values, so that there is one best: digits weigh little beside their sum.
    truth = SUMS + DIGITS @ (0.01 * 0.3 ** np.arange(7))
    fits = SPACE.flops() <= 0.5 * SPACE.flops("4444444")
    found = searches_of(trained_of(truth), truth, budgets, ablation_searchers(), 0, num_repeats=1)
    assert list(found) == [GREEDY, EVOLUTION, EVOLUTION_PRIOR, PRIOR_ONLY, RANDOM_ONLY]
    best = SPACE.text(int(np.where(fits, truth, -np.inf).argmax()))
    for name in (EVOLUTION, EVOLUTION_PRIOR):
        assert [(end["arch"], end["regret"]) for end in found[name]["half"]] == [(best, 0)]
    for ends in found.values():
        for end in ends["half"]:
            assert fits[SPACE.index(end["arch"])] and end["accuracy"] == truth[SPACE.index(end["arch"])] == end["score"]
            assert end["regret"] == pytest.approx(truth[fits].max() - end["accuracy"], abs=1e-4)
            held = [regret for regret in end["regret_at"] if regret is not None]
            assert held == sorted(held, reverse=True) and held[-1] == end["regret"]  # more questions never harm here
    narrowest = searches_of(trained_of(-truth), truth, budgets, {EVOLUTION: ablation_searchers()[EVOLUTION]}, 0, 1)
    ends = narrowest[EVOLUTION]["half"]
    assert [end["regret"] for end in ends] == pytest.approx([truth[fits].max() - truth.min()], abs=1e-4)


def test_a_search_is_repeated_with_other_numbers_but_greedy_slimming_is_not(budgets):
    searchers = {"draws": Draws(), GREEDY: Greedy()}
    found = searches_of(trained_of(np.random.default_rng(0).random(16384)), SUMS, budgets, searchers, 0)
    assert len(found[GREEDY]["half"]) == 1 and len({end["arch"] for end in found["draws"]["half"]}) > 1


def test_draws_ask_for_2000_and_the_best_of_them_is_noted_on_the_way(budgets):
    (budget,) = budgets.values()
    (end,) = searches_of(trained_of(SUMS), SUMS, budgets, {"all": Draws()}, 3, num_repeats=1)["all"]["half"]
    order = np.random.default_rng([3, 0]).permutation(np.flatnonzero(budget.fits))[:2000]
    assert end["num_queries"] == 2000
    assert end["regret_at"] == [SUMS[budget.fits].max() - SUMS[order[:number]].max() for number in QUERIES]


class Scripted:
    """Asks for given architectures one after the other, and notes each."""

    def __init__(self, batches, end):
        self.batches, self.end = batches, end

    def search(self, queries, budget, rng):
        for batch, noted in self.batches:
            queries.score_indices(batch)
            queries.note(noted)
        return self.end


def test_what_a_search_held_is_looked_up_at_each_number_of_queries(budgets):
    widest, ones, twos = (SPACE.index(text) for text in ("4444444", "1111111", "2222222"))
    some = np.flatnonzero(SPACE.flops() < SPACE.flops("2222222"))
    # 60 questions; then 150, with what does not fit; then 250.
    batches = [([ones, *some[-59:]], ones), ([widest, *some[1:90]], widest), ([twos, *some[90:189]], twos)]
    (end,) = searches_of(trained_of(SUMS), SUMS, budgets, {"it": Scripted(batches, twos)}, 0, 1)["it"]["half"]
    (budget,) = budgets.values()
    best = SUMS[budget.fits].max()
    assert end["num_queries"] == 250
    assert end["regret_at"] == [None, best - 7, best - 7, best - 14, best - 14, best - 14, best - 14]


def test_only_what_is_scored_is_ranked_found_and_the_best(budgets):
    (budget,) = budgets.values()
    few = np.full(len(SUMS), np.nan)
    few[:100] = -SUMS[:100]
    assert ranking_of(trained_of(few), SUMS)["n"] == 100
    assert ranking_of(trained_of(few), SUMS)["kendall"] == ranking_of(trained_of(few), SUMS)["pearson"] == -1
    assert best_within(trained_of(few), SUMS, budget) == SUMS[:100][budget.fits[:100]].max()
    (end,) = searches_of(trained_of(few), SUMS, budgets, {"all": Draws()}, 0, 1)["all"]["half"]
    assert end["arch"] == "1111111" and end["num_queries"] == budget.fits[:100].sum() <= 100
    with pytest.raises(ArgumentError, match="nothing with flops <= .* has a score and a true accuracy"):
        best_within(trained_of(few * np.nan), SUMS, budget)


def test_a_first_generation_is_that_of_the_search(budgets):
    (budget,) = budgets.values()
    trained = trained_of(SUMS)
    found = first_generations(trained, SUMS, budgets, 4, num_repeats=2)
    searcher = ablation_searchers()[EVOLUTION_PRIOR]
    populations = [
        searcher.first_generation(Queries(SPACE, trained), budget, np.random.default_rng([4, repeat]))
        for repeat in (0, 1)
    ]
    assert [len(set(population.tolist())) for population in populations] == [40, 40]
    assert found["prior"]["half"] == pytest.approx(np.mean([SUMS[population].mean() for population in populations]))
    # The losses of these records fall with every width, so their prior draws wide architectures.
    assert found["prior"]["half"] > found["random"]["half"] + 0.5


def test_a_mean_is_of_the_repetitions_first_so_that_budgets_weigh_equally():
    searches = {"a": [{"accuracy": 1.0}, {"accuracy": 2.0}, {"accuracy": 3.0}], "b": [{"accuracy": 6.0}]}
    assert mean_of(searches) == 4.0
    assert mean_of({"a": [{"regret_at": [None, 2.0]}], "b": [{"regret_at": [9.0, 3.0]}]}, "regret_at", 1) == 2.5
