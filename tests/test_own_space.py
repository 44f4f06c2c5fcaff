"""From a TOML file to a row of a leaderboard, with a family, a space and a data set that the package does not have."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import make_info, make_rows, start_cli, write_table

import channel_bench as cb
from channel_bench.errors import MissingDataError, UnknownNameError
from channel_bench.space import NUM_ARCHS, own
from channel_bench.training.datasets import load_dataset
from harness.scores import make_scores, read_scores, write_scores
from harness.supernet import load_supernet

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_space"
BENCH, HARNESS = "channel-bench", "channel-harness"


def write_shapes(path, num_train=96, num_test=32):
    """Images of 8x8 with a bright row (class 0), a bright column (1) or a bright diagonal (2)."""
    rng = np.random.default_rng(0)
    labels = np.arange(num_train + num_test) % 3
    images = rng.integers(0, 60, (len(labels), 8, 8)).astype(np.uint8)
    for image, label, at in zip(images, labels, rng.integers(0, 8, len(labels)), strict=True):
        line = {0: (at, slice(None)), 1: (slice(None), at), 2: (np.arange(8), (np.arange(8) + at) % 8)}[int(label)]
        image[line] = 255
    np.savez(
        path,
        train_images=images[:num_train],
        train_labels=labels[:num_train],
        test_images=images[num_train:],
        test_labels=labels[num_train:],
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the example's family and a space on images of its own, which nothing else knows."""
    monkeypatch.setattr(own, "_registered", {})
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLE / "plain.py", tmp_path)
    text = (EXAMPLE / "plain-mini.toml").read_text()
    for before, after in (
        ("plain-mini", "shapes"),
        ("num_classes = 10", "num_classes = 3"),
        ('"digits"', '"shapes.npz"'),
        ("[4, 8, 8, 8, 12, 12, 12]", "[4, 4, 4, 4, 4, 4, 4]"),
    ):
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "shapes.toml").write_text(text)
    write_shapes(tmp_path / "shapes.npz")
    return tmp_path


def run(capfd, monkeypatch, program, *arguments):
    """A command as if in a process of its own, which knows no space of others: exit code, output and errors."""
    monkeypatch.setattr(own, "_registered", {})
    capfd.readouterr()
    code = start_cli(program, *arguments)
    return code, *capfd.readouterr()


@pytest.fixture
def do(place, capfd, monkeypatch):
    """Run a command that must succeed, and return what it prints."""

    def do(program, *arguments):
        code, output, errors = run(capfd, monkeypatch, program, *arguments)
        assert code == 0, errors
        return output

    return do


@pytest.fixture
def refused(place, capfd, monkeypatch):
    """Run a command that must be refused in one line, and return that."""

    def refused(program, *arguments):
        code, _, errors = run(capfd, monkeypatch, program, *arguments)
        assert code == 2 and len(errors.splitlines()) == 1, errors
        return errors

    return refused


CHANGED = "with other networks under the name 'shapes': its TOML file or its family is not as it was"


def check_files(do, refused, scores):
    """Ask the table of 12 architectures x 2 runs, and judge a file of scores by it."""
    assert "is of space 'shapes', which is not known here: pass its TOML file" in refused(
        BENCH, "verify", "shapes.parquet"
    )
    assert "12 architectures x 2 runs" in do(BENCH, "verify", "shapes.parquet", "--space", "shapes.toml")
    assert "intact" in do(BENCH, "verify", "shapes.toml")  # the default table of the file
    top = json.loads(do(BENCH, "top", "shapes.toml", "-k", "1", "--json"))
    assert top["space"] == "shapes" and 100 / 3 < top["results"][0]["mean"] <= 100
    do(BENCH, "explore", "shapes.toml", "-o", "shapes.html")
    assert "output of conv3.0" in Path("shapes.html").read_text()

    rows = json.loads(do(HARNESS, "score", scores, "--space", "shapes.toml", "--draws", "0", "--json"))
    assert rows["rows"][0]["n"] == 12 and rows["space"] == "shapes"
    do(HARNESS, "enter", "mine", scores, "--space", "shapes.toml", "--entries", "board")
    board = (HARNESS, "leaderboard", "--entries", "board", "--replicates", "5")
    (found,) = json.loads(do(*board, "--space", "shapes.toml", "--json"))
    assert found["space"] == "shapes" and found["absent"] == {}
    (row,) = [row for row in found["report"]["comparison"]["rows"] if row["name"] == "mine"]
    assert row["n"] == 12 and row["kendall"] == pytest.approx(rows["rows"][0]["kendall"])
    assert "unknown space in entry 'board/mine.json' 'shapes'" in refused(*board)


def check_changes(place, refused, scores):
    """Other channels, or other layers, make another space: no file of the old one is taken for it."""
    text = (place / "shapes.toml").read_text()
    (place / "shapes.toml").write_text(text.replace("[4, 4,", "[8, 4,"))
    assert CHANGED in refused(BENCH, "verify", "shapes.parquet", "--space", "shapes.toml")
    for command in ("score", scores), ("enter", "again", scores, "--entries", "board"):
        message = refused(HARNESS, *command, "--space", "shapes.toml")
        assert "holds scores of other networks under the name 'shapes'" in message
    (place / "shapes.toml").write_text(text)
    (place / "plain.py").write_text((place / "plain.py").read_text().replace("(1, 2, 1, 1,", "(1, 1, 2, 1,"))
    assert CHANGED in refused(BENCH, "verify", "shapes.toml")


