"""Devices and CPU threads of this process, chosen by name and number."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from channel_bench.errors import ArgumentError
from channel_bench.support.memory import keep_freed_memory

BFLOAT16_CAUTIONS = {
    "none": "precision 'bf16' is emulated on this processor, which has neither AMX nor AVX-512 BF16: on one a step of"
    " mobilenet took 7 to 11 times as long as in fp32",
    "vector": "precision 'bf16' is slower to train in on this processor, which has AVX-512 BF16 but not AMX: on one a"
    " step of a resnet supernet took 1.6 times as long as in fp32",
    "matrix": None,
}


def use_threads(count: int) -> None:
    """Set the CPU threads of this process.

    Raises:
        ArgumentError: count is below 1.
    """
    if count < 1:
        raise ArgumentError(f"number of threads is {count}: allowed are 1 and above")
    torch.set_num_threads(count)


def prepare_process(threads: int) -> None:
    """Make this process one that trains: set its CPU threads, and let it keep the memory that it frees.

    Not for measuring latency, where memory is to behave as in anyone's process.

    Raises:
        ArgumentError: threads is below 1.
    """
    use_threads(threads)
    keep_freed_memory()


def pick_device(name: str = "auto") -> torch.device:
    """Device of a name: "auto" is the first GPU where there is one, else the CPU.

    Raises:
        ArgumentError: The name is no device, or this machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = _reason(name, str(error).splitlines()[0])
        others = "'cpu', 'cuda' or 'auto'" if torch.cuda.is_available() else "'cpu' or 'auto'"
        raise ArgumentError(f"device {name!r} cannot be used here ({reason}): try {others}") from None
    return device


def precision_caution(precision: str | None, device: torch.device) -> str | None:
    """What to know of a precision on a device before long work; None where there is nothing to say."""
    if precision != "bf16" or device.type != "cpu":
        return None
    return BFLOAT16_CAUTIONS[bfloat16_units()]


def bfloat16_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """How the processor computes in bfloat16: "none", "vector" or "matrix"; the last also where it cannot be asked."""
    try:
        text = cpuinfo.read_text()
    except (OSError, UnicodeDecodeError):
        return "matrix"
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    flags = set(found[1].split()) if found else {"amx_bf16"}
    # Of ARM's units nothing was measured here, so nothing is said of them.
    if flags & {"amx_bf16", "bf16"}:
        return "matrix"
    return "vector" if "avx512_bf16" in flags else "none"


def _reason(name: str, error: str) -> str:
    """Why a device cannot be used, in fewer words than PyTorch's."""
    if name.lower() in ("gpu", "nvidia"):
        return "a GPU is called 'cuda' or 'cuda:1' ..."
    if name.partition(":")[0] == "cuda" and not torch.cuda.is_available():
        return "PyTorch sees no GPU: there is none, or no driver for it"
    return "no device has this name" if error.startswith("Expected one of") else error


def device_name(device: torch.device) -> str:
    """The name that records carry: the GPU's own ("NVIDIA H200"), or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
