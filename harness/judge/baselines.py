"""What any supernet has to beat before its ranking says anything: scores for free, and a few trained architectures.

    >>> baseline_scores(get_space("resnet"))["flops"]            # float64 (16384,), higher is better
    >>> curve = additive_curve(space, table.accuracies())        # what n trained architectures + least squares reach
    >>> exchange_rate(0.65, curve).n                             # "this ranking is worth n trained architectures"

Trained accuracies are additive over slots to within noise. So whoever trains n random architectures, fits a sum over
slots to their accuracies and ranks all others by it has a ranking, too, and n is the unit in which a method's Kendall
can be paid: the n at which that ranking is as good.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, FloatArray, Space
from channel_bench.space.layers import IMAGE
from channel_bench.support.memory import keep_temporaries
from harness.judge.expected import expected_l2_norm, expected_synflow, relu_count
from harness.stats.additive import check_design, fit_effects, num_parameters
from harness.stats.concordance import Ordered, Rankings
from harness.stats.metrics import kendall
from harness.stats.theories import mean_of_theories

BASELINES = {
    "flops": "multiply-accumulates",
    "params": "learnable parameters",
    "sum-log-width": "sum over slots of the logarithm of the width ratio",
    "digit-sum": "sum of the seven digits",
    "min-width": "smallest digit",
    "log-paths": "logarithm of the number of paths from the image to an output (path norm of weights of one)",
    "expected-synflow": "logarithm of the mean of SynFlow over initial weights",
    "expected-l2-norm": "sum over layers of the norm of initial weights (root of the mean square)",
    "relu-count": "number of ReLU units",
    "mean-of-theories": "mean of several hundred standardised formulas of the widths (harness.stats.theories)",
}

SIZES = (8, 10, 12, 14, 16, 20, 24, 32, 48, 64, 128, 256, 512)
"""Numbers of trained architectures; close together where the curve is steep."""
NUM_DRAWS = 50
LEVEL = 0.95
FORM = "log"
"""Form of the fit, of `harness.stats.additive.FORMS`: 8 parameters, so that 8 architectures are enough."""
_MAX_TRIES = 100


def baseline_scores(space: Space) -> dict[str, FloatArray]:
    """Scores of all architectures by each of BASELINES.

    Half a second at first, for the mean of theories; kept in memory for the next call.

    Returns:
        float64 (16384,) in index order per name, higher is better; read-only.
    """
    return dict(_baseline_scores(space))


@functools.lru_cache(maxsize=16)
def _baseline_scores(space: Space) -> dict[str, FloatArray]:
    digits = space.archs().astype(np.float64)
    scores = {
        "flops": space.flops().astype(np.float64),
        "params": space.params().astype(np.float64),
        # As the logarithm of one product, which is an exact integer: summing seven logarithms would break the ties of
        # equal products by rounding errors, and that alone moves Kendall by up to .008.
        "sum-log-width": np.log(digits.prod(1) / 4.0**NUM_SLOTS),
        "digit-sum": digits.sum(1),
        "min-width": digits.min(1),
        "log-paths": np.array([math.log(paths) for paths in num_paths(space)]),
        "expected-synflow": expected_synflow(space),
        "expected-l2-norm": expected_l2_norm(space),
        "relu-count": relu_count(space),
        "mean-of-theories": mean_of_theories(space),
    }
    assert scores.keys() == BASELINES.keys()
    for each in scores.values():
        each.flags.writeable = False
    return scores


def num_paths(space: Space) -> npt.NDArray[np.object_]:
    """Paths from the image to one output of every architecture, through channels, taps of filters and skip lines.

    What a network gives for an image of ones if all its weights are one, nothing is normalised and images have no
    border: its path norm (Neyshabur, Tomioka and Srebro, COLT 2015), and what SynFlow (Tanaka et al., NeurIPS 2020)
    keeps as large as it can.

    Returns:
        Python integers (16384,) in index order, up to 2^131: exact, so that equal products tie.
    """
    channels = space.channel_counts(space.archs()).astype(object)
    paths = np.ones(NUM_ARCHS, object)
    for block in space.blocks:
        through = paths
        for layer in block:
            reads = space.input_shape[0] if layer.reads == IMAGE else channels[:, layer.reads]
            through = through * layer.kernel**2 * (1 if layer.depthwise else reads)
        paths = through + paths if any(layer.skip for layer in block) else through
    return np.asarray(paths * channels[:, space.layers[-1].reads])


@dataclass(frozen=True)
class AdditivePoint:
    """Kendall of additive fits to n trained architectures with the truth of the rest."""

    n: int
    """Trained architectures, each with all the runs of the truth."""
    mean: float
    """Over draws of the n."""
    low: float
    """Central interval of the draws: what an unlucky and a lucky choice of n give."""
    high: float
    std: float
    """Standard deviation over draws (ddof=1)."""


@dataclass(frozen=True)
class AdditiveCurve:
    """Kendall of additive fits against the number of trained architectures."""

    form: str
    """One of `harness.stats.additive.FORMS`."""
    points: list[AdditivePoint]
    """By ascending n."""
    fitted_on_all: float
    """Kendall of the fit to every accuracy with those same accuracies: what the form can do at best."""
    num_scored: int
    """Architectures that a fit is scored on, before those that it was fitted to are taken out."""
    num_draws: int
    level: float
    """Of the intervals."""


def additive_curve(
    space: Space,
    truth: npt.ArrayLike,
    *,
    sizes: Sequence[int] = SIZES,
    num_draws: int = NUM_DRAWS,
    form: str = FORM,
    among: npt.ArrayLike | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> AdditiveCurve:
    """What n trained architectures are worth: fit a sum over slots to n random accuracies, score it on the rest.

    A draw that does not determine the fit is drawn again, as someone would who chooses what to train; that concerns
    one draw in 500 with 8 architectures and form "log", many where n is close to the parameters of "onehot".

    Args:
        space: The space.
        truth: Accuracies in index order, float (16384,), NaN where missing. What is drawn is fitted as it is: means
            over 3 runs stand for 3 trainings each.
        sizes: Numbers of architectures; those that do not determine the form, or exceed half of the accuracies, are
            left out.
        num_draws: Draws for each size, >= 2.
        form: One of `harness.stats.additive.FORMS`.
        among: bool (16384,): score on these alone, those that a method scores; default all that have an accuracy.
        seed: Of the draws.
        level: Of the intervals.

    Raises:
        ArgumentError: Shapes or numbers are out of range, no size is left, or all accuracies together do not determine
            the form.
        UnknownNameError: No form has this name.
    """
    accuracies = np.asarray(truth, np.float64)
    there = np.isfinite(accuracies)
    wanted = there if among is None else np.asarray(among, bool)
    for name, values in (("accuracies", accuracies), ("choice of what to score on", wanted)):
        if values.shape != (NUM_ARCHS,):
            raise ArgumentError(f"{name} has shape {values.shape}: allowed is ({NUM_ARCHS},), in index order")
    scored = there & wanted
    if num_draws < 2 or not 0 < level < 1:
        raise ArgumentError(
            f"{num_draws} draws, level {level!r}: allowed are 2 draws and more, and levels between 0 and 1"
        )
    num_scored = int(scored.sum())
    possible = [n for n in sizes if num_parameters(form) <= n <= min(there.sum(), num_scored) // 2]
    if not possible:
        raise ArgumentError(
            f"{num_scored:,} architectures have a score and an accuracy: form {form!r} is fitted to"
            f" {num_parameters(form)} at least, and scored on no fewer"
        )
    archs = space.archs()
    check_design(archs[there], form, space)
    trained = np.flatnonzero(there)
    label = Ordered(np.where(there, accuracies, 0.0))  # a missing accuracy is never scored on
    keep_temporaries()
    points = []
    for n in possible:
        rng = np.random.default_rng([seed, n])
        taus = [_draw(space, archs, accuracies, label, trained, scored, n, form, rng) for _ in range(num_draws)]
        low, high = np.quantile(taus, [(1 - level) / 2, (1 + level) / 2]).tolist()
        points.append(AdditivePoint(n, float(np.mean(taus)), low, high, float(np.std(taus, ddof=1))))
    fit = fit_effects(archs[there], accuracies[there], form, space)
    best = kendall(fit.predict(archs[scored]), accuracies[scored])
    return AdditiveCurve(form, points, best, num_scored, num_draws, level)


def _draw(
    space: Space,
    archs: npt.NDArray[np.int8],
    accuracies: FloatArray,
    label: Ordered,
    trained: npt.NDArray[np.intp],
    scored: npt.NDArray[np.bool_],
    n: int,
    form: str,
    rng: np.random.Generator,
) -> float:
    """Kendall of one fit to n random accuracies, on the scored architectures except these n."""
    for tries in range(_MAX_TRIES):
        chosen = rng.choice(trained, n, replace=False)
        try:
            fit = fit_effects(archs[chosen], accuracies[chosen], form, space)
            break
        except ArgumentError:
            if tries == _MAX_TRIES - 1:
                raise
    rest = scored.copy()
    rest[chosen] = False
    (tau,) = Rankings([fit.predict(archs)]).kendall(label, rest.astype(np.intp))
    return tau


@dataclass(frozen=True)
class ExchangeRate:
    """How many trained architectures rank as well as a method."""

    kendall: float
    """Of the method."""
    n: float | None
    """Where the mean of the draws reaches it, interpolated in log n; None where the curve does not."""
    low: float | None
    """The same of lucky draws, the upper end of their interval; None where it does not cross."""
    high: float | None
    """The same of unlucky draws."""
    text: str
    """All of this in words: "10 (8 or fewer to 15)", "more than 512"."""
    form: str
    """Of the fits."""


def exchange_rate(found: float, curve: AdditiveCurve) -> ExchangeRate:
    """The number of trained architectures whose additive fit ranks as well as a method with this Kendall.

    Args:
        found: Kendall of the method, on the architectures that the curve was scored on; NaN gives "undefined".
        curve: From `additive_curve`.
    """
    least, most = curve.points[0].n, curve.points[-1].n
    n, low, high = (
        _reached(found, curve, [getattr(point, end) for point in curve.points]) for end in ("mean", "high", "low")
    )
    if n is not None:
        lucky = f"{least} or fewer" if low is None else f"{low:.0f}"
        unlucky = f"more than {most}" if high is None else f"{high:.0f}"
        text = f"{n:.0f} ({lucky} to {unlucky})"
    elif math.isnan(found) or math.isnan(curve.points[0].mean):
        text = "undefined"
    else:
        text = f"fewer than {least}" if found < curve.points[0].mean else f"more than {most}"
    return ExchangeRate(found, n, low, high, text, curve.form)


def _reached(found: float, curve: AdditiveCurve, heights: list[float]) -> float | None:
    """The n at which a line through the points reaches a height; None where all of it is above or below."""
    rising = np.maximum.accumulate(heights)  # the last points are equal but for the luck of the draws
    if not rising[0] <= found <= rising[-1]:
        return None
    return float(np.exp(np.interp(found, rising, np.log([point.n for point in curve.points]))))
