"""The frame of experiments: cells are measured once, in processes of their own, and outcomes follow from them alone."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import stats

from channel_bench.errors import ArgumentError, CorruptFileError, ExperimentError, UnknownNameError
from channel_bench.space import get_space
from harness.experiments.claims import NOT_SEEN, OPEN, SEEN, paired_claim
from harness.experiments.contract import EXPERIMENTS, Cell, Setting
from harness.experiments.files import markdown_of, read_sheets, sheets_of, write_files
from harness.experiments.run import cells_folder, result_path, run_experiment
from harness.experiments.worker import measure_cell
from harness.ranking.request import TaskOptions

PLUGIN = """
import os, time
from pathlib import Path
from harness.experiments.contract import Cell, Outcome
from harness.experiments.claims import paired_claim
from harness.report.sheets import Sheet

class Squares:
    def cells(self, setting):
        return [Cell(f"square-{seed}", {"seed": seed}) for seed in setting.seeds]

    def measure(self, cell, setting):
        seed = cell.options["seed"]
        with open(os.environ["SQUARES_LOG"], "a") as log:
            log.write(f"{seed}\\n")
        if os.environ.get("SQUARES_FAIL") == str(seed):
            raise ValueError("no square today")
        while os.environ.get("SQUARES_WAIT") == str(seed) and not Path(os.environ["SQUARES_LOG"] + ".go").exists():
            time.sleep(0.02)
        return {"square": seed**2}

    def outcome(self, measured, setting):
        squares = [measured[f"square-{seed}"]["square"] for seed in setting.seeds]
        more = [n + 1.0 for n in squares]
        claims = [paired_claim("squares grow", "Euclid", more, [n / 2 for n in squares], "points")]
        return Outcome([Sheet("Squares", ["seed", "square"], [["all", str(sum(squares))]])], claims, notes=["a note"])
"""


@pytest.fixture
def squares(tmp_path, monkeypatch):
    """An experiment in a file, with a log of what was measured."""
    (tmp_path / "squares.py").write_text(PLUGIN)
    monkeypatch.setenv("SQUARES_LOG", str(tmp_path / "log"))
    return f"{tmp_path}/squares.py:Squares"


@pytest.fixture
def cells_here(monkeypatch):
    """Cells are measured in this process: how often, and where their files go, does not depend on it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the worker sets it for its own process

    def run_here(module, line, started):
        try:
            measure_cell(line)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""

    monkeypatch.setattr("harness.experiments.run.run_worker", run_here)


THREADS = """
from harness.experiments.contract import Cell, Outcome

class Threads:
    def cells(self, setting):
        return [Cell("threads")]

    def measure(self, cell, setting):
        import sys
        before = "torch" in sys.modules
        import torch
        return {"threads": torch.get_num_threads(), "before": before}

    def outcome(self, measured, setting):
        return Outcome([])
"""


def setting_of(num_seeds=3, **task):
    return Setting(task=TaskOptions(space="resnet-mini", **task), num_seeds=num_seeds)


def measured_seeds(tmp_path):
    return sorted(map(int, (tmp_path / "log").read_text().split()))


def test_cells_are_measured_once_and_more_seeds_add_only_theirs(tmp_path, squares):
    told = []
    result = run_experiment(squares, setting_of(), tmp_path / "out", 2, lambda key, what: told.append((key, what)))
    assert measured_seeds(tmp_path) == [0, 1, 2] and sorted(told) == [(f"square-{n}", "done") for n in range(3)]
    assert result.measured == {f"square-{n}": {"square": n * n} for n in range(3)}
    assert result.outcome.sheets[0].rows == [["all", "5"]]
    whole = result_path(tmp_path / "out", "Squares", setting_of())
    assert json.loads(whole.read_text()) == result.to_dict() and not (tmp_path / "out" / "Squares.cells").exists()
    before = whole.read_bytes()
    again = run_experiment(squares, setting_of(), tmp_path / "out")
    assert again.measured == result.measured and measured_seeds(tmp_path) == [0, 1, 2] and whole.read_bytes() == before


