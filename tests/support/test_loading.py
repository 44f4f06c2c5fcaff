"""A file that is run as a module: known by its name while it runs, and forgotten where it fails."""

import os
import sys

import pytest

from channel_bench.support.loading import run_as_module


def test_a_file_runs_under_the_name_that_it_is_given(tmp_path, monkeypatch):
    path = tmp_path / "plain.py"
    path.write_text("import sys\nthis = sys.modules[__name__]\nvalue = 7\n")
    monkeypatch.setitem(sys.modules, "channel_bench_loading_test", None)  # so that it is undone
    module = run_as_module(path, "channel_bench_loading_test")
    assert sys.modules["channel_bench_loading_test"] is module is module.this
    assert (module.__name__, module.__file__, module.value) == ("channel_bench_loading_test", str(path), 7)


@pytest.mark.parametrize("line, error", [("1 / 0", ZeroDivisionError), ("raise SystemExit(3)", SystemExit)])
def test_a_file_that_fails_leaves_no_module(tmp_path, line, error):
    path = tmp_path / "plain.py"
    path.write_text(f"value = 7\n{line}\n")
    with pytest.raises(error):
        run_as_module(path, "channel_bench_loading_fails")
    assert "channel_bench_loading_fails" not in sys.modules


def test_a_file_that_changed_within_a_second_is_run_as_it_is_now(tmp_path, monkeypatch):
    # Python finds compiled bytecode of a file by its size and second; it is kept here, whatever Python is told.
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "bytecode"))
    path = tmp_path / "changed.py"
    for value in (1, 2):
        path.write_text(f"value = {value}\n")
        os.utime(path, (10**9, 10**9))
        assert run_as_module(path, "changed").value == value
    del sys.modules["changed"]
