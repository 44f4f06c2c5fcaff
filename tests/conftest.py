"""What tests share: where third-party data may lie, and one thread per process so that results repeat."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

SHARED_DATA = Path(os.environ.get("CHANNEL_BENCH_SHARED", Path(__file__).parents[2] / "shared")) / "data"
SCRIPTS = Path(__file__).parents[1] / "data" / "scripts"
PUBLISHED_FILES = {"resnet": "Results_ResNet.json", "mobilenet": "Results_MobileNet.json"}


def _shared(*parts: str) -> Path:
    path = SHARED_DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"third-party data is not part of the repository, and {path} is absent")
    return path


def skip_unless_required(what, reason):
    """Skip a test for lack of something; where continuous integration requires it, the test has lost its way to it."""
    (pytest.fail if os.environ.get("CHANNEL_BENCH_REQUIRE") == what else pytest.skip)(reason)


class Isolated(dict):
    """A copy of what a registry knows, for a test that registers names which no other test may see.

    A built-in plug-in registers itself when it is first imported, once in a process: the original keeps that.
    """

    def __init__(self, registry):
        super().__init__(registry._known)
        self._original, self._built_in = registry._known, registry.built_in

    def __setitem__(self, name, plugin):
        if name in self._built_in:
            self._original[name] = plugin
        super().__setitem__(name, plugin)


@pytest.fixture(scope="session")
def published_dir() -> Path:
    """Folder of the two published JSON files."""
    return _shared("published")


@pytest.fixture(scope="session")
def scores_dir() -> Path:
    """Folder of supernet scores that others published."""
    return _shared("scores")


@pytest.fixture(scope="session")
def cifar_jpeg_dir() -> Path:
    """CIFAR-10 as Parquet files of encoded images."""
    return _shared("cifar10_jpeg75")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Results depend on the number of threads in the last bits; workers use one, so tests do."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory):
    """A data folder of the session's own, so that no test reads or writes the user's."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHANNEL_BENCH_DATA", str(folder))
        yield folder


@pytest.fixture(scope="session")
def published(published_dir, data_dir):
    """The published tables, imported into the session's data folder."""
    from channel_bench.table.published import install

    install(source=published_dir, data_dir=data_dir)
    return data_dir


@pytest.fixture(autouse=True, scope="module")
def no_space_stays_registered():
    """Spaces of one's own that a module's tests load are unknown to the next module."""
    from channel_bench.space import own

    before = dict(own._registered)
    yield
    own._registered.clear()
    own._registered.update(before)


@pytest.fixture(scope="session")
def digits():
    """The embedded data set."""
    from channel_bench.training.datasets import load_dataset

    return load_dataset("digits")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium; `Browser.open` begins a page anew, so that tests share it."""
    from browser import CHROMIUM, Browser

    if CHROMIUM is None:
        skip_unless_required("browser", "no chromium, chromium-browser or google-chrome here to draw the page")
    running = Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


def pytest_configure(config):
    """Compile every module once for all processes of the tests, also where Python is told to write no bytecode.

    Half of what a process takes to import PyTorch is compiling it. The folder is pytest's own, beside no source.
    """
    if sys.dont_write_bytecode and sys.pycache_prefix is None and hasattr(config, "cache"):
        folder, temporary = config.cache.mkdir("bytecode"), Path(tempfile.gettempdir())
        # What earlier tests wrote is gone, and another file may have its name.
        shutil.rmtree(folder / temporary.relative_to(temporary.anchor), ignore_errors=True)
        sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
        sys.dont_write_bytecode = False
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Begin with what takes long, after the groups, and keep these on one worker.

    For the latter pytest-xdist 3.8 appends a group to a name that pytest 9.2 reads from elsewhere.
    """
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:
        if "_nodeid" in vars(item):  # a slot in the versions that do read it
            item._id = type(item._id).parse(item._nodeid)


