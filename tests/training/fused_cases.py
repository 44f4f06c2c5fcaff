"""Run by test_fused.py in a process of its own, because Triton decides at its import whether it interprets kernels.

    TRITON_INTERPRET=1 python tests/training/fused_cases.py      # {case: {tensor: relative error}} as JSON

Errors are against PyTorch's operations in float64.
"""

import json
import os

import torch

from channel_bench.space import get_space
from channel_bench.training import fused, fused_kernels
from channel_bench.training.fused import norm_add_relu, plain_norm_add_relu
from channel_bench.training.models import build_model

# Channels that are no power of two and more than one program's; pixels that fill no tile and more than one program.
SHAPES = {"odd": (2, 5, 3, 3), "wide": (3, 70, 2, 1), "long": (34, 3, 8, 8), "two pixels": (2, 1, 1, 1)}
FEWER_ROWS = 64
"""Pixels of a program after the odd shape, which has as many as on a GPU: "long" then is more programs than a tile."""


def tensors(shape, dtype, offset=1.0):
    """Input, scale, shift, skip and the gradient of the result, drawn from a generator."""
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(size, generator=generator)

    x, skip, dy = (draw(*shape).to(memory_format=torch.channels_last) for _ in range(3))
    x = 2 * x + offset
    return [x.to(dtype), draw(shape[1]) + 2, draw(shape[1]), skip.to(dtype), dy.to(dtype)]


def results(function, given, has_skip, relu):
    """The result, the gradients and the running statistics."""
    x, scale, shift, skip, dy = given
    leaves = [tensor.clone().requires_grad_() for tensor in (x, scale, shift, skip)]
    mean, var = torch.full_like(scale, 0.5), torch.full_like(scale, 1.5)
    y = function(*leaves[:3], leaves[3] if has_skip else None, mean, var, relu=relu, momentum=0.1, eps=1e-5)
    y.backward(dy)
    found = dict(zip(("dx", "dscale", "dshift", "dskip"), (leaf.grad for leaf in leaves), strict=True))
    return {"y": y.detach(), **found, "running_mean": mean, "running_var": var}


def errors(given, has_skip, relu):
    """Of each tensor, relative to its norm (at least 1, for those that should be zero)."""
    found = results(norm_add_relu, given, has_skip, relu)
    expected = results(plain_norm_add_relu, [tensor.double() for tensor in given], has_skip, relu)
    assert (found["dskip"] is None) == (not has_skip)
    return {
        name: float((found[name].double() - value).norm() / value.norm().clamp(min=1))
        for name, value in expected.items()
        if value is not None
    }


def differences_of_networks(space):
    """Largest relative difference of a step with and without kernels, over logits, gradients and statistics."""
    both = []
    for value in ("0", "1"):
        os.environ[fused.VARIABLE] = value
        model = build_model(get_space(space), "1111111", torch.Generator().manual_seed(0)).train()
        logits = model(torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
        logits.square().mean().backward()
        both.append([logits.detach(), *(p.grad for p in model.parameters()), *(b.float() for b in model.buffers())])
    return max(float((a - b).norm() / a.norm().clamp(min=1e-3)) for a, b in zip(*both, strict=True))


def main():
    calls = []
    original = fused._NormAddRelu.apply
    fused._NormAddRelu.apply = lambda *arguments: calls.append(1) or original(*arguments)
    found = {}
    for name, shape in SHAPES.items():
        if name != "odd":
            fused_kernels.NUM_ROWS = FEWER_ROWS
        for has_skip, relu in ((True, True), (False, True), (True, False), (False, False)):
            if name == "odd" or has_skip == relu:
                case = f"{name}, skip {has_skip}, relu {relu}"
                found[case] = errors(tensors(shape, torch.float32), has_skip, relu)
    found["bf16"] = errors(tensors(SHAPES["odd"], torch.bfloat16), True, True)
    found["far from zero"] = errors(tensors(SHAPES["odd"], torch.float32, offset=1000), True, True)
    contiguous = [tensor.contiguous() for tensor in tensors(SHAPES["odd"], torch.float32)]
    found["channels first"] = errors(contiguous, True, True)
    assert len(calls) == len(found)  # nothing fell back
    frames, _, height, width = SHAPES["long"]
    assert frames * height * width > FEWER_ROWS * fused_kernels.TILE and FEWER_ROWS > fused_kernels.TILE
    given = tensors(SHAPES["odd"], torch.float32)
    given[0][0, 1, 0, 0] = float("nan")
    diverged = results(norm_add_relu, given, True, True)
    nan = {name: value.isnan().flatten(2).any(2).any(0).tolist() for name, value in diverged.items() if value.ndim == 4}
    del calls[:]
    networks = {space: [differences_of_networks(space), len(calls)] for space in ("resnet-mini", "mobilenet-mini")}
    print(json.dumps({"errors": found, "nan": nan, "networks": networks}))


if __name__ == "__main__":
    main()
