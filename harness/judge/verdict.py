"""The verdict on one or many methods, with how sure it is: one call, every output format.

    >>> report = make_report(rankings, load("resnet"))
    >>> report.interval("bcnet").low, report.differences[0].p_adjusted

Beside the comparison with the truth stand confidence intervals, tests between methods, what a ranking chooses under
budgets, and which slots, ranks and sizes it gets wrong. `harness.report` puts that into tables, figures, a page, files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench._version import __version__
from channel_bench.errors import ArgumentError, BudgetError, UnknownNameError, unknown_name
from channel_bench.space import FloatArray, Int8Array, Space
from channel_bench.support.terminal import finite
from channel_bench.table import Table
from harness.judge.baselines import baseline_scores
from harness.judge.comparison import Comparison, Row, commonly_scored, compare, dense_values, named_groups
from harness.judge.noise import NoiseReport, report_noise
from harness.scores import Scores
from harness.stats.bootstrap import LEVEL, OVER, Bootstrap, Difference, Interval, bootstrap, over_seeds
from harness.stats.diagnostics import (
    KendallAlong,
    RankCalibration,
    SlotEffects,
    kendall_along,
    rank_calibration,
    slot_effects,
)
from harness.stats.metrics import summary
from harness.stats.top import bootstrap_top, choose

BUDGET_SHARES = (0.25, 0.5, 0.75)
"""Default budgets, as shares of the FLOPs of the widest network."""
NUM_REPLICATES = 1000
MIN_ARCHS = 30
"""With fewer architectures there are no intervals and tests."""
NUM_DRAWS = 50


@dataclass(frozen=True)
class Pick:
    """What a method chooses within a budget: `harness.stats.top.Choice` of every seed, averaged."""

    budget: float
    """Largest allowed FLOPs."""
    num_fitting: int
    """Architectures that cost at most the budget."""
    archs: list[str]
    """Chosen with each seed; the first where several share the highest score."""
    num_tied: list[int]
    """How many do, with each seed."""
    accuracy: float
    """Of the chosen, percent, mean over seeds."""
    best: float
    """Highest accuracy that fits, percent."""
    regret: float
    """best - accuracy, percentage points."""
    regret_unseen: float
    """The same against a best found without the run it is measured on; see `harness.stats.top.Choice`."""
    interval: Interval | None
    """Of `regret`; None without replicates or with single runs only."""


@dataclass(frozen=True)
class Diagnosis:
    """Which slots, ranks and sizes a ranking gets wrong."""

    effects: SlotEffects | None
    """None where the scores are constant, or the architectures do not determine effects."""
    calibration: RankCalibration
    along: KendallAlong | None
    """Along FLOPs; None where there are too few architectures for windows."""


@dataclass(frozen=True)
class Detail:
    """What a report says of one row beyond the comparison."""

    name: str
    summary: dict[str, float]
    """`harness.stats.metrics.summary`, mean over seeds."""
    intervals: dict[str, Interval]
    """By the metric's name in `summary`: correlations, and the metrics of the top where the table has several runs."""
    picks: list[Pick]
    """One for each budget that an architecture fits."""
    diagnosis: Diagnosis
    """Of the seed with the median Kendall, which figures show."""
    seed: int | None
    """That seed."""


@dataclass(frozen=True)
class Paired:
    """Two rows compared on the same replicates."""

    first: str
    second: str
    difference: Difference
    """Kendall of the first minus that of the second."""
    p_adjusted: float | None
    """p of the difference, adjusted for all comparisons that a report shows (Holm 1979): each method with the best free
    baseline, and with the method below it; None for other pairs."""


@dataclass(frozen=True)
class Arrays:
    """What figures and pages are drawn from, all architectures in index order."""

    space: Space
    truth: FloatArray
    """Percent, (16384,), NaN where the table has none."""
    stds: FloatArray
    """Standard deviation over runs (ddof=1), (16384,), NaN below two runs."""
    compared: npt.NDArray[np.bool_]
    """Architectures that the report rests on, (16384,)."""
    scores: dict[str, FloatArray]
    """Of the seed with the median Kendall, by row, (16384,), NaN where there is none; scaled to within 0 and 1 where
    they are beyond what can be drawn."""


