"""check_method: every built-in method passes, every way to break the contract is caught by the check that is for it."""

import dataclasses
import itertools
import json
import random
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

import channel_bench as cb
from channel_bench.errors import ArgumentError, ChannelBenchError, MissingDataError, UnknownNameError
from channel_bench.table import Table, published, shipped
from harness.check.checker import (
    AS_CLASS,
    AS_EVALUATOR,
    CHECKS,
    NOT_REACHED,
    NUM_STEPS,
    TOLERANCE,
    check_method,
    small_task,
)
from harness.check.isolation import TableAccessError, blocked_table, watched_globals
from harness.method import PROXIES, SUPERNETS
from harness.supernet.exhaustive import SupernetEvaluator
from harness.supernet.training import make_supernet, train_supernet

HARNESS = "channel-harness"
SPACE = cb.get_space("resnet-mini")
# What others have installed beside this package is theirs to test.
BUILT_IN = SUPERNETS
QUICK = ("az_nas", "swap")
"""Proxies share all but what they measure: these are checked by default, the others where time is no matter."""
SPACES = ("resnet-mini", "mobilenet-mini")
CHECKED = {(name, SPACES[place % 2]) for place, name in enumerate([*BUILT_IN, *QUICK])}
"""By default each is checked in one space; supernets in the other among the tests of processes, proxies where time is
no matter."""


def marks_of(name, space):
    if (name, space) in CHECKED:
        return ()
    return pytest.mark.processes if name in BUILT_IN else pytest.mark.slow


def failed(findings):
    return [finding.check for finding in findings if finding.failed]


def named(findings):
    return {finding.check: finding for finding in findings}


# -- what fulfils the contract ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "space"),
    [pytest.param(*pair, marks=marks_of(*pair)) for pair in itertools.product([*BUILT_IN, *PROXIES], SPACES)],
)
def test_every_method_fulfils_the_contract(name, space):
    options = {"samples": 30} if name in PROXIES else {}
    findings = check_method(name, space, options=options, device="cpu")
    assert [finding for finding in findings if finding.failed] == []
    assert {finding.check for finding in findings if finding.outcome == "skipped"} <= {"columns", "facts"}
    if name in BUILT_IN:  # they draw weights and widths
        assert named(findings)["seed"].found.endswith("others")


class Good:
    """Ranks by the mean response of the images to one random filter per architecture, drawn by the task's seed."""

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def fit(self, task):
        for epoch in (1, 2):
            if task.on_epoch is not None:
                task.on_epoch(epoch, 2, "no loss")
        return GoodEvaluator(task, self.scale)


class GoodEvaluator:
    def __init__(self, task, scale):
        self.task, self.scale = task, scale
        self.images = task.val_images.float() / 255

    def score(self, archs):
        return np.array([self.response(arch) for arch in archs], np.float64)

    def response(self, arch):
        generator = self.task.generator(int(self.task.space.index(tuple(arch.tolist()))))
        weight = torch.randn(1, self.images.shape[1], 3, 3, generator=generator).to(self.images.device)
        return self.scale * functional.conv2d(self.images, weight).relu().mean().item()


def with_evaluator(**functions):
    """`Good` whose evaluator has other functions: score, columns, __init__."""
    evaluator = type("Evaluator", (GoodEvaluator,), functions)

    class Variant(Good):
        def fit(self, task):
            super().fit(task)
            return evaluator(task, self.scale)

    return Variant


def in_fit(action):
    """`Good` that does something to the task first."""

    class Variant(Good):
        def fit(self, task):
            action(task)
            return super().fit(task)

    return Variant


def test_a_good_method_passes_every_check_in_order():
    steps = []
    findings = check_method(Good, options={"scale": 2.0}, device="cpu", on_step=steps.append)
    assert [finding.check for finding in findings] == list(CHECKS)
    offered = {"columns": "skipped", "facts": "skipped"}
    assert {finding.check: finding.outcome for finding in findings} == dict.fromkeys(CHECKS, "passed") | offered
    assert len(steps) == NUM_STEPS
    assert named(findings)["device"].found == "all convolutions ran on cpu"
    assert "seed 1 others" in named(findings)["seed"].found


def test_what_an_evaluator_offers_beside_scores_is_named():
    def columns(self, archs):
        return {"loss": -self.score(archs), "digits": archs.sum(1).astype(float)}

    findings = named(check_method(with_evaluator(columns=columns, facts={"steps": 6}), device="cpu"))
    assert (findings["columns"].found, findings["facts"].found) == ("loss, digits", "steps")
    assert findings["columns"].outcome == findings["facts"].outcome == "passed"


