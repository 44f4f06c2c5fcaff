"""Look-ups and curves beside NATS-Bench, Syne Tune and pandas, in turns in one run.

    pip install 'channel-bench[adapters]'
    python tests/perf/bench_adapters.py [--archs 256] [--rounds 9] [--json]

The same architectures of the shipped table of resnet-mini are asked for by each path. NATS-Bench's own class (`NATSsize`)
reads them from memory, in the form of its data file and without that file (tests/natsbench.py); Syne Tune's is the
blackbox that the adapter makes; pandas has `Table.frame()` by architecture, and a frame of all curves by architecture
and run. Both sides of a line give the same numbers, which is checked first. Times are of CPU, which other work on the
machine changes little, and medians over rounds that take turns; a ratio above 1 says how many times as fast ours is.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from natsbench import real_api  # noqa: E402

import channel_bench as cb  # noqa: E402
from channel_bench.adapters.naslib import SearchSpace  # noqa: E402
from channel_bench.adapters.shared import arch_of, config_of  # noqa: E402
from channel_bench.adapters.syne_tune import blackbox  # noqa: E402
from channel_bench.nats import create  # noqa: E402

warnings.simplefilter("ignore")  # pandas announces its changes to what Syne Tune calls

EPOCH = 5


class Pair(NamedTuple):
    """One question asked by two paths; each is a function of the number of the architecture."""

    what: str
    ours: Callable[[int], Any]
    other: str
    theirs: Callable[[int], Any]
    same: Callable[[Any, Any], bool]
    """Whether two answers agree."""


def seconds_of(function: Callable[[int], Any], count: int) -> float:
    """CPU seconds of a call, over one pass of all architectures."""
    started = time.process_time()
    for number in range(count):
        function(number)
    return (time.process_time() - started) / count


def close(ours: Any, theirs: Any) -> bool:
    """Whether numbers agree up to single precision, in which curves are kept."""
    return bool(np.allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=1e-6))


def by_key(*keys: str) -> Callable[[Any, Any], bool]:
    """Compare dicts of NATS-Bench by some keys."""
    return lambda ours, theirs: close([ours[key] for key in keys], [theirs[key] for key in keys])


def make_pairs(num_archs: int) -> list[Pair]:
    """All questions, over architectures that are drawn from the space."""
    table = cb.load("resnet-mini")
    indices = sorted(random.Random(0).sample(range(len(table.space)), num_archs))
    texts = [table.space.text(index) for index in indices]
    channels = [":".join(map(str, table.space.channels(text))) for text in texts]
    configs = [config_of(table.space, text) for text in texts]
    api, real = create(table, metric="test_acc", search_on="test"), real_api(table, indices)
    box = blackbox(table, metric="test_acc")
    frame = table.frame().set_index("arch")
    archs, curves = table.all_curves()
    rows = pd.MultiIndex.from_product([archs, range(table.num_runs)], names=["arch", "run"])
    wide = pd.DataFrame(curves["test_acc"].reshape(len(rows), -1), index=rows)
    graphs = [SearchSpace(table, text, metric="test_acc") for text in texts]
    keys = ("test-accuracy", "test-loss", "train-accuracy", "train-loss", "train-all-time")

    def real_curve(n: int) -> list[float]:  # as NASLib asks NATS-Bench
        return [
            real.get_more_info(indices[n], "cifar10", epoch, hp="20", is_random=False)["test-accuracy"]
            for epoch in range(20)
        ]

    def real_run(n: int) -> list[float]:
        return [
            real.get_more_info(indices[n], "cifar10", epoch, hp="20", is_random=1)["test-accuracy"]
            for epoch in range(20)
        ]

    def chosen(function: Callable[[int], Any]) -> Callable[[int], Any]:  # a random run: the same one on both sides
        def seeded(n: int) -> Any:
            random.seed(n)
            return function(n)

        return seeded

    return [
        Pair(
            "accuracy(arch)",
            lambda n: table.accuracy(texts[n]),
            "pandas .loc[arch, 'mean']",
            lambda n: frame.loc[texts[n], "mean"],
            lambda ours, theirs: abs(ours - theirs) < 1e-4,  # a frame is rounded
        ),
        Pair(
            "query(arch)",
            lambda n: table.query(texts[n]),
            "pandas .loc[arch]",
            lambda n: frame.loc[texts[n]],
            lambda ours, theirs: (ours.flops, ours.rank) == (theirs["flops"], theirs["rank"]),
        ),
        Pair(
            "accuracy(arch of a configuration, run)",
            lambda n: table.accuracy(arch_of(table.space, configs[n]), 1, "test_acc"),
            "Syne Tune blackbox(configuration, fidelity, seed)",
            lambda n: box(configs[n], {"epoch": 20}, seed=1),
            lambda ours, theirs: close(ours, theirs["metric_accuracy"]),
        ),
        Pair(
            "nats get_more_info(index)",
            lambda n: api.get_more_info(indices[n], "digits"),
            "NATS-Bench get_more_info(index)",
            lambda n: real.get_more_info(indices[n], "cifar10", hp="20", is_random=False),
            by_key(*keys),
        ),
        Pair(
            "nats get_more_info(text)",
            lambda n: api.get_more_info(channels[n], "digits"),
            "NATS-Bench get_more_info(text)",
            lambda n: real.get_more_info(channels[n], "cifar10", hp="20", is_random=False),
            by_key(*keys),
        ),
        Pair(
            f"nats get_more_info(index, iepoch={EPOCH})",
            lambda n: api.get_more_info(indices[n], "digits", EPOCH),
            f"NATS-Bench get_more_info(index, iepoch={EPOCH})",
            lambda n: real.get_more_info(indices[n], "cifar10", EPOCH, hp="20", is_random=False),
            by_key(*keys),
        ),
        Pair(
            "nats get_cost_info(index)",
            lambda n: api.get_cost_info(indices[n], "digits"),
            "NATS-Bench get_cost_info(index)",
            lambda n: real.get_cost_info(indices[n], "cifar10", hp="20"),
            by_key("flops", "params", "T-train@total"),
        ),
        Pair(
            "nats simulate_train_eval(text)",
            chosen(lambda n: api.simulate_train_eval(channels[n], "digits", account_time=False)),
            "NATS-Bench simulate_train_eval(text)",
            chosen(lambda n: real.simulate_train_eval(channels[n], "cifar10", hp="20", account_time=False)),
            lambda ours, theirs: close((ours[0], ours[2]), (theirs[0], theirs[2])),
        ),
        Pair(
            "curves(arch), all metrics and runs",
            lambda n: table.curves(texts[n]),
            "pandas .loc[arch], one metric",
            lambda n: wide.loc[texts[n]],
            lambda ours, theirs: close(ours["test_acc"], theirs),
        ),
        Pair(
            "curves(arch of a configuration)",
            lambda n: table.curves(arch_of(table.space, configs[n]))["test_acc"][1],
            "Syne Tune blackbox(configuration, seed)",
            lambda n: box(configs[n], seed=1),
            lambda ours, theirs: close(ours, theirs[:, 0]),
        ),
        Pair(
            "curves(arch), one run",
            lambda n: table.curves(texts[n])["test_acc"][1],
            "NATS-Bench get_more_info of 20 epochs",
            real_run,
            close,
        ),
        Pair(
            "naslib query(full_lc=True)",
            lambda n: graphs[n].query("TEST_ACCURACY", "digits", full_lc=True),
            "NATS-Bench get_more_info of 20 epochs, means",
            real_curve,
            close,
        ),
    ]


def main() -> None:
    """Check, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    pairs = make_pairs(arguments.archs)
    for pair in pairs:
        for number in range(0, arguments.archs, 16):
            assert pair.same(pair.ours(number), pair.theirs(number)), f"{pair.what}: answers differ"
    found = []
    for pair in pairs:
        rounds = [
            [seconds_of(function, arguments.archs) for function in (pair.ours, pair.theirs)]
            for _ in range(arguments.rounds)
        ]
        ours, theirs = (1e6 * statistics.median(times) for times in zip(*rounds, strict=True))
        found.append({"what": pair.what, "us": ours, "other": pair.other, "other_us": theirs, "ratio": theirs / ours})
    if arguments.json:
        print(json.dumps(found))
        return
    for line in found:
        print(
            f"{line['what']:44}{line['us']:8.1f} us   {line['ratio']:7.1f}x {line['other']} ({line['other_us']:.1f} us)"
        )
    slower = [line["what"] for line in found if line["ratio"] < 1]
    print(f"slower than the other: {', '.join(slower) or 'nothing'}")


if __name__ == "__main__":
    main()
