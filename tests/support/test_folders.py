"""Folders of data and caches: a machine without platformdirs needs $CHANNEL_BENCH_DATA and nothing else."""

import shutil
import sys

import pytest

from channel_bench.errors import ArgumentError, MissingPackageError
from channel_bench.support.compiled import load_library
from channel_bench.support.folders import default_data_dir, private_cache


@pytest.fixture
def no_platformdirs(monkeypatch):
    monkeypatch.setitem(sys.modules, "platformdirs", None)  # importing it now raises an ImportError


def test_the_variable_alone_says_where_data_lies(no_platformdirs, monkeypatch, tmp_path):
    monkeypatch.setenv("CHANNEL_BENCH_DATA", str(tmp_path))
    assert default_data_dir() == tmp_path
    assert private_cache("native") == tmp_path / "native"
    monkeypatch.delenv("CHANNEL_BENCH_DATA")
    for folder in (default_data_dir, lambda: private_cache("native")):
        with pytest.raises(MissingPackageError, match=r"set \$CHANNEL_BENCH_DATA .* or pip install platformdirs"):
            folder()


@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="no C++ compiler here")
def test_compiled_code_needs_no_more(no_platformdirs, monkeypatch, tmp_path):
    source = tmp_path / "seven.cpp"
    source.write_text('extern "C" int answer() { return 7; }')
    load_library.cache_clear()
    try:
        monkeypatch.setenv("CHANNEL_BENCH_DATA", str(tmp_path / "data"))
        assert load_library(source, "seven").answer() == 7
        assert list(tmp_path.glob("data/native/seven-*.so"))
        load_library.cache_clear()
        monkeypatch.delenv("CHANNEL_BENCH_DATA")
        with pytest.raises(ArgumentError, match="platformdirs"):  # training then goes on without compiled code
            load_library(source, "seven")
    finally:
        load_library.cache_clear()


def test_the_variable_does_not_move_caches_where_the_user_has_one(monkeypatch, tmp_path):
    monkeypatch.setenv("CHANNEL_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert private_cache("native") == tmp_path / "cache" / "channel-bench" / "native"


def test_a_cache_that_others_can_reach_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "channel-bench").mkdir()
    (tmp_path / "channel-bench" / "images").symlink_to(elsewhere)
    with pytest.raises(ArgumentError, match="is not this user's alone"):
        private_cache("images")
