"""The command ``channel-bench``: download and query tables, train networks, build tables, verify them.

Every command that prints a table prints JSON with --json. Bad input is one line on standard error and exit code 2.
torch is imported only by the commands that train. A file per group of commands; `options` is what they share.
"""

from __future__ import annotations

from channel_bench.cli import ask, audit, export, latency, make
from channel_bench.support.terminal import main_of, make_app

app = make_app("channel-bench", "Tables of Channel-Bench-Macro: download, query, build and verify them.")
for command in (
    ask.download,
    ask.query,
    ask.top,
    ask.pareto,
    make.train,
    make.evaluate,
    make.build,
    make.status,
    make.collect,
    audit.verify,
    audit.compare,
    latency.latency,
    ask.explore,
    export.export,
):
    app.command()(command)


def main() -> None:
    """Entry point of the console script."""
    main_of(app, "channel-bench")
