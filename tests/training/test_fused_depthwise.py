"""A depthwise convolution fused with the normalisations around it: against float64, and off by default."""

from pathlib import Path

import pytest
import torch
from interpreted import needs_triton, run_interpreted

import channel_bench as cb
from channel_bench.training import fused, fused_depthwise
from channel_bench.training.fused_depthwise import Norm, norm_depthwise_norm, plain_norm_depthwise_norm
from channel_bench.training.models import build_model
from channel_bench.training.models.precision import DepthwiseConv2d

PROGRAM = Path(__file__).parent / "fused_depthwise_cases.py"


@pytest.mark.long
@needs_triton
def test_kernels_agree_with_float64():
    found = run_interpreted(PROGRAM)
    assert len(found["errors"]) == 12
    for case, errors in found["errors"].items():
        assert len(errors) == 11
        for name, error in errors.items():
            # bfloat16 has 8 bits, and its tensors are rounded between kernels; what is summed over them stays in fp32.
            # Far from zero, fp32 has lost the digits of its input that count. Weights of one pixel have a gradient of
            # zero there, because the normalisation undoes their scale: what is left of it is rounding of 1,000.
            if case == "bf16":
                allowed = 5e-2
            elif case == "weights in bf16":
                allowed = 4e-3 if name == "dweight" else 5e-6
            elif case == "output far from zero":
                allowed = 5e-2 if name == "dweight" else 2e-4
            else:
                allowed = 2e-5 if "far from zero" in case else 5e-6
            assert error < allowed, (case, name)
    # A channel with a NaN shows it, and no other does.
    assert found["nan"]["y"] == found["nan"]["dx"] == [False, True, False, False, False]
    # All four blocks use them, beside the kernels of the other normalisations. In bfloat16 a step is no further from
    # that of fp32 than with PyTorch's operations, but for the luck of rounding; the GPU session's smoke does fp32.
    networks = found["networks"]
    assert networks["num_calls"] == 4 and 0 < networks["fused"] < 1.5 * networks["plain"]


def tensors(kind=torch.float32, device="cpu", stride=2):
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(size, generator=generator).to(device)

    x, weight = draw(4, 70, 9, 7), draw(70, 1, 3, 3)
    norms = [[draw(70) + 2, draw(70), torch.zeros(70, device=device), torch.ones(70, device=device)] for _ in range(2)]
    return [x.to(kind), weight, *norms, stride]


def as_modules(first, weight, second, stride):
    """A block as MobileNet has it, from its middle on."""
    block = build_model(cb.get_space("mobilenet"), "1111111", torch.Generator()).block1[1:6]
    conv = DepthwiseConv2d(70, 70, 3, stride, 1, groups=70, bias=False)
    parts = [torch.nn.BatchNorm2d(70), block[1], conv, torch.nn.BatchNorm2d(70), block[4]]
    with torch.no_grad():
        conv.weight.copy_(weight)
        for norm, (scale, shift, *_) in ((parts[0], first), (parts[3], second)):
            norm.weight.copy_(scale)
            norm.bias.copy_(shift)
    return torch.nn.Sequential(*parts)


@pytest.mark.parametrize("stride", [1, 2])
def test_without_a_gpu_pytorch_does_the_work(monkeypatch, stride):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(fused_depthwise, "_kernels", lambda: pytest.fail("Triton was looked for"))
    x, weight, first, second, _ = tensors(stride=stride)
    block = as_modules(first, weight, second, stride)
    found = norm_depthwise_norm(x, Norm(*first), weight, Norm(*second), stride=stride)
    assert torch.equal(found, block(x.clone()))
    for (_, _, mean, var), norm in ((first, block[0]), (second, block[3])):
        assert torch.equal(mean, norm.running_mean) and torch.equal(var, norm.running_var)


def test_kernels_are_off_unless_asked_for(monkeypatch):
    monkeypatch.setattr(fused_depthwise, "can_run_on", lambda device: True)
    monkeypatch.setenv(fused.VARIABLE, "1")  # which asks for others
    for value, wanted in ((None, False), ("0", False), ("1", True)):
        if value is None:
            monkeypatch.delenv(fused_depthwise.VARIABLE, raising=False)
        else:
            monkeypatch.setenv(fused_depthwise.VARIABLE, value)
        assert fused_depthwise.is_wanted(torch.zeros(1)) == wanted


