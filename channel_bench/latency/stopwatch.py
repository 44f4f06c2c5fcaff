"""Times the layers and networks of a space in PyTorch, for measure.py.

    >>> model = measure(space, TorchStopwatch(space, torch.device("cpu"), batch_size=4))

Inference as it is deployed: no gradients, normalisation folded into the convolutions, true fp32. On a CPU every call is
timed alone and a sample is their median, so that a call during which another process took the core drops out. On a
GPU calls are issued back to back between two CUDA events, so that launches overlap with work as they do in a network.
Between samples lies one call that is not timed.
"""

from __future__ import annotations

import contextlib
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from channel_bench.errors import ArgumentError
from channel_bench.latency.model import Conditions
from channel_bench.space import NUM_WIDTHS, Arch, Space
from channel_bench.space.layers import CLASSES, IMAGE, Layer
from channel_bench.training.models import blank_model, build_model
from channel_bench.training.step import arithmetic

MAX_BATCH_SIZE = 65_536
SAMPLE_MS = 1.0
"""A sample is an odd number of calls that take at least this long together ..."""
MIN_CALLS = 3
"""... and at least this many, so that their median can drop one that was interrupted ..."""
LONG_MS = 10.0
"""... but for a call of this length, within which the scheduler's interruptions average out."""
_OUT_OF_MEMORY = ("out of memory", "allocate memory")
_Call = Callable[[], object]


def default_batch_size(space: Space, device: torch.device) -> int:
    """Images per forward pass: those of HTAS, 1024 on a GPU and 4 on a CPU; in the mini spaces 256 on a CPU.

    With fewer images the overhead of a mini network's calls would hide its arithmetic.
    """
    if device.type == "cuda":
        return 1024
    return 256 if space.is_mini else 4


