"""The table asked the way of NASLib: an object that is an architecture and answers `query`.

    >>> graph = SearchSpace(cb.load("resnet-mini"))
    >>> graph.sample_random_architecture()
    >>> graph.query(Metric.TEST_ACCURACY, "digits")               # or "TEST_ACCURACY", or NASLib's own Metric
    >>> graph.query(Metric.TRAIN_LOSS, "digits", full_lc=True)    # one value per epoch

The methods, their arguments and `Metric` are those of NASLib's search space over the size space of NATS-Bench
(github.com/automl/NASLib, natsbenchsize/graph.py), which loops and predictors call; NASLib itself is not needed, and
what NASLib passes in beside it (`path`, `dataset_api`) is without effect. Units are NATS-Bench's: percent, nats,
seconds, millions of FLOPs and parameters.

Three things differ. There is no validation split, so what asks for one raises MissingDataError unless
`search_on="test"` lets it see the test images instead. Without `epoch` an accuracy is the one that the table is asked
by, which may be that of the best epoch. Draws come from a generator of the object's own.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from channel_bench.adapters.shared import epochs_of
from channel_bench.errors import ArgumentError, MissingDataError, unknown_name
from channel_bench.nats import create
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS, Arch
from channel_bench.table import Table


class Metric(enum.Enum):
    """What `query` can be asked for, by the names of NASLib's Metric."""

    RAW = enum.auto()
    ALL = enum.auto()
    TRAIN_ACCURACY = enum.auto()
    VAL_ACCURACY = enum.auto()
    TEST_ACCURACY = enum.auto()
    TRAIN_LOSS = enum.auto()
    VAL_LOSS = enum.auto()
    TEST_LOSS = enum.auto()
    TRAIN_TIME = enum.auto()
    VAL_TIME = enum.auto()
    TEST_TIME = enum.auto()
    FLOPS = enum.auto()
    LATENCY = enum.auto()
    PARAMETERS = enum.auto()
    EPOCH = enum.auto()
    HP = enum.auto()


_KEYS = {
    "TRAIN_ACCURACY": "train-accuracy",
    "VAL_ACCURACY": "valid-accuracy",
    "TEST_ACCURACY": "test-accuracy",
    "TRAIN_LOSS": "train-loss",
    "VAL_LOSS": "valid-loss",
    "TEST_LOSS": "test-loss",
    "TRAIN_TIME": "train-all-time",
}
"""Metrics that every epoch has, as the facade of NATS-Bench calls them."""
_CURVES = {
    "TRAIN_ACCURACY": "train_acc",
    "TEST_ACCURACY": "test_acc",
    "TRAIN_LOSS": "train_loss",
    "TEST_LOSS": "test_loss",
}
"""Which of them have a learning curve in the table; the time of an epoch is a share of the whole."""
_COSTS = {"FLOPS": "flops", "PARAMETERS": "params", "LATENCY": "latency"}