@dataclass(frozen=True)
class Report:
    """Methods and free baselines against one table, with intervals and tests."""

    comparison: Comparison
    metric: str
    """Which accuracy, by name."""
    details: list[Detail]
    """In the order of the comparison's rows."""
    differences: list[Paired]
    """Of all pairs with a method in them, in the order of the rows; [] without replicates."""
    noise: NoiseReport | None
    """None where no architecture has two runs."""
    table_sha256: str | None
    """Content of the table; None where it was not read from a file."""
    over: tuple[str, ...]
    """What the intervals of correlations are over: "archs", "runs", "seeds"."""
    num_replicates: int
    level: float
    budgets: list[float]
    """FLOPs."""
    version: str
    """Of channel-bench."""
    arrays: Arrays = field(repr=False)

    def detail(self, name: str) -> Detail:
        """What is said of a row.

        Raises:
            UnknownNameError: No such row.
        """
        for detail in self.details:
            if detail.name == name:
                return detail
        raise unknown_name("row", name, [detail.name for detail in self.details])

    def interval(self, name: str, metric: str = "kendall") -> Interval | None:
        """Confidence interval of a metric of a row; None where there is none."""
        return self.detail(name).intervals.get(metric)

    def paired(self, first: str, second: str) -> Paired:
        """The comparison of two rows, in this order.

        Raises:
            UnknownNameError: The report does not compare them.
        """
        for pair in self.differences:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.first, pair.second) == (second, first):
                return Paired(first, second, pair.difference.reversed(), pair.p_adjusted)
        raise UnknownNameError(f"the report does not compare {first!r} with {second!r}")

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, for JSON; what is not finite is None."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "arrays"}
        found: dict[str, Any] = finite({name: _plain(value) for name, value in fields.items()})
        return found


def make_report(
    rankings: Scores | Sequence[Scores] | Mapping[str, Scores | Sequence[Scores]],
    table: Table,
    metric: str = "best_test_acc",
    run: int | None = None,
    *,
    num_replicates: int = NUM_REPLICATES,
    num_draws: int | None = NUM_DRAWS,
    form: str = "log",
    budgets: Sequence[float] | None = None,
    level: float = LEVEL,
    seed: int = 0,
    num_threads: int | None = None,
    on_step: Callable[[], object] | None = None,
) -> Report:
    """Judge methods.

    Args:
        rankings: Scores of one method or of several; those of one name are seeds of it (`group_rankings`). Or by name.
        table: The truth.
        metric: Which accuracy is the truth.
        run: One run as the truth, or None for the mean over runs.
        num_replicates: Of the bootstrap, 0 for no intervals and tests; there are none of fewer than MIN_ARCHS either.
        num_draws: Draws for the exchange rate into trained architectures; None for none.
        form: Form of those fits.
        budgets: FLOPs to choose within; None for BUDGET_SHARES of the widest.
        level: Of the intervals, in (0, 1).
        seed: Of the resampling.
        num_threads: None for one per core that this process may use.
        on_step: Called after each of `num_steps` steps.

    Raises:
        ArgumentError: As `compare`; or a number is out of range.
        BudgetError: Nothing that is compared costs as little as a budget.
    """
    if num_replicates < 0 or num_replicates == 1:
        raise ArgumentError(f"number of replicates is {num_replicates}: allowed are 2 and more, or 0 for no intervals")
    if not 0 < level < 1:
        raise ArgumentError(f"level of an interval is {level!r}: allowed is what lies between 0 and 1")
    if num_draws is not None and num_draws < 2:
        raise ArgumentError(f"number of draws is {num_draws}: allowed are 2 and more, or None for none")
    groups = named_groups(rankings)
    space, truth = table.space, table.accuracies(run, metric)
    both = commonly_scored([each for group in groups.values() for each in group]) & np.isfinite(truth)
    limits = _limits(budgets, space, both)
    if both.sum() < MIN_ARCHS:
        num_replicates = 0  # of so few, resampling says nothing
    columns = {name: [dense_values(each) for each in group] for name, group in groups.items()}
    columns |= {name: [values] for name, values in baseline_scores(space).items()}
    judged = _Judged(
        archs=space.archs()[both],
        truth=truth[both],
        cells=(table.cells(metric) if run is None else truth[:, None])[both],
        flops=space.flops()[both].astype(np.float64),
        columns={name: [column[both] for column in each] for name, each in columns.items()},
    )
    noisy = bool((np.isfinite(table.cells(metric)).sum(1) > 1).any())
    # Resampling is a long time in compiled loops, which leave the interpreter free for all the rest.
    with _in_background(_resample, judged, limits, num_replicates, seed, num_threads, on_step=on_step) as resampling:
        comparison = compare(groups, table, metric, run, at_equal_flops=True, num_draws=num_draws, form=form)
        drafts = [_detail(row, judged, space, limits) for row in comparison.rows]
        noise = report_noise(table, metric) if noisy else None
        resampled = resampling.result()
    return Report(
        comparison=comparison,
        metric=metric,
        details=[_with_intervals(draft, resampled, level) for draft in drafts],
        differences=_differences(comparison, resampled[0], level) if resampled else [],
        noise=noise,
        table_sha256=table.info.content_sha256,
        over=resampled[0].over if resampled else (),
        num_replicates=num_replicates,
        level=level,
        budgets=limits,
        version=__version__,
        arrays=Arrays(
            space=space,
            truth=truth,
            stds=table.stds(metric),
            compared=both,
            scores={row.name: _drawable(columns[row.name][_median(row)]) for row in comparison.rows},
        ),
    )


