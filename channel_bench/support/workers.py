"""Worker processes that do one piece of work each: asked by a line on standard input, ended when that input ends.

    reason = run_worker("harness.ranking.worker", request.to_json(), started)      # in the process that asks

    def main() -> None:                                                            # in the module of the worker
        serve(lambda line: rank(RankRequest.from_json(line)))

The process that asks keeps the input open. When it is gone, however it ended, the input ends, and the worker with it:
two processes must never do one piece of work. An error is one line on standard error and exit code 2.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from channel_bench.errors import ChannelBenchError, absent_module, missing_package
from channel_bench.support.terminal import EXIT_BAD_INPUT


def run_worker(module: str, line: str, started: list[subprocess.Popen[str]]) -> str:
    """Do a piece of work in a worker process.

    Args:
        module: What the worker runs, as ``python -m`` takes it.
        line: What is asked for, without a line break.
        started: The process is added to it, so that another thread can end it.

    Returns:
        The reason of a failure, or nothing.
    """
    return try_worker(module, line, started)[0]


def try_worker(
    module: str,
    line: str,
    started: list[subprocess.Popen[str]],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[str, bool]:
    """`run_worker` that also says whether the worker died, so that another try may go better.

    Args:
        module: As for `run_worker`.
        line: As for `run_worker`.
        started: As for `run_worker`.
        folder: The worker's current folder; None for that of this process.
        environment: The worker's environment; None for that of this process.

    Returns:
        The reason of a failure, or nothing; and whether a signal ended the worker.
    """
    with tempfile.TemporaryFile("w+") as errors:
        # Standard output is for the results of all workers.
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            text=True,
            cwd=folder,
            env=environment,
        )
        started.append(process)
        assert process.stdin is not None
        # A worker that ended before it read its request says why by its exit code and last line.
        with contextlib.suppress(BrokenPipeError), process.stdin:
            print(line, file=process.stdin, flush=True)
            process.wait()  # with its input open: the worker ends when that closes
        code = process.wait()
        if code == 0:
            return "", False
        errors.seek(0)
        lines = errors.read().splitlines()
    if code < 0:
        return f"it was ended by signal {-code}", True
    return lines[-1] if lines else f"exit code {code}", False


def serve(work: Callable[[str], object]) -> None:
    """Be a worker: do what the line on standard input asks for."""
    # Ctrl-C reaches the whole process group; the process that started this one decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = sys.stdin.readline()
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        work(line)
    except ImportError as error:
        absent = absent_module(error)
        if absent is None:
            raise
        print(missing_package("this work", absent, error), file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT) from None
    except ChannelBenchError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT) from None


def _end_with_input() -> None:
    # Not sys.stdin: at exit the interpreter would wait for the lock that a blocked reader holds.
    while os.read(0, 1024):
        pass
    os._exit(EXIT_BAD_INPUT)
