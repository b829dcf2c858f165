"""The protocol's REST messages: requests, responses, and a table of malformed requests."""

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest

from glass_rt.errors import UsageError
from glass_rt.serve.oip.protocol import OUTPUTS
from glass_rt.serve.oip.request import InferenceRequest, RequestedOutput
from glass_rt.serve.oip.rest_message import (
    MAX_JSON_KEYS,
    MAX_JSON_VALUES,
    encode_response,
    parse_request,
)

TEXT = base64.b64encode(b"jpeg").decode()
INPUT = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": [TEXT]}
BLOB = struct.pack("<I", 4) + b"jpeg"
BINARY = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(BLOB)}}


def message(**fields: Any) -> bytes:
    return json.dumps({"inputs": [INPUT], **fields}).encode()


def with_blob(blob: bytes, *inputs: dict[str, Any]) -> tuple[bytes, str]:
    text = json.dumps({"inputs": list(inputs)}).encode()
    return text + blob, str(len(text))


def test_a_json_request_asks_for_all_outputs_as_json_unless_it_says_otherwise() -> None:
    request = parse_request(message())
    assert request.id is None
    assert request.tensors["image"].tolist() == [[b"jpeg"]]
    assert request.outputs == tuple(RequestedOutput(output.name, False) for output in OUTPUTS)


def test_a_request_says_which_outputs_it_wants_and_how() -> None:
    wanted = [
        {"name": "label"},
        {"name": "boxes", "parameters": {"binary_data": True}},
        {"name": "verdict", "parameters": {"binary_data": False}},
    ]
    assert parse_request(message(outputs=wanted)).outputs == (
        RequestedOutput("label", False),
        RequestedOutput("boxes", True),
        RequestedOutput("verdict", False),
    )
    binary = parse_request(message(outputs=wanted, parameters={"binary_data_output": True}))
    assert [output.binary for output in binary.outputs] == [True, True, False]
    assert all(output.binary for output in parse_request(message(parameters={"binary_data_output": True})).outputs)


def test_binary_data_of_several_inputs_stand_in_their_order() -> None:
    other = {"name": "image_uint8", "datatype": "UINT8", "shape": [3], "parameters": {"binary_data_size": 3}}
    request = parse_request(*with_blob(b"abc" + BLOB, other, BINARY))
    assert request.tensors["image"].tolist() == [[b"jpeg"]]
    assert request.tensors["image_uint8"].tobytes() == b"abc"
    assert parse_request(*with_blob(BLOB, INPUT | {"name": "x"}, BINARY)).tensors["x"].tolist() == [[b"jpeg"]]


def test_the_id_and_parameters_come_through() -> None:
    request = parse_request(message(id="\ud800 42", parameters={"crops": 4, "seed": "7"}))
    assert request.id == "\ud800 42"
    assert request.parameters == {"crops": 4, "seed": "7"}
    response = encode_response("glass", "1", request, TENSORS)
    assert json.loads(response.body)["id"] == "\ud800 42"  # even what UTF-8 cannot write


TENSORS: dict[str, Any] = {
    "probabilities": np.array([[0.25, 0.75]], np.float32),
    "probability_fake": np.array([[0.25]], np.float32),
    "label": np.array([[b"real"]], np.object_),
    "boxes": np.array([[[1, 2, 3, 4]]], np.int32),
    "attention": np.array([[1.0]], np.float32),
    "verdict": np.array([[b"{}"]], np.object_),
}


def test_an_answer_holds_what_was_asked_for_in_that_order() -> None:
    request = InferenceRequest("7", {}, {}, (RequestedOutput("boxes", False), RequestedOutput("label", False)))
    response = encode_response("glass", "1", request, TENSORS)
    assert response.json_bytes is None
    assert json.loads(response.body) == {
        "model_name": "glass",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {"name": "boxes", "datatype": "INT32", "shape": [1, 1, 4], "data": [1, 2, 3, 4]},
            {"name": "label", "datatype": "BYTES", "shape": [1, 1], "data": ["real"]},
        ],
    }


def test_binary_outputs_follow_the_json_in_its_order() -> None:
    wanted = (RequestedOutput("label", True), RequestedOutput("attention", False), RequestedOutput("boxes", True))
    response = encode_response("glass", "1", InferenceRequest(None, {}, {}, wanted), TENSORS)
    assert response.json_bytes is not None
    described = json.loads(response.body[: response.json_bytes])
    assert "id" not in described
    assert [output.get("parameters") for output in described["outputs"]] == [
        {"binary_data_size": 8},
        None,
        {"binary_data_size": 16},
    ]
    assert response.body[response.json_bytes :] == struct.pack("<I", 4) + b"real" + struct.pack("<4i", 1, 2, 3, 4)


