"""Inference requests and responses of the protocol's REST form: a JSON object, and tensors' bytes behind it.

Source: github.com/kserve/open-inference-protocol (inference_rest.md) and Triton's page on the binary tensor data
extension.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from numpy.typing import NDArray

from glass_rt.errors import UsageError
from glass_rt.serve.oip.protocol import shown
from glass_rt.serve.oip.request import InferenceRequest, RequestedOutput, checked_id, requested
from glass_rt.serve.oip.tensors import (
    DATATYPES,
    TensorHead,
    binary_from_tensor,
    json_from_tensor,
    tensor_from_binary,
    tensor_from_json,
)

MAX_JSON_VALUES = 1 << 20  # in one request; Python's lists of them take up to 60 times their text
MOST_INDEX_REQUEST = 4096  # bytes; it holds one word
MAX_JSON_KEYS = 4096  # a request has a handful, and Python reads nothing more slowly


@dataclass(frozen=True)
class InferenceResponse:
    """Body of a response. `json_bytes` is the length of its JSON where tensors' bytes follow, else None."""

    body: bytes
    json_bytes: int | None


def parse_request(body: bytes, json_bytes: str | None = None) -> InferenceRequest:
    """A request from its body and its `Inference-Header-Content-Length`, if it has one. Raises UsageError."""
    length = len(body) if json_bytes is None else _json_length(json_bytes, len(body))
    message = _object(_loads(body[:length]), "the request")
    parameters = _object(message.get("parameters", {}), "parameters")
    return InferenceRequest(
        checked_id(message.get("id")),
        parameters,
        _tensors(_list(message.get("inputs"), "inputs"), memoryview(body)[length:]),
        _outputs(message.get("outputs"), parameters),
    )


def parse_index_request(body: bytes) -> bool:
    """Whether a request for the index of models asks for those alone that are ready. Raises UsageError."""
    if len(body) > MOST_INDEX_REQUEST:
        raise UsageError(f"the body has {len(body)} bytes; this route takes at most {MOST_INDEX_REQUEST}")
    wanted = _object(_loads(body or b"{}"), "the request")
    ready = wanted.get("ready", False)
    if not isinstance(ready, bool):
        raise UsageError(f"ready is {shown(ready)}; expected true or false")
    return ready


def encode_response(
    model: str, version: str, request: InferenceRequest, tensors: Mapping[str, NDArray[Any]]
) -> InferenceResponse:
    """The response to `request`: those of `tensors` that it asked for, each in the form that it asked for."""
    described, blobs = [], []
    for wanted in request.outputs:
        tensor = tensors[wanted.name]
        output: dict[str, Any] = {
            "name": wanted.name,
            "datatype": DATATYPES[tensor.dtype],
            "shape": list(tensor.shape),
        }
        if wanted.binary:
            blobs.append(binary_from_tensor(tensor))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            output["data"] = json_from_tensor(tensor)
        described.append(output)
    identity = {} if request.id is None else {"id": request.id}
    text = json.dumps({"model_name": model, "model_version": version, **identity, "outputs": described}).encode()
    return InferenceResponse(b"".join([text, *blobs]), len(text) if blobs else None)


def _json_length(text: str, body: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and 0 < int(text) <= body):
        raise UsageError(
            f"Inference-Header-Content-Length is {shown(text)}; expected the length of the JSON object in bytes, "
            f"1..{body}, which is all of the body"
        )
    return int(text)


def _loads(text: bytes) -> Any:
    if text.count(b",") + text.count(b"[") + text.count(b"{") > MAX_JSON_VALUES:
        raise UsageError(f"the JSON has more than {MAX_JSON_VALUES} values; send the tensor as binary data, or base64")
    if text.count(b":") > MAX_JSON_KEYS:
        raise UsageError(f"the JSON has more than {MAX_JSON_KEYS} keys")
    try:
        return json.loads(text.decode(), parse_constant=_not_json, parse_int=_integer)
    except UnicodeDecodeError:
        raise UsageError(
            "the JSON is not UTF-8; where binary data follow it, Inference-Header-Content-Length says its length"
        ) from None
    except ValueError as error:
        raise UsageError(f"the request is not JSON: {error!s:.120}") from None
    except RecursionError:
        raise UsageError("the request is not JSON that is read here: it is nested too deeply") from None