def test_a_cell_has_its_threads_and_no_pytorch_unless_it_asks(tmp_path):
    """One, where PyTorch by itself takes every core."""
    (tmp_path / "threads.py").write_text(THREADS)
    found = run_experiment(f"{tmp_path}/threads.py:Threads", setting_of(threads=1), tmp_path / "out")
    assert found.measured == {"threads": {"threads": 1, "before": False}}


def test_a_failed_cell_is_named_and_the_others_are_kept(tmp_path, squares, monkeypatch):
    monkeypatch.setenv("SQUARES_FAIL", "1")
    with pytest.raises(ExperimentError, match="1 of 3 cells of .*, square-1: ValueError: no square today"):
        run_experiment(squares, setting_of(), tmp_path / "out")
    monkeypatch.delenv("SQUARES_FAIL")
    assert run_experiment(squares, setting_of(), tmp_path / "out").outcome.sheets[0].rows == [["all", "5"]]
    assert measured_seeds(tmp_path) == [0, 1, 1, 2]
    assert not cells_folder(tmp_path / "out", "Squares", setting_of()).exists()


@pytest.mark.usefixtures("cells_here")
def test_results_of_another_setting_are_never_mixed_in(tmp_path, squares, monkeypatch):
    run_experiment(squares, setting_of(2), tmp_path / "out")
    for other in (setting_of(3), setting_of(2, epochs=7), setting_of(2, seed=1)):
        with pytest.raises(ArgumentError, match="is of another setting: delete it, or choose another folder"):
            run_experiment(squares, other, tmp_path / "out")
    monkeypatch.setenv("SQUARES_FAIL", "2")
    with pytest.raises(ExperimentError):
        run_experiment(squares, setting_of(3), tmp_path / "more")
    with pytest.raises(ArgumentError, match="was measured with another setting: delete"):
        run_experiment(squares, setting_of(3, epochs=7), tmp_path / "more")
    monkeypatch.delenv("SQUARES_FAIL")
    before = measured_seeds(tmp_path)
    run_experiment(squares, setting_of(4), tmp_path / "more")  # cells of the first seeds serve more seeds as well
    assert sorted([*before, 2, 3]) == measured_seeds(tmp_path)


@pytest.mark.usefixtures("cells_here")
def test_damaged_files_are_refused(tmp_path, squares):
    run_experiment(squares, setting_of(), tmp_path / "out")
    whole = result_path(tmp_path / "out", "Squares", setting_of())
    for damage in (b"", b"[]", b'{"cells": 5}', whole.read_bytes()[:-40]):
        whole.write_bytes(damage)
        with pytest.raises((CorruptFileError, ArgumentError)):
            run_experiment(squares, setting_of(), tmp_path / "out")


@pytest.mark.processes
def test_a_killed_command_goes_on_where_it_was(tmp_path, squares):
    env = os.environ | {"SQUARES_WAIT": "1"}
    command = [sys.executable, "-m", "harness.cli", "experiment", squares, "--jobs", "1", "-o", str(tmp_path / "out")]
    running = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    folder = cells_folder(tmp_path / "out", "Squares", setting_of())
    deadline = time.monotonic() + 120
    while not (folder / "square-0.json").exists() or measured_seeds(tmp_path) != [0, 1]:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = subprocess.run([*command, "--json", "--no-figures"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["tables"][0]["rows"] == [["all", "5"]]
    assert measured_seeds(tmp_path) == [0, 1, 1, 2]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"Squares.resnet-mini.{ending}" for ending in ("json", "md", "tex")
    ]


@pytest.mark.usefixtures("cells_here")
def test_the_page_says_what_was_measured_and_the_claims_first(tmp_path, squares):
    result = run_experiment(squares, setting_of(), tmp_path / "out")
    assert [sheet.title for sheet in sheets_of(result)] == ["What the papers say, and what is seen here", "Squares"]
    page = markdown_of(result, ["Squares.resnet-mini.png"])
    assert "| squares grow | Euclid |" in page and "![" in page and page.endswith("- a note\n")
    written = write_files(result, tmp_path / "out")
    assert {path.suffix for path in written} == {".md", ".tex"}


def test_the_interval_of_a_claim_is_that_of_a_paired_t_test():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.6, 0.1, 5), rng.normal(0.5, 0.1, 5)
    claim = paired_claim("a", "b", first, second, "Kendall")
    low, high = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (claim.effect, claim.low, claim.high) == pytest.approx((np.mean(first - second), low, high))
    assert claim.num_seeds == 5


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [([1, 1.1, 1.2], [0, 0, 0], SEEN), ([0, 0, 0], [1, 1.1, 1.2], NOT_SEEN), ([1, -1, 1], [0, 0, 0], OPEN),
     ([1], [0], OPEN), ([0, 0], [0, 0], NOT_SEEN)],
)  # fmt: skip
def test_the_verdict_of_a_claim_follows_from_its_interval(first, second, verdict):
    assert paired_claim("a", "b", first, second, "points").verdict == verdict


