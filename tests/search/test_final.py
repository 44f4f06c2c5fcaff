"""Final trainings: without a teacher the builder's, with one the closed form of its loss; and what it all costs."""

import json

import numpy as np
import pytest
import torch

import channel_bench as cb
from channel_bench.errors import ArchError, ArgumentError
from channel_bench.recipe import get_recipe
from channel_bench.training.datasets import load_dataset
from channel_bench.training.run import train_run
from harness.scores import make_scores, write_scores
from harness.search import final as module
from harness.search.bill import Bill, bill_of
from harness.search.final import FIRST_SEED, KD_TEMPERATURE, KD_WEIGHT, distilled, train_final
from harness.search.run import search
from harness.searcher import Budget

SPACE = cb.get_space("resnet-mini")
SHORT = get_recipe("mini", epochs=2)
HARNESS = "channel-harness"


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_without_a_teacher_it_is_the_training_of_the_builder(digits):
    _, best = distilled(SPACE, "2143214", SHORT, 7, digits)
    assert best == train_run(SPACE, "2143214", SHORT, 7, digits).best_test_acc


def test_the_loss_of_a_student_is_the_closed_form():
    rng = np.random.default_rng(0)
    logits, taught = (torch.tensor(rng.normal(size=(5, 10))) for _ in range(2))
    labels = torch.tensor([0, 3, 9, 1, 1])
    p = np.exp(taught.numpy() / KD_TEMPERATURE)
    p /= p.sum(1, keepdims=True)
    q = np.exp(logits.numpy() / KD_TEMPERATURE)
    q /= q.sum(1, keepdims=True)
    own = np.exp(logits.numpy())
    own = -np.log(own[np.arange(5), labels.numpy()] / own.sum(1)).mean()
    expected = (1 - KD_WEIGHT) * own + KD_WEIGHT * KD_TEMPERATURE**2 * (p * np.log(p / q)).sum(1).mean()
    assert float(module._loss(logits, labels, taught)) == pytest.approx(expected, rel=1e-12)
    assert float(module._loss(logits, labels, None)) == pytest.approx(own, rel=1e-12)


def test_every_seed_is_new_and_every_pass_is_counted(digits):
    told = []
    found = train_final(SPACE, "1111111", 2, digits, SHORT, on_done=told.append)
    assert found.seeds == (FIRST_SEED, FIRST_SEED + 1) and len(told) == 2 and found.num_diverged == 0
    assert found.accuracies == pytest.approx(told, abs=1e-4) and found.mean == pytest.approx(np.mean(told), abs=1e-4)
    images = 2 * len(digits.train_labels)
    assert found.macs == 2 * 3 * images * SPACE.flops("1111111")
    taught = train_final(SPACE, "1111111", 2, digits, SHORT, distill=True)
    assert taught.macs == found.macs + (3 + 2) * images * SPACE.flops("4444444")
    assert taught.distilled and taught.accuracies != found.accuracies


def test_bad_input_is_refused(digits):
    with pytest.raises(ArgumentError, match="number of final trainings is 0"):
        train_final(SPACE, "1111111", 0, digits)
    with pytest.raises(ArchError):
        train_final(SPACE, "1111115", 1, digits)


def test_a_bill_counts_each_question_once_on_every_image():
    scores = make_scores("mine", SPACE, np.arange(len(SPACE)), np.arange(len(SPACE)) / 1e4, {"num_val": 300})
    budget = Budget("flops", SPACE.flops(), 0.9 * SPACE.flops("4444444"))
    found = search(SPACE, scores, budget, np.random.default_rng(0), "exhaustive")
    assert found.query_flops == SPACE.flops()[budget.fits].sum()
    walked = search(SPACE, scores, budget, np.random.default_rng(0), "greedy")
    assert walked.query_flops < found.query_flops and walked.num_queries <= 1 + 21 * 7
    assert bill_of(scores.facts, found.query_flops) == Bill(None, None, 300 * found.query_flops)
    assert bill_of({"train_macs": 5e9, "fit_s": 2.5, "num_val": "many"}, 7) == Bill(5_000_000_000, 2.5, None)


def test_the_command_trains_what_it_found_and_says_what_it_cost(run_cli, tmp_path):
    scores = make_scores("mine", SPACE, np.arange(len(SPACE)), -SPACE.flops().astype(float), {"num_val": 300})
    path = tmp_path / "mine.parquet"
    write_scores(scores, path)
    words = [HARNESS, "search", path, "--space", "resnet-mini", "--max-flops", "0.1x", "--searcher", "exhaustive"]
    code, out, err = run_cli(*words, "--train", 2, "--json")
    found = json.loads(out)
    assert code == 0 and found["final"]["arch"] == "1111111" and len(found["final"]["accuracies"]) == 2
    assert found["bill"]["final_macs"] == found["final"]["macs"] > 0 and found["bill"]["query_macs"] > 0
    code, out, err = run_cli(*words, "--train", 1)
    assert code == 0 and "1111111 trained anew with 1 seed: " in out and "cost: asking for scores" in out


@pytest.mark.parametrize("words", [["--train", "-1"], ["--distill"]])
def test_the_command_refuses_what_makes_no_training(run_cli, tmp_path, words):
    code, out, err = run_cli(HARNESS, "search", "uniform", "--space", "resnet-mini", "--max-flops", "0.5x", *words)
    assert (code, out) == (2, "") and "--train is" in err and err.count("\n") == 1
