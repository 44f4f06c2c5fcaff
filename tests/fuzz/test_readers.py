"""Every reader of files, on files that are damaged or hostile: a ChannelBenchError of one line, or a good answer.

Two kinds of damage: bytes of a good file changed, cut or repeated; and, for JSON, one value of a good file replaced by
one of another type, size or spelling. Whatever comes, a reader may not raise anything else, and needs no memory to
speak of. With more examples: ``FUZZ_EXAMPLES=3000 python -m pytest tests/fuzz``.
"""

import contextlib
import copy
import dataclasses
import gzip
import hashlib
import json
import os
import resource
import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import make_info, make_record, make_rows, write_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import channel_bench as cb
from channel_bench import record
from channel_bench.builder import leases
from channel_bench.builder.collect import collect
from channel_bench.builder.status import status
from channel_bench.builder.store import Failure, RunStore, StoreInfo
from channel_bench.cli.options import latency_conditions
from channel_bench.errors import ChannelBenchError, MissingDataError
from channel_bench.latency import Conditions, LatencyModel, load_latency
from channel_bench.latency import model as latency_model
from channel_bench.recipe import get_recipe
from channel_bench.support.processes import this_process
from channel_bench.table import Table
from harness.leaderboard.entries import entries_dir, read_entries, read_entry_scores
from harness.scores import make_scores, read_scores, write_scores

SPACE = cb.get_space("resnet-mini")
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 60))
MEMORY_MIB = 600
"""More than any of these readers takes on a good file, with all that the process has loaded by then."""

BUILDER = json.dumps({"process": this_process(), "host": "node7"}) + "\n00000000000000000001\n"

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


def check(read, path: Path, started_mib: float):
    """Read a file that may be anything; `started_mib` is the most memory that the process had before."""
    try:
        read(path)
    except ChannelBenchError as error:
        assert str(error).strip() and str(error).isprintable(), repr(str(error))
    assert most_mib() < started_mib + MEMORY_MIB, f"{most_mib():.0f} MiB"


def most_mib():
    """The most memory that this process has had so far; earlier tests have their share in it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_scores_of(path):
    return read_scores(path, SPACE)


def read_table(path):
    table = Table.read(path)
    table.top(3)
    return table


def document_of(path):
    """A JSON document that may be damaged, then as a text."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return path.read_text("latin-1")


def read_relabelled_table(path):
    """A table whose metadata are the JSON of a file, under a right hash: made by whoever knows how."""
    facts = document_of(path)
    if isinstance(facts, dict):
        facts["info_sha256"] = hashlib.sha256(
            json.dumps({**facts, "info_sha256": ""}, sort_keys=True).encode()
        ).hexdigest()
    whole = pq.read_table(path.with_name("table.parquet"))
    target = path.with_name("relabelled.parquet")
    pq.write_table(whole.replace_schema_metadata({record.METADATA_KEY: json.dumps(facts).encode()}), target)
    table = read_table(target)
    repr(table), table._repr_html_(), table.meaning()
    with contextlib.suppress(MissingDataError):
        table.curves("1111111")
    return table


def read_curves_of(path):
    """Curves beside the table that they belong to."""
    return read_table(path.with_name("curved.parquet")).all_curves()


def read_resealed_latency(path):
    """A latency file under a right hash."""
    facts = document_of(path)
    if isinstance(facts, dict):
        facts.pop("sha256", None)
        facts["sha256"] = latency_model._hash(facts)
    path.write_text(json.dumps(facts))
    model = load_latency(path)
    latency_conditions(model), model.predict()
    return model


def read_store(path):
    leases.HEARTBEAT_S = 0.001  # nobody waits here for builders of other machines
    store = RunStore.open(path.parent)
    found = status(store)
    collect(path.parent, path.parent.parent / "out.parquet")
    return found, Table.read(path.parent.parent / "out.parquet")


def read_part(path):
    return read_store(path.parents[2] / "store.json")


def read_body(path):
    """What a part holds, under a checksum that is right."""
    body = path.read_bytes()
    part = next((path.parent / "parts").rglob("*-0.json"))
    part.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n")
    return read_store(path.parent / "store.json")


def read_stated(path):
    """What a store says of itself, under a hash that is right."""
    try:
        info = StoreInfo(**json.loads(path.read_bytes())).hashed()
        (path.parent / "store.json").write_text(json.dumps(dataclasses.asdict(info)))
    except (ValueError, TypeError):
        return None
    return read_store(path.parent / "store.json")


def read_beside(path):
    return read_store(path.parents[1] / "store.json")


