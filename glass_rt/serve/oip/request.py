"""An inference request, the same for both forms of the protocol, and its inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from glass_rt.bundle.manifest import BundleManifest
from glass_rt.errors import UsageError
from glass_rt.options import DetectOptions
from glass_rt.results.verdict import Failure, Verdict
from glass_rt.serve.oip.protocol import (
    OUTPUTS,
    VERSION,
    images_of,
    model_name,
    options_of,
    outputs_of,
    refusal_of,
    shown,
)
from glass_rt.serve.refusals import ImageRefused, UnknownModel

if TYPE_CHECKING:
    from glass_rt.serve.service import Service

MAX_ID = 1024
OUTPUT_NAMES = tuple(tensor.name for tensor in OUTPUTS)


@dataclass(frozen=True)
class RequestedOutput:
    """An output that the client asked for; over REST as bytes behind the JSON (`binary`) or as values in it."""

    name: str
    binary: bool


@dataclass(frozen=True, eq=False)
class InferenceRequest:
    """A checked request. `tensors` by input name, `outputs` in the order of the response."""

    id: str | None
    parameters: Mapping[str, Any]
    tensors: Mapping[str, NDArray[Any]]
    outputs: tuple[RequestedOutput, ...]


def requested(names: Sequence[str], binary: bool) -> tuple[RequestedOutput, ...]:
    """The outputs of those names, or all where there are none. Raises UsageError."""
    for name in names:
        if name not in OUTPUT_NAMES:
            raise UsageError(f"output {shown(name)} is not known; expected {', '.join(OUTPUT_NAMES)}")
    if len(set(names)) != len(names):
        raise UsageError("an output is requested twice")
    return tuple(RequestedOutput(name, binary) for name in names or OUTPUT_NAMES)


def checked_id(value: Any) -> str | None:
    """The request's own id, which its response repeats. Raises UsageError."""
    if value is not None and not (isinstance(value, str) and len(value) <= MAX_ID):
        raise UsageError(f"id is {shown(value)}; expected a string of at most {MAX_ID} characters")
    return value


def check_model(manifest: BundleManifest, name: str, version: str | None) -> None:
    """Raises UnknownModel unless this is the model that the bundle holds; None or "" is any version."""
    if name != model_name(manifest) or version not in (None, "", VERSION):
        wanted = f"{shown(name)} version {shown(version)}" if version else shown(name)
        raise UnknownModel(f"model {wanted} is not here; this server has {model_name(manifest)!r} version '{VERSION}'")


async def infer(service: Service, request: InferenceRequest) -> dict[str, NDArray[Any]]:
    """All output tensors by name. Raises UsageError, ImageRefused, and what `Service.judge` raises."""
    options = options_of(request.parameters, DetectOptions())
    results = await service.judge(images_of(request.tensors), options)
    for result in results:
        if isinstance(result, Failure):
            raise ImageRefused(refusal_of(results) or str(result.error), result.error)
    return outputs_of([result for result in results if isinstance(result, Verdict)])
