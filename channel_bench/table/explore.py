"""One self-contained HTML page in which a person walks through a table: every architecture, seven sliders, no server.

    >>> write_explorer(load("resnet"), Path("resnet.html"))     # or: channel-bench explore resnet -o resnet.html

The page needs no network and no library: numbers, styles and code are in the one file, and its content security policy
forbids it to load anything. A plotting library would add 3 to 5 MB; the canvas code of pages/explore.js draws 16,384
points in 18 ms and follows the pointer in 1 ms (headless Chromium without a GPU). What the page shows is computed here,
from `Table`; the script looks it up and draws it.

Arrays travel as base64 of little-endian values in index order, so that the page has the table's very numbers. Learning
curves are of the test accuracy only, rounded to 0.01 points and compressed; where they would make the page larger than
MAX_PAGE_BYTES they are left out, and the page says so.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from channel_bench._version import __version__
from channel_bench.errors import MissingDataError, printable
from channel_bench.space import NUM_ARCHS, NUM_WIDTHS, FloatArray, Space
from channel_bench.support.durable import write_atomic
from channel_bench.support.page import assemble, check_page_path, common_parts, pack_array
from channel_bench.table import published, shipped
from channel_bench.table.noise import pooled_std, run_stds
from channel_bench.table.ranks import ranks
from channel_bench.table.table import Table

PAGES = Path(__file__).parent / "pages"
MAX_PAGE_BYTES = 8 * 2**20
"""Largest page that learning curves may make; without them a page of three runs has 1.2 MB."""
CURVE_UNIT = 0.01
"""Percentage points per step of a learning curve: what one of 10,000 test images is worth."""
MISSING_STEP = 2**16 - 1

_ROLES = {
    "resnet": (
        "stem, skip line of stage 1",
        "hidden, block 1",
        "hidden, block 2",
        "hidden, block 3 (stride 2)",
        "skip line of stage 2, classifier input",
        "hidden, block 4",
        "hidden, block 5",
    ),
    "mobilenet": (
        "stem, skip line of stage 1",
        "expanded, block 1",
        "expanded, block 2",
        "expanded, block 3 (stride 2)",
        "skip line of stage 2",
        "expanded, block 4",
        "1x1 output convolution, classifier input",
    ),
}
"""What each slot is, per built-in family; training/models builds it."""


def roles_of(space: Space) -> tuple[str, ...]:
    """What each slot of a space is, in words; of a family that is not built in, the layers that write it."""
    if not space.own_layers:
        return _ROLES[space.family]
    writers: list[list[str]] = [[] for _ in space.max_channels]
    for layer in space.layers[:-1]:
        writers[layer.writes].append(layer.name)
    return tuple(f"output of {names[0]}{' ...' if len(names) > 1 else ''}" for names in writers)


def write_explorer(table: Table, path: Path, metric: str = "best_test_acc") -> int:
    """Write the page of a table, whole or not at all.

    Args:
        table: The table.
        path: File to write, ending in .html.
        metric: The accuracy to show, "best_test_acc" or "test_acc".

    Returns:
        Bytes written.

    Raises:
        ArgumentError: The path does not end in .html, or no such metric.
        MissingDataError: The table does not have the metric.
        CorruptFileError: The file of learning curves is damaged or belongs to another table.
        StorageError: The file system refused.
    """
    check_page_path(path)
    page = explorer_page(table, metric).encode()
    write_atomic((path, page))
    return len(page)


def explorer_page(table: Table, metric: str = "best_test_acc") -> str:
    """The page as text; arguments and errors as `write_explorer`."""
    facts = _facts(table, metric)
    curves, note = _curves(table)
    page = _assemble({**facts, "curves": curves, "curves_note": note})
    if curves is not None and len(page.encode()) > MAX_PAGE_BYTES:
        note = f"This table has learning curves, but with them the page would exceed {MAX_PAGE_BYTES / 2**20:.0f} MiB."
        page = _assemble({**facts, "curves": None, "curves_note": note})
    return page


def _assemble(data: dict[str, Any]) -> str:
    data = _printable(data)
    return assemble(PAGES, "explore", title=data["title"], data=data, more=common_parts())


def _printable(value: Any) -> Any:
    """Data of the page with every text made harmless: names and sources in a table are what others wrote."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list) else value


