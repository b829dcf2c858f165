"""Both views of an image that lies on the device, by our own kernels (`kernels/views.cu`).

Not used unless asked for. The kernels' arithmetic is tested on the CPU; on an H100 crops were bit-equal to those made
in memory and global views within 0.0004 level, from 64 x 900 to 200 megapixels (benchmarks/results/gpu_hour). There
the card computed the filter's weights; as tables from the host they have not run on a card.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from importlib.resources import files
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from glass_rt.backends.cuda.gpu import DeviceBuffer, GpuDriver, GpuError
from glass_rt.backends.cuda.nvrtc import compiled_from_source
from glass_rt.image.resize import filter_taps
from glass_rt.image.sampling import Box

Table: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int32]]
Taps: TypeAlias = tuple[DeviceBuffer, DeviceBuffer]  # along the image's height, and along its width

_BLOCK = 256
# What a driver says of a module that has nothing for its GPU, or was made by a newer CUDA than its own: names of
# CUresult, and cuGetErrorString's sentences, which are all that pycuda hands on.
REFUSED = (
    "NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device",
    "INVALID_IMAGE", "device kernel image is invalid",
    "UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain.",
    "INVALID_PTX", "a PTX JIT compilation failed",
)  # fmt: skip

log = logging.getLogger("glass_rt")


class ViewKernels:
    """The kernels of `views.fatbin` on one device. Calls are made inside `with gpu.current():` and return at once."""

    def __init__(self, gpu: GpuDriver) -> None:
        self._gpu = gpu
        try:
            kernels = self._loaded(_file("views.fatbin"))
        except GpuError as error:
            if error.status not in REFUSED:
                raise
            log.info("the view kernels are compiled for this %s, SM %s (%s)", gpu.name, gpu.compute_capability, error)
            kernels = self._loaded(compiled_from_source(_file("views.cu"), gpu.compute_capability))
        self._gather, self._rows, self._columns = kernels

    def _loaded(self, image: bytes) -> tuple[Any, Any, Any]:
        load = self._gpu.load_kernel
        return load(image, "gather_crops"), load(image, "reduce_rows"), load(image, "reduce_columns")

    def crops(
        self, image: DeviceBuffer, width: int, boxes: DeviceBuffer, count: int, size: int, out: int, stream: int
    ) -> None:
        """Cuts `count` windows into `out`, the address of uint8 (count, size, size, 3), padded with zeros.

        `image`: uint8 (H, width, 3). `boxes`: int32 (count, 4), see `boxes_ltwh`.
        """
        arguments = (
            np.uint64(image.address), np.int32(width), np.uint64(boxes.address), np.int32(size), np.uint64(out),
        )  # fmt: skip
        self._gpu.launch(self._gather, (_blocks(size * size * 3), count, 1), (_BLOCK, 1, 1), arguments, stream)

    def global_view(
        self, image: DeviceBuffer, width: int, size: int, taps: Taps, rows: DeviceBuffer, out: int, stream: int
    ) -> None:
        """Resizes `image` into `out`, the address of float32 (size, size, 3), 0..255.

        `taps` holds `filter_table` of the image's height and of its width. `rows` is scratch memory, float32 (size,
        width, 3).
        """
        of_rows, of_columns = (np.uint64(table.address) for table in taps)
        first = (np.uint64(image.address), np.int32(width), np.int32(size), of_rows, np.uint64(rows.address))
        self._gpu.launch(self._rows, (_blocks(width * 3), size, 1), (_BLOCK, 1, 1), first, stream)
        second = (np.uint64(rows.address), np.int32(width), np.int32(size), of_columns, np.uint64(out))
        self._gpu.launch(self._columns, (_blocks(size * 3), size, 1), (_BLOCK, 1, 1), second, stream)


def boxes_ltwh(boxes: tuple[Box, ...]) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    """int32 (K, 4): left, top, valid width, valid height."""
    return np.array([(box.left, box.top, box.width, box.height) for box in boxes], np.int32).reshape(-1, 4)


@lru_cache(maxsize=64)
def filter_table(length: int, size: int) -> Table:
    """What the kernels read to resize an axis of `length` pixels to `size`; the caller may not write to it.

    int32 (size, 3): each output's first source pixel, the number of its source pixels, and where their weights begin
    among those that follow; then the weights of all outputs, float32 by their bits, which sum to 1 for each.
    """
    taps = filter_taps(length, size)
    counts = [len(weights) for _, weights in taps]
    places = np.array(
        [(first, count, stop - count) for (first, _), count, stop in zip(taps, counts, accumulate(counts), strict=True)]
    )
    weights = np.concatenate([weights for _, weights in taps]).astype(np.float32)
    table = np.concatenate([places.astype(np.int32).reshape(-1), weights.view(np.int32)])
    table.setflags(write=False)
    return table


def _file(name: str) -> bytes:
    return (files("glass_rt") / "backends" / "cuda" / "kernels" / name).read_bytes()


def _blocks(cells: int) -> int:
    return -(-cells // _BLOCK)
