"""The contract of a width-search method, and the registry that finds one by name.

A method is a class with one function; what it returns has one function too:

    from harness.method import register

    @register("my-method", paper="Me et al., A Method, 2026", summary="what it does in a few words")
    class MyMethod:
        def fit(self, task):               # task: harness.task.Task, all that a method may see
            net = train_a_supernet(task)
            return MyEvaluator(net)

    class MyEvaluator:
        def score(self, archs):            # int8 (n, 7), digits 1..4
            return scores                  # float64 (n,), higher is better

`fit` is called once. `score` may be called several times, with any number of architectures in any order; the score of
an architecture must not depend on the others. Options are keyword arguments of the constructor, with the faithful
setting as default. A name with a plus, ``my-method+log``, is the method ranked by an additive fit to its own scores
(`harness.methods.additive`). A package on its own offers its methods under the entry-point group
``channel_bench.methods`` (``my-method = my_package.module:MyMethod``); after pip install they appear in
``channel-harness methods``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, MethodError, unknown_name

if TYPE_CHECKING:
    from harness.task import Task

ENTRY_POINT_GROUP = "channel_bench.methods"
SCORE_CHUNK = 1024
"""Architectures per call of `Evaluator.score`: small enough for progress, large enough to share work."""


class Evaluator(Protocol):
    """What a fitted method is asked for.

    Two attributes more are used where they are there: ``facts``, a dict that JSON can hold, is written beside the
    scores; ``columns(archs)`` gives other scores by name, float64 (n,) each, which become columns of the score file.
    """

    def score(self, archs: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """Score architectures: int8 (n, 7), digits 1..4, to float64 (n,), higher is better."""
        ...


class Method(Protocol):
    """A width-search method."""

    def fit(self, task: Task) -> Evaluator:
        """Train whatever the method needs and return what scores architectures."""
        ...


@dataclass(frozen=True)
class MethodInfo:
    """What the registry knows about a method."""

    name: str
    paper: str
    summary: str
    factory: Callable[..., Method] | None
    """Makes the method; None where an installed one cannot be used, and `summary` says why."""


MethodClass = TypeVar("MethodClass", bound=type)
_BUILT_IN = ("autoslim", "bcnet", "bcnet_v2", "fair", "fur", "htas", "mask_gumbel", "tas", "uniform")
_registry: dict[str, MethodInfo] = {}


def register(name: str, *, paper: str, summary: str) -> Callable[[MethodClass], MethodClass]:
    """Class decorator that makes a method known under a name.

    Args:
        name: Lower-case name, as the command line takes it.
        paper: Where the method comes from, one line.
        summary: What it does, one line.

    Raises:
        ArgumentError: The name belongs to another class.
    """

    def decorate(cls: MethodClass) -> MethodClass:
        known = _registry.get(name)
        if (
            known is not None
            and known.factory is not None
            and (known.factory.__module__, known.factory.__qualname__)
            != (
                cls.__module__,
                cls.__qualname__,
            )
        ):
            raise ArgumentError(f"method name {name!r} is taken by {known.factory.__module__}")
        _registry[name] = MethodInfo(name, paper, summary, cls)
        return cls

    return decorate


def list_methods() -> list[MethodInfo]:
    """All methods, built in and installed, by name; importing them loads torch. Broken ones are listed as such."""
    found = {name: _find(name) for name in _BUILT_IN} | dict(_registry)
    for entry_point in _entry_points():
        try:
            found[entry_point.name] = _load(entry_point)
        except MethodError as error:
            # Under another key where the name is that of a built-in method, which stays what it is.
            key = entry_point.name if entry_point.name not in found else f"{entry_point.name} ({entry_point.value})"
            found[key] = MethodInfo(key, entry_point.value, f"cannot be used: {error}", None)
    return [found[name] for name in sorted(found)]


def get_method(name: str, /, **options: Any) -> Method:
    """Make a method by name; of the installed ones only this one is imported.

    Args:
        name: Registered name; or one, a plus, and the form of an additive fit to its scores ("autoslim+log").
        **options: Keyword arguments of its constructor; with a plus also ``samples``, which goes to the fit.

    Raises:
        UnknownNameError: No method has this name.
        MethodError: An installed method cannot be imported.
        ArgumentError: The method has no such option, or refuses its value.
    """
    inner, plus, form = name.partition("+")
    if plus:
        from harness.methods.additive import Additive

        samples = options.pop("samples", None)
        return Additive(get_method(inner, **options), form, samples)
    factory = _find(name).factory
    assert factory is not None
    allowed = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in allowed.values())
    for option, value in options.items():
        if option not in allowed and takes_any:
            continue
        if option not in allowed:
            raise ArgumentError(f"method {name!r} has no option {option!r}: it has {', '.join(allowed) or 'none'}")
        _check_type(name, option, value, allowed[option].default)
    try:
        return factory(**options)
    except TypeError as error:
        raise ArgumentError(f"method {name!r}: {error}") from None


def _check_type(method: str, option: str, value: Any, default: Any) -> None:
    """Refuse a value of another type than the option's default; 'distill=off' as a text would count as true."""
    kind = type(default)
    if kind not in (bool, int, float, str):
        return
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not fits and not (kind is float and type(value) is int):
        raise ArgumentError(
            f"option {option!r} of method {method!r} is {value!r}: allowed are values of type {kind.__name__}"
        )


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    return list(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP))


