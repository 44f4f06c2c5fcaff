"""A worker process: reads one ranking as a line of JSON from standard input, ranks, and writes its score file.

`harness.ranking.batch` starts it as ``python -m harness.ranking.worker`` and keeps its standard input open. The worker
ends when that input ends, because then the process that started it is gone: two processes must never work on one
ranking. What it has done by then is kept beside the score file. An error is one line on standard error and exit code 2.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from channel_bench.errors import ChannelBenchError
from channel_bench.support.terminal import EXIT_BAD_INPUT
from harness.ranking.request import RankRequest, prepare_task
from harness.ranking.run import rank_request


def main() -> None:
    """Do the ranking that standard input asks for."""
    # Ctrl-C reaches the whole process group; the process that started this one decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    request = RankRequest.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        rank_request(request, prepare_task(request.task))
    except ChannelBenchError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT) from None


def _end_with_input() -> None:
    # Not sys.stdin: at exit the interpreter would wait for the lock that a blocked reader holds.
    while os.read(0, 1024):
        pass
    os._exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()
