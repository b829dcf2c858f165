"""What a Ray that a job starts for itself leaves undone: files in the home folder, and asking hosts beyond this one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from glass_rt.machine.telemetry import telemetry_allowed

_USAGE = "RAY_USAGE_STATS_ENABLED"
_TOKEN = "RAY_AUTH_TOKEN"
_TOKENS = (_TOKEN, "RAY_AUTH_TOKEN_PATH")  # where users say what the token is


@contextmanager
def closed_in() -> Iterator[None]:
    """To be entered before Ray is imported and started, and left after it has ended.

    Its processes know each other by a token of this job, which Ray would else keep in `~/.ray`.
    """
    if not telemetry_allowed():
        os.environ.setdefault(_USAGE, "0")
    if any(name in os.environ for name in _TOKENS):
        yield
        return
    os.environ[_TOKEN] = secrets.token_hex(32)
    try:
        yield
    finally:
        del os.environ[_TOKEN]


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
