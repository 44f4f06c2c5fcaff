"""NSGA-II: an evolution for one or two objectives, by pymoo.

K. Deb et al., *A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II*, IEEE TEVC 2002, with pymoo's defaults
but for operators of whole numbers and a population that suits a few hundred trainings. Pymoo itself drops children
that were trained before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from channel_bench.errors import ArgumentError, missing_package
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, NUM_WIDTHS
from harness.optimiser import Domain, Trial, register_optimiser

try:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.evaluator import Evaluator
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.pntx import TwoPointCrossover
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.problems.static import StaticProblem
except ImportError as error:
    raise missing_package("optimiser 'nsga2'", "pymoo", error, "use another optimiser") from None

ENDLESS = 2**31
"""Generations: the budget ends the search, not a number of them."""


@register_optimiser(
    "nsga2", paper="Deb et al., IEEE TEVC 2002", summary="evolution by fronts of both objectives, by pymoo"
)
@dataclass
class Nsga2:
    """Generations of pymoo's NSGA-II.

    Raises:
        ArgumentError: population < 2.
    """

    two_objectives: ClassVar[bool] = True

    population: int = 20

    def __post_init__(self) -> None:
        """Check the option."""
        if self.population < 2:
            raise ArgumentError(f"population is {self.population}: allowed are 2 and above")

    def start(self, domain: Domain, rng: np.random.Generator) -> None:
        """Begin with a random generation."""
        self._rng, self._space = rng, domain.space
        self._problem = Problem(n_var=NUM_SLOTS, n_obj=domain.num_objectives, xl=1, xu=NUM_WIDTHS)
        first = rng.choice(NUM_ARCHS, size=self.population, replace=False)
        self._algorithm = NSGA2(
            pop_size=self.population,
            sampling=domain.space.archs()[first].astype(int),
            crossover=TwoPointCrossover(),
            mutation=PM(eta=3.0, repair=RoundingRepair()),
        )
        self._algorithm.setup(self._problem, termination=("n_gen", ENDLESS), seed=int(rng.integers(2**31)))
        self._next_generation()

    def _next_generation(self) -> None:
        self._generation: Any = self._algorithm.ask()
        born = [] if self._generation is None else self._generation.get("X")
        self._waiting = [int(index) for index in self._space.index(np.asarray(born, np.int8))] if len(born) else []
        self._order = list(self._waiting)
        self._answers: dict[int, tuple[float, ...]] = {}

    def ask(self) -> Trial:
        """The next of the generation; a random one where crossover and mutation give nothing new."""
        if not self._waiting:
            return Trial(int(self._rng.integers(NUM_ARCHS)))
        return Trial(self._waiting[0])

    def tell(self, trial: Trial, values: tuple[float, ...]) -> None:
        """Note it; with the last of a generation, breed the next."""
        if not self._waiting or trial.arch != self._waiting[0]:
            return
        self._waiting.pop(0)
        self._answers[trial.arch] = values
        if not self._waiting:
            costs = -np.array([self._answers[index] for index in self._order])
            Evaluator().eval(StaticProblem(self._problem, F=costs), self._generation)
            self._algorithm.tell(infills=self._generation)
            self._next_generation()
