"""The command lines: what they print, that they load nothing heavy, and one clear line for everything that is wrong."""

import json
import os
import subprocess
import sys

import pytest
from conftest import make_info, make_rows, write_table

import channel_bench as cb

BENCH, HARNESS = "channel-bench", "channel-harness"


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_table_path):
    """Good and bad files that the cases below name as {key}."""
    folder = tmp_path_factory.mktemp("files")

    def text(name, content):
        (folder / name).write_text(content)
        return folder / name

    resnet = write_table(
        folder / "resnet.parquet", make_rows(cb.get_space("resnet"), 8, 1), make_info(cb.get_space("resnet"))
    )
    (folder / "cut.parquet").write_bytes(resnet.read_bytes()[:-100])
    return {
        "good": small_table_path,
        "resnet": resnet,
        "cut": folder / "cut.parquet",
        "empty": text("empty.csv", ""),
        "emptytable": text("empty.parquet", ""),
        "nan": text("nan.csv", "arch,score\n4344424,nan\n"),
        "twice": text("twice.csv", "arch,score\n4344424,1\n4344424,2\n"),
        "digits": text("digits.csv", "arch,score\n9344424,1\n"),
        "nocolumn": text("nocolumn.csv", "a,b\n1,2\n"),
        "scores": text("scores.csv", "arch,score\n1111111,1\n1111112,2\n"),
        "json": text("bad.json", '{"Result": ['),
        "file": text("file", "x"),
        "folder": folder,
        "out": folder / "out.parquet",
    }