def _facts(table: Table, metric: str) -> dict[str, Any]:
    space, info = table.space, table.info
    cells = table.cells(metric)
    means = table.accuracies(metric=metric)
    trained = np.isfinite(means)
    if not trained.any():
        raise MissingDataError(f"table {table.name!r} has no finished run: there is nothing to explore")
    meaning = table.meaning(metric)
    shown = "" if trained.all() else f"{int(trained.sum()):,} of "
    run_std = pooled_std(cells)
    channels = space.channel_counts([(digit,) * len(space.max_channels) for digit in range(1, NUM_WIDTHS + 1)])
    return {
        "title": f"{space.name}: {shown}{NUM_ARCHS:,} widths",
        "metric": metric,
        "num_runs": table.num_runs,
        "num_ranked": int(trained.sum()),
        "run_std": run_std,
        "slots": [
            {"role": role, "channels": column}
            for role, column in zip(roles_of(space), channels.T.tolist(), strict=True)
        ],
        "code": _code(table, metric),
        "about": (
            f"Every point is a network of space {space.name}, trained on {info.dataset} with its own seven widths."
            f" Accuracy here is {metric}: {meaning}."
        ),
        "noise": _noise(run_std, table.num_runs, means),
        "provenance": [
            ["Table", table.name],
            ["Data set", info.dataset],
            ["Accuracy", f"{metric}: {meaning}"],
            ["Runs", f"{len(table.arrow):,}, at most {table.num_runs} of an architecture"],
            ["Recipe", f"{info.recipe['name']}, {info.recipe['epochs']} epochs"],
            ["Content SHA-256", info.content_sha256 or "none, the table was not read from a file"],
            ["Costs", "FLOPs are multiply-accumulates of one image, parameters all that is learned; exact integers"],
            ["Rank", "by mean accuracy; equal to 0.0001 points shares the best rank"],
            ["Written by", f"channel-bench {__version__}"],
        ],
        "arrays": {
            "mean": pack_array(means, "<f8"),
            "std": pack_array(run_stds(cells), "<f8"),
            "runs": pack_array(cells, "<f8"),
            "rank": pack_array(ranks(means), "<i4"),
            "flops": pack_array(space.flops(), "<f8"),  # whole numbers below 2**53, so exact
            "params": pack_array(space.params(), "<f8"),
        },
    }


def _code(table: Table, metric: str) -> str:
    """The line that asks the table for the architecture ARCH."""
    is_default = table.name == published.TABLE_NAME or (
        table.path is not None and table.path.parent == shipped.shipped_dir()
    )
    file = table.path.name if table.path is not None else table.name
    chosen = "" if is_default else f", table={json.dumps(file)}"
    extra = "" if metric == "best_test_acc" else f", metric={json.dumps(metric)}"
    return f'cb.load({json.dumps(table.space.name)}{chosen}).query("ARCH"{extra})'


def _noise(run_std: float | None, num_runs: int, means: FloatArray) -> str:
    """How far seeds alone move an accuracy, in words.

    Two means over k runs of equal networks differ by a normal variable of standard deviation s sqrt(2 / k); 1.96 of
    these are exceeded in one case of twenty.
    """
    if run_std is None:
        return "Each architecture has a single run, so this table cannot say how noisy an accuracy is."
    needed = 1.96 * run_std * math.sqrt(2 / num_runs)
    close = int((means >= np.nanmax(means) - needed).sum())
    return (
        f"A run is noisy: seeds alone move it by a standard deviation of {run_std:.2f} points (pooled over"
        f" architectures), and a mean over {num_runs} runs by {run_std / math.sqrt(num_runs):.2f}. Means that differ by"
        f" less than {needed:.2f} points may well be equal; {close:,} architectures are that close to the best."
    )


def _curves(table: Table) -> tuple[dict[str, Any] | None, str]:
    """Test accuracy after every epoch of every run, compressed; and what to say about it."""
    try:
        archs, curves = table.all_curves()
    except MissingDataError:
        return None, "This table has no learning curves."
    steps = curves["test_acc"].astype(np.float64) / CURVE_UNIT
    dense = np.full((NUM_ARCHS, *steps.shape[1:]), MISSING_STEP, "<u2")
    dense[table.space.index(archs)] = np.where(np.isfinite(steps), np.nan_to_num(steps).round(), MISSING_STEP)
    packed = {
        "dtype": "<u2",
        "shape": list(dense.shape),
        "unit": CURVE_UNIT,
        "missing": MISSING_STEP,
        "base64": base64.b64encode(zlib.compress(dense.tobytes(), 9)).decode(),
    }
    return packed, f"Rounded to {CURVE_UNIT} points; a dot marks the first best epoch of each run."
