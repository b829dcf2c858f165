"""JPEGs decoded in batches by NVIDIA's nvImageCodec: on the GPU, or in tests on its CPU backend, by the same class.

Its CPU backend is bit-equal to OpenCV. On an H100 the JPEG engine differed by one level in at most one of 19,000
samples, and the kernels that stand in where a GPU has no such engine by three levels in 3 %
(benchmarks/results/gpu_hour). None of them reports damage, so only files that `baseline_stream` lets through come here.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from glass_rt.backends.cuda.codec_library import load_codec_library
from glass_rt.backends.cuda.device_pixels import DevicePixels
from glass_rt.backends.cuda.gpu import GpuDriver, lost_is_gone
from glass_rt.backends.cuda.library_words import library_words
from glass_rt.errors import BackendError, first_line
from glass_rt.image.decode import BYTES_PER_PIXEL, Pixels

# nvImageCodec's kinds of backend in the order in which they are tried; GPU_ONLY alone has no decoder of JPEGs.
ON_GPU, ON_CPU = ("HW_GPU_ONLY", "HYBRID_CPU_GPU"), ("CPU_ONLY",)
MOST_IMAGES = 14  # of one batch: two for each JPEG engine of an H100, by which it reached 97 % of its rate
LARGEST_KEPT = 96_000_000  # bytes of an image whose memory is used again: 32 megapixels
_MEMORY_SHARE = 24  # this part of the GPU's memory is for the pixels of one batch
_OPTIONS = ":fancy_upsampling=1"  # as libjpeg enlarges colour; without it 10 % of the samples differ by up to 18 levels
_PROBE_HW, _PROBE_LEVELS = (240, 328), 8
_THREADS = 2  # of its own, for parsing

log = logging.getLogger("glass_rt")


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One image of a batch: its pixels, on the device or in memory, uint8 (height, width, 3), RGB."""

    pixels: Pixels | DevicePixels
    memory: Any = None  # nvImageCodec's image, for a later batch


@dataclass(frozen=True)
class Encoded:
    """A JPEG stream and the size that its header promises."""

    stream: memoryview
    height: int
    width: int


Codec: TypeAlias = "tuple[Any, str]"  # nvImageCodec's decoder, and the kind of its backend


