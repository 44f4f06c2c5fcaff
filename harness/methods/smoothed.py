"""Any method, ranked by a fit to its own scores: `channel-harness rank autoslim+consensus --space resnet-mini`.

A contribution of this project, not of a paper. The method is fitted as it is; its scores are then replaced by an
additive fit to them, or by a consensus of theories that agree with them (`harness.smoothing` has the reasons and the
forms). Truth enters nowhere. With ``samples`` only that number of random architectures is scored, which is enough for
either and saves most of the scoring.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, MethodError
from channel_bench.space import NUM_ARCHS
from harness.method import Evaluator, Method, score_all
from harness.smoothing import Fit, Smoother, check_num_samples, make_smoother
from harness.stats.additive import AdditiveFit

if TYPE_CHECKING:
    from harness.task import Task

SAMPLED_ARCHS = 1000
"""Stream of the task's seed that draws the samples; methods use low numbers."""


class Smoothed:
    """A method whose scores are replaced by a fit to them.

    Args:
        method: Any method.
        form: One of `harness.smoothing.FORMS`.
        samples: Number of random architectures to score and fit to; None for all.
        **options: Of the form.
    """

    def __init__(self, method: Method, form: str, samples: int | None = None, **options: Any) -> None:
        """Check what can be checked before anything is trained."""
        self.method = method
        self.samples = samples
        self._smoother = make_smoother(form, **options)
        check_num_samples(samples, form, self._smoother)

    def fit(self, task: Task) -> SmoothedEvaluator:
        """Fit the method to the task; its scores are computed, and fitted to, when the first score is asked for.

        Raises:
            ArgumentError: The random architectures do not determine the form; known before the method is trained.
        """
        archs = task.space.archs()
        if self.samples is not None:
            chosen = task.rng(SAMPLED_ARCHS).choice(NUM_ARCHS, self.samples, replace=False)
            archs = archs[np.sort(chosen)]
            self._smoother.check(archs, task.space)
        return SmoothedEvaluator(self.method.fit(task), task, self._smoother, archs)


class SmoothedEvaluator:
    """Scores an architecture by a fit to another evaluator's scores.

    Args:
        inner: The evaluator.
        task: The task that it was fitted to.
        smoother: The way to fit.
        archs: int8 (n, 7), architectures that it is asked to score.
    """

    def __init__(self, inner: Evaluator, task: Task, smoother: Smoother, archs: npt.NDArray[np.int8]) -> None:
        """Score nothing yet: so scoring counts as scoring where the two are timed."""
        self.inner = inner
        self.facts: dict[str, Any] = getattr(inner, "facts", {})
        self._task = task
        self._smoother = smoother
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
        return self.smooth.predict(archs)

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
        """What each width of each slot adds to the score, by an additive fit; float64 (7, 4).

        Raises:
            MethodError: The fit is no sum over slots.
        """
        if not isinstance(self.smooth, AdditiveFit):
            raise MethodError("a consensus of theories has no effects of single slots: take METHOD+log instead")
        return self.smooth.effects.copy()

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
    def smooth(self) -> Fit:
        """The fit; an additive one has the effect of every width of every slot."""
        try:
            return self._smoother.fit(self._archs, self._scored["raw_score"], self._task.space)
        except ArgumentError as error:
            raise MethodError(f"the method's scores cannot be smoothed: {error}") from None

    @functools.cached_property
    def _scored(self) -> dict[str, npt.NDArray[np.float64]]:
        """The method's scores and columns, float64 (n,) each in the order of the architectures."""
        scored = score_all(self.inner, self._task, archs=self._archs)
        return {"raw_score": scored.pop("score"), **scored}
