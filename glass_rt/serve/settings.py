"""The limits of a server: sizes, counts and times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glass_rt.errors import UsageError
from glass_rt.image.encoded import DEFAULT_MAX_PIXELS

MIB = 1 << 20


@dataclass(frozen=True)
class ServerSettings:
    """Limits of one server. Sizes are bytes, times seconds.

    `max_body`: one request's body. `max_pixels`: larger images are refused by their header. `max_crops`: crops of
    one image, its draws together. `queue_images`: images under way at once, `queue_bytes`: bodies held at
    once, also those still being received; past either, requests are refused until there is room. `deadline_s`: an
    image that is not judged by then is cancelled. `header_timeout_s`, `body_timeout_s`: for a request's headers and for
    its body to arrive. `drain_timeout_s`: how long requests in flight may take to finish once the server was told to
    stop. `api_keys`: a request needs one of them; where there are none, every request is accepted. `api_key_file`:
    where they stand, to be read again on SIGHUP.
    """

    max_body: int = 64 * MIB
    max_pixels: int = DEFAULT_MAX_PIXELS
    max_crops: int = 64
    queue_images: int = 48
    queue_bytes: int = 512 * MIB
    deadline_s: float = 30.0
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    drain_timeout_s: float = 60.0
    api_keys: tuple[bytes, ...] = ()
    api_key_file: Path | None = None

    def __post_init__(self) -> None:
        for name in ("max_body", "max_pixels", "max_crops", "queue_images", "queue_bytes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: got {getattr(self, name)}; at least 1 is needed")
        for name in ("deadline_s", "header_timeout_s", "body_timeout_s", "drain_timeout_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}: got {getattr(self, name)}; expected a positive number of seconds")
        if self.queue_bytes < self.max_body:
            raise UsageError(
                f"queue_bytes: got {self.queue_bytes}; one body of max_body, {self.max_body} bytes, must fit in"
            )
