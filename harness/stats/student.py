"""The interval of a mean by Student's t distribution: for a few values whose spread is all that is known of them.

>>> half = half_width(kendalls)                            # of the 95% interval, mean - half to mean + half
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from channel_bench.space import FloatArray

LEVEL = 0.95


def half_width(values: npt.ArrayLike, level: float = LEVEL) -> FloatArray:
    """Half of the interval of a mean over the first axis.

    Args:
        values: float (n,) or (n, ...), for example one row for each seed.
        level: Of the interval, between 0 and 1.

    Returns:
        float64 (...): the quantile of t with n - 1 degrees of freedom, times the standard error (ddof=1); NaN where n
        is 1, of which no spread is known.
    """
    from scipy import stats  # a second that whoever asks for no interval does not need

    rows = np.asarray(values, np.float64)
    if len(rows) < 2:
        return np.full(rows.shape[1:], np.nan)
    spread = rows.std(0, ddof=1) / math.sqrt(len(rows))
    return np.asarray(spread * stats.t.ppf((1 + level) / 2, len(rows) - 1))
