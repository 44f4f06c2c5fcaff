"""The command that searches for a width under a budget: search."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from channel_bench.cli.options import (
    DataDirOption,
    DatasetOption,
    DeviceOption,
    DownloadOption,
    EpochsOption,
    JsonOption,
    MetricOption,
    TableOption,
    ThreadsOption,
)
from channel_bench.errors import ArgumentError
from channel_bench.space import Space, get_space
from channel_bench.support.terminal import (
    parse_quantity,
)
from harness.cli.options import RunOption, SpaceOption, parse_options

if TYPE_CHECKING:
    from harness.method import Evaluator
    from harness.scores import Scores
    from harness.searcher import Budget


def search(
    scores_or_method: Annotated[
        str,
        typer.Argument(
            metavar="SCORES_OR_METHOD", help="File of scores (.csv, .parquet, .json), or a method, trained now."
        ),
    ],
    space: SpaceOption,
    max_flops: Annotated[str | None, typer.Option(help="Budget: 5e8, 500M, or 0.5x of the widest.")] = None,
    max_params: Annotated[str | None, typer.Option(help="Budget: 5e6, 5M, or 0.5x of the widest.")] = None,
    max_latency: Annotated[
        str | None, typer.Option(metavar="MS", help="Budget in ms, or 0.5x of the widest; needs --latency.")
    ] = None,
    latency: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Measured latencies of the space.")] = None,
    searcher: Annotated[
        str, typer.Option(help="argmax, evolutionary, exhaustive, fur, greedy, random or an installed one.")
    ] = "evolutionary",
    option: Annotated[
        list[str] | None, typer.Option("--option", help="Option of the searcher, NAME=VALUE; repeatable.")
    ] = None,
    method_option: Annotated[
        list[str] | None, typer.Option("--method-option", help="Option of the method, NAME=VALUE; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search, and of the supernet where one is trained.")] = 0,
    no_exhaustive: Annotated[
        bool, typer.Option("--no-exhaustive", help="Do not ask for everything that fits to have a reference.")
    ] = False,
    table: TableOption = None,
    no_truth: Annotated[bool, typer.Option("--no-truth", help="Only search; needs no table.")] = False,
    dataset: DatasetOption = None,
    download_data: DownloadOption = False,
    validate_on: Annotated[
        str, typer.Option(help="Score on held-out training images (holdout) or on the test images (test).")
    ] = "holdout",
    epochs: EpochsOption = None,
    metric: MetricOption = "best_test_acc",
    run: RunOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Search for the best width within a budget, by scores; compare what is found with the truth."""
    from channel_bench.table import load
    from harness.report.search_sheets import print_verdict
    from harness.search.regret import judge, search_and_judge
    from harness.searchers import get_searcher

    # What can be wrong is found before the long work starts.
    found = get_space(space)
    if seed < 0:
        raise ArgumentError(f"seed {seed} is negative: allowed are 0 and above")
    if threads < 1:
        raise ArgumentError(f"number of threads is {threads}: allowed are 1 and above")
    budget = _budget(found, max_flops, max_params, max_latency, latency)
    budget.check()
    chosen = get_searcher(searcher, **parse_options(option or []))
    truth = None if no_truth else load(found, table, data_dir)
    judge([], budget, found, truth, metric, run)
    context: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    evaluator: Evaluator | Scores
    if Path(scores_or_method).suffix or Path(scores_or_method).is_file():
        from harness.scores import read_scores

        if method_option:
            raise ArgumentError("--method-option is for a method that is trained, not for a file of scores")
        scores = evaluator = read_scores(Path(scores_or_method), found)
        scored_by, facts = scores.method, scores.facts
    else:
        from harness.methods import get_method

        method_options = parse_options(method_option or [])
        method = get_method(scores_or_method, **method_options)
        import torch

        from channel_bench.training.datasets import load_dataset
        from channel_bench.training.devices import pick_device
        from channel_bench.training.step import arithmetic
        from harness.ranking.run import facts_of, fit
        from harness.task import make_task, supernet_recipe

        torch.set_num_threads(threads)
        target = pick_device(device)
        data = load_dataset(dataset or found.dataset, data_dir=data_dir, download=download_data, device=target)
        task = make_task(found, data, seed=seed, recipe=supernet_recipe(found, epochs), validate_on=validate_on)
        evaluator, fit_s = fit(scores_or_method, method, task, show=True)
        scored_by, facts, context = scores_or_method, facts_of(evaluator, task, method_options, fit_s), arithmetic()
    with context:
        verdict = search_and_judge(
            evaluator,
            budget,
            found,
            chosen,
            name=searcher,
            seed=seed,
            exhaustive=not no_exhaustive,
            table=truth,
            metric=metric,
            run=run,
            scored_by=scored_by,
            facts=facts,
        )
    print_verdict(verdict, json_output)


def _budget(
    space: Space, max_flops: str | None, max_params: str | None, max_latency: str | None, latency: Path | None
) -> Budget:
    """The budget that the options describe."""
    from harness.searcher import Budget

    costs: list[tuple[str, str, str | None, Any]] = [
        ("flops", "--max-flops", max_flops, space.flops()),
        ("params", "--max-params", max_params, space.params()),
    ]
    if (max_latency is None) != (latency is None):
        raise ArgumentError("--max-latency and --latency go together: a limit in ms, and the file that gives latencies")
    if latency is not None:
        from channel_bench.latency import load_latency

        costs.append(("latency_ms", "--max-latency", max_latency, load_latency(latency, space).predict(space.archs())))
    limits = [(name, values, parse_quantity(text, values[-1].item(), what)) for name, what, text, values in costs]
    budgets = [Budget(name, values, limit) for name, values, limit in limits if limit is not None]
    if not budgets:
        raise ArgumentError("a search needs a budget: --max-flops, --max-params or --max-latency; 1x limits nothing")
    return Budget.joint(budgets)
