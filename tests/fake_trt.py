"""A stand-in for NVIDIA's runtime that has exactly the names of one real version, over a GPU in memory."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glass_rt.backends.trt.backend import TrtBackend
from glass_rt.backends.trt.library import Library
from tests.fake_gpu import FakeGpu

RECORDED = Path(__file__).parent / "glass_rt" / "backends" / "vendor_names.json"
NAMES: dict[str, dict[str, list[str]]] = json.loads(RECORDED.read_text())
HEADER_SIZE = 64
LAYERS = '{"Layers": [{"Name": "cast", "LayerType": "kgen"}, {"TacticName": "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n"}]}'
SIZE, DIM = 8, 6  # small views and embeddings: the scheduling is the same
PROFILES = ((1, 10, 16), (1, 64, 64))


def embedding_of(views: NDArray[Any]) -> NDArray[np.float32]:
    """What a stand-in engine computes: every row from its own view alone, and different for every view."""
    flat = views.reshape(len(views), int(np.prod(views.shape[1:]))).astype(np.float32)
    if flat.shape[1] > SIZE * SIZE * 3:  # views of real size: the means of pieces will do
        flat = flat.reshape(len(views), SIZE * SIZE * 3, -1).mean(axis=2)
    weights = np.sin(np.arange(flat.shape[1] * DIM, dtype=np.float32)).reshape(-1, DIM)
    result = np.empty((len(flat), DIM), np.float32)
    for row, values in enumerate(flat):  # one product of all rows may round a row by how many there are
        result[row] = values @ weights
    return result


def vendor_class(version: str, name: str, **members: Any) -> type:
    """A class whose members must be names of the real one; what the real one lacks cannot be reached."""
    known = set(NAMES[version][name])
    public = {member for member in members if not member.startswith("_")}
    absent = public - known
    return type(name, (), {member: value for member, value in members.items() if member not in absent})


Compute: TypeAlias = Callable[[dict[str, Any], NDArray[Any]], NDArray[np.float32]]  # of a plan and views


def stand_in(version: str, gpu: FakeGpu, faults: dict[str, Any], compute: Compute | None = None) -> Any:
    """The vendor's module. `faults`: `refuse_context`, `refuse cache`, `refuse_run` (a number of runs that go well).

    `compute` is what engines compute, `embedding_of` by default.
    """
    rtx = version.startswith("tensorrt_rtx")

    def execute(context: Any, stream: int) -> bool:
        if faults.get("refuse_run", 1) == 0:
            faults["logger"].log(1, "enqueueV3: Error Code 1: something about cudnn")
            return False
        faults["refuse_run"] = faults.get("refuse_run", 1 << 30) - 1
        shape, plan = context._shape, context._engine._plan
        low, _, high = plan["profiles"][context._profile]
        assert low <= shape[0] <= high, "a batch outside of its profile"
        assert context._memory[1] >= plan["scratch"][context._profile], "too little scratch memory"
        dtype = np.dtype(plan["dtype"])

        def work() -> None:
            nbytes = int(np.prod(shape)) * dtype.itemsize
            views = gpu.bytes_at(context._addresses["pixels"], nbytes).view(dtype).reshape(shape)
            with np.errstate(all="ignore"):  # rows past the batch are whatever was there
                views = np.nan_to_num(views)
                rows = embedding_of(views) if compute is None else compute(plan, views)
            gpu.bytes_at(context._addresses["embedding"], rows.nbytes)[:] = rows.view(np.uint8).reshape(-1)

        gpu.enqueue(stream, work)
        return True

    def new_context(engine: Any, _config: Any) -> Any:
        assert not rtx or faults["cache"]() is not None, "the cache must outlive every context"
        return None if faults.get("refuse_context") else context_class(engine)

    def init_context(self: Any, engine: Any) -> None:
        self._engine, self._profile, self._shape, self._memory = engine, 0, (), (0, 0)
        self._addresses = dict[str, int]()

    def put(name: str) -> Callable[..., bool]:
        def setter(self: Any, *values: Any) -> bool:
            if name == "_addresses":
                self._addresses[values[0]] = values[1]
            else:
                setattr(self, name, values[1] if name == "_shape" else values if name == "_memory" else values[0])
            return True

        return setter

    context_class = vendor_class(
        version,
        "IExecutionContext",
        __init__=init_context,
        set_device_memory=put("_memory"),
        set_optimization_profile_async=put("_profile"),
        set_input_shape=put("_shape"),
        set_tensor_address=put("_addresses"),
        execute_async_v3=execute,
    )

    def serialise_cache(cache: Any) -> bytes:
        assert faults["cache"]() is cache, "the configuration holds a cache that is gone"
        if faults.get("refuse cache"):
            raise RuntimeError("serialize: Error Code 3: API usage")
        return b"compiled for this GPU"

    def deserialise_cache(_cache: Any, data: bytes) -> bool:
        faults["cache read"] = bytes(data)
        return True

    def set_cache(_config: Any, cache: Any) -> None:
        faults["cache"] = weakref.ref(cache)  # the vendor's configuration points to it, and does not keep it alive

    cache_class = None
    if rtx:
        cache_class = vendor_class(
            version,
            "IRuntimeCache",
            deserialize=deserialise_cache,
            serialize=serialise_cache,
        )
    config_members: dict[str, Any] = {
        "set_execution_context_allocation_strategy": lambda self, strategy: None,
        "cuda_graph_strategy": None,
        "create_runtime_cache": lambda self: cache_class() if cache_class else None,
        "dynamic_shapes_kernel_specialization_strategy": property(
            lambda self: None, lambda self, strategy: faults.__setitem__("specialisation", strategy)
        ),
        "set_runtime_cache": set_cache,
    }
    has_config = "IRuntimeConfig" in NAMES[version]
    config_class = vendor_class(version, "IRuntimeConfig", **config_members) if has_config else None
    tensors = ("pixels", "embedding")
    engine_class = vendor_class(
        version,
        "ICudaEngine",
        __init__=lambda self, plan: setattr(self, "_plan", plan),
        num_io_tensors=2,
        num_optimization_profiles=property(lambda self: len(self._plan["profiles"])),
        get_tensor_name=lambda self, index: tensors[index],
        get_tensor_mode=lambda self, name: name == "pixels",
        get_tensor_dtype=lambda self, name: self._plan["dtype"] if name == "pixels" else "float32",
        get_tensor_shape=lambda self, name: (
            (-1, *self._plan["view"]) if name == "pixels" else (-1, self._plan.get("dim", DIM))
        ),
        get_tensor_profile_shape=lambda self, name, index: [
            (size, *self._plan["view"]) for size in self._plan["profiles"][index]
        ],
        get_device_memory_size_for_profile_v2=lambda self, index: self._plan["scratch"][index],
        create_engine_inspector=lambda self: SimpleNamespace(get_engine_information=lambda _format: LAYERS),
        create_runtime_config=lambda self: config_class() if config_class else None,
        create_execution_context=new_context,
    )

    def deserialise(_runtime: Any, data: bytes) -> Any:
        if not data.startswith(b"{"):
            faults["logger"].log(1, "deserializeCudaEngine: magic tag does not match")
            return None
        return engine_class(json.loads(data))

    def validity(_runtime: Any, header: bytes) -> tuple[Any, int]:
        assert len(header) <= HEADER_SIZE, "no more than the header is asked about"
        found = faults.get("diagnosis", 0)
        return faults.get("validity", "INVALID" if found else "VALID"), found

    logger = type("ILogger", (), {"Severity": SimpleNamespace(WARNING=2), "__init__": lambda self: None})
    runtime_members: dict[str, Any] = {
        "deserialize_cuda_engine": deserialise, "get_engine_validity": validity, "engine_header_size": HEADER_SIZE,
    }  # fmt: skip
    module = {
        "ILogger": logger,
        "Runtime": type(
            "Runtime",
            (vendor_class(version, "Runtime", **runtime_members),),
            {"__init__": lambda self, log: faults.__setitem__("logger", log)},
        ),
        "TensorIOMode": SimpleNamespace(INPUT=True),
        "ExecutionContextAllocationStrategy": SimpleNamespace(USER_MANAGED="USER_MANAGED"),
        "CudaGraphStrategy": SimpleNamespace(WHOLE_GRAPH_CAPTURE="WHOLE_GRAPH_CAPTURE"),
        "ComputeCapability": SimpleNamespace(),
        "EngineValidity": SimpleNamespace(VALID="VALID", SUBOPTIMAL="SUBOPTIMAL", INVALID="INVALID"),
        "DynamicShapesKernelSpecializationStrategy": SimpleNamespace(EAGER="EAGER"),
        "LayerInformationFormat": SimpleNamespace(JSON="JSON"),
        "nptype": lambda name: np.dtype(name),
    }
    known = set(NAMES[version][""])
    return SimpleNamespace(
        __version__=version.split()[1], **{name: value for name, value in module.items() if name in known}
    )


class Bench:
    """Makes backends over one GPU in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: dict[str, Any] = {}

    def open(
        self,
        gpu: FakeGpu,
        version: str = "tensorrt 11.4.0",
        *,
        role: str = "local",
        profiles: tuple[tuple[int, int, int], ...] = PROFILES,
        scratch: int = 1 << 20,
        view: int = SIZE,
    ) -> TrtBackend:
        plan = {
            "profiles": profiles,
            "scratch": [scratch * (index + 1) for index in range(len(profiles))],
            "dtype": "uint8" if role == "local" else "float32",
            "view": (view, view, 3),
        }
        path = self.folder / f"{role}.plan"
        path.write_text(json.dumps(plan))
        return TrtBackend(path, self.library(version, gpu), gpu)

    def library(self, version: str, gpu: FakeGpu) -> Library:
        return Library(version.split()[0], stand_in(version, gpu, self.faults))

    @staticmethod
    def views(count: int, seed: int = 0, role: str = "local") -> NDArray[Any]:
        generator = np.random.default_rng(seed)
        views = generator.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
        return views if role == "local" else views.astype(np.float32)

    @staticmethod
    def expected(views: NDArray[Any]) -> NDArray[np.float32]:
        return embedding_of(views)
