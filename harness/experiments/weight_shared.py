"""What the experiments on weight-shared supernets have in common: train one, score widths, search, look up the truth.

    >>> truth = truth_of(setting)
    >>> trained = train("bcnet", {"complement": "none"}, setting, seed=0, among=np.isfinite(truth))
    >>> ranking_of(trained, truth)["kendall"]
    >>> searches_of(trained, truth, budgets, {"greedy": Greedy()}, seed=0)["greedy"][".5x"][0]["regret"]

Supernets are scored by accuracy on held-out training images; the truth is the table's. A search asks the scores that
are there and is judged by the truth; of equal scores it takes the one with fewer FLOPs (`Queries.best`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_ARCHS, FloatArray, Space
from channel_bench.table.ranks import ACCURACY_DECIMALS
from harness.experiments.contract import Setting
from harness.search.run import search
from harness.searcher import BoolArray, Budget, Found, IntArray, Queries, Searcher
from harness.searchers import get_searcher
from harness.searchers.greedy import Greedy
from harness.stats.metrics import correlations

QUERIES = (40, 100, 200, 300, 500, 1000, 2000)
"""Numbers of questions at which the best found so far is looked at; 40 is the first generation of the paper's search,
2,000 are its 50 generations."""
NUM_REPEATS = 3
"""Searches of each kind per supernet and budget, each with its own random numbers; the same ones for all kinds."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The scores of a supernet as an evaluator that costs nothing to ask."""

    space: Space
    scores: FloatArray
    """Float64 (16384,) in index order, NaN where it was not scored."""
    records: tuple[npt.NDArray[np.int8], FloatArray]
    """What `SupernetEvaluator.training_losses` returned."""
    train_macs: int
    """Multiply-accumulates of its training, forward and backward."""
    fit_s: float
    """Seconds of its training."""

    @property
    def scored(self) -> BoolArray:
        """Which architectures have a score, bool (16384,)."""
        return np.isfinite(self.scores)

    def score(self, archs: npt.NDArray[np.int8]) -> FloatArray:
        """Scores, float64 (n,)."""
        return self.scores[self.space.index(archs)]

    def training_losses(self) -> tuple[npt.NDArray[np.int8], FloatArray]:
        """Architectures and losses of its training, which the prior is made from."""
        return self.records


@dataclass(frozen=True)
class Draws:
    """A searcher: the best of 2,000 draws, noted at each of `QUERIES`."""

    initial: str = "random"
    """Where they are drawn from: "random" or "prior", as `Evolutionary.initial`."""

    def search(self, queries: Queries, budget: Budget, rng: np.random.Generator) -> int:
        """Index of the best draw."""
        drawn = _first_generation(self.initial, QUERIES[-1], queries, budget, rng)
        best = int(drawn[0])
        for number in QUERIES:
            best = queries.best(drawn[:number])
            queries.note(best)
        return best


GREEDY = "greedy"
EVOLUTION, EVOLUTION_PRIOR = "evolutionary, random start", "evolutionary, prior start"
PRIOR_ONLY, RANDOM_ONLY = "prior only", "random only"


def ablation_searchers() -> dict[str, Searcher]:
    """The searches of BCNet's ablation by name, and random draws as what each must beat.

    Raises:
        MissingPackageError: pymoo is not installed.
    """
    return {
        GREEDY: Greedy(),
        EVOLUTION: get_searcher("evolutionary"),
        EVOLUTION_PRIOR: get_searcher("evolutionary", initial="prior"),
        PRIOR_ONLY: Draws("prior"),
        RANDOM_ONLY: Draws(),
    }


def train(method: str, options: Mapping[str, Any], setting: Setting, seed: int, among: BoolArray) -> Trained:
    """Train a method's supernet and score some architectures.

    Args:
        method: Name of a method that records losses of training.
        options: Of its constructor.
        setting: Space, data set and length of training.
        seed: Of everything random.
        among: What to score, bool (16384,).
    """
    from harness.method import score_all
    from harness.methods import get_method
    from harness.ranking.request import prepare_task
    from harness.ranking.run import arithmetic, fit

    task = prepare_task(dataclasses.replace(setting.task, seed=seed))
    evaluator, fit_s = fit(method, get_method(method, **options), task)
    scores = np.full(NUM_ARCHS, np.nan)
    with arithmetic():
        scores[among] = score_all(evaluator, task, archs=task.space.archs()[among])["score"]
    records = Queries(task.space, evaluator).training_losses()
    facts: dict[str, Any] = getattr(evaluator, "facts", {})
    return Trained(task.space, scores, records, int(facts["train_macs"]), round(fit_s, 2))


def ranking_of(trained: Trained, truth: FloatArray) -> dict[str, Any]:
    """Correlations of scores and truth where both are there, on how many, and what the training cost."""
    there = trained.scored & np.isfinite(truth)
    found = correlations(trained.scores[there], truth[there])
    return {**dataclasses.asdict(found), "train_macs": trained.train_macs, "fit_s": trained.fit_s}


