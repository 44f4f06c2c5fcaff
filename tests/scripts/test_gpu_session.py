"""The session on a GPU: cut off anywhere it goes on, and nothing in it hangs; here on a CPU, with stages of a line."""

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import types
from pathlib import Path

import pytest
import torch
from conftest import SCRIPTS, load_script

from channel_bench.errors import BuildError

SCRIPT = SCRIPTS / "gpu_session.py"
# Prints rows a, b, c, ... unless they are done; what it does before each is the first argument's.
STAGE = """
import json, sys, time, os
keys, body = sys.argv[1], sys.argv[2]
given = dict(zip(sys.argv[3::2], sys.argv[4::2]))
done, work = json.loads(given["--done"]), given["--work"]
for key in keys:
    if key not in done:
        exec(body)
        print("ROW " + json.dumps({"key": key, "pid": os.getpid()}), flush=True)
"""


@pytest.fixture(scope="module")
def module():
    return load_script(SCRIPT)


@pytest.fixture
def make(module):
    def stage(name, keys="ab", body="pass", estimate=60, least=1, packs=()):
        return module.Stage(name, [sys.executable, "-c", STAGE, keys, body], estimate, least, packs)

    return stage


@pytest.fixture
def run(module, tmp_path):
    def session(stages, minutes=1.0, call_minutes=1.0, out="out", resume=None, work="work"):
        folder = tmp_path / out
        opened = module.Session(folder, tmp_path / work, minutes, call_minutes, resume)
        said = []
        code = module.run_session(opened, stages, said.append)
        return code, json.loads((folder / "session.json").read_bytes()), "\n".join(said)

    return session


def keys(state):
    return [(row["stage"], row["key"]) for row in state["rows"]]


def test_stages_run_in_order_and_a_failed_one_does_not_stop_the_next(make, run):
    stages = [make("first"), make("second", "xy", "if key == 'y': sys.exit('no card')"), make("third", "z")]
    code, state, said = run(stages)
    assert code == 1 and keys(state) == [("first", "a"), ("first", "b"), ("second", "x"), ("third", "z")]
    assert [state["stages"][name]["status"] for name in ("first", "second", "third")] == ["done", "failed", "done"]
    assert "no card" in state["stages"]["second"]["log"] and "no card" in said
    assert 0 < state["used_s"] < 60 and state["calls"] == 1 and state["over"]


