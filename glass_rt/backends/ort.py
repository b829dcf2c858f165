"""Engines run by ONNX Runtime, on the CPU or through its CUDA provider."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import closing, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from glass_rt.backends.base import Array, TensorSpec, check_feeds
from glass_rt.backends.mapped_weights import MappedWeights
from glass_rt.bundle.checked_files import EngineFile
from glass_rt.errors import BackendError, GlassError, first_line, import_failure, vendor_failure
from glass_rt.machine.cuda_driver import cuda_devices
from glass_rt.machine.device import device_from_text
from glass_rt.machine.environment import limited_cores
from glass_rt.machine.extras import BACKEND_EXTRAS, install_command
from glass_rt.machine.regular_file import RegularFile
from glass_rt.machine.telemetry import keep_silent
from glass_rt.machine.utf8_path import utf8_path

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_NO_FALLBACK = {"enable_fallback": 0}  # which prints on standard output, and runs where nobody asked for it
_ERRORS_ONLY = 3  # ONNX Runtime's log severity
CUDA = "CUDAExecutionProvider"
_SHAPES_KEPT = 4  # of inputs on a device: the batch sizes of packs are few, full runs and a rest


def load_onnxruntime() -> Any:
    """The onnxruntime module; raises MissingDependency with the command that installs it."""
    keep_silent()
    try:
        import onnxruntime
    except ImportError as error:
        raise import_failure(error, "onnxruntime", BACKEND_EXTRAS["onnxruntime"], "this engine") from None
    return onnxruntime


def providers_for(device: str) -> list[tuple[str, dict[str, Any]]]:
    """ONNX Runtime's execution provider for `cpu`, `cuda` or `cuda:N`, with its options.

    On CUDA float32 stays float32, and convolutions are chosen by rule: the default tries every algorithm, once for each
    new batch size.
    """
    chosen = device_from_text(device, ("cpu", "cuda"), "ONNX Runtime")
    if chosen.kind == "cpu":
        return [("CPUExecutionProvider", {})]
    return [(CUDA, {"device_id": chosen.index, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"})]


class OnnxRuntimeBackend:
    """A Backend on one ONNX Runtime session."""

    def __init__(self, engine: Path | EngineFile, *, device: str = "cpu", threads: int | None = None) -> None:
        ort = load_onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.use_deterministic_compute = True
        options.intra_op_num_threads = threads or limited_cores() or 0  # 0: a thread per physical core
        # Threads that wait without work would take the cores from those that decode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.load_model_format", "ONNX")  # whose references are checked
        providers = providers_for(device)
        if providers[0][0] == CUDA:
            preload_libraries(ort)
        source = EngineFile.of(engine)
        try:
            self._session = _session(ort, source, options, providers)
        except GlassError:
            raise
        except Exception as error:  # the library raises a dozen unrelated types
            raise vendor_failure("ONNX Runtime", f"open {source.path}", error) from error
        wanted, running = providers[0][0], self._session.get_providers()[0]
        if running != wanted:  # the library falls back to the CPU in silence
            raise BackendError(f"ONNX Runtime runs on {running}, not on the {wanted} asked for: {why_not_cuda(ort)}")
        # Where inputs and outputs lie; None on the CPU, where there is nothing to gain.
        self._bound_to = ("cuda", int(providers[0][1]["device_id"])) if wanted == CUDA else None
        self._on_device: dict[tuple[str, tuple[int, ...]], Any] = {}
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the session; arrays are C-contiguous and copied by the library where it must."""
        check_feeds(self.inputs, feeds)
        names = [spec.name for spec in self.outputs]
        try:
            arrays = (
                self._run_bound(names, feeds, *self._bound_to)
                if self._bound_to
                else self._session.run(names, dict(feeds))
            )
        except Exception as error:
            raise vendor_failure("ONNX Runtime", "run the engine", error) from error
        return dict(zip(names, arrays, strict=True))

    def _run_bound(self, names: list[str], feeds: Mapping[str, Array], device: str, index: int) -> list[Array]:
        """Through an IO binding: inputs are copied into device memory that stays, outputs copied back."""
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_ortvalue_input(name, self._copied_in(name, np.ascontiguousarray(array), device, index))
        for name in names:
            binding.bind_output(name, device, index)
        self._session.run_with_iobinding(binding)
        arrays: list[Array] = binding.copy_outputs_to_cpu()
        return arrays

    def _copied_in(self, name: str, array: Array, device: str, index: int) -> Any:
        """The array in memory of the device, that of the last run of this shape where there was one."""
        key = (name, array.shape)
        kept = self._on_device.pop(key, None)
        if kept is None:
            kept = load_onnxruntime().OrtValue.ortvalue_from_numpy(array, device, index)
        else:
            kept.update_inplace(array)
        self._on_device[key] = kept  # the last used comes last
        while len(self._on_device) > _SHAPES_KEPT:
            del self._on_device[next(iter(self._on_device))]
        return kept

    def close(self) -> None:
        """Drops the session; its memory goes with the last reference."""
        self._on_device.clear()
        self.__dict__.pop("_session", None)