# Command, arguments, and what the one line must say.
BAD_INPUT = [
    (BENCH, "query resnt 4344424", "unknown space 'resnt': known are .*; did you mean 'resnet'?"),
    (BENCH, "query resnet-mini 434442 --table {good}", "'434442' is not an architecture: allowed is text of 7 digits"),
    (BENCH, "query resnet-mini 4344425 --table {good}", "'4344425' is not an architecture"),
    (BENCH, "query resnet 100,256,256,512,512,512,512 --table {resnet}", "channel 100 of slot 0 is not one of 64, 128"),
    (BENCH, "query resnet-mini 0.3,1,1,1,1,1,1 --table {good}", "ratio 0.3 of slot 0 is not one of 0.25, 0.5"),
    (BENCH, "query resnet-mini 4444444 --table {good}", "no finished run of architecture 4444444"),
    (BENCH, "query resnet-mini 1111111 --table digits-16384x4", "did you mean 'digits-16384x3'"),
    (BENCH, "query resnet 1111111 --data-dir {folder}", "run 'channel-bench download'"),
    (BENCH, "query resnet 1111111 --table cifar", "unknown table 'cifar'"),
    (BENCH, "query resnet 1111111 --table {folder}/none.parquet", "does not exist"),
    (BENCH, "query resnet 1111111 --table {cut}", "cannot read table .*: not a Parquet file, or damaged"),
    (BENCH, "query resnet 1111111 --table {emptytable}", "not a Parquet file, or damaged"),
    (BENCH, "query resnet 1111111 --table {good}", "is of space 'resnet-mini', not 'resnet'"),
    (BENCH, "query resnet-mini 1111111 --table {good} --metric acc", "metric 'acc' is not one of best_test_acc"),
    (BENCH, "query resnet-mini", "Missing argument"),
    (
        BENCH,
        "query resnet-mini {empty} --table {good}",
        "empty.csv' holds no architecture: allowed is one on each line",
    ),
    (BENCH, "query resnet-mini {nocolumn} --table {good}", "line 1 of file .*nocolumn.csv': 'a,b' is not an arch"),
    (BENCH, "query resnet-mini {good} --table {good}", "is not a list of architectures: it is not UTF-8 text"),
    (BENCH, "query resnet-mini {folder} --table {good}", "is a folder: only regular files are read"),
    (BENCH, "query resnet-mini {folder}/none.txt --table {good}", "none.txt' is not an architecture"),
    (BENCH, "query resnet-mini 2-2-2-4-4-4-4 --table {good}", "could be digits and channels of space 'resnet-mini'"),
    (BENCH, "query resnet-mini 0-1-2-3-0-1-2 --table {good}", "digits start at 1"),
    (BENCH, "query resnet-mini 1111111 --table {good} --json --csv", "--json and --csv exclude each other"),
    (BENCH, "top resnet-mini --table {good} --slot 0", "--slot '0' is not SLOT=DIGIT, such as 0=2"),
    (BENCH, "top resnet-mini --table {good} --slot 0=²", "is not SLOT=DIGIT"),
    (BENCH, "top resnet-mini --table {good} --slot 7=1", "slot 7 does not exist: allowed are 0..6"),
    (BENCH, "top resnet-mini --table {good} --slot 0=5", "digit 5 does not exist: allowed are 1..4"),
    (BENCH, "top resnet-mini --table {good} --slot 0=1 --slot 0=2", "--slot gives slot 0 twice"),
    (BENCH, "top resnet-mini --table {good} -k 0", "cannot list 0 architectures"),
    (BENCH, "top resnet-mini --table {good} -k many", "-k"),
    (BENCH, "top resnet-mini --table {good} --max-flops 1", "no trained architecture has flops <= 1"),
    (BENCH, "top resnet-mini --table {good} --max-flops=-5M", "--max-flops '-5M' is not a budget"),
    (BENCH, "top resnet-mini --table {good} --max-params lots", "--max-params 'lots' is not a budget"),
    (BENCH, "pareto resnet-mini --table {good} --cost latency", "cost 'latency' is not one of flops, params"),
    (BENCH, "download --from {folder}", "Results_MobileNet.json' does not exist"),
    (BENCH, "download --url http://127.0.0.1:9", "cannot download .*: pass copies with --from|cannot download"),
    (BENCH, "download --from {folder} --url http://x", "--from and --url exclude each other"),
    (BENCH, "build resnet-mini --archs 1 --recipe paper --out {folder}/runs", "3 channel means, the images have 1"),
    (BENCH, "build resnet-mini --archs ² --out {folder}/runs", "'²' is not an architecture"),
    (BENCH, "build resnet-mini --archs 1 --epochs 40000 --out {folder}/runs", "epochs of recipe .* is 40000"),
    (
        BENCH,
        "build resnet-mini --archs 1 --base-seed 99999999999999999999 --out {folder}/runs",
        "base seed .* is out of",
    ),
    (
        HARNESS,
        "rank autoslim --space resnet-mini --table {good} --option distill=maybe",
        "allowed are values of type bool",
    ),
    (HARNESS, "rank autoslim --space resnet-mini --table {good} --option num_subnets=3.0", "values of type int"),
    (HARNESS, "rank uniform --space resnet-mini --no-truth -o {file}/s.parquet", "cannot make folder"),
    (HARNESS, "rank uniform --space resnet-mini --table {good} --option name=1", "has no option 'name'"),
    (HARNESS, "demo --seed -1 --out {folder}/demo", "seed -1 is negative"),
    (HARNESS, "demo --archs 1 --out {folder}/demo", "1 architectures have no correlation"),
    (BENCH, "train resnet-mini 1", "'1' is not an architecture"),
    (BENCH, "train resnet-mini 1111111 --recipe long", "unknown recipe 'long'"),
    (BENCH, "train resnet-mini 1111111 --epochs 0", "epochs of recipe .* is 0: allowed is a whole number 1..32767"),
    (BENCH, "train resnet-mini 1111111 --seed -1", "seed -1 is negative"),
    (BENCH, "train resnet-mini 1111111 --device gpu", "device 'gpu' cannot be used here"),
    (BENCH, "train resnet-mini 1111111 --dataset mnist", "unknown data set 'mnist'"),
    (BENCH, "train resnet-mini 1111111 --dataset {folder}", "has no file train"),
    (BENCH, "train resnet-mini 1111111 --threads 0", "number of threads is 0"),
    (BENCH, "train resnet 1111111 --dataset digits", "images of .*, space 'resnet' takes"),
    (BENCH, "train resnet 1111111 --data-dir {folder}", "CIFAR-10 is not in .*: add --download"),
    (
        BENCH,
        "build resnet-mini --archs 2 --runs -1 --out {folder}/runs",
        "number of runs is -1: allowed are 1..32767",
    ),
    (BENCH, "build resnet-mini --archs 0 --out {folder}/runs", "cannot build 0 architectures"),
    (BENCH, "build resnet-mini --archs 2 --out {file}/runs", "cannot make folder .*: Not a directory"),
    (BENCH, "build resnet-mini --archs 2 --workers 0 --out {folder}/runs", "number of workers is 0"),
    (BENCH, "build resnet-mini --archs 2", "Missing option '--out'"),
    (BENCH, "build resnet-mini --archs 2 --shard 0/2 --out {folder}/runs", "shard '0/2' is not I/N"),
    (BENCH, "build resnet-mini --archs 2 --shard 2/3 --out {folder}/runs", "2 architectures cannot make 3 shards"),
    (BENCH, "build resnet-mini --archs 2 --retries -1 --out {folder}/runs", "number of retries is -1"),
    (BENCH, "build resnet-mini --archs 2 --runs-per-gpu 0 --out {folder}/runs", "runs per GPU is 0"),
    (BENCH, "build resnet-mini --archs 2 --engine slurm --out {folder}/runs", "unknown engine 'slurm'"),
    (BENCH, "build resnet-mini --archs 2 --address auto --out {folder}/runs", "add --engine ray"),
    (BENCH, "build resnet-mini --archs 2 --engine ray --device cuda:1 --out {folder}/runs", "on a cluster, allowed"),
    (
        BENCH,
        "build resnet-mini --archs 2 --engine ray --address x:y:z --out {folder}/runs",
        "cannot use the Ray cluster",
    ),
    (BENCH, "collect {folder} -o {out}", "is not a folder of runs: it has no store.json"),
    (BENCH, "collect {folder}/nowhere -o {out}", "is not a folder of runs"),
    (BENCH, "collect {folder} -o {folder}/t.csv", "must end in .parquet"),
    (BENCH, "status {folder}", "is not a folder of runs"),
    (BENCH, "verify {cut}", "not a Parquet file, or damaged"),
    (BENCH, "verify {folder}/none.parquet", "does not exist"),
    (BENCH, "verify {folder}", "cannot read table"),
    (BENCH, "qury resnet", "No such command 'qury'"),
    (BENCH, "query resnet-mini 1111111 --jsn", "No such option"),
    (HARNESS, "score {empty} --space resnet", "is empty"),
    (HARNESS, "score {nan} --space resnet", "score of architecture 4344424 is nan"),
    (HARNESS, "score {twice} --space resnet", "4344424 has more than one score"),
    (HARNESS, "score {digits} --space resnet", "row 0: "),
    (HARNESS, "score {nocolumn} --space resnet", "no column of scores: looked for score"),
    (HARNESS, "score {json} --space resnet", "cannot read .* as JSON"),
    (HARNESS, "score {folder}/none.csv --space resnet", "does not exist"),
    (HARNESS, "score {file} --space resnet", "must end in .csv, .tsv, .parquet, .json"),
    (HARNESS, "score {folder} --space resnet", "cannot read .*bad.json. as JSON"),
    (HARNESS, "score {scores} --space imagenet", "unknown space 'imagenet'"),
    (HARNESS, "score {scores}", "Missing option '--space'"),
    (HARNESS, "score {scores} --space resnet-mini --table {good}", "1 architectures have both a score and an accuracy"),
    (HARNESS, "score {scores} --space resnet-mini --table {good} --run 7", "run 7 is not one of 0, 1"),
    (HARNESS, "score {scores} --space resnet --score-column x", "has no column 'x'"),
    (HARNESS, "rank autoslm --space resnet-mini --table {good}", "unknown method 'autoslm': .*did you mean 'autoslim'"),
    (HARNESS, "rank uniform --space resnet --data-dir {folder}", "run 'channel-bench download'"),
    (HARNESS, "rank uniform --space resnet-mini --no-truth", "would throw the scores away"),
    (HARNESS, "rank uniform --space resnet-mini --table {good} -o {folder}/s.csv", "must end in .parquet"),
    (HARNESS, "rank uniform --space resnet-mini --table {good} --option x", "--option 'x' is not NAME=VALUE"),
    (HARNESS, "rank uniform --space resnet-mini --table {good} --option x=1", "method 'uniform' has no option 'x'"),
    (HARNESS, "rank uniform --space resnet-mini --table {good} --validate-on all", "validate_on 'all' is not one of"),
    (HARNESS, "rank uniform --space resnet-mini --table {good} --epochs -1", "epochs of recipe .* is -1"),
    (HARNESS, "baselines --space resnet-mini --table {cut}", "not a Parquet file, or damaged"),
    (HARNESS, "demo --archs 0 --out {folder}/demo", "cannot build 0 architectures"),
    (HARNESS, "demo --out {file}/demo", "cannot make folder"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD_INPUT, ids=[case[1] for case in BAD_INPUT])
def test_bad_input_is_one_line_and_exit_code_2(name, arguments, message, files, run_cli):
    before = {path.name for path in files["folder"].iterdir()}
    code, output, errors = run_cli(name, *(part.format(**files) for part in arguments.split()))
    lines = [line for line in errors.splitlines() if not line.startswith(("1/4", "127.0.0.1"))]
    assert code == 2
    assert len(lines) == 1 and lines[0].startswith(name)
    import re

    assert re.search(message, lines[0]), lines[0]
    assert output == ""
    assert {path.name for path in files["folder"].iterdir()} == before


def python(code: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


HEAVY = "sorted({'torch', 'pandas', 'scipy', 'sklearn', 'torchvision', 'h5py', 'rich'} & set(sys.modules))"


def test_importing_either_package_loads_nothing_heavy():
    assert (
        python(f"import sys, channel_bench, harness; channel_bench.get_space('resnet').flops(); print({HEAVY})") == "[]"
    )
    assert python("import sys, channel_bench; print('pyarrow' in sys.modules)") == "False"


@pytest.mark.parametrize("json_output", [True, False])
def test_a_query_loads_neither_torch_nor_pandas(small_table_path, json_output):
    code = (
        "import sys, channel_bench.cli as cli\n"
        f"sys.argv = ['channel-bench', 'query', 'resnet-mini', '1111111', '--table', {str(small_table_path)!r}"
        f"{', ' + repr('--json') if json_output else ''}]\n"
        "try:\n    cli.main()\nexcept SystemExit as stopped:\n    assert stopped.code == 0\n"
        f"print('HEAVY', {HEAVY})"
    )
    heavy = python(code).rpartition("HEAVY ")[2]
    assert heavy == ("[]" if json_output else "['rich']")


def test_query_shows_every_run_and_what_the_accuracy_is(published, run_cli):
    code, output, _ = run_cli(BENCH, "query", "resnet", "4344424", "256,192,256,512,512,256,512")
    assert code == 0
    row = "4344424 93.893 0.137 1 94.05 93.80 93.83 1,209,734,144 12,701,322 256-192-256-512-512-256-512".split()
    assert [line.split() for line in output.splitlines()].count(row) == 2
    assert "best test accuracy over 60 epochs" in output and "over 3 runs" in output
    parsed = json.loads(run_cli(BENCH, "query", "resnet", "4344424", "--json")[1])
    assert parsed["results"][0]["rank"] == 1 and parsed["results"][0]["flops"] == 1_209_734_144
    assert "best test accuracy over 60 epochs" in parsed["accuracy"]


def test_query_reads_lists_of_architectures_and_what_it_prints(tmp_path, small_table_path, run_cli, monkeypatch):
    import io
    import types

    archs = ["1111111", "2111111", "3111111"]
    table = ("--table", small_table_path)
    (tmp_path / "list.txt").write_text("\ufeffarch\n1111111\r\n\n# the rest\n  2111111\n3-1-1-1-1-1-1")
    code, listed, _ = run_cli(BENCH, "query", "resnet-mini", tmp_path / "list.txt", *table, "--json")
    assert code == 0 and [result["arch"] for result in json.loads(listed)["results"]] == archs
    assert run_cli(BENCH, "query", "resnet-mini", *archs, *table, "--json")[1] == listed
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO("\n".join(archs[1:]).encode())))
    assert run_cli(BENCH, "query", "resnet-mini", archs[0], "-", *table, "--json")[1] == listed
    # An architecture is never taken for the file of that name.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1111111").write_text("4444444")
    assert '"arch": "1111111"' in run_cli(BENCH, "query", "resnet-mini", "1111111", *table, "--json")[1]


