"""Two spaces side by side: a space resembles itself, and one that other slots decide less."""

import numpy as np
import pytest
from conftest import SCRIPTS, load_script

import channel_bench as cb
from channel_bench.table import Table


@pytest.fixture(scope="module")
def script():
    load_script(SCRIPTS / "pilot.py")  # which the script imports, as its neighbour
    return load_script(SCRIPTS / "resemblance.py")


@pytest.fixture(scope="module")
def table():
    """The accuracies of 400 architectures of resnet-mini."""
    whole = cb.load("resnet-mini")
    chosen = np.sort(np.random.default_rng(0).choice(16384, 400, replace=False))
    return Table(whole.arrow.take((3 * chosen[:, None] + np.arange(3)).ravel()), whole.info)


@pytest.fixture(scope="module")
def found(script, table):
    return script.compare(table, table)


def test_a_space_resembles_itself(found):
    assert (found["cosine"], found["l1"], found["spearman_theories"]) == (1, 0, 1)
    assert (found["num_archs"], found["num_theories"]) == (400, 284)
    assert sum(found["profile"]) == pytest.approx(1, abs=0.005)


def test_other_accuracies_resemble_it_less(script, table, found):
    # The same networks in another order: what the accuracies say of slots is gone.
    shuffled = table.arrow.column("best_test_acc").take(np.random.default_rng(1).permutation(len(table.arrow)))
    column = table.arrow.schema.get_field_index("best_test_acc")
    other = Table(table.arrow.set_column(column, table.arrow.schema.field(column), shuffled), table.info)
    against = script.compare(other, table)
    assert against["cosine"] < 0.9 and against["l1"] > 0.3
    assert against["spearman_theories"] < 0.9
    results = {"resnet": {"profile": found["profile"], "kendall_ceiling": 0.8, "small": [found, against]}}
    assert script.markdown(results).count("resnet-mini (400)") == 2
    assert len(script.draw(results).axes) == 1


def test_the_pilot_compares_with_a_published_profile(published, monkeypatch):
    monkeypatch.setenv("CHANNEL_BENCH_DATA", str(published))
    pilot = load_script(SCRIPTS / "pilot.py")
    table = cb.load("mobilenet")
    profile = pilot.profile_of(table.space, table.space.archs(), table.accuracies())
    assert pilot.resemblance(profile, "mobilenet") == {"cosine": 1, "l1": 0}
    # Slopes of slots in an additive world are what was put in.
    logs = np.log(table.space.archs() / 4)
    assert pilot.profile_of(table.space, table.space.archs(), logs @ np.arange(7.0)) == pytest.approx(
        np.arange(7) / 21, abs=1e-9
    )
    assert pilot.resemblance(np.full(7, 1 / 7), "mobilenet")["l1"] == pytest.approx(
        np.abs(profile - 1 / 7).sum(), abs=0.001
    )


def test_the_pilot_says_nothing_where_nothing_is_published(tmp_path, monkeypatch):
    monkeypatch.setenv("CHANNEL_BENCH_DATA", str(tmp_path))
    assert load_script(SCRIPTS / "pilot.py").resemblance(np.full(7, 1 / 7), "mobilenet") == {}