class ImageCodec:
    """A decoder of JPEGs on one device. Any thread may call; batches are decoded one after the other.

    `gpu`: the device, which this object owns and closes; None for nvImageCodec's CPU backend. `in_memory`: the pixels
    are copied to NumPy arrays, for views that are made there. `most_bytes`: of the pixels of one batch; two batches are
    held at a time, and as much again is kept for the next ones.

    Raises MissingDependency without the package, and BackendError where it has no decoder of JPEGs for this device, or
    one that gives other pixels than OpenCV.
    """

    def __init__(
        self, gpu: GpuDriver | None, index: int = 0, *, in_memory: bool = True, most_bytes: int | None = None
    ) -> None:
        self._gpu, self.in_memory = gpu, in_memory or gpu is None
        self._lock = threading.Lock()
        self._idle: list[Any] = []  # images whose memory is free; only `decode` takes of them
        self._stream = 0
        self._most_bytes = min(MOST_IMAGES * LARGEST_KEPT, most_bytes or sys.maxsize)
        self._decoder: Any = None
        try:
            self._library = load_codec_library()
            self._params = self._library.DecodeParams(
                apply_exif_orientation=False, color_spec=self._library.ColorSpec.SRGB
            )
            if gpu is not None:
                with gpu.current():
                    self._stream = gpu.create_stream()
                    self._most_bytes = min(self._most_bytes, gpu.memory()[1] // _MEMORY_SHARE)
            self._decoder, self.kind = self._first_that_works(index)
        except BaseException:
            self.close()
            raise

    @property
    def notice(self) -> str:
        """What a verdict says of an image that was decoded here."""
        if self._gpu is None:
            return "decoded by nvImageCodec on the CPU"
        return "decoded on the GPU, where damage inside a file goes unnoticed"

    def fits(self, pixels: int) -> bool:
        """Whether one image of that many pixels is decoded here at all: its memory is bounded."""
        return pixels * BYTES_PER_PIXEL <= self._most_bytes

    def batch_of(self, sizes: Sequence[int]) -> int:
        """How many of the images that wait, by their pixels, make one batch: the first always does."""
        total = 0
        for count, pixels in enumerate(sizes[:MOST_IMAGES]):
            total += pixels * BYTES_PER_PIXEL
            if count and total > self._most_bytes:
                return count
        return min(len(sizes), MOST_IMAGES)

    def decode(self, batch: Sequence[Encoded]) -> list[DecodedImage | None]:
        """The images of a batch, in its order; None for one that the codec refused, or gave in another size.

        Each image's memory is its caller's until `release`. Raises BackendError where the codec failed as a whole.
        """
        with self._lock, self._current():
            found = self._decoded(self._decoder, batch)
            return [self._checked(image, encoded) for image, encoded in zip(found, batch, strict=True)]

    def release(self, decoded: DecodedImage) -> None:
        """The pixels were used; their memory may serve the next batch."""
        if decoded.memory is not None:
            self._keep(decoded.memory)  # without the lock, which a batch under way holds: appending is atomic

    def close(self) -> None:
        """Frees what it holds on the device; calling it twice is harmless. No batch may be under way."""
        self._decoder = None
        self._idle.clear()
        gpu, self._gpu = self._gpu, None
        if gpu is not None:
            with lost_is_gone(), gpu.current():
                if self._stream:
                    gpu.destroy_stream(self._stream)
            gpu.close()

    def _current(self) -> AbstractContextManager[None]:
        return nullcontext() if self._gpu is None else self._gpu.current()

    def _decoded(self, decoder: Any, batch: Sequence[Encoded]) -> list[Any]:
        streams = [self._library.CodeStream(np.frombuffer(encoded.stream, np.uint8)) for encoded in batch]
        reused = [self._idle.pop() for _ in batch] if len(self._idle) >= len(batch) else None
        try:
            found = decoder.decode(streams, images=reused, params=self._params, cuda_stream=self._stream)
            if self._gpu is not None:
                self._gpu.synchronize(self._stream)
        except BackendError:
            raise
        except Exception as error:  # it raises RuntimeError, or what its authors came upon
            raise BackendError(f"nvImageCodec: {first_line(error)}") from error
        return list(found)

    def _checked(self, image: Any, encoded: Encoded) -> DecodedImage | None:
        if image is None:
            return None
        shape = encoded.height, encoded.width, BYTES_PER_PIXEL
        if tuple(image.shape) != shape or np.dtype(image.dtype) != np.uint8:
            log.warning("nvImageCodec gave %s %s where the header says %s", image.shape, image.dtype, shape)
            return None
        if self._gpu is not None and not self.in_memory:
            told = image.__cuda_array_interface__
            if told.get("strides") not in (None, (shape[1] * shape[2], shape[2], 1)):
                log.warning("nvImageCodec gave rows with gaps: %s", told)
                return None
            return DecodedImage(DevicePixels(int(told["data"][0]), encoded.height, encoded.width), image)
        if self._gpu is None:
            return DecodedImage(np.asarray(image), image)
        copied = np.asarray(image.cpu())
        self._keep(image)
        return DecodedImage(copied)

    def _keep(self, image: Any) -> None:
        """For a later batch, up to the memory of two."""
        idle = list(self._idle)
        kept = sum(other.capacity for other in idle) + image.capacity
        if image.capacity <= LARGEST_KEPT and len(idle) < 2 * MOST_IMAGES and kept <= 2 * self._most_bytes:
            self._idle.append(image)

    def _first_that_works(self, index: int) -> Codec:
        """The first kind of backend that decodes a probe as OpenCV does. Raises BackendError with all reasons."""
        reasons = []
        for kind in ON_CPU if self._gpu is None else ON_GPU:
            words: list[str] = []
            try:
                with library_words(words):
                    decoder = self._open(kind, index)
                    self._probe(decoder)
            except BackendError as error:
                reasons.append(f"{kind}: {error}")
                log.info("nvImageCodec, %s: %s %s", kind, error, "; ".join(words))
                continue
            log.info("JPEGs are decoded by nvImageCodec, %s", kind)
            return decoder, kind
        raise BackendError(
            f"decode: nvImageCodec decodes no JPEGs on this device ({'; '.join(reasons)}); nvJPEG belongs to it: "
            "pip install 'glass-rt[decode]'"
        )

    def _open(self, kind: str, index: int) -> Any:
        library = self._library
        try:
            return library.Decoder(
                device_id=library.NVIMGCODEC_DEVICE_CPU_ONLY if self._gpu is None else index,
                max_num_cpu_threads=_THREADS,
                backends=[library.Backend(getattr(library, kind))],
                options=_OPTIONS,
            )
        except Exception as error:
            raise BackendError(first_line(error)) from error

    def _probe(self, decoder: Any) -> None:
        """Raises BackendError where the codec gives other pixels than OpenCV for a picture of colours and noise."""
        height, width = _PROBE_HW
        encoded = probe_jpeg(height, width)
        with self._current():  # for the copy too: the library copies by the device that is current
            (image,) = self._decoded(decoder, [Encoded(memoryview(encoded), height, width)])
            if image is None:
                raise BackendError("it refuses a baseline JPEG")
            found = np.asarray(image if self._gpu is None else image.cpu())
        expected = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert expected is not None, "OpenCV wrote it"
        if found.shape != expected.shape or found.dtype != np.uint8:
            raise BackendError(f"it gives {found.shape} {found.dtype} for {expected.shape}")
        levels = int(cv2.norm(found, np.asarray(expected), cv2.NORM_INF))
        if levels > _PROBE_LEVELS:
            raise BackendError(f"its pixels differ from OpenCV's by {levels} levels")


def probe_jpeg(height: int, width: int) -> bytes:
    """A baseline JPEG of 4:2:0, quality 90, with smooth colours, edges and noise; always the same."""
    rows, columns = np.arange(height)[:, None, None] / 90, np.arange(width)[:, None] / 70
    phases = np.arange(3)
    noise = np.random.default_rng(0).integers(-12, 13, (height, width, 3))
    picture: NDArray[Any] = 128 + 90 * np.sin(rows + phases) * np.cos(columns - phases) + noise
    picture[height // 3 : height // 2] += 25
    _, encoded = cv2.imencode(".jpg", np.clip(picture, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return bytes(encoded)
