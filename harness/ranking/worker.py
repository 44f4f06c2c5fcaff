"""A worker process that does one ranking, which is asked for as JSON, and writes its score file.

`harness.ranking.batch` starts it as ``python -m harness.ranking.worker`` (`channel_bench.support.workers`). What it has
done when it is ended is kept beside the score file.
"""

from __future__ import annotations

from channel_bench.support.workers import serve
from harness.ranking.request import RankRequest, prepare_task
from harness.ranking.run import rank_request


def _rank(line: str) -> None:
    request = RankRequest.from_json(line)
    rank_request(request, prepare_task(request.task))


if __name__ == "__main__":
    serve(_rank)
