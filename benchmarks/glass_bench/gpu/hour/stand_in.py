"""A stand-in for NVIDIA's runtime library whose engines are torch modules: it puts real work on the stream it is given.

What is tried is everything around the engine: copies, streams, events, buckets, lanes and captured graphs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from glass_bench.gpu.hour.device import is_real
from glass_rt.backends.cuda.gpu import GpuDriver
from glass_rt.backends.trt.backend import TrtBackend
from glass_rt.backends.trt.library import Library

PROFILES = ((1, 10, 16), (1, 64, 64))
SCRATCH = 1 << 20
_STREAMS: dict[int, Any] = {}


class DeviceMemory:
    """Memory of ours as torch reads it: by address."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": dtype.str, "data": (address, False), "version": 3, "strides": None,
        }  # fmt: skip


class Context:
    """An execution context: a batch size on a pair of buffers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()
        self._tensors: tuple[torch.Tensor, torch.Tensor] | None = None

    def set_device_memory(self, address: int, nbytes: int) -> None:
        """Not used: torch has memory of its own."""

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        """Every profile is alike."""
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """The batch, with views behind it."""
        self._shape = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Where pixels lie and embeddings go."""
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        """Puts the module's kernels on the stream, or does what `engine.before` wants instead (False: refused)."""
        engine = self._engine
        if not is_real():
            return self._in_memory(engine.gpu, stream)
        if stream not in _STREAMS:
            _STREAMS[stream] = torch.cuda.ExternalStream(stream)  # type: ignore[no-untyped-call]
        with torch.no_grad(), torch.cuda.stream(_STREAMS[stream]):
            if engine.before is not None and not engine.before(torch.cuda.is_current_stream_capturing()):
                return False
            if self._tensors is None:
                pixels = DeviceMemory(self._addresses["pixels"], self._shape, engine.dtype)
                out = DeviceMemory(self._addresses["embedding"], (self._shape[0], engine.dim), np.dtype(np.float32))
                self._tensors = torch.as_tensor(pixels, device="cuda"), torch.as_tensor(out, device="cuda")
            self._tensors[1].copy_(engine.module(self._tensors[0]))
        return True

    def _in_memory(self, gpu: Any, stream: int) -> bool:
        engine, addresses, shape = self._engine, dict(self._addresses), self._shape
        if engine.before is not None and not engine.before(gpu.is_capturing):
            return False

        def work() -> None:
            nbytes = int(np.prod(shape)) * engine.dtype.itemsize
            views = gpu.bytes_at(addresses["pixels"], nbytes).view(engine.dtype).reshape(shape)
            with torch.no_grad():
                rows = engine.module(torch.from_numpy(views.copy())).numpy()
            gpu.bytes_at(addresses["embedding"], rows.nbytes)[:] = rows.view(np.uint8).reshape(-1)

        gpu.enqueue(stream, work)
        return True


class Engine:
    """What a plan opens as. `before(capturing)` is called before every run and may refuse it."""

    num_io_tensors = 2

    def __init__(
        self, gpu: GpuDriver, module: nn.Module, dim: int, dtype: str, view: int, before: Callable[[bool], bool] | None
    ) -> None:
        self.gpu, self.module, self.dim, self.before = gpu, module, dim, before
        self.dtype, self._view = np.dtype(dtype), (view, view, 3)
        self.num_optimization_profiles = len(PROFILES)

    def get_tensor_name(self, index: int) -> str:
        """Pixels, then embedding."""
        return ("pixels", "embedding")[index]

    def get_tensor_mode(self, name: str) -> bool:
        """True for the input."""
        return name == "pixels"

    def get_tensor_dtype(self, name: str) -> Any:
        """NumPy's type; `nptype` has nothing to do."""
        return self.dtype if name == "pixels" else np.dtype(np.float32)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """With a free batch."""
        return (-1, *self._view) if name == "pixels" else (-1, self.dim)

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        """Least, best and largest."""
        return [(size, *self._view) for size in PROFILES[index]]

    def get_device_memory_size_for_profile_v2(self, index: int) -> int:
        """Nothing to speak of."""
        return SCRATCH

    def create_execution_context(self, _strategy: Any) -> Context:
        """One more."""
        return Context(self)


def open_stand_in(
    folder: Path, gpu: GpuDriver, module: nn.Module, dim: int, *, dtype: str = "uint8", view: int = 224,
    before: Callable[[bool], bool] | None = None,
) -> TrtBackend:  # fmt: skip
    """A TrtBackend over `module`, which maps (N, view, view, 3) of `dtype` to (N, dim) float32."""
    engine = Engine(gpu, module, dim, dtype, view, before)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            pass

        def deserialize_cuda_engine(self, data: bytes) -> Engine:
            return engine

    class Logger:
        Severity = SimpleNamespace(WARNING=2)

    vendor = SimpleNamespace(
        __version__="stand-in", ILogger=Logger, Runtime=Runtime, TensorIOMode=SimpleNamespace(INPUT=True),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="USER_MANAGED"), nptype=lambda dtype: dtype,
    )  # fmt: skip
    plan = folder / f"{dtype}.plan"
    plan.write_text(json.dumps({"stand-in": True}))
    return TrtBackend(plan, Library("tensorrt", vendor), gpu)
