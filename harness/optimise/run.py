"""Many searches of an optimiser, on all cores, kept as they end.

    >>> run_searches("tpe", replay, num_seeds=20, folder=Path("searches"), num_jobs=2)

The searches of an optimiser on a table lie in one Parquet file, a row per training, which is written anew every few
seconds; so whoever interrupts loses that much. More seeds add to it. A file of other settings is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np

from channel_bench.errors import ArgumentError, CorruptFileError
from channel_bench.support.durable import write_atomic
from channel_bench.support.reading import MIB, check_file, is_there
from harness.optimise.replay import Replay, Trace
from harness.optimiser import OPTIMISERS

CHUNK_S = 2.0
"""About how long a worker is busy before it reports, and how often the file is written, seconds."""
MAX_FILE_BYTES = 512 * MIB
_KEY = b"channel_bench.searches"
_worker_replay: Replay | None = None


def run_searches(
    name: str,
    replay: Replay,
    num_seeds: int,
    folder: Path | None = None,
    num_jobs: int = 1,
    options: Mapping[str, Any] | None = None,
    on_done: Callable[[int], None] | None = None,
) -> list[Trace]:
    """Searches of the seeds 0 ... num_seeds - 1; those that a file has are not done again.

    Args:
        name: As `Registry.find` takes it.
        replay: The table, the budget and the objectives.
        num_seeds: >= 1.
        folder: Where to keep them; None keeps nothing.
        num_jobs: Processes at a time; 1 works in this one.
        options: Of the optimiser.
        on_done: Called with the number of searches that ended since the last call.

    Raises:
        ArgumentError: No seed, or the file in the folder is of other settings.
        ChannelBenchError: As `Registry.make` and `Replay.search`.
    """
    if num_seeds < 1:
        raise ArgumentError(f"number of seeds is {num_seeds}: allowed are 1 and above")
    options = dict(options or {})
    plugin = OPTIMISERS.find(name)
    OPTIMISERS.make(name, **options)
    said = on_done or (lambda count: None)
    path = None if folder is None else folder / f"{plugin.name}.{replay.table.space.name}.parquet"
    settings = identity(plugin.name, replay, options) | plugin.code
    traces = {} if path is None or not is_there(path) else read_searches(path, settings)
    waiting = [seed for seed in range(num_seeds) if seed not in traces]
    said(num_seeds - len(waiting))
    written = time.monotonic()
    try:
        for found in _searches(name, replay, waiting, num_jobs, options):
            traces |= {trace.seed: trace for trace in found}
            said(len(found))
            if path is not None and time.monotonic() - written > CHUNK_S:
                write_searches(path, traces.values(), settings)
                written = time.monotonic()
    finally:
        if path is not None and traces and waiting:
            write_searches(path, traces.values(), settings)
    return [traces[seed] for seed in range(num_seeds)]


def identity(name: str, replay: Replay, options: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a search beside its seed, as values of JSON."""
    cost = (
        None
        if replay.cost is None
        else hashlib.sha256(np.ascontiguousarray(replay.cost, np.float64).tobytes()).hexdigest()
    )
    return {
        "optimiser": name,
        "options": json.loads(json.dumps(dict(options), default=str)),
        "space": replay.table.space.name,
        "table_sha256": replay.table.info.content_sha256,
        "budget": float(replay.budget),
        "in_seconds": replay.in_seconds,
        "cost": None if cost is None else f"{replay.cost_name} {cost}",
    }


def _searches(
    name: str, replay: Replay, seeds: list[int], num_jobs: int, options: Mapping[str, Any]
) -> Iterable[list[Trace]]:
    """Searches of all seeds, in groups, as they end."""
    if not seeds:
        return
    started = time.monotonic()
    yield _do(replay, name, options, seeds[:1])  # here: whatever is wrong with an optimiser shows at once
    each = max(time.monotonic() - started, 1e-4)
    size = max(1, min(int(CHUNK_S / each), -(-(len(seeds) - 1) // (4 * num_jobs))))
    groups = [seeds[first : first + size] for first in range(1, len(seeds), size)]
    if num_jobs == 1 or each * len(seeds) < 2 * CHUNK_S:  # a process takes a second or two to start
        for group in groups:
            yield _do(replay, name, options, group)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_jobs, mp_context=context, initializer=_begin, initargs=(replay,)) as pool:
        try:
            running: set[Future[list[Trace]]] = {pool.submit(_do_there, name, options, group) for group in groups}
            while running:
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(replay: Replay) -> None:
    global _worker_replay
    _worker_replay = replay


def _do_there(name: str, options: Mapping[str, Any], seeds: list[int]) -> list[Trace]:
    assert _worker_replay is not None
    return _do(_worker_replay, name, options, seeds)


def _do(replay: Replay, name: str, options: Mapping[str, Any], seeds: list[int]) -> list[Trace]:
    optimiser = OPTIMISERS.make(name, **options)
    return [replay.search(optimiser, seed) for seed in seeds]


def write_searches(path: Path, traces: Iterable[Trace], settings: Mapping[str, Any]) -> None:
    """Write searches, a row per training, by seed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ordered = sorted(traces, key=lambda trace: trace.seed)
    lengths = [len(trace.indices) for trace in ordered]
    table = pa.table(
        {
            "seed": np.repeat(np.array([trace.seed for trace in ordered], np.int32), lengths),
            "run": np.repeat(np.array([trace.run for trace in ordered], np.int16), lengths),
            "index": np.concatenate([trace.indices for trace in ordered]),
            "epochs": np.concatenate([trace.epochs for trace in ordered]),
            "accuracy": np.concatenate([trace.accuracies for trace in ordered]),
            "spent": np.concatenate([trace.spent for trace in ordered]),
        },
    ).replace_schema_metadata({_KEY: json.dumps(dict(settings), sort_keys=True).encode()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomic((path, buffer.getvalue()))


def read_searches(path: Path, settings: Mapping[str, Any]) -> dict[int, Trace]:
    """Searches by seed.

    Raises:
        CorruptFileError: The file is none of searches.
        ArgumentError: It is of other settings.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    shown = repr(str(path))
    check_file(path, "file of searches", MAX_FILE_BYTES)
    try:
        table = pq.read_table(path)
        kept = json.loads(table.schema.metadata[_KEY])
        names = ("seed", "run", "index", "epochs", "accuracy", "spent")
        columns = {name: table.column(name).to_numpy() for name in names}
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{shown} holds no searches ({str(error)[:100]}): delete it to search again") from None
    if kept != json.loads(json.dumps(dict(settings))):
        differing = [name for name in settings if kept.get(name) != settings[name]]
        raise ArgumentError(
            f"{shown} was made with another {', '.join(differing) or 'setting'}: delete it, or choose another folder"
        )
    starts = np.flatnonzero(np.diff(columns["seed"], prepend=-1))
    traces = {}
    for part in (slice(*ends) for ends in zip(starts, [*starts[1:], len(columns["seed"])], strict=True)):
        traces[int(columns["seed"][part.start])] = Trace(
            int(columns["seed"][part.start]),
            int(columns["run"][part.start]),
            *(columns[name][part] for name in ("index", "epochs", "accuracy", "spent")),
        )
    return traces
