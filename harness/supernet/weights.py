"""A trained supernet with what it is of: saved by ``channel-harness rank --save``, and loaded to score again.

    >>> saved = load_supernet("uniform.pt")
    >>> evaluator = saved.evaluator(saved.task(load_dataset("digits")))     # scores as the ranking did

The file is one of `channel_bench.training.archive`: ``torch.load(weights_only=True)`` reads it, and reading it runs
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from channel_bench._version import __version__
from channel_bench.errors import ArgumentError, ChannelBenchError, CorruptFileError, MethodError
from channel_bench.recipe import Recipe
from channel_bench.space import NUM_SLOTS, NUM_WIDTHS, FloatArray, Space
from channel_bench.support.reading import shown_path
from channel_bench.training.archive import SUPERNET, read_archive, write_archive
from channel_bench.training.datasets import Dataset
from channel_bench.training.weights import check_space
from harness.supernet.exhaustive import SupernetEvaluator
from harness.supernet.network import PATHS, Supernet
from harness.task import Task, make_task

_RECORDS, _EFFECTS = "loss_records.", "slot_effects"
"""Names, among the tensors of a file, of what is not a weight."""
MAX_GROUPS = 64
"""Groups of channels that the supernet of a file may have; the methods of the package have 4 and 5."""


@dataclass(frozen=True, kw_only=True)
class SavedSupernet:
    """What a file holds; from `load_supernet`."""

    supernet: Supernet
    """The weights, on the CPU."""
    method: str
    """Name of the method that trained it."""
    paths: tuple[str, ...]
    """Whose results a score is the mean of."""
    facts: dict[str, Any]
    """How it was trained and validated: data set, recipe, seed, options, versions, cost."""
    slot_effects: FloatArray | None
    """float64 (7, 4), what the method learned about single widths beside the weights (the log-probabilities of `tas`
    and `mask_gumbel`, the effects of `fur`); None where it learned no such thing."""
    version: str
    """Of this package, when it was saved."""

    def task(self, dataset: Dataset) -> Task:
        """The task of the ranking, on the device of the data set.

        Args:
            dataset: The images that it was trained on.

        Raises:
            ArgumentError: They are other images, or do not fit the space.
        """
        facts = self.facts
        try:
            task = make_task(
                self.supernet.space,
                dataset,
                seed=facts["seed"],
                recipe=Recipe.from_dict(facts["recipe"]),
                validate_on=facts["validated_on"],
                bn=facts["bn"],
                score_by=facts["score_by"],
                num_val=facts["num_val"],
            )
        except (KeyError, TypeError) as error:
            raise CorruptFileError(f"the facts of this supernet say no task: {error}") from None
        given = (task.dataset, task.data_sha256, len(task.train_labels))
        wanted = (facts.get("dataset"), facts.get("data_sha256", ""), facts.get("num_train"))
        if given != wanted:
            raise ArgumentError(
                f"data set {task.dataset!r} with {given[2]} training images: this supernet was trained on"
                f" {wanted[0]!r} with {wanted[2]}, or on other images of that name"
            )
        return task

    def evaluator(self, task: Task) -> SupernetEvaluator:
        """What scores architectures by the weights, as the ranking did; moves them to the device of the task.

        A method that scores by something else (``tas`` with ``score=distribution``, ``fur``) has that in
        `slot_effects`, and ``METHOD+FORM`` ranked by a fit to these scores.
        """
        return SupernetEvaluator(self.supernet.to(task.device), task, self.paths, facts=self.facts)


def save_supernet(path: str | Path, method: str, evaluator: object, facts: Mapping[str, Any]) -> None:
    """Write the supernet of a fitted method.

    Args:
        path: The file; replaced.
        method: Name of the method.
        evaluator: What its fit returned: it, or the evaluator inside an additive fit, has a `Supernet` as its attribute
            ``supernet``.
        facts: How it was made, as JSON can hold it.

    Raises:
        MethodError: The method has no supernet.
        StorageError: The file cannot be written.
    """
    inner = getattr(evaluator, "inner", evaluator)
    supernet = getattr(inner, "supernet", None)
    if not isinstance(supernet, Supernet):
        raise MethodError(
            f"fit() of method {method!r} returned an object of class {type(inner).__name__} without an attribute"
            " supernet that is a Supernet, so there are no weights to save: start without --save, or keep it there"
        )
    identity = {
        "space": supernet.space.name,
        "space_fingerprint": supernet.space.fingerprint,
        "method": method,
        "num_groups": supernet.num_groups,
        "norm_per_width": supernet.norm_per_width,
        "precision": supernet.precision,
        "forward_macs": supernet.forward_macs,
        "epoch_losses": supernet.epoch_losses,
        "paths": list(getattr(inner, "paths", PATHS[:1])),
        "facts": dict(facts),
        "version": __version__,
    }
    state: dict[str, Tensor] = dict(supernet.state_dict())
    state |= {_RECORDS + name: tensor for name, tensor in supernet.loss_records.state_dict().items()}
    effects = getattr(inner, "slot_effects", None)
    if callable(effects):
        # As bits of int64: a file holds no other eight-byte numbers, and scores are to be the same ones.
        state[_EFFECTS] = torch.from_numpy(np.array(effects(), np.float64).view(np.int64))
    write_archive(Path(path), SUPERNET, identity, state)


def load_supernet(path: str | Path, space: Space | None = None) -> SavedSupernet:
    """Load what `save_supernet`, or ``channel-harness rank --save``, wrote; nothing in the file is run.

    Args:
        path: The file.
        space: The space that it must be of; default the registered one that it names.

    Raises:
        MissingDataError: Nothing is there.
        CorruptFileError: It is damaged, or no such file.
        ArgumentError: It is of another space.
    """
    path = Path(path)
    identity, state = read_archive(path, SUPERNET)
    space = check_space(path, identity, space)
    try:
        groups, method, facts, version = (identity[name] for name in ("num_groups", "method", "facts", "version"))
        if type(groups) is not int or not NUM_WIDTHS <= groups <= MAX_GROUPS:
            raise ValueError(f"it has {groups!r:.20} groups of channels, allowed are {NUM_WIDTHS}..{MAX_GROUPS}")
        if not isinstance(facts, dict) or not isinstance(method, str) or not isinstance(version, str):
            raise ValueError("method, facts or version is missing")
        if identity["precision"] not in ("fp32", "tf32", "bf16") or type(identity["norm_per_width"]) is not bool:
            raise ValueError("precision or norm_per_width is missing")
        paths = tuple(identity["paths"])
        if not paths or set(paths) - set(PATHS) or len(paths) > len(PATHS):
            raise ValueError("its paths are not left, right or both")
        bits = state.pop(_EFFECTS, None)
        if bits is not None and (bits.shape != (NUM_SLOTS, NUM_WIDTHS) or bits.dtype != torch.int64):
            raise ValueError("its effects are not a number for each width of each slot")
        records = {name.removeprefix(_RECORDS): state.pop(name) for name in list(state) if name.startswith(_RECORDS)}
        shape = {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
        # First without memory: the weights of a file decide how much is taken, not what it says of itself.
        with torch.device("meta"):
            blank = Supernet(space, torch.Generator(), groups, identity["norm_per_width"], identity["precision"])
        if shape != {name: (tensor.shape, tensor.dtype) for name, tensor in blank.state_dict().items()}:
            raise ValueError(f"its weights are not those of a supernet of {groups} groups")
        blank.load_state_dict(state, assign=True)
        blank.loss_records.load_state_dict(records)
        blank.forward_macs = int(identity["forward_macs"])
        blank.epoch_losses = [float(loss) for loss in identity["epoch_losses"]]
    except (ChannelBenchError, ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CorruptFileError(f"{shown_path(path)} is no {SUPERNET} of space {space.name!r}: {reason}") from None
    return SavedSupernet(
        supernet=blank,
        method=method,
        paths=paths,
        facts=facts,
        slot_effects=None if bits is None else bits.numpy().view(np.float64),
        version=version,
    )
