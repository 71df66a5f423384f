"""`RayCluster`: workers as actors of Ray, on this machine or on the machines of a cluster.

Ray is the extra [ray], and is imported when the first worker is needed. On this machine it listens
on 127.0.0.1 alone, asks for a token that only this program and its children have, and ends with
the program, however that ends. Its usage statistics and its dashboard are off. Ray unpickles what
it receives, so that everybody who reaches the ports of a cluster without a token can run code
there: keep them inside of a private network.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, Self

from spherodetect.cohort.ahead import WorkerLost
from spherodetect.cohort.worker import DetectorCopy, Task, Worker
from spherodetect.detect.detector import Detector
from spherodetect.errors import SpherodetectError
from spherodetect.safety import quoted

#: The address that starts Ray on this machine.
LOCAL = "local"
#: Bytes that Ray may keep in memory for all processes of this machine: the model, and finished
#: fields on their way.
_OBJECT_BYTES = 256 * 2**20
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray prints the end of each worker, which is replaced here. This pattern leaves such lines out.
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    # A busy machine is no defect.
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_worker_register_timeout_seconds": "300",
}


def require_ray() -> None:
    """Raise if Ray is not installed.

    Raises:
        SpherodetectError: it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise SpherodetectError("a cluster needs Ray; pip install 'spherodetect[ray]'")


class RayCluster:
    """A connection to Ray, made when it is needed and ended with the block.

    Args:
        address: "local" for this machine, "auto", or HOST:PORT of a cluster's head.
        detector: what the workers examine fields with.
        workers: how many; by default as many as there are cores for.
        cores: cores of each worker.

    Raises:
        SpherodetectError: Ray is not installed, or, when it is needed, there is no such cluster.
    """

    def __init__(
        self, address: str, detector: Detector, *, workers: int | None = None, cores: int = 1
    ) -> None:
        require_ray()
        self._address, self._detector = address, detector
        self._workers, self._cores = workers, cores
        self._stack = contextlib.ExitStack()
        self._actor_class: Any = None
        self._copy: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def n_workers(self) -> int:
        """How many workers there are to be."""
        self._connect()
        if self._workers is not None:
            return self._workers
        return max(1, int(_ray().cluster_resources().get("CPU", 1)) // self._cores)

    def start(self) -> Any:
        self._connect()
        return self._actor_class.remote(self._copy, self._cores)

    def greet(self, worker: Any) -> Any:
        return worker.greet.remote()

    def submit(self, worker: Any, task: Task) -> Any:
        return worker.examine.remote(task)

    def wait(self, calls: Sequence[Any], timeout_s: float) -> Sequence[Any]:
        return _ray().wait(list(calls), num_returns=1, timeout=timeout_s)[0]

    def result(self, call: Any) -> Any:
        ray = _ray()
        try:
            return ray.get(call)
        except ray.exceptions.RayError as problem:
            raise WorkerLost(_reason(problem)) from problem

    def end(self, worker: Any) -> None:
        with contextlib.suppress(Exception):  # it ended already, or the cluster is gone
            _ray().kill(worker)

    def _connect(self) -> None:
        """Connect to the cluster, or start one, unless that is done."""
        if self._actor_class is not None:
            return
        if self._address == LOCAL:
            _set_token()
        ray = _ray()
        if not ray.is_initialized():
            self._stack.callback(ray.shutdown)
            quiet: dict[str, Any] = {
                "log_to_driver": False,
                "logging_level": logging.CRITICAL,
                "include_dashboard": False,
            }
            try:
                if self._address == LOCAL:
                    self._start_here(quiet)
                else:
                    ray.init(self._address, namespace="spherodetect", **_joining(quiet))
            except Exception as problem:
                if self._address == LOCAL:
                    raise SpherodetectError(
                        f"ray: expected Ray to start on this machine, got none "
                        f"({_reason(problem)}); "
                        "it has to start within half a minute: end other programs, and try again"
                    ) from problem
                raise SpherodetectError(
                    f"ray: expected a cluster at {quoted(self._address)}, got none "
                    f"({_reason(problem)}); give the address HOST:PORT that `ray start --head` "
                    "printed, or local; a cluster with a token needs RAY_AUTH_MODE and "
                    "RAY_AUTH_TOKEN here too"
                ) from problem
        try:
            self._copy = ray.put(DetectorCopy.of(self._detector))
        except TypeError as problem:
            raise SpherodetectError(
                f"model: expected a detector that can be pickled, for the cluster's workers, got "
                f"{type(self._detector).__name__} ({_reason(problem)})"
            ) from problem
        # A worker that ended is replaced here, where its fields are known.
        self._actor_class = ray.remote(Worker).options(
            num_cpus=self._cores, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )

    def _start_here(self, quiet: dict[str, Any]) -> None:
        ray = _ray()
        # Ray's sockets lie in this folder, and the path of a socket may have 107 characters.
        folder = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="sphero-", ignore_cleanup_errors=True)
        )
        # The folder is removed after Ray has ended.
        self._stack.callback(ray.shutdown)
        cores = os.cpu_count() or 1
        if self._workers is not None:
            cores = self._workers * self._cores
        ray.init(
            num_cpus=max(cores, self._cores),
            object_store_memory=_OBJECT_BYTES,
            _temp_dir=folder,
            _node_ip_address="127.0.0.1",
            **quiet,
        )


def _ray() -> Any:
    """The module, which reads these variables when it is imported."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    return ray


def _set_token() -> None:
    """Let the clusters that this process starts ask for a token, which it and its children have.

    Ray reads it when it is imported, so a program that imported Ray before keeps its own settings.
    Without it Ray writes a token into the user's home, which others may read.
    """
    if "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def _joining(options: dict[str, Any]) -> dict[str, Any]:
    """The options that Ray takes when it joins a cluster."""
    return {name: value for name, value in options.items() if name != "include_dashboard"}


def _reason(problem: BaseException) -> str:
    """An error of Ray in one line, without its traceback."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    own = [line.partition(": ")[2] for line in lines if line.startswith("spherodetect.errors.")]
    return (own or lines or [type(problem).__name__])[-1 if own else 0]


__all__ = ["LOCAL", "RayCluster", "require_ray"]
