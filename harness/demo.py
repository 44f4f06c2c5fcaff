"""Everything on embedded data: train networks, write their table, train a supernet, score all widths, compare.

    channel-harness demo

Everything is small and everything is real: the digits are scanned handwriting, each row of the table is a network that
was trained here, and the report compares the supernet with those networks. Started again with the same folder it
continues. The table has few architectures, so its correlations are rough; the report says how many there are.
"""

from __future__ import annotations

from pathlib import Path

from channel_bench.builder.build import build
from channel_bench.builder.collect import collect
from channel_bench.builder.engines import Outcome
from channel_bench.builder.plan import Plan, Workers, pick_archs
from channel_bench.errors import ArgumentError
from channel_bench.space import get_space
from channel_bench.support.durable import check_writable
from channel_bench.support.terminal import progress, resumable, say
from channel_bench.table import Table
from harness.judge.comparison import Comparison, compare
from harness.ranking.request import RankRequest, TaskOptions, prepare_task
from harness.ranking.run import rank_request

SPACE = "resnet-mini"
METHOD = "autoslim"


def run_demo(out: Path, num_archs: int = 40, num_runs: int = 2, seed: int = 0, epochs: int | None = None) -> Comparison:
    """Build a small table, train a supernet, score all widths, compare.

    Args:
        out: Folder for runs/, table.parquet, table.h5 and scores.parquet.
        num_archs: Architectures to train, >= 2.
        num_runs: Runs of each.
        seed: Seed of the supernet.
        epochs: Epochs of the supernet; default those of its recipe.

    Returns:
        The comparison, for printing.
    """
    space = get_space(SPACE)
    # Everything that can be wrong is found before the long work starts.
    archs = pick_archs(space, str(num_archs))
    if num_archs < 2:
        raise ArgumentError(f"{num_archs} architectures have no correlation: allowed are 2 and above")
    options = TaskOptions(space=SPACE, seed=seed, epochs=epochs, device="cpu")
    request = RankRequest.of(METHOD, options, out / "scores.parquet")
    task = prepare_task(options)
    check_writable(out / "scores.parquet")
    say(f"1/4 training {num_archs} networks of {SPACE} x {num_runs} runs on handwritten digits")
    with (
        resumable(f"every finished run in {out / 'runs'}"),
        progress("training networks", num_archs * num_runs) as advance,
    ):

        def finished(outcome: Outcome) -> None:
            advance(1, f"{outcome.job.arch}: {outcome.best_test_acc or 0:.1f}%")

        build(
            Plan(space=space, archs=archs, num_runs=num_runs),
            out / "runs",
            Workers(device="cpu"),
            on_start=lambda planned, found, set_aside: advance(found, ""),
            on_outcome=finished,
        )
    say("2/4 collecting the table")
    collect(out / "runs", out / "table.parquet")
    table = Table.read(out / "table.parquet")
    say(f"3/4 training the {METHOD} supernet, then scoring all 16,384 widths")
    scores = rank_request(request, task)
    say("4/4 comparing the scores with the networks that were trained")
    return compare(scores, table)
