"""Commands that fit methods and check them: demo, methods, rank, check."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from channel_bench.cli.options import (
    SPACES_HELP,
    AddressOption,
    DataDirOption,
    DatasetOption,
    DeviceOption,
    DownloadOption,
    EngineOption,
    EpochsOption,
    JsonOption,
    LogOption,
    MetricOption,
    PrecisionOption,
    TableOption,
    TensorboardOption,
    ThreadsOption,
)
from channel_bench.errors import ArgumentError, unknown_name
from channel_bench.space import get_space
from channel_bench.support.curves import CurveLog
from channel_bench.support.durable import check_writable
from channel_bench.support.processes import num_cores
from channel_bench.support.terminal import counted, print_json, print_table, progress, resumable, say, say_if, show
from harness.cli.options import RunOption, SpaceOption, ValidateOnOption, options_by_method, parse_options

if TYPE_CHECKING:
    from harness.check.checker import Finding
    from harness.outline import Outline
    from harness.ranking.engines import Engine
    from harness.ranking.request import RankRequest, TaskOptions
    from harness.scores import Scores
    from harness.task import Task


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write to; with the same folder it continues.")
    ] = Path("channel-bench-demo"),
    archs: Annotated[int, typer.Option(help="Networks to train, each twice.")] = 40,
    epochs: EpochsOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the supernet.")] = 0,
    json_output: JsonOption = False,
) -> None:
    """Try everything on small embedded data.

    Trains networks and writes their table, trains a supernet and scores all widths, then compares the two. Takes about
    two minutes.
    """
    from harness.demo import run_demo
    from harness.report.sheets import print_comparison

    comparison = run_demo(out, archs, seed=seed, epochs=epochs)
    print_comparison(comparison, json_output)
    say(f"wrote {out}/runs, {out}/table.parquet, {out}/table.h5 and {out}/scores.parquet")


def methods(json_output: JsonOption = False) -> None:
    """List all methods with their options.

    Lists the methods of the package and those that other installed packages add. A method in a file needs no
    installation: give it to 'rank', 'check' or 'search' as path/to/file.py:Class.
    """
    from harness.methods import list_methods

    found = [(info, _shown_options(info)) for info in list_methods()]
    if json_output:
        print_json(
            [{"name": i.name, "paper": i.paper, "summary": i.summary, "options": options} for i, options in found]
        )
        return
    print_table(
        ["method", "summary", "paper", "options"],
        [
            [info.name, info.summary, info.paper, " ".join(f"{name}={value}" for name, value in options.items())]
            for info, options in found
        ],
    )


def _shown_options(info: Outline) -> dict[str, Any]:
    """Options with their defaults; a default that JSON cannot hold, as text."""
    return {
        name: default if isinstance(default, (bool, int, float, str, type(None))) else str(default)
        for name, default in info.options.items()
    }


def rank(
    method: Annotated[
        str,
        typer.Argument(
            metavar="METHOD",
            help="Name of a method ('channel-harness methods' lists them), path/to/file.py:Class or module:Class;"
            " several with commas; or all. METHOD+FORM ranks by a fit to the scores: consensus, log, linear, onehot,"
            " concave, log-rising or root-log-rising.",
        ),
    ],
    space: SpaceOption,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Score file to write (.parquet). For several methods or seeds a folder [default: scores-SPACE].",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            help="NAME=VALUE, for every chosen method that has this option, or METHOD.NAME=VALUE for one; repeatable.",
        ),
    ] = None,
    table: TableOption = None,
    no_truth: Annotated[
        bool, typer.Option("--no-truth", help="Only write the scores, without comparing them; needs no table.")
    ] = False,
    dataset: DatasetOption = None,
    download_data: DownloadOption = False,
    validate_on: ValidateOnOption = "holdout",
    bn: Annotated[
        str,
        typer.Option(
            help="Statistics that normalise a sub-network when it is scored: of the validation batch (batch), or of"
            " training images (recalibrated)."
        ),
    ] = "batch",
    score_by: Annotated[
        str, typer.Option(help="Score of a sub-network: its validation accuracy, or its negative loss (loss).")
    ] = "accuracy",
    num_val: Annotated[
        int | None,
        typer.Option(
            "--num-val", help="Score on so many of the validation images, for a quicker ranking [default: all]."
        ),
    ] = None,
    epochs: EpochsOption = None,
    precision: PrecisionOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the supernet; with --seeds the first one.")] = 0,
    seeds: Annotated[int, typer.Option(help="Number of supernets to train per method, each with its own seed.")] = 1,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Supernets to train at the same time [default: one per CPU core, one on a GPU; on a cluster, as many"
            " as fit]."
        ),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N",
            help="Do only the I-th of N shares of the rankings, 1 <= I <= N; once all are there, the command without it"
            " compares them.",
        ),
    ] = "1/1",
    engine: EngineOption = "local",
    address: AddressOption = None,
    rankings_per_gpu: Annotated[
        int | None, typer.Option(help="Supernets to train on each GPU of a Ray cluster at the same time [default: 1].")
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            help="How often a ranking is tried again whose worker or node of a Ray cluster died [default: 2]."
        ),
    ] = None,
    metric: MetricOption = "best_test_acc",
    run: RunOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_dir: DataDirOption = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="File for the supernet's weights (.pt). For several methods or seeds a folder."),
    ] = None,
    log: LogOption = None,
    tensorboard: TensorboardOption = None,
    json_output: JsonOption = False,
) -> None:
    """Train a supernet, score all widths, compare.

    Fits the method, scores all 16,384 architectures of the space, and compares the scores with the trained truth.
    If the command is stopped, start it again: it continues where it was, if --out is given or if there are several
    methods or seeds. For these --save, --log and --tensorboard are folders, with a file or folder for each supernet.
    On a Ray cluster (--engine ray) every node must see these folders and the current one.
    """
    for name, number in (("seeds", seeds), ("jobs", jobs)):
        if number is not None and number < 1:
            raise ArgumentError(f"number of {name} is {number}: allowed are 1 and above")
    from channel_bench.builder.plan import parse_shard

    ray = _RayOptions.of(engine, address, rankings_per_gpu, retries)
    part = parse_shard(shard)
    from channel_bench.table import load
    from harness.judge.comparison import compare
    from harness.ranking.request import TaskOptions, shard_requests
    from harness.report.sheets import print_comparison

    options = TaskOptions(
        space=space,
        dataset=dataset,
        download=download_data,
        data_dir=data_dir,
        validate_on=validate_on,
        bn=bn,
        score_by=score_by,
        epochs=epochs,
        precision=precision,
        num_val=num_val,
        seed=seed,
        device=device,
        threads=threads,
    )
    # Everything that can be wrong is found before the long work starts.
    truth = None if no_truth else load(space, table, data_dir)
    if truth is not None:
        truth.accuracies(run, metric)
    requests = _requests(_chosen(method), options, seeds, out, option or [], no_truth, (save, log, tensorboard))
    share = shard_requests(requests, *part)
    if len(requests) == 1 and ray is None:
        rankings = [_rank_here(requests[0])]
    else:
        rankings = _rank_in_workers(share, jobs, ray)
    if len(share) < len(requests):
        say("the same command without --shard compares all, once they are there")
    elif truth is not None:
        print_comparison(compare(rankings if len(requests) > 1 else rankings[0], truth, metric, run), json_output)


def _chosen(text: str) -> list[str]:
    """The methods of a METHOD argument, each once."""
    if text != "all":
        return list(dict.fromkeys(text.split(",")))
    from harness.methods import list_methods

    return [outline.name for outline in list_methods() if outline.is_usable]


def _requests(
    methods: Sequence[str],
    options: TaskOptions,
    seeds: int,
    out: Path | None,
    texts: Sequence[str],
    no_truth: bool,
    kept: tuple[Path | None, Path | None, Path | None],
) -> list[RankRequest]:
    """The rankings to do: a single one with its score file if any, or several with theirs in a folder."""
    from harness.ranking.batch import requests_of
    from harness.ranking.request import RankRequest

    several = len(methods) > 1 or seeds > 1
    if several:
        out = out or Path(f"scores-{get_space(options.space).name}")
    elif out is not None and out.suffix != ".parquet":
        raise ArgumentError(f"score file {str(out)!r} must end in .parquet")
    elif no_truth and out is None:
        raise ArgumentError("--no-truth without --out would throw the scores away: add --out FILE.parquet")
    if out is not None:
        check_writable(out / "check" if several else out)
    save, log, tensorboard = kept
    for place in (save, log):
        if place is not None:
            check_writable(place / "check" if several else place)
    CurveLog(None, tensorboard)  # says where TensorBoard is missing
    given = options_by_method(texts, methods)
    requests = [
        dataclasses.replace(
            RankRequest.of(method, options, None if several else out, its_options),
            save=save,
            log=log,
            tensorboard=tensorboard,
        )
        for method, its_options in zip(methods, given, strict=True)
    ]
    return requests_of(requests, seeds, out) if several and out is not None else requests


@dataclasses.dataclass(frozen=True)
class _RayOptions:
    """How to rank on a Ray cluster."""

    address: str | None
    rankings_per_gpu: int
    max_retries: int

    @classmethod
    def of(
        cls, engine: str, address: str | None, rankings_per_gpu: int | None, retries: int | None
    ) -> _RayOptions | None:
        """Check the options of the command line; None for the engine of this machine.

        Raises:
            UnknownNameError: There is no such engine.
            ArgumentError: A number is out of range, or an option is only for a cluster.
        """
        from harness.ranking.engines import ENGINES, MAX_RANKINGS_PER_GPU, MAX_RETRIES

        if engine not in ENGINES:
            raise unknown_name("engine", engine, ENGINES)
        given = {"--address": address, "--rankings-per-gpu": rankings_per_gpu, "--retries": retries}
        if engine == "local":
            for name, value in given.items():
                if value is not None:
                    raise ArgumentError(f"{name} {value} is for a Ray cluster: add --engine ray")
            return None
        per_gpu = 1 if rankings_per_gpu is None else rankings_per_gpu
        if not 1 <= per_gpu <= MAX_RANKINGS_PER_GPU:
            raise ArgumentError(f"number of rankings per GPU is {per_gpu}: allowed are 1..{MAX_RANKINGS_PER_GPU}")
        if retries is not None and retries < 0:
            raise ArgumentError(f"number of retries is {retries}: allowed are 0 and above")
        return cls(address, per_gpu, MAX_RETRIES if retries is None else retries)


def _rank_here(request: RankRequest) -> Scores:
    """Do a ranking in this process."""
    from channel_bench.training.devices import precision_caution
    from harness.ranking.request import prepare_task
    from harness.ranking.run import rank_request

    task = prepare_task(request.task)
    say_if(precision_caution(task.recipe.precision, task.device))
    if request.out is None:
        return rank_request(request, task)
    with resumable(f"the unfinished ranking in {request.out}.partial"):
        scores = rank_request(request, task)
    say(f"wrote {request.out}")
    return scores


@contextlib.contextmanager
def _ray_engine(requests: Sequence[RankRequest], jobs: int | None, ray: _RayOptions) -> Iterator[Engine]:
    """An engine on a Ray cluster, which is connected for the time of the context."""
    from channel_bench.support.cluster import Cluster
    from channel_bench.support.durable import marked
    from harness.ranking.engines import RayEngine

    first = requests[0]
    written = [first.out, first.save, first.log, first.tensorboard]
    folders = dict.fromkeys(place.parent for place in written if place is not None)
    with contextlib.ExitStack() as context:
        options = first.task
        cluster = context.enter_context(
            Cluster(ray.address, options.device, options.threads, ray.rankings_per_gpu, jobs)
        )
        marks = [context.enter_context(marked(folder)) for folder in folders]
        yield RayEngine(cluster, marks, jobs, ray.max_retries, on_note=say)


def _prepare_off_device(options: TaskOptions) -> Task:
    """The task of a cluster's workers, for its settings: what they compute on, this machine need not have."""
    from harness.ranking.request import prepare_task
    from harness.task import supernet_recipe

    task = prepare_task(dataclasses.replace(options, device="cpu", precision=None))
    return dataclasses.replace(task, recipe=supernet_recipe(task.space, options.epochs, options.precision))


