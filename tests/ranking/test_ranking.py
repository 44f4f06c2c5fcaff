"""Rankings that are killed and go on, and many of them at once."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Isolated

import channel_bench as cb
from channel_bench.errors import ArgumentError, CorruptFileError, MethodError
from channel_bench.training.datasets import make_dataset
from harness import method
from harness.judge.comparison import compare
from harness.methods import get_method
from harness.ranking.batch import rank_many, requests_of
from harness.ranking.request import RankRequest, TaskOptions
from harness.ranking.run import Workplace, rank_to_file, settings
from harness.scores import make_scores, read_scores, write_scores
from harness.stats.metrics import correlations
from harness.supernet import training
from harness.task import make_task, supernet_recipe

SPACE = cb.get_space("resnet-mini")
ROOT = Path(__file__).parents[2]


class Interrupted(BaseException):
    """Stands for a key press, which no handler of errors may take for one of a plug-in."""


def task_of(digits, folder=None, stop_after=None, epochs=3):
    def on_epoch(epoch, num_epochs, note):
        if epoch == stop_after and "checkpoint" not in note:
            raise Interrupted

    task = make_task(SPACE, digits, recipe=supernet_recipe(SPACE, epochs), on_epoch=on_epoch)
    return task if folder is None else dataclasses.replace(task, checkpoints=folder)


@pytest.fixture
def few(digits):
    """256 training images, of which three batches are left to train on: weights and checkpoints are whole."""
    return dataclasses.replace(digits, train_images=digits.train_images[:256], train_labels=digits.train_labels[:256])


@pytest.mark.parametrize("name", ["autoslim", "bcnet", "fair", "mask_gumbel", "tas"])
def test_a_training_that_was_interrupted_ends_in_the_same_bits(name, few, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SHARE", math.inf)
    archs = SPACE.sample(20, np.random.default_rng(0))
    whole = get_method(name).fit(task_of(few))
    for stop_after in (1, 2):
        with pytest.raises(Interrupted):
            get_method(name).fit(task_of(few, tmp_path, stop_after))
    resumed = get_method(name).fit(task_of(few, tmp_path))
    found, expected = resumed.columns(archs), whole.columns(archs)
    assert found.keys() == expected.keys() and all((found[key] == expected[key]).all() for key in found)
    assert resumed.facts["train_macs"] == whole.facts["train_macs"]
    recorded = {"autoslim": 2, "bcnet": 1, "fair": 4}
    if name in recorded:
        for kept, made in zip(resumed.training_losses(), whole.training_losses(), strict=True):
            assert np.array_equal(kept, made) and len(kept) == 3 * 3 * recorded[name]
    # A finished training is not done again.
    told = []
    again = get_method(name).fit(
        dataclasses.replace(task_of(few, tmp_path), on_epoch=lambda *epoch: told.append(epoch[2]))
    )
    assert (again.score(archs) == whole.score(archs)).all() and told == ["from the checkpoint"] * 3


def test_what_training_cost_is_counted(digits):
    evaluator = get_method("autoslim", num_subnets=2).fit(task_of(digits, epochs=2))
    both = SPACE.flops("4444444") + SPACE.flops("1111111")
    assert evaluator.facts["train_macs"] == 3 * 2 * 900 * both and evaluator.facts["train_s"] > 0


def test_a_checkpoint_that_cannot_be_read_is_named(digits, tmp_path):
    (tmp_path / "supernet.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(MethodError, match=r"checkpoint .*supernet.pt' cannot be used .*: delete it to start anew"):
        get_method("uniform").fit(task_of(digits, tmp_path))


class Ranked:
    """A method whose evaluator stops after some calls."""

    def __init__(self, calls=10**9):
        self.calls = calls

    def fit(self, task):
        return self

    def score(self, archs):
        self.calls -= 1
        if self.calls < 0:
            raise Interrupted
        return archs.sum(1).astype(float)


def test_scoring_goes_on_where_it_stopped(digits, tmp_path):
    path = tmp_path / "scores.parquet"
    with pytest.raises(Interrupted):
        rank_to_file("summed", Ranked(calls=5), task_of(digits), path)
    assert not path.exists() and (tmp_path / "scores.parquet.partial").is_dir()
    second = Ranked(calls=11)  # 16 chunks in all
    scores = rank_to_file("summed", second, task_of(digits), path)
    assert second.calls == 0 and (scores.values == SPACE.archs().sum(1)).all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.parquet"]
    assert read_scores(path, SPACE).facts["recipe"]["epochs"] == 3


def test_other_settings_and_torn_files_of_an_unfinished_ranking_are_refused(digits, tmp_path):
    task = task_of(digits)
    place = Workplace(tmp_path / "place", settings(task))
    other = settings(dataclasses.replace(task, seed=1))
    with pytest.raises(ArgumentError, match=r"unfinished ranking with seed 0, not 1: delete that folder"):
        Workplace(tmp_path / "place", other)
    assert place.load() is None
    place.keep({"score": np.arange(3.0)})
    (tmp_path / "place" / "scores.npz").write_bytes(b"PK torn")
    with pytest.raises(CorruptFileError, match=r"scores.npz' cannot be read .*: delete it to go on"):
        place.load()


def cifar_like(name="resnet"):
    """A task of a full space, whose recipe holds tuples; random images."""
    pixels, labels = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), np.uint8), np.arange(40) % 10
    return make_task(name, make_dataset("random", (pixels, labels), (pixels, labels)))


def test_a_ranking_of_a_full_space_knows_its_own_settings_again(tmp_path):
    task = cifar_like()
    for _ in range(2):
        Workplace(tmp_path / "place", settings(task, {"temperature": 3}))
    (request,) = requests_of([RankRequest(method="x", name="summed", task=TaskOptions(space="resnet"))], 1, tmp_path)
    assert request.out == tmp_path / "summed-seed0.parquet"
    write_scores(make_scores("summed", task.space, [0, 1], [1.0, 2.0], settings(task)), request.out)
    notes = []
    (scores,) = rank_many([request], task, 1, lambda *note: notes.append(note))
    assert notes == [(request, "found")] and scores.values.tolist() == [1, 2]


def test_an_unfinished_ranking_of_another_space_is_refused(digits, tmp_path):
    path = tmp_path / "scores.parquet"
    with pytest.raises(Interrupted):
        rank_to_file("summed", Ranked(calls=5), task_of(digits), path)
    other = make_task("mobilenet-mini", digits, recipe=supernet_recipe(SPACE, 4))
    with pytest.raises(ArgumentError, match="unfinished ranking with space 'resnet-mini', not 'mobilenet-"):
        rank_to_file("summed", Ranked(), other, path)


def test_what_is_damaged_in_an_unfinished_ranking_is_named(digits, tmp_path):
    folder, identity = tmp_path / "place", settings(task_of(digits))
    place = Workplace(folder, identity)
    for content in (b"", b"{", b"\xff", b"[1]"):
        (folder / "settings.json").write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"settings.json' cannot be read .*: delete its folder"):
            Workplace(folder, identity)
    for columns in ({"other": np.ones(3)}, {"score": np.ones(3), "val_loss": np.ones(2)}):
        place.keep(columns)
        with pytest.raises(CorruptFileError, match=r"scores.npz' cannot be read"):
            place.load()
    # Without its settings nobody knows what the scores are of.
    (folder / "settings.json").unlink()
    with pytest.raises(ArgumentError, match=r"holds scores.npz and no settings.json .*: delete that folder"):
        Workplace(folder, identity)
    (folder / "scores.npz").rename(folder / ".writing-killed")  # what a kill leaves of a write
    assert Workplace(folder, identity).load() is None


def test_damaged_checkpoints_are_one_line(digits, tmp_path, run_cli, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SHARE", math.inf)
    path = tmp_path / "scores.parquet"
    with pytest.raises(Interrupted):
        rank_to_file("uniform", get_method("uniform"), task_of(digits, stop_after=1), path)
    folder = tmp_path / "scores.parquet.partial"
    good = (folder / "supernet.pt").read_bytes()
    torch.save({"epoch": 1}, tmp_path / "other.pt")
    command = (
        "rank",
        "uniform",
        "--space",
        "resnet-mini",
        "--epochs",
        "3",
        "--device",
        "cpu",
        "--no-truth",
        "-o",
        path,
    )
    for content in (b"", good[:-200], good[:100], os.urandom(500), (tmp_path / "other.pt").read_bytes()):
        (folder / "supernet.pt").write_bytes(content)
        code, output, errors = run_cli("channel-harness", *command)
        assert code == 2 and output == "" and errors.count("\n") == 1
        assert "supernet.pt' cannot be used" in errors and "delete it to start anew" in errors
    code, _, errors = run_cli("channel-harness", *command[:5], "5", *command[6:])
    assert code == 2 and errors.count("\n") == 1 and "unfinished ranking with recipe" in errors


RANK = ["rank", "uniform", "--space", "resnet-mini", "--epochs", "3", "--no-truth", "--device", "cpu", "-o"]


def start_rank(out):
    """RANK in a process of its own, a checkpoint after every epoch and few images to score on."""
    code = (
        "import harness.task, harness.supernet.training, harness.cli\n"
        "harness.task.MAX_HOLDOUT, harness.supernet.training.CHECKPOINT_SHARE = 20, float('inf')\n"
        "harness.cli.main()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code, *RANK, out], env=environment)


@pytest.mark.processes
def test_a_ranking_that_is_killed_ends_in_the_same_scores(tmp_path, run_cli, monkeypatch):
    whole, killed = tmp_path / "whole.parquet", tmp_path / "killed.parquet"
    partial = tmp_path / "killed.parquet.partial"
    for wanted in ("supernet.pt", "scores.npz"):
        process = start_rank(killed)
        while not (partial / wanted).exists():
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not killed.exists()
    # What nobody kills needs no process of its own.
    monkeypatch.setattr("harness.task.MAX_HOLDOUT", 20)
    for path in (killed, whole):
        code, _, errors = run_cli("channel-harness", *RANK, path)
        assert code == 0, errors
    assert not partial.exists()
    first, second = pq.read_table(whole), pq.read_table(killed)
    assert first.column_names == ["arch", "score", "val_acc", "val_loss"] and first.equals(second)


@pytest.fixture(scope="module")
def plug_ins(tmp_path_factory):
    """A folder with installed methods that need no training: one ranks, the others raise, die or take for ever."""
    site = tmp_path_factory.mktemp("site")
    (site / "plug_ins.py").write_text(
        "import os, time\n"
        "from channel_bench.errors import ChannelBenchError\n"
        "class Summed:\n"
        "    def fit(self, task):\n"
        "        print('{not JSON')\n"
        "        self.seed = task.seed\n"
        "        return self\n"
        "    def score(self, archs):\n"
        "        return archs.sum(1) + self.seed * archs[:, 0] * 1.0\n"
        "class Falls:\n"
        "    def fit(self, task):\n"
        "        raise ChannelBenchError('it fell')\n"
        "class Dies:\n"
        "    def fit(self, task):\n"
        "        os.kill(os.getpid(), 9)\n"
        "class Sleeps:\n"
        "    def fit(self, task):\n"
        "        time.sleep(600)\n"
    )
    info = site / "plug_ins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-ins\nVersion: 1.0\n")
    points = "".join(f"{name.lower()} = plug_ins:{name}\n" for name in ("Summed", "Falls", "Dies", "Sleeps"))
    (info / "entry_points.txt").write_text("[channel_bench.methods]\n" + points)
    return site


@pytest.fixture
def run_rank(run_cli, plug_ins, monkeypatch):
    """Rank on the CPU, from this process: (methods, folder, *words) -> (exit code, output, errors)."""
    monkeypatch.syspath_prepend(plug_ins)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{plug_ins}")  # for the processes that it starts
    monkeypatch.setattr(method.METHODS, "_known", Isolated(method.METHODS))

    def run(methods, out, *words):
        command = ("rank", methods, "--space", "resnet-mini", "--device", "cpu", "--epochs", "1", "-o", out, *words)
        return run_cli("channel-harness", *command)

    return run


@pytest.mark.processes
def test_several_methods_and_seeds_are_ranked_once_and_compared(tmp_path, run_rank):
    code, output, errors = run_rank("summed,fur", tmp_path, "--jobs", "2", "--json")
    assert code == 0, errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fur-seed0.parquet", "summed-seed0.parquet"]
    rows = {row["name"]: row for row in json.loads(output)["rows"]}
    truth = cb.load("resnet-mini").accuracies()
    for name in ("fur", "summed"):
        scores = read_scores(tmp_path / f"{name}-seed0.parquet", SPACE)
        expected = correlations(scores.values, truth[scores.indices])
        assert rows[name]["kendall"] == pytest.approx(expected.kendall)
        assert rows[name]["pearson"] == pytest.approx(expected.pearson)
    assert rows["flops"]["rankings"] == []

    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    code, output, _ = run_rank("summed", tmp_path, "--seeds", "2", "--json")
    assert code == 0 and [ranking["seed"] for ranking in json.loads(output)["rows"][0]["rankings"]] == [0, 1]
    after = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {path.name for path in after if after[path] != before.get(path)} == {"summed-seed1.parquet"}

    code, _, errors = run_rank("summed,fur", tmp_path, "--score-by", "loss")
    assert code == 2 and "was made with score_by 'accuracy', not 'loss': delete it" in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.processes
def test_one_ranking_that_fails_is_named_and_the_others_are_there(tmp_path, run_rank):
    code, output, errors = run_rank("falls,summed,dies,falls", tmp_path, "--jobs", "2", "--json")
    assert code == 2 and output == "" and "Traceback" not in errors
    assert "falls seed 0 failed: " in errors and "it fell" in errors
    assert "dies seed 0 failed: it was ended by signal 9" in errors
    assert "2 of 3 rankings failed, " in errors
    assert [path.name for path in tmp_path.glob("*.parquet")] == ["summed-seed0.parquet"]


@pytest.mark.processes
def test_an_interrupt_ends_the_rankings_that_run(tmp_path, run_rank, digits):
    def interrupt(request, what):
        assert (request.name, what) == ("summed", "done")
        raise KeyboardInterrupt

    options = TaskOptions(space="resnet-mini", epochs=1, device="cpu")
    requests = requests_of([RankRequest.of(name, options) for name in ("sleeps", "summed")], 1, tmp_path)
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        rank_many(requests, task_of(digits, epochs=1), 2, interrupt)
    assert time.perf_counter() - began < 300
    assert {path.name for path in tmp_path.glob("*.parquet")} == {"summed-seed0.parquet"}


def test_the_loss_is_a_column_that_can_be_ranked_by(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.task.MAX_HOLDOUT", 20)
    scores = rank_to_file("uniform", get_method("uniform"), task_of(digits, epochs=1), tmp_path / "scores.parquet")
    by_loss = read_scores(tmp_path / "scores.parquet", SPACE, score_column="-val_loss")
    assert (by_loss.values == -scores.columns["val_loss"]).all() and (by_loss.values < 0).all()
    assert (scores.values == scores.columns["val_acc"]).all()


def test_seeds_are_summed_up_beside_the_baselines(digits):
    facts, everything = settings(task_of(digits)), np.arange(16384)
    rankings = [
        make_scores("mine", SPACE, everything, everything % (7 + seed), {**facts, "seed": seed, "train_macs": macs})
        for seed, macs in ((0, 1e9), (1, 3e9))
    ]
    comparison = compare(rankings, cb.load(SPACE))
    row = comparison.rows[0]
    assert [ranking.seed for ranking in row.rankings] == [0, 1] and row.train_macs == 2e9
    assert "seed" not in comparison.facts and comparison.facts["dataset"] == "digits"
    assert {row.name for row in comparison.rows} >= {"mine", "flops", "params"}


def test_a_checkpoint_holds_what_training_needs_and_nothing_that_runs(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SHARE", math.inf)
    get_method("tas").fit(task_of(digits, tmp_path, epochs=1))
    kept = torch.load(tmp_path / "supernet.pt", weights_only=True)
    assert kept["epoch"] == 1 and set(kept["states"]) == {"supernet", "optimizer", "loss_records", "betas", "adam"}


@pytest.mark.parametrize("command", ["rank", "search"])
@pytest.mark.parametrize(
    "body, message",
    [
        ("    def fit(self, task):\n        raise ValueError('boom\\nsecond line')\n", "ValueError: boom second line"),
        (
            "    def fit(self, task):\n        return self\n    def score(self, archs):\n        return 1 / 0\n",
            "ZeroDivision",
        ),
    ],
)
def test_what_a_plug_in_raises_is_one_line_with_its_place(tmp_path, run_cli, command, body, message):
    (tmp_path / "raises.py").write_text("class Raises:\n" + body)
    where = [f"{tmp_path}/raises.py:Raises", "--space", "resnet-mini", "--epochs", "1"]
    code, _, errors = run_cli("channel-harness", command, *where, *(["--max-flops", "0.5x"] * (command == "search")))
    assert code == 2 and len(errors.splitlines()) == 1 and message in errors and "raises.py:" in errors