def flops_budgets(space: Space, limits: Mapping[str, float]) -> dict[str, Budget]:
    """Budgets of MACs by name; limits are MACs."""
    return {name: Budget("flops", space.flops(), float(limit)) for name, limit in limits.items()}


def searches_of(
    trained: Trained,
    truth: FloatArray,
    budgets: Mapping[str, Budget],
    searchers: Mapping[str, Searcher],
    seed: int,
    num_repeats: int = NUM_REPEATS,
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Search within each budget with each searcher, and look up what was found.

    Args:
        trained: The scores; all of them have a truth.
        truth: True accuracies (16384,), percent.
        budgets: By name.
        searchers: By name.
        seed: Of the searches, with the number of the repetition.
        num_repeats: How often; greedy slimming, in which nothing is random, once.

    Returns:
        By searcher and budget a list of repetitions; each says architecture, score, true accuracy, regret (percentage
        points below the best that fits), questions asked, and the regret of the best so far at each of `QUERIES`.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, searcher in searchers.items():
        repeats = 1 if isinstance(searcher, Greedy) else num_repeats
        found[name] = {}
        for label, budget in budgets.items():
            ends = [
                search(trained.space, trained, budget, np.random.default_rng([seed, repeat]), searcher)
                for repeat in range(repeats)
            ]
            best = best_within(trained, truth, budget)
            found[name][label] = [_judged(trained.space, budget, end, truth, best) for end in ends]
    return found


def best_within(trained: Trained, truth: FloatArray, budget: Budget) -> float:
    """Highest true accuracy of what fits and can be chosen.

    Raises:
        ArgumentError: Nothing that fits has score and truth.
    """
    among = truth[trained.scored & budget.fits & np.isfinite(truth)]
    if not among.size:
        raise ArgumentError(f"nothing with {budget} has a score and a true accuracy")
    return float(among.max())


def first_generations(
    trained: Trained, truth: FloatArray, budgets: Mapping[str, Budget], seed: int, num_repeats: int = NUM_REPEATS
) -> dict[str, dict[str, float]]:
    """Mean true accuracy of the architectures that the evolutionary search starts with, by start and budget."""
    found: dict[str, dict[str, float]] = {}
    for initial in ("random", "prior"):
        found[initial] = {}
        for label, budget in budgets.items():
            populations = [
                _first_generation(
                    initial, QUERIES[0], Queries(trained.space, trained), budget, np.random.default_rng([seed, repeat])
                )
                for repeat in range(num_repeats)
            ]
            found[initial][label] = float(np.mean([truth[population].mean() for population in populations]))
    return found


def _first_generation(initial: str, size: int, queries: Queries, budget: Budget, rng: np.random.Generator) -> IntArray:
    from harness.searchers.evolutionary import Evolutionary

    return Evolutionary(initial=initial, population=size).first_generation(queries, budget, rng)


def _judged(space: Space, budget: Budget, end: Found, truth: FloatArray, best: float) -> dict[str, Any]:
    def regret(arch: str) -> float:
        return round(best - float(truth[space.index(arch)]), ACCURACY_DECIMALS)

    return {
        "arch": end.arch,
        "score": end.score,
        "accuracy": float(truth[space.index(end.arch)]),
        "regret": regret(end.arch),
        "num_queries": end.num_queries,
        "regret_at": [None if arch is None else regret(arch) for arch in _held_at(end, space, budget)],
    }


def _held_at(end: Found, space: Space, budget: Budget) -> list[str | None]:
    """The best within the budget after each number of `QUERIES`: None before there is one, the end once it has ended.

    Greedy slimming has none before its end: all of its way lies outside.
    """
    fitting = [step for step in end.history if budget.fits[space.index(step.arch)]]
    held: list[str | None] = []
    for number in QUERIES:
        before = [step.arch for step in fitting if step.num_queries <= number]
        held.append(end.arch if number >= end.num_queries else before[-1] if before else None)
    return held


# -- from measured values, for outcomes -------------------------------------------------------------------------------


def mean_of(searches: Mapping[str, list[dict[str, Any]]], key: str = "accuracy", at: int | None = None) -> float:
    """Mean over budgets of the mean over repetitions of a value, or of its entry for `QUERIES[at]`."""
    return float(np.mean([mean_within(repeats, key, at) for repeats in searches.values()]))


def mean_within(repeats: list[dict[str, Any]], key: str = "accuracy", at: int | None = None) -> float:
    """Mean over the repetitions within one budget."""
    return float(np.mean([each[key] if at is None else each[key][at] for each in repeats]))


def seeds_in_words(seeds: Sequence[int]) -> str:
    """How many they are: "3 seeds"."""
    return f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
