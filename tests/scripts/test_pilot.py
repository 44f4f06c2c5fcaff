"""The pilot's figures on accuracies that are made with known noise and known slot effects."""

import numpy as np
import pytest
import torch
from conftest import SCRIPTS, load_script
from torch.nn import functional

import channel_bench as cb


@pytest.fixture(scope="module")
def pilot():
    return load_script(SCRIPTS / "pilot.py")


def test_reliability_and_slot_shares_are_those_that_were_put_in(pilot):
    space = cb.get_space("resnet-mini")
    rng = np.random.default_rng(0)
    archs = [space.text(arch) for arch in space.sample(2000, rng).tolist()]
    truth = np.log(space.digits(archs) / 4) @ np.array([3.0, 0, 0, 0, 4.0, 0, 0]) + 70
    cells = truth[:, None] + 2 * rng.normal(size=(2000, 4))
    found = pilot.statistics(space, archs, cells)
    assert found["run_std"] == pytest.approx(2, rel=0.05)
    assert found["reliability"] == pytest.approx(truth.var() / (truth.var() + 4 / 3), abs=0.02)
    assert found["slot_shares"] == pytest.approx([9 / 25, 0, 0, 0, 16 / 25, 0, 0], abs=0.03)


def test_shortened_data_keeps_the_test_split_and_redraws_a_share_of_labels(pilot, digits):
    short = pilot.shortened(digits, 600, 0.2)
    changed = (short.train_labels != digits.train_labels[:600]).double().mean().item()
    assert changed == pytest.approx(0.2 * 0.9, abs=0.05)
    assert short.test_images is digits.test_images and len(short.train_images) == 600


def test_enlarged_digits_are_the_same_digits(pilot, digits):
    large = pilot.enlarged(digits, 2)
    assert large.image_shape == (1, 16, 16)
    assert torch.equal(large.test_labels, digits.test_labels)
    back = functional.avg_pool2d(large.train_images.double(), 2)
    correlation = np.corrcoef(back.flatten().numpy(), digits.train_images.double().flatten().numpy())[0, 1]
    assert correlation > 0.95
    assert pilot.enlarged(digits, 1).digest == digits.digest
