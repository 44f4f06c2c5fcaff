"""One run: it learns, it repeats, it leaves global generators alone, and it says when it diverged."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import channel_bench as cb
from channel_bench.errors import ArchError, ArgumentError
from channel_bench.recipe import get_recipe
from channel_bench.record import CURVE_METRICS, Job
from channel_bench.training.datasets import channel_statistics, normalise
from channel_bench.training.devices import pick_device
from channel_bench.training.evaluation import evaluate_on_device
from channel_bench.training.models import build_model
from channel_bench.training.native import train_native
from channel_bench.training.run import train_run, train_stack

SPACE = cb.get_space("resnet-mini")


@pytest.mark.parametrize("name", ["resnet-mini", "mobilenet-mini"])
def test_a_short_training_learns_and_fills_its_record(name, digits):
    space = cb.get_space(name)
    seen = []
    recipe = get_recipe("mini", epochs=4)
    record = train_run(space, "4444444", recipe, 3, digits, run=2, on_epoch=lambda epoch, values: seen.append(epoch))
    assert seen == [1, 2, 3, 4]
    assert record.status == "ok" and (record.run, record.seed, record.num_epochs) == (2, 3, 4)
    assert record.test_acc > 40 and record.train_loss < 1.8  # chance is 10 and 2.3
    assert record.curves.keys() == set(CURVE_METRICS)
    assert all(len(values) == 4 for values in record.curves.values())
    assert record.best_test_acc == max(record.curves["test_acc"]) >= record.test_acc == record.curves["test_acc"][-1]
    assert record.curves["test_acc"][record.best_epoch - 1] == record.best_test_acc
    assert (record.flops, record.params) == (space.flops("4444444"), space.params("4444444"))


def test_steps_are_told_with_their_loss_and_change_no_result(digits):
    recipe = get_recipe("mini", epochs=2, batch_size=500)
    told = []
    record = train_run(SPACE, "2341234", recipe, 5, digits, on_step=lambda step: told.append((step, step.read_loss())))
    assert [(step.number, step.num_steps, step.num_seen, step.num_images) for step, _ in told] == [
        (1, 3, 500, 1200), (2, 3, 1000, 1200), (3, 3, 1200, 1200),
    ] * 2  # fmt: skip
    assert [loss for step, loss in told if step.number == 3] == record.curves["train_loss"]
    assert facts(record) == facts(train_run(SPACE, "2341234", recipe, 5, digits))


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_on_a_terminal_of_80_columns_training_shows_loss_speed_and_time_left_within_an_epoch():
    master, slave = os.openpty()
    command = [sys.executable, "-m", "channel_bench.cli", "train", "resnet-mini", "4444444", "--backend", "torch"]
    env = os.environ | {"TERM": "xterm", "COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, "--epochs", "2", "--device", "cpu", "--json"],
                          stdout=subprocess.PIPE, stderr=slave, env=env) as process:  # fmt: skip
        os.close(slave)
        shown = b""
        while True:
            try:
                shown += (new := os.read(master, 65536))
            except OSError:  # the other side is closed
                break
            if not new:
                break
        assert json.load(process.stdout)["status"] == "ok"
    os.close(master)
    pattern = r"epoch 2 of 2: step \d+ of 19, loss \d\.\d{4}, [\d,]+ images/s, \d+ s left"
    assert re.search(pattern, shown.decode()), shown[-2000:]


def test_a_recipe_that_would_train_at_rate_0_only_is_refused(digits):
    recipe = get_recipe("mini", epochs=1, lr_shift=1)
    for train in (
        lambda: train_run(SPACE, "1111111", recipe, 0, digits),
        lambda: train_stack(SPACE, [Job("1111111", 0, 0)], recipe, digits),
        lambda: train_native(SPACE, [Job("1111111", 0, 0)], recipe, digits),
    ):
        with pytest.raises(ArgumentError, match="learning rate 0 only"):
            train()


@pytest.mark.parametrize("command", [("train", "resnet-mini", "1111111"), ("build", "resnet-mini", "--archs", "1")])
def test_the_command_line_refuses_rate_0_cautions_and_offers_the_way_out(command, tmp_path, run_cli):
    words = (*command, *(("--runs", "1", "--out", tmp_path / "runs") if command[0] == "build" else ("--json",)))
    words += ("--device", "cpu")
    code, _, errors = run_cli("channel-bench", *words, "--epochs", "1", "--lr-shift", "1")
    assert code == 2 and "learning rate 0 only" in errors and len(errors.splitlines()) == 1
    code, _, errors = run_cli("channel-bench", *words, "--epochs", "1", "--lr-shift", "0")
    assert code == 0 and "--lr-shift" not in errors
    if command[0] == "train":
        code, output, errors = run_cli("channel-bench", *words, "--epochs", "2", "--lr-shift", "1")
        assert code == 0 and "has learning rates 0.05, 0 instead" in errors
        assert json.loads(output)["recipe"]["lr_shift"] == 1


def facts(record):
    return {key: value for key, value in json.loads(record.to_json()).items() if key != "train_s"}


@pytest.mark.processes
def test_the_same_seed_gives_the_same_record_here_and_in_another_process(digits):
    recipe = get_recipe("mini", epochs=2)
    torch.manual_seed(1)
    np.random.seed(1)
    state = torch.get_rng_state()
    first = train_run(SPACE, "2341234", recipe, 5, digits)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert facts(train_run(SPACE, SPACE.index("2341234"), recipe, 5, digits)) == facts(first)
    assert facts(train_run(SPACE, "2341234", recipe, 6, digits)) != facts(first)
    command = [sys.executable, "-m", "channel_bench.cli", "train", "resnet-mini", "2341234", "--seed", "5"]
    output = subprocess.run(
        [*command, "--epochs", "2", "--json", "--device", "cpu", "--backend", "torch"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    other = json.loads(output.stdout)
    assert {key: other[key] for key in facts(first)} == facts(first)


def test_one_step_equals_a_plain_loop(digits):
    # One epoch of one full batch, no augmentation: the update is that of textbook SGD with weight decay.
    recipe = get_recipe("mini", epochs=1, batch_size=1200, crop_padding=0)
    record = train_run(SPACE, "3333333", recipe, 0, digits)
    weights, _ = np.random.SeedSequence([0, SPACE.index("3333333")]).generate_state(2, np.uint64).tolist()
    model = build_model(SPACE, "3333333", torch.Generator().manual_seed(weights))
    statistics = channel_statistics(digits.train_images, recipe)
    model.train()
    logits = model(normalise(digits.train_images, *statistics))
    loss = -logits.log_softmax(1)[torch.arange(1200), digits.train_labels].mean()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * (parameter.grad + 5e-4 * parameter)
    test_loss, test_acc = evaluate_on_device(model, normalise(digits.test_images, *statistics), digits.test_labels)
    assert record.train_loss == pytest.approx(loss.item(), abs=1e-5)
    assert record.test_loss == pytest.approx(test_loss.item(), abs=1e-4)
    assert record.test_acc == pytest.approx(test_acc.item(), abs=0.35)  # at most two images on the border


def test_divergence_is_a_status_and_not_an_accuracy(digits):
    record = train_run(SPACE, "4444444", get_recipe("mini", epochs=3, lr=1e30), 0, digits)
    assert record.status == "diverged"
    assert record.test_acc is record.best_test_acc is record.best_epoch is record.train_loss is None
    assert all(len(values) == 3 for values in record.curves.values())
    assert record.curves["train_loss"][-1] is None
    stacked, beside = train_stack(
        SPACE, [Job("4444444", 0, 0), Job("1111111", 0, 0)], get_recipe("mini", epochs=3, lr=1e30), digits
    )
    assert stacked.status == beside.status == "diverged"
    for name, values in stacked.curves.items():
        assert [value is None for value in values] == [value is None for value in record.curves[name]]


def test_bad_arguments_are_refused_before_training(digits):
    with pytest.raises(ArchError):
        train_run(SPACE, "5555555", get_recipe("mini"), 0, digits)
    with pytest.raises(ArgumentError, match="seed -1 is negative"):
        train_run(SPACE, "1111111", get_recipe("mini"), -1, digits)
    with pytest.raises(ArgumentError, match="takes"):
        train_run(cb.get_space("resnet"), "1111111", get_recipe("paper"), 0, digits)
    for name in ("gpu", "cuda:77", "meta:x"):
        with pytest.raises(ArgumentError, match="cannot be used here"):
            pick_device(name)
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.gpu
def test_on_a_gpu_the_same_seed_gives_the_same_record(digits):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    recipe = get_recipe("mini", epochs=3)
    data = digits.to("cuda")
    first, second = (train_run(SPACE, "4344424", recipe, 0, data) for _ in range(2))
    assert facts(first) == facts(second) and first.device == torch.cuda.get_device_name()
    alone = train_run(SPACE, "4344424", get_recipe("mini", epochs=1), 0, digits)
    assert first.curves["train_loss"][0] == pytest.approx(alone.train_loss, rel=0.1)
