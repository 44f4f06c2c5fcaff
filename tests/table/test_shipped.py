"""The tables that come with the package: complete, described, loaded by name, and true."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import channel_bench as cb
from channel_bench.builder.collect import collect
from channel_bench.builder.store import RunStore
from channel_bench.errors import CorruptFileError, MissingDataError
from channel_bench.recipe import get_recipe
from channel_bench.record import Job
from channel_bench.table import shipped
from channel_bench.table.verify import verify
from channel_bench.training.datasets import load_dataset
from channel_bench.training.native import reason_not, train_native

ROOT = Path(__file__).parents[2]


def read_manifest():
    return json.loads((shipped.shipped_dir() / shipped.MANIFEST).read_text())


SHIPPED = [facts["space"] for facts in read_manifest()["tables"].values()]


@pytest.fixture(scope="module", params=SHIPPED)
def table(request):
    return cb.load(request.param)


def test_every_architecture_has_three_finished_runs(table):
    facts = verify(table.path)
    assert (facts["num_archs"], facts["num_runs"], facts["num_incomplete_archs"]) == (16384, 3, 0)
    assert facts["num_diverged"] == 0
    assert table.name == shipped.table_name(table.space) == f"{table.space.dataset}-16384x3"
    assert table.info.recipe == get_recipe(table.space.recipe).to_dict()
    assert set(table.arrow.column("backend").to_pylist()) == {"native"}


def test_the_data_set_is_the_embedded_one(table):
    data = load_dataset(table.space.dataset)
    assert (table.info.dataset, table.info.dataset_digest) == (data.name, data.digest)


def test_learning_curves_are_shipped_too(table):
    curves = table.curves("4344424")
    assert curves["test_acc"].shape == (3, table.info.recipe["epochs"])
    assert curves["test_acc"].max(1) == pytest.approx([table.accuracy("4344424", run=run) for run in range(3)])


def test_width_matters_more_than_the_seed_and_no_slot_decides_alone(table):
    """What the maxima were chosen for, on all rows and with one term per width and slot."""
    cells = np.stack([table.accuracy(table.space.archs(), run=run) for run in range(3)], 1)
    noise = cells.var(1, ddof=1).mean()
    reliability = 1 - noise / 3 / cells.mean(1).var(ddof=1)
    assert reliability > (0.84 if table.space.dataset == "digits-placed" else 0.88)  # of harder images
    means, digits = cells.mean(1), table.space.archs()
    effects = [np.var([means[digits[:, slot] == digit].mean() for digit in range(1, 5)]) for slot in range(7)]
    assert max(effects) / sum(effects) < 0.6


def test_a_row_is_what_training_gives(table):
    """With the same compiler to the last bit, with another within what chaos makes of a rounding."""
    space, recipe, data = table.space, get_recipe("mini"), load_dataset(table.space.dataset)
    if reason_not(space, recipe, data) is not None:
        pytest.skip(f"no native trainer here: {reason_not(space, recipe, data)}")
    archs = ["1111111", "2314132", "4444444"]
    jobs = [Job(arch, run, run) for arch in archs for run in range(3)]
    found = [record.best_test_acc for record in train_native(space, jobs, recipe, data)]
    stated = [table.accuracy(job.arch, run=job.run) for job in jobs]
    # Fresh seeds of a narrow network differ by up to ten points, those of a wide one by one or two.
    assert np.array(found) == pytest.approx(np.array(stated), abs=12)
    assert np.median(np.abs(np.array(found) - stated)) < 2


def test_the_manifest_describes_the_files_to_the_byte():
    manifest = read_manifest()
    folder = shipped.shipped_dir()
    assert "resnet-mini" in SHIPPED and set(SHIPPED) <= set(shipped.SPACES)
    assert set(manifest["tables"]) == {f"{space}.v1.parquet" for space in SHIPPED}
    for table in manifest["tables"].values():
        for name, facts in table["files"].items():
            data = (folder / name).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (facts["bytes"], facts["sha256"])
            assert len(data) < 20 * 2**20
    assert {path.name for path in folder.glob("*.v1.*")} == {
        name for table in manifest["tables"].values() for name in table["files"]
    }


def test_a_manifest_is_made_of_tables_that_check_out(tmp_path):
    from conftest import SCRIPTS, load_script, make_record

    ship = load_script(SCRIPTS / "ship.py")

    space, recipe = cb.get_space("resnet-mini"), get_recipe("mini", epochs=2)
    store = RunStore.create(tmp_path / "runs", space, recipe, "digits", "d1")
    store.add(make_record())
    collect(store.folder, tmp_path / "resnet-mini.v1.parquet")
    manifest = ship.make_manifest(tmp_path)
    (facts,) = manifest["tables"].values()
    assert facts["num_rows"] == 1 and set(facts["files"]) == {"resnet-mini.v1.parquet", "resnet-mini.v1.h5"}
    (tmp_path / "resnet-mini.v1.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorruptFileError):
        ship.write_manifest(tmp_path)
    assert not (tmp_path / shipped.MANIFEST).exists()


def test_a_package_without_its_tables_says_how_to_build_one(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "shipped_dir", lambda: tmp_path)
    with pytest.raises(MissingDataError, match="build one with 'channel-bench build resnet-mini'"):
        cb.load("resnet-mini")
