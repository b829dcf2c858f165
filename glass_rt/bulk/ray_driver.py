"""The process that drives Ray, where this one cannot: Ray records its driver's command line, and takes only UTF-8.

No option of Ray says what is recorded, and `ray.init` fails where a file name in the command line is not UTF-8. A
process with a plain command line drives Ray then. It receives the job over a socket, file names included.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from typing import NoReturn

from glass_rt.bulk.arrow import pa
from glass_rt.bulk.messages import Refused, error_of
from glass_rt.bulk.on_ray import Pool, run_on_ray
from glass_rt.bulk.parts import PartSettings
from glass_rt.bulk.python_process import start_python
from glass_rt.errors import BackendError, GlassError

_SHUTDOWN_S = 60.0  # for Ray to end its processes; afterwards they notice that their driver is gone


def drive_ray(settings: PartSettings, units: Sequence[pa.Table], pool: Pool) -> Iterator[pa.Table]:
    """What `run_on_ray` does, in this process or, where Ray cannot record its command line, in another."""
    if ray_is_connected() or _is_utf8(sys.orig_argv):
        return run_on_ray(settings, units, pool)
    return _run_in_driver(settings, units, pool)


def _is_utf8(arguments: Sequence[str]) -> bool:
    try:
        " ".join(arguments).encode()
    except UnicodeEncodeError:  # a byte that is no UTF-8 is a lone surrogate in Python (PEP 383)
        return False
    return True


def ray_is_connected() -> bool:
    """Whether this process is connected to a Ray already; its caller has connected it."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _run_in_driver(settings: PartSettings, units: Sequence[pa.Table], pool: Pool) -> Iterator[pa.Table]:
    process, connection = start_python(__name__, own_session=True)
    try:
        connection.send((settings, tuple(units), pool))
        while (message := _received(connection)) is not None:
            if isinstance(message, Refused):
                raise error_of(message.message, message.kind)
            yield message
    finally:
        connection.close()  # the driver notices, and ends Ray
        try:
            process.wait(_SHUTDOWN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _received(connection: Connection[object, object]) -> object:
    try:
        return connection.recv()
    except (EOFError, OSError) as error:
        raise BackendError("the process that drives Ray has ended; --resume goes on with what is missing") from error


def main(descriptor: int) -> NoReturn:
    """Drives Ray for the process at the other end of the inherited socket, until the job ends or that process does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where this process inherited that it is ignored
    connection: Connection[object, object] = Connection(descriptor)
    with suppress(KeyboardInterrupt, EOFError, OSError):
        _drive(connection)
    os._exit(0)


def _drive(connection: Connection[object, object]) -> None:
    job = connection.recv()
    assert isinstance(job, tuple)
    threading.Thread(target=_interrupt_at_end, args=(connection,), name="glass-rt bulk driver", daemon=True).start()
    last: Refused | None = None
    try:
        with closing(run_on_ray(*job)) as tables:  # closed, it ends the Ray that it started
            for table in tables:
                connection.send(table)
    except GlassError as error:
        last = Refused(str(error), error.kind)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ray has ended: nothing is left to interrupt
    connection.send(last)


def _interrupt_at_end(connection: Connection[object, object]) -> None:
    """Interrupts the main thread, as Ctrl-C does, once the other process has closed its end or has ended."""
    with suppress(EOFError, OSError):
        connection.recv()
    os.kill(os.getpid(), signal.SIGINT)
