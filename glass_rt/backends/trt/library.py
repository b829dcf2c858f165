"""NVIDIA's two builders behind one name: TensorRT 10.3 to 11.x, and TensorRT for RTX. Their differences are all here.

Both have the same parser, builder and runtime. RTX compiles in two steps (ahead of time anywhere, the rest on the GPU
when an engine is opened), so it builds without a GPU and for several architectures; it keeps a runtime cache, where
TensorRT keeps a timing cache. Sources: NVIDIA's "Engine Compatibility" (TensorRT) and "CPU-Only AOT" (TensorRT-RTX).
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import distributions
from typing import Any

from glass_rt.bundle.requirements import Requirements
from glass_rt.errors import BackendError, GlassError, MissingDependency, UsageError
from glass_rt.machine.environment import Gpu, library_version
from glass_rt.machine.gpu_advice import GPU_COMMANDS

DEFAULT_TARGET = "default"
AMPERE_AND_LATER, SAME_CAPABILITY = "ampere+", "same-sm"
# Architectures that RTX engines run on unless a target is named, besides those after the last of them. So says the mask
# in a plan's header; its bits are these, 7.5, and one for all later ones. 9.0 and 10.x have none.
RTX_DEFAULT_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0", "12.1")
# Least driver by CUDA generation: within one, newer minor versions run on the first one's driver.
DRIVERS = {"13": "580", "12": "525"}
# EngineInvalidityDiagnostics of TensorRT for RTX, by bit.
_DIAGNOSES = {
    1: "it was built by another version of the library (VERSION_MISMATCH): build it again",
    2: "it has no code for this GPU's architecture (UNSUPPORTED_CC): build it with --backend tensorrt",
    4: "the NVIDIA driver is too old (OLD_CUDA_DRIVER): update it",
    8: "the CUDA runtime is too old (OLD_CUDA_RUNTIME): update the library",
    16: "this GPU has too little memory for it (INSUFFICIENT_GPU_MEMORY): build it with a smaller --max-batch",
    32: "it is no engine, or a damaged one (MALFORMED_ENGINE): build it again",
    64: "CUDA does not work here (CUDA_ERROR): see nvidia-smi",
}
_LOG_LINES = 20

log = logging.getLogger("glass_rt")


class Library:
    """One of the two libraries, imported, with its log.

    `trt` is the vendor's module. A library takes one logger per process, and says what went wrong only there.
    """

    def __init__(self, name: str, trt: Any) -> None:
        self.name = name
        self.trt = trt
        self.is_rtx = hasattr(trt, "ComputeCapability")
        self.version: str = trt.__version__
        self._lines: list[str] = []
        self.logger = _collecting_logger(trt, self._lines)

    @contextmanager
    def explained(self, kind: type[GlassError], what: str) -> Iterator[None]:
        """Raises the library's errors in the block as `kind`, with the lines that it logged there."""
        self._lines.clear()
        try:
            yield
            for line in self._lines[-_LOG_LINES:]:  # all went well, and the library has something to say
                log.warning("%s: %s", self.name, line)
        except GlassError:
            raise
        except Exception as error:  # the bindings raise RuntimeError, TypeError and ValueError alike
            raise kind(self.reason(f"{what}: {error}")) from error

    def reason(self, what: str) -> str:
        """`what`, with the log lines since the last `explained` began."""
        lines = "".join(f"\n  {self.name}: {line}" for line in self._lines[-_LOG_LINES:])
        return f"{what}{lines}" if lines else f"{what} ({self.name} logged nothing)"

    # What differs when building -----------------------------------------------------------------

    def apply_target(self, config: Any, target: str) -> None:
        """Sets the builder's target, one that `requirements` accepts."""
        if self.is_rtx:
            names = rtx_capabilities(target)
            config.num_compute_capabilities = len(names)
            for index, name in enumerate(names):
                config.set_compute_capability(self._capability(name), index)
        elif target == AMPERE_AND_LATER:
            config.hardware_compatibility_level = self.trt.HardwareCompatibilityLevel.AMPERE_PLUS
        elif target == SAME_CAPABILITY:
            config.hardware_compatibility_level = self._same_capability()

    def requirements(self, target: str, here: Gpu | None) -> Requirements:
        """What a machine needs for engines built for `target`; `here` is this machine's GPU.

        RTX: `default`, or architectures such as `8.9` or `8.6,8.9`. TensorRT: `default` (this machine's model of GPU:
        NVIDIA supports no plan on another, even of the same architecture), `same-sm` (every model of its architecture)
        or `ampere+` (8.0 and all later ones, slower). Raises UsageError.
        """
        driver = DRIVERS.get(cuda_generation(self.name) or "", "")
        if self.is_rtx:
            names = rtx_capabilities(target)
            for name in names:
                self._capability(name)
            capabilities = names or RTX_DEFAULT_CAPABILITIES
            return Requirements(self.name, self.version, target, capabilities, not names, driver)
        if target not in (DEFAULT_TARGET, SAME_CAPABILITY, AMPERE_AND_LATER):
            raise UsageError(
                f"target: got {target!r}; tensorrt builds for this machine's GPU (default), for its architecture "
                f"({SAME_CAPABILITY}) or for {AMPERE_AND_LATER}. Engines for other architectures are built by "
                "--backend tensorrt_rtx"
            )
        if here is None:
            raise UsageError(f"tensorrt builds on the GPU that the engine is for, and there is none. {GPU_COMMANDS}")
        if target == AMPERE_AND_LATER:
            return Requirements(self.name, self.version, target, ("8.0",), True, driver)
        if target == SAME_CAPABILITY:
            self._same_capability()
        bound_to = here.name if target == DEFAULT_TARGET else ""
        return Requirements(self.name, self.version, target, (here.compute_capability,), False, driver, bound_to)

    def _same_capability(self) -> Any:
        level = getattr(self.trt.HardwareCompatibilityLevel, "SAME_COMPUTE_CAPABILITY", None)
        if level is None:
            raise UsageError(f"target: {SAME_CAPABILITY} needs tensorrt 10.9 or newer; this is {self.version}")
        return level

    def _capability(self, name: str) -> Any:
        found = getattr(self.trt.ComputeCapability, f"SM{name.replace('.', '')}", None)
        if found is None:
            known = [item[2:] for item in dir(self.trt.ComputeCapability) if item.startswith("SM")]
            choices = ", ".join(f"{item[:-1]}.{item[-1]}" for item in known)
            raise UsageError(f"target: got {name!r}; this {self.name} builds for default or {choices}")
        return found

    # What differs when running ------------------------------------------------------------------

    def check_validity(self, runtime: Any, plan: bytes, what: str) -> None:
        """Asks RTX whether a plan runs here, before it is read. Raises BackendError with the library's diagnosis.

        Where the library has no diagnosis (no driver, for one), reading the plan says what is wrong.
        """
        if not self.is_rtx:
            return
        validity, found = runtime.get_engine_validity(plan[: runtime.engine_header_size])
        diagnosis = diagnosis_of(int(found))
        if validity == self.trt.EngineValidity.INVALID and diagnosis:
            raise BackendError(self.reason(f"{self.name} cannot run {what} here: {diagnosis}"))
        if validity == self.trt.EngineValidity.SUBOPTIMAL:
            log.warning("%s runs %s here, and not as fast as it might: build it for this GPU", self.name, what)

    def runtime_config(self, engine: Any) -> Any | None:
        """How contexts are made: their memory is ours to give; None where the version has no such object (10.3).

        On RTX also: its own graph capture; and every shape's own kernels, compiled before its first run and not beside
        later ones, so that the kernels that pass the parity gate are those that serve.
        """
        if not hasattr(engine, "create_runtime_config"):
            return None
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self.is_rtx:
            config.cuda_graph_strategy = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            eager = self.trt.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = eager
        return config

    def open_cache(self, config: Any | None, kept: bytes | None) -> Any | None:
        """RTX's cache of kernels compiled for this GPU, filled with what was `kept` before; None for TensorRT.

        The caller keeps it for as long as contexts of that configuration live: the configuration alone does not.
        """
        if not self.is_rtx or config is None:
            return None
        cache = config.create_runtime_cache()
        if kept and not cache.deserialize(kept):
            log.info("%s passed over the kernels that were kept; it compiles them again", self.name)
        config.set_runtime_cache(cache)
        return cache

    def create_context(self, engine: Any, config: Any | None) -> Any:
        """An execution context without memory of its own, or None with the reason in the log."""
        if config is not None:
            return engine.create_execution_context(config)
        return engine.create_execution_context(self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)


