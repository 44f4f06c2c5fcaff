"""Any method, ranked by an additive fit to its own scores: `channel-harness rank autoslim+log --space resnet-mini`.

A contribution of this project, not of a paper. The method is fitted as it is; its scores are then replaced by
b + sum over slots of f_l(w_l), fitted to them by least squares (`harness.stats.smoothing` has the reasons and the
forms of f_l). Truth enters nowhere. With ``samples`` only that number of random architectures is scored, which is
enough for a fit of 8 or 22 parameters and saves most of the scoring.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, MethodError
from channel_bench.space import NUM_ARCHS
from harness.method import Evaluator, Method, score_all
from harness.stats.smoothing import AdditiveFit, check_design, check_num_samples, fit_effects

if TYPE_CHECKING:
    from harness.task import Task

SAMPLED_ARCHS = 1000
"""Stream of the task's seed that draws the samples; methods use low numbers."""


class Additive:
    """A method whose scores are replaced by an additive fit to them.

    Args:
        method: Any method.
        form: One of `harness.stats.smoothing.FORMS`.
        samples: Number of random architectures to score and fit to; None for all.
    """

    def __init__(self, method: Method, form: str, samples: int | None = None) -> None:
        """Check what can be checked before anything is trained."""
        check_num_samples(samples, form)
        self.method = method
        self.form = form
        self.samples = samples

    def fit(self, task: Task) -> AdditiveEvaluator:
        """Fit the method to the task; its scores are computed, and fitted to, when the first score is asked for.

        Raises:
            ArgumentError: The random architectures do not determine the form; known before the method is trained.
        """
        archs = task.space.archs()
        if self.samples is not None:
            chosen = task.rng(SAMPLED_ARCHS).choice(NUM_ARCHS, self.samples, replace=False)
            archs = archs[np.sort(chosen)]
            check_design(archs, self.form, task.space)
        return AdditiveEvaluator(self.method.fit(task), task, self.form, archs)


class AdditiveEvaluator:
    """Scores an architecture by an additive fit to another evaluator's scores.

    Args:
        inner: The evaluator.
        task: The task that it was fitted to.
        form: One of `harness.stats.smoothing.FORMS`.
        archs: int8 (n, 7), architectures that it is asked to score.
    """

    def __init__(self, inner: Evaluator, task: Task, form: str, archs: npt.NDArray[np.int8]) -> None:
        """Score nothing yet: so scoring counts as scoring where the two are timed."""
        self.inner = inner
        self.facts: dict[str, Any] = getattr(inner, "facts", {})
        self._task = task
        self._form = form
        self._archs = archs

    def score(self, archs: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """Scores by the fit.

        Args:
            archs: int8 (n, 7), digits 1..4, in any order.

        Returns:
            float64 (n,), in the units of the method's scores.

        Raises:
            MethodError: The method's scores break its contract, or are all equal.
        """
        return self.effects.predict(archs)

    def columns(self, archs: npt.NDArray[np.int8]) -> dict[str, npt.NDArray[np.float64]]:
        """The method's own scores ("raw_score") and its columns, float64 (n,) each; none where only samples have them.

        Args:
            archs: int8 (n, 7), digits 1..4, in any order.
        """
        if len(self._archs) < NUM_ARCHS:
            return {}
        rows = self._task.space.index(archs)
        return {name: values[rows] for name, values in self._scored.items()}

    def slot_effects(self) -> npt.NDArray[np.float64]:
        """What each width of each slot adds to the score, by the fit; float64 (7, 4)."""
        return self.effects.effects.copy()

    def training_losses(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
        """Training losses of the method (`Queries.training_losses`); the fit changes scores, not these.

        Raises:
            MethodError: The method does not tell them.
        """
        function = getattr(self.inner, "training_losses", None)
        if not callable(function):
            raise MethodError(
                f"this search needs the losses of the method's training, and {type(self.inner).__name__} has no"
                " function training_losses()"
            )
        archs, losses = function()
        return archs, losses

    @functools.cached_property
    def effects(self) -> AdditiveFit:
        """The fit, with the effect of every width of every slot."""
        try:
            return fit_effects(self._archs, self._scored["raw_score"], self._form, self._task.space)
        except ArgumentError as error:
            raise MethodError(f"the method's scores have no additive fit: {error}") from None

    @functools.cached_property
    def _scored(self) -> dict[str, npt.NDArray[np.float64]]:
        """The method's scores and columns, float64 (n,) each in the order of the architectures."""
        scored = score_all(self.inner, self._task, archs=self._archs)
        return {"raw_score": scored.pop("score"), **scored}
