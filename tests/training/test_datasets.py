"""Images: the split, the decoding, and augmentation against a slow reference and its distribution."""

import dataclasses
import hashlib
import io
import os
import pickle
import zipfile
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import channel_bench as cb
from channel_bench.errors import ArgumentError, CorruptFileError, MissingDataError, UnknownNameError
from channel_bench.recipe import get_recipe
from channel_bench.training.datasets import (
    DIGITS_FILE,
    TrainLoader,
    channel_statistics,
    load_dataset,
    normalise,
    placed_digits,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_digits_are_the_scanned_ones_in_a_fixed_split(digits):
    assert digits.image_shape == (1, 8, 8)
    assert (len(digits.train_labels), len(digits.test_labels)) == (1200, 597)
    labels = torch.cat([digits.train_labels, digits.test_labels])
    assert Counter(labels.tolist()) == Counter(load_digits().target.tolist())
    # Recorded tables name this digest; it must not drift with versions of NumPy or torch.
    assert digits.digest.startswith("c7c604e95f117968")


def test_the_file_of_digits_holds_what_scikit_learn_has_of_them():
    with np.load(DIGITS_FILE) as file:
        assert (file["pixels"] == load_digits().images).all() and (file["labels"] == load_digits().target).all()


def test_placed_digits_are_whole_noisy_and_split_by_digit(digits):
    data = placed_digits(200, 16)
    assert data.image_shape == (1, 16, 16) and (len(data.train_images), len(data.test_labels)) == (200, 100)
    assert data.digest == placed_digits(200, 16).digest
    for placed, labels, small, own in (
        (data.train_images, data.train_labels, digits.train_images, digits.train_labels),
        (data.test_images, data.test_labels, digits.test_images, digits.test_labels),
    ):
        # Without its noise an image is a digit of its own split with its label, at one of 81 places.
        windows = placed.double().unfold(2, 8, 1).unfold(3, 8, 1)[:, 0].flatten(1, 2).flatten(2)
        distances = torch.cdist(windows.flatten(0, 1), small.double().flatten(1)).view(len(placed), 81, -1)
        nearest = distances.flatten(1).argmin(1)
        assert torch.equal(own[nearest % len(own)], labels)
        assert len(set((nearest // len(own)).tolist())) > 40
        off = distances.flatten(1).amin(1) / 8  # root of the mean square; half of the noise is cut off at black
        assert (off > 10).all() and (off < 30).all()


def test_the_placed_digits_by_name_are_those_of_the_shipped_table():
    data = load_dataset("digits-placed")
    assert (data.name, data.image_shape, len(data.train_labels), len(data.test_labels)) == (
        "digits-placed",
        (1, 12, 12),
        1200,
        600,
    )
    assert data.digest.startswith("fcbc91129c680a13")
    with pytest.raises(ArgumentError, match=r"allowed are 2\.\..* with an edge of 8\.\."):
        placed_digits(1200, 7)


def test_standardised_training_images_have_zero_mean_and_unit_variance(digits):
    images = normalise(digits.train_images, *channel_statistics(digits.train_images, get_recipe("mini")))
    assert images.dtype == torch.float32
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def all_crops(image: torch.Tensor, pad: int, flip: bool) -> list[torch.Tensor]:
    padded = torch.nn.functional.pad(image, (pad,) * 4)
    _, height, width = image.shape
    offsets = range(2 * pad + 1)
    crops = [padded[:, y : y + height, x : x + width] for y in offsets for x in offsets]
    return crops + [crop.flip(2) for crop in crops] if flip else crops


@pytest.mark.parametrize(("pad", "flip"), [(1, False), (2, True), (0, True), (3, False)])
def test_every_augmented_image_is_one_of_the_possible_crops_and_all_occur_alike(pad, flip):
    image = torch.randint(1, 255, (3, 8, 10), generator=seeded(), dtype=torch.uint8)
    crops = all_crops(image, pad, flip)
    count = 200 * len(crops)
    recipe = get_recipe("paper", crop_padding=pad, flip=flip)
    loader = TrainLoader(image.expand(count, -1, -1, -1), torch.zeros(count, dtype=torch.int64), recipe)
    plan = loader.plan(seeded(1))
    drawn = loader.crops(plan.order, plan.rows, plan.columns, plan.mirrored)
    numbers = {crop.numpy().tobytes(): number for number, crop in enumerate(crops)}
    counts = np.bincount([numbers[result.numpy().tobytes()] for result in drawn.contiguous()], minlength=len(crops))
    # Chi-square with len(crops) - 1 degrees of freedom, mean d and variance 2 d: five standard deviations.
    chi_square = ((counts - 200) ** 2 / 200).sum()
    assert chi_square < len(crops) + 5 * np.sqrt(2 * len(crops))


def test_an_epoch_visits_every_image_once_and_keeps_the_last_batch(digits):
    recipe = get_recipe("mini", crop_padding=0)
    numbers = torch.arange(1200)
    loader = TrainLoader(digits.train_images, numbers, recipe)
    batches = list(loader.epoch(seeded()))
    assert [len(labels) for _, _, labels in batches] == [64] * 18 + [48]
    assert [elapsed for elapsed, _, _ in batches] == [start / 1200 for start in range(0, 1200, 64)]
    visited = torch.cat([labels for _, _, labels in batches])
    assert sorted(visited.tolist()) == numbers.tolist() != visited.tolist()
    expected = normalise(digits.train_images[visited], *loader.statistics)
    assert torch.equal(torch.cat([images for _, images, _ in batches]), expected)


def test_crops_of_a_batch_of_plans_are_those_of_each_plan(digits):
    loader = TrainLoader(digits.train_images, digits.train_labels, get_recipe("mini", crop_padding=2, flip=True))
    plans = [vars(loader.plan(seeded(seed))) for seed in range(3)]
    stacked = loader.crops(**{name: torch.stack([plan[name] for plan in plans]) for name in plans[0]})
    assert stacked.shape == (3, 1200, 1, 8, 8)
    for number, plan in enumerate(plans):
        assert torch.equal(stacked[number], loader.crops(**plan))


def test_some_jpeg_cifar_decodes_to_images_in_colour(cifar_jpeg_dir, tmp_path):
    folder = tmp_path / "some_jpeg"
    folder.mkdir()
    for split in ("train", "test"):
        (file,) = cifar_jpeg_dir.glob(f"{split}*.parquet")
        pq.write_table(pq.read_table(file).slice(0, 1000), folder / file.name)
    data = load_dataset(folder)
    assert (data.name, data.image_shape, len(data.test_labels)) == ("some-jpeg", (3, 32, 32), 1000)
    # A thousand images are enough to tell the channels apart.
    mean, _ = channel_statistics(data.train_images, dataclasses.replace(get_recipe("paper"), mean=None))
    assert mean.flatten().tolist() == pytest.approx(get_recipe("paper").mean, abs=0.02)


@pytest.mark.slow
def test_jpeg_cifar_decodes_to_the_official_split_and_takes_its_folder_as_name(cifar_jpeg_dir):
    data = load_dataset(cifar_jpeg_dir)
    assert data.name == "cifar10-jpeg75"
    assert data.train_images.shape == (50000, 3, 32, 32) and data.test_images.shape == (10000, 3, 32, 32)
    assert data.train_labels.bincount().tolist() == [5000] * 10 and data.test_labels.bincount().tolist() == [1000] * 10
    # JPEG moves single pixels, not channel means: those of the published recipe must come out.
    mean, std = channel_statistics(data.train_images, dataclasses.replace(get_recipe("paper"), mean=None))
    assert mean.flatten().tolist() == pytest.approx(get_recipe("paper").mean, abs=0.005)
    assert std.flatten().tolist() == pytest.approx(get_recipe("paper").std, abs=0.01)


def write_images(path, images, labels, bytes_of=None, mode=None):
    encoded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).convert(mode or "L").save(buffer, "PNG")
        encoded.append({"bytes": bytes_of or buffer.getvalue(), "path": "x.png"})
    pq.write_table(pa.table({"img": encoded, "label": pa.array(labels, pa.int64())}), path)


@pytest.fixture
def image_folder(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "my_digits"
    folder.mkdir()
    write_images(folder / "train-0.parquet", rng.integers(0, 256, (30, 16, 16), np.uint8), [0, 1, 2] * 10)
    write_images(folder / "train-1.parquet", rng.integers(0, 256, (10, 16, 16), np.uint8), [3] * 10)
    write_images(folder / "test-0.parquet", rng.integers(0, 256, (8, 16, 16), np.uint8), [0, 1] * 4)
    return folder


def test_a_parquet_folder_is_read_losslessly_in_file_order(image_folder):
    data = load_dataset(str(image_folder))
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (30, 16, 16), np.uint8)
    assert data.name == "my-digits"
    assert (data.train_images[:30, 0].numpy() == first).all()
    assert data.train_labels.tolist() == [0, 1, 2] * 10 + [3] * 10
    assert data.test_images.shape == (8, 1, 16, 16)
    assert data.digest == load_dataset(image_folder).digest


def test_what_is_wrong_with_a_folder_is_named(image_folder, tmp_path):
    with pytest.raises(MissingDataError, match="has no file train"):
        load_dataset(tmp_path)
    with pytest.raises(MissingDataError, match="does not exist"):
        load_dataset(tmp_path / "nowhere" / "x")
    with pytest.raises(UnknownNameError, match="did you mean 'digits'"):
        load_dataset("digit")
    write_images(image_folder / "train-1.parquet", np.zeros((1, 16, 16), np.uint8), [0], bytes_of=b"no image")
    with pytest.raises(CorruptFileError, match="train-1.parquet"):
        load_dataset(image_folder)
    write_images(image_folder / "train-1.parquet", np.zeros((1, 8, 8), np.uint8), [0])
    with pytest.raises(CorruptFileError, match="different sizes"):
        load_dataset(image_folder)
    write_images(image_folder / "train-1.parquet", np.zeros((1, 16, 16), np.uint8), [0], mode="P")
    with pytest.raises(CorruptFileError, match="an image has mode P, allowed are 8-bit grey"):
        load_dataset(image_folder)
    write_images(image_folder / "train-1.parquet", np.zeros((1, 16, 16), np.uint8), [None])
    with pytest.raises(CorruptFileError, match="with 1 nulls"):
        load_dataset(image_folder)
    pq.write_table(pa.table({"image": [1], "label": [0]}), image_folder / "train-1.parquet")
    with pytest.raises(CorruptFileError, match="img.bytes and label"):
        load_dataset(image_folder)
    (image_folder / "train-1.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorruptFileError, match="train-1.parquet"):
        load_dataset(image_folder)


@pytest.mark.parametrize("kind", ["pipe", "endless device", "bomb", "many rows", "cut image"])
def test_a_hostile_file_of_images_is_refused_before_memory_is_taken(image_folder, kind):
    path = image_folder / "train-1.parquet"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless device":
        path.symlink_to("/dev/zero")
    elif kind == "bomb":
        write_images(path, np.zeros((1, 40, 2000), np.uint8), [0])
    elif kind == "many rows":
        image = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2**21 + 1, np.int8)), pa.array(["x"]))
        pq.write_table(pa.table({"img": image, "label": pa.array(np.zeros(len(image), np.int8))}), path)
    else:
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)).save(buffer, "PNG")
        write_images(path, np.zeros((1, 16, 16), np.uint8), [0], bytes_of=buffer.getvalue()[:100])
    with pytest.raises(CorruptFileError, match="train-1.parquet"):
        load_dataset(image_folder)


