"""Devices by name, and what is said of a precision before long work."""

import pytest
import torch

from channel_bench.training import devices
from channel_bench.training.devices import bfloat16_units, precision_caution


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor: 0\nflags\t\t: fpu avx2 avx512_bf16\n", "vector"),
        ("flags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n\nflags\t\t: fpu amx_bf16\n", "matrix"),
        ("flags\t\t: fpu avx avx2 avx512f\n", "none"),
        ("Features\t: fp asimd bf16\n", "matrix"),
        ("Features\t: fp asimd\n", "none"),
        ("cpu : something else\n", "matrix"),  # nothing is known, so nothing is said
        (None, "matrix"),
    ],
)
def test_how_a_processor_computes_in_bfloat16_is_known_by_its_flags(text, expected, tmp_path):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    assert bfloat16_units(path) == expected


def test_only_bf16_on_a_processor_that_is_slow_in_it_gets_a_caution(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(devices, "bfloat16_units", lambda: "matrix")
    assert precision_caution("bf16", cpu) is None
    monkeypatch.setattr(devices, "bfloat16_units", lambda: "vector")
    assert "has AVX-512 BF16 but not AMX" in precision_caution("bf16", cpu)
    monkeypatch.setattr(devices, "bfloat16_units", lambda: "none")
    assert [precision_caution(*pair) for pair in (("fp32", cpu), ("bf16", gpu), (None, cpu))] == [None] * 3
    assert "is emulated on this processor" in precision_caution("bf16", cpu)


@pytest.mark.parametrize(
    "words",
    [
        ("channel-bench", "train", "resnet-mini", "4444444", "--epochs", "1"),
        ("channel-bench", "build", "resnet-mini", "--archs", "1", "--runs", "1", "--epochs", "1", "--out", "runs"),
        ("channel-harness", "rank", "uniform", "--space", "resnet-mini", "--epochs", "1", "--num-val", "8"),
    ],
)
def test_commands_say_it_once_before_they_train(words, tmp_path, monkeypatch, run_cli):
    monkeypatch.setattr(devices, "bfloat16_units", lambda: "none")
    monkeypatch.chdir(tmp_path)
    code, _, errors = run_cli(*words, "--precision", "bf16")
    assert code == 0 and errors.count("is emulated on this processor") == 1