def test_tables_scores_and_the_leaderboard_of_a_space_of_ones_own(place, do, refused):
    """With a made-up table; the next test makes one."""
    # Before there is a table, everything that asks for one says how it comes to be.
    message = refused(HARNESS, "noise", "--space", "shapes.toml")
    assert "shapes.parquet' of space 'shapes' is not there: build it ('channel-bench build shapes.toml" in message
    space = cb.get_space("shapes.toml")
    write_table(place / "shapes.parquet", make_rows(space, 12, 2), make_info(space))
    write_scores(make_scores("somebody", space, np.arange(NUM_ARCHS), space.params()), place / "scores.parquet")
    check_files(do, refused, "scores.parquet")
    check_changes(place, refused, "scores.parquet")


def test_one_network_is_trained_by_both_programs_on_images_of_an_npz_file(do):
    for backend in ("torch", "auto"):
        line = (BENCH, "train", "shapes.toml", "4321234", "--epochs", "2", "--device", "cpu", "--json")
        record = json.loads(do(*line, "--backend", backend))
        assert (record["space"], record["dataset"], record["status"]) == ("shapes", "shapes", "ok")
        assert record["params"] == cb.get_space("shapes.toml").params("4321234")


@pytest.mark.slow
def test_from_a_toml_file_to_a_row_of_a_leaderboard(place, do, refused):
    do(
        *(BENCH, "build", "shapes.toml", "--archs", "12", "--runs", "2", "--epochs", "3", "--out", "runs"),
        *("--workers", "1", "--backend", "torch", "--device", "cpu"),
    )
    for command in (("status", "runs"), ("collect", "runs", "-o", "shapes.parquet")):
        assert "is of space 'shapes', which is not known here: pass its TOML file" in refused(BENCH, *command)
        do(BENCH, *command, "--space", "shapes.toml")
    do(BENCH, "compare", "shapes.parquet", "shapes.toml", "--space", "shapes.toml")
    do(
        *(HARNESS, "rank", "uniform", "--space", "shapes.toml", "--epochs", "2", "--num-val", "4"),
        *("-o", "uniform.parquet", "--device", "cpu"),
    )
    do(HARNESS, "report", "uniform.parquet", "--space", "shapes.toml", "--replicates", "5", "--draws", "0")
    check_files(do, refused, "uniform.parquet")
    check_changes(place, refused, "uniform.parquet")
    assert CHANGED in refused(BENCH, "status", "runs", "--space", "shapes.toml")


def test_load_says_what_to_do_for_a_space_without_a_table(place):
    space = cb.load_space("shapes.toml")
    with pytest.raises(MissingDataError, match="shapes.parquet' of space 'shapes' is not there: build it"):
        cb.load(space)
    text = (place / "shapes.toml").read_text()
    (place / "shapes.toml").write_text("".join(line for line in text.splitlines(True) if "table" not in line))
    space = cb.load_space("shapes.toml")
    message = (
        r"no table for space 'shapes': build one \('channel-bench build shapes.toml --out runs', then 'channel-bench"
        r" collect runs -o shapes.parquet'\) and pass its file, or name it as table in the space's TOML file"
    )
    for asked in (space, "shapes", "shapes.toml"):
        with pytest.raises(MissingDataError, match=message):
            cb.load(asked)


def test_a_space_that_is_passed_as_an_object_needs_no_registration(place, monkeypatch, tmp_path):
    space = cb.load_space("shapes.toml")
    write_table(tmp_path / "made-up.parquet", make_rows(space, 16, 2), make_info(space))
    own._registered.clear()
    assert cb.load(space, tmp_path / "made-up.parquet").space == space


def test_weights_of_a_network_are_evaluated_in_another_process(do, refused):
    """The file of weights names the space; what it is stands in the TOML file alone."""
    train = ("shapes.toml", "4321234", "--epochs", "1", "--device", "cpu", "--save", "w.pt", "--json")
    record = json.loads(do(BENCH, "train", *train))
    assert "file of weights 'w.pt' is of space 'shapes', which is not known here: pass its TOML file with" in refused(
        BENCH, "evaluate", "w.pt"
    )
    evaluate = ("evaluate", "w.pt", "--space", "shapes.toml", "--device", "cpu")
    found = json.loads(do(BENCH, *evaluate, "--json"))
    assert found["same_images"] and found["test_acc"] == found["recorded_test_acc"] == record["test_acc"]
    text = Path("shapes.toml").read_text()
    Path("shapes.toml").write_text(text.replace("[4, 4, 4, 4, 4, 4, 4]", "[4, 4, 4, 4, 4, 4, 8]"))
    assert "'w.pt' has weights of space 'shapes' (fingerprint" in refused(BENCH, *evaluate)


def test_a_supernet_scores_in_another_process_as_it_did(do, place, monkeypatch):
    rank = ("uniform", "--space", "shapes.toml", "--epochs", "1", "--num-val", "20", "--device", "cpu", "--no-truth")
    do(HARNESS, "rank", *rank, "-o", "s.parquet", "--save", "s.pt")
    monkeypatch.setattr(own, "_registered", {})
    with pytest.raises(UnknownNameError, match="'s.pt' is of space 'shapes', which is not known here"):
        load_supernet("s.pt")
    space = cb.load_space("shapes.toml")
    saved = load_supernet("s.pt")
    evaluator = saved.evaluator(saved.task(load_dataset(space.dataset)))
    scores = read_scores(Path("s.parquet"), space)
    assert evaluator.score(space.archs()[scores.indices[:200]]).tolist() == scores.values[:200].tolist()
