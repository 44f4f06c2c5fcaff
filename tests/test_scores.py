"""Files of scores: every form that people have, and what is refused."""

import decimal
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_info, make_rows, write_table

import channel_bench as cb
from channel_bench.errors import ArgumentError, ChannelBenchError, CorruptFileError
from channel_bench.table import Table
from harness.judge.baselines import baseline_scores
from harness.judge.comparison import compare
from harness.scores import make_scores, read_scores, write_scores
from harness.stats.metrics import correlations

SPACE = cb.get_space("resnet")
ARCHS = ["4344424", "1111111", "2222222"]
VALUES = [3.5, -1.0, 2.0]


def frame(**columns):
    return pd.DataFrame(columns | {"score": VALUES})


FORMS = {
    "digits.csv": lambda path: frame(arch=ARCHS).to_csv(path, index=False),
    "index.csv": lambda path: frame(index=[SPACE.index(arch) for arch in ARCHS]).to_csv(path, index=False),
    "channels.csv": lambda path: frame(channels=["-".join(map(str, SPACE.channels(arch))) for arch in ARCHS]).to_csv(
        path
    ),
    "tuple.csv": lambda path: frame(architecture=[str(SPACE.arch(arch)) for arch in ARCHS]).to_csv(path, index=False),
    "digits.parquet": lambda path: frame(arch=ARCHS).to_parquet(path),
    "numbers.parquet": lambda path: frame(arch=[float(arch) for arch in ARCHS]).to_parquet(path),
    "lists.parquet": lambda path: frame(channels=[list(SPACE.channels(arch)) for arch in ARCHS]).to_parquet(path),
    "rows.json": lambda path: frame(subnet=[int(arch) for arch in ARCHS]).to_json(path, orient="records"),
    "keyed.json": lambda path: path.write_text(
        json.dumps(
            {
                "Result": [
                    {"Num": i, "subnet": int(a), "score": v} for i, (a, v) in enumerate(zip(ARCHS, VALUES, strict=True))
                ]
            }
        )
    ),
    "map.json": lambda path: path.write_text(json.dumps(dict(zip(ARCHS, VALUES, strict=True)))),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_reads_to_the_same_scores(tmp_path, name):
    FORMS[name](tmp_path / name)
    scores = read_scores(tmp_path / name, SPACE)
    assert [SPACE.text(int(index)) for index in scores.indices] == sorted(ARCHS)
    assert dict(zip(map(SPACE.text, scores.indices.tolist()), scores.values.tolist(), strict=True)) == dict(
        zip(ARCHS, VALUES, strict=True)
    )
    assert scores.method == name.split(".")[0]
    assert len(scores.missing) == 16381 and scores.missing[0] == "1111112"


def test_written_scores_are_read_back_with_their_facts(tmp_path):
    scores = make_scores("mine", SPACE, [5, 3], [1.0, 2.0], {"seed": 7})
    write_scores(scores, tmp_path / "s.parquet")
    again = read_scores(tmp_path / "s.parquet", SPACE)
    assert (again.method, again.facts["seed"]) == ("mine", 7)
    assert again.indices.tolist() == [3, 5] and again.values.tolist() == [2.0, 1.0]
    with pytest.raises(ArgumentError, match="holds scores of space 'resnet', not 'mobilenet'"):
        read_scores(tmp_path / "s.parquet", cb.get_space("mobilenet"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.csv", "", "is empty"),
        ("s.json", "  \n", "is empty"),
        ("s.csv", "arch,score\n4344424,nan\n", "score of architecture 4344424 is nan"),
        ("s.csv", "arch,score\n4344424,inf\n", "score of architecture 4344424 is inf"),
        ("s.csv", "arch,score\n4344424,\n", "score of architecture 4344424 is nan"),
        ("s.json", '[{"arch": 1, "score": "high"}]', "score 'high' of 1 is not a number"),
        ("s.csv", "arch,score\n4344424,high\n", "score 'high' of 4344424 is not a number"),
        ("s.csv", "arch,score\n4344424,1\n4344424,2\n", "4344424 has more than one score"),
        ("s.csv", "arch,score\n1111111,1\n5344424,2\n", "row 1: "),
        ("s.csv", "arch,score\n", "has no scores"),
        ("s.csv", "net,score\n4344424,1\n", "no column of architectures: .* it has net, score; name yours with --arch"),
        ("s.csv", "arch,acc\n4344424,1\n", "no column of scores: .* --score-column"),
        ("s.json", "[1, 2]", "expected a list of objects"),
        ("s.json", '[{"arch": 1, "score": 2}, {"arch": 1}]', "row 1 has the keys arch, the first row arch, score"),
        ("s.json", '{"Result": [{"subnet"', "cannot read .* as JSON"),
        ("s.parquet", "PAR1", "cannot read .* as PARQUET"),
        ("s.csv", "arch,score,score\n4344424,1,2\n", "more than one column of a name"),
        ("s.csv", "arch,score, Score\n4344424,1,2\n", "more than one column of a name"),
        ("s.csv", "index,genotype,score\n0,4344424,1\n", "no column of architectures"),
        ("s.csv", "index,score\n-1,1\n", "index -1 is out of range"),
        ("s.csv", "arch,score\n-1,1\n", "row 0: '-1' is not an architecture"),
        ("s.json", '{"4344424": 1, "4344424": 2}', "key '4344424' stands twice in one object"),
        ("s.json", '{"-1": 1}', "row 0: '-1' is not an architecture"),
        ("s.json", '{"²": 1, "1111111": 1}', "row 0: '²' is not an architecture"),
        ("s.json", '[{"arch": {"a": 1}, "score": 1}]', "row 0: unknown encoding 'a'"),
        ("s.json", '[{"arch": [[1, 2]], "score": 1}]', "row 0: an architecture has 7 slots"),
        (
            "s.json",
            '[{"arch": 1, "score": 1' + "0" * 400 + "}]",
            "number 1000.* does not fit 64 bits",
        ),
        ("s.json", '[{"arch": 1, "score": true}]', "score True of 1 is not a number"),
        ("s.json", '[{"channels": "256,a,256,512,512,512,512", "score": 1}]', "between commas"),
        ("s.json", '[{"channels": "256,,256,512,512,512,512", "score": 1}]', "between commas"),
        ("s.json", '[{"channels": "256.0,256,256,512,512,512,512", "score": 1}]', "ratio 256.0 of slot 0"),
        ("s.json", "[" * 100_000, "cannot read .* as JSON"),
        ("s.txt", "x", r"must end in .csv, .tsv, .parquet, .json"),
    ],
)
def test_what_is_no_file_of_scores_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ChannelBenchError, match=message) as caught:
        read_scores(tmp_path / name, SPACE)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert isinstance(caught.value, (ArgumentError, CorruptFileError))


