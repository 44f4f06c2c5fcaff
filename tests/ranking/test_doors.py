"""One door for plug-ins: check, rank and search take a method or searcher by file, by module and by name."""

import dataclasses
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Isolated

import channel_bench as cb
from channel_bench.errors import ArgumentError
from harness.method import METHODS
from harness.ranking.batch import rank_many, requests_of
from harness.ranking.request import RankRequest, TaskOptions, prepare_task
from harness.ranking.run import rank_request, settings
from harness.scores import read_scores
from harness.searcher import SEARCHERS
from harness.task import make_task

HARNESS = "channel-harness"
SPACE = cb.get_space("resnet-mini")
ROOT = Path(__file__).parents[2]
QUICK = ("--space", "resnet-mini", "--device", "cpu", "--epochs", "1", "--no-truth")

MINE = """
from harness.method import register

class Summed:
    def __init__(self, power: int = 1):
        self.power = power

    def fit(self, task):
        self.seed = task.seed
        return self

    def score(self, archs):
        return archs.sum(1).astype(float) ** self.power + self.seed * archs[:, 0]

@register("by-name")
class Registered(Summed):
    pass

class NoFit:
    pass

class FitsNothing:
    def fit(self, task):
        return None

class Widest:
    def search(self, queries, budget, rng):
        return "1111111"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a plug-in file and an installed package; forgotten afterwards."""
    (tmp_path / "door.py").write_text(MINE)
    (tmp_path / "torn.py").write_text("class Summed:\n    def fit(self, task:\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(3)\n")
    site = tmp_path / "site"
    (site / "doors-1.0.dist-info").mkdir(parents=True)
    (site / "doors-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: doors\nVersion: 1.0\n")
    (site / "doors-1.0.dist-info" / "entry_points.txt").write_text(
        "[channel_bench.methods]\nsummed = installed_door:Summed\n"
        "[channel_bench.searchers]\nwidest = installed_door:Widest\n"
    )
    (site / "installed_door.py").write_text(MINE.replace("by-name", "by-installed-name"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{site}")  # for workers
    for registry in (METHODS, SEARCHERS):  # built-in ones register themselves when they are first imported
        for name in registry.built_in:
            registry.find(name)
        monkeypatch.setattr(registry, "_known", Isolated(registry))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


DOORS = [("door.py:Summed", "Summed"), ("door:Summed", "Summed"), ("summed", "summed")]
doors = pytest.mark.parametrize(("text", "name"), DOORS, ids=[text for text, _ in DOORS])


@doors
def test_check_takes_a_method_by_file_module_and_name(text, name, folder, run_cli):
    code, output, _ = run_cli(HARNESS, "check", text, "--device", "cpu", "--option", "power=2")
    assert code == 0 and output.splitlines()[-1] == f"{text} fulfils its contract"


@doors
def test_rank_takes_a_method_by_file_module_and_name(text, name, folder, run_cli):
    code, _, errors = run_cli(HARNESS, "rank", text, *QUICK, "--option", "power=2", "-o", "mine.parquet")
    assert code == 0, errors
    scores = read_scores(Path("mine.parquet"), SPACE)
    assert scores.method == name and (scores.values == SPACE.archs().sum(1).astype(float) ** 2).all()
    assert scores.facts["options"] == {"power": 2}
    assert scores.facts.get("method_source") == (None if ":" not in text else text)
    assert len(scores.facts.get("method_sha256", "")) == (64 if ":" in text else 0)


@pytest.mark.processes
@doors
def test_rank_takes_seeds_and_options_of_such_a_method(text, name, folder, run_cli):
    command = ("rank", text, *QUICK, "--seeds", 2, "--jobs", 2, "--option", "power=2", "-o", "all")
    code, _, errors = run_cli(HARNESS, *command)
    assert code == 0, errors
    assert sorted(os.listdir("all")) == [f"{name}-seed0.parquet", f"{name}-seed1.parquet"]
    for seed in (0, 1):
        scores = read_scores(Path("all") / f"{name}-seed{seed}.parquet", SPACE)
        assert scores.method == name and scores.facts["options"] == {"power": 2} and scores.facts["seed"] == seed
        assert scores.values[-1] == 28**2 + 4 * seed
    # What is there is found again, but not with other options.
    assert run_cli(HARNESS, *command)[0] == 0
    code, _, errors = run_cli(HARNESS, *[3 if word == "power=2" else word for word in command if word != "--option"])
    assert code == 2 and errors.count("\n") == 1


@doors
def test_search_takes_a_method_and_a_searcher_by_file_module_and_name(text, name, folder, run_cli):
    searcher = text.replace("Summed", "Widest").replace("summed", "widest")
    code, output, errors = run_cli(
        *(HARNESS, "search", text, *QUICK, "--max-flops", "1x", "--searcher", searcher, "--no-exhaustive", "--json"),
        *("--method-option", "power=3"),
    )
    assert code == 0, errors
    verdict = json.loads(output)
    assert verdict["rows"][0]["name"] == name.replace("Summed", "Widest").replace("summed", "widest")
    assert verdict["rows"][0]["arch"] == "1111111" and verdict["rows"][0]["score"] == 7**3
    assert verdict["scored_by"] == name and verdict["facts"]["options"] == {"power": 3}


def test_a_class_that_registered_itself_is_called_by_its_name_and_found_twice(folder, run_cli):
    for _ in range(2):
        code, _, errors = run_cli(HARNESS, "rank", "door.py:Registered+log", *QUICK, "-o", "mine.parquet")
        assert code == 0, errors
    assert read_scores(Path("mine.parquet"), SPACE).method == "by-name+log"


BAD = [
    ("nowhere.py:Summed", "file 'nowhere.py' does not exist"),
    ("nowhere:Summed", "cannot import 'nowhere': ModuleNotFoundError"),
    ("door.py:Sumed", "unknown method class of 'door.py' 'Sumed': .*did you mean 'Summed'"),
    ("door:Sumed", "unknown method class of 'door' 'Sumed': .*did you mean 'Summed'"),
    ("torn.py:Summed", "cannot import 'torn.py': SyntaxError"),
    ("torn:Summed", "cannot import 'torn': SyntaxError"),
    ("exits.py:Summed", "cannot import 'exits.py': SystemExit: 3"),
    ("door.py", "'door.py' is a file: add the class that is the method, door.py:CLASS"),
]
NO_FIT = [
    ("door.py:NoFit", "makes an object of class NoFit, which has no function fit()"),
    ("door.py:FitsNothing", "returned an object of class NoneType, which has no function score()"),
]


@pytest.mark.parametrize(("text", "message"), [*BAD, *NO_FIT], ids=[text for text, _ in [*BAD, *NO_FIT]])
def test_a_bad_method_is_one_line_and_exit_code_2_at_every_door(text, message, folder, run_cli):
    commands = [("rank", text, *QUICK, "-o", "x.parquet"), ("search", text, *QUICK, "--max-flops", "1x")]
    if (text, message) in BAD:
        commands.append(("check", text))
    for command in commands:
        code, output, errors = run_cli(HARNESS, *command)
        assert (code, output, errors.count("\n")) == (2, "", 1), errors
        assert re.search(message.replace("()", r"\(\)"), errors), errors


def test_a_bad_searcher_is_one_line_and_exit_code_2(folder, run_cli):
    for text, message in (
        ("nowhere.py:Widest", "file 'nowhere.py' does not exist"),
        ("door.py:Widst", "unknown searcher class of 'door.py' 'Widst'"),
        ("door.py:NoFit", "which has no function search()"),
        ("torn.py:Widest", "cannot import 'torn.py': SyntaxError"),
    ):
        code, output, errors = run_cli(HARNESS, "search", "uniform", *QUICK, "--max-flops", "1x", "--searcher", text)
        assert (code, output, errors.count("\n")) == (2, "", 1) and message in errors, errors


def test_a_ranking_never_goes_on_with_other_code(folder, run_cli):
    # An unfinished ranking, a finished one, and one whose file changes after the command has started.
    options = TaskOptions(space="resnet-mini", epochs=1, device="cpu")
    task = prepare_task(options)
    request = RankRequest.of("door.py:Summed", options, Path("x.parquet"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("harness.ranking.run.write_scores", lambda scores, path: 1 / 0)
        rank_request(request, task)
    (several,) = requests_of([request], 1, folder / "all")
    rank_request(several, task)
    Path("door.py").write_text(MINE.replace("archs[:, 0]", "archs[:, 1]"))
    with pytest.raises(ArgumentError, match="file of 'door.py:Summed' was changed after this command started"):
        rank_request(request, task)
    changed = RankRequest.of("door.py:Summed", options, Path("x.parquet"))
    assert changed.code["method_sha256"] != request.code["method_sha256"]
    with pytest.raises(ArgumentError, match="unfinished ranking with method_sha256"):
        rank_request(changed, task)
    with pytest.raises(ArgumentError, match="was made with method_sha256 .*: delete it, or choose another folder"):
        rank_many(requests_of([changed], 1, folder / "all"), task, 1, lambda *note: None)
    # Nor does a built-in method of this name take what a file's class has made.
    other = RankRequest(method="Summed", name="Summed", task=options)
    with pytest.raises(ArgumentError, match="was made with method_source 'door.py:Summed', not None"):
        rank_many(requests_of([other], 1, folder / "all"), task, 1, lambda *note: None)


def test_the_settings_of_a_method_found_by_name_are_as_they_were(digits):
    task = prepare_task(TaskOptions(space="resnet-mini", device="cpu"))
    request = RankRequest.of("uniform", TaskOptions(space="resnet-mini"))
    assert request.code == {} and list(settings(task, request.options, request.code)) == [
        *("dataset", "validated_on", "bn", "score_by", "num_train", "num_val", "recipe", "seed", "options"),
        "code_version",
    ]


def test_a_request_passes_through_json(tmp_path):
    task = TaskOptions(space="resnet-mini", data_dir=tmp_path, epochs=3, seed=4, dataset="digits", threads=2)
    request = RankRequest.of("autoslim+log", task, tmp_path / "x.parquet", {"distill": False, "samples": 30})
    assert RankRequest.from_json(request.to_json()) == request and request.name == "autoslim+log"
    plain = RankRequest.of("uniform", TaskOptions(space="resnet"))
    assert RankRequest.from_json(plain.to_json()) == plain


@pytest.mark.parametrize(
    ("changes", "message"), [({"seed": -1}, "seed -1 is negative"), ({"threads": 0}, "number of threads is 0")]
)
def test_bad_task_options_are_refused_without_torch(changes, message):
    with pytest.raises(ArgumentError, match=message):
        TaskOptions(space="resnet-mini", **changes)
    code = "import sys, harness.ranking.request as r; r.TaskOptions(space='resnet'); sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode
        == 0
    )


def test_an_option_goes_to_every_method_that_has_it_or_to_the_one_that_is_named(folder):
    from harness.cli.options import options_by_method

    methods = ["autoslim", "uniform", "door.py:Summed", "bcnet+log"]
    texts = ["power=2", "autoslim.num_subnets=3", "Summed.power=5", "samples=40", "bcnet+log.full_every=3"]
    assert options_by_method(texts, methods) == [
        {"num_subnets": 3},
        {},
        {"power": 5},
        {"samples": 40, "full_every": 3},
    ]
    assert options_by_method(["door.py:Summed.power=7"], methods)[2] == {"power": 7}
    for text, message in (
        (
            "colour=1",
            "no chosen method has an option 'colour': autoslim has num_subnets, .*; uniform has none; door.py",
        ),
        ("tas.tau=1", "--option 'tas.tau=1' is for 'tas': the chosen methods are autoslim, uniform"),
        ("power", "is not NAME=VALUE or METHOD.NAME=VALUE"),
        (".power=1", "is not NAME=VALUE or METHOD.NAME=VALUE"),
    ):
        with pytest.raises(ArgumentError, match=message):
            options_by_method([text], methods)


def test_two_methods_of_one_name_are_refused(folder, run_cli):
    (folder / "other.py").write_text(MINE.replace("by-name", "by-other-name"))
    code, _, errors = run_cli(HARNESS, "rank", "door.py:Summed,other.py:Summed", *QUICK, "-o", "all")
    assert code == 2 and "'door.py:Summed' and 'other.py:Summed' both have the name 'Summed'" in errors


@pytest.mark.processes
def test_a_worker_ends_with_the_process_that_started_it(folder):
    """Two processes on one ranking would write over each other's checkpoints."""
    Path("sleeps.py").write_text(
        "import os, pathlib, time\nclass Sleeps:\n    def fit(self, task):\n"
        "        pathlib.Path(f'pid{task.seed}').write_text(str(os.getpid()))\n        time.sleep(600)\n"
    )
    command = [sys.executable, "-m", "harness.cli", "rank", "sleeps.py:Sleeps", *QUICK, "--seeds", "2", "--jobs", "1"]
    process = subprocess.Popen([*command, "-o", "all"], stderr=subprocess.DEVNULL)
    try:
        pid = int(_wait_for(lambda: Path("pid0").exists() and Path("pid0").read_text()))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert _wait_for(lambda: not _runs(pid))


def _wait_for(condition):
    for _ in range(600):
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError("waited for two minutes")


def _runs(pid):
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# -- files that decide scores -----------------------------------------------------------------------------------

READS = """
from pathlib import Path

class Reads:
    def __init__(self, file: str = "", files: list | None = None, change: bool = False):
        self.file, self.files, self.change = file, files or [], change

    def fit(self, task):
        if self.change:
            Path(self.file).write_text("5")
        return self

    def score(self, archs):
        return archs.sum(1) * float(Path(self.file or self.files[0]).read_text())
"""


@pytest.mark.processes
@pytest.mark.parametrize("option", ["file=measured.txt", 'files=["measured.txt"]'])
def test_what_a_file_of_an_option_holds_is_part_of_a_ranking(option, folder, run_cli):
    (folder / "reads.py").write_text(READS)
    (folder / "measured.txt").write_text("2")
    command = ("rank", "reads.py:Reads", *QUICK, "--option", option, "--seeds", 2, "--jobs", 1, "-o", "all")
    code, _, errors = run_cli(HARNESS, *command)
    assert code == 0, errors
    scores = read_scores(Path("all/Reads-seed0.parquet"), SPACE)
    digest = hashlib.sha256(b"2").hexdigest()
    assert scores.facts["options_sha256"] == {"file" if "[" not in option else "files.0": digest}
    assert run_cli(HARNESS, *command)[0] == 0
    # Measured again, under the same name: neither a finished nor an unfinished ranking is that of the new file.
    (folder / "measured.txt").write_text("3")
    code, _, errors = run_cli(HARNESS, *command)
    assert (
        code == 2
        and errors.count("\n") == 1
        and "was made with options_sha256 file" in errors
        and digest[:16] in errors
    )
    (folder / "measured.txt").unlink()
    code, _, errors = run_cli(HARNESS, *command)
    assert code == 2 and "was made with options_sha256 file" in errors and "not None" in errors


def test_an_unfinished_ranking_by_another_latency_file_is_not_continued(folder, run_cli):
    latency = folder / "latency.json"
    command = ("rank", "htas", *QUICK, "--option", "latency=latency.json", "--option", "latency_weight=2")
    partial = folder / "htas.parquet.partial"
    latency.write_text("first")
    code, _, errors = run_cli(HARNESS, *command, "-o", "htas.parquet")
    assert code == 2 and "is not a latency file" in errors and (partial / "settings.json").exists()
    latency.write_text("second")
    code, _, errors = run_cli(HARNESS, *command, "-o", "htas.parquet")
    assert code == 2 and "holds an unfinished ranking with options_sha256 latency" in errors
    assert hashlib.sha256(b"first").hexdigest()[:16] in errors and hashlib.sha256(b"second").hexdigest()[:16] in errors


def test_a_file_that_changes_during_a_ranking_leaves_no_score_file(folder, run_cli):
    (folder / "reads.py").write_text(READS)
    (folder / "measured.txt").write_text("2")
    options = ("--option", "file=measured.txt", "--option", "change=true", "-o", "mine.parquet")
    code, _, errors = run_cli(HARNESS, "rank", "reads.py:Reads", *QUICK, *options)
    assert code == 2 and "of 'Reads' names was changed during the ranking: delete 'mine.parquet.partial'" in errors
    assert not Path("mine.parquet").exists()


def test_options_that_name_no_file_leave_the_settings_as_they_were(digits, folder):
    task = prepare_task(TaskOptions(space="resnet-mini", epochs=1, device="cpu"))
    options = {"score": "shared", "weight": 2.0, "names": ["a", "b"], "odd": "\0", "long": "x" * 5000, "none": None}
    (folder / "shared-too").mkdir()
    assert settings(task, {**options, "folder": "shared-too"}).keys() == settings(task).keys()


def test_what_a_folder_of_images_holds_is_part_of_a_ranking(digits):
    mine = dataclasses.replace(digits, name="mine", digest="1" * 64)
    assert settings(make_task(SPACE, mine))["data_sha256"] == "1" * 64
    assert "data_sha256" not in settings(make_task(SPACE, digits))


# -- search -----------------------------------------------------------------------------------------------------


def test_search_takes_the_columns_that_its_messages_name(folder, run_cli):
    (folder / "mine.csv").write_text("net,good,bad\n" + "".join(f"{a},{sum(map(int, a))},0\n" for a in SPACE.texts()))
    command = ("search", "mine.csv", "--space", "resnet-mini", "--max-flops", "1x", "--no-truth", "--json")
    code, _, errors = run_cli(HARNESS, *command)
    assert code == 2 and "name yours with --score-column" in errors
    columns = ("--arch-column", "net", "--score-column")
    for sign, best in (("", "4444444"), ("-", "1111111")):
        code, output, errors = run_cli(HARNESS, *command, *columns, f"{sign}good", "--searcher", "exhaustive")
        assert code == 0 and json.loads(output)["rows"][0]["arch"] == best, errors
    code, _, errors = run_cli(HARNESS, "search", "uniform", *command[2:], "--score-column", "good")
    assert code == 2 and "--score-column are for a file of scores, not for a method" in errors
