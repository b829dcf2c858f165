"""Engines run by OpenVINO on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from glass_rt.backends.base import Array, TensorSpec, check_feeds
from glass_rt.backends.fixed_batch import no_views, run_in_batches
from glass_rt.backends.mapped_weights import MAPPINGS, LibraryMapping, MappedWeights
from glass_rt.backends.ov_cache import CompiledModels
from glass_rt.bundle.checked_files import EngineFile
from glass_rt.errors import BackendError, GlassError, UsageError, import_failure, vendor_failure
from glass_rt.machine.device import device_for
from glass_rt.machine.environment import usable_cores
from glass_rt.machine.extras import BACKEND_EXTRAS
from glass_rt.machine.telemetry import keep_silent

# The type that layers compute in; said for each, since OpenVINO's own default is bf16 on some processors.
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


@cache
def load_openvino() -> Any:
    """The openvino module; raises MissingDependency with the command that installs it."""
    keep_silent()
    try:
        import openvino
    except ImportError as error:
        raise import_failure(error, "openvino", BACKEND_EXTRAS["openvino"], "this engine") from None
    return openvino


def check_precision(precision: str) -> None:
    """Raises UsageError where this processor does not compute in `precision`."""
    if precision == "bf16":
        able = load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if "BF16" not in able:
            raise UsageError("precision: this processor does not compute in bf16 (needs AVX-512 BF16 or AMX); use fp32")


class OpenVinoBackend:
    """A Backend on one compiled model, which is kept in the cache unless `cache` is False.

    A model with a fixed batch takes any number of views too: it is run as often as needed, and the last run is padded.
    """

    def __init__(
        self,
        engine: Path | EngineFile,
        *,
        precision: str = "fp32",
        device: str = "cpu",
        threads: int | None = None,
        cache: bool = True,
    ) -> None:
        device_for("openvino", device)
        check_precision(precision)
        _check_working_folder()
        core = load_openvino().Core()
        properties = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",  # one run at a time, by all threads
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
        }
        source = EngineFile.of(engine)
        self._weights: MappedWeights | LibraryMapping | None
        try:
            kept = _cache_of(core, source, properties) if cache else None
            if kept is not None and (found := kept.open()) is not None:
                compiled, self._weights = found
            else:
                self._weights = _weights_of(source)
                model = _model(core, source, self._weights)
                compiled = core.compile_model(model, "CPU", properties) if kept is None else kept.compile(model)
        except GlassError:
            raise
        except (RuntimeError, OSError, ValueError) as error:
            raise vendor_failure("OpenVINO", f"open {source.path}", error) from error
        self._give_back_weights()
        self.inputs = tuple(_spec(port) for port in compiled.inputs)
        self.outputs = tuple(_spec(port) for port in compiled.outputs)
        views = compiled.input(0).get_partial_shape()[0]
        self._fixed_batch = None if views.is_dynamic else int(views.get_length())
        self._request = compiled.create_infer_request()
        self._batches_run: set[int] = set()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the model; inputs are read where they lie, outputs are copied out."""
        check_feeds(self.inputs, feeds)
        batch, count = self._fixed_batch, len(feeds[self.inputs[0].name])
        if count == 0:  # which OpenVINO refuses
            return no_views(self.outputs)
        if batch is None:
            return self._infer(feeds)
        return run_in_batches(self._infer, feeds, count, batch, self.outputs)

    def _infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        try:
            results = self._request.infer(dict(feeds), share_inputs=True)
        except RuntimeError as error:
            raise vendor_failure("OpenVINO", "run the engine", error) from error
        if (batch := len(feeds[self.inputs[0].name])) not in self._batches_run:  # weights may have been packed for it
            self._batches_run.add(batch)
            self._give_back_weights()
        return {spec.name: results[spec.name].copy() for spec in self.outputs}

    def close(self) -> None:
        """Drops the request; the model goes with the last reference."""
        with MAPPINGS:
            self.__dict__.pop("_request", None)

    def _give_back_weights(self) -> None:
        if self._weights is not None:
            self._weights.give_back()


def _cache_of(core: Any, engine: EngineFile, properties: Mapping[str, Any]) -> CompiledModels | None:
    if not CompiledModels.supported(core, engine):
        return None
    return CompiledModels(core, load_openvino().__version__, engine, properties)


def _check_working_folder() -> None:
    """Raises BackendError where this account may not enter the working folder: OpenVINO would end the process."""
    try:
        os.stat(".bin")  # noqa: PTH116  # what OpenVINO asks for
    except PermissionError:
        raise BackendError(
            "OpenVINO needs a working folder that this account may enter; change to another one, such as: cd /"
        ) from None
    except OSError:
        pass


def _weights_of(engine: EngineFile) -> MappedWeights | None:
    """The weights of an engine that `glass-rt build` wrote; None for an ONNX file, such as builds calibrate."""
    if engine.files is None and engine.path.suffix != ".xml":
        return None
    with closing(engine.open(".bin")) as file:
        return MappedWeights(file)


def _model(core: Any, engine: EngineFile, weights: MappedWeights | None) -> Any:
    if weights is None:
        return core.read_model(engine.path)
    with closing(engine.open()) as file:
        description = file.read(file.size).decode("utf-8")
    return core.read_model(description, load_openvino().Tensor(weights.array, True))


def _spec(port: Any) -> TensorSpec:
    """The first axis is the number of views, free in every engine of glass-rt."""
    shape = (None, *(None if size.is_dynamic else size.get_length() for size in port.get_partial_shape()[1:]))
    return TensorSpec(port.get_any_name(), np.dtype(port.get_element_type().to_dtype()), shape)
