"""A worker process that measures one cell of an experiment, which is asked for as JSON, and writes its file.

`harness.experiments.run` starts it as ``python -m harness.experiments.worker`` (`channel_bench.support.workers`).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from channel_bench.support.workers import serve
from harness.experiments.contract import EXPERIMENTS, Setting
from harness.experiments.run import keep_cell
from harness.ranking.request import TaskOptions


def measure_cell(line: str) -> None:
    """Measure the cell that a line of JSON asks for, and write its file."""
    request = json.loads(line)
    task = request["task"]
    if task["data_dir"] is not None:
        task["data_dir"] = Path(task["data_dir"])
    given = {name: request[name] for name in ("num_seeds", "table", "latency")}
    setting = Setting(task=TaskOptions(**task), **given)
    experiment = EXPERIMENTS.make(request["address"])
    cell = next(cell for cell in experiment.cells(setting) if cell.key == request["key"])
    # What PyTorch takes when it is imported; to import it for this would cost cells that need none of it two seconds.
    os.environ["OMP_NUM_THREADS"] = str(setting.task.threads)
    started = time.perf_counter()
    values = experiment.measure(cell, setting)
    keep_cell(Path(request["file"]), request["name"], setting, cell, values, time.perf_counter() - started)


if __name__ == "__main__":
    serve(measure_cell)
