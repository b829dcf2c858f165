"""The protocol's gRPC messages: requests, responses, malformed requests."""

import struct
from typing import Any

import numpy as np
import pytest

from glass_rt.errors import UsageError
from glass_rt.serve.oip.grpc_message import message_from_tensors, request_from_message
from glass_rt.serve.oip.protocol import OUTPUTS
from glass_rt.serve.oip.request import InferenceRequest, RequestedOutput

pb = pytest.importorskip("tritonclient.grpc.service_pb2")


def message(raw: list[bytes] | None = None, **given: Any) -> Any:
    built = pb.ModelInferRequest(model_name="glass", raw_input_contents=raw or [])
    built.inputs.add(**{"name": "image", "datatype": "BYTES", "shape": [1, 1], **given})
    return built


def test_raw_and_typed_contents_are_the_same_tensor() -> None:
    raw = request_from_message(message([struct.pack("<I", 4) + b"jpeg"]))
    typed = request_from_message(message(contents={"bytes_contents": [b"jpeg"]}))
    assert raw.tensors["image"].tolist() == typed.tensors["image"].tolist() == [[b"jpeg"]]
    raw = request_from_message(message([b"\x00\x01\xff"], datatype="UINT8", shape=[3]))
    typed = request_from_message(message(datatype="UINT8", shape=[3], contents={"uint_contents": [0, 1, 255]}))
    assert raw.tensors["image"].tobytes() == typed.tensors["image"].tobytes() == b"\x00\x01\xff"
    assert typed.tensors["image"].dtype == np.uint8


def test_parameters_are_values_of_their_kind() -> None:
    built = message(contents={"bytes_contents": [b"jpeg"]})
    built.parameters["crops"].int64_param = 4
    built.parameters["seed"].string_param = "7"
    built.parameters["other"].bool_param = True
    request = request_from_message(built)
    assert request.parameters == {"crops": 4, "seed": "7", "other": True}
    assert [output.name for output in request.outputs] == [output.name for output in OUTPUTS]


def test_an_answer_has_its_tensors_raw() -> None:
    tensors = {"label": np.array([[b"real"]], np.object_), "boxes": np.array([[[1, 2, 3, 4]]], np.int32)}
    request = InferenceRequest("7", {}, {}, (RequestedOutput("boxes", True), RequestedOutput("label", True)))
    response = message_from_tensors(pb.ModelInferResponse(), request, tensors)
    assert response.id == "7"
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [
        ("boxes", "INT32", [1, 1, 4]),
        ("label", "BYTES", [1, 1]),
    ]
    assert list(response.raw_output_contents) == [struct.pack("<4i", 1, 2, 3, 4), struct.pack("<I", 4) + b"real"]


def with_unset_parameter() -> Any:
    built = message(contents={"bytes_contents": [b"jpeg"]})
    built.parameters["seed"].SetInParent()
    return built


def twice() -> Any:
    built = message(contents={"bytes_contents": [b"jpeg"]})
    built.inputs.append(built.inputs[0])
    return built


def with_output(**output: Any) -> Any:
    built = message(contents={"bytes_contents": [b"jpeg"]})
    built.outputs.add(**output)
    return built


@pytest.mark.parametrize(
    ("built", "says"),
    [
        (lambda: message(), "0 elements of data for the shape"),
        (lambda: message([b"a", b"b"]), "2 raw_input_contents for 1 inputs"),
        (lambda: message([b"jpeg"]), "says it has"),
        (lambda: message([b""]), "end before element 1"),
        (lambda: message([b"x"], contents={"bytes_contents": [b"x"]}), "expected one of them"),
        (lambda: message(shape=[-1, 1]), "shape is"),
        (lambda: message(shape=[2**62, 2**62]), "shape is"),
        (lambda: message(shape=[]), "shape is"),
        (lambda: message(shape=[1] * 100), "shape is"),
        (lambda: message(datatype="FP32"), "datatype is 'FP32'"),
        (lambda: message(contents={"int_contents": [1]}), "not in int_contents"),
        (lambda: message(contents={"fp32_contents": [1], "bytes_contents": [b"x"]}), "not in fp32_contents"),
        (lambda: message(contents={"bytes_contents": [b"x", b"y"]}), "2 elements"),
        (lambda: message(datatype="UINT8", contents={"uint_contents": [256]}), "0..255"),
        (lambda: message(datatype="UINT8", contents={"bytes_contents": [b"x"]}), "not in bytes_contents"),
        (lambda: message(parameters={"shared_memory_region": {"string_param": "x"}}), "parameters are not known"),
        (with_unset_parameter, "request parameter 'seed' has no value"),
        (twice, "given twice"),
        (lambda: with_output(name="logits"), "output 'logits' is not known"),
        (
            lambda: with_output(name="label", parameters={"classification": {"int64_param": 1}}),
            "parameters are not known",
        ),
    ],
)
def test_malformed_requests_are_refused_in_few_words(built: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refusal:
        request_from_message(built())
    assert len(str(refusal.value)) < 400
