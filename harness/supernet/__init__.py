"""The weight-shared network: train it, cut any sub-network out of it, score all of them exactly.

A method that trains a supernet in its fit(), complete; save it as ``my_method.py`` and run
``channel-harness rank my_method.py:Narrow --space resnet-mini --epochs 3``:

    from torch.nn import functional
    from harness.supernet import SupernetEvaluator, make_supernet, random_arch, train_supernet

    class Narrow:
        # trains the narrowest and one random sub-network per step
        def fit(self, task):
            supernet = make_supernet(task)                          # weights from the task's seed, on its device

            def step(batch):                                        # once per batch of the training images
                loss = 0.0
                for arch in (random_arch(batch.rng), (1,) * 7):     # seven digits 1..4, one width per slot
                    logits = supernet(batch.images, arch)           # (batch, num_classes)
                    loss = loss + functional.cross_entropy(logits, batch.labels)
                loss.backward()                                     # train_supernet takes the optimiser's step
                return loss.detach()                                # shown beside the bar

            cost = train_supernet(task, supernet, step)             # by task.recipe; resumes after a kill
            return SupernetEvaluator(supernet, task, facts=cost)    # scores by the validation images

`network` is the supernet, `training` the loop that trains it with checkpoints, `weights` its files, `exhaustive` scores
sub-networks and shares the work among them, `differentiable` is what methods with a learned distribution over widths
have in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.supernet.exhaustive import SupernetEvaluator
    from harness.supernet.network import Supernet
    from harness.supernet.training import Batch, make_supernet, random_arch, train_supernet
    from harness.supernet.weights import load_supernet

__all__ = ["Batch", "Supernet", "SupernetEvaluator", "load_supernet", "make_supernet", "random_arch", "train_supernet"]

_HOMES = {
    "Batch": "training",
    "Supernet": "network",
    "SupernetEvaluator": "exhaustive",
    "load_supernet": "weights",
    "make_supernet": "training",
    "random_arch": "training",
    "train_supernet": "training",
}


def __getattr__(name: str) -> Any:
    # Late, because all of these need torch.
    if name in _HOMES:
        import importlib

        import channel_bench.training  # noqa: F401  # says what to install where PyTorch is missing

        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
