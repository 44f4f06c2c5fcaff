"""Files of scores in the formats that people have, each written by the program that writes it; and hostile files."""

import gzip
import json
import os
import resource
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import channel_bench as cb
from channel_bench.errors import ArgumentError, ChannelBenchError, CorruptFileError
from harness.leaderboard.entries import entries_dir
from harness.score_formats import MAX_ROWS, METADATA_KEY
from harness.scores import make_scores, read_scores, read_seeds, write_scores

SPACE = cb.get_space("resnet")
ARCHS = ["4344424", "1111111", "2222222", "4444444"]
VALUES = [0.91, -1.25, 2.0, 1e-7]
SERIES = pd.Series(VALUES, index=ARCHS)
FRAME = pd.DataFrame({"arch": ARCHS, "score": VALUES})
LABELLED = pd.DataFrame({"score": VALUES}, index=ARCHS)
EVERYTHING = np.random.default_rng(0).normal(size=16384)


def write_joined(separator, path, kind="digits"):
    rows = [{"digits": SPACE.arch, "channels": SPACE.channels}[kind](arch) for arch in ARCHS]
    FRAME.assign(arch=[separator.join(map(str, row)) for row in rows]).to_csv(path, index=False)


def ratios():
    return FRAME.assign(arch=[str(np.array(SPACE.ratios(arch))) for arch in ARCHS])


def as_text(text, encoding="utf-8"):
    return lambda path: path.write_bytes(text.encode(encoding))


def as_json(content):
    return lambda path: path.write_text(json.dumps(content))


