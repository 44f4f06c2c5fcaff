"""The command ``channel-bench``: get the published table, ask it, train, build, collect, verify.

Every command that prints a table prints JSON with --json. Bad input is one line on standard error and exit code 2.
torch is imported only by the commands that train.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from channel_bench.space import get_space, list_spaces
from channel_bench.terminal import (
    duration,
    main_of,
    make_app,
    parse_quantity,
    print_json,
    print_table,
    progress,
    resumable,
    say,
)

if TYPE_CHECKING:
    from channel_bench.build import BuildReport
    from channel_bench.engines import Outcome
    from channel_bench.latency import LatencyModel
    from channel_bench.retrain import Audit, Retrained
    from channel_bench.table import Result, Table

app = make_app("channel-bench", "The table of Channel-Bench-Macro: download, query, rebuild.")

SpaceArgument = Annotated[str, typer.Argument(metavar="SPACE", help=f"One of {', '.join(list_spaces())}.")]
ArchArgument = Annotated[
    str, typer.Argument(metavar="ARCH", help="7 digits 1..4, or 7 comma-separated channels or ratios.")
]
TableOption = Annotated[
    str | None, typer.Option("--table", help="Name or path of a table [default: that of the space].")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of downloaded data [default: $CHANNEL_BENCH_DATA or the user's cache]."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MetricOption = Annotated[str, typer.Option("--metric", help="best_test_acc (best epoch) or test_acc (last epoch).")]
RecipeOption = Annotated[str | None, typer.Option("--recipe", help="Name of a recipe [default: that of the space].")]
DatasetOption = Annotated[
    str | None,
    typer.Option("--dataset", help="digits, cifar10 or a folder of Parquet images [default: that of the space]."),
]
BackendOption = Annotated[
    str, typer.Option("--backend", help="native (compiled), torch, or auto: native for the mini spaces on a CPU.")
]
NoGraphOption = Annotated[bool, typer.Option("--no-graph", help="On a GPU: launch every kernel from Python.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 ...")]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Override the recipe's epochs.")]
PrecisionOption = Annotated[
    str | None, typer.Option("--precision", help="Override the recipe's arithmetic: fp32, tf32 (GPU) or bf16.")
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 where it is missing.")]
ThreadsOption = Annotated[int, typer.Option("--threads", help="CPU threads; they change results in the last bits.")]


@app.command()
def download(
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder of local copies of the two published JSON files.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Folder of a mirror to download from.")] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Fetch the published results, check their SHA-256, and write them as table files."""
    from channel_bench.errors import ArgumentError
    from channel_bench.published import BASE_URL, install

    if source is not None and url is not None:
        raise ArgumentError("--from and --url exclude each other: copies on this machine, or a mirror")
    paths = install(source=source, base_url=url or BASE_URL, data_dir=data_dir)
    for path in paths:
        print(f"wrote {path}")


