"""What a GPU session measures, a stage at a time; gpu_session.py starts each as a process of its own.

    python data/scripts/gpu_stages.py steps --data FOLDER --work WORK --seconds 300 --done '[]'

A stage prints a line ``ROW {...}`` for each thing that it has measured, with a ``key``; keys of --done are left out. A
row that fails carries ``error`` and is not tried again. After an error of CUDA, which poisons all that a process does
later, the stage ends with exit code 4, to go on in a new process. Before a row that no longer fits into the seconds, it
ends with exit code 3. It also ends when its standard input does, so that no stage outlives the session.

facts       card, driver, versions
tests       the tests that need a GPU
steps       ms per step and images/s: small, median, large of both spaces x {plain loop, single, packed} x precision
kernels     what a seed saves that re-uses captured graphs; a step of MobileNet with fused kernels against plain ones
scoring     all sub-networks of both spaces, shared against one by one, in each precision, layout and way
validation  full runs of the builder against the published accuracies
supernets   a supernet per method and space at equal epochs, scored on all 16,384
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONTINUE, RESTART = 3, 4
POISON = r"^(?!OutOfMemoryError|ImportError|ModuleNotFoundError).*(cuda|cudnn|cublas|triton)"
"""What an error says after which no process is to be trusted; too little memory, or what is not there, harms none."""
TEST_S = 120.0
"""What the tests of a file may take; one that takes longer hangs."""
GPU_TESTS = (
    "tests/training/test_step.py",
    "tests/training/test_reuse.py",
    "tests/training/test_slots.py",
    "tests/training/test_train.py",
    "tests/builder/test_packing.py",
    "tests/latency/test_latency.py",
    "tests/check/test_check.py",
    "tests/training/test_fused.py",
    "tests/training/test_fused_depthwise.py",
)
"""Each in a process of its own, so that a bad kernel fails no test of another file; kernels that are off come last."""
SPACES = ("mobilenet", "resnet")
VALIDATED = {
    "resnet": ("1111112", "2321312", "2214431", "3213441", "4344424"),
    "mobilenet": ("1111113", "1241432", "4224324", "2342431", "4444342"),
}
"""Five of each space, over the range of published accuracies."""
METHODS = ("uniform", "bcnet_v2", "autoslim", "bcnet", "fair", "tas")
SUPERNET_EPOCHS = 6
SCORED_IMAGES = 2500
NUM_ALONE = 24
"""Sub-networks that are run one by one, for the ratio."""
NUM_BEGINS = 3
"""Seeds whose trainers are made, captured anew or re-used."""
FUSED = {
    "depthwise plain": ("0", "0"),
    "depthwise fused": ("0", "1"),
    "norms fused, depthwise plain": ("1", "0"),
    "norms fused, depthwise fused": ("1", "1"),
}
"""Values of CHANNEL_BENCH_FUSED_NORM and CHANNEL_BENCH_FUSED_DEPTHWISE."""


@dataclass(frozen=True)
class Work:
    """What a stage was asked for."""

    data: str
    folder: Path
    device: str
    published: Path | None
    smoke: bool
    done: frozenset[str]
    deadline: float
    """Moment of `time.monotonic`."""

    @property
    def spaces(self) -> tuple[str, ...]:
        """The full ones; in a smoke test the mini ones."""
        return tuple(f"{name}-mini" for name in SPACES) if self.smoke else SPACES

    def left_s(self) -> float:
        """Seconds left."""
        return self.deadline - time.monotonic()

    def row(self, key: str, needs_s: float, measure: Callable[[], dict[str, Any]]) -> None:
        """Measure a row and print it, unless it is done; end the stage where it no longer fits."""
        if key in self.done:
            return
        if self.left_s() < needs_s and not self.smoke:
            sys.exit(CONTINUE)
        started = time.monotonic()
        try:
            found = measure()
        except Exception as error:  # a variant that fails is a fact, not the end
            found = {"error": f"{type(error).__name__}: {error}"[:500]}
        report({"key": key, **found, "took_s": round(time.monotonic() - started, 2)})
        if re.search(POISON, found.get("error", ""), re.IGNORECASE):
            sys.exit(RESTART)


def child(words: list[str], timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command from the root of the repository; it does not read our input, which says that the session lives."""
    return subprocess.run(words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)