def _integer(digits: str) -> int:
    """Numbers of 64 bits. Python takes long to read thousands of digits, and no field has such a number."""
    if len(digits) > 20:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


def _tensors(inputs: list[Any], blob: memoryview) -> dict[str, NDArray[Any]]:
    """The inputs; those with binary data take it from `blob` in their order, and together take all of it."""
    tensors: dict[str, NDArray[Any]] = {}
    position = 0
    for number, values in enumerate(inputs):
        fields = _object(values, f"inputs[{number}]")
        head = _head(fields, f"inputs[{number}]")
        if head.name in tensors:
            raise UsageError(f"input {shown(head.name)} is given twice")
        size = _binary_size(fields, head.name)
        if size is None:
            tensors[head.name] = tensor_from_json(head, fields.get("data"))
            continue
        if size > len(blob) - position:
            raise UsageError(
                f"input {shown(head.name)}: binary_data_size is {size}; {len(blob) - position} bytes of binary data "
                "are left of the body"
            )
        tensors[head.name] = tensor_from_binary(head, blob[position : position + size])
        position += size
    if position != len(blob):
        raise UsageError(f"{len(blob) - position} bytes of binary data belong to no input")
    return tensors


def _head(fields: Mapping[str, Any], where: str) -> TensorHead:
    name, datatype = _text(fields.get("name"), f"{where}.name"), _text(fields.get("datatype"), f"{where}.datatype")
    return TensorHead(name, datatype, tuple(_list(fields.get("shape"), f"{where}.shape")))


def _binary_size(fields: Mapping[str, Any], name: str) -> int | None:
    """Bytes of a tensor whose data follow the JSON; None for a tensor whose data are in the JSON."""
    parameters = _object(fields.get("parameters", {}), f"parameters of input {shown(name)}")
    if unknown := sorted(set(parameters) - {"binary_data_size"}):
        raise UsageError(f"input {shown(name)}: parameter {shown(unknown[0])} is not known; expected binary_data_size")
    if "binary_data_size" not in parameters:
        return None
    size = parameters["binary_data_size"]
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise UsageError(f"input {shown(name)}: binary_data_size is {shown(size)}; expected a number of bytes")
    if "data" in fields:
        raise UsageError(f"input {shown(name)} has data and binary_data_size; expected one of them")
    return size


def _outputs(values: Any, parameters: Mapping[str, Any]) -> tuple[RequestedOutput, ...]:
    binary = _boolean(parameters.get("binary_data_output", False), "binary_data_output")
    wanted = [_object(value, "an element of outputs") for value in ([] if values is None else _list(values, "outputs"))]
    names = [_text(fields.get("name"), "the name of an output") for fields in wanted]
    outputs = requested(names, binary)
    if not wanted:
        return outputs
    return tuple(
        RequestedOutput(output.name, _output_binary(fields, output))
        for fields, output in zip(wanted, outputs, strict=True)
    )


def _output_binary(fields: Mapping[str, Any], output: RequestedOutput) -> bool:
    parameters = _object(fields.get("parameters", {}), f"parameters of output {output.name}")
    if unknown := sorted(set(parameters) - {"binary_data"}):
        raise UsageError(f"output {output.name}: parameter {shown(unknown[0])} is not known; expected binary_data")
    return _boolean(parameters.get("binary_data", output.binary), f"binary_data of output {output.name}")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{what}: got {shown(value)}; expected a JSON object")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(f"{what}: got {shown(value)}; expected a list")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{what}: got {shown(value)}; expected a string")
    return value


def _boolean(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{what}: got {shown(value)}; expected true or false")
    return value
