"""Many rankings: every method and every seed, one file each, several at a time where there are cores for it.

A ranking that is there is not made again; one that was killed goes on. So the command can be interrupted at any moment
and started again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from channel_bench.errors import ArgumentError, MethodError
from channel_bench.space import Space
from harness.scores import Scores, read_scores


def score_file(folder: Path, method: str, seed: int) -> Path:
    """Where the scores of a method and a seed lie in a folder."""
    return folder / f"{method}-seed{seed}.parquet"


def rank_many(
    space: Space,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    arguments: Sequence[str],
    num_jobs: int,
    settings_of: Callable[[str, int], dict[str, Any]],
    on_done: Callable[[str, int, str], None],
) -> list[Scores]:
    """Rank with every method and seed, each in a process of its own.

    Args:
        space: The space.
        methods: Names of methods.
        seeds: Seeds of the supernets.
        folder: Where the score files are and go.
        arguments: Further arguments of ``channel-harness rank``, the same for all.
        num_jobs: Processes at a time, >= 1.
        settings_of: What decides the scores of a method and a seed (`harness.ranking.run.settings`).
        on_done: Called with method, seed and "found", "done" or the reason why it failed.

    Returns:
        The scores, by method, then by seed.

    Raises:
        ArgumentError: A score file that is there was made with other settings.
        MethodError: Some failed; the others are in the folder.
    """
    found = {
        (method, seed): _read(space, score_file(folder, method, seed), settings_of(method, seed))
        for seed in seeds
        for method in methods
        if score_file(folder, method, seed).exists()
    }
    failed = {}
    started: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(num_jobs) as pool:
        waiting = {}
        try:
            # Seed by seed, so that an early stop leaves every method with something.
            for seed in seeds:
                for method in methods:
                    if (method, seed) in found:
                        on_done(method, seed, "found")
                        continue
                    path = score_file(folder, method, seed)
                    waiting[pool.submit(_run, space, method, seed, path, arguments, started)] = method, seed
            for future in as_completed(waiting):
                method, seed = waiting[future]
                reason = future.result()
                on_done(method, seed, reason or "done")
                if reason:
                    failed[method, seed] = reason
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.terminate()  # an interrupt need not have reached it; what it has done is kept
            raise
    if failed:
        (method, seed), reason = next(iter(failed.items()))
        raise MethodError(
            f"{len(failed)} of {len(methods) * len(seeds)} rankings failed, {method} seed {seed}: {reason}"
        )
    return [
        _read(space, score_file(folder, method, seed), settings_of(method, seed))
        for method in methods
        for seed in seeds
    ]


def _read(space: Space, path: Path, expected: dict[str, Any]) -> Scores:
    """Scores of a file that must have been made with these settings."""
    scores = read_scores(path, space)
    for key, value in expected.items():
        if scores.facts.get(key) != value:
            raise ArgumentError(
                f"{str(path)!r} was made with {key} {scores.facts.get(key)!r}, not {value!r}: delete it, or choose"
                " another folder with --out"
            )
    return scores


def _run(
    space: Space, method: str, seed: int, path: Path, arguments: Sequence[str], started: list[subprocess.Popen[str]]
) -> str:
    """Rank in a process of its own; the reason of a failure, or nothing."""
    command = [sys.executable, "-m", "harness.cli", "rank", method, "--space", space.name, "--seed", str(seed)]
    command += ["--no-truth", "-o", str(path), *arguments]
    with tempfile.TemporaryFile("w+") as errors:
        # Standard output is for the comparison of all of them.
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, text=True)
        started.append(process)
        code = process.wait()
        if code == 0:
            return ""
        errors.seek(0)
        lines = errors.read().splitlines()
    if code < 0:
        return f"it was ended by signal {-code}"
    return lines[-1] if lines else f"exit code {code}"
