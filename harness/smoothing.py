"""Take noise out of a method's scores by its own scores alone: fits, a consensus of theories, averages over supernets.

    >>> scores = read_scores(Path("my.csv"), get_space("resnet"))
    >>> smooth_scores(scores, "log")                       # what `channel-harness score my.csv --smooth log` ranks by
    >>> smooth_scores(scores, "consensus", options={"beta": 10})
    >>> average_scores([seed_0, seed_1, seed_2])           # `score seed0.csv seed1.csv seed2.csv --average mean`

A supernet scores 16,384 architectures, and each score carries noise of its own: few validation images, weights that
were last updated for other widths. Two things are known of the truth before any is seen: it is nearly additive over
slots (`harness.stats.additive`), and it follows one of a few simple theories, though which one depends on the space
(`harness.stats.consensus`). Scores that are fitted under either assumption rank better than they do raw. No truth
enters: nothing in this module knows a table.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, unknown_name
from channel_bench.space import NUM_ARCHS, FloatArray, Int8Array, Space
from harness.scores import Scores, make_scores
from harness.stats import additive, consensus
from harness.stats.theories import grammar_without

FORMS = {**additive.FORMS, "consensus": "theories of accuracy, weighed by their agreement with the scores"}
AVERAGES = ("mean", "rank", "standard")
_ADDED_FACTS = ("fit_s", "score_s")


class Fit(Protocol):
    """A fit to scores."""

    def predict(self, archs: Int8Array) -> FloatArray:
        """Scores of architectures, int8 (n, 7) -> float64 (n,)."""

    def facts(self) -> dict[str, Any]:
        """How good it is and what it consists of, for score files."""


class Smoother(Protocol):
    """A way to fit; a form with its options."""

    min_scores: int
    """As many scores it needs."""

    def check(self, archs: Any, space: Space) -> None:
        """Refuse architectures whose scores, whatever they are, would not determine the fit."""

    def fit(self, archs: Any, scores: npt.ArrayLike, space: Space) -> Fit:
        """Fit to scores of architectures."""

    def settings(self) -> dict[str, Any]:
        """Options, for score files."""


class AdditiveSmoother:
    """Fits a sum over slots (`harness.stats.additive`).

    Args:
        form: One of `harness.stats.additive.FORMS`.
    """

    def __init__(self, form: str) -> None:
        """Refuse an unknown form."""
        self.min_scores = additive.num_parameters(form)
        self._form = form

    def check(self, archs: Any, space: Space) -> None:
        """As `harness.stats.additive.check_design`."""
        additive.check_design(archs, self._form, space)

    def fit(self, archs: Any, scores: npt.ArrayLike, space: Space) -> additive.AdditiveFit:
        """As `harness.stats.additive.fit_effects`."""
        return additive.fit_effects(archs, scores, self._form, space)

    def settings(self) -> dict[str, Any]:
        """There are none."""
        return {}


class ConsensusSmoother:
    """Weighs theories by their agreement with scores (`harness.stats.consensus`).

    Args:
        beta: Sharpness of the choice, > 0.
        leave_out: Parts of the grammar of theories to do without, with commas.
    """

    min_scores = consensus.MIN_SCORES

    def __init__(self, beta: float = consensus.BETA, leave_out: str = "") -> None:
        """Refuse options that are out of range."""
        consensus.check_beta(beta)
        if not isinstance(leave_out, str):
            raise ArgumentError(f"leave_out is {leave_out!r}: allowed are names with commas, as in 'spatial'")
        self._beta = float(beta)
        self._leave_out = tuple(name.strip() for name in leave_out.split(",") if name.strip())
        grammar_without(self._leave_out)

    def check(self, archs: Any, space: Space) -> None:
        """Any architectures that are enough can be given."""

    def fit(self, archs: Any, scores: npt.ArrayLike, space: Space) -> consensus.Consensus:
        """As `harness.stats.consensus.fit_consensus`."""
        return consensus.fit_consensus(archs, scores, space, beta=self._beta, leave_out=self._leave_out)

    def settings(self) -> dict[str, Any]:
        """Sharpness, and what was left out."""
        return {"beta": self._beta, "leave_out": ",".join(self._leave_out)}


def smoother_options(form: str) -> dict[str, Any]:
    """Options of a form with their defaults.

    Raises:
        UnknownNameError: No form has this name.
    """
    if form not in FORMS:
        raise unknown_name("form", form, FORMS)
    return {"beta": consensus.BETA, "leave_out": ""} if form == "consensus" else {}


def make_smoother(form: str, **options: Any) -> Smoother:
    """A way to fit scores, by name.

    Args:
        form: One of FORMS.
        **options: Those of the form; of `consensus` they are beta and leave_out.

    Raises:
        UnknownNameError: No form has this name, or no part of a theory has a name that is to be left out.
        ArgumentError: The form has no such option, or a value is out of range.
    """
    known = smoother_options(form)
    for option in options:
        if option not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ArgumentError(f"form {form!r} has no option {option!r}: {has}")
    return ConsensusSmoother(**options) if form == "consensus" else AdditiveSmoother(form)


def check_num_samples(samples: int | None, form: str, smoother: Smoother, available: int = NUM_ARCHS) -> None:
    """Refuse a number of random scores that cannot be drawn, or is too small for a fit; None, for all, is allowed.

    Raises:
        ArgumentError: Not an integer from what the form needs to `available`.
    """
    needed = smoother.min_scores
    if samples is None:
        return
    if available < needed:
        raise ArgumentError(f"{available} scores are too few for form {form!r}: give at least {needed}")
    is_number = isinstance(samples, (int, np.integer)) and not isinstance(samples, bool)
    if not is_number or not needed <= samples <= available:
        raise ArgumentError(
            f"number of scores to fit form {form!r} to is {samples!r}: allowed are {needed}, which it needs at least,"
            f" to {available:,}"
        )


def smooth_scores(
    scores: Scores, form: str, samples: int | None = None, seed: int = 0, options: dict[str, Any] | None = None
) -> Scores:
    """Scores of all architectures by a fit to a method's own.

    Args:
        scores: The method's scores, of some or all architectures.
        form: One of FORMS.
        samples: Number of scores to fit to, drawn at random without replacement; None for all of them.
        seed: Seed of the draw.
        options: Of the form; see `make_smoother`.

    Returns:
        Scores of all 16,384 architectures under the name "method+form", with the fact "smoothing".

    Raises:
        ArgumentError: The scores do not determine the form, are all equal, or are fewer than `samples`; or an option is
            wrong.
        UnknownNameError: No form has this name.
    """
    smoother = make_smoother(form, **(options or {}))
    check_num_samples(samples, form, smoother, len(scores.indices))
    chosen = np.arange(len(scores.indices))
    if samples is not None:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, samples, replace=False))
    archs = scores.space.archs()
    try:
        fit = smoother.fit(archs[scores.indices[chosen]], scores.values[chosen], scores.space)
    except ArgumentError as error:
        raise ArgumentError(f"{scores.method!r} cannot be smoothed: {error}") from None
    smoothing = {
        "form": form,
        **smoother.settings(),
        "num_scores": len(chosen),
        "of_num_scores": len(scores.indices),
        "seed": None if samples is None else seed,
        **fit.facts(),
    }
    facts = {**scores.facts, "smoothing": smoothing}
    return make_scores(f"{scores.method}+{form}", scores.space, np.arange(NUM_ARCHS), fit.predict(archs), facts)


def average_scores(parts: Sequence[Scores], how: str = "mean") -> Scores:
    """Average scores of supernet seeds over the architectures that all of them scored.

    "mean" is the plain mean. Seeds of one method share a scale, accuracy on the same images, and noise that is
    independent between them falls with their number. Standardising each seed first would take weight from those that
    separate architectures most, which is signal more than noise. For scores on different scales there is "rank": the
    mean of their ranks among the common architectures, 1 the worst, ties at their average rank; and "standard": the
    mean of their standardised scores (mean 0, variance 1 over the common architectures), for several methods.

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
    elif how == "standard":
        rows = [_standardised(row, part.method) for row, part in zip(rows, parts, strict=True)]
    mean = sum((row / len(rows) for row in rows), np.zeros(len(common)))
    values = additive.with_ties(mean, float(np.ptp(mean)))
    return make_scores(_average_name(parts, how), space, common, values, _merged_facts(parts, how))


