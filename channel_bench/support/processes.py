"""Names of processes on machines that share a file system, and whether a named process is certainly gone.

A name is ``machine.pid.started``: no two processes have the same one, not after a reboot and not when pids repeat.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import uuid
from pathlib import Path


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _machine() -> str:
    """Name of what pids are counted in: this boot of this host, and within it this container."""
    try:
        place = Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:  # no /proc; the address of a network card is unique, and a random number where there is none
        place = f"{uuid.getnode():x}"
    return hashlib.sha256(f"{platform.node()} {place}".encode()).hexdigest()[:12]


@functools.cache
def _name(pid: int) -> str:
    return f"{_machine()}.{pid}.{_started(pid)}"


def _started(pid: int) -> str | None:
    """When a process started, in ticks since boot; None where there is no such process, "0" where nobody can tell."""
    try:
        # The command's name stands in parentheses and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # a zombie does nothing any more
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "0"


def this_process() -> str:
    """Name of the calling process."""
    return _name(os.getpid())


def is_gone(name: str) -> bool:
    """Whether a process was one of this machine and exists no more; False for those of other machines."""
    machine, _, rest = name.partition(".")
    pid, _, started = rest.partition(".")
    return machine == _machine() and pid.isdecimal() and len(pid) < 20 and _started(int(pid)) != started
