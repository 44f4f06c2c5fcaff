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
setting as default. A package on its own offers its methods under the entry-point group ``channel_bench.methods``
(``my-method = my_package.module:MyMethod``); after pip install they appear in ``channel-harness methods``.
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
    """What a fitted method is asked for."""

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
    factory: Callable[..., Method]


MethodClass = TypeVar("MethodClass", bound=type)
_BUILT_IN = ("autoslim", "uniform")
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
        if known is not None and (known.factory.__module__, known.factory.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise ArgumentError(f"method name {name!r} is taken by {known.factory.__module__}")
        _registry[name] = MethodInfo(name, paper, summary, cls)
        return cls

    return decorate


def list_methods() -> list[MethodInfo]:
    """All methods, built in and installed, by name; importing them loads torch.

    Raises:
        MethodError: An installed method cannot be imported.
    """
    for name in _BUILT_IN:
        importlib.import_module(f"harness.methods.{name}")
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            loaded = entry_point.load()
        except Exception as error:
            raise MethodError(
                f"installed method {entry_point.name!r} ({entry_point.value}) cannot be imported:"
                f" {type(error).__name__}: {error}"
            ) from error
        if entry_point.name not in _registry:
            summary = (loaded.__doc__ or "").strip().splitlines()[0] if loaded.__doc__ else ""
            _registry[entry_point.name] = MethodInfo(entry_point.name, entry_point.value, summary, loaded)
    return [_registry[name] for name in sorted(_registry)]


def get_method(name: str, **options: Any) -> Method:
    """Make a method by name.

    Args:
        name: Registered name.
        **options: Keyword arguments of its constructor.

    Raises:
        UnknownNameError: No method has this name.
        ArgumentError: The method has no such option, or refuses its value.
    """
    known = {info.name: info for info in list_methods()}
    if name not in known:
        raise unknown_name("method", name, known)
    factory = known[name].factory
    allowed = [parameter for parameter in inspect.signature(factory).parameters if parameter not in ("args", "kwargs")]
    unknown = [option for option in options if option not in allowed]
    if unknown:
        raise ArgumentError(f"method {name!r} has no option {unknown[0]!r}: it has {', '.join(allowed) or 'none'}")
    try:
        return factory(**options)
    except TypeError as error:
        raise ArgumentError(f"method {name!r}: {error}") from None


def score_all(
    evaluator: Evaluator, task: Task, on_scored: Callable[[int], None] | None = None
) -> npt.NDArray[np.float64]:
    """Score every architecture of the task's space, holding the evaluator to its contract.

    Args:
        evaluator: What `Method.fit` returned.
        task: The task that it was fitted to.
        on_scored: Called with the number of architectures scored since the last call.

    Returns:
        float64 (16384,) in index order.

    Raises:
        MethodError: A result has another shape or type than the contract says, or is not finite.
    """
    archs = task.space.archs()
    parts = []
    for start in range(0, len(archs), SCORE_CHUNK):
        chunk = archs[start : start + SCORE_CHUNK]
        scores = np.asarray(evaluator.score(chunk.copy()))
        if scores.shape != (len(chunk),) or scores.dtype.kind != "f":
            raise MethodError(
                f"score() of {len(chunk)} architectures returned {scores.dtype} of shape {scores.shape}:"
                f" it must return float64 of shape ({len(chunk)},)"
            )
        wrong = np.flatnonzero(~np.isfinite(scores))
        if wrong.size:
            text = task.space.text(chunk[wrong[0]])
            raise MethodError(f"score() returned {scores[wrong[0]]} for architecture {text}: scores must be finite")
        parts.append(scores.astype(np.float64))
        if on_scored is not None:
            on_scored(len(chunk))
    return np.concatenate(parts)
