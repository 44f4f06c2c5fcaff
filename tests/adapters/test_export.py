"""The command `export`: what it writes is the table, and what it cannot write is one line."""

import json
import sys

import pandas as pd
import pytest
from optional import needs

import channel_bench as cb


def test_csv_and_json_are_the_frame(run_cli, tmp_path):
    frame = cb.load("resnet-mini").frame("test_acc")
    for name, read in (
        ("csv", lambda path: pd.read_csv(path, dtype={"arch": str})),
        ("json", lambda path: pd.DataFrame(json.loads(path.read_text()))),
    ):
        path = tmp_path / f"t.{name}"
        code, out, _ = run_cli(
            "channel-bench", "export", "resnet-mini", "--format", name, "-o", path, "--metric", "test_acc"
        )
        assert code == 0 and "test accuracy after the last epoch" in out
        assert read(path).equals(frame)


@needs("syne_tune")
@needs("fastparquet")
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.set_index")
@pytest.mark.filterwarnings("ignore:The 'fastparquet' engine is deprecated")
@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")
def test_a_folder_of_syne_tune_is_written_once(run_cli, tmp_path):
    arguments = ("channel-bench", "export", "resnet-mini", "--format", "syne-tune", "-o", tmp_path / "box")
    assert run_cli(*arguments)[0] == 0
    assert (tmp_path / "box" / "objectives_evaluations.npy").exists()
    assert json.loads((tmp_path / "box" / "metadata.json").read_text())["task_names"] == ["resnet-mini"]
    code, _, error = run_cli(*arguments)
    assert code == 2 and "holds something" in error


def test_bad_input_is_one_line(run_cli, tmp_path, monkeypatch):
    code, _, error = run_cli("channel-bench", "export", "resnet-mini", "--format", "xlsx", "-o", tmp_path / "t")
    assert code == 2 and "unknown format 'xlsx': known are csv, json, syne-tune" in error
    (tmp_path / "file").write_text("")
    code, _, error = run_cli("channel-bench", "export", "resnet-mini", "-o", tmp_path / "file" / "t.csv")
    assert code == 2 and len(error.splitlines()) == 1
    monkeypatch.setitem(sys.modules, "syne_tune.blackbox_repository.blackbox_tabular", None)
    code, _, error = run_cli("channel-bench", "export", "resnet-mini", "--format", "syne-tune", "-o", tmp_path / "b")
    assert code == 2 and "pip install 'channel-bench[adapters]'" in error and not (tmp_path / "b").exists()
