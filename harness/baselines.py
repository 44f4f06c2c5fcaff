"""Scores that need no training: what any supernet has to beat before its ranking says anything.

>>> baseline_scores(get_space("resnet"))["flops"]   # float64 (16384,), higher is better
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from channel_bench.space import NUM_SLOTS, Space

BASELINES = {
    "flops": "multiply-accumulates",
    "params": "learnable parameters",
    "sum-log-width": "sum over slots of the logarithm of the width ratio",
    "digit-sum": "sum of the seven digits",
    "min-width": "smallest digit",
}


def baseline_scores(space: Space) -> dict[str, npt.NDArray[np.float64]]:
    """Scores of all architectures by each of BASELINES.

    Returns:
        float64 (16384,) in index order per name, higher is better.
    """
    digits = space.archs().astype(np.float64)
    scores = {
        "flops": space.flops().astype(np.float64),
        "params": space.params().astype(np.float64),
        # As the logarithm of one product, which is an exact integer: summing seven logarithms would break the ties of
        # equal products by rounding errors, and that alone moves Kendall by up to .008.
        "sum-log-width": np.log(digits.prod(1) / 4.0**NUM_SLOTS),
        "digit-sum": digits.sum(1),
        "min-width": digits.min(1),
    }
    assert scores.keys() == BASELINES.keys()
    return scores
