"""Check a width-search method against its contract: what its author runs before anything long.

    channel-harness check my_package.module:MyMethod
    channel-harness check my_method.py:MyMethod --space mobilenet-mini --option depth=3

    >>> assert not [finding for finding in check_method(MyMethod) if finding.failed]     # in its tests

The method is fitted three times to a small task (`small_task`): few images, two epochs, so it takes seconds and its
scores mean nothing. `CHECKS` lists the checks; each failure says what was found and how to fix it. The
checks find mistakes, not malice: a method that means to read the table still can (isolation.py).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from channel_bench.errors import ArgumentError, MethodError
from channel_bench.recipe import get_recipe
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS, FloatArray, Space, get_space
from channel_bench.training.datasets import EMBEDDED_DATASETS, Dataset, load_dataset, make_dataset
from channel_bench.training.devices import pick_device
from channel_bench.training.step import arithmetic
from harness.check.isolation import ConvolutionDevices, blocked_table, watched_globals
from harness.locate import Factory, defined_at, place, raised_at, shown
from harness.method import Evaluator, Method
from harness.methods import find_method, get_method
from harness.task import Task, make_task, supernet_recipe

Int8Array = npt.NDArray[np.int8]

NUM_STEPS = 5
"""How often `check_method` calls on_step, at most."""
NUM_ARCHS_SCORED = 8
NUM_EPOCHS = 2
TOLERANCE = 1e-6
"""By how much a score may depend on its company, as a share of the largest score. The same
computation gives the same bits; but work that is shared among architectures may be summed in another order, which moves
single precision (2^-24 = 6e-8) by a few units in the last place. A score that counts correct answers does not move at
all by that, except for the rare image whose two best answers tie; such a move fails the check."""

CHECKS = {
    "construct": (
        "it can be made without options",
        "give every option of the constructor a default: the faithful setting",
    ),
    "fit": (
        "fit(task) returns an object with score(archs)",
        "make it run on harness.check.checker.small_task(), which is the task it was given here",
    ),
    "score": (
        "scores are finite floats of shape (n,)",
        "return one finite float per architecture, np.array(values, np.float64); higher is better",
    ),
    "sizes": (
        "score() takes a single architecture, and none",
        "let score() take any int8 (n, 7), n = 0 and n = 1 included",
    ),
    "company": (
        "a score depends on its architecture alone",
        "compute each score from its own row: no statistics over the rows, nothing kept from call to call, and for what"
        " is random a generator made anew for each architecture",
    ),
    "columns": (
        "columns(), where there is one, gives finite floats of shape (n,) by name, each decided by its architecture",
        "return a dict of names to float arrays (n,), and see that they agree from call to call",
    ),
    "facts": (
        "facts, where there are any, are a dict that JSON can hold",
        "keep texts, numbers, lists and dicts there: float(value) and tensor.tolist() make them",
    ),
    "input": ("the array of architectures is left alone", "work on a copy: archs = archs.copy()"),
    "seed": (
        "the task's seed decides every score",
        "draw everything random from task.rng(stream) or task.generator(stream), and keep no state in class or module",
    ),
    "table": (
        "the trained truth is not read",
        "score from the task alone: a score that knows the truth cannot be compared with it",
    ),
    "generators": (
        "the global random generators are left alone",
        "pass generators of the task to every draw; where a module's own initialisation draws, put it under"
        " torch.random.fork_rng() with torch.manual_seed(task.seed)",
    ),
    "settings": (
        "the settings of PyTorch and NumPy are left alone",
        "set it in a context manager that sets it back, such as torch.no_grad() or torch.backends.cudnn.flags()",
    ),
    "task": ("the task's tensors are left alone", "work on copies: task.train_images.clone()"),
    "device": (
        "networks run on the task's device",
        "put networks and new tensors on task.device: net.to(task.device), torch.zeros(..., device=task.device)",
    ),
    "progress": (
        "task.on_epoch is called after each epoch in turn; this is optional",
        "after each epoch call task.on_epoch(epoch, num_epochs, note) with epoch from 1, where it is not None",
    ),
}
"""Per check: what holds when it passes, and how to fix it."""

AS_CLASS = "make it a class with a function fit(self, task) that trains and returns an object with score(archs)"
AS_SAID = "do as the message says"
AS_EVALUATOR = "return an object with a function score(archs), such as SupernetEvaluator(supernet, task)"
NOT_OFFERED = "the evaluator offers none"
NOT_REACHED = "not reached, because another check failed"
_RAISED: Any = object()
"""Result of a piece of the method that raised."""


@dataclass(frozen=True)
class Finding:
    """Result of one check."""

    check: str
    """Key of CHECKS."""
    outcome: str
    """"passed"; "failed"; "note" for what is allowed but unusual; "skipped" for what could not be checked."""
    found: str
    """One line of facts: values, shapes, the line of code."""
    remedy: str = ""
    """How to fix it, one line; empty where there is nothing to fix."""

    @property
    def requirement(self) -> str:
        """What the contract asks for."""
        return CHECKS[self.check][0]

    @property
    def failed(self) -> bool:
        """Whether the contract is broken."""
        return self.outcome == "failed"


def check_method(
    method: str | Factory,
    space: str | Space = "resnet-mini",
    *,
    options: dict[str, Any] | None = None,
    device: str = "auto",
    seed: int = 0,
    on_step: Callable[[str], None] | None = None,
) -> list[Finding]:
    """Fit a method to a small task and hold it, and what it returns, to the contract of harness/method.py.

    Global generators and settings are as before afterwards, whatever the method did. While its code runs, this whole
    process is kept from the table.

    Args:
        method: The class or another function that makes the method; or as text a registered name, "module:Class" or
            "path/to/file.py:Class" (`harness.methods.get_method`).
        space: Space of the task. The mini spaces take seconds; the full ones minutes on a CPU.
        options: Keyword arguments of the constructor.
        device: "auto", "cpu", "cuda" ... On a CPU a method that ignores the task's device is found only if it computes
            elsewhere; so use a GPU where there is one, as "auto" does.
        seed: Seed of the task, >= 0.
        on_step: Called with what comes next, before each part of the work.

    Returns:
        One finding per entry of CHECKS, in its order.

    Raises:
        UnknownNameError: No method, class or space has this name.
        MissingDataError: There is no such file.
        MethodError: An installed method cannot be imported.
        ArgumentError: The module cannot be imported, what it holds cannot be called, the device cannot be used, the
            seed is negative, or the method has no such option or refuses its value.
    """
    space = get_space(space)
    task = small_task(space, seed=seed, device=pick_device(device))
    return _Checker(task, options or {}, on_step or (lambda text: None)).check(method)


def small_task(space: str | Space = "resnet-mini", *, seed: int = 0, device: torch.device | str = "cpu") -> Task:
    """The task that methods are checked on: digits for the mini spaces, noise of CIFAR-10's shape for the full ones.

    Returns:
        128 or 32 images (three quarters to train on, one to validate on) and a recipe of two epochs of three batches.
    """
    space = get_space(space)
    num_images, batch_size = (128, 32) if space.is_mini else (32, 8)
    recipe = get_recipe(supernet_recipe(space), epochs=NUM_EPOCHS, batch_size=batch_size)
    return make_task(space, _few_images(space, num_images).to(device), seed=seed, recipe=recipe)


@functools.cache
def _few_images(space: Space, num_images: int) -> Dataset:
    """Training images of the space's shape, without anything to download; the test images are not used."""
    if space.dataset in EMBEDDED_DATASETS:
        digits = load_dataset(space.dataset)
        images, labels = digits.train_images[:num_images].numpy(), digits.train_labels[:num_images].numpy()
    else:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (num_images, *space.input_shape), np.uint8)
        labels = np.arange(num_images) % space.num_classes
    return make_dataset(f"{num_images} images for a check", (images, labels), (images[:2], labels[:2]))