@pytest.mark.parametrize(
    ("shape", "weight", "stride"),
    [
        ((1, 4, 2, 2), (4, 1, 3, 3), 2),  # a single pixel at the end
        ((2, 4, 4, 4), (4, 1, 2, 2), 1),  # an even kernel
        ((2, 4, 4, 4), (4, 1, 3, 1), 1),
        ((2, 4, 4, 4), (4, 4, 3, 3), 1),  # not depthwise
    ],
)
def test_what_the_kernels_cannot_do_is_left_to_pytorch(monkeypatch, shape, weight, stride):
    monkeypatch.setattr(fused_depthwise, "can_run_on", lambda device: True)
    assert not fused_depthwise._fits(torch.zeros(shape), torch.zeros(weight), stride)
    assert fused_depthwise._fits(torch.zeros(2, 4, 4, 4), torch.zeros(4, 1, 3, 3), 1)
    assert not fused_depthwise._fits(torch.zeros(2, 4, 4, 4).double(), torch.zeros(4, 1, 3, 3), 1)


def test_a_block_is_the_same_whichever_part_of_it_is_fused(monkeypatch):
    # The kernels' place is taken by PyTorch's operations: who is called with what, and what becomes of it.
    monkeypatch.setattr(fused, "can_run_on", lambda device: True)
    monkeypatch.setattr(fused_depthwise, "can_run_on", lambda device: True)
    monkeypatch.setattr(fused, "_fits", lambda *given: False)
    monkeypatch.setattr(fused_depthwise, "_fits", lambda *given: False)
    calls = {"norms": 0, "depthwise": 0}

    def count(module, name, kind):
        original = getattr(module, name)

        def counted(*given, **options):
            calls[kind] += 1
            return original(*given, **options)

        monkeypatch.setattr(module, name, counted)

    count(fused, "plain_norm_add_relu", "norms")
    count(fused_depthwise, "plain_norm_depthwise_norm", "depthwise")
    results = {}
    for norms, depthwise in (("0", "0"), ("1", "0"), ("0", "1"), ("1", "1")):
        monkeypatch.setenv(fused.VARIABLE, norms)
        monkeypatch.setenv(fused_depthwise.VARIABLE, depthwise)
        calls.update(norms=0, depthwise=0)
        model = build_model(cb.get_space("mobilenet-mini"), "2341234", torch.Generator().manual_seed(0)).train()
        logits = model(torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
        logits.square().mean().backward()
        results[norms, depthwise] = [logits, *(p.grad for p in model.parameters()), *model.buffers()]
        # 14 normalisations; two of each of the four blocks are the depthwise convolution's, if that is fused.
        expected = {"norms": (14 if depthwise == "0" else 6) * int(norms), "depthwise": 4 * int(depthwise)}
        assert calls == expected
        calls.update(norms=0, depthwise=0)
        model.eval()(torch.zeros(2, 1, 8, 8))
        assert calls == {"norms": 0, "depthwise": 0}  # only training batches have statistics
    for found in results.values():
        assert all(torch.equal(a, b) for a, b in zip(found, results["0", "0"], strict=True))


@pytest.mark.gpu
@needs_triton
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stride", [1, 2])
def test_on_a_gpu_kernels_agree_with_float64(kind, stride):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    results = []
    for function, dtype in (
        (norm_depthwise_norm, kind),
        (norm_depthwise_norm, kind),
        (plain_norm_depthwise_norm, torch.float64),
    ):
        x, weight, first, second, _ = tensors(kind, "cuda")
        if dtype == torch.float64:
            x, weight = x.double(), weight.double()
            first, second = ([tensor.double() for tensor in norm] for norm in (first, second))
        leaves = [tensor.requires_grad_() for tensor in (x, weight, *first[:2], *second[:2])]
        y = function(x, Norm(*first), weight, Norm(*second), stride=stride)
        (y.double() * torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).cuda()).sum().backward()
        results.append([y.detach(), *(leaf.grad for leaf in leaves), *first[2:], *second[2:]])
    for ours, again, expected in zip(*results, strict=True):
        assert torch.equal(ours, again)
        error = (ours.double() - expected).norm() / expected.norm()
        assert error < (1e-4 if kind == torch.float32 else 6e-2)