def test_standard_input_is_bounded(small_table_path, run_cli, monkeypatch):
    import types

    with open("/dev/zero", "rb") as endless:
        monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=endless))
        code, _, errors = run_cli(BENCH, "query", "resnet-mini", "-", "--table", small_table_path)
    assert code == 2 and "standard input has more than" in errors


def test_csv_has_the_columns_of_the_frame(small_table_path, run_cli):
    import io

    import pandas as pd

    table = cb.load("resnet-mini", table=small_table_path)
    for command in (("query", "resnet-mini", "1111111", "2111111"), ("top", "resnet-mini"), ("pareto", "resnet-mini")):
        code, output, _ = run_cli(BENCH, *command, "--table", small_table_path, "--csv")
        found = pd.read_csv(io.StringIO(output), dtype={"arch": str})
        assert code == 0 and list(found.columns) == ["arch", "index", *table.frame().columns[1:]]
        expected = table.frame().set_index("arch").loc[found["arch"]].reset_index()
        pd.testing.assert_frame_equal(found.drop(columns="index"), expected, check_dtype=False)
    assert len(found) > 1


def test_json_shows_accuracies_as_published(published, run_cli):
    (result,) = json.loads(run_cli(BENCH, "query", "resnet", "4344424", "--json")[1])["results"]
    assert (result["accuracies"], result["mean"], result["std"]) == ([94.05, 93.8, 93.83], 93.8933, 0.1365)


