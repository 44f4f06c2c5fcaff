"""The images: CIFAR-10, the embedded digits, or those of a folder or file of one's own, as tensors on the device.

    >>> data = load_dataset("digits")
    >>> data.train_images.shape, data.train_images.dtype
    (torch.Size([1200, 1, 8, 8]), torch.uint8)

Images are decoded once and stay uint8 where they are trained on; crop, flip and normalisation happen for a whole
batch in a few tensor operations, driven by an explicit generator (`TrainLoader`).
"""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from channel_bench.errors import (
    ArgumentError,
    CorruptFileError,
    DownloadError,
    MissingDataError,
    MissingPackageError,
    missing_package,
    os_reason,
    unknown_name,
)
from channel_bench.recipe import Recipe
from channel_bench.space import IntArray, Space
from channel_bench.support.folders import default_data_dir
from channel_bench.support.reading import check_file, is_folder
from channel_bench.training.decoded import kept_or_decoded

UInt8Array = npt.NDArray[np.uint8]

MAX_FILE_BYTES = 2**34
MAX_IMAGES = 2**21
MAX_EDGE = 1024
"""Bounds of images of one's own: bytes and images of a file, and pixels along an edge of an image."""
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
"""Names of the arrays of an .npz file."""
NUM_TRAIN_DIGITS = 1200
PLACED_EDGE = 12
"""Pixels along an edge of the images of "digits-placed"."""
DIGITS_FILE = Path(__file__).with_name("digits.npz")
"""Grey levels 0..16, uint8 (1797, 8, 8), and labels, uint8 (1797,): E. Alpaydin and C. Kaynak, *Optical Recognition of
Handwritten Digits*, UCI Machine Learning Repository, CC BY 4.0; written by data/scripts/make_digits.py."""
EMBEDDED_DATASETS = ("digits", "digits-placed")
"""Data sets that come with the package."""
NAMED_DATASETS = (*EMBEDDED_DATASETS, "cifar10")
"""Data sets whose name says what is in them."""


@dataclass(frozen=True)
class Dataset:
    """A data set with its official split, on one device."""

    name: str
    """Label of every file that is made from it."""
    train_images: Tensor
    """uint8 (num_train, channels, height, width)."""
    train_labels: Tensor
    """int64 (num_train,)."""
    test_images: Tensor
    """uint8 (num_test, channels, height, width)."""
    test_labels: Tensor
    """int64 (num_test,)."""
    digest: str
    """SHA-256 over the decoded images and labels of both splits."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        _, channels, height, width = self.train_images.shape
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.train_images.device

    def to(self, device: torch.device | str) -> Dataset:
        """The same data set on another device."""
        tensors = ("train_images", "train_labels", "test_images", "test_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})

    def check_fits(self, space: Space) -> None:
        """Refuse a space whose networks take other images.

        Raises:
            ArgumentError: The image shapes differ, or a label has no output.
        """
        if self.image_shape != space.input_shape:
            raise ArgumentError(
                f"data set {self.name!r} has images of {self.image_shape}, space {space.name!r} takes"
                f" {space.input_shape}"
            )
        labels = torch.cat([self.train_labels, self.test_labels])
        for label in (int(labels.min()), int(labels.max())):
            if not 0 <= label < space.num_classes:
                raise ArgumentError(
                    f"data set {self.name!r} has label {label}, space {space.name!r} takes 0..{space.num_classes - 1}"
                )


def channel_statistics(train_images: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that images in [0, 1] are standardised with.

    Args:
        train_images: uint8 (num_images, channels, height, width).
        recipe: Holds the constants, or None for those of the training images.

    Returns:
        Two float32 tensors (1, channels, 1, 1) on the images' device.

    Raises:
        ArgumentError: The recipe's constants are for another number of channels.
    """
    if recipe.mean is not None and recipe.std is not None:
        pair = torch.tensor([recipe.mean, recipe.std])
    else:
        pixels = train_images.cpu().double() / 255
        pair = torch.stack([pixels.mean((0, 2, 3)), pixels.std((0, 2, 3), correction=0)]).float()
    num_channels = train_images.shape[1]
    if pair.shape[1] != num_channels:
        raise ArgumentError(
            f"recipe {recipe.name!r} has {pair.shape[1]} channel means, the images have {num_channels} channels"
        )
    mean, std = pair.to(train_images.device)[:, None, :, None, None]
    return mean, std