@cache
def load_library(name: str) -> Library:
    """Imports `tensorrt` or `tensorrt_rtx`; raises MissingDependency with the commands that install it."""
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if library_version(name) is None:
            raise MissingLibrary(name) from None
        raise MissingLibrary(name, f"it is installed, but cannot be loaded ({error})") from error
    return Library(name, module)


class MissingLibrary(MissingDependency):
    """One of the two libraries is not installed, or cannot be loaded."""

    def __init__(self, name: str, why: str = "it is not installed") -> None:
        ImportError.__init__(self, f"--backend {name} needs {name}: {why}. {GPU_COMMANDS}")


def cuda_generation(name: str) -> str | None:
    """`13` for wheels made for CUDA 13.x; None where the distribution does not say."""
    prefix = f"{name}_cu".replace("_", "-")
    for distribution in distributions():
        found = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if found.startswith(prefix) and found.removeprefix(prefix).isdigit():
            return found.removeprefix(prefix)
    return None


def builds_for(name: str, compute_capability: str) -> bool:
    """Whether that library's engines can run on a GPU of that architecture, such as `9.0`.

    TensorRT for RTX has no code for 9.0 (Hopper), 10.x, nor Jetsons; TensorRT builds for the GPU that it runs on.
    """
    if name != "tensorrt_rtx":
        return True
    everywhere = Requirements(name, "", DEFAULT_TARGET, ("7.5", *RTX_DEFAULT_CAPABILITIES), True, "")
    return everywhere.runs_on(compute_capability)


def diagnosis_of(found: int) -> str:
    """What a set of TensorRT for RTX's EngineInvalidityDiagnostics says, in words; empty for none."""
    return "; ".join(words for bit, words in _DIAGNOSES.items() if found & bit)


def rtx_capabilities(target: str) -> tuple[str, ...]:
    """`8.6,sm89` -> (`8.6`, `8.9`); `default` -> ()."""
    if target == DEFAULT_TARGET:
        return ()
    names = [item.strip().lower().removeprefix("sm").removeprefix("_") for item in target.split(",")]
    return tuple(name if "." in name else f"{name[:-1]}.{name[-1:]}" for name in names)


def _collecting_logger(trt: Any, lines: list[str]) -> Any:
    class Collecting(trt.ILogger):  # type: ignore[misc]  # the base is only known at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.WARNING:
                lines.append(message.strip())

    return Collecting()
