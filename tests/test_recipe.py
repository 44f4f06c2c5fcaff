"""Recipes: the published schedule, fingerprints, and what is refused."""

import dataclasses
import json
import math

import pytest
import torch

from channel_bench.errors import ArgumentError, UnknownNameError
from channel_bench.recipe import Recipe, get_recipe, list_recipes


def test_the_paper_recipe_follows_the_published_scheduler():
    # The published loop steps a 60-epoch cosine scheduler before each epoch.
    recipe = get_recipe("paper")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    optimizer.step()
    for epoch in range(recipe.epochs):
        scheduler.step()
        assert recipe.lr_at(epoch) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
    assert recipe.lr_at(recipe.epochs - 1) == 0


def test_the_cosine_moves_per_epoch_or_per_step():
    per_epoch = get_recipe("mini")
    assert per_epoch.lr_at(3) == per_epoch.lr_at(3.9)
    per_step = get_recipe("mini", lr_schedule="step")
    assert per_step.lr_at(3.9) == pytest.approx(0.1 * (1 + math.cos(math.pi * 3.9 / 20)) / 2)


def test_overrides_show_in_the_name_and_change_the_fingerprint():
    base, changed = get_recipe("mini"), get_recipe("mini", epochs=3)
    assert changed.name == "mini(epochs=3)"
    assert changed.fingerprint != base.fingerprint
    assert get_recipe("mini", epochs=None, lr=0.1) is base
    assert dataclasses.replace(base, name="other").fingerprint == base.fingerprint


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_survives_json(name):
    recipe = get_recipe(name)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("batch_size", 1),
        ("lr", 0.0),
        ("lr", math.nan),
        ("lr", math.inf),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("lr_schedule", "linear"),
        ("lr_shift", 2),
        ("crop_padding", -1),
        ("precision", "fp8"),
        ("epochs", "20"),
        ("epochs", 10**400),
        ("lr", "0.1"),
        ("lr", 10**400),
        ("momentum", []),
        ("batch_size", 10**9),
        ("crop_padding", 10**9),
        ("flip", 1),
        ("lr_schedule", 5),
    ],
)
def test_what_cannot_be_trained_is_refused_by_field(field, value):
    with pytest.raises(ArgumentError, match=rf"{field} of recipe .*: allowed is"):
        get_recipe("mini", **{field: value})


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'paper'"):
        get_recipe("papr")
    with pytest.raises(ArgumentError, match="no field 'epoch'"):
        get_recipe("mini", epoch=3)


@pytest.mark.parametrize(
    ("mean", "std"), [(5, None), ((), ()), (("a",), (1.0,)), ((0.5,), (0.0,)), ((0.5,), (0.2, 0.2)), (None, "x")]
)
def test_statistics_that_no_image_has_are_refused(mean, std):
    values = get_recipe("mini").to_dict() | {"mean": mean, "std": std}
    with pytest.raises(ArgumentError, match="mean and std of recipe 'mini'"):
        Recipe.from_dict(values)


@pytest.mark.parametrize("values", [{}, 5, None, [], {"name": 5}, {"name": "x", "extra": 1}])
def test_what_is_no_recipe_is_refused(values):
    with pytest.raises(ArgumentError, match="not a recipe|name of a recipe"):
        Recipe.from_dict(values)


@pytest.mark.parametrize("schedule", ["epoch", "step"])
def test_a_recipe_whose_rates_are_all_zero_is_refused_with_the_way_out(schedule):
    one = get_recipe("paper", epochs=1, lr_schedule=schedule)
    assert {one.lr_at(time) for time in (0, 0.3, 0.99)} == {0.0}
    with pytest.raises(ArgumentError, match="learning rate 0 only: .*lr_shift=1.*--lr-shift 0"):
        one.check_rates()
    get_recipe("paper", epochs=1, lr_shift=0).check_rates()
    get_recipe("paper", epochs=2).check_rates()


def test_few_epochs_of_a_shifted_cosine_are_cautioned_against():
    assert "learning rates 0.05, 0 instead of starting at 0.1" in get_recipe("paper", epochs=2).caution
    cautioned = [get_recipe("paper", epochs=epochs).caution is not None for epochs in range(2, 8)]
    assert cautioned == [True, True, True, False, False, False]
    assert get_recipe("paper").caution is None and get_recipe("mini", epochs=1).caution is None
