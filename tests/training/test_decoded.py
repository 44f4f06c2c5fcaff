"""Decoded images are kept, shared and checked; what is damaged, or could be another user's, is decoded anew."""

import numpy as np
import pytest
import torch
from test_datasets import write_images

from channel_bench.training import datasets, decoded
from channel_bench.training.datasets import load_dataset
from channel_bench.training.decoded import kept_or_decoded

ARRAYS = [np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2), np.array([1, 2])]


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


@pytest.fixture
def ask(files, tmp_path):
    """Ask for the arrays of the files: whether they were decoded, which must give the same."""

    def ask(paths=files, split=""):
        calls = []
        found = kept_or_decoded(paths, split, lambda: calls.append(1) or ARRAYS, tmp_path / "kept")
        assert all(np.array_equal(*pair) and pair[0].dtype == pair[1].dtype for pair in zip(found, ARRAYS, strict=True))
        return len(calls)

    return ask


def test_files_are_decoded_once_and_others_again(ask, files):
    assert [ask(), ask()] == [1, 0]
    assert [ask(files[::-1]), ask(split="other"), ask(files[:1])] == [1, 1, 1]
    files[0].write_bytes(b"A")
    assert [ask(), ask()] == [1, 0]
    files[0].write_bytes(b"a")
    assert ask() == 0


def spoil(path):
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")


@pytest.mark.parametrize(
    "damage",
    [
        spoil,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: path.chmod(0o666),
        lambda path: (path.rename(path.with_suffix(".other")), path.symlink_to(path.with_suffix(".other"))),
    ],
)
@pytest.mark.parametrize("ending", ["-0.npy", "-1.npy", ".sha256"])
def test_what_is_damaged_or_not_private_is_decoded_and_kept_anew(ask, tmp_path, damage, ending):
    ask()
    (path,) = tmp_path.glob(f"kept/*{ending}")
    damage(path)
    assert [ask(), ask()] == [1, 0]


def test_where_nothing_can_be_kept_files_are_decoded_each_time(ask, tmp_path):
    (tmp_path / "kept").write_text("a file, no folder")
    assert [ask(), ask()] == [1, 1]


def test_changes_do_not_reach_what_is_kept(files, tmp_path):
    for _ in range(2):
        found = kept_or_decoded(files, "", lambda: ARRAYS, tmp_path / "kept")
    torch.from_numpy(found[0])[:] = 7  # no warning that the memory is read-only
    assert np.array_equal(kept_or_decoded(files, "", lambda: [], tmp_path / "kept")[0], ARRAYS[0])


def test_a_parquet_folder_is_decoded_once(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-x"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16), np.uint8)
    for name in ("train-0", "train-1", "test-0"):
        write_images(folder / f"{name}.parquet", images, [0, 1, 2, 3])
    first = load_dataset(str(folder), data_dir=tmp_path)
    monkeypatch.setattr(datasets, "_read_encoded", None)
    again = load_dataset(str(folder), data_dir=tmp_path)
    assert first.digest == again.digest and torch.equal(first.test_images, again.test_images)
    # The same bytes in the same order, but one more file is for testing.
    monkeypatch.undo()
    (folder / "train-1.parquet").rename(folder / "test--.parquet")
    assert len(load_dataset(str(folder), data_dir=tmp_path).test_labels) == 8
    assert len(list(tmp_path.glob(f"decoded/*{decoded._HASH_ENDING}"))) == 2
