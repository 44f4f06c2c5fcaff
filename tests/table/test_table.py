"""The table: look-ups, questions and checks, on made-up rows with answers worked out the slow way, and on the
published."""

import math

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_info, make_rows, write_table
from hypothesis import given
from hypothesis import strategies as st

import channel_bench as cb
from channel_bench.errors import ArchError, ArgumentError, CorruptFileError, MissingDataError, UnknownNameError
from channel_bench.record import curves_hash, make_arrow, with_info
from channel_bench.table import Table
from channel_bench.table.verify import verify

SPACE = cb.get_space("resnet-mini")


@pytest.fixture(scope="module")
def rows():
    return make_rows(SPACE, 64, 2)


@pytest.fixture(scope="module")
def table(small_table_path):
    return Table.read(small_table_path)


def means(rows):
    by_arch = {}
    for row in rows:
        by_arch.setdefault(row["arch"], []).append(row["best_test_acc"])
    return {arch: sum(values) / len(values) for arch, values in by_arch.items()}


def test_every_look_up_equals_its_row(table, rows):
    for row in rows:
        assert table.accuracy(row["arch"], run=row["run"]) == row["best_test_acc"]
        assert table.accuracy(row["arch"], run=row["run"], metric="test_acc") == row["test_acc"]
    expected = means(rows)
    for arch, mean in expected.items():
        assert table.accuracy(arch) == pytest.approx(mean, abs=1e-12)
        assert isinstance(table.accuracy(arch), float)
        assert table.accuracy(SPACE.arch(arch)) == table.accuracy({"index": SPACE.index(arch)}) == table.accuracy(arch)
    batch = table.accuracy(list(expected))
    assert batch.tolist() == [table.accuracy(arch) for arch in expected]
    assert len(table) == 64 and table.num_runs == 2


def test_missing_is_an_error_and_never_a_number(table):
    with pytest.raises(MissingDataError, match="no finished run of architecture 4444444: it holds 64 of 16384"):
        table.accuracy("4444444")
    with pytest.raises(MissingDataError, match="architecture 1111112"):
        table.accuracy(["1111111", "1111112"])
    with pytest.raises(MissingDataError):
        table.query("4444444")
    for wrong in ("0", 1.5):
        with pytest.raises(ArgumentError, match="is not one of 0, 1"):
            table.accuracy("1111111", run=wrong)
    with pytest.raises(ArchError):
        table.accuracy("5")
    for run in (-1, 2):
        with pytest.raises(ArgumentError, match="is not one of 0, 1"):
            table.accuracy("1111111", run=run)
    with pytest.raises(ArgumentError, match="metric 'acc' is not one of best_test_acc, test_acc"):
        table.accuracy("1111111", metric="acc")


def test_a_result_carries_what_the_rows_say(table, rows):
    expected = means(rows)
    for arch in list(expected)[::7]:
        result = table.query(arch)
        values = [row["best_test_acc"] for row in rows if row["arch"] == arch]
        assert result.accuracies == tuple(values)
        assert result.mean == pytest.approx(np.mean(values)) and result.std == pytest.approx(np.std(values, ddof=1))
        better = sum(mean > expected[arch] for mean in expected.values())
        assert result.rank == table.rank(arch) == 1 + better
        assert (result.flops, result.channels) == (SPACE.flops(arch), SPACE.channels(arch))
        assert result.num_ranked == 64


def test_runs_that_are_missing_or_diverged_stay_out_of_the_mean(tmp_path, rows):
    rows = [dict(row) for row in rows]
    rows[0] |= {"status": "diverged", "best_test_acc": None, "test_acc": None}
    del rows[3]
    table = Table.read(write_table(tmp_path / "t.parquet", rows, make_info(SPACE)))
    first, second = rows[0]["arch"], rows[2]["arch"]
    assert table.query(first).accuracies == (None, rows[1]["best_test_acc"])
    assert table.accuracy(first) == rows[1]["best_test_acc"]
    assert table.query(second).std is None
    with pytest.raises(MissingDataError, match="no finished run 0 of architecture 1111111"):
        table.accuracy(first, run=0)
    assert "mean over 2 runs, of 2 architectures fewer" in table.meaning()
    facts = verify(tmp_path / "t.parquet")
    assert (facts["num_rows"], facts["num_incomplete_archs"], facts["num_diverged"]) == (127, 1, 1)


