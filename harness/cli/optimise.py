"""The command that runs optimisers on the table: optimise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from channel_bench.cli.options import DataDirOption, JsonOption, TableOption
from channel_bench.errors import ArgumentError, MissingDataError, MissingPackageError
from channel_bench.space import FloatArray, Space, get_space, list_spaces
from channel_bench.support.processes import num_cores
from channel_bench.support.terminal import print_json, print_table, progress, resumable, say
from harness.cli.options import check_before, parse_options

if TYPE_CHECKING:
    from harness.optimise.judge import Outcome
    from harness.optimise.replay import Replay
    from harness.optimise.sheets import Study
    from harness.optimiser import Optimiser
    from harness.registry import Plugin

EVERY = "all"
ACCURACY, FLOPS, PARAMS, MEMORY, LATENCY = "accuracy", "flops", "params", "memory", "latency"
COSTS = (FLOPS, PARAMS, MEMORY, LATENCY)


def optimise(
    optimisers: Annotated[
        str,
        typer.Argument(
            help="all, list, or optimisers with commas between: names, path/to/file.py:Class or module:Class."
        ),
    ],
    space: Annotated[
        list[str] | None, typer.Option("--space", help=f"One of {', '.join(list_spaces())}; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Searches of each optimiser; search k sees run k modulo the runs.")] = 100,
    budget: Annotated[float, typer.Option(help="What a search may cost, in whole trainings.")] = 200,
    seconds: Annotated[
        bool, typer.Option("--seconds", help="The budget is seconds of training, from the table's times.")
    ] = False,
    objectives: Annotated[
        str, typer.Option(help=f"accuracy, or accuracy and one of {', '.join(COSTS)} with a comma between.")
    ] = ACCURACY,
    latency: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Latencies of the space, as 'channel-bench latency' measures them."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="Option of the one optimiser, NAME=VALUE; repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for searches, tables and figures; kept searches go on.")
    ] = None,
    table: TableOption = None,
    jobs: Annotated[int | None, typer.Option(help="Worker processes at a time [default: one per CPU core].")] = None,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="With --out, draw; needs 'channel-bench[report]'.")
    ] = True,
    data_dir: DataDirOption = None,
    json_output: JsonOption = False,
) -> None:
    """Run optimisers on the table.

    Every training is looked up instead of run, so hundreds of searches take seconds. A search sees one run of each
    network and is judged by the mean of the others: luck does not pay.
    """
    from harness.optimise.judge import floor, outcome_of, ranks_of
    from harness.optimise.run import run_searches
    from harness.optimise.sheets import Study, sheets_of
    from harness.report.sheets import print_sheet

    if optimisers == "list":
        _list(json_output)
        return
    spaces = [get_space(each) for each in dict.fromkeys(space or [])]
    _check(spaces, table, latency, seeds, jobs, out, figures)
    second = _second_objective(objectives)
    options = parse_options(option or [])
    chosen = _chosen(optimisers, second, options)
    replays = {each.name: _replay(each, table, data_dir, budget, seconds, second, latency) for each in spaces}
    plans, notes = _plans(chosen, replays, options, named=optimisers != EVERY)
    outcomes: list[Outcome] = []
    kept = "every finished search" + ("" if out is None else f" in {out}")
    with resumable(kept), progress("searches", seeds * len(plans)) as advance:
        for name, replay in plans:

            def on_done(count: int, name: str = name, replay: Replay = replay) -> None:
                advance(count, f"{name} on {replay.table.space.name}")

            traces = run_searches(name, replay, seeds, out, jobs or num_cores(), options, on_done)
            outcomes.append(outcome_of(chosen[name].name, traces, replay))
    study = Study(
        outcomes=outcomes,
        floors={each: floor(replay) for each, replay in replays.items()},
        tables={each: f"table {replay.table.name}, {replay.table.meaning()}" for each, replay in replays.items()},
        groups=ranks_of(outcomes, second is not None),
        budget=budget,
        unit="s of training" if seconds else "trainings",
        num_seeds=seeds,
        second=second,
        notes=tuple(notes),
    )
    if out is not None:
        _write(study, out, figures)
    if json_output:
        print_json(study.to_dict())
        return
    for sheet in sheets_of(study):
        print_sheet(sheet)
    for note in notes:
        print(note)
    if out is not None:
        say(f"wrote {out / 'optimisers.md'}, its JSON, tables{' and figures' * figures}")


def _check(
    spaces: Sequence[Space],
    table: str | None,
    latency: Path | None,
    seeds: int,
    jobs: int | None,
    out: Path | None,
    figures: bool,
) -> None:
    """Find what is wrong before the work."""
    if not spaces:
        raise ArgumentError(f"no space is chosen: --space is one of {', '.join(list_spaces())}, and may be repeated")
    if len(spaces) > 1 and (table is not None or latency is not None):
        raise ArgumentError(f"--table and --latency are of one space, and {len(spaces)} are chosen")
    if seeds < 1:
        raise ArgumentError(f"number of seeds is {seeds}: allowed are 1 and above")
    if jobs is not None and jobs < 1:
        raise ArgumentError(f"number of jobs is {jobs}: allowed are 1 and above")
    if out is not None:
        check_before(out, figures)


def _second_objective(objectives: str) -> str | None:
    names = [name.strip() for name in objectives.split(",")]
    if names == [ACCURACY]:
        return None
    if len(names) == 2 and names[0] == ACCURACY and names[1] in COSTS:
        return names[1]
    raise ArgumentError(
        f"objectives {objectives!r}: allowed are accuracy, and accuracy,COST with one of {', '.join(COSTS)}"
    )


def _chosen(optimisers: str, second: str | None, options: dict[str, Any]) -> dict[str, Plugin[Optimiser]]:
    """Plug-ins by how they were asked for; of all, those that can be used here."""
    from harness.optimiser import OPTIMISERS

    found: dict[str, Plugin[Optimiser]] = {}
    if optimisers == EVERY:
        if options:
            raise ArgumentError("--option is for one optimiser, and all are chosen")
        for name in OPTIMISERS.names():
            try:
                plugin = OPTIMISERS.find(name)
            except MissingPackageError as error:
                say(f"left out: {error}")
                continue
            if second is None or getattr(plugin.factory, "two_objectives", False):
                found[name] = plugin
        return found
    names = list(dict.fromkeys(optimisers.split(",")))
    if options and len(names) > 1:
        raise ArgumentError(f"--option is for one optimiser, and {len(names)} are chosen")
    for name in names:
        found[name] = OPTIMISERS.find(name)
        OPTIMISERS.make(name, **options)
        if second is not None and not getattr(found[name].factory, "two_objectives", False):
            raise ArgumentError(
                f"optimiser {name!r} looks at the accuracy only: for accuracy and {second} choose one with"
                " two_objectives = True ('channel-harness optimise list')"
            )
    return found


def _replay(
    space: Space,
    table: str | None,
    data_dir: Path | None,
    budget: float,
    seconds: bool,
    second: str | None,
    latency: Path | None,
) -> Replay:
    from channel_bench.table import load
    from harness.optimise.replay import Replay

    return Replay(load(space, table, data_dir), budget, seconds, _cost(space, second, latency), second or FLOPS)


def _cost(space: Space, second: str | None, latency: Path | None) -> FloatArray | None:
    """The second objective of every architecture, float64 (16384,) in index order."""
    import numpy as np

    if (second == LATENCY) != (latency is not None):
        raise ArgumentError("--latency FILE.json and --objectives accuracy,latency go together")
    if second is None:
        return None
    if latency is not None:
        from channel_bench.latency import load_latency

        return np.asarray(load_latency(latency, space).predict(), np.float64)
    return np.asarray(getattr(space, second)(), np.float64)


def _plans(
    chosen: dict[str, Plugin[Optimiser]], replays: dict[str, Replay], options: dict[str, Any], *, named: bool
) -> tuple[list[tuple[str, Replay]], list[str]]:
    """Which optimiser runs on which table, after each was started once; of all, those that a table allows."""
    import numpy as np

    from harness.optimiser import OPTIMISERS

    plans, notes = [], []
    for name in chosen:
        for replay in replays.values():
            try:
                OPTIMISERS.make(name, **options).start(replay.domain, np.random.default_rng(0))
            except MissingDataError as error:
                if named:
                    raise
                notes.append(f"left out on {replay.table.space.name}: {error}")
            else:
                plans.append((name, replay))
    return plans, notes


def _write(study: Study, out: Path, figures: bool) -> None:
    import json

    from channel_bench.support.durable import write_atomic
    from channel_bench.support.terminal import finite
    from harness.optimise.sheets import draw_curves, draw_ranks, sheets_of
    from harness.report.figures import draw_named
    from harness.report.sheets import to_latex, to_markdown

    files: dict[str, bytes] = {}
    groups = study.groups
    if figures:
        files |= draw_named("optimisers", lambda: draw_curves(study))
        if groups is not None:
            files |= draw_named("optimisers.ranks", lambda: draw_ranks(study, groups))
    sheets = sheets_of(study)
    pictures = "".join(f"![{name}]({name})\n\n" for name in files if name.endswith(".png"))
    notes = "".join(f"- {note}\n" for note in study.notes)
    files["optimisers.tex"] = "\n".join(map(to_latex, sheets)).encode()
    files["optimisers.md"] = (
        f"# Optimisers on the table\n\n{pictures}{chr(10).join(map(to_markdown, sheets))}\n{notes}".encode()
    )
    files["optimisers.json"] = (json.dumps(finite(study.to_dict()), indent=1) + "\n").encode()
    write_atomic(*((out / name, data) for name, data in files.items()))


def _list(json_output: bool) -> None:
    from harness.optimiser import OPTIMISERS

    outlines = OPTIMISERS.outlines()
    if json_output:
        print_json([{"name": each.name, "paper": each.paper, "summary": each.summary} for each in outlines])
        return
    print_table(["optimiser", "what it does", "after"], [[each.name, each.summary, each.paper] for each in outlines])
