"""How much a server has under way at once, and what it says when that is enough."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from glass_rt.serve.refusals import BodyTooLarge, DeadlineExceeded, Overloaded
from glass_rt.serve.settings import Settings

SMOOTHING = 1 / 16  # the weight of the newest image in the pace


class Admission:
    """Counts images under way and bytes held, on the event loop's thread alone.

    Images are also refused where those before them would take the better part of the deadline at the pace of late, so
    that what is accepted can be expected to be judged in time.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.images = 0
        self.bytes = 0
        self._seconds_per_image = 0.0
        self._last_done = 0.0

    @property
    def expected_wait_s(self) -> float:
        """How long the images under way will take, at the pace of late."""
        return self.images * self._seconds_per_image

    def check_room(self) -> None:
        """Raises Overloaded where not even a small request would be taken on."""
        self._check(1, 1)

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Takes on `count` images while the block runs. Raises Overloaded, or BodyTooLarge where it is never possible.

        A request of several images is taken on whole or not at all.
        """
        if count > self._settings.queue_images:
            raise BodyTooLarge(
                f"{count} images in one request; this server takes {self._settings.queue_images}: send them in parts"
            )
        self._check(count, 0)
        began = monotonic()
        self.images += count
        try:
            yield
        except DeadlineExceeded:
            self._note_pace(count, began)
            raise
        else:
            self._note_pace(count, began)
        finally:
            self.images -= count

    def hold(self, size: int) -> None:
        """Counts bytes that are kept in memory from now on; `let_go` gives them back. Raises Overloaded."""
        self._check(0, size)
        self.bytes += size

    def let_go(self, size: int) -> None:
        """The opposite of `hold`."""
        self.bytes -= size

    def _check(self, images: int, size: int) -> None:
        settings = self._settings
        full = self.images + images > settings.queue_images or self.bytes + size > settings.queue_bytes
        late = images and self.images and self.expected_wait_s > settings.deadline_s / 2
        if full or late:
            raise Overloaded(
                f"{self.images} images are being judged and {self.bytes} bytes are held: try again later",
                retry_after_s=max(1, math.ceil(self.expected_wait_s)),
            )

    def _note_pace(self, count: int, began: float) -> None:
        now = monotonic()
        seconds = (now - max(began, self._last_done)) / count
        self._last_done = now
        self._seconds_per_image += (seconds - self._seconds_per_image) * (SMOOTHING if self._seconds_per_image else 1.0)
