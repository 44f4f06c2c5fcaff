"""What adapters share: a missing library is one line, and accuracies by epoch end in the table's."""

import sys

import numpy as np
import pytest

import channel_bench as cb
from channel_bench.adapters import configspace, optuna, syne_tune
from channel_bench.adapters.shared import accuracies_by_epoch, arch_of, config_of, widths
from channel_bench.errors import ArchError, MissingPackageError

SPACE = cb.get_space("resnet-mini")


@pytest.mark.parametrize(
    ("module", "package", "call"),
    [
        ("optuna", "Optuna", lambda: optuna.objective(cb.load("resnet-mini"))),
        ("optuna.distributions", "Optuna", lambda: optuna.optuna_space(SPACE)),
        ("ConfigSpace", "ConfigSpace", lambda: configspace.configuration_space(SPACE)),
        ("syne_tune.config_space", "Syne Tune", lambda: syne_tune.configuration_space(SPACE)),
        (
            "syne_tune.blackbox_repository.blackbox_tabular",
            "Syne Tune",
            lambda: syne_tune.blackbox(cb.load("resnet-mini")),
        ),
    ],
)
def test_a_missing_library_says_what_to_install(monkeypatch, module, package, call):
    monkeypatch.setitem(sys.modules, module, None)  # Python's own way to say that it cannot be imported
    with pytest.raises(MissingPackageError, match=rf"needs {package} .*channel-bench\[(adapters|optimise)\]'"):
        call()


@pytest.mark.parametrize("name", cb.list_spaces())
def test_widths_are_those_of_the_space(name):
    space = cb.get_space(name)
    columns = space.channel_counts([(digit,) * 7 for digit in range(1, 5)]).T.tolist()
    assert [list(channels) for channels in widths(space).values()] == columns
    for arch in ("1111111", "4344424", "1234123"):
        assert arch_of(space, config_of(space, arch) | {"epochs": 20}) == arch


@pytest.mark.parametrize("changes", [{"slot0": 3}, {"slot0": 2.5}, {"slot0": "2"}, {"slot0": None}])
def test_a_configuration_of_other_channels_is_refused(changes):
    with pytest.raises(ArchError):
        arch_of(SPACE, config_of(SPACE, "1111111") | changes)


def test_accuracies_by_epoch_end_in_the_tables_to_the_last_bit():
    exact = np.array([100 * 400 / 597, 100 * 500 / 597])
    curves = np.array([[10, 100 * 400 / 597, 30], [20, 100 * 500 / 597, 100 * 500 / 597]], np.float32)
    assert curves.astype(float)[0, 1] != exact[0]
    best = accuracies_by_epoch(curves, exact, "best_test_acc")
    assert best.tolist() == [[10, exact[0], exact[0]], [20, exact[1], exact[1]]]
    last = accuracies_by_epoch(curves, np.array([30.0, exact[1]]), "test_acc")
    assert last[0].tolist() == [10, float(curves[0, 1]), 30] and last[1].tolist() == [20, exact[1], exact[1]]