def test_top_lists_architectures_with_given_widths(run_cli):
    output = run_cli(BENCH, "top", "resnet-mini", "--slot", "0=2", "--slot", "6=4", "--json")[1]
    archs = [result["arch"] for result in json.loads(output)["results"]]
    assert len(archs) == 10 and all(arch[0] == "2" and arch[6] == "4" for arch in archs)


def test_texts_of_a_table_cannot_reach_the_terminal_as_commands(tmp_path, run_cli):
    space = cb.get_space("resnet-mini")
    escape = "\x1b]0;owned\x07"
    info = make_info(
        space, name=escape, dataset=escape, source=escape, accuracy=escape, recipe={"name": escape, "epochs": 2}
    )
    path = write_table(tmp_path / "t.parquet", make_rows(space, 8, 2), info)
    for command in (("query", "resnet-mini", "1111111", "--table", path), ("verify", path), ("compare", path, path)):
        for more in ((), ("--json",)):
            code, output, errors = run_cli(BENCH, *command, *more)
            assert code == 0 and "owned" in output and not {"\x1b", "\x07"} & set(output + errors)


def test_top_and_pareto_respect_budgets_from_the_command_line(published, run_cli):
    parsed = json.loads(run_cli(BENCH, "top", "mobilenet", "-k", "5", "--max-flops", "0.25x", "--json")[1])
    assert len(parsed["results"]) == 5
    assert all(result["flops"] <= 0.25 * 211_281_920 for result in parsed["results"])
    same = json.loads(run_cli(BENCH, "top", "mobilenet", "-k", "5", "--max-flops", "52.82048M", "--json")[1])
    assert same == parsed
    front = json.loads(run_cli(BENCH, "pareto", "resnet", "--json")[1])["results"]
    assert front[0]["arch"] == "1111111" and front[-1]["arch"] == "4344424"
    means = [result["mean"] for result in front]
    assert means == sorted(means)


