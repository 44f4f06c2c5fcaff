"""Memory that is freed and asked for again: kept in the process where its C library can, else as it was."""

import ctypes
import json
import platform
import subprocess
import sys

import pytest

from channel_bench.support import memory
from channel_bench.training import devices

NUM_PAGES = 2**26 // 4096
_CHILD = """
import json, resource
import numpy as np
{prepare}
def pages_cleared():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**26, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps([pages_cleared() for _ in range(4)]))
"""


def pages_cleared(prepare):
    """How many pages the kernel clears in a new process for each of four arrays of 64 MiB, one after the other."""
    done = subprocess.run([sys.executable, "-c", _CHILD.format(prepare=prepare)], capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only GNU's C library can be told")
def test_what_is_freed_is_used_again_without_being_cleared():
    keep = "from channel_bench.support.memory import keep_freed_memory\nassert keep_freed_memory()"
    first, *others = pages_cleared(keep)
    assert max(others) < NUM_PAGES // 100
    # Pages of 2 MiB, where the kernel gives them, are fewer; there is no less to clear.
    usual = pages_cleared("")
    assert min(usual) > 0 and max(others) < min(first, *usual)


@pytest.mark.parametrize("library", [AttributeError, OSError, TypeError])
def test_another_c_library_is_left_alone(library, monkeypatch):
    def cannot_open(name):
        raise library

    monkeypatch.setattr(ctypes, "CDLL", cannot_open)
    assert memory.keep_freed_memory.__wrapped__() is False


def test_who_is_short_of_memory_can_say_so(monkeypatch):
    monkeypatch.setenv(memory.VARIABLE, "0")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("the C library was asked"))
    assert memory.keep_freed_memory.__wrapped__() is False


def test_a_process_that_trains_keeps_and_one_that_measures_latency_does_not(monkeypatch):
    calls = []
    monkeypatch.setattr(devices, "keep_freed_memory", lambda: calls.append("kept"))
    threads = devices.torch.get_num_threads()
    devices.use_threads(threads)
    assert not calls
    devices.prepare_process(threads)
    assert calls == ["kept"]
