"""Everything that is to be learnt from a GPU, in one command that can be cut off at any moment and goes on.

    python data/scripts/gpu_session.py --minutes 28 --data FOLDER --out OUT          # the first call; the next ones:
    python data/scripts/gpu_session.py --minutes 28 --data FOLDER --out OUT --resume OUT/session.json
    python data/scripts/gpu_session.py --minutes 4 --out OUT --smoke                 # all of it, tiny, on a CPU

Stages in the order of what they are worth (`STAGES`; gpu_stages.py says what each does): the tests that need a GPU;
milliseconds per training step; what shared graphs and fused kernels save; scoring of all sub-networks; full runs
against the published accuracies; a supernet per method and space. Each is a process of its own, which prints a row for
each thing that it has measured. A stage that no longer fits into the minutes is left out; one that hangs or fails is
ended and noted, and the next one begins.

OUT/session.json is rewritten whole after every row: card, driver, versions, rows, and how each stage ended. After a
stage its stores and score files are packed into OUT/STAGE.tar.xz. So OUT holds at most 8 files of at most 16 MiB, which
is all that must be brought home; to go on elsewhere, take all of OUT along, not session.json alone. Unfinished
trainings are in the folder --work; without it, on another machine, they begin anew, and what OUT holds does not. Images
of a folder are decoded once and kept in the data folder, or in WORK/images where a machine has none.

A call ends after --call-minutes at the latest, and says so: exit code 3. Exit code 0: all stages are through, 1: all
are through and some failed or left rows out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from channel_bench.errors import ArgumentError, ChannelBenchError, CorruptFileError, MissingPackageError
from channel_bench.support.durable import write_atomic
from channel_bench.support.folders import default_data_dir

MAX_PACK_BYTES = 16 * 2**20
ROW = "ROW "
"""What a line of a stage begins with that is a row; the rest is JSON with a ``key``."""
GRACE_S = 10.0
"""Between the polite and the hard end of a stage; also what packing may take."""
CONTINUE, RESTART = 3, 4
"""Exit codes: another call is needed, or a stage has left rows for one; a stage is to go on in a new process."""
OPEN, ENDED = "open", ("done", "failed", "timed out", "skipped")
"""How a stage that goes on, and how one that is over, is noted."""
TO_LEASE = ("leases", "builders")
"""Folders of a store that say who is at work; packed, they would keep the next machine from going on at once."""


@dataclass(frozen=True)
class Stage:
    """A part of the session."""

    name: str
    command: Sequence[str]
    """Program that prints rows; it gets ``--done KEYS`` (a list in JSON) and ``--seconds S``."""
    estimate_s: float
    """Seconds that it takes as a whole, by a model; it gets twice as many."""
    least_s: float
    """Seconds without which it is not worth beginning: of its start and one row."""
    packs: Sequence[str] = ()
    """Patterns of what it leaves in the folder of the work that is to be kept."""


class Session:
    """The state of a session, in a file that is rewritten after every row.

    Args:
        out: Folder of results.
        work: Folder of everything else.
        minutes: For the whole session, all its calls together.
        call_minutes: For this call.

    Raises:
        ArgumentError: There is a session that was not asked for, or none where one was.
        CorruptFileError: The session to go on with cannot be read.
    """

    def __init__(self, out: Path, work: Path, minutes: float, call_minutes: float, resume: Path | None = None) -> None:
        """Begin, or go on with what an earlier call has left."""
        self.out, self.work, self.file = out, work, out / "session.json"
        self._started, self._call_s = time.monotonic(), 60 * call_minutes
        if resume is None and self.file.exists():
            raise ArgumentError(f"{str(self.file)!r} is there: add --resume {self.file}, or choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)
        self.state: dict[str, Any] = {"minutes": minutes, "used_s": 0.0, "calls": 0, "stages": {}, "rows": []}
        if resume is not None:
            self.state |= _read(resume) | {"minutes": minutes}
            self._unpack(resume.parent)
        self._used_before = self.state["used_s"]
        self.state["calls"] += 1
        self.save()

    def left_s(self) -> float:
        """Seconds of the session that are left."""
        return 60 * self.state["minutes"] - self._used_before - (time.monotonic() - self._started)

    def call_left_s(self) -> float:
        """Seconds of this call that are left."""
        return min(self.left_s(), self._call_s - (time.monotonic() - self._started))

    def keys(self, stage: str) -> list[str]:
        """Rows of a stage that are there."""
        return [row["key"] for row in self.state["rows"] if row["stage"] == stage]

    def add(self, stage: str, row: dict[str, Any]) -> None:
        """Keep a row, in place of an earlier one with its key."""
        kept = [each for each in self.state["rows"] if (each["stage"], each["key"]) != (stage, row["key"])]
        self.state["rows"] = [*kept, {"stage": stage, **row}]
        self.save()

    def note(self, stage: str, **facts: Any) -> None:
        """Note how a stage went."""
        self.state["stages"][stage] = self.state["stages"].get(stage, {}) | facts
        self.save()

    def save(self) -> None:
        """Rewrite the file."""
        self.state["used_s"] = round(self._used_before + time.monotonic() - self._started, 1)
        write_atomic((self.file, json.dumps(self.state, indent=1).encode()))

    def pack(self, stage: Stage) -> None:
        """Pack what a stage leaves; more than may be brought home stays where it is, and is noted."""
        files = sorted({path for pattern in stage.packs for path in self.work.glob(pattern) if path.is_file()})
        files = [path for path in files if not any(map(_is_of_work_at_hand, path.relative_to(self.work).parts))]
        if not files:
            return
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
            for path in files:
                archive.add(path, str(path.relative_to(self.work)))
        size = len(buffer.getvalue())
        if size > MAX_PACK_BYTES:
            self.note(
                stage.name, pack=f"left in the folder of the work: {size:,} bytes are more than {MAX_PACK_BYTES:,}"
            )
            return
        write_atomic((self.out / f"{stage.name}.tar.xz", buffer.getvalue()))
        self.note(stage.name, pack=f"{stage.name}.tar.xz", packed_files=len(files))

    def _unpack(self, folder: Path) -> None:
        """Bring back what earlier calls packed, where this machine does not have it."""
        for path in sorted(folder.glob("*.tar.xz")):
            try:
                with tarfile.open(path) as archive:
                    for member in archive.getmembers():
                        if member.isfile() and not (self.work / member.name).exists():
                            archive.extract(member, self.work, filter="data")
            except (tarfile.TarError, EOFError, OSError) as error:
                raise CorruptFileError(f"{str(path)!r} cannot be unpacked ({error}): delete it to go on") from None
            if path.parent != self.out:
                write_atomic((self.out / path.name, path.read_bytes()))


def _read(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_bytes())
        if not all(isinstance(row["key"], str) and isinstance(row["stage"], str) for row in state["rows"]):
            raise ValueError("a row has no stage or key")
        return {**state, "used_s": float(state["used_s"]), "calls": int(state["calls"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"session {str(path)!r} cannot be read ({error}): start without --resume") from None


def run_session(session: Session, stages: Sequence[Stage], show: Callable[[str], None]) -> int:
    """Run what is left of the stages.

    Returns:
        The exit code.
    """
    for stage in stages:
        if session.state["stages"].get(stage.name, {}).get("status") in ENDED:
            continue
        if session.left_s() < stage.least_s:
            session.note(stage.name, status="skipped", reason=_too_late(stage, session.left_s()))
            show(f"{stage.name}: skipped, {_too_late(stage, session.left_s())}")
            continue
        if session.call_left_s() < stage.least_s:
            show(f"{stage.name}: not begun, this call has {session.call_left_s():.0f} s left; start it again: --resume")
            return CONTINUE
        if not _run_stage(session, stage, show):
            show(f"{stage.name}: goes on in the next call, by --resume {session.file}")
            return CONTINUE
    bad = [name for name, facts in session.state["stages"].items() if facts["status"] != "done"]
    session.state["over"] = True
    session.save()
    show(f"all stages are through, {f'but {chr(44).join(bad)}' if bad else 'all well'}; bring home {session.out}")
    return 1 if bad else 0


def _too_late(stage: Stage, left_s: float) -> str:
    return f"it needs {stage.least_s:.0f} s at least, {max(0.0, left_s):.0f} s are left"


def _run_stage(session: Session, stage: Stage, show: Callable[[str], None]) -> bool:
    """Run a stage as far as it gets; whether it is over."""
    before = session.state["stages"].get(stage.name, {}).get("seconds", 0.0)
    limit_s = max(stage.least_s, 2 * stage.estimate_s - before)
    allowed_s = max(1.0, min(limit_s, session.call_left_s() - GRACE_S))
    show(f"{stage.name}: about {stage.estimate_s:.0f} s, at most {allowed_s:.0f} s in this call")
    session.note(stage.name, status=OPEN)
    started = time.monotonic()
    log = session.work / f"{stage.name}.log"
    code: int | None = RESTART
    while code == RESTART:
        left_s = allowed_s - (time.monotonic() - started)
        code = _run_once(session, stage, left_s, log, show) if left_s > 0 else None
    seconds = round(before + time.monotonic() - started, 1)
    session.note(stage.name, seconds=seconds)
    if any("error" in row for row in session.state["rows"] if row["stage"] == stage.name):
        session.note(stage.name, log=_end_of(log))  # processes of the stage may have said more than a row could
    session.pack(stage)
    return _conclude(session, stage, code, seconds, log, show)


def _run_once(session: Session, stage: Stage, allowed_s: float, log: Path, show: Callable[[str], None]) -> int | None:
    """Run a stage in one process, and keep its rows; its exit code, or None where its time was up."""
    started, code = time.monotonic(), None
    with _started(session, stage, allowed_s, log) as (process, lines):
        while code is None:
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=max(0.05, min(1.0, allowed_s - (time.monotonic() - started))))
                if line is None:
                    code = process.wait()
                elif line.startswith(ROW):
                    row = json.loads(line[len(ROW) :])
                    session.add(stage.name, row)
                    show(f"{stage.name}: {line[len(ROW) :].strip()[:200]}")
            if code is None and time.monotonic() - started > allowed_s:
                break
    return code


def _conclude(
    session: Session, stage: Stage, code: int | None, seconds: float, log: Path, show: Callable[[str], None]
) -> bool:
    """Note how a stage ended; whether it is over. A code of None: it was ended, because its time was up."""
    if code == 0:
        session.note(stage.name, status="done")
    elif code not in (None, CONTINUE):
        tail = _end_of(log)
        session.note(stage.name, status="failed", reason=f"exit code {code}", log=tail)
        show(f"{stage.name}: failed with exit code {code}: {tail[-300:]}")
    elif session.left_s() - GRACE_S > stage.least_s and seconds + stage.least_s < 2 * stage.estimate_s:
        return False
    else:
        session.note(stage.name, status="timed out", reason=f"{seconds:.0f} s were not enough for all rows")
        show(f"{stage.name}: its time is up; its rows so far are kept")
    return True


def _is_of_work_at_hand(name: str) -> bool:
    return name.endswith(".partial") or name in TO_LEASE


def _end_of(log: Path) -> str:
    return log.read_bytes()[-2000:].decode(errors="replace")


@contextlib.contextmanager
def _started(
    session: Session, stage: Stage, seconds: float, log: Path
) -> Iterator[tuple[subprocess.Popen[str], queue.Queue[str | None]]]:
    """The process of a stage, with what it prints line by line and None at its end; it and all that it began end here.

    Its standard input stays open as long as this process lives; a stage ends itself when it closes (`gpu_stages`).
    """
    words = [*stage.command, "--work", str(session.work), "--seconds", f"{seconds:.0f}"]
    words += ["--done", json.dumps(session.keys(stage.name))]
    with log.open("ab") as errors:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    lines: queue.Queue[str | None] = queue.Queue()
    assert process.stdout is not None

    def pump(stdout: Any) -> None:
        for line in stdout:
            lines.put(line)
        lines.put(None)

    reader = threading.Thread(target=pump, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield process, lines
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S if sign == signal.SIGTERM else None)
        reader.join(GRACE_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def make_stages(data: str, published: Path | None, device: str, smoke: bool) -> list[Stage]:
    """The stages of a session, the most valuable first."""
    program = [sys.executable, str(Path(__file__).with_name("gpu_stages.py"))]
    options = ["--data", data, "--device", device]
    options += ["--published", str(published)] if published else []
    options += ["--smoke"] if smoke else []
    # Estimates in seconds: of the whole stage, and of its start with one row. A model; no GPU has run this yet.
    plan: list[tuple[str, float, float, tuple[str, ...]]] = [
        ("facts", 45, 20, ()),  # a new machine reads all of PyTorch from disk once
        ("tests", 240, 60, ()),
        ("steps", 330, 60, ()),
        ("kernels", 150, 60, ()),
        ("scoring", 240, 40, ()),
        ("validation", 560, 100, ("validation/**/*",)),
        ("supernets", 900, 120, ("supernets/*.parquet",)),
    ]
    return [
        Stage(name, [*program, name, *options], 120 if smoke else estimate, 5 if smoke else least, packs)
        for name, estimate, least, packs in plan
    ]


def keep_images(work: Path) -> None:
    """Where this machine has no place for decoded images, make one, or each process would decode them anew."""
    try:
        default_data_dir()
    except MissingPackageError:
        os.environ["CHANNEL_BENCH_DATA"] = str(work.resolve() / "images")


def main() -> None:
    """Run a session, or what is left of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=28, help="for all calls together")
    parser.add_argument("--call-minutes", type=float, default=9.2, help="for this call")
    parser.add_argument("--data", default="cifar10", help="cifar10, or a folder of Parquet images")
    parser.add_argument("--published", type=Path, help="folder of the two published JSON files, to compare with")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is to be brought home")
    parser.add_argument("--work", type=Path, help="folder of everything else [OUT-work]")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="session.json of an earlier call")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--smoke", action="store_true", help="the whole line on tiny settings, on the CPU")
    arguments = parser.parse_args()
    try:
        for name in ("minutes", "call_minutes"):
            if not 0 < getattr(arguments, name) < 1e6:
                raise ArgumentError(
                    f"--{name.replace('_', '-')} is {getattr(arguments, name)}: allowed are numbers > 0"
                )
        work = arguments.work or arguments.out.with_name(arguments.out.name + "-work")
        data, device = ("digits", "cpu") if arguments.smoke else (arguments.data, arguments.device)
        keep_images(work)
        session = Session(arguments.out, work, arguments.minutes, arguments.call_minutes, arguments.resume)
        session.state["command"] = sys.argv[1:]
        stages = make_stages(data, arguments.published, device, arguments.smoke)
        code = run_session(session, stages, lambda text: print(text, file=sys.stderr, flush=True))
    except ChannelBenchError as error:
        print(f"gpu_session: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
