"""The GPU of these steps: the real one, or in a dry run one in memory."""

from __future__ import annotations

import importlib
import os
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
