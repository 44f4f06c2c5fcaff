"""Score every sub-network of a supernet exactly, in a tenth of the work of running them one by one.

Convolution is linear in its input channels, and normalisation, activation, depthwise filters and pooling act on each
channel alone. So three things hold exactly in real arithmetic, and up to rounding in floating point:

- **prefix**: a tensor depends only on the slots consumed so far; architectures that begin alike share it;
- **nesting**: the channels that a layer writes at width k are the first k groups of what it writes at full width, as
  long as its input does not depend on the width; they still are after normalisation and activation. A slot in this
  state is *open*: one tensor stands for all its widths;
- **cumulation**: a convolution that reads an open slot at width k is a sum over the first k groups; one pass over the
  groups, adding up, gives all widths for the price of the widest.

`Walk` goes through the layers once per architecture prefix, depth first. Where a layer reads an open slot the walk
branches over its digits. On the right path the groups count from the other end. With a scale and shift per width
(`Supernet.norm_per_width`) nesting ends at the normalisation, and the walk branches there. Siblings whose tensors have
one shape travel as one tensor (bundles), because the networks of the mini spaces are too small to fill a core alone.

`SupernetEvaluator` scores by it; ``share=False`` runs every sub-network from the image on, as the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_SLOTS
from harness.supernet import IMAGE, PATHS, Layer, Stage, Supernet, batch_norm, convolve
from harness.task import Task

FloatArray = npt.NDArray[np.float64]
Trie = dict[int, Any]
"""Architectures by digit, slot by slot; at the last slot the digit leads to a row number."""

BUNDLE_ELEMENTS = {"cpu": 2**18, "cuda": 2**27}
"""Elements of a tensor up to which siblings travel together: a core's cache, a fraction of a GPU's memory."""


@dataclass(frozen=True)
class _Position:
    """A layer in its place in the network."""

    layer: Layer
    stage: Stage
    first: bool
    """Whether it opens its stage."""
    last: bool
    """Whether it closes its stage."""
    free: bool
    """Whether nothing after it asks for the width of the slot that it reads, so that siblings keep one shape."""


class Walk:
    """One pass over a set of sub-networks of a supernet, for one batch of images.

    Args:
        supernet: The weights.
        path: "left" or "right".
        calibration: Sizes of calibration batches that come first among the images (`harness.supernet.batch_norm`).
        bundle_elements: Elements of a tensor up to which siblings travel together; default by device.

    Memory does not grow with the number of sub-networks: beside a bundle per layer, at most 32 tensors of the size of a
    layer's largest output are alive at any moment, the outputs of up to four widths of each open slot on the way down
    and the inputs of the stages.
    """

    def __init__(
        self,
        supernet: Supernet,
        path: str = "left",
        calibration: Sequence[int] = (),
        bundle_elements: int | None = None,
    ) -> None:
        """Look up what each layer reads, writes and leaves open."""
        self.macs = 0
        """Multiply-accumulates of convolutions and the classifier so far, over all images."""
        self._net = supernet
        self._path = path
        self._calibration = tuple(calibration)
        self._bundle_elements = bundle_elements
        stages = [(stage, layer) for stage in supernet.stages for layer in stage.layers]
        self._positions = [
            _Position(
                layer,
                stage,
                first=layer is stage.layers[0],
                last=layer is stage.layers[-1],
                free=layer.reads not in {layer.writes, supernet.feature_slot}
                and all(layer.reads not in (later.reads, later.writes) for _, later in stages[number + 1 :]),
            )
            for number, (stage, layer) in enumerate(stages)
        ]

    @torch.no_grad()
    def run(self, images: Tensor, archs: npt.NDArray[np.int8], on_logits: Callable[[list[int], Tensor], None]) -> None:
        """Run sub-networks.

        Args:
            images: Normalised float (batch, channels, height, width).
            archs: int8 (n, 7), digits 1..4, without duplicates.
            on_logits: Called with row numbers in archs and their logits (batch, rows, num_classes); together all rows,
                each once.
        """
        self._num_images = len(images)
        self._num_logits = len(images) - sum(self._calibration)
        self._on_logits = on_logits
        self._most = [int(most) for most in archs.max(0)]
        self._limit = self._bundle_elements or BUNDLE_ELEMENTS.get(images.device.type, BUNDLE_ELEMENTS["cpu"])
        self._go(0, images, None, [_trie(archs)], {})

    def _go(self, number: int, x: Tensor, skip: Tensor | None, nodes: list[Trie], digits: dict[int, int]) -> None:
        """Run the layers from one position on.

        Args:
            number: Position of the layer.
            x: Its input, (batch * siblings, channels, height, width), siblings innermost.
            skip: Input of the stage where the stage adds it, else None; like x, or with one sibling for several of x.
            nodes: The subtree of each sibling.
            digits: Closed slots whose width later layers ask for.
        """
        if number == len(self._positions):
            self._classify(x, nodes, digits)
            return
        position = self._positions[number]
        layer = position.layer
        if position.first:
            skip = x if position.stage.skip else None
        branches = layer.reads not in (IMAGE, layer.writes) and layer.reads not in digits
        if len(nodes) > 1 and not self._stays_bundled(layer, x, nodes, branches):
            for sibling, node in enumerate(nodes):
                part = self._pick(x, len(nodes), sibling)
                kept = None if skip is None else part if skip is x else self._pick(skip, len(nodes), sibling)
                self._go(number, part, kept, [node], digits)
            return
        if not branches:
            digit_in = 0 if layer.reads == IMAGE else digits.get(layer.reads, self._most[layer.reads])
            digit_out = digits.get(layer.writes, self._most[layer.writes])
            y = self._convolve(layer, x, digit_out, digit_in)
            self._normalise(number, y, skip, nodes, digits, layer.writes not in digits and layer.reads != layer.writes)
            return
        opens = layer.writes not in digits
        chosen = sorted(nodes[0], reverse=self._path == "right")
        y = self._cumulate(layer, x, digits.get(layer.writes, self._most[layer.writes]), chosen)
        if position.free and y.numel() <= self._limit:
            below = [node[digit] for node in nodes for digit in chosen]
            self._normalise(number, y.flatten(0, 1), skip, below, digits, opens)
            return
        for place, digit in enumerate(chosen):
            below = [node[digit] for node in nodes]
            if position.free:
                self._normalise(number, y[:, place], skip, below, digits, opens)
            else:
                cut = None if skip is None else self._narrow(skip, layer.reads, digit)
                self._normalise(number, y[:, place], cut, below, digits | {layer.reads: digit}, opens)

    def _normalise(
        self, number: int, y: Tensor, skip: Tensor | None, nodes: list[Trie], digits: dict[int, int], opens: bool
    ) -> None:
        """Normalise the output of a convolution, and go on; `opens` where it wrote a slot at all widths at once."""
        layer = self._positions[number].layer
        if not (opens and self._net.norm_per_width):
            digit = digits.get(layer.writes, self._most[layer.writes])
            self._finish(number, self._batch_norm(layer, y, digit, len(nodes)), skip, nodes, digits)
            return
        # What is normalised by a pair per width is nested no longer: the slot closes here.
        for sibling, node in enumerate(nodes):
            alone = self._pick(y, len(nodes), sibling)
            kept = None if skip is None else self._pick(skip, len(nodes), sibling)
            for digit, below in sorted(node.items()):
                cut = self._narrow(alone, layer.writes, digit)
                self._finish(
                    number, self._batch_norm(layer, cut, digit, 1), kept, [below], digits | {layer.writes: digit}
                )

    def _finish(self, number: int, y: Tensor, skip: Tensor | None, nodes: list[Trie], digits: dict[int, int]) -> None:
        """Sum and activation after a layer."""
        position = self._positions[number]
        if position.last and skip is not None:
            siblings = len(skip) // self._num_images
            y = (
                y.unflatten(0, (self._num_images, siblings, -1))
                .add_(skip.unflatten(0, (self._num_images, siblings, 1)))
                .flatten(0, 2)
            )
        if not position.last or position.stage.relu_after:
            y = y.relu_()
        self._go(number + 1, y, skip, nodes, digits)

    def _classify(self, x: Tensor, nodes: list[Trie], digits: dict[int, int]) -> None:
        """Pooling and the linear layer; an open slot of features is cumulated like that of a convolution."""
        net, slot = self._net, self._net.feature_slot
        pooled = x.mean((2, 3)).unflatten(0, (self._num_images, len(nodes)))[-self._num_logits :]
        closed = slot in digits
        channels = net.channels_of(slot, digits[slot] if closed else self._most[slot], self._path)
        weight = net.classifier_weight[:, channels]
        self.macs += pooled.numel() * net.space.num_classes
        if closed:
            self._on_logits(nodes, functional.linear(pooled, weight, net.classifier_bias))  # type: ignore[arg-type]
            return
        groups = weight.unflatten(1, (self._most[slot], -1))
        partial = torch.einsum("bsgc,kgc->bsgk", pooled.unflatten(2, (self._most[slot], -1)), groups)
        logits = self._add_up(partial, 2, slot) + net.classifier_bias
        for sibling, node in enumerate(nodes):
            self._on_logits(list(node.values()), logits[:, sibling, [self._place(slot, digit) for digit in node]])

    def _stays_bundled(self, layer: Layer, x: Tensor, nodes: list[Trie], branches: bool) -> bool:
        """Whether siblings can go on together: a result of bearable size and, at a branch, the same digits below."""
        if branches and any(node.keys() != nodes[0].keys() for node in nodes[1:]):
            return False
        channels = self._net.group_size(layer.writes) * self._most[layer.writes]
        pixels = x.shape[2] * x.shape[3] // layer.stride**2
        return len(x) * channels * pixels * (self._most[layer.reads] if branches else 1) <= self._limit

    def _convolve(self, layer: Layer, x: Tensor, digit_out: int, digit_in: int) -> Tensor:
        y = convolve(layer, x, self._net.cut_weight(layer, digit_out, digit_in, self._path))
        self.macs += y.numel() * layer.kernel**2 * (1 if layer.depthwise else x.shape[1])
        return y

    def _cumulate(self, layer: Layer, x: Tensor, digit_out: int, chosen: list[int]) -> Tensor:
        """Convolution of an open slot at widths: (batch * siblings, len(chosen), channels, height, width)."""
        num_groups = self._most[layer.reads]
        weight = self._net.cut_weight(layer, digit_out, num_groups, self._path)
        # Group g of the inputs to its own block of outputs: one grouped convolution for all partial sums.
        blocks = weight.unflatten(1, (num_groups, -1)).transpose(0, 1).flatten(0, 1)
        y = functional.conv2d(x, blocks, stride=layer.stride, padding=layer.kernel // 2, groups=num_groups)
        self.macs += y.numel() * layer.kernel**2 * blocks.shape[1]
        y = self._add_up(y.unflatten(1, (num_groups, -1)), 1, layer.reads)
        return y if len(chosen) == num_groups else y[:, [self._place(layer.reads, digit) for digit in chosen]]

    def _add_up(self, partial: Tensor, dim: int, slot: int) -> Tensor:
        """Running sums over the groups of a slot, in place; `_place` says where a width ends up."""
        places = [self._place(slot, digit) for digit in range(1, self._most[slot] + 1)]
        for before, after in zip(places, places[1:], strict=False):
            partial.select(dim, after).add_(partial.select(dim, before))
        return partial

    def _place(self, slot: int, digit: int) -> int:
        """Where among the groups of an open slot, in order of channels, those of a digit are complete."""
        return digit - 1 if self._path == "left" else self._most[slot] - digit

    def _batch_norm(self, layer: Layer, y: Tensor, digit: int, siblings: int) -> Tensor:
        scale, shift = self._net.cut_norm(layer, digit, self._path)
        wide = y.reshape(self._num_images, siblings * y.shape[1], *y.shape[2:])
        return batch_norm(wide, scale.repeat(siblings), shift.repeat(siblings), self._calibration).view(y.shape)

    def _narrow(self, x: Tensor, slot: int, digit: int) -> Tensor:
        """Channels of a digit out of those of an open slot."""
        size = self._net.group_size(slot) * digit
        return x[:, :size] if self._path == "left" else x[:, x.shape[1] - size :]

    def _pick(self, x: Tensor, siblings: int, sibling: int) -> Tensor:
        """One of the siblings in a tensor, or of the fewer ones that it holds for them."""
        held = len(x) // self._num_images
        return x.unflatten(0, (self._num_images, held))[:, sibling * held // siblings]


class SupernetEvaluator:
    """Scores an architecture by its sub-network on the validation images.

    Args:
        supernet: The trained weights.
        task: Gives the validation images in one fixed partition into equal batches; what normalises them (`Task.bn`)
            and what the score is (`Task.score_by`).
        paths: Paths whose results are averaged: ("left",), or ("left", "right") as in BCNet (Eq. 12).
        share: Whether sub-networks share their work.
        facts: What to write beside the scores.
    """

    def __init__(
        self,
        supernet: Supernet,
        task: Task,
        paths: tuple[str, ...] = ("left",),
        share: bool = True,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """Normalise the validation images once."""
        if not paths or set(paths) - set(PATHS):
            raise ArgumentError(f"paths {paths!r} are not among {', '.join(PATHS)}")
        self.supernet = supernet
        self.paths = paths
        self.share = share
        self.facts = facts or {}
        self._score_by = task.score_by
        self._calibration, self._batches = task.validation_batches()
        self._last: tuple[bytes, dict[str, FloatArray]] = (b"", {})

    def score(self, archs: npt.NDArray[np.int8]) -> FloatArray:
        """Validation accuracy in percent, or the negative validation loss, mean over paths.

        Args:
            archs: int8 (n, 7), digits 1..4, in any order.

        Returns:
            float64 (n,), higher is better. Independent of the order and of each other but for rounding.
        """
        columns = self.columns(archs)
        return columns["val_acc"].copy() if self._score_by == "accuracy" else -columns["val_loss"]

    def columns(self, archs: npt.NDArray[np.int8]) -> dict[str, FloatArray]:
        """Both scores of sub-networks, mean over paths.

        Args:
            archs: int8 (n, 7), digits 1..4, in any order.

        Returns:
            ``val_acc``, accuracy in percent, and ``val_loss``, mean cross-entropy in nats; float64 (n,) each.
        """
        key = archs.tobytes()
        if self._last[0] != key:
            distinct, inverse = np.unique(archs, axis=0, return_inverse=True)
            sums = np.zeros((2, len(distinct)))
            for images, labels in self._batches:
                for path in self.paths:
                    sums += self._sums(images, labels, distinct, path)
            sums = sums[:, inverse.reshape(-1)] / (len(self.paths) * sum(len(labels) for _, labels in self._batches))
            self._last = key, {"val_acc": 100 * sums[0], "val_loss": sums[1]}
        return self._last[1]

    @torch.no_grad()
    def _sums(self, images: Tensor, labels: Tensor, archs: npt.NDArray[np.int8], path: str) -> FloatArray:
        """Number of correct answers and sum of cross-entropies of each architecture, float64 (2, n)."""
        if not len(archs):
            return np.zeros((2, 0))
        # Results stay on the device until the end, so that a GPU is never waited for in between.
        rows: list[int] = []
        parts: list[Tensor] = []

        def keep(some: list[int], logits: Tensor) -> None:
            rows.extend(some)
            correct = (logits.argmax(2) == labels[:, None]).sum(0)
            losses = functional.cross_entropy(
                logits.flatten(0, 1), labels.repeat_interleave(len(some)), reduction="none"
            ).view(len(labels), -1)
            parts.append(torch.stack([correct.double(), losses.sum(0, dtype=torch.float64)]))

        if self.share:
            Walk(self.supernet, path, self._calibration).run(images, archs, keep)
        else:
            for row, arch in enumerate(archs.tolist()):
                logits = self.supernet(images, arch, path, self._calibration)
                keep([row], logits[-len(labels) :, None])
        sums = np.empty((2, len(archs)))
        sums[:, rows] = torch.cat(parts, 1).cpu().numpy()
        return sums


def count_macs(supernet: Supernet, path: str = "left") -> int:
    """Multiply-accumulates per image of all 16,384 sub-networks together, as `Walk` runs them.

    The walk itself is run, on tensors without data: the count is of what is done, not of a formula. One by one it is
    ``space.flops().sum()``.
    """
    net = Supernet(supernet.space, torch.Generator(), supernet.num_groups, supernet.norm_per_width).to("meta")
    walk = Walk(net, path, bundle_elements=2**62)
    walk.run(torch.empty(1, *net.space.input_shape, device="meta"), net.space.archs(), lambda rows, logits: None)
    return walk.macs


def _trie(archs: npt.NDArray[np.int8]) -> Trie:
    root: Trie = {}
    for row in np.lexsort(archs.T[::-1]).tolist():
        *most, last = archs[row].tolist()
        node = root
        for digit in most:
            node = node.setdefault(digit, {})
        node[last] = row
    return root


assert NUM_SLOTS == 7  # the branches of a walk are the slots, in their order