def test_a_folder_never_takes_the_name_of_the_official_data(image_folder):
    official = image_folder.parent / "cifar10"
    (official / "data").mkdir(parents=True)
    for file in image_folder.iterdir():
        file.rename(official / "data" / file.name)
    assert load_dataset(official).name == "cifar10-parquet"


def test_a_dataset_that_does_not_fit_a_space_is_refused(digits):
    with pytest.raises(ArgumentError, match=r"images of \(1, 8, 8\), space 'resnet' takes \(3, 32, 32\)"):
        digits.check_fits(cb.get_space("resnet"))
    for label in (-1, 10):
        odd = dataclasses.replace(digits, test_labels=torch.full_like(digits.test_labels, label))
        with pytest.raises(ArgumentError, match=f"has label {label}, space 'resnet-mini' takes 0..9"):
            odd.check_fits(cb.get_space("resnet-mini"))
    with pytest.raises(ArgumentError, match="3 channel means, the images have 1 channels"):
        channel_statistics(digits.train_images, get_recipe("paper"))


def test_cifar10_is_read_through_torchvision(tmp_path, monkeypatch):
    # The real reader on an archive in its own layout; only the checksums of the official files are replaced.
    from torchvision.datasets import CIFAR10

    with pytest.raises(MissingDataError, match="add --download"):
        load_dataset("cifar10", data_dir=tmp_path)
    folder = tmp_path / "cifar10" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(size):
        return {"data": rng.integers(0, 256, (size, 3072), np.uint8), "labels": [i % 10 for i in range(size)]}

    train, test = batch(20), batch(10)
    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", train)])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", test)])
    names = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": names[0], "key": "label_names", "md5": names[1]})
    data = load_dataset("cifar10", data_dir=tmp_path)
    assert data.name == "cifar10"
    assert (data.train_images.numpy() == train["data"].reshape(-1, 3, 32, 32)).all()
    assert data.test_labels.tolist() == test["labels"]


