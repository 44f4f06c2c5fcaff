"""What to rank, as values that pass from a command line to a worker process: the task's options and one ranking.

    >>> options = TaskOptions(space="resnet-mini", epochs=3)
    >>> request = RankRequest.of("autoslim", options, Path("scores.parquet"), {"distill": False})
    >>> RankRequest.from_json(request.to_json()) == request
    True
    >>> task = prepare_task(options)

Neither class needs torch, so that a command can check its options before it loads anything heavy.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from channel_bench.errors import ArgumentError
from channel_bench.space import get_space

if TYPE_CHECKING:
    from harness.task import Task


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """How to set up a task, as the command lines ask for it; `prepare_task` makes the task.

    Attributes:
        space: Name of the space.
        dataset: "digits", "digits-placed", "cifar10", a folder of Parquet images or an .npz file; None for that of
            the space.
        download: Whether to download CIFAR-10 where it is missing.
        data_dir: Folder of downloaded data; None for the default.
        validate_on: "holdout" or "test", as `Task.validate_on`.
        bn: "batch" or "recalibrated", as `Task.bn`.
        score_by: "accuracy" or "loss", as `Task.score_by`.
        epochs: Epochs of the supernet, >= 1; None for those of its recipe.
        precision: "fp32", "tf32" or "bf16"; None for that of the recipe, fp32.
        num_val: Validation images to score on, >= 2; None for all.
        seed: Seed of everything random, >= 0.
        device: "auto", "cpu", "cuda", "cuda:1" ...
        threads: CPU threads of the process, >= 1.

    Raises:
        UnknownNameError: No space has this name.
        ArgumentError: The seed is negative, or there is no thread.
    """

    space: str
    dataset: str | None = None
    download: bool = False
    data_dir: Path | None = None
    validate_on: str = "holdout"
    bn: str = "batch"
    score_by: str = "accuracy"
    epochs: int | None = None
    precision: str | None = None
    num_val: int | None = None
    seed: int = 0
    device: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        """Check what needs no torch."""
        get_space(self.space)
        if self.seed < 0:
            raise ArgumentError(f"seed {self.seed} is negative: allowed are 0 and above")
        if self.threads < 1:
            raise ArgumentError(f"number of threads is {self.threads}: allowed are 1 and above")


@dataclass(frozen=True, kw_only=True)
class RankRequest:
    """One ranking; make it with `of`, which finds the method and checks its options.

    Attributes:
        method: The method as text (`harness.methods.get_method`).
        name: Name that its scores carry.
        options: Keyword arguments of its constructor.
        code: The file that a method was found in and its SHA-256 (`harness.locate.code_of`); empty for a method that
            was found by name.
        task: How to set up the task.
        out: Score file to write; None to keep the scores in memory.
        save: File for the weights of the supernet; None to keep none.
        log: CSV file of its learning curve; None for none.
        tensorboard: Folder of TensorBoard's event files; None for none.
    """

    method: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    task: TaskOptions
    out: Path | None = None
    save: Path | None = None
    log: Path | None = None
    tensorboard: Path | None = None

    @classmethod
    def of(
        cls, method: str, task: TaskOptions, out: Path | None = None, options: Mapping[str, Any] | None = None
    ) -> RankRequest:
        """Find a method, make it once to check its options, and describe its ranking.

        Raises:
            UnknownNameError, MissingDataError, MethodError, ArgumentError: As `harness.methods.get_method`.
        """
        from harness.methods import find_method, get_method, method_name

        given = dict(options or {})
        get_method(method, **given)
        return cls(
            method=method,
            name=method_name(method),
            options=given,
            code=find_method(method).code,
            task=task,
            out=out,
        )

    def to_json(self) -> str:
        """The request as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> RankRequest:
        """The request that `to_json` wrote."""
        fields = json.loads(text)
        task = fields.pop("task")
        data_dir = task.pop("data_dir")
        places: dict[str, Any] = {name: fields.pop(name) for name in ("out", "save", "log", "tensorboard")}
        kept: dict[str, Any] = {name: None if place is None else Path(place) for name, place in places.items()}
        return cls(
            task=TaskOptions(data_dir=None if data_dir is None else Path(data_dir), **task),
            **kept,
            **fields,
        )


def shard_requests(requests: Sequence[RankRequest], number: int, total: int) -> list[RankRequest]:
    """The requests of one of several shares; the same on every machine.

    The seeds of a method go to different shares, one after the other: methods differ in what they cost, seeds do not.

    Args:
        requests: All requests.
        number: Which share, 1..total.
        total: Number of shares.

    Returns:
        The share, in the order of the requests.

    Raises:
        ArgumentError: There are more shares than requests.
    """
    if total > len(requests):
        raise ArgumentError(f"{total} shards of {len(requests)} rankings: allowed are 1..{len(requests)}")
    methods = list(dict.fromkeys(request.name for request in requests))
    dealt = sorted(requests, key=lambda request: (methods.index(request.name), request.task.seed))
    mine = dealt[number - 1 :: total]
    return [request for request in requests if request in mine]


def prepare_task(options: TaskOptions) -> Task:
    """Load the images, and set up the task and the CPU threads of this process; loads torch.

    Raises:
        UnknownNameError: No data set has this name.
        MissingDataError: The data set is not on disk and not to be downloaded.
        ArgumentError: The device cannot be used, the data set does not fit the space, or an option is out of range.
    """
    from channel_bench.training.datasets import load_dataset
    from channel_bench.training.devices import pick_device, prepare_process
    from harness.task import make_task, supernet_recipe

    prepare_process(options.threads)
    space = get_space(options.space)
    data = load_dataset(
        options.dataset or space.dataset,
        data_dir=options.data_dir,
        download=options.download,
        device=pick_device(options.device),
    )
    return make_task(
        space,
        data,
        seed=options.seed,
        recipe=supernet_recipe(space, options.epochs, options.precision),
        validate_on=options.validate_on,
        bn=options.bn,
        score_by=options.score_by,
        num_val=options.num_val,
    )