def report(row: dict[str, Any]) -> None:
    """Print a row."""
    print("ROW " + json.dumps(row), flush=True)


# -- facts and tests -------------------------------------------------------------------------------------------------


def facts(work: Work) -> None:
    """Card, driver and versions."""
    work.row("facts", 1, lambda: _facts(work))


def _facts(work: Work) -> dict[str, Any]:
    import torch

    import channel_bench

    on_gpu = work.device != "cpu" and torch.cuda.is_available()
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit", "--format=csv,noheader"]
    smi = ""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        smi = child(query, timeout=30).stdout.strip() if on_gpu else ""
    cudnn = torch.backends.cudnn.version() if on_gpu else None
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "nvidia_smi": smi,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": cudnn,
        "channel_bench": channel_bench.__version__,
        "commit": _commit(),
    }


def _commit() -> str:
    try:
        return child(["git", "describe", "--always", "--dirty"]).stdout.strip()
    except OSError:
        return ""


def tests(work: Work) -> None:
    """The tests that need a GPU; in a smoke test those of one file are found, and are not run."""
    # What a version of PyTorch that is new to us warns of is no fault here.
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "-n", "0", "-q", "-p", "no:cacheprovider", "-W", "default"]

    def measure(file: str) -> dict[str, Any]:
        allowed_s = min(TEST_S, max(1.0, work.left_s() - 5))
        try:
            found = child([*words, file, *["--collect-only"] * work.smoke], timeout=allowed_s)
        except subprocess.TimeoutExpired as error:
            if allowed_s < TEST_S:  # it may be done in the next call
                sys.exit(CONTINUE)
            raise TimeoutError(f"not done in {allowed_s:.0f} s: {_end_of(error.stdout)[-400:]}") from None
        failed = [line for line in found.stdout.splitlines() if line.startswith(("FAILED", "ERROR", "E  "))]
        return {
            "exit_code": found.returncode,
            "summary": (found.stdout.splitlines() or [""])[-1],
            "failed": failed[:40],
            **({"errors": _end_of(found.stderr)} if found.returncode else {}),
        }

    for file in GPU_TESTS[:1] if work.smoke else GPU_TESTS:
        work.row(file, 60, lambda file=file: measure(file))


