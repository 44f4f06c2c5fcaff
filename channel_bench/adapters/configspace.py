"""A space as a ConfigSpace, for SMAC, Auto-PyTorch, DeepCAVE and others of that family.

    >>> space = cb.get_space("resnet-mini")
    >>> configs = configuration_space(space, seed=0)
    >>> configuration = configs.sample_configuration()
    >>> cb.load("resnet-mini").accuracy(arch_of(space, configuration))
    >>> configuration_of(space, "4344424", configs)               # and back

Seven ordinal hyperparameters, slot0 .. slot6, in channels.
"""

from __future__ import annotations

from typing import Any

from channel_bench.adapters.shared import arch_of, config_of, library, widths
from channel_bench.errors import ArgumentError
from channel_bench.space import Space

__all__ = ["arch_of", "configuration_of", "configuration_space"]


def configuration_space(space: Space, seed: int | None = None) -> Any:
    """Make a `ConfigSpace.ConfigurationSpace` of a space; the widest architecture is its default.

    Args:
        space: The space.
        seed: Of what it samples.

    Raises:
        MissingPackageError: ConfigSpace is not installed.
    """
    module = library("ConfigSpace")
    configs = module.ConfigurationSpace(name=space.name, seed=seed)
    for slot, channels in widths(space).items():
        configs.add(module.OrdinalHyperparameter(slot, channels, default_value=channels[-1]))
    return configs


def configuration_of(space: Space, arch: Any, configs: Any = None) -> Any:
    """The `Configuration` of an architecture.

    Args:
        space: The space.
        arch: The architecture in any encoding of `Space.arch`.
        configs: The configuration space that it shall belong to; None for a new one.

    Raises:
        MissingPackageError: ConfigSpace is not installed.
        ArchError: Not an architecture of the space.
        ArgumentError: The configuration space is that of another space.
    """
    module = library("ConfigSpace")
    values = config_of(space, arch)
    if configs is None:
        configs = configuration_space(space)
    try:
        return module.Configuration(configs, values=values)
    except (ValueError, KeyError) as error:  # the library's own errors derive from these
        raise ArgumentError(
            f"not a configuration space of {space.name!r}: {error}; configuration_space(space) makes one"
        ) from None