def num_steps(num_replicates: int) -> int:
    """How often `make_report` calls `on_step`."""
    return 2 * num_replicates


# -- parts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Judged:
    """What is compared: arrays over the architectures that have all scores and an accuracy, (n, ...)."""

    archs: Int8Array
    truth: FloatArray
    cells: FloatArray
    flops: FloatArray
    columns: dict[str, list[FloatArray]]
    """Scores by row, one array per seed."""


def _limits(budgets: Sequence[float] | None, space: Space, compared: npt.NDArray[np.bool_]) -> list[float]:
    """Budgets in FLOPs, before the long work; of the default ones those that something fits."""
    flops = space.flops()
    least = float(flops[compared].min()) if compared.any() else 0.0
    if budgets is None:
        shares = [share * float(flops.max()) for share in BUDGET_SHARES]
        return [limit for limit in shares if limit >= least]
    for limit in budgets:
        if not limit >= least:
            raise BudgetError(
                f"no architecture that is compared costs at most {limit:,.15g} FLOPs: the least is {least:,.15g}"
            )
    return list(budgets)


@contextlib.contextmanager
def _in_background(
    function: Callable[..., list[Bootstrap]], *arguments: Any, on_step: Callable[[], object] | None
) -> Iterator[Future[list[Bootstrap]]]:
    """Run a function beside the block; if the block fails or is interrupted, at its next step it ends as well."""
    stopped = threading.Event()

    def step() -> None:
        if stopped.is_set():
            raise InterruptedError
        if on_step is not None:
            on_step()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(function, *arguments, step)
        try:
            yield future
        except BaseException:
            stopped.set()
            raise


def _resample(
    judged: _Judged,
    budgets: Sequence[float],
    num_replicates: int,
    seed: int,
    num_threads: int | None,
    on_step: Callable[[], object],
) -> list[Bootstrap]:
    """Correlations and, where runs can be resampled, the metrics of the top, over seeds; [] without replicates."""
    if num_replicates == 0:
        return []
    groups = {name: [f"{name}\n{number}" for number in range(len(each))] for name, each in judged.columns.items()}
    flat = {f"{name}\n{number}": column for name, each in judged.columns.items() for number, column in enumerate(each)}
    several = bool((np.isfinite(judged.cells).sum(1) > 1).any())
    common: dict[str, Any] = {
        "num_replicates": num_replicates,
        "seed": seed,
        "num_threads": num_threads,
        "on_replicate": on_step,
    }
    found = [bootstrap(flat, judged.cells, over=OVER if several else ("archs",), **common)]
    if several:
        found.append(bootstrap_top(flat, judged.cells, judged.flops, budgets, **common))
    return [over_seeds(each, groups) for each in found]


