"""TPE and other samplers of Optuna, asked through Optuna's own ask and tell.

J. Bergstra et al., *Algorithms for Hyper-Parameter Optimization*, NeurIPS 2011; the code is Optuna's (T. Akiba et al.,
KDD 2019), with its defaults. Widths are seven integers 1 ... 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from channel_bench.errors import ArgumentError, missing_package
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from harness.optimiser import Domain, Trial, register_optimiser

try:
    import optuna
except ImportError as error:
    raise missing_package("optimiser 'tpe'", "optuna", error, "use another optimiser") from None

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "nsga2": "NSGAIISampler"}


@register_optimiser("tpe", paper="Bergstra et al., NeurIPS 2011", summary="tree-structured Parzen estimator of Optuna")
@dataclass
class Tpe:
    """A sampler of Optuna.

    Raises:
        ArgumentError: No such sampler.
    """

    two_objectives: ClassVar[bool] = True

    sampler: str = "tpe"
    """tpe, random or nsga2."""

    def __post_init__(self) -> None:
        """Check the option."""
        if self.sampler not in SAMPLERS:
            raise ArgumentError(f"sampler is {self.sampler!r}: allowed are {', '.join(SAMPLERS)}")

    def start(self, domain: Domain, rng: np.random.Generator) -> None:
        """Begin a study in memory."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = getattr(optuna.samplers, SAMPLERS[self.sampler])(seed=int(rng.integers(2**31)))
        self._study = optuna.create_study(directions=["maximize"] * domain.num_objectives, sampler=sampler)
        self._widths = {f"slot{slot}": optuna.distributions.IntDistribution(1, NUM_WIDTHS) for slot in range(NUM_SLOTS)}
        self._open: dict[int, Any] = {}

    def ask(self) -> Trial:
        """What the sampler suggests."""
        trial = self._study.ask(self._widths)
        index = 0
        for slot in range(NUM_SLOTS):
            index = index * NUM_WIDTHS + trial.params[f"slot{slot}"] - 1
        self._open[index] = trial
        return Trial(index)

    def tell(self, trial: Trial, values: tuple[float, ...]) -> None:
        """Pass it on."""
        self._study.tell(self._open.pop(trial.arch), list(values))
