"""Inference requests and responses of the protocol's gRPC form.

The messages are those of the protocol's `inference` package, as `tritonclient` has them. Responses carry their tensors
in `raw_output_contents`, as Triton's do.

Source: github.com/kserve/open-inference-protocol (open_inference_grpc.proto).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import UsageError
from glass_rt.serve.oip.protocol import shown
from glass_rt.serve.oip.request import InferenceRequest, checked_id, requested
from glass_rt.serve.oip.tensors import (
    DATATYPES,
    TensorHead,
    binary_from_tensor,
    check_elements,
    objects,
    tensor_from_binary,
)

if TYPE_CHECKING:
    from tritonclient.grpc import service_pb2 as pb

CONTENTS = {
    "BYTES": "bytes_contents",
    "UINT8": "uint_contents",
}  # the field with a datatype's elements, where they are not raw


def request_from_message(message: pb.ModelInferRequest) -> InferenceRequest:
    """A request from its message. Raises UsageError."""
    for output in message.outputs:
        if output.parameters:
            raise UsageError(f"output {shown(output.name)}: parameters are not known for outputs over gRPC")
    return InferenceRequest(
        checked_id(message.id),
        {name: _value(name, parameter) for name, parameter in message.parameters.items()},
        _tensors(message),
        requested([output.name for output in message.outputs], binary=True),
    )


def message_from_tensors(
    response: pb.ModelInferResponse, request: InferenceRequest, tensors: Mapping[str, NDArray[Any]]
) -> pb.ModelInferResponse:
    """Fills `response` with the request's id and with those of `tensors` that the request asked for."""
    response.id = request.id or ""
    for wanted in request.outputs:
        tensor = tensors[wanted.name]
        response.outputs.add(name=wanted.name, datatype=DATATYPES[tensor.dtype], shape=tensor.shape)
        response.raw_output_contents.append(binary_from_tensor(tensor))
    return response


def _value(name: str, parameter: pb.InferParameter) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    if kind is None:
        raise UsageError(f"request parameter {shown(name)} has no value")
    return getattr(parameter, kind)


def _tensors(message: pb.ModelInferRequest) -> dict[str, NDArray[Any]]:
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise UsageError(f"{len(raw)} raw_input_contents for {len(message.inputs)} inputs; expected one for each")
    tensors: dict[str, NDArray[Any]] = {}
    for number, given in enumerate(message.inputs):
        head = TensorHead(given.name, given.datatype, tuple(given.shape))
        if head.name in tensors:
            raise UsageError(f"input {shown(head.name)} is given twice")
        if given.parameters:
            raise UsageError(f"input {shown(head.name)}: parameters are not known for inputs over gRPC")
        if raw and given.HasField("contents"):
            raise UsageError(f"input {shown(head.name)} has contents and raw_input_contents; expected one of them")
        tensors[head.name] = tensor_from_binary(head, memoryview(raw[number])) if raw else _typed(head, given.contents)
    return tensors


def _typed(head: TensorHead, contents: pb.InferTensorContents) -> NDArray[Any]:
    """A tensor from the elements in its message."""
    expected = CONTENTS[head.datatype]
    if other := [field.name for field, _ in contents.ListFields() if field.name != expected]:
        raise UsageError(f"input {shown(head.name)}: {head.datatype} stand in {expected}, not in {other[0]}")
    elements = getattr(contents, expected)
    check_elements(head, len(elements))
    if head.datatype == "BYTES":
        return objects(head, list(elements))
    values = np.fromiter(elements, np.uint32, len(elements))
    if values.size and values.max() > 255:
        raise UsageError(f"input {shown(head.name)}: UINT8 data are integers 0..255")
    return values.astype(np.uint8).reshape(head.shape)
