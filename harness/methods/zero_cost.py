"""What the zero-cost proxies share: random networks that are seen once, and a fit to what is measured on a few.

    channel-harness rank zico --space resnet-mini
    channel-harness rank zico --space resnet-mini --option samples=16384      # every architecture, no fit

A proxy is one number of an untrained network (Abdelfattah et al., ICLR 2021, arXiv 2101.08134). Each stands in a file
of its own: the paper, the equation, a pure function from a `RandomNet` and a batch to a float, and a class that ranks
by it. Networks are those that the table trains, at their initial weights; weights are those of convolutions and the
linear layer (in all papers here, normalisations are left out, and at initialisation they are scale 1 and shift 0).
Normalisation uses the statistics of the batch.

By default a few hundred random architectures are measured, and all are ranked by an additive fit
(`harness.stats.additive`). That is a departure from the papers, which measure whatever they compare; the accuracies
themselves are additive to within noise, and the draw of the weights is a noise that the fit averages out. A proxy has
no scale of its own, and some of them span ten powers of ten, so the fit is to their ranks, as the normal quantiles of
rank / n (van der Waerden scores): it does not change where a proxy is replaced by its logarithm.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.errors import ArgumentError, MethodError
from channel_bench.space import NUM_ARCHS, NUM_SLOTS, FloatArray, Space
from channel_bench.training.datasets import channel_statistics, normalise
from channel_bench.training.step import layout_on_cpu
from harness.smoothing import AdditiveSmoother, check_num_samples
from harness.stats.additive import check_design, fit_effects
from harness.task import Task

SAMPLED, BATCH, WEIGHTS, NOISE = 20, 21, 22, 23
"""Streams of the task's seed: the architectures, the batch, and by architecture its weights and what else it draws."""
EPS = 1e-5
"""Of a batch normalisation, PyTorch's default."""
UNIT = 2.0**-12
"""What effects of the fit are rounded to: a hundredth of their standard error with a thousand samples. Sums are then
exact, equal ones tie, and a file of scores is a third as long."""
MIN_IMAGES = 4
"""Two halves, each with two images for a batch normalisation to act on."""

Watch = Callable[[Tensor], None]


class Batch(NamedTuple):
    """The training images that every network of a task is seen on."""

    images: Tensor
    """Normalised float32 (num_images, channels, height, width)."""
    labels: Tensor
    """int64 (num_images,)."""