def read_leaderboard(path):
    entries = read_entries(path.parent)
    return {
        (entry.method, name): read_entry_scores(entry, cb.get_space(name))
        for entry in entries
        for name in entry.results
    }


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
    table = Table.read(folder / "table.parquet")
    (folder / "metadata.json").write_text(json.dumps(dataclasses.asdict(table.info)))
    found["table metadata"] = folder / "metadata.json", read_relabelled_table
    curves = {name: np.ones((2, 2, 2), np.float32) for name in record.CURVE_METRICS}
    with h5py.File(folder / "curves.h5", "w") as file:
        file.attrs["content_sha256"] = table.info.content_sha256
        file["arch"] = np.array(["1111111", "2111111"], "S7")
        for name, values in curves.items():
            file.create_dataset(name, data=values, compression="gzip")
    digest = record.curves_hash(["1111111", "2111111"], curves)
    info = make_info(SPACE, curves_file="curves.h5", curves_sha256=digest)
    write_table(folder / "curved.parquet", make_rows(SPACE, 16, 2), info)
    found["curves.h5"] = folder / "curves.h5", read_curves_of
    layers_ms = {layer.name: np.ones((4,) * len(layer.slots)) for layer in SPACE.layers}
    LatencyModel(SPACE, layers_ms, Conditions("cpu", "2", 1, 4, "fp32", (1, 8, 8))).write(folder / "latency.json")
    found["latency.json"] = folder / "latency.json", lambda path: load_latency(path)
    found["latency resealed"] = folder / "latency.json", read_resealed_latency
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
    (folder / "runs" / "body").write_text(make_record().to_json())
    found["body"] = folder / "runs" / "body", read_body
    (folder / "runs" / "stated").write_text(json.dumps(dataclasses.asdict(store.info)))
    found["stated"] = folder / "runs" / "stated", read_stated
    store.write_plan(["1234123", "4444444"], 3, "a" * 32)
    found["plan"] = folder / "runs" / "plans" / f"{'a' * 32}.json", read_beside
    store.add_failure(
        Failure(arch="4444444", run=0, seed=0, error="no room", trace="", host="node7", time="2026-01-01", tries=3)
    )
    found["failure"] = folder / "runs" / "failed" / "4444444-0.json", read_beside
    for name, text in (("builders", BUILDER), ("leases", "b" * 32)):
        (folder / "runs" / name).mkdir()
        (folder / "runs" / name / {"builders": "b" * 32, "leases": "4444444-0.1"}[name]).write_text(text)
    found["builder"] = folder / "runs" / "builders" / ("b" * 32), read_beside
    found["lease"] = folder / "runs" / "leases" / "4444444-0.1", read_beside
    (folder / "entries").mkdir()
    for path in (entries_dir() / "autoslim.json", *entries_dir().glob("autoslim.*.parquet")):
        shutil.copy(path, folder / "entries")
    found["entry"] = folder / "entries" / "autoslim.json", read_leaderboard
    return found


FIFTY = list(range(50)), [index / 7 for index in range(50)]
GOOD_SCORES = {
    **dict.fromkeys(["scores.csv", "scores.json", "scores.jsonl", "scores.csv.gz"], FIFTY),
    "scores.parquet": (list(range(200)), [float(index % 17) for index in range(200)]),
    "scores-split.json": ([0, 1], [0.5, 0.25]),
    "scores.npy": (list(range(16384)), [float(index) for index in range(16384)]),
    "scores.npz": (list(range(16384)), [float(index % 7) for index in range(16384)]),
}

BESIDE = ["body", "stated"]
IN_STORE = ["plan", "failure", "builder", "lease"]
KINDS = [
    *("scores.parquet", "scores.csv", "scores.json", "scores.jsonl", "scores-split.json", "scores.npy", "scores.npz"),
    *("scores.csv.gz", "table.parquet", "table metadata", "curves.h5", "latency.json", "latency resealed"),
    *("store.json", "part", *BESIDE, *IN_STORE, "entry"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_file_is_read(goods, kind):
    path, read = goods[kind]
    found = read(path)
    if kind.startswith("scores"):
        assert (found.indices.tolist(), found.values.tolist()) == GOOD_SCORES[kind]
    elif kind in ("table.parquet", "table metadata"):
        assert found.info.name == "made-up" and found.num_runs == 2
        assert found.accuracy("1111111", run=0) == make_rows(SPACE, 16, 2)[0]["best_test_acc"]
    elif kind == "curves.h5":
        assert found[0] == ["1111111", "2111111"] and (found[1]["test_acc"] == 1).all()
    elif kind.startswith("latency"):
        assert found.predict() == pytest.approx(len(SPACE.layers)) and found.conditions.device == "cpu"
    elif kind == "entry":
        scores = found["autoslim", "resnet-mini"]
        assert [len(each.values) for each in scores] == [len(SPACE)] * 3 and len(
            {each.values[5] for each in scores}
        ) > 1
    else:
        told, table = found
        assert told.num_done == 3 and table.cells()[SPACE.index("1234123")].tolist() == [50.0, 50.0, 50.0]


@pytest.mark.processes
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_one_line_or_a_good_answer(goods, kind, tmp_path_factory):
    path, read = goods[kind]
    good = path.read_bytes()
    place = tmp_path_factory.mktemp("bad")
    top = path.parents[3 if kind == "part" else 2 if kind in IN_STORE else 1]
    inside = path.relative_to(top)
    if kind in ("store.json", "part", "entry", *BESIDE, *IN_STORE):
        shutil.copytree(top / inside.parts[0], place / inside.parts[0])
    target = place / inside
    target.parent.mkdir(parents=True, exist_ok=True)
    for name in ("table.parquet", "curved.parquet") if kind in ("table metadata", "curves.h5") else ():
        shutil.copy(path.with_name(name), target.parent)

    started_mib = most_mib()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(damaged(good))
    def run(content):
        target.write_bytes(content)
        check(read, target, started_mib)

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
