"""What a build trains (`Plan`) and how it trains it (`Workers`); both refuse bad values when they are made.

    >>> space = get_space("resnet-mini")
    >>> plan = Plan(space=space, archs=pick_archs(space, "24"), num_runs=2)
    >>> plan.num_planned
    48
    >>> workers = Workers(device="cpu", num_workers=2)

Here are also the readers of the command line's texts: which architectures (`pick_archs`), which part (`parse_shard`).
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from channel_bench.builder.engines import MAX_RETRIES
from channel_bench.builder.store import MAX_SEED
from channel_bench.errors import ArgumentError, unknown_name
from channel_bench.recipe import Recipe, get_recipe
from channel_bench.record import Job
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, Space

PICK_SEED = 20210421
"""Seed of the order in which a number of architectures is picked; any number of them contains every smaller one."""

MAX_COUNT = 2**15 - 1
"""Largest number of a run; the schema's column has 16 bits."""
MAX_RUNS_PER_GPU = 32
"""PyTorch has as many streams on a device; beyond, runs would share them."""
ENGINES = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build trains.

    Raises:
        ArchError: An architecture is not one of the space.
        ArgumentError: A number is out of range, or the shard does not exist.
    """

    space: Space
    """The search space."""
    archs: Sequence[str]
    """Architectures as text of 7 digits; duplicates count once."""
    num_runs: int
    """Runs (seeds) of each architecture, 1..32767."""
    recipe: Recipe | None = None
    """How a network is trained; None for the space's own recipe."""
    dataset: str | None = None
    """What it is trained on, as `load_dataset` takes it; None for the space's own data set."""
    base_seed: int = 0
    """Seed of run 0, 0..2^62; run r has seed base_seed + r."""
    shard: tuple[int, int] = (1, 1)
    """(i, n) trains only the i-th of n equally costly parts of the architectures, 1 <= i <= n."""

    def __post_init__(self) -> None:
        """Check every value."""
        _check_count("runs", self.num_runs)
        self.chosen_recipe.check_rates()
        if not 0 <= self.base_seed <= MAX_SEED:
            raise ArgumentError(f"base seed {self.base_seed} is out of range: allowed are 0..{MAX_SEED}")
        _ = self.chosen_archs

    @functools.cached_property
    def chosen_archs(self) -> list[str]:
        """The architectures of this shard, as text, without duplicates."""
        texts = list(dict.fromkeys(self.space.text(arch) for arch in self.archs))
        return shard_archs(self.space, texts, *self.shard)

    @property
    def num_planned(self) -> int:
        """Runs of this shard."""
        return len(self.chosen_archs) * self.num_runs

    @property
    def chosen_recipe(self) -> Recipe:
        """The recipe, or the space's own."""
        return self.recipe or get_recipe(self.space.recipe)

    @property
    def chosen_dataset(self) -> str:
        """The data set, or the space's own."""
        return self.dataset or self.space.dataset

    def jobs(self) -> list[Job]:
        """All runs of this shard, run 0 of every architecture first."""
        return [Job(text, run, self.base_seed + run) for run in range(self.num_runs) for text in self.chosen_archs]

    def request(self) -> str:
        """A hash that all shards of one request share; empty where the request is not split."""
        num_shards = self.shard[1]
        if num_shards == 1:
            return ""
        return hashlib.sha256(json.dumps([sorted(self.archs), self.num_runs, num_shards]).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How a build trains: on what, in how many processes, by which program.

    Raises:
        UnknownNameError: There is no such engine.
        ArgumentError: Another value is not allowed, or two do not go together.
    """

    engine: str = "local"
    """"local" for this machine, "ray" for a cluster."""
    address: str | None = None
    """Address of the Ray cluster: "auto", "ray://host:port" or "host:port"; None starts one on this machine only."""
    num_workers: int | None = None
    """Worker processes, 1..32767; None for `runs_per_gpu` on each GPU, or one per CPU core where there is no GPU."""
    runs_per_gpu: int | None = 1
    """Runs at once on each GPU, 1..32: slots of one process, or processes where networks are stacked or a number of
    workers is given. None for as many as `packing.runs_per_gpu` finds room for (local only)."""
    stack: int | None = None
    """Networks that a worker trains together as one program (models/stacked.py), 1..32767; None for `default_stack`.
    Results agree in distribution, not bit by bit."""
    backend: str = "auto"
    """"native" for the compiled trainer (training/native), "torch", or "auto" (`backends.pick_backend`)."""
    graph: bool | None = None
    """Whether steps are replayed as CUDA graphs, which changes no result; None for where they can be."""
    threads: int = 1
    """CPU threads of each worker, 1..32767; results depend on them in the last bits."""
    device: str = "auto"
    """"auto" and "cuda" are all GPUs of this machine, or of the cluster; "cpu"; "cuda:1" is one GPU (local only)."""
    max_retries: int = MAX_RETRIES
    """How often a run is tried again after it failed, 0..32767."""
    data_dir: Path | None = None
    """Folder of downloaded data; None for the user's data folder."""
    download: bool = False
    """Whether a missing data set is downloaded."""

    def __post_init__(self) -> None:
        """Check every value that can be checked without a device."""
        from channel_bench.training.backends import BACKENDS  # late: it loads torch

        _check_count("workers", self.num_workers)
        _check_count("networks in a stack", self.stack)
        _check_count("threads", self.threads)
        if self.engine not in ENGINES:
            raise unknown_name("engine", self.engine, ENGINES)
        if self.runs_per_gpu is None and self.engine == "ray":
            raise ArgumentError("runs per GPU 'auto' works on this machine only: with engine ray, give a number")
        if self.runs_per_gpu is not None and not 1 <= self.runs_per_gpu <= MAX_RUNS_PER_GPU:
            raise ArgumentError(f"number of runs per GPU is {self.runs_per_gpu}: allowed are 1..{MAX_RUNS_PER_GPU}")
        if not 0 <= self.max_retries <= MAX_COUNT:
            raise ArgumentError(f"number of retries is {self.max_retries}: allowed are 0..{MAX_COUNT}")
        if self.engine == "local" and self.address is not None:
            raise ArgumentError(f"address {self.address!r} is for a Ray cluster: add --engine ray")
        if self.backend not in BACKENDS:
            raise ArgumentError(f"backend is {self.backend!r}: allowed are {', '.join(BACKENDS)}")


def _check_count(name: str, value: int | None) -> None:
    if value is not None and not 1 <= value <= MAX_COUNT:
        raise ArgumentError(f"number of {name} is {value}: allowed are 1..{MAX_COUNT}")


def pick_archs(space: Space, text: str) -> list[str]:
    """Read the choice of architectures of a command line.

    Args:
        space: The search space.
        text: "all"; a number, for that many picked at random but always the same; or architectures of 7 digits
            separated by commas.

    Returns:
        Architectures as text, without duplicates.

    Raises:
        ArgumentError: The text is none of these.
    """
    if text == "all":
        return space.texts()
    text = text.strip()
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) < NUM_SLOTS:
        if not 1 <= int(text) <= NUM_ARCHS:
            raise ArgumentError(f"cannot build {text} architectures: allowed are 1..{NUM_ARCHS}, or 'all'")
        order = np.random.RandomState(PICK_SEED).permutation(NUM_ARCHS)
        return [space.text(int(index)) for index in order[: int(text)]]
    return list(dict.fromkeys(space.text(part.strip()) for part in text.split(",")))


