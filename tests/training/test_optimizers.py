"""Optimisers without PyTorch's compiler: the same bits as PyTorch's own, in processes that start sooner."""

import subprocess
import sys

import pytest
import torch

from channel_bench.training.optimizers import SGD, Adam

SETTINGS = [
    (SGD, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.01}),
    (SGD, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9, "nesterov": True, "foreach": True}),
    (Adam, torch.optim.Adam, {"lr": 0.01, "betas": (0.5, 0.999), "weight_decay": 0.01}),
]


def train(make, options, stop_after=None):
    """Parameters after ten steps, and the state; stopped and resumed from its state where that is asked for."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(3, 4, generator=generator).requires_grad_() for _ in range(2)]
    optimizer = make(parameters, **options)
    for step in range(10):
        if step == stop_after:
            resumed = make(parameters, **options)
            resumed.load_state_dict(optimizer.state_dict())
            optimizer = resumed
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = options["lr"] / (1 + step)
        sum((parameter**4 + parameter).sum() for parameter in parameters).backward()
        optimizer.step()
    return [parameter.detach() for parameter in parameters], optimizer.state_dict()


@pytest.mark.parametrize(("ours", "theirs", "options"), SETTINGS)
@pytest.mark.parametrize("stop_after", [None, 4])
def test_steps_and_state_are_those_of_pytorch_bit_for_bit(ours, theirs, options, stop_after):
    found, found_state = train(ours, options, stop_after)
    expected, expected_state = train(theirs, options)
    assert all(map(torch.equal, found, expected)) and all(map(torch.isfinite, torch.cat(found).flatten()))
    assert found_state["param_groups"] == expected_state["param_groups"]
    for number, state in expected_state["state"].items():
        assert found_state["state"][number].keys() == state.keys()
        assert all(torch.equal(found_state["state"][number][name], state[name]) for name in state)


def test_a_step_records_no_gradients_and_calls_hooks():
    parameter = torch.ones(1, requires_grad=True)
    optimizer, called = SGD([parameter], lr=1.0), []
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    (2 * parameter).sum().backward()
    optimizer.step()
    assert parameter.item() == -1 and parameter.grad_fn is None and called == ["before", "after"]
    optimizer.zero_grad()
    assert parameter.grad is None and isinstance(optimizer, torch.optim.SGD)


def test_training_does_not_load_the_compiler_of_pytorch():
    # Nor SymPy, which it computes shapes with: together they take longer than PyTorch itself.
    code = """
import sys
import channel_bench as cb
from channel_bench.record import Job
from channel_bench.recipe import get_recipe
from channel_bench.training.backends import train_jobs
from channel_bench.training.datasets import load_dataset
from harness.methods import get_method
from harness.task import make_task, supernet_recipe
space, digits = cb.get_space("resnet-mini"), load_dataset("digits")
train_jobs(space, [Job("1111111", 0, 0)], get_recipe("mini", epochs=1, batch_size=600), digits, backend="torch")
for name in ("uniform", "tas"):
    get_method(name).fit(make_task(space, digits, recipe=supernet_recipe(space, 1)))
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
