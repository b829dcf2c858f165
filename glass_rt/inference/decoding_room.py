"""The memory that images take beside the engines, from the bytes of a file to the views that wait for the judge."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from glass_rt.image.decode import BYTES_PER_PIXEL
from glass_rt.image.encoded import DEFAULT_MAX_PIXELS, MOST_BYTES, ArrayImage, EncodedImage, ImageSource
from glass_rt.image.header import looks_like_image
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.inference.prepared_image import crops_of
from glass_rt.inference.room import check_image_fits, image_bytes, image_room, view_bytes
from glass_rt.machine.environment import installed_memory
from glass_rt.machine.limits.memory import MemoryLimit
from glass_rt.options import DetectOptions

_WORTH_WAITING = 1 << 20  # bytes of a file; smaller ones are read at once
_START = 4096  # bytes that show whether a file is an image
USUAL_BYTES = 6 * 25_000_000  # what decoding takes at its peak, by OpenCV, of a photograph of 25 megapixels


@dataclass(frozen=True)
class Beside:
    """Memory that a process takes for images beside those being decoded, such as a server's bodies.

    `held()`: bytes now. `most`: bytes that it holds at most.
    """

    held: Callable[[], int]
    most: int

    @property
    def to_come(self) -> int:
        """Bytes that may be added."""
        return max(0, self.most - self.held())


NOTHING_BESIDE = Beside(lambda: 0, 0)


class DecodingRoom:
    """What all that decode for one opened bundle may hold together, and what of it an image takes.

    An image waits where it does not fit beside the others, and is refused where it does not fit alone.
    """

    def __init__(self, opened: OpenedBundle, gpu_workers: int = 0, beside: Beside = NOTHING_BESIDE) -> None:
        self._opened, self._gpu_workers, self._beside = opened, gpu_workers, beside

    def reading(self, source: ImageSource, max_pixels: int) -> AbstractContextManager[None]:
        """Waits for room for the bytes of a file, held while the block reads them. Raises OutOfMemory."""
        size = _file_bytes(source)
        return self.hold(size, max_pixels) if size else nullcontext()

    def needed(self, image: EncodedImage | ArrayImage, options: DetectOptions) -> tuple[int, int]:
        """Bytes that an image takes beside itself until its views are made, and of these the bytes of the views."""
        model = self._opened.manifest.model
        views = view_bytes(crops_of(image.size_hw, model, options), model.crop_size)
        return image_bytes(image, model) - image.given_bytes + views, views

    @contextmanager
    def hold(self, size: int, max_pixels: int, buffer: int = 0, kept: int = 0) -> Iterator[None]:
        """Waits for room for `size` bytes, and holds them while the block runs; `kept` of them until `let_go`.

        `buffer`: bytes that the thread holds for pixels already. Raises OutOfMemory.
        """
        limit = decoding_budget(max_pixels, self._gpu_workers)
        with self._opened.decoding.hold(size, limit, lambda: self._room(buffer), kept=kept):
            check_image_fits(size, self._limit(buffer))
            yield

    def let_go(self, size: int) -> None:
        """The views of an image have been judged, or given up."""
        self._opened.decoding.let_go(size)

    def note_engines(self, buffers: int = 0) -> None:
        """Looks at how much the engines have taken by now; `buffers`: bytes that decoders keep for pixels."""
        self._opened.reserve.note(self._opened.decoding.held + buffers + self._beside.held())

    def _limit(self, buffer: int) -> MemoryLimit | None:
        return image_room(self._opened.memory, buffer, self._opened.reserve.left + self._beside.to_come)

    def _room(self, buffer: int) -> int:
        limit = self._limit(buffer)
        return sys.maxsize if limit is None else limit.room


def _file_bytes(source: ImageSource) -> int:
    """Bytes of an image that has still to be read; 0 of one in memory, of a pipe, of what is not there or no image."""
    if not isinstance(source, (str, os.PathLike)):
        return 0
    try:
        status = Path(source).stat()
        if not stat.S_ISREG(status.st_mode) or not _WORTH_WAITING < status.st_size <= MOST_BYTES:
            return 0
        with Path(source).open("rb") as file:
            return status.st_size if looks_like_image(file.read(_START)) else 0
    except (OSError, ValueError):
        return 0


def decoding_budget(max_pixels: int, gpu_workers: int = 0) -> int:
    """Bytes for all decoding threads together: the pixels of the largest image that is let in.

    A lower limit than the default says what is an image here, not that decoders should wait for each other. A GPU
    (`gpu_workers` threads decode for it) would starve by that: there, all threads may decode images of usual size at
    once, within a quarter of the machine's memory.
    """
    largest = BYTES_PER_PIXEL * max(max_pixels, DEFAULT_MAX_PIXELS)
    return max(largest, min(gpu_workers * USUAL_BYTES, installed_memory() // 4))