class SearchSpace:
    """A search space of NASLib that holds one architecture; a new one is the widest."""

    QUERYABLE = True

    def __init__(
        self,
        table: Table,
        arch: Any = None,
        *,
        metric: str = "best_test_acc",
        search_on: str | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        """Begin with an architecture.

        Args:
            table: The table that answers.
            arch: The architecture in any encoding of `Space.arch`; None for the widest.
            metric: What TEST_ACCURACY is without an epoch: "best_test_acc" or "test_acc".
            search_on: "test" answers VAL_ACCURACY and VAL_LOSS with those of the test images; None refuses.
            rng: Where draws come from; None for a generator that nobody seeded.

        Raises:
            ArgumentError: No such metric, or search_on is something else.
            MissingDataError: The table does not have the metric.
            ArchError: Not an architecture of the space.
        """
        self.table = table
        self.space_name = table.space.name
        self._options: dict[str, Any] = {"metric": metric, "search_on": search_on}
        self._api = create(table, metric=metric, search_on=search_on)
        self._rng = np.random.default_rng() if rng is None else rng
        self._arch: Arch = table.space.arch(str(NUM_WIDTHS) * NUM_SLOTS if arch is None else arch)

    # -- the architecture ---------------------------------------------------------------------------------------

    @property
    def arch(self) -> str:
        """The architecture, seven digits."""
        return self.table.space.text(self._arch)

    def get_channels(self) -> list[int]:
        """Channels of the seven slots."""
        return list(self.table.space.channels(self._arch))

    def set_channels(self, channels: Any) -> None:
        """Become the architecture of seven channels."""
        self._arch = self.table.space.arch({"channels": list(channels)})

    def set_spec(self, spec: Any, dataset_api: Any = None) -> None:
        """Become an architecture that `get_arch_iterator` or `get_hash` gave."""
        self.set_channels(spec)

    def get_hash(self) -> tuple[int, ...]:
        """Channels as a tuple, to be a key."""
        return tuple(self.get_channels())

    def get_type(self) -> str:
        """Name of the space."""
        return self.space_name

    def get_arch_iterator(self, dataset_api: Any = None) -> Iterator[tuple[int, ...]]:
        """Channels of all architectures in index order."""
        space = self.table.space
        return map(tuple, space.channel_counts(space.archs()).tolist())

    def sample_random_architecture(self, dataset_api: Any = None) -> None:
        """Become an architecture drawn uniformly."""
        self._arch = self.table.space[int(self._rng.integers(len(self.table.space)))]

    def mutate(self, parent: SearchSpace, dataset_api: Any = None) -> None:
        """Become a parent whose width differs in one slot, drawn uniformly."""
        neighbours = _one_slot_away(parent._arch)
        self._arch = neighbours[int(self._rng.integers(len(neighbours)))]

    def get_nbhd(self, dataset_api: Any = None) -> list[SearchSpace]:
        """All architectures that differ in one slot, in random order. NASLib wraps each once more, as `model.arch`."""
        neighbours = _one_slot_away(self._arch)
        order = self._rng.permutation(len(neighbours)).tolist()
        return [SearchSpace(self.table, neighbours[i], rng=self._rng, **self._options) for i in order]

    # -- its results --------------------------------------------------------------------------------------------

    def query(
        self,
        metric: Any,
        dataset: str | None = None,
        path: Any = None,
        epoch: int = -1,
        full_lc: bool = False,
        dataset_api: Any = None,
        hp: int | str | None = None,
        is_random: bool | int = False,
    ) -> Any:
        """Look up a result of the architecture.

        Args:
            metric: A member of `Metric` or of NASLib's, or its name.
            dataset: That of the table, or None.
            path: Without effect.
            epoch: Epoch from 0, or -1 for the whole training.
            full_lc: The metric after every epoch, as a list of floats.
            dataset_api: Without effect.
            hp: Epochs of the recipe, or None.
            is_random: False for the mean over runs, True for a random run, a number for that run. A random run is drawn
                from Python's global generator, as NATS-Bench does.

        Returns:
            Accuracies in percent, losses in nats, seconds of training with its evaluations, FLOPs and parameters in
            millions, EPOCH as an integer; a list for full_lc. RAW and ALL are what the facade of NATS-Bench knows of
            the same epoch and HP is its cost info, both dicts.

        Raises:
            UnknownNameError: No such metric.
            ArgumentError: No such epoch or run, or a curve of what has none.
            MissingDataError: The table does not have it.
        """
        name = self._name(metric)
        index = self.table.space.index(self.arch)
        if name in _COSTS or name in ("EPOCH", "HP", "RAW", "ALL"):
            if full_lc:
                raise ArgumentError(f"{name} has no learning curve: allowed with full_lc are {', '.join(_KEYS)}")
            if name in ("RAW", "ALL"):
                return self._api.get_more_info(index, dataset, None if epoch == -1 else epoch, hp, is_random)
            costs = self._api.get_cost_info(index, dataset, hp)
            if name == "EPOCH":
                return epochs_of(self.table)
            return costs if name == "HP" else costs[_COSTS[name]]
        if not full_lc:
            return self._api.get_more_info(index, dataset, None if epoch == -1 else epoch, hp, is_random)[_KEYS[name]]
        return self._curve(name, index, dataset, hp, is_random)

    def _curve(self, name: str, index: int, dataset: str | None, hp: int | str | None, is_random: bool | int) -> Any:
        """A metric after every epoch, of one run or the mean over those that are there."""
        runs = np.flatnonzero(np.isfinite(self.table.cells(self._options["metric"])[index])).tolist()
        if not runs:
            self.table.accuracy(index, metric=self._options["metric"])  # which raises
        if isinstance(is_random, (bool, np.bool_)):
            runs = [random.choice(runs)] if is_random else runs
            is_random = runs[0] if is_random else False
        else:
            runs = [is_random]
        epochs = epochs_of(self.table)
        # asked first, because it refuses what is not there
        last = self._api.get_more_info(index, dataset, epochs - 1, hp, is_random)[_KEYS[name]]
        if name == "TRAIN_TIME":
            return [last * number / epochs for number in range(1, epochs + 1)]
        return self.table.curves(index)[_CURVES[name]][runs].mean(0, dtype=np.float64).tolist()

    def _name(self, metric: Any) -> str:
        """Name of a metric that has an answer."""
        name = str(getattr(metric, "name", metric))
        if name not in Metric.__members__:
            raise unknown_name("metric", name, Metric.__members__)
        if self._options["search_on"] == "test" and name in ("VAL_ACCURACY", "VAL_LOSS"):
            return name.replace("VAL", "TEST")
        if name in ("VAL_TIME", "TEST_TIME"):
            raise MissingDataError(f"table {self.table.name!r} has no {name}: TRAIN_TIME has the evaluations in it")
        return name


def _one_slot_away(arch: Arch) -> list[Arch]:
    """Architectures that differ in one slot, by however many steps; 21 of them."""
    return [
        arch[:slot] + (digit,) + arch[slot + 1 :]
        for slot in range(NUM_SLOTS)
        for digit in range(1, NUM_WIDTHS + 1)
        if digit != arch[slot]
    ]
