"""How fast the table is: load, look-ups, and the command as a whole process, each beside the path it replaces.

    python tests/perf/bench_table.py

The table is made up (16,384 architectures x 3 runs), so no download is needed. The other path is what users of the
published files do: parse the JSON file and index a dict. Times are medians; the ratios compare paths of this run.
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
from channel_bench.table import Table  # noqa: E402


def median_s(function: Callable[[], Any], repeats: int) -> float:
    """Median wall time of a call, in seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


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


if __name__ == "__main__":
    main()