def test_build_collect_and_verify_from_the_command_line(tmp_path, run_cli):
    plan = ("build", "resnet-mini", "--archs", "2", "--runs", "1", "--epochs", "1", "--out", tmp_path / "runs")
    code, output, errors = run_cli(BENCH, *plan, "--workers", "1", "--device", "cpu")
    assert (code, "2 of 2 runs are in" in output, "2 to train" in errors) == (0, True, True)
    code, output, _ = run_cli(BENCH, *plan, "--workers", "1", "--device", "cpu")
    assert "0 trained now" in output and "2 were there" in output
    code, output, _ = run_cli(BENCH, "collect", tmp_path / "runs", "-o", tmp_path / "t.parquet")
    assert code == 0 and "2 architectures x 1 runs (0 architectures with fewer, 0 runs diverged)" in output
    code, output, _ = run_cli(BENCH, "verify", tmp_path / "t.parquet")
    assert code == 0 and "intact" in output
    assert json.loads(run_cli(BENCH, "verify", tmp_path / "t.parquet", "--json")[1])["num_rows"] == 2
    code, _, errors = run_cli(BENCH, "build", "mobilenet-mini", *plan[2:])
    assert code == 2 and "holds runs of another kind: space 'resnet-mini', not 'mobilenet-mini'" in errors


