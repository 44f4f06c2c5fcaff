"""The initial population of BCNet's search (Su et al., CVPR 2021, Eq. 13-15): drawn around what trained well.

A supernet's training is a by-product that knows something: which widths came with a small loss. From records of
(architecture, training loss) the `keep` best give E(l, i), the mean loss of those with digit i in slot l (Eq. 13). The
probabilities P(l, i) that widths are then drawn with minimise sum P E (Eq. 14), every row a distribution, the expected
cost within the budget (Eq. 15).

Solved literally (`literal_distribution`) that gives one architecture and no population: a linear objective under few
constraints ends at a vertex, where nearly all rows are certain. The published code of BCNetV2 writes P as a softmax and
stops gradient descent after 2,000 steps, which leaves a spread by not arriving. `softmax_distribution`, the default
here, writes P as a softmax too, and asks for the spread: it minimises sum P E - T sum H(P) with the entropy H of each
row, within the same budget. That has a solution inside, P(l, i) in proportion to exp(-(E(l, i) + cost) / T), and no
constant of it depends on when one stops. The temperature T is a share of the mean over slots of max E - min E.

Three things the paper leaves open:

- A digit that none of the kept records has in a slot has no mean loss. It gets more than any seen one, by the whole
  range of the seen ones: it is drawn only where the budget leaves nothing else. (Leaving it out could leave nothing
  within the budget, since small losses come from wide networks; a loss near zero would favour what was never seen.)
- The expected cost is a product of rows, so the problem is not convex. The literal one is started at the best single
  architecture that fits, which enumeration finds exactly, and at random distributions; the best end counts. A result is
  therefore never worse than that architecture, but no proof of a global minimum. The softmax starts at equal
  probabilities.
- The budget holds for the expected cost, so that about half of the draws cost more. Draws that do not fit or repeat are
  passed over, and what is missing is filled up with random architectures that fit.

Losses fall during training, so that the best records are those of its end; pass losses relative to the mean of their
epoch where that is not wanted.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from channel_bench.space import NUM_SLOTS, NUM_WIDTHS
from harness.searcher import BoolArray, Budget, FloatArray, IntArray
from harness.searchers.expectation import expected_cost, slot_costs

TEMPERATURE = 0.25
"""Weight of the entropy, as a share of the mean range of losses in a slot. Where nothing binds, the best width of a
slot with that range is 55 times as likely as the worst."""
NUM_STARTS = 8
"""Random starts of the literal solution beside the best single architecture."""
DRAWS_PER_PLACE = 50


def mean_losses(archs: npt.NDArray[np.int8], losses: FloatArray, keep: int = 100) -> FloatArray:
    """Mean training loss of each width of each slot (Eq. 13).

    Args:
        archs: int8 (n, 7), digits 1..4; repetitions are allowed.
        losses: float64 (n,).
        keep: How many records with the smallest losses count; of equal losses the first.

    Returns:
        float64 (7, 4); what no kept record has is the largest mean plus the range of the means.
    """
    best = np.argsort(losses, kind="stable")[:keep]
    means = np.full((NUM_SLOTS, NUM_WIDTHS), np.nan)
    for slot in range(NUM_SLOTS):
        for column in range(NUM_WIDTHS):
            there = losses[best][archs[best, slot] == column + 1]
            if there.size:
                means[slot, column] = there.mean()
    return np.where(np.isnan(means), np.nanmax(means) + np.ptp(means[~np.isnan(means)]), means)


def softmax_distribution(losses: FloatArray, budget: Budget, temperature: float = TEMPERATURE) -> FloatArray:
    """Probabilities of each width of each slot with small expected loss within the budget, and with a spread.

    Args:
        losses: float64 (7, 4), mean losses.
        budget: What may be expected as cost; where it joins several, each is kept in expectation. Something fits it.
        temperature: Weight of the entropy, > 0, as a share of the mean range of losses in a slot.

    Returns:
        float64 (7, 4), rows sum to 1.
    """
    scaled = losses / (temperature * (float(np.ptp(losses, axis=1).mean()) or 1.0))

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        """Expected loss less the entropy, and its gradient."""
        logs = log_softmax(flat.reshape(scaled.shape), axis=1)
        widths, terms = np.exp(logs), scaled + logs
        return float((widths * terms).sum()), _through_softmax(widths, terms)

    constraints = []
    for part in budget.simple:
        shares = part.costs / part.limit
        constraints.append(
            {
                "type": "ineq",
                "fun": lambda flat, shares=shares: 1 - expected_cost(shares, softmax(flat.reshape(scaled.shape), 1)),
                "jac": lambda flat, shares=shares: _softmax_slope(shares, flat.reshape(scaled.shape)),
            }
        )
    options = {"maxiter": 500, "ftol": 1e-9}
    result = minimize(
        objective, np.zeros(scaled.size), jac=True, constraints=constraints, method="SLSQP", options=options
    )
    start = np.zeros(scaled.size) if not np.isfinite(result.x).all() else result.x
    return _within(softmax(start.reshape(scaled.shape), 1), _certain(int(np.argmin(budget.costs))), budget)


def literal_distribution(losses: FloatArray, budget: Budget, rng: np.random.Generator) -> FloatArray:
    """Probabilities of each width of each slot with the least expected loss within the budget (Eq. 14-15).

    Args:
        losses: float64 (7, 4), mean losses.
        budget: What may be expected as cost; where it joins several, each is kept in expectation. Something fits it.
        rng: For the random starts.

    Returns:
        float64 (7, 4), rows sum to 1.
    """
    # The best and the cheapest single architecture: distributions, too.
    sums = sum_over_slots(losses)
    best = _certain(int(np.where(budget.fits, sums, np.inf).argmin()))
    cheapest = _certain(int(np.argmin(budget.costs)))
    starts = [best]
    for _ in range(NUM_STARTS):
        starts.append(_within(rng.dirichlet(np.ones(NUM_WIDTHS), NUM_SLOTS), cheapest, budget))
    ends = [best] + [_within(_minimised(losses, budget, start), cheapest, budget) for start in starts]
    return min(ends, key=lambda widths: float((widths * losses).sum()))


def draw(widths: FloatArray, num_archs: int, allowed: BoolArray, rng: np.random.Generator) -> IntArray:
    """Draw distinct architectures from a distribution, filled up with uniformly random ones.

    Args:
        widths: float64 (7, 4), probability of each digit of each slot.
        num_archs: How many.
        allowed: Which may be drawn, bool (16384,).
        rng: The generator.

    Returns:
        int64 (num_archs,) in the order of drawing; fewer where fewer are allowed.
    """
    drawn = sample(widths, DRAWS_PER_PLACE * num_archs, rng)
    drawn = drawn[allowed[drawn]]
    distinct = drawn[np.sort(np.unique(drawn, return_index=True)[1])][:num_archs]
    rest = np.setdiff1d(np.flatnonzero(allowed), distinct) if len(distinct) < num_archs else distinct[:0]
    return np.concatenate([distinct, rng.permutation(rest)[: num_archs - len(distinct)]])


def sample(widths: FloatArray, num_draws: int, rng: np.random.Generator) -> IntArray:
    """Draw architectures, each slot on its own: indices int64 (num_draws,), with repetitions."""
    uniform = rng.random((num_draws, NUM_SLOTS, 1))
    columns = (uniform > widths.cumsum(1)[:, :-1]).sum(2)
    drawn: IntArray = columns @ NUM_WIDTHS ** np.arange(NUM_SLOTS - 1, -1, -1)
    return drawn


def sum_over_slots(terms: FloatArray) -> FloatArray:
    """Sum of one term per slot for every architecture: float64 (7, 4) to float64 (16384,) in index order."""
    sums = np.zeros(1)
    for row in terms:
        sums = np.add.outer(sums, row).ravel()
    return sums


def _certain(index: int) -> FloatArray:
    """The distribution that always draws one architecture."""
    columns = np.unravel_index(index, (NUM_WIDTHS,) * NUM_SLOTS)
    return np.eye(NUM_WIDTHS)[np.array(columns)]


def _minimised(losses: FloatArray, budget: Budget, start: FloatArray) -> FloatArray:
    """Where SLSQP ends from a start; rows sum to 1, the budget may be missed by a little."""
    span = float(np.ptp(losses)) or 1.0
    shape = losses.shape
    rows = np.kron(np.eye(NUM_SLOTS), np.ones(NUM_WIDTHS))  # (7, 28): sums of rows
    constraints = [{"type": "eq", "fun": lambda flat: rows @ flat - 1, "jac": lambda flat: rows}]
    for part in budget.simple:
        shares = part.costs / part.limit
        constraints.append(
            {
                "type": "ineq",
                "fun": lambda flat, shares=shares: 1 - expected_cost(shares, flat.reshape(shape)),
                "jac": lambda flat, shares=shares: -slot_costs(shares, flat.reshape(shape)).ravel(),
            }
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a step outside the bounds, which scipy clips
        result = minimize(
            lambda flat: float(flat @ losses.ravel()) / span,
            start.ravel(),
            jac=lambda flat: losses.ravel() / span,
            bounds=[(0, 1)] * losses.size,
            constraints=constraints,
            method="SLSQP",
            options={"maxiter": 200, "ftol": 1e-10},
        )
    if not np.isfinite(result.x).all():
        return start
    widths = result.x.reshape(shape).clip(0)
    totals = widths.sum(1, keepdims=True)
    return widths / totals if totals.min() > 0 else start


def _through_softmax(widths: FloatArray, slopes: FloatArray) -> FloatArray:
    """Gradient by the logits (28,) of what has these slopes (7, 4) by the probabilities (7, 4)."""
    return (widths * (slopes - (widths * slopes).sum(1, keepdims=True))).ravel()


def _softmax_slope(shares: FloatArray, logits: FloatArray) -> FloatArray:
    """Gradient by the logits (28,) of what is left of a budget."""
    widths = softmax(logits, 1)
    return _through_softmax(widths, -slot_costs(shares, widths))


def _within(widths: FloatArray, cheapest: FloatArray, budget: Budget) -> FloatArray:
    """The distribution moved towards the cheapest architecture, no further than the budget asks for."""

    def mixed(share: float) -> FloatArray:
        return (1 - share) * widths + share * cheapest

    def fits(share: float) -> bool:
        return all(expected_cost(part.costs, mixed(share)) <= part.limit for part in budget.simple)

    if fits(0.0):
        return widths
    outside, inside = 0.0, 1.0
    for _ in range(40):
        middle = (outside + inside) / 2
        outside, inside = (outside, middle) if fits(middle) else (middle, inside)
    return mixed(inside)