def test_top_is_sorted_and_within_budget(table, rows):
    expected = means(rows)
    flops = {arch: SPACE.flops(arch) for arch in expected}
    budget = sorted(flops.values())[20]
    fitting = sorted(
        (arch for arch in expected if flops[arch] <= budget), key=lambda arch: (-expected[arch], flops[arch])
    )
    assert [result.arch for result in table.top(5, max_flops=budget)] == fitting[:5]
    assert len(table.top(1000)) == 64
    latency = np.arange(16384.0)
    assert {result.index for result in table.top(64, max_latency=600.0, latency=latency)} == {0, 256, 512}
    with pytest.raises(ArgumentError, match="no trained architecture has flops <= 1: the least is"):
        table.top(1, max_flops=1)
    for k in (0, 2.5, "3"):
        with pytest.raises(ArgumentError, match="cannot list .* architectures"):
            table.top(k)
    with pytest.raises(ArgumentError, match="max_flops is '0.5x': allowed are numbers"):
        table.top(1, max_flops="0.5x")
    with pytest.raises(ArgumentError, match="go together"):
        table.top(1, max_latency=1)
    with pytest.raises(ArgumentError, match=r"latency has shape \(3,\)"):
        table.top(1, max_latency=1, latency=np.ones(3))


@pytest.mark.parametrize("cost", ["flops", "params"])
def test_the_front_is_what_pairwise_comparison_leaves(table, rows, cost):
    points = {arch: (getattr(SPACE, cost)(arch), mean) for arch, mean in means(rows).items()}

    def dominated(arch):
        c, m = points[arch]
        return any((c2 <= c and m2 >= m) and (c2 < c or m2 > m) for c2, m2 in points.values())

    front = table.pareto(cost)
    assert [getattr(result, cost) for result in front] == sorted(getattr(result, cost) for result in front)
    # Of architectures with equal cost and mean the front names one.
    assert {points[result.arch] for result in front} == {points[arch] for arch in points if not dominated(arch)}
    with pytest.raises(ArgumentError, match="cost 'latency' is not one of flops, params"):
        table.pareto("latency")


def test_the_frame_has_a_row_per_architecture(table, rows):
    frame = table.frame()
    assert len(frame) == 64 and frame["arch"].tolist() == sorted(means(rows))
    for row in frame.iloc[::9].to_dict("records"):
        result = table.query(row["arch"])
        assert (row["mean"], row["rank"], row["flops"], row["slot4"]) == (
            round(result.mean, 4),
            result.rank,
            result.flops,
            result.channels[4],
        )
        assert row["std"] == round(result.std, 4)


