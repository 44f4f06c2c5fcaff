"""The weight-shared network: train it, cut any sub-network out of it, score all of them exactly.

    >>> from harness.supernet import Batch, SupernetEvaluator, make_supernet, random_arch, train_supernet

`network` is the supernet, `training` the loop that trains it with checkpoints, `exhaustive` scores sub-networks and
shares the work among them, `differentiable` is what methods with a learned distribution over widths have in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.supernet.exhaustive import SupernetEvaluator
    from harness.supernet.network import Supernet
    from harness.supernet.training import Batch, make_supernet, random_arch, train_supernet

__all__ = ["Batch", "Supernet", "SupernetEvaluator", "make_supernet", "random_arch", "train_supernet"]

_HOMES = {
    "Batch": "training",
    "Supernet": "network",
    "SupernetEvaluator": "exhaustive",
    "make_supernet": "training",
    "random_arch": "training",
    "train_supernet": "training",
}


def __getattr__(name: str) -> Any:
    # Late, because all of these need torch.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
