"""Every command that writes, killed at every moment of its writing: nothing is lost, nothing is left, the next works.

    python -m pytest -m slow tests/crashes

The killed process kills itself (SIGKILL) before the n-th call that changes the file system, for n = 1, 2, ... until the
command gets to its end. So no moment is left to chance: a whole file without its name, one name of two. A second round
cuts the file at each fsync to half before it kills, which is what a machine leaves that lost its power while writing.
After each kill, files that were there before are whole, either the old or the new; the same command run again ends well
and gives what an undisturbed one gives; and no temporary file stays.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from channel_bench.support.durable import TEMPORARY_PREFIX

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("crashes")]
ROOT = Path(__file__).parents[2]
MAX_KILLS = 60
TOTAL_KILLS = 100
MOMENTS = ("fsync", "replace", "link", "unlink", "rename", "mkdir", "rmdir")

SITE = f"""
import os, signal, stat
left = int(os.environ.get("CRASH_BEFORE", "0"))
torn = os.environ.get("CRASH_TORN") == "1"
def dying(function):
    def call(*args, **more):
        global left
        left -= 1
        if left == 0:
            if torn and stat.S_ISREG((file := os.fstat(args[0])).st_mode):
                os.ftruncate(args[0], file.st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **more)
    return call
if left:
    for name in ("fsync",) if torn else {MOMENTS!r}:
        setattr(os, name, dying(getattr(os, name)))
"""


@pytest.fixture
def place(tmp_path):
    """A folder for a command's files, beside the module that kills it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


kills = []
"""The command of every kill of this session."""


def run(place, words, crash_before=0, torn=False):
    """Run a command line in the folder; the n-th change of the file system, or torn write, kills it."""
    env = os.environ | {
        "PYTHONPATH": f"{place.parent / 'site'}{os.pathsep}{ROOT}",
        "CRASH_BEFORE": str(crash_before),
        "CRASH_TORN": str(int(torn)),
        "CHANNEL_BENCH_DATA": str(place / "data"),
        "MPLCONFIGDIR": str(place.parent / "matplotlib"),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
    }
    command = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=300)
    if done.returncode == -signal.SIGKILL:
        kills.append(words[1])
    return done


def contents(place):
    """SHA-256 of every file by name."""
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def crash_everywhere(place, words, results, before_again=()):
    """Kill a command at every moment; return how often.

    Args:
        place: The folder, with all that the command reads.
        words: The command: module and arguments.
        results: Files that it writes, by their names in the folder, and that a second run gives again to the byte.
        before_again: Files that the command refuses to replace, deleted before it is run again.
    """
    start = place.parent / "start"
    shutil.copytree(place, start)
    assert (done := run(place, words)).returncode == 0, done.stderr
    whole = contents(place)
    assert set(results) <= whole.keys()
    old = contents(start)
    before = len(kills)
    for torn in (False, True):
        for number in range(1, MAX_KILLS + 1):
            shutil.rmtree(place)
            shutil.copytree(start, place)
            killed = run(place, words, number, torn)
            if killed.returncode == 0:
                break
            assert number < MAX_KILLS, f"killed {MAX_KILLS} times, and never got to its end"
            check_after_kill(place, words, results, before_again, killed, old, whole, f"kill {number}, torn {torn}")
    return len(kills) - before


def check_after_kill(place, words, results, before_again, killed, old, whole, which):
    """What was there is whole, the same command works and gives the same, and nothing is left over."""
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for name, digest in contents(place).items():
        if TEMPORARY_PREFIX not in name and name in results:
            assert digest in (old.get(name), whole[name]), f"{name} is neither old nor new after {which}"
    for name in before_again:
        (place / name).unlink(missing_ok=True)
    again = run(place, words)
    assert again.returncode == 0, f"after {which}: {again.stderr}"
    found = contents(place)
    assert {name: found[name] for name in results} == {name: whole[name] for name in results}
    assert not [name for name in found if TEMPORARY_PREFIX in name], f"left after {which}"


@pytest.fixture
def scores(place):
    """Two score files of one method."""
    for seed in (0, 1):
        rows = "".join(f"{index},{(index * (7 + seed)) % 97}\n" for index in range(16384))
        (place / f"mine-seed{seed}.csv").write_text("index,score\n" + rows)
    return [f"mine-seed{seed}.csv" for seed in (0, 1)]


