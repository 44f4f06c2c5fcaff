"""FUR, the FLOPs utilization ratio of Network Adjustment (Chen et al., CVPR 2020).

Taken from the paper and its code: not a supernet. One network is trained with spatial dropout (whole channels, kept
ones scaled up) whose probability grows with the epoch and the depth. Then each slot alone is probed by dropout at
inference: its utilisation is how much worse the network gets. Every slot's probability takes away the same FLOPs:
p_l = p0 * mean of (c dF/dc) / (c_l dF/dc_l); c dF/dc is what the FLOPs lose when the slot vanishes. Normalisation uses
the statistics of training images without dropout.

Departs from the paper: its text measures utilisation by the drop of the accuracy, its code by the increase of the loss.
The default follows the code, ``measure="loss"``, because a loss tells small differences apart on few validation images;
``measure="accuracy"`` follows the text.

Left open there: a ranking of all widths. The network adjusted is the widest, since dropout can only imitate less. All
tensors of a slot lose the same channels, as they would by narrowing it. Two scores:

- F1, ``score="linear"``: the first-order extrapolation, the sum over slots of utilisation per channel times channels;
- F2, ``score="curve"``: utilisation at the dropout probabilities 1/4, 1/2 and 3/4, which stand for the widths 3, 2
  and 1; the score is minus the sum of the increases. The network must be used to so much dropout: it is trained with a
  probability per slot and batch that is uniform in [0, 3/4].

Both are sums over slots; their effects are in `FUREvaluator.slot_effects`. ``Algorithm 1``, which adjusts a width step
by step, is a searcher.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS, Space
from channel_bench.space.layers import Layer
from channel_bench.training.datasets import channel_statistics, normalise
from harness.method import register
from harness.supernet.network import Supernet
from harness.supernet.training import Batch, make_supernet, train_supernet
from harness.task import CALIBRATION_BATCH_SIZE, CALIBRATION_BATCHES, Task

SCORES, MEASURES = ("linear", "curve"), ("loss", "accuracy")
WIDEST = (NUM_WIDTHS,) * NUM_SLOTS
TRAIN_MASKS, PROBE_MASKS = 10, 11
"""Streams of the task's seed."""
MAX_DROPOUT = 0.9

Statistics = dict[str, tuple[Tensor, Tensor]]
"""Mean and variance of each layer's output, by its key."""


@register("fur", paper="Chen et al., CVPR 2020, Network Adjustment", summary="one network, probed by channel dropout")
class FUR:
    """FLOPs utilization ratio.

    Args:
        score: "linear" (F1) or "curve" (F2).
        measure: "loss" or "accuracy" on the validation images.
        p0: Mean dropout probability of the linear probe, in (0, 1).
        p_max: Largest dropout probability in training for the linear score, in [0, 1).
        repeats: Dropout masks per probe, >= 1; the published code uses 5.
    """

    def __init__(
        self,
        score: str = "linear",
        measure: str = "loss",
        p0: float = 0.05,
        p_max: float = 0.05,
        repeats: int = 5,
    ) -> None:
        """Keep the options."""
        for name, value, allowed in (("score", score, SCORES), ("measure", measure, MEASURES)):
            if value not in allowed:
                raise ArgumentError(f"{name} is {value!r}: allowed are {', '.join(allowed)}")
        if not (0 < p0 < 1 and 0 <= p_max < 1 and repeats >= 1):
            raise ArgumentError(f"p0 {p0}, p_max {p_max}, repeats {repeats}: allowed are (0, 1), [0, 1) and >= 1")
        self.score, self.measure = score, measure
        self.p0, self.p_max, self.repeats = p0, p_max, repeats

    def fit(self, task: Task) -> FUREvaluator:
        """Train the widest network of the task's space with dropout, and probe it."""
        network = make_supernet(task)

        def step(batch: Batch) -> Tensor:
            if self.score == "curve":
                dropout = batch.rng.uniform(0, 1 - 1 / NUM_WIDTHS, NUM_SLOTS)
            else:
                ramp = self.p_max * batch.epoch / task.recipe.epochs
                dropout = ramp * np.arange(1, NUM_SLOTS + 1) / NUM_SLOTS
            generator = task.generator(TRAIN_MASKS, batch.number, device=task.device)
            loss = functional.cross_entropy(run_with_dropout(network, batch.images, dropout, generator), batch.labels)
            loss.backward()
            return loss.detach()

        facts: dict[str, Any] = train_supernet(task, network, step)
        effects = self.probe(task, network)
        facts["slot_effects"] = [[round(value, 6) for value in row] for row in effects.tolist()]
        return FUREvaluator(effects, facts, network)

    @torch.no_grad()
    def probe(self, task: Task, network: Supernet) -> npt.NDArray[np.float64]:
        """Effect of each width of each slot on the score, float64 (7, 4); 0 for the widest."""
        statistics = clean_statistics(task, network)
        _, batches = task.validation_batches()
        base = self._badness(task, network, statistics, batches, np.zeros(NUM_SLOTS), 0)
        effects = np.zeros((NUM_SLOTS, NUM_WIDTHS))
        elastic = elasticities(task.space)
        removed = np.arange(1, NUM_WIDTHS) / NUM_WIDTHS  # of widths 3, 2, 1
        for slot in range(NUM_SLOTS):
            dropout = np.zeros(NUM_SLOTS)
            if self.score == "linear":
                # What narrows a slot by its probability costs every slot the same FLOPs.
                dropout[slot] = min(self.p0 * elastic.mean() / elastic[slot], MAX_DROPOUT)
                worse = self._badness(task, network, statistics, batches, dropout, slot) - base
                effects[slot, :-1] = -(worse / dropout[slot] * removed)[::-1]
            else:
                for place, share in enumerate(removed):
                    dropout[slot] = share
                    worse = self._badness(task, network, statistics, batches, dropout, slot * NUM_WIDTHS + place)
                    effects[slot, NUM_WIDTHS - 2 - place] = base - worse
        return effects

    def _badness(
        self,
        task: Task,
        network: Supernet,
        statistics: Statistics,
        batches: list[tuple[Tensor, Tensor]],
        dropout: npt.NDArray[np.float64],
        number: int,
    ) -> float:
        """Mean loss, or error in percent, under dropout; mean over the repeats."""
        repeats = self.repeats if dropout.any() else 1
        total = torch.zeros((), dtype=torch.float64, device=task.device)
        for repeat in range(repeats):
            generator = task.generator(PROBE_MASKS, number, repeat, device=task.device)
            for images, labels in batches:
                logits = run_with_dropout(network, images[-len(labels) :], dropout, generator, statistics)
                if self.measure == "loss":
                    total += functional.cross_entropy(logits, labels, reduction="sum").double()
                else:
                    total += 100 * (logits.argmax(1) != labels).sum().double()
        return total.item() / (repeats * len(task.val_labels))