@app.command()
def query(
    space: SpaceArgument,
    archs: Annotated[list[str], typer.Argument(metavar="ARCH...", help="7 digits 1..4, or 7 comma-separated numbers.")],
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Look up architectures: accuracy of every run, mean, rank, channels, costs."""
    loaded = _load(space, table, data_dir)
    _print_results(loaded, [loaded.query(arch, metric) for arch in archs], metric, json_output)


@app.command()
def top(
    space: SpaceArgument,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    max_flops: Annotated[str | None, typer.Option(help="Budget: 5e8, 500M, or 0.5x of the widest.")] = None,
    max_params: Annotated[str | None, typer.Option(help="Budget: 5e6, 5M, or 0.5x of the widest.")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Budget: ms, or 0.5x of the widest; needs --latency.")] = None,
    latency: Annotated[Path | None, typer.Option(help="File that 'channel-bench latency' wrote.")] = None,
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """List the most accurate architectures, within budgets."""
    loaded = _load(space, table, data_dir)
    model, budget_ms = _latency_budget(loaded, latency, max_latency)
    results = loaded.top(
        k,
        max_flops=parse_quantity(max_flops, loaded.space.flops("4444444"), "--max-flops"),
        max_params=parse_quantity(max_params, loaded.space.params("4444444"), "--max-params"),
        max_latency=budget_ms,
        latency=model,
        metric=metric,
    )
    _print_results(loaded, results, metric, json_output, model)


@app.command()
def pareto(
    space: SpaceArgument,
    cost: Annotated[str, typer.Option(help="flops or params.")] = "flops",
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """List the architectures that no other beats in both cost and accuracy."""
    loaded = _load(space, table, data_dir)
    _print_results(loaded, loaded.pareto(cost, metric), metric, json_output)


@app.command()
def train(
    space: SpaceArgument,
    arch: ArchArgument,
    seed: Annotated[int, typer.Option(help="Seed; with the architecture it decides every random draw.")] = 0,
    recipe: RecipeOption = None,
    epochs: EpochsOption = None,
    precision: PrecisionOption = None,
    dataset: DatasetOption = None,
    download_data: DownloadOption = False,
    backend: BackendOption = "auto",
    no_graph: NoGraphOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Train one architecture now, and print its record; epoch by epoch on a terminal."""
    found = get_space(space)
    text = found.text(arch)
    from channel_bench.recipe import get_recipe

    chosen = get_recipe(recipe or found.recipe, epochs=epochs, precision=precision)
    from channel_bench.datasets import load_dataset
    from channel_bench.record import Job
    from channel_bench.train import pick_backend, pick_device, train_jobs, train_run, use_threads

    use_threads(threads)
    target = pick_device(device)
    data = load_dataset(dataset or found.dataset, data_dir=data_dir, download=download_data, device=target)
    if pick_backend(found, chosen, data, backend)[0] == "native":
        (record,) = train_jobs(found, [Job(text, 0, seed)], chosen, data, backend="native")
    else:
        with progress(f"{found.name} {text}", chosen.epochs) as advance:
            record = train_run(
                found,
                text,
                chosen,
                seed,
                data,
                on_epoch=lambda epoch, values: advance(1, f"test accuracy {values['test_acc']:.2f}%"),
                graph=False if no_graph else None,
            )
    if json_output:
        print_json(
            {"space": found.name, "dataset": data.name, "recipe": chosen.to_dict(), **dataclasses.asdict(record)}
        )
        return
    rows = [[name, _shown(value)] for name, value in record.row().items()]
    print_table(
        ["field", "value"],
        rows,
        title=f"{found.name} {text}, data set {data.name}, recipe {chosen.name}",
        caption="accuracies in percent, losses in nats, times in seconds; best_test_acc is the maximum over epochs",
    )


@app.command()
def build(
    space: SpaceArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs; the same folder again continues.")],
    archs: Annotated[str, typer.Option(help="How many, 'all', or architectures separated by commas.")] = "all",
    runs: Annotated[int, typer.Option(help="Runs (seeds) of each architecture.")] = 3,
    recipe: RecipeOption = None,
    epochs: EpochsOption = None,
    precision: PrecisionOption = None,
    dataset: DatasetOption = None,
    download_data: DownloadOption = False,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes [default: --runs-per-gpu on each GPU, or one per CPU core].")
    ] = None,
    runs_per_gpu: Annotated[
        str, typer.Option(metavar="N|auto", help="Worker processes on each GPU; auto for a rule of thumb.")
    ] = "1",
    stack: Annotated[
        int | None,
        typer.Option(help="Networks trained together as one program [default: 8 in the mini spaces, else 1]."),
    ] = None,
    backend: BackendOption = "auto",
    no_graph: NoGraphOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    base_seed: Annotated[int, typer.Option(help="Seed of run 0; run r has this plus r.")] = 0,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Train the I-th of N equally costly parts, 1 <= I <= N.")
    ] = "1/1",
    retries: Annotated[int, typer.Option(help="How often a run is tried again after it failed.")] = 2,
    engine: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster: auto, ray://HOST:PORT or HOST:PORT [default: one of this machine only]."),
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Train architectures into a folder of runs; interrupted or killed, the same command goes on where it stopped.

    The same command on several machines with a shared file system, or several times on one, shares the work.
    """
    from channel_bench.build import build as run_build
    from channel_bench.build import parse_shard, pick_archs
    from channel_bench.recipe import get_recipe

    found = get_space(space)
    chosen_archs = pick_archs(found, archs)
    chosen_shard = parse_shard(shard)
    chosen_recipe = get_recipe(recipe or found.recipe, epochs=epochs, precision=precision)
    with (
        resumable(f"every finished run in {out}"),
        progress(f"building {found.name}", len(chosen_archs) * max(runs, 0) // chosen_shard[1]) as advance,
    ):
        report = run_build(
            found,
            out,
            archs=chosen_archs,
            num_runs=runs,
            recipe=chosen_recipe,
            dataset=dataset,
            num_workers=workers,
            runs_per_gpu=_count_or_auto("--runs-per-gpu", runs_per_gpu),
            stack=stack,
            backend=backend,
            graph=False if no_graph else None,
            threads=threads,
            device=device,
            base_seed=base_seed,
            shard=chosen_shard,
            max_retries=retries,
            engine=engine,
            address=address,
            data_dir=data_dir,
            download=download_data,
            on_start=partial(_build_started, out, advance),
            on_outcome=partial(_build_advanced, advance),
            on_wait=_build_waits,
            on_note=say,
        )
    _print_build(report, out)


def _build_started(
    out: Path, advance: Callable[[int, str], None], num_planned: int, num_found: int, set_aside: list[Path]
) -> None:
    for damaged in set_aside:
        say(f"a damaged run was set aside as {damaged}; it is trained again if it is planned")
    say(f"{num_planned} runs planned, {num_found} found in {out}, {num_planned - num_found} to train")
    advance(num_found, "")


def _build_advanced(advance: Callable[[int, str], None], outcome: Outcome) -> None:
    accuracy = outcome.status if outcome.best_test_acc is None else f"{outcome.best_test_acc:.2f}%"
    advance(1, f"{outcome.job.arch} run {outcome.job.run}: {accuracy}")


def _build_waits(num_held: int) -> None:
    say(f"the last {num_held} runs are at other builders; what they finish, fail or leave behind ends this one")


def _print_build(report: BuildReport, out: Path) -> None:
    elsewhere = f", {report.num_elsewhere} by other builders meanwhile" if report.num_elsewhere else ""
    print(
        f"{report.num_found + report.num_trained + report.num_elsewhere} of {report.num_planned} runs are in {out}:"
        f" {report.num_trained} trained now, {report.num_diverged} of them diverged{elsewhere},"
        f" {report.num_found} were there"
    )


@app.command()
def status(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder that 'build' fills.")],
    json_output: JsonOption = False,
) -> None:
    """Show how far a build is: done, diverged, missing, failed, damaged, rate, time left, builders."""
    from channel_bench.status import status as run_status
    from channel_bench.store import RunStore

    found = run_status(RunStore.open(runs))
    if json_output:
        print_json(dataclasses.asdict(found))
        return
    print(f"{runs}: {found.space}, recipe {found.recipe}, data set {found.dataset}")
    extra = f"; {found.num_unplanned:,} others are there" if found.num_unplanned else ""
    print(
        f"{found.num_done:,} of {found.num_planned:,} planned runs done ({found.num_diverged:,} diverged),"
        f" {found.num_missing:,} missing{extra}"
    )
    for path in found.corrupt:
        print(f"damaged: {path}")
    for failure in found.failed[:10]:
        tried = f"{failure.tries} {'try' if failure.tries == 1 else 'tries'} on {failure.host}"
        print(f"failed: {failure.arch} run {failure.run} after {tried}: {' '.join(failure.error.split())}")
    if found.failed:
        more = f"{len(found.failed) - 10:,} more failed; " if len(found.failed) > 10 else ""
        print(f"{more}{len(found.failed):,} failed runs: causes in {runs / 'failed'}; the next build tries them again")
    if found.runs_per_hour is not None and found.time_left_s is not None and found.idle_s is not None:
        left = f", {duration(found.time_left_s)} left at that rate" if found.num_missing else ""
        print(f"{found.runs_per_hour:,.0f} runs per hour, the last one {duration(found.idle_s)} ago{left}")
    for builder in found.builders:
        print(f"builder at work: {builder}")
    print(f"builders hold {found.num_running:,} runs now" if found.builders else "no builder is at work")


@app.command()
def collect(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Folders that 'build' filled.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Table file to write (.parquet).")],
) -> None:
    """Write the runs of one folder, or of several, as one table file, with learning curves in an HDF5 file beside it.

    A run that is in several folders counts once; different results of one run are refused.
    """
    from channel_bench.collect import collect as run_collect
    from channel_bench.verify import verify as run_verify

    run_collect(runs, out)
    facts = run_verify(out)
    print(f"wrote {out} and {out.with_suffix('.h5')}: {_counts(facts)}")


@app.command()
def verify(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="Table file, or a space for its default table.")],
    retrain: Annotated[
        int | None, typer.Option(help="Also train so many of its architectures again, with new seeds.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which architectures are trained again, and with which seeds.")] = 0,
    precision: PrecisionOption = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Its images, where the table's name for them is not enough.")
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Check a table file: schema, content hash, keys, costs, accuracies, curves; with --retrain also what it says.

    Exit code 0 where all is well, 1 where new runs do not fit the table, 2 where the file is damaged or cannot be
    checked.
    """
    from channel_bench.verify import verify as run_verify

    path = _table_file(table, data_dir)
    facts = run_verify(path)
    if not json_output:
        print(f"{table}: intact, {_counts(facts)}")
        print(
            f"space {facts['space']}, data set {facts['dataset']}, recipe {facts['recipe']['name']}; {facts['source']}"
        )
        print(f"content SHA-256 {facts['content_sha256']}")
    found = None if retrain is None else _audit(path, retrain, seed, precision, dataset, device, threads, data_dir)
    if json_output:
        print_json(facts if found is None else {**facts, "retrained": dataclasses.asdict(found)})
    elif found is not None:
        _print_audit(found)
    if found is not None and not found.agrees:
        raise typer.Exit(1)


