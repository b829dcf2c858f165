"""API keys: read from a file, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from pathlib import Path

from glass_rt.errors import UsageError
from glass_rt.machine.named_file import read_named_text
from glass_rt.serve.refusals import Unauthorized

SHORTEST = 16  # characters; shorter ones can be guessed


def read_api_keys(path: Path) -> tuple[bytes, ...]:
    """The keys of a file, one per line; empty lines and those of a comment (#) are passed over. Raises UsageError."""
    try:
        lines = [line.strip() for line in read_named_text(path, "ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--api-key-file {path} cannot be read: {error}") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise UsageError(f"--api-key-file {path} holds no key; write one per line")
    if short := next((number for number, key in enumerate(keys, start=1) if len(key) < SHORTEST), None):
        raise UsageError(f"--api-key-file {path}: key {short} is shorter than {SHORTEST} characters")
    return tuple(key.encode() for key in keys)


def read_api_keys_again(path: Path) -> tuple[bytes, ...]:
    """The keys of a file that was read before. Raises UsageError, also for a pipe, which would be waited for."""
    if path.exists() and not path.is_file():
        raise UsageError(f"--api-key-file {path} is no file that can be read twice; start the server anew")
    return read_api_keys(path)


def check_api_key(given: bytes | None, keys: Sequence[bytes]) -> None:
    """Raises Unauthorized unless `given` is one of the keys, or there are none. In constant time: all are compared."""
    if not keys:
        return
    if given is None:
        raise Unauthorized("an API key is needed: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
    if not sum(hmac.compare_digest(given, key) for key in keys):
        raise Unauthorized("this API key is not known here")


def api_key_of(headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """The key that a request's headers (names in lower case) carry: X-API-Key, or Authorization with Bearer."""
    for name, value in headers:
        if name == b"x-api-key":
            return value.strip()
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
    return None
