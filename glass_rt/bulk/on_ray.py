"""Parts of a plan on Ray Data: a pool of stateful workers, on a cluster or on a Ray started on this machine.

Ray carries the parts to judge and their numbers of errors, nothing else: workers read the images and write the files
themselves. When a worker dies, Ray gives its parts to another, which is always correct (see `glass_rt.bulk.plan`).
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

from glass_rt.bulk.arrow import pa
from glass_rt.bulk.messages import error_of
from glass_rt.bulk.own_ray import check_open_files, closed_in, no_usage_process
from glass_rt.bulk.parts import PartSettings, PartWorker
from glass_rt.errors import BackendError, GlassError, MissingDependency, UsageError, first_line
from glass_rt.machine.environment import usable_cores

_CPUS_PER_WORKER = 0.5  # that Ray reserves. With a whole core each, the pool would wait for itself on a small machine
# Read when Ray is imported. Binds all services of a Ray that is started to loopback, and lets one be reached there:
# Ray means it for systems without clusters, but otherwise it replaces 127.0.0.1 by the machine's address.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_QUIET = {"RAY_BACKEND_LOG_LEVEL": "fatal"}  # its native code prints on our stderr; its log files have everything


@dataclass(frozen=True)
class Pool:
    """The workers, on the Ray that `address` names. `workers` None: one per GPU where `gpus`, else one per machine.

    `address`: of a running cluster (`auto` finds one on this machine); None starts a Ray here and ends it afterwards.
    """

    workers: int | None = None
    address: str | None = None
    gpus: bool = False


def run_on_ray(settings: PartSettings, units: Sequence[pa.Table], pool: Pool) -> Generator[pa.Table, None, None]:
    """Judges units of parts and gives tables of DONE_SCHEMA as they are done, in any order.

    Raises GlassError where a worker cannot go on, such as without an engine, and BackendError where Ray fails.
    """
    with redirect_stdout(sys.stderr), _connected(pool) as ray:  # Ray prints when a worker dies, partly at the end
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        workers, per_machine = _workers(ray, pool)
        workers = min(workers, len(units))
        settings = replace(settings, sharing=min(per_machine, workers))
        if "OMP_NUM_THREADS" not in os.environ:  # Ray sets it to 1 by what was booked
            settings = replace(settings, drop_environment=("OMP_NUM_THREADS",))
        done = ray.data.from_arrow(list(units)).map_batches(
            PartWorker,
            fn_constructor_kwargs={"settings": settings},
            batch_size=None,  # a unit at a time
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=_CPUS_PER_WORKER,
            num_gpus=1 if pool.gpus else None,
        )  # by Ray's defaults workers are spread over machines, and one that died is replaced without end
        try:
            for table in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for part in table.to_pylist():
                    if part["failure"] is not None:
                        raise error_of(part["failure"], part["failure_kind"])
                yield table
        except ray.exceptions.RayError as error:
            raise BackendError(
                f"a worker failed: {_last_line(error)}; --resume goes on with what is missing"
            ) from error


@contextmanager
def _connected(pool: Pool) -> Iterator[Any]:
    """Ray, connected: as the process is already, else as the pool says."""
    loopback = _LOOPBACK if pool.address is None or _host(pool.address) in ("127.0.0.1", "localhost") else {}
    for name, value in (_QUIET | loopback).items():
        os.environ.setdefault(name, value)
    with closed_in() if pool.address is None else nullcontext():
        yield from _started(pool)


def _started(pool: Pool) -> Iterator[Any]:
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingDependency("ray[data]", "ray", "a bulk job") from None
    if ray.is_initialized():
        yield ray
        return
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    start: dict[str, Any]
    try:
        if pool.address is None:
            check_open_files()
            cpus = max(usable_cores(), pool.workers or 1)
            start = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        else:
            _check_reachable(pool.address)
            start = {"address": pool.address}
        with no_usage_process(ray), _silent_stderr():  # on which Ray remarks on the environment set above
            ray.init(**start, log_to_driver=False, logging_level=logging.ERROR)
    except GlassError:
        raise
    except Exception as error:  # of any type: where a process of Ray's ends at once, it is a plain Exception
        where = pool.address or "here"
        raise GlassError(f"Ray cannot be started or reached ({where}): {first_line(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _host(address: str) -> str:
    return address.split("://")[-1].rpartition(":")[0]


def _check_reachable(address: str) -> None:
    """Raises OSError where no process listens; Ray would retry for many minutes."""
    port = address.rpartition(":")[2]
    if port.isdigit():
        socket.create_connection((_host(address), int(port)), timeout=10).close()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drops what native code writes to the standard error of this process; exceptions have what matters."""
    saved = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)


def _workers(ray: Any, pool: Pool) -> tuple[int, int]:
    """The number of workers, and the largest number of them on one machine."""
    machines = max(1, sum(node["Alive"] for node in ray.nodes()))
    if not pool.gpus:
        workers = pool.workers or machines
        return workers, -(-workers // machines)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if gpus == 0:
        raise UsageError(
            "the bundle is for GPUs, and Ray knows of none; see `glass-rt doctor`, or use another --engine"
        )
    workers = min(pool.workers or gpus, gpus)
    return workers, -(-workers // machines)


def _last_line(error: BaseException) -> str:
    """The error's last line: Ray puts the worker's stack trace before it."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:300] if lines else type(error).__name__
