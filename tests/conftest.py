"""What tests share: where third-party data may lie, and one thread per process so that results repeat."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED_DATA = Path(os.environ.get("CHANNEL_BENCH_SHARED", Path(__file__).parents[2] / "shared")) / "data"
PUBLISHED_FILES = {"resnet": "Results_ResNet.json", "mobilenet": "Results_MobileNet.json"}


def _shared(*parts: str) -> Path:
    path = SHARED_DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"third-party data is not part of the repository, and {path} is absent")
    return path


@pytest.fixture(scope="session")
def published_dir() -> Path:
    """Folder of the two published JSON files."""
    return _shared("published")


@pytest.fixture(scope="session")
def scores_dir() -> Path:
    """Folder of supernet scores that others published."""
    return _shared("scores")


@pytest.fixture(scope="session")
def cifar_jpeg_dir() -> Path:
    """CIFAR-10 as Parquet files of encoded images."""
    return _shared("cifar10_jpeg75")
