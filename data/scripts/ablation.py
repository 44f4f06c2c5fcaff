"""What takes noise out of a method's scores without any truth, and how much: fits, samples, seeds, the loss.

    python data/scripts/ablation.py --space mobilenet seed0.parquet seed1.parquet seed2.parquet
    python data/scripts/ablation.py --space resnet bin20_min1_bcnet_2_resnet.json --json

Files whose scores carry the same method name (the facts of a Parquet file, else the file's name; `--method` names
all) are supernet seeds of one method. For each method: its scores as they are; each form of `harness.smoothing` fitted
to all, and to `--samples` random ones `--draws` times; the same from the column of losses (`--loss-column`) where the
files have it, as minus the loss; and, with several seeds, the mean over seeds (`--average`), raw and fitted. Beside
them FLOPs and the sum of log widths. Every row is correlated with the truth on the same architectures: those that have
an accuracy and a score in every file. "sd" is the standard deviation of Kendall over seeds and draws. Fits see scores
only; the truth enters when a row is finished.

Choosing among the rows by their Kendall is choosing by the truth: a form has to be fixed beforehand.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import channel_bench as cb
from channel_bench.errors import ArgumentError, ChannelBenchError
from channel_bench.space import NUM_ARCHS, Space
from channel_bench.support.terminal import print_json, print_table
from channel_bench.table import Table
from harness.judge.baselines import baseline_scores
from harness.scores import Scores, column_names, make_scores, read_scores
from harness.smoothing import AVERAGES, FORMS, average_scores, smooth_scores
from harness.stats.metrics import correlations

BASELINES = ("flops", "sum-log-width")


@dataclass(frozen=True)
class Row:
    """Correlations of one treatment of one method's scores, mean over repeats."""

    scores: str
    """Method, with what its scores are where that is not its score column."""
    treatment: str
    """"raw", a form of `harness.smoothing`, or "baseline"."""
    fitted_to: int | None
    """Number of scores that the form was fitted to; None where nothing was fitted."""
    repeats: int
    """Seeds, times draws where scores are sampled."""
    kendall: float
    kendall_sd: float | None
    """Over repeats (ddof=1); None for one repeat."""
    spearman: float
    pearson: float
    r2: float | None
    """Share of the variance of the scores that an additive fit explains; the truth has no part in it."""


def ablation(
    seeds: Sequence[Scores],
    truth: np.ndarray,
    both: np.ndarray,
    *,
    name: str,
    samples: int,
    draws: int,
    average: str,
) -> list[Row]:
    """Rows of one method.

    Args:
        seeds: Its scores by each supernet seed.
        truth: float64 (16384,), NaN where there is none.
        both: bool (16384,), architectures to correlate on.
        name: What the rows are called.
        samples: Random scores that a form is fitted to, beside all.
        draws: Repeats of that.
        average: How to average over seeds.
    """

    def row(name: str, treatment: str, repeats: Iterable[Scores]) -> Row:
        return summarise(name, treatment, list(repeats), truth, both)

    rows = [row(name, "raw", seeds)]
    rows += [row(name, form, [smooth_scores(seed, form) for seed in seeds]) for form in FORMS]
    for form in FORMS:
        drawn = [smooth_scores(seed, form, samples, draw) for seed in seeds for draw in range(draws)]
        rows.append(row(name, form, drawn))
    if len(seeds) > 1:
        together = average_scores(seeds, average)
        label = f"{name}, {average} of {len(seeds)} seeds"
        rows.append(row(label, "raw", [together]))
        rows += [row(label, form, [smooth_scores(together, form)]) for form in FORMS]
    return rows


def summarise(name: str, treatment: str, repeats: Sequence[Scores], truth: np.ndarray, both: np.ndarray) -> Row:
    """Correlate each repeat with the truth, and average."""
    found = [correlations(on_all(scores)[both], truth[both]) for scores in repeats]
    fits = [scores.facts["smoothing"] for scores in repeats] if treatment in FORMS else []
    kendall = [each.kendall for each in found]
    return Row(
        scores=name,
        treatment=treatment,
        fitted_to=fits[0]["num_scores"] if fits else None,
        repeats=len(found),
        kendall=float(np.mean(kendall)),
        kendall_sd=float(np.std(kendall, ddof=1)) if len(kendall) > 1 else None,
        spearman=float(np.mean([each.spearman for each in found])),
        pearson=float(np.mean([each.pearson for each in found])),
        r2=float(np.mean([fit["r2"] for fit in fits])) if fits and "r2" in fits[0] else None,
    )


