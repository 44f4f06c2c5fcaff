"""Fused batch normalisation, sum and ReLU: Triton's interpreter against PyTorch in float64, and off by default."""

import sys
from pathlib import Path

import pytest
import torch
from interpreted import needs_triton, run_interpreted

from channel_bench.training import fused
from channel_bench.training.fused import norm_add_relu, plain_norm_add_relu

PROGRAM = Path(__file__).parent / "fused_cases.py"


@pytest.mark.long
@needs_triton
def test_kernels_agree_with_float64():
    found = run_interpreted(PROGRAM)
    assert len(found["errors"]) == 13
    for case, errors in found["errors"].items():
        assert {"y", "dx", "dscale", "dshift", "running_mean", "running_var"} <= errors.keys()
        for name, error in errors.items():
            # bfloat16 has 8 bits, and its tensors are rounded once; what is summed over them stays in fp32.
            is_rounded = case == "bf16" and name in ("y", "dx")
            allowed = {"far from zero": 2e-5}.get(case, 4e-3 if is_rounded else 1e-6)
            assert error < allowed, (case, name)
    # A channel with a NaN shows it, and no other does: a run that diverged would go unseen behind a ReLU of zeros.
    assert found["nan"]["y"] == found["nan"]["dx"] == [False, True, False, False, False]
    # Both families use them for each of their normalisations, and learn the same from a step.
    (resnet, after_resnet), (mobilenet, after_both) = found["networks"].values()
    assert (after_resnet, after_both) == (11, 11 + 14)
    assert 0 < resnet < 1e-3 and 0 < mobilenet < 1e-3


def tensors(dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    x, skip = torch.randn(2, 4, 5, 3, 3, generator=generator).to(device, dtype)
    scale, shift = torch.rand(2, 5, generator=generator).to(device)
    return x, scale, shift, skip, torch.zeros(5, device=device), torch.ones(5, device=device)


@pytest.mark.parametrize("has_skip", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_without_a_gpu_pytorch_does_the_work(monkeypatch, has_skip, relu):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(fused, "_kernels", lambda: pytest.fail("Triton was looked for"))
    x, scale, shift, skip, mean, var = tensors()
    found = norm_add_relu(x, scale, shift, skip if has_skip else None, mean, var, relu=relu)
    norm = torch.nn.BatchNorm2d(5)
    with torch.no_grad():
        norm.weight.copy_(scale)
        norm.bias.copy_(shift)
    expected = norm(x) + skip if has_skip else norm(x)
    assert torch.equal(found, expected.relu() if relu else expected)
    assert torch.equal(mean, norm.running_mean) and torch.equal(var, norm.running_var)


def test_without_triton_pytorch_does_the_work(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv(fused.VARIABLE, "1")
    monkeypatch.setitem(sys.modules, "channel_bench.training.fused_kernels", None)
    monkeypatch.setattr(fused, "_kernels", fused._kernels.__wrapped__)
    assert fused._kernels() is None and not fused.is_wanted(torch.zeros(1))
    assert torch.equal(norm_add_relu(*tensors()), plain_norm_add_relu(*tensors()))


def test_kernels_are_off_unless_asked_for(monkeypatch):
    monkeypatch.setattr(fused, "can_run_on", lambda device: True)
    for value, wanted in ((None, False), ("0", False), ("1", True)):
        monkeypatch.setenv(fused.VARIABLE, value) if value else monkeypatch.delenv(fused.VARIABLE, raising=False)
        assert fused.is_wanted(torch.zeros(1)) == wanted


@pytest.mark.parametrize("shape", [(1, 5, 1, 1)])
def test_a_single_pixel_is_refused_as_pytorch_does(monkeypatch, shape):
    monkeypatch.setattr(fused, "can_run_on", lambda device: True)
    _, scale, shift, _, mean, var = tensors()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm_add_relu(torch.zeros(shape), scale, shift, None, mean, var)


@pytest.mark.gpu
@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_kernels_agree_with_float64(dtype):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    results = []
    for function, kind in ((norm_add_relu, dtype), (plain_norm_add_relu, torch.float64)):
        given = [tensor.to(kind) if tensor.ndim == 4 else tensor for tensor in tensors(dtype, "cuda")]
        given = [tensor.double() for tensor in given] if kind == torch.float64 else given
        leaves = [tensor.requires_grad_() for tensor in given[:4]]
        y = function(*leaves, *given[4:])
        y.square().sum().backward()
        results.append([y.detach(), *(leaf.grad for leaf in leaves), *given[4:]])
    for ours, expected in zip(*results, strict=True):
        error = (ours.double() - expected).norm() / expected.norm()
        assert error < (1e-5 if dtype == torch.float32 else 2e-2)
