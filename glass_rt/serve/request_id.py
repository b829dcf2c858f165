"""The name of a request in logs and responses."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

_ACCEPTED = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


def request_id_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The caller's X-Request-ID where it is 1 to 128 plain characters, a new one otherwise."""
    for name, value in headers:
        if name == b"x-request-id" and _ACCEPTED.fullmatch(value):
            return value.decode("ascii")
    return os.urandom(16).hex()
