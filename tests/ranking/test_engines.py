"""Rankings on a Ray cluster and in shares: the same scores as here, whatever dies meanwhile.

The commands are processes of their own, because Ray and its signals belong to a process. What is to be killed in the
middle of its work waits there at a gate: a plug-in that keeps its checkpoint, and waits until it is killed.
"""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from builders import PATIENCE_S, family, wait_for

import channel_bench as cb
from channel_bench._version import __version__
from channel_bench.errors import ClusterError
from channel_bench.support.cluster import Cluster
from channel_bench.support.durable import marked
from harness.ranking import engines
from harness.ranking.engines import rank_on_node
from harness.ranking.request import RankRequest, TaskOptions, shard_requests
from harness.scores import read_scores

ROOT = Path(__file__).parents[2]
SPACE = cb.get_space("resnet-mini")

PLUG_INS = """
import os, pathlib, time
HERE = pathlib.Path(__file__).parent

def note(what):
    (HERE / "parent").write_text(str(os.getppid()))
    with open(HERE / "notes", "a") as file:
        file.write(what + "\\n")

class Summed:
    def fit(self, task):
        self.weight = 1
        return self
    def score(self, archs):
        return archs.sum(1) * self.weight * 1.0

class Waits(Summed):
    def fit(self, task):
        half = task.checkpoints / "half"
        note("resumed" if half.exists() else "began")
        if not half.exists():
            half.write_text(str(2 + task.seed))
            while not (HERE / "open").exists():
                time.sleep(0.02)
        self.weight = int(half.read_text())
        return self

class Falls:
    def fit(self, task):
        note("fell")
        raise ValueError("it fell")

class Dies:
    def fit(self, task):
        note("died")
        os.kill(os.getpid(), 9)
"""


