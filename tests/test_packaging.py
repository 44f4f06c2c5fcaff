"""What setup.cfg installs is what the repository has: every package, and every file beside the code."""

import configparser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("channel_bench", "harness")


@pytest.fixture(scope="module")
def config():
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    return config


def test_every_package_is_installed(config):
    there = {
        ".".join(path.parent.relative_to(ROOT).parts) for name in CODE for path in (ROOT / name).rglob("__init__.py")
    }
    assert set(config["options"]["packages"].split()) == there | {"channel_bench.tables"}


def test_every_file_beside_the_code_is_installed(config):
    listed = set()
    for package, patterns in config["options.package_data"].items():
        folder = ROOT / ("data" if package == "channel_bench.tables" else package.replace(".", "/"))
        listed |= {path for pattern in patterns.split(",") for path in folder.glob(pattern.strip())}
    there = {
        path
        for name in CODE
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".so")
    }
    assert len(there) > 10 and there <= listed
