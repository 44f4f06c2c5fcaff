"""A connection to a Ray cluster, an existing one or one of this machine alone, for all that works on one.

    with Cluster("auto", device="auto", threads=1, workers_per_gpu=2) as cluster:
        actor_class = cluster.ray.remote(**cluster.worker_options())(Worker)

What a person sees of Ray is one line: no banner, no log of a worker, no traceback.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from channel_bench._version import __version__
from channel_bench.errors import ArgumentError, ClusterError, missing_package
from channel_bench.support.processes import num_cores

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Variable of Ray; with 0 a node takes the loopback address for its own, on Linux too."""


class Cluster:
    """A connection to a Ray cluster, for the time of the context.

    Args:
        address: "auto", "ray://host:port" or "host:port"; None starts one on this machine that ends with the context.
        device: "cpu"; "cuda"; or "auto" for GPUs where the cluster has some at the beginning, else CPU cores.
        threads: CPU cores of each worker, where workers are on CPUs.
        workers_per_gpu: Workers on each GPU.
        most_workers: Upper limit on the workers; None for as many as fit.

    Raises:
        ArgumentError: The device is one of a machine, not of a cluster.
        MissingPackageError: Ray is not installed.
    """

    def __init__(
        self,
        address: str | None,
        device: str = "auto",
        threads: int = 1,
        workers_per_gpu: int = 1,
        most_workers: int | None = None,
    ) -> None:
        """Check the arguments; `__enter__` connects."""
        if device not in ("auto", "cpu", "cuda"):
            raise ArgumentError(
                f"device {device!r} names a device of this machine: on a cluster, allowed are auto, cpu and cuda"
            )
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it every start warns
        os.environ.setdefault("RAY_enable_metrics_collection", "0")  # nor does anybody here read its metrics
        if address is None and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
            # Other users of this machine reach the loopback address too; they do not have this token. Ray reads both
            # variables once, when it is imported.
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        try:
            import ray
        except ImportError as error:
            raise missing_package("engine ray", "ray", error) from None
        self.ray = ray
        self._address = address
        self._device = device
        self.threads = threads
        self._workers_per_gpu = workers_per_gpu
        self._most_workers = most_workers
        self.on_gpu = False

    def __enter__(self) -> Cluster:
        """Connect.

        Raises:
            ClusterError: The cluster cannot be reached, or has nothing to train on.
        """
        options: dict[str, Any] = {"address": self._address}
        with contextlib.ExitStack() as started:
            if self._address is None:
                num_cpus = (self._most_workers or 0) * self.threads
                options = {"address": "local", "include_dashboard": False, "num_cpus": num_cpus or num_cores()}
                started.enter_context(_private_machine(self.ray))
            started.enter_context(_own_sigterm(self.ray))
            try:
                self.ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
            except Exception as error:  # of a dozen classes, by what is wrong and how far the connection got
                where = f"the Ray cluster at {self._address!r}" if self._address else "a Ray cluster on this machine"
                raise ClusterError(f"cannot use {where}: {_first_line(error)}") from None
            except BaseException:
                self.ray.shutdown()
                raise
        if self._address is None:
            self._check_private()
        num_gpus = sum(resources.get("GPU", 0) for resources in self._nodes())
        self.on_gpu = self._device == "cuda" or (self._device == "auto" and num_gpus > 0)
        if not self.num_workers():
            self.ray.shutdown()
            wanted = "GPU" if self.on_gpu else f"node with {self.threads} CPU cores"
            raise ClusterError(f"the Ray cluster has no {wanted} to train on")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; all workers end."""
        self.ray.shutdown()

    def num_workers(self) -> int:
        """Workers that fit into the cluster as it is now."""
        num_fitting = 0
        for resources in self._nodes():
            if self.on_gpu:
                num_fitting += int(resources.get("GPU", 0)) * self._workers_per_gpu
            else:
                num_fitting += int(resources.get("CPU", 0) // self.threads)
        return min(num_fitting, self._most_workers or num_fitting)

    def worker_options(self) -> dict[str, float]:
        """What a worker asks of its node."""
        if self.on_gpu:
            # Ray counts in ten-thousandths, and rounding up would leave no room for the last one.
            return {"num_gpus": 10_000 // self._workers_per_gpu / 10_000, "num_cpus": 0}
        return {"num_cpus": self.threads}

    def check_version(self, version: str) -> None:
        """Refuse a worker of another version of this package than this process is of.

        Args:
            version: What the worker answered.

        Raises:
            ClusterError: The versions differ.
        """
        if version != __version__:
            raise ClusterError(
                f"the cluster has channel-bench {version}, this machine {__version__}: install the same version"
            )

    def start_error(self, error: Exception) -> ClusterError:
        """Say in a line why Ray cannot run our code in a worker, as where the package is not installed on its node."""
        return ClusterError(f"no worker can be set up on the Ray cluster: {_last_line(error)}")

    def _check_private(self) -> None:
        """Refuse to go on where a cluster of this machine alone could be reached from others.

        Raises:
            ClusterError: It could.
        """
        addresses = {node["NodeManagerAddress"] for node in self.ray.nodes() if node["Alive"]}
        if not all(ipaddress.ip_address(address).is_loopback for address in addresses):
            self.ray.shutdown()
            raise ClusterError(
                f"Ray {self.ray.__version__} listens on {', '.join(sorted(addresses))} and not on this machine only:"
                " install another version of Ray, or use --engine local"
            )

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]


@contextlib.contextmanager
def _private_machine(ray: Any) -> Iterator[None]:
    """Let a cluster that is started within the block be of this machine alone, and of this user.

    Whoever reaches the ports of a Ray cluster runs code as its user. So its processes listen on the loopback address.
    They find the package where this process found it, and report nothing.
    """
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    names = {"PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0", LOOPBACK: "0"}
    constants = ray._private.ray_constants
    was_open = constants.ENABLE_RAY_CLUSTER
    with contextlib.ExitStack() as restored:
        for name, value in names.items():
            restored.callback(_set_environment, name, os.environ.get(name))
            os.environ[name] = value
        # Ray takes the loopback address where it believes that there can be no second node. The variable says so to
        # processes that are yet to import Ray; this one has done so already.
        restored.callback(setattr, constants, "ENABLE_RAY_CLUSTER", was_open)
        constants.ENABLE_RAY_CLUSTER = False
        yield


@contextlib.contextmanager
def _own_sigterm(ray: Any) -> Iterator[None]:
    """Keep Ray, which starts within the block, from handling SIGTERM.

    Its handler in Python exits within a waiting call of its own, which then aborts; the one in C++ prints stacks.
    """
    utils = ray._private.utils
    with contextlib.ExitStack() as restored:
        before = signal.getsignal(signal.SIGTERM)
        if before is not None and threading.current_thread() is threading.main_thread():
            restored.callback(signal.signal, signal.SIGTERM, before)
        restored.callback(setattr, utils, "set_sigterm_handler", utils.set_sigterm_handler)
        utils.set_sigterm_handler = lambda handler: None
        yield


def _set_environment(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def death(error: Exception) -> str:
    """Why a worker has given no answer, in a line; `error` is an exception of Ray."""
    words = " ".join(str(error).split())[:300]
    if type(error).__name__ == "OutOfMemoryError" or "memory pressure" in words:
        return f"out of memory: {words}"
    return f"its worker process died ({type(error).__name__}: {words})"
