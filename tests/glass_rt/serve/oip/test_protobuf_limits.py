"""Messages are checked before they are parsed."""

import random
from contextlib import suppress

import pytest

from glass_rt.errors import UsageError
from glass_rt.serve.oip.protobuf_limits import MAX_FIELDS, MAX_NUMBERS, check_message

pb = pytest.importorskip("tritonclient.grpc.service_pb2")
DESCRIPTOR = pb.ModelInferRequest.DESCRIPTOR if pb else None


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def request() -> bytes:
    message = pb.ModelInferRequest(model_name="glass", id="1", raw_input_contents=[b"\x00" * 10_000])
    message.inputs.add(name="image", datatype="BYTES", shape=[2**40, -1])
    message.parameters["seed"].int64_param = -1
    message.parameters["margin"].double_param = 1.5
    encoded: bytes = message.SerializeToString()
    return encoded


def test_a_request_passes() -> None:
    check_message(request(), DESCRIPTOR)
    check_message(b"", DESCRIPTOR)
    check_message(
        request() + field(1000, bytes(10)) + varint(1001 << 3 | 5) + bytes(4), DESCRIPTOR
    )  # of a later version


@pytest.mark.parametrize(
    "message",
    [
        b"\x2a\x00" * (MAX_FIELDS + 1),  # inputs
        b"\x22\x00" * (MAX_FIELDS + 1),  # parameters
        b"\x3a\x00" * (MAX_FIELDS + 1),  # raw contents
        b"\xf8\x07\x00" * (MAX_FIELDS + 1),  # unknown numbers
        field(5, b"\x22\x00" * (MAX_FIELDS + 1)),  # parameters of an input
        field(5, field(5, b"\x42\x00" * (MAX_FIELDS + 1))),  # elements of an input
        field(5, b"\x2a\x00" * 3000) * 2,  # few in each
    ],
)
def test_more_fields_than_any_request_has_are_refused(message: bytes) -> None:
    with pytest.raises(UsageError, match=f"more than {MAX_FIELDS} fields"):
        check_message(message, DESCRIPTOR)


@pytest.mark.parametrize("path", [(5, 3), (5, 5, 4), (5, 5, 1)])  # a shape, unsigned numbers, booleans
def test_more_numbers_than_a_tensor_should_have_are_refused(path: tuple[int, ...]) -> None:
    message = bytes(MAX_NUMBERS + 1)
    for number in reversed(path):
        message = field(number, message)
    with pytest.raises(UsageError, match="bytes of numbers"):
        check_message(message, DESCRIPTOR)


@pytest.mark.parametrize(
    "message",
    [
        b"\x80" * 11,  # a number without end
        b"\xff" * 20,
        b"\x0a",  # a length is missing
        b"\x0a\x05four",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # 2^63 bytes
        b"\x0d\x00",  # half of four bytes
        b"\x09\x00\x00\x00\x00",  # half of eight
        b"\x0b\x0c",  # a group
        b"\x0e",  # a wire type that there is not
        field(5, b"\x0a\x05four"),  # within a message
        b"\x2a\x02\x0a\x05four...",  # a field that leaves its message
    ],
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(UsageError, match="not a protobuf message"):
        check_message(message, DESCRIPTOR)


def test_damage_is_found_or_passed_on_but_never_breaks_the_check() -> None:
    chance = random.Random(606)
    for _ in range(2000):
        damaged = bytearray(request())
        for _ in range(chance.randrange(1, 5)):
            damaged[chance.randrange(80)] = chance.randrange(256)
        with suppress(UsageError):
            check_message(bytes(damaged), DESCRIPTOR)
