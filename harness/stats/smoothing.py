"""Take noise out of a method's scores by its own scores alone: additive fits, and averages over supernet seeds.

    >>> scores = read_scores(Path("my.csv"), get_space("resnet"))
    >>> smooth_scores(scores, "log")                       # what `channel-harness score my.csv --smooth log` ranks by
    >>> average_scores([seed_0, seed_1, seed_2])           # `score seed0.csv seed1.csv seed2.csv --average mean`

A supernet scores 16,384 architectures, and each score carries noise of its own: few validation images, weights that
were last updated for other widths. Trained accuracies are nearly additive over slots, and so are scores; what is not
additive in scores is mostly noise. So

    score(w) ~ b + sum over slots l of f_l(w_l)

is fitted to the scores by least squares, and the architectures are ranked by the fit. No truth enters: nothing in this
module knows a table. `FORMS` says what each f_l may be; a form is an assumption, to be chosen before the truth is seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, unknown_name
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, NUM_WIDTHS, FloatArray, Int8Array, Space
from harness.scores import Scores, make_scores

FORMS = {
    "onehot": "any effect per slot and width",
    "linear": "per slot proportional to the width",
    "log": "per slot proportional to the logarithm of the width",
    "concave": "per slot never falling with the width, and each further quarter adds no more than the last",
}
AVERAGES = ("mean", "rank")

_DIGITS = np.arange(1, NUM_WIDTHS + 1, dtype=np.float64)[:, None]
_STEPS = np.arange(1, NUM_WIDTHS, dtype=np.float64)
# The functions of one slot's width that a form combines, (num_widths, num_functions); none contains the constant.
_BASES = {
    "onehot": np.eye(NUM_WIDTHS)[:, 1:],
    "linear": _DIGITS,
    "log": np.log(_DIGITS / NUM_WIDTHS),
    # Ramps that go flat after one, two and three steps. Their combinations with coefficients >= 0 are all the
    # non-decreasing concave functions of four points (up to a constant): the coefficients are the drops in slope.
    "concave": np.minimum(_DIGITS - 1, _STEPS),
}
assert _BASES.keys() == FORMS.keys()
_RESOLUTION = 1e-10
"""Share of the range of scores that separates two; broken ties alone move Kendall by up to .008."""
_ADDED_FACTS = ("fit_s", "score_s")


@dataclass(frozen=True)
class AdditiveFit:
    """A score that is a sum over slots."""

    form: str
    """Name of the form, one of FORMS."""
    intercept: float
    """Mean of the fit over the whole space."""
    effects: FloatArray
    """float64 (7, 4): what width 1, 2, 3, 4 of each slot adds; the mean of each row is 0."""
    r2: float
    """Share of the variance of the scores that the fit explains, on those that it was fitted to."""
    num_scores: int
    """Scores that it was fitted to."""

    def predict(self, archs: Int8Array) -> FloatArray:
        """Scores by the fit.

        Args:
            archs: int8 (n, 7), digits 1..4.

        Returns:
            float64 (n,). Equal effects tie exactly; all are equal where the form allows no effect that fits, as
            `concave` on scores that fall with every width.
        """
        total = self.effects[np.arange(NUM_SLOTS), np.asarray(archs, np.int64) - 1].sum(1)
        return self.intercept + _with_ties(total, np.ptp(self.effects, axis=1).sum())


def _with_ties(values: FloatArray, spread: float) -> FloatArray:
    """Round to a tiny share of the spread, so that sums which are equal on paper tie, whatever the rounding errors."""
    unit = _RESOLUTION * spread
    return np.round(values / unit) * unit if unit > 0 else values


def additive_fit(archs: Any, scores: npt.ArrayLike, form: str, space: Space) -> FloatArray:
    """Scores of all architectures by an additive fit to the scores of some or all; see `fit_effects`.

    Returns:
        float64 (16384,) in index order.
    """
    return fit_effects(archs, scores, form, space).predict(space.archs())


def fit_effects(archs: Any, scores: npt.ArrayLike, form: str, space: Space) -> AdditiveFit:
    """Fit b + sum over slots of f_l(w_l) to scores by least squares.

    `concave` is least squares under its constraints (non-negative least squares, Lawson and Hanson 1974); where the
    one-hot fit obeys them, both are the same.

    Args:
        archs: (n, 7) digits, or any batch of n architectures.
        scores: float (n,), on any scale. A common factor > 0 or offset changes the fit by the same, ranks not at all.
        form: One of FORMS.
        space: The space of the architectures.

    Raises:
        ArchError: A row is not an architecture.
        ArgumentError: The shapes differ, a score is NaN or infinite, all scores are equal, or the architectures do not
            determine the form (see `check_design`).
        UnknownNameError: No form has this name.
    """
    from scipy.optimize import nnls

    digits = space.digits(archs)
    values = np.asarray(scores, np.float64)
    if values.shape != (len(digits),):
        raise ArgumentError(f"scores of {len(digits)} architectures have shape {values.shape}: allowed is (num_archs,)")
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise ArgumentError(f"score of architecture {space.text(digits[wrong[0]])} is {values[wrong[0]]}")
    design, means, q, r = _factorised(digits, form)
    if values.min() == values.max():
        raise ArgumentError(f"all {len(values)} scores are {values[0]}: an additive fit needs scores that differ")
    # Without the means there is no intercept, and with a largest deviation of 1 nothing over- or underflows.
    scale = np.ldexp(1.0, np.frexp(np.abs(values).max())[1] - 1)  # a power of two, so that dividing is exact
    target = values / scale
    centre = target.mean()
    target = target - centre
    spread = np.abs(target).max()
    target = target / spread
    if form == "concave":
        coefficients = nnls(r, q.T @ target, maxiter=1000)[0]
    else:
        coefficients = np.linalg.solve(r, q.T @ target)
    residual = target - (design - means) @ coefficients
    basis = _BASES[form]
    effects = coefficients.reshape(NUM_SLOTS, -1) @ basis.T
    intercept = effects.mean(1).sum() - means @ coefficients
    return AdditiveFit(
        form=form,
        intercept=float((centre + intercept * spread) * scale),
        effects=(effects - effects.mean(1, keepdims=True)) * spread * scale,
        r2=float(1 - (residual @ residual) / (target @ target)),
        num_scores=len(values),
    )


def num_parameters(form: str) -> int:
    """Free parameters of a form, the intercept included: 22 for `onehot` and `concave`, 8 for `linear` and `log`.

    Raises:
        UnknownNameError: No form has this name.
    """
    if form not in FORMS:
        raise unknown_name("additive form", form, FORMS)
    return 1 + NUM_SLOTS * _BASES[form].shape[1]


def check_num_samples(samples: int | None, form: str, available: int = NUM_ARCHS) -> None:
    """Refuse a number of random scores that cannot be drawn, or cannot determine a form; None, for all, is allowed.

    Raises:
        ArgumentError: Not an integer from the number of parameters to `available`.
        UnknownNameError: No form has this name.
    """
    needed = num_parameters(form)
    if samples is None:
        return
    if available < needed:
        raise _too_few(available, form)
    is_number = isinstance(samples, (int, np.integer)) and not isinstance(samples, bool)
    if not is_number or not needed <= samples <= available:
        raise ArgumentError(
            f"number of scores to fit form {form!r} to is {samples!r}: allowed are {needed}, its number of parameters,"
            f" to {available:,}"
        )


def check_design(archs: Any, form: str, space: Space) -> None:
    """Refuse architectures whose scores, whatever they are, would not determine all parameters of a form.

    Args:
        archs: Any batch of architectures.
        form: One of FORMS.
        space: Their space.

    Raises:
        ArchError: A row is not an architecture.
        ArgumentError: There are too few, a slot has too few different widths, or slots always change together.
        UnknownNameError: No form has this name.
    """
    _factorised(space.digits(archs), form)


def _factorised(digits: Int8Array, form: str) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """The least-squares problem of a form, checked to have one solution.

    Returns:
        Functions of the widths (num_archs, k), k = num_parameters - 1; their means (k,); and the QR factors of
        functions minus means, (num_archs, k) and (k, k).
    """
    needed = num_parameters(form)
    if len(digits) < needed:
        raise _too_few(len(digits), form)
    basis = _BASES[form]
    for slot in range(NUM_SLOTS):
        num_widths = len(np.unique(digits[:, slot]))
        if num_widths <= basis.shape[1]:
            raise ArgumentError(
                f"slot {slot} of the {len(digits)} scored architectures has {num_widths} of {NUM_WIDTHS} widths:"
                f" additive form {form!r} needs {basis.shape[1] + 1}"
            )
    design = basis[digits - 1].reshape(len(digits), -1)
    means = design.mean(0)
    q, r = np.linalg.qr(design - means)
    if np.linalg.matrix_rank(r) < len(r):
        raise ArgumentError(
            f"the {len(digits)} scored architectures cannot tell the {needed} parameters of additive form {form!r}"
            " apart: some slots always change together; give more architectures"
        )
    return design, means, q, r


def _too_few(count: int, form: str) -> ArgumentError:
    needed, fewest = num_parameters(form), num_parameters("log")
    other = "" if needed == fewest else f", or take form 'log' or 'linear', which have {fewest}"
    return ArgumentError(
        f"{count} scores cannot determine the {needed} parameters of additive form {form!r}: give at least"
        f" {needed}{other}"
    )


def smooth_scores(scores: Scores, form: str, samples: int | None = None, seed: int = 0) -> Scores:
    """Scores of all architectures by an additive fit to a method's own.

    Args:
        scores: The method's scores, of some or all architectures.
        form: One of FORMS.
        samples: Number of scores to fit to, drawn at random without replacement; None for all of them.
        seed: Seed of the draw.

    Returns:
        Scores of all 16,384 architectures under the name "method+form", with the fact "smoothing".

    Raises:
        ArgumentError: The scores do not determine the form, are all equal, or are fewer than `samples`.
        UnknownNameError: No form has this name.
    """
    check_num_samples(samples, form, len(scores.indices))
    chosen = np.arange(len(scores.indices))
    if samples is not None:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, samples, replace=False))
    archs = scores.space.archs()
    try:
        fit = fit_effects(archs[scores.indices[chosen]], scores.values[chosen], form, scores.space)
    except ArgumentError as error:
        raise ArgumentError(f"{scores.method!r} cannot be smoothed: {error}") from None
    smoothing = {
        "form": form,
        "num_scores": fit.num_scores,
        "of_num_scores": len(scores.indices),
        "seed": None if samples is None else seed,
        "r2": round(fit.r2, 4),
    }
    facts = {**scores.facts, "smoothing": smoothing}
    return make_scores(f"{scores.method}+{form}", scores.space, np.arange(NUM_ARCHS), fit.predict(archs), facts)


def average_scores(parts: Sequence[Scores], how: str = "mean") -> Scores:
    """Average scores of supernet seeds over the architectures that all of them scored.

    "mean" is the plain mean. Seeds of one method share a scale, accuracy on the same images, and noise that is
    independent between them falls with their number. Standardising each seed first would take weight from those that
    separate architectures most, which is signal more than noise. For scores on different scales there is "rank": the
    mean of their ranks among the common architectures, 1 the worst, ties at their average rank.

    Args:
        parts: Scores of one space, one of each seed.
        how: One of AVERAGES.

    Returns:
        Scores whose facts are those that all parts agree on, the sum of their seconds, and "average": how many, how,
        their names, and the values of the facts that differ (null where a part does not have it).

    Raises:
        ArgumentError: Nothing to average, different spaces, no common architecture, or the same scores twice.
        UnknownNameError: There is no such average.
    """
    if how not in AVERAGES:
        raise unknown_name("average", how, AVERAGES)
    if not parts:
        raise ArgumentError("no scores to average: give at least one score file")
    space = parts[0].space
    for part in parts:
        if part.space != space:
            raise ArgumentError(f"{part.method!r} scores space {part.space.name!r}, the first {space.name!r}")
    for (i, one), (j, other) in itertools.combinations(enumerate(parts), 2):
        if np.array_equal(one.indices, other.indices) and np.array_equal(one.values, other.values):
            raise ArgumentError(
                f"scores {i + 1} ({one.method}) and {j + 1} ({other.method}) are the same: an average takes each once"
            )
    there = np.zeros(NUM_ARCHS, np.int64)
    for part in parts:
        there[part.indices] += 1
    common = np.flatnonzero(there == len(parts))
    if common.size == 0:
        raise ArgumentError(f"no architecture is scored in all {len(parts)}: nothing can be averaged")
    rows = [part.values[np.searchsorted(part.indices, common)] for part in parts]
    if how == "rank":
        from scipy.stats import rankdata

        rows = [rankdata(row) for row in rows]
    mean = sum((row / len(rows) for row in rows), np.zeros(len(common)))
    values = _with_ties(mean, float(np.ptp(mean)))
    return make_scores(_average_name(parts, how), space, common, values, _merged_facts(parts, how))


def _average_name(parts: Sequence[Scores], how: str) -> str:
    names = list(dict.fromkeys(part.method for part in parts))
    shown = ", ".join(names if len(names) <= 3 else [names[0], "...", names[-1]])
    return f"{'mean' if how == 'mean' else 'rank-mean'}{len(parts)}({shown})"


def _merged_facts(parts: Sequence[Scores], how: str) -> dict[str, Any]:
    """Facts of an average: common ones stay, differing ones are listed, seconds are added."""
    names = list(dict.fromkeys(name for part in parts for name in part.facts))
    same: dict[str, Any] = {}
    differing: dict[str, list[Any]] = {}
    for name in names:
        values: list[Any] = [part.facts.get(name) for part in parts]
        everywhere = all(name in part.facts for part in parts)
        if name in _ADDED_FACTS and everywhere and all(type(value) in (int, float) for value in values):
            same[name] = round(sum(values), 2)
        elif everywhere and all(value == values[0] for value in values):
            same[name] = values[0]
        else:
            differing[name] = values
    average = {"how": how, "num": len(parts), "methods": [part.method for part in parts], "differing": differing}
    return {**same, "average": average}


def describe(facts: dict[str, Any]) -> list[str]:
    """How scores were averaged and smoothed after the method gave them, in words; [] for raw scores."""
    steps = []
    average, smoothing = facts.get("average"), facts.get("smoothing")
    if isinstance(average, dict):
        what = "mean" if average.get("how") == "mean" else "mean rank"
        differing = average.get("differing")
        apart = f" that differ in {', '.join(differing)}" if differing and isinstance(differing, dict) else ""
        steps.append(f"{what} of {average.get('num')} score files{apart}")
    if isinstance(smoothing, dict):
        steps.append(
            f"additive fit {smoothing.get('form')!r} to {smoothing.get('num_scores')} of"
            f" {smoothing.get('of_num_scores')} scores, R2 {smoothing.get('r2')}"
        )
    return steps
