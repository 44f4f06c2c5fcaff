"""Width search under a budget: the contract of a searcher, the count of its questions, the registry.

    >>> space = get_space("resnet-mini")
    >>> budget = Budget("flops", space.flops(), 0.5 * space.flops("4444444"))
    >>> found = search(space, evaluator, budget, np.random.default_rng(0), "greedy")
    >>> found.arch, found.score, found.num_queries

A ranking of all 16,384 architectures is how a benchmark judges an evaluator; whoever uses one searches: asks it for the
scores of some architectures and settles on one that fits a budget. A searcher is a class with one function:

    @register_searcher("widest")
    class Widest:
        def search(self, queries, budget, rng):     # options are arguments of its constructor
            return ...                              # an architecture in any encoding of Space.arch

It sees the evaluator only through `Queries`, which counts the distinct architectures that it asks for: each of them
would be a pass over the validation images. `channel-harness search --searcher` takes a name, ``path/to/file.py:Widest``
or ``module:Widest``. A package adds its searchers by the entry-point group ``channel_bench.searchers``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, BudgetError, MethodError
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, NUM_WIDTHS, FloatArray, Space
from harness.method import SCORE_CHUNK, Evaluator, plugin_errors
from harness.registry import Registry
from harness.scores import Scores

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Budget:
    """A limit on what an architecture may cost."""

    name: str
    """Name of the cost: "flops", "params", "latency_ms" ..."""
    costs: FloatArray
    """Cost of every architecture, float64 or int64 (16384,) in index order."""
    limit: float
    """Largest allowed cost, in the unit of `costs`."""
    parts: tuple[Budget, ...] = ()
    """The budgets that this one joins (`joint`); none for a simple one."""

    def __post_init__(self) -> None:
        """Refuse costs or a limit that make no budget."""
        if np.shape(self.costs) != (NUM_ARCHS,):
            raise ArgumentError(
                f"costs of budget {self.name!r} have shape {np.shape(self.costs)}: allowed is ({NUM_ARCHS},), in index"
                " order"
            )
        if not np.isfinite(self.costs).all():
            raise ArgumentError(f"budget {self.name!r} has costs that are not finite")
        if not (np.isfinite(self.limit) and self.limit > 0):
            raise ArgumentError(f"limit of budget {self.name!r} is {self.limit!r}: allowed are numbers > 0")

    @classmethod
    def joint(cls, budgets: Sequence[Budget]) -> Budget:
        """One budget that is kept exactly where all of several are: its cost is the largest share of a limit.

        Raises:
            ArgumentError: No budgets.
        """
        if not budgets:
            raise ArgumentError("a search needs at least one budget")
        if len(budgets) == 1:
            return budgets[0]
        shares = np.max([budget.costs / budget.limit for budget in budgets], axis=0)
        return cls(" and ".join(budget.name for budget in budgets), shares, 1.0, tuple(budgets))

    @property
    def simple(self) -> tuple[Budget, ...]:
        """The budgets that it joins, or itself."""
        return self.parts or (self,)

    @property
    def fits(self) -> BoolArray:
        """Which architectures cost no more than the limit, bool (16384,)."""
        return self.costs <= self.limit

    def __str__(self) -> str:
        """The condition, "flops <= 5,000,000"."""
        return " and ".join(f"{part.name} <= {part.limit:,.15g}" for part in self.simple)

    def check(self) -> None:
        """Make sure that something fits.

        Raises:
            BudgetError: Nothing does.
        """
        for part in self.simple:
            if not part.fits.any():
                raise BudgetError(
                    f"no architecture has {part}: the least {part.name} is {float(part.costs.min()):,.15g}"
                )
        if not self.fits.any():
            raise BudgetError(f"no architecture has {self}, though each of the budgets alone can be kept")


@dataclass(frozen=True)
class Step:
    """What a searcher held at some point of its way."""

    num_queries: int
    """Distinct architectures asked for until then."""
    arch: str
    score: float


@dataclass(frozen=True)
class Found:
    """What a search ended with."""

    arch: str
    """Seven digits."""
    score: float
    """What the evaluator gives it."""
    num_queries: int
    """Distinct architectures that the searcher asked for."""
    history: tuple[Step, ...]
    """Its way: the walk of greedy slimming, the best after each generation, the iterates of FUR; empty where there is
    none."""
    query_flops: int = field(default=0, compare=False)
    """Sum of the FLOPs of all that it asked for: what a pass of one image through each of them costs."""


class Lookup:
    """A file of scores as an evaluator; architectures without a score cannot be asked for.

    Args:
        scores: The scores.
    """

    def __init__(self, scores: Scores) -> None:
        """Spread the scores over the space."""
        self._space = scores.space
        self._values = np.full(NUM_ARCHS, np.nan)
        self._values[scores.indices] = scores.values
        self.scored: BoolArray = np.isfinite(self._values)

    def score(self, archs: npt.NDArray[np.int8]) -> FloatArray:
        """Scores from the file, float64 (n,)."""
        return self._values[self._space.index(archs)]


class Queries:
    """An evaluator that counts: all that a searcher sees of one. Itself an evaluator, so that one can share another's.

    Args:
        space: The space.
        evaluator: Gives the scores; asked once for each architecture.
        on_asked: Called with the number of architectures asked for since the last call.
    """

    def __init__(self, space: Space, evaluator: Evaluator, on_asked: Callable[[int], None] | None = None) -> None:
        """Start with no question asked."""
        self.space = space
        self.evaluator = evaluator
        self.scored: BoolArray = np.asarray(getattr(evaluator, "scored", np.ones(NUM_ARCHS, bool)))
        """Which architectures have a score, bool (16384,); all of them unless scores come from a file."""
        self.history: list[Step] = []
        self._on_asked = on_asked
        self._asked = np.zeros(NUM_ARCHS, bool)
        self._values = np.full(NUM_ARCHS, -np.inf)

    @property
    def num_queries(self) -> int:
        """Distinct architectures asked for so far, those without a score among them."""
        return int(self._asked.sum())

    @property
    def query_flops(self) -> int:
        """Sum of the FLOPs of the architectures asked for so far."""
        return int(self.space.flops()[self._asked].sum())

    def score(self, archs: Any) -> FloatArray:
        """Ask for scores.

        Args:
            archs: A batch of n architectures in any encoding of `Space.digits`.

        Returns:
            float64 (n,), higher is better; -inf where there is no score.

        Raises:
            MethodError: The evaluator breaks its contract.
        """
        return self.score_indices(self.space.index(self.space.digits(archs)))

    def score_indices(self, indices: npt.ArrayLike) -> FloatArray:
        """Ask for scores by index: int64 (n,) to float64 (n,), as `score`."""
        wanted = np.asarray(indices, np.int64)
        # In index order, in which an evaluator can share the work of architectures that begin alike.
        new = np.unique(wanted[~self._asked[wanted]])
        self._asked[new] = True
        known = new[self.scored[new]]
        for start in range(0, len(known), SCORE_CHUNK):
            chunk = known[start : start + SCORE_CHUNK]
            self._values[chunk] = self._answers(chunk)
            if self._on_asked is not None:
                self._on_asked(len(chunk))
        return self._values[wanted]

    def best(self, indices: npt.ArrayLike) -> int:
        """The index with the best score; of equal scores the one with fewer FLOPs, then the smaller index."""
        wanted = np.asarray(indices, np.int64)
        scores = self.score_indices(wanted)
        # A validation accuracy is a count of few images, so ties are common; a rule makes them repeat.
        return int(wanted[np.lexsort((wanted, self.space.flops()[wanted], -scores))[0]])

    def note(self, index: int) -> None:
        """Add an architecture to the history."""
        score = float(self.score_indices([index])[0])
        self.history.append(Step(self.num_queries, self.space.text(index), score))

    def slot_effects(self) -> FloatArray:
        """What each width of each slot contributes to the score, as far as the evaluator measured it.

        An evaluator that has this knowledge (FUR's probes, sums of per-slot terms) offers it as a function
        ``slot_effects()``.

        Returns:
            float64 (7, 4): row per slot, column per digit, in units of the score, higher is better; only differences
            within a row matter.

        Raises:
            MethodError: The evaluator has no such function, or it returns something else.
        """
        effects = np.asarray(self._offered("slot_effects", "effects of single slots")())
        shape = (NUM_SLOTS, NUM_WIDTHS)
        if effects.shape != shape or effects.dtype.kind not in "fiu" or not np.isfinite(effects).all():
            raise MethodError(
                f"slot_effects() returned {effects.dtype} of shape {effects.shape}: it must return finite numbers of"
                f" shape {shape}"
            )
        return effects.astype(np.float64)

    def training_losses(self) -> tuple[npt.NDArray[np.int8], FloatArray]:
        """Which architectures a supernet was trained on, and with what loss.

        An evaluator that kept them, as the prior of BCNet's search asks for, offers a function ``training_losses()``.

        Returns:
            int8 (n, 7) and float64 (n,), one row per training step and architecture; repetitions are allowed.

        Raises:
            MethodError: The evaluator has no such function, or it returns something else.
        """
        archs, losses = self._offered("training_losses", "losses of its training")()
        losses = np.asarray(losses, np.float64)
        digits = self.space.digits(archs)
        if losses.shape != (len(digits),) or not np.isfinite(losses).all():
            raise MethodError(
                f"training_losses() returned losses of shape {losses.shape} for {len(digits)} architectures: it must"
                " return one finite number each"
            )
        return digits, losses

    def _offered(self, name: str, what: str) -> Callable[[], Any]:
        function = getattr(self.evaluator, name, None)
        if not callable(function):
            kind = "a file of scores" if isinstance(self.evaluator, Lookup) else type(self.evaluator).__name__
            raise MethodError(f"this search needs the {what}, and {kind} has no function {name}()")
        return function

    def _answers(self, indices: IntArray) -> FloatArray:
        with plugin_errors("score(archs)", self.evaluator):
            answers = np.asarray(self.evaluator.score(self.space.archs()[indices]))
        if answers.shape != indices.shape or answers.dtype.kind != "f":
            raise MethodError(
                f"score() of {len(indices)} architectures returned {answers.dtype} of shape {answers.shape}: it must"
                f" return float64 of shape ({len(indices)},)"
            )
        wrong = np.flatnonzero(~np.isfinite(answers))
        if wrong.size:
            text = self.space.text(int(indices[wrong[0]]))
            raise MethodError(f"score() returned {answers[wrong[0]]} for architecture {text}: scores must be finite")
        return answers.astype(np.float64)


class Searcher(Protocol):
    """Finds a width."""

    def search(self, queries: Queries, budget: Budget, rng: np.random.Generator) -> Any:
        """Ask for scores and settle on an architecture.

        Args:
            queries: The space, and the evaluator.
            budget: What the architecture may cost; something fits it and has a score.
            rng: For all that is random.

        Returns:
            An architecture that fits and has a score, in any encoding of `Space.arch`.
        """
        ...


SEARCHERS: Registry[Searcher] = Registry(
    "searcher",
    "channel_bench.searchers",
    "harness.searchers",
    ("argmax", "evolutionary", "exhaustive", "fur", "greedy", "random"),
    "search",
)
register_searcher = SEARCHERS.register
"""Class decorator that makes a searcher known under a name (`Registry.register`)."""
