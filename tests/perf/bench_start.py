"""What a process takes until it has trained its first step: with this package's optimiser, and with PyTorch's own.

    python tests/perf/bench_start.py [--rounds 3]

Processor time of new processes, the median of the rounds, in which the paths take turns. The second column is of
processes that find no compiled bytecode and keep none, as where PyTorch was installed with PYTHONDONTWRITEBYTECODE set.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile

_STEP = """
import torch
from channel_bench.space import get_space
from channel_bench.training.models import blank_model, build_model, initialise
space, generator = get_space("resnet-mini"), torch.Generator().manual_seed(0)
{model}
optimizer = {sgd}(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
model(torch.zeros(2, *space.input_shape)).sum().backward()
optimizer.step()
"""
PATHS = {
    "import torch": "import torch",
    "a step, this package": "from channel_bench.training.optimizers import SGD"
    + _STEP.format(model='model = build_model(space, "4444444", generator)', sgd="SGD"),
    "a step, torch.optim and to_empty": _STEP.format(
        model='model = blank_model(space, space.channels("4444444")).to_empty(device="cpu")\n'
        "initialise(model, generator)",
        sgd="torch.optim.SGD",
    ),
}


def processor_s(code: str, environment: dict[str, str]) -> float:
    """Processor time of a process that runs some code, seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a line per path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as compiled, tempfile.TemporaryDirectory() as empty:
        environments = {
            "with bytecode": kept | {"PYTHONPYCACHEPREFIX": compiled},
            "without": kept | {"PYTHONPYCACHEPREFIX": empty, "PYTHONDONTWRITEBYTECODE": "1"},
        }
        for code in PATHS.values():
            processor_s(code, environments["with bytecode"])  # compiles what it imports
        times: dict[tuple[str, str], list[float]] = {}
        for _ in range(arguments.rounds):
            for path, code in PATHS.items():
                for column, environment in environments.items():
                    times.setdefault((path, column), []).append(processor_s(code, environment))
    print(f"{'processor time, seconds':34s}" + "".join(f"{column:>15s}" for column in environments))
    for path in PATHS:
        print(f"{path:34s}" + "".join(f"{statistics.median(times[path, column]):15.2f}" for column in environments))


if __name__ == "__main__":
    main()
