"""Bayesian optimisation: a Gaussian process, and the largest expected improvement.

J. Snoek et al., *Practical Bayesian Optimization of Machine Learning Algorithms*, NeurIPS 2012, with the regressor of
scikit-learn: a Matern kernel (nu 2.5) with a length per slot and noise, on the logarithms of the width ratios. The
lengths are fitted again after 10, 20, 40, ... trainings, since that is what costs time. Candidates are the neighbours
of the best known and a thousand random architectures, all not yet trained.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from channel_bench.errors import ArgumentError, missing_package
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, FloatArray
from harness.optimiser import Domain, Trial, neighbours, register_optimiser

try:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
except ImportError as error:
    raise missing_package("optimiser 'gaussian_process'", "sklearn", error, "use another optimiser") from None

NUM_CANDIDATES = 1000


@register_optimiser(
    "gaussian_process", paper="Snoek et al., NeurIPS 2012", summary="expected improvement under a Gaussian process"
)
@dataclass
class GaussianProcess:
    """Expected improvement; it looks at the accuracy only.

    Raises:
        ArgumentError: initial < 2.
    """

    initial: int = 10
    """Random trainings before the first fit."""

    def __post_init__(self) -> None:
        """Check the option."""
        if self.initial < 2:
            raise ArgumentError(f"initial is {self.initial}: allowed are 2 and above")

    def start(self, domain: Domain, rng: np.random.Generator) -> None:
        """Begin with random architectures."""
        self._rng = rng
        self._features: FloatArray = np.log(domain.space.archs() / 4.0)
        self._indices: list[int] = []
        self._values: list[float] = []
        self._is_new = np.ones(NUM_ARCHS, bool)
        self._first = rng.choice(NUM_ARCHS, size=self.initial, replace=False).tolist()
        self._kernel: Any = ConstantKernel(1.0, (1e-2, 1e2)) * Matern([1.0] * NUM_SLOTS, (0.1, 30), nu=2.5)
        self._kernel += WhiteKernel(0.1, (1e-4, 10))
        self._fit_at = self.initial

    def ask(self) -> Trial:
        """The candidate with the largest expected improvement."""
        if self._first:
            return Trial(self._first.pop())
        from scipy.stats import norm

        best = self._indices[int(np.argmax(self._values))]
        candidates = np.union1d(neighbours()[best], self._rng.integers(NUM_ARCHS, size=NUM_CANDIDATES))
        candidates = candidates[self._is_new[candidates]]
        if not len(candidates):
            return Trial(int(self._rng.integers(NUM_ARCHS)))
        mean, std = self._regressor().predict(self._features[candidates], return_std=True)
        ahead = mean - self._top
        scaled = ahead / np.maximum(std, 1e-12)
        return Trial(int(candidates[np.argmax(ahead * norm.cdf(scaled) + std * norm.pdf(scaled))]))

    def _regressor(self) -> Any:
        values = np.array(self._values)
        values = (values - values.mean()) / (values.std() or 1.0)
        self._top = float(values.max())
        refit = len(values) >= self._fit_at
        regressor = GaussianProcessRegressor(
            self._kernel, optimizer="fmin_l_bfgs_b" if refit else None, alpha=1e-8, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of a length at its bound: a slot that decides nothing
            regressor.fit(self._features[self._indices], values)
        if refit:
            self._kernel, self._fit_at = regressor.kernel_, 2 * len(values)
        return regressor

    def tell(self, trial: Trial, values: tuple[float, ...]) -> None:
        """One more point."""
        self._indices.append(trial.arch)
        self._values.append(values[0])
        self._is_new[trial.arch] = False
