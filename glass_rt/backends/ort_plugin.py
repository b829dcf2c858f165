"""Execution providers that are libraries of their own, which ONNX Runtime (1.22 and later) loads while it runs.

Packages of them are called `onnxruntime-ep-NAME` and tell where their library lies. Source: onnxruntime.ai, "Plugin
Execution Provider Libraries", the pages Usage and Packaging.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from glass_rt.errors import BackendError, UsageError, first_line, vendor_failure
from glass_rt.machine.device import Device
from glass_rt.machine.environment import installed

_LIBRARY = re.compile(r"[/\\]|\.(so|dll|dylib)$")
_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")
_MODULES = ("onnxruntime_ep_{}", "onnxruntime_{}")  # the second: packages older than the convention, such as qnn's
_REGISTERS = "register_execution_provider_library"


def plugin_device(ort: Any, device: Device) -> Any:
    """The OrtEpDevice that `plugin:NAME` or `plugin:NAME:N` names; its library is loaded, and stays for the process.

    Raises UsageError for a name that cannot be or a number that is not there, and BackendError where the library is not
    installed, is refused, or finds no device here.
    """
    if not hasattr(ort, _REGISTERS):
        raise BackendError(
            f"ONNX Runtime {ort.__version__} takes no plug-in libraries; 1.22 and later do: "
            "pip install --upgrade onnxruntime"
        )
    library = plugin_library(device.name)
    found = _devices(ort, library)
    if not found:
        _register(ort, library)
        found = _devices(ort, library)
    if not found:
        seen = ", ".join(sorted({_hardware(each) for each in ort.get_ep_devices()}))
        raise BackendError(f"plugin:{device.name} finds no device here that it runs on; ONNX Runtime sees: {seen}")
    if device.index >= len(found):
        offered = ", ".join(f"{number} ({_hardware(each)})" for number, each in enumerate(found))
        raise UsageError(f"device: got {str(device)!r}; plugin:{device.name} has {offered}")
    return found[device.index]


def plugin_library(name: str) -> Path:
    """The library of a plug-in: the file itself, or the one of the package of that name.

    Raises UsageError for a name that cannot be, and BackendError where neither is there.
    """
    if _LIBRARY.search(name):
        path = Path(name).absolute()
        if not path.is_file():
            raise BackendError(f"plugin:{name}: there is no such file")
        return path
    if not _NAME.fullmatch(name):
        raise UsageError(f"device: got a plug-in called {name!r}; expected a name such as webgpu, or a library's path")
    for module in _modules(name):
        try:
            return Path(importlib.import_module(module).get_library_path()).absolute()
        except ModuleNotFoundError as error:
            if error.name != module:
                raise BackendError(f"{module} is installed and cannot be loaded: {first_line(error)}") from error
        except Exception as error:  # a package may raise anything when it is imported
            raise BackendError(f"{module} does not tell where its library lies: {first_line(error)}") from error
    raise BackendError(
        f"plugin:{name} is not installed: pip install onnxruntime-ep-{name.replace('_', '-')}, "
        "or name its library: --device plugin:/path/to/library.so"
    )


def plugin_version(name: str) -> str:
    """What tells one version of a plug-in's library from another, without loading it: its package's, or size and time.

    Empty where it is not there.
    """
    if _LIBRARY.search(name):
        try:
            status = Path(name).stat()
        except OSError:
            return ""
        return f"{status.st_size} bytes, {status.st_mtime_ns}"
    packages = (module.replace("_", "-") for module in _modules(name))
    return next((f"{package} {version}" for package in packages if (version := installed(package))), "")


def _modules(name: str) -> list[str]:
    return [module.format(name.replace("-", "_")) for module in _MODULES]


def _register(ort: Any, library: Path) -> None:
    try:
        getattr(ort, _REGISTERS)(str(library), str(library))
    except Exception as error:  # the library raises a dozen unrelated types
        if "already registered" not in str(error):  # as after an earlier try that found no device
            raise vendor_failure("ONNX Runtime", f"take {library} for a plug-in", error) from error


def _devices(ort: Any, library: Path) -> list[Any]:
    """What a library that is registered offers, in its order."""
    return [each for each in ort.get_ep_devices() if each.ep_metadata.get("library_path") == str(library)]


def _hardware(device: Any) -> str:
    return f"{device.device.type.name} {device.device.vendor}".strip()
