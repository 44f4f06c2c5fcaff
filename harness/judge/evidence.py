"""The evidence of a verdict: scores and truth on the same architectures, gathered once.

    >>> evidence = Evidence.gather(rankings, table)
    >>> evidence.correlations["bcnet"][0].kendall          # of its first seed; computed once, however often asked

The comparison, the bootstrap, choices within budgets and diagnostics all take it, so that a report builds every array
once and computes every correlation once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError
from channel_bench.space import NUM_ARCHS, FloatArray, Int8Array, Space
from channel_bench.table import Table
from channel_bench.table.noise import num_runs
from harness.judge.baselines import baseline_scores
from harness.judge.groups import named_groups
from harness.scores import Scores
from harness.stats.metrics import Correlations, EqualFlops, correlations, equal_flops

Rankings = Scores | Sequence[Scores] | Mapping[str, Scores | Sequence[Scores]]
"""Scores of one method; of several, those of one name being seeds of it (`group_rankings`); or by name."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Scores of methods and of the free baselines beside the truth of one table; get it from `gather`.

    Arrays of length n are over the compared architectures in index order: those that every method scores and that have
    an accuracy.
    """

    table: Table
    metric: str
    """Which accuracy is the truth, by name."""
    run: int | None
    """The run that is the truth; None for the mean over runs."""
    groups: dict[str, list[Scores]]
    """Rankings of every method by seed; {} for the baselines alone."""
    scores: dict[str, list[FloatArray]]
    """Scores by row, one array for each seed, methods first: (16384,), NaN where one is missing."""
    scored: npt.NDArray[np.bool_]
    """Architectures that every method scores, (16384,)."""
    accuracies: FloatArray
    """The truth of every architecture, percent, (16384,), NaN where the table has none."""
    compared: npt.NDArray[np.bool_]
    """Architectures that are compared, (16384,)."""
    archs: Int8Array
    """Digits 1..4, (n, 7)."""
    truth: FloatArray
    """Percent, (n,)."""
    cells: FloatArray
    """Accuracy of every run, (n, num_runs), NaN where a run is missing."""
    flops: FloatArray
    """(n,)."""
    columns: dict[str, list[FloatArray]]
    """Scores by row, one array for each seed, methods first: (n,)."""

    @classmethod
    def gather(
        cls, rankings: Rankings | None, table: Table, metric: str = "best_test_acc", run: int | None = None
    ) -> Evidence:
        """Put rankings and the free baselines beside the truth.

        Args:
            rankings: What to judge; None for the baselines alone, on everything the table has.
            table: The truth.
            metric: Which accuracy is the truth.
            run: One run as the truth, or None for the mean over runs.

        Raises:
            ArgumentError: The spaces differ, fewer than 2 architectures have all scores and an accuracy, two rankings
                cannot be told apart, or there is no such metric or run.
        """
        groups = named_groups(rankings)
        every = [each for group in groups.values() for each in group]
        for each in every:
            if each.space != table.space:
                raise ArgumentError(
                    f"scores are of space {each.space.name!r}, table {table.name!r} of {table.space.name!r}"
                )
        accuracies, scored = table.accuracies(run, metric), _scored_by_all(every)
        both = scored & np.isfinite(accuracies)
        if both.sum() < 2:
            raise ArgumentError(
                f"{int(both.sum())} architectures have both a score and an accuracy in table {table.name!r}:"
                " at least 2 are needed"
            )
        space = table.space
        scores = {name: [_in_index_order(each) for each in group] for name, group in groups.items()}
        scores |= {name: [values] for name, values in baseline_scores(space).items()}
        return cls(
            table=table,
            metric=metric,
            run=run,
            groups=groups,
            scores=scores,
            scored=scored,
            accuracies=accuracies,
            compared=both,
            archs=space.archs()[both],
            truth=accuracies[both],
            cells=table.cells(metric)[both],
            flops=space.flops()[both].astype(np.float64),
            columns={name: [column[both] for column in each] for name, each in scores.items()},
        )

    @property
    def space(self) -> Space:
        """Space of all of it."""
        return self.table.space

    @property
    def labels(self) -> FloatArray:
        """The runs that the truth is the mean of, (n, num_runs), or (n, 1) where one run is the truth."""
        return self.cells if self.run is None else self.truth[:, None]

    @property
    def has_repeats(self) -> bool:
        """Whether a compared architecture has two runs, so that the noise of the accuracies is known."""
        return bool((num_runs(self.cells) > 1).any())

    @cached_property
    def correlations(self) -> dict[str, list[Correlations]]:
        """Of every row and seed with the truth."""
        return {name: [correlations(each, self.truth) for each in columns] for name, columns in self.columns.items()}

    @cached_property
    def equal_flops(self) -> dict[str, list[EqualFlops]]:
        """What is left of each at equal FLOPs."""
        return {
            name: [equal_flops(each, self.truth, self.flops) for each in columns]
            for name, columns in self.columns.items()
        }


def _scored_by_all(rankings: Sequence[Scores]) -> npt.NDArray[np.bool_]:
    """Which architectures all rankings score, bool (16384,); all where there are no rankings."""
    counts = np.zeros(NUM_ARCHS, np.int64)
    for each in rankings:
        counts[each.indices] += 1
    return np.asarray(counts == len(rankings))


def _in_index_order(scores: Scores) -> FloatArray:
    """Scores of all architectures, float64 (16384,), NaN where one is missing."""
    values = np.full(NUM_ARCHS, np.nan)
    values[scores.indices] = scores.values
    return values