def _audit(
    path: Path,
    num_archs: int,
    seed: int,
    precision: str | None,
    dataset: str | None,
    device: str,
    threads: int,
    data_dir: Path | None,
) -> Audit:
    from channel_bench.datasets import load_dataset
    from channel_bench.retrain import audit
    from channel_bench.table import Table
    from channel_bench.train import pick_device, use_threads

    use_threads(threads)
    table = Table.read(path)
    data = load_dataset(dataset or table.info.dataset, data_dir=data_dir, device=pick_device(device))
    with progress(f"retraining {table.space.name}", max(num_archs, 0)) as advance:

        def trained(row: Retrained) -> None:
            advance(1, f"{row.arch}: {_decimals(row.accuracy)}, table {row.mean:.4f}")

        return audit(table, num_archs, data, seed=seed, precision=precision, on_row=trained)


def _print_audit(found: Audit) -> None:
    rows = [
        [
            row.arch,
            None if row.accuracy is None else f"{row.accuracy:.2f}",
            " ".join(f"{accuracy:.2f}" for accuracy in row.runs),
            f"{row.mean:.3f}",
            f"{row.std:.3f}",
            None if row.z is None else f"{row.z:+.2f}",
            "inside" if row.inside else "DIVERGED" if row.accuracy is None else "OUTSIDE",
        ]
        for row in found.rows
    ]
    print_table(
        ["arch", "new", "runs of the table", "mean", "std of a run", "z", "band"],
        rows,
        title=f"{len(rows)} architectures trained anew with new seeds, data set {found.dataset}, recipe {found.recipe}",
        caption="best_test_acc, percent; std of a run is pooled over architectures of similar accuracy",
    )
    print(
        f"{found.num_inside} of {len(rows)} new runs are inside their band, {found.num_expected_inside:.1f} expected;"
        f" {found.num_diverged} diverged"
    )
    print(
        f"mean difference {_decimals(found.mean_difference)} points, 0 +- {_decimals(found.mean_difference_se)} from"
        f" seeds alone; p = {found.p_shift:.2g} for it, {found.p_spread:.2g} for the spread"
    )
    print(
        "the table agrees with new runs"
        if found.agrees
        else "the table DOES NOT AGREE with new runs: seeds alone would hardly ever give this"
    )


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="Table file, or a space for its default table.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="Table file, or a space for its default table.")],
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Say how far two tables of a space agree, beside what seeds alone would leave of their agreement."""
    from channel_bench.compare import compare_tables
    from channel_bench.table import Table

    tables = [Table.read(_table_file(text, data_dir)) for text in (first, second)]
    found = compare_tables(tables[0], tables[1], metric)
    if json_output:
        infos = [dataclasses.asdict(table.info) for table in tables]
        print_json({"first": infos[0], "second": infos[1], "metric": metric, **dataclasses.asdict(found)})
        return
    notes = [
        f"{name}: data set {table.info.dataset}, recipe {table.info.recipe['name']}; {table.meaning(metric)}"
        f"; a run's standard deviation is {_decimals(std)}"
        for name, table, std in zip(("first", "second"), tables, found.run_std, strict=True)
    ]
    if found.shared_runs:
        notes.append(f"NOT independent: {found.shared_runs:,} runs are in both, so the expectation does not apply")
    print_table(
        ["agreement", "found", "expected from seeds alone"],
        [
            ["Kendall tau-b", _decimals(found.kendall), _decimals(found.expected_kendall)],
            ["Pearson", _decimals(found.pearson), _decimals(found.expected_pearson)],
            ["Spearman", _decimals(found.spearman), "-"],
            [
                "mean difference, points",
                _decimals(found.mean_difference),
                f"0 +- {_decimals(found.mean_difference_se)}",
            ],
        ],
        title=f"{first} and {second}: {found.num_archs:,} architectures of {found.space} in both",
        caption="\n".join(notes),
    )


@app.command()
def latency(
    space: SpaceArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write (.json).")],
    device: DeviceOption = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images per forward pass [default: 1024 on a GPU; on a CPU 4, mini spaces 256]."),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Rounds; each times everything once.")] = 30,
    networks: Annotated[int, typer.Option(help="Whole networks to check the sum of layers on.")] = 32,
    threads: Annotated[int, typer.Option("--threads", help="CPU threads.")] = 1,
    seed: Annotated[int, typer.Option(help="Which networks, and the order of timings.")] = 0,
    json_output: JsonOption = False,
) -> None:
    """Measure the latency of every layer on this machine, so that sums of look-ups give that of any architecture.

    Whole networks are timed as well, and the file says how far off the sums are. Interrupted, it writes nothing.
    """
    from channel_bench.durable import check_writable
    from channel_bench.errors import ArgumentError
    from channel_bench.measure import NOISY_PERCENT, check_plan, measure, num_samples

    found = get_space(space)
    check_plan(repeats, networks, seed)
    if out.suffix != ".json":
        raise ArgumentError(f"latency file {str(out)!r} must end in .json")
    check_writable(out)
    from channel_bench.stopwatch import TorchStopwatch, default_batch_size
    from channel_bench.train import pick_device, use_threads

    use_threads(threads)
    target = pick_device(device)
    if target.type not in ("cpu", "cuda"):
        raise ArgumentError(f"device {device!r} cannot be timed: allowed are 'cpu', 'cuda', 'cuda:1' ...")
    stopwatch = TorchStopwatch(found, target, default_batch_size(found, target) if batch_size is None else batch_size)
    with progress(f"timing {found.name}", num_samples(found, repeats, networks)) as advance:
        model = measure(found, stopwatch, num_repeats=repeats, num_networks=networks, seed=seed, on_sample=advance)
    model.write(out)
    if json_output:
        print_json({**model.facts(), "predicted_ms": _predicted_range(model), "file": str(out)})
    else:
        _print_latency(model)
        print(f"wrote {out}")
    if model.check is not None and model.check.repeat.mape > NOISY_PERCENT:
        say(
            f"NOISY: halves of the rounds differ by {model.check.repeat.mape:.1f}% on whole networks; measure again"
            " while nothing else runs here, or with more --repeats"
        )


@app.command()
def explore(
    space: SpaceArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Page to write (.html).")],
    table: TableOption = None,
    metric: MetricOption = "best_test_acc",
    data_dir: DataDirOption = None,
) -> None:
    """Write a table as one HTML page to walk through: sliders, Pareto front, runs; it works offline."""
    from channel_bench.explore import write_explorer
    from channel_bench.page import check_page_path

    check_page_path(out)
    num_bytes = write_explorer(_load(space, table, data_dir), out, metric)
    print(f"wrote {out}: {num_bytes / 2**20:.1f} MiB, open it in a browser")


def _print_latency(model: LatencyModel) -> None:
    check, conditions = model.check, model.conditions
    assert check is not None
    rows = [
        [
            name,
            found.num_archs,
            _decimals(found.pearson),
            _decimals(found.kendall),
            f"{found.mape:.2f}",
            f"{found.bias:+.2f}",
        ]
        for name, found in (
            ("sum of layers", check.sums),
            ("corrected sum", check.corrected),
            ("measured again", check.repeat),
        )
    ]
    correction = (
        f"{model.offset_ms:+.4g} ms, x {model.scale:.4g}" if check.is_corrected else "NOT used, it does not help"
    )
    print_table(
        ["whole networks against", "n", "Pearson", "Kendall", "error %", "bias %"],
        rows,
        title=f"latency of {model.space.name}, {_latency_conditions(model)}",
        caption=(
            f"error: mean absolute; correction, from {check.num_fitted} other networks: {correction}\n"
            "measured again: even rounds against odd ones, the noise that no model can predict"
        ),
    )
    load = "" if conditions.load_average is None else f"; load average {conditions.load_average} when it began"
    print(
        f"{conditions.statistic}, CPU threads {conditions.threads}, torch {conditions.torch}, {conditions.arithmetic};"
        f" {duration(conditions.measure_s)}{load}"
    )
    print(
        "predicted over all architectures: {min:.4g} to {max:.4g} ms, median {median:.4g} ms".format(
            **_predicted_range(model)
        )
    )


def _predicted_range(model: LatencyModel) -> dict[str, float]:
    ordered = sorted(model.predict().tolist())
    return {"min": ordered[0], "median": ordered[len(ordered) // 2], "max": ordered[-1]}


def _latency_conditions(model: LatencyModel) -> str:
    shape = "x".join(map(str, model.conditions.input_shape))
    return f"batch size {model.conditions.batch_size}, images {shape}, on {model.conditions.device}"


def _count_or_auto(option: str, text: str) -> int | None:
    """A whole number; None for "auto"."""
    from channel_bench.errors import ArgumentError

    if text == "auto":
        return None
    if not text.isascii() or not text.isdecimal():
        raise ArgumentError(f"{option} {text!r} is neither a whole number nor 'auto'")
    return int(text)


def _table_file(text: str, data_dir: Path | None) -> Path:
    """A table file, or the file of a space's default table."""
    from channel_bench.table import find_table

    return Path(text) if Path(text).suffix or Path(text).exists() else find_table(text, None, data_dir)