class RandomNet:
    """A network at its initial weights, the same as `channel_bench.training.models.build_model` makes of the generator.

    Args:
        space: Its space.
        arch: The architecture, in any encoding.
        generator: CPU generator of the weights; what a proxy draws besides goes by `noise`.
        noise: CPU generator of everything else that is random.
        device: Where the weights go.
    """

    def __init__(
        self,
        space: Space,
        arch: Any,
        generator: torch.Generator,
        noise: torch.Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Draw the weights in the order of the layers."""
        self.space = space
        self.arch = space.arch(arch)
        self.noise = noise or torch.Generator()
        channels = (*space.channels(self.arch), space.input_shape[0], space.num_classes)
        self.weights: list[Tensor] = []
        """Weights of the convolutions in the order of the layers, (outputs, inputs, k, k), then of the linear layer,
        (classes, inputs); all want gradients."""
        for layer in space.layers[:-1]:
            inputs = 1 if layer.depthwise else channels[layer.reads]
            self.weights.append(self._draw((channels[layer.writes], inputs, layer.kernel, layer.kernel), generator))
        features = channels[space.layers[-1].reads]
        self.weights.append(self._draw((space.num_classes, features), generator))
        self.bias = self._draw((space.num_classes,), generator, 1 / math.sqrt(features))
        self.weights = [weight.to(device).requires_grad_() for weight in self.weights]
        self.bias = self.bias.to(device)

    @staticmethod
    def _draw(shape: Sequence[int], generator: torch.Generator, bound: float | None = None) -> Tensor:
        """Uniform in +-1 / sqrt(fan-in), PyTorch's default."""
        bound = bound or 1 / math.sqrt(math.prod(shape[1:]))
        return torch.empty(*shape).uniform_(-bound, bound, generator=generator)

    def noise_like(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers of a shape, drawn from `noise`."""
        return torch.randn(tuple(shape), generator=self.noise).to(self.bias.device)

    def gradients(self, output: Tensor, *, create_graph: bool = False) -> list[Tensor]:
        """Derivatives of a scalar by each of the weights."""
        return list(torch.autograd.grad(output, self.weights, create_graph=create_graph))

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the batch, nats."""
        return functional.cross_entropy(self(batch.images), batch.labels)

    def __call__(self, images: Tensor, *, norm: bool = True, after_conv: Watch | None = None) -> Tensor:
        """Logits (batch, num_classes) of images (batch, channels, height, width).

        Args:
            images: Normalised images.
            norm: Whether batch normalisation is there, by the statistics of the batch.
            after_conv: Called with the output of each convolution before its normalisation, then with the logits.
        """
        x = self.features(images, norm=norm, after_conv=after_conv)
        logits = functional.linear(x.mean((2, 3)), self.weights[-1], self.bias)
        if after_conv is not None:
            after_conv(logits)
        return logits

    def features(
        self,
        images: Tensor,
        *,
        norm: bool = True,
        skip: bool = True,
        after_conv: Watch | None = None,
        after_layer: Watch | None = None,
        after_relu: Watch | None = None,
        after_block: Watch | None = None,
    ) -> Tensor:
        """What the classifier pools: (batch, channels, height, width).

        Args:
            images: As for a call.
            norm: As for a call.
            skip: Whether skip lines are there.
            after_conv: Called with the output of each convolution before its normalisation.
            after_layer: Called with the output of each layer, after what follows its convolution.
            after_relu: The same, of the layers with an activation only.
            after_block: Called with the output of each block, the stem included.
        """
        x, weights = images.to(memory_format=layout_on_cpu(images)), iter(self.weights)
        for block in self.space.blocks:
            y = x
            for layer in block:
                groups = y.shape[1] if layer.depthwise else 1
                y = functional.conv2d(y, next(weights), None, layer.stride, layer.kernel // 2, groups=groups)
                _tell(after_conv, y)
                y = normalised(y) if norm else y
                y = x + y if layer.skip and skip else y
                y = functional.relu(y) if layer.relu else y
                _tell(after_layer, y)
                _tell(after_relu if layer.relu else None, y)
            x = y
            _tell(after_block, x)
        return x


def _tell(watch: Watch | None, y: Tensor) -> None:
    if watch is not None:
        watch(y)


def normalised(y: Tensor) -> Tensor:
    """Batch normalisation of scale 1 and shift 0; a channel of one value, which has no variance, stays as it is."""
    if y.numel() == y.shape[1]:
        return y
    return functional.batch_norm(y, None, None, training=True, momentum=0.0, eps=EPS)


def correlations_of(rows: FloatArray) -> FloatArray:
    """Pearson correlations of rows, float64 (n, n); a row that is constant has 0 with all others and 1 with itself."""
    centred = rows - rows.mean(1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    scaled = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
    found = scaled @ scaled.T
    np.fill_diagonal(found, 1.0)
    return np.asarray(found, np.float64)


def input_gradients(net: RandomNet, batch: Batch) -> FloatArray:
    """Gradient of the sum of an image's logits by its pixels, a row for each image; float64 (num_images, pixels).

    Batch normalisation mixes images, so that a row also has what the image does to the logits of the others, as in the
    papers' code.
    """
    images = batch.images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(images).sum(), images)
    return gradient.flatten(1).double().cpu().numpy()


class ZeroCost(abc.ABC):
    """A method that ranks by a proxy.

    Args:
        samples: Random architectures to measure, 22 or more for the form "onehot"; 16,384 measures every one, and
            scores are then what was measured.
        num_images: Training images in the batch, >= 4; all of them where there are fewer.
        form: Of the additive fit, one of `harness.stats.additive.FORMS`.
    """

    passes: float
    """Work on an image in forward passes, for the facts; a backward pass counts two."""

    def __init__(self, samples: int = 256, num_images: int = 64, form: str = "onehot") -> None:
        """Check the options."""
        check_num_samples(samples, form, AdditiveSmoother(form))
        if num_images < MIN_IMAGES:
            raise ArgumentError(f"num_images is {num_images}: allowed are {MIN_IMAGES} and above")
        self.samples, self.num_images, self.form = samples, num_images, form

    @abc.abstractmethod
    def measure(self, net: RandomNet, batch: Batch) -> float | tuple[float, ...]:
        """The proxy of one network, higher is better; or what `combine` makes it of."""

    def combine(self, measured: FloatArray) -> FloatArray:
        """Scores, float64 (n,), of what was measured on n architectures, float64 (n, number of parts)."""
        return measured[:, 0]

    def fit(self, task: Task) -> ZeroCostEvaluator:
        """Measure the architectures.

        Raises:
            ArgumentError: The random architectures do not determine the form; known before anything is measured.
            MethodError: A proxy is not finite, or all are equal.
        """
        space = task.space
        chosen = np.sort(task.rng(SAMPLED).choice(NUM_ARCHS, self.samples, replace=False))
        archs = space.archs()[chosen]
        is_whole = self.samples == NUM_ARCHS
        if not is_whole:
            check_design(archs, self.form, space)
        batch = draw_batch(task, self.num_images)
        measured = self._measure_all(task, chosen.tolist(), batch)
        scores = self.combine(measured)
        macs = self.passes * self.num_seen(batch) * space.flops(archs).sum()
        facts: dict[str, Any] = {"num_measured": self.samples, "train_macs": int(macs)}
        if not is_whole:
            try:
                fit = fit_effects(archs, normal_scores(scores), self.form, space)
            except ArgumentError as error:
                raise MethodError(f"the proxies of {self.samples} networks have no additive fit: {error}") from None
            facts["fit_r2"] = round(fit.r2, 4)
            effects = np.round(fit.effects / UNIT) * UNIT
            scores = effects[np.arange(NUM_SLOTS), space.archs() - 1].sum(1)
        return ZeroCostEvaluator(space, scores, facts)

    def num_seen(self, batch: Batch) -> int:
        """Images that a network sees."""
        return len(batch.labels)

    def _measure_all(self, task: Task, indices: Sequence[int], batch: Batch) -> FloatArray:
        """What `measure` gives for each architecture by its index, float64 (n, number of parts)."""
        measured: list[npt.NDArray[np.float64]] = []
        # Progress goes by the epochs that a supernet would have: that is what those who watch count.
        num_parts = min(task.recipe.epochs, len(indices))
        for part, some in enumerate(np.array_split(np.array(indices), num_parts), 1):
            for index in some.tolist():
                net = net_of(task, index)
                found = np.atleast_1d(np.array(self.measure(net, batch), np.float64))
                if not np.isfinite(found).all():
                    text = task.space.text(net.arch)
                    raise MethodError(f"proxy of architecture {text} is {found.tolist()}: it must be finite")
                measured.append(found)
            if task.on_epoch is not None:
                task.on_epoch(part, num_parts, f"{len(measured)} networks")
        return np.array(measured)


class ZeroCostEvaluator:
    """Looks up the scores of all architectures.

    Args:
        space: Their space.
        scores: float64 (16384,) in index order.
        facts: What to write beside them.
    """

    def __init__(self, space: Space, scores: FloatArray, facts: dict[str, Any]) -> None:
        """Keep them."""
        self.facts = facts
        self._space, self._scores = space, scores

    def score(self, archs: npt.NDArray[np.int8]) -> FloatArray:
        """Scores, float64 (n,) for int8 (n, 7)."""
        return self._scores[self._space.index(archs)]


def net_of(task: Task, index: int) -> RandomNet:
    """The network of an architecture; its draws depend on the task's seed and the architecture alone."""
    generator, noise = task.generator(WEIGHTS, index), task.generator(NOISE, index)
    return RandomNet(task.space, index, generator, noise, task.device)


def draw_batch(task: Task, num_images: int) -> Batch:
    """Random training images without augmentation, the same for all architectures."""
    order = torch.randperm(len(task.train_labels), generator=task.generator(BATCH))[:num_images].to(task.device)
    if len(order) < MIN_IMAGES:
        raise ArgumentError(f"a proxy needs {MIN_IMAGES} training images at least: there are {len(order)}")
    statistics = channel_statistics(task.train_images, task.recipe)
    return Batch(normalise(task.train_images[order], *statistics), task.train_labels[order])


def normal_scores(values: FloatArray) -> FloatArray:
    """Normal quantiles of (rank - 1/2) / n, ties at their mean rank; float64 (n,)."""
    from scipy.stats import norm, rankdata

    return np.asarray(norm.ppf((rankdata(values) - 0.5) / len(values)), np.float64)
