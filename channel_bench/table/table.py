"""The table: the trained truth of a space, in memory, with the questions a researcher asks of it.

    >>> table = load("resnet")                      # needs `channel-bench download` once
    >>> table.accuracy("4344424")                   # percent, mean over runs
    >>> table.accuracy(["4344424", "1111111"])      # a batch in, an array out
    >>> table.query("4344424")                      # accuracy of every run, mean, std, rank, costs
    >>> table.top(10, max_flops=500e6)
    >>> table.pareto("flops")

Which accuracy: `best_test_acc`, the best test accuracy over all epochs of a run, is what the published table holds,
and the default everywhere. Tables built by this package also have `test_acc`, after the last epoch. Missing is
missing: an architecture without a finished run raises, nothing is imputed.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from channel_bench.errors import ArgumentError, CorruptFileError, MissingDataError, printable
from channel_bench.record import ACCURACY_METRICS, TableInfo, column_values, valid_rows
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, NUM_WIDTHS, FloatArray, IntArray, Space, space_of_file
from channel_bench.table import shipped
from channel_bench.table.curves import Curves, read_curves
from channel_bench.table.file import read_table_file
from channel_bench.table.noise import num_runs, run_means, run_stds
from channel_bench.table.ranks import ACCURACY_DECIMALS, ranks, rounded

if TYPE_CHECKING:
    from channel_bench.latency import LatencyModel

COSTS = ("flops", "params")


@dataclass(frozen=True, repr=False)
class Result:
    """What the table knows about one architecture."""

    arch: str
    """Seven digits."""
    index: int
    channels: tuple[int, ...]
    flops: int
    """Multiply-accumulates of one image."""
    params: int
    metric: str
    """Which accuracy the next four are."""
    accuracies: tuple[float | None, ...]
    """Percent, one per run of the table; None where this run is missing or diverged."""
    mean: float
    """Percent, over the runs that are there."""
    std: float | None
    """Sample standard deviation over those runs (ddof=1); None for a single run."""
    rank: int
    """1 is the best; architectures whose means are equal to 0.0001 points share the best rank among them."""
    num_ranked: int
    """How many architectures the rank is among."""

    def shown(self) -> dict[str, Any]:
        """All fields by name as JSON and CSV show them: accuracies to 0.0001 points, further decimals are noise."""
        return dataclasses.asdict(self) | {
            "accuracies": tuple(None if value is None else _shown(value) for value in self.accuracies),
            "mean": _shown(self.mean),
            "std": None if self.std is None else _shown(self.std),
        }

    def __repr__(self) -> str:
        """Accuracy, rank and costs on one line; every field is an attribute."""
        spread = "" if self.std is None else f" +- {self.std:.3f}"
        return (
            f"<Result {self.arch}: {self.metric} {self.mean:.3f}{spread}, rank {self.rank:,} of {self.num_ranked:,},"
            f" {self.flops:,} MACs, {self.params:,} parameters>"
        )

    def _repr_html_(self) -> str:
        """The architecture for a notebook."""
        runs = ", ".join("-" if value is None else f"{value:.2f}" for value in self.accuracies)
        facts = {
            "Architecture": f"{self.arch} (index {self.index:,})",
            "Channels": "-".join(map(str, self.channels)),
            f"{self.metric}, %": f"{self.mean:.3f}" + ("" if self.std is None else f" (std {self.std:.3f})"),
            "Runs, %": runs,
            "Rank": f"{self.rank:,} of {self.num_ranked:,}",
            "FLOPs (MACs)": f"{self.flops:,}",
            "Parameters": f"{self.params:,}",
        }
        return _html_facts(facts)


class Table:
    """Accuracies of the trained architectures of a space; get one from `load` or `Table.read`."""

    def __init__(self, arrow: pa.Table, info: TableInfo, path: Path | None = None) -> None:
        """Index the rows.

        Args:
            arrow: Columns of record.SCHEMA in canonical order, at most one row per (arch, run).
            info: Provenance.
            path: File it came from; curves are looked for beside it.

        Raises:
            CorruptFileError: Rows are duplicate, out of order or not architectures of the space, or the space is
                another.
            UnknownNameError: The space is not known here.
        """
        self.info = info
        self.path = path
        self.arrow = arrow
        shown = str(path or info.name)
        self.space: Space = space_of_file(f"table {shown!r}", "trained with", info.space, info.space_fingerprint)
        try:
            self._rows = self.space.index(_texts(arrow.column("arch")))
        except ArgumentError as error:
            raise CorruptFileError(f"table {shown!r}: {error}") from None
        self._runs = column_values(arrow.column("run"))
        if len(self._rows) == 0:
            raise CorruptFileError(f"table {shown!r} has no rows")
        # In canonical order the keys ascend strictly; so one comparison also finds duplicates.
        if self._runs.min() < 0 or (np.diff(self._rows * 2**16 + self._runs) <= 0).any():
            raise CorruptFileError(f"table {shown!r} has runs that are duplicate, negative or out of order")
        self.num_runs = int(self._runs.max()) + 1
        self._cells: dict[str, FloatArray] = {}
        self._means: dict[tuple[str, int | None], FloatArray] = {}
        self._all_ranks: dict[str, IntArray] = {}
        self._meanings: dict[str, str] = {}
        self._read_curves: Curves | None = None

    # -- reading ------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | Path) -> Table:
        """Read a table file and check its schema, keys, costs and content hash.

        Raises:
            MissingDataError: There is no such file.
            StorageError: The system does not let it be read.
            CorruptFileError: The file is not a table, or not the one that was written.
        """
        path = Path(path)
        arrow, info = read_table_file(path)
        table = cls(arrow, info, path)
        table._check_costs()
        return table

    def _check_costs(self) -> None:
        for name in COSTS:
            expected = getattr(self.space, name)()[self._rows]
            wrong = np.flatnonzero(column_values(self.arrow.column(name)) != expected)
            if wrong.size:
                row = int(wrong[0])
                raise CorruptFileError(
                    f"table {str(self.path)!r}: {name} of {self.space.text(int(self._rows[row]))} is"
                    f" {self.arrow.column(name)[row]}, but the closed form gives {expected[row]}"
                )

    def __getstate__(self) -> dict[str, Any]:
        """What a copy in another process gets: all but the learning curves, which it reads when it is asked."""
        return self.__dict__ | {"_read_curves": None}

    # -- accuracies ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the table, as `load` takes it."""
        return self.info.name

    def __len__(self) -> int:
        """Number of architectures that have a finished run."""
        return int(np.isfinite(self._values("best_test_acc", None)).sum())

    def __repr__(self) -> str:
        """Space, table, size."""
        runs = f"{self.num_runs} run" + "s" * (self.num_runs != 1)
        return f"<Table {self.name!r} of space {self.space.name!r}: {len(self)} architectures, {runs}>"

    def _repr_html_(self) -> str:
        """The table for a notebook: where it is from and how much it holds."""
        info = self.info
        facts = {
            "Space": self.space.name,
            "Table": self.name,
            "Data set": info.dataset,
            "Recipe": f"{info.recipe['name']}, {info.recipe['epochs']} epochs",
            "Architectures": f"{len(self):,} of {NUM_ARCHS:,}, at most {self.num_runs} runs of each",
            "Accuracy": info.accuracy,
            "Source": info.source,
        }
        return _html_facts(facts)

    def accuracy(self, archs: Any, run: int | None = None, metric: str = "best_test_acc") -> Any:
        """Accuracy of an architecture, or of each in a batch.

        Args:
            archs: One architecture or a batch, in any encoding of `Space.arch`.
            run: One run, or None for the mean over runs.
            metric: "best_test_acc" (best epoch) or "test_acc" (last epoch).

        Returns:
            Percent: a float, or float64 (num_archs,) for a batch.

        Raises:
            ArchError: Not an architecture of the space.
            ArgumentError: No such run or metric.
            MissingDataError: The table has no finished run of an architecture, or not this metric.
        """
        values = self._values(metric, run)
        index = self.space.index(archs)
        value = values[index]
        if np.isnan(value).any() if isinstance(index, np.ndarray) else value != value:
            first = int(index[np.isnan(value)][0]) if isinstance(index, np.ndarray) else index
            raise MissingDataError(
                f"table {self.name!r} has no finished {'run' if run is None else f'run {run}'} of architecture"
                f" {self.space.text(first)}: it holds {len(self)} of {NUM_ARCHS} architectures"
            )
        return value if isinstance(index, np.ndarray) else float(value)

    def accuracies(self, run: int | None = None, metric: str = "best_test_acc") -> FloatArray:
        """Accuracy of every architecture of the space, percent, float64 (16384,) in index order; NaN where missing."""
        return self._values(metric, run).copy()

    def cells(self, metric: str = "best_test_acc") -> FloatArray:
        """Accuracy of every architecture and run, percent, float64 (16384, num_runs) in index order; NaN where missing.

        Raises:
            ArgumentError: No such metric.
            MissingDataError: This table does not have the metric.
        """
        if metric not in self._cells:
            if metric not in ACCURACY_METRICS:
                raise ArgumentError(f"metric {metric!r} is not one of {', '.join(ACCURACY_METRICS)}")
            column = self.arrow.column(metric)
            if column.null_count == len(column):
                raise MissingDataError(f"table {self.name!r} has no {metric}: it holds the {self.info.accuracy}")
            self._cells[metric] = self.column(metric)
        return self._cells[metric]

    def column(self, name: str) -> FloatArray:
        """A column of numbers by architecture and run, float64 (16384, num_runs) in index order; NaN where missing.

        Args:
            name: A column of record.SCHEMA that holds numbers, such as "train_s".
        """
        column = self.arrow.column(name)
        cells = np.full((NUM_ARCHS, self.num_runs), np.nan)
        cells[self._rows, self._runs] = np.where(valid_rows(column), column_values(column), np.nan)
        cells.flags.writeable = False
        return cells

    def stds(self, metric: str = "best_test_acc") -> FloatArray:
        """Standard deviation over the runs of every architecture (ddof=1), percentage points, float64 (16384,).

        NaN below two runs. Errors as `cells`.
        """
        return run_stds(self.cells(metric))

    def _values(self, metric: str, run: int | None) -> FloatArray:
        """Read-only float64 (16384,): one run, or the mean over those that are there."""
        key = (metric, run)
        values = self._means.get(key)
        if values is None:
            cells = self.cells(metric)
            if run is None:
                values = run_means(cells)
            else:
                if not isinstance(run, (int, np.integer)) or not 0 <= run < self.num_runs:
                    raise ArgumentError(f"run {run!r} is not one of {', '.join(map(str, range(self.num_runs)))}")
                values = cells[:, run].copy()
            values.flags.writeable = False
            self._means[key] = values
        return values

    def _ranked(self, metric: str) -> FloatArray:
        """Means to 0.0001 points, which brings back ties that single precision broke (published.py)."""
        return rounded(self._values(metric, None))

    def _ranks(self, metric: str) -> IntArray:
        """Ranks of all means, int64 (16384,), sorted once for many questions; 0 where there is none."""
        if metric not in self._all_ranks:
            self._all_ranks[metric] = ranks(self._values(metric, None))
        return self._all_ranks[metric]

    def meaning(self, metric: str = "best_test_acc", run: int | None = None) -> str:
        """What an accuracy of this table is, in words, for everything that shows one."""
        what = self.info.accuracy if metric == "best_test_acc" else "test accuracy after the last epoch, percent"
        if run is not None:
            return f"{what}; run {run}"
        if metric not in self._meanings:
            counts = num_runs(self.cells(metric))
            num_fewer = int(((counts > 0) & (counts < self.num_runs)).sum())
            fewer = f", of {num_fewer:,} architectures fewer" if num_fewer else ""
            self._meanings[metric] = f"{what}; mean over {self.num_runs} runs{fewer}"
        return self._meanings[metric]

    # -- questions ----------------------------------------------------------------------------------------------

    def query(self, arch: Any, metric: str = "best_test_acc") -> Result:
        """Everything the table knows about one architecture.

        Raises:
            ArchError: Not an architecture of the space.
            MissingDataError: The table has no finished run of it.
        """
        text = self.space.text(arch)
        index = self.space.index(text)
        mean = self.accuracy(text, metric=metric)
        ranked = self._ranks(metric)
        runs = self.cells(metric)[index]
        there = runs[np.isfinite(runs)]
        return Result(
            arch=text,
            index=index,
            channels=self.space.channels(text),
            flops=self.space.flops(text),
            params=self.space.params(text),
            metric=metric,
            accuracies=tuple(None if math.isnan(value) else value for value in runs.tolist()),
            mean=mean,
            std=float(there.std(ddof=1)) if len(there) > 1 else None,
            rank=int(ranked[index]),
            num_ranked=self._num_ranked(metric),
        )

    def _num_ranked(self, metric: str) -> int:
        """Architectures that have a mean."""
        return int(np.count_nonzero(self._ranks(metric)))

    def rank(self, arch: Any, metric: str = "best_test_acc") -> int:
        """Rank by mean accuracy: 1 + the number of architectures that are better by 0.0001 points or more."""
        text = self.space.text(arch)
        self.accuracy(text, metric=metric)  # refuses what was not trained
        return int(self._ranks(metric)[self.space.index(text)])

    def top(
        self,
        k: int = 10,
        *,
        max_flops: float | None = None,
        max_params: float | None = None,
        max_memory: float | None = None,
        max_latency: float | None = None,
        latency: LatencyModel | FloatArray | None = None,
        slots: Mapping[int, int] | None = None,
        metric: str = "best_test_acc",
    ) -> list[Result]:
        """The most accurate architectures within budgets, or with given widths.

        Args:
            k: At most how many, >= 1.
            max_flops: Largest allowed multiply-accumulates.
            max_params: Largest allowed number of parameters.
            max_memory: Largest allowed number of bytes of an inference (`Space.memory`).
            max_latency: Largest allowed latency, in the unit of `latency`: milliseconds for a model.
            latency: A model (`latency.load_latency`), or float (16384,) in index order; a table holds none, so it comes
                from your own measurement.
            slots: Digits that slots must have: {0: 2} lists only architectures of digit 2 in slot 0.
            metric: The accuracy to rank by.

        Returns:
            Best first; of equal means the one with fewer FLOPs first.

        Raises:
            ArgumentError: k < 1, max_latency without latency, latencies that are invalid or for another space,
                no such slot or digit, or no trained architecture fits.
        """
        if not isinstance(k, (int, np.integer)) or k < 1:
            raise ArgumentError(f"cannot list {k!r} architectures: allowed are 1 and above")
        if (max_latency is None) != (latency is None):
            raise ArgumentError("max_latency and latency go together: a table holds no latencies")
        values = self._ranked(metric)
        flops = self.space.flops()
        fits = np.isfinite(values) & self._having(slots or {})
        if not fits.any():
            raise ArgumentError(f"no trained architecture has {_listed(slots or {})}")
        budgets = [
            ("flops", flops, max_flops),
            ("params", self.space.params(), max_params),
            ("memory", self.space.memory(), max_memory),
            ("latency", None if latency is None else self._latencies(latency), max_latency),
        ]
        for name, costs, most in budgets:
            if most is None or costs is None:
                continue
            if isinstance(most, bool) or not isinstance(most, (int, float, np.number)):
                raise ArgumentError(f"max_{name} is {most!r}: allowed are numbers")
            if np.shape(costs) != (NUM_ARCHS,):
                raise ArgumentError(f"{name} has shape {np.shape(costs)}: allowed is ({NUM_ARCHS},), in index order")
            if not (fits & (costs <= most)).any():
                given = f" with {_listed(slots)}" if slots else ""
                raise ArgumentError(
                    f"no trained architecture{given} has {name} <= {most:,.15g}: the least is {costs[fits].min():,}"
                )
            fits &= costs <= most
        chosen = np.flatnonzero(fits)
        order = np.lexsort((flops[chosen], -values[chosen]))
        return [self.query(int(index), metric) for index in chosen[order][:k]]

    def _having(self, slots: Mapping[int, int]) -> npt.NDArray[np.bool_]:
        """Which architectures have given digits in given slots, bool (16384,)."""
        having = np.ones(NUM_ARCHS, bool)
        for slot, digit in slots.items():
            for what, number, least, most in (("slot", slot, 0, NUM_SLOTS - 1), ("digit", digit, 1, NUM_WIDTHS)):
                whole = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
                if not whole or not least <= number <= most:
                    raise ArgumentError(f"{what} {number!r} does not exist: allowed are {least}..{most}")
            having &= self.space.archs()[:, slot] == digit
        return having

    def _latencies(self, latency: LatencyModel | FloatArray) -> FloatArray:
        """float64 (16384,) of a model or an array; the shape of an array is left to `top`."""
        from channel_bench.latency import LatencyModel

        if isinstance(latency, LatencyModel):
            if latency.space != self.space:
                raise ArgumentError(
                    f"latencies are for space {latency.space.name!r}, the table is for {self.space.name!r}"
                )
            return np.asarray(latency.predict())
        try:
            values = np.asarray(latency, np.float64)
        except (TypeError, ValueError):
            raise ArgumentError("latency is neither a LatencyModel nor numbers in index order") from None
        if np.isnan(values).any():
            raise ArgumentError(f"latency has {int(np.isnan(values).sum())} values that are not numbers")
        return values

    def pareto(self, cost: str = "flops", metric: str = "best_test_acc") -> list[Result]:
        """Architectures that no other beats in both cost and mean accuracy, cheapest first.

        Args:
            cost: "flops" or "params".
            metric: The accuracy.

        Raises:
            ArgumentError: No such cost.
        """
        if cost not in COSTS:
            raise ArgumentError(f"cost {cost!r} is not one of {', '.join(COSTS)}")
        costs = getattr(self.space, cost)()
        values = self._ranked(metric)
        trained = np.flatnonzero(np.isfinite(values))
        order = trained[np.lexsort((-values[trained], costs[trained]))]
        best_so_far = np.maximum.accumulate(np.concatenate([[-np.inf], values[order][:-1]]))
        return [self.query(int(index), metric) for index in order[values[order] > best_so_far]]

    def frame(self, metric: str = "best_test_acc", *, arch: str = "text") -> Any:
        """One row per trained architecture in index order, as a pandas DataFrame to look at and to merge.

        Columns: arch, slot0 .. slot6 (channels), flops, params, run0 .. (percent), mean, std (ddof=1), rank. Accuracies
        are given to 0.0001 points, as they are shown; `cells` and `accuracies` have every bit.

        pandas reads a CSV file's column of architectures as integers and refuses to merge them with texts ("You are
        trying to merge on str and int64 columns"). Either merge with ``frame(arch="int")``, or read the file with
        ``pd.read_csv(path, dtype={"arch": str})``.

        Args:
            metric: The accuracy.
            arch: What the column arch holds: "text" ("4344424") or "int" (4344424).

        Raises:
            ArgumentError: arch is something else, or no such metric.
            MissingDataError: The table does not have the metric.
        """
        import pandas as pd

        if arch not in ("text", "int"):
            raise ArgumentError(f"arch is {arch!r}: allowed are 'text' and 'int'")
        values = self._values(metric, None)
        trained = np.flatnonzero(np.isfinite(values))
        texts = self.space.texts()
        frame = pd.DataFrame({"arch": [texts[index] if arch == "text" else int(texts[index]) for index in trained]})
        channels = self.space.channel_counts(self.space.archs()[trained])
        for slot in range(channels.shape[1]):
            frame[f"slot{slot}"] = channels[:, slot]
        for name in COSTS:
            frame[name] = getattr(self.space, name)()[trained]
        runs = [f"run{run}" for run in range(self.num_runs)]
        cells = self.cells(metric)[trained]
        frame[runs] = rounded(cells)
        frame["mean"] = rounded(values[trained])
        frame["std"] = rounded(run_stds(cells))
        frame["rank"] = self._ranks(metric)[trained]
        return frame

    def curves(self, arch: Any) -> dict[str, npt.NDArray[np.float32]]:
        """Learning curves of one architecture.

        Returns:
            float32 (num_runs, num_epochs) per name of record.CURVE_METRICS, losses in nats and accuracies in percent;
            NaN where a run is missing or after it diverged.

        Raises:
            MissingDataError: The table has no curves, or not of this architecture.
            CorruptFileError: The file of curves is damaged or belongs to another table.
        """
        index = self.space.index(arch if type(arch) is int else self.space.arch(arch))
        found = self._curves().of(index)
        if found is None:
            raise MissingDataError(
                f"table {self.name!r} has no learning curves of architecture {self.space.text(index)}"
            )
        return {name: values.copy() for name, values in found.items()}

    def all_curves(self) -> tuple[list[str], dict[str, npt.NDArray[np.float32]]]:
        """Learning curves of every architecture that has some.

        Returns:
            The architectures as text, ascending, and float32 (num_archs, num_runs, num_epochs), read-only, per name of
            CURVE_METRICS.

        Raises:
            MissingDataError: The table has no curves.
            CorruptFileError: The file of curves is damaged or belongs to another table.
        """
        curves = self._curves()
        return list(curves.archs), dict(curves.values)

    def _curves(self) -> Curves:
        """All curves, read and checked at the first question.

        Threads that ask first at the same time each read them, and get the same.
        """
        if self._read_curves is None:
            if self.info.curves_file is None or self.path is None:
                raise MissingDataError(
                    f"table {self.name!r} has no learning curves: {self.info.source}; the tables of"
                    f" {', '.join(shipped.SPACES)} have some, and so has every table that you build"
                )
            self._read_curves = read_curves(
                self.path.parent / self.info.curves_file, self.info, self.num_runs, self.space
            )
        return self._read_curves


