"""Commands that train and make a table: train, evaluate, build, status, collect."""

from __future__ import annotations

import dataclasses
import math
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from channel_bench.cli.options import (
    AddressOption,
    ArchArgument,
    BackendOption,
    DataDirOption,
    DatasetOption,
    DeviceOption,
    DownloadOption,
    EngineOption,
    EpochsOption,
    JsonOption,
    LogOption,
    NoGraphOption,
    OwnSpaceOption,
    PrecisionOption,
    RecipeOption,
    SpaceArgument,
    TensorboardOption,
    ThreadsOption,
    count_or_auto,
    know_space,
    table_counts,
)
from channel_bench.errors import ArgumentError
from channel_bench.space import get_space, is_own
from channel_bench.support.terminal import (
    Advance,
    counted,
    duration,
    print_json,
    print_table,
    progress,
    resumable,
    say,
    say_if,
    show,
)

SHOWN_EVERY_S = 0.5
"""Between two looks at the loss of a training."""

LrShiftOption = Annotated[
    int | None,
    typer.Option(
        "--lr-shift", help="Where the learning rate's cosine starts, in epochs: 0 or 1 [default: the recipe's]."
    ),
]

if TYPE_CHECKING:
    from channel_bench.builder.build import BuildReport
    from channel_bench.builder.engines import Outcome
    from channel_bench.support.curves import CurveLog
    from channel_bench.training.step import Step
    from channel_bench.training.weights import TrainedNetwork


def train(
    space: SpaceArgument,
    arch: ArchArgument,
    seed: Annotated[int, typer.Option(help="Seed; with the architecture it decides every random draw.")] = 0,
    recipe: RecipeOption = None,
    epochs: EpochsOption = None,
    precision: PrecisionOption = None,
    lr_shift: LrShiftOption = None,
    dataset: DatasetOption = None,
    download_data: DownloadOption = False,
    backend: BackendOption = "auto",
    no_graph: NoGraphOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_dir: DataDirOption = None,
    save: Annotated[
        Path | None, typer.Option("--save", help="File for the weights after the last epoch, as of PyTorch (.pt).")
    ] = None,
    log: LogOption = None,
    tensorboard: TensorboardOption = None,
    json_output: JsonOption = False,
) -> None:
    """Train one architecture and print its record.

    On a terminal a bar shows the steps, the loss, the images per second and the time left in the epoch; without a
    terminal a line a minute does. The native trainer takes seconds and shows nothing.
    """
    chosen_space = get_space(space)
    text = chosen_space.text(arch)
    from channel_bench.recipe import get_recipe

    chosen = get_recipe(recipe or chosen_space.recipe, epochs=epochs, precision=precision, lr_shift=lr_shift)
    chosen.check_rates()
    say_if(chosen.caution)
    from channel_bench.support.curves import CurveLog
    from channel_bench.support.durable import check_writable
    from channel_bench.training.backends import pick_backend
    from channel_bench.training.datasets import load_dataset
    from channel_bench.training.devices import pick_device, precision_caution, prepare_process
    from channel_bench.training.weights import train_network

    prepare_process(threads)
    if save is not None:
        check_writable(save)
    curve_log = CurveLog(log, tensorboard)
    target = pick_device(device)
    say_if(precision_caution(chosen.precision, target))
    data = load_dataset(dataset or chosen_space.dataset, data_dir=data_dir, download=download_data, device=target)
    if pick_backend(chosen_space, chosen, data, backend)[0] == "native":
        network = train_network(chosen_space, text, chosen, seed, data, backend="native")
    else:
        num_steps = chosen.epochs * math.ceil(len(data.train_labels) / chosen.batch_size)
        with progress(f"{chosen_space.name} {text}, steps", num_steps) as advance:
            notes = _TrainingNotes(advance, chosen.epochs, curve_log)
            network = train_network(
                chosen_space,
                text,
                chosen,
                seed,
                data,
                backend="torch",
                on_epoch=notes.end_epoch,
                on_step=notes.step,
                graph=False if no_graph else None,
            )
    record = network.record
    curve_log(record.curves)
    curve_log.close()
    _print_record(network, json_output)
    if save is not None:
        network.save(save)
        say(f"wrote {save}")