def _find(name: str) -> MethodInfo:
    if name in _BUILT_IN:
        importlib.import_module(f"harness.methods.{name}")
    if name in _registry:
        return _registry[name]
    installed = {entry_point.name: entry_point for entry_point in _entry_points()}
    if name not in installed:
        raise unknown_name("method", name, [*_BUILT_IN, *_registry, *installed])
    return _load(installed[name])


def _load(entry_point: importlib.metadata.EntryPoint) -> MethodInfo:
    if entry_point.name in _BUILT_IN:
        raise MethodError(f"the name {entry_point.name!r} belongs to a built-in method")
    try:
        factory = entry_point.load()
    except Exception as error:
        raise MethodError(
            f"installed method {entry_point.name!r} ({entry_point.value}) cannot be imported:"
            f" {type(error).__name__}: {error}"
        ) from error
    if entry_point.name in _registry:
        return _registry[entry_point.name]  # the class registered itself, with its paper
    summary = (inspect.getdoc(factory) or "").partition("\n")[0]
    return MethodInfo(entry_point.name, entry_point.value, summary, factory)


def score_all(
    evaluator: Evaluator,
    task: Task,
    on_scored: Callable[[int], None] | None = None,
    kept: dict[str, npt.NDArray[np.float64]] | None = None,
    keep: Callable[[dict[str, npt.NDArray[np.float64]]], None] | None = None,
    archs: npt.NDArray[np.int8] | None = None,
) -> dict[str, npt.NDArray[np.float64]]:
    """Score every architecture of the task's space, holding the evaluator to its contract.

    Args:
        evaluator: What `Method.fit` returned.
        task: The task that it was fitted to.
        on_scored: Called with the number of architectures scored since the last call.
        kept: What an earlier call has scored: the first architectures in index order.
        keep: Called with everything scored so far, after each SCORE_CHUNK architectures.
        archs: int8 (n, 7), to score only these; None for all in index order.

    Returns:
        ``score``, and the evaluator's other columns; float64 (16384,) in index order, or (n,) in that of `archs`.

    Raises:
        MethodError: A result has another shape or type than the contract says, or is not finite.
    """
    archs = task.space.archs() if archs is None else archs
    parts = [kept] if kept else []
    first = len(kept["score"]) if kept else 0
    if on_scored is not None and first:
        on_scored(first)
    columns = getattr(evaluator, "columns", None)
    for start in range(first, len(archs), SCORE_CHUNK):
        chunk = archs[start : start + SCORE_CHUNK]
        found = {"score": evaluator.score(chunk.copy())} | ({} if columns is None else dict(columns(chunk.copy())))
        parts.append({name: _checked(task, chunk, name, values) for name, values in found.items()})
        if keep is not None:
            keep(_joined(parts))
        if on_scored is not None:
            on_scored(len(chunk))
    return _joined(parts)


def _joined(parts: list[dict[str, npt.NDArray[np.float64]]]) -> dict[str, npt.NDArray[np.float64]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _checked(task: Task, chunk: npt.NDArray[np.int8], name: str, values: Any) -> npt.NDArray[np.float64]:
    """Scores as the contract says, or an error that says what it says."""
    what = "score()" if name == "score" else f"column {name!r}"
    scores = np.asarray(values)
    if scores.shape != (len(chunk),) or scores.dtype.kind != "f":
        raise MethodError(
            f"{what} of {len(chunk)} architectures returned {scores.dtype} of shape {scores.shape}:"
            f" it must return float64 of shape ({len(chunk)},)"
        )
    wrong = np.flatnonzero(~np.isfinite(scores))
    if wrong.size:
        text = task.space.text(chunk[wrong[0]])
        raise MethodError(f"{what} returned {scores[wrong[0]]} for architecture {text}: scores must be finite")
    return scores.astype(np.float64)
