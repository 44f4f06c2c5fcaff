"""Theories of accuracy: formulas of the widths alone, several hundred in each space, from a small grammar.

    >>> found = theories(get_space("resnet"))
    >>> len(found.names), found.names[0]
    (284, 'all|one|n_in|log')
    >>> found.scores.shape                                   # each of mean 0 and variance 1 over the space
    (284, 16384)

A theory is SET|WEIGHT|QUANTITY|AGGREGATE: which layers count, how much each, what is measured of a layer, and how
layers add up. FLOPs are "all|one|macs|logsum" but for their scale, the logarithm of the number of paths without skip
lines is "all|one|fan|log". Theories that do not depend on the widths are left out, and of those that rank all widths
alike only the first stays. No theory has seen an accuracy; `harness.stats.consensus` says how scores of a supernet
choose among them. Without any, `mean_of_theories` takes them all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, unknown_name
from channel_bench.space import NUM_ARCHS, FloatArray, Space
from channel_bench.space.layers import CLASSES, IMAGE, Layer

SETS = {
    "all": "all layers",
    "no-classifier": "all but the classifier",
    "inner": "all but the stem and the classifier",
    "spatial": "those with a kernel larger than 1",
    "dense": "those that are not depthwise",
}
WEIGHTS = {
    "one": "every layer counts 1",
    "depth": "layers of the d-th block with a skip line in a row count 1 / (1 + d), as one term of 1 + d",
    "root-depth": "the square root of that",
    "half": "layers of blocks with a skip line count 1/2",
}
QUANTITIES = {
    "n_in": "input channels",
    "n_out": "output channels",
    "fan": "terms of one output: kernel area, times input channels unless depthwise",
    "filters": "filters of one channel: input times output channels, output channels if depthwise",
    "params": "weights: fan times output channels",
    "macs": "multiply-accumulates: weights times output pixels",
    "acts": "outputs: output channels times output pixels",
    "n_harm": "1 / (1 / input channels + 1 / output channels)",
}
AGGREGATES = {
    "log": "sum of w log q",
    "inv-root": "minus the sum of w q^-1/2",
    "inv": "minus the sum of w / q",
    "log-sum": "logarithm of the sum of w q",
    "root": "sum of w q^1/2",
}
_GRAMMAR = {"set": SETS, "weight": WEIGHTS, "quantity": QUANTITIES, "aggregate": AGGREGATES}
_DECIMALS = 7
"""Of standardised theories, where two widths count as equal: far above rounding errors, far below differences."""
_MEAN_DECIMALS = 8
"""Of their mean, for the same reason; as that of a consensus."""
_SOME = slice(None, None, 61)
"""269 architectures in which every slot takes all four widths: theories that rank these apart are different."""

# What an aggregate does to each layer, and to their weighted sum.
_STEPS: dict[str, tuple[Callable[[FloatArray], FloatArray], Callable[[FloatArray], FloatArray]]] = {
    "log": (np.log, np.asarray),
    "inv-root": (lambda q: -(q**-0.5), np.asarray),
    "inv": (lambda q: -1 / q, np.asarray),
    "log-sum": (np.asarray, np.log),
    "root": (np.sqrt, np.asarray),
}
assert _STEPS.keys() == AGGREGATES.keys()


@dataclass(frozen=True)
class Theories:
    """Theories of one space."""

    names: tuple[str, ...]
    """SET|WEIGHT|QUANTITY|AGGREGATE of each."""
    scores: FloatArray
    """float64 (num_theories, 16384) in index order, each of mean 0 and variance 1; higher is better. Read-only."""

    @functools.cached_property
    def ranks(self) -> FloatArray:
        """float64 (num_theories, 16384): ranks of the scores, 1 the lowest, ties at their average. Read-only.

        Computed when first asked for, which takes longer than the theories themselves.
        """
        ranks = self.ranks_of(slice(None))
        ranks.flags.writeable = False
        return ranks

    def ranks_of(self, indices: Any) -> FloatArray:
        """Ranks among some architectures, (num_theories, n); those of equal scores are equal.

        Args:
            indices: (n,) of the architectures, or a slice.
        """
        from scipy.stats import rankdata

        ranks = np.empty_like(self.scores[:, indices])
        for row, scores in enumerate(self.scores):
            ranks[row] = rankdata(scores[indices].round(_DECIMALS))
        return ranks


def theories(space: Space, leave_out: Iterable[str] = ()) -> Theories:
    """All different theories of a space, in the order of the grammar.

    Args:
        space: Any space; its layers are all that is used.
        leave_out: Names of sets, weights, quantities or aggregates that no theory may have.

    Returns:
        The theories; kept in memory for the next call (70 MB for MobileNet, as much again for their ranks).

    Raises:
        UnknownNameError: A name to leave out is none of the grammar's.
        ArgumentError: Nothing is left.
    """
    return _theories(space, grammar_without(leave_out))


@functools.lru_cache(maxsize=16)
def mean_of_theories(space: Space) -> FloatArray:
    """The plain mean of all standardised theories, as a score of its own: no supernet, no choice, no training.

    Equal weights are a strong opponent wherever forecasts are combined (Clemen, International Journal of Forecasting
    1989), and no theory is right in every space. What it is worth, in Kendall: .741, .663, .744 and .699 on `resnet`,
    `mobilenet`, `resnet-mini` and `mobilenet-mini`. That is no clean test, since the grammar was fixed while these four
    tables were known. On five spaces whose truths were trained afterwards it has .647 to .746; there it was the control
    of a preregistered test, with no hypothesis of its own (docs/explanation/consensus-test.md).

    Returns:
        float64 (16384,) in index order, in standard deviations of a theory, rounded to 1e-8 so that equals tie.
        Read-only; kept in memory, which the theories themselves are not.
    """
    total, num = np.zeros(NUM_ARCHS), 0
    for _, score in _different(space, grammar_without(())):
        total += score
        num += 1
    mean = (total / num).round(_MEAN_DECIMALS)
    mean.flags.writeable = False
    return mean


def grammar_without(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The names of sets, weights, quantities and aggregates that are left, in this order.

    Raises:
        UnknownNameError: A name is none of the grammar's.
        ArgumentError: All sets, or all of another part, would be left out.
    """
    dropped = list(names)
    known = [name for part in _GRAMMAR.values() for name in part]
    for name in dropped:
        if name not in known:
            raise unknown_name("part of a theory", name, known)
    left = []
    for kind, part in _GRAMMAR.items():
        left.append(tuple(name for name in part if name not in dropped))
        if not left[-1]:
            raise ArgumentError(f"every {kind} of the theories is left out: leave at least one of {', '.join(part)}")
    return tuple(left)


