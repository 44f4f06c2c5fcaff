"""A network in bfloat16: its forward pass, and where it computes in fp32 all the same.

Without autocast the latter functions change nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

HAS_FOREACH_COPY = hasattr(torch, "_foreach_copy_")
"""Some versions of PyTorch copy many tensors only one by one."""


def forward(
    model: nn.Module, images: Tensor, precision: str, cast_together: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Logits in fp32; with "bf16" autocast computes in bfloat16, from fp32 weights, those operations it deems safe.

    Autocast's cache of cast weights is off: each weight is used once in a forward pass, so it would save nothing, and
    a cache that outlives the capture of a graph would be wrong.

    Args:
        model: A network, or a stack.
        images: What it takes.
        precision: Of the recipe.
        cast_together: Weights to cast in one call, as `cast_weights` gives them, with the same result; None to let
            autocast cast each where it is used.
    """
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
        if cast_together:
            casts = dict(zip(cast_together, _CastTogether.apply(*cast_together.values()), strict=True))
            logits: Tensor = functional_call(model, casts, images, tie_weights=False)
        else:
            logits = model(images)
    return logits.float() if precision == "bf16" else logits


def cast_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that autocast casts to bfloat16, by name: those of convolutions that do not stay in fp32."""
    return {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and not _stays_in_fp32(module)
    }


class _CastTogether(torch.autograd.Function):
    """fp32 tensors in bfloat16, and their gradients back: a call for all of them, in place of one for each."""

    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> tuple[Tensor, ...]:
        """Round, as autocast does."""
        return _copies(weights, torch.bfloat16)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Widen, which changes no value."""
        return _copies(gradients, torch.float32)


def _copies(tensors: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    copies = [torch.empty_like(tensor, dtype=dtype) for tensor in tensors]
    torch._foreach_copy_(copies, list(tensors))
    return tuple(copies)


def pool_in_fp32(x: Tensor) -> Tensor:
    """Means over height and width, of bfloat16 in fp32: (batch, channels, height, width) to (batch, channels).

    mean() and not AdaptiveAvgPool2d, whose CUDA backward pass is not deterministic.
    """
    return (x.float() if x.dtype == torch.bfloat16 else x).mean((2, 3))


@contextlib.contextmanager
def no_autocast(x: Tensor) -> Iterator[None]:
    """Compute in the dtypes of the operands, where x is in bfloat16."""
    if x.dtype != torch.bfloat16:
        yield
        return
    with torch.autocast(x.device.type, enabled=False):
        yield


def classify(x: Tensor, classifier: nn.Linear) -> Tensor:
    """Pool and classify in fp32: with the 8 bits of bfloat16 many logits of an image would tie."""
    with no_autocast(x):
        logits: Tensor = classifier(pool_in_fp32(x))
    return logits


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution, which autocast on a CPU computes in fp32 and hands on in the dtype of its input.

    A CPU has no fast depthwise convolution in bfloat16: tests/perf/bench_layout.py measures both.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        if not _stays_in_fp32(self) or x.dtype != torch.bfloat16:
            return super().forward(x)
        with no_autocast(x):
            return super().forward(x.float()).to(x.dtype)


def _stays_in_fp32(conv: nn.Conv2d) -> bool:
    return isinstance(conv, DepthwiseConv2d) and conv.weight.device.type == "cpu"
