"""Let a supernet's scores choose among theories: the consensus of those formulas of widths that agree with it.

    >>> fit = fit_consensus(archs, scores, space)            # scores of all or of a few hundred architectures
    >>> fit.scores                                           # float64 (16384,), what METHOD+consensus ranks by
    >>> fit.leaders(3)                                       # the theories that count most, with their weights

A supernet's scores are noisy, and theories of accuracy (`harness.stats.theories`) are many: FLOPs, paths, filters, each
over other layers. None of them is right in every space. But scores, noisy as they are, tell good theories from bad
ones, since that takes one number for each theory rather than one for each of 16,384 architectures. So, with z_f the
standardised theory f and rho_f its Spearman correlation with the *raw* scores on the architectures that were scored,

    score(w) = sum over f of p_f z_f(w),    p_f = exp(beta (rho_f - max rho)) / sum of the same,    beta = 20

which is an exponentially weighted average of experts (Vovk, COLT 1990) with agreement in the place of loss, and with
the scores in the place of the truth. It is deterministic, takes a second, and never sees a trained accuracy.

How far to trust it. The grammar and beta were fixed on the mini spaces after accuracies of the full ones had been
looked at, and the set "spatial" was put in because the published effects of slots were known. So its gain on those four
tables is no clean test; `docs/explanation/consensus.md` has one, preregistered, on spaces that nobody had trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_ARCHS, FloatArray, Int8Array, Space
from harness.stats.theories import theories

BETA = 20.0
MIN_SCORES = 8
"""As many as the smallest additive fit needs; fewer tell nothing about several hundred theories."""
_DECIMALS = 8


@dataclass(frozen=True)
class Consensus:
    """A weighted average of theories."""

    space: Space
    scores: FloatArray
    """float64 (16384,) in index order, in standard deviations of a theory, rounded to 1e-8 so that equals tie."""
    names: tuple[str, ...]
    """Of the theories."""
    rho: FloatArray
    """float64 (num_theories,): Spearman of each theory with the scores; 0 where it is constant on what was scored."""
    weights: FloatArray
    """float64 (num_theories,), sum 1."""
    beta: float
    """Sharpness of the choice."""
    num_scores: int
    """Scores that chose."""

    @property
    def num_effective(self) -> float:
        """Theories that count: 1 / sum of squared weights, from 1 (one alone) to their number (all alike)."""
        return float(1 / (self.weights**2).sum())

    def predict(self, archs: Int8Array) -> FloatArray:
        """Scores of architectures.

        Args:
            archs: int8 (n, 7), digits 1..4.

        Returns:
            float64 (n,).
        """
        return self.scores[self.space.index(self.space.digits(archs))]

    def facts(self) -> dict[str, Any]:
        """Number of theories, of those that count, and the one that agrees best, for score files."""
        ((best, _, rho),) = self.leaders(1)
        effective = round(self.num_effective, 2)
        return {"theories": len(self.names), "effective_theories": effective, "best": best, "rho": round(rho, 4)}

    def leaders(self, count: int) -> list[tuple[str, float, float]]:
        """Name, weight and rho of those with the largest weights, largest first."""
        order = np.argsort(-self.weights, kind="stable")[:count]
        return [(self.names[each], float(self.weights[each]), float(self.rho[each])) for each in order]


def fit_consensus(
    archs: Any, scores: npt.ArrayLike, space: Space, *, beta: float = BETA, leave_out: Iterable[str] = ()
) -> Consensus:
    """Weigh the theories of a space by their agreement with scores.

    Args:
        archs: (n, 7) digits, or any batch of n >= 8 architectures.
        scores: float (n,), higher is better, on any scale: only their ranks count.
        space: The space of the architectures.
        beta: Sharpness, > 0: a theory whose Spearman is .1 lower counts e^(beta/10) times less. Small values average
            all theories, large ones take the best one alone.
        leave_out: Parts of the grammar that no theory may have; see `theories`.

    Raises:
        ArchError: A row is not an architecture.
        ArgumentError: Shapes differ, scores are too few, all equal, NaN or infinite, no theory differs on what was
            scored, or beta is out of range.
        UnknownNameError: A part to leave out is none of the grammar's.
    """
    from scipy.stats import rankdata

    check_beta(beta)
    indices = np.asarray(space.index(space.digits(archs)))
    values = np.asarray(scores, np.float64)
    if values.shape != indices.shape:
        raise ArgumentError(
            f"{len(indices)} architectures have scores of shape {values.shape}: allowed is (num_archs,)"
        )
    if len(values) < MIN_SCORES:
        raise ArgumentError(f"{len(values)} scores cannot choose among theories: give at least {MIN_SCORES}")
    if not np.isfinite(values).all():
        wrong = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ArgumentError(f"score of architecture {space.text(indices[wrong])} is {values[wrong]}")
    if values.min() == values.max():
        raise ArgumentError(f"all {len(values)} scores are {values[0]}: a consensus needs scores that differ")
    known = theories(space, leave_out)
    # All ranks are kept for the next supernet; those among some architectures are cheap.
    theirs = known.ranks_of(indices) if len(indices) < NUM_ARCHS else known.ranks[:, indices]
    own = rankdata(values)
    theirs = theirs - theirs.mean(1, keepdims=True)
    own = own - own.mean()
    spread = np.sqrt((theirs**2).sum(1))
    rho = np.divide(theirs @ own, spread * np.sqrt((own**2).sum()), out=np.zeros(len(spread)), where=spread > 0)
    if not spread.any():
        raise ArgumentError(f"the {len(values)} scored architectures are alike to every theory: score others")
    weights = np.exp(beta * (rho - rho.max()))
    weights /= weights.sum()
    return Consensus(
        space=space,
        scores=(weights @ known.scores).round(_DECIMALS),
        names=known.names,
        rho=rho,
        weights=weights,
        beta=float(beta),
        num_scores=len(values),
    )


def check_beta(beta: Any) -> None:
    """Refuse a sharpness that is no number > 0.

    Raises:
        ArgumentError: It is not.
    """
    is_number = isinstance(beta, (int, float, np.integer, np.floating)) and not isinstance(beta, bool)
    if not is_number or not 0 < beta <= 1e6:
        raise ArgumentError(f"beta of the consensus is {beta!r}: allowed are numbers above 0, to 1,000,000")