MALFORMED: list[tuple[str, bytes, str | None]] = [
    ("empty", b"", None),
    ("not JSON", b"hello", None),
    ("a JPEG", b"\xff\xd8\xff\xe0" + bytes(range(256)), None),
    ("zeros", bytes(1000), None),
    ("UTF-16", message().decode().encode("utf-16"), None),
    ("a byte order mark", b"\xef\xbb\xbf" + message(), None),
    ("half an object", message()[:-1], None),
    ("two objects", message() + message(), None),
    ("a list", b"[]", None),
    ("a number", b"1", None),
    ("null", b"null", None),
    ("NaN", message(parameters={"seed": float("nan")}), None),
    ("infinity", message(parameters={"seed": float("inf")}), None),
    ("an integer of 10,000 digits", b'{"inputs": [], "id": ' + b"9" * 10_000 + b"}", None),
    ("lists nested 100,000 deep", b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
    ("objects nested 100,000 deep", b'{"inputs": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", None),
    ("millions of empty lists", b'{"inputs": [' + b"[]," * MAX_JSON_VALUES + b"[]]}", None),
    ("no inputs", b"{}", None),
    ("inputs null", message(inputs=None), None),
    ("inputs an object", message(inputs={}), None),
    ("an input that is a string", message(inputs=["image"]), None),
    ("an input without name", message(inputs=[{k: v for k, v in INPUT.items() if k != "name"}]), None),
    ("a name that is a number", message(inputs=[INPUT | {"name": 1}]), None),
    ("no datatype", message(inputs=[INPUT | {"datatype": None}]), None),
    ("another datatype", message(inputs=[INPUT | {"datatype": "FP64"}]), None),
    ("no shape", message(inputs=[INPUT | {"shape": None}]), None),
    ("a shape that is a number", message(inputs=[INPUT | {"shape": 1}]), None),
    ("an empty shape", message(inputs=[INPUT | {"shape": []}]), None),
    ("a negative shape", message(inputs=[INPUT | {"shape": [-1, -1]}]), None),
    ("a huge shape", message(inputs=[INPUT | {"shape": [2**62, 2**62]}]), None),
    ("a shape of thousands of sizes", message(inputs=[INPUT | {"shape": [1] * 5000}]), None),
    ("more images than data", message(inputs=[INPUT | {"shape": [2, 1]}]), None),
    ("no data", message(inputs=[{k: v for k, v in INPUT.items() if k != "data"}]), None),
    ("data that are not base64", message(inputs=[INPUT | {"data": ["\u00ff\u00d8"]}]), None),
    ("an input twice", message(inputs=[INPUT, INPUT]), None),
    ("an unknown parameter of an input", message(inputs=[INPUT | {"parameters": {"shared_memory_region": "x"}}]), None),
    ("parameters of an input a list", message(inputs=[INPUT | {"parameters": []}]), None),
    ("parameters a list", message(parameters=[]), None),
    ("binary_data_output a string", message(parameters={"binary_data_output": "yes"}), None),
    ("id a number", message(id=1), None),
    ("id an object", message(id={}), None),
    ("an id of a megabyte", message(id="x" * 1_000_000), None),
    ("outputs an object", message(outputs={}), None),
    ("an output that is a string", message(outputs=["label"]), None),
    ("an output without name", message(outputs=[{}]), None),
    ("an unknown output", message(outputs=[{"name": "logit"}]), None),
    ("an output twice", message(outputs=[{"name": "label"}, {"name": "label"}]), None),
    ("binary_data a number", message(outputs=[{"name": "label", "parameters": {"binary_data": 1}}]), None),
    ("classification", message(outputs=[{"name": "label", "parameters": {"classification": 2}}]), None),
    ("header length empty", message(), ""),
    ("header length a word", message(), "all"),
    ("header length zero", BLOB, "0"),
    ("header length negative", message(), "-1"),
    ("header length signed", message(), f"+{len(message())}"),
    ("header length in other digits", message(), "١٢"),
    ("header length beyond the body", message(), str(len(message()) + 1)),
    ("header length of 5,000 digits", message(), "9" * 5000),
    ("header length into the JSON", message(), "10"),
    ("bytes of no input", message() + b"x", str(len(message()))),
    ("binary without a header length", with_blob(BLOB, BINARY)[0], None),
    ("binary data missing", *with_blob(b"", BINARY)),
    ("binary data cut", *with_blob(BLOB[:-1], BINARY)),
    ("binary data and more", *with_blob(BLOB + b"x", BINARY)),
    ("binary and JSON data", *with_blob(BLOB, BINARY | {"data": [TEXT]})),
    *(
        (f"binary_data_size {size!r}", *with_blob(BLOB, BINARY | {"parameters": {"binary_data_size": size}}))
        for size in (-1, 7, 9, 2**70, 1.5, "8", None, True, [8])
    ),
    ("a length prefix beyond its tensor", *with_blob(struct.pack("<I", 99) + b"jpeg", BINARY)),
]


@pytest.mark.parametrize(("body", "json_bytes"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_malformed_requests_are_refused_in_few_words(body: bytes, json_bytes: str | None) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_request(body, json_bytes)
    assert 10 < len(str(refusal.value)) < 400
    str(refusal.value).encode()  # can be written for any input


def test_more_keys_than_any_request_has_are_refused_unparsed() -> None:
    with pytest.raises(UsageError, match=f"more than {MAX_JSON_KEYS} keys"):
        parse_request(message(parameters={f"key {number}": 1 for number in range(MAX_JSON_KEYS)}))


@pytest.mark.parametrize("seed", range(8))
def test_damaged_requests_are_parsed_or_refused_but_never_break(seed: int) -> None:
    random = np.random.default_rng(seed)
    whole, json_bytes = with_blob(BLOB, BINARY)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for position in random.integers(0, len(whole), random.integers(1, 6)):
            damaged[position] = random.integers(0, 256)
        cut = bytes(damaged[: random.integers(1, len(whole) + 1)])
        try:
            parse_request(cut, json_bytes if seed % 2 else None)
        except UsageError:
            refused += 1
    assert refused > 250
