"""Width search under a budget: the contract of a searcher, the counting of its questions, the registry by name.

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
would be a pass over the validation images. A package of its own offers searchers under the entry-point group
``channel_bench.searchers``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError, BudgetError, MethodError, MissingDataError, unknown_name
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, NUM_WIDTHS, Space, get_space
from harness.method import SCORE_CHUNK, Evaluator
from harness.scores import Scores

if TYPE_CHECKING:
    from harness.task import Task

ENTRY_POINT_GROUP = "channel_bench.searchers"
SEARCHERS = ("argmax", "evolutionary", "exhaustive", "fur", "greedy", "random")
"""Those that come with this package."""

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Budget:
    """A limit on what an architecture may cost."""

    name: str
    """What is limited: "flops", "params", "latency" ..."""
    costs: FloatArray
    """Cost of every architecture, float64 or int64 (16384,) in index order."""
    limit: float
    """Largest allowed cost, in the unit of `costs`."""
    parts: tuple[Budget, ...] = ()
    """The budgets that this one joins (`joint`); none for a simple one."""

    def __post_init__(self) -> None:
        """Refuse what is no budget."""
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
        evaluator: Whom to ask; each architecture once.
        on_asked: Called with the number of architectures asked for since the last call.
    """

    def __init__(self, space: Space, evaluator: Evaluator, on_asked: Callable[[int], None] | None = None) -> None:
        """Nothing has been asked yet."""
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


def search(
    space: Space | str | Task,
    evaluator: Evaluator | Scores,
    budget: Budget,
    rng: np.random.Generator,
    searcher: Searcher | str = "evolutionary",
) -> Found:
    """Search for a width within a budget.

    Args:
        space: The space, or a task in it.
        evaluator: What gives scores, or scores as read from a file.
        budget: What the architecture may cost.
        rng: For all that is random in the search.
        searcher: A searcher, or the name of one with its default options.

    Raises:
        BudgetError: Nothing fits, or the searcher has no means to keep to the budget and ended outside.
        MissingDataError: Scores that the search cannot do without are missing.
        MethodError: The evaluator or the searcher breaks its contract, or cannot tell what this search needs.
        UnknownNameError: No such searcher.
    """
    found_space = get_space(space) if isinstance(space, (str, Space)) else space.space
    chosen = get_searcher(searcher) if isinstance(searcher, str) else searcher
    budget.check()
    queries = Queries(found_space, Lookup(evaluator) if isinstance(evaluator, Scores) else evaluator)
    if not (budget.fits & queries.scored).any():
        raise MissingDataError(f"none of the {int(budget.fits.sum()):,} architectures with {budget} has a score")
    result = chosen.search(queries, budget, rng)
    index = found_space.index(found_space.text(result))
    if not (budget.fits & queries.scored)[index]:
        raise MethodError(
            f"searcher {type(chosen).__name__} ended with {found_space.text(index)}, which "
            + (f"has no score, though it has {budget}" if budget.fits[index] else f"does not have {budget}")
        )
    score = float(queries.score_indices([index])[0])
    return Found(found_space.text(index), score, queries.num_queries, tuple(queries.history))


# -- registry -------------------------------------------------------------------------------------------------------

SearcherClass = TypeVar("SearcherClass", bound=type)
_registry: dict[str, Callable[..., Searcher]] = {}


def register_searcher(name: str) -> Callable[[SearcherClass], SearcherClass]:
    """Class decorator that makes a searcher known under a name.

    Raises:
        ArgumentError: The name belongs to another class.
    """

    def decorate(cls: SearcherClass) -> SearcherClass:
        known = _registry.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ArgumentError(f"searcher name {name!r} is taken by {known.__module__}")
        _registry[name] = cls
        return cls

    return decorate


def list_searchers() -> list[str]:
    """Names of all searchers, built in, registered and installed."""
    return sorted({*SEARCHERS, *_registry, *_installed()})


def get_searcher(name: str, /, **options: Any) -> Searcher:
    """Make a searcher by name.

    Args:
        name: Registered name.
        **options: Keyword arguments of its constructor.

    Raises:
        UnknownNameError: No searcher has this name.
        ArgumentError: The searcher has no such option, or refuses its value.
        MissingPackageError: It needs a package that is not installed.
        MethodError: An installed searcher cannot be imported.
    """
    factory = _find(name)
    allowed = inspect.signature(factory).parameters
    for option, value in options.items():
        if option not in allowed:
            raise ArgumentError(f"searcher {name!r} has no option {option!r}: it has {_listed(allowed)}")
        # 'population=many' or 'keep=2.5' would fail deep inside, or count as something else.
        kind = type(allowed[option].default)
        if kind in (bool, int, float, str) and type(value) is not kind and (kind, type(value)) != (float, int):
            raise ArgumentError(
                f"option {option!r} of searcher {name!r} is {value!r}: allowed are values of type {kind.__name__}"
            )
    return factory(**options)


def _find(name: str) -> Callable[..., Searcher]:
    if name in SEARCHERS:
        importlib.import_module(f"harness.searchers.{name}")
    installed = _installed()
    if name not in _registry and name in installed:
        try:
            return installed[name].load()
        except Exception as error:
            raise MethodError(
                f"installed searcher {name!r} ({installed[name].value}) cannot be imported: {type(error).__name__}:"
                f" {error}"
            ) from error
    if name not in _registry:
        raise unknown_name("searcher", name, list_searchers())
    return _registry[name]


def _installed() -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
