"""The evolutionary search of BCNet (Su et al., CVPR 2021): NSGA-II with the score as its only objective.

As in the paper: a population of 40 in 50 generations (the initial one is the first), tournament selection, two-point
crossover, polynomial mutation; the budget is a hard constraint. Digits are integers, so mutated values are rounded. The
paper does not give the mutation's distribution index: 3 is what pymoo advises for integers (at its default of 20 nearly
every mutation would round back to the digit it came from).

Departs from the paper: it retains 10 in the selection, and does not say whether these are the parents of a generation
or those that compete; here 10 compete in each tournament, and the parents are as many as NSGA-II needs.

`initial` says where the search starts: "random" (architectures that fit, uniformly) or "prior" (`searchers.prior`, from
the losses of the supernet's training). Taken literally the prior's equations give one architecture instead of a
population, so `prior` is "softmax" by default, a relaxation with a spread, and "literal" on request. An architecture
outside the budget is never asked for; it counts as worse than any inside, the further outside the worse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, missing_package
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from harness.searcher import Budget, FloatArray, IntArray, Queries, register_searcher
from harness.searchers.prior import TEMPERATURE, draw, literal_distribution, mean_losses, softmax_distribution

try:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.duplicate import DefaultDuplicateElimination
    from pymoo.core.evaluator import Evaluator
    from pymoo.core.mating import Mating
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.pntx import TwoPointCrossover
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.selection.tournament import TournamentSelection
    from pymoo.problems.static import StaticProblem
except ImportError as error:
    raise missing_package("searcher 'evolutionary'", "pymoo", error, "use another searcher") from None

INITIAL, PRIORS = ("random", "prior"), ("softmax", "literal")
MAX_MATINGS = 10
"""How often parents are mated for one generation where children repeat; then it stays smaller. Pymoo tries 100 times,
which only costs time once a population of neighbours has nothing new to give."""
NO_SCORE = 1.0
"""Constraint violation of an architecture that fits but has no score: as if it cost twice the limit."""


@register_searcher("evolutionary")
@dataclass(frozen=True)
class Evolutionary:
    """NSGA-II by pymoo; the history holds the best so far after each generation."""

    initial: str = "random"
    """Where the initial population comes from: "random" or "prior"."""
    population: int = 40
    generations: int = 50
    """The initial population is the first."""
    tournament: int = 10
    """How many compete to be a parent."""
    mutation_eta: float = 3.0
    """Distribution index of the polynomial mutation: larger stays closer to the parent; at least 1."""
    keep: int = 100
    """How many records of training make the prior."""
    prior: str = "softmax"
    """How the prior's equations are solved: "softmax" with a spread, or "literal", which draws one architecture."""
    temperature: float = TEMPERATURE
    """Spread of the softmax prior, > 0: larger is closer to equal probabilities."""

    def __post_init__(self) -> None:
        """Check the options."""
        if self.initial not in INITIAL:
            raise ArgumentError(f"initial {self.initial!r} is not one of {', '.join(INITIAL)}")
        if self.prior not in PRIORS:
            raise ArgumentError(f"prior {self.prior!r} is not one of {', '.join(PRIORS)}")
        if not 0 < self.temperature < math.inf:
            raise ArgumentError(f"temperature is {self.temperature}: allowed are numbers > 0")
        for name, least in (("population", 2), ("generations", 1), ("tournament", 1), ("mutation_eta", 1), ("keep", 1)):
            if not getattr(self, name) >= least:
                raise ArgumentError(f"{name} is {getattr(self, name)}: allowed are {least} and above")

    def search(self, queries: Queries, budget: Budget, rng: np.random.Generator) -> int:
        """Index of the best architecture of all generations.

        Raises:
            MethodError: The prior is asked for, and the evaluator has no losses of training.
        """
        allowed = budget.fits & queries.scored
        problem = Problem(n_var=NUM_SLOTS, n_obj=1, n_ieq_constr=1, xl=1, xu=NUM_WIDTHS)
        algorithm = NSGA2(
            pop_size=self.population,
            sampling=queries.space.archs()[self.first_generation(queries, budget, rng)].astype(int),
            mating=Mating(
                TournamentSelection(func_comp=_winners, pressure=self.tournament),
                TwoPointCrossover(),
                PM(eta=self.mutation_eta, repair=RoundingRepair()),
                eliminate_duplicates=DefaultDuplicateElimination(),
                n_max_iterations=MAX_MATINGS,
            ),
        )
        algorithm.setup(problem, termination=("n_gen", self.generations), seed=int(rng.integers(2**31)))
        seen: list[int] = []
        while algorithm.has_next():
            population = algorithm.ask()
            if population is None or len(population) == 0:
                break  # crossover and mutation gave nothing that is new
            indices = queries.space.index(population.get("X").astype(np.int8))
            fitting = allowed[indices]
            objective, violation = np.zeros(len(indices)), np.zeros(len(indices))
            objective[fitting] = -queries.score_indices(indices[fitting])
            excess = np.maximum(budget.costs[indices] / budget.limit - 1, 0)
            violation[~fitting] = np.where(excess > 0, excess, NO_SCORE)[~fitting]
            answered = StaticProblem(problem, F=objective[:, None], G=violation[:, None])
            Evaluator().eval(answered, population)
            algorithm.tell(infills=population)
            seen = [queries.best([*seen, *indices[fitting]])]
            queries.note(seen[0])
        return seen[0]

    def first_generation(self, queries: Queries, budget: Budget, rng: np.random.Generator) -> IntArray:
        """Indices of the initial population, in the order of drawing: distinct, all fit.

        Raises:
            MethodError: The prior is asked for, and the evaluator has no losses of training.
        """
        allowed = budget.fits & queries.scored
        if self.initial == "random":
            return rng.permutation(np.flatnonzero(allowed))[: self.population]
        losses = mean_losses(*queries.training_losses(), keep=self.keep)
        if self.prior == "literal":
            widths = literal_distribution(losses, budget, rng)
        else:
            widths = softmax_distribution(losses, budget, self.temperature)
        return draw(widths, self.population, allowed, rng)


def _winners(population: Any, candidates: IntArray, **_: Any) -> IntArray:
    """Winner of each tournament: the least constraint violation, then the best score; among equals the first drawn.

    Args:
        population: All individuals.
        candidates: (num_tournaments, size), positions in the population, in random order.
        **_: What else pymoo passes.

    Returns:
        (num_tournaments, 1), positions in the population.
    """
    quality: FloatArray = np.column_stack([population.get("CV")[:, 0], population.get("F")[:, 0]])
    place: npt.NDArray[np.intp] = np.unique(quality, axis=0, return_inverse=True)[1].ravel()
    return candidates[np.arange(len(candidates)), place[candidates].argmin(1)][:, None]
