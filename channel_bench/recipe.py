"""Recipes: everything that decides how a network is trained, in one frozen value.

    >>> get_recipe("paper").epochs
    60
    >>> get_recipe("mini", epochs=3).name
    'mini(epochs=3)'

``paper`` is what trained the published table; ``mini`` is what trains the mini spaces. A recipe is stored whole in
every table, with its fingerprint; runs of different fingerprints are never mixed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from channel_bench.errors import ArgumentError, unknown_name

MAX_EPOCHS = 2**15 - 1
"""The schema's column has 16 bits."""
FEW_EPOCHS = 5
"""With fewer, a cosine that is shifted by one epoch loses more than a fifth of its course."""
MAX_BATCH_SIZE = 2**20
MAX_CROP_PADDING = 1024
"""Larger values only waste memory."""
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one network is trained. Defaults are what trained the published table."""

    name: str
    """Registered name, followed by the fields that were overridden."""
    epochs: int = 60
    """Passes over the training images; the test images are evaluated after each."""
    batch_size: int = 256
    """Images per step; the last, smaller batch of an epoch is kept."""
    lr: float = 0.1
    """Peak learning rate of SGD (no Nesterov)."""
    momentum: float = 0.9
    """Momentum of SGD, without dampening."""
    weight_decay: float = 5e-4
    """L2 penalty on every parameter, normalisation and biases included."""
    lr_schedule: str = "epoch"
    """When the cosine moves: "epoch" (once per epoch) or "step" (every batch)."""
    lr_shift: int = 1
    """First position on the cosine, in epochs. 1: the published code moves its scheduler before the first epoch, so
    under torch >= 1.1 the rates are those of positions 1..epochs and the last epoch trains at rate 0. 0: positions
    0..epochs-1."""
    crop_padding: int = 4
    """Zero pixels added to each side before a random crop back to size; 0 for no crop."""
    flip: bool = True
    """Whether images are mirrored left to right with probability 1/2."""
    mean: tuple[float, ...] | None = (0.49139968, 0.48215827, 0.44653124)
    """Mean per channel that images in [0, 1] are standardised with; None for that of the training images."""
    std: tuple[float, ...] | None = (0.24703233, 0.24348505, 0.26158768)
    """Standard deviation per channel; None for that of the training images."""
    precision: str = "fp32"
    """Arithmetic of the forward and backward pass: "fp32"; "tf32", whose convolutions and products round their inputs
    to 10 bits, on GPUs only; "bf16", autocast to bfloat16 with weights, loss and optimiser in fp32."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if not isinstance(self.name, str):
            raise ArgumentError(f"the name of a recipe is {self.name!r}: allowed is text")
        _check(self, "epochs", int, lambda value: 1 <= value <= MAX_EPOCHS, f"a whole number 1..{MAX_EPOCHS}")
        _check(
            self,
            "batch_size",
            int,
            lambda value: 2 <= value <= MAX_BATCH_SIZE,
            f"a whole number 2..{MAX_BATCH_SIZE} (batch normalisation needs 2)",
        )
        _check(self, "lr", float, lambda value: value > 0, "a finite number > 0")
        _check(self, "momentum", float, lambda value: 0 <= value < 1, "in [0, 1)")
        _check(self, "weight_decay", float, lambda value: value >= 0, "a finite number >= 0")
        _check(self, "lr_schedule", str, lambda value: value in ("epoch", "step"), "'epoch' or 'step'")
        _check(self, "lr_shift", int, lambda value: value in (0, 1), "0 or 1")
        most = MAX_CROP_PADDING
        _check(self, "crop_padding", int, lambda value: 0 <= value <= most, f"a whole number 0..{most}")
        _check(self, "flip", bool, lambda value: True, "true or false")
        _check(self, "precision", str, lambda value: value in PRECISIONS, " or ".join(map(repr, PRECISIONS)))
        _check_statistics(self)

    def lr_at(self, epoch: float) -> float:
        """Learning rate at a time measured in epochs.

        Args:
            epoch: 0-based epoch; with lr_schedule "step" also a fraction of one.

        Returns:
            lr * (1 + cos(pi * (t + lr_shift) / epochs)) / 2 with t = epoch, or its whole part for lr_schedule "epoch".
        """
        time = math.floor(epoch) if self.lr_schedule == "epoch" else epoch
        return self.lr * (1 + math.cos(math.pi * min(1.0, (time + self.lr_shift) / self.epochs))) / 2

    def check_rates(self) -> None:
        """Refuse a recipe that would train nothing, because its cosine has ended before its first epoch.

        Raises:
            ArgumentError: Every learning rate is 0; the message says why, and what to do.
        """
        if self.lr_at(0) == 0:  # the cosine falls, so all later rates are 0 as well
            raise ArgumentError(
                f"recipe {self.name!r} would train at learning rate 0 only: its cosine is shifted by {self.lr_shift}"
                f" epoch (lr_shift={self.lr_shift}) and has ended after {self.epochs}; train more epochs, or start at"
                " the full rate with --lr-shift 0"
            )

    @property
    def caution(self) -> str | None:
        """What to know before training few epochs on a shifted cosine; None where there is nothing to say."""
        if self.lr_shift == 0 or self.epochs >= FEW_EPOCHS:
            return None
        rates = ", ".join(f"{self.lr_at(epoch):.3g}" for epoch in range(self.epochs))
        return (
            f"with {self.epochs} epochs the shifted cosine of recipe {self.name!r} has learning rates {rates} instead"
            f" of starting at {self.lr:g}; --lr-shift 0 starts there"
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Read what `to_dict` gave, also after a round trip through JSON, which turns tuples into lists.

        Raises:
            ArgumentError: The values are no recipe.
        """
        try:
            fields: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
            }
            return cls(**fields)
        except (TypeError, AttributeError) as error:
            raise ArgumentError(f"not a recipe: {error}") from None

    @property
    def fingerprint(self) -> str:
        """16 hex digits over every field but the name."""
        facts = {key: value for key, value in self.to_dict().items() if key != "name"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _check(recipe: Recipe, field: str, kind: type, is_allowed: Callable[[Any], bool], what: str) -> None:
    """Refuse a field of another type, or whose value is not allowed; whole numbers are floats too."""
    value = getattr(recipe, field)
    right_type = isinstance(value, (int, float) if kind is float else kind)
    if kind is not bool:
        right_type = right_type and not isinstance(value, bool)
    if not (right_type and (kind is str or _is_finite(value)) and is_allowed(value)):
        raise ArgumentError(f"{field} of recipe {recipe.name!r} is {value!r}: allowed is {what}")


def _check_statistics(recipe: Recipe) -> None:
    """Refuse a mean and a deviation of the images that are not as many finite numbers each."""
    mean, std = recipe.mean, recipe.std
    given = [values for values in (mean, std) if values is not None]
    good = all(
        isinstance(values, (tuple, list)) and len(values) > 0 and all(map(_is_finite, values)) for values in given
    )
    if good and mean is not None and std is not None:
        good = len(mean) == len(std) and min(std) > 0
    if not good:
        raise ArgumentError(
            f"mean and std of recipe {recipe.name!r} are {mean!r} and {std!r}: allowed are a number for each channel,"
            " with std > 0, or none"
        )


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


# The mini recipe is that of the embedded benchmark (datasheet in data/): SGD on 1,200 digits of 8x8, shifted by up to a
# pixel, never mirrored because mirrored digits are not digits.
_RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="paper"),
        Recipe(name="mini", epochs=20, batch_size=64, lr_shift=0, crop_padding=1, flip=False, mean=None, std=None),
    )
}


def list_recipes() -> list[str]:
    """Names of all registered recipes."""
    return list(_RECIPES)


def get_recipe(name: str | Recipe, **overrides: Any) -> Recipe:
    """Find a recipe by name and override some of its fields.

    Args:
        name: Registered name, or a Recipe to start from.
        **overrides: Fields of Recipe; None leaves a field as it is.

    Returns:
        The recipe; its name lists what was overridden.

    Raises:
        UnknownNameError: No recipe has this name.
        ArgumentError: A field is not one of Recipe's, or its value is not allowed.
    """
    recipe = name if isinstance(name, Recipe) else _RECIPES.get(name)
    if recipe is None:
        raise unknown_name("recipe", name, _RECIPES)
    unknown = set(overrides) - {field.name for field in dataclasses.fields(Recipe)}
    if unknown:
        raise ArgumentError(f"a recipe has no field {min(unknown)!r}")
    changed = {key: value for key, value in overrides.items() if value is not None and value != getattr(recipe, key)}
    if not changed:
        return recipe
    listed = ",".join(f"{key}={value}" for key, value in sorted(changed.items()))
    return dataclasses.replace(recipe, name=f"{recipe.name}({listed})", **changed)