def make_dataset(
    name: str, train: tuple[UInt8Array, IntArray], test: tuple[UInt8Array, IntArray], device: torch.device | str = "cpu"
) -> Dataset:
    """Build a Dataset from arrays.

    Args:
        name: Label of everything that is made from it.
        train: uint8 (num_train, channels, height, width) and int64 (num_train,).
        test: The same for the test split.
        device: Where the tensors go.

    Returns:
        The data set, with its digest.
    """
    digest = hashlib.sha256()
    for array in (*train, *test):
        digest.update(repr((array.shape, array.dtype.name)).encode())
        digest.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
    tensors = [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in (*train, *test)]
    return Dataset(name, tensors[0], tensors[1], tensors[2], tensors[3], digest.hexdigest())


def load_dataset(
    source: str | Path, *, data_dir: Path | None = None, download: bool = False, device: torch.device | str = "cpu"
) -> Dataset:
    """Load a data set by name, from a folder of Parquet files, or from an .npz file of arrays.

    Args:
        source: "digits" (embedded), "digits-placed" (made of them by `placed_digits`), "cifar10" (torchvision's archive
            under data_dir), or a folder whose Parquet files have the columns ``img`` (struct of encoded ``bytes`` and
            ``path``) and ``label``; each file's name says its split (train*, test*), and the data set is named after
            the folder; or a file that ends in .npz, as `numpy.savez` writes it, with the arrays of `Dataset`:
            ``train_images`` uint8 (n, channels, height, width) or (n, height, width), ``train_labels`` whole numbers
            (n,), ``test_images`` and ``test_labels``; the data set is named after the file.
        data_dir: Folder of the archive of "cifar10"; default the user's data folder.
        download: Download the archive of "cifar10" where it is missing.
        device: Where the tensors go.

    Raises:
        UnknownNameError: Neither a name nor a folder nor a file.
        MissingDataError: The data is not there.
        CorruptFileError: A file cannot be read or decoded.
        DownloadError: The archive could not be fetched.
    """
    if source == "digits":
        return _digits(device)
    if source == "digits-placed":
        return placed_digits(NUM_TRAIN_DIGITS, PLACED_EDGE, device)
    if source == "cifar10":
        return _cifar10(data_dir, download, device)
    if is_folder(source):
        return _parquet_folder(Path(source), data_dir, device)
    if Path(source).suffix == ".npz":
        return _arrays_file(Path(source), device)
    if Path(source).suffix or len(Path(source).parts) > 1:
        raise MissingDataError(f"data set folder {str(source)!r} does not exist or is not a folder")
    raise unknown_name("data set", str(source), [*NAMED_DATASETS, "a folder of Parquet files", "an .npz file"])


@dataclass(frozen=True)
class EpochPlan:
    """Every random draw of an epoch, by position in the order of training; made in a few calls, whatever its length."""

    order: Tensor
    """int64 (num_images,), which image comes at which position."""
    rows: Tensor
    """int64 (num_images,), first row of the crop in the padded image."""
    columns: Tensor
    """int64 (num_images,), first column of the crop."""
    mirrored: Tensor
    """bool (num_images,), whether the crop is mirrored left to right."""


