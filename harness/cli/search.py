"""The command that searches for a width under a budget: search."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from channel_bench.cli.options import (
    DataDirOption,
    DatasetOption,
    DeviceOption,
    DownloadOption,
    EpochsOption,
    JsonOption,
    MetricOption,
    PrecisionOption,
    TableOption,
    ThreadsOption,
)
from channel_bench.errors import ArgumentError
from channel_bench.space import Space, get_space
from channel_bench.support.reading import is_file
from channel_bench.support.terminal import parse_quantity, progress, say_if
from harness.cli.options import (
    ArchColumnOption,
    RunOption,
    ScoreColumnOption,
    SpaceOption,
    ValidateOnOption,
    parse_options,
)

if TYPE_CHECKING:
    from harness.method import Evaluator
    from harness.ranking.request import TaskOptions
    from harness.scores import Scores
    from harness.search.bill import FinalTraining
    from harness.searcher import Budget, Searcher


def search(
    scores_or_method: Annotated[
        str,
        typer.Argument(
            metavar="SCORES_OR_METHOD",
            help="File of scores (.csv, .parquet or .json); or a method to train now: its name, path/to/file.py:Class"
            " or module:Class.",
        ),
    ],
    space: SpaceOption,
    max_flops: Annotated[
        str | None, typer.Option(help="Largest FLOPs: 5e8, 500M, or 0.5x for half of the widest network.")
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(help="Largest number of parameters: 5e6, 5M, or 0.5x for half of the widest network.")
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(help="Largest memory of an inference of one image, bytes: 2e6, 2M, or 0.5x of the widest's."),
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(metavar="MS", help="Largest latency in ms, or 0.5x for half of the widest's; needs --latency."),
    ] = None,
    latency: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Latencies of the space, as 'channel-bench latency' measures them."),
    ] = None,
    searcher: Annotated[
        str,
        typer.Option(
            help="argmax, evolutionary, exhaustive, fur, greedy, random, an installed one, path/to/file.py:Class or"
            " module:Class."
        ),
    ] = "evolutionary",
    option: Annotated[
        list[str] | None, typer.Option("--option", help="Option of the searcher, NAME=VALUE; repeatable.")
    ] = None,
    method_option: Annotated[
        list[str] | None, typer.Option("--method-option", help="Option of the method, NAME=VALUE; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search, and of the supernet if one is trained.")] = 0,
    no_exhaustive: Annotated[
        bool,
        typer.Option(
            "--no-exhaustive", help="Skip the exhaustive reference, which scores every architecture within the budget."
        ),
    ] = False,
    train: Annotated[
        int, typer.Option(help="Train the found width from scratch with this many seeds, as the space's table was.")
    ] = 0,
    distill: Annotated[
        bool, typer.Option("--distill", help="With --train: the widest network teaches (knowledge distillation).")
    ] = False,
    arch_column: ArchColumnOption = None,
    score_column: ScoreColumnOption = None,
    table: TableOption = None,
    no_truth: Annotated[
        bool, typer.Option("--no-truth", help="Only search, without comparing the result; needs no table.")
    ] = False,
    dataset: DatasetOption = None,
    download_data: DownloadOption = False,
    validate_on: ValidateOnOption = "holdout",
    epochs: EpochsOption = None,
    precision: PrecisionOption = None,
    metric: MetricOption = "best_test_acc",
    run: RunOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Search for the best width within a budget.

    The search knows only the scores. The width that it finds is then compared with the trained truth: its accuracy,
    its rank among the architectures within the budget, and how far below the best of them it is. --epochs and
    --precision are of the supernet of a method that is trained now; --train trains the found width as the table says.
    """
    from channel_bench.table import load
    from harness.ranking.request import TaskOptions
    from harness.report.search_sheets import print_verdict
    from harness.search.regret import judge, search_and_judge
    from harness.searcher import SEARCHERS

    # Everything that can be wrong is found before the long work starts.
    found = get_space(space)
    options = TaskOptions(
        space=space,
        dataset=dataset,
        download=download_data,
        data_dir=data_dir,
        validate_on=validate_on,
        epochs=epochs,
        precision=precision,
        seed=seed,
        device=device,
        threads=threads,
    )
    if train < 0 or (distill and not train):
        raise ArgumentError(f"--train is {train}: allowed are 1 and above, and with --distill it must be given")
    budget = _budget(found, max_flops, max_params, max_memory, max_latency, latency)
    budget.check()
    chosen = _searcher(searcher, option or [], scores_or_method)
    truth = None if no_truth else load(found, table, data_dir)
    judge([], budget, found, truth, metric, run)
    if _is_file_of_scores(scores_or_method):
        asked = _read(scores_or_method, options, method_option, arch_column, score_column)
    elif arch_column is not None or score_column is not None:
        raise ArgumentError("--arch-column and --score-column are for a file of scores, not for a method")
    else:
        asked = _train(scores_or_method, options, method_option or [])
    with asked.setting:
        verdict = search_and_judge(
            asked.evaluator,
            budget,
            found,
            chosen,
            name=SEARCHERS.find(searcher).name,
            seed=seed,
            exhaustive=not no_exhaustive,
            table=truth,
            metric=metric,
            run=run,
            scored_by=asked.name,
            facts=asked.facts,
        )
    if train:
        verdict = verdict.with_final(_train_found(verdict.rows[0].arch, options, train, distill))
    print_verdict(verdict, json_output)