@functools.lru_cache(maxsize=4)
def _theories(space: Space, grammar: tuple[tuple[str, ...], ...]) -> Theories:
    names, scores = zip(*_different(space, grammar), strict=True)
    found = Theories(names, np.stack(scores))
    found.scores.flags.writeable = False
    return found


def _different(space: Space, grammar: tuple[tuple[str, ...], ...]) -> Iterator[tuple[str, FloatArray]]:
    """Name and standardised scores of each theory that ranks the widths as none before it.

    Most theories are told apart by the order of some architectures; only those that order these alike are compared on
    all of them.

    Raises:
        ArgumentError: None depends on the widths.
    """
    found: dict[bytes, list[FloatArray]] = {}
    for name, score in _standardised(space, grammar):
        alike = found.setdefault(_order(score[_SOME].round(_DECIMALS)), [])
        if any(_rank_alike(score.round(_DECIMALS), other.round(_DECIMALS)) for other in alike):
            continue
        alike.append(score)
        yield name, score
    if not found:
        raise ArgumentError("no theory that is left depends on the widths: leave out less")


def _standardised(space: Space, grammar: tuple[tuple[str, ...], ...]) -> Iterator[tuple[str, FloatArray]]:
    """Name and scores, of mean 0 and variance 1, of every theory that depends on the widths."""
    sets, weights, quantities, aggregates = grammar
    values = layer_quantities(space)
    factors = {
        (one_set, weight): np.where(_members(space.layers, one_set), _weights(space, weight), 0.0)
        for one_set in sets
        for weight in weights
    }
    stacked = np.stack(list(factors.values()))
    sums: dict[tuple[str, str], FloatArray] = {}
    for quantity in quantities:
        for aggregate in aggregates:
            inner, outer = _STEPS[aggregate]
            sums[quantity, aggregate] = outer(stacked @ inner(values[quantity]).T)
    for row, (one_set, weight) in enumerate(factors):
        for quantity in quantities:
            for aggregate in aggregates:
                score = sums[quantity, aggregate][row]
                if np.ptp(score) >= 1e-9:
                    yield f"{one_set}|{weight}|{quantity}|{aggregate}", (score - score.mean()) / score.std()


