"""Rankings made on the full spaces: what the page shows follows from the score files and the published tables."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import channel_bench as cb
from harness.scores import read_scores

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "data" / "cifar10-jpeg75"
SCRIPT = ROOT / "data" / "scripts" / "full_spaces.py"


def run(*words):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True)


def test_the_files_hold_every_architecture_and_name_their_images():
    paths = sorted(FOLDER.glob("*.parquet"))
    assert paths
    for path in paths:
        scores = read_scores(path, cb.get_space(path.name.split(".")[1]))
        assert len(scores.indices) == 16384 and scores.method == path.name.split(".")[0]
        assert scores.facts["dataset"] == "cifar10-jpeg75"


def test_the_results_follow_from_the_scores_and_the_published_tables(tmp_path, published):
    for path in FOLDER.glob("*.parquet"):
        (tmp_path / path.name).symlink_to(path)
    done = run("-o", tmp_path, "--data-dir", published)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results.md").read_text() == (FOLDER / "results.md").read_text()
    found, committed = (json.loads((folder / "results.json").read_text()) for folder in (tmp_path, FOLDER))
    assert found == committed


@pytest.mark.parametrize("names", [[], ["uniform.mobilenet.parquet"]])
def test_what_cannot_be_judged_is_one_line(names, tmp_path):
    for name in names:
        (tmp_path / name).write_bytes(b"PAR1")
    done = run("-o", tmp_path, "--data-dir", tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
