"""Trained weights with what they are of: train, save, load, evaluate again.

    >>> network = train_network(get_space("resnet-mini"), "4344424", get_recipe("mini"), 0, load_dataset("digits"))
    >>> network.save("weights.pt")
    >>> again = load_network("weights.pt")
    >>> again.evaluate(load_dataset("digits")).accuracy == again.record.test_acc
    True
    >>> logits = again(images)                       # uint8 (batch, channels, height, width), as in a data set

The weights are those after the last epoch, so they belong to `test_acc` of the record, not to `best_test_acc`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from channel_bench._version import __version__
from channel_bench.errors import ArgumentError, ChannelBenchError, CorruptFileError
from channel_bench.recipe import Recipe
from channel_bench.record import Job, RunRecord
from channel_bench.space import Space, named_space
from channel_bench.support.reading import shown_path
from channel_bench.training.archive import NETWORK, read_archive, write_archive
from channel_bench.training.backends import pick_backend
from channel_bench.training.datasets import Dataset, channel_statistics, normalise
from channel_bench.training.evaluation import evaluate_on_device
from channel_bench.training.models import blank_model
from channel_bench.training.models.precision import forward
from channel_bench.training.native import BACKEND, evaluate_native, reason_not, train_native
from channel_bench.training.run import OnEpoch, train_run
from channel_bench.training.step import Step, arithmetic, check_device, image_layout

_MEAN, _STD = "images.mean", "images.std"
"""Names of the statistics among the tensors of a file."""


@dataclass(frozen=True)
class Evaluation:
    """How a network does on test images."""

    loss: float
    """Mean cross-entropy, nats."""
    accuracy: float
    """Percent."""
    num_correct: int
    """Images that were classified rightly."""
    num_images: int
    """Of the test images."""
    backend: str
    """What computed it: "native" or "torch"."""


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A trained network with its identity; from `train_network` or `load_network`."""

    space: Space
    """The search space."""
    recipe: Recipe
    """How it was trained."""
    dataset: str
    """Name of the data set that it was trained on."""
    dataset_digest: str
    """SHA-256 over the images and labels of that data set (`Dataset.digest`)."""
    record: RunRecord
    """Architecture, run, seed, accuracies, curves, device, versions, backend."""
    mean: Tensor
    """float32 (1, channels, 1, 1), which images in [0, 1] are standardised with."""
    std: Tensor
    """float32 (1, channels, 1, 1)."""
    model: nn.Module
    """The network in evaluation mode, from standardised images to logits."""
    version: str = __version__
    """Of this package, when it was trained."""

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of images.

        Args:
            images: uint8 (batch, channels, height, width), values 0..255, on the device of the model.

        Returns:
            float32 (batch, num_classes).
        """
        if images.dtype != torch.uint8 or images.shape[1:] != self.space.input_shape:
            raise ArgumentError(
                f"images are {images.dtype} {tuple(images.shape)}: allowed is uint8 (batch,"
                f" {', '.join(map(str, self.space.input_shape))})"
            )
        mean, std = self.mean.to(images.device), self.std.to(images.device)
        with torch.no_grad():
            return forward(self.model, normalise(images, mean, std), self.recipe.precision)

    def evaluate(self, dataset: Dataset, backend: str = "auto") -> Evaluation:
        """Loss and accuracy on the test images of a data set, on its device.

        On the data set, the machine and the number of threads of its training that is the last epoch of its record.

        Args:
            dataset: Images of the space's input shape. They are standardised as the training images were.
            backend: "native", "torch", or "auto": the program that trained it where that can, else PyTorch.

        Raises:
            ArgumentError: The data set does not fit the space, or the program or the device cannot do it.
        """
        dataset.check_fits(self.space)
        check_device(self.recipe, dataset.device)
        trained_by = BACKEND if self.record.backend == BACKEND else "torch"
        chosen = trained_by if backend == "auto" else pick_backend(self.space, self.recipe, dataset, backend)[0]
        if chosen == BACKEND and backend == "auto" and reason_not(self.space, self.recipe, dataset) is not None:
            chosen = "torch"
        num_images = len(dataset.test_labels)
        if chosen == BACKEND:
            state = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
            loss, accuracy = evaluate_native(self.space, self.record.arch, state, (self.mean, self.std), dataset)
        else:
            layout = image_layout(dataset.device, dataset.image_shape[1])
            mean, std = self.mean.to(dataset.device), self.std.to(dataset.device)
            model = self.model.to(dataset.device).to(memory_format=layout)
            with arithmetic(self.recipe.precision):
                images = normalise(dataset.test_images, mean, std, layout)
                measured = evaluate_on_device(model, images, dataset.test_labels, precision=self.recipe.precision)
            loss, accuracy = (float(value) for value in measured)
        return Evaluation(loss, accuracy, round(accuracy * num_images / 100), num_images, chosen)

    def save(self, path: str | Path) -> None:
        """Write weights and identity to a file that `load_network` and ``torch.load(weights_only=True)`` read.

        Raises:
            ArgumentError: The run diverged, so there is nothing worth keeping.
            StorageError: The file cannot be written; what was there is unchanged.
        """
        if self.record.status != "ok":
            raise ArgumentError(f"nothing was saved to {shown_path(Path(path))}: the run {self.record.status}")
        identity = {
            "space": self.space.name,
            "space_fingerprint": self.space.fingerprint,
            "recipe": self.recipe.to_dict(),
            "dataset": self.dataset,
            "dataset_digest": self.dataset_digest,
            "version": self.version,
            "record": dataclasses.asdict(self.record),
        }
        write_archive(Path(path), NETWORK, identity, {**self.model.state_dict(), _MEAN: self.mean, _STD: self.std})


def train_network(
    space: Space,
    arch: Any,
    recipe: Recipe,
    seed: int,
    dataset: Dataset,
    *,
    run: int = 0,
    backend: str = "auto",
    on_epoch: OnEpoch | None = None,
    on_step: Callable[[Step], None] | None = None,
    graph: bool | None = None,
) -> TrainedNetwork:
    """Train one network, by the program that `pick_backend` picks, and keep its weights.

    The record is that of `train_run`, or of the native trainer, which calls neither `on_epoch` nor `on_step`.

    Args:
        space: The search space.
        arch: The architecture, in any encoding of `Space.arch`.
        recipe: How to train.
        seed: >= 0.
        dataset: Images of the space's input shape, on the device to train on.
        run: Number that the record carries.
        backend: "native", "torch" or "auto".
        on_epoch: As in `train_run`.
        on_step: As in `train_run`.
        graph: As in `train_run`.

    Raises:
        ArchError, ArgumentError: As `train_run` and `pick_backend`.
    """
    text = space.text(arch)
    dataset.check_fits(space)
    state: dict[str, Tensor] = {}
    if pick_backend(space, recipe, dataset, backend)[0] == BACKEND:
        (record,) = train_native(
            space, [Job(text, run, seed)], recipe, dataset, lambda job, weights: state.update(weights)
        )
    else:
        record = train_run(
            space,
            text,
            recipe,
            seed,
            dataset,
            run=run,
            on_epoch=on_epoch,
            on_step=on_step,
            on_trained=state.update,
            graph=graph,
        )
    mean, std = (each.cpu() for each in channel_statistics(dataset.train_images, recipe))
    return TrainedNetwork(
        space=space,
        recipe=recipe,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        record=record,
        mean=mean,
        std=std,
        model=_model_of(space, text, state),
    )


def load_network(path: str | Path, space: Space | None = None) -> TrainedNetwork:
    """Load what `TrainedNetwork.save`, or ``channel-bench train --save``, wrote.

    Nothing in the file is run, and no more memory is taken than a small multiple of its size.

    Args:
        path: The file.
        space: The space that it must be of; default the registered one that it names.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        MissingDataError: Nothing is there.
        CorruptFileError: It is damaged, no such file, or its weights are not of the architecture that it names.
        ArgumentError: It is of another space.
    """
    path = Path(path)
    identity, state = read_archive(path, NETWORK)
    space = check_space(path, identity, space)
    try:
        recipe = Recipe.from_dict(identity["recipe"])
        record = RunRecord.from_json(json.dumps(identity["record"]))
        texts = {name: identity[name] for name in ("dataset", "dataset_digest", "version")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise ValueError("data set, digest and version are not texts")
        if (record.flops, record.params) != (space.flops(record.arch), space.params(record.arch)):
            raise ValueError(f"its costs are not those of {record.arch}")
        mean, std = state.pop(_MEAN), state.pop(_STD)
        if (
            not mean.shape == std.shape == (1, space.input_shape[0], 1, 1)
            or not mean.dtype == std.dtype == torch.float32
        ):
            raise ValueError("its mean and deviation of images are not a number for each channel")
        model = _model_of(space, record.arch, state)
    except (ChannelBenchError, ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CorruptFileError(f"{shown_path(path)} is no {NETWORK} of space {space.name!r}: {reason}") from None
    return TrainedNetwork(space=space, recipe=recipe, record=record, mean=mean, std=std, model=model, **texts)


def check_space(path: Path, identity: Mapping[str, Any], space: Space | None) -> Space:
    """The space of a file of weights, where it is the same one here.

    Raises:
        UnknownNameError: No space has the name in the file.
        ArgumentError: It is of another space than the one that was asked for, or that space has changed.
    """
    name = identity.get("space")
    if space is None:
        space = named_space(f"file of weights {shown_path(path)}", name)
    if name != space.name or identity.get("space_fingerprint") != space.fingerprint:
        raise ArgumentError(
            f"{shown_path(path)} has weights of space {str(name)[:60]!r} (fingerprint"
            f" {str(identity.get('space_fingerprint'))[:16]}); here {space.name!r} has {space.fingerprint}"
        )
    return space


def _model_of(space: Space, arch: str, state: Mapping[str, Tensor]) -> nn.Module:
    """The network with these weights, in evaluation mode.

    Raises:
        ValueError: They are not its own.
    """
    model = blank_model(space, space.channels(arch))
    # Before any memory is taken for the network.
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items()}
    if {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()} != expected:
        raise ValueError(f"its weights are not those of {arch}")
    model.load_state_dict(dict(state), assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.eval()
