"""The published Channel-Bench-Macro results: fetch, check, convert to a table file in the user's data folder.

Two JSON files, one per space, of the public repository xiusu/Channel-Bench-Macro (Su et al., BCNetV2). The repository
has no licence, so this project does not carry the data: it downloads it, or imports a copy that you have, and insists
on the bytes of its SHA-256. Each row is converted as it stands; the published accuracy is the best test accuracy over
60 epochs, so it becomes `best_test_acc`, and everything that was not published stays null.

The published accuracies are multiples of 0.01 percent that went through single precision (93.66999816894531 for 93.67),
and they are kept so. Means that would tie exactly therefore differ in the sixth decimal, which moves a Kendall
correlation in the fourth; ranks are given on means rounded to 0.0001 (table.py).
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from channel_bench._version import __version__
from channel_bench.errors import CorruptFileError, DownloadError, MissingDataError
from channel_bench.recipe import get_recipe
from channel_bench.record import TableInfo, make_arrow, parquet_bytes, with_info
from channel_bench.space import NUM_ARCHS, Space, get_space
from channel_bench.support.durable import write_atomic
from channel_bench.support.folders import default_data_dir
from channel_bench.support.reading import read_file

TABLE_NAME = "cifar10-published"
NUM_RUNS = 3
BASE_URL = "https://raw.githubusercontent.com/xiusu/Channel-Bench-Macro/main"
TIMEOUT_S = 60
"""Longest silence of a server."""
MAX_DOWNLOAD_S = 1800.0
"""Longest time for a file: 2 kB per second."""
FILES = {
    "mobilenet": ("Results_MobileNet.json", "f640474d8ff3ff2231d0c45986bb0f10af291545316342fb009952e7641908e0"),
    "resnet": ("Results_ResNet.json", "bf13bcaea3f2076f2c1bfbf5c2fee044aafe0385fae6a0d64c433b1d7f5a7520"),
}
"""File name and SHA-256 per space."""
SIZES = {"mobilenet": 2_793_867, "resnet": 2_821_965}
"""Bytes of each; a download is left after one more."""


def published_spaces() -> list[str]:
    """Spaces that have published results."""
    return list(FILES)


def table_path(space: Space, data_dir: Path | None = None) -> Path:
    """Where the converted table of a space lies, or would."""
    return (data_dir or default_data_dir()) / f"{space.name}.{TABLE_NAME}.v1.parquet"


def install(
    *,
    source: Path | None = None,
    base_url: str = BASE_URL,
    data_dir: Path | None = None,
) -> list[Path]:
    """Fetch, check and convert the published results of both spaces.

    Nothing is written before both files have been checked whole; each table then replaces an older one in a single
    step.

    Args:
        source: Folder of local copies of the two JSON files; None downloads them.
        base_url: Folder to download from, for mirrors.
        data_dir: Where the tables go.

    Returns:
        Paths of the tables.

    Raises:
        MissingDataError: source has no such file.
        DownloadError: The server cannot be reached or has no such file.
        CorruptFileError: The bytes are not the published ones.
        StorageError: The data folder cannot be written.
    """
    tables = {}
    for name, (file, sha256) in FILES.items():
        size = SIZES[name]
        origin = f"{base_url.rstrip('/')}/{file}" if source is None else str(source / file)
        data = _download(origin, size + 1) if source is None else _read(source / file, size + 1)
        got = hashlib.sha256(data).hexdigest()
        if got != sha256:
            raise CorruptFileError(
                f"{origin!r} is not the published file: SHA-256 {got[:12]}..., expected {sha256[:12]}..."
                f" ({len(data):,} bytes{' or more' if len(data) > size else ''}); nothing was changed"
            )
        tables[name] = parquet_bytes(convert(get_space(name), data, origin))
    files = [(table_path(get_space(name), data_dir), contents) for name, contents in tables.items()]
    write_atomic(*files)
    return [path for path, _ in files]


def convert(space: Space, data: bytes, origin: str) -> pa.Table:
    """Convert one published JSON file.

    Args:
        space: The space that it is of.
        data: Its bytes.
        origin: Where they come from, for messages.

    Returns:
        A table of record.SCHEMA with its provenance, 49,152 rows.

    Raises:
        CorruptFileError: Truncated JSON, a missing or unknown architecture, or values that contradict the closed form.
    """
    try:
        results: dict[str, dict[str, Any]] = json.loads(data)
    except ValueError as error:
        raise CorruptFileError(f"{origin!r} is not complete JSON: {error}") from None
    texts = space.texts()
    if not isinstance(results, dict) or results.keys() != set(texts):
        keys = set(results) if isinstance(results, dict) else set()
        example = min(set(texts) ^ keys)
        raise CorruptFileError(
            f"{origin!r} holds {len(keys & set(texts))} of the {NUM_ARCHS} architectures; {example!r} is"
            f" {'missing' if example in texts else 'not one of them'}"
        )
    rows = []
    for text, flops, params in zip(texts, space.flops().tolist(), space.params().tolist(), strict=True):
        result = results[text]
        try:
            accuracies = [float(value) for value in result["acc"]]
            same_costs = result["flops"] == flops and result["params"] == params
            plausible = len(accuracies) == NUM_RUNS and all(0 <= value <= 100 for value in accuracies)
            consistent = plausible and abs(sum(accuracies) / NUM_RUNS - result["mean"]) < 1e-6
        except (KeyError, TypeError, ValueError):
            same_costs = consistent = False
        if not (same_costs and consistent):
            raise CorruptFileError(f"{origin!r}: the row of {text} is not what was published: {str(result)[:120]}")
        for run, accuracy in enumerate(accuracies):
            rows.append(_row(text, run, accuracy, flops, params))
    return with_info(make_arrow(rows), _info(space))


def _row(arch: str, run: int, accuracy: float, flops: int, params: int) -> dict[str, Any]:
    return {
        "arch": arch,
        "run": run,
        "status": "ok",
        "best_test_acc": accuracy,
        "num_epochs": get_recipe("paper").epochs,
        "flops": flops,
        "params": params,
    }


def _info(space: Space) -> TableInfo:
    recipe = get_recipe("paper")
    return TableInfo(
        name=TABLE_NAME,
        space=space.name,
        space_fingerprint=space.fingerprint,
        dataset="cifar10",
        dataset_digest=None,
        recipe=recipe.to_dict(),
        recipe_fingerprint=recipe.fingerprint,
        accuracy="best test accuracy over 60 epochs, percent (no validation split was used)",
        source="published by Su et al. (github.com/xiusu/Channel-Bench-Macro)",
        code_version=__version__,
        torch_versions=[],
        devices=[],
    )


def _download(url: str, most_bytes: int) -> bytes:
    """The first bytes of what a server sends; the rest of a longer answer is not waited for."""
    # Here, because they take as long to import as a table takes to load.
    import http.client
    import urllib.request

    data, end = bytearray(), time.monotonic() + MAX_DOWNLOAD_S
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            while len(data) < most_bytes and (part := response.read1(most_bytes - len(data))):
                data += part
                if time.monotonic() > end:
                    raise TimeoutError(f"{len(data):,} bytes in {MAX_DOWNLOAD_S:.0f} s")
            if len(data) < most_bytes and getattr(response, "length", None):
                raise http.client.IncompleteRead(bytes(data), response.length)
    except (http.client.HTTPException, OSError, ValueError) as error:  # URLError is an OSError
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise DownloadError(
            f"cannot download {url!r}: {reason}; behind a firewall, pass copies with --from or a mirror with --url"
        ) from None
    return bytes(data)


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        return read_file(path, "published file", most_bytes)
    except MissingDataError as error:
        names = " and ".join(file for file, _ in FILES.values())
        raise MissingDataError(f"{error}: the folder must hold {names}") from None
