"""What a dry run of the GPU kit runs on: a GPU in memory, and stand-ins for TensorRT and nvImageCodec on the CPU.

A kernel does what the real one does, in NumPy. An engine is the very graph that a library of NVIDIA's would compile,
run by ONNX Runtime; the backbone is a tiny one. A decoder is this project's own. $FAULT plants a wrong number under them.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_rt.bundle.requirements import Shapes
from glass_rt.errors import BackendError, GlassError
from glass_rt.image.resize import resize_antialiased
from tests.fake_gpu import FakeGpu
from tests.fake_trt import stand_in

FAULT = "GLASS_RT_GPU_KIT_FAULT"  # `kernel`, `engine` or `decoder`: gives numbers that are a little wrong
VERSION = "11.4.0"
NAME, CAPABILITY, DRIVER_MEMORY = "GPU in memory", "8.9", 1 << 33


def planted(fault: str) -> bool:
    return os.environ.get(FAULT) == fault


# The GPU ------------------------------------------------------------------------------------------


def open_device(index: int = 0) -> FakeGpu:
    """The one GPU that is there. Raises BackendError as the seam to a real driver does."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "-1":
        raise BackendError("the NVIDIA driver is installed, but does not start (cuInit: NO_DEVICE)")
    if index:
        raise BackendError(f"device: cuda:{index} is not there; this machine has 1 NVIDIA GPU(s)")
    return _in_memory()


@cache
def _in_memory() -> FakeGpu:
    """One for the whole process, as a real one's context is: closing it is not meant."""
    gpu = FakeGpu(DRIVER_MEMORY)
    gpu.name, gpu.compute_capability = NAME, CAPABILITY
    gpu.close = lambda: None  # type: ignore[method-assign]
    gpu.kernels.update(_kernels(gpu))
    return gpu


def _kernels(gpu: FakeGpu) -> dict[str, Callable[..., None]]:
    """Those of views.cu."""
    last: dict[str, Any] = {}
    wrong = int(planted("kernel"))

    def gather(grid: Any, _block: Any, arguments: tuple[Any, ...]) -> None:
        image, width, boxes, size, out = map(int, arguments)
        table = gpu.bytes_at(boxes, 16 * grid[1]).view(np.int32).reshape(-1, 4).tolist()
        for index, (left, top, wide, high) in enumerate(table):
            crop = gpu.bytes_at(out + index * size * size * 3, size * size * 3).reshape(size, size, 3)
            crop[:] = 0
            for row in range(high):
                start = image + ((top + row) * width + left) * 3
                crop[row, :wide] = gpu.bytes_at(start, 3 * wide).reshape(-1, 3) ^ wrong

    def rows(_grid: Any, _block: Any, arguments: tuple[Any, ...]) -> None:
        image, width, size, taps, _out = map(int, arguments)
        first, count, _ = gpu.bytes_at(taps, 12 * size).view(np.int32)[-3:].tolist()
        height = first + count  # the last row of the view takes the last one of the image
        last["pixels"] = gpu.bytes_at(image, height * width * 3).reshape(height, width, 3)

    def columns(_grid: Any, _block: Any, arguments: tuple[Any, ...]) -> None:
        _rows, _width, size, _taps, out = map(int, arguments)
        view = resize_antialiased(last["pixels"], size) + wrong
        gpu.bytes_at(out, view.nbytes)[:] = view.reshape(-1).view(np.uint8)

    return {"gather_crops": gather, "reduce_rows": rows, "reduce_columns": columns}


# What is put in place of NVIDIA's libraries -------------------------------------------------------


def install() -> None:
    """For the life of this process, which keeps to one core: steps are small, and idle threads of OpenMP spin."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import glass_rt.backends.cuda
    from glass_rt.machine import environment as module
    from glass_rt.machine.cuda_driver import CudaDevice

    glass_rt.backends.cuda._opener = lambda access: open_device
    environment: Any = module  # whose names are not for others
    environment.cuda_devices = lambda: (CudaDevice(NAME, CAPABILITY, DRIVER_MEMORY),)
    sys.modules["nvidia.nvimgcodec"] = _nvimgcodec()
    _install_tensorrt()
    sys.meta_path.insert(0, _TinyBackbones())
    _put_on_path({"compute-sanitizer": SANITIZER})


class _TinyBackbones(MetaPathFinder):
    """Adds the tests' tiny backbones to the table as soon as it is imported, which takes long and few steps do."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "glass_export.backbones":
            return None
        found = PathFinder.find_spec(name, path)
        assert found is not None
        assert found.loader is not None
        execute = found.loader.exec_module

        def and_add(module: ModuleType) -> None:
            execute(module)
            from tests.glass_train.tiny import register

            register()

        found.loader.exec_module = and_add  # type: ignore[method-assign]
        return found