def _end_of(output: str | bytes | None) -> str:
    """The end of what a process has said; `subprocess` gives bytes where it ran out of time."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return text[-1000:]


# -- steps -----------------------------------------------------------------------------------------------------------


def steps(work: Work) -> None:
    """Time of a training step, by the benchmark of the builder, a row for each network and way."""
    sys.path.insert(0, str(ROOT / "tests" / "perf"))
    import bench_build as bench

    from channel_bench.recipe import get_recipe
    from channel_bench.space import get_space
    from channel_bench.training.devices import pick_device

    device = pick_device(work.device)
    data = bench.load(work.data, 320 if work.smoke else 12_800)
    # A crew of processes serves all rows that need as many, so that each loads torch and the images once.
    with _crews(bench, data, device) as crews:
        for size in ("median",) if work.smoke else ("median", "small", "large"):
            for name in work.spaces[1:] if work.smoke else work.spaces:
                space = get_space(name)
                arch, recipe = bench.pick_sizes(space)[size], get_recipe(space.recipe)
                for way in _ways(bench, work, device.type == "cuda"):

                    def measure(way: Any = way, space: Any = space, arch: str = arch, recipe: Any = recipe) -> Any:
                        with crews(way.processes) as crew:
                            (cell,) = bench.measure(space, arch, [way], {0: crew}, recipe, data, 0 if work.smoke else 4)
                        ms = 1e3 * recipe.batch_size * way.runs / cell["train_images_per_s"]
                        return {**cell, "ms_per_step": ms, "ms_per_step_and_run": ms / way.runs}

                    work.row(f"{name} {size} {way.name} x{way.runs}", 25, measure)


def _ways(bench: Any, work: Work, on_gpu: bool) -> list[Any]:
    """Ways of training, the most telling first."""
    if not on_gpu:
        return [
            bench.Way("plain loop", usual=True),
            bench.Way("single fp32"),
            bench.Way("single bf16", precision="bf16"),
            bench.Way("packed fp32", processes=2),
        ]
    return [
        bench.Way("single bf16", precision="bf16"),
        bench.Way("packed bf16", precision="bf16", processes=2),
        bench.Way("single tf32", precision="tf32"),
        bench.Way("single fp32"),
        bench.Way("plain loop", usual=True),
        bench.Way("single fp32 channels first", channels_first=True),
        bench.Way("single bf16 --no-graph", precision="bf16", graph=False),
        bench.Way("packed bf16", precision="bf16", processes=4),
        bench.Way("packed tf32", precision="tf32", processes=2),
    ]


@contextlib.contextmanager
def _crews(bench: Any, data: Any, device: Any) -> Iterator[Callable[[int], Any]]:
    """Gives crews by their size, for a block each; one that a block fails with is ended, and never used again."""
    crews: dict[int, Any] = {}

    @contextlib.contextmanager
    def crew_of(count: int) -> Iterator[Any]:
        if count not in crews:
            crews[count] = bench.Crew(count, data, device, 0 if device.type == "cpu" else min(8, bench.NUM_CORES))
        try:
            yield crews[count]
        except BaseException:
            crews.pop(count).stop()
            raise

    try:
        yield crew_of
    finally:
        for crew in crews.values():
            crew.stop()


# -- kernels ---------------------------------------------------------------------------------------------------------


def kernels(work: Work) -> None:
    """Trainers captured anew against re-used ones, and the kernels that are off until a GPU has timed them."""
    if work.smoke:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported; it then runs kernels on a CPU
    sys.path.insert(0, str(ROOT / "tests" / "perf"))
    import bench_build as bench

    from channel_bench.space import get_space
    from channel_bench.training.devices import pick_device

    device = pick_device(work.device)
    precision = "bf16" if device.type == "cuda" else "fp32"
    data = bench.load(work.data, 16 if work.smoke else 12_800).to(device)
    for name in work.spaces[1:] if work.smoke else work.spaces:
        space = get_space(name)
        arch = bench.pick_sizes(space)["median"]
        for reuse, way in ((False, "captured anew"), (True, "re-used")):

            def begin(space: Any = space, arch: str = arch, reuse: bool = reuse) -> dict[str, Any]:
                return _begin(space, arch, precision, data, reuse)

            work.row(f"{name} median {way}", 20, begin)
    space = get_space(work.spaces[0])
    arch = "1111111" if work.smoke else bench.pick_sizes(space)["median"]
    if work.smoke:  # the interpreter is slow
        data = dataclasses.replace(data, train_images=data.train_images[:4], train_labels=data.train_labels[:4])
    for key in list(FUSED)[:2] if work.smoke else FUSED:
        work.row(
            f"{space.name} median {key}", 30, lambda key=key: _fused_step(space, arch, precision, data, *FUSED[key])
        )


def _begin(space: Any, arch: str, precision: str, data: Any, reuse: bool) -> dict[str, Any]:
    """Seconds until the first step of a seed, after those of another one."""
    import statistics

    import torch

    from channel_bench.recipe import get_recipe
    from channel_bench.training.reuse import Workbench
    from channel_bench.training.step import arithmetic

    recipe = get_recipe(space.recipe, precision=precision)
    times = []
    with arithmetic(precision):
        bench = Workbench(space, recipe, data)
        bench.begin(arch, torch.Generator().manual_seed(0))  # pays for what a process loads once
        for seed in range(1, 1 + NUM_BEGINS):
            if not reuse:
                bench = Workbench(space, recipe, data)
            generator = torch.Generator().manual_seed(seed)
            times.append(_timed(data.device, lambda bench=bench, generator=generator: bench.begin(arch, generator))[0])
    return {"arch": arch, "precision": precision, "begin_s": statistics.median(times), "num_built": bench.num_built}


def _fused_step(space: Any, arch: str, precision: str, data: Any, norms: str, depthwise: str) -> dict[str, Any]:
    """Milliseconds per step, and the loss of the first pass, which must not depend on the kernels but for rounding."""
    import statistics

    import torch

    from channel_bench.recipe import get_recipe
    from channel_bench.training import fused, fused_depthwise
    from channel_bench.training.datasets import TrainLoader
    from channel_bench.training.models import build_model
    from channel_bench.training.step import Trainer, arithmetic

    recipe = get_recipe(space.recipe, precision=precision)
    loader = TrainLoader(data.train_images, data.train_labels, recipe)
    # Trainer and kernels are asked for while both variables are set: a graph keeps what it was captured with.
    os.environ |= {fused.VARIABLE: norms, fused_depthwise.VARIABLE: depthwise}
    try:
        with arithmetic(precision):
            trainer = Trainer(build_model(space, arch, torch.Generator().manual_seed(0)), loader)
            plan = loader.plan(torch.Generator(data.device).manual_seed(0))
            first_s, (loss, _) = _timed(data.device, lambda: trainer.epoch(0, [plan]))
            seconds = [first_s]
            if data.device.type == "cuda":  # elsewhere Triton's interpreter runs, and one pass of it is enough
                seconds = [_timed(data.device, lambda: trainer.epoch(1, [plan]))[0] for _ in range(5)]
        ran = fused.is_wanted(data.train_images), fused_depthwise.is_wanted(data.train_images)
    finally:
        del os.environ[fused.VARIABLE], os.environ[fused_depthwise.VARIABLE]
    num_steps = -(-len(data.train_labels) // recipe.batch_size)
    return {
        "arch": arch,
        "precision": precision,
        "fused_norms": ran[0],
        "fused_depthwise": ran[1],
        "ms_per_step": 1e3 * statistics.median(seconds) / num_steps,
        "first_loss": float(loss),
    }


def _timed(device: Any, call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until the device has done it, and what it gave."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, result


# -- scoring ---------------------------------------------------------------------------------------------------------


def scoring(work: Work) -> None:
    """Time of scoring all sub-networks: one chunk of them shared, some one by one; both scaled, which the rows say."""
    from channel_bench.training.devices import pick_device

    device = pick_device(work.device)
    variants = [("fp32", "first", "faster"), ("bf16", "first", "faster")]
    if device.type == "cuda":
        variants += [
            ("tf32", "first", "faster"),
            ("fp32", "first", "grouped"),
            ("fp32", "first", "apart"),
            ("bf16", "last", "faster"),
            ("bf16", "first", "grouped"),
            ("bf16", "first", "apart"),
        ]
    for variant in variants:
        for name in work.spaces:
            key = " ".join((name, *variant))
            work.row(key, 40, lambda name=name, variant=variant: _score(work, device, name, *variant))


def _score(work: Work, device: Any, name: str, precision: str, layout: str, way: str) -> dict[str, Any]:
    import numpy as np
    import torch

    from channel_bench.space import NUM_ARCHS, get_space
    from channel_bench.training.step import arithmetic
    from harness.method import SCORE_CHUNK
    from harness.supernet.exhaustive import Walk
    from harness.supernet.network import Supernet

    space, rng = get_space(name), np.random.default_rng(0)
    net = Supernet(space, torch.Generator().manual_seed(0), precision=precision).to(device)
    count, size = (16, 64) if work.smoke else (SCORED_IMAGES, SCORE_CHUNK)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, *space.input_shape, generator=generator).to(device)
    # Neighbours in index order, as a ranking scores them.
    chunk = space.archs()[NUM_ARCHS // 2 : NUM_ARCHS // 2 + size]
    sample = rng.choice(size, 4 if work.smoke else NUM_ALONE, replace=False)
    found: dict[int, Any] = {}

    def shared(archs: Any, keep: bool) -> Walk:
        def on_logits(rows: list[int], logits: Any) -> None:
            if keep:
                found.update((row, logits[:, place].clone()) for place, row in enumerate(rows) if row in sample)

        formats = {"first": torch.preserve_format, "last": torch.channels_last}
        walk = Walk(net, layout=formats[layout], way=None if way == "faster" else way)
        walk.run(images, archs, on_logits)
        return walk

    def one_by_one() -> list[Any]:
        with torch.no_grad():
            return [net(images, chunk[row].tolist()) for row in sample]

    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with arithmetic(precision):
        shared(chunk[:8], False)  # pays for choosing kernels
        shared_s, walk = _timed(device, lambda: shared(chunk, True))
        one_by_one()
        alone_s, alone = _timed(device, one_by_one)
    differences = [(found[row] - logits).double().pow(2).mean() for row, logits in zip(sample, alone, strict=True)]
    spread = torch.stack(alone).double().std()
    return {
        "num_images": count,
        "chunk": size,
        "chunk_s": shared_s,
        "all_s_extrapolated": shared_s * NUM_ARCHS / size,
        "all_alone_s_extrapolated": alone_s * NUM_ARCHS / len(sample),
        "ratio": (alone_s / len(sample)) / (shared_s / size),
        "tmac_per_s": walk.macs / shared_s / 1e12,
        # Shared and one by one are equal up to rounding: this is how much that is, as a share of the logits' spread.
        "rms_difference": float((sum(differences) / len(differences)).sqrt() / spread),
        "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
    }


# -- full runs, and supernets ----------------------------------------------------------------------------------------


def _reference(work: Work, name: str) -> Any:
    """The published table of a space, or None where it is not at hand."""
    from channel_bench import load
    from channel_bench.errors import ChannelBenchError
    from channel_bench.table.published import install

    folder = work.folder / "data"
    if work.smoke:
        return load(name)
    with contextlib.suppress(ChannelBenchError):
        if work.published is not None and not folder.exists():
            install(source=work.published, data_dir=folder)
        return load(name, data_dir=folder if folder.exists() else None)
    return None


def validation(work: Work) -> None:
    """Full runs by the builder; the published mean of three runs stands beside each where it is at hand."""
    from channel_bench.builder.build import build
    from channel_bench.builder.plan import Plan, Workers
    from channel_bench.builder.store import RunStore
    from channel_bench.errors import ChannelBenchError
    from channel_bench.recipe import get_recipe
    from channel_bench.space import get_space

    fast, exact = ("fp32", "bf16") if work.smoke else ("bf16", "fp32")
    wanted = [(name, fast, VALIDATED[name.removesuffix("-mini")]) for name in work.spaces]
    wanted.append((work.spaces[1], exact, ("1111112",)))
    for name, precision, archs in wanted:
        space, reference = get_space(name), _reference(work, name)
        archs = archs[:2] if work.smoke else archs
        recipe = get_recipe(space.recipe, precision=precision, epochs=1 if work.smoke else None)
        folder = work.folder / "validation" / f"{name}-{precision}"
        plan = Plan(space=space, archs=archs, num_runs=1, recipe=recipe, dataset=work.data)

        def tell(arch: str, accuracy: float | None, **more: Any) -> None:
            row: dict[str, Any] = {"key": f"{name} {arch} {precision}", "best_test_acc": accuracy, **more}  # noqa: B023
            if reference is not None and accuracy is not None:  # noqa: B023
                published = reference.accuracy(arch)  # noqa: B023
                row |= {"reference": published, "difference": accuracy - published}
            report(row)

        failed = f"{name} {precision}"
        if failed in work.done or all(f"{name} {arch} {precision}" in work.done for arch in archs):
            continue
        if work.left_s() < 60 and not work.smoke:
            sys.exit(CONTINUE)
        started = time.monotonic()
        try:
            build(
                plan,
                folder,
                Workers(device=work.device, num_workers=1 if work.smoke else None),
                on_outcome=lambda outcome: tell(
                    outcome.job.arch,
                    outcome.best_test_acc,
                    status=outcome.status,
                    since_start_s=round(time.monotonic() - started, 1),  # noqa: B023
                ),
            )
        except ChannelBenchError as error:  # a run that failed in all its tries costs no other space
            report({"key": failed, "error": str(error)[:500]})
            continue
        # Runs that an earlier call finished and did not live to tell, and the seconds of all.
        for record in (RunStore.open(folder).read(key) for key in [(arch, 0) for arch in archs]):
            tell(record.arch, record.best_test_acc, status=record.status, train_s=record.train_s, device=record.device)


def supernets(work: Work) -> None:
    """A ranking per method and space, by the command that users type, compared where the truth is at hand."""
    methods = METHODS[:1] if work.smoke else METHODS
    for method in methods:
        for name in work.spaces[:1] if work.smoke else work.spaces:
            work.row(f"{name} {method}", 90, lambda name=name, method=method: _rank(work, name, method))


def _rank(work: Work, name: str, method: str) -> dict[str, Any]:
    from channel_bench.space import get_space
    from harness.scores import read_scores
    from harness.stats.metrics import correlations

    precision = "bf16"
    out = work.folder / "supernets" / f"{method}.{name}.parquet"
    out.parent.mkdir(parents=True, exist_ok=True)
    epochs, num_val = (1, 20) if work.smoke else (SUPERNET_EPOCHS, SCORED_IMAGES)
    if not out.exists():
        words = [sys.executable, "-m", "harness.cli", "rank", method, "--space", name, "--dataset", work.data]
        words += ["--precision", precision, "--epochs", str(epochs), "--num-val", str(num_val), "--no-truth"]
        words += ["--device", work.device, "--out", str(out)]
        found = child(words)
        if found.returncode:
            raise RuntimeError(found.stderr.strip()[-400:])
    space = get_space(name)
    scores = read_scores(out, space)
    kept = ("dataset", "device", "torch", "num_train", "num_val", "train_macs", "fit_s", "train_s", "score_s")
    row = {"file": out.name, "epochs": epochs, **{key: scores.facts.get(key) for key in kept}}
    row["precision"] = scores.facts["recipe"]["precision"]
    reference = _reference(work, name)
    return (
        row if reference is None else {**row, **dataclasses.asdict(correlations(scores.values, reference.accuracies()))}
    )


STAGES: dict[str, Callable[[Work], None]] = {
    "facts": facts,
    "tests": tests,
    "steps": steps,
    "kernels": kernels,
    "scoring": scoring,
    "validation": validation,
    "supernets": supernets,
}


def end_with_the_session() -> None:
    """End this process and all that it began when the session is gone, however that ended."""

    def watch() -> None:
        # Not by sys.stdin, whose lock an ending process may wait for.
        while os.read(0, 2**10):
            pass
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--data", required=True)
    parser.add_argument("--published", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--done", default="[]")
    arguments = parser.parse_args()
    if os.getpgrp() == os.getpid():  # as the session starts it; by hand, the terminal is its input
        end_with_the_session()
    work = Work(
        data=arguments.data,
        folder=arguments.work,
        device=arguments.device,
        published=arguments.published,
        smoke=arguments.smoke,
        done=frozenset(json.loads(arguments.done)),
        deadline=time.monotonic() + arguments.seconds,
    )
    try:
        STAGES[arguments.stage](work)
    except SystemExit as ending:
        if ending.code != RESTART:
            raise
        sys.stdout.flush()
        os._exit(RESTART)  # what Python frees at its end, a poisoned card may answer with an abort


if __name__ == "__main__":
    main()