def _no_method_class(factory: Factory) -> str | None:
    """What is given in place of a method's class, in words; None where it may be one."""
    if inspect.isclass(factory) and not callable(getattr(factory, "fit", None)):
        return f"class {factory.__name__} has no function fit(task)"
    if inspect.isfunction(factory):
        required = [each.name for each in inspect.signature(factory).parameters.values() if each.default is each.empty]
        if required:
            return f"{factory.__name__} is a function of {', '.join(required)}"
    return None


class _Checker:
    """One check of one method: runs its parts under guard and collects findings."""

    def __init__(self, task: Task, options: dict[str, Any], on_step: Callable[[str], None]) -> None:
        self.space, self.seed, self.device = task.space, task.seed, task.device
        self.options, self.on_step = options, on_step
        self.findings: dict[str, Finding] = {}
        self.factory: Factory = _RAISED
        self.text: str | None = None
        """The method as text, where it was given so."""
        self.package = ""
        """Top-level package of the method's code, to name its lines."""
        ends = np.array([[1] * NUM_SLOTS, [NUM_WIDTHS] * NUM_SLOTS], np.int8)
        between = self.space.sample(NUM_ARCHS_SCORED - len(ends), np.random.default_rng(0))
        self.archs: Int8Array = np.concatenate([ends, between])

    def check(self, method: str | Factory) -> list[Finding]:
        self.on_step("making the method")
        if self._find(method) and self._construct():
            self._fit_and_score()
        return [self.findings.get(check, Finding(check, "skipped", NOT_REACHED)) for check in CHECKS]

    def _task(self, seed: int) -> Task:
        """A small task with tensors of its own, so that what one fit does to them stays there."""
        return small_task(self.space, seed=seed, device=self.device)

    # -- findings -----------------------------------------------------------------------------------------------

    def _pass(self, check: str, found: str, outcome: str = "passed") -> None:
        """Record a check that passes, unless it has a finding already."""
        remedy = CHECKS[check][1] if outcome == "note" else ""
        self.findings.setdefault(check, Finding(check, outcome, found, remedy))

    def _fail(self, check: str, found: str, remedy: str = "") -> None:
        """Record a failure; the first one of a check stays."""
        if check not in self.findings or not self.findings[check].failed:
            self.findings[check] = Finding(check, "failed", found, remedy or CHECKS[check][1])

    # -- the method's code, under guard -------------------------------------------------------------------------

    def _run(self, check: str, what: str, call: Callable[[], Any], global_seed: int = 1) -> Any:
        """Run a piece of the method in the arithmetic of `channel-harness rank`, and watch it.

        Returns:
            What it returned; _RAISED where it raised, which fails the check unless it was kept from the table.
        """
        result = _RAISED
        with blocked_table() as tries, arithmetic(), watched_globals(global_seed, self.device) as changes:
            try:
                result = call()
            except (Exception, SystemExit) as error:
                if not tries:
                    at = raised_at(error, self.package) or defined_at(self.factory)
                    # What the harness itself says about a step or a loss already says what to do.
                    said = isinstance(error, MethodError) and check == "fit"
                    self._fail(check, f"{what} raised {shown(error)}{at}", AS_SAID if said else "")
        for access in tries:
            self._fail("table", f"{what} used {access.what}{place(access.stack, self.package)}")
        if changes.generators:
            self._fail("generators", f"{what} moved {' and '.join(changes.generators)}")
        if changes.settings:
            self._fail("settings", f"{what} changed {' and '.join(changes.settings)}")
        return result

    def _scores(self, check: str, evaluator: Evaluator, archs: Int8Array, which: str) -> FloatArray | None:
        """Scores of some architectures, float64 (n,); None where they fail the check."""
        given = archs.copy()
        what = f"score() of {which}"
        scores = self._run(check, what, lambda: np.asarray(evaluator.score(given)))
        if not np.array_equal(given, archs):
            self._fail("input", f"{what} changed the array that it was given")
        return None if scores is _RAISED else self._floats(check, what, scores, archs)

    def _floats(self, check: str, what: str, values: npt.NDArray[Any], archs: Int8Array) -> FloatArray | None:
        """The values as float64 if they are finite floats, one per architecture."""
        if values.shape != (len(archs),) or values.dtype.kind != "f":
            self._fail(check, f"{what} returned {values.dtype} of shape {values.shape}, not float64 ({len(archs)},)")
            return None
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            self._fail(check, f"{what} returned {values[wrong[0]]} for {self.space.text(archs[wrong[0]])}")
            return None
        return values.astype(np.float64)

    # -- making the method --------------------------------------------------------------------------------------

    def _find(self, method: str | Factory) -> bool:
        if isinstance(method, str):
            source, _, _ = method.rpartition(":")
            self.package = source.removesuffix(".py").rpartition("/")[2].partition(".")[0]
            with blocked_table() as tries:
                try:
                    factory = find_method(method).factory
                    assert factory is not None
                    self.factory = factory
                except (ArgumentError, MethodError):
                    if not tries:
                        raise
            for access in tries:
                self._fail("table", f"importing it used {access.what}{place(access.stack, self.package)}")
            self.text = method
        else:
            self.factory = method
        self.package = (getattr(self.factory, "__module__", None) or "").partition(".")[0]
        return self.factory is not _RAISED

    def _make(self, options: dict[str, Any]) -> Method:
        """Make the method; ArgumentError where it has no such option or refuses the value."""
        if self.text is not None:
            return get_method(self.text, **options)
        if options:
            try:
                inspect.signature(self.factory).bind(**options)
            except TypeError as error:
                raise ArgumentError(f"cannot make the method with these options: {error}") from None
        return self.factory(**options)

    def _construct(self) -> bool:
        odd = _no_method_class(self.factory)
        if odd:
            self._fail("construct", f"{odd}{defined_at(self.factory)}", AS_CLASS)
            return False
        made = self._run("construct", "making it without options", lambda: self._make({}))
        if made is _RAISED:
            return False
        if self.options:

            def make() -> Any:
                try:
                    return self._make(self.options)
                except ArgumentError as error:
                    return error

            made = self._run("construct", "making it with the options", make)
            if isinstance(made, ArgumentError):
                raise made  # options that a method refuses are bad input, not a broken contract
            if made is _RAISED:
                return False
        if not callable(getattr(made, "fit", None)):
            self._fail("construct", f"making it gives {_kind(made)}, which has no function fit(task)")
            return False
        self._pass("construct", f"made {_kind(made)}")
        return True

    # -- fitting and scoring ------------------------------------------------------------------------------------

    def _fit_and_score(self) -> None:
        self.on_step("fitting")
        calls: list[tuple[Any, ...]] = []
        task = dataclasses.replace(self._task(self.seed), on_epoch=lambda *arguments: calls.append(arguments))
        evaluator = self._fit("fit", task, "fit(task)")
        if evaluator is _RAISED:
            return
        self._pass("fit", f"returned {_kind(evaluator)}")
        self._pass("progress", *_judge_progress(calls))
        self.on_step("scoring")
        scores = self._scores("score", evaluator, self.archs, f"{len(self.archs)} architectures")
        if scores is not None:
            self._pass("score", f"{len(scores)} finite floats")
            self._check_sizes(evaluator)
            self._check_company(evaluator, scores)
            self._check_columns(evaluator)
            self._check_facts(evaluator)
            self._pass("input", "unchanged")
        self._check_task(task)
        if scores is not None:
            self._check_seed_and_device(scores)
        self._pass("table", "no try to read it")
        self._pass("generators", "Python's, NumPy's and PyTorch's are unmoved")
        self._pass("settings", "unchanged")

    def _fit(self, check: str, task: Task, what: str, global_seed: int = 1) -> Any:
        """A new method, fitted: its evaluator, or _RAISED."""
        evaluator = self._run(check, what, lambda: self._make(self.options).fit(task), global_seed)
        if evaluator is not _RAISED and not callable(getattr(evaluator, "score", None)):
            self._fail(check, f"{what} returned {_kind(evaluator)}, which has no function score(archs)", AS_EVALUATOR)
            return _RAISED
        return evaluator

    def _check_sizes(self, evaluator: Evaluator) -> None:
        for count, which in ((0, "no architectures"), (1, "a single architecture")):
            self._scores("sizes", evaluator, self.archs[:count], which)
        self._pass("sizes", "n = 0 and n = 1 work")

    def _check_company(self, evaluator: Evaluator, scores: FloatArray) -> None:
        order = np.random.default_rng(1).permutation(len(scores))
        calls = [("when asked again", np.arange(len(scores))), ("in another order", order), ("among fewer", order[:3])]
        if not self.findings["sizes"].failed:
            calls += [("alone", np.array([row])) for row in range(3)]
        largest = 0.0
        for how, rows in calls:
            again = self._scores("company", evaluator, self.archs[rows], f"{len(rows)} architectures {how}")
            if again is None:
                return
            largest = max(largest, self._compare("company", scores[rows], again, rows, how))
        equal = "equal to the last bit" if largest == 0 else f"equal within {largest:.0e} of the largest"
        self._pass("company", f"again, in another order, alone: {equal}")

    def _compare(
        self, check: str, values: FloatArray, again: FloatArray, rows: npt.NDArray[np.int64], how: str
    ) -> float:
        """Largest difference as a share of the largest value; fails the check where it is above the tolerance."""
        differences = np.abs(again - values)
        worst = int(differences.argmax())
        # Not of each value's own size: one that is near zero by cancellation is not known to more digits for that.
        share = float(differences[worst] / max(np.abs(values).max(), np.abs(again).max(), sys.float_info.min))
        if share > TOLERANCE:
            text = self.space.text(self.archs[rows[worst]])
            first = f"{text} has {values[worst]:.9g} among {len(self.archs)} architectures"
            self._fail(check, f"{first} and {again[worst]:.9g} {how}")
        return share

    def _check_columns(self, evaluator: Any) -> None:
        if not hasattr(evaluator, "columns"):
            self._pass("columns", NOT_OFFERED, "skipped")
            return
        everything = np.arange(len(self.archs))
        order = np.random.default_rng(2).permutation(everything)
        first: dict[str, FloatArray] = {}
        calls = ((everything, ""), (everything[:0], ""), (order, "in another order"), (order[:3], "among fewer"))
        for rows, how in calls:
            what = f"columns() of {len(rows)} architectures"
            archs = self.archs[rows]
            columns = self._run("columns", what, functools.partial(evaluator.columns, archs.copy()))
            if columns is _RAISED:
                return
            if not isinstance(columns, dict) or not all(isinstance(name, str) for name in columns):
                self._fail("columns", f"{what} returned {_kind(columns)}, not a dict by name")
                return
            if first and columns.keys() != first.keys():
                self._fail("columns", f"{what} returned {', '.join(columns) or 'none'}, before {', '.join(first)}")
                return
            for name, values in columns.items():
                floats = self._floats("columns", f"{what}, {name!r},", np.asarray(values), archs)
                if floats is None:
                    return
                if len(rows):
                    self._compare("columns", first.setdefault(name, floats)[rows], floats, rows, f"{how} ({name!r})")
        self._pass("columns", ", ".join(first) or "an empty dict")

    def _check_facts(self, evaluator: Any) -> None:
        if not hasattr(evaluator, "facts"):
            self._pass("facts", NOT_OFFERED, "skipped")
            return
        facts = evaluator.facts
        try:
            json.dumps(facts)
        except (TypeError, ValueError) as error:
            self._fail("facts", f"JSON cannot hold them: {shown(error)}")
        if not isinstance(facts, dict):
            self._fail("facts", f"they are {_kind(facts)}, not a dict")
        else:
            self._pass("facts", ", ".join(map(str, facts)) or "an empty dict")

    def _check_task(self, task: Task) -> None:
        fresh = self._task(self.seed)
        tensors = ("train_images", "train_labels", "val_images", "val_labels")
        changed = [f"task.{name}" for name in tensors if not torch.equal(getattr(task, name), getattr(fresh, name))]
        if changed:
            self._fail("task", f"fit() or score() changed {' and '.join(changed)}")
        self._pass("task", "unchanged")

    def _check_seed_and_device(self, scores: FloatArray) -> None:
        """Fit twice more: with the same seed but other global generators, and with another seed."""
        self.on_step("fitting again")
        again = self._score_afresh(self.seed, "a second fit(task)", global_seed=2)
        self.on_step("fitting with another seed")
        devices = ConvolutionDevices()
        with devices:
            other = self._score_afresh(self.seed + 1, "fit(task) with another seed", global_seed=3)
        if again is not None and not np.array_equal(again, scores):
            row = int(np.flatnonzero(again != scores)[0])
            text = self.space.text(self.archs[row])
            self._fail("seed", f"two fits with seed {self.seed}: {text} has {scores[row]:.9g} and {again[row]:.9g}")
        elsewhere = sorted(str(device) for device in devices.seen if device != self.device)
        if elsewhere:
            self._fail("device", f"convolutions ran on {' and '.join(elsewhere)}; the task is on {self.device}")
        if again is None or other is None:
            return
        gives = "the same scores, right only if nothing is random" if np.array_equal(other, scores) else "others"
        self._pass("seed", f"seed {self.seed} twice gives equal scores, seed {self.seed + 1} {gives}")
        self._pass("device", f"all convolutions ran on {self.device}" if devices.seen else "no convolution ran")

    def _score_afresh(self, seed: int, what: str, global_seed: int) -> FloatArray | None:
        evaluator = self._fit("seed", self._task(seed), what, global_seed)
        if evaluator is _RAISED:
            return None
        return self._scores("seed", evaluator, self.archs, f"{len(self.archs)} architectures after {what}")


def _judge_progress(calls: list[tuple[Any, ...]]) -> tuple[str, str]:
    """What to say of the calls of on_epoch, and the outcome; it is optional, so nothing fails."""
    if not calls:
        return "never called: allowed, but a long fit then shows no progress", "note"
    wanted = [(number, len(calls)) for number in range(1, len(calls) + 1)]
    if [call[:2] for call in calls] != wanted or not all(len(call) == 3 and isinstance(call[2], str) for call in calls):
        return f"called {len(calls)} times, first with {calls[0]!r:.60}, last with {calls[-1]!r:.60}", "note"
    return f"called for each of {len(calls)} epochs", "passed"


def _kind(value: object) -> str:
    return "None" if value is None else f"an object of class {type(value).__name__}"
