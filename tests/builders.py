"""Builders as processes of their own, whose runs end when a test says so.

What is to be killed in the middle of its work must be in the middle of it, on a machine of any speed. So every process
of these builders finds a gate where a run becomes durable: what is trained, and written to a temporary file under a
lease, gets its name in the folder only while fewer runs have one than the test allows. Nothing in the package knows of
it; trainings, files, leases and deaths are real ones.

Beside the folder of runs, files speak between the test and the processes: ``allowed`` (how many runs may be there; all
where it is missing) and ``trained`` (a line for every run that was trained, by whomever). While the file ``full`` is
where Python finds the gate, the disk is full.
"""

import ipaddress
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from channel_bench.support.durable import TEMPORARY_PREFIX
from channel_bench.support.processes import is_gone

ROOT = Path(__file__).parents[1]
PATIENCE_S = 300
NUM_PLANNED = 12
PLAN = ["resnet-mini", "--archs", "6", "--runs", "2", "--epochs", "2", "--device", "cpu"]


def read_records(store):
    """Every run of a store, in order of (architecture, run)."""
    return [store.read(key) for key in sorted(store.keys())]


_SITE = """
import fcntl, os, pathlib, time
import channel_bench.builder.store as store
add, link, sync = store.RunStore.add, os.link, os.fsync

def noting_add(self, record):
    with open(self.folder.parent / "trained", "a") as file:
        file.write(f"{record.arch}-{record.run}\\n")
    return add(self, record)

def gated_link(source, target):
    runs = pathlib.Path(target).parents[2]
    while True:
        try:
            file = open(runs.parent / "allowed")
        except FileNotFoundError:
            return link(source, target)
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)  # one by one, so that never more pass than may
            if len(list(runs.glob("parts/*/*.json"))) < int(file.read()):
                return link(source, target)
        time.sleep(0.02)

def sync_unless_full(descriptor):
    if os.path.exists(full):
        raise OSError(28, "No space left on device")
    sync(descriptor)

full = os.path.join(os.path.dirname(__file__), "full")
store.RunStore.add, os.link, os.fsync = noting_add, gated_link, sync_unless_full
"""


def gated(site):
    """Environment of processes that are held at the gate; what Python finds at their start is written to a folder."""
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_SITE)
    return os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}


def wait_for(condition, what, process=None):
    """Until something is so; a process that has to live until then says why where it does not."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.02)


def family(pid):
    """A process and all that descend from it."""
    children = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def listening(pids):
    """IP addresses on which processes wait for connections, as the system lists them."""
    sockets = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(os.readlink(path))
            except OSError:
                continue
    addresses = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in sockets:
                words = bytes.fromhex(local.partition(":")[0])  # each word of four bytes is little-endian
                packed = b"".join(words[start : start + 4][::-1] for start in range(0, len(words), 4))
                address = ipaddress.ip_address(packed)
                addresses.append(getattr(address, "ipv4_mapped", None) or address)
    return addresses


class Builds:
    """Builders of one folder of runs; those that are left are killed with the context.

    Args:
        folder: Where the folder of runs is to be.
        environment: Of the processes (`gated`).
    """

    def __init__(self, folder, environment):
        self.folder, self.out = folder, folder / "runs"
        self._environment = environment
        self._started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for builder in self._started:
            builder.kill()
            builder.communicate()

    def start(self, *more):
        """A builder of all planned runs."""
        command = [sys.executable, "-m", "channel_bench.cli", "build", *PLAN, "--out", self.out, *more]
        builder = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,  # so that a test can interrupt the whole group, as a terminal does
            # A shell without job control starts tests with interrupts ignored, and children would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._started.append(builder)
        return builder

    def finish(self, builder):
        """Standard output of a builder that has to succeed."""
        output, errors = builder.communicate(timeout=PATIENCE_S)
        assert builder.returncode == 0, errors
        return output

    def allow(self, num_runs=None):
        """Let so many runs become durable, those that are there included; all by default."""
        if num_runs is None:
            (self.folder / "allowed").unlink(missing_ok=True)
            return
        (self.folder / "next").write_text(str(num_runs))
        os.replace(self.folder / "next", self.folder / "allowed")

    def parts(self):
        """Inode, time of change and content of every run that is there; one trained again would have others."""
        found = {}
        for path in sorted(self.out.glob("parts/*/*.json")):
            status = path.stat()
            found[path.stem] = (status.st_ino, status.st_mtime_ns, path.read_bytes())
        return found

    def trained(self):
        """Every training that came to its end, as "arch-run", once for each time."""
        path = self.folder / "trained"
        return sorted(path.read_text().split()) if path.exists() else []

    def at_gate(self):
        """Runs that live processes wait to make durable."""
        found = self.out.glob(f"parts/*/{TEMPORARY_PREFIX}*")
        return [path for path in found if not is_gone(path.name.removeprefix(TEMPORARY_PREFIX).partition("-")[0])]

    def workers(self):
        """Live worker processes of the folder, found by their command lines."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"channel_bench.builder.engines.worker" in command and str(self.out).encode() in command:
                found.append(int(entry.name))
        return found
