"""How fast the table is: load, look-ups, and the command as a whole process, each beside the path it replaces.

    python tests/perf/bench_table.py

The table is made up (16,384 architectures x 3 runs), so no download is needed. The other path is what users of the
published files do: parse the JSON file and index a dict. Times are medians; the ratios compare paths of this run.

What is kept with a table is measured against the path that works it out again: the words beside an accuracy, the file
of learning curves (on the shipped table), and the first load in a new process beside PyArrow's own reading of the file.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import make_info, make_rows, write_table  # noqa: E402

import channel_bench as cb  # noqa: E402
from channel_bench.nats import create  # noqa: E402
from channel_bench.record import CURVE_METRICS  # noqa: E402
from channel_bench.table import Table  # noqa: E402


def median_s(function: Callable[[], Any], repeats: int) -> float:
    """Median wall time of a call, in seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


FIRST_LOAD = """
import sys, time
import channel_bench.table.sources, pyarrow.parquet
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
path, before, started = sys.argv[2], resident(), time.perf_counter()
if sys.argv[1] == "table":
    kept = channel_bench.table.sources.Table.read(path)
else:
    kept = pyarrow.parquet.ParquetFile(path).read(use_threads=False)
print(time.perf_counter() - started, resident() - before)
"""


def first_load(what: str, path: Path) -> tuple[float, float]:
    """Median seconds and MiB of the first load in a process, over those of the imports."""
    command = [sys.executable, "-c", FIRST_LOAD, what, str(path)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(7)]
    seconds, mebibytes = zip(*([float(number) for number in run] for run in runs), strict=True)
    return statistics.median(seconds), statistics.median(mebibytes)


def kept_paths() -> None:
    """Measure and print what a table keeps against working it out at every question."""
    import h5py

    table = cb.load("resnet-mini")
    api = create(table)
    curves_path = table.path.parent / table.info.curves_file

    def reopened() -> dict[str, Any]:
        with h5py.File(curves_path, "r") as file:
            row = list(file["arch"][:]).index(b"4344424")
            return {metric: file[metric][row] for metric in CURVE_METRICS}

    def recounted() -> str:
        table._meanings.clear()
        return table.meaning()

    table.curves("4344424")

    def many(function: Callable[[], Any], number: int) -> float:
        return 1e6 * median_s(lambda: [function() for _ in range(number)], 7) / number

    recount, reopen = many(recounted, 50), many(reopened, 50)
    for what, function, slow, beside in (
        ("get_more_info(index)", lambda: api.get_more_info(15351), recount, "counting all cells for its comment"),
        ("get_more_info(iepoch=5)", lambda: api.get_more_info(15351, iepoch=5), reopen, "opening the file of curves"),
        ("curves(arch)", lambda: table.curves("4344424"), reopen, "opening the file of curves"),
        ("query(arch)", lambda: table.query("4344424"), None, ""),
    ):
        taken = many(function, 2000)
        against = f"{slow / taken:.1f}x as fast as {beside} alone ({slow:.0f} us)" if slow else ""
        print(f"{what:28}{taken:7.1f} us   {against}")
    (seconds, mebibytes), (bare_s, bare_mib) = (first_load(what, table.path) for what in ("table", "pyarrow"))
    print(
        f"{'first load after import':28}{1e3 * seconds:7.1f} ms   {mebibytes:.0f} MiB; PyArrow alone reads the file in"
        f" {1e3 * bare_s:.1f} ms and {bare_mib:.0f} MiB"
    )


def main() -> None:
    """Measure and print."""
    space = cb.get_space("resnet")
    rows = make_rows(space, 16384, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = write_table(Path(folder) / "table.parquet", rows, make_info(space), compression="zstd")
        results: dict[str, Any] = {}
        for row in rows:
            entry = results.setdefault(row["arch"], {"acc": [], "flops": row["flops"], "params": row["params"]})
            entry["acc"].append(row["best_test_acc"])
        for entry in results.values():
            entry["mean"] = sum(entry["acc"]) / 3
        json_path = Path(folder) / "table.json"
        json_path.write_text(json.dumps(results))

        table = Table.read(path)
        texts, digits = space.texts(), space.archs()
        table.accuracy("4344424")

        def scalar() -> None:
            for text in texts:
                table.accuracy(text)

        def from_dict() -> None:
            for text in texts:
                results[text]["mean"]

        command = [sys.executable, "-m", "channel_bench.cli", "query", "resnet", "4344424", "--table", str(path)]
        load_ms = 1e3 * median_s(lambda: Table.read(path), 21)
        parse_ms = 1e3 * median_s(lambda: json.loads(json_path.read_bytes()), 21)
        scalar_us = 1e6 * median_s(scalar, 9) / len(texts)
        dict_us = 1e6 * median_s(from_dict, 9) / len(texts)
        texts_us = 1e6 * median_s(lambda: table.accuracy(texts), 51) / len(texts)
        digits_us = 1e6 * median_s(lambda: table.accuracy(digits), 51) / len(texts)
        command_s = median_s(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True), 7)
        json_s = median_s(lambda: subprocess.run([*command, "--json"], stdout=subprocess.DEVNULL, check=True), 7)
        bare_s = median_s(lambda: subprocess.run([sys.executable, "-c", "import numpy"], check=True), 7)
        for what, time_taken, beside in (
            (
                "load a table, all checks",
                f"{load_ms:.1f} ms",
                f"{parse_ms / load_ms:.2f}x as fast as json.loads ({parse_ms:.1f} ms)",
            ),
            (
                "look up one text",
                f"{scalar_us:.3f} us",
                f"{scalar_us / dict_us:.2f}x the time of a dict ({dict_us:.3f} us)",
            ),
            ("look up a batch of texts", f"{texts_us:.3f} us", f"{scalar_us / texts_us:.2f}x as fast as one at a time"),
            (
                "look up a batch of digits",
                f"{digits_us:.3f} us",
                f"{scalar_us / digits_us:.2f}x as fast as one at a time",
            ),
            (
                "channel-bench query",
                f"{command_s:.3f} s",
                f"{command_s / bare_s:.2f}x python -c 'import numpy' ({bare_s:.3f} s)",
            ),
            ("channel-bench query --json", f"{json_s:.3f} s", f"{json_s / bare_s:.2f}x"),
        ):
            print(f"{what:28}{time_taken:>10}   {beside}")
    kept_paths()


if __name__ == "__main__":
    main()
