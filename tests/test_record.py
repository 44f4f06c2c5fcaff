"""Records and tables of runs: every bit survives, and the content hash sees content and nothing else."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import IMPOSSIBLE, make_info, make_rows, write_table
from hypothesis import given
from hypothesis import strategies as st

import channel_bench as cb
from channel_bench.errors import CorruptFileError
from channel_bench.record import (
    CURVE_METRICS,
    MAX_LOSS,
    SCHEMA,
    RunRecord,
    content_hash,
    make_arrow,
    read_info,
    with_info,
)

SPACE = cb.get_space("resnet-mini")
FACTS = {
    "arch": "1234123",
    "run": 0,
    "seed": 0,
    "num_epochs": 3,
    "flops": 1,
    "params": 1,
    "train_s": 0.5,
    "backend": "torch",
    "device": "cpu",
    "torch": "0",
    "stack": 1,
}
losses = st.lists(st.floats(-MAX_LOSS, MAX_LOSS), min_size=3, max_size=3)
accuracies = st.lists(st.floats(0, 100), min_size=3, max_size=3)


@given(losses, accuracies, losses, accuracies)
def test_a_record_survives_json_to_the_last_bit(train_loss, train_acc, test_loss, test_acc):
    values = (train_loss, train_acc, test_loss, test_acc)
    record = RunRecord.from_curves(dict(zip(CURVE_METRICS, values, strict=True)), **FACTS)
    assert RunRecord.from_json(record.to_json()) == record
    assert record.status == "ok"


def test_the_best_epoch_is_the_first_of_equals():
    curves = dict.fromkeys(CURVE_METRICS, [1.0, 2.0, 2.0])
    record = RunRecord.from_curves(curves, **FACTS)
    assert (record.best_epoch, record.best_test_acc, record.test_acc) == (2, 2.0, 2.0)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"arch": 1}', "null", '{"run": 0, "x": 1}'])
def test_what_is_not_a_record_is_refused(text):
    with pytest.raises(CorruptFileError, match="not a run record"):
        RunRecord.from_json(text)


@pytest.mark.parametrize("change", IMPOSSIBLE, ids=repr)
def test_a_record_with_a_value_that_no_run_has_is_refused_by_name(change):
    values = json.loads(RunRecord.from_curves(dict.fromkeys(CURVE_METRICS, [1.0, 2.0, 2.0]), **FACTS).to_json())
    RunRecord.from_json(json.dumps(values))
    with pytest.raises(CorruptFileError, match=f"not a run record: .*{list(change)[-1].rstrip('s')}|5.0|of JSON"):
        RunRecord.from_json(json.dumps(values | change))


def test_a_record_that_names_a_field_twice_is_refused():
    text = RunRecord.from_curves(dict.fromkeys(CURVE_METRICS, [1.0, 2.0, 2.0]), **FACTS).to_json()
    with pytest.raises(CorruptFileError, match="stands twice"):
        RunRecord.from_json(text.replace('"stack": 1', '"stack": 1, "stack": 1'))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": {}}, "epochs of the recipe are .None."),
        ({"recipe": 5}, "recipe is 5"),
        ({"recipe": {"name": "mini", "epochs": 10**9}}, "epochs of the recipe are .1000000000."),
        ({"curves_file": 5}, "curves_file is 5"),
        ({"curves_file": "../../secret.h5"}, "allowed is the name of a file"),
        ({"devices": "cpu"}, "devices is 'cpu'"),
        ({"dataset": None}, "dataset is None"),
    ],
)
def test_metadata_of_other_types_is_refused_whoever_hashed_it(tmp_path, change, message):
    path = write_table(tmp_path / "t.parquet", make_rows(SPACE, 4, 1), make_info(SPACE, **change))
    with pytest.raises(CorruptFileError, match=message):
        read_info(pq.read_schema(path), str(path))


def test_the_hash_does_not_depend_on_the_order_of_rows_chunks_or_the_file_format(tmp_path):
    rows = make_rows(SPACE, 16, 2)
    rows[3] |= {"best_test_acc": None, "test_acc": None, "status": "diverged", "device": None}
    expected = content_hash(make_arrow(rows))
    assert content_hash(make_arrow(rows[::-1])) == expected
    table = make_arrow(rows)
    assert content_hash(pa.concat_tables([table.slice(0, 5), table.slice(5, 1), table.slice(6)])) == expected
    for number, options in enumerate([{}, {"compression": "gzip", "row_group_size": 7}, {"use_dictionary": False}]):
        path = write_table(tmp_path / f"{number}.parquet", rows, make_info(SPACE), **options)
        assert content_hash(pq.read_table(path)) == expected
        assert read_info(pq.read_schema(path), str(path)).content_sha256 == expected


@pytest.mark.parametrize("column", SCHEMA.names)
def test_the_hash_sees_a_change_in_every_column(column):
    rows = make_rows(SPACE, 4, 1)
    before = content_hash(make_arrow(rows))
    value = rows[-1][column]
    rows[-1][column] = value + "x" if isinstance(value, str) else value + 1
    after = content_hash(make_arrow(rows))
    assert after != before
    if SCHEMA.field(column).nullable:
        rows[-1][column] = None
        assert content_hash(make_arrow(rows)) not in (before, after)


def test_the_hash_tells_null_from_zero_and_from_the_empty_text():
    rows = make_rows(SPACE, 2, 1)
    hashes = set()
    for train_s in (0.0, None):
        for device in ("", None):
            rows[0] |= {"train_s": train_s, "device": device}
            hashes.add(content_hash(make_arrow(rows)))
    assert len(hashes) == 4


def test_metadata_that_is_missing_foreign_or_of_another_format_is_refused():
    table = make_arrow(make_rows(SPACE, 2, 1))
    with pytest.raises(CorruptFileError, match="not a channel-bench table"):
        read_info(table.schema.remove_metadata(), "x")
    with pytest.raises(CorruptFileError, match="unreadable"):
        read_info(table.schema.with_metadata({b"channel_bench": b"{"}), "x")
    info = json.loads(with_info(table, make_info(SPACE)).schema.metadata[b"channel_bench"])
    newer = json.dumps(info | {"format": 3}).encode()
    with pytest.raises(CorruptFileError, match="table format 3, this version reads format 2"):
        read_info(table.schema.with_metadata({b"channel_bench": newer}), "x")


def test_every_column_says_what_it_means():
    assert all(field.metadata[b"meaning"] for field in SCHEMA)
    assert SCHEMA.field("best_test_acc").metadata[b"unit"] == b"percent"
