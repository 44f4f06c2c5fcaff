"""Every reader of files, on files that are damaged or hostile: a ChannelBenchError of one line, or a good answer.

Two kinds of damage: bytes of a good file changed, cut or repeated; and, for JSON, one value of a good file replaced by
one of another type, size or spelling. Whatever comes, a reader may not raise anything else, and needs no memory to
speak of. With more examples: ``FUZZ_EXAMPLES=3000 python -m pytest tests/fuzz``.
"""

import copy
import gzip
import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import make_info, make_record, make_rows, write_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import channel_bench as cb
from channel_bench.builder.collect import collect
from channel_bench.builder.status import status
from channel_bench.builder.store import RunStore
from channel_bench.errors import ChannelBenchError
from channel_bench.latency import load_latency
from channel_bench.recipe import get_recipe
from channel_bench.table import Table
from harness.leaderboard.entries import entries_dir, read_entries, read_entry_scores
from harness.scores import make_scores, read_scores, write_scores

SPACE = cb.get_space("resnet-mini")
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 60))
MEMORY_MIB = 600
"""More than any of these readers takes on a good file, with all that the process has loaded by then."""

NASTY = [
    None, True, False, 0, -1, 5, 2**31, 2**63, 10**30, -(10**30), 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf"),
    "", " ", "5", "\x00", "\x1b[31mred", "\ud800", "a" * 300, "../../../etc/passwd", "/dev/zero", "1111111", "٣٣٣٣٣٣٣",
    [], [[]], {}, [None], {"": None}, [1] * 1000, {"a": {"b": {"c": []}}},
]  # fmt: skip


def paths_of(value, here=()):
    """Where the values of a JSON document stand."""
    yield here
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths_of(inner, (*here, key))


def replaced(value, where, by):
    """A copy of a JSON document with another value in one place."""
    if not where:
        return by
    copied = copy.deepcopy(value)
    inner = copied
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = by
    return copied


@st.composite
def damaged(draw, good: bytes):
    """Bytes of a file, damaged."""
    kind = draw(st.sampled_from(["flip", "cut", "repeat", "insert", "json", "json", "json"]))
    if kind == "json":
        try:
            document = json.loads(good)
        except ValueError:
            kind = "flip"
        else:
            where = draw(st.sampled_from(list(paths_of(document))[:400]))
            by = draw(st.sampled_from(NASTY))
            return json.dumps(replaced(document, where, by)).encode("utf-8", "surrogatepass")
    start = draw(st.integers(0, len(good) - 1))
    if kind == "cut":
        return good[:start]
    if kind == "repeat":
        return good[:start] + good[start : start + 50] * 20 + good[start:]
    if kind == "insert":
        return good[:start] + draw(st.binary(min_size=1, max_size=20)) + good[start:]
    return good[:start] + bytes([good[start] ^ (1 << draw(st.integers(0, 7)))]) + good[start + 1 :]


def check(read, path: Path):
    """Read a file that may be anything."""
    try:
        read(path)
    except ChannelBenchError as error:
        assert str(error).strip() and str(error).isprintable(), repr(str(error))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert used < STARTED_MIB + MEMORY_MIB, f"{used:.0f} MiB"


STARTED_MIB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_scores_of(path):
    return read_scores(path, SPACE)


def read_table(path):
    table = Table.read(path)
    table.top(3)
    return table


def read_store(path):
    store = RunStore.open(path.parent)
    status(store)
    collect(path.parent, path.parent.parent / "out.parquet")


def read_part(path):
    read_store(path.parents[2] / "store.json")


def read_leaderboard(path):
    for entry in read_entries(path.parent):
        for name in entry.results:
            read_entry_scores(entry, cb.get_space(name))