def _rank_in_workers(requests: Sequence[RankRequest], jobs: int | None, ray: _RayOptions | None) -> list[Scores]:
    """Do rankings in worker processes, here or on a cluster."""
    from channel_bench.training.devices import precision_caution
    from harness.ranking.batch import rank_many
    from harness.ranking.request import prepare_task

    first = requests[0]
    if first.out is None:
        raise ArgumentError("--engine ray without --out has no place for its scores: add --out FILE.parquet")
    task = prepare_task(first.task) if ray is None else _prepare_off_device(first.task)
    if ray is None:
        say_if(precision_caution(task.recipe.precision, task.device))
    folder, total = first.out.parent, len(requests)
    num_jobs = min(jobs or (num_cores() if task.device.type == "cpu" else 1), total)
    with (
        resumable(f"every finished ranking in {folder}"),
        contextlib.nullcontext() if ray is None else _ray_engine(requests, jobs, ray) as engine,
        progress("ranking", total) as advance,
    ):

        def on_done(request: RankRequest, what: str) -> None:
            label = f"{request.name} seed {request.task.seed}"
            advance(1, f"{label}: {what}")
            if what not in ("found", "done"):
                say(f"{label} failed: {what}")

        rankings = rank_many(requests, task, num_jobs, on_done, engine)
    say(f"{counted(len(rankings), 'score file')} {'is' if len(rankings) == 1 else 'are'} in {folder}")
    return rankings