def _print_record(network: TrainedNetwork, json_output: bool) -> None:
    """Print what was trained, and how it went."""
    space, recipe, record = network.space, network.recipe, network.record
    if json_output:
        facts = {"space": space.name, "dataset": network.dataset, "recipe": recipe.to_dict()}
        print_json({**facts, **dataclasses.asdict(record)})
        return
    print_table(
        ["field", "value"],
        [[name, _shown(value)] for name, value in record.row().items()],
        title=f"{space.name} {record.arch}, data set {network.dataset}, recipe {recipe.name}",
        caption="accuracies in percent, losses in nats, times in seconds; best_test_acc is the maximum over epochs",
    )


def evaluate(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="File that 'channel-bench train --save' wrote (.pt).")
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help="Images: digits, digits-placed, cifar10, a folder of Parquet [default: what it was trained on].",
        ),
    ] = None,
    download_data: DownloadOption = False,
    backend: Annotated[
        str,
        typer.Option("--backend", help="Program that evaluates: native, torch, or auto (the one that trained it)."),
    ] = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_dir: DataDirOption = None,
    space: OwnSpaceOption = None,
    json_output: JsonOption = False,
) -> None:
    """Evaluate saved weights on the test images.

    On the data set and the machine that they were trained on, the accuracy is that of the record, to the image. Weights
    are those after the last epoch, so the accuracy to compare with is test_acc.
    """
    from channel_bench.training.datasets import load_dataset
    from channel_bench.training.devices import pick_device, prepare_process
    from channel_bench.training.weights import load_network

    know_space(space)
    prepare_process(threads)
    network = load_network(weights)
    record = network.record
    data = load_dataset(
        dataset or _named_again(network), data_dir=data_dir, download=download_data, device=pick_device(device)
    )
    found = network.evaluate(data, backend)
    same = data.digest == network.dataset_digest
    facts = {
        "space": network.space.name,
        "arch": record.arch,
        "seed": record.seed,
        "trained_on": network.dataset,
        "dataset": data.name,
        "same_images": same,
        "test_acc": found.accuracy,
        "test_loss": found.loss,
        "num_correct": found.num_correct,
        "num_images": found.num_images,
        "backend": found.backend,
        "recorded_test_acc": record.test_acc,
        "recorded_test_loss": record.test_loss,
    }
    if json_output:
        print_json(facts)
        return
    print_table(
        ["field", "value"],
        [[name, _shown(value)] for name, value in facts.items()],
        title=f"{weights.name}: {network.space.name} {record.arch}, recipe {network.recipe.name}",
        caption="accuracies in percent, losses in nats; recorded: after the last epoch of the training",
    )
    if not same:
        say(f"these images are not those of the training ({network.dataset}): the accuracies are of two data sets")


def _named_again(network: TrainedNetwork) -> str:
    """The data set that weights were trained on, where a name says which it is, or else that of their own space.

    Raises:
        ArgumentError: It came from a folder, whose place no file of weights knows.
    """
    from channel_bench.training.datasets import NAMED_DATASETS

    if network.dataset in NAMED_DATASETS:
        return network.dataset
    if is_own(network.space):
        return network.space.dataset
    raise ArgumentError(
        f"these weights were trained on a folder named {network.dataset!r}: say where it is with --dataset"
    )


