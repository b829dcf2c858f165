"""A bundle's `config.pbtxt`: Triton's settings to load and batch the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import UsageError
from glass_rt.serve.oip.description import CONFIG_TYPES
from glass_rt.serve.oip.protocol import INPUTS, OUTPUTS, TensorMetadata, model_name

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class ServingOptions:
    """How Triton runs the model.

    `device`: `cpu` or `cuda` (None: the bundle's). `instances`: processes that judge, on a CPU in all, with `cuda` on
    each GPU. `max_batch`: most images of one request, and of the requests that are judged together. `queue`: requests
    that wait before Triton refuses more. `environment`: Python environment of the model, see the README that is
    written (None: the server's own Python).
    """

    device: str | None = None
    instances: int = 1
    max_batch: int = 16
    queue: int = 64
    environment: Path | None = None

    def __post_init__(self) -> None:
        if self.device is not None and self.device not in DEVICES:
            raise UsageError(f"device: got {self.device!r}; expected one of {', '.join(DEVICES)}")
        for name in ("instances", "max_batch", "queue"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: got {getattr(self, name)}; at least one is needed")


def config_pbtxt(bundle: Bundle, options: ServingOptions) -> str:
    """The text of `config.pbtxt`. The batcher never waits: it batches the requests that came while the model was busy.

    Raises UsageError where the bundle's engines do not run on the device.
    """
    kind = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}[_device(bundle, options)]
    parameters = {"bundle_sha256": bundle.sha256}
    if options.environment is not None:
        parameters["EXECUTION_ENV_PATH"] = str(options.environment)
    lines = [
        f"name: {_quoted(model_name(bundle.manifest))}",
        'backend: "python"',
        f"max_batch_size: {options.max_batch}",
        "dynamic_batching {",
        f"  default_queue_policy {{ max_queue_size: {options.queue} }}",
        "}",
        f"instance_group [ {{ kind: {kind} count: {options.instances} }} ]",
        *(_tensor("input", tensor, optional=True) for tensor in INPUTS),
        *(_tensor("output", tensor) for tensor in OUTPUTS),
        *(_parameter(key, value) for key, value in parameters.items()),
    ]
    return "\n".join(lines) + "\n"


def _device(bundle: Bundle, options: ServingOptions) -> str:
    engine = bundle.manifest.engine
    device = options.device or engine.device
    if device != engine.device and engine.backend != "onnxruntime":
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
