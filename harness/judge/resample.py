"""The bootstrap of a whole report, in a thread of its own beside everything else that a report computes.

>>> with in_background(resample, evidence, budgets, 1000, 0, None, on_step=None) as resampling:
...     comparison = compare_evidence(evidence)
...     correlations, *top = resampling.result()
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from channel_bench.table.noise import num_runs
from harness.judge.evidence import Evidence
from harness.stats.bootstrap import OVER, Bootstrap, bootstrap, over_seeds
from harness.stats.top import bootstrap_top


@contextlib.contextmanager
def in_background(
    function: Callable[..., list[Bootstrap]], *arguments: Any, on_step: Callable[[], object] | None
) -> Iterator[Future[list[Bootstrap]]]:
    """Run a function in a thread beside the block; where the block fails, the function ends at its next step."""
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


def resample(
    evidence: Evidence,
    budgets: Sequence[float],
    num_replicates: int,
    seed: int,
    num_threads: int | None,
    on_step: Callable[[], object],
) -> list[Bootstrap]:
    """Resample the evidence of all rows.

    Args:
        evidence: Scores and truth.
        budgets: FLOPs to choose within.
        num_replicates: How often; 0 for not at all.
        seed: Of the resampling.
        num_threads: None for one per core that this process may use.
        on_step: Called after each replicate.

    Returns:
        The correlations over architectures, runs and seeds; then, where runs can be resampled, the metrics of the top.
        [] without replicates.
    """
    if num_replicates == 0:
        return []
    groups = {name: [f"{name}\n{number}" for number in range(len(each))] for name, each in evidence.columns.items()}
    flat = {row: column for name in groups for row, column in zip(groups[name], evidence.columns[name], strict=True)}
    several = bool((num_runs(evidence.labels) > 1).any())
    common: dict[str, Any] = {
        "num_replicates": num_replicates,
        "seed": seed,
        "num_threads": num_threads,
        "on_replicate": on_step,
    }
    found = [bootstrap(flat, evidence.labels, over=OVER if several else ("archs",), **common)]
    if several:
        found.append(bootstrap_top(flat, evidence.labels, evidence.flops, budgets, **common))
    return [over_seeds(each, groups) for each in found]
