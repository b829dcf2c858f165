"""NVIDIA's two builders behind one name: TensorRT 10.3 to 11.x, and TensorRT for RTX. Their differences are all here.

Both have the same parser, builder and runtime. RTX compiles in two steps (ahead of time anywhere, the rest on the GPU
when an engine is opened), so it builds without a GPU and for several architectures; it keeps a runtime cache, where
TensorRT keeps a timing cache. Sources: NVIDIA's "Engine Compatibility" (TensorRT) and "CPU-Only AOT" (TensorRT-RTX).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import distributions
from typing import Any

from glass_rt.bundle.requirements import Requirements
from glass_rt.errors import GlassError, MissingDependency, UsageError
from glass_rt.machine.environment import installed
from glass_rt.machine.gpu_advice import GPU_COMMANDS

DEFAULT_TARGET = "default"
# Architectures that RTX engines run on unless a target is named; its documentation adds "and later".
RTX_DEFAULT_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")
# Least driver by CUDA generation: within one, newer minor versions run on the first one's driver.
DRIVERS = {"13": "580", "12": "525"}
_LOG_LINES = 20


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
        elif target == "ampere+":
            config.hardware_compatibility_level = self.trt.HardwareCompatibilityLevel.AMPERE_PLUS

    def requirements(self, target: str, this_gpu: str | None) -> Requirements:
        """What a machine needs for engines built for `target`; `this_gpu`: this machine's compute capability.

        RTX: `default`, or architectures such as `8.9` or `8.6,8.9`. TensorRT: `default` (this machine's GPU) or
        `ampere+` (8.0 and all later ones, slower). Raises UsageError.
        """
        driver = DRIVERS.get(cuda_generation(self.name) or "", "")
        if self.is_rtx:
            names = rtx_capabilities(target)
            for name in names:
                self._capability(name)
            capabilities = names or RTX_DEFAULT_CAPABILITIES
            return Requirements(self.name, self.version, target, capabilities, not names, driver)
        if target not in (DEFAULT_TARGET, "ampere+"):
            raise UsageError(
                f"target: got {target!r}; tensorrt builds for this machine's GPU (default) or for ampere+. "
                "Engines for other architectures are built by --backend tensorrt_rtx"
            )
        if this_gpu is None:
            raise UsageError(f"tensorrt builds on the GPU that the engine is for, and there is none. {GPU_COMMANDS}")
        later = target == "ampere+"
        return Requirements(self.name, self.version, target, ("8.0",) if later else (this_gpu,), later, driver)

    def _capability(self, name: str) -> Any:
        found = getattr(self.trt.ComputeCapability, f"SM{name.replace('.', '')}", None)
        if found is None:
            known = [item[2:] for item in dir(self.trt.ComputeCapability) if item.startswith("SM")]
            choices = ", ".join(f"{item[:-1]}.{item[-1]}" for item in known)
            raise UsageError(f"target: got {name!r}; this {self.name} builds for default or {choices}")
        return found

    # What differs when running ------------------------------------------------------------------

    def runtime_config(self, engine: Any, cache: bytes | None) -> Any | None:
        """How contexts are made: their memory is ours to give; None where the version has no such object (10.3).

        On RTX also: its own graph capture, and what it compiled for this GPU before (`cache`).
        """
        if not hasattr(engine, "create_runtime_config"):
            return None
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self.is_rtx:
            config.cuda_graph_strategy = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            runtime_cache = config.create_runtime_cache()
            if cache:
                runtime_cache.deserialize(cache)
            config.set_runtime_cache(runtime_cache)
        return config

    def create_context(self, engine: Any, config: Any | None) -> Any:
        """An execution context without memory of its own, or None with the reason in the log."""
        if config is not None:
            return engine.create_execution_context(config)
        return engine.create_execution_context(self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)

    def runtime_cache(self, config: Any | None) -> bytes | None:
        """The kernels that RTX compiled so far, to be saved for the next opening; None for TensorRT."""
        if not self.is_rtx or config is None:
            return None
        return bytes(memoryview(config.get_runtime_cache().serialize()))


@cache
def load_library(name: str) -> Library:
    """Imports `tensorrt` or `tensorrt_rtx`; raises MissingDependency with the commands that install it."""
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if installed(name) is None:
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
