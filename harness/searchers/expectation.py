"""What an architecture costs on average when every slot draws its width by itself.

A row of `widths` (7, 4) holds the probabilities of a slot's four digits. FLOPs and parameters are polynomials that are
linear in the channels of each slot, so a row that is spread over two neighbouring digits is also the exact cost of the
width in between. Any other cost, such as a latency, is interpolated in the same way.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from channel_bench.space import NUM_SLOTS, NUM_WIDTHS, FloatArray


def expected_cost(costs: npt.NDArray, widths: FloatArray) -> float:
    """Sum over all architectures of cost times probability.

    Args:
        costs: (16384,) in index order.
        widths: float64 (7, 4), probability of each digit of each slot.
    """
    rest = np.asarray(costs, np.float64)
    for row in widths:
        rest = row @ rest.reshape(NUM_WIDTHS, -1)
    return float(rest.item())


def slot_costs(costs: npt.NDArray, widths: FloatArray) -> FloatArray:
    """Expected cost given the digit of one slot, which is also the derivative of `expected_cost` by `widths`.

    Args:
        costs: (16384,) in index order.
        widths: float64 (7, 4), probability of each digit of each slot.

    Returns:
        float64 (7, 4): expected cost where the slot of the row has the digit of the column.
    """
    rests = [np.asarray(costs, np.float64)]
    for row in widths[:-1]:
        rests.append(row @ rests[-1].reshape(NUM_WIDTHS, -1))
    given = np.empty((NUM_SLOTS, NUM_WIDTHS))
    later = np.ones(1)  # probabilities of the digits of all later slots
    for slot in reversed(range(NUM_SLOTS)):
        given[slot] = rests[slot].reshape(NUM_WIDTHS, -1) @ later
        later = np.outer(widths[slot], later).ravel()
    return given