def _median(row: Row) -> int:
    """Number of the ranking with the median Kendall, the lower one of two."""
    order = np.argsort([ranking.kendall for ranking in row.rankings], kind="stable")
    return int(order[(len(order) - 1) // 2]) if len(order) else 0


def _drawable(scores: FloatArray) -> FloatArray:
    """Scores as they are; of a size that pictures cannot take, scaled to within 0 and 1."""
    low, high = float(np.nanmin(scores)), float(np.nanmax(scores))
    largest = max(abs(low), abs(high))
    if largest < 1e30 and (high == low or high - low > 1e-9 * largest > 1e-30):
        return scores
    return np.asarray((scores / 2 - low / 2) / max(high / 2 - low / 2, 5e-324))


def _detail(row: Row, judged: _Judged, space: Space, budgets: Sequence[float]) -> Detail:
    """What is said of a row, but for intervals."""
    columns, median = judged.columns[row.name], _median(row)
    summaries = [summary(column, judged.truth, judged.flops) for column in columns]
    return Detail(
        name=row.name,
        summary={name: float(np.mean([each[name] for each in summaries])) for name in summaries[0]},
        intervals={},
        picks=[_pick(columns, judged, space, budget) for budget in budgets],
        diagnosis=_diagnose(columns[median], judged, space),
        seed=row.rankings[median].seed if row.rankings else None,
    )


def _with_intervals(detail: Detail, resampled: list[Bootstrap], level: float) -> Detail:
    intervals = {
        name: found.interval(detail.name, name, level)
        for found in resampled
        for name in found.metrics
        if name in detail.summary
    }
    if len(resampled) < 2:
        return dataclasses.replace(detail, intervals=intervals)
    regrets = [resampled[1].interval(detail.name, f"regret_{number}", level) for number in range(len(detail.picks))]
    picks = [dataclasses.replace(pick, interval=each) for pick, each in zip(detail.picks, regrets, strict=True)]
    return dataclasses.replace(detail, intervals=intervals, picks=picks)


def _pick(columns: Sequence[FloatArray], judged: _Judged, space: Space, budget: float) -> Pick:
    choices = [choose(column, judged.cells, judged.flops, budget) for column in columns]
    return Pick(
        budget=choices[0].budget,
        archs=[space.text(tuple(judged.archs[choice.chosen[0]].tolist())) for choice in choices],
        num_tied=[len(choice.chosen) for choice in choices],
        num_fitting=choices[0].num_fitting,
        best=choices[0].best,
        interval=None,
        **{
            name: float(np.mean([getattr(choice, name) for choice in choices]))
            for name in ("accuracy", "regret", "regret_unseen")
        },
    )


def _diagnose(scores: FloatArray, judged: _Judged, space: Space) -> Diagnosis:
    scores = _drawable(scores)
    effects = along = None
    with contextlib.suppress(ArgumentError):  # constant scores, or architectures that do not determine effects
        effects = slot_effects(judged.archs, scores, judged.truth, space)
    with contextlib.suppress(ArgumentError):  # too few for windows
        along = kendall_along(scores, judged.truth, judged.flops)
    return Diagnosis(effects, rank_calibration(scores, judged.truth), along)


def _differences(comparison: Comparison, found: Bootstrap, level: float) -> list[Paired]:
    pairs = [(a.name, b.name) for a, b in combinations(comparison.rows, 2) if "method" in (a.kind, b.kind)]
    differences = {pair: found.difference(*pair, level=level) for pair in pairs}
    shown = shown_pairs(comparison)
    adjusted = dict(zip(shown, holm([differences[pair].p_value for pair in shown]), strict=True))
    return [Paired(*pair, differences[pair], adjusted.get(pair)) for pair in pairs]


def shown_pairs(comparison: Comparison) -> list[tuple[str, str]]:
    """The comparisons that a report shows: each method with the best free baseline, then with the one below it."""
    methods, best = [row.name for row in comparison.methods], comparison.best_baseline.name
    return [*((name, best) for name in methods), *pairwise(methods)]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted so that any false claim among them is as unlikely as each says (Holm 1979).

    The i-th smallest of m (i = 0, 1, ...) is multiplied by m - i, made no smaller than those before it, and at most 1.

    Args:
        p_values: In [0, 1]; NaN is no test: it stays NaN and does not count.
    """
    values = np.asarray(p_values, np.float64)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    scaled = values[order] * (len(order) - np.arange(len(order)))
    values[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return values.tolist()


def _plain(value: Any) -> Any:
    """Dataclasses as dicts and arrays as lists, for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
