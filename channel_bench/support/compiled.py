"""C++ that is compiled on first use: inner loops that NumPy and PyTorch cannot do fast.

    >>> library = load_library(Path(__file__).with_name("trainer.cpp"), "the native trainer")

The compiler of the machine ($CXX, else c++ or g++) makes a shared library in the user's cache folder, under a name that
changes with source, flags and compiler. Every user of such a library has a slower path for machines without a compiler.

A library runs as this user, so it is loaded only from a folder and a file that belong to this user and that nobody else
can write. A cache that does not load, or that others could have written, is compiled anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from channel_bench.errors import ArgumentError, ChannelBenchError
from channel_bench.support.durable import write_atomic
from channel_bench.support.folders import is_private, private_cache

_COMPILE_LIMIT_S = 120


@functools.cache
def load_library(source: Path, what: str) -> ctypes.CDLL:
    """Load the library of a C++ file; compile it if it is not in the cache.

    Args:
        source: The file, with functions that are extern "C".
        what: What it is, for messages ("the native trainer").

    Raises:
        ArgumentError: There is no compiler, or it failed.
    """
    compiler = shlex.split(os.environ.get("CXX", "")) or [shutil.which("c++") or shutil.which("g++") or ""]
    if not compiler[0]:
        raise ArgumentError(f"no C++ compiler was found (c++, or the one that $CXX names) to compile {what}")
    # Not -march=native: a fixed instruction set gives the same bits on every machine that has it.
    target = ["-march=x86-64-v3"] if platform.machine() in ("x86_64", "AMD64") else []
    flags = ["-std=c++17", "-O3", "-ffp-contract=fast", "-shared", "-fPIC", *target]
    try:
        version = subprocess.run(
            [*compiler, "--version"], capture_output=True, timeout=_COMPILE_LIMIT_S, check=True
        ).stdout
        key = hashlib.sha256(b"\0".join([source.read_bytes(), version, *(flag.encode() for flag in flags)]))
        path = private_cache("native") / f"{source.stem}-{key.hexdigest()[:16]}.so"
        if is_private(path):
            with contextlib.suppress(OSError):  # cut short by a full disk, or of another machine: compiled anew below
                return ctypes.CDLL(str(path))
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / "built.so"
            command = [*compiler, *flags, str(source), "-o", str(built)]
            subprocess.run(command, capture_output=True, timeout=_COMPILE_LIMIT_S, check=True)
            path.unlink(missing_ok=True)  # the name of a link to elsewhere, too, is free again
            write_atomic((path, built.read_bytes()))
            path.chmod(0o600)  # whatever the umask, or the next process would not load it
        return ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or b"").decode(errors="replace").strip().splitlines() or [""]
        first = next((line for line in lines if "error" in line), lines[0])
        raise ArgumentError(f"the C++ compiler {compiler[0]!r} cannot compile {what}: {first}") from None
    except (OSError, subprocess.SubprocessError, ChannelBenchError) as error:
        raise ArgumentError(f"{what} cannot be compiled or loaded: {error}") from None
