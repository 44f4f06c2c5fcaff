"""Additive fits: a sum over slots, fitted by least squares to scores or accuracies.

    >>> fit = fit_effects(archs, scores, "log", space)
    >>> fit.effects                                          # float64 (7, 4): what each width of each slot adds
    >>> fit.predict(space.archs())

    score(w) ~ b + sum over slots l of f_l(w_l)

Trained accuracies are nearly additive over slots, and so are scores of supernets; what is not additive in scores is
mostly noise. `FORMS` says what each f_l may be; a form is an assumption, to be chosen before the truth is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, unknown_name
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS, FloatArray, Int8Array, Space

FORMS = {
    "onehot": "any effect per slot and width",
    "linear": "per slot proportional to the width",
    "log": "per slot proportional to the logarithm of the width",
    "concave": "per slot never falling with the width, and each further quarter adds no more than the last",
    "log-rising": "as log, with slopes that are not negative",
    "root-log-rising": "as log-rising, with the square roots of its slopes, up to one common factor",
}

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
    "log-rising": np.log(_DIGITS / NUM_WIDTHS),
    "root-log-rising": np.log(_DIGITS / NUM_WIDTHS),
}
_NOT_NEGATIVE = ("concave", "log-rising", "root-log-rising")
"""Forms whose coefficients are >= 0."""
assert _BASES.keys() == FORMS.keys()
_RESOLUTION = 1e-10
"""Share of the range of scores that separates two; broken ties alone move Kendall by up to .008."""


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
        return self.intercept + with_ties(total, np.ptp(self.effects, axis=1).sum())

    def facts(self) -> dict[str, float]:
        """Share of variance that is explained, for score files."""
        return {"r2": round(self.r2, 4)}


def with_ties(values: FloatArray, spread: float) -> FloatArray:
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

    `concave` and `log-rising` are least squares under their constraints (non-negative least squares, Lawson and Hanson
    1974); where the fit without constraints obeys them, both are the same. `root-log-rising` takes the square roots of
    the slopes of `log-rising`, which draws strong and weak slots together, as supernets exaggerate the difference; its
    common factor is again by least squares.

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
    design, means, q, r = _factorised(digits, form, space)
    if values.min() == values.max():
        raise ArgumentError(f"all {len(values)} scores are {values[0]}: an additive fit needs scores that differ")
    # Without the means there is no intercept, and with a largest deviation of 1 nothing over- or underflows.
    scale = np.ldexp(1.0, np.frexp(np.abs(values).max())[1] - 1)  # a power of two, so that dividing is exact
    target = values / scale
    centre = target.mean()
    target = target - centre
    spread = np.abs(target).max()
    target = target / spread
    if form in _NOT_NEGATIVE:
        coefficients = nnls(r, q.T @ target, maxiter=1000)[0]
    else:
        coefficients = np.linalg.solve(r, q.T @ target)
    if form == "root-log-rising":
        roots = np.sqrt(coefficients)
        shape = (design - means) @ roots
        size = shape @ shape
        coefficients = roots * ((shape @ target) / size if size > 0 else 0.0)
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
    """Free parameters of a form, the intercept included: 22 for `onehot` and `concave`, 8 for the others.

    Raises:
        UnknownNameError: No form has this name.
    """
    if form not in FORMS:
        raise unknown_name("additive form", form, FORMS)
    return 1 + NUM_SLOTS * _BASES[form].shape[1]


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
    _factorised(space.digits(archs), form, space)


_Factors = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
_of_whole_space: dict[str, _Factors] = {}
"""Of all architectures in index order, by form: a report asks for these once or twice for each of its rows."""


def _factorised(digits: Int8Array, form: str, space: Space) -> _Factors:
    """The least-squares problem of a form, checked to have one solution.

    Returns:
        Functions of the widths (num_archs, k), k = num_parameters - 1; their means (k,); and the QR factors of
        functions minus means, (num_archs, k) and (k, k). Not to be written to.
    """
    if not np.array_equal(digits, space.archs()):
        return _factors(digits, form)
    if form not in _of_whole_space:
        _of_whole_space[form] = _factors(digits, form)
    return _of_whole_space[form]


def _factors(digits: Int8Array, form: str) -> _Factors:
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