def arrays(**changes):
    """What an .npz file of images holds; None leaves an array out."""
    rng = np.random.default_rng(0)
    made = {
        "train_images": rng.integers(0, 256, (12, 3, 8, 6), np.uint8),
        "train_labels": np.arange(12, dtype=np.int32) % 4,
        "test_images": rng.integers(0, 256, (5, 3, 8, 6), np.uint8),
        "test_labels": np.arange(5, dtype=np.uint8) % 4,
    }
    return {name: array for name, array in (made | changes).items() if array is not None}


def test_arrays_of_a_file_are_the_images(tmp_path):
    made = arrays()
    np.savez_compressed(tmp_path / "my_photos.npz", **made)
    data = load_dataset(str(tmp_path / "my_photos.npz"))
    assert (data.name, data.image_shape) == ("my-photos", (3, 8, 6))
    for name, array in made.items():
        assert np.array_equal(getattr(data, name).numpy(), array)
    assert (data.train_images.dtype, data.test_labels.dtype) == (torch.uint8, torch.int64)
    np.savez(
        tmp_path / "digits.npz",
        **arrays(train_images=made["train_images"][:, 0], test_images=made["test_images"][:, 0]),
    )
    grey = load_dataset(tmp_path / "digits.npz")
    assert (grey.name, grey.image_shape) == ("digits-npz", (1, 8, 6))
    assert grey.digest != data.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": None}, "it has no test_labels; its arrays are train_images, train_labels, test_images"),
        ({"train_images": np.zeros((12, 3, 8, 6))}, "train_images in .* are float64 .12, 3, 8, 6.: allowed are uint8"),
        ({"train_images": np.zeros(12, np.uint8)}, "train_images in .* are uint8 .12,.: allowed are uint8"),
        ({"test_images": np.zeros((0, 3, 8, 6), np.uint8)}, "test_images in .* are uint8 .0, 3, 8, 6."),
        (
            {"train_labels": np.zeros(11, np.int64)},
            "train_labels in .* are int64 .11,.: allowed are whole numbers, one",
        ),
        ({"train_labels": np.zeros(12)}, "train_labels in .* are float64"),
        ({"train_labels": np.array([None] * 12)}, "cannot read images from .*: Object arrays cannot be loaded"),
        ({"test_images": np.zeros((5, 3, 8, 8), np.uint8)}, "training and test images in .* have different sizes"),
    ],
)
def test_what_is_wrong_with_a_file_of_arrays_is_named(changes, message, tmp_path):
    np.savez(tmp_path / "wrong.npz", **arrays(**changes))
    with pytest.raises(CorruptFileError, match=message):
        load_dataset(tmp_path / "wrong.npz")


def test_a_file_that_holds_no_arrays_is_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "folder.npz").mkdir()
    os.mkfifo(tmp_path / "pipe.npz")
    np.savez(tmp_path / "whole.npz", **arrays())
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-200])
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:  # a header that promises more than any memory
        for name in arrays():
            header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (2000000, 1000, 100000, 100), }"
            padded = header.ljust(118 - 1) + b"\n"
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded)
    for name in ("text", "pipe", "cut", "bomb"):
        with pytest.raises(CorruptFileError):
            load_dataset(tmp_path / f"{name}.npz")
    with pytest.raises(MissingDataError, match="has no file train"):  # any folder may be one of Parquet files
        load_dataset(tmp_path / "folder.npz")
    with pytest.raises(MissingDataError, match="does not exist"):
        load_dataset(tmp_path / "none.npz")
