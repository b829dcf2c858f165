"""Images decoded in batches on the device, beside the threads that decode on the CPU.

Images go to whichever is free: the device is handed what it can read until a batch is at work and another waits,
and the thread that finds no room there decodes its image itself. What the device refuses goes back to the CPU.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from glass_rt.backends.cuda.gpu import GpuError
from glass_rt.backends.cuda.image_codec import MOST_IMAGES, DecodedImage, Encoded, ImageCodec
from glass_rt.errors import first_line
from glass_rt.image.decode import ImageInfo, image_info
from glass_rt.image.encoded import ArrayImage, EncodedImage
from glass_rt.image.header.jpeg_stream import NotForTheDevice, baseline_stream
from glass_rt.inference.prepared_image import DecodedSource

MOST_WAITING = MOST_IMAGES  # one batch, while another is decoded
MOST_WAITING_BYTES = 256_000_000  # of their files; one image may always wait
MOST_FAILURES = 3  # of whole batches, one after the other; then the device decodes no more
log = logging.getLogger("glass_rt")

Finish = Callable[["DecodedSource | None"], None]


@dataclass(frozen=True, eq=False)
class _Waiting:
    image: EncodedImage
    encoded: Encoded
    info: ImageInfo
    result: Future[Any]  # of the image; one that is cancelled is not decoded
    finish: Finish

    @property
    def pixels(self) -> int:
        return self.encoded.height * self.encoded.width


class DeviceDecoding:
    """Decodes on the device what is offered to it, and hands each image on. Any thread may offer.

    The codec stays its opener's. `finishers`: threads on which `finish` of an image is called.
    """

    def __init__(self, codec: ImageCodec, finishers: int) -> None:
        self._codec = codec
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._failures = 0
        self._closed = False
        self._finishing = ThreadPoolExecutor(finishers, thread_name_prefix="glass-rt views")
        self._decoding = threading.Thread(target=self._decode_all, name="glass-rt device decode", daemon=True)
        self._decoding.start()

    def offer(self, image: EncodedImage | ArrayImage, result: Future[Any], finish: Finish) -> bool:
        """Hands an image over, unless the device does not read its kind or has enough to do: then False.

        `finish` is called once, on another thread, with the decoded image, or with None where the CPU has to decode it.
        The pixels are good until it returns. Of an image that is given up `result` is cancelled instead.
        """
        if not isinstance(image, EncodedImage) or not self._has_room(image):
            return False
        if (encoded := _encoded(self._codec, image)) is None:
            return False
        waiting = _Waiting(image, encoded, _info(self._codec, image), result, finish)
        with self._changed:
            if not self._has_room(image):
                return False
            self._waiting.append(waiting)
            self._changed.notify_all()
        return True

    def close(self) -> None:
        """Gives up the images that wait, and finishes those at work."""
        with self._changed:
            self._closed = True
            given_up = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for waiting in given_up:
            waiting.result.cancel()
        self._decoding.join()
        self._finishing.shutdown(wait=True)

    def _has_room(self, image: EncodedImage) -> bool:
        if self._closed or self._failures >= MOST_FAILURES or len(self._waiting) >= MOST_WAITING:
            return False
        with self._changed:
            held = sum(len(waiting.image.data) for waiting in self._waiting)
        return not held or held + len(image.data) <= MOST_WAITING_BYTES

    def _decode_all(self) -> None:
        """Two batches hold memory of the device: one that is decoded, and the one before, whose views are made."""
        before: list[Future[None]] | None = []
        while before is not None:
            before = self._decode_next(before)

    def _decode_next(self, before: list[Future[None]]) -> list[Future[None]] | None:
        """Takes and decodes one batch, and waits for what is made of the one before; None once this is closed.

        Its own function, so that nothing of a batch is held while the next one is waited for.
        """
        batch = self._take()
        if not batch:
            return None
        start = perf_counter()
        decoded = self._decoded([waiting.encoded for waiting in batch])
        each_ms = (perf_counter() - start) * 1e3 / len(batch)
        wait(before)
        return [self._handed_on(waiting, found, each_ms) for waiting, found in zip(batch, decoded, strict=True)]

    def _take(self) -> list[_Waiting]:
        """The images of the next batch, without those that were given up; empty once this is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return []
                count = self._codec.batch_of([waiting.pixels for waiting in self._waiting])
                batch = [self._waiting.popleft() for _ in range(count)]
            if wanted := [waiting for waiting in batch if not waiting.result.cancelled()]:
                return wanted

    def _decoded(self, batch: Sequence[Encoded]) -> Sequence[DecodedImage | None]:
        """Nothing but None where the codec fails: what it could not decode is decoded on the CPU."""
        try:
            decoded = self._codec.decode(batch)
        except Exception as error:
            lost = isinstance(error, GpuError) and error.lost
            self._failures = MOST_FAILURES if lost else self._failures + 1
            ends = "; from now on the CPU decodes" if self._failures >= MOST_FAILURES else ""
            log.warning("decoding on the device failed for %d images: %s%s", len(batch), first_line(error), ends)
            return [None] * len(batch)
        self._failures = 0
        return decoded

    def _handed_on(self, waiting: _Waiting, decoded: DecodedImage | None, decode_ms: float) -> Future[None]:
        once = threading.Lock()

        def finish() -> None:
            if once.acquire(blocking=False):
                self._finish(waiting, decoded, decode_ms)

        try:
            return self._finishing.submit(finish)
        except RuntimeError:  # the system gives no thread, and what was submitted stays with those that there are
            finish()
            done = Future[None]()
            done.set_result(None)
            return done

    def _finish(self, waiting: _Waiting, decoded: DecodedImage | None, decode_ms: float) -> None:
        try:
            waiting.finish(None if decoded is None else _source(waiting.image, waiting.info, decoded, decode_ms))
        finally:
            if decoded is not None:
                self._codec.release(decoded)


@contextmanager
def decoded_on_device(codec: ImageCodec | None, image: EncodedImage | ArrayImage) -> Iterator[DecodedSource | None]:
    """One image decoded on the device, on the calling thread, for as long as the block lasts.

    None where there is no codec, or the image is the CPU's: the device does not read its kind, or failed.
    """
    if codec is None or not isinstance(image, EncodedImage) or (encoded := _encoded(codec, image)) is None:
        yield None
        return
    start = perf_counter()
    try:
        (decoded,) = codec.decode([encoded])
    except Exception as error:
        log.warning("decoding on the device failed: %s", first_line(error))
        decoded = None
    if decoded is None:
        yield None
        return
    try:
        yield _source(image, _info(codec, image), decoded, (perf_counter() - start) * 1e3)
    finally:
        codec.release(decoded)


def _encoded(codec: ImageCodec, image: EncodedImage) -> Encoded | None:
    """The stream that the device is given; None where the CPU decodes this image."""
    if not codec.fits(image.header.width * image.header.height):
        return None
    try:
        return Encoded(baseline_stream(image.data, image.header), image.header.height, image.header.width)
    except NotForTheDevice:
        return None


def _info(codec: ImageCodec, image: EncodedImage) -> ImageInfo:
    return image_info(image.data, image.header, (codec.notice,))


def _source(image: EncodedImage, info: ImageInfo, decoded: DecodedImage, decode_ms: float) -> DecodedSource:
    return DecodedSource(image.path, info, decoded.pixels, image.read_ms + decode_ms)