COMMA = FRAME.to_csv(index=False)
FORMS = {
    **{f"{n}.csv": partial(write_joined, separator) for n, separator in enumerate(":|_-, ")},
    **{f"channels{n}.csv": partial(write_joined, separator, kind="channels") for n, separator in enumerate(":|_-,")},
    "numpy-printed.csv": lambda path: ratios().to_csv(path, index=False),
    "ratios.parquet": lambda path: FRAME.assign(arch=[list(SPACE.ratios(arch)) for arch in ARCHS]).to_parquet(path),
    **{
        f"{orient}.json": (lambda o: lambda path: FRAME.to_json(path, orient=o))(orient)
        for orient in ("split", "records", "index", "columns", "values", "table")
    },
    **{
        f"labelled-{orient}.json": (lambda o: lambda path: LABELLED.to_json(path, orient=o))(orient)
        for orient in ("split", "index", "columns", "table")
    },
    **{
        f"series-{orient}.json": (lambda o: lambda path: SERIES.to_json(path, orient=o))(orient)
        for orient in ("split", "index", "table")
    },
    "lines.jsonl": lambda path: FRAME.to_json(path, orient="records", lines=True),
    "lines.json": lambda path: FRAME.to_json(path, orient="records", lines=True),
    "lists.json": as_json({"arch": ARCHS, "score": VALUES}),
    "numbers.json": as_json({"arch": [int(arch) for arch in ARCHS], "score": VALUES}),
    "under-scores.json": as_json({"scores": dict(zip(ARCHS, VALUES, strict=True))}),
    "pairs.json": as_json(list(map(list, zip(ARCHS, VALUES, strict=True)))),
    "texts.json": as_json({arch: str(value) for arch, value in zip(ARCHS, VALUES, strict=True)}),
    "labelled.csv": lambda path: LABELLED.to_csv(path),
    "series.csv": lambda path: SERIES.to_csv(path),
    "labelled.parquet": lambda path: LABELLED.to_parquet(path),
    "integers.parquet": lambda path: LABELLED.set_axis(list(map(int, ARCHS))).to_parquet(path),
    "series.parquet": lambda path: SERIES.to_frame("score").to_parquet(path),
    "tab.tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    "tab.csv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    "semicolon.csv": lambda path: FRAME.to_csv(path, index=False, sep=";"),
    "german.csv": lambda path: FRAME.to_csv(path, index=False, sep=";", decimal=","),
    "comments.csv": as_text("# made by hand\n# twice\n" + COMMA.replace("\n", "\n# here\n", 1)),
    "savetxt.csv": lambda path: np.savetxt(
        path, FRAME.to_numpy(object), fmt="%s", delimiter=",", header="arch,score"
    ),
    "packed.csv.gz": lambda path: FRAME.to_csv(path, index=False),
    "packed.json.gz": lambda path: FRAME.to_json(path, orient="records"),
    "windows.csv": lambda path: FRAME.to_csv(path, index=False, encoding="utf-16"),
    "big-endian.csv": as_text("\ufeff" + COMMA, "utf-16-be"),
    "marked.csv": lambda path: FRAME.to_csv(path, index=False, encoding="utf-8-sig"),
    "beside.npz": lambda path: np.savez(path, arch=np.array(ARCHS), score=np.array(VALUES)),
    "digits.npz": lambda path: np.savez(path, arch=np.array([SPACE.arch(a) for a in ARCHS]), score=np.array(VALUES)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_every_format_reads_to_the_same_scores(tmp_path, name):
    FORMS[name](tmp_path / name)
    scores = read_scores(tmp_path / name, SPACE)
    found = dict(zip(map(SPACE.text, scores.indices.tolist()), scores.values.tolist(), strict=True))
    assert found == dict(zip(ARCHS, VALUES, strict=True)) and scores.method == name.split(".")[0]


ARRAYS = {
    "all.npy": lambda path: np.save(path, EVERYTHING),
    "all.npz": lambda path: np.savez(path, EVERYTHING),
    "packed.npz": lambda path: np.savez_compressed(path, anything=EVERYTHING),
    "packed.npy.gz": lambda path: np.save(gzip.open(path, "wb"), EVERYTHING),
    "several.npz": lambda path: np.savez(path, score=EVERYTHING, loss=-EVERYTHING),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_numpy_are_in_index_order(tmp_path, name):
    ARRAYS[name](tmp_path / name)
    scores = read_scores(tmp_path / name, SPACE)
    assert scores.indices.tolist() == list(range(16384)) and (scores.values == EVERYTHING).all()


def test_a_field_of_every_architecture_is_named(tmp_path):
    content = {arch: {"mean": value, "std": 0.1} for arch, value in zip(ARCHS, VALUES, strict=True)}
    (tmp_path / "s.json").write_text(json.dumps(content))
    assert sorted(read_scores(tmp_path / "s.json", SPACE, score_column="mean").values.tolist()) == sorted(VALUES)
    assert read_scores(tmp_path / "s.json", SPACE, score_column="-std").values.tolist() == [-0.1] * 4
    with pytest.raises(ArgumentError, match="no column of scores: .* it has row labels without a name, mean, std"):
        read_scores(tmp_path / "s.json", SPACE)


REFUSED = {
    "percent.csv": (as_text("arch,score\n4344424,91%\n"), "row 0: score '91%' of 4344424 is not a number"),
    "tensor.csv": (as_text('arch,score\n4344424,"tensor(0.91)"\n'), r"score 'tensor\(0.91\)' of 4344424"),
    "date.csv": (as_text("arch,score\n4344424,2026-01-01\n"), "score '2026-01-01' of 4344424 is not"),
    "true.csv": (as_text("arch,score\n4344424,True\n"), "score 'True' of 4344424 is not a number"),
    "underscore.csv": (as_text("arch,score\n4344424,1_000\n"), "score '1_000' of 4344424 is not a number"),
    "none.csv": (as_text("arch,score\n4344424,0.91\n1111111,0.5\n2222222,None\n"), "row 2: score 'None' of 2222222"),
    "zero.csv": (as_text("arch,score\n3233313,1\n0000000,2\n"), "row 1: .* digits start at 1: if yours start at 0"),
    "zero-list.json": (as_json([[[0, 1, 2, 3, 3, 3, 3], 1.0]]), "row 0: .* digits start at 1"),
    "zero-dropped.json": (as_json([[333333, 1.0]]), "row 0: .* digits start at 1"),
    "zero-small.json": (as_json([[3333333, 1.0], [333, 2.0]]), "row 1: 333 is an index, .* digits start at 1"),
    "thousands.csv": (as_text("arch;score\n4344424;91,234\n1111111;91,235\n"), "'91,234' .* decimal or a thousand"),
    "rows.csv": (lambda path: pd.Series(VALUES).to_csv(path), "no column of architectures"),
    "rows.json": (lambda path: pd.Series(VALUES, name="score").to_json(path, orient="split"), "no column of arch"),
    "turned.json": (as_json([[0.5, 4344424]]), "second value of every pair looks like an architecture"),
    "ragged.csv": (as_text("arch,score\n4344424,1\n1111111\n"), "row 1 has 1 values, the header 2"),
    "lengths.json": (as_json({"arch": ARCHS, "score": [1]}), "differ in length: arch 4, score 1"),
    "mixed.json": (as_json({"note": "x", "scores": {"4344424": 1}}), "expected a list of objects"),
    "short.npy": (lambda path: np.save(path, EVERYTHING[:100]), r"allowed is \(16384,\)"),
    "bools.npy": (lambda path: np.save(path, EVERYTHING > 0), "values are of type bool"),
    "objects.npy": (lambda path: np.save(path, EVERYTHING.astype(object)), "values are of type object"),
    "times.npy": (lambda path: np.save(path, EVERYTHING.astype("M8[s]")), "values are of type datetime64"),
    "header.npy": (
        lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((((\n"), "cannot read .* as NPY",
    ),
    "nothing.csv": (as_text("# only this\n"), "only comments"),
    "gone.csv.gz": (as_text("arch,score\n"), "cannot read .* as CSV"),
    "cut.csv.gz": (lambda path: path.write_bytes(gzip.compress(COMMA.encode())[:-12]), "cannot read .* as CSV"),
    "dates.parquet": (
        lambda path: FRAME.assign(score=pd.Timestamp("2026-01-01")).to_parquet(path), "row 0: score .* is not a number",
    ),
    "seed.parquet": (
        lambda path: pq.write_table(
            pa.table({"arch": ARCHS, "score": VALUES}).replace_schema_metadata({METADATA_KEY: b'{"seed": -5}'}), path
        ),
        "'seed' in its metadata is '-5'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_single_meaning_is_refused(tmp_path, name):
    write, message = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(ChannelBenchError, match=message) as caught:
        read_scores(tmp_path / name, SPACE)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_decimal_comma_is_read_where_one_value_of_the_column_shows_what_it_is(tmp_path):
    (tmp_path / "s.csv").write_text("arch;score\n4344424;91,234\n1111111;0,91\n2222222;7\n")
    assert read_scores(tmp_path / "s.csv", SPACE).values.tolist() == [0.91, 7.0, 91.234]


def test_seven_times_one_is_the_widest_among_ratios(tmp_path):
    rows = [[[1, 1, 1, 1, 1, 1, 1], 5], [[0.25, 1, 1, 1, 0.5, 1, 1], 4]]
    (tmp_path / "s.json").write_text(json.dumps(rows))
    scores = read_scores(tmp_path / "s.json", SPACE)
    assert list(map(SPACE.text, scores.indices.tolist())) == ["1444244", "4444444"]


# -- seeds ----------------------------------------------------------------------------------------------------------


def test_columns_of_seeds_are_seeds_of_one_method():
    space = cb.get_space("resnet-mini")
    path = entries_dir() / "uniform.resnet-mini.parquet"
    found = read_seeds(path, space)
    assert [(each.method, each.facts["seed"]) for each in found] == [("uniform", seed) for seed in (0, 1, 2)]
    for each in found:
        assert (each.values == read_scores(path, space, score_column=f"seed{each.facts['seed']}").values).all()
    (alone,) = read_seeds(path, space, score_column="seed1")
    assert (alone.values == found[1].values).all()


@pytest.mark.processes
def test_a_folder_or_pattern_of_score_files_is_reported(tmp_path, run_cli):
    for seed in (0, 1):
        values = np.random.default_rng(seed).normal(size=16384)
        pd.DataFrame({"arch": SPACE.texts(), f"seed{seed}": values}).to_csv(tmp_path / f"s{seed}.csv", index=False)
    shown = ("--space", "resnet-mini", "--replicates", 0, "--draws", 0, "--json")
    for argument in (f"mine={tmp_path}", f"mine={tmp_path}/s*.csv"):
        code, output, errors = run_cli("channel-harness", "report", argument, *shown)
        assert code == 0, errors
        (row,) = [each for each in json.loads(output)["comparison"]["rows"] if each["kind"] == "method"]
        assert row["name"] == "mine" and [each["seed"] for each in row["rankings"]] == [0, 1]
    code, _, errors = run_cli("channel-harness", "report", f"{tmp_path}/no*.csv", *shown)
    assert code == 2 and "no file fits the pattern" in errors
    code, output, errors = run_cli("channel-harness", "score", entries_dir(), *shown[:2], *shown[4:])
    assert code == 2 and "sets of scores: add --average" in errors


@pytest.mark.parametrize("text", ["x" * 5000 + "=a.csv", "a=" + "x" * 5000, "=a.csv", "a="])
def test_a_long_or_half_argument_is_one_line(text, run_cli):
    code, output, errors = run_cli("channel-harness", "report", text, "--space", "resnet-mini", "--replicates", 0)
    assert (code, output, errors.count("\n")) == (2, "", 1)


# -- damage ---------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_gives_other_scores(tmp_path):
    path = tmp_path / "s.parquet"
    scores = make_scores("mine", SPACE, range(2000), EVERYTHING[:2000], {"seed": 3})
    write_scores(scores, path)
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    num_named = 0
    for place in rng.choice(len(good), 300, replace=False).tolist():
        flipped = bytearray(good)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            found = read_scores(path, SPACE)
        except ChannelBenchError as error:
            num_named += "its content is not what was written" in str(error)
            continue
        assert (found.indices == scores.indices).all() and (found.values == scores.values).all()
        # One bit can hide all of the metadata, and the hash with it; then there are no facts, but never others.
        assert found.facts.get("seed", 3) == 3
    assert num_named > 100


def test_facts_belong_to_the_content(tmp_path):
    path = tmp_path / "s.parquet"
    write_scores(make_scores("mine", SPACE, [3, 5], [1.0, 2.0], {"seed": 3}), path)
    table = pq.read_table(path)
    changed = {key: value.replace(b'"seed": 3', b'"seed": 4') for key, value in table.schema.metadata.items()}
    pq.write_table(table.replace_schema_metadata(changed), path)
    with pytest.raises(CorruptFileError, match="its content is not what was written: the hash in its metadata"):
        read_scores(path, SPACE)


@pytest.mark.parametrize("how", [{"compression": "gzip"}, {"use_dictionary": False}, {"row_group_size": 1}])
def test_how_a_file_is_stored_and_the_order_of_its_rows_are_not_its_content(tmp_path, how):
    path = tmp_path / "s.parquet"
    write_scores(make_scores("mine", SPACE, [3, 5], [1.0, 2.0], {"seed": 3}), path)
    table = pq.read_table(path)
    pq.write_table(table.take([1, 0]), path, **how)
    assert read_scores(path, SPACE).values.tolist() == [1.0, 2.0]


def test_files_without_a_hash_stay_readable(tmp_path):
    path = tmp_path / "s.parquet"
    facts = {METADATA_KEY: json.dumps({"method": "mine", "space": "resnet", "seed": 3}).encode()}
    pq.write_table(pa.table({"arch": ARCHS, "score": VALUES}).replace_schema_metadata(facts), path)
    assert read_scores(path, SPACE).facts["seed"] == 3


# -- size -----------------------------------------------------------------------------------------------------------


def zeros(path, num_rows):
    pq.write_table(pa.table({"arch": pa.array(np.zeros(num_rows, np.int32)), "score": np.zeros(num_rows)}), path)


def one_long_text(path):
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(60_000, np.int32)), pa.array(["x" * 10**6]))
    pq.write_table(pa.table({"arch": text, "score": np.zeros(60_000)}), path)


BOMBS = {
    "rows.parquet": (lambda path: zeros(path, 10_000_000), "it has 10,000,000 rows: a file of scores has at most"),
    "columns.parquet": (
        lambda path: pq.write_table(pa.table({f"c{n}": np.zeros(MAX_ROWS) for n in range(100)}), path), "values",
    ),
    "text.parquet": (one_long_text, "has 1,000,000 bytes: allowed are at most 256"),
    "zeros.csv.gz": (lambda path: path.write_bytes(gzip.compress(bytes(200 * 2**20))), "decompressed it has more"),
    "zeros.npz": (lambda path: np.savez_compressed(path, np.zeros(50_000_000)), "decompressed it has more"),
    "lines.csv": (lambda path: path.write_text("arch,score\n" + "1,1\n" * 100_000), "rows: a file of scores has"),
    "lists.json": (lambda path: path.write_text("[" + "[]," * 100_000 + "[]]"), "rows: a file of scores has"),
    "large.json": (lambda path: path.write_text("[" + " " * 17 * 2**20 + "]"), "bytes of text"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_does_not_take_much_memory(tmp_path, name):
    write, message = BOMBS[name]
    write(tmp_path / name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ChannelBenchError, match=message):
        read_scores(tmp_path / name, SPACE)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_a_header_that_promises_more_than_the_file_has_is_refused(tmp_path):
    np.save(tmp_path / "s.npy", EVERYTHING)
    data = (tmp_path / "s.npy").read_bytes()
    (tmp_path / "s.npy").write_bytes(data.replace(b"(16384,)", b"(9999999999999,)").replace(b" " * 8 + b"\n", b"\n", 1))
    with pytest.raises(CorruptFileError, match="9,999,999,999,999 rows"):
        read_scores(tmp_path / "s.npy", SPACE)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "npy", "npz", "csv.gz"])
def test_pipes_and_devices_are_not_opened(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"device.{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(CorruptFileError, match="is a pipe or device: only regular files are read"):
            read_scores(tmp_path / f"{name}.{suffix}", SPACE)
