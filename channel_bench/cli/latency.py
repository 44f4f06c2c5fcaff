"""The command that measures a device: latency."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from channel_bench.cli.options import (
    DeviceOption,
    JsonOption,
    SpaceArgument,
    decimals,
    latency_conditions,
)
from channel_bench.errors import ArgumentError
from channel_bench.space import get_space
from channel_bench.support.terminal import duration, print_json, print_table, progress, say, show

if TYPE_CHECKING:
    from channel_bench.latency import LatencyModel
    from channel_bench.latency.sweep import ChannelStopwatch
    from channel_bench.space import Space


def latency(
    space: SpaceArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write (.json).")],
    device: DeviceOption = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images per forward pass [default: 1024 on a GPU; on a CPU 4, or 256 in mini spaces]."),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Rounds; each round times every layer and network once.")] = 30,
    networks: Annotated[int, typer.Option(help="Whole networks to time, which check the sums of layers.")] = 32,
    threads: Annotated[int, typer.Option("--threads", help="CPU threads.")] = 1,
    seed: Annotated[int, typer.Option(help="Decides which networks are timed, and the order of all timings.")] = 0,
    processor_time: Annotated[
        bool,
        typer.Option("--processor-time", help="Count the processor's time, not the clock's; for a busy CPU, 1 thread."),
    ] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Time every number of channels of each slot instead, grid or not.")
    ] = False,
    expansion: Annotated[float, typer.Option(help="With --sweep: up to how many times a slot's largest width.")] = 2.0,
    step: Annotated[int, typer.Option(help="With --sweep: time multiples of it only.")] = 1,
    json_output: JsonOption = False,
) -> None:
    """Measure the latency of layers on this machine.

    The sum over its layers then predicts the latency of any architecture. Whole networks are timed as well, and the
    file says how far off the sums are. With --sweep the file holds the latency of every number of channels instead, for
    a layer of each resolution. If it is interrupted, nothing is written.
    """
    from channel_bench.latency.measure import NOISY_PERCENT, check_plan, measure, num_samples
    from channel_bench.latency.sweep import check_sweep
    from channel_bench.support.durable import check_writable

    chosen_space = get_space(space)
    if sweep:
        check_sweep(repeats, expansion, step, seed)
    else:
        check_plan(repeats, networks, seed)
    if out.suffix != ".json":
        raise ArgumentError(f"latency file {str(out)!r} must end in .json")
    check_writable(out)
    from channel_bench.latency.stopwatch import TorchStopwatch, default_batch_size
    from channel_bench.training.devices import pick_device, use_threads

    use_threads(threads)
    target = pick_device(device)
    if target.type not in ("cpu", "cuda"):
        raise ArgumentError(f"device {device!r} cannot be timed: allowed are 'cpu', 'cuda', 'cuda:1' ...")
    stopwatch = TorchStopwatch(
        chosen_space,
        target,
        default_batch_size(chosen_space, target) if batch_size is None else batch_size,
        processor_time=processor_time,
    )
    if sweep:
        _sweep(chosen_space, stopwatch, out, expansion, step, repeats, seed, json_output)
        return
    with progress(f"timing {chosen_space.name}", num_samples(chosen_space, repeats, networks)) as advance:
        model = measure(
            chosen_space, stopwatch, num_repeats=repeats, num_networks=networks, seed=seed, on_sample=advance
        )
    model.write(out)
    if json_output:
        print_json({**model.facts(), "predicted_ms": _predicted_range(model), "file": str(out)})
    else:
        _print_latency(model)
        show(f"wrote {out}")
    if model.check is not None and model.check.repeat.mape > NOISY_PERCENT:
        say(
            f"NOISY: halves of the rounds differ by {model.check.repeat.mape:.1f}% on whole networks; measure again"
            " while nothing else runs here, or with more --repeats"
        )


def _sweep(
    space: Space,
    stopwatch: ChannelStopwatch,
    out: Path,
    expansion: float,
    step: int,
    repeats: int,
    seed: int,
    json_output: bool,
) -> None:
    from channel_bench.latency.measure import NOISY_PERCENT
    from channel_bench.latency.sweep import num_sweep_samples, sweep

    with progress(f"sweeping {space.name}", num_sweep_samples(space, repeats, expansion, step)) as advance:
        found = sweep(space, stopwatch, expansion=expansion, step=step, num_repeats=repeats, seed=seed,
                      on_sample=advance)  # fmt: skip
    found.write(out)
    if json_output:
        print_json({**found.facts(), "file": str(out)})
    else:
        rows = [
            [
                ", ".join(map(str, curve.slots)),
                " + ".join(curve.layers),
                f"{curve.size[0]}x{curve.size[1]}",
                f"{curve.widths[0]}..{curve.widths[-1]}",
                f"{curve.ms[0]:.4g}",
                f"{curve.ms[-1]:.4g}",
                f"{curve.noise_percent:.1f}",
            ]
            for curve in found.curves
        ]
        conditions = found.conditions
        load = "" if conditions.load_average is None else f"; load average {conditions.load_average} when it began"
        print_table(
            ["slots", "layers", "output", "channels", "first, ms", "last, ms", "noise %"],
            rows,
            title=f"latency over channels of {space.name}, batch of {conditions.batch_size}",
            caption=(
                f"noise: even rounds against odd ones; {conditions.statistic}, CPU threads {conditions.threads},"
                f" {duration(conditions.measure_s)}{load}"
            ),
        )
        show(f"wrote {out}")
    noisiest = max(curve.noise_percent for curve in found.curves)
    if noisiest > NOISY_PERCENT:
        say(
            f"NOISY: halves of the rounds differ by up to {noisiest:.1f}%; measure again while nothing else runs here,"
            " or with more --repeats"
        )


def _print_latency(model: LatencyModel) -> None:
    check, conditions = model.check, model.conditions
    assert check is not None
    rows = [
        [
            name,
            agreement.num_archs,
            decimals(agreement.pearson),
            decimals(agreement.kendall),
            f"{agreement.mape:.2f}",
            f"{agreement.bias:+.2f}",
        ]
        for name, agreement in (
            ("sum of layers", check.sums),
            ("corrected sum", check.corrected),
            ("measured again", check.repeat),
        )
    ]
    correction = (
        f"{model.offset_ms:+.4g} ms, x {model.scale:.4g}"
        if check.is_corrected
        else "NOT used, because it does not help"
    )
    print_table(
        ["whole networks against", "n", "Pearson", "Kendall", "error %", "bias %"],
        rows,
        title=f"latency of {model.space.name}, {latency_conditions(model)}",
        caption=(
            f"error: mean absolute; correction, from {check.num_fitted} other networks: {correction}\n"
            "measured again: even rounds against odd ones, the noise that no model can predict"
        ),
    )
    load = "" if conditions.load_average is None else f"; load average {conditions.load_average} when it began"
    show(
        f"{conditions.statistic}, CPU threads {conditions.threads}, torch {conditions.torch}, {conditions.arithmetic};"
        f" {duration(conditions.measure_s)}{load}"
    )
    show(
        "predicted over all architectures: {min:.4g} to {max:.4g} ms, median {median:.4g} ms".format(
            **_predicted_range(model)
        )
    )


def _predicted_range(model: LatencyModel) -> dict[str, float]:
    ordered = sorted(model.predict().tolist())
    return {"min": ordered[0], "median": ordered[len(ordered) // 2], "max": ordered[-1]}