class TrainLoader:
    """Training batches of one data set and recipe: shuffled, cropped, mirrored, normalised on the device.

    Args:
        images: uint8 (num_images, channels, height, width).
        labels: int64 (num_images,).
        recipe: Batch size, augmentation and normalisation.
    """

    def __init__(self, images: Tensor, labels: Tensor, recipe: Recipe) -> None:
        """Pad the images once; with zeros and before normalisation, so the border is black."""
        pad = recipe.crop_padding
        self.labels = labels
        self.recipe = recipe
        self.statistics = channel_statistics(images, recipe)
        self.padded = functional.pad(images, (pad, pad, pad, pad))
        self._rows = torch.arange(images.shape[2], device=images.device)
        self._columns = torch.arange(images.shape[3], device=images.device)

    def plan(self, generator: torch.Generator) -> EpochPlan:
        """Draw an epoch: a permutation, and for each position a uniform crop and a mirroring with probability 1/2."""
        count, device = len(self.labels), self.labels.device

        def draw(high: int) -> Tensor:
            return torch.randint(high, (count,), generator=generator, device=device)

        order = torch.randperm(count, generator=generator, device=device)
        offsets = 2 * self.recipe.crop_padding + 1
        return EpochPlan(order, draw(offsets), draw(offsets), draw(2).bool() & self.recipe.flip)

    def crops(self, order: Tensor, rows: Tensor, columns: Tensor, mirrored: Tensor) -> Tensor:
        """Cut out what a plan says, for tensors (...) of any shape.

        Returns:
            uint8 (..., channels, height, width).
        """
        across = torch.where(mirrored[..., None], self._columns.flip(0), self._columns) + columns[..., None]
        down = self._rows + rows[..., None]
        # Advanced indices on both sides of the channel slice put the channels last.
        picked = self.padded[order[..., None, None], :, down[..., :, None], across[..., None, :]]
        return picked.movedim(-1, -3)

    def crops_shape(self, *shape: int) -> tuple[int, ...]:
        """Shape of `crops` of tensors of this shape with the channels last, which is how they lie in memory."""
        return (*shape, len(self._rows), len(self._columns), self.padded.shape[1])

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[float, Tensor, Tensor]]:
        """One epoch; the last, smaller batch is kept.

        Args:
            generator: On the images' device.

        Yields:
            Share of the epoch that is over, in [0, 1), float32 (batch, channels, height, width), int64 (batch,).
        """
        plan = self.plan(generator)
        for start in range(0, len(self.labels), self.recipe.batch_size):
            part = slice(start, start + self.recipe.batch_size)
            crops = self.crops(plan.order[part], plan.rows[part], plan.columns[part], plan.mirrored[part])
            yield start / len(self.labels), normalise(crops, *self.statistics), self.labels[plan.order[part]]


