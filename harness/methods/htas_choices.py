"""HTAS: which widths a search should choose from, by measured latency, and the smooth latency that TAS is given.

    >>> fit = fit_power_law(widths, measured)                  # f(x) = k x^alpha + b
    >>> choose_widths(widths, measured, fit, num_groups=8)     # the widest bargains of 8 ranges of widths

Latency does not grow smoothly with the output width of a layer: kernels work in tiles, so some widths are as fast as
narrower ones. HTAS (Jiang, Wang and Zhu, ICME 2020) fits a power law f to the measured latencies m of each resolution
of feature maps, and scores a width x by s(x) = f(x) - m(x): what it saves against the trend. The widths, up to twice
the layer's own, are split into groups of neighbours, and the best of each group are the choices that TAS then searches.

Pure functions of arrays. In Channel-Bench-Macro the four widths are given, so the choice of widths is for one's own
spaces; `fit_layers` fits f to what `channel-bench latency` measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError
from channel_bench.latency import LatencyModel
from channel_bench.space import NUM_WIDTHS, FloatArray
from channel_bench.space.layers import CLASSES, IMAGE

ALPHA_BOUNDS = (0.1, 4.0)
"""Where a fitted exponent is looked for."""
NUM_ALPHAS = 79
"""Exponents of the grid that the search starts from, 0.05 apart: the error need not have a single minimum."""


@dataclass(frozen=True)
class PowerLaw:
    """f(x) = k x^alpha + b: latency, ms, of output width x."""

    k: float
    alpha: float
    b: float

    def __call__(self, widths: Any) -> Any:
        """Latency of widths > 0, in the shape that they have."""
        return self.k * np.asarray(widths, np.float64) ** self.alpha + self.b


@dataclass(frozen=True)
class LayerGroup:
    """Layers that are alike but for their output width, so that one f fits them."""

    size: tuple[int, int]
    """Height and width of their output."""
    kind: str
    """`Layer.kind`: "conv3x3", "conv1x1" or "depthwise"."""
    inputs: int | None
    """Their most input channels; None for depthwise convolutions, whose inputs are their outputs."""


def fit_power_law(widths: Any, latencies: Any, alpha: float | None = 1.0) -> PowerLaw:
    """Fit f(x) = k x^alpha + b by least squares.

    Args:
        widths: Output widths > 0, (n,).
        latencies: Their measured latencies, ms, (n,).
        alpha: The exponent, > 0; 1 as in HTAS. None fits it as well, between 0.1 and 4; where latency does not depend
            on width it means nothing.

    Returns:
        The power law.

    Raises:
        ArgumentError: The arrays do not fit each other, hold other than numbers, or too few different widths.
    """
    x, y = _pairs(widths, latencies)
    needed = 2 if alpha is not None else 3
    if len(np.unique(x)) < needed:
        raise ArgumentError(f"{len(np.unique(x))} different widths cannot be fitted: at least {needed} are needed")
    if alpha is not None and not (np.isfinite(alpha) and alpha > 0):
        raise ArgumentError(f"alpha is {alpha}: allowed are numbers > 0, or None to fit it")
    if alpha is None:
        alpha = _best_alpha(x, y)
    k, b, _ = _fit_line(x, y, alpha)
    return PowerLaw(k, alpha, b)


def choice_scores(widths: Any, measured: Any, fit: PowerLaw) -> FloatArray:
    """Score widths: s(x) = f(x) - m(x), ms that a width saves against the trend; higher is better.

    Args:
        widths: Output widths > 0, (n,).
        measured: Their measured latencies m, ms, (n,).
        fit: The trend f.

    Returns:
        float64 (n,).

    Raises:
        ArgumentError: The arrays do not fit each other, or hold other than numbers.
    """
    x, y = _pairs(widths, measured)
    return np.asarray(fit(x) - y)


def choose_widths(widths: Any, measured: Any, fit: PowerLaw, num_groups: int = 8) -> npt.NDArray[Any]:
    """Keep the width of the highest score in each group of neighbouring widths.

    Args:
        widths: Different output widths > 0, in any order, (n,).
        measured: Their measured latencies, ms, (n,).
        fit: The trend f.
        num_groups: Groups, 1..n; their sizes differ by one at most, the larger ones at the narrow end.

    Returns:
        (num_groups,), ascending, of the dtype of widths; of equal scores the narrowest width.

    Raises:
        ArgumentError: As `choice_scores`; or a width occurs twice, or num_groups is out of range.
    """
    scores = choice_scores(widths, measured, fit)
    given = np.asarray(widths)
    if len(np.unique(given)) < len(given):
        raise ArgumentError("a width occurs more than once: average its latencies first")
    if not 1 <= num_groups <= len(given):
        raise ArgumentError(f"{len(given)} widths cannot make {num_groups} groups: allowed are 1..{len(given)}")
    groups = np.array_split(np.argsort(given), num_groups)
    return given[[group[np.argmax(scores[group])] for group in groups]]


def fit_layers(model: LatencyModel, alpha: float | None = 1.0) -> dict[LayerGroup, PowerLaw]:
    """Fit f to the measured layers of a space, one for each resolution and kind of layer.

    f knows output widths only, so a layer counts with its input at full width, and layers of other input widths or
    kernels have an f of their own. The stem and the classifier have none: they read the image and write the classes.

    Args:
        model: The measured latencies.
        alpha: As for `fit_power_law`.

    Returns:
        By group, in the order of the forward pass.
    """
    space = model.space
    points: dict[LayerGroup, list[tuple[FloatArray, FloatArray]]] = {}
    for layer in space.layers:
        if layer.reads == IMAGE or layer.writes == CLASSES:
            continue
        inputs = None if layer.depthwise else space.max_channels[layer.reads]
        widths = space.max_channels[layer.writes] * np.arange(1.0, NUM_WIDTHS + 1) / NUM_WIDTHS
        latencies = model.layers_ms[layer.name] if layer.depthwise else model.layers_ms[layer.name][-1]
        points.setdefault(LayerGroup(layer.output_size, layer.kind, inputs), []).append((widths, latencies))
    fits = {}
    for group, found in points.items():
        widths, latencies = (np.concatenate(values) for values in zip(*found, strict=True))
        fits[group] = fit_power_law(widths, latencies, alpha)
    return fits


def _pairs(widths: Any, latencies: Any) -> tuple[FloatArray, FloatArray]:
    try:
        x, y = np.asarray(widths, np.float64), np.asarray(latencies, np.float64)
    except (TypeError, ValueError):
        raise ArgumentError("widths and latencies have to be numbers") from None
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ArgumentError(f"widths have shape {x.shape}, latencies {y.shape}: allowed is (n,) for both")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all()):
        raise ArgumentError("widths have to be positive numbers, and latencies numbers")
    return x, y


def _fit_line(x: FloatArray, y: FloatArray, alpha: float) -> tuple[float, float, float]:
    """Best k and b for an exponent, and the sum of squared errors that they leave."""
    # Scaled by the largest width, x^alpha stays in 0..1 whatever the exponent.
    most = x.max()
    design = np.stack([(x / most) ** alpha, np.ones_like(x)], 1)
    slope, b = np.linalg.lstsq(design, y, rcond=None)[0].tolist()
    return slope / float(most**alpha), b, float(((design @ [slope, b] - y) ** 2).sum())


def _best_alpha(x: FloatArray, y: FloatArray) -> float:
    """The exponent whose best line leaves the least error: k and b are linear, so one dimension is left to search."""
    from scipy import optimize

    grid = np.linspace(*ALPHA_BOUNDS, NUM_ALPHAS)
    best = int(np.argmin([_fit_line(x, y, alpha)[2] for alpha in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, NUM_ALPHAS - 1)])
    found = optimize.minimize_scalar(
        lambda alpha: _fit_line(x, y, alpha)[2], bounds=bounds, method="bounded", options={"xatol": 1e-10}
    )
    return float(found.x)
