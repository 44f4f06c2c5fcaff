"""The progress of a build: what `channel-bench status` shows, read from the folder of runs alone.

    >>> status(RunStore.open(Path("runs"))).num_missing

The folder is only read, so nothing has to be running and nothing is disturbed. A builder of this machine is seen at
once; for a builder of another machine it takes some seconds until its counter shows whether it lives.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from channel_bench.builder.leases import Leases, RunKey, Watch
from channel_bench.builder.store import Failure, RunStore
from channel_bench.errors import CorruptFileError

RECENT_S = 600.0
"""Seconds before the end of the last run; the rate counts the runs that ended within them."""


@dataclass(frozen=True)
class BuildStatus:
    """State of a folder of runs."""

    space: str
    recipe: str
    dataset: str
    num_planned: int
    """Runs that builders were asked for since the folder was last idle; without any plan, the runs that are there."""
    num_done: int
    """Planned runs that are there and intact, diverged ones included."""
    num_diverged: int
    """Of those, runs whose loss became NaN or infinite."""
    num_missing: int
    num_unplanned: int
    """Intact runs that are there but were not asked for."""
    corrupt: list[str]
    """Files of damaged runs; the next builder moves them away and trains them again."""
    failed: list[Failure]
    """Of the missing ones, those that failed with all their retries; the next builder tries them again."""
    num_running: int
    """Runs that builders hold now."""
    builders: list[str]
    """The builders at work now, as "host, process 123"."""
    runs_per_hour: float | None
    """Rate of the last ten minutes of work; None before the first run."""
    time_left_s: float | None
    """Seconds that the missing runs take at that rate; None if the rate is unknown."""
    idle_s: float | None
    """Seconds since the last run was finished."""


def status(store: RunStore) -> BuildStatus:
    """Count what is there, done, missing and damaged.

    Raises:
        CorruptFileError: The plan is unreadable.
        StorageError: A part cannot be read.
    """
    builders = Watch(store.folder).alive()
    planned = store.planned()
    statuses: dict[RunKey, str] = {}
    spans: list[tuple[float, float]] = []  # when each run began and ended
    corrupt = []
    for key in sorted(store.keys()):
        try:
            record = store.read(key)
        except CorruptFileError:
            corrupt.append(str(store.path(key)))
            continue
        statuses[key] = record.status
        ended = store.path(key).stat().st_mtime
        spans.append((ended - (record.train_s or 0) * (record.stack or 1), ended))
    # A plan has runs 0, 1, ... of each architecture.
    done = {key for key in statuses if planned is None or key[1] < planned.get(key[0], 0)}
    num_planned = len(done) if planned is None else sum(planned.values())
    rate = _runs_per_s(spans)
    num_missing = num_planned - len(done)
    return BuildStatus(
        space=store.info.space,
        recipe=store.recipe.name,
        dataset=store.info.dataset,
        num_planned=num_planned,
        num_done=len(done),
        num_diverged=Counter(statuses[key] for key in done)["diverged"],
        num_missing=num_missing,
        num_unplanned=len(statuses) - len(done),
        corrupt=corrupt,
        failed=store.failures(),
        num_running=len(Leases(store.folder).running()) if builders else 0,
        builders=builders,
        runs_per_hour=None if rate is None else 3600 * rate,
        time_left_s=None if rate is None else num_missing / rate,
        idle_s=max(0.0, time.time() - max(ended for _, ended in spans)) if spans else None,
    )


def _runs_per_s(spans: list[tuple[float, float]]) -> float | None:
    """Runs that ended in the recent past, per time since the first of them began.

    Beginnings and not ends start the clock, because the runs of a stack end at the same moment.
    """
    last = max((ended for _, ended in spans), default=0.0)
    recent = [(began, ended) for began, ended in spans if ended > last - RECENT_S]
    elapsed = last - min((began for began, _ in recent), default=last)
    return len(recent) / elapsed if elapsed > 0 else None
