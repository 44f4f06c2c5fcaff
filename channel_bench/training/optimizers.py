"""PyTorch's optimisers, without PyTorch's compiler.

    >>> optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)  # as torch.optim.SGD, to the last bit

The first optimiser of a process imports ``torch._dynamo``, so that a program that is compiled with ``torch.compile``
leaves some of its functions out. That takes nearly as long as ``import torch``, and nothing here is compiled. These
classes call the same functions without the wrappers that import it (tests/perf/bench_start.py).
"""

from __future__ import annotations

import inspect
from typing import Any

import torch


def _step_of(optimizer: type[torch.optim.Optimizer]) -> Any:
    """The step itself, with no gradients of its own."""
    return torch.no_grad()(inspect.unwrap(optimizer.step))


class _Eager(torch.optim.Optimizer):
    """What all optimisers share; where a version of PyTorch wraps nothing, these are its functions."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class SGD(_Eager, torch.optim.SGD):
    """`torch.optim.SGD`."""

    step = _step_of(torch.optim.SGD)


class Adam(_Eager, torch.optim.Adam):
    """`torch.optim.Adam`."""

    step = _step_of(torch.optim.Adam)
