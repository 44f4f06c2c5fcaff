"""The command ``channel-harness``: see the demo, list methods, rank with one, score a file, judge, search.

Every command that prints a table prints JSON with --json. Bad input is one line on standard error and exit code 2.
A file per group of commands; `options` is what they share.
"""

from __future__ import annotations

from channel_bench.support.terminal import main_of, make_app
from harness.cli import board, experiment, judge, optimise, rank, search

app = make_app("channel-harness", "The judge of width-search methods: rank, score, compare with the trained truth.")
for command in (
    rank.demo,
    rank.methods,
    rank.rank,
    rank.check,
    judge.score,
    judge.baselines,
    judge.noise,
    judge.report,
    board.leaderboard,
    board.enter,
    board.check_entry,
    search.search,
    optimise.optimise,
    experiment.experiment,
):
    app.command()(command)


def main() -> None:
    """Entry point of the console script."""
    main_of(app, "channel-harness")
