"""Run an experiment: its cells in worker processes, each kept as soon as it is done, then its outcome.

    >>> result = run_experiment("regions", Setting(task=TaskOptions(space="resnet-mini")), Path("results"), num_jobs=2)
    >>> result.outcome.claims

Cells are kept in ``OUT/NAME.SPACE.cells/KEY.json``, and with their setting in ``OUT/NAME.SPACE.json`` once all are
there. A cell of another setting is refused, never mixed in.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from channel_bench._version import __version__
from channel_bench.errors import ArgumentError, CorruptFileError, ExperimentError
from channel_bench.support.durable import write_atomic
from channel_bench.support.reading import MIB, is_there, parse_json, read_file
from channel_bench.support.terminal import finite
from channel_bench.support.workers import run_worker
from harness.experiments.contract import EXPERIMENTS, Cell, Measured, Outcome, Setting

WORKER = "harness.experiments.worker"
MAX_RESULT_BYTES = 64 * MIB
OnDone = Callable[[str, str], None]


@dataclass(frozen=True)
class Result:
    """An experiment that was run."""

    name: str
    paper: str
    summary: str
    setting: Setting
    measured: Measured
    outcome: Outcome
    facts: dict[str, Any]
    """Version, machine and seconds of the cells' processes."""

    def to_dict(self) -> dict[str, Any]:
        """The result as values of JSON: what was measured, and what is concluded."""
        return {
            "experiment": self.name,
            "paper": self.paper,
            "summary": self.summary,
            "space": self.setting.space.name,
            **identity(self.name, self.setting),
            "facts": self.facts,
            "claims": [dataclasses.asdict(claim) | {"verdict": claim.verdict} for claim in self.outcome.claims],
            "tables": [dataclasses.asdict(sheet) for sheet in self.outcome.sheets],
            "notes": self.outcome.notes,
            "cells": self.measured,
        }


def identity(name: str, setting: Setting) -> dict[str, Any]:
    """What decides the cells of an experiment, but for code and device; as it is read back from JSON."""
    task = dataclasses.asdict(setting.task)
    kept = {
        key: value
        for key, value in task.items()
        if key not in ("data_dir", "download", "device", "threads")
        # Younger than some cells; where they are not given, a cell is what it was without them.
        and not (key in ("precision", "num_val") and value is None)
    }
    if setting.latency is not None:  # what was measured counts, not where it lies
        data = read_file(Path(setting.latency), "latency file", MAX_RESULT_BYTES)
        kept["latency_sha256"] = hashlib.sha256(data).hexdigest()
    whole = {"experiment": name, "setting": {**kept, "num_seeds": setting.num_seeds, "table": setting.table}}
    return dict(json.loads(json.dumps(whole, default=str)))


def run_experiment(name: str, setting: Setting, out: Path, num_jobs: int = 1, on_done: OnDone | None = None) -> Result:
    """Run an experiment, or go on with it; cells that are there are not measured again.

    Args:
        name: As `Registry.find` takes it.
        setting: What it is run on.
        out: Folder of its files.
        num_jobs: Worker processes at a time, >= 1.
        on_done: Called with a cell's key and "found", "done" or the reason why it failed.

    Raises:
        UnknownNameError: No such experiment.
        ArgumentError: What is in the folder is of another setting.
        ExperimentError: Some cells failed; the others are kept.
        CorruptFileError, StorageError: A file cannot be read or written.
    """
    plugin = EXPERIMENTS.find(name)
    experiment = EXPERIMENTS.make(name)
    cells = experiment.cells(setting)
    keys = [cell.key for cell in cells]
    if len(set(keys)) != len(keys):
        raise ArgumentError(f"experiment {name!r} has two cells with one key")
    said = on_done or (lambda key, what: None)
    finished = result_path(out, plugin.name, setting)
    if is_there(finished):
        measured = _from_finished(finished, plugin.name, setting, cells, said)
    else:
        measured = _measured(name, plugin.name, setting, cells_folder(out, plugin.name, setting), cells, num_jobs, said)
    outcome = experiment.outcome({key: measured[key]["values"] for key in keys}, setting)
    facts = {
        "code_version": __version__,
        "machine": sorted({cell["machine"] for cell in measured.values()}),
        "seconds": round(sum(cell["seconds"] for cell in measured.values()), 1),
    }
    values = {key: measured[key]["values"] for key in keys}
    result = Result(plugin.name, plugin.paper, plugin.summary, setting, values, outcome, facts)
    text = json.dumps(finite(result.to_dict()), indent=1, allow_nan=False) + "\n"
    if not is_there(finished) or finished.read_text() != text:
        write_atomic((finished, text.encode()))
    shutil.rmtree(cells_folder(out, plugin.name, setting), ignore_errors=True)
    return result


