"""Reading a whole store at once: the same as one run after the other, in content and in errors."""

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest
from builders import read_records
from conftest import IMPOSSIBLE, PART_DAMAGES, make_record

import channel_bench as cb
from channel_bench.builder import bulk
from channel_bench.builder.bulk import read_all
from channel_bench.errors import ArgumentError, CorruptFileError
from channel_bench.record import CURVE_METRICS, RunRecord, make_arrow

SPACE = cb.get_space("resnet-mini")


def made_up(arch, run, num_epochs=3, lost=None):
    """A record with curves of awkward numbers, some lost after a divergence."""
    rng = np.random.default_rng([run, SPACE.index(arch)])
    curves = {name: (10.0 ** rng.uniform(-9, 2, num_epochs)).tolist() for name in CURVE_METRICS}
    if lost is not None:
        curves["train_loss"][lost:] = [math.nan] * (num_epochs - lost)
    facts = {
        "arch": arch,
        "run": run,
        "seed": run,
        "num_epochs": num_epochs,
        "flops": SPACE.flops(arch),
        "stack": 1,
        "backend": "torch",
    }
    facts |= {"params": SPACE.params(arch), "train_s": 0.1 + run, "device": 'a "GPU", é', "torch": "0"}
    return RunRecord.from_curves(curves, **facts)


def one_by_one(store):
    """What `read_all` has to give, the plain way."""
    records = read_records(store)
    archs = sorted({record.arch for record in records})
    shape = (len(archs), 1 + max(record.run for record in records), max(record.num_epochs for record in records))
    curves = {name: np.full(shape, np.nan, np.float32) for name in CURVE_METRICS}
    for record in records:
        for name, values in record.curves.items():
            curves[name][archs.index(record.arch), record.run, : len(values)] = np.array(values, np.float32)
    return make_arrow(record.row() for record in records), archs, curves


def write_part(store, record, body=None):
    """Write a part with a right checksum, whatever it holds."""
    body = record.to_json() if body is None else body
    path = store.path((record.arch, record.run))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}\n")
    return path


@pytest.mark.parametrize("num_parts", [2048, 7, 1])
def test_all_at_once_is_one_by_one(store, monkeypatch, num_parts):
    monkeypatch.setattr(bulk, "NUM_PARTS", num_parts)
    for index in range(0, 16384, 1111):
        for run in range(1 + index % 3):
            store.add(made_up(SPACE.text(index), run, lost=index % 3 if index % 2 else None))
    table, archs, curves = read_all([(store, sorted(store.keys()))])
    expected, expected_archs, expected_curves = one_by_one(store)
    assert table.equals(expected, check_metadata=True) and archs == expected_archs
    for name in CURVE_METRICS:
        assert np.array_equal(curves[name], expected_curves[name], equal_nan=True)
        assert curves[name].dtype == np.float32


def test_what_arrow_cannot_take_is_read_one_by_one(store):
    store.add(made_up("1111111", 0))
    store.add(made_up("1111112", 0, num_epochs=5))
    store.add(dataclasses.replace(made_up("1111113", 0), curves={}))
    write_part(store, made_up("1111114", 0), json.dumps(json.loads(made_up("1111114", 0).to_json()), indent=1))
    table, archs, curves = read_all([(store, sorted(store.keys()))])
    expected, expected_archs, expected_curves = one_by_one(store)
    assert table.equals(expected) and archs == expected_archs
    for name in CURVE_METRICS:
        assert np.array_equal(curves[name], expected_curves[name], equal_nan=True)


def test_usual_parts_are_not_read_one_by_one(store, monkeypatch):
    store.add(made_up("1111111", 0, lost=1))
    store.add(make_record(run=1))
    monkeypatch.setattr(store, "read", lambda key: pytest.fail("read one by one"))
    with pytest.raises(pytest.fail.Exception):
        read_all([(store, sorted(store.keys()))])  # three epochs beside two
    store.path(("1234123", 1)).unlink()
    assert read_all([(store, sorted(store.keys()))])[1] == ["1111111"]


def test_an_empty_store_has_nothing(store):
    table, archs, curves = read_all([(store, sorted(store.keys()))])
    assert (len(table), archs, curves) == (0, [], {})


@pytest.mark.parametrize("damage", PART_DAMAGES)
def test_a_damaged_part_is_named(store, damage):
    for run in range(3):
        store.add(make_record(run=run))
    damage(store.path(("1234123", 0)))
    with pytest.raises(CorruptFileError, match=r"run '.*123412\d-0.json'"):
        read_all([(store, sorted(store.keys()))])


@pytest.mark.parametrize(
    "change", [{"seed": 7}, {"seed": None}, {"run": 1}, {"arch": "1111111"}, {"another": 1}, {"stack": ...}]
)
def test_a_part_that_is_not_of_its_run_is_refused(store, change):
    record = make_record()
    values = json.loads(record.to_json()) | change
    write_part(store, record, json.dumps({key: value for key, value in values.items() if value is not ...}))
    with pytest.raises(CorruptFileError):
        read_all([(store, sorted(store.keys()))])


def test_a_part_whose_text_is_no_utf8_is_refused(store):
    record = made_up("1111111", 0)
    body = record.to_json().replace('"torch": "0"', '"torch": "XYZ"').encode().replace(b"XYZ", b"\xf4or")
    path = write_part(store, record)
    path.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n")
    with pytest.raises(CorruptFileError, match="1111111-0.json"):
        read_all([(store, sorted(store.keys()))])


@pytest.mark.parametrize("change", IMPOSSIBLE, ids=repr)
def test_a_part_with_a_value_that_no_run_has_is_refused_all_at_once_too(store, change):
    store.add(made_up("1111111", 0))
    record = made_up("1234123", 0)
    path = write_part(store, record, json.dumps(json.loads(record.to_json()) | change))
    with pytest.raises(CorruptFileError, match=path.name):
        read_all([(store, sorted(store.keys()))])


def test_curves_that_do_not_fit_one_table_are_refused_before_memory_is_taken(store):
    for index in range(3):
        store.add(made_up(SPACE.text(index), 0))
    store.add(made_up("1111111", 32767))
    bulk_limit = "do not fit one table: allowed are 100,000 values"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "MAX_CURVE_VALUES", 100_000)
        with pytest.raises(ArgumentError, match=bulk_limit):
            read_all([(store, sorted(store.keys()))])
