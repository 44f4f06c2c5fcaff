"""Loss and accuracy on test images: as PyTorch calls, or replayed as CUDA graphs.

    >>> loss, accuracy = evaluate_on_device(model, images, labels)     # tensors on the device, not read yet

Shapes below: B images in a batch, S networks in a stack. With a single network the axis S is missing.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from channel_bench.training.graphs import Recorder
from channel_bench.training.models.precision import forward

EVAL_BATCH_SIZE = 2000


def evaluate_on_device(
    model: nn.Module, images: Tensor, labels: Tensor, num_nets: int | None = None, precision: str = "fp32"
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats and accuracy in percent, float64 tensors () or (S,) that the host has not waited for.

    Args:
        model: A network, or a stack.
        images: Normalised float (num_images, channels, height, width).
        labels: int64 (num_images,).
        num_nets: S for a stack, None for a network.
        precision: Of the recipe.
    """
    return Evaluator(model, images.device, num_nets, precision)(images, labels)


class Evaluator:
    """Evaluates one network, or a stack, as it is at each call; `evaluate_on_device` says what the arguments are.

    Batches of a size that was recorded are replayed.
    """

    def __init__(self, model: nn.Module, device: torch.device, num_nets: int | None, precision: str) -> None:
        """Make the sums. A graph replays with the addresses it was captured with, so they are only ever overwritten."""
        self._model, self._num_nets, self._precision = model, num_nets, precision
        shape = () if num_nets is None else (num_nets,)
        self._loss_sum = torch.zeros(shape, dtype=torch.float64, device=device)
        self._num_correct = torch.zeros(shape, dtype=torch.int64, device=device)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._size = max(1, EVAL_BATCH_SIZE // (num_nets or 1))

    @torch.no_grad()
    def record(self, images: Tensor, recorder: Recorder) -> None:
        """Record the batches that such images come in. Evaluating changes nothing but the sums, so no trace is left."""
        self._model.eval()
        # Every batch is copied to one place, whose start is that of a smaller batch. In the layout of the images.
        self._images = torch.empty_like(images[: self._size])
        self._targets = torch.zeros(len(self._images), dtype=torch.int64, device=images.device)
        sizes = sorted({len(batch) for batch in images.split(self._size)}, reverse=True)
        graphs = recorder.record([functools.partial(self._add_recorded, size) for size in sizes])
        self._graphs = dict(zip(sizes, graphs, strict=True))

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and accuracy."""
        self._model.eval()
        self._loss_sum.zero_()
        self._num_correct.zero_()
        for batch, targets in zip(images.split(self._size), labels.split(self._size), strict=True):
            size = len(batch)
            if size in self._graphs:
                self._images[:size].copy_(batch)
                self._targets[:size].copy_(targets)
                self._graphs[size].replay()
            else:
                self._add(batch, targets)
        return self._loss_sum / len(labels), 100 * self._num_correct.double() / len(labels)

    def _add_recorded(self, size: int) -> None:
        self._add(self._images[:size], self._targets[:size])

    def _add(self, batch: Tensor, targets: Tensor) -> None:
        """Add the losses (B, S) and hits of a batch to the sums. Nothing in here may make the host wait."""
        if self._num_nets is not None:
            batch = batch[:, None].expand(-1, self._num_nets, -1, -1, -1)
            targets = targets[:, None].expand(-1, self._num_nets)
        logits = forward(self._model, batch, self._precision)
        self._loss_sum += functional.cross_entropy(logits.movedim(-1, 1), targets, reduction="none").sum(0)
        self._num_correct += (logits.argmax(-1) == targets).sum(0)
