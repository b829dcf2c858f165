"""A bundle's `config.pbtxt`: Triton's settings to load and batch the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import UsageError
from glass_rt.machine.device import device_from_text, kind_of
from glass_rt.serve.oip.description import CONFIG_TYPES, triton_kind
from glass_rt.serve.oip.protocol import INPUTS, OUTPUTS, TensorMetadata, model_name

DEVICE = "device"  # the parameter that names it, where the kind of an instance does not


@dataclass(frozen=True)
class ServingOptions:
    """How Triton runs the model.

    `device`: as everywhere (None: the bundle's); `cuda` is every GPU, `cuda:1` one of them. `instances`: processes that
    judge, with `cuda` on each GPU, elsewhere in all. `max_batch`: most images of one request, and of the requests that
    are judged together. `queue`: requests that wait before Triton refuses more. `environment`: Python environment of
    the model, see the README that is written (None: the server's own Python).
    """

    device: str | None = None
    instances: int = 1
    max_batch: int = 16
    queue: int = 64
    environment: Path | None = None

    def __post_init__(self) -> None:
        if self.device is not None:
            device_from_text(self.device)
        for name in ("instances", "max_batch", "queue"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: got {getattr(self, name)}; at least one is needed")


def config_pbtxt(bundle: Bundle, options: ServingOptions) -> str:
    """The text of `config.pbtxt`. The batcher never waits: it batches the requests that came while the model was busy.

    Raises UsageError where the bundle's engines do not run on the device.
    """
    device = device_from_text(_device(bundle, options))
    one_gpu = f" gpus: [ {device.number} ]" if device.kind == "cuda" and device.number is not None else ""
    parameters = {"bundle_sha256": bundle.sha256}
    if str(device) not in ("cpu", "cuda"):  # which the kind of an instance says
        parameters[DEVICE] = str(device)
    if options.environment is not None:
        parameters["EXECUTION_ENV_PATH"] = str(options.environment)
    lines = [
        f"name: {_quoted(model_name(bundle.manifest))}",
        'backend: "python"',
        f"max_batch_size: {options.max_batch}",
        "dynamic_batching {",
        f"  default_queue_policy {{ max_queue_size: {options.queue} }}",
        "}",
        f"instance_group [ {{ kind: {triton_kind(str(device))} count: {options.instances}{one_gpu} }} ]",
        *(_tensor("input", tensor, optional=True) for tensor in INPUTS),
        *(_tensor("output", tensor) for tensor in OUTPUTS),
        *(_parameter(key, value) for key, value in parameters.items()),
    ]
    return "\n".join(lines) + "\n"


def instance_device(config: Mapping[str, Any], kind: str, number: str) -> str:
    """Where an instance of that model opens its bundle. `kind` (`CPU`, `GPU`) and `number` are what Triton tells it."""
    text = config["parameters"].get(DEVICE, {"string_value": "cuda" if kind == "GPU" else "cpu"})["string_value"]
    return str(replace(device_from_text(text), number=int(number))) if kind == "GPU" else str(text)


def _device(bundle: Bundle, options: ServingOptions) -> str:
    engine = bundle.manifest.engine
    device = options.device or engine.device
    if kind_of(device) != engine.device and engine.backend != "onnxruntime":
        raise UsageError(f"device: got {device!r}; this bundle's {engine.backend} engines run on {engine.device} only")
    return device


def _tensor(side: str, tensor: TensorMetadata, *, optional: bool = False) -> str:
    dims = ", ".join(map(str, tensor.shape[1:]))  # the batch is not written down
    # Images differ in their number of bytes: without `ragged`, Triton would batch only those of equal length.
    ragged = " allow_ragged_batch: true" if optional and -1 in tensor.shape[1:] else ""
    ending = " optional: true" if optional else ""
    datatype = CONFIG_TYPES[tensor.datatype]
    return f'{side} [ {{ name: "{tensor.name}" data_type: {datatype} dims: [ {dims} ]{ending}{ragged} }} ]'


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {_quoted(key)} value: {{ string_value: {_quoted(value)} }} }}"


def _quoted(text: str) -> str:
    """A string of Protocol Buffers' text format. Its escapes are those of JSON with other than ASCII left as it is."""
    return json.dumps(text, ensure_ascii=False)
