"""How much a server takes on at once, and its refusal of more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from glass_rt.serve.refusals import BodyTooLarge, DeadlineExceeded, Overloaded
from glass_rt.serve.settings import ServerSettings

SMOOTHING = 1 / 16  # the weight of the newest image in the pace


class Admission:
    """Counts images under way and bytes held, on the event loop's thread alone.

    Images are also refused where, at the recent pace, those before them take more than half of the deadline. An
    accepted image can so be expected to be judged in time.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self.images = 0
        self.bytes = 0
        self._seconds_per_image = 0.0
        self._last_done = 0.0

    @property
    def expected_wait_s(self) -> float:
        """How long the images under way will take at the recent pace."""
        return self.images * self._seconds_per_image

    def check_room(self) -> None:
        """Raises Overloaded where the server would refuse even a small request."""
        self._check(1, 1)

    @contextmanager
    def admit(self, count: int) -> Iterator[None]:
        """Takes on `count` images while the block runs. Raises Overloaded, or BodyTooLarge past the queue's size.

        All images of a request are taken on, or none.
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
        """Counts bytes that are in memory from now on, until `let_go` subtracts them. Raises Overloaded."""
        self._check(0, size)
        self.bytes += size

    def let_go(self, size: int) -> None:
        """Subtracts bytes that `hold` counted."""
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