def test_files_that_are_not_what_was_written_are_refused(tmp_path, rows, small_table_path):
    def refused(content, message, info=None):
        path = write_table(tmp_path / "t.parquet", content, info or make_info(SPACE))
        with pytest.raises(CorruptFileError, match=message):
            Table.read(path)

    changed = [dict(row) for row in rows]
    changed[5]["flops"] += 1
    refused(changed, "flops of .* but the closed form gives")
    refused([*rows, rows[0]], "duplicate")
    refused([], "has no rows")
    refused(rows, "trained with other networks", make_info(SPACE, space_fingerprint="x"))
    refused([rows[0] | {"arch": "111111"}], "row 0: '111111' is not an architecture")
    refused([rows[0] | {"run": -1}], "negative")
    path = tmp_path / "t.parquet"
    data = bytearray(small_table_path.read_bytes())
    for cut in (0, 3, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(CorruptFileError, match="not a Parquet file, or damaged"):
            Table.read(path)
    whole = pq.read_table(small_table_path)
    accuracies = whole.column("best_test_acc").to_pylist()
    column = whole.schema.get_field_index("best_test_acc")
    edited = whole.set_column(column, whole.schema.field(column), [[99.0, *accuracies[1:]]])
    pq.write_table(edited, path)
    with pytest.raises(CorruptFileError, match="was changed after it was written"):
        Table.read(path)
    pq.write_table(whole.drop_columns(["seed"]), path)
    with pytest.raises(CorruptFileError, match="columns that differ from this version's: seed is missing"):
        Table.read(path)
    large = whole.set_column(
        0, pa.field("arch", pa.large_string(), False), whole.column("arch").cast(pa.large_string())
    )
    pq.write_table(large.replace_schema_metadata(whole.schema.metadata), path)
    with pytest.raises(CorruptFileError, match="arch is large_string"):
        Table.read(path)
    pq.write_table(whole.slice(0, 100), path)
    with pytest.raises(CorruptFileError, match="has 100 rows, but 128 were written"):
        Table.read(path)
    relabelled = whole.schema.metadata[b"channel_bench"].replace(b'"dataset": "digits"', b'"dataset": "cifar10"')
    pq.write_table(whole.replace_schema_metadata({b"channel_bench": relabelled}), path)
    with pytest.raises(CorruptFileError, match="the hash of its metadata differs"):
        Table.read(path)
    with pytest.raises(MissingDataError, match="does not exist"):
        Table.read(tmp_path / "none.parquet")
    with pytest.raises(CorruptFileError, match="cannot read table"):
        Table.read(tmp_path)


def test_a_table_whose_text_is_no_utf8_is_refused_even_with_the_right_hash(tmp_path, rows):
    odd = make_arrow([rows[0] | {"device": "c"}, *rows[1:]])
    buffers = odd.column("device").combine_chunks().buffers()
    broken = pa.Array.from_buffers(
        pa.string(), len(odd), [buffers[0], buffers[1], pa.py_buffer(b"\xf4" + buffers[2][1:])]
    )
    odd = odd.set_column(odd.schema.get_field_index("device"), odd.schema.field("device"), broken)
    pq.write_table(with_info(odd, make_info(SPACE)), tmp_path / "t.parquet")
    with pytest.raises(CorruptFileError, match="not a Parquet file, or damaged"):
        Table.read(tmp_path / "t.parquet")


@pytest.mark.parametrize("change", [{"best_test_acc": 101.0}, {"best_test_acc": None}, {"status": "diverged"}])
def test_verify_finds_accuracies_that_cannot_be(tmp_path, rows, change):
    path = write_table(tmp_path / "t.parquet", [rows[0] | change, *rows[1:]], make_info(SPACE))
    with pytest.raises(CorruptFileError, match="best_test_acc of 1111111"):
        verify(path)


CURVES = {
    name: np.arange(8, dtype=np.float32).reshape(2, 2, 2) + place
    for place, name in enumerate(("train_loss", "train_acc", "test_loss", "test_acc"))
}
CURVED = ["1111111", "2222222"]


def write_curves(path, content_sha256, archs=CURVED, curves=CURVES):
    with h5py.File(path, "w") as file:
        file.attrs["content_sha256"] = content_sha256
        file["arch"] = np.array(archs, "S7")
        for metric, values in curves.items():
            file[metric] = values


@pytest.fixture
def curved(tmp_path, rows):
    """A table file with learning curves of two architectures beside it."""
    info = make_info(SPACE, curves_file="t.h5", curves_sha256=curves_hash(CURVED, CURVES))
    path = write_table(tmp_path / "t.parquet", rows, info)
    write_curves(tmp_path / "t.h5", Table.read(path).info.content_sha256)
    return path


def test_curves_come_from_the_file_beside_the_table(curved):
    table = Table.read(curved)
    for _ in range(2):
        assert table.curves("2222222")["test_acc"].tolist() == [[7, 8], [9, 10]]
    table.curves("2222222")["test_acc"][:] = 0  # a copy, so that nobody damages the table's own
    assert table.curves("2222222")["test_acc"].tolist() == [[7, 8], [9, 10]]
    archs, curves = table.all_curves()
    assert archs == CURVED and {name: values.tolist() for name, values in curves.items()} == {
        name: values.tolist() for name, values in CURVES.items()
    }
    with pytest.raises(MissingDataError, match="no learning curves of architecture 4444444"):
        table.curves("4444444")


def test_curves_are_read_once_and_belong_to_the_table_that_was_loaded(curved):
    import pickle

    table = Table.read(curved)
    table.curves("1111111")
    without = pickle.dumps(Table.read(curved))
    (curved.parent / "t.h5").unlink()
    assert table.curves("2222222")["test_acc"].tolist() == [[7, 8], [9, 10]]
    assert len(pickle.dumps(table)) == pytest.approx(len(without), rel=0.1)  # a copy for a worker carries no curves
    with pytest.raises(MissingDataError, match="curves file .* does not exist"):
        pickle.loads(pickle.dumps(table)).curves("2222222")


def flipped_curves():
    curves = {name: values.copy() for name, values in CURVES.items()}
    curves["train_acc"].view(np.uint32)[1, 0, 1] ^= 1
    return curves


def linked(path, content):
    """Curves that HDF5 would take from another file."""
    path.rename(path.with_name("other.h5"))
    with h5py.File(path, "w") as file:
        file.attrs["content_sha256"] = content
        file["arch"] = np.array(CURVED, "S7")
        for metric in CURVES:
            file[metric] = h5py.ExternalLink("other.h5", metric)


def outside(path, content):
    """Curves that are the bytes of any file."""
    write_curves(path, content)
    with h5py.File(path, "a") as file:
        del file["test_acc"]
        file.create_dataset("test_acc", (2, 2, 2), np.float32, external=[("/dev/zero", 0, 32)])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path, content: write_curves(path, "other"), "belong to another table"),
        (lambda path, content: path.write_bytes(b"damaged"), "cannot read curves"),
        (lambda path, content: path.write_bytes(path.read_bytes()[:-200]), "cannot read curves"),
        (lambda path, content: write_curves(path, content, curves=flipped_curves()), "changed after they were written"),
        (lambda path, content: write_curves(path, content, ["1111111", "2222223"]), "changed after they were written"),
        (lambda path, content: write_curves(path, content, ["1111111"]), r"train_loss is float32 \(2, 2, 2\)"),
        (
            lambda path, content: write_curves(path, content, curves={k: v.astype(float) for k, v in CURVES.items()}),
            "train_loss is float64",
        ),
        (
            lambda path, content: write_curves(path, content, curves={"test_acc": CURVES["test_acc"]}),
            "train_loss is missing",
        ),
        (linked, "train_loss is missing, or not in"),
        (outside, "test_acc is missing, or not in"),
        (lambda path, content: (path.unlink(), path.mkdir()), "is a folder"),
        (lambda path, content: (path.unlink(), path.symlink_to("/dev/zero")), "is a pipe or device"),
    ],
)
def test_curves_that_are_not_those_that_were_written_are_refused(curved, damage, message):
    table = Table.read(curved)
    damage(curved.parent / "t.h5", table.info.content_sha256)
    for ask in (lambda: table.curves("1111111"), table.all_curves):
        with pytest.raises(CorruptFileError, match=message):
            ask()


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"recipe": {}}, "epochs of the recipe are 'None'"),
        ({"recipe": 5}, "recipe is 5: allowed are objects"),
        ({"recipe": {"name": "mini", "epochs": "2"}}, "epochs of the recipe are '2'"),
        ({"recipe": {"name": "mini", "epochs": True}}, "epochs of the recipe are 'True'"),
        ({"recipe": {"name": "mini", "epochs": 10**6}}, "allowed are 1..32767"),
        ({"recipe": {"name": None, "epochs": 2}}, "the recipe has no name"),
        ({"curves_file": 5, "curves_sha256": ""}, "curves_file is 5: allowed are texts"),
        ({"curves_file": "../t.h5", "curves_sha256": ""}, "curves_file is '../t.h5': allowed is the name of a file"),
        ({"curves_file": "/dev/zero", "curves_sha256": ""}, "allowed is the name of a file beside the table"),
        ({"curves_file": "t\0.h5", "curves_sha256": ""}, "allowed is the name of a file beside the table"),
        ({"curves_file": "t.h5"}, "curves_file and curves_sha256 go together"),
        ({"name": None}, "name is None: allowed are texts"),
        ({"dataset": ["digits"]}, r"dataset is \[.digits.\]: allowed are texts"),
        ({"accuracy": "x" * 10**5}, "accuracy is .*allowed are texts of at most"),
        ({"devices": "cpu"}, "devices is 'cpu': allowed are lists"),
        ({"torch_versions": [2]}, r"torch_versions\[0\] is 2: allowed are texts"),
        ({"source": "half \ud800"}, "half a surrogate pair"),
        ({"recipe": {"name": "mini", "epochs": 10**400}}, "does not fit 64 bits"),
    ],
)
def test_metadata_of_wrong_types_are_refused(tmp_path, rows, facts, message):
    path = write_table(tmp_path / "t.parquet", rows[:4], make_info(SPACE, **facts))
    with pytest.raises(CorruptFileError, match=message) as caught:
        Table.read(path)
    assert len(str(caught.value)) < 1000


