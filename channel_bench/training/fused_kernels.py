# mypy: ignore-errors
"""Triton kernels of fused.py, for tensors with channels last: M pixels (over all images) times C channels.

The language of a kernel is Triton's, not Python's, so types are not checked here. All sums are in fp32 and in a fixed
order, without atomic additions: the same input gives the same bits. NaN stays NaN everywhere, because a run is said to
have diverged by it; so the comparisons below are written for NaN to fail them.
"""

import triton
import triton.language as tl

NUM_ROWS = 256
"""Pixels whose sums one program adds up."""
NUM_CHANNELS = 64
"""Channels that one program works on."""
TILE = 32
"""Pixels, or partial sums, that a program reads at a time."""
NUM_ELEMENTS = 1024
"""Elements of a program that works element by element."""


@triton.jit
def channels_of(axis: tl.constexpr, C, BLOCK: tl.constexpr):
    """The BLOCK channels of this program, which are counted along an axis of the grid, and which of them there are."""
    channel = tl.program_id(axis) * BLOCK + tl.arange(0, BLOCK)
    return channel, channel < C


@triton.jit
def part_of(partial, start, PROGRAMS, C, channel, exists, TILE: tl.constexpr):
    """TILE partial results from one on: the programs that made them, where they are, and which of them there are."""
    program = start + tl.arange(0, TILE)
    mask = (program[:, None] < PROGRAMS) & exists[None, :]
    return program, partial + program[:, None] * C + channel[None, :], mask


@triton.jit
def add_up(x, partial, M, C, ROWS: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr):
    """Sums over ROWS pixels of x - pivot and of its square: partial (2, num_programs, C).

    The pivot of a channel is its first pixel. A variance is a difference of such sums, and without a pivot that would
    lose its digits where the mean is far from zero.
    """
    program = tl.program_id(0)
    channel, exists = channels_of(1, C, BLOCK)
    pivot = tl.load(x + channel, mask=exists, other=0.0).to(tl.float32)
    first = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, ROWS, TILE):
        row = program * ROWS + start + tl.arange(0, TILE)
        mask = (row[:, None] < M) & exists[None, :]
        value = tl.load(x + row[:, None] * C + channel[None, :], mask=mask, other=0.0).to(tl.float32)
        value = tl.where(mask, value - pivot[None, :], 0.0)
        first += tl.sum(value, 0)
        second += tl.sum(value * value, 0)
    tl.store(partial + program * C + channel, first, mask=exists)
    tl.store(partial + (tl.num_programs(0) + program) * C + channel, second, mask=exists)


@triton.jit
def conclude(middle, variance, mean, inverse, running_mean, running_var, M, channel, exists, eps, momentum):
    """Store mean and 1 / standard deviation of channels, and the running statistics as PyTorch updates them."""
    tl.store(mean + channel, middle, mask=exists)
    tl.store(inverse + channel, 1 / tl.sqrt(variance + eps), mask=exists)
    old_mean = tl.load(running_mean + channel, mask=exists, other=0.0)
    old_var = tl.load(running_var + channel, mask=exists, other=0.0)
    # Running variances are those of a sample: divided by M - 1.
    tl.store(running_mean + channel, (1 - momentum) * old_mean + momentum * middle, mask=exists)
    tl.store(running_var + channel, (1 - momentum) * old_var + momentum * (variance * M / (M - 1)), mask=exists)


@triton.jit
def finish(
    x, partial, mean, inverse, running_mean, running_var, M, C, PROGRAMS, eps, momentum,
    BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Mean and 1 / standard deviation of each channel, and the running statistics as PyTorch updates them."""
    channel, exists = channels_of(0, C, BLOCK)
    first = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, PROGRAMS, TILE):
        _, place, mask = part_of(partial, start, PROGRAMS, C, channel, exists, TILE)
        first += tl.sum(tl.load(place, mask=mask, other=0.0), 0)
        second += tl.sum(tl.load(place + PROGRAMS * C, mask=mask, other=0.0), 0)
    distance = first / M
    middle = tl.load(x + channel, mask=exists, other=0.0).to(tl.float32) + distance
    variance = second / M - distance * distance
    variance = tl.where(variance < 0, 0.0, variance)
    conclude(middle, variance, mean, inverse, running_mean, running_var, M, channel, exists, eps, momentum)


@triton.jit
def apply(
    x, skip, y, scale, shift, mean, inverse, N, C, HAS_SKIP: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr
):
    """Store y = relu((x - mean) / deviation * scale + shift + skip), rounded once, at the end."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < N
    channel = at % C
    centred = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) - tl.load(mean + channel, mask=mask, other=0.0)
    slope = tl.load(inverse + channel, mask=mask, other=0.0) * tl.load(scale + channel, mask=mask, other=0.0)
    value = centred * slope + tl.load(shift + channel, mask=mask, other=0.0)
    if HAS_SKIP:
        value += tl.load(skip + at, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        value = tl.where(value < 0, 0.0, value)
    tl.store(y + at, value, mask=mask)


@triton.jit
def add_up_gradients(
    dy, y, x, mean, partial, M, C, RELU: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr
):
    """Sums over ROWS pixels of the gradient before the ReLU, d, and of d * (x - mean): partial (2, num_programs, C)."""
    program = tl.program_id(0)
    channel, exists = channels_of(1, C, BLOCK)
    middle = tl.load(mean + channel, mask=exists, other=0.0)
    first = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, ROWS, TILE):
        row = program * ROWS + start + tl.arange(0, TILE)
        mask = (row[:, None] < M) & exists[None, :]
        at = row[:, None] * C + channel[None, :]
        d = tl.load(dy + at, mask=mask, other=0.0).to(tl.float32)
        if RELU:
            d = tl.where(tl.load(y + at, mask=mask, other=0.0).to(tl.float32) <= 0, 0.0, d)
        value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        first += tl.sum(d, 0)
        second += tl.sum(tl.where(mask, d * (value - middle[None, :]), 0.0), 0)
    tl.store(partial + program * C + channel, first, mask=exists)
    tl.store(partial + (tl.num_programs(0) + program) * C + channel, second, mask=exists)


@triton.jit
def apply_gradients(
    dy, y, x, dx, dskip, scale, mean, inverse, sums, M, N, C,
    HAS_SKIP: tl.constexpr, RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of x and skip from the sums (2, C) of `add_up_gradients` over all pixels.

    With d the gradient before the ReLU: dskip = d, and
    dx = (d - sum(d) / M - (x - mean) * inverse^2 * sum(d * (x - mean)) / M) * inverse * scale.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < N
    channel = at % C
    d = tl.load(dy + at, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        d = tl.where(tl.load(y + at, mask=mask, other=0.0).to(tl.float32) <= 0, 0.0, d)
    if HAS_SKIP:
        tl.store(dskip + at, d, mask=mask)
    factor = tl.load(inverse + channel, mask=mask, other=0.0)
    centred = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) - tl.load(mean + channel, mask=mask, other=0.0)
    average = tl.load(sums + channel, mask=mask, other=0.0) / M
    along = centred * factor * factor * (tl.load(sums + C + channel, mask=mask, other=0.0) / M)
    tl.store(dx + at, (d - average - along) * factor * tl.load(scale + channel, mask=mask, other=0.0), mask=mask)