class _TrainingNotes:
    """What a person sees while one network is trained."""

    def __init__(self, advance: Advance, num_epochs: int, log: CurveLog) -> None:
        self._log, self._curves = log, dict[str, list[float]]()
        self._advance, self._num_epochs = advance, num_epochs
        self._epoch, self._note, self._tested = 1, "", ""
        self._begun = time.monotonic()
        self._shown = -math.inf

    def step(self, step: Step) -> None:
        """Show a step; the loss is read twice a second at most, because reading it makes a GPU wait."""
        now = time.monotonic()
        if now - self._shown >= SHOWN_EVERY_S or step.number == step.num_steps:
            self._shown = now
            rate = step.num_seen / max(now - self._begun, 1e-9)
            left = duration((step.num_images - step.num_seen) / rate)
            self._note = (
                f"epoch {self._epoch} of {self._num_epochs}: step {step.number} of {step.num_steps}, loss"
                f" {step.read_loss():.4f}, {rate:,.0f} images/s, {left} left in it{self._tested}"
            )
        self._advance(1, self._note)

    def end_epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Show the test accuracy until the next epoch has one; log the curves."""
        for name, value in values.items():
            self._curves.setdefault(name, []).append(value)
        self._log(self._curves)
        self._tested = f"; test accuracy {values['test_acc']:.2f}% after epoch {epoch}"
        self._epoch, self._begun = epoch + 1, time.monotonic()


def build(
    space: SpaceArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the runs; building into the same folder again continues.")
    ],
    archs: Annotated[
        str,
        typer.Option(help="A number (picked at random, always the same), 'all', or architectures separated by commas."),
    ] = "all",
    runs: Annotated[int, typer.Option(help="Runs (seeds) of each architecture.")] = 3,
    recipe: RecipeOption = None,
    epochs: EpochsOption = None,
    precision: PrecisionOption = None,
    lr_shift: LrShiftOption = None,
    dataset: DatasetOption = None,
    download_data: DownloadOption = False,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes [default: one per GPU, or per CPU core].")
    ] = None,
    runs_per_gpu: Annotated[
        str,
        typer.Option(metavar="N|auto", help="Runs at once on a GPU, in one process; auto chooses by a rule of thumb."),
    ] = "1",
    stack: Annotated[
        int | None,
        typer.Option(help="Networks trained together as one program [default: 8 in mini spaces, otherwise 1]."),
    ] = None,
    backend: BackendOption = "auto",
    no_graph: NoGraphOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    base_seed: Annotated[int, typer.Option(help="Seed of run 0; the seed of run r is r larger.")] = 0,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Train only the I-th of N equally costly parts, 1 <= I <= N.")
    ] = "1/1",
    retries: Annotated[int, typer.Option(help="How often a failed run is tried again.")] = 2,
    engine: EngineOption = "local",
    address: AddressOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Train architectures into a folder of runs.

    If it is interrupted or killed, start the same command again: it continues where it stopped. Start the same command
    several times, also on several machines with a shared file system, and they share the work.
    """
    from channel_bench.builder.build import build as run_build
    from channel_bench.builder.plan import Plan, Workers, parse_shard, pick_archs
    from channel_bench.recipe import get_recipe

    chosen = get_space(space)
    plan = Plan(
        space=chosen,
        archs=pick_archs(chosen, archs),
        num_runs=runs,
        recipe=get_recipe(recipe or chosen.recipe, epochs=epochs, precision=precision, lr_shift=lr_shift),
        dataset=dataset,
        base_seed=base_seed,
        shard=parse_shard(shard),
    )
    how = Workers(
        engine=engine,
        address=address,
        num_workers=workers,
        runs_per_gpu=count_or_auto("--runs-per-gpu", runs_per_gpu),
        stack=stack,
        backend=backend,
        graph=False if no_graph else None,
        threads=threads,
        device=device,
        max_retries=retries,
        data_dir=data_dir,
        download=download_data,
    )
    with (
        resumable(f"every finished run in {out}"),
        progress(f"building {chosen.name}", plan.num_planned) as advance,
    ):
        report = run_build(
            plan,
            out,
            how,
            on_start=partial(_build_started, out, advance),
            on_outcome=partial(_build_advanced, advance),
            on_wait=_build_waits,
            on_note=say,
        )
    _print_build(report, out)