def normalise(
    images: Tensor, mean: Tensor, std: Tensor, memory_format: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """Standardise uint8 images: (images / 255 - mean) / std, float32 of the same shape in a layout."""
    return images.to(mean.dtype).mul_(1 / 255).sub_(mean).div_(std).contiguous(memory_format=memory_format)


def _digits(device: torch.device | str) -> Dataset:
    """The 1,797 scanned digits of UCI's test set: 1,200 for training and 597 for testing, 1x8x8."""
    with np.load(DIGITS_FILE) as file:
        pixels, labels = file["pixels"], file["labels"]
    # RandomState's stream is frozen for good, so this split is the same under every NumPy.
    order = np.random.RandomState(0).permutation(len(labels))
    # Grey levels of 0..16 become 0..255.
    images = np.round(pixels[order, None] * (255 / 16)).astype(np.uint8)
    labels = labels[order].astype(np.int64)
    n = NUM_TRAIN_DIGITS
    return make_dataset("digits", (images[:n], labels[:n]), (images[n:], labels[n:]), device)


def placed_digits(num_train: int, edge: int, device: torch.device | str = "cpu") -> Dataset:
    """Digits of 8x8 pixels at uniformly random places of a larger image, with normal noise of a tenth of the range.

    Training images are made of training digits only, test images of test digits, half as many; a digit may come more
    than once, at other places. The places and the noise are drawn once: the images are the same in every epoch and on
    every machine.

    Args:
        num_train: Training images.
        edge: Pixels along an edge of an image, at least 8.
        device: Where the tensors go.

    Raises:
        ArgumentError: A number is out of range.
    """
    if not (2 <= num_train <= MAX_IMAGES and 8 <= edge <= MAX_EDGE):
        raise ArgumentError(
            f"{num_train} placed digits of {edge}x{edge} pixels: allowed are 2..{MAX_IMAGES} images with an edge of"
            f" 8..{MAX_EDGE}"
        )
    rng = np.random.RandomState(0)  # a stream that is frozen for good
    digits = _digits("cpu")
    splits = []
    for images, labels, count in (
        (digits.train_images, digits.train_labels, num_train),
        (digits.test_images, digits.test_labels, num_train // 2),
    ):
        chosen = rng.randint(len(labels), size=count)
        small = images.numpy()[chosen, 0]
        large = np.zeros((count, edge, edge))
        for number, (row, column) in enumerate(rng.randint(edge - 7, size=(count, 2))):
            large[number, row : row + 8, column : column + 8] = small[number]
        noisy = large + 25.5 * rng.normal(size=large.shape)
        splits.append((np.clip(noisy, 0, 255).round().astype(np.uint8)[:, None], labels.numpy()[chosen]))
    return make_dataset("digits-placed", splits[0], splits[1], device)


def _cifar10(data_dir: Path | None, download: bool, device: torch.device | str) -> Dataset:
    try:
        from torchvision.datasets import CIFAR10
    except (ImportError, RuntimeError) as error:
        raise MissingDataError(
            f"data set 'cifar10' needs a torchvision that works with the installed torch: {error}"
        ) from None
    root = (data_dir or default_data_dir()) / "cifar10"
    try:
        splits = [CIFAR10(root, train=train, download=download) for train in (True, False)]
    except RuntimeError:
        raise MissingDataError(
            f"CIFAR-10 is not in {root}: add --download, or put cifar-10-python.tar.gz there"
        ) from None
    except OSError as error:
        raise DownloadError(f"CIFAR-10 could not be fetched into {root}: {os_reason(error)}") from None
    arrays = [(split.data.transpose(0, 3, 1, 2), np.array(split.targets, np.int64)) for split in splits]
    return make_dataset("cifar10", arrays[0], arrays[1], device)


def _parquet_folder(folder: Path, data_dir: Path | None, device: torch.device | str) -> Dataset:
    files = {}
    for split in ("train", "test"):
        # Repositories of data sets keep their files in a folder "data".
        files[split] = sorted(folder.glob(f"{split}*.parquet")) or sorted((folder / "data").glob(f"{split}*.parquet"))
        if not files[split]:
            raise MissingDataError(f"data set folder {str(folder)!r} has no file {split}*.parquet")
        for file in files[split]:
            check_file(file, "file of images", MAX_FILE_BYTES)
    decode = functools.partial(_decode_splits, folder, files)
    try:
        cache = (data_dir or default_data_dir()) / "decoded"
    except MissingPackageError:  # nowhere to keep anything
        arrays: Sequence[npt.NDArray[Any]] = decode()
    else:
        arrays = kept_or_decoded([*files["train"], *files["test"]], f"train {len(files['train'])}", decode, cache)
    name = _name_of(folder.resolve().name, "parquet")
    return make_dataset(name, (arrays[0], arrays[1]), (arrays[2], arrays[3]), device)


def _name_of(name: str, kind: str) -> str:
    """Name of a data set of one's own, which is never that of the official archive or of the embedded data."""
    name = name.replace("_", "-")
    return f"{name}-{kind}" if name in NAMED_DATASETS else name


def _arrays_file(file: Path, device: torch.device | str) -> Dataset:
    """The arrays of an .npz file.

    Raises:
        MissingDataError: There is no such file.
        CorruptFileError: It is no such file, or an array is missing or none of images or labels.
    """
    check_file(file, "file of images", MAX_FILE_BYTES)
    try:
        # Opened here, because NumPy leaves a file open that turns out to be no archive.
        with open(file, "rb") as source, np.load(source, allow_pickle=False) as content:
            _check_members(content)
            parts = [content[name] for name in ARRAYS]
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        AttributeError,
        TypeError,
        MemoryError,
        OverflowError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise CorruptFileError(f"cannot read images from {str(file)!r}: {reason or type(error).__name__}") from None
    splits = []
    for name, images, labels in (("train", *parts[:2]), ("test", *parts[2:])):
        images = images[:, None] if images.ndim == 3 else images
        if images.dtype != np.uint8 or images.ndim != 4 or not 1 <= len(images) <= MAX_IMAGES or 0 in images.shape:
            raise CorruptFileError(
                f"{name}_images in {str(file)!r} are {images.dtype} {images.shape}: allowed are uint8"
                f" (n, channels, height, width) or (n, height, width), n at most {MAX_IMAGES:,}"
            )
        if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
            raise CorruptFileError(
                f"{name}_labels in {str(file)!r} are {labels.dtype} {labels.shape}: allowed are whole numbers, one for"
                f" each of the {len(images):,} images"
            )
        splits.append((np.ascontiguousarray(images), labels.astype(np.int64)))
    if splits[0][0].shape[1:] != splits[1][0].shape[1:]:
        raise CorruptFileError(f"training and test images in {str(file)!r} have different sizes")
    return make_dataset(_name_of(file.resolve().stem, "npz"), splits[0], splits[1], device)


def _check_members(content: Any) -> None:
    """Refuse an archive that lacks an array, or promises more bytes than it may.

    Raises:
        ValueError: It does.
    """
    missing = [name for name in ARRAYS if name not in content.files]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}; its arrays are {', '.join(content.files)[:200] or 'none'}")
    num_bytes = sum(member.file_size for member in content.zip.infolist())
    if num_bytes > MAX_FILE_BYTES:
        raise ValueError(f"its arrays have {num_bytes:,} bytes: allowed are at most {MAX_FILE_BYTES:,}")


def _decode_splits(folder: Path, files: dict[str, list[Path]]) -> list[npt.NDArray[Any]]:
    """Training images, training labels, test images and test labels of a folder of Parquet files."""
    splits = []
    for split in ("train", "test"):
        parts = [_read_encoded(file) for file in files[split]]
        if len({images.shape[1:] for images, _ in parts}) > 1:
            raise CorruptFileError(f"files {split}*.parquet in {str(folder)!r} hold images of different sizes")
        splits.append((np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])))
    if splits[0][0].shape[1:] != splits[1][0].shape[1:]:
        raise CorruptFileError(f"training and test images in {str(folder)!r} have different sizes")
    return [np.ascontiguousarray(array) for split in splits for array in split]


