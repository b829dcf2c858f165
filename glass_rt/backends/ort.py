"""Engines run by ONNX Runtime, on the execution provider that the device names (`ort_providers`)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from glass_rt.backends.base import Array, TensorSpec, check_feeds
from glass_rt.backends.fixed_batch import no_views, run_in_batches
from glass_rt.backends.mapped_weights import MappedWeights
from glass_rt.backends.ort_placement import check_placement, record_placement
from glass_rt.backends.ort_providers import PROVIDERS, Selected, not_running, select_provider
from glass_rt.bundle.checked_files import EngineFile
from glass_rt.errors import BackendError, GlassError, import_failure, vendor_failure
from glass_rt.machine.device import Device, device_for, is_cpu
from glass_rt.machine.environment import limited_cores
from glass_rt.machine.extras import BACKEND_EXTRAS, install_command
from glass_rt.machine.regular_file import RegularFile
from glass_rt.machine.telemetry import keep_silent
from glass_rt.machine.utf8_path import utf8_path

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_NO_FALLBACK = {"enable_fallback": 0}  # it prints on standard output, and runs on a provider that was not asked for
_ERRORS_ONLY = 3  # ONNX Runtime's log severity
_SHAPES_KEPT = 4  # of inputs on a device: the batch sizes of packs are few, full runs and a rest
_BATCH_AXIS = "N"  # the name of the first axis in every graph of glass-rt
_FIXED_BATCH = 4  # where a provider needs one and the caller names none


def load_onnxruntime() -> Any:
    """The onnxruntime module; raises MissingDependency with the command that installs it."""
    keep_silent()
    try:
        import onnxruntime
    except ImportError as error:
        raise import_failure(error, "onnxruntime", BACKEND_EXTRAS["onnxruntime"], "this engine") from None
    return onnxruntime


class OnnxRuntimeBackend:
    """A Backend on one ONNX Runtime session.

    Where the provider needs a fixed batch, the engine takes any number of views too: it is run as often as needed, and
    the last run is padded. `batch` is that size then, and means nothing elsewhere.
    """

    def __init__(
        self,
        engine: Path | EngineFile,
        *,
        device: str = "cpu",
        threads: int | None = None,
        batch: int | None = None,
    ) -> None:
        ort, chosen = load_onnxruntime(), device_for("onnxruntime", device)
        source = EngineFile.of(engine)
        try:
            self._session, self._fixed_batch = _opened(ort, source, chosen, threads, batch)
        except GlassError:
            raise
        except Exception as error:  # the library raises a dozen unrelated types
            raise vendor_failure("ONNX Runtime", f"open {source.path}", error) from error
        self._takes_no_views = is_cpu(device)  # of other providers it is not known
        # Where inputs and outputs lie; None in memory, where there is nothing to gain.
        memory = PROVIDERS[chosen.kind].memory
        self._bound_to = None if memory is None else (memory, chosen.index)
        self._on_device: dict[tuple[str, tuple[int, ...]], Any] = {}
        self.inputs = tuple(self._spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(self._spec(node) for node in self._session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the session; arrays are C-contiguous and copied by the library where it must."""
        check_feeds(self.inputs, feeds)
        count = len(feeds[self.inputs[0].name])
        if count == 0 and (self._fixed_batch or not self._takes_no_views):
            return no_views(self.outputs)
        if self._fixed_batch is None:
            return self._run(feeds)
        return run_in_batches(self._run, feeds, count, self._fixed_batch, self.outputs)

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
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

    def _spec(self, node: Any) -> TensorSpec:
        """A batch that is fixed for the provider's sake is free for the caller."""
        if node.type not in _DTYPES:
            raise BackendError(f"{node.name}: {node.type} is not a type that engines of glass-rt have")
        shape = tuple(size if isinstance(size, int) else None for size in node.shape)
        if self._fixed_batch is not None:
            if shape[:1] != (self._fixed_batch,):
                raise BackendError(f"{node.name}: its batch cannot be fixed, since its first axis is {node.shape[0]!r}")
            shape = (None, *shape[1:])
        return TensorSpec(node.name, np.dtype(_DTYPES[node.type]), shape)

    def close(self) -> None:
        """Drops the session; its memory goes with the last reference."""
        self._on_device.clear()
        self.__dict__.pop("_session", None)


def _session_options(ort: Any, threads: int | None) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.use_deterministic_compute = True
    options.intra_op_num_threads = threads or limited_cores() or 0  # 0: a thread per physical core
    # Threads that wait without work would take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # whose references are checked
    return options


def _opened(
    ort: Any, engine: EngineFile, device: Device, threads: int | None, batch: int | None
) -> tuple[Any, int | None]:
    """A session that computes on the device and nowhere else, and the batch that is fixed for it, if one is."""
    options = _session_options(ort, threads)
    provider = select_provider(ort, options, device, threads)
    fixed = (batch or _FIXED_BATCH) if provider.fixed_batch else None
    if fixed is not None:
        options.add_free_dimension_override_by_name(_BATCH_AXIS, fixed)
    elsewhere = device.kind != "cpu"
    if elsewhere:
        record_placement(ort, options, device)
    session = _session(ort, engine, options, provider)
    running = session.get_providers()[0]
    if running != provider.name:
        raise not_running(ort, running, device, provider.name)
    if elsewhere:
        check_placement(session, provider.name, device)
    return session, fixed


def _session(ort: Any, engine: EngineFile, options: Any, provider: Selected) -> Any:
    if engine.files is None:
        with utf8_path(engine.path) as path:
            return ort.InferenceSession(path, options, providers=provider.providers, **_NO_FALLBACK)
    with closing(engine.open()) as file:
        weights = _weights_beside(engine, file)
        if weights:
            _give(ort, options, weights)
        # Bytes would do as well, but the library keeps those for as long as the session lives.
        content = file.library_path or file.read(file.size)
        return ort.InferenceSession(content, options, providers=provider.providers, **_NO_FALLBACK)


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