def parse_shard(text: str) -> tuple[int, int]:
    """Read a shard of a command line: "3/16" is the third of sixteen, (3, 16).

    Raises:
        ArgumentError: The text is something else, or there is no such shard.
    """
    number, _, total = text.partition("/")
    if all(part.isascii() and part.isdecimal() for part in (number, total)) and 1 <= int(number) <= int(total):
        return int(number), int(total)
    raise ArgumentError(f"shard {text!r} is not I/N with whole numbers 1 <= I <= N, such as 3/16")


def shard_archs(space: Space, archs: Sequence[str], number: int, total: int) -> list[str]:
    """The architectures of one shard; the same on every machine, and all shards have about the same size and cost.

    The costliest first, each goes to the shard that has cost the least so far and still has room.

    Args:
        space: The search space.
        archs: All architectures, as text, in any order.
        number: Which shard, 1..total.
        total: Number of shards.

    Raises:
        ArgumentError: There are more shards than architectures, or there is no such shard.
    """
    if total == number == 1:
        return list(archs)
    if not 1 <= number <= total:
        raise ArgumentError(f"shard {number} of {total} does not exist: allowed are 1..{total}")
    if total > len(archs):
        raise ArgumentError(f"{len(archs)} architectures cannot make {total} shards: ask for at most {len(archs)}")
    room = -(-len(archs) // total)
    shards: list[list[str]] = [[] for _ in range(total)]
    heap = [(0, shard) for shard in range(total)]
    for arch in sorted(archs, key=lambda arch: (-space.flops(arch), arch)):
        cost, shard = heapq.heappop(heap)
        shards[shard].append(arch)
        if len(shards[shard]) < room:
            heapq.heappush(heap, (cost + space.flops(arch), shard))
    return shards[number - 1]