SANITIZER = """#!/bin/sh
# Runs what it is given to watch, and finds nothing.
tool=$2
[ "$1" = --version ] && { echo "a stand-in"; exit; }
while [ "$1" != "-m" ]; do last=$1; shift; done
"$last" "$@" && echo "========= ERROR SUMMARY: 0 errors ($tool)"
"""


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Goes with this process."""
    return tempfile.TemporaryDirectory(prefix="gpu-kit-")


def _put_on_path(scripts: dict[str, str]) -> None:
    folder = Path(_folder().name)
    for name, script in scripts.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"


def _module(name: str) -> ModuleType:
    """An empty one, with the specification that others look for."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    return module


def _install_tensorrt() -> None:
    """The vendor's module, its distribution, and a builder whose plans keep the graph as it is."""
    from glass_engines.trt import compiler as builds

    module = _module("tensorrt")
    module.__dict__.update(vars(stand_in(f"tensorrt {VERSION}", _in_memory(), {}, _computed)))
    sys.modules["tensorrt"] = module
    folder = Path(_folder().name)
    (folder / f"tensorrt-{VERSION}.dist-info").mkdir()
    metadata = f"Metadata-Version: 2.1\nName: tensorrt\nVersion: {VERSION}\n"
    (folder / f"tensorrt-{VERSION}.dist-info" / "METADATA").write_text(metadata)
    sys.path.append(str(folder))
    compiler: Any = builds
    compiler.plan_from_onnx = _plan_from_onnx


def _plan_from_onnx(_build: Any, graph: Path, engine: Path, shapes: Sequence[Shapes]) -> None:
    pixels, embedding = (ends[0] for ends in (_session(graph).get_inputs(), _session(graph).get_outputs()))
    plan = {
        "profiles": [(item.low, item.best, item.high) for item in shapes], "scratch": [1 << 20] * len(shapes),
        "dtype": {"tensor(uint8)": "uint8", "tensor(float)": "float32"}[pixels.type], "view": pixels.shape[1:],
        "dim": embedding.shape[1], "graph": base64.b64encode(graph.read_bytes()).decode(),
    }  # fmt: skip
    engine.write_text(json.dumps(plan))


@cache
def _session(graph: Path | str) -> Any:
    """Of a file, or of a plan's text."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = str(graph) if isinstance(graph, Path) else base64.b64decode(graph)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _computed(plan: dict[str, Any], views: NDArray[Any]) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = _session(plan["graph"]).run(None, {"pixels": views})[0]
    rows[:, 0] += np.abs(rows).max() * planted("engine")
    return rows


def _nvimgcodec() -> ModuleType:
    """As far as step 5 uses it."""

    class Decoder:
        def __init__(self, **_options: Any) -> None:
            pass

        def decode(self, streams: Sequence[bytes], **_options: Any) -> list[Any]:
            return [_image(data) for data in streams]

    module = _module("nvidia.nvimgcodec")
    kinds = ("CPU_ONLY", "GPU_ONLY", "HYBRID_CPU_GPU", "HW_GPU_ONLY")
    module.__dict__.update(
        {kind: kind for kind in kinds}, Backend=str, Decoder=Decoder, CodeStream=bytes, NVIMGCODEC_DEVICE_CPU_ONLY=-99999,
        DecodeParams=SimpleNamespace, ColorSpec=SimpleNamespace(SRGB="SRGB"),
    )  # fmt: skip
    return module


def _image(data: bytes) -> Any:
    """None where it cannot be decoded whole."""
    from glass_rt.image.encoded import load

    try:
        pixels = load(data).pixels ^ np.uint8(planted("decoder"))
    except GlassError:
        return None
    return SimpleNamespace(cpu=lambda: pixels)
