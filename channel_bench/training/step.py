"""The training step, and the passes over images made of it: as PyTorch calls, or replayed as a CUDA graph.

    >>> trainer = Trainer(model, loader)
    >>> with arithmetic("bf16"):
    ...     loss, accuracy = trainer.epoch(0, [plan])      # tensors on the device, not read yet

A step crops, mirrors and normalises images by index, runs forward, backward and the optimiser, and adds up losses.
Everything that changes from step to step (the position in the epoch, the learning rate on a GPU, the sums) is in
tensors on the device, so every step is the same sequence of calls. Such a sequence can be recorded once as a CUDA graph
and replayed (graphs.py), and the host waits for nothing within an epoch.

Shapes below: N images, B in a batch, S networks in a stack. With a single network the axis S is missing.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from channel_bench.errors import ArgumentError
from channel_bench.recipe import Recipe
from channel_bench.training.datasets import EpochPlan, TrainLoader, normalise
from channel_bench.training.evaluation import Evaluator
from channel_bench.training.graphs import Recorder
from channel_bench.training.models.precision import HAS_FOREACH_COPY, cast_weights, forward
from channel_bench.training.optimizers import SGD

MIN_CHANNELS_LAST_EDGE = 16
"""Edge of images, in pixels, from which a CPU trains with channels last."""
HAS_FUSED_SGD = "fused" in inspect.signature(torch.optim.SGD).parameters
"""PyTorch 2.3 and newer; only the fused optimiser reads a learning rate from the device."""


def check_device(recipe: Recipe, device: torch.device, graph: bool | None = None) -> None:
    """Refuse a precision or a graph that the device cannot do, before anything is trained.

    Raises:
        ArgumentError: It cannot; the message says what it can.
    """
    allowed = ["fp32"]
    if device.type == "cpu":
        allowed += ["bf16"]
    # TF32 and bfloat16 tensor cores came with compute capability 8.0; what emulates them would only be slow.
    elif device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        allowed += ["tf32", "bf16"]
    if recipe.precision not in allowed:
        raise ArgumentError(
            f"precision {recipe.precision!r} cannot be used on device {str(device)!r}: allowed are {', '.join(allowed)}"
        )
    if graph and not _reads_lr_on(device):
        raise ArgumentError(
            f"a CUDA graph cannot be used on device {str(device)!r} with PyTorch {torch.__version__}: it needs a GPU"
            " and PyTorch 2.3 or newer"
        )


CROPPED_TOGETHER = 4096
"""Images whose crops are cut out in one call ahead of an epoch. On a GPU such a call makes three indices of 8 bytes for
each of their pixels, which for all images of CIFAR-10 at once would be 1.2 GB."""


@contextlib.contextmanager
def arithmetic(precision: str = "fp32") -> Iterator[None]:
    """Set the arithmetic of fp32 convolutions and products on a GPU, and allow only algorithms that repeat bit by bit.

    By default PyTorch lets cuDNN round the inputs of fp32 convolutions to TF32; the published table was trained in true
    fp32. "bf16" is autocast around the forward pass (`forward`), and leaves the rest in true fp32.
    """
    if not torch.cuda.is_available():
        yield
        return
    allow_tf32 = precision == "tf32"
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=allow_tf32):
        matmul.allow_tf32 = allow_tf32
        try:
            yield
        finally:
            matmul.allow_tf32 = before


@functools.cache
def _make_first_optimizer() -> None:
    """Make the first optimiser of this process, and throw it away.

    In some versions of PyTorch it imports much, and an import that fails in there leaves a traceback behind, whose
    frames keep alive whatever the callers hold: a network, its images and its graphs. So it is made where nobody holds
    anything, at the bottom of the stack of another thread.
    """
    parameter = torch.zeros(1, requires_grad=True)
    thread = threading.Thread(target=lambda: SGD([parameter], lr=1.0).step())
    thread.start()
    thread.join()


def make_optimizer(model: nn.Module, recipe: Recipe, lr: float | Tensor, fused: bool) -> torch.optim.Optimizer:
    """The recipe's SGD; fused is one kernel for all parameters, with the same arithmetic."""
    _make_first_optimizer()
    return SGD(
        model.parameters(),
        lr=lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        **({"fused": True} if fused else {}),
    )


@dataclass(frozen=True)
class Step:
    """A step of an epoch that was handed to the device."""

    number: int
    """From 1."""
    num_steps: int
    """Of the epoch."""
    num_seen: int
    """Training images of the epoch up to this step."""
    num_images: int
    """Of the epoch."""
    read_loss: Callable[[], float]
    """Mean loss of the epoch so far, nats, summed over a stack; the call waits for the device."""


