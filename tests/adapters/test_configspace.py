"""ConfigSpace and back: every architecture has one configuration, and every configuration is an architecture."""

import numpy as np
import pytest
from optional import needs

import channel_bench as cb
from channel_bench.adapters.configspace import arch_of, configuration_of, configuration_space
from channel_bench.errors import ArchError, ArgumentError

pytestmark = needs("ConfigSpace")


@pytest.mark.parametrize("name", cb.list_spaces())
def test_architectures_come_back(name):
    space = cb.get_space(name)
    configs = configuration_space(space)
    assert configs.estimate_size() == len(space)
    assert arch_of(space, configs.get_default_configuration()) == "4444444"
    for arch in space.sample(300, np.random.default_rng(0)):
        configuration = configuration_of(space, arch, configs)
        assert arch_of(space, configuration) == space.text(arch)
        assert tuple(configuration.values()) == space.channels(arch)
    sampled = configuration_space(space, seed=3).sample_configuration(300)
    archs = [arch_of(space, configuration) for configuration in sampled]
    assert [configuration_of(space, arch, configs) for arch in archs] == sampled
    assert len(set(archs)) > 250 and {digit for arch in archs for digit in arch} == set("1234")
    again = configuration_space(space, seed=3).sample_configuration(300)
    assert again == sampled


@pytest.mark.slow
def test_every_architecture_comes_back():
    space = cb.get_space("mobilenet-mini")
    configs = configuration_space(space)
    assert all(arch_of(space, configuration_of(space, arch, configs)) == arch for arch in space.texts())


def test_neighbours_are_one_step_away():
    """Ordinal and not categorical: SMAC's local search walks to the next width."""
    from ConfigSpace.util import get_one_exchange_neighbourhood

    space = cb.get_space("resnet")
    configuration = configuration_of(space, "2222222")
    found = {arch_of(space, other) for other in get_one_exchange_neighbourhood(configuration, seed=0)}
    assert found <= {space.text(arch) for arch in space.neighbors("2222222")} and len(found) > 7


def test_another_space_is_refused():
    resnet, mini = cb.get_space("resnet"), cb.get_space("resnet-mini")
    with pytest.raises(ArgumentError, match="not a configuration space of 'resnet'"):
        configuration_of(resnet, "4344424", configuration_space(mini))
    with pytest.raises(ArchError):
        arch_of(mini, configuration_of(resnet, "4344424"))
    with pytest.raises(ArchError, match="slot6 is missing"):
        arch_of(mini, {f"slot{slot}": 4 for slot in range(6)})
