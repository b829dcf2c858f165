"""A fresh Python process at the other end of a socket."""

from __future__ import annotations

import json
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection

_START = "import sys, json; sys.path[:] = json.loads(sys.argv[2]); from {module} import main; main(int(sys.argv[1]))"


def start_python(
    module: str, *, own_session: bool = False
) -> tuple[subprocess.Popen[bytes], Connection[object, object]]:
    """Starts a process that calls `main(descriptor)` of `module`, and returns it with this end of a socket to it.

    `descriptor` is the other end. The process finds modules where this one does; its standard output goes to our
    standard error. With `own_session`, Ctrl-C in a terminal does not reach it.

    This process may have threads, so it does not fork. multiprocessing would import this process's main module, so it
    starts the interpreter instead.
    """
    connection, other = Pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", _START.format(module=module), str(other.fileno()), json.dumps(sys.path)],
        pass_fds=[other.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=2,  # what a library prints is no result
        start_new_session=own_session,
    )
    other.close()
    return process, connection