class Trainer:
    """Trains one network, or a stack of S networks, an epoch at a time.

    Args:
        model: The network, images (batch, channels, height, width) to logits (batch, num_classes); or a StackedModel,
            images (batch, S, channels, height, width) to logits (batch, S, num_classes). Moved to the loader's device.
        loader: The training images and the recipe.
        num_nets: S for a stack, None for a network.
        graph: Whether steps are replayed as CUDA graphs; None for where they can be.
        stream: Where graphs are captured and replayed, if no other living trainer captures there; None for one of its
            own.
        crop_ahead: Whether all crops of an epoch are cut out before its steps, which changes no result; None for where
            the device is a GPU with the memory for it (`has_room_to_crop_ahead`).
        cast_together: Whether a step in bf16 casts all weights in one call, which changes no result; None for where the
            device is a GPU.
        layout: How images and weights of a network lie in memory, of a stack only test images; None for what
            `layout_of` chooses.

    Attributes:
        model: The network as it is now, on the loader's device.
        stream: Where graphs are captured and replayed, no other living trainer's; None where there are no graphs.

    Raises:
        ArgumentError: The device cannot do the recipe's precision, or graphs that were asked for.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: TrainLoader,
        *,
        num_nets: int | None = None,
        graph: bool | None = None,
        stream: torch.cuda.Stream | None = None,
        crop_ahead: bool | None = None,
        cast_together: bool | None = None,
        layout: torch.memory_format | None = None,
    ) -> None:
        """Put everything that a step reads or changes on the device; capture the graphs."""
        self._loader, self._recipe = loader, loader.recipe
        self._device = device = loader.labels.device
        check_device(self._recipe, device, graph)
        self._num_images = len(loader.labels)
        # Batch sizes of an epoch: all equal, but for a smaller last one. Each size needs a graph of its own.
        size = min(self._recipe.batch_size, self._num_images)
        tail = self._num_images % size
        self._sizes = [size] * (self._num_images // size) + [tail] * (tail > 0)

        shape = () if num_nets is None else (num_nets,)
        self._num_nets = num_nets
        mean, std = loader.statistics
        self._statistics = (mean, std) if num_nets is None else (mean[None], std[None])
        self._image_layout = layout_of(loader) if layout is None else layout
        # A stack lays its images out itself.
        self._layout = self._image_layout if num_nets is None else torch.contiguous_format
        self.model = model.to(device).to(memory_format=self._layout) if num_nets is None else model.to(device)

        def zeros(*size: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(size, dtype=dtype, device=device)

        # A graph replays with the addresses that it was captured with. So these tensors are made once and only ever
        # overwritten in place: order, rows, columns (N, S) int64 and mirrored (N, S) bool of the current epoch ...
        self._plan = [zeros(self._num_images, *shape) for _ in range(3)]
        self._plan.append(zeros(self._num_images, *shape, dtype=torch.bool))
        # ... its crops with channels last, uint8 (N, S, height, width, channels), where they are cut out ahead ...
        size_of_crops = loader.crops_shape(self._num_images, *shape)
        if crop_ahead is None:
            crop_ahead = has_room_to_crop_ahead(math.prod(size_of_crops), device)
        self._crops = zeros(*size_of_crops, dtype=torch.uint8) if crop_ahead else None
        # ... the first image of the next batch, the number of the next step in the whole run, and the epoch's sums.
        self._offsets = torch.arange(size, device=device)
        self._position, self._number = zeros(1), zeros(1)
        self._loss_sum, self._num_correct = zeros(*shape, dtype=torch.float64), zeros(*shape)

        # The learning rate of every step of the run; a step starts at a fraction of its epoch.
        starts = [sum(self._sizes[:number]) / self._num_images for number in range(len(self._sizes))]
        lrs = [self._recipe.lr_at(epoch + start) for epoch in range(self._recipe.epochs) for start in starts]
        # On a GPU the fused optimiser reads its rate from a tensor, which each step fills from this table. Elsewhere
        # `epoch` sets the rate as a number from the host's list.
        self._device_lrs = torch.tensor(lrs, device=device) if _reads_lr_on(device) else None
        self._host_lrs = lrs
        lr = lrs[0] if self._device_lrs is None else self._device_lrs[0].clone()
        self._optimizer = make_optimizer(self.model, self._recipe, lr, fused=self._device_lrs is not None)
        if cast_together is None:
            cast_together = device.type == "cuda" and HAS_FOREACH_COPY
        self._cast_together = cast_weights(self.model) if cast_together and self._recipe.precision == "bf16" else {}
        self._norms = [module for module in self.model.modules() if isinstance(module, nn.BatchNorm2d)]
        self._counts = [norm.num_batches_tracked for norm in self._norms if norm.num_batches_tracked is not None]
        use_graph = self._device_lrs is not None if graph is None else graph
        self._evaluator = Evaluator(self.model, device, num_nets, self._recipe.precision)
        self._recorder = Recorder(self, device, stream) if use_graph else None
        self.stream = stream if self._recorder is None else self._recorder.stream
        self._graphs = {} if self._recorder is None else self._capture(self._recorder)

    def restart(self, model: nn.Module) -> None:
        """Go back to the start of a run, with the initial state of another network of the same shapes.

        Everything is overwritten where it is, so captured graphs stay valid.

        Args:
            model: On any device; only read.
        """
        state, initial = ([*each.parameters(), *each.buffers()] for each in (self.model, model))
        assert [tensor.shape for tensor in state] == [tensor.shape for tensor in initial]
        with self._on_stream(), torch.no_grad():
            for tensor, value in zip(state, initial, strict=True):
                tensor.copy_(value)
            if self._graphs:
                self._clear_momentum()
            else:
                self._optimizer.state.clear()

    def epoch(
        self, epoch: int, plans: Sequence[EpochPlan], on_step: Callable[[Step], None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """One pass over the training images.

        Args:
            epoch: Number from 0; with the recipe it decides the learning rates.
            plans: Of the network, or of each one of the stack.
            on_step: Called after each step; it changes no result.

        Returns:
            Mean loss in nats and accuracy in percent on the batches as they came: float64 tensors () or (S,) on the
            device, which the host has not waited for.
        """
        with self._on_stream():
            for step in self.steps(epoch, plans):
                if on_step is not None:
                    on_step(step)
            return self.means()

    def means(self) -> tuple[Tensor, Tensor]:
        """What `epoch` returns, for the epoch whose `steps` are through."""
        return self._loss_sum / self._num_images, 100 * self._num_correct.double() / self._num_images

    @contextlib.contextmanager
    def _on_stream(self) -> Iterator[None]:
        """Work on the trainer's own stream, after all that was asked for before and before all that will be."""
        if self.stream is None:
            yield
            return
        with torch.cuda.device(self._device):
            outside = torch.cuda.current_stream()
            self.stream.wait_stream(outside)
            with torch.cuda.stream(self.stream):
                yield
            outside.wait_stream(self.stream)

    def steps(self, epoch: int, plans: Sequence[EpochPlan]) -> Iterator[Step]:
        """The steps of `epoch`, each made when it is asked for, on the stream that is current then.

        Between two steps the caller may do other work, also on other streams.
        """
        self.model.train()
        for static, name in zip(self._plan, ("order", "rows", "columns", "mirrored"), strict=True):
            parts = [getattr(plan, name) for plan in plans]
            static.copy_(parts[0] if self._num_nets is None else torch.stack(parts, 1))
        if self._crops is not None:
            for start in range(0, self._num_images, CROPPED_TOGETHER):
                part = slice(start, start + CROPPED_TOGETHER)
                self._crops[part].copy_(self._loader.crops(*(each[part] for each in self._plan)).movedim(-3, -1))
        self._rewind(epoch * len(self._sizes))
        num_seen = 0
        for number, size in enumerate(self._sizes):
            if self._graphs:
                self._graphs[size].replay()
            else:
                if self._device_lrs is None:
                    for group in self._optimizer.param_groups:
                        group["lr"] = self._host_lrs[epoch * len(self._sizes) + number]
                self._step(size)
            num_seen += size
            read_loss = functools.partial(self._mean_loss, num_seen)
            yield Step(number + 1, len(self._sizes), num_seen, self._num_images, read_loss)
        torch._foreach_add_(self._counts, len(self._sizes))

    def _mean_loss(self, num_seen: int) -> float:
        return float(self._loss_sum.sum()) / num_seen

    def _rewind(self, number: int) -> None:
        """Go to the start of an epoch whose first step has this number in the run."""
        self._number.fill_(number)
        for tensor in (self._position, self._loss_sum, self._num_correct):
            tensor.zero_()

    def _step(self, size: int) -> None:
        """The next step of the epoch, on a batch of this size. Nothing in here may make the host wait."""
        if self._device_lrs is not None:
            # In place: the optimiser, and the graph, hold on to this tensor.
            lr = self._optimizer.param_groups[0]["lr"]
            lr.copy_(self._device_lrs.index_select(0, self._number).squeeze(0))
        # Indexing by a tensor keeps the position on the device; a slice would need the host to know it.
        at = self._position + self._offsets[:size]
        if self._crops is None:
            crops = self._loader.crops(*(part.index_select(0, at) for part in self._plan))
        else:
            crops = self._crops.index_select(0, at).movedim(-1, -3)
        images = normalise(crops, *self._statistics, memory_format=self._layout)
        targets = self._loader.labels[self._plan[0].index_select(0, at)]
        with _uncounted(self._norms):
            logits = forward(self.model, images, self._recipe.precision, self._cast_together)
        # Logits are (B, S, classes); cross_entropy wants the classes second. Losses are (B, S).
        losses = functional.cross_entropy(logits.movedim(-1, 1), targets, reduction="none")
        self._optimizer.zero_grad()
        # The mean over a network's batch, summed over networks: the gradient of a network depends on no other network.
        losses.mean(0).sum().backward()
        self._optimizer.step()
        self._loss_sum += losses.detach().sum(0)
        self._num_correct += (logits.detach().argmax(-1) == targets).sum(0)
        self._position += size
        self._number += 1

    def _capture(self, recorder: Recorder) -> dict[int, torch.cuda.CUDAGraph]:
        """A graph of a step for each size of batch, with the model and the optimiser left as they were."""
        # Warming up really trains, so parameters and running statistics are saved, and restored below.
        state = [*self.model.parameters(), *self.model.buffers()]
        saved = [tensor.detach().clone() for tensor in state]
        self.model.train()
        sizes = sorted(set(self._sizes), reverse=True)
        graphs = recorder.record([functools.partial(self._step, size) for size in sizes], self._start_over)
        with torch.no_grad():
            for tensor, value in zip(state, saved, strict=True):
                tensor.copy_(value)
            self._clear_momentum()
        return dict(zip(sizes, graphs, strict=True))

    def _clear_momentum(self) -> None:
        """Zero the optimiser's buffers, which must stay where the graphs expect them.

        A first step from zeros equals that of a new optimiser: 0 * momentum + gradient.
        """
        for buffers in self._optimizer.state.values():
            for tensor in buffers.values():
                if tensor is not None:
                    tensor.zero_()

    def _start_over(self) -> None:
        """The first step of the run, without gradients: a capture then makes them in the graph's own memory."""
        self._rewind(0)
        self._optimizer.zero_grad(set_to_none=True)

    def evaluate(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and accuracy with the running statistics of batch normalisation, each network on the same images.

        Args:
            images: As `prepare` gave them, (num_images, channels, height, width).
            labels: int64 (num_images,).

        Returns:
            As `epoch`.
        """
        with self._on_stream():
            return self._evaluator(images, labels)

    def prepare(self, images: Tensor) -> Tensor:
        """Normalise test images once, in the layout that the network wants.

        Where steps are graphs, evaluating as many images becomes one here, before anything is in a hurry.
        """
        prepared = normalise(images, *self._loader.statistics, memory_format=self._image_layout)
        if self._recorder is not None:
            self._evaluator.record(prepared, self._recorder)
        return prepared


def has_room_to_crop_ahead(num_bytes: int, device: torch.device) -> bool:
    """Whether a device is a GPU that has room for all crops of an epoch.

    A network and its activations need most of the memory, and other runs may start beside this one, so that crops may
    take an eighth of what is free at most.

    Args:
        num_bytes: Of the crops: one byte per pixel and channel of all training images, times the networks of a stack.
        device: Where they would be.
    """
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes <= free // 8


def layout_of(loader: TrainLoader) -> torch.memory_format:
    """How images and weights of single networks lie in memory.

    Tensor cores want channels last, and so do a CPU's convolutions of images of the full spaces, in fp32 as in bf16
    (tests/perf/bench_layout.py). The small images of the mini spaces keep the layout that the mini tables name.
    """
    return image_layout(loader.labels.device, loader.padded.shape[2] - 2 * loader.recipe.crop_padding)


def image_layout(device: torch.device, height: int) -> torch.memory_format:
    """As `layout_of`, by the device and the pixels along an edge of an image."""
    is_fast = device.type == "cuda" or height >= MIN_CHANNELS_LAST_EDGE
    return torch.channels_last if is_fast else torch.contiguous_format


def layout_on_cpu(images: Tensor) -> torch.memory_format:
    """As `layout_of`, for images on a CPU; small ones, and what lies elsewhere, stay as they are to the last bit."""
    is_fast = images.device.type == "cpu" and images.shape[2] >= MIN_CHANNELS_LAST_EDGE
    return torch.channels_last if is_fast else torch.preserve_format


@contextlib.contextmanager
def _uncounted(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """Keep batch normalisations from counting their batches, a kernel each; `epoch` adds the count of all its steps.

    The count plays no part in the result, because the momentum of their running statistics is a number.
    """
    counts = [norm.num_batches_tracked for norm in norms]
    for norm in norms:
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, count in zip(norms, counts, strict=True):
            norm.num_batches_tracked = count


def _reads_lr_on(device: torch.device) -> bool:
    """Whether the optimiser reads its learning rate from a tensor on the device, without the host."""
    return device.type == "cuda" and HAS_FUSED_SGD