def test_channels_and_indices_are_what_their_column_says(tmp_path):
    narrow = cb.get_space("resnet-mini")
    archs = ["1111111", "4441111", "4444444"]
    pd.DataFrame({"channels": ["-".join(map(str, narrow.channels(arch))) for arch in archs], "score": VALUES}).to_csv(
        tmp_path / "s.csv", index=False
    )
    assert list(map(narrow.text, read_scores(tmp_path / "s.csv", narrow).indices.tolist())) == archs
    pd.DataFrame({"genotype": [5, 7, 4344424 % 16384], "Score": VALUES}).to_csv(tmp_path / "s.CSV", index=False)
    read = read_scores(tmp_path / "s.CSV", narrow, arch_column="genotype")
    assert set(read.indices.tolist()) == {5, 7, 4344424 % 16384}


@pytest.mark.parametrize("kind", ["string", "large_string", "binary", "dictionary<values=string, indices=int32>"])
def test_parquet_types_of_architectures_do_not_matter(tmp_path, kind):
    types = {"string": pa.string(), "large_string": pa.large_string(), "binary": pa.binary()}
    archs = pa.array(ARCHS).cast(types[kind]) if kind in types else pa.array(ARCHS).dictionary_encode()
    scores = pa.array([decimal.Decimal(str(value)) for value in VALUES])
    pq.write_table(pa.table({"arch": archs, "score": scores}), tmp_path / "s.parquet")
    assert sorted(read_scores(tmp_path / "s.parquet", SPACE).values.tolist()) == sorted(VALUES)


