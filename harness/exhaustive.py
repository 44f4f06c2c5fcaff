"""Score sub-networks of a supernet exactly, sharing the work of architectures that begin alike.

A stage of the forward pass depends on the digits of the slots consumed so far, so architectures that agree in those
digits share its output bit for bit. `SupernetEvaluator` walks the architectures in index order and keeps one output per
stage for the current prefix: memory is that of a single forward pass. ``share=False`` runs every architecture from the
image on; it is the reference that the tests compare with.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from channel_bench.errors import ArgumentError
from harness.supernet import PATHS, Supernet
from harness.task import Task


class SupernetEvaluator:
    """Scores an architecture by the validation accuracy of its sub-network.

    Args:
        supernet: The trained weights.
        task: Gives the validation images, in one fixed partition into equal batches.
        paths: Paths whose accuracies are averaged: ("left",), or ("left", "right") as in BCNet (Eq. 12).
        share: Whether architectures share the stages of a common prefix.
    """

    def __init__(self, supernet: Supernet, task: Task, paths: tuple[str, ...] = ("left",), share: bool = True) -> None:
        """Normalise the validation images once."""
        if not paths or set(paths) - set(PATHS):
            raise ArgumentError(f"paths {paths!r} are not among {', '.join(PATHS)}")
        self.supernet = supernet
        self.paths = paths
        self.share = share
        self._batches = task.validation_batches()

    @torch.no_grad()
    def score(self, archs: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """Validation accuracy in percent, mean over paths.

        Args:
            archs: int8 (n, 7), digits 1..4, in any order.

        Returns:
            float64 (n,). Independent of the order and of each other.
        """
        order = np.lexsort(archs.T[::-1])
        correct = np.zeros(len(archs))
        num_images = 0
        for images, labels in self._batches:
            num_images += len(labels)
            for path in self.paths:
                correct[order] += self._num_correct(images, labels, archs[order], path)
        return 100 * correct / (num_images * len(self.paths))

    def _num_correct(
        self, images: Tensor, labels: Tensor, archs: npt.NDArray[np.int8], path: str
    ) -> npt.NDArray[np.float64]:
        """Correctly classified images of each architecture, float64 (n,); archs in ascending order."""
        net, stages = self.supernet, self.supernet.stages
        # Counts stay on the device until the end, so that a GPU is never waited for in between.
        counts = torch.zeros(len(archs), dtype=torch.int64, device=labels.device)
        kept: list[tuple[tuple[int, ...], Tensor]] = []  # (prefix, output) of the stages of the last architecture
        for number, arch in enumerate(map(tuple, archs.tolist())):
            while kept and not (self.share and kept[-1][0] == arch[: len(kept[-1][0])]):
                kept.pop()
            for stage in stages[len(kept) :]:
                x = kept[-1][1] if kept else images
                kept.append((arch[: stage.depth], net.run_stage(stage, x, arch, path)))
            logits = net.classify(kept[-1][1], arch, path)
            counts[number] = (logits.argmax(1) == labels).sum()
        return counts.cpu().numpy().astype(np.float64)
