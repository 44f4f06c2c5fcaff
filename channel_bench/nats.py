"""The table behind the interface of NATS-Bench, for scripts that were written for its size search space.

    >>> from channel_bench.nats import create                    # was: from nats_bench import create
    >>> api = create("resnet")                                   # was: create(None, "sss", fast_mode=True)
    >>> api.get_more_info("256:192:256:512:512:256:512", "cifar10")["test-accuracy"]

Names, arguments, keys and units are those of NATS-Bench 1.7 (X. Dong et al., *NATS-Bench: Benchmarking NAS Algorithms
for Architecture Topology and Size*, 2021): an architecture is a text of channels with colons, "flops" and "params" are
in millions, times in seconds, `iepoch` counts from 0, and chance is Python's global generator, which such scripts seed.

What a table does not hold is a MissingDataError that says what is there instead, never another number under its name:

- There is no validation split: "valid-accuracy" is absent, and `simulate_train_eval` works only where `create` was told
  by `search_on="test"` that the search may see test accuracies.
- There is one recipe: `hp` is its number of epochs, or None. Results after a training of 12 or 90 epochs do not exist.
- There are no latencies and no weights; the published table has no times, losses, training accuracies or curves either.

Three things differ on purpose: the default is the mean over runs and not a random one, a whole number as `is_random` is
the number of a run, and an unknown architecture raises instead of having index -1.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArchError, ArgumentError, MissingDataError
from channel_bench.space import NUM_ARCHS, NUM_WIDTHS, FloatArray, Space, get_space, list_spaces
from channel_bench.table import Result, Table, load

MILLION = 1e6


def create(
    file_path_or_dict: str | Path | Table,
    search_space: str | None = None,
    fast_mode: bool = True,
    verbose: bool = False,
    *,
    metric: str = "best_test_acc",
    search_on: str | None = None,
    assumed_train_s: float | None = None,
) -> ChannelSize:
    """Open a table.

    Args:
        file_path_or_dict: Name of a space ("resnet") for its default table, path of a table file, or a Table.
        search_space: "sss", "size" or None: the first argument decides.
        fast_mode: Without effect; loading a table takes milliseconds.
        verbose: Without effect; nothing is printed.
        metric: What "test-accuracy" is: "best_test_acc" (best epoch) or "test_acc" (last epoch).
        search_on: "test" lets `simulate_train_eval` return test accuracies; None refuses.
        assumed_train_s: Seconds that a training is taken to last where the table has no times; None refuses.

    Raises:
        ArgumentError: The first argument is something else, or an option is not one of those.
        UnknownNameError: No such space.
        MissingDataError: The table is not on this machine, or does not have the metric.
        CorruptFileError: The file is damaged.
    """
    if search_space not in (None, "sss", "size"):
        raise ArgumentError(f"search space {search_space!r} does not exist here: allowed is only 'sss', the widths")
    table = file_path_or_dict
    if isinstance(table, (str, Path)):
        table = Table.read(table) if Path(table).suffix else load(str(table))
    if not isinstance(table, Table):
        raise ArgumentError(
            f"create({str(table)[:40]}, ...) does not say which table: its first argument is the name of a space"
            f" ({', '.join(list_spaces())}) or the path of a table file"
        )
    return ChannelSize(table, metric, search_on, assumed_train_s)


def search_space_info(space: str | Space) -> dict[str, Any]:
    """{"num_layers": 7, "candidates": [[64, 128, 192, 256], ...]}; slots differ, so candidates are a list per layer."""
    space = get_space(space)
    columns = space.channel_counts([(digit,) * len(space.max_channels) for digit in range(1, NUM_WIDTHS + 1)])
    return {"num_layers": len(space.max_channels), "candidates": columns.T.tolist()}


class Info(dict[str, Any]):
    """An answer: a dict that raises MissingDataError with a reason for a key that it does not have."""

    def __init__(self, values: dict[str, Any], reasons: dict[str, str]) -> None:
        """Keep the values; `reasons` maps how a key begins to why it is absent."""
        super().__init__(values)
        self._reasons = reasons

    def __missing__(self, key: str) -> Any:
        """Say why."""
        reason = next((reason for start, reason in self._reasons.items() if str(key).startswith(start)), "no such key")
        raise MissingDataError(f"{key!r} is missing: {reason}; available are {', '.join(sorted(self))}")


class ChannelSize:
    """What `create` returns: one table, asked the way of NATS-Bench.

    Every method takes an architecture as text of channels with colons, as an index, as an object with `tostr`, or in
    any encoding of `Space.arch`, and raises ArchError for anything else. `dataset` has to be that of the table and `hp`
    its number of epochs, or None; others raise MissingDataError.
    """

    search_space_name = "size"
    is_size = True
    is_topology = False

    def __init__(self, table: Table, metric: str, search_on: str | None, assumed_train_s: float | None) -> None:
        """See `create`."""
        if search_on not in (None, "test"):
            raise ArgumentError(
                f"search_on is {search_on!r}: allowed are 'test' and None, because there is no validation split"
            )
        if assumed_train_s is not None and not (math.isfinite(assumed_train_s) and assumed_train_s > 0):
            raise ArgumentError(f"assumed_train_s is {assumed_train_s!r}: allowed are finite numbers > 0 and None")
        self.table = table
        self._metric = metric
        self._search_on = search_on
        self._assumed_train_s = assumed_train_s
        self._columns: dict[str, FloatArray] = {metric: table.cells(metric)}
        self._used_time = 0.0

    # -- architectures ------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of architectures of the space."""
        return NUM_ARCHS

    def __repr__(self) -> str:
        """How many architectures have results, and the table."""
        return f"{type(self).__name__}({len(self.table)}/{NUM_ARCHS} architectures, table={self.table.name!r})"

    @property
    def meta_archs(self) -> list[str]:
        """All architectures in index order."""
        space = self.table.space
        return [":".join(map(str, row)) for row in space.channel_counts(space.archs()).tolist()]

    def __iter__(self) -> Iterator[str]:
        """All architectures in index order."""
        return iter(self.meta_archs)

    def arch(self, index: int) -> str:
        """Architecture of an index, such as "256:192:256:512:512:256:512"; negative indices are refused."""
        return ":".join(map(str, self.table.space.channels({"index": index})))

    __getitem__ = arch

    def random(self) -> int:
        """A random index, uniform over the space."""
        return random.randrange(NUM_ARCHS)

    def query_index_by_arch(self, arch: Any) -> int:
        """Index of an architecture."""
        if type(arch) is int and 0 <= arch < NUM_ARCHS:
            return arch
        if hasattr(arch, "tostr"):
            arch = arch.tostr()
        if isinstance(arch, str) and ":" in arch:
            parts = arch.split(":")
            if len(parts) == len(self._places):
                try:  # a search asks thousands of times in this form; what is not found is looked at in full below
                    return sum([places[part] for places, part in zip(self._places, parts, strict=True)])
                except KeyError:
                    pass
            if not all(part.isascii() and part.isdecimal() for part in parts):
                raise ArchError(f"{arch!r} is not an architecture: between colons, only channels are allowed")
            arch = {"channels": [int(part) for part in parts]}
        return int(self.table.space.index(self.table.space.arch(arch)))

    @functools.cached_property
    def _places(self) -> list[dict[str, int]]:
        """By slot: what the text of its channels adds to the index."""
        columns = search_space_info(self.table.space)["candidates"]
        return [
            {str(channels): digit * NUM_WIDTHS ** (len(columns) - 1 - slot) for digit, channels in enumerate(column)}
            for slot, column in enumerate(columns)
        ]

    # -- results ------------------------------------------------------------------------------------------------

    @property
    def full_train_epochs(self) -> int:
        """Epochs of the recipe, the one `hp` there is."""
        return int(self.table.info.recipe["epochs"])

    full_epochs_in_paper = full_train_epochs

    @property
    def avaliable_hps(self) -> list[str]:
        """The one `hp` there is; the spelling is NATS-Bench's."""
        return [str(self.full_train_epochs)]

    def get_more_info(
        self,
        index: Any,
        dataset: str | None = None,
        iepoch: int | None = None,
        hp: str | int | None = None,
        is_random: bool | int = False,
    ) -> Info:
        """Accuracy of an architecture, and what the table knows of the same epoch.

        Args:
            index: The architecture.
            dataset: That of the table, or None.
            iepoch: Epoch from 0, read off the learning curves; None for the accuracy that `create` was given as metric.
            hp: Epochs of the recipe, or None.
            is_random: False for the mean over runs, True for a random run, a number for that run.

        Returns:
            "test-accuracy" in percent, and "comment", which says of what. Where the table has them "train-all-time" and
            "train-per-time" in seconds; and where all runs are taken at one epoch, which with the best epoch they are
            not, "test-loss", "train-loss" in nats and "train-accuracy" in percent.

        Raises:
            ArgumentError: No such epoch or run.
            MissingDataError: No finished run of the architecture, or no learning curves.
        """
        index = self._index(index, dataset, hp)
        runs = self._runs(index, is_random)
        done, epochs = self.full_train_epochs, self.full_train_epochs
        named = {"test-accuracy": "test_acc", "test-loss": "test_loss", "train-accuracy": "train_acc"}
        named["train-loss"] = "train_loss"
        if iepoch is not None:
            if isinstance(iepoch, bool) or not isinstance(iepoch, (int, np.integer)) or not 0 <= iepoch < epochs:
                raise ArgumentError(f"iepoch is {iepoch!r}: allowed are 0..{epochs - 1} and None")
            curves = self.table.curves(index)
            values = {key: _mean_of(curves[name][:, iepoch], runs) for key, name in named.items()}
            done = int(iepoch) + 1
            meaning = f"test accuracy after epoch {done} of {epochs}, percent; mean over runs {runs}"
        else:
            is_mean = isinstance(is_random, (bool, np.bool_)) and not is_random
            meaning = self.table.meaning(self._metric, None if is_mean else runs[0])
            values = {"test-accuracy": self._mean(self._metric, index, runs)}
            if self._metric == "test_acc":
                values = {key: self._mean(name, index, runs) for key, name in named.items()}
        train_s = self._mean("train_s", index, runs)
        values |= {"train-all-time": train_s * done / epochs, "train-per-time": train_s / epochs}
        known = {key: value for key, value in values.items() if not math.isnan(value)}
        times = "; times are shares of a whole run's, evaluations included" if "train-all-time" in known else ""
        return Info({"comment": f"{self._source}: {meaning}{times}", **known}, self._reasons)

    def query_info_str_by_arch(self, arch: Any, hp: str | int | None = None) -> str:
        """Costs and accuracy of an architecture, as text."""
        index = self._index(arch, None, hp)
        costs, info = self.get_cost_info(index), self.get_more_info(index)
        return (
            f"{self.arch(index)}, index {index}\n"
            f"FLOPs {costs['flops']:.6f} M, parameters {costs['params']:.6f} M\n"
            f"test accuracy {info['test-accuracy']:.3f}%; {info['comment']}"
        )

    query_by_arch = query_info_str_by_arch

    def show(self, index: Any) -> None:
        """Print `query_info_str_by_arch`."""
        print(self.query_info_str_by_arch(index))

    def query_meta_info_by_index(self, arch_index: int, hp: str | int | None = None) -> Result:
        """`Table.query` of an architecture: every run, mean, std, rank, costs. It is not NATS-Bench's ArchResults."""
        return self.table.query(self._index(arch_index, None, hp), self._metric)

    def get_cost_info(self, index: Any, dataset: str | None = None, hp: str | int | None = None) -> Info:
        """Costs: "flops" and "params" in millions; where there are times, "T-train@total" and "T-train@epoch" (s)."""
        index = self._index(index, dataset, hp)
        space = self.table.space
        values = {"flops": space.flops(index) / MILLION, "params": space.params(index) / MILLION}
        there = np.flatnonzero(np.isfinite(self._cells("train_s")[index])).tolist()
        train_s = self._mean("train_s", index, there)
        if not math.isnan(train_s):
            values |= {"T-train@total": train_s, "T-train@epoch": train_s / self.full_train_epochs}
        return Info(values, self._reasons)

    def get_latency(self, index: Any, dataset: str | None = None, hp: str | int | None = None) -> float:
        """Raise MissingDataError: a table holds no latencies."""
        return float(self.get_cost_info(index, dataset, hp)["latency"])

    def get_net_config(self, index: Any, dataset: str | None = None) -> dict[str, Any]:
        """Facts of a network; `models.build_model(get_space(config["space"]), config["arch"], generator)` builds it."""
        index = self._index(index, dataset, None)
        space = self.table.space
        facts = {"name": f"channel-bench.{space.family}", "space": space.name, "arch": space.text(index)}
        return {**facts, "channels": self.arch(index), "num_classes": space.num_classes}

    # -- searching ----------------------------------------------------------------------------------------------

    @property
    def used_time(self) -> float:
        """Seconds that `simulate_train_eval` has counted since `reset_time`."""
        return self._used_time

    def reset_time(self) -> None:
        """Count from zero."""
        self._used_time = 0.0

    def simulate_train_eval(
        self,
        arch: Any,
        dataset: str | None = None,
        iepoch: int | None = None,
        hp: str | int | None = None,
        account_time: bool = True,
    ) -> tuple[float, None, float, float]:
        """What a search would see of one training: a random run.

        Args:
            arch: The architecture.
            dataset: That of the table, or None.
            iepoch: Epoch from 0 that the training stops after, read off the learning curves; None for all epochs.
            hp: Epochs of the recipe, or None.
            account_time: Whether its seconds count.

        Returns:
            Accuracy in percent, on the *test* images as `create(..., search_on="test")` has allowed; None for the
            latency; seconds of this training; all seconds counted so far.

        Raises:
            MissingDataError: `search_on` was not given; the table has no times, and `assumed_train_s` was not given.
        """
        if self._search_on is None:
            raise MissingDataError(
                f"{self._source} has no validation accuracy: all training images were trained on; create(...,"
                " search_on='test') searches on the test accuracy; say so wherever you report the result"
            )
        info = self.get_more_info(arch, dataset, iepoch, hp, is_random=True)
        seconds = info.get("train-all-time")
        if seconds is None:
            if self._assumed_train_s is None:
                raise MissingDataError(
                    f"{self._source} has no training times: create(..., assumed_train_s=SECONDS) assumes that"
                    " every training takes that long"
                )
            done = self.full_train_epochs if iepoch is None else iepoch + 1
            seconds = self._assumed_train_s * done / self.full_train_epochs
        if account_time:
            self._used_time += seconds
        return info["test-accuracy"], None, seconds, self._used_time

    def find_best(
        self,
        dataset: str | None = None,
        metric_on_set: str = "test",
        flop_max: float | None = None,
        param_max: float | None = None,
        hp: str | int | None = None,
        enforce_all: bool | None = None,
    ) -> tuple[int, float]:
        """The architecture of the best mean accuracy within budgets; of equal ones that with fewer FLOPs.

        Args:
            dataset: That of the table, or None.
            metric_on_set: "test" or "ori-test".
            flop_max: Most multiply-accumulates, in millions.
            param_max: Most parameters, in millions.
            hp: Epochs of the recipe, or None.
            enforce_all: Without effect; all architectures are looked at.

        Returns:
            Its index, and its accuracy in percent.

        Raises:
            ArgumentError: No trained architecture fits, or a budget is a plain count instead of millions.
            MissingDataError: There is no such set.
        """
        self._index(0, dataset, hp)
        if metric_on_set not in ("test", "ori-test"):
            raise MissingDataError(
                f"{self._source} has no accuracy on set {metric_on_set!r}: allowed are 'test', 'ori-test'"
            )
        space = self.table.space
        best = self.table.top(
            1,
            max_flops=_plain("flop_max", flop_max, space.flops("4444444")),
            max_params=_plain("param_max", param_max, space.params("4444444")),
            metric=self._metric,
        )[0]
        return best.index, best.mean

    # -- inside -------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _source(self) -> str:
        return f"table {self.table.name}, data set {self.table.info.dataset}"

    @functools.cached_property
    def _reasons(self) -> dict[str, str]:
        """Why a key is absent, by how it begins."""
        return {
            "valid": f"{self._source} has no validation split",
            "latency": "a table holds no latencies, 'channel-bench latency' measures them",
            "train-all": f"{self._source} has no training times",
            "train-per": f"{self._source} has no training times",
            "T-": f"{self._source} has no such times",
            "t": f"{self._source} has none that belongs to the same epoch as this test accuracy",
        }

    def _index(self, arch: Any, dataset: str | None, hp: str | int | None) -> int:
        """Index of an architecture, after data set and epochs were found to be the table's."""
        index = self.query_index_by_arch(arch)
        if dataset not in (None, self.table.info.dataset):
            raise MissingDataError(f"{self._source} has no results on {dataset!r}, and no validation split")
        if hp is not None and str(hp).lstrip("0") != str(self.full_train_epochs):
            raise MissingDataError(
                f"{self._source} has no results of hp={hp!r}: all networks were trained for {self.full_train_epochs}"
                f" epochs, hp='{self.full_train_epochs}' or None"
            )
        return index

    def _runs(self, index: int, is_random: bool | int) -> list[int]:
        """Finished runs that an answer is the mean of."""
        row = self._cells(self._metric)[index].tolist()
        there = [run for run, accuracy in enumerate(row) if math.isfinite(accuracy)]
        if not there:
            self.table.accuracy(index, metric=self._metric)  # which raises
        if isinstance(is_random, (bool, np.bool_)):
            return [random.choice(there)] if is_random else there
        if is_random not in there:
            raise ArgumentError(f"is_random is {is_random!r}: allowed are False, True and the runs {there}")
        return [int(is_random)]

    def _mean(self, name: str, index: int, runs: list[int]) -> float:
        """Mean of a column over runs; NaN where the table has nothing."""
        return _mean_of(self._cells(name)[index], runs)

    def _cells(self, name: str) -> FloatArray:
        """A column of the table, float64 (16384, num_runs); NaN where missing."""
        if name not in self._columns:
            self._columns[name] = self.table.column(name)
        return self._columns[name]


def _mean_of(values: npt.NDArray[Any], runs: list[int]) -> float:
    """Mean over some runs in float64, NaN over none; `mean` would take three times as long for its checks."""
    chosen = values if len(runs) == len(values) else values[runs]
    return float(np.add.reduce(chosen, dtype=np.float64)) / len(runs) if runs else math.nan


def _plain(name: str, millions: float | None, widest: int) -> float | None:
    """A budget in millions as a count."""
    if millions is None:
        return None
    if isinstance(millions, bool) or not isinstance(millions, (int, float, np.number)):
        raise ArgumentError(f"{name} is {millions!r}: allowed are numbers, in millions")
    if 100 * max(1.0, widest / MILLION) < millions < math.inf:
        raise ArgumentError(
            f"{name} is {millions:,.15g} millions, the widest architecture has {widest / MILLION:.6g}: pass millions"
        )
    return round(float(millions) * MILLION, 3)  # a product of floats may miss the whole number that is meant by less
