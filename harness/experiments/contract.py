"""What an experiment is: independent cells of work, and an outcome that is computed from what they measured.

    @register_experiment("seeds", paper="Me et al., 2026, Table 1", summary="what it asks, in a few words")
    class Seeds:
        def cells(self, setting):                       # every piece of work that can be done and kept on its own
            return [Cell(f"uniform-seed{seed}", {"method": "uniform", "seed": seed}) for seed in setting.seeds]

        def measure(self, cell, setting):               # in a worker process; values of JSON
            return {"kendall": ...}

        def outcome(self, measured, setting):           # from the cells alone; no training, no clock, no random number
            return Outcome(sheets=[...], claims=[...], figures={"seeds": draw})

`channel-harness experiment seeds --space resnet-mini` runs it. A cell that was measured is never measured again, so the
command can be interrupted at any moment. Whoever doubts an outcome recomputes it from the cells in the result file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from channel_bench.errors import ArgumentError
from channel_bench.space import FloatArray, Space, get_space
from channel_bench.table import Table, load
from harness.experiments.claims import Claim
from harness.ranking.request import TaskOptions
from harness.registry import Registry
from harness.report.sheets import Sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KEY = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,99}")
Measured = Mapping[str, dict[str, Any]]
"""What each cell measured, by its key."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What an experiment is run on.

    Attributes:
        task: Space, data set, device and length of training; its seed is the first one.
        num_seeds: Seeds of everything random, >= 1.
        table: Name or file of the truth; None for the table of the space.
        latency: File of latencies of the space, as ``channel-bench latency`` writes it; None for none.

    Raises:
        ArgumentError: There is no seed.
    """

    task: TaskOptions
    num_seeds: int = 3
    table: str | None = None
    latency: str | None = None

    def __post_init__(self) -> None:
        """Check the number of seeds."""
        if self.num_seeds < 1:
            raise ArgumentError(f"number of seeds is {self.num_seeds}: allowed are 1 and above")

    @property
    def space(self) -> Space:
        """The space."""
        return get_space(self.task.space)

    @property
    def seeds(self) -> range:
        """The seeds, ascending."""
        return range(self.task.seed, self.task.seed + self.num_seeds)

    def latencies(self) -> FloatArray | None:
        """Latency of every architecture, ms, float64 (16384,) in index order; None without a file.

        Raises:
            MissingDataError, CorruptFileError, ArgumentError: As `channel_bench.latency.load_latency`.
        """
        if self.latency is None:
            return None
        from channel_bench.latency import load_latency

        return np.asarray(load_latency(Path(self.latency), self.space).predict(), np.float64)

    def truth(self) -> Table:
        """The table that judges.

        Raises:
            MissingDataError, CorruptFileError: As `channel_bench.load`.
        """
        return load(self.space, self.table, self.task.data_dir)


@dataclass(frozen=True)
class Cell:
    """A piece of work that is done, and kept, on its own.

    Raises:
        ArgumentError: The key cannot be the name of a file.
    """

    key: str
    """Lower-case letters, digits and ``-_.+``; names its file and its place among what was measured."""
    options: dict[str, Any] = field(default_factory=dict)
    """Values of JSON that decide, with the setting, what is measured."""

    def __post_init__(self) -> None:
        """Check the key."""
        if not _KEY.fullmatch(self.key):
            raise ArgumentError(f"key of a cell is {self.key!r}: allowed are lower-case letters, digits and -_.+")


@dataclass(frozen=True)
class Outcome:
    """What an experiment found."""

    sheets: list[Sheet]
    """Its tables, the main one first."""
    claims: list[Claim] = field(default_factory=list)
    """What the papers say, and whether it is seen here."""
    figures: dict[str, Callable[[], Figure]] = field(default_factory=dict)
    """What draws its figures, by name; called only where figures are asked for."""
    notes: list[str] = field(default_factory=list)
    """What was chosen where a paper is silent, and what a reader must know; a sentence each."""


class Experiment(Protocol):
    """An experiment; made without arguments."""

    def cells(self, setting: Setting) -> list[Cell]:
        """All cells of this setting, the most expensive first; keys differ."""
        ...

    def measure(self, cell: Cell, setting: Setting) -> dict[str, Any]:
        """Do a cell, in a process of its own: values of JSON, without NaN."""
        ...

    def outcome(self, measured: Measured, setting: Setting) -> Outcome:
        """Conclude from what was measured; every cell of the setting is there."""
        ...


EXPERIMENTS: Registry[Experiment] = Registry(
    "experiment",
    "channel_bench.experiments",
    "harness.experiments",
    (
        *("base_widths", "bcnet_ablation", "costs", "epochs", "hardware", "network_adjustment", "regions"),
        "trajectory",
    ),
    "outcome",
)
register_experiment = EXPERIMENTS.register
"""Class decorator that makes an experiment known under a name (`Registry.register`)."""
