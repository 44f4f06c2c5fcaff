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

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.errors import ArgumentError, MethodError
from channel_bench.space import NUM_SLOTS, FloatArray
from channel_bench.space.layers import IMAGE, Layer
from harness.supernet.cumulation import partial_sums
from harness.supernet.network import PATHS, Supernet, batch_norm, convolve, moments
from harness.task import Task

MAX_IMAGES = 2500
"""Images that a walk holds at once: a validation batch of the largest size. Calibration images that would add to them
go first, in parts (`_Moments`)."""
BUNDLE_ELEMENTS = {"cpu": 2**18, "cuda": 2**27}
"""Elements of a tensor up to which siblings travel together: a core's cache, a fraction of a GPU's memory."""


OnLogits = Callable[[list[int], Tensor], None]
"""Takes row numbers and their logits (batch, rows, num_classes)."""
_Normalise = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes (batch, channels, height, width), scale and shift (channels,)."""


class _Node(dict[int, Any]):
    """Architectures that begin alike, by the digit of the next slot; after the last slot comes a row number.

    Args:
        rows: Architectures and their row numbers, sorted.
        slot: The next slot.
    """

    def __init__(self, rows: Sequence[tuple[Sequence[int], int]], slot: int = 0) -> None:
        is_last = slot == NUM_SLOTS - 1
        for digit, members in itertools.groupby(rows, lambda row: row[0][slot]):
            some = list(members)
            self[digit] = some[0][1] if is_last else _Node(some, slot + 1)
        below = () if is_last else map(max, zip(*(node._most for node in self.values()), strict=True))
        self._most: tuple[int, ...] = (max(self), *below)

    def most(self, slot: int) -> int:
        """The largest digit of a slot that is still to come."""
        return self._most[slot - NUM_SLOTS]


@dataclass(frozen=True)
class _Position:
    """A layer in its place in the network."""

    layer: Layer
    block: tuple[Layer, ...]
    """The layers of its block."""
    free: bool
    """Whether nothing after it asks for the width of the slot that it reads, so that siblings keep one shape."""


class _Waiting(NamedTuple):
    """Siblings that wait for their turn: at the input of a layer, or at the output of its convolution."""

    number: int
    """Position of the layer."""
    x: Tensor
    """(batch * siblings, channels, height, width), siblings innermost."""
    skip: Tensor | None
    """Input of the block where the block adds it, else None; like x, or with one sibling for several of x."""
    nodes: list[_Node]
    """The subtree of each sibling."""
    digits: dict[int, int]
    """Closed slots whose width later layers ask for."""
    is_output: bool
    """Whether x is what the convolution gave, not yet normalised, and not what it is to read."""


class _Moments:
    """Statistics of every normalisation of a walk, gathered over calibration batches and then used.

    A calibration batch is normalised by its own statistics, so it needs no other image beside it. What the images after
    all of them need is the mean of those statistics, at each of the normalisations of the walk; these come in the same
    order for any images.

    Args:
        limit: Images that are held at once.
    """

    def __init__(self, limit: int) -> None:
        """Nothing yet."""
        self._limit = limit
        self._sums: list[Tensor] = []  # (2, channels) each: variance and mean
        self._num_batches = 0
        self._place = 0

    def parts(self, calibration: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Sizes of calibration batches that are run together, which restarts the order of the normalisations."""
        sizes = list(calibration)
        while sizes:
            count = 1
            while count < len(sizes) and sum(sizes[: count + 1]) <= self._limit:
                count += 1
            self._place = 0
            yield tuple(sizes[:count])
            self._num_batches += count
            del sizes[:count]
        self._place = 0

    def gather(self, y: Tensor, scale: Tensor, shift: Tensor, sizes: Sequence[int]) -> Tensor:
        """Normalise each batch by its own statistics, and keep them."""
        batches = y.split(list(sizes))
        found = moments(batches, scale.dtype).sum(0)
        if self._place < len(self._sums):
            self._sums[self._place] += found
        else:
            self._sums.append(found)
        self._place += 1
        return torch.cat([functional.batch_norm(batch, None, None, scale, shift, training=True) for batch in batches])

    def use(self, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Normalise by the mean of what was gathered at this place."""
        var, mean = self._sums[self._place] / self._num_batches
        self._place += 1
        return functional.batch_norm(y, mean, var, scale, shift)


class Walk:
    """One pass over a set of sub-networks of a supernet, for one batch of images.

    Args:
        supernet: The weights.
        path: "left" or "right".
        calibration: Sizes of calibration batches that come first among the images (`network.batch_norm`).
        bundle_elements: Elements of a tensor up to which siblings travel together; default by device.
        layout: Of the images in memory, and so of what follows; default `Supernet.layout_of`, which is channels first
            where siblings travel together: there they are joined and parted without copying.
        way: How partial sums are computed (`cumulation.partial_sums`): "grouped", "apart", or None for the faster one.
        max_images: With calibration, images that are held at once; more only where the others are more.

    Memory, in elements, beside the weights and a copy of one layer's: at any moment there are alive at most

    - of every layer that reads an open slot, its output at four widths, or a bundle where that is more;
    - of every block that adds its input to its output, that input, or a bundle where that is more;
    - three tensors that are being worked on, each the size of the largest layer's output, or of a bundle.

    It does not grow with the number of sub-networks. For 2,500 images in the full spaces that is 17 GB (ResNet) and
    22 GB (MobileNet) in float32, and no tensor has 2^31 elements, which is as far as some kernels count. Where
    calibration images would make it more, they are run first, at most `max_images` at a time. Beside the images of one
    part, there are then the statistics of every normalisation, two numbers per channel, for 1,024 architectures less
    than 0.1 GB.
    """

    def __init__(
        self,
        supernet: Supernet,
        path: str = "left",
        calibration: Sequence[int] = (),
        bundle_elements: int | None = None,
        layout: torch.memory_format | None = None,
        way: str | None = None,
        max_images: int = MAX_IMAGES,
    ) -> None:
        """Look up what each layer reads, writes and leaves open."""
        self.macs = 0
        """Multiply-accumulates of convolutions and the classifier so far, over all images."""
        self._net = supernet
        self._path = path
        self._calibration = tuple(calibration)
        self._bundle_elements = bundle_elements
        self._layout = layout
        self._way = way
        self._max_images = max_images
        layers = supernet.layers
        self._positions = [
            _Position(
                layer,
                block,
                free=layer.reads not in {layer.writes, supernet.feature_slot}
                and all(layer.reads not in (later.reads, later.writes) for later in layers[number + 1 :]),
            )
            for number, (layer, block) in enumerate((layer, block) for block in supernet.blocks for layer in block)
        ]

    @torch.no_grad()
    def run(self, images: Tensor, archs: npt.NDArray[np.int8], on_logits: OnLogits) -> None:
        """Run sub-networks.

        Args:
            images: Normalised float (batch, channels, height, width).
            archs: int8 (n, 7), digits 1..4, without duplicates, n >= 1.
            on_logits: Called with row numbers in archs and their logits (batch, rows, num_classes); together all rows,
                each once.
        """
        default = BUNDLE_ELEMENTS.get(images.device.type, BUNDLE_ELEMENTS["cpu"])
        self._limit = default if self._bundle_elements is None else self._bundle_elements
        root = _Node(sorted(zip(archs.tolist(), range(len(archs)), strict=True)))
        if not self._calibration or len(images) <= self._max_images:
            self._most_images = len(images)
            self._normalise: _Normalise = functools.partial(batch_norm, calibration=self._calibration)
            self._pass(images, root, len(images) - sum(self._calibration), on_logits)
            return
        gathered = _Moments(self._max_images)
        rest = images[sum(self._calibration) :]
        self._most_images = max(len(rest), self._max_images)
        at = 0
        for sizes in gathered.parts(self._calibration):
            self._normalise = functools.partial(gathered.gather, sizes=sizes)
            self._pass(images[at : at + sum(sizes)], root, 1, lambda rows, logits: None)
            at += sum(sizes)
        self._normalise = gathered.use
        self._pass(rest, root, len(rest), on_logits)

    def _pass(self, images: Tensor, root: _Node, num_logits: int, on_logits: OnLogits) -> None:
        """Go through all layers with some of the images; the last ones get logits."""
        self._num_images, self._num_logits, self._on_logits = len(images), num_logits, on_logits
        layout = self._net.layout_of(images) if self._layout is None else self._layout
        self._waiting = [_Waiting(0, self._net.prepare(images, layout), None, [root], {}, is_output=False)]
        while self._waiting:
            # One name for each state, bound anew: no other name keeps a tensor alive that the step has consumed. On a
            # GPU a further tensor of this size may be the one that no longer fits.
            at = self._waiting.pop()
            if at.is_output:
                at = self._finish(at)
            self._enter(at)

    def _finish(self, at: _Waiting) -> _Waiting:
        """Do what follows a convolution, normalisation, sum and activation; the result waits at the next layer."""
        layer = self._positions[at.number].layer
        y = self._batch_norm(layer, at.x, len(at.nodes))
        if layer.skip:
            assert at.skip is not None
            # Siblings that branched off within the block share its input: one of `held` serves several of y.
            held = len(at.skip) // self._num_images
            y = (
                y.unflatten(0, (self._num_images, held, -1))
                .add_(at.skip.unflatten(0, (self._num_images, held, 1)))
                .flatten(0, 2)
            )
        return at._replace(number=at.number + 1, x=y.relu_() if layer.relu else y, is_output=False)

    def _enter(self, at: _Waiting) -> None:
        """Run the layer that comes next, or the classifier; or part siblings that cannot go on together."""
        if at.number == len(self._positions):
            self._classify(at.x, at.nodes, at.digits)
            return
        position = self._positions[at.number]
        layer = position.layer
        if layer is position.block[0]:
            at = at._replace(skip=at.x if position.block[-1].skip else None)
        # Does the layer read a slot whose width is not decided yet? A depthwise layer keeps that slot open, because it
        # acts on each channel alone.
        branches = layer.reads != IMAGE and not layer.depthwise and layer.reads not in at.digits
        # Does it write one? Then it is run once, at the largest width that is still to come.
        opens = layer.writes not in at.digits and layer.reads != layer.writes
        digit_out = self._digit_out(layer, at, opens)
        if len(at.nodes) > 1 and not self._stays_bundled(layer, at.x, at.nodes, digit_out, branches):
            for x, skip, node in self._parted(at):
                self._waiting.append(at._replace(x=x, skip=skip, nodes=[node]))
        elif branches:
            self._branch(position, at, digit_out, opens)
        else:
            digit_in = 0 if layer.reads == IMAGE else self._width(at.x, layer.reads)
            self._wait(at._replace(x=self._convolve(layer, at.x, digit_out, digit_in)), opens)

    def _digit_out(self, layer: Layer, at: _Waiting, opens: bool) -> int:
        """Width at which a layer is run: the largest to come of a slot that it opens, else that of the closed slot."""
        if opens:
            return max(node.most(layer.writes) for node in at.nodes)
        # A layer that writes the slot that it reads is as wide as that, whether the slot is open or closed.
        return self._width(at.x, layer.writes) if layer.reads == layer.writes else at.digits[layer.writes]

    def _branch(self, position: _Position, at: _Waiting, digit_out: int, opens: bool) -> None:
        """Run a layer that reads an open slot at every digit of it that is below, for the price of the widest."""
        slot = position.layer.reads
        # The last one to wait is the first one to go on.
        chosen = sorted(at.nodes[0], reverse=self._path == "right")
        y = self._cumulate(position.layer, at.x, digit_out, chosen)
        if position.free and self._fits(y.numel()):
            # No later layer asks for the width of this slot, so what comes out of it has one shape for all digits:
            # they become siblings in one tensor, in the order of `flatten`.
            below = [node[digit] for node in at.nodes for digit in chosen]
            self._wait(at._replace(x=y.flatten(0, 1), nodes=below), opens)
            return
        for place, digit in enumerate(chosen):
            after = at._replace(x=y[:, place], nodes=[node[digit] for node in at.nodes])
            if not position.free:
                # A later layer asks for the width: the slot closes here, and so do the block's input and what the layer
                # writes where they are of the same slot.
                if at.skip is not None and position.block[0].reads == slot:
                    after = after._replace(skip=self._narrow(at.skip, slot, digit))
                if position.layer.writes == slot:
                    after = after._replace(x=self._narrow(after.x, slot, digit))
                after = after._replace(digits=at.digits | {slot: digit})
            self._wait(after, opens)

    def _wait(self, at: _Waiting, opens: bool) -> None:
        """Leave the output of a convolution for later; `opens` where it wrote a slot at all widths at once."""
        slot = self._positions[at.number].layer.writes
        at = at._replace(is_output=True)
        if opens:
            at = at._replace(x=self._narrow(at.x, slot, max(node.most(slot) for node in at.nodes)))
        if not (opens and self._net.norm_per_width):
            self._waiting.append(at)
            return
        # A scale and shift per width end the nesting: the slot closes before it is normalised.
        for x, skip, node in self._parted(at):
            for digit, below in node.items():
                cut = self._narrow(x, slot, digit)
                self._waiting.append(at._replace(x=cut, skip=skip, nodes=[below], digits=at.digits | {slot: digit}))

    def _parted(self, at: _Waiting) -> Iterator[tuple[Tensor, Tensor | None, _Node]]:
        """Tensor, input of the block and subtree of each sibling."""
        for sibling, node in enumerate(at.nodes):
            skip = None if at.skip is None else self._pick(at.skip, len(at.nodes), sibling)
            yield self._pick(at.x, len(at.nodes), sibling), skip, node

    def _classify(self, x: Tensor, nodes: list[_Node], digits: dict[int, int]) -> None:
        """Pooling and the linear layer; an open slot of features is cumulated like that of a convolution."""
        net, slot = self._net, self._net.feature_slot
        width = self._width(x, slot)
        pooled = net.pool(x).unflatten(0, (self._num_images, len(nodes)))[-self._num_logits :]
        weight = net.classifier_weight[:, net.channels_of(slot, width, self._path)]
        self.macs += pooled.numel() * net.space.num_classes
        if slot in digits:
            self._on_logits(nodes, functional.linear(pooled, weight, net.classifier_bias))  # type: ignore[arg-type]
            return
        partial = torch.einsum("bsgc,kgc->bsgk", pooled.unflatten(2, (width, -1)), weight.unflatten(1, (width, -1)))
        logits = (self._add_up(partial, 2) + net.classifier_bias).flatten(1, 2)
        rows, places = [], []
        for sibling, node in enumerate(nodes):
            for place, digit in sorted((self._place(digit, width), digit) for digit in node):
                rows.append(node[digit])
                places.append(sibling * width + place)
        self._on_logits(rows, logits if len(rows) == logits.shape[1] else logits[:, places])

    def _stays_bundled(self, layer: Layer, x: Tensor, nodes: list[_Node], digit_out: int, branches: bool) -> bool:
        """Whether siblings can go on together: a result of bearable size and, at a branch, the same digits below."""
        if branches and any(node.keys() != nodes[0].keys() for node in nodes[1:]):
            return False
        channels = self._net.group_size(layer.writes) * digit_out
        pixels = x.shape[2] * x.shape[3] // layer.stride**2
        return self._fits(len(x) * channels * pixels * (max(nodes[0]) if branches else 1))

    def _fits(self, num_elements: int) -> bool:
        """Whether a tensor may hold siblings; decided as for the most images, so that every part goes the same way."""
        return num_elements // self._num_images * self._most_images <= self._limit

    def _convolve(self, layer: Layer, x: Tensor, digit_out: int, digit_in: int) -> Tensor:
        y = convolve(layer, x, self._net.cut_weight(layer, digit_out, digit_in, self._path))
        self.macs += y.numel() * layer.kernel**2 * (1 if layer.depthwise else x.shape[1])
        return y

    def _cumulate(self, layer: Layer, x: Tensor, digit_out: int, chosen: list[int]) -> Tensor:
        """Convolution of an open slot at widths: (batch * siblings, len(chosen), channels, height, width)."""
        num_groups = max(chosen)
        weight = self._net.cut_weight(layer, digit_out, num_groups, self._path)
        x = self._narrow(x, layer.reads, num_groups)
        y = partial_sums(layer, x, weight, num_groups, self._way)
        self.macs += y.numel() * layer.kernel**2 * self._net.group_size(layer.reads)
        y = self._add_up(y, 1)
        return y if len(chosen) == num_groups else y[:, [self._place(digit, num_groups) for digit in chosen]]

    def _add_up(self, partial: Tensor, dim: int) -> Tensor:
        """Running sums over groups, in place; `_place` says where a width ends up."""
        num_groups = partial.shape[dim]
        places = [self._place(digit, num_groups) for digit in range(1, num_groups + 1)]
        for before, after in zip(places, places[1:], strict=False):
            partial.select(dim, after).add_(partial.select(dim, before))
        return partial

    def _place(self, digit: int, num_groups: int) -> int:
        """Where among the groups of an open slot, in order of channels, those of a digit are complete."""
        return digit - 1 if self._path == "left" else num_groups - digit

    def _batch_norm(self, layer: Layer, y: Tensor, siblings: int) -> Tensor:
        scale, shift = self._net.cut_norm(layer, self._width(y, layer.writes), self._path)
        wide = y.reshape(self._num_images, siblings * y.shape[1], *y.shape[2:])
        return self._normalise(wide, scale.repeat(siblings), shift.repeat(siblings)).view(y.shape)

    def _width(self, x: Tensor, slot: int) -> int:
        """Groups of channels of a slot in a tensor: the digit of a closed slot, the largest one to come of an open."""
        return x.shape[1] // self._net.group_size(slot)

    def _narrow(self, x: Tensor, slot: int, digit: int) -> Tensor:
        """Channels of a digit out of those of an open slot."""
        size = self._net.group_size(slot) * digit
        return x[:, :size] if self._path == "left" else x[:, x.shape[1] - size :]

    def _pick(self, x: Tensor, siblings: int, sibling: int) -> Tensor:
        """One of the siblings in a tensor, or of the fewer ones that it holds for them."""
        held = len(x) // self._num_images
        return x.unflatten(0, (self._num_images, held))[:, sibling * held // siblings]


class SupernetEvaluator:
    """Scores an architecture by its sub-network on the validation images; return one from ``fit``.

    Args:
        supernet: The trained weights.
        task: Gives the validation images in fixed batches (`Task.validation_batches`), what normalises sub-networks
            (`Task.bn`), and what the score is (`Task.score_by`).
        paths: Paths whose results are averaged: ("left",) for the first channels of every slot, or ("left", "right")
            as in BCNet (Eq. 12).
        share: Whether sub-networks share their work, which changes scores by rounding only; False runs each on its own.
        facts: Facts for the score file, such as what `train_supernet` returns; a dict that JSON can hold.
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
            float64 (n,), higher is better. Except for rounding, a score does not depend on the order or on the other
            architectures.
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

    def training_losses(self) -> tuple[npt.NDArray[np.int8], FloatArray]:
        """Which random architectures the supernet was trained on, and with what loss (`Batch.record`).

        Returns:
            int8 (n, 7), and float64 (n,): losses as multiples of the mean loss of their epoch, in the order of
            training.

        Raises:
            MethodError: The training recorded none.
        """
        if not len(self.supernet.loss_records):
            raise MethodError(
                "the training of this supernet recorded no losses of architectures: choose a method that trains random"
                " widths, or call batch.record(arch, loss) in its step"
            )
        return self.supernet.loss_records.relative()

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


class _Count(Walk):
    """A walk without normalisation, which counts nothing and takes long on tensors without data."""

    def _batch_norm(self, layer: Layer, y: Tensor, siblings: int) -> Tensor:
        return y


def count_macs(supernet: Supernet, path: str = "left") -> int:
    """Multiply-accumulates per image of all 16,384 sub-networks together, as `Walk` runs them.

    Runs the walk itself on tensors without data, so it counts the work that is done. One by one the count is
    ``space.flops().sum()``.
    """
    net = Supernet(supernet.space, torch.Generator(), supernet.num_groups, supernet.norm_per_width).to("meta")
    walk = _Count(net, path, bundle_elements=2**62)
    walk.run(torch.empty(1, *net.space.input_shape, device="meta"), net.space.archs(), lambda rows, logits: None)
    return walk.macs


assert NUM_SLOTS == 7  # the branches of a walk are the slots, in their order