def test_without_ray_one_line_says_what_to_install(tmp_path, monkeypatch, run_cli):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, errors = run_cli(BENCH, "build", "resnet-mini", "--archs", "1", "--engine", "ray", "--out", tmp_path / "r")
    assert code == 2 and errors.count("\n") == 1
    assert "pip install 'channel-bench[cluster]'" in errors and not (tmp_path / "r").exists()


def test_train_prints_the_record(run_cli):
    code, output, _ = run_cli(BENCH, "train", "mobilenet-mini", "1212121", "--epochs", "1", "--device", "cpu")
    assert code == 0
    fields = dict(line.split(maxsplit=1) for line in output.splitlines()[2:-1])
    assert fields["arch"].strip() == "1212121" and fields["status"].strip() == "ok"
    assert fields["flops"].strip() == f"{cb.get_space('mobilenet-mini').flops('1212121'):,}"


@pytest.fixture
def small_holdout(monkeypatch):
    """Few validation images: scoring 16,384 sub-networks on all of them takes half a minute."""
    monkeypatch.setattr("harness.task.MAX_HOLDOUT", 30)


def test_rank_writes_scores_that_score_reads_back(tmp_path, small_table_path, run_cli, small_holdout):
    target = tmp_path / "scores.parquet"
    space = cb.get_space("resnet-mini")
    relabelled = write_table(tmp_path / "other.parquet", make_rows(space, 64, 2), make_info(space, dataset="other"))
    common = ("--space", "resnet-mini", "--table", small_table_path, "--json")
    code, ranked, _ = run_cli(HARNESS, "rank", "uniform", *common, "--epochs", "1", "--device", "cpu", "-o", target)
    assert code == 0
    ranked, scored = json.loads(ranked), json.loads(run_cli(HARNESS, "score", target, *common)[1])
    assert scored["rows"][0]["rankings"][0]["facts"].pop("space") == "resnet-mini"  # only a file has to say it
    assert scored["rows"] == ranked["rows"] and ranked["rows"][0]["n"] == 64
    text = run_cli(HARNESS, "score", target, *common[:-1])[1]
    assert "scores: data set digits, validated on held-out training images, recipe supernet-mini(epochs=1)" in text
    text = run_cli(HARNESS, "score", target, "--space", "resnet-mini", "--table", relabelled)[1]
    assert "data set digits, which is NOT the table's other" in text
    assert ranked["facts"]["validated_on"] == "holdout" and ranked["facts"]["recipe"]["epochs"] == 1


