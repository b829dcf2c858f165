"""ONNX Runtime's execution providers: one row for each, with what it needs.

Sources: onnxruntime.ai, "Execution Providers", the pages of CUDA, CoreML, DirectML and XNNPACK.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from glass_rt.backends.ort_cuda import CUDA, preload_libraries, why_not_cuda
from glass_rt.backends.ort_plugin import plugin_device
from glass_rt.errors import BackendError
from glass_rt.machine.device import Device
from glass_rt.machine.environment import usable_cores

CPU = "CPUExecutionProvider"
# Plug-ins that take any batch size; of others it is not known, so that their graphs get one that is fixed.
_TAKE_ANY_BATCH = ("CUDAExecutionProvider", "OpenVINOExecutionProvider", "WebGpuExecutionProvider")

Options = Mapping[str, str | int]


@dataclass(frozen=True)
class Provider:
    """What an execution provider needs.

    `name`: ONNX Runtime's name of it (empty: a plug-in's library tells). `options`: of the provider, by the device and
    the threads that a run may use (None: as many as there are cores). `prepare` is called with the module and the
    session's options before a session is opened. `missing` says why it is not there, and what to do, as a clause.
    `fixed_batch`: it compiles for shapes, or is fast for known ones alone. `memory`: the device's name in IO bindings,
    where inputs and outputs lie there.
    """

    name: str
    options: Callable[[Device, int | None], Options] = lambda device, threads: {}
    prepare: Callable[[Any, Any], None] = lambda ort, options: None
    missing: Callable[[Any], str] = lambda ort: "it is not in this build"
    fixed_batch: bool = False
    memory: str | None = None


@dataclass(frozen=True)
class Selected:
    """A provider that is there: its `name`, what sessions get as their `providers`, and whether its batch is fixed.

    `providers` is None where the session's options hold the provider.
    """

    name: str
    providers: list[tuple[str, dict[str, Any]]] | None
    fixed_batch: bool


def _cuda_options(device: Device, threads: int | None) -> Options:
    """Float32 stays float32. Convolutions are chosen by rule: the default tries all, for each new batch size."""
    return {"device_id": device.index, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}


def _core_ml_options(device: Device, threads: int | None) -> Options:
    """The older format of models has no LayerNormalization; sums stay in float32 unless one asks for less."""
    return {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL", "RequireStaticInputShapes": "1"}


def _direct_ml(ort: Any, options: Any) -> None:
    """It plans its memory itself, and runs one operator after the other."""
    options.enable_mem_pattern = False
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL


def _one_thread(ort: Any, options: Any) -> None:
    """XNNPACK has threads of its own, which ONNX Runtime's would take the cores from."""
    options.intra_op_num_threads = 1


def _not_in(package: str) -> Callable[[Any], str]:
    def missing(ort: Any) -> str:
        return f"the onnxruntime {ort.__version__} installed here has {', '.join(_useful(ort))}; {package}"

    return missing


PROVIDERS: Mapping[str, Provider] = {
    "cpu": Provider(CPU),
    "cuda": Provider(
        CUDA,
        options=_cuda_options,
        prepare=lambda ort, options: preload_libraries(ort),
        missing=why_not_cuda,
        memory="cuda",
    ),
    "coreml": Provider(
        "CoreMLExecutionProvider",
        options=_core_ml_options,
        missing=_not_in("Core ML is in its packages for macOS: pip install onnxruntime on a Mac"),
        fixed_batch=True,
    ),
    "dml": Provider(
        "DmlExecutionProvider",
        options=lambda device, threads: {"device_id": device.index},
        prepare=_direct_ml,
        missing=_not_in("on Windows: pip uninstall onnxruntime; pip install onnxruntime-directml"),
        fixed_batch=True,
    ),
    "xnnpack": Provider(
        "XnnpackExecutionProvider",
        options=lambda device, threads: {"intra_op_num_threads": threads or usable_cores()},
        prepare=_one_thread,
        missing=_not_in("no package of it for Python has XNNPACK: build ONNX Runtime with --use_xnnpack"),
    ),
    "plugin": Provider("", missing=lambda ort: "it did not take the plug-in", fixed_batch=True),
}


def select_provider(ort: Any, options: Any, device: Device, threads: int | None) -> Selected:
    """Prepares the options of a session for the provider of `device`, whose own options go before the row's.

    Raises BackendError where it is not there, and UsageError for a device of a plug-in that is not.
    """
    row = PROVIDERS[device.kind]
    row.prepare(ort, options)
    chosen = {**row.options(device, threads), **dict(device.options)}
    if device.kind == "plugin":
        found = plugin_device(ort, device)
        options.add_provider_for_devices([found], {key: str(value) for key, value in chosen.items()})
        return Selected(found.ep_name, None, found.ep_name not in _TAKE_ANY_BATCH)
    if not _is_here(ort, row.name):
        raise not_running(ort, CPU, device)
    return Selected(row.name, [(row.name, chosen)], row.fixed_batch)


def not_running(ort: Any, running: str, device: Device, wanted: str = "") -> BackendError:
    """The error for a session that runs on another provider: ONNX Runtime falls back to the CPU in silence."""
    row = PROVIDERS[device.kind]
    return BackendError(
        f"ONNX Runtime runs on {running}, not on the {wanted or row.name} asked for: {row.missing(ort)}"
    )


def _is_here(ort: Any, name: str) -> bool:
    """Whether the build has a provider, or a library that was loaded brings it, as newer packages do with CUDA's."""
    if name in ort.get_available_providers():
        return True
    return hasattr(ort, "get_ep_devices") and any(device.ep_name == name for device in ort.get_ep_devices())


def _useful(ort: Any) -> list[str]:
    """The providers of this build, without Azure's, which sends models elsewhere."""
    return [name for name in ort.get_available_providers() if name != "AzureExecutionProvider"]
