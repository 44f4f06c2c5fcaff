"""SNIP: rank widths by how much the loss of an untrained network depends on its weights.

    pip install examples/snip_package && channel-harness rank my-snip --space resnet-mini

Connection sensitivity is |w * dL/dw| for every weight of convolutions and the classifier, at initialisation and on one
batch of training images (Lee, Ajanthan and Torr, ICLR 2019, arXiv 1810.02340, where it says which weights to prune).
The score of an architecture is the sum over its weights (Abdelfattah et al., ICLR 2021, arXiv 2101.08134). No supernet,
no training: each architecture is built as the table's network of its own, and seen once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.training.datasets import channel_statistics, normalise
from channel_bench.training.models import build_model
from harness.method import register
from harness.task import Task

# Streams of the task's seed. Every architecture has a stream of weights of its own, so that its score is the same
# whenever, and beside whatever, it is asked for.
BATCH, WEIGHTS = range(2)


@register("my-snip", paper="Lee et al., 2019; Abdelfattah et al., 2021", summary="connection sensitivity, no training")
class Snip:
    """Connection sensitivity at initialisation.

    Args:
        num_images: Training images in the batch, >= 2; all of them where there are fewer.
    """

    def __init__(self, num_images: int = 64) -> None:
        """Keep the options."""
        if num_images < 2:
            raise ArgumentError(f"num_images is {num_images}: allowed are 2 and above (batch normalisation)")
        self.num_images = num_images

    def fit(self, task: Task) -> SnipEvaluator:
        """Draw the batch; there is nothing to train."""
        order = torch.randperm(len(task.train_labels), generator=task.generator(BATCH))
        batch = order[: self.num_images].to(task.device)
        images = normalise(task.train_images[batch], *channel_statistics(task.train_images, task.recipe))
        return SnipEvaluator(task, images, task.train_labels[batch])


class SnipEvaluator:
    """Scores an architecture by the sum of its connection sensitivities.

    Args:
        task: Gives space, device and seed.
        images: Normalised float (batch, channels, height, width).
        labels: int64 (batch,).
    """

    def __init__(self, task: Task, images: Tensor, labels: Tensor) -> None:
        """Keep the batch that all architectures are seen on."""
        self.task, self.images, self.labels = task, images, labels

    def score(self, archs: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """Sum of |w * dL/dw|, float64 (n,) for int8 (n, 7)."""
        return np.array([self._sensitivity(arch) for arch in archs.tolist()], np.float64)

    def _sensitivity(self, arch: list[int]) -> float:
        space = self.task.space
        generator = self.task.generator(WEIGHTS, space.index({"digits": arch}))
        model = build_model(space, {"digits": arch}, generator).to(self.task.device)
        weights = [module.weight for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
        loss = functional.cross_entropy(model(self.images), self.labels)
        gradients = torch.autograd.grad(loss, weights)
        pairs = zip(weights, gradients, strict=True)
        return sum((weight.detach() * gradient).abs().sum().item() for weight, gradient in pairs)
