"""Where engines run, as text: `KIND[:WHICH][+cpu][,OPTION=VALUE...]`.

`cpu`, `cuda:1`, `coreml`, `plugin:webgpu`. `+cpu` lets the processor compute what the device cannot: without it that is
refused. Options are the provider's own, such as `coreml,MLComputeUnits=CPUAndGPU`. Every surface takes this text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from glass_rt.errors import UsageError
from glass_rt.machine.environment import Gpu, gpus

_SPELLINGS = {
    "cpu": "cpu",
    "cuda": "cuda or cuda:N",
    "coreml": "coreml",
    "dml": "dml or dml:N",
    "xnnpack": "xnnpack",
    "plugin": "plugin:NAME or plugin:FILE",
}
DEVICE_HELP = (
    "cpu, cuda or cuda:N; with ONNX Runtime also coreml, dml or dml:N, xnnpack, plugin:NAME or plugin:FILE. "
    "+cpu behind it lets the CPU compute what the device cannot."
)
# By backend: the name of its library, and the kinds of devices that its engines run on.
_RUN_ON = {
    "onnxruntime": ("ONNX Runtime", tuple(_SPELLINGS)),
    "openvino": ("OpenVINO", ("cpu",)),
    "tensorrt": ("TensorRT", ("cuda",)),
    "tensorrt_rtx": ("TensorRT", ("cuda",)),
}
_NUMBERED = ("cuda", "dml")
_ON_PROCESSOR = ("cpu", "xnnpack")
_CPU_TOO = "+cpu"
_SHOWN = 80  # characters of a text in an error
_NUMBER = re.compile(r"[0-9]{1,4}")
_PLUGIN = re.compile(rf"(?P<name>.*?)(:(?P<number>{_NUMBER.pattern}))?")


@dataclass(frozen=True)
class Device:
    """A kind of device, and which of its kind.

    `number`: among those of its kind (None: the first; of `cuda`, the driver's number). `name`: a plug-in's, or the
    path of its library. `cpu_too`: the processor may compute what the device cannot. `options`: of the provider.
    """

    kind: str
    number: int | None = None
    name: str = ""
    cpu_too: bool = False
    options: tuple[tuple[str, str], ...] = ()

    @property
    def index(self) -> int:
        """The number; 0 where none is named."""
        return self.number or 0

    def __str__(self) -> str:
        which = [part for part in (self.name, "" if self.number is None else str(self.number)) if part]
        options = [f"{key}={value}" for key, value in self.options]
        return ",".join([":".join([self.kind, *which]) + (_CPU_TOO if self.cpu_too else ""), *options])


def device_for(backend: str, text: str) -> Device:
    """The device that `text` names, of one of the kinds that engines of `backend` run on. Raises UsageError."""
    library, kinds = _RUN_ON[backend]
    device = device_from_text(text, kinds, f"{library} engines run on")
    if backend != "onnxruntime" and (device.cpu_too or device.options):
        raise UsageError(
            f"device: got {_shown(text)}; +cpu and options are for engines of ONNX Runtime, not of {library}"
        )
    return device


def device_from_text(text: str, kinds: Sequence[str] = tuple(_SPELLINGS), expected: str = "expected") -> Device:
    """The device that `text` names, of one of `kinds`; `expected` stands before the choices in the error.

    Raises UsageError.
    """
    place, *options = text.split(",")
    kind, colon, which = place.removesuffix(_CPU_TOO).partition(":")
    pairs = tuple(_option(text, option) for option in options)
    number, name, fits = _which(kind, which) if colon else (None, "", kind != "plugin")
    if kind not in kinds or not fits or (kind == "cpu" and text != "cpu"):
        choices = ", ".join(_SPELLINGS[choice] for choice in kinds)
        raise UsageError(f"device: got {_shown(text)}; {expected} {choices}")
    return Device(kind, number, name, place.endswith(_CPU_TOO), pairs)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _which(kind: str, which: str) -> tuple[int | None, str, bool]:
    """Number and name of `KIND:WHICH`, and whether that may stand there."""
    if kind == "plugin":
        parts = _PLUGIN.fullmatch(which)
        name, number = (parts["name"], parts["number"]) if parts else ("", None)
        return None if number is None else int(number), name, bool(name)
    fits = kind in _NUMBERED and _NUMBER.fullmatch(which) is not None
    return (int(which) if fits else None), "", fits


def _option(text: str, option: str) -> tuple[str, str]:
    key, equals, value = option.partition("=")
    if not key or not equals:
        raise UsageError(f"device: got {_shown(text)}; behind a comma stands OPTION=VALUE")
    if key == "device_id":
        raise UsageError(f"device: got {_shown(text)}; the number of a device stands behind a colon, such as cuda:1")
    return key, value


def kind_of(text: str) -> str:
    """The kind that a device's text names; the backend refuses what is not well-formed."""
    return re.split("[:+,]", text, maxsplit=1)[0]


def is_cpu(text: str) -> bool:
    """Whether a device's text names the library's own code for CPUs, which engines are compiled for."""
    return text == "cpu"


def on_processor(text: str) -> bool:
    """Whether engines on that device take the processor's cores, which decode as well."""
    return kind_of(text) in _ON_PROCESSOR


def named_gpu(text: str | None) -> Gpu | None:
    """The NVIDIA GPU that `cuda` or `cuda:N` names, by CUDA's numbers; None where there is no such.

    Without a number, or with one that is none, it is the first: the backend refuses what is not well-formed.
    """
    named = re.match(rf"cuda:({_NUMBER.pattern})", text or "cuda")
    found, number = gpus(), int(named[1]) if named else 0
    return found[number] if number < len(found) else None
