"""The contract of a width-search method, and the registry that finds methods.

A method is a class with one function; what it returns has one function too:

    from harness.method import register

    @register("my-method", paper="Me et al., A Method, 2026", summary="what it does in a few words")
    class MyMethod:
        def fit(self, task):               # task: harness.task.Task, all that a method gets
            net = train_a_supernet(task)   # harness.supernet has a supernet, a training loop and an example
            return MyEvaluator(net)

    class MyEvaluator:
        def score(self, archs):            # int8 (n, 7), digits 1..4
            return scores                  # float64 (n,), higher is better

`fit` is called once. `score` may be called several times, with any number of architectures in any order; the score of
an architecture must not depend on the others. Options are keyword arguments of the constructor. Their defaults are the
paper's, unless they make no sense where a whole space is ranked; the head of a method's file says where they depart.

`channel-harness check`, `rank` and `search` take a method as ``path/to/file.py:MyMethod``, as ``module:MyMethod`` or by
its registered name. A name with a plus, ``my-method+log``, is the method ranked by an additive fit to its own scores
(`harness.methods.smoothed`). A package adds its methods by the entry-point group ``channel_bench.methods``
(``my-method = my_package.module:MyMethod``); after pip install they appear in ``channel-harness methods``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ChannelBenchError, MethodError
from harness.locate import raised_at, shown
from harness.registry import Plugin, Registry

if TYPE_CHECKING:
    from harness.task import Task

MethodInfo = Plugin["Method"]
"""A method as the registry describes it."""
SCORE_CHUNK = 1024
"""Architectures per call of `Evaluator.score`: small enough for progress, large enough to share work."""


class Evaluator(Protocol):
    """Scores architectures; returned by `Method.fit`.

    It may have two more attributes: ``facts``, a dict that JSON can hold, is written beside the scores;
    ``columns(archs)`` returns other scores by name, float64 (n,) each, which become columns of the score file.
    """

    def score(self, archs: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """Score architectures: int8 (n, 7), digits 1..4, to float64 (n,), higher is better."""
        ...


class Method(Protocol):
    """A width-search method."""

    def fit(self, task: Task) -> Evaluator:
        """Train what the method needs on the task; return an object that scores architectures."""
        ...


SUPERNETS = ("autoslim", "bcnet", "bcnet_v2", "fair", "fur", "htas", "mask_gumbel", "tas", "uniform")
"""Built-in methods that train a weight-shared network."""
PROXIES = (
    *("az_nas", "epe_nas", "fisher", "grad_norm", "grasp", "jacov", "l2_norm", "meco", "nwot", "plain", "snip"),
    *("swap", "synflow", "zen", "zico"),
)
"""Built-in methods that train nothing: zero-cost proxies."""
METHODS: Registry[Method] = Registry(
    "method", "channel_bench.methods", "harness.methods", (*SUPERNETS, *PROXIES), "fit"
)
register = METHODS.register
"""Class decorator that makes a method known under a name (`Registry.register`)."""


@contextlib.contextmanager
def plugin_errors(
    what: str, plugin: object, advice: str = "'channel-harness check' helps to find the cause"
) -> Iterator[None]:
    """Turn whatever a plug-in's code raises into one line that names its kind and the plug-in's own line.

    Args:
        what: The call, for the message: "fit(task) of method 'my-method'".
        plugin: The object whose code runs; lines of its package are its own.
        advice: What to do.

    Raises:
        MethodError: The code raised; the exception is its cause, so Python shows the whole traceback.
    """
    try:
        yield
    except ChannelBenchError:
        raise
    except Exception as error:
        package = type(plugin).__module__.partition(".")[0]
        raise MethodError(f"{what} raised {shown(error)}{raised_at(error, package)}: {advice}") from error


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
        with plugin_errors("score(archs)", evaluator):
            found = {"score": evaluator.score(chunk.copy())}
            found |= {} if columns is None else dict(columns(chunk.copy()))
        parts.append({name: _checked(task, chunk, name, values) for name, values in found.items()})
        if keep is not None:
            keep(_joined(parts))
        if on_scored is not None:
            on_scored(len(chunk))
    return _joined(parts)


def _joined(parts: list[dict[str, npt.NDArray[np.float64]]]) -> dict[str, npt.NDArray[np.float64]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _checked(task: Task, chunk: npt.NDArray[np.int8], name: str, values: Any) -> npt.NDArray[np.float64]:
    """Scores that keep the contract, or an error that names what is wrong."""
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
