"""A stand-in for NVIDIA's runtime that has exactly the names of one real version, over a GPU in memory."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import glass_rt.backends.cuda
from glass_rt.backends.trt.backend import TrtBackend
from glass_rt.backends.trt.library import Library
from tests.fake_gpu import FakeGpu

NAMES: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("vendor_names.json").read_text())
SIZE, DIM = 8, 6  # small views and embeddings: the scheduling is the same
KERNELS = Path(str(glass_rt.backends.cuda.__file__)).parent / "kernels"
SHIM = """
#include <algorithm>
#include <cmath>
using std::max; using std::min;
#define __global__
#define __device__
struct Index { int x, y, z; };
static Index blockIdx, threadIdx, blockDim{256, 1, 1};
#include "%s"
#define EVERY(call) for (blockIdx.y = 0; blockIdx.y < ny; ++blockIdx.y) \\
  for (blockIdx.x = 0; blockIdx.x < nx; ++blockIdx.x) \\
  for (threadIdx.x = 0; threadIdx.x < 256; ++threadIdx.x) call
extern "C" void crops(int nx, int ny, uint8_t* i, int w, int* b, int s, uint8_t* o) {
  EVERY(gather_crops(i, w, b, s, o));
}
extern "C" void rows(int nx, int ny, uint8_t* i, int h, int w, int s, float* o) { EVERY(reduce_rows(i, h, w, s, o)); }
extern "C" void columns(int nx, int ny, float* i, int w, int s, float* o) { EVERY(reduce_columns(i, w, s, o)); }
"""
PROFILES = ((1, 10, 16), (1, 64, 64))


def embedding_of(views: NDArray[Any]) -> NDArray[np.float32]:
    """A stand-in engine's function: every row depends on its own view alone, and differs for every view."""
    flat = views.reshape(len(views), int(np.prod(views.shape[1:]))).astype(np.float32)
    if flat.shape[1] > SIZE * SIZE * 3:  # views of real size: the means of pieces will do
        flat = flat.reshape(len(views), SIZE * SIZE * 3, -1).mean(axis=2)
    weights = np.sin(np.arange(flat.shape[1] * DIM, dtype=np.float32)).reshape(-1, DIM)
    result: NDArray[np.float32] = flat @ weights
    return result


def vendor_class(version: str, name: str, **members: Any) -> type:
    """A class with names of the real one only; access to any other name fails."""
    known = set(NAMES[version][name])
    public = {member for member in members if not member.startswith("_")}
    absent = public - known
    return type(name, (), {member: value for member, value in members.items() if member not in absent})


def stand_in(version: str, gpu: FakeGpu, faults: dict[str, Any]) -> Any:
    """The vendor's module. `faults`: `refuse_context`, `refuse_run` (the number of runs that succeed before)."""
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
            with np.errstate(all="ignore"):  # rows past the batch hold old content
                rows = embedding_of(np.nan_to_num(views))
            gpu.bytes_at(context._addresses["embedding"], rows.nbytes)[:] = rows.view(np.uint8).reshape(-1)

        gpu.enqueue(stream, work)
        return True

    def new_context(engine: Any, _config: Any) -> Any:
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
    cache_class = None
    if rtx:
        cache_class = vendor_class(
            version,
            "IRuntimeCache",
            deserialize=lambda self, data: faults.__setitem__("cache read", bytes(data)),
            serialize=lambda self: b"compiled for this GPU",
        )
    config_members: dict[str, Any] = {
        "set_execution_context_allocation_strategy": lambda self, strategy: None,
        "cuda_graph_strategy": None,
        "create_runtime_cache": lambda self: cache_class() if cache_class else None,
        "set_runtime_cache": lambda self, cache: setattr(self, "_cache", cache),
        "get_runtime_cache": lambda self: self._cache,
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
        get_tensor_shape=lambda self, name: (-1, *self._plan["view"]) if name == "pixels" else (-1, DIM),
        get_tensor_profile_shape=lambda self, name, index: [
            (size, *self._plan["view"]) for size in self._plan["profiles"][index]
        ],
        get_device_memory_size_for_profile_v2=lambda self, index: self._plan["scratch"][index],
        create_runtime_config=lambda self: config_class() if config_class else None,
        create_execution_context=new_context,
    )

    def deserialise(_runtime: Any, data: bytes) -> Any:
        if not data.startswith(b"{"):
            faults["logger"].log(1, "deserializeCudaEngine: magic tag does not match")
            return None
        return engine_class(json.loads(data))

    logger = type("ILogger", (), {"Severity": SimpleNamespace(WARNING=2), "__init__": lambda self: None})
    module = {
        "ILogger": logger,
        "Runtime": type(
            "Runtime",
            (vendor_class(version, "Runtime", deserialize_cuda_engine=deserialise),),
            {"__init__": lambda self, log: faults.__setitem__("logger", log)},
        ),
        "TensorIOMode": SimpleNamespace(INPUT=True),
        "ExecutionContextAllocationStrategy": SimpleNamespace(USER_MANAGED="USER_MANAGED"),
        "CudaGraphStrategy": SimpleNamespace(WHOLE_GRAPH_CAPTURE="WHOLE_GRAPH_CAPTURE"),
        "ComputeCapability": SimpleNamespace(),
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


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def vendor_names() -> dict[str, dict[str, list[str]]]:
    """Names by version and class; those of the module itself under "". See record_vendor_names.py."""
    return NAMES


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "host.cpp").write_text(SHIM % (KERNELS / "views.cu"))
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(folder / "host.so"), str(folder / "host.cpp")]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "host.so"))
