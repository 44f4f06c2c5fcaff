"""Rankings in bfloat16: what is computed in which precision, and what a score file says of it."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from torch.nn import functional

import channel_bench as cb
from channel_bench.errors import ArgumentError
from channel_bench.training.datasets import load_dataset
from harness.methods import get_method
from harness.ranking.run import Workplace, settings
from harness.scores import read_scores
from harness.supernet.exhaustive import Walk
from harness.supernet.network import Supernet
from harness.supernet.training import make_supernet
from harness.task import make_task, supernet_recipe

SPACE = cb.get_space("resnet-mini")
MINI = ["resnet-mini", "mobilenet-mini"]
HARNESS = "channel-harness"
METHODS = ["autoslim", "bcnet", "bcnet_v2", "fair", "fur", "mask_gumbel", "tas", "uniform"]


def pair_of(name, num_groups=4):
    """The same weights in fp32 and in bf16."""
    space = cb.get_space(name)
    nets = [Supernet(space, torch.Generator().manual_seed(0), num_groups, precision=p) for p in ("fp32", "bf16")]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key in nets[0].scales:
            nets[0].scales[key].uniform_(0.5, 1.5, generator=generator)
    nets[1].load_state_dict(nets[0].state_dict())
    return nets


def pixels(count):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("name", MINI)
def test_bf16_logits_are_those_of_fp32_but_for_rounding_and_never_tie(name):
    fp32, bf16 = pair_of(name)
    for arch in [(1,) * 7, (4, 2, 3, 1, 2, 4, 3)]:
        exact, rounded = fp32(pixels(256), arch), bf16(pixels(256), arch)
        error = (exact - rounded).abs().max() / exact.std()
        assert rounded.dtype == torch.float32 and 1e-4 < error < 0.3
        # In bfloat16, hundreds of 2,560 numbers of one size would be equal; in fp32, one or two are by chance.
        assert len(rounded.unique()) > 0.99 * rounded.numel() > len(rounded.bfloat16().unique())


@pytest.mark.parametrize("name", MINI)
def test_bf16_gradients_are_fp32_and_point_where_those_of_fp32_do(name):
    labels, found = torch.arange(64) % 10, []
    for net in pair_of(name):
        functional.cross_entropy(net(pixels(64), (3,) * 7), labels).backward()
        assert all(parameter.grad.dtype == parameter.dtype == torch.float32 for parameter in net.parameters())
        found.append(torch.cat([parameter.grad.flatten() for parameter in net.parameters()]))
    assert not torch.equal(*found) and functional.cosine_similarity(*found, 0) > 0.95


@pytest.mark.parametrize("name", MINI)
@pytest.mark.parametrize("calibration", [(), (9, 8)])
def test_bf16_scores_are_shared_up_to_rounding(name, calibration):
    _, net = pair_of(name, 5)
    archs, images = cb.get_space(name).archs()[4000:4060], pixels(16 + sum(calibration))
    for path in ("left", "right"):
        for layout in (torch.preserve_format, torch.channels_last):
            found = {}
            Walk(net, path, calibration, layout=layout).run(
                images, archs, lambda rows, logits, found=found: found.update(zip(rows, logits.unbind(1), strict=True))
            )
            with torch.no_grad():
                alone = torch.stack([net(images, arch, path, calibration)[-16:] for arch in archs.tolist()])
            shared = torch.stack([found[row] for row in range(len(archs))])
            assert shared.dtype == torch.float32
            assert (shared - alone).pow(2).mean().sqrt() < 0.05 * alone.std()


def test_a_supernet_takes_the_precision_of_its_task(digits):
    for precision in ("fp32", "bf16"):
        task = make_task(SPACE, digits, recipe=supernet_recipe(SPACE, 1, precision))
        assert make_supernet(task).precision == precision == settings(task)["recipe"]["precision"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_scores_in_bf16(method, digits):
    few = dataclasses.replace(digits, train_images=digits.train_images[:128], train_labels=digits.train_labels[:128])
    archs, scores = SPACE.sample(8, np.random.default_rng(0)), []
    for precision in ("fp32", "bf16"):
        task = make_task("mobilenet-mini", few, recipe=supernet_recipe(SPACE, 1, precision))
        scores.append(get_method(method).fit(task).score(archs))
    assert np.isfinite(scores).all() and not np.array_equal(*scores)


def test_a_ranking_at_another_precision_is_another_ranking(digits, tmp_path):
    fp32, bf16 = (make_task(SPACE, digits, recipe=supernet_recipe(SPACE, 1, p)) for p in (None, "bf16"))
    assert (
        settings(fp32)["recipe"]["precision"] == "fp32"
        and settings(fp32)["recipe"]["name"] == "supernet-mini(epochs=1)"
    )
    Workplace(tmp_path / "place", settings(fp32))
    with pytest.raises(ArgumentError, match=r"unfinished ranking with recipe precision 'fp32', not 'bf16'"):
        Workplace(tmp_path / "place", settings(bf16))


def test_rank_takes_a_precision_and_a_number_of_images_and_says_so(tmp_path, run_cli):
    file = tmp_path / "scores.parquet"
    words = ("--epochs", 1, "--precision", "bf16", "--num-val", 20, "--no-truth", "--out", file)
    code, _, errors = run_cli(HARNESS, "rank", "uniform", "--space", "resnet-mini", *words)
    assert code == 0, errors
    facts = read_scores(file, SPACE).facts
    assert facts["recipe"]["precision"] == "bf16" and facts["num_val"] == 20 and facts["num_train"] == 900


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "tf32"), "precision 'tf32' cannot be used on device 'cpu': allowed are fp32, bf16"),
        (("--precision", "fp8"), "precision of recipe .* is 'fp8': allowed is"),
        (("--num-val", "1"), "number of validation images is 1: allowed are 2 to 300"),
        (("--num-val", "301"), "number of validation images is 301: allowed are 2 to 300"),
    ],
)
def test_what_cannot_be_done_is_one_line(options, message, run_cli):
    command = (HARNESS, "rank", "uniform", "--space", "resnet-mini", "--device", "cpu", "--epochs", "1")
    code, _, errors = run_cli(*command, *options)
    assert code == 2 and re.search(message, " ".join(errors.split()))


def test_fewer_validation_images_leave_the_training_as_it_is(digits):
    whole, few = (make_task(SPACE, digits, recipe=supernet_recipe(SPACE, 1), num_val=n) for n in (None, 50))
    assert torch.equal(whole.train_images, few.train_images) and torch.equal(few.val_labels, whole.val_labels[:50])
    assert len(load_dataset("digits").train_labels) == len(whole.train_labels) + len(whole.val_labels)
