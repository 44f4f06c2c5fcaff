"""The theories of a space the plain way, by full ranks of every candidate: the reference of tests and benchmark."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from harness.stats import theories as fast


def slow_theories(space, leave_out=()):
    """Names, scores and ranks, (num_theories, 16384) each, of all theories that rank the widths as none before."""
    sets, weights, quantities, aggregates = fast.grammar_without(leave_out)
    values = fast.layer_quantities(space)
    factors = {
        (one_set, weight): np.where(fast._members(space.layers, one_set), fast._weights(space, weight), 0.0)
        for one_set in sets
        for weight in weights
    }
    sums = {}
    for quantity in quantities:
        for aggregate in aggregates:
            inner, outer = fast._STEPS[aggregate]
            sums[quantity, aggregate] = outer(np.stack(list(factors.values())) @ inner(values[quantity]).T)
    names, scores, ranks, seen = [], [], [], set()
    for row, (one_set, weight) in enumerate(factors):
        for quantity in quantities:
            for aggregate in aggregates:
                score = sums[quantity, aggregate][row]
                if np.ptp(score) < 1e-9:
                    continue
                score = (score - score.mean()) / score.std()
                rank = rankdata(score.round(7))
                if rank.tobytes() not in seen:
                    seen.add(rank.tobytes())
                    names.append(f"{one_set}|{weight}|{quantity}|{aggregate}")
                    scores.append(score)
                    ranks.append(rank)
    return tuple(names), np.stack(scores), np.stack(ranks)