class TorchStopwatch:
    """Times forward passes of a space's layers and networks on a device.

    Args:
        space: The search space.
        device: Where to run.
        batch_size: Images per forward pass, 1..65536.
        seed: Seed of weights and images. Their values do not matter, but zeros and denormal numbers would.
        processor_time: Count the time that this thread had the processor. On a core of its own that is the latency; on
            a busy machine the latency of a free core, where a call that others interrupt takes many times as long. For
            one CPU thread only.

    Raises:
        ArgumentError: batch_size is out of range; processor_time is asked for elsewhere than on one CPU thread; or the
            batch needs more memory than the device has (also while timing).
    """

    def __init__(
        self, space: Space, device: torch.device, batch_size: int, seed: int = 0, *, processor_time: bool = False
    ) -> None:
        """Draw the weights of the widest network; all others are cut out of it."""
        if not 1 <= batch_size <= MAX_BATCH_SIZE:
            raise ArgumentError(f"batch size is {batch_size}: allowed are 1..{MAX_BATCH_SIZE}")
        if processor_time and (device.type != "cpu" or torch.get_num_threads() != 1):
            raise ArgumentError(
                f"processor time on {str(device)!r} with {torch.get_num_threads()} threads: allowed is 'cpu' with 1"
            )
        self._clock = time.thread_time_ns if processor_time else time.perf_counter_ns
        self._space, self._device, self._batch_size = space, device, batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._layers = {layer.name: layer for layer in space.layers}
        widest = build_model(space, (NUM_WIDTHS,) * len(space.max_channels), self._generator).eval()
        self._widest = {name: _folded(widest, name) for name in self._layers}
        self._modules: dict[tuple[str, tuple[int, ...]], nn.Conv2d | nn.Linear] = {}
        self._features: dict[tuple[int, tuple[int, int]], Tensor] = {}
        self._buffers: dict[str, Tensor] = {}
        self._calls: dict[tuple[str, tuple[int, ...]], tuple[_Call, int]] = {}

    @property
    def conditions(self) -> Conditions:
        """Device, versions, threads, batch size."""
        return Conditions(
            device=_hardware_name(self._device),
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            batch_size=self._batch_size,
            arithmetic="fp32, normalisation folded into the convolutions, no gradients, contiguous layout"
            + (", processor time" if self._clock is time.thread_time_ns else ""),
        )

    def time_layer(self, layer: Layer, digits: tuple[int, ...]) -> float:
        """Latency of a layer, ms; digits 1..4 in the order of `Layer.slots`."""
        return self._time((layer.name, digits), lambda: self.layer_call(layer, digits))

    def time_network(self, arch: Arch) -> float:
        """Latency of the whole network of an architecture, ms."""
        return self._time(("network", arch), lambda: self.network_call(arch))

    def time_channels(self, layer: Layer, inputs: int, outputs: int) -> float:
        """Latency of a layer with any channels, ms; a depthwise layer reads as many as it writes."""
        return self._time((f"{layer.name} channels", (inputs, outputs)),
                          lambda: self.channels_call(layer, inputs, outputs))  # fmt: skip

    # -- what is called -------------------------------------------------------------------------------------------

    def layer_call(
        self, layer: Layer, digits: tuple[int, ...], inputs: Tensor | None = None, skip: Tensor | None = None
    ) -> Callable[[], Tensor]:
        """A function that runs a layer and what follows it.

        Args:
            layer: The layer.
            digits: Digits 1..4 in the order of `Layer.slots`.
            inputs: (batch, channels, height, width); random by default.
            skip: What is added to the output of a layer that has a skip line; random by default.
        """
        module = self._module(layer, digits)
        widths = dict(zip(layer.slots, digits, strict=True))
        if inputs is None:
            inputs = self._feature(self._channels(layer.reads, widths), layer.input_size)
        x = inputs
        if layer.writes == CLASSES:
            return lambda: module(x.mean((2, 3)))
        if layer.skip:
            line = self._feature(self._channels(layer.writes, widths), layer.output_size) if skip is None else skip
            return (lambda: functional.relu(line + module(x))) if layer.relu else (lambda: line + module(x))
        return (lambda: functional.relu(module(x), inplace=True)) if layer.relu else (lambda: module(x))

    def channels_call(self, layer: Layer, inputs: int, outputs: int) -> Callable[[], Tensor]:
        """A function that runs a convolution of any channels, on or off the grid, and what follows it.

        Thousands of widths share one buffer of weights and one of inputs: each is the front part of it, in one piece.
        """
        groups = inputs if layer.depthwise else 1
        weight = self._front("weight", outputs, inputs // groups, layer.kernel, layer.kernel)
        bias = self._front("bias", outputs)
        x = self._front("inputs", self._batch_size, inputs, *layer.input_size)
        line = self._front("line", self._batch_size, outputs, *layer.output_size) if layer.skip else None

        def call() -> Tensor:
            y = functional.conv2d(x, weight, bias, layer.stride, layer.kernel // 2, groups=groups)
            if line is not None:
                y = line + y
            return functional.relu(y, inplace=True) if layer.relu else y

        return call

    def _front(self, purpose: str, *shape: int) -> Tensor:
        """A random tensor, the front part of the buffer of a purpose, which grows to at least twice its size."""
        count = math.prod(shape)
        known = self._buffers.get(purpose)
        if known is None or len(known) < count:
            size = max(count, 0 if known is None else 2 * len(known))
            self._buffers[purpose] = torch.randn(size, generator=self._generator).to(self._device)
        return self._buffers[purpose][:count].view(shape)

    def network_call(self, arch: Arch, images: Tensor | None = None) -> Callable[[], Tensor]:
        """A function that runs the network of channel_bench/training/models, on random images by default."""
        model = blank_model(self._space, self._space.channels(arch)).eval()
        for layer in self._layers.values():
            module = self._module(layer, tuple(arch[slot] for slot in layer.slots))
            parent, _, position = layer.name.rpartition(".")
            if parent:
                model.get_submodule(parent)[int(position)] = module  # type: ignore[operator]
            else:
                model.classifier = module  # type: ignore[assignment]
        for name, child in list(model.named_children()):
            if isinstance(child, nn.Sequential):
                kept = [part for part in child if not isinstance(part, nn.BatchNorm2d)]
                setattr(model, name, nn.Sequential(*kept))
        if images is None:
            channels, height, width = self._space.input_shape
            images = self._feature(channels, (height, width))
        x = images
        return lambda: model(x)

    def _channels(self, slot: int, widths: dict[int, int]) -> int:
        """Channels of a slot, of the image, or of the classes."""
        if slot == IMAGE:
            return self._space.input_shape[0]
        if slot == CLASSES:
            return self._space.num_classes
        return self._space.max_channels[slot] * widths[slot] // NUM_WIDTHS

    def _feature(self, channels: int, size: tuple[int, int]) -> Tensor:
        key = (channels, size)
        if key not in self._features:
            shape = (self._batch_size, channels, *size)
            self._features[key] = torch.randn(shape, generator=self._generator).to(self._device)
        return self._features[key]

    def _module(self, layer: Layer, digits: tuple[int, ...]) -> nn.Conv2d | nn.Linear:
        """A layer of some width: the first filters and inputs of the widest; networks share it."""
        key = (layer.name, digits)
        if key not in self._modules:
            widths = dict(zip(layer.slots, digits, strict=True))
            widest = self._widest[layer.name]
            inputs = self._channels(layer.reads, widths)
            outputs = self._channels(layer.writes, widths)
            assert widest.bias is not None
            with torch.device("meta"):
                cut: nn.Conv2d | nn.Linear = (
                    nn.Linear(inputs, outputs)
                    if isinstance(widest, nn.Linear)
                    else nn.Conv2d(
                        inputs,
                        outputs,
                        layer.kernel,
                        layer.stride,
                        layer.kernel // 2,
                        groups=inputs if layer.depthwise else 1,
                    )
                )
            weight = widest.weight.detach()[:outputs, : 1 if layer.depthwise else inputs]
            cut.weight = nn.Parameter(weight.to(self._device, copy=True).contiguous(), requires_grad=False)
            cut.bias = nn.Parameter(widest.bias.detach()[:outputs].to(self._device, copy=True), requires_grad=False)
            self._modules[key] = cut
        return self._modules[key]

    # -- timing ---------------------------------------------------------------------------------------------------

    def _time(self, key: tuple[str, tuple[int, ...]], prepare: Callable[[], _Call]) -> float:
        """Milliseconds per call."""
        with torch.inference_mode(), arithmetic("fp32"), self._memory_errors():
            if key not in self._calls:
                call = prepare()
                for _ in range(3):  # the first calls choose algorithms and allocate
                    call()
                once_ms = self._sample(call, 1)
                least = MIN_CALLS if once_ms < LONG_MS else 1
                self._calls[key] = (call, max(least, math.ceil(SAMPLE_MS / max(once_ms, 1e-3))) | 1)
            call, count = self._calls[key]
            call()
            return self._sample(call, count)

    def _sample(self, call: _Call, count: int) -> float:
        if self._device.type == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            with torch.cuda.device(self._device):
                start.record()
                for _ in range(count):
                    call()
                end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / count
        clock = self._clock
        times = [clock()]
        for _ in range(count):
            call()
            times.append(clock())
        return statistics.median(end - start for start, end in zip(times, times[1:], strict=False)) / 1e6

    @contextlib.contextmanager
    def _memory_errors(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:  # torch's own class of it derives from RuntimeError
            if isinstance(error, RuntimeError) and not any(words in str(error) for words in _OUT_OF_MEMORY):
                raise
            raise ArgumentError(
                f"a batch of {self._batch_size} images of space {self._space.name!r} needs more memory than"
                f" {str(self._device)!r} has: try a smaller batch size"
            ) from None


def _folded(model: nn.Module, name: str) -> nn.Conv2d | nn.Linear:
    """A convolution with the normalisation behind it folded in, or the linear layer."""
    parent, _, position = name.rpartition(".")
    if not parent:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        return linear
    conv, norm = model.get_submodule(name), model.get_submodule(f"{parent}.{int(position) + 1}")
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)


def _hardware_name(device: torch.device) -> str:
    """Name of the GPU, or of the CPU where the system tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or device.type