def _texts(column: pa.ChunkedArray) -> Any:
    """Architectures of a column as digits, int8 (num_rows, 7), where all texts have seven characters; else as texts.

    A file of 49,152 rows is read this way; as Python's texts they would take ten times as long.
    """
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    _, offsets, text = array.buffers()
    ends = np.frombuffer(offsets or b"", np.int32)[array.offset : array.offset + len(array) + 1]
    if text is None or array.null_count or (np.diff(ends) != NUM_SLOTS).any():
        return column.to_pylist()
    codes = np.frombuffer(text, np.uint8)[ends[0] : ends[-1]].reshape(-1, NUM_SLOTS)
    in_range = (codes > ord("0")) & (codes <= ord("0") + NUM_WIDTHS)
    return (codes - ord("0")).astype(np.int8) if in_range.all() else column.to_pylist()


def _shown(accuracy: float) -> float:
    """An accuracy to the decimals that carry information: 94.05 and not the 94.04999542236328 of single precision."""
    return round(accuracy, ACCURACY_DECIMALS)


def _listed(slots: Mapping[int, int]) -> str:
    return ", ".join(f"digit {digit} in slot {slot}" for slot, digit in slots.items()) or "a finished run"


def _html_facts(facts: Mapping[str, object]) -> str:
    """Names and values as a small table for a notebook; texts of files are made harmless."""
    rows = "".join(
        f'<tr><th style="text-align: left">{html.escape(name)}</th>'
        f'<td style="text-align: left">{html.escape(printable(str(value)))}</td></tr>'
        for name, value in facts.items()
    )
    return f"<table>{rows}</table>"