def on_all(scores: Scores) -> np.ndarray:
    """float64 (16384,) in index order, NaN where there is no score."""
    values = np.full(NUM_ARCHS, np.nan)
    values[scores.indices] = scores.values
    return values


def read_methods(
    paths: Sequence[Path], space: Space, *, method: str | None, loss_column: str
) -> dict[str, list[Scores]]:
    """Scores by method and what they are: accuracy as "name", minus the loss as "name by loss"; one of each seed."""
    found: dict[str, list[Scores]] = {}
    losses: dict[str, list[Scores]] = {}
    for path in paths:
        scores = read_scores(path, space)
        name = method or scores.method
        found.setdefault(name, []).append(scores)
        if loss_column.lower() in column_names(path):
            loss = read_scores(path, space, score_column=loss_column)
            by_loss = make_scores(name, space, loss.indices, -loss.values, loss.facts)
            losses.setdefault(name, []).append(by_loss)
    for name, seeds in losses.items():
        if len(seeds) < len(found[name]):
            raise ArgumentError(f"{len(found[name]) - len(seeds)} of the files of {name!r} have no {loss_column!r}")
        found[f"{name} by loss"] = seeds
    return found


def run(
    paths: Sequence[Path],
    table: Table,
    *,
    samples: int = 256,
    draws: int = 10,
    average: str = "mean",
    method: str | None = None,
    loss_column: str = "val_loss",
) -> tuple[list[Row], int]:
    """All rows, and the number of architectures that they rest on.

    Raises:
        ArgumentError: Fewer than 2 architectures have an accuracy and all scores, or the scores of a file do not
            determine the forms.
    """
    methods = read_methods(paths, table.space, method=method, loss_column=loss_column)
    truth = table.accuracies()
    both = np.isfinite(truth)
    for seeds in methods.values():
        for seed in seeds:
            both &= np.isfinite(on_all(seed))
    if both.sum() < 2:
        raise ArgumentError(f"{int(both.sum())} architectures have an accuracy and all scores: at least 2 are needed")
    rows: list[Row] = []
    for name, seeds in methods.items():
        rows += ablation(seeds, truth, both, name=name, samples=samples, draws=draws, average=average)
    free = baseline_scores(table.space)
    for name in BASELINES:
        scores = make_scores(name, table.space, np.arange(NUM_ARCHS), free[name])
        rows.append(summarise(name, "baseline", [scores], truth, both))
    return rows, int(both.sum())


def show(rows: Sequence[Row], table: Table, num_archs: int) -> None:
    """Print rows as a table."""

    def decimals(value: float | None) -> str:
        return "-" if value is None else "undefined" if np.isnan(value) else f"{value:.4f}"

    print_table(
        ["scores", "treatment", "fitted to", "repeats", "Kendall", "sd", "Spearman", "Pearson", "R2"],
        [
            [
                row.scores,
                row.treatment,
                row.fitted_to,
                row.repeats,
                *map(decimals, (row.kendall, row.kendall_sd, row.spearman, row.pearson, row.r2)),
            ]
            for row in rows
        ],
        title=f"space {table.space.name}, table {table.name}: {num_archs:,} architectures",
        caption=f"truth: {table.meaning('best_test_acc', None)}",
    )


def main() -> None:
    """Read, correlate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="score files of one space: .csv, .parquet or .json")
    parser.add_argument("--space", required=True)
    parser.add_argument("--table", help="name or file of the table [the space's own]")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, default=256, help="random scores that a form is fitted to, beside all")
    parser.add_argument("--draws", type=int, default=10, help="repeats of that")
    parser.add_argument("--average", choices=AVERAGES, default="mean", help="how to average over seeds")
    parser.add_argument("--method", help="all files are seeds of this method")
    parser.add_argument("--loss-column", default="val_loss", help="column of losses, where files have one")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.draws < 1:
        parser.error(f"--draws is {arguments.draws}: allowed are 1 and above")
    try:
        table = cb.load(arguments.space, arguments.table, arguments.data_dir)
        rows, num_archs = run(
            arguments.files,
            table,
            samples=arguments.samples,
            draws=arguments.draws,
            average=arguments.average,
            method=arguments.method,
            loss_column=arguments.loss_column,
        )
    except ChannelBenchError as error:
        parser.exit(2, f"ablation: {' '.join(str(error).split())}\n")
    if arguments.json:
        found = {"space": table.space.name, "table": table.name, "num_archs": num_archs}
        print_json({**found, "rows": [dataclasses.asdict(row) for row in rows]})
    else:
        show(rows, table, num_archs)


if __name__ == "__main__":
    main()