@pytest.mark.parametrize(("first", "second"), [([1.0], [1.0, 2.0]), ([], []), ([float("nan")], [0.0])])
def test_a_claim_without_pairs_is_refused(first, second):
    with pytest.raises(ArgumentError, match="values against"):
        paired_claim("a", "b", first, second, "points")


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="number of seeds is 0"):
        setting_of(0)
    with pytest.raises(ArgumentError, match="key of a cell is 'a/b'"):
        Cell("a/b")
    with pytest.raises(UnknownNameError, match="unknown experiment 'region': .* did you mean 'regions'"):
        run_experiment("region", setting_of(), tmp_path)


def test_every_experiment_has_cells_for_both_mini_spaces_with_different_keys():
    for name in EXPERIMENTS.built_in:
        made, plugin = EXPERIMENTS.make(name), EXPERIMENTS.find(name)
        assert plugin.paper and plugin.summary
        for space in ("resnet-mini", "mobilenet-mini"):
            setting = Setting(task=TaskOptions(space=space), num_seeds=2)
            cells = made.cells(setting)
            assert cells and len({cell.key for cell in cells}) == len(cells)
            assert json.loads(json.dumps([dataclasses.asdict(cell) for cell in cells]))


@pytest.mark.usefixtures("cells_here")
def test_a_report_shows_the_claims_of_finished_experiments(tmp_path, squares, run_cli):
    run_experiment(squares, setting_of(), tmp_path / "done")
    scores = tmp_path / "mine.csv"
    space = get_space("resnet-mini")
    scores.write_text("arch,score\n" + "\n".join(f"{text},{place}" for place, text in enumerate(space.texts()[::150])))
    words = ("channel-harness", "report", scores, "--space", "resnet-mini", "--replicates", 0, "--draws", 0)
    code, _, err = run_cli(*words, "--experiments", tmp_path / "done", "-o", tmp_path / "report", "--no-figures")
    text = (tmp_path / "report" / "report.md").read_text()
    assert code == 0 and "experiment Squares: What the papers say" in text and "squares grow" in text
    code, _, err = run_cli(*words, "--experiments", tmp_path)
    assert code == 2 and "there is no finished experiment (*.resnet-mini.json)" in err


@pytest.mark.parametrize(
    "content",
    [
        *("[]", "{}", '{"experiment": "x", "claims": 5}', '{"experiment": "x", "claims": [{}]}'),
        '{"experiment": "x", "claims": [], "tables": []}',
        '{"experiment": "x", "claims": [], "tables": [{"title": "t", "columns": ["a"], "rows": [[5]], "notes": []}]}',
        '{"experiment": "x", "claims": [], "tables": [{"title": "t", "columns": ["a"], "rows": [["a", "b"]]}]}',
    ],
)
def test_a_file_that_no_experiment_wrote_is_refused_by_a_report(tmp_path, content):
    (tmp_path / "x.resnet-mini.json").write_text(content)
    with pytest.raises(CorruptFileError, match="result of an experiment"):
        read_sheets(tmp_path, get_space("resnet-mini"))


@pytest.mark.usefixtures("cells_here")
def test_a_missing_package_for_figures_is_said_before_anything_is_measured(tmp_path, squares, run_cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    words = ("channel-harness", "experiment", squares, "--space", "resnet-mini", "-o", tmp_path / "out", "--seeds", 1)
    code, _, err = run_cli(*words)
    assert code == 2 and "pip install 'channel-bench[report]'" in err and not (tmp_path / "log").exists()
    code, out, err = run_cli(*words, "--no-figures")
    assert code == 0 and measured_seeds(tmp_path) == [0] and "its page\n" in err