def test_a_stage_that_hangs_is_ended_with_its_children_and_keeps_its_rows(make, run, tmp_path):
    # A child that ignores the polite end, as a trainer in a kernel call would.
    body = (
        "if key == 'b':\n    import subprocess\n"
        "    code = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)'\n"
        "    child = subprocess.Popen([sys.executable, '-c', code])\n"
        "    open(work + '/child', 'w').write(str(child.pid)); time.sleep(60)"
    )
    started = time.monotonic()
    code, state, _ = run([make("hangs", "ab", body, estimate=1), make("next", "z")])
    assert time.monotonic() - started < 30 and code == 1
    assert keys(state) == [("hangs", "a"), ("next", "z")] and state["stages"]["hangs"]["status"] == "timed out"
    pid = int((tmp_path / "work" / "child").read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _runs(pid):
        time.sleep(0.05)
    assert not _runs(pid)


def _count(file):
    return len(json.loads(file.read_bytes())["rows"])


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_stage_that_a_card_poisoned_goes_on_in_a_new_process(make, run):
    body = "if key == 'c' and 'b' not in done: sys.exit(4)"
    code, state, _ = run([make("poisoned", "abcd", body), make("next", "z")])
    assert code == 0 and keys(state) == [*(("poisoned", key) for key in "abcd"), ("next", "z")]
    pids = [row["pid"] for row in state["rows"]]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_stage_that_is_poisoned_again_and_again_ends_with_its_time(make, run):
    started = time.monotonic()
    code, state, _ = run([make("poisoned", "a", "sys.exit(4)", estimate=1)])
    assert code == 1 and time.monotonic() - started < 30 and state["stages"]["poisoned"]["status"] == "timed out"


def test_of_tests_that_hang_the_last_words_are_kept_and_the_next_ones_run(tmp_path, capfd, monkeypatch):
    stages = load_script(SCRIPTS / "gpu_stages.py")
    work = stages.Work("digits", tmp_path, "cpu", None, False, frozenset(), time.monotonic() + 600)
    limits = []

    def hangs(words, timeout):
        limits.append(timeout)
        raise subprocess.TimeoutExpired(words, timeout, b"x" * 5000 + b" test_of_graphs")

    monkeypatch.setattr(stages, "child", hangs)
    stages.tests(work)
    rows = [json.loads(line.removeprefix("ROW ")) for line in capfd.readouterr().out.splitlines()]
    assert [row["key"] for row in rows] == list(stages.GPU_TESTS) and set(limits) == {stages.TEST_S}
    assert all(row["error"].endswith("test_of_graphs") for row in rows)
    # Where it was the end of the stage that came, they have another try.
    with pytest.raises(SystemExit) as ended:
        stages.tests(dataclasses.replace(work, deadline=time.monotonic() + 90))
    assert ended.value.code == stages.CONTINUE and capfd.readouterr().out == ""


def test_a_machine_without_a_place_for_decoded_images_gets_one(module, tmp_path, monkeypatch):
    monkeypatch.setenv("CHANNEL_BENCH_DATA", "mine")
    module.keep_images(tmp_path)
    assert os.environ["CHANNEL_BENCH_DATA"] == "mine"
    monkeypatch.delenv("CHANNEL_BENCH_DATA")
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    module.keep_images(tmp_path)
    assert os.environ.pop("CHANNEL_BENCH_DATA") == str(tmp_path.resolve() / "images")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("CUDA error: an illegal memory access"), 4),
        (ValueError("out of range"), None),
        (torch.OutOfMemoryError("CUDA out of memory"), None),
        (ModuleNotFoundError("No module named 'triton'"), None),
    ],
)
def test_only_what_poisons_a_process_ends_it(error, code, tmp_path, capfd):
    stages = load_script(SCRIPTS / "gpu_stages.py")
    work = stages.Work("digits", tmp_path, "cpu", None, False, frozenset(), time.monotonic() + 60)

    def fail():
        raise error

    if code is None:
        work.row("a", 1, fail)
    else:
        with pytest.raises(SystemExit) as ended:
            work.row("a", 1, fail)
        assert ended.value.code == code == stages.RESTART
    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line.removeprefix("ROW "))["error"] == f"{type(error).__name__}: {error}"


def test_a_crew_that_failed_is_ended_and_replaced():
    stages, started, stopped = load_script(SCRIPTS / "gpu_stages.py"), [], []

    class Crew:
        def __init__(self, count, data, device, num_loader_workers):
            started.append(count)

        def stop(self):
            stopped.append(len(started))

    bench = types.SimpleNamespace(Crew=Crew, NUM_CORES=2)
    with stages._crews(bench, None, types.SimpleNamespace(type="cpu")) as crews:
        for count in (1, 2, 1):
            with crews(count):
                pass
        assert (started, stopped) == ([1, 2], [])
        with pytest.raises(EOFError), crews(1):
            raise EOFError
        with crews(1):
            pass
        assert (started, stopped) == ([1, 2, 1], [2])
    assert len(stopped) == 3


def test_a_build_that_fails_costs_no_other_space(tmp_path, monkeypatch, capfd):
    stages = load_script(SCRIPTS / "gpu_stages.py")
    work = stages.Work("digits", tmp_path, "cpu", None, True, frozenset(), time.monotonic() + 60)

    def fails(plan, folder, workers, on_outcome):
        raise BuildError(f"{plan.space.name} failed")

    monkeypatch.setattr("channel_bench.builder.build.build", fails)
    stages.validation(work)
    rows = [json.loads(line.removeprefix("ROW ")) for line in capfd.readouterr().out.splitlines()]
    errors = [(row["key"], row["error"]) for row in rows]
    names = ["mobilenet-mini fp32", "resnet-mini fp32", "resnet-mini bf16"]
    assert errors == [(name, f"{name.split()[0]} failed") for name in names]
    stages.validation(dataclasses.replace(work, done=frozenset(names)))  # and is not tried again
    assert capfd.readouterr().out == ""


