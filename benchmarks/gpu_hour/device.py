"""The GPU of these steps: the real one through the driver's bindings, or one in memory where there is none."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from glass_rt.backends.cuda.gpu import GpuDriver
from glass_rt.errors import BackendError
from glass_rt.image.resize import resize_antialiased
from tests.fake_gpu import FakeGpu


@cache
def is_real() -> bool:
    """Whether this machine has a GPU that the bindings open."""
    try:
        from glass_rt.backends.cuda.bindings_gpu import BindingsGpu

        BindingsGpu(0).close()
    except (BackendError, ImportError):
        return False
    return True


def open_device() -> GpuDriver:
    """GPU 0, or the one in memory with our kernels' arithmetic in NumPy, so that every step can be tried anywhere."""
    if is_real():
        from glass_rt.backends.cuda.bindings_gpu import BindingsGpu

        return BindingsGpu(0)
    return _in_memory()


@cache
def _in_memory() -> FakeGpu:
    """One for the whole process, as the real one's context is: closing it is not meant."""
    gpu = FakeGpu()
    gpu.close = lambda: None  # type: ignore[method-assign]
    last: dict[str, Any] = {}

    def gather(grid: Any, _block: Any, arguments: tuple[Any, ...]) -> None:
        image, width, boxes, size, out = map(int, arguments)
        table = gpu.bytes_at(boxes, 16 * grid[1]).view(np.int32).reshape(-1, 4).tolist()
        for index, (left, top, wide, high) in enumerate(table):
            crop = gpu.bytes_at(out + index * size * size * 3, size * size * 3).reshape(size, size, 3)
            crop[:] = 0
            for row in range(high):
                start = image + ((top + row) * width + left) * 3
                crop[row, :wide] = gpu.bytes_at(start, 3 * wide).reshape(-1, 3)

    def rows(_grid: Any, _block: Any, arguments: tuple[Any, ...]) -> None:
        image, width, size, taps, _out = map(int, arguments)
        first, count, _ = gpu.bytes_at(taps, 12 * size).view(np.int32)[-3:].tolist()
        height = first + count  # the last row of the view takes the last one of the image
        last["pixels"] = gpu.bytes_at(image, height * width * 3).reshape(height, width, 3)

    def columns(_grid: Any, _block: Any, arguments: tuple[Any, ...]) -> None:
        _rows, _width, size, _taps, out = map(int, arguments)
        view = resize_antialiased(last["pixels"], size)
        gpu.bytes_at(out, view.nbytes)[:] = view.reshape(-1).view(np.uint8)

    gpu.kernels.update(gather_crops=gather, reduce_rows=rows, reduce_columns=columns)
    return gpu


@contextmanager
def heard(kept: list[str]) -> Iterator[None]:
    """Whatever is written to stderr in the block, by libraries too, as lines in `kept`."""
    reading, writing = os.pipe()
    before = os.dup(2)
    os.dup2(writing, 2)
    os.close(writing)
    chunks: list[bytes] = []

    def read() -> None:
        while chunk := os.read(reading, 1 << 16):
            chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        reader.join()
        os.close(reading)
        kept += b"".join(chunks).decode(errors="replace").splitlines()
