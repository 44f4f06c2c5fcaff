"""Results of a table in the form that NATS-Bench's own class reads, to hold the facade against the real one.

NATS-Bench takes a dict in place of its file. Its code knows its three data sets by name, so results of the digits stand
there as "cifar10" and, with test accuracies in the place of the validation split that `simulate_train_eval` asks for,
as "cifar10-valid". That is for comparisons in tests only; nothing is written.
"""

from __future__ import annotations

from typing import Any

from channel_bench.nats import MILLION, create
from channel_bench.table import Table


def real_api(table: Table, indices: list[int]) -> Any:
    """NATS-Bench's `NATSsize` over some architectures of a table with curves; others are known by name only."""
    from nats_bench.api_size import NATSsize

    texts = create(table).meta_archs
    results = {
        "meta_archs": texts,
        "evaluated_indexes": indices,
        "arch2infos": {index: {str(_epochs(table)): _results(table, index, texts[index])} for index in indices},
    }
    api = NATSsize(results, fast_mode=False, verbose=False)
    api._full_train_epochs = _epochs(table)
    return api


def _epochs(table: Table) -> int:
    return int(table.info.recipe["epochs"])


def _results(table: Table, index: int, text: str) -> dict[str, Any]:
    """State of an `ArchResults`."""
    runs = list(range(table.num_runs))
    sets = {"cifar10": ("ori-test",), "cifar10-valid": ("x-valid", "ori-test")}
    return {
        "arch_index": index,
        "arch_str": text,
        "all_results": {
            (name, run): _result(table, index, run, text, evals) for name, evals in sets.items() for run in runs
        },
        "dataset_seed": dict.fromkeys(sets, runs),
        "clear_net_done": True,
    }


def _result(table: Table, index: int, run: int, text: str, evals: tuple[str, ...]) -> dict[str, Any]:
    """State of a `ResultsCount`, one training; its times are shares of the whole, evaluations take none of it."""
    curves = {name: values[run].astype(float).tolist() for name, values in table.curves(index).items()}
    epochs = _epochs(table)
    share_s = float(table.column("train_s")[index, run]) / epochs
    return {
        "name": "resnet",
        "net_state_dict": None,
        "train_acc1es": dict(enumerate(curves["train_acc"])),
        "train_acc5es": None,
        "train_losses": dict(enumerate(curves["train_loss"])),
        "train_times": dict.fromkeys(range(epochs), share_s),
        "arch_config": {"arch_str": text},
        "params": table.space.params(index) / MILLION,
        "flop": table.space.flops(index) / MILLION,
        "seed": run,
        "epochs": epochs,
        "latency": [1.0],  # a table has none, but NATS-Bench computes with one
        "eval_names": list(evals),
        "eval_acc1es": {f"{name}@{i}": value for name in evals for i, value in enumerate(curves["test_acc"])},
        "eval_losses": {f"{name}@{i}": value for name in evals for i, value in enumerate(curves["test_loss"])},
        "eval_times": {f"{name}@{i}": 0.0 for name in evals for i in range(epochs)},
    }