def test_every_test_that_needs_a_gpu_is_in_a_file_of_the_session():
    stages, root = load_script(SCRIPTS / "gpu_stages.py"), SCRIPTS.parents[1]
    marked = {path for path in (root / "tests").rglob("test_*.py") if "@pytest.mark.gpu" in path.read_text()}
    assert {str(path.relative_to(root)) for path in marked} - {str(Path(__file__).relative_to(root))} == set(
        stages.GPU_TESTS
    )


def test_what_no_longer_fits_is_skipped_and_says_why(make, run):
    code, state, said = run([make("long", least=3600), make("short", "z")])
    assert code == 1 and keys(state) == [("short", "z")]
    assert (
        state["stages"]["long"]["status"] == "skipped" and "needs 3600 s at least" in state["stages"]["long"]["reason"]
    )


def test_a_call_that_is_over_asks_for_the_next_one_which_repeats_no_row(make, run, tmp_path, module):
    body = "open(work + '/begun', 'a').write(key); time.sleep(0 if key == 'a' else 1.5)"
    stages = [make("slow", "abc", body, estimate=60, least=3)]
    code, state, said = run(stages, call_minutes=0.01)
    assert code == module.CONTINUE and "--resume" in said and keys(state) == []
    file = tmp_path / "out" / "session.json"
    codes = []
    for _ in range(6):
        code, state, _ = run(stages, call_minutes=0.2, resume=file)
        codes.append(code)
        if code == 0:
            break
    assert codes[-1] == 0 and keys(state) == [("slow", key) for key in "abc"] and state["calls"] == 1 + len(codes)
    assert state["used_s"] > 3


