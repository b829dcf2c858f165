"""Configuration, statistics and index of the server's one model, as Triton's extensions of the protocol have them.

Each is JSON, and the gRPC message of the same fields is made of it.

Source: github.com/triton-inference-server/server, docs/protocol: extension_model_configuration, extension_statistics,
extension_model_repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glass_rt.machine.device import kind_of
from glass_rt.serve.oip.protocol import INPUTS, OUTPUTS, PLATFORM, VERSION, TensorMetadata, model_name
from glass_rt.serve.oip.tensors import MAX_IMAGES
from glass_rt.serve.refusals import UnknownModel

if TYPE_CHECKING:
    from glass_rt.serve.service import Service

CONFIG_TYPES = {"BYTES": "TYPE_STRING", "UINT8": "TYPE_UINT8", "FP32": "TYPE_FP32", "INT32": "TYPE_INT32"}


def model_config(service: Service) -> dict[str, Any]:
    """Triton's `ModelConfig` of the model that serves now. `dims` are without the batch."""
    manifest = service.manifest
    return {
        "name": model_name(manifest),
        "platform": PLATFORM,
        "backend": manifest.engine.backend,
        "max_batch_size": min(MAX_IMAGES, service.settings.queue_images),
        "input": [{**_tensor(tensor), "optional": True} for tensor in INPUTS],
        "output": [_tensor(tensor) for tensor in OUTPUTS],
        "dynamic_batching": {"default_queue_policy": {"max_queue_size": service.settings.queue_images}},
        "instance_group": [{"name": model_name(manifest), "kind": triton_kind(service.device), "count": 1}],
        "parameters": {
            "bundle_sha256": {"string_value": service.bundle_sha256},
            "precision": {"string_value": manifest.engine.precision},
        },
    }


def triton_kind(device: str) -> str:
    """Triton's kind of an instance on a device: its GPUs are NVIDIA's."""
    return "KIND_GPU" if kind_of(device) == "cuda" else "KIND_CPU"


def model_statistics(service: Service) -> dict[str, Any]:
    """Triton's `ModelStatisticsResponse`: what this process has judged, over every protocol."""
    named = {"name": model_name(service.manifest), "version": VERSION}
    return {"model_stats": [{**named, **service.statistics.to_json()}]}


def repository_index(service: Service, name: str = "", *, ready: bool = False) -> list[dict[str, str]]:
    """The models that there are: one; none where only those that are ready were asked for, and it is not.

    `name` is the repository's, of which there is one, without a name. Raises UnknownModel.
    """
    if name:
        raise UnknownModel("this server has one model and no named repositories; leave the repository's name out")
    model = {"name": model_name(service.manifest), "version": VERSION}
    if service.ready:
        return [{**model, "state": "READY", "reason": ""}]
    reason = "the server is stopping" if service.draining else "the engine fails"
    return [] if ready else [{**model, "state": "UNAVAILABLE", "reason": reason}]


def _tensor(tensor: TensorMetadata) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": CONFIG_TYPES[tensor.datatype], "dims": list(tensor.shape[1:])}
