"""A submission: what is wrong is one line, what is right is shown recomputed."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_leaderboard import few_draws  # noqa: F401 - a fixture for each test here too

import channel_bench as cb
from harness.judge.comparison import compare
from harness.leaderboard.entries import entries_dir, make_entry, read_entry, read_entry_scores, write_entry
from harness.leaderboard.submission import check_folder
from harness.scores import make_scores

pytestmark = pytest.mark.xdist_group("leaderboard")
SPACE = cb.get_space("resnet-mini")


@pytest.fixture(scope="module")
def made_folder(tmp_path_factory):
    """Two entries, one better than the other."""
    folder = tmp_path_factory.mktemp("made")
    truth = cb.load("resnet-mini").accuracies()
    rng = np.random.default_rng(0)
    for name, noise in (("good", 0.5), ("bad", 5.0)):
        values = truth + noise * truth.std() * rng.normal(size=16384)
        scores = [make_scores(name, SPACE, np.arange(16384), values, {"seed": 0})]
        write_entry(make_entry(scores, method=name, paper=None, url=None, code=None, notes=None), folder)
    return folder


@pytest.fixture
def folder(made_folder, tmp_path):
    """A copy of that folder, to be changed."""
    return shutil.copytree(made_folder, tmp_path / "board")


def test_the_entries_of_the_package_are_in_order():
    assert len(check_folder(entries_dir())) == len(list(entries_dir().glob("*.json")))


def test_the_row_is_recomputed_and_ranked_among_all(folder, run_cli):
    code, output, _ = run_cli("channel-harness", "check-entry", folder / "bad.json", "--replicates", 20)
    (scores,) = read_entry_scores(read_entry(folder / "bad.json"), SPACE)
    tau = compare([scores], cb.load("resnet-mini")).rows[0].kendall
    assert code == 0 and f"| 2 | bad | 1 | {tau:.3f} |" in output and "| good |" not in output
    assert "among 2 rows" in output and "| 2, in order |" in output


def test_without_a_file_only_the_folder_is_checked(folder, run_cli):
    code, output, _ = run_cli("channel-harness", "check-entry", "--entries", folder)
    assert code == 0 and "| recomputed below | none |" in output and "recomputed from scores" not in output
    code, _, errors = run_cli("channel-harness", "check-entry")
    assert code == 2 and "nothing to check: give the file of an entry, or --entries FOLDER" in errors


def test_a_space_without_its_table_is_named(tmp_path, run_cli, monkeypatch):
    monkeypatch.setenv("CHANNEL_BENCH_DATA", str(tmp_path / "none"))
    resnet = cb.get_space("resnet")
    scores = [make_scores("mine", resnet, np.arange(16384), np.arange(16384.0), {})]
    write_entry(make_entry(scores, method="mine", paper=None, url=None, code=None, notes=None), tmp_path / "board")
    checked = ("check-entry", tmp_path / "board" / "mine.json", "--data-dir", tmp_path / "none")
    code, output, _ = run_cli("channel-harness", *checked)
    assert code == 0 and "- mine: its table is not here" in output


def damage_scores(folder):
    path = folder / "good.resnet-mini.parquet"
    path.write_bytes(path.read_bytes() + b" ")


def drop_scores(folder):
    (folder / "good.resnet-mini.parquet").unlink()


def drop_entry(folder):
    (folder / "good.json").unlink()


def add_key(folder):
    path = folder / "bad.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kendall": 0.99}))


def rename_seed(folder):
    path = folder / "bad.json"
    content = json.loads(path.read_text())
    content["results"]["resnet-mini"]["seeds"] = [0, 1]
    path.write_text(json.dumps(content))


def swap_scores(folder):
    """The scores of another under an entry that names them by their true sum, but too few of them."""
    path = folder / "bad.resnet-mini.parquet"
    path.write_text("arch,score\n1111111,1\n")
    entry = json.loads((folder / "bad.json").read_text())
    entry["results"]["resnet-mini"]["scores"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "bad.json").write_text(json.dumps(entry))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage_scores, "has SHA-256 .*, the entry says"),
        (drop_scores, "good.resnet-mini.parquet' does not exist"),
        (drop_entry, "has 'good.resnet-mini.parquet', which no entry names: add its entry, or delete it"),
        (add_key, "has kendall: its keys are method, paper"),
        (rename_seed, "seed0"),
        (swap_scores, "cannot read"),
    ],
)
def test_what_is_wrong_is_one_line_whichever_entry_is_asked_for(change, message, folder, run_cli):
    change(folder)
    code, output, errors = run_cli("channel-harness", "check-entry", folder / "bad.json", "--replicates", 2)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert re.search(message, errors), errors


def test_a_file_that_is_no_entry_is_refused(folder, run_cli):
    code, _, errors = run_cli("channel-harness", "check-entry", folder / "worse.json")
    assert code == 2 and "worse.json' is no entry (*.json) of its folder" in errors


def test_the_workflow_gives_the_changed_entries_to_the_command(folder, tmp_path):
    """The line that finds them, in a repository: of a merge, what it brings to its first parent."""
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with 'channel-bench[docs]'")
    workflow = Path(__file__).parents[2] / ".github" / "workflows" / "submission.yml"
    (job,) = yaml.safe_load(workflow.read_text())["jobs"].values()
    (line,) = [step["run"] for step in job["steps"] if step.get("run", "").startswith("git diff")]
    place = tmp_path / "repository"
    (place / "data" / "leaderboard").mkdir(parents=True)

    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words], cwd=place, check=True)

    git("init", "-q", "-b", "main")
    shutil.copy(folder / "good.json", place / "data" / "leaderboard")
    git("add", "."), git("commit", "-qm", "base"), git("checkout", "-qb", "mine")
    shutil.copy(folder / "bad.json", place / "data" / "leaderboard" / "a b;c.json")
    (place / "other.json").write_text("{}")
    git("add", "."), git("commit", "-qm", "entry"), git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "-m", "merge", "mine")
    subprocess.run(["bash", "-c", line], cwd=place, check=True)
    assert (place / "changed").read_text() == "data/leaderboard/a b;c.json\0"