def _standardised(values: FloatArray, method: str) -> FloatArray:
    spread = values.std()
    if not spread > 0:
        raise ArgumentError(f"scores of {method!r} are all equal where the others have one: leave them out")
    return np.asarray((values - values.mean()) / spread)


def _average_name(parts: Sequence[Scores], how: str) -> str:
    names = list(dict.fromkeys(part.method for part in parts))
    shown = ", ".join(names if len(names) <= 3 else [names[0], "...", names[-1]])
    return f"{'mean' if how == 'mean' else f'{how}-mean'}{len(parts)}({shown})"


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
        what = {"rank": "mean rank", "standard": "mean standardised score"}.get(str(average.get("how")), "mean")
        differing = average.get("differing")
        apart = f" that differ in {', '.join(differing)}" if differing and isinstance(differing, dict) else ""
        steps.append(f"{what} of {average.get('num')} score files{apart}")
    if isinstance(smoothing, dict):
        fitted_to = f"{smoothing.get('num_scores')} of {smoothing.get('of_num_scores')} scores"
        if smoothing.get("form") == "consensus":
            steps.append(
                f"consensus of {smoothing.get('theories')} theories by their agreement with {fitted_to}, the best"
                f" {smoothing.get('best')} at Spearman {smoothing.get('rho')}"
            )
        else:
            steps.append(f"additive fit {smoothing.get('form')!r} to {fitted_to}, R2 {smoothing.get('r2')}")
    return steps
