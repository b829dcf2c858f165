"""Encoded tensors: well-formed ones are decoded, malformed ones are refused by name."""

import base64
import struct
from typing import Any

import numpy as np
import pytest

from glass_rt.errors import UsageError
from glass_rt.serve.oip.tensors import (
    MAX_IMAGES,
    TensorHead,
    binary_from_tensor,
    json_from_tensor,
    tensor_from_binary,
    tensor_from_json,
)


def packed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def encoded(*elements: bytes) -> list[str]:
    return [base64.b64encode(element).decode() for element in elements]


def test_bytes_come_through_in_binary_and_in_json_alike() -> None:
    elements = (b"", b"\x00\xff" * 500, b"\xff\xd8jpeg")
    head = TensorHead("image", "BYTES", (3, 1))
    for tensor in (
        tensor_from_binary(head, memoryview(packed(*elements))),
        tensor_from_json(head, encoded(*elements)),
        tensor_from_json(head, [[text] for text in encoded(*elements)]),
    ):
        assert tensor.shape == (3, 1)
        assert tensor.dtype == np.object_
        assert tensor.ravel().tolist() == list(elements)


@pytest.mark.parametrize("shape", [(256,), (1, 256), (2, 128), (2, 2, 64)])
def test_uint8_comes_through_in_binary_and_in_json_alike(shape: tuple[int, ...]) -> None:
    expected = np.arange(256, dtype=np.uint8).reshape(shape)
    head = TensorHead("image_uint8", "UINT8", shape)
    for tensor in (
        tensor_from_binary(head, memoryview(expected.tobytes())),
        tensor_from_json(head, expected.ravel().tolist()),
        tensor_from_json(head, expected.tolist()),
    ):
        assert tensor.dtype == np.uint8
        assert np.array_equal(tensor, expected)


@pytest.mark.parametrize(
    "shape",
    [
        (),
        (-1,),
        (-1, -1),
        (1, -9),
        (True,),
        (1.0,),
        ("1",),
        (None,),
        (1 << 31,),
        (10**400, 10**400),
        (1, 1, 1, 1, 1),
        ([1],),
    ],
)
def test_shapes_that_no_tensor_has_are_refused(shape: tuple[Any, ...]) -> None:
    for datatype in ("BYTES", "UINT8"):
        with pytest.raises(UsageError, match=r"input 'image'.*shape is .*expected 1 to 4 sizes"):
            TensorHead("image", datatype, shape)


@pytest.mark.parametrize("datatype", ["FP32", "bytes", "", "\ud800", "X" * 10**6])
def test_other_datatypes_are_refused(datatype: str) -> None:
    with pytest.raises(UsageError, match="expected BYTES") as refusal:
        TensorHead("image", datatype, (1,))
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("shape", [(MAX_IMAGES + 1,), (2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1)])
def test_more_images_than_a_request_may_have_are_refused_before_anything_is_read(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=f"at most {MAX_IMAGES}"):
        TensorHead("image", "BYTES", shape)


@pytest.mark.parametrize(
    ("shape", "data", "says"),
    [
        ((1,), b"", "end before element 1 of 1"),
        ((1,), b"\x01\x00\x00", "end before element 1 of 1"),  # not even a length
        ((1,), struct.pack("<I", 5) + b"four", "element 1 of 1 says it has 5 bytes; 4 are left"),
        ((1,), struct.pack("<I", 0xFFFFFFFF) + b"x", "says it has 4294967295 bytes"),
        ((1,), struct.pack(">I", 4) + b"four", "says it has 67108864 bytes"),  # big-endian
        ((2,), packed(b"one"), "end before element 2 of 2"),
        ((1,), packed(b"one", b"two"), "7 bytes follow the 1 elements"),
        ((1,), packed(b"one") + b"\x00", "1 bytes follow"),
        ((0,), b"\x00", "1 bytes follow the 0 elements"),
        ((2, 0), packed(b"one"), "7 bytes follow the 0 elements"),
    ],
)
def test_bytes_that_do_not_fit_their_shape_are_refused(shape: tuple[int, ...], data: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        tensor_from_binary(TensorHead("image", "BYTES", shape), memoryview(data))


@pytest.mark.parametrize(("shape", "size"), [((4,), 3), ((4,), 5), ((2, 2), 0), ((0,), 1), ((2**31 - 1,) * 4, 8)])
def test_uint8_of_another_size_than_its_shape_is_refused(shape: tuple[int, ...], size: int) -> None:
    head = TensorHead("image", "UINT8", shape)
    with pytest.raises(UsageError, match=f"{size} bytes for the shape"):
        tensor_from_binary(head, memoryview(bytes(size)))
    with pytest.raises(UsageError, match=f"{size} elements of data for the shape"):
        tensor_from_json(head, [0] * size)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "says"),
    [
        ("BYTES", (1,), None, "data is None; expected a list"),
        ("BYTES", (1,), "YQ==", "expected a list"),
        ("BYTES", (1,), {}, "expected a list"),
        ("BYTES", (1,), [1], "base64 strings; got 1"),
        ("BYTES", (1,), [None], "base64 strings"),
        ("BYTES", (1,), [["YQ=="]], "base64 strings"),  # deeper than its shape
        ("BYTES", (1,), ["YQ"], "is not"),  # no padding
        ("BYTES", (1,), ["Y Q=="], "is not"),
        ("BYTES", (1,), ["YQ==\n"], "is not"),
        ("BYTES", (1,), ["-_-_"], "is not"),  # the alphabet for URLs
        ("BYTES", (1,), ["\u00e9"], "is not"),
        ("BYTES", (1,), ["\ud800"], "is not"),
        ("BYTES", (2, 1), [["YQ=="]], "not nested as its shape"),
        ("BYTES", (2, 1), [["YQ=="], "YQ=="], "not nested as its shape"),
        ("BYTES", (2, 1), [["YQ=="], ["YQ==", "YQ=="]], "not nested as its shape"),
        ("UINT8", (1,), [256], "integers 0..255"),
        ("UINT8", (1,), [-1], "integers 0..255"),
        ("UINT8", (1,), [10**1000], "integers 0..255"),
        ("UINT8", (1,), [True], "integers 0..255"),
        ("UINT8", (1,), [1.0], "integers 0..255"),
        ("UINT8", (1,), ["1"], "integers 0..255"),
        ("UINT8", (1,), [[1]], "integers 0..255"),
        ("UINT8", (1, 2), [[1], [2]], "not nested as its shape"),
    ],
)
def test_json_data_that_are_not_what_the_tensor_says_are_refused(
    datatype: str, shape: tuple[int, ...], data: Any, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        tensor_from_json(TensorHead("image", datatype, shape), data)


def test_outputs_are_written_as_the_protocol_says() -> None:
    floats = np.array([[0.1, 1.0]], np.float32)
    assert binary_from_tensor(floats) == struct.pack("<2f", 0.1, 1.0)
    assert np.float32(json_from_tensor(floats)[0]) == np.float32(0.1)
    assert binary_from_tensor(np.array([[[1, -2, 3, 4]]], np.int32)) == struct.pack("<4i", 1, -2, 3, 4)
    texts = np.array([[b"fake"], ["vrai é".encode()]], np.object_)
    assert binary_from_tensor(texts) == packed(b"fake", "vrai é".encode())
    assert json_from_tensor(texts) == ["fake", "vrai é"]