def _read_encoded(file: Path) -> tuple[UInt8Array, IntArray]:
    """Decode one Parquet file of encoded images to uint8 (n, channels, height, width) and int64 (n,)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        from PIL import Image
    except ImportError as error:
        raise missing_package("a folder of encoded images", "PIL", error) from None

    def decode(data: bytes) -> UInt8Array:
        try:
            image = Image.open(io.BytesIO(data))
            if image.mode not in ("L", "RGB"):
                raise ValueError(f"an image has mode {image.mode}, allowed are 8-bit grey (L) and RGB")
            if max(image.size) > MAX_EDGE:  # known from the header, before memory is taken
                raise ValueError(f"an image has {image.size[0]}x{image.size[1]} pixels, allowed are {MAX_EDGE} an edge")
            return np.asarray(image)
        except Exception as error:  # Pillow's readers raise whatever a damaged image leads to
            raise ValueError(str(error) or type(error).__name__) from None

    check_file(file, "file of images", MAX_FILE_BYTES)
    try:
        num_rows = pq.read_metadata(file).num_rows
        if num_rows > MAX_IMAGES:
            raise ValueError(f"it has {num_rows:,} rows, allowed are {MAX_IMAGES:,}")
        table = pq.read_table(file, columns=["img", "label"])
        labels = table.column("label")
        if not pa.types.is_integer(labels.type) or labels.null_count:
            raise ValueError(f"labels are {labels.type} with {labels.null_count} nulls, allowed are integers")
        images = np.stack([decode(data) for data in table.column("img").combine_chunks().field("bytes").to_pylist()])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CorruptFileError(
            f"cannot read images from {str(file)!r} (columns img.bytes and label): {reason}"
        ) from None
    return (images.transpose(0, 3, 1, 2) if images.ndim == 4 else images[:, None]), labels.to_numpy().astype(np.int64)