class Place:
    """A folder with plug-ins and a space of its own, in which commands are started.

    Args:
        folder: An empty one.
    """

    def __init__(self, folder):
        self.folder = folder
        self._started = []
        (folder / "plug_ins_of_ray.py").write_text(PLUG_INS)
        for file in (ROOT / "examples" / "own_space").glob("plain*"):
            shutil.copy(file, folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self._started:
            process.kill()
            process.communicate()

    def start(self, methods, *words):
        """Rank plug-ins on an own space, all by paths that begin in this folder, from a process of its own."""
        named = ",".join(f"plug_ins_of_ray.py:{name}" for name in methods.split(","))
        command = [sys.executable, "-m", "harness.cli", "rank", named, "--space", "plain-mini.toml", "--device", "cpu"]
        process = subprocess.Popen(
            [*command, "--no-truth", *words],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._started.append(process)
        return process

    def notes(self):
        path = self.folder / "notes"
        return path.read_text().split() if path.exists() else []

    def sums(self, name, out="scores"):
        """What a score file has in the place of every sum of digits 1."""
        scores = read_scores(self.folder / out / f"{name}.parquet", cb.get_space(self.folder / "plain-mini.toml"))
        return set((scores.values / SPACE.archs()[scores.indices].sum(1)).tolist())


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of plug-ins; what was started there ends with the test, and its space is unknown again."""
    monkeypatch.setattr("channel_bench.space.own._registered", {})
    with Place(tmp_path) as place:
        yield place


linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def said_in(errors):
    """What a command said, without its progress, which comes when something takes long."""
    return [line for line in errors.splitlines() if not line.startswith("ranking: ")]


# -- Ray --------------------------------------------------------------------------------------------------------------


@linux_only
@pytest.mark.processes
def test_a_ranking_whose_ray_worker_is_killed_goes_on_from_its_checkpoint(place):
    pytest.importorskip("ray", reason="Ray is not installed")
    command = place.start("Waits", "--engine", "ray", "--jobs", "1", "-o", "scores/Waits-seed0.parquet")
    wait_for(lambda: "began" in place.notes(), "a ranking at work", command)
    os.kill(int((place.folder / "parent").read_text()), signal.SIGKILL)
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0, errors
    died, said = said_in(errors)
    assert died.startswith("Waits seed 0: its worker process died (") and died.endswith("; it is tried again")
    assert said == "1 score file is in scores" and place.notes() == ["began", "resumed"]
    # A weight of 2 is in the checkpoint that the killed worker left, and nowhere else. Nothing else is left.
    assert place.sums("Waits-seed0") == {2.0}
    assert [path.name for path in (place.folder / "scores").iterdir()] == ["Waits-seed0.parquet"]


@linux_only
@pytest.mark.slow  # 20 s
def test_on_ray_a_method_that_dies_is_tried_again_and_one_that_fails_is_not(place):
    pytest.importorskip("ray", reason="Ray is not installed")
    command = place.start("Dies,Falls,Summed", "--engine", "ray", "--jobs", "2", "--retries", "1", "-o", "scores")
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 2 and sorted(place.notes()) == ["died", "died", "fell"], errors
    again, failed, fell, last = sorted(said_in(errors), key=lambda line: ("Dies", "Fall", "chan").index(line[:4]))
    assert again == "Dies seed 0: it was ended by signal 9; it is tried again"
    assert failed == "Dies seed 0 failed: it was ended by signal 9, in 2 tries"
    assert fell.startswith("Falls seed 0 failed: ") and "ValueError: it fell (plug_ins_of_ray.py:" in fell
    assert last.startswith("channel-harness: 2 of 3 rankings failed, ")
    assert place.sums("Summed-seed0") == {1.0}
    assert [path.name for path in (place.folder / "scores").glob("*.parquet")] == ["Summed-seed0.parquet"]


@linux_only
@pytest.mark.slow  # 40 s: Ray starts twice
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_ranking_on_ray_that_is_stopped_leaves_no_process_and_goes_on(place, number):
    pytest.importorskip("ray", reason="Ray is not installed")
    words = ("--engine", "ray", "--jobs", "2", "--seeds", "2", "-o", "scores")
    command = place.start("Waits", *words)
    wait_for(lambda: place.notes() == ["began", "began"], "rankings at work", command)
    processes = family(command.pid)
    (os.killpg if number == signal.SIGINT else os.kill)(command.pid, number)
    _, errors = command.communicate(timeout=PATIENCE_S)
    word, code = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}[number]
    kept = "every finished ranking in scores is kept; start the same command again to continue"
    assert said_in(errors) == [kept, f"channel-harness: {word}"] and command.returncode == code
    wait_for(lambda: not any(map(is_running, processes)), "all processes to end")
    command = place.start("Waits", *words)
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 0 and said_in(errors) == ["2 score files are in scores"]
    assert place.notes() == ["began", "began", "resumed", "resumed"]
    assert place.sums("Waits-seed0") == {2.0} and place.sums("Waits-seed1") == {3.0}


SITE = """
import os, pathlib, time
if b"harness.ranking.worker" in pathlib.Path("/proc/self/cmdline").read_bytes():  # not every process of Ray's
    import harness.supernet.training as training
    # A checkpoint after every epoch. A gate holds the training after the second one.
    training.CHECKPOINT_SHARE = float("inf")
    here, save = pathlib.Path(__file__).parent, training._save

    def gated_save(path, parts, epoch, *rest):
        save(path, parts, epoch, *rest)
        with open(here / "epochs", "a") as file:
            file.write(f"{path.parent.name.partition('-')[0]}-{epoch}\\n")
        while epoch == 2 and (here / "shut").exists():
            time.sleep(0.02)

    training._save = gated_save
"""


@linux_only
@pytest.mark.slow  # a minute or two
@pytest.mark.filterwarnings("ignore")
def test_supernets_on_a_cluster_that_loses_a_node_have_the_scores_of_this_machine(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster as Nodes

    (tmp_path / "sitecustomize.py").write_text(SITE)
    (tmp_path / "shut").touch()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    command = [sys.executable, "-m", "harness.cli", "rank", "uniform,fair", "--space", "resnet-mini", "--epochs", "3"]
    command += ["--num-val", "20", "--device", "cpu", "--no-truth", "-o"]
    pipes = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def epochs():
        path = tmp_path / "epochs"
        return sorted(path.read_text().split()) if path.exists() else []

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()
        on_ray = subprocess.Popen([*command, "ray", "--engine", "ray", "--address", nodes.address], **pipes)
        half = ["fair-1", "fair-2", "uniform-1", "uniform-2"]
        wait_for(lambda: epochs() == half, "a supernet on each node", on_ray)
        nodes.remove_node(second, allow_graceful=False)
        (tmp_path / "shut").unlink()
        _, errors = on_ray.communicate(timeout=PATIENCE_S)
    finally:
        nodes.shutdown()
    lines = said_in(errors)
    assert on_ray.returncode == 0 and len(lines) == 2, errors
    assert lines[0].endswith("; it is tried again") and lines[1] == "2 score files are in ray"
    assert epochs() == sorted([*half, "fair-3", "uniform-3"])  # no epoch was trained twice
    here = subprocess.run([*command, "here", "--jobs", "2"], **pipes)
    assert here.returncode == 0, here.stderr
    for name in ("fair-seed0.parquet", "uniform-seed0.parquet"):
        found, expected = pq.read_table(tmp_path / "ray" / name), pq.read_table(tmp_path / "here" / name)
        assert found.num_rows == 16_384 and found.equals(expected)


def test_a_node_that_cannot_do_the_work_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "try_worker", lambda *request: ("", False))
    with marked(tmp_path / "scores") as mark:
        good = engines._Place(__version__, (str(mark),), str(tmp_path), {})
        assert rank_on_node("{}", good) == engines._Answer(__version__)
        gone = dataclasses.replace(good, folder=str(tmp_path / "gone"))
        assert f"does not see the folder '{tmp_path}/gone'" in rank_on_node("{}", gone).refused
        # An answer of another version comes before any work; the driver refuses it by the version.
        other = rank_on_node("{}", dataclasses.replace(good, version="0.0.1", folder="nowhere"))
        assert other == engines._Answer(__version__)
    assert f"does not see the folder '{tmp_path}/scores'" in rank_on_node("{}", good).refused
    with pytest.raises(ClusterError, match=r"the cluster has channel-bench 0\.0\.1, this machine .*: install the same"):
        Cluster.check_version(None, "0.0.1")


class FakeRay:
    """What `RayEngine._settle` needs of Ray: one answer."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

    def __init__(self, answer):
        self.answer = answer

    def get(self, reference):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (engines._Answer("0.0.1"), "has channel-bench 0.0.1"),
        (
            engines._Answer(__version__, refused="node n1 does not see the folder '/a' of this machine"),
            "that all nodes",
        ),
        (FakeRay.exceptions.RayTaskError("Traceback\nModuleNotFoundError: No module named 'harness'"), "no worker can"),
    ],
)
def test_what_is_wrong_with_the_nodes_ends_the_command_in_one_line(answer, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", FakeRay(answer))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    engine = engines.RayEngine(Cluster("auto"), [])
    with pytest.raises(ClusterError, match=message) as caught:
        engine._settle(None)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "rya"], "unknown engine 'rya'"),
        (["--address", "auto"], "--address auto is for a Ray cluster: add --engine ray"),
        (["--retries", "0"], "--retries 0 is for a Ray cluster: add --engine ray"),
        (["--rankings-per-gpu", "2"], "--rankings-per-gpu 2 is for a Ray cluster: add --engine ray"),
        (["--engine", "ray", "--rankings-per-gpu", "65"], "number of rankings per GPU is 65: allowed are 1..64"),
        (["--engine", "ray", "--retries", "-1"], "number of retries is -1: allowed are 0 and above"),
        (["--engine", "ray", "-o", "scores", "--device", "cuda:1"], "on a cluster, allowed are auto, cpu and cuda"),
        (["--engine", "ray", "--seeds", "1"], "--engine ray without --out has no place for its scores"),
        (["--shard", "0/2"], "shard '0/2' is not I/N"),
        (["--shard", "1/3", "-o", "scores"], "3 shards of 2 rankings: allowed are 1..2"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_starts(
    words, message, tmp_path, run_cli, monkeypatch
):
    if "cuda:1" in words:
        pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.chdir(tmp_path)
    code, _, errors = run_cli("channel-harness", "rank", "uniform", "--space", "resnet-mini", "--seeds", "2", *words)
    assert code == 2 and message in errors and len(errors.splitlines()) == 1
    assert list(tmp_path.rglob("*")) == []


def test_a_gpu_of_a_cluster_is_shared_and_another_machine_names_the_precision():
    cluster = object.__new__(Cluster)
    cluster.on_gpu, cluster._workers_per_gpu = True, 3
    assert cluster.worker_options() == {"num_gpus": 0.3333, "num_cpus": 0}
    from harness.cli.rank import _prepare_off_device

    task = _prepare_off_device(TaskOptions(space="resnet-mini", device="cuda", precision="tf32", num_val=2))
    assert task.recipe.precision == "tf32" and task.device.type == "cpu"


# -- shares -----------------------------------------------------------------------------------------------------------


def requests_of_methods(num_methods, num_seeds):
    return [
        RankRequest(method=f"m{number}", name=f"m{number}", task=TaskOptions(space="resnet-mini", seed=seed))
        for seed in range(num_seeds)
        for number in range(num_methods)
    ]


@pytest.mark.parametrize(("num_methods", "num_seeds"), [(9, 3), (1, 5), (4, 1), (2, 6)])
def test_shares_are_disjoint_complete_and_of_equal_size(num_methods, num_seeds):
    requests = requests_of_methods(num_methods, num_seeds)
    for total in range(1, len(requests) + 1):
        shares = [shard_requests(requests, number, total) for number in range(1, total + 1)]
        keys = [(each.name, each.task.seed) for share in shares for each in share]
        assert sorted(keys) == sorted((each.name, each.task.seed) for each in requests)
        sizes = {len(share) for share in shares}
        assert max(sizes) - min(sizes) <= 1
        # Methods cost differently, so no share has much more of one than another.
        for number in range(num_methods):
            counts = [sum(each.name == f"m{number}" for each in share) for share in shares]
            assert max(counts) - min(counts) <= 1


def test_the_tasks_of_an_array_fill_one_folder_and_the_command_without_shares_compares(place, run_cli, monkeypatch):
    monkeypatch.chdir(place.folder)
    command = ["rank", "plug_ins_of_ray.py:Summed", "--space", "resnet-mini", "--seeds", "2", "--device", "cpu"]
    command += ["-o", "scores", "--json"]
    for number in (1, 2):
        code, output, errors = run_cli("channel-harness", *command, "--shard", f"{number}/2")
        assert code == 0 and output == "", errors
        assert said_in(errors) == [
            "1 score file is in scores",
            "the same command without --shard compares all, once they are there",
        ]
        there = {path.name for path in (place.folder / "scores").iterdir()}
        assert there == {f"Summed-seed{seed}.parquet" for seed in range(number)}
    before = {path: path.stat().st_mtime_ns for path in (place.folder / "scores").iterdir()}
    code, output, errors = run_cli("channel-harness", *command)
    assert code == 0, errors
    assert [ranking["seed"] for ranking in json.loads(output)["rows"][0]["rankings"]] == [0, 1]
    assert before == {path: path.stat().st_mtime_ns for path in (place.folder / "scores").iterdir()}
