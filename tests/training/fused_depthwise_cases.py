"""Run by test_fused_depthwise.py in a process of its own, in which Triton interprets kernels, as fused_cases.py.

    TRITON_INTERPRET=1 python tests/training/fused_depthwise_cases.py      # {case: {tensor: relative error}} as JSON

Errors are against PyTorch's operations in float64.
"""

import json
import os

import torch

from channel_bench.space import get_space
from channel_bench.training import fused, fused_depthwise
from channel_bench.training.fused_depthwise import Norm, norm_depthwise_norm, plain_norm_depthwise_norm
from channel_bench.training.models import build_model

# (batch, channels, height, width), stride, kernel: channels that are no power of two and more than one program's,
# pixels that fill no tile, that are more than one program's, and that are fewer than the kernel's.
CASES = {
    "odd": ((2, 5, 5, 3), 1, 3),
    "odd, stride 2": ((2, 5, 5, 3), 2, 3),
    "wide": ((2, 70, 2, 1), 1, 3),
    "long": ((1, 1, 9, 11), 1, 3),
    "long, even, stride 2": ((2, 1, 10, 12), 2, 3),
    "one pixel an image": ((2, 3, 1, 1), 1, 3),
    "kernel 5": ((2, 3, 3, 4), 2, 5),
}
ROWS = 64
"""Pixels of a program here: two tiles, so that a small case takes several programs, and the interpreter less time."""
NAMES = ("dx", "dweight", "dscale1", "dshift1", "dscale2", "dshift2")


def tensors(shape, stride, kernel, dtype=torch.float32, offset=0.5, shift=0.0):
    """Input, weight, scales and shifts, and the gradient of the result, drawn from a generator."""
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(size, generator=generator)

    batch, channels, height, width = shape
    x = (2 * draw(*shape) + offset).to(memory_format=torch.channels_last)
    dy = draw(batch, channels, -(-height // stride), -(-width // stride)).to(memory_format=torch.channels_last)
    affine = [draw(channels) + 2, draw(channels) + shift, draw(channels) + 2, draw(channels)]
    return [x.to(dtype), draw(channels, 1, kernel, kernel), *affine, dy.to(dtype)]


def results(function, given, stride):
    """The result, the gradients and the running statistics."""
    *leaves, dy = given
    leaves = [tensor.clone().requires_grad_() for tensor in leaves]
    x, weight, scale1, shift1, scale2, shift2 = leaves
    running = [torch.full_like(scale1, value).detach() for value in (0.5, 1.5, 0.5, 1.5)]
    y = function(
        x, Norm(scale1, shift1, *running[:2]), weight, Norm(scale2, shift2, *running[2:], 0.2, 1e-3), stride=stride
    )
    y.backward(dy)
    found = {name: leaf.grad for name, leaf in zip(NAMES, leaves, strict=True)}
    moved = zip(("mean1", "var1", "mean2", "var2"), running, strict=True)
    return {"y": y.detach(), **found, **dict(moved)}


def errors(given, stride):
    """Of each tensor, relative to its norm (at least 1, for those that should be zero)."""
    found = results(norm_depthwise_norm, given, stride)
    expected = results(plain_norm_depthwise_norm, [tensor.double() for tensor in given], stride)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
    return {
        name: float((found[name].double() - value).norm() / value.norm().clamp(min=1))
        for name, value in expected.items()
    }


def step_of_network(precision, norms, depthwise):
    """Logits, gradients and statistics of a step with and without kernels."""
    os.environ[fused.VARIABLE], os.environ[fused_depthwise.VARIABLE] = norms, depthwise
    model = build_model(get_space("mobilenet-mini"), "1111111", torch.Generator().manual_seed(0)).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = model(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    logits.square().mean().backward()
    return [logits.detach(), *(p.grad for p in model.parameters()), *(b.float() for b in model.buffers())]


def difference_of_networks(found, expected):
    """Root mean square over tensors of the relative difference."""
    each = [float((a - b).norm() / b.norm().clamp(min=1e-3)) for a, b in zip(found, expected, strict=True)]
    return (sum(value**2 for value in each) / len(each)) ** 0.5


def main():
    fused_depthwise._kernels().NUM_ROWS = ROWS
    calls = []
    original = fused_depthwise._NormDepthwiseNorm.apply
    fused_depthwise._NormDepthwiseNorm.apply = lambda *arguments: calls.append(1) or original(*arguments)
    found = {name: errors(tensors(*case), case[1]) for name, case in CASES.items()}
    shape, stride, kernel = CASES["odd, stride 2"]
    found["bf16"] = errors(tensors(shape, stride, kernel, torch.bfloat16), stride)
    found["input far from zero"] = errors(tensors(shape, stride, kernel, offset=1000.0), stride)
    # The second normalisation's input is far from zero where the first one's results are, and its kernel is of 1 pixel.
    far = tensors((1, 1, 9, 11), 1, 1, shift=1000.0)
    found["output far from zero"] = errors(far, 1)
    contiguous = [tensor.contiguous() for tensor in tensors(shape, stride, kernel)]
    found["channels first"] = errors(contiguous, stride)
    half = tensors(shape, stride, kernel)
    half[1] = half[1].bfloat16()  # as weights that are cast together come
    found["weights in bf16"] = errors(half, stride)
    assert len(calls) == len(found)  # nothing fell back
    given = tensors(shape, stride, kernel)
    given[0][0, 1, 0, 0] = float("nan")
    diverged = results(norm_depthwise_norm, given, stride)
    nan = {name: diverged[name].isnan().flatten(2).any(2).any(0).tolist() for name in ("y", "dx")}
    del calls[:]
    exact = step_of_network("fp32", "0", "0")
    ways = {"fused": ("bf16", "1", "1"), "plain": ("bf16", "0", "0")}
    networks = {way: difference_of_networks(step_of_network(*given), exact) for way, given in ways.items()}
    networks["num_calls"] = len(calls)
    print(json.dumps({"errors": found, "nan": nan, "networks": networks}))


if __name__ == "__main__":
    main()