def test_killed_it_loses_the_row_at_work_and_no_other(make, module, tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    program = tmp_path / "session.py"
    body = (
        f"sys.path.insert(0, {str(SCRIPTS)!r})\nimport gpu_stages\n"
        "if key == 'a': gpu_stages.end_with_the_session()\n"
        "open(work + '/begun', 'a').write(key)\n"
        "if key == 'c' and not os.path.exists(work + '/at c'):\n"
        "    open(work + '/at c', 'w').write(str(os.getpid())); time.sleep(60)"
    )
    program.write_text(
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "import gpu_session as g\nfrom pathlib import Path\n"
        f"stage = g.Stage('work', [sys.executable, '-c', {STAGE!r}, 'abcd', {body!r}], 60, 1)\n"
        "resume = Path(sys.argv[1]) if len(sys.argv) > 1 else None\n"
        f"session = g.Session(Path({str(out)!r}), Path({str(work)!r}), 2, 2, resume)\n"
        "sys.exit(g.run_session(session, [stage], print))\n"
    )
    process = subprocess.Popen([sys.executable, program], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not ((work / "at c").exists() and _count(out / "session.json") == 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    pid = int((work / "at c").read_text())
    while time.monotonic() < deadline and _runs(pid):  # a stage ends with its session
        time.sleep(0.02)
    assert not _runs(pid)
    assert keys(json.loads((out / "session.json").read_bytes())) == [("work", "a"), ("work", "b")]
    done = subprocess.run([sys.executable, program, out / "session.json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert keys(json.loads((out / "session.json").read_bytes())) == [("work", key) for key in "abcd"]
    assert (work / "begun").read_text() == "abccd"


def test_what_a_stage_leaves_is_packed_and_comes_back_on_another_machine(make, run, module, tmp_path, monkeypatch):
    body = (
        "os.makedirs(work + '/runs/leases', exist_ok=True); open(work + '/runs/' + key, 'w').write(key)\n"
        "open(work + '/runs/leases/' + key, 'w').write('mine')"
    )
    packing = make("packs", "ab", body, packs=("runs/**/*",))
    code, state, _ = run([packing])
    assert code == 0 and state["stages"]["packs"]["packed_files"] == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["packs.tar.xz", "session.json"]
    with tarfile.open(tmp_path / "out" / "packs.tar.xz") as archive:
        assert sorted(archive.getnames()) == ["runs/a", "runs/b"]
    file = tmp_path / "out" / "session.json"
    code, again, _ = run([packing, make("more", "z")], out="out2", work="elsewhere", resume=file)
    assert code == 0 and keys(again) == [("packs", "a"), ("packs", "b"), ("more", "z")]
    assert (tmp_path / "elsewhere" / "runs" / "b").read_text() == "b"
    assert (tmp_path / "out2" / "packs.tar.xz").read_bytes() == (tmp_path / "out" / "packs.tar.xz").read_bytes()
    monkeypatch.setattr(module, "MAX_PACK_BYTES", 10)
    code, state, _ = run([packing], out="small", work="third")
    assert code == 0 and "left in the folder" in state["stages"]["packs"]["pack"]
    assert [path.name for path in (tmp_path / "small").iterdir()] == ["session.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--minutes", "0"), "--minutes is 0.0: allowed are numbers > 0"),
        (("--resume", "torn.json"), "session 'torn.json' cannot be read"),
        ((), "'out/session.json' is there: add --resume out/session.json, or choose another --out"),
    ],
)
def test_what_cannot_be_begun_is_one_line(words, message, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "session.json").write_text("{}")
    (tmp_path / "torn.json").write_text('{"rows": [')
    command = [sys.executable, SCRIPT, "--out", "out", "--smoke", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_stages_of_a_session_are_those_that_there_are(module):
    program = load_script(SCRIPTS / "gpu_stages.py")
    stages = module.make_stages("cifar10", None, "auto", smoke=False)
    assert [stage.name for stage in stages] == list(program.STAGES)
    assert (module.CONTINUE, module.RESTART) == (program.CONTINUE, program.RESTART)
    assert all(stage.least_s <= stage.estimate_s for stage in stages)
    from channel_bench import get_space

    for name, archs in program.VALIDATED.items():
        assert len(set(archs)) == 5 and all(arch in get_space(name) for arch in archs)


@pytest.mark.long
@pytest.mark.processes
def test_the_whole_session_runs_on_a_cpu(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, SCRIPT, "--minutes", "9", "--out", tmp_path / "out", "--smoke"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    state = json.loads((tmp_path / "out" / "session.json").read_bytes())
    assert done.returncode == 0, done.stderr[-2000:]
    assert [row for row in state["rows"] if "error" in row] == []
    rows = {stage: [row for row in state["rows"] if row["stage"] == stage] for stage in state["stages"]}
    assert {stage: len(found) for stage, found in rows.items()} == {
        "facts": 1, "tests": 1, "steps": 4, "kernels": 4, "scoring": 4, "validation": 5, "supernets": 1
    }  # fmt: skip
    assert all(row["ms_per_step"] > 0 and row["train_images_per_s"] > 0 for row in rows["steps"])
    anew, again, plain, fused = rows["kernels"]
    assert again["num_built"] == anew["num_built"] == 1 and 0 < again["begin_s"] and 0 < anew["begin_s"]
    assert not plain["fused_depthwise"] and fused["fused_depthwise"] == (importlib.util.find_spec("triton") is not None)
    assert fused["first_loss"] == pytest.approx(plain["first_loss"], rel=1e-4) and fused["ms_per_step"] > 0
    assert all(row["rms_difference"] < (1e-4 if "fp32" in row["key"] else 0.1) for row in rows["scoring"])
    assert all(row["difference"] == row["best_test_acc"] - row["reference"] for row in rows["validation"])
    assert rows["facts"][0]["device"] == "cpu" and -1 <= rows["supernets"][0]["kendall"] <= 1
    assert len(list((tmp_path / "out").iterdir())) <= 8