def test_methods_help_and_version(run_cli):
    code, output, _ = run_cli(HARNESS, "methods")
    assert code == 0 and "autoslim" in output and "uniform" in output
    assert [row["name"] for row in json.loads(run_cli(HARNESS, "methods", "--json")[1])][:1] == ["autoslim"]
    for name in (BENCH, HARNESS):
        assert run_cli(name, "--version")[:2] == (0, f"{cb.__version__}\n")
    for name in (BENCH, HARNESS):
        code, output, _ = run_cli(name)
        assert code == 0 and "Usage" in output


def test_a_closed_pipe_ends_a_command_silently(published):
    command = f"{sys.executable} -m channel_bench.cli top resnet -k 16384 --json | head -1"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert finished.stdout == "{\n" and finished.stderr == ""


def test_a_narrow_terminal_cuts_no_architecture_and_no_accuracy(published):
    command = f"stty cols 60; {sys.executable} -m channel_bench.cli query resnet 4344424"
    finished = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True)
    assert finished.returncode == 0
    for shown in ("4344424", "93.893", "94.05", "1,209,734,144", "256-192-256-512-512-256-512"):
        assert shown in finished.stdout


def test_the_metric_is_named_beside_its_numbers(small_table_path, run_cli):
    arguments = ("query", "resnet-mini", "1111111", "--table", small_table_path, "--metric")
    for metric, meaning in (
        ("best_test_acc", "best test accuracy over 2 epochs"),
        ("test_acc", "after the last epoch"),
    ):
        parsed = json.loads(run_cli(BENCH, *arguments, metric, "--json")[1])
        assert parsed["metric"] == metric and meaning in parsed["accuracy"]
        assert meaning in run_cli(BENCH, *arguments, metric)[1]


def test_the_demo_runs_to_its_report_and_goes_on_from_what_is_there(tmp_path, run_cli, small_holdout, monkeypatch):
    monkeypatch.setattr("channel_bench.builder.build.num_cores", lambda: 1)  # one worker is enough
    out = tmp_path / "demo"
    code, output, errors = run_cli(HARNESS, "demo", "--archs", "3", "--epochs", "2", "--out", out)
    assert code == 0
    lines = [line.split() for line in output.splitlines()]
    assert ["flops", "baseline"] in [line[:2] for line in lines]
    method = next(line for line in lines if line[:2] == ["autoslim", "method"])
    assert method[-1] == "3" and -1 <= float(method[2]) <= 1
    assert "mean over 2 runs" in output and str(out / "scores.parquet") in errors.replace("/scores", "/scores")
    assert sorted(path.name for path in out.iterdir()) == ["runs", "scores.parquet", "table.h5", "table.parquet"]


def test_every_command_has_a_summary_that_fits_its_line(run_cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, output, _ = run_cli(BENCH, "--help")
    summaries = output.partition("Commands:")[2].strip().splitlines()
    assert code == 0 and len(summaries) == 14
    assert [line for line in summaries if "..." in line or not line.endswith(".")] == []


def test_the_package_lists_its_public_names_and_nothing_else():
    code = "import channel_bench as cb; print([name for name in dir(cb) if not name.startswith('__')])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    functions = ["get_space", "list_spaces", "load", "load_space", "register_family", "register_space"]
    assert shown.strip() == str(["ChannelBenchError", "Result", "Space", "Table", *functions])
    assert "__version__" in dir(cb) and set(cb.__all__) <= set(dir(cb))
