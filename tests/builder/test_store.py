"""The run store: durable parts, first writer wins, damage is found, another kind of runs is refused."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from builders import read_records
from conftest import PART_DAMAGES, make_record

import channel_bench as cb
from channel_bench.builder.leases import Leases
from channel_bench.builder.store import RunStore
from channel_bench.errors import CorruptFileError, MissingDataError, StorageError
from channel_bench.recipe import get_recipe
from channel_bench.support.durable import TEMPORARY_PREFIX, publish_once, write_atomic
from channel_bench.support.processes import this_process

SPACE = cb.get_space("resnet-mini")


def test_what_is_added_is_read_back_and_stays_what_it_was(store):
    records = [make_record(arch, run) for arch in ("4444444", "1111111") for run in (0, 1)]
    assert all(store.add(record) for record in records)
    assert not store.add(make_record("4444444", 0, accuracy=99.0))
    assert store.keys() == {(record.arch, record.run) for record in records}
    assert read_records(RunStore.open(store.folder)) == sorted(records, key=lambda record: (record.arch, record.run))


RACER = """
import json, sys, time
from pathlib import Path
from channel_bench.support.durable import publish_once
folder, writer = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
while not (folder / "go").exists():
    time.sleep(0.001)
print(json.dumps([name for name in range(100) if publish_once(folder / str(name), writer.encode() * 1000)]))
"""


def test_of_racing_writers_each_file_has_one_winner_and_is_whole(tmp_path):
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, tmp_path, str(writer)], stdout=subprocess.PIPE, text=True)
        for writer in range(4)
    ]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 4
    (tmp_path / "go").touch()
    won = [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]
    assert sorted(sum(won, [])) == list(range(100))
    for writer, names in enumerate(won):
        assert all((tmp_path / str(name)).read_bytes() == str(writer).encode() * 1000 for name in names)
    assert not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))


def test_without_hard_links_the_first_writer_still_wins(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert publish_once(tmp_path / "a", b"1")
    assert not publish_once(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    write_atomic((tmp_path / "a", b"old"))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (lambda path, data: write_atomic((path, data)), publish_once):
        with pytest.raises(StorageError, match="cannot write .*: No space left on device; what was there is unchanged"):
            write(tmp_path / "a", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}


@pytest.mark.parametrize("damage", PART_DAMAGES)
def test_a_damaged_part_is_named_and_set_aside(store, damage):
    store.add(make_record())
    store.add(make_record(run=1))
    damage(store.path(("1234123", 0)))
    with pytest.raises(CorruptFileError, match=r"run '.*123412\d-0.json'"):
        read_records(store)
    with Leases(store.folder) as leases:
        (moved,) = store.set_aside_corrupt(leases)
        assert store.set_aside_corrupt(leases) == []
    assert moved.exists() and moved.parent.name == "corrupt"
    assert store.keys() == {("1234123", 1)}


def test_runs_of_another_kind_are_refused(store):
    other = [
        (cb.get_space("mobilenet-mini"), get_recipe("mini"), "digits", "d1"),
        (SPACE, get_recipe("mini", epochs=3), "digits", "d1"),
        (SPACE, get_recipe("mini"), "other", "d1"),
        (SPACE, get_recipe("mini"), "digits", "d2"),
        (SPACE, get_recipe("mini"), "digits", "d1", 5),
    ]
    for kind in other:
        with pytest.raises(StorageError, match="holds runs of another kind"):
            RunStore.create(store.folder, *kind)
    RunStore.create(store.folder, SPACE, get_recipe("mini"), "digits", "d1")


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match="not a folder of runs"):
        RunStore.open(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(CorruptFileError, match="is unreadable"):
        RunStore.open(tmp_path)
    store = RunStore.create(tmp_path / "runs", SPACE, get_recipe("mini"), "digits", "d1")
    stated = (store.folder / "store.json").read_text()
    for there, put in (
        ('"epochs": 20', '"epochs": 1'),
        ('"digits"', '"cifar10"'),
        ('"base_seed": 0', '"base_seed": 7'),
    ):
        assert there in stated
        (store.folder / "store.json").write_text(stated.replace(there, put))
        with pytest.raises(CorruptFileError, match="it was changed after the first run"):
            RunStore.open(store.folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make folder"):
        RunStore.create(tmp_path / "file" / "runs", SPACE, get_recipe("mini"), "digits", "d1")


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": {}},
        {"recipe": 5},
        {"recipe": {**get_recipe("mini").to_dict(), "epochs": "20"}},
        {"recipe": {**get_recipe("mini").to_dict(), "mean": 5}},
        {"base_seed": "0"},
        {"base_seed": -1},
        {"base_seed": True},
        {"space": 5},
        {"dataset_digest": None},
        {"code_version": []},
    ],
    ids=repr,
)
def test_a_store_that_no_builder_writes_is_refused_whoever_hashed_it(store, change):
    store.add(make_record())
    info = dataclasses.replace(store.info, **change).hashed()
    (store.folder / "store.json").write_text(json.dumps(dataclasses.asdict(info)))
    with pytest.raises(CorruptFileError, match="store.json' is unreadable"):
        RunStore.open(store.folder)


def test_files_of_other_names_are_no_runs(store):
    store.add(make_record())
    for name in (
        "1234123-00.json",
        "1234123-32768.json",
        "1234123-99999999999999999999.json",
        "1234123-².json",
        "1234123.json",
        "123412-0.json",
        "1234123-0.json.bak",
    ):
        store.path(("1234123", 0)).with_name(name).write_text("x")
    (store.folder / "parts" / "44").mkdir()
    (store.folder / "parts" / "44" / "1234123-1.json").write_text("in the wrong folder")
    assert store.keys() == {("1234123", 0)}


def test_several_files_change_together_or_not_at_all(tmp_path):
    write_atomic((tmp_path / "a", b"1"), (tmp_path / "b", b"1"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="it is a folder"):
        write_atomic((tmp_path / "a", b"2"), (tmp_path / "folder", b"2"))
    assert (tmp_path / "a").read_bytes() == b"1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "folder"]


def test_what_a_killed_writer_left_goes_with_the_next_write_and_what_a_living_one_writes_stays(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "from channel_bench.support.processes import this_process; print(this_process())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    left = {name: tmp_path / f"{TEMPORARY_PREFIX}{name}-0" for name in (dead, this_process(), "other-machine.1.2")}
    for path in left.values():
        path.write_bytes(b"half")
    write_atomic((tmp_path / "result", b"whole"))
    assert not left.pop(dead).exists() and all(path.exists() for path in left.values())
