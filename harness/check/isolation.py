"""What a method must not touch while it is checked: the table, the process's random generators and settings.

Three context managers, used by checker.py: `blocked_table` refuses every usual way to the trained truth,
`watched_globals` tells what a block changed and puts it back, `ConvolutionDevices` notes where networks run. They find
mistakes, not malice: nothing here withstands code that means to get around it.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from channel_bench.errors import MethodError
from channel_bench.table import Table, published, shipped, sources
from harness.locate import CodePosition, positions


class TableAccessError(MethodError):
    """A method asked for the trained truth while it was being checked."""


@dataclass(frozen=True)
class TableAccess:
    """One try to read the truth."""

    what: str
    """What was called, or the file that was to be opened."""
    stack: list[CodePosition]
    """From where, innermost first."""


_TABLE_SUFFIXES = (".parquet", ".h5", ".json")


@contextlib.contextmanager
def blocked_table() -> Iterator[list[TableAccess]]:
    """Refuse the table for the duration of the block, to this whole process.

    Refused are `channel_bench.load` and all else in sources.py, published.py and shipped.py that finds or makes a
    table, any use of a Table that is already there, and opening a table file (Parquet, HDF5 or JSON in the folders of
    the shipped and the downloaded tables) by Python, pandas, PyArrow or h5py.

    Yields:
        The tries so far. Each also raises TableAccessError where it happens, which the method may swallow.
    """
    import h5py
    import pyarrow.parquet as pq

    tries: list[TableAccess] = []
    folders = {os.path.realpath(folder) for folder in (shipped.shipped_dir(), published.default_data_dir())}
    published_names = {name for name, _ in published.FILES.values()}

    def refuse(what: str) -> None:
        tries.append(TableAccess(what, positions(traceback.walk_stack(sys._getframe(2)))))
        raise TableAccessError(f"a method may not read the trained truth, and {what} is a way to it")

    def refused(what: str) -> Callable[..., Any]:
        def refuse_call(*args: Any, **kwargs: Any) -> None:
            refuse(what)

        return refuse_call

    def is_table(value: object) -> bool:
        if not isinstance(value, (str, os.PathLike)):
            return False
        path = Path(os.path.realpath(value))
        return path.name in published_names or (str(path.parent) in folders and path.suffix in _TABLE_SUFFIXES)

    def filtered(opens: Callable[..., Any]) -> Callable[..., Any]:
        def open_others(*args: Any, **kwargs: Any) -> Any:
            for value in (*args, *kwargs.values()):
                if is_table(value):
                    refuse(f"file {os.fspath(value)!r}")
            return opens(*args, **kwargs)

        return open_others

    with contextlib.ExitStack() as replaced:
        for module, names in (
            (sources, ("load", "find_table")),
            (published, ("install", "convert", "table_path")),
            (shipped, ("shipped_path",)),
        ):
            for name in names:
                replaced.enter_context(_replaced(module, name, refused(f"{module.__name__}.{name}()")))
        # A table that was loaded before, say while the method's module was imported, answers nothing either.
        replaced.enter_context(_replaced(Table, "__getattribute__", refused("a loaded Table")))
        replaced.enter_context(_replaced(Table, "__init__", refused("Table()")))
        replaced.enter_context(_replaced(Table, "read", refused("Table.read()")))
        for owner, name in (
            (builtins, "open"),
            (io, "open"),
            (pq, "read_table"),
            (pq.ParquetFile, "__init__"),
            (pq.ParquetDataset, "__init__"),
            (h5py.File, "__init__"),
        ):
            replaced.enter_context(_replaced(owner, name, filtered(getattr(owner, name))))
        yield tries


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of a module or class for the duration of a block."""
    absent = object()
    before = vars(owner).get(name, absent)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is absent:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


@dataclass
class GlobalChanges:
    """What a block changed, in words; filled in when it is over."""

    generators: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)


_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    # torch.get_default_device is younger than the oldest PyTorch that is supported.
    "the default device": (
        lambda: torch.empty(0).device,
        lambda device: torch.set_default_device(None if device.type == "cpu" else device),
    ),
    "gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "deterministic algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "cudnn.deterministic": (
        lambda: torch.backends.cudnn.deterministic,
        lambda value: setattr(torch.backends.cudnn, "deterministic", value),
    ),
    "cudnn.benchmark": (
        lambda: torch.backends.cudnn.benchmark,
        lambda value: setattr(torch.backends.cudnn, "benchmark", value),
    ),
    "float32 matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "NumPy's error handling": (np.geterr, lambda value: np.seterr(**value)),
}


@contextlib.contextmanager
def watched_globals(seed: int, device: torch.device) -> Iterator[GlobalChanges]:
    """Seed the global generators for a block, see what it leaves changed, and put everything back as it was.

    Args:
        seed: Of Python's, NumPy's and PyTorch's global generators within the block.
        device: Where the block computes; on a GPU its default generator is watched as well.

    Yields:
        The changes, complete only after the block.
    """
    changes = GlobalChanges()
    outside = _generator_states(device)
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    generators = _generator_states(device)
    settings = {name: get() for name, (get, _) in _SETTINGS.items()}
    try:
        yield changes
    finally:
        # Settings first: a default device would also take what the states are compared with.
        for name, (get, put) in _SETTINGS.items():
            now = get()
            if now != settings[name]:
                changes.settings.append(f"{name} ({settings[name]} to {now})")
                put(settings[name])
        now_there = _generator_states(device)
        changes.generators += [name for name, state in generators.items() if not _same(now_there[name], state)]
        random.setstate(outside["Python's random"])
        np.random.set_state(outside["NumPy's legacy generator"])
        torch.set_rng_state(outside["PyTorch's CPU generator"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(outside["PyTorch's GPU generator"], device)


def _generator_states(device: torch.device) -> dict[str, Any]:
    states = {
        "Python's random": random.getstate(),
        "NumPy's legacy generator": np.random.get_state(),
        "PyTorch's CPU generator": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["PyTorch's GPU generator"] = torch.cuda.get_rng_state(device)
    return states


def _same(one: Any, other: Any) -> bool:
    parts = zip(one, other, strict=True) if isinstance(one, tuple) else [(one, other)]
    return all(np.array_equal(part, other_part) for part, other_part in parts)


class ConvolutionDevices(TorchDispatchMode):
    """While active, notes the devices of all convolutions, forward and backward, of this thread.

    Convolutions and not every operation, because a method may well solve a small problem of its own on the CPU.
    """

    def __init__(self) -> None:
        """Nothing seen yet."""
        super().__init__()
        self.seen: set[torch.device] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and look at its tensors where it is a convolution."""
        if "convolution" in func.__name__:
            self.seen |= {value.device for value in args if isinstance(value, Tensor)}
        return func(*args, **(kwargs or {}))