HARNESS, BENCH = "harness.cli", "channel_bench.cli"
SPACE = ("--space", "resnet-mini")


def test_enter(place, scores):
    entry = ("entries/mine.json", "entries/mine.resnet-mini.parquet")
    command = (HARNESS, "enter", "mine", *scores, *SPACE, "--entries", "entries", "--arch-column", "index")
    # An entry that is whole is not replaced, so what a late kill left whole is deleted before the second run.
    assert crash_everywhere(place, command, entry, before_again=("entries/mine.json",)) >= 6


def test_one_killed_entry_hides_no_other(place, scores):
    entries = place / "entries"
    shutil.copytree(ROOT / "data" / "leaderboard", entries)
    command = (HARNESS, "enter", "mine", *scores, *SPACE, "--entries", "entries", "--arch-column", "index")
    for number in range(1, MAX_KILLS):
        killed = run(place, command, number)
        shown = run(place, (HARNESS, "leaderboard", "--entries", "entries", *SPACE, "--json", "--replicates", "0"))
        assert shown.returncode == 0 and '"autoslim"' in shown.stdout, f"after kill {number}: {shown.stderr}"
        if killed.returncode == 0:
            break
        for path in entries.glob("mine*"):
            path.unlink()
    assert killed.returncode == 0 and number > 6


def test_leaderboard(place):
    entries = place / "entries"
    entries.mkdir()
    for name in ("flops", "params"):
        shutil.copy(ROOT / "data" / "leaderboard" / f"{name}.json", entries)
    command = (HARNESS, "leaderboard", "--entries", "entries", *SPACE, "-o", "board", "--replicates", "20")
    made = ("board/README.md", "board/leaderboard.html")
    assert crash_everywhere(place, command, made) >= 6


def test_report(place, scores):
    (place / "report").mkdir()
    (place / "report" / "report.json").write_text("{}")
    command = (HARNESS, "report", *scores, *SPACE, "-o", "report", "--no-figures", "--replicates", "0", "--draws", "0")
    made = ("report/report.json", "report/report.md", "report/report.tex")
    assert crash_everywhere(place, (*command, "--arch-column", "index"), made) >= 9


def test_explore(place):
    assert crash_everywhere(place, (BENCH, "explore", "resnet-mini", "-o", "page.html"), ("page.html",)) >= 3


def test_collect(place):
    built = run(place, (BENCH, "build", "resnet-mini", "--archs", "3", "--runs", "1", "--epochs", "2", "--out", "runs"))
    assert built.returncode == 0, built.stderr
    command = (BENCH, "collect", "runs", "-o", "table.parquet")
    assert crash_everywhere(place, command, ("table.parquet",)) >= 6


def test_download(place, published_dir):
    command = (BENCH, "download", "--from", published_dir)
    made = tuple(f"data/{space}.cifar10-published.v1.parquet" for space in ("mobilenet", "resnet"))
    assert crash_everywhere(place, command, made) >= 6


def test_rank(place):
    (place / "widest.py").write_text(
        "class Widest:\n"
        "    def fit(self, task):\n"
        "        return self\n"
        "    def score(self, archs):\n"
        "        return archs.sum(1).astype(float)\n"
    )
    command = (HARNESS, "rank", "widest.py:Widest", *SPACE, "--no-truth", "-o", "scores.parquet")
    start = place.parent / "start"
    shutil.copytree(place, start)
    before = len(kills)
    for torn in (False, True):
        for number in range(1, MAX_KILLS):
            killed = run(place, command, number, torn)
            again = run(place, command)
            assert again.returncode == 0, f"after kill {number}: {again.stderr}"
            left = [name for name in contents(place) if TEMPORARY_PREFIX in name or ".partial" in name]
            assert left == [], f"left after kill {number}, torn {torn}"
            if killed.returncode == 0:
                break
            shutil.rmtree(place)
            shutil.copytree(start, place)
    assert len(kills) - before >= 6


def test_so_many_kills_were_survived():
    """The last of this file; one process runs them all (xdist_group)."""
    if {"enter", "leaderboard", "report", "explore", "collect", "download", "rank"} - set(kills):
        pytest.skip("counts only after all tests of this file")
    assert len(kills) >= TOTAL_KILLS
    print(f"{len(kills)} kills: " + ", ".join(f"{name} {kills.count(name)}" for name in sorted(set(kills))))
