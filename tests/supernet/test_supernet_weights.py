"""A saved supernet scores as the one that was ranked, to the bit."""

import csv

import numpy as np
import pytest
import torch

import channel_bench as cb
from channel_bench.errors import ArgumentError, CorruptFileError, MethodError
from channel_bench.training.archive import SUPERNET, read_archive, write_archive
from harness.methods import get_method
from harness.ranking.request import RankRequest, TaskOptions, prepare_task
from harness.scores import read_scores
from harness.supernet import load_supernet
from harness.supernet.weights import save_supernet

SPACE = cb.get_space("resnet-mini")
OPTIONS = TaskOptions(space="resnet-mini", epochs=1, num_val=20, device="cpu")


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("bcnet", "tas")]


@pytest.mark.parametrize("method", ["uniform", *SLOW])
def test_the_command_saves_weights_that_score_as_they_were_ranked(method, tmp_path, run_cli, digits):
    arguments = [method, "--space", "resnet-mini", "--epochs", "1", "--num-val", "20", "--device", "cpu"]
    arguments += ["--no-truth", "-o", tmp_path / "s.parquet", "--save", tmp_path / "w.pt", "--log", tmp_path / "c.csv"]
    code, _, errors = run_cli("channel-harness", "rank", *arguments)
    assert code == 0, errors
    scores = read_scores(tmp_path / "s.parquet", SPACE)
    saved = load_supernet(tmp_path / "w.pt")
    assert saved.facts["seed"] == scores.facts["seed"] == 0
    assert (saved.method, saved.facts["seed"], saved.supernet.space) == (method, 0, SPACE)
    evaluator = saved.evaluator(saved.task(digits))
    chosen = SPACE.archs()[:1024]  # a chunk of the ranking, because what is scored together decides the rounding
    assert np.array_equal(evaluator.score(chosen), scores.values[:1024])
    assert len(set(scores.values[:1024])) > 5
    assert (saved.slot_effects is not None) == (method == "tas")
    (row,) = csv.DictReader((tmp_path / "c.csv").read_text().splitlines())
    assert row["epoch"] == "1" and [float(row["train_loss"])] == saved.supernet.epoch_losses
    if method == "uniform":
        assert len(evaluator.training_losses()[1]) > 0


def test_a_request_goes_to_another_process_and_comes_back(tmp_path):
    request = RankRequest.of("uniform", OPTIONS, tmp_path / "s.parquet")
    request = RankRequest(**{**vars(request), "save": tmp_path / "w.pt", "log": tmp_path / "c.csv"})
    assert RankRequest.from_json(request.to_json()) == request


def test_files_of_others_are_refused_in_one_line(tmp_path, digits):
    task = prepare_task(OPTIONS)
    evaluator = get_method("uniform").fit(task)
    path = tmp_path / "w.pt"
    save_supernet(path, "uniform", evaluator, {"seed": 0})
    with pytest.raises(CorruptFileError, match="say no task"):
        load_supernet(path).task(digits)
    identity, state = read_archive(path, SUPERNET)
    assert torch.load(path, weights_only=True)["kind"] == SUPERNET
    for change in ({"num_groups": 10**9}, {"num_groups": 5}, {"paths": ["up"]}, {"facts": None}, {"precision": "fp8"}):
        write_archive(path, SUPERNET, identity | change, state)
        with pytest.raises(CorruptFileError, match="is no channel-bench supernet of space 'resnet-mini'"):
            load_supernet(path)
    write_archive(path, SUPERNET, identity | {"space_fingerprint": "0"}, state)
    with pytest.raises(ArgumentError, match="fingerprint"):
        load_supernet(path)
    with pytest.raises(MethodError, match="without an attribute supernet"):
        save_supernet(path, "mine", object(), {})