def result_path(out: Path, name: str, setting: Setting) -> Path:
    """The file of a finished experiment."""
    return out / f"{name}.{setting.space.name}.json"


def cells_folder(out: Path, name: str, setting: Setting) -> Path:
    """The folder of the cells of an unfinished one."""
    return out / f"{name}.{setting.space.name}.cells"


def _measured(
    address: str, name: str, setting: Setting, folder: Path, cells: list[Cell], num_jobs: int, on_done: OnDone
) -> dict[str, dict[str, Any]]:
    """What every cell measured, from its file or from a worker now."""
    found = {cell.key: kept for cell in cells if (kept := _read_cell(folder, name, setting, cell)) is not None}
    for key in found:
        on_done(key, "found")
    waiting = [cell for cell in cells if cell.key not in found]
    failed: list[tuple[str, str]] = []
    started: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(num_jobs) as pool:
        try:
            lines = {cell.key: _line(address, name, setting, cell, folder) for cell in waiting}
            futures = {pool.submit(run_worker, WORKER, lines[cell.key], started): cell for cell in waiting}
            for future in as_completed(futures):
                cell, reason = futures[future], future.result()
                on_done(cell.key, reason or "done")
                if reason:
                    failed.append((cell.key, reason))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.terminate()  # an interrupt need not have reached it
            raise
    if failed:
        key, reason = failed[0]
        raise ExperimentError(f"{len(failed)} of {len(cells)} cells of {name!r} failed, {key}: {reason}")
    for cell in waiting:
        kept = _read_cell(folder, name, setting, cell)
        assert kept is not None  # its worker ended well
        found[cell.key] = kept
    return found


def _line(address: str, name: str, setting: Setting, cell: Cell, folder: Path) -> str:
    request = {
        "address": address,
        "name": name,
        "task": dataclasses.asdict(setting.task),
        "num_seeds": setting.num_seeds,
        "table": setting.table,
        "latency": setting.latency,
        "key": cell.key,
        "file": str(folder / f"{cell.key}.json"),
    }
    return json.dumps(request, default=str)


def cell_identity(name: str, setting: Setting, cell: Cell) -> dict[str, Any]:
    """What decides a cell; more seeds add cells and change none."""
    whole = identity(name, setting)
    whole["setting"].pop("num_seeds")
    return {**whole, "options": json.loads(json.dumps(cell.options)), "code_version": __version__}


def keep_cell(path: Path, name: str, setting: Setting, cell: Cell, values: dict[str, Any], seconds: float) -> None:
    """Write what a cell measured; called by its worker."""
    kept = {
        "identity": cell_identity(name, setting, cell),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "seconds": round(seconds, 2),
        "values": values,
    }
    write_atomic((path, json.dumps(finite(kept), allow_nan=False).encode()))


def _read_cell(folder: Path, name: str, setting: Setting, cell: Cell) -> dict[str, Any] | None:
    """What a cell measured; None where it was not yet."""
    path = folder / f"{cell.key}.json"
    if not is_there(path):
        return None
    kept = _read_object(path)
    if kept.get("identity") != cell_identity(name, setting, cell):
        raise ArgumentError(f"{str(path)!r} was measured with another setting: delete {str(folder)!r}, or choose --out")
    return kept


def _from_finished(path: Path, name: str, setting: Setting, cells: list[Cell], on_done: OnDone) -> dict[str, Any]:
    result = _read_object(path)
    known, keys = result.get("cells"), {cell.key for cell in cells}
    same = {key: result.get(key) for key in identity(name, setting)} == identity(name, setting)
    if not same or not isinstance(known, dict) or set(known) != keys:
        raise ArgumentError(f"{str(path)!r} is of another setting: delete it, or choose another folder with --out")
    for key in keys:
        on_done(key, "found")
    facts = result["facts"]
    share = {"machine": ", ".join(facts["machine"]), "seconds": facts["seconds"] / len(keys)}
    return {key: {"values": known[key], **share} for key in keys}


def _read_object(path: Path) -> dict[str, Any]:
    value = parse_json(read_file(path, "result of an experiment", MAX_RESULT_BYTES), repr(str(path)))
    if not isinstance(value, dict):
        raise CorruptFileError(f"{str(path)!r} holds no JSON object: delete it to measure again")
    return value
