"""Compiled code is loaded only from where nobody else can put it, and what does not load is compiled anew."""

import os
import shutil

import pytest

from channel_bench.errors import ArgumentError
from channel_bench.support.compiled import load_library

pytestmark = pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="no C++ compiler here")


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_library.cache_clear()
    path = tmp_path / "seven.cpp"
    path.write_text('extern "C" int answer() { return 7; }')
    yield path
    load_library.cache_clear()


@pytest.fixture
def cache(source):
    """The library in the cache folder, compiled; forgotten by this process."""
    assert load_library(source, "seven").answer() == 7
    load_library.cache_clear()
    (library,) = source.parent.glob("cache/channel-bench/native/seven-*.so")
    return library


def other_library(folder):
    """A library that gives another answer, as someone else might plant it."""
    folder.mkdir()
    source = folder / "eight.cpp"
    source.write_text('extern "C" int answer() { return 8; }')
    load_library(source, "eight")
    load_library.cache_clear()
    (library,) = folder.parent.glob("cache/channel-bench/native/eight-*.so")
    return library.read_bytes()


def replace(library, content):
    """Another file of that name: the old one is mapped into this process."""
    library.unlink()
    library.write_bytes(content)
    library.chmod(0o600)


def test_folder_and_library_are_this_users_alone(cache):
    assert cache.parent.stat().st_mode & 0o777 == 0o700 and cache.stat().st_mode & 0o777 == 0o600


def test_the_umask_does_not_make_every_process_compile(source):
    before = os.umask(0o002)
    try:
        load_library(source, "seven")
    finally:
        os.umask(before)
    load_library.cache_clear()
    (library,) = source.parent.glob("cache/channel-bench/native/seven-*.so")
    made = library.stat().st_mtime_ns
    load_library(source, "seven")
    assert library.stat().st_mtime_ns == made


def test_a_library_that_others_can_write_is_compiled_anew(cache, source, tmp_path):
    replace(cache, other_library(tmp_path / "planted"))
    cache.chmod(0o666)
    assert load_library(source, "seven").answer() == 7 and cache.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_library_of_another_user_is_compiled_anew(cache, source, tmp_path):
    replace(cache, other_library(tmp_path / "planted"))
    os.chown(cache, 12345, 12345)
    assert load_library(source, "seven").answer() == 7 and cache.stat().st_uid == 0


def test_a_link_is_not_followed_but_replaced(cache, source, tmp_path):
    target = tmp_path / "elsewhere.so"
    target.write_bytes(other_library(tmp_path / "planted"))
    cache.unlink()
    cache.symlink_to(target)
    assert load_library(source, "seven").answer() == 7 and not cache.is_symlink()
    assert target.exists()


def test_a_library_that_does_not_load_is_compiled_anew(cache, source):
    replace(cache, cache.read_bytes()[:100])
    assert load_library(source, "seven").answer() == 7


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(cache, source):
    os.chown(cache.parent, 12345, 12345)
    with pytest.raises(ArgumentError, match="is not this user's alone.*XDG_CACHE_HOME"):
        load_library(source, "seven")


def test_a_folder_that_is_a_link_is_refused(source, tmp_path):
    (tmp_path / "cache" / "channel-bench").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache" / "channel-bench" / "native").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArgumentError, match="is not this user's alone"):
        load_library(source, "seven")