def test_a_table_is_bounded_before_it_is_read(tmp_path, rows, monkeypatch):
    from channel_bench.table import file

    path = write_table(tmp_path / "t.parquet", rows, make_info(SPACE))
    Table.read(path)
    for name, most, message in (
        ("MAX_FILE_BYTES", 1000, "bytes: allowed are at most 1,000 bytes"),
        ("MAX_UNPACKED_BYTES", 1000, "bytes when it is unpacked: allowed are at most 1,000"),
        ("MAX_ROWS", 127, "has 128 rows: allowed are at most 127"),
        ("MAX_RUNS", 1, r"has a run 1: allowed are 0\.\.0"),
    ):
        with monkeypatch.context() as patch, pytest.raises(CorruptFileError, match=message):
            patch.setattr(file, name, most)
            Table.read(path)
    # A megabyte that a dictionary holds once, and a table in memory as often as it has rows.
    long = [row | {"device": "x" * 10**6} for row in rows]
    with pytest.raises(CorruptFileError, match="column 'device' has a text of 1,000,000 bytes"):
        Table.read(write_table(path, long, make_info(SPACE)))
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(CorruptFileError, match="is a pipe or device"):
        Table.read(path)


def test_what_is_shown_has_no_noise_of_single_precision_and_what_is_computed_with_has_every_bit(tmp_path, rows):
    noisy = [row | {"best_test_acc": float(np.float32(row["best_test_acc"]))} for row in rows]
    table = Table.read(write_table(tmp_path / "t.parquet", noisy, make_info(SPACE)))
    assert any(row["best_test_acc"] != round(row["best_test_acc"], 2) for row in noisy)
    for row in noisy:
        assert table.accuracy(row["arch"], run=row["run"]) == row["best_test_acc"]
        result = table.query(row["arch"])
        assert result.accuracies[row["run"]] == row["best_test_acc"] and result.mean == table.accuracy(row["arch"])
        assert result.shown()["accuracies"][row["run"]] == round(row["best_test_acc"], 1)
        assert result.shown()["mean"] == round(result.mean, 4)
    frame = table.frame()
    assert frame["run0"].tolist() == [round(row["best_test_acc"], 1) for row in noisy[::2]]
    trained = np.isfinite(table.accuracies())
    assert frame["mean"].tolist() == table.accuracies()[trained].round(4).tolist()
    # Ranks are of means to 0.0001 points anyway: those of the shown means are the table's.
    assert frame["rank"].tolist() == frame["mean"].rank(method="min", ascending=False).astype(int).tolist()
    assert [result.shown()["mean"] for result in table.top(64)] == sorted(frame["mean"], reverse=True)


