"""Does this package train what was published? Some architectures of each full space, by the full recipe, compared.

    python data/scripts/validate.py --dataset cifar10 --out validation      # a GPU; CIFAR-10 by its name or a folder
    python data/scripts/validate.py --dataset digits --spaces resnet-mini --reference resnet-mini=t.parquet --out out

Architectures are picked by the quantiles of their published accuracy, so that the narrowest and the best are among
them; they are trained into a store per space (killed, the same command goes on), collected to
validation-<dataset>.v1.parquet in the folder of the space, and compared with the published table: Kendall, Pearson,
mean difference and its standard error, as `channel-bench compare` has them. Exit code 0 where the mean difference is
within --allowed points or three standard errors, 1 where it is not.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

import channel_bench as cb
from channel_bench.builder.build import build
from channel_bench.builder.collect import collect
from channel_bench.builder.plan import Plan, Workers
from channel_bench.recipe import get_recipe
from channel_bench.table import Table
from channel_bench.table.compare import compare_tables


def pick_spread(table: Table, count: int) -> list[str]:
    """Architectures at `count` equally spaced quantiles of the table's mean accuracy, the ends included."""
    accuracies = table.accuracies()
    trained = np.flatnonzero(np.isfinite(accuracies))
    order = trained[np.argsort(accuracies[trained], kind="stable")]
    positions = np.unique(np.linspace(0, len(order) - 1, count).round().astype(int))
    return [table.space.text(int(order[position])) for position in positions]


def validate(
    reference: Table,
    out: Path,
    *,
    dataset: str,
    count: int,
    num_runs: int,
    base_seed: int,
    epochs: int | None = None,
    precision: str | None = None,
    device: str = "auto",
    data_dir: Path | None = None,
) -> tuple[Path, dict[str, object]]:
    """Train, collect and compare the architectures of one space.

    Returns:
        The collected table, and what was found.
    """
    space = reference.space
    recipe = get_recipe(space.recipe, epochs=epochs, precision=precision)
    archs = pick_spread(reference, count)
    folder = out / space.name
    report = build(
        Plan(space=space, archs=archs, num_runs=num_runs, recipe=recipe, dataset=dataset, base_seed=base_seed),
        folder / "runs",
        Workers(device=device, data_dir=data_dir),
        on_outcome=lambda outcome: print(
            f"{space.name} {outcome.job.arch} run {outcome.job.run}: {outcome.best_test_acc}",
            file=sys.stderr,
            flush=True,
        ),
    )
    path = folder / f"validation-{Path(dataset).name}.v1.parquet"
    collect(folder / "runs", path)
    table = Table.read(path)
    # The published table knows no seed; its runs are not of these seeds.
    found = compare_tables(reference, table)
    rows = [
        {"arch": arch, "reference": reference.accuracy(arch), "trained": table.accuracy(arch)}
        for arch in archs
        if np.isfinite(table.accuracies()[space.index(arch)])
    ]
    facts = {
        "recipe": recipe.name,
        "dataset": table.info.dataset,
        "reference": reference.name,
        "trained": report.num_trained,
    }
    return path, {**facts, **dataclasses.asdict(found), "rows": rows}


def main() -> None:
    """Validate the spaces and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", help="cifar10, or a folder of Parquet images")
    parser.add_argument("--spaces", default="mobilenet,resnet", help="separated by commas")
    parser.add_argument("--reference", action="append", default=[], metavar="SPACE=TABLE", help="[the published table]")
    parser.add_argument("--archs", type=int, default=12, help="of each space")
    parser.add_argument("--runs", type=int, default=1, help="of each architecture; more make the comparison sharper")
    parser.add_argument("--base-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="for a trial; the comparison then says little")
    parser.add_argument("--precision", help="fp32, tf32 or bf16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--allowed", type=float, default=0.1, help="percentage points of mean difference")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    references = dict(text.split("=", 1) for text in arguments.reference)
    all_well = True
    for name in arguments.spaces.split(","):
        reference = cb.load(name, references.get(name), arguments.data_dir)
        path, found = validate(
            reference,
            arguments.out,
            dataset=arguments.dataset,
            count=arguments.archs,
            num_runs=arguments.runs,
            base_seed=arguments.base_seed,
            epochs=arguments.epochs,
            precision=arguments.precision,
            device=arguments.device,
            data_dir=arguments.data_dir,
        )
        difference, error = found["mean_difference"], found["mean_difference_se"]
        well = abs(difference) <= max(arguments.allowed, 3 * (error or 0))
        all_well &= well
        print(json.dumps({**found, "table": str(path), "well": well}, indent=1))
    sys.exit(0 if all_well else 1)


if __name__ == "__main__":
    main()
