"""Ctrl-C and SIGTERM at every stage of a build: one line, exit code 130 or 143, and what is finished is kept.

Real processes: what a signal does depends on which process gets it, and on what it is importing at that moment.
"""

import os
import signal
import sys
from pathlib import Path

import pytest
from builders import PATIENCE_S, Builds, family, gated, listening, wait_for

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture
def builds(tmp_path):
    """Builders of tmp_path / "runs", held at the gate."""
    with Builds(tmp_path, gated(tmp_path)) as builds:
        yield builds


def stop(builder, number):
    """Ctrl-C for the whole group as a terminal sends it, or SIGTERM for the builder as a scheduler does.

    Returns:
        Exit code, what it said, and the processes that it had.
    """
    processes = family(builder.pid)
    if number == signal.SIGINT:
        os.killpg(builder.pid, number)
    else:
        builder.send_signal(number)
    _, errors = builder.communicate(timeout=PATIENCE_S)
    return builder.returncode, errors, processes


def assert_one_line(builds, code, errors, number, started=True):
    words, expected = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}[number]
    lines = [f"12 runs planned, 0 found in {builds.out}, 12 to train"] if started else []
    lines += [f"every finished run in {builds.out} is kept; start the same command again to continue"]
    assert errors.splitlines() == [*lines, f"channel-bench: {words}"]
    assert code == expected


@pytest.mark.processes
@linux_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_builder_that_is_stopped_while_its_workers_start_says_one_line(builds, number):
    builds.allow(0)
    builder = builds.start("--workers", "2", "--stack", "1")
    wait_for(builds.workers, "a worker that starts", builder)
    code, errors, _ = stop(builder, number)
    assert_one_line(builds, code, errors, number)
    wait_for(lambda: not builds.workers(), "the workers to end")


@pytest.mark.processes
@linux_only
def test_a_builder_that_is_terminated_keeps_its_runs_and_leaves_no_lease(builds):
    builds.allow(1)
    builder = builds.start("--workers", "1", "--stack", "1")
    wait_for(lambda: builds.parts() and builds.at_gate(), "a run, and another one", builder)
    before = builds.parts()
    code, errors, _ = stop(builder, signal.SIGTERM)
    assert_one_line(builds, code, errors, signal.SIGTERM)
    assert builds.parts() == before and not list(builds.out.glob("leases/*"))


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def is_of_ray(pid):
    """Whether a process is one of Ray's: a compiler or a probe of the machine can be a child, too."""
    try:
        return b"ray" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.processes
@linux_only
def test_a_ray_builder_listens_on_this_machine_only_and_ends_in_one_line(builds):
    pytest.importorskip("ray", reason="Ray is not installed")
    builds.allow(1)
    builder = builds.start("--workers", "1", "--stack", "1", "--engine", "ray")
    wait_for(lambda: builds.parts() and builds.at_gate(), "a run, and another one", builder)
    addresses = listening(family(builder.pid))
    assert len(addresses) >= 4 and all(address.is_loopback for address in addresses)
    before = builds.parts()
    code, errors, processes = stop(builder, signal.SIGTERM)
    assert_one_line(builds, code, errors, signal.SIGTERM)
    assert builds.parts() == before and not list(builds.out.glob("leases/*"))
    wait_for(lambda: not any(map(is_running, processes)), "Ray's processes to end")


@pytest.mark.processes
@linux_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_ray_builder_that_is_stopped_while_ray_starts_says_one_line(builds, number):
    pytest.importorskip("ray", reason="Ray is not installed")
    builder = builds.start("--workers", "1", "--engine", "ray")
    wait_for(lambda: any(map(is_of_ray, family(builder.pid)[1:])), "the first process of Ray", builder)
    code, errors, processes = stop(builder, number)
    assert_one_line(builds, code, errors, number, started=False)
    wait_for(lambda: not any(map(is_running, processes)), "Ray's processes to end")