def test_frames_merge_with_architectures_as_text_or_as_integers(table):
    import io

    import pandas as pd

    scores = pd.read_csv(io.StringIO("arch,score\n1111111,1\n2111111,2\n"))
    with pytest.raises(ValueError, match="trying to merge on"):
        table.frame().merge(scores, on="arch")
    assert len(table.frame(arch="int").merge(scores, on="arch")) == 2
    assert table.accuracy(scores["arch"]).tolist() == table.accuracy(["1111111", "2111111"]).tolist()
    with pytest.raises(ArgumentError, match="arch is 'index': allowed are 'text' and 'int'"):
        table.frame(arch="index")


def test_top_with_given_widths(table, rows):
    best = table.top(64, slots={0: 2})
    assert [result.arch for result in best] == [result.arch for result in table.top(64) if result.arch.startswith("2")]
    assert table.top(64, slots={}) == table.top(64)
    assert (
        table.top(5, slots={0: 2, 1: 3}, max_flops=best[-1].flops * 10)
        == [result for result in best if result.arch[1] == "3"][:5]
    )
    for slots, message in (
        ({7: 1}, "slot 7 does not exist: allowed are 0..6"),
        ({0: 0}, "digit 0 does not exist: allowed are 1..4"),
        ({0: True}, "digit True"),
        ({6: 2}, "no trained architecture has digit 2 in slot 6"),
    ):
        with pytest.raises(ArgumentError, match=message):
            table.top(1, slots=slots)
    with pytest.raises(ArgumentError, match="no trained architecture with digit 2 in slot 0 has flops <= 1"):
        table.top(1, slots={0: 2}, max_flops=1)