@pytest.fixture(scope="module")
def goods(tmp_path_factory):
    """A good file of every kind: name -> (path, reader)."""
    folder = tmp_path_factory.mktemp("good")
    found = {}
    scores = make_scores("mine", SPACE, range(200), [float(index % 17) for index in range(200)], {"seed": 1})
    write_scores(scores, folder / "scores.parquet")
    found["scores.parquet"] = folder / "scores.parquet", read_scores_of
    (folder / "scores.csv").write_text("arch,score\n" + "".join(f"{SPACE.text(i)},{i / 7}\n" for i in range(50)))
    found["scores.csv"] = folder / "scores.csv", read_scores_of
    (folder / "scores.json").write_text(json.dumps({SPACE.text(i): i / 7 for i in range(50)}))
    found["scores.json"] = folder / "scores.json", read_scores_of
    write_table(folder / "table.parquet", make_rows(SPACE, 16, 2), make_info(SPACE))
    found["table.parquet"] = folder / "table.parquet", read_table
    (folder / "scores.jsonl").write_text("".join(f'{{"arch": {SPACE.text(i)}, "score": {i / 7}}}\n' for i in range(50)))
    found["scores.jsonl"] = folder / "scores.jsonl", read_scores_of
    nested = {"columns": ["arch", "score"], "index": [0, 1], "data": [[SPACE.text(0), 0.5], [SPACE.text(1), 0.25]]}
    (folder / "scores-split.json").write_text(json.dumps(nested))
    found["scores-split.json"] = folder / "scores-split.json", read_scores_of
    np.save(folder / "scores.npy", np.arange(16384.0))
    found["scores.npy"] = folder / "scores.npy", read_scores_of
    np.savez_compressed(folder / "scores.npz", np.arange(16384) % 7)
    found["scores.npz"] = folder / "scores.npz", read_scores_of
    (folder / "scores.csv.gz").write_bytes(gzip.compress((folder / "scores.csv").read_bytes()))
    found["scores.csv.gz"] = folder / "scores.csv.gz", read_scores_of
    store = RunStore.create(folder / "runs", SPACE, get_recipe("mini", epochs=2), "digits", "d1")
    for run in range(3):
        store.add(make_record(run=run))
    found["store.json"] = folder / "runs" / "store.json", read_store
    found["part"] = next((folder / "runs" / "parts").rglob("*.json")), read_part
    (folder / "entries").mkdir()
    for name in ("autoslim.json", "autoslim.resnet-mini.parquet", "autoslim.mobilenet-mini.parquet"):
        shutil.copy(entries_dir() / name, folder / "entries")
    found["entry"] = folder / "entries" / "autoslim.json", read_leaderboard
    return found


KINDS = [
    *("scores.parquet", "scores.csv", "scores.json", "scores.jsonl", "scores-split.json", "scores.npy", "scores.npz"),
    *("scores.csv.gz", "table.parquet", "store.json", "part", "entry"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_file_is_read(goods, kind):
    path, read = goods[kind]
    read(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_one_line_or_a_good_answer(goods, kind, tmp_path_factory):
    path, read = goods[kind]
    good = path.read_bytes()
    place = tmp_path_factory.mktemp("bad")
    inside = path.relative_to(path.parents[1]) if kind not in ("part",) else path.relative_to(path.parents[3])
    if kind in ("store.json", "part", "entry"):
        shutil.copytree(path.parents[1 if kind != "part" else 3] / inside.parts[0], place / inside.parts[0])
    target = place / inside
    target.parent.mkdir(parents=True, exist_ok=True)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(damaged(good))
    def run(content):
        target.write_bytes(content)
        check(read, target)

    run()


@pytest.mark.parametrize("reader", [read_scores_of, read_table, lambda path: load_latency(path, SPACE)])
@pytest.mark.parametrize("kind", ["link to a device", "pipe", "folder", "absent"])
def test_what_is_no_regular_file_is_refused(tmp_path, reader, kind):
    path = tmp_path / "given.parquet"
    if kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(ChannelBenchError):
        reader(path)
