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

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from channel_bench.errors import (
    ArgumentError,
    CorruptFileError,
    MissingDataError,
    StorageError,
    os_reason,
)
from channel_bench.record import (
    ACCURACY_METRICS,
    CURVE_METRICS,
    SCHEMA,
    TableInfo,
    column_values,
    content_hash,
    read_info,
    valid_rows,
)
from channel_bench.space import NUM_ARCHS, FloatArray, IntArray, Space, get_space
from channel_bench.table.noise import num_runs, run_means, run_stds
from channel_bench.table.ranks import ranks, rounded

if TYPE_CHECKING:
    from channel_bench.latency import LatencyModel

COSTS = ("flops", "params")


@dataclass(frozen=True)
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
        """
        self.space: Space = get_space(info.space)
        self.info = info
        self.path = path
        self.arrow = arrow
        shown = str(path or info.name)
        if self.space.fingerprint != info.space_fingerprint:
            raise CorruptFileError(f"table {shown!r} was trained with other networks under the name {info.space!r}")
        try:
            self._rows = self.space.index(arrow.column("arch").to_pylist())
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

    # -- reading ------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | Path) -> Table:
        """Read a table file and check its schema, keys, costs and content hash.

        Raises:
            MissingDataError: There is no such file.
            CorruptFileError: The file is not a table, or not the one that was written.
        """
        path = Path(path)
        try:
            arrow = pq.ParquetFile(path).read(use_threads=False)
        except FileNotFoundError:
            raise MissingDataError(f"table file {str(path)!r} does not exist") from None
        except PermissionError as error:
            raise StorageError(f"cannot read table {str(path)!r}: {os_reason(error)}") from None
        except (pa.ArrowException, OSError) as error:
            known = isinstance(error, OSError) and error.strerror
            reason = error.strerror if known else "not a Parquet file, or damaged"
            raise CorruptFileError(f"cannot read table {str(path)!r}: {reason}") from None
        info = read_info(arrow.schema, str(path))
        there = {field.name: str(field.type) for field in arrow.schema}
        wanted = {field.name: str(field.type) for field in SCHEMA}
        if there != wanted:
            differ = [f"{name} is {there.get(name, 'missing')}" for name in wanted if there.get(name) != wanted[name]]
            differ += [f"{name} is unknown" for name in there if name not in wanted]
            raise CorruptFileError(
                f"table {str(path)!r} has columns that differ from this version's: {'; '.join(differ)}"
            )
        if len(arrow) != info.num_rows:
            raise CorruptFileError(f"table {str(path)!r} has {len(arrow)} rows, but {info.num_rows} were written")
        if content_hash(arrow) != info.content_sha256:
            raise CorruptFileError(f"table {str(path)!r} was changed after it was written: its content hash differs")
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
        return f"<Table {self.name!r} of space {self.space.name!r}: {len(self)} architectures, {self.num_runs} runs>"

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
            cells = np.full((NUM_ARCHS, self.num_runs), np.nan)
            cells[self._rows, self._runs] = np.where(valid_rows(column), column_values(column), np.nan)
            cells.flags.writeable = False
            self._cells[metric] = cells
        return self._cells[metric]

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
        counts = num_runs(self.cells(metric))
        num_fewer = int(((counts > 0) & (counts < self.num_runs)).sum())
        fewer = f", of {num_fewer:,} architectures fewer" if num_fewer else ""
        return f"{what}; mean over {self.num_runs} runs{fewer}"

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
            rank=self.rank(text, metric),
            num_ranked=int(np.isfinite(self._values(metric, None)).sum()),
        )

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
        max_latency: float | None = None,
        latency: LatencyModel | FloatArray | None = None,
        metric: str = "best_test_acc",
    ) -> list[Result]:
        """The most accurate architectures within budgets.

        Args:
            k: At most how many, >= 1.
            max_flops: Largest allowed multiply-accumulates.
            max_params: Largest allowed number of parameters.
            max_latency: Largest allowed latency, in the unit of `latency`: milliseconds for a model.
            latency: A model (`latency.load_latency`), or float (16384,) in index order; a table holds none, so it comes
                from your own measurement.
            metric: The accuracy to rank by.

        Returns:
            Best first; of equal means the one with fewer FLOPs first.

        Raises:
            ArgumentError: k < 1, max_latency without latency, latencies of another space or none, or no trained
                architecture fits the budgets.
        """
        if not isinstance(k, (int, np.integer)) or k < 1:
            raise ArgumentError(f"cannot list {k!r} architectures: allowed are 1 and above")
        if (max_latency is None) != (latency is None):
            raise ArgumentError("max_latency and latency go together: a table holds no latencies")
        values = self._ranked(metric)
        flops = self.space.flops()
        fits = np.isfinite(values)
        budgets = [
            ("flops", flops, max_flops),
            ("params", self.space.params(), max_params),
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
                raise ArgumentError(
                    f"no trained architecture has {name} <= {most:,.15g}: the least is {costs[fits].min():,}"
                )
            fits &= costs <= most
        chosen = np.flatnonzero(fits)
        order = np.lexsort((flops[chosen], -values[chosen]))
        return [self.query(int(index), metric) for index in chosen[order][:k]]

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

    def frame(self, metric: str = "best_test_acc") -> Any:
        """One row per trained architecture in index order, as a pandas DataFrame.

        Columns: arch (text), slot0 .. slot6 (channels), flops, params, run0 .. (percent), mean, std (ddof=1), rank.
        """
        import pandas as pd

        values = self._values(metric, None)
        trained = np.flatnonzero(np.isfinite(values))
        texts = self.space.texts()
        frame = pd.DataFrame({"arch": [texts[index] for index in trained]})
        channels = self.space.channel_counts(self.space.archs()[trained])
        for slot in range(channels.shape[1]):
            frame[f"slot{slot}"] = channels[:, slot]
        for name in COSTS:
            frame[name] = getattr(self.space, name)()[trained]
        runs = [f"run{run}" for run in range(self.num_runs)]
        frame[runs] = self.cells(metric)[trained]
        frame["mean"] = values[trained]
        frame["std"] = frame[runs].std(axis=1, ddof=1)
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
        text = self.space.text(arch)
        with self._curves_file() as file:
            row = int(np.searchsorted(file["arch"][:], text.encode()))
            if row == len(file["arch"]) or file["arch"][row] != text.encode():
                raise MissingDataError(f"table {self.name!r} has no learning curves of architecture {text}")
            return {metric: file[metric][row] for metric in CURVE_METRICS}

    def all_curves(self) -> tuple[list[str], dict[str, npt.NDArray[np.float32]]]:
        """Learning curves of every architecture that has some.

        Returns:
            The architectures as text, ascending, and float32 (num_archs, num_runs, num_epochs) per name of
            CURVE_METRICS.

        Raises:
            MissingDataError: The table has no curves.
            CorruptFileError: The file of curves is damaged or belongs to another table.
        """
        with self._curves_file() as file:
            archs = [text.decode() for text in file["arch"][:].tolist()]
            return archs, {metric: file[metric][:] for metric in CURVE_METRICS}

    @contextlib.contextmanager
    def _curves_file(self) -> Iterator[Any]:
        """The open HDF5 file of curves, with its shapes checked."""
        import h5py

        if self.info.curves_file is None or self.path is None:
            raise MissingDataError(f"table {self.name!r} has no learning curves: {self.info.source}")
        path = self.path.parent / self.info.curves_file
        try:
            with h5py.File(path, "r") as file:
                if file.attrs["content_sha256"] != self.info.content_sha256:
                    raise CorruptFileError(
                        f"curves {str(path)!r} belong to another table than {str(self.path)!r}: collect again"
                    )
                shape = (len(file["arch"]), self.num_runs, self.info.recipe["epochs"])
                for metric in CURVE_METRICS:
                    if file[metric].shape != shape or file[metric].dtype != np.float32:
                        raise CorruptFileError(
                            f"curves {str(path)!r}: {metric} is {file[metric].dtype} {file[metric].shape}, it should be"
                            f" float32 {shape}"
                        )
                yield file
        except FileNotFoundError:
            raise MissingDataError(f"curves file {str(path)!r} does not exist") from None
        except (OSError, KeyError, TypeError, AttributeError) as error:
            raise CorruptFileError(f"cannot read curves {str(path)!r}: {error}") from None