def test_tables_and_results_are_short_in_a_terminal_and_harmless_in_a_notebook(tmp_path, rows, table):
    assert repr(table) == "<Table 'made-up' of space 'resnet-mini': 64 architectures, 2 runs>"
    assert repr(table.query("1111111")).startswith("<Result 1111111: best_test_acc ")
    assert len(repr(table.query("1111111"))) < 160
    hostile = make_info(SPACE, name="<script>x</script>", source="\x1b[31mred")
    shown = Table.read(write_table(tmp_path / "t.parquet", rows, hostile))._repr_html_()
    assert "&lt;script&gt;" in shown and "<script" not in shown and "\x1b" not in shown
    assert "1111111" in table.query("1111111")._repr_html_()


def test_load_finds_tables_by_path_and_says_how_to_get_others(small_table_path, tmp_path):
    assert len(cb.load("resnet-mini", table=small_table_path)) == 64
    assert len(cb.load("resnet-mini", table=str(small_table_path))) == 64
    with pytest.raises(ArgumentError, match="is of space 'resnet-mini', not 'resnet'"):
        cb.load("resnet", table=small_table_path)
    with pytest.raises(MissingDataError, match="run 'channel-bench download'"):
        cb.load("resnet", data_dir=tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'cifar10-published'"):
        cb.load("resnet", table="cifar10-publishd")
    for name in ("", "other"):
        with pytest.raises(UnknownNameError, match="digits-16384x3"):
            cb.load("resnet-mini", table=name)
        with pytest.raises(UnknownNameError):
            cb.load("resnet", table=name)
    with pytest.raises(UnknownNameError):
        cb.load("resnets")


# -- the published tables ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["resnet", "mobilenet"])
def full(request, published):
    return cb.load(request.param, data_dir=published)


def test_published_accuracies_arrive_as_they_were_published(full, published_dir):
    import json

    from conftest import PUBLISHED_FILES

    results = json.loads((published_dir / PUBLISHED_FILES[full.space.name]).read_text())
    texts = full.space.texts()
    assert full.cells().tolist() == [results[text]["acc"] for text in texts]
    assert full.accuracies() == pytest.approx([results[text]["mean"] for text in texts], abs=1e-9)
    assert full.stds() == pytest.approx([results[text]["std"] for text in texts], abs=1e-9)
    frame = full.frame()
    assert frame["std"].tolist() == pytest.approx([results[text]["std"] for text in texts], abs=5.1e-5)
    for run in range(3):  # as the paper's own numbers: multiples of 0.01
        assert frame[f"run{run}"].tolist() == [round(results[text]["acc"][run], 2) for text in texts]
    assert "best test accuracy over 60 epochs" in full.info.accuracy
    with pytest.raises(MissingDataError, match="has no test_acc"):
        full.accuracy("1111111", metric="test_acc")
    with pytest.raises(MissingDataError, match="has no learning curves: .*; the tables of resnet-mini, mobile"):
        full.curves("1111111")


def test_published_ranks_share_ties_that_single_precision_broke(published):
    # Means of multiples of 0.01 over three runs are multiples of 1/300.
    table = cb.load("resnet", data_dir=published)
    exact = (table.cells().round(2).sum(1) * 100).round().astype(int)
    assert [table.rank(arch) for arch in ("3344413", "3243444")] == [24, 24]
    for index in range(0, 16384, 500):
        assert table.rank(index) == 1 + (exact > exact[index]).sum()


@given(index=st.integers(0, 16383))
def test_scalar_and_batch_look_ups_agree(full, index):
    text = full.space.text(index)
    assert full.accuracy(text) == full.accuracy([text])[0] == full.accuracies()[index]
    assert math.isclose(full.accuracy(text), sum(full.query(text).accuracies) / 3, abs_tol=1e-9)