def _build_started(out: Path, advance: Advance, num_planned: int, num_found: int, set_aside: list[Path]) -> None:
    for damaged in set_aside:
        say(f"a damaged run was moved to {damaged}; it is trained again if it is planned")
    say(f"{counted(num_planned, 'run')} planned, {num_found} found in {out}, {num_planned - num_found} to train")
    advance(num_found, "", found=True)


def _build_advanced(advance: Advance, outcome: Outcome) -> None:
    accuracy = outcome.status if outcome.best_test_acc is None else f"{outcome.best_test_acc:.2f}%"
    advance(1, f"{outcome.job.arch} run {outcome.job.run}: {accuracy}")


def _build_waits(num_held: int) -> None:
    say(
        f"other builders are training the last {counted(num_held, 'run')}; this one ends when nothing is left, and"
        " takes over what they leave"
    )


def _print_build(report: BuildReport, out: Path) -> None:
    elsewhere = f", {report.num_elsewhere} by other builders meanwhile" if report.num_elsewhere else ""
    there = report.num_found + report.num_trained + report.num_elsewhere
    show(
        f"{there} of {counted(report.num_planned, 'run')} {'is' if report.num_planned == 1 else 'are'} in {out}:"
        f" {report.num_trained} trained now, {report.num_diverged} of them diverged{elsewhere},"
        f" {report.num_found} were there"
    )


def status(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder that 'channel-bench build' fills.")],
    space: OwnSpaceOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show the progress of a build.

    Runs that are done, diverged, missing, failed or damaged; the rate and the time left; the builders at work.
    """
    from channel_bench.builder.status import status as run_status
    from channel_bench.builder.store import RunStore

    know_space(space)
    state = run_status(RunStore.open(runs))
    if json_output:
        print_json(dataclasses.asdict(state))
        return
    show(f"{runs}: {state.space}, recipe {state.recipe}, data set {state.dataset}")
    extra = f"; {state.num_unplanned:,} more runs are there but not planned" if state.num_unplanned else ""
    show(
        f"{state.num_done:,} of {state.num_planned:,} planned runs done ({state.num_diverged:,} diverged),"
        f" {state.num_missing:,} missing{extra}"
    )
    for path in state.corrupt:
        show(f"damaged: {path}")
    for failure in state.failed[:10]:
        tried = f"{failure.tries} {'try' if failure.tries == 1 else 'tries'} on {failure.host}"
        show(f"failed: {failure.arch} run {failure.run} after {tried}: {' '.join(failure.error.split())}")
    if state.failed:
        more = f"{len(state.failed) - 10:,} more failed; " if len(state.failed) > 10 else ""
        show(
            f"{more}{counted(len(state.failed), 'failed run')}: causes in {runs / 'failed'}; the next build tries"
            f" {'it' if len(state.failed) == 1 else 'them'} again"
        )
    if state.runs_per_hour is not None and state.time_left_s is not None and state.idle_s is not None:
        left = f", {duration(state.time_left_s)} left at that rate" if state.num_missing else ""
        show(f"{state.runs_per_hour:,.0f} runs per hour, the last one {duration(state.idle_s)} ago{left}")
    for builder in state.builders:
        show(f"builder at work: {builder}")
    show(f"builders hold {counted(state.num_running, 'run')} now" if state.builders else "no builder is at work")


def collect(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Folders that 'channel-bench build' filled.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Table file to write (.parquet).")],
    space: OwnSpaceOption = None,
) -> None:
    """Write folders of runs as one table file.

    The learning curves go to an HDF5 file beside it. A run that is in several folders counts once; if its results
    differ, nothing is written.
    """
    from channel_bench.builder.collect import collect as run_collect
    from channel_bench.table.verify import verify as run_verify

    know_space(space)
    run_collect(runs, out, on_note=say)
    facts = run_verify(out)
    show(f"wrote {out} and {out.with_suffix('.h5')}: {table_counts(facts)}")


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