def preload_libraries(ort: Any) -> None:
    """Has the library find CUDA's and cuDNN's libraries in Python packages (PyTorch's too); older ones cannot.

    What it does not find it prints; the provider's own error, which `why_not_cuda` gives, is the one to read.
    """
    preload = getattr(ort, "preload_dlls", None)
    if preload is None:
        return
    with redirect_stdout(StringIO()):
        preload()


def why_not_cuda(ort: Any) -> str:
    """Why ONNX Runtime did not take its CUDA provider, and what to do: one clause.

    The library says it on standard error alone, so the same is looked for here: a package without CUDA, no driver, or
    a library of CUDA or cuDNN that the provider needs and the system does not find.
    """
    if CUDA not in ort.get_available_providers():
        return (
            f"the onnxruntime {ort.__version__} installed here is made for CPUs, and takes the place of the one for "
            f"CUDA: pip uninstall onnxruntime; {install_command('gpu')}"
        )
    provider = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    missing = _cannot_load(provider)
    if not cuda_devices():
        also = f"; besides, {missing}" if missing and "libcuda.so" not in missing else ""
        return f"no NVIDIA driver starts here, or this process sees no GPU (nvidia-smi must list it){also}"
    if missing:
        return f"{missing}. The extra brings CUDA's libraries and cuDNN: {install_command('gpu')} --upgrade"
    return "its CUDA libraries load, so the driver may be too old for them; onnxruntime.print_debug_info() lists both"


def _cannot_load(provider: Path) -> str:
    """What the system says of a provider's library; empty where it loads, or is not there to be tried."""
    shared = provider.with_name("libonnxruntime_providers_shared.so")
    if not provider.is_file():
        return ""
    try:
        ctypes.CDLL(str(shared), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(provider))
    except OSError as error:
        return first_line(error)
    return ""


def _session(ort: Any, engine: EngineFile, options: Any, providers: list[tuple[str, dict[str, Any]]]) -> Any:
    if engine.files is None:
        with utf8_path(engine.path) as path:
            return ort.InferenceSession(path, options, providers=providers, **_NO_FALLBACK)
    with closing(engine.open()) as file:
        weights = _weights_beside(engine, file)
        if weights:
            _give(ort, options, weights)
        # Bytes would do as well, but the library keeps those for as long as the session lives.
        content = file.library_path or file.read(file.size)
        return ort.InferenceSession(content, options, providers=providers, **_NO_FALLBACK)


def _weights_beside(engine: EngineFile, graph: RegularFile) -> dict[str, MappedWeights]:
    """What a graph takes from other files, by the locations that it names. Raises BundleInvalid for unlisted ones."""
    assert engine.files is not None, "an engine of no bundle is opened by its path"
    found = {}
    for location, name in engine.files.references(engine.name, graph).items():
        with closing(engine.files.open(name)) as file:
            found[location] = MappedWeights(file)
    return found


def _give(ort: Any, options: Any, weights: Mapping[str, MappedWeights]) -> None:
    """Hands weights over in memory: the library copies what it needs while it opens the session."""
    if not hasattr(options, "add_external_initializers_from_files_in_memory"):
        raise BackendError(
            f"ONNX Runtime {ort.__version__} takes no weights from memory, and this graph's lie in "
            f"{', '.join(weights)}: {install_command('cpu')} --upgrade, or write the graph as one file"
        )
    arrays = [mapped.array for mapped in weights.values()]
    options.add_external_initializers_from_files_in_memory(list(weights), arrays, [len(array) for array in arrays])


def _spec(node: Any) -> TensorSpec:
    if node.type not in _DTYPES:
        raise BackendError(f"{node.name}: {node.type} is not a type that engines of glass-rt have")
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return TensorSpec(node.name, np.dtype(_DTYPES[node.type]), shape)
