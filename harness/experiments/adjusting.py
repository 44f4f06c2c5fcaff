"""Algorithm 1 of network adjustment: widen what uses its FLOPs well, narrow what does not, scale back, train again.

    iterates = adjust(space, widths, flops, probe, iterations=10)

NumPy alone: how a network is trained and probed is the caller's (`Probe`). Widths are real numbers of channels, so that
steps of a tenth of a channel add up over iterations; the network that is trained has the whole numbers next to them
(`whole_channels`). Numbers of the paper and its public code: Chen et al., CVPR 2020, Algorithm 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from channel_bench.errors import BudgetError
from channel_bench.space import NUM_SLOTS, FloatArray, Space, cost

RATE = 0.1
"""r_A: by which share of its first width a slot is adjusted."""
FIRST_K, K_DECAY, PAPER_LAYERS = 6, 0.5, 18
"""K is 6 at first and loses half a layer per iteration, on networks of 18 layers."""
MIN_CHANNELS = 2.0
"""The narrowest layer on the grid of the mini spaces. The paper's code has 4 where its first layers have 16."""
TOLERANCE = 0.01
"""By which share the FLOPs of a network may differ from those of the start."""

Channels = tuple[int, ...]


@dataclass(frozen=True)
class Probed:
    """What is known of a network after it was trained and probed."""

    losses: tuple[float, ...]
    """How much worse it gets where each slot loses channels, (7,); the larger, the wider the slot should be."""
    accuracy: float
    """On the validation images, without dropout, percent."""


Probe = Callable[[int, Channels], Probed]
"""(iteration from 0, channels) to what is known of a network that was trained anew."""


@dataclass(frozen=True)
class Iterate:
    """A network on the way, and what was done about it."""

    widths: FloatArray
    """Real numbers of channels, (7,)."""
    channels: Channels
    """Of the network that was trained."""
    probed: Probed
    wider: tuple[int, ...] = ()
    """Slots that were widened next; none after the last iterate."""
    narrower: tuple[int, ...] = ()


def num_adjusted(iteration: int) -> int:
    """K, the number of slots that are widened, and narrowed, in an iteration (from 0): the paper's share of layers."""
    return max(round((FIRST_K - K_DECAY * iteration) * NUM_SLOTS / PAPER_LAYERS), 0)


def adjust(space: Space, widths: FloatArray, flops: float, probe: Probe, iterations: int) -> list[Iterate]:
    """Adjust a network at constant FLOPs.

    Args:
        space: Gives the layers; its maxima are no limit.
        widths: Real numbers of channels to start from, (7,), each at least `MIN_CHANNELS`.
        flops: To keep.
        probe: Trains and probes; called in every iteration, also where the whole numbers of channels stay the same.
        iterations: Number of adjustments, >= 0.

    Returns:
        The start and every network after it, iterations + 1 in all.

    Raises:
        BudgetError: The FLOPs are below those of the narrowest network.
    """
    first, iterates = widths, list[Iterate]()
    for iteration in range(iterations + 1):
        channels = whole_channels(space, widths, flops)
        probed = probe(iteration, channels)
        if iteration == iterations:
            return [*iterates, Iterate(widths, channels, probed)]
        wider, narrower = chosen_slots(probed.losses, widths, num_adjusted(iteration))
        iterates.append(Iterate(widths, channels, probed, wider, narrower))
        changed = widths.copy()
        changed[list(wider)] += RATE * first[list(wider)]
        changed[list(narrower)] -= RATE * first[list(narrower)]
        widths = scaled_to(space, changed, flops)
    raise AssertionError("iterations is negative")


def chosen_slots(losses: Sequence[float], widths: FloatArray, num: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Slots to widen and slots to narrow; of equal losses the earlier slot is widened, the later one narrowed.

    A slot at the least width leaves its place to the next.
    """
    order = np.argsort(-np.asarray(losses), kind="stable").tolist()
    wider = tuple(order[:num])
    free = [slot for slot in order[::-1] if slot not in wider and widths[slot] > MIN_CHANNELS]
    return wider, tuple(free[:num])


def flops_of(space: Space, widths: Any) -> Any:
    """FLOPs in closed form for real numbers of channels, (7,) or (7, n)."""
    return cost.flops(space.layers, [*widths, space.input_shape[0], space.num_classes])


def slot_flops(space: Space, channels: Channels) -> FloatArray:
    """C dF/dc of each slot, (7,): what the FLOPs lose where the slot vanishes, because they are linear in each slot."""
    whole = np.asarray(channels, np.float64)
    without = [flops_of(space, np.where(np.arange(NUM_SLOTS) == slot, 0.0, whole)) for slot in range(NUM_SLOTS)]
    shares: FloatArray = flops_of(space, whole) - np.array(without)
    return shares


def scaled_to(space: Space, widths: FloatArray, flops: float) -> FloatArray:
    """Widths times the factor that gives these FLOPs, none below `MIN_CHANNELS`; found by bisection.

    Raises:
        BudgetError: The FLOPs are below those of the narrowest network.
    """

    def scaled(factor: float) -> FloatArray:
        result: FloatArray = np.maximum(widths * factor, MIN_CHANNELS)
        return result

    return bisected(scaled, space, flops)


def growing(space: Space, flops: float, first_share: float) -> FloatArray:
    """Widths whose share of the space's maximum grows linearly from the first slot to the last, at these FLOPs.

    Args:
        space: The space.
        flops: Of the network.
        first_share: Share of the first slot, in (0, 1].

    Raises:
        BudgetError: The FLOPs are below those of this share everywhere.
    """
    maxima, depth = np.asarray(space.max_channels, np.float64), np.arange(NUM_SLOTS) / (NUM_SLOTS - 1)

    def grown(slope: float) -> FloatArray:
        result: FloatArray = np.maximum(maxima * (first_share + slope * depth), MIN_CHANNELS)
        return result

    return bisected(grown, space, flops)


def bisected(widths_at: Callable[[float], FloatArray], space: Space, flops: float) -> FloatArray:
    """Widths at the value >= 0 where they have these FLOPs; their FLOPs must grow with the value, without end."""
    if flops_of(space, widths_at(0.0)) > flops:
        raise BudgetError(f"no network of this kind in space {space.name!r} has {flops:,.15g} FLOPs: allow more")
    inside, outside = 0.0, 1.0
    while flops_of(space, widths_at(outside)) <= flops:
        inside, outside = outside, 2 * outside
    for _ in range(60):
        middle = (inside + outside) / 2
        fits = flops_of(space, widths_at(middle)) <= flops
        inside, outside = (middle, outside) if fits else (inside, middle)
    return widths_at(inside)


def whole_channels(space: Space, widths: FloatArray, flops: float) -> Channels:
    """Whole numbers of channels for real ones: each rounded down or up, as near as they get at equal FLOPs.

    One channel is a tenth of a small network, so rounding each to the nearest would lose the FLOPs. Of the 128 ways to
    round, those within `TOLERANCE` of the FLOPs are considered, and the one nearest to the widths is taken; where there
    is none, the one nearest to the FLOPs.
    """
    lower = np.floor(widths + 1e-9)
    corners = lower + np.array(list(itertools.product((0, 1), repeat=NUM_SLOTS)))
    off = np.abs(flops_of(space, corners.T) / flops - 1)
    distances = ((corners - widths) ** 2).sum(1).round(9)
    best = np.lexsort((distances, np.where(off <= TOLERANCE, 0.0, off)))[0]
    return tuple(int(count) for count in corners[best])
