"""How far a build is: what `channel-bench status` shows, read from the folder of runs alone.

    >>> status(RunStore.open(Path("runs"))).num_missing

Nothing has to be running, and nothing is disturbed: parts are read, and the builder's lock is only tried.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from channel_bench.errors import CorruptFileError
from channel_bench.store import RunStore

RECENT_S = 600.0
"""The rate is that of the runs that were finished within so many seconds before the last one."""


@dataclass(frozen=True)
class BuildStatus:
    """State of a folder of runs."""

    space: str
    recipe: str
    dataset: str
    num_planned: int
    """Runs that the last builder was asked for; those there, where no plan was written."""
    num_done: int
    """Planned runs that are there and intact, diverged ones included."""
    num_diverged: int
    """Of those, runs whose loss became NaN or infinite."""
    num_missing: int
    num_unplanned: int
    """Intact runs that are there but were not asked for by the last builder."""
    corrupt: list[str]
    """Files of damaged runs; the next builder sets them aside and trains them again."""
    is_building: bool
    """Whether a builder is at work now."""
    runs_per_hour: float | None
    """Rate of the last ten minutes of work; None with fewer than two runs in it."""
    time_left_s: float | None
    """num_missing at that rate; None where the rate is unknown."""
    idle_s: float | None
    """Seconds since the last run was finished."""


def status(store: RunStore) -> BuildStatus:
    """Count what is there, done, missing and damaged.

    Raises:
        CorruptFileError: The plan is unreadable.
        StorageError: A part cannot be read.
    """
    planned = store.planned()
    statuses: dict[tuple[str, int], str] = {}
    finished_s, corrupt = [], []
    for key in sorted(store.keys()):
        try:
            statuses[key] = store.read(key).status
        except CorruptFileError:
            corrupt.append(str(store.path(key)))
            continue
        finished_s.append(store.path(key).stat().st_mtime)
    planned = set(statuses) if planned is None else planned
    done = planned & statuses.keys()
    rate = _runs_per_s(finished_s)
    num_missing = len(planned) - len(done)
    return BuildStatus(
        space=store.info.space,
        recipe=store.recipe.name,
        dataset=store.info.dataset,
        num_planned=len(planned),
        num_done=len(done),
        num_diverged=Counter(statuses[key] for key in done)["diverged"],
        num_missing=num_missing,
        num_unplanned=len(statuses.keys() - planned),
        corrupt=corrupt,
        is_building=store.is_locked(),
        runs_per_hour=None if rate is None else 3600 * rate,
        time_left_s=None if rate is None else num_missing / rate,
        idle_s=max(0.0, time.time() - max(finished_s)) if finished_s else None,
    )


def _runs_per_s(finished_s: list[float]) -> float | None:
    """Rate over the recent past; runs of a stack finish at once, so the first moment only starts the clock."""
    if not finished_s:
        return None
    last = max(finished_s)
    recent = [moment for moment in finished_s if moment > last - RECENT_S]
    elapsed = last - min(recent)
    later = [moment for moment in recent if moment > min(recent)]
    return len(later) / elapsed if elapsed > 0 else None