def _load(space: str, table: str | None, data_dir: Path | None) -> Table:
    from channel_bench.table import load

    return load(space, table, data_dir)


def _latency_budget(
    table: Table, file: Path | None, max_latency: str | None
) -> tuple[LatencyModel | None, float | None]:
    from channel_bench.errors import ArgumentError

    if (file is None) != (max_latency is None):
        raise ArgumentError(
            "--latency and --max-latency go together: a table holds no latencies,"
            f" 'channel-bench latency {table.space.name} -o FILE' measures them"
        )
    if file is None:
        return None, None
    from channel_bench.latency import load_latency

    model = load_latency(file, table.space)
    return model, parse_quantity(max_latency, model.predict("4444444"), "--max-latency")


def _print_results(
    table: Table, results: list[Result], metric: str, json_output: bool, latency: LatencyModel | None = None
) -> None:
    if json_output:
        print_json(
            {
                "space": table.space.name,
                "table": table.name,
                "dataset": table.info.dataset,
                "metric": metric,
                "accuracy": table.meaning(metric),
                "results": [
                    {
                        **dataclasses.asdict(result),
                        **({} if latency is None else {"latency_ms": latency.predict(result.arch)}),
                    }
                    for result in results
                ],
                **({} if latency is None else {"latency": dataclasses.asdict(latency.conditions)}),
            }
        )
        return
    runs = [f"run {run}" for run in range(table.num_runs)]
    rows = [
        [
            result.arch,
            f"{result.mean:.3f}",
            None if result.std is None else f"{result.std:.3f}",
            result.rank,
            *(None if accuracy is None else f"{accuracy:.2f}" for accuracy in result.accuracies),
            result.flops,
            result.params,
            *([] if latency is None else [f"{latency.predict(result.arch):.4g}"]),
            "-".join(map(str, result.channels)),
        ]
        for result in results
    ]
    given = "" if latency is None else f"; ms: predicted, {_latency_conditions(latency)}"
    print_table(
        ["arch", "mean", "std", "rank", *runs, "flops", "params", *([] if latency is None else ["ms"]), "channels"],
        rows,
        title=f"space {table.space.name}, table {table.name}, data set {table.info.dataset}",
        caption=(
            f"accuracy: {table.meaning(metric)}; std with ddof=1; rank among {len(table):,}"
            f"; flops are multiply-accumulates{given}"
        ),
    )


def _counts(facts: dict[str, object]) -> str:
    return (
        f"{facts['num_rows']:,} runs, {facts['num_archs']:,} architectures x {facts['num_runs']} runs"
        f" ({facts['num_incomplete_archs']} architectures with fewer, {facts['num_diverged']} runs diverged)"
    )


def _decimals(value: float | None) -> str:
    if value is None:
        return "unknown"
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    """Entry point of the console script."""
    main_of(app, "channel-bench")


if __name__ == "__main__":
    main()