@pytest.mark.parametrize("space", ["resnet", "mobilenet-mini"])
def test_the_small_task_fits_its_space_and_needs_no_download(space, tmp_path, monkeypatch):
    monkeypatch.setenv("CHANNEL_BENCH_DATA", str(tmp_path))
    task = small_task(space, seed=3)
    assert (task.seed, task.recipe.epochs, task.train_images.shape[1:]) == (3, 2, cb.get_space(space).input_shape)
    num_batches = -(-len(task.train_labels) // task.recipe.batch_size)
    assert num_batches == 3 and len(task.val_labels) * 3 == len(task.train_labels)
    assert not torch.equal(task.train_images, torch.zeros_like(task.train_images))


def test_another_seed_and_no_randomness_are_said_and_allowed():
    class Widest:
        def fit(self, task):
            return self

        def score(self, archs):
            return archs.sum(1).astype(float)

    findings = named(check_method(Widest, device="cpu"))
    assert "the same scores, right only if nothing is random" in findings["seed"].found
    assert findings["device"].found == "no convolution ran"
    assert findings["progress"].outcome == "note" and "never called" in findings["progress"].found
    assert failed(findings.values()) == []


# -- what breaks it ---------------------------------------------------------------------------------------------


def raise_it(task):
    raise ValueError("broken\non two lines")


def need_two(self, archs):
    if len(archs) < 2:
        raise ValueError("too few")
    return GoodEvaluator.score(self, archs)


def remember(self, archs):
    self.calls = getattr(self, "calls", 0) + 1
    return GoodEvaluator.score(self, archs) + self.calls


def standardise(self, archs):
    scores = GoodEvaluator.score(self, archs)
    return (scores - scores.mean()) / scores.std() if len(scores) > 1 else scores


def shift_in_place(self, archs):
    scores = GoodEvaluator.score(self, archs)
    archs -= 1
    return scores


def unseeded(self, task, scale):
    GoodEvaluator.__init__(self, task, scale)
    self.scale = np.random.default_rng().random()


def convolve_elsewhere(task):
    image = torch.zeros(1, 1, 8, 8, device="meta")
    functional.conv2d(image, torch.zeros(1, 1, 3, 3, device="meta"))


def swallow_the_table(task):
    try:
        cb.load("resnet-mini")
    except Exception:
        pass


class OptionWithoutDefault(Good):
    def __init__(self, depth):
        super().__init__()


class ReturnsNothing(Good):
    def fit(self, task):
        pass


class TakesNoTask(Good):
    def fit(self):
        pass


BAD = {  # a method, the check that is to catch it, and what it is to say
    "needs an option": (OptionWithoutDefault, "construct", "missing 1 required positional argument: 'depth'"),
    "has no fit": (dict, "construct", "class dict has no function fit(task)"),
    "raises in fit": (in_fit(raise_it), "fit", "fit(task) raised ValueError: broken on two lines ("),
    "returns nothing": (ReturnsNothing, "fit", "returned None, which has no function score"),
    "fit of no task": (TakesNoTask, "fit", "takes 1 positional argument but 2 were given"),
    "ends the program": (with_evaluator(score=lambda self, archs: sys.exit("bye")), "score", "raised SystemExit: bye"),
    "column of scores": (
        with_evaluator(score=lambda self, archs: GoodEvaluator.score(self, archs)[:, None]),
        "score",
        "returned float64 of shape (8, 1), not float64 (8,)",
    ),
    "integers": (with_evaluator(score=lambda self, archs: archs.sum(1)), "score", "returned int64 of shape (8,)"),
    "nan": (with_evaluator(score=lambda self, archs: np.full(len(archs), np.nan)), "score", "returned nan for 1111111"),
    "needs two": (with_evaluator(score=need_two), "sizes", "score() of no architectures raised ValueError: too few"),
    "squeezes": (
        with_evaluator(score=lambda self, archs: GoodEvaluator.score(self, archs).squeeze()),
        "sizes",
        "score() of a single architecture returned float64 of shape ()",
    ),
    "standardises": (with_evaluator(score=standardise), "company", "among 8 architectures and"),
    "remembers": (with_evaluator(score=remember), "company", "when asked again"),
    "ranks by place": (
        with_evaluator(score=lambda self, archs: np.arange(len(archs)) / 7),
        "company",
        "in another order",
    ),
    "changes its input": (with_evaluator(score=shift_in_place), "input", "changed the array that it was given"),
    "columns as a list": (
        with_evaluator(columns=lambda self, archs: [1.0]),
        "columns",
        "an object of class list, not a dict",
    ),
    "columns too short": (
        with_evaluator(columns=lambda self, archs: {"loss": np.ones(3)}),
        "columns",
        "'loss', returned float64 of shape (3,), not float64 (8,)",
    ),
    "columns by place": (
        with_evaluator(columns=lambda self, archs: {"loss": np.arange(len(archs)) / 7}),
        "columns",
        "in another order ('loss')",
    ),
    "facts of a tensor": (with_evaluator(facts={"scale": torch.ones(2)}), "facts", "Tensor is not JSON serializable"),
    "facts as a list": (with_evaluator(facts=[1]), "facts", "they are an object of class list, not a dict"),
    "unseeded": (with_evaluator(__init__=unseeded), "seed", "two fits with seed 0: 1111111 has"),
    "loads the table": (
        in_fit(lambda task: cb.load("resnet-mini")),
        "table",
        "fit(task) used channel_bench.table.sources.load()",
    ),
    "swallows": (in_fit(swallow_the_table), "table", "fit(task) used channel_bench.table.sources.load() ("),
    "draws from torch": (in_fit(lambda task: torch.rand(3)), "generators", "moved PyTorch's CPU generator"),
    "draws from numpy": (in_fit(lambda task: np.random.rand()), "generators", "moved NumPy's legacy generator"),
    "draws from random": (in_fit(lambda task: random.random()), "generators", "moved Python's random"),
    "seeds torch": (in_fit(lambda task: torch.manual_seed(task.seed)), "generators", "PyTorch's CPU generator"),
    "sets threads": (in_fit(lambda task: torch.set_num_threads(2)), "settings", "the number of threads (1 to 2)"),
    "sets gradients": (in_fit(lambda task: torch.set_grad_enabled(False)), "settings", "gradient mode (True to False)"),
    "sets the dtype": (
        in_fit(lambda task: torch.set_default_dtype(torch.float64)),
        "settings",
        "the default dtype (torch.float32 to torch.float64)",
    ),
    "sets determinism": (
        in_fit(lambda task: torch.use_deterministic_algorithms(True)),
        "settings",
        "deterministic algorithms (False to True)",
    ),
    "changes images": (in_fit(lambda task: task.train_images.zero_()), "task", "changed task.train_images"),
    "changes labels": (in_fit(lambda task: task.val_labels.fill_(1)), "task", "changed task.val_labels"),
    "other device": (in_fit(convolve_elsewhere), "device", "convolutions ran on meta; the task is on cpu"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_contract_is_caught_by_the_check_that_is_for_it(name):
    method, check, message = BAD[name]
    outside = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    settings = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    findings = check_method(method, device="cpu")
    assert failed(findings) == [check]
    found = named(findings)[check]
    assert message in found.found, found.found
    assert found.remedy in (CHECKS[check][1], AS_CLASS, AS_EVALUATOR) and found.requirement == CHECKS[check][0]
    assert not any("\n" in finding.found + finding.remedy for finding in findings)
    # Whatever the method did, the process is as before.
    assert torch.equal(torch.get_rng_state(), outside[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == outside[1:]
    assert settings == (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype())
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_failure_names_the_line_of_the_method_and_not_of_the_check():
    (found,) = [finding.found for finding in check_method(in_fit(raise_it), device="cpu") if finding.failed]
    line = raise_it.__code__.co_firstlineno + 1
    assert found.endswith(f"test_check.py:{line})")
    (found,) = [finding.found for finding in check_method(in_fit(swallow_the_table), device="cpu") if finding.failed]
    assert found.endswith(f"test_check.py:{swallow_the_table.__code__.co_firstlineno + 2})")


def test_what_could_not_be_reached_is_said_to_be_skipped():
    findings = named(check_method(in_fit(raise_it), device="cpu"))
    assert {check for check, finding in findings.items() if finding.found == NOT_REACHED} == set(CHECKS) - {
        "construct",
        "fit",
    }
    assert all(finding.outcome == "skipped" for finding in findings.values() if finding.found == NOT_REACHED)


def test_several_breaches_are_found_at_once():
    def score(self, archs):
        np.random.rand()
        return archs.mean(1) - archs.mean() if len(archs) else np.empty(0)

    findings = check_method(with_evaluator(score=score), device="cpu")
    assert failed(findings) == ["company", "generators"]


@pytest.mark.parametrize(("share", "outcome"), [(0.4, "passed"), (4, "failed")])
def test_rounding_is_forgiven_up_to_the_tolerance(share, outcome):
    def score(self, archs):
        return GoodEvaluator.score(self, archs) * (1 + share * TOLERANCE * (len(archs) == 1))

    finding = named(check_method(with_evaluator(score=score), device="cpu"))["company"]
    assert finding.outcome == outcome
    assert finding.failed or "equal within 4e-07 of the largest" in finding.found


@pytest.mark.parametrize(
    ("calls", "found"),
    [
        ([(1, 2, "x"), (2, 2, "x")], "called for each of 2 epochs"),
        ([(0, 2, "x"), (1, 2, "x")], "called 2 times, first with (0, 2, 'x'), last with (1, 2, 'x')"),
        ([(1, 1)], "called 1 times, first with (1, 1), last with (1, 1)"),
    ],
)
def test_progress_is_judged_but_fails_nothing(calls, found):
    class Told(Good):
        def fit(self, task):
            for call in calls:
                if task.on_epoch is not None:
                    task.on_epoch(*call)
            return GoodEvaluator(task, 1.0)

    findings = check_method(Told, device="cpu")
    assert named(findings)["progress"].found == found and failed(findings) == []
    assert named(findings)["progress"].outcome == ("passed" if "each" in found else "note")


@pytest.mark.gpu
def test_a_network_on_the_cpu_is_found_where_the_task_is_on_a_gpu():
    class OnCpu(Good):
        def fit(self, task):
            tensors = {name: getattr(task, name).cpu() for name in ("val_images", "val_labels", "train_images")}
            return GoodEvaluator(dataclasses.replace(task, **tensors), self.scale)

    assert failed(check_method(OnCpu, device="cuda")) == ["device"]
    assert failed(check_method(Good, device="cuda")) == []


# -- the guards -------------------------------------------------------------------------------------------------


def read_with_pandas(path):
    import pandas as pd

    return pd.read_parquet(path)


def read_with_pyarrow(path):
    import pyarrow.parquet as pq

    return pq.read_table(path), pq.ParquetFile(path)


def read_with_h5py(path):
    import h5py

    return h5py.File(path.with_suffix(".h5")).close()


@pytest.mark.parametrize(
    "read",
    [
        lambda path: cb.load("resnet-mini"),
        lambda path: shipped.shipped_path(SPACE),
        lambda path: published.table_path(cb.get_space("resnet")),
        lambda path: Table.read(path),
        read_with_pandas,
        read_with_pyarrow,
        read_with_h5py,
        lambda path: path.read_bytes(),
        lambda path: open(path, "rb").close(),
    ],
)
def test_every_usual_way_to_the_table_is_closed_and_then_open_again(read):
    path = shipped.shipped_path(SPACE)
    with blocked_table() as tries:
        with pytest.raises(TableAccessError, match="a method may not read the trained truth, and .* is a way to it"):
            read(path)
        assert len(tries) == 1 and any(position.module == __name__ for position in tries[0].stack)
    assert issubclass(TableAccessError, ChannelBenchError)
    read(path)


def test_a_table_that_was_loaded_before_answers_nothing(tmp_path):
    table = cb.load("resnet-mini")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "Results_ResNet.json").write_text("{}")
    with blocked_table() as tries:
        with pytest.raises(TableAccessError, match="a loaded Table"):
            table.accuracy("4344424")
        assert (tmp_path / "other.json").read_text() == "{}"
        with pytest.raises(TableAccessError, match="Results_ResNet.json"):
            (tmp_path / "Results_ResNet.json").read_text()
    assert len(tries) == 2
    assert 0 < table.accuracy("4344424") <= 100


def test_globals_are_put_back_whatever_a_block_raises():
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    with pytest.raises(ZeroDivisionError):
        with watched_globals(5, torch.device("cpu")) as changes:
            assert torch.initial_seed() == 5
            torch.set_default_device("meta")
            np.seterr(divide="raise")
            random.random()
            raise ZeroDivisionError
    assert changes.generators == ["Python's random"]
    assert [text.partition(" (")[0] for text in changes.settings] == ["the default device", "NumPy's error handling"]
    assert torch.empty(0).device.type == "cpu" and np.geterr()["divide"] == "warn"
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
    with watched_globals(5, torch.device("cpu")) as changes:
        torch.rand(1, generator=torch.Generator())
    assert changes.generators == changes.settings == []


# -- by name, module and file, and from the command line --------------------------------------------------------


WIDEST = """
import neighbour

class Widest:
    def __init__(self, power: int = 1):
        if power < 1:
            raise neighbour.ArgumentError(f"power is {power}: allowed are 1 and above")
        self.power = power

    def fit(self, task):
        print("fitting")
        return self

    def score(self, archs):
        return archs.sum(1).astype(float) ** self.power

class Fragile(Widest):
    def fit(self, task):
        raise RuntimeError("no luck")

class Peeping(Widest):
    def fit(self, task):
        import channel_bench
        channel_bench.load(task.space)

not_a_class = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with modules of a method's author; what is imported from it is forgotten afterwards."""
    (tmp_path / "neighbour.py").write_text("from channel_bench.errors import ArgumentError\n")
    (tmp_path / "mine.py").write_text(WIDEST)
    (tmp_path / "torn.py").write_text("import neighbour\n\nraise KeyError('lost')\n")
    (tmp_path / "greedy.py").write_text(
        "import channel_bench\nTRUTH = channel_bench.load('resnet-mini')\nclass Greedy:\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("neighbour", "mine", "torn", "greedy"):  # other tests have plug-ins of these names
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in sys.modules[name].__file__:
            del sys.modules[name]


@pytest.mark.parametrize("text", ["mine:Widest", "mine.py:Widest", "{folder}/mine.py:Widest"])
def test_a_method_is_found_by_module_and_by_file(text, folder, run_cli):
    code, output, errors = run_cli(HARNESS, "check", text.format(folder=folder), "--option", "power=2", "--json")
    assert code == 0 and errors == "fitting\n" * 3  # its prints do not end up in the JSON
    parsed = json.loads(output)
    assert parsed["passed"] and [finding["check"] for finding in parsed["findings"]] == list(CHECKS)
    assert parsed["findings"][0] == {
        "check": "construct",
        "outcome": "passed",
        "found": "made an object of class Widest",
        "remedy": "",
        "requirement": "it can be made without options",
    }


def test_a_file_beside_a_module_of_its_name_is_the_one_that_is_meant(folder):
    (folder / "json.py").write_text("class Mine:\n    pass\n")
    assert failed(check_method(f"{folder}/json.py:Mine", device="cpu")) == ["construct"]
    assert sys.modules["json"] is json


def test_a_broken_contract_is_exit_code_1_with_what_and_where_and_how_to_fix(folder, run_cli):
    code, output, errors = run_cli(HARNESS, "check", "mine:Fragile", "--space", "mobilenet-mini")
    lines = output.splitlines()
    assert code == 1 and errors == "" and len(lines) == 5
    assert lines[1].split() == "fit FAILED fit(task) raised RuntimeError: no luck (mine.py:19)".split()
    assert lines[2].strip() == f"fix: {CHECKS['fit'][1]}"
    assert lines[3].startswith("not reached, because another check failed: score, sizes")
    assert lines[4] == "mine:Fragile breaks its contract: fit"
    code, output, _ = run_cli(HARNESS, "check", "mine:Peeping")
    assert code == 1 and "fit(task) used channel_bench.table.sources.load() (mine.py:24)" in output
    assert run_cli(HARNESS, "check", "greedy:Greedy", "--json")[0] == 1
    parsed = json.loads(run_cli(HARNESS, "check", "greedy.py:Greedy", "--json")[1])
    (found,) = [finding for finding in parsed["findings"] if finding["outcome"] == "failed"]
    assert (found["check"], found["found"]) == (
        "table",
        "importing it used channel_bench.table.sources.load() (greedy.py:2)",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("autoslm", "unknown method 'autoslm': .*did you mean 'autoslim'"),
        ("nowhere:Widest", "cannot import 'nowhere': ModuleNotFoundError: No module named 'nowhere'"),
        ("nowhere.py:Widest", "file 'nowhere.py' does not exist"),
        ("mine:Widst", "unknown method class of 'mine' 'Widst': known are .*; did you mean 'Widest'"),
        ("mine:not_a_class", "'mine:not_a_class' is 3, which makes no method"),
        ("torn:Widest", r"cannot import 'torn': KeyError: 'lost' \(torn.py:3\)"),
        ("torn.py:Widest", r"cannot import 'torn.py': KeyError: 'lost' \(torn.py:3\)"),
        ("mine:Widest --option power=0", "power is 0: allowed are 1 and above"),
        ("mine:Widest --option colour=1", "method 'mine:Widest' has no option 'colour': it has power"),
        ("autoslim --option num_subnets=3.0", "values of type int"),
        ("autoslim --option colour=1", "method 'autoslim' has no option 'colour'"),
        ("uniform --space imagenet", "unknown space 'imagenet'"),
        ("uniform --seed -1", "seed -1 is negative"),
        ("uniform --threads 0", "number of threads is 0"),
        ("uniform --device gpu", "device 'gpu' cannot be used here"),
        ("uniform --option x", "is not NAME=VALUE"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, folder, run_cli):
    import re

    code, output, errors = run_cli(HARNESS, "check", *arguments.split())
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("channel-harness: ") and re.search(message, errors), errors


def test_the_api_raises_what_the_command_line_prints(folder):
    with pytest.raises(UnknownNameError, match="unknown method 'autoslm'"):
        check_method("autoslm")
    with pytest.raises(MissingDataError, match="does not exist"):
        check_method("nowhere.py:Widest")
    with pytest.raises(ArgumentError, match="cannot make the method with these options"):
        check_method(Good, options={"colour": 1})
    with pytest.raises(UnknownNameError, match="unknown space"):
        check_method(Good, "imagenet")


@pytest.mark.parametrize("command", ["demo", "methods", "rank", "check", "search"])
def test_the_summary_of_a_command_is_whole_on_a_narrow_terminal(command, run_cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    (line,) = [line for line in run_cli(HARNESS, "--help")[1].splitlines() if line.split()[:1] == [command]]
    assert line.endswith(".") and not line.endswith("..."), line


def test_methods_shows_the_options_and_their_defaults(run_cli):
    listed = {row["name"]: row["options"] for row in json.loads(run_cli(HARNESS, "methods", "--json")[1])}
    assert listed["autoslim"].items() >= {"num_subnets": 4, "temperature": 1.0, "distill": True}.items()
    assert "num_subnets=4 temperature=1.0 distill=True" in run_cli(HARNESS, "methods")[1]


def test_every_check_is_tested_by_a_method_that_breaks_it():
    assert {check for _, check, _ in BAD.values()} | {"progress"} == set(CHECKS)


# -- remedies that fit what went wrong ----------------------------------------------------------------------------


class NoFit:
    """A class that is no method."""


def of_a_task(task):
    return task


def stepping(returned, backward):
    """A method whose training step does not do what a step must."""

    class Steps:
        def fit(self, task):
            supernet = make_supernet(task)

            def step(batch):
                loss = functional.cross_entropy(supernet(batch.images, "2143214"), batch.labels)
                if backward:
                    loss.backward()
                return returned(loss.detach())

            train_supernet(task, supernet, step)
            return SupernetEvaluator(supernet, task)

    return Steps


@pytest.mark.parametrize(
    ("method", "found", "remedy"),
    [
        (NoFit, "class NoFit has no function fit(task)", "make it a class with a function fit(self, task)"),
        (of_a_task, "of_a_task is a function of task", "make it a class with a function fit(self, task)"),
        (type("Three", (), {"fit": lambda self, task: 3}), "no function score(archs)", "return an object with"),
        (
            stepping(lambda loss: None, True),
            "step(batch) returned NoneType: return the loss to show",
            "do as the message says",
        ),
        (
            stepping(lambda loss: loss.expand(2), True),
            "returned a tensor of shape (2,): return the loss",
            "do as the message says",
        ),
        (
            stepping(lambda loss: loss, False),
            "added no gradients to the supernet: call loss.backward()",
            "do as the message says",
        ),
    ],
    ids=["no fit", "function", "integer", "no loss", "two losses", "no gradients"],
)
def test_the_remedy_is_for_what_went_wrong(method, found, remedy):
    (finding,) = [each for each in check_method(method, device="cpu") if each.failed]
    assert found in finding.found and remedy in finding.remedy


def test_a_step_that_is_right_may_name_an_architecture_by_its_text():
    assert failed(check_method(stepping(lambda loss: loss, True), device="cpu")) == []


def test_two_colons_are_one_too_many():
    with pytest.raises(ArgumentError, match="'m.py::Mine' has two colons: write m.py:Mine"):
        check_method("m.py::Mine")