def test_other_column_names_can_be_given(tmp_path):
    frame(net=ARCHS, top1=[1, 2, 3]).to_csv(tmp_path / "s.csv", index=False)
    scores = read_scores(tmp_path / "s.csv", SPACE, arch_column="Net", score_column="TOP1")
    with pytest.raises(ArgumentError, match="cannot be both"):
        read_scores(tmp_path / "s.csv", SPACE, arch_column="score", score_column="score")
    assert sorted(scores.values.tolist()) == [1, 2, 3]
    with pytest.raises(ArgumentError, match="has no column 'x': it has net, top1, score"):
        read_scores(tmp_path / "s.csv", SPACE, arch_column="x")


def test_a_comparison_rests_on_what_has_both_a_score_and_an_accuracy(tmp_path):
    space = cb.get_space("resnet-mini")
    table = Table.read(write_table(tmp_path / "t.parquet", make_rows(space, 64, 2), make_info(space)))
    indices = np.arange(0, 8192)
    rng = np.random.default_rng(0)
    scores = make_scores("mine", space, indices, rng.normal(size=8192))
    comparison = compare(scores, table)
    trained = np.arange(0, 8192, 256)
    expected = correlations(scores.values[trained], table.accuracies()[trained])
    row = comparison.rows[0]
    assert (row.name, row.n, row.kendall) == ("mine", 32, expected.kendall)
    assert {row.n for row in comparison.rows} == {32}
    assert comparison.num_untrained == 8192 - 32 and len(comparison.missing) == 8192
    with pytest.raises(ArgumentError, match="1 architectures have both"):
        compare(make_scores("mine", space, [0, 1], [1.0, 2.0]), table)
    with pytest.raises(ArgumentError, match="scores are of space 'resnet'"):
        compare(make_scores("mine", SPACE, [0, 1], [1.0, 2.0]), table)


def test_baselines_are_what_their_names_say():
    scores = baseline_scores(SPACE)
    index = SPACE.index("4321432")
    assert scores["flops"][index] == SPACE.flops("4321432") and scores["params"][index] == SPACE.params("4321432")
    assert scores["digit-sum"][index] == 19 and scores["min-width"][index] == 1
    assert scores["sum-log-width"][index] == pytest.approx(sum(np.log(digit / 4) for digit in (4, 3, 2, 1, 4, 3, 2)))
    # Equal products of widths tie exactly.
    assert scores["sum-log-width"][SPACE.index("4111111")] == scores["sum-log-width"][SPACE.index("1112211")]


def test_a_released_score_file_from_the_command_line(published, scores_dir, run_cli):
    file = scores_dir / "bin20_min1_bcnet_2.json"
    code, output, _ = run_cli("channel-harness", "score", file, "--space", "mobilenet", "--draws", "2")
    assert code == 0
    lines = [line.split() for line in output.splitlines()]
    assert ["bin20_min1_bcnet_2", "method", "0.4304", "0.6039", "0.6060", "16,383"] in lines
    assert "1 of 16,384 architectures without a score: 4444444" in output
    assert "truth: best test accuracy over 60 epochs" in output
    code, output, _ = run_cli("channel-harness", "score", file, "--space", "mobilenet", "--draws", "0", "--json")
    parsed = json.loads(output)
    assert parsed["missing"] == ["4444444"] and round(parsed["rows"][0]["kendall"], 4) == 0.4304
    resnet = scores_dir / "bin20_min1_bcnet_2_resnet.json"
    parsed = json.loads(run_cli("channel-harness", "score", resnet, "--space", "resnet", "--draws", "0", "--json")[1])
    row = parsed["rows"][0]
    assert [round(row[name], 4) for name in ("pearson", "spearman", "kendall")] == [0.4999, 0.4630, 0.3179]