def check(
    method: Annotated[
        str,
        typer.Argument(
            metavar="METHOD",
            help="path/to/file.py:Class, module:Class, or the name of a method ('channel-harness methods' lists them).",
        ),
    ],
    space: Annotated[
        str,
        typer.Option("--space", help=f"{SPACES_HELP[:-1]}; the mini spaces take seconds, others longer."),
    ] = "resnet-mini",
    option: Annotated[
        list[str] | None, typer.Option("--option", help="Option of the method, NAME=VALUE; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the task.")] = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    json_output: JsonOption = False,
) -> None:
    """Check that a method keeps its contract.

    Fits the method three times to a small task, which takes seconds, and looks for mistakes: wrong shapes, scores that
    differ from call to call, use of the trained truth, and others. Exit code 1 means that it found some.
    """
    options = parse_options(option or [])
    found = get_space(space)
    from channel_bench.training.devices import prepare_process
    from harness.check.checker import NUM_STEPS, check_method

    prepare_process(threads)
    # What a method prints goes where the progress goes: standard output is for the findings.
    with contextlib.redirect_stdout(sys.stderr), progress(f"checking {method}", NUM_STEPS) as advance:
        findings = check_method(
            method, found, options=options, device=device, seed=seed, on_step=lambda text: advance(1, text)
        )
    num_failed = sum(finding.failed for finding in findings)
    if json_output:
        facts = [{**dataclasses.asdict(finding), "requirement": finding.requirement} for finding in findings]
        print_json({"method": method, "space": found.name, "passed": num_failed == 0, "findings": facts})
    else:
        _print_findings(method, findings)
    if num_failed:
        raise typer.Exit(1)


def _print_findings(method: str, findings: list[Finding]) -> None:
    """Print a line per finding, and below a failure how to fix it; not a table, because both may be long."""
    from harness.check.checker import NOT_REACHED

    for finding in findings:
        if finding.found != NOT_REACHED:
            outcome = finding.outcome.upper() if finding.failed else finding.outcome
            show(f"{finding.check:<11} {outcome:<8} {finding.found}")
        if finding.remedy:
            show(f"{'':<20} {'fix' if finding.failed else 'hint'}: {finding.remedy}")
    missed = [finding.check for finding in findings if finding.found == NOT_REACHED]
    if missed:
        show(f"{NOT_REACHED}: {', '.join(missed)}")
    failed = [finding.check for finding in findings if finding.failed]
    show(f"{method} {'breaks its contract: ' + ', '.join(failed) if failed else 'fulfils its contract'}")