class FUREvaluator:
    """A sum of effects over slots.

    Args:
        effects: float64 (7, 4), effect of each width of each slot on the score.
        facts: What to write beside the scores.
        supernet: The trained network.
    """

    def __init__(
        self, effects: npt.NDArray[np.float64], facts: dict[str, Any], supernet: Supernet | None = None
    ) -> None:
        """Keep the effects."""
        self.supernet = supernet
        self._effects = effects
        self.facts = facts

    def slot_effects(self) -> npt.NDArray[np.float64]:
        """Effect of each width of each slot on the score, float64 (7, 4)."""
        return self._effects.copy()

    def score(self, archs: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """Sum of the effects of seven digits, float64 (n,)."""
        scores: npt.NDArray[np.float64] = self._effects[np.arange(NUM_SLOTS), archs.astype(np.int64) - 1].sum(1)
        return scores


def elasticities(space: Space) -> npt.NDArray[np.float64]:
    """C dF/dc of each slot at the widest network, as a share of its FLOPs, float64 (7,).

    FLOPs are linear in the channels of one slot, so this is what narrowing by a quarter takes away, times four.
    """
    narrowed = np.full((NUM_SLOTS, NUM_SLOTS), NUM_WIDTHS, np.int8) - np.eye(NUM_SLOTS, dtype=np.int8)
    full = int(space.flops(WIDEST))
    shares: npt.NDArray[np.float64] = NUM_WIDTHS * (full - space.flops(narrowed)) / full
    return shares


def run_with_dropout(
    network: Supernet,
    images: Tensor,
    dropout: npt.NDArray[np.float64],
    generator: torch.Generator,
    statistics: Statistics | None = None,
) -> Tensor:
    """Logits of the widest network under spatial dropout.

    Args:
        network: The weights.
        images: Normalised float (batch, channels, height, width).
        dropout: Probability of each slot, (7,); one mask per image and channel for all tensors of the slot.
        generator: Draws the masks, on the device of the images.
        statistics: What to normalise by; default the batch itself.
    """
    masks: dict[int, Tensor] = {}
    depthwise = {layer.reads for layer in network.layers if layer.depthwise}

    def drop(layer: Layer, y: Tensor) -> Tensor:
        slot = layer.writes
        scale, shift = network.cut_norm(layer, NUM_WIDTHS, "left")
        mean, var = (None, None) if statistics is None else statistics[layer.key]
        y = functional.batch_norm(y, mean, var, scale, shift, training=statistics is None)
        # Channels that a depthwise layer keeps apart are dropped after it: once, before they are mixed.
        if dropout[slot] == 0 or (slot in depthwise and not layer.depthwise):
            return y
        if slot not in masks:
            keep = 1 - dropout[slot]
            drawn = torch.rand(y.shape[:2], generator=generator, device=y.device) < keep
            masks[slot] = (drawn / keep)[:, :, None, None]
        return y * masks[slot]

    return network(images, WIDEST, normalise=drop)


@torch.no_grad()
def clean_statistics(task: Task, network: Supernet) -> Statistics:
    """Mean and variance of each layer's output on training images without dropout, averaged over batches."""
    pixels = task.train_images[: CALIBRATION_BATCHES * CALIBRATION_BATCH_SIZE]
    images = normalise(pixels, *channel_statistics(task.train_images, task.recipe))
    collected: dict[str, list[tuple[Tensor, Tensor]]] = {layer.key: [] for layer in network.layers}

    def collect(layer: Layer, y: Tensor) -> Tensor:
        scale, shift = network.cut_norm(layer, NUM_WIDTHS, "left")
        variance, mean = torch.var_mean(y.to(scale.dtype), (0, 2, 3))
        collected[layer.key].append((mean, variance))
        return functional.batch_norm(y, None, None, scale, shift, training=True)

    for part in images.tensor_split(-(-len(images) // CALIBRATION_BATCH_SIZE)):
        network(part, WIDEST, normalise=collect)
    return {
        key: (torch.stack([mean for mean, _ in moments]).mean(0), torch.stack([var for _, var in moments]).mean(0))
        for key, moments in collected.items()
    }