def load_script(path: Path) -> ModuleType:
    """A program that is no part of a package, as a module."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


def make_rows(space, num_archs: int, num_runs: int) -> list[dict]:
    """Rows of a table with made-up accuracies, spread over the space; for tests of tables, never of results."""
    rows = []
    texts, flops, params = space.texts(), space.flops().tolist(), space.params().tolist()
    for index in range(0, 16384, 16384 // num_archs)[:num_archs]:
        for run in range(num_runs):
            accuracy = 50 + (index * 31 + run * 7) % 400 / 10
            rows.append(
                {
                    "arch": texts[index],
                    "run": run,
                    "seed": run,
                    "status": "ok",
                    "test_acc": accuracy - 1,
                    "best_test_acc": accuracy,
                    "best_epoch": 1,
                    "train_acc": 99.0,
                    "train_loss": 0.1,
                    "test_loss": 0.5,
                    "num_epochs": 2,
                    "flops": flops[index],
                    "params": params[index],
                    "train_s": 1.5,
                    "device": "cpu",
                    "torch": "0",
                    "stack": 1,
                    "backend": "torch",
                }
            )
    return rows


def make_info(space, **changes):
    """Provenance for `make_rows`."""
    from channel_bench.record import TableInfo

    facts = {
        "name": "made-up",
        "space": space.name,
        "space_fingerprint": space.fingerprint,
        "dataset": "digits",
        "dataset_digest": None,
        "recipe": {"name": "mini", "epochs": 2},
        "recipe_fingerprint": "0",
        "accuracy": "best test accuracy over 2 epochs, percent",
        "source": "made up by a test",
        "code_version": "0",
        "torch_versions": [],
        "devices": ["cpu"],
    }
    return TableInfo(**(facts | changes))


def write_table(path: Path, rows: list[dict], info, **writer) -> Path:
    """Write rows as a table file."""
    import pyarrow.parquet as pq

    from channel_bench.record import make_arrow, with_info

    pq.write_table(with_info(make_arrow(rows), info), path, **writer)
    return path


@pytest.fixture(scope="session")
def small_table_path(tmp_path_factory) -> Path:
    """A table file of 64 architectures x 2 runs of resnet-mini with made-up accuracies."""
    import channel_bench as cb

    space = cb.get_space("resnet-mini")
    return write_table(tmp_path_factory.mktemp("table") / "small.parquet", make_rows(space, 64, 2), make_info(space))


def start_cli(name: str, *arguments: object) -> int:
    """Run a command line in this process: (name, *arguments) -> exit code."""
    from channel_bench.cli import app as bench
    from channel_bench.support.terminal import run_app
    from harness.cli import app as harness

    with pytest.raises(SystemExit) as stopped:
        run_app({"channel-bench": bench, "channel-harness": harness}[name], name, [str(part) for part in arguments])
    return stopped.value.code


@pytest.fixture
def run_cli(capfd):
    """Run a command line in this process: (name, *arguments) -> (exit code, standard output, standard error)."""

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = start_cli(name, *arguments)
        output = capfd.readouterr()
        return code, output.out, output.err

    return run


def make_record(arch="1234123", run=0, accuracy=50.0):
    """A record of resnet-mini with made-up curves; for tests of stores, never of results."""
    import channel_bench as cb
    from channel_bench.record import CURVE_METRICS, RunRecord

    space = cb.get_space("resnet-mini")
    return RunRecord.from_curves(
        dict.fromkeys(CURVE_METRICS, [1.0, accuracy]),
        arch=arch,
        run=run,
        seed=run,
        num_epochs=2,
        train_s=1.0,
        device="cpu",
        torch="0",
        stack=1,
        backend="torch",
        flops=space.flops(arch),
        params=space.params(arch),
    )


PART_DAMAGES = [
    lambda path: path.write_bytes(path.read_bytes()[:-20]),
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes().replace(b"50.0", b"60.0")),
    lambda path: path.write_bytes(os.urandom(500)),
    lambda path: os.replace(path, path.with_name("1234124-0.json")),
]
"""What can happen to the file of a run of `make_record`; each reader of parts has to see all of it."""


IMPOSSIBLE = [
    *({"best_test_acc": value} for value in ("50", True, -1, 100.5, 10**30, [], None, math.nan, math.inf)),
    *({"flops": value} for value in (10**30, 0, 1.5, "5")),
    *({"stack": value} for value in (10**9, 0, "1", True)),
    *({"num_epochs": value} for value in (0, 10**9, None)),
    *({"best_epoch": value} for value in (0, 1.5)),
    *({"train_s": value} for value in (-1, "1", math.inf)),
    *({"test_loss": value} for value in ("1", 1e39, math.inf, None)),
    *({"device": value} for value in (5, "\x1b[31mred", "\ud800", "a" * 300)),
    {"status": "lost"}, {"status": "diverged", "test_acc": 5.0}, {"arch": "1234125"}, {"arch": 1234123},
    *({"curves": value} for value in (5, [], {"test_acc": [1.0, 2.0, 2.0]}, None)),
    *(
        {"test_acc": 2.0, "curves": dict.fromkeys(("train_loss", "train_acc", "test_loss", "test_acc"), value)}
        for value in (5, [1.0, 2.0], [1.0, 2.0, 2.0, 2.0], ["1", 2.0, 2.0], [1.0, 2.0, 101.0])
    ),
]  # fmt: skip
"""Changes to the JSON of a record of three epochs after which it is no record of a run."""


class Given:
    """Work of a test: these stacks, for this builder alone."""

    def __init__(self, stacks):
        self.stacks = [list(stack) for stack in stacks]

    def __len__(self):
        return len(self.stacks)

    @property
    def is_over(self):
        return not self.stacks

    def take(self):
        try:
            return self.stacks.pop(0)
        except IndexError:
            return []


@pytest.fixture
def store(tmp_path):
    """An empty store of resnet-mini runs."""
    import channel_bench as cb
    from channel_bench.builder.store import RunStore
    from channel_bench.recipe import get_recipe

    return RunStore.create(tmp_path / "runs", cb.get_space("resnet-mini"), get_recipe("mini"), "digits", "d1")
