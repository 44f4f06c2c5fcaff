"""Names that no file can have, wherever a command takes a path: one line, exit code 2, not longer than a screen."""

import pytest

from channel_bench.errors import StorageError
from channel_bench.support.durable import check_writable, write_atomic
from channel_bench.support.fields import differing
from channel_bench.support.reading import is_file, is_folder, is_there

BENCH, HARNESS = "channel-bench", "channel-harness"
LONG = "4" * 5000
COMMANDS = [
    (BENCH, "query resnet-mini {long}"),
    (BENCH, "top resnet-mini --table {long}"),
    (BENCH, "explore resnet-mini -o {long}.html"),
    (BENCH, "build resnet-mini --archs 1 -o {long}"),
    (BENCH, "build resnet-mini --archs 1 -o runs --dataset {long}"),
    (BENCH, "status {long}"),
    (BENCH, "collect {long} -o t.parquet"),
    (BENCH, "collect runs -o {long}.parquet"),
    (BENCH, "verify {long}.parquet"),
    (BENCH, "compare {long}.parquet {long}.parquet"),
    (BENCH, "latency resnet-mini -o {long}.json"),
    (BENCH, "train resnet-mini 1111111 --dataset {long}"),
    (BENCH, "download --from {long}"),
    (HARNESS, "rank uniform --space resnet-mini --no-truth -o {long}.parquet"),
    (HARNESS, "rank uniform --space resnet-mini --no-truth --dataset {long}"),
    (HARNESS, "rank {long}.py:Mine --space resnet-mini"),
    (HARNESS, "score {long}.csv --space resnet-mini"),
    (HARNESS, "report {long}.csv --space resnet-mini"),
    (HARNESS, "search {long} --space resnet-mini --max-flops 1x"),
    (HARNESS, "enter {long}.parquet --method mine --space resnet-mini"),
    (HARNESS, "leaderboard --entries {long}"),
    (HARNESS, "experiment trajectory -o {long}"),
    (HARNESS, "check {long}.py:Mine"),
    (HARNESS, "demo -o {long}"),
]


@pytest.mark.parametrize(("program", "words"), COMMANDS, ids=[words.split(" {")[0] for _, words in COMMANDS])
def test_a_name_that_no_file_can_have_is_one_line(run_cli, tmp_path, monkeypatch, program, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli(program, *words.format(long=LONG).split())
    assert (code, out) == (2, ""), err[:300]
    assert err.count("\n") == 1 and err.startswith(program) and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [LONG, "a\x00b", f"folder/{LONG}/file"])
def test_looking_at_such_a_name_finds_nothing_and_writing_is_refused(tmp_path, name):
    path = tmp_path / name
    assert not is_there(path) and not is_file(path) and not is_folder(path)
    with pytest.raises(StorageError, match="cannot write|cannot make folder"):
        check_writable(path)
    with pytest.raises(StorageError, match="cannot write|cannot make folder"):
        write_atomic((path, b"x"))


def test_what_differs_is_named_and_nothing_else():
    assert differing("bn", "batch", "recalibrated") == "bn 'batch', not 'recalibrated'"
    before = {"name": "a(epochs=3)", "epochs": 3, "lr": 0.1, "mean": None}
    assert differing("recipe", before, {**before, "name": "a", "epochs": 5}) == "recipe epochs 3, not 5"
    assert differing("options", {"x": 1}, {}) == "options x 1, not None"
    assert differing("options_sha256", None, {"file": "abc"}) == "options_sha256 file None, not 'abc'"
    many = {key: 1 for key in "abcde"}
    assert differing("o", many, dict.fromkeys(many, 2)) == "o a 1, not 2, o b 1, not 2, o c 1, not 2 and 2 more"


def test_a_list_with_commas_is_a_list(run_cli):
    one, two = (
        run_cli(BENCH, "query", "resnet-mini", *words) for words in (["4344424, 1111111"], ["4344424", "1111111"])
    )
    assert one == two and one[0] == 0
    digits, text = (run_cli(BENCH, "query", "resnet-mini", words) for words in ("4,3,4,4,4,2,4", "4344424"))
    assert digits == text and digits[0] == 0
    code, _, err = run_cli(BENCH, "query", "resnet-mini", "4344424,1111115")
    assert code == 2 and "'1111115' is not an architecture" in err


def test_a_device_by_another_name_is_told_its_own(run_cli):
    code, _, err = run_cli(BENCH, "train", "resnet-mini", "1111111", "--device", "gpu")
    assert code == 2 and "a GPU is called 'cuda'" in err and len(err) < 200
    code, _, err = run_cli(BENCH, "train", "resnet-mini", "1111111", "--device", "nonsense")
    assert code == 2 and "no device has this name" in err and len(err) < 200


def test_an_option_of_the_method_is_sent_to_its_own_list(run_cli):
    words = ["search", "bcnet", "--space", "resnet-mini", "--max-flops", "0.5x", "--option", "complement=mirror"]
    code, _, err = run_cli(HARNESS, *words)
    assert code == 2 and "write --method-option complement=" in err
    code, _, err = run_cli(HARNESS, *words[:-1], "nothing=1")
    assert code == 2 and "searcher 'evolutionary' has no option 'nothing'" in err


def test_a_folder_of_runs_of_another_recipe_names_what_differs(run_cli, tmp_path):
    words = (BENCH, "build", "resnet-mini", "--archs", "1111111", "--runs", "1", "-o", tmp_path / "runs")
    code, out, err = run_cli(*words, "--epochs", 1, "--lr-shift", 0)
    assert code == 0 and err.startswith("1 run planned, 0 found in") and out.startswith("1 of 1 run is in")
    code, _, err = run_cli(*words, "--epochs", 2, "--lr-shift", 0)
    assert code == 2 and "recipe epochs 1, not 2; choose another folder" in err and len(err) < 250


def test_a_command_line_is_not_advised_in_python(run_cli):
    code, _, err = run_cli(BENCH, "query", "resnet-mini", "4344424,111")
    assert code == 2 and "has 2 parts between commas" in err and "{" not in err
    code, _, err = run_cli(BENCH, "query", "resnet-mini", "0,1,2")
    assert code == 2 and "has 3 parts between commas" in err and "{" not in err


def test_a_gpu_is_not_advised_where_there_is_none(run_cli, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, _, err = run_cli(BENCH, "train", "resnet-mini", "1111111", "--device", "cuda")
    assert code == 2 and "PyTorch sees no GPU" in err and err.strip().endswith("try 'cpu' or 'auto'")
