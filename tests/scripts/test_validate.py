"""The script that holds this package's training against the published accuracies; here on what a CPU can train."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import SCRIPTS, load_script, make_info, make_rows, write_table

import channel_bench as cb
from channel_bench.table import Table

SCRIPT = SCRIPTS / "validate.py"


@pytest.fixture(scope="module")
def validate():
    return load_script(SCRIPT)


def test_architectures_are_spread_over_the_accuracies(validate, published):
    for name in ("mobilenet", "resnet"):
        table = cb.load(name, data_dir=published)
        archs = validate.pick_spread(table, 12)
        means = table.accuracy(archs)
        everything = np.sort(table.accuracies())
        assert len(set(archs)) == 12 and (np.diff(means) >= 0).all()
        assert (means[0], means[-1]) == (everything[0], everything[-1])
        positions = np.searchsorted(everything, means) / (len(everything) - 1)
        assert np.allclose(positions, np.linspace(0, 1, 12), atol=0.01)


@pytest.mark.processes
def test_the_whole_line_runs_on_a_mini_space(validate, tmp_path, monkeypatch, capsys):
    space = cb.get_space("resnet-mini")
    reference = write_table(tmp_path / "reference.parquet", make_rows(space, 64, 2), make_info(space))
    words = ["--dataset", "digits", "--spaces", "resnet-mini", "--archs", "3", "--epochs", "1", "--device", "cpu"]
    words += ["--reference", f"resnet-mini={reference}", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("channel_bench.builder.build.num_cores", lambda: 1)  # one worker is enough

    def run(*more):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words, *more])
        with pytest.raises(SystemExit) as stopped:
            validate.main()
        return stopped.value.code, json.loads(capsys.readouterr().out)

    code, found = run()
    assert code == 1 and not found["well"]  # one epoch is far from what the reference makes up
    assert found["num_archs"] == found["trained"] == len(found["rows"]) == 3
    assert found["mean_difference"] == pytest.approx(np.mean([r["trained"] - r["reference"] for r in found["rows"]]))
    table = Table.read(tmp_path / "out" / "resnet-mini" / "validation-digits.v1.parquet")
    assert found["table"] == str(table.path) and len(table) == 3 and table.info.recipe["epochs"] == 1
    code, again = run("--allowed", "100")
    assert code == 0 and again["trained"] == 0


@pytest.mark.slow
def test_the_whole_line_runs_on_images_of_cifar(tmp_path, published, cifar_jpeg_dir):
    # 512 + 100 real images and one epoch: that it runs, not what it finds.
    import pyarrow.parquet as pq

    folder = tmp_path / "few-images"
    folder.mkdir()
    for split, count in (("train", 512), ("test", 100)):
        (path,) = cifar_jpeg_dir.glob(f"{split}*.parquet")
        pq.write_table(pq.read_table(path).slice(0, count), folder / path.name)
    command = [sys.executable, SCRIPT, "--dataset", folder, "--spaces", "mobilenet", "--archs", "3", "--epochs", "1"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "out", "--device", "cpu", "--data-dir", published],
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    assert done.returncode == 1 and found["dataset"] == "few-images" and found["num_archs"] == 3, done.stderr
    assert (tmp_path / "out" / "mobilenet" / "validation-few-images.v1.parquet").exists()
