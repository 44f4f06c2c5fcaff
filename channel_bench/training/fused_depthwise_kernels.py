# mypy: ignore-errors
"""Triton kernels of fused_depthwise.py: a KxK depthwise convolution with what stands before and after it.

What fused_kernels.py says holds here: channels last, sums in fp32 and in a fixed order, NaN stays NaN. H x W is the
size of an input image and OH x OW that of an output image; rows are pixels over all images. A program works on ROWS of
them, TILE at a time, and on BLOCK channels. It reads a pixel anew for each of the taps that reach it, from the cache.
"""

import triton
import triton.language as tl

from channel_bench.training.fused_kernels import channels_of, conclude, part_of

NUM_ROWS = 128
"""Pixels that one program works on."""
NUM_CHANNELS = 64
"""Channels that one program works on."""
TILE = 32
"""Pixels, or partial results, that a program works on at a time."""


@triton.jit
def norm_of(scale, shift, mean, inverse, channel, exists):
    """Mean, scale / deviation and shift of channels: norm(x) = (x - mean) * slope + shift."""
    middle = tl.load(mean + channel, mask=exists, other=0.0)
    slope = tl.load(inverse + channel, mask=exists, other=0.0) * tl.load(scale + channel, mask=exists, other=0.0)
    return middle, slope, tl.load(shift + channel, mask=exists, other=0.0)


@triton.jit
def activated(x, at, inside, channel, exists, C, middle, slope, offset):
    """relu(norm(x)) of pixels where there are some; the zeros of the padding stay zeros."""
    mask = inside[:, None] & exists[None, :]
    value = tl.load(x + at[:, None] * C + channel[None, :], mask=mask, other=0.0).to(tl.float32)
    value = (value - middle[None, :]) * slope[None, :] + offset[None, :]
    value = tl.where(value < 0, 0.0, value)
    return tl.where(mask, value, 0.0)


@triton.jit
def convolve(
    x, z, weight, scale, shift, mean, inverse, partial, H, W, OH, OW, M, C,
    STRIDE: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Store z = depthwise(relu(norm(x))), and what its ROWS pixels say of its statistics: partial (2, num_programs, C).

    These are their mean and their sum of squared distances from it, merged tile by tile (Chan, Golub, LeVeque, 1983),
    because a sum of squares would lose its digits where the mean is far from zero. They are those of z as it is stored.
    """
    program = tl.program_id(0)
    channel, exists = channels_of(1, C, BLOCK)
    middle, slope, offset = norm_of(scale, shift, mean, inverse, channel, exists)
    average = tl.zeros((BLOCK,), tl.float32)
    spread = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, ROWS, TILE):
        row = program * ROWS + start + tl.arange(0, TILE)
        image, place = row // (OH * OW), row % (OH * OW)
        value = tl.zeros((TILE, BLOCK), tl.float32)
        for i in tl.static_range(K):
            for j in tl.static_range(K):
                h = place // OW * STRIDE + i - K // 2
                w = place % OW * STRIDE + j - K // 2
                inside = (row < M) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
                at = (image * H + h) * W + w
                pixel = activated(x, at, inside, channel, exists, C, middle, slope, offset)
                tap = tl.load(weight + channel * K * K + i * K + j, mask=exists, other=0.0).to(tl.float32)
                value += pixel * tap[None, :]
        mask = (row[:, None] < M) & exists[None, :]
        rounded = value.to(z.dtype.element_ty)
        tl.store(z + row[:, None] * C + channel[None, :], rounded, mask=mask)
        value = rounded.to(tl.float32)
        before = tl.minimum(start, tl.maximum(M - program * ROWS, 0)).to(tl.float32)
        count = tl.minimum(TILE, tl.maximum(M - program * ROWS - start, 0)).to(tl.float32)
        some = tl.maximum(count, 1.0)  # a tile without pixels changes nothing
        centre = tl.sum(tl.where(mask, value, 0.0), 0) / some
        distance = tl.where(mask, value - centre[None, :], 0.0)
        apart = centre - average
        both = tl.maximum(before + count, 1.0)
        average += tl.where(count > 0, apart * (count / both), 0.0)
        spread += tl.sum(distance * distance, 0) + tl.where(count > 0, apart * apart * (before * count / both), 0.0)
    tl.store(partial + program * C + channel, average, mask=exists)
    tl.store(partial + (tl.num_programs(0) + program) * C + channel, spread, mask=exists)


@triton.jit
def merge(
    partial, mean, inverse, running_mean, running_var, M, C, PROGRAMS, eps, momentum,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Statistics of all pixels from those of each program, about the mean of the first one."""
    channel, exists = channels_of(0, C, BLOCK)
    pivot = tl.load(partial + channel, mask=exists, other=0.0)
    first = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, PROGRAMS, TILE):
        program, place, mask = part_of(partial, start, PROGRAMS, C, channel, exists, TILE)
        count = tl.maximum(tl.minimum(M - program * ROWS, ROWS), 0).to(tl.float32)[:, None]
        distance = tl.where(mask, tl.load(place, mask=mask, other=0.0) - pivot[None, :], 0.0)
        first += tl.sum(count * distance, 0)
        second += tl.sum(tl.load(place + PROGRAMS * C, mask=mask, other=0.0) + count * distance * distance, 0)
    distance = first / M
    variance = second / M - distance * distance
    variance = tl.where(variance < 0, 0.0, variance)
    conclude(pivot + distance, variance, mean, inverse, running_mean, running_var, M, channel, exists, eps, momentum)