def _train_found(arch: str, options: TaskOptions, num_seeds: int, distill: bool) -> FinalTraining:
    """The found width from scratch, with a bar where standard error is a terminal."""
    from channel_bench.training.datasets import load_dataset
    from channel_bench.training.devices import pick_device, prepare_process
    from harness.search.final import train_final

    space = get_space(options.space)
    prepare_process(options.threads)
    data = load_dataset(
        options.dataset or space.dataset,
        data_dir=options.data_dir,
        download=options.download,
        device=pick_device(options.device),
    )
    with progress(f"training {arch}", num_seeds) as advance:
        return train_final(
            space, arch, num_seeds, data, distill=distill, on_done=lambda accuracy: advance(1, f"{accuracy:.2f}%")
        )


def _searcher(name: str, options: Sequence[str], scores_or_method: str) -> Searcher:
    """The searcher with its options; an option that is the method's is answered with the name of the other list."""
    from harness.searcher import SEARCHERS
    from harness.searchers import get_searcher

    given = parse_options(options)
    foreign = set(given) - set(SEARCHERS.find(name).options)
    if foreign and not _is_file_of_scores(scores_or_method):
        from harness.methods import find_method

        mine = sorted(foreign & set(find_method(scores_or_method).options))
        if mine:
            raise ArgumentError(
                f"searcher {name!r} has no option {mine[0]!r}, method {scores_or_method!r} has: write --method-option"
                f" {mine[0]}=..."
            )
    return get_searcher(name, **given)


class _Asked(NamedTuple):
    """What a search asks for scores."""

    evaluator: Evaluator | Scores
    name: str
    """Method that the scores are of."""
    facts: dict[str, Any]
    """How the scores were made."""
    setting: contextlib.AbstractContextManager[None]
    """Must surround the search."""


def _is_file_of_scores(text: str) -> bool:
    """Whether a text is a file of scores and no method; ``my.py`` and ``my.py:Class`` are methods."""
    path = Path(text)
    if not is_file(path) and ":" in path.name and path.suffix not in _SCORE_SUFFIXES:
        return False
    return path.suffix != ".py" and bool(path.suffix or is_file(path))


_SCORE_SUFFIXES = (".csv", ".parquet", ".json")


def _read(
    text: str,
    options: TaskOptions,
    method_options: Sequence[str] | None,
    arch_column: str | None,
    score_column: str | None,
) -> _Asked:
    """A file of scores, for which nothing is trained."""
    from harness.scores import read_scores

    if method_options:
        raise ArgumentError("--method-option is for a method that is trained, not for a file of scores")
    if options.precision is not None:
        raise ArgumentError("--precision is for a method that is trained, not for a file of scores: leave it out")
    scores = read_scores(Path(text), get_space(options.space), arch_column=arch_column, score_column=score_column)
    return _Asked(scores, scores.method, scores.facts, contextlib.nullcontext())


def _train(text: str, options: TaskOptions, method_options: Sequence[str]) -> _Asked:
    """Fit a method, to be asked for scores during the search."""
    from harness.ranking.request import RankRequest, prepare_task

    request = RankRequest.of(text, options, options=parse_options(method_options))
    from channel_bench.training.devices import precision_caution
    from channel_bench.training.step import arithmetic
    from harness.methods import get_method
    from harness.ranking.run import facts_of, fit

    task = prepare_task(options)
    say_if(precision_caution(task.recipe.precision, task.device))
    evaluator, fit_s = fit(request.name, get_method(text, **request.options), task, show=True)
    facts = facts_of(evaluator, task, request.options, request.code, fit_s)
    return _Asked(evaluator, request.name, facts, arithmetic(task.recipe.precision))


def _budget(
    space: Space,
    max_flops: str | None,
    max_params: str | None,
    max_memory: str | None,
    max_latency: str | None,
    latency: Path | None,
) -> Budget:
    """Join the limits that the options give into one budget."""
    from harness.searcher import Budget

    costs: list[tuple[str, str, str | None, Any]] = [
        ("flops", "--max-flops", max_flops, space.flops()),
        ("params", "--max-params", max_params, space.params()),
        ("memory", "--max-memory", max_memory, space.memory()),
    ]
    if (max_latency is None) != (latency is None):
        raise ArgumentError("--max-latency and --latency go together: a limit in ms, and the file that gives latencies")
    if latency is not None:
        from channel_bench.latency import load_latency

        costs.append(("latency_ms", "--max-latency", max_latency, load_latency(latency, space).predict(space.archs())))
    limits = [(name, values, parse_quantity(text, values[-1].item(), what)) for name, what, text, values in costs]
    budgets = [Budget(name, values, limit) for name, values, limit in limits if limit is not None]
    if not budgets:
        raise ArgumentError(
            "a search needs a budget: --max-flops, --max-params, --max-memory or --max-latency; 1x limits nothing"
        )
    return Budget.joint(budgets)
