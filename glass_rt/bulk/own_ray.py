"""What a Ray that a job starts for itself leaves undone: files in the home folder, and asking hosts beyond this one."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from glass_rt.errors import GlassError
from glass_rt.machine.telemetry import telemetry_allowed

_USAGE = "RAY_USAGE_STATS_ENABLED"
_FEWEST_FILES = 256  # a job of one worker took between 64 and 100
_TOKEN = "RAY_AUTH_TOKEN"
_FOLDER = "RAY_TMPDIR"
_TOKENS = (_TOKEN, "RAY_AUTH_TOKEN_PATH")  # where users say what the token is


@contextmanager
def closed_in() -> Iterator[None]:
    """To be entered before Ray is imported and started, and left after it has ended.

    Its processes know each other by a token of this job, which Ray would else keep in `~/.ray`. Its files lie in
    `$RAY_TMPDIR/ray`, else in the folder of temporary files. Raises OSError where there is none.
    """
    if not telemetry_allowed():
        os.environ.setdefault(_USAGE, "0")
    for_job = {}
    if not any(name in os.environ for name in _TOKENS):
        for_job[_TOKEN] = secrets.token_hex(32)
    if _FOLDER not in os.environ and "TMPDIR" in os.environ:  # which Ray takes even where it cannot be written
        for_job[_FOLDER] = tempfile.gettempdir()
    os.environ.update(for_job)
    try:
        yield
    finally:
        for name in for_job:
            del os.environ[name]


def check_open_files() -> None:
    """Raises GlassError where this process may open too few files for Ray, whose processes would hang or crash."""
    try:
        import resource
    except ImportError:  # Windows
        return
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # Ray raises the soft limit to the hard one
    if most != resource.RLIM_INFINITY and most < _FEWEST_FILES:
        raise GlassError(f"Ray needs {_FEWEST_FILES} open files, and this process may have {most}: ulimit -n 4096")


@contextmanager
def no_usage_process(ray: Any) -> Iterator[None]:
    """Within the block Ray starts without its process for usage statistics.

    Also where these are off, that process asks the metadata hosts of three clouds in which one it is. Ray has no option
    for it and goes on where it does not start.
    """
    with suppress(AttributeError):  # a version that keeps tokens in another way
        ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
    node = ray._private.node.Node
    if telemetry_allowed() or not hasattr(node, "start_api_server"):
        yield
        return
    started = node.start_api_server
    node.start_api_server = lambda *_, **__: None
    try:
        yield
    finally:
        node.start_api_server = started
