"""The GPU of these steps: the real one, or in a dry run one in memory."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from glass_bench.gpu.step import DRY_RUN
from glass_rt.backends.cuda import open_gpu
from glass_rt.backends.cuda.gpu import GpuDriver


def is_real() -> bool:
    """Whether the steps run on a GPU; False in a dry run, on stand-ins."""
    return not os.environ.get(DRY_RUN)


def open_device(index: int = 0) -> GpuDriver:
    """The GPU, or in a dry run the one in memory. Raises BackendError, MissingDependency."""
    if is_real():
        return open_gpu(index)
    return _stand_ins().open_device(index)  # type: ignore[no-any-return]


# The stand-ins live with the tests, which are in the repository alone.
def _stand_ins() -> Any:
    return importlib.import_module(os.environ[DRY_RUN])


@contextmanager
def heard(kept: list[str]) -> Iterator[None]:
    """What is written to stderr in the block, by libraries too, as lines in `kept`."""
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
