"""The verdict on one or many methods, with how sure it is: one call, every output format.

    >>> report = make_report(rankings, load("resnet"))
    >>> report.interval("bcnet").low, report.differences[0].p_adjusted

A report has the comparison with the truth, confidence intervals, tests between methods, the architectures that a
ranking chooses within budgets, and the slots, ranks and sizes that it gets wrong. `harness.report` writes it as tables,
figures, a page and files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench._version import __version__
from channel_bench.errors import ArgumentError, BudgetError, UnknownNameError, unknown_name
from channel_bench.space import FloatArray, Space
from channel_bench.support.terminal import finite
from channel_bench.table import Table
from channel_bench.table.noise import num_runs
from harness.judge.comparison import Comparison, compare_evidence
from harness.judge.details import Detail, detail_of, drawable, median_seed, with_intervals
from harness.judge.evidence import Evidence, Rankings
from harness.judge.noise import NoiseReport, report_noise
from harness.judge.resample import in_background, resample
from harness.stats.bootstrap import LEVEL, Bootstrap, Difference, Interval
from harness.stats.vanilla import Vanilla, vanilla_choices

VANILLA_DRAWS = 200
"""Replays of the random baseline within each budget."""
BUDGET_SHARES = (0.25, 0.5, 0.75)
"""Default budgets, as shares of the FLOPs of the widest network."""
NUM_REPLICATES = 1000
MIN_ARCHS = 30
"""With fewer architectures there are no intervals and tests."""
NUM_DRAWS = 50


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
    """Of the seed with the median Kendall, by row, (16384,), NaN where one is missing; scaled to within 0 and 1
    where they are too large to be drawn."""


@dataclass(frozen=True)
class Report:
    """Methods and free baselines against one table, with intervals and tests."""

    comparison: Comparison
    metric: str
    """Which accuracy, by name."""
    details: list[Detail]
    """In the order of the comparison's rows."""
    differences: list[Paired]
    """Of all pairs, in the order of the rows; [] without replicates."""
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
    vanilla: list[list[Vanilla]]
    """What the baselines of the papers choose within each of them, among what is compared."""
    version: str
    """Of channel-bench."""
    arrays: Arrays = field(repr=False)

    def detail(self, name: str) -> Detail:
        """The detail of a row.

        Raises:
            UnknownNameError: No such row.
        """
        for detail in self.details:
            if detail.name == name:
                return detail
        raise unknown_name("row", name, [detail.name for detail in self.details])

    def interval(self, name: str, metric: str = "kendall") -> Interval | None:
        """Confidence interval of a metric of a row; None where the report has no such interval."""
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
        """Everything but the arrays, for JSON; numbers that are not finite become None."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "arrays"}
        found: dict[str, Any] = finite({name: _plain(value) for name, value in fields.items()})
        return found


def make_report(
    rankings: Rankings,
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
        num_replicates: Of the bootstrap, 0 for no intervals and tests. Fewer than MIN_ARCHS architectures give none.
        num_draws: Draws for the exchange rate into trained architectures; None to leave it out.
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
    _check(num_replicates, num_draws, level)
    evidence = Evidence.gather(rankings, table, metric, run)
    limits = _limits(budgets, evidence)
    if len(evidence.truth) < MIN_ARCHS:
        num_replicates = 0  # of so few, resampling says nothing
    # Resampling is a long time in compiled loops, which leave the interpreter free for all the rest.
    with in_background(resample, evidence, limits, num_replicates, seed, num_threads, on_step=on_step) as resampling:
        comparison = compare_evidence(evidence, at_equal_flops=True, num_draws=num_draws, form=form)
        drafts = [detail_of(row, evidence, limits) for row in comparison.rows]
        noise = report_noise(table, metric) if (num_runs(table.cells(metric)) > 1).any() else None
        resampled = resampling.result()
    return Report(
        comparison=comparison,
        metric=metric,
        details=[with_intervals(draft, resampled, level) for draft in drafts],
        differences=_differences(comparison, resampled[0], level) if resampled else [],
        noise=noise,
        table_sha256=table.info.content_sha256,
        over=resampled[0].over if resampled else (),
        num_replicates=num_replicates,
        level=level,
        budgets=limits,
        vanilla=_vanilla(evidence, limits, seed),
        version=__version__,
        arrays=_arrays(evidence, comparison),
    )


def num_steps(num_replicates: int) -> int:
    """How often `make_report` calls `on_step`."""
    return 2 * num_replicates


# -- parts ----------------------------------------------------------------------------------------------------------


def _check(num_replicates: int, num_draws: int | None, level: float) -> None:
    """Refuse numbers out of range before the long work."""
    if num_replicates < 0 or num_replicates == 1:
        raise ArgumentError(f"number of replicates is {num_replicates}: allowed are 2 and more, or 0 for no intervals")
    if not 0 < level < 1:
        raise ArgumentError(f"level of an interval is {level!r}: allowed are numbers between 0 and 1")
    if num_draws is not None and num_draws < 2:
        raise ArgumentError(f"number of draws is {num_draws}: allowed are 2 and more, or None to leave them out")


def _limits(budgets: Sequence[float] | None, evidence: Evidence) -> list[float]:
    """Budgets in FLOPs, before the long work; of the default ones those that something fits."""
    least = float(evidence.flops.min())
    if budgets is None:
        shares = [share * float(evidence.space.flops().max()) for share in BUDGET_SHARES]
        return [limit for limit in shares if limit >= least]
    for limit in budgets:
        if not limit >= least:
            raise BudgetError(f"no compared architecture costs at most {limit:,.15g} FLOPs: the least is {least:,.15g}")
    return list(budgets)


def _vanilla(evidence: Evidence, limits: Sequence[float], seed: int) -> list[list[Vanilla]]:
    """Of each budget."""
    flops = evidence.space.flops()
    return [
        vanilla_choices(evidence.table, evidence.accuracies, evidence.compared & (flops <= limit), VANILLA_DRAWS, seed)
        for limit in limits
    ]


def _arrays(evidence: Evidence, comparison: Comparison) -> Arrays:
    """What figures and pages draw, of the seed with the median Kendall."""
    return Arrays(
        space=evidence.space,
        truth=evidence.accuracies,
        stds=evidence.table.stds(evidence.metric),
        compared=evidence.compared,
        scores={row.name: drawable(evidence.scores[row.name][median_seed(row)]) for row in comparison.rows},
    )


def _differences(comparison: Comparison, found: Bootstrap, level: float) -> list[Paired]:
    pairs = [(a.name, b.name) for a, b in combinations(comparison.rows, 2)]
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
