"""What a step of the full spaces takes on a CPU where freed memory is kept, against PyTorch's usual way.

    python tests/perf/bench_memory.py [--space mobilenet] [--arch 2222222] [--batch 256] [--rounds 3]

Processor time per step of one thread, forward and backward of a supernet's sub-network: the median of rounds in which
the two ways take turns, a process for each. Beside it the pages that the kernel had to clear in a step, and the most
memory that the process held.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

_STEP = """
import json, resource, sys, time
import torch
from torch.nn import functional
from channel_bench.space import get_space
from channel_bench.support.memory import keep_freed_memory
from harness.supernet.network import Supernet

name, arch, batch, keeps, steps = json.loads(sys.argv[1])
torch.set_num_threads(1)
if keeps and not keep_freed_memory():
    sys.exit("this C library keeps nothing: there is nothing to compare")
space = get_space(name)
net = Supernet(space, torch.Generator().manual_seed(0))
images = torch.randn(batch, *space.input_shape, generator=torch.Generator().manual_seed(1))
labels = torch.arange(batch) % space.num_classes

def step():
    functional.cross_entropy(net(images, arch), labels).backward()

step()
before, started = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
for _ in range(steps):
    step()
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "s": (time.process_time() - started) / steps,
    "pages": (after.ru_minflt - before.ru_minflt) // steps,
    "peak_gib": after.ru_maxrss / 2**20,
}))
"""


def measure(space: str, arch: str, batch: int, keeps: bool, steps: int) -> dict[str, float]:
    """A process's seconds and pages per step, and the most memory that it held, GiB."""
    asked = json.dumps([space, arch, batch, keeps, steps])
    done = subprocess.run([sys.executable, "-c", _STEP, asked], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print a line per way, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mobilenet")
    parser.add_argument("--arch", default="2222222")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for _ in range(arguments.rounds):
        for keeps, rows in found.items():
            rows.append(measure(arguments.space, arguments.arch, arguments.batch, keeps, arguments.steps))
    for keeps, rows in found.items():
        middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        print(
            f"{arguments.space} {arguments.arch}, batch {arguments.batch}, {'kept' if keeps else 'given back':10s}"
            f" {middle['s']:6.2f} s per step, {middle['pages']:>9,.0f} pages cleared, at most {middle['peak_gib']:.1f} GiB"
        )
    ratios = [plain["s"] / kept["s"] for plain, kept in zip(found[False], found[True], strict=True)]
    print(f"keeping is {statistics.median(ratios):.2f} times as fast")


if __name__ == "__main__":
    main()