def _order(values: FloatArray) -> bytes:
    """The same for values in the same order with the same ties, another one for any others."""
    order = np.argsort(values, kind="stable")
    return order.tobytes() + (np.diff(values[order]) > 0).tobytes()


def _rank_alike(one: FloatArray, other: FloatArray) -> bool:
    """Whether two arrays have the same order with the same ties."""
    if np.array_equal(one, other):  # spares most pairs that are alike the sorting
        return True
    order = np.argsort(one)
    steps, others = np.diff(one[order]), np.diff(other[order])
    return bool((others >= 0).all() and ((steps > 0) == (others > 0)).all())


def layer_quantities(space: Space) -> dict[str, FloatArray]:
    """Each of QUANTITIES of every layer of every architecture, float64 (16384, num_layers) each."""
    counts = space.channel_counts(space.archs())
    channels = np.column_stack(
        [counts, np.full(NUM_ARCHS, space.input_shape[0]), np.full(NUM_ARCHS, space.num_classes)]
    ).astype(np.float64)
    assert (IMAGE, CLASSES) == (counts.shape[1], counts.shape[1] + 1)
    layers = space.layers
    n_in = channels[:, [layer.reads for layer in layers]]
    n_out = channels[:, [layer.writes for layer in layers]]
    depthwise = np.array([layer.depthwise for layer in layers])
    fan = np.where(depthwise, 1.0, n_in) * np.array([layer.kernel**2 for layer in layers])
    pixels = np.array([layer.output_size[0] * layer.output_size[1] for layer in layers])
    found = {
        "n_in": n_in,
        "n_out": n_out,
        "fan": fan,
        "filters": np.where(depthwise, 1.0, n_in) * n_out,
        "params": fan * n_out,
        "macs": fan * n_out * pixels,
        "acts": n_out * pixels,
        "n_harm": 1 / (1 / n_in + 1 / n_out),
    }
    assert found.keys() == QUANTITIES.keys()
    return found


def _members(layers: tuple[Layer, ...], one_set: str) -> npt.NDArray[np.bool_]:
    """Which layers are in a set, bool (num_layers,)."""
    last = len(layers) - 1
    inside = {
        "all": lambda number, layer: True,
        "no-classifier": lambda number, layer: number < last,
        "inner": lambda number, layer: 0 < number < last,
        "spatial": lambda number, layer: layer.kernel > 1,
        "dense": lambda number, layer: not layer.depthwise,
    }[one_set]
    return np.array([inside(number, layer) for number, layer in enumerate(layers)])


def _weights(space: Space, weight: str) -> FloatArray:
    """What each layer counts, float64 (num_layers,)."""
    shares: list[float] = []
    in_a_row = 0
    for block in space.blocks:
        in_a_row = in_a_row + 1 if any(layer.skip for layer in block) else 0
        shares += [1 / (1 + in_a_row)] * len(block)
    share = np.array([*shares, 1.0])  # the classifier
    return {
        "one": np.ones_like(share),
        "depth": share,
        "root-depth": np.sqrt(share),
        "half": np.where(share < 1, 0.5, 1.0),
    }[weight]
