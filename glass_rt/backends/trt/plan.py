"""A deserialised TensorRT plan: its tensors and profiles, and ready-made contexts per batch size."""

from __future__ import annotations

from typing import Any

import numpy as np

from glass_rt.backends.base import TensorSpec
from glass_rt.backends.cuda.gpu import DeviceBuffer
from glass_rt.backends.trt.buckets import Bucket
from glass_rt.backends.trt.library import Library
from glass_rt.bundle.requirements import Shapes
from glass_rt.errors import BackendError


class TrtPlan:
    """One engine, for one worker.

    A captured graph holds its context's shapes and addresses. So each context is made for one batch size and one pair
    of buffers, and keeps them. `kept`: what RTX compiled for this GPU before, as `runtime_cache` gave it.
    """

    def __init__(self, library: Library, data: bytes, what: str, kept: bytes | None) -> None:
        self._library = library
        trt = library.trt
        with library.explained(BackendError, f"{library.name} cannot open {what}"):
            self._runtime = trt.Runtime(library.logger)
            library.check_validity(self._runtime, data, what)
            self._engine = self._runtime.deserialize_cuda_engine(data)
            if self._engine is None:
                raise BackendError(library.reason(f"{library.name} cannot open {what}"))
            self._config = library.runtime_config(self._engine)
            self._cache = library.open_cache(self._config, kept)
            specs = [self._spec(index) for index in range(self._engine.num_io_tensors)]
        self.inputs = tuple(spec for is_input, spec in specs if is_input)
        self.outputs = tuple(spec for is_input, spec in specs if not is_input)
        if len(self.inputs) != 1 or len(self.outputs) != 1 or self.outputs[0].dtype != np.float32:
            raise BackendError(f"{what} takes {self.inputs} and gives {self.outputs}; expected one, and one float32")
        self.profiles = tuple(self._shapes(index) for index in range(self._engine.num_optimization_profiles))

    @property
    def scratch_bytes(self) -> int:
        """Activation memory of the largest profile."""
        sizes = (self._engine.get_device_memory_size_for_profile_v2(index) for index in range(len(self.profiles)))
        return max(map(int, sizes))

    def context(
        self, bucket: Bucket, pixels: DeviceBuffer, embedding: DeviceBuffer, scratch: DeviceBuffer, stream: int
    ) -> Any:
        """A context of that batch size on those buffers. Raises BackendError with the vendor's log lines."""
        library, what = self._library, f"an execution context for batches of {bucket.size}"
        with library.explained(BackendError, f"{library.name} cannot make {what}"):
            context = library.create_context(self._engine, self._config)
            if context is None:
                raise BackendError(library.reason(f"{library.name} cannot make {what}"))
            context.set_device_memory(scratch.address, scratch.nbytes)
            shape = (bucket.size, *self.inputs[0].shape[1:])
            ready = (
                context.set_optimization_profile_async(bucket.profile, stream)
                and context.set_input_shape(self.inputs[0].name, shape)
                and context.set_tensor_address(self.inputs[0].name, pixels.address)
                and context.set_tensor_address(self.outputs[0].name, embedding.address)
            )
            if not ready:
                raise BackendError(library.reason(f"{library.name} refuses {what}"))
        return context

    def execute(self, context: Any, stream: int) -> None:
        """Puts one run on the stream. Raises BackendError with the vendor's log lines."""
        with self._library.explained(BackendError, f"{self._library.name} failed"):
            if not context.execute_async_v3(stream):
                raise BackendError(self._library.reason(f"{self._library.name} could not start a run"))

    def layers(self) -> str:
        """What the engine consists of on this GPU, layer by layer with its kernel: the vendor's JSON.

        NVIDIA documents no schema. The layers are those of the first profile. Raises BackendError.
        """
        trt, name = self._library.trt, self._library.name
        with self._library.explained(BackendError, f"{name} does not tell what the engine consists of"):
            inspector = self._engine.create_engine_inspector()
            return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def runtime_cache(self) -> bytes | None:
        """The kernels compiled for this GPU; None where the library compiles none at run time. Raises BackendError."""
        if self._cache is None:
            return None
        with self._library.explained(BackendError, f"{self._library.name} does not hand over what it compiled"):
            return bytes(memoryview(self._cache.serialize()))

    def close(self) -> None:
        """Drops the vendor's objects. The caller must have dropped the contexts before."""
        self._config = None
        self._cache = None  # outlives the contexts and their configuration
        self._engine = self._runtime = None

    def _spec(self, index: int) -> tuple[bool, TensorSpec]:
        trt, engine = self._library.trt, self._engine
        name = engine.get_tensor_name(index)
        shape = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
        return engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT, TensorSpec(name, dtype, shape)

    def _shapes(self, index: int) -> Shapes:
        low, best, high = self._engine.get_tensor_profile_shape(self.inputs[0].name, index)
        return Shapes(int(low[0]), int(best[0]), int(high[0]))