@triton.jit
def convolve_back(
    dz, x, d, weight, scale, shift, mean, inverse, partial, H, W, OH, OW, M, C,
    STRIDE: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Store d, the gradient before the ReLU, and its sums as `add_up_gradients` makes them.

    M counts the pixels of x here, and partial is (2, num_programs, C).
    """
    program = tl.program_id(0)
    channel, exists = channels_of(1, C, BLOCK)
    middle, slope, offset = norm_of(scale, shift, mean, inverse, channel, exists)
    first = tl.zeros((BLOCK,), tl.float32)
    second = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, ROWS, TILE):
        row = program * ROWS + start + tl.arange(0, TILE)
        image, place = row // (H * W), row % (H * W)
        value = tl.zeros((TILE, BLOCK), tl.float32)
        for i in tl.static_range(K):
            for j in tl.static_range(K):
                # The output pixel that has this one at tap (i, j), if there is one.
                up = place // W + K // 2 - i
                left = place % W + K // 2 - j
                inside = (row < M) & (up >= 0) & (left >= 0) & (up % STRIDE == 0) & (left % STRIDE == 0)
                inside = inside & (up // STRIDE < OH) & (left // STRIDE < OW)
                mask = inside[:, None] & exists[None, :]
                at = ((image * OH + up // STRIDE) * OW + left // STRIDE)[:, None] * C + channel[None, :]
                tap = tl.load(weight + channel * K * K + i * K + j, mask=exists, other=0.0).to(tl.float32)
                value += tl.load(dz + at, mask=mask, other=0.0).to(tl.float32) * tap[None, :]
        mask = (row[:, None] < M) & exists[None, :]
        at = row[:, None] * C + channel[None, :]
        centred = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) - middle[None, :]
        value = tl.where(centred * slope[None, :] + offset[None, :] <= 0, 0.0, value)
        tl.store(d + at, value, mask=mask)
        value = tl.where(mask, value, 0.0)
        first += tl.sum(value, 0)
        second += tl.sum(tl.where(mask, value * centred, 0.0), 0)
    tl.store(partial + program * C + channel, first, mask=exists)
    tl.store(partial + (tl.num_programs(0) + program) * C + channel, second, mask=exists)


@triton.jit
def weigh(
    dz, x, scale, shift, mean, inverse, partial, H, W, OH, OW, M, C,
    STRIDE: tl.constexpr, K: tl.constexpr, TAPS: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """What ROWS pixels of z add to the gradient of the weights: partial (num_programs, K * K, C).

    TAPS is a power of 2, at least K * K.
    """
    program = tl.program_id(0)
    channel, exists = channels_of(1, C, BLOCK)
    middle, slope, offset = norm_of(scale, shift, mean, inverse, channel, exists)
    tap = tl.arange(0, TAPS)
    total = tl.zeros((TAPS, BLOCK), tl.float32)
    for start in range(0, ROWS, TILE):
        row = program * ROWS + start + tl.arange(0, TILE)
        image, place = row // (OH * OW), row % (OH * OW)
        mask = (row[:, None] < M) & exists[None, :]
        given = tl.load(dz + row[:, None] * C + channel[None, :], mask=mask, other=0.0).to(tl.float32)
        for i in tl.static_range(K):
            for j in tl.static_range(K):
                h = place // OW * STRIDE + i - K // 2
                w = place % OW * STRIDE + j - K // 2
                inside = (row < M) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
                at = (image * H + h) * W + w
                pixel = activated(x, at, inside, channel, exists, C, middle, slope, offset)
                total += tl.where(tap[:, None] == i * K + j, tl.sum(pixel * given, 0)[None, :], 0.0)
    at = (program * K * K + tap[:, None]) * C + channel[None, :]
    tl.store(partial + at, total, mask=(tap[:, None] < K * K) & exists[None, :])
