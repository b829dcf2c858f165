"""Tensors as the Open Inference Protocol writes them: JSON values, or bytes behind the JSON.

Clients are not trusted: sizes are checked against shapes before anything is allocated, and a size that does not fit
raises UsageError with the tensor's name.

The protocol does not say how BYTES are written in JSON. Here an input's elements are base64 (RFC 4648, with padding),
since encoded images are not text. An output's elements are the text itself, as in Triton's responses: all BYTES
outputs of glass-rt are UTF-8.

Source: Triton's page on the binary tensor data extension (little-endian, row-major; a BYTES element is its length as
an unsigned 32-bit integer and then its bytes).
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_rt.errors import UsageError
from glass_rt.serve.oip.protocol import shown

MAX_DIMENSIONS = 4
MAX_SIZE = 1 << 31
MAX_IMAGES = 256  # elements of a BYTES tensor: a request fails as a whole, so a larger one would hardly succeed
LENGTH = struct.Struct("<I")  # of a BYTES element
DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.int32): "INT32", np.dtype(np.object_): "BYTES"}


@dataclass(frozen=True)
class TensorHead:
    """A tensor's description, which comes before its contents. `shape` is checked; the datatype is BYTES or UINT8."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.datatype not in ("BYTES", "UINT8"):
            raise UsageError(
                f"input {shown(self.name)}: datatype is {shown(self.datatype)}; expected BYTES, one encoded image per "
                "element, or UINT8, the bytes of one"
            )
        check_shape(self.shape, self.name)
        if self.datatype == "BYTES" and self.elements > MAX_IMAGES:
            raise UsageError(
                f"input {shown(self.name)}: {self.elements} images in one request; at most {MAX_IMAGES} are taken"
            )

    @property
    def elements(self) -> int:
        """How many elements the shape asks for."""
        return prod(self.shape)


def check_shape(shape: Sequence[Any], name: str) -> None:
    """Raises UsageError unless the shape is 1 to 4 sizes of 0 to 2^31 - 1."""
    good = all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size < MAX_SIZE for size in shape)
    if not good or not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise UsageError(
            f"input {shown(name)}: shape is {shown(list(shape[:8]))}; expected 1 to {MAX_DIMENSIONS} sizes, each "
            "0..2^31-1"
        )


def tensor_from_binary(head: TensorHead, data: memoryview) -> NDArray[Any]:
    """A tensor from its bytes: BYTES as an array of objects (bytes), UINT8 as an array over `data`, not copied."""
    if head.datatype == "BYTES":
        return objects(head, _split(head, data))
    if len(data) != head.elements:
        raise UsageError(
            f"input {shown(head.name)}: {len(data)} bytes for the shape {list(head.shape)}, which takes {head.elements}"
        )
    return np.frombuffer(data, np.uint8).reshape(head.shape)


def tensor_from_json(head: TensorHead, data: Any) -> NDArray[Any]:
    """A tensor from JSON: base64 strings for BYTES, integers 0..255 for UINT8, nested as the shape or flat."""
    flat = _flat(head, data)
    if head.datatype == "BYTES":
        return objects(head, [_decoded(head, element) for element in flat])
    if not set(map(type, flat)) <= {int}:
        raise UsageError(f"input {shown(head.name)}: UINT8 data are integers 0..255")
    try:
        return np.frombuffer(bytes(flat), np.uint8).reshape(head.shape)
    except ValueError:  # of bytes(): a number out of range
        raise UsageError(f"input {shown(head.name)}: UINT8 data are integers 0..255") from None


def binary_from_tensor(tensor: NDArray[Any]) -> bytes:
    """The bytes of an output tensor, as `tensor_from_binary` reads them."""
    if tensor.dtype != np.object_:
        return tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes()
    return b"".join(LENGTH.pack(len(element)) + element for element in tensor.ravel())


def json_from_tensor(tensor: NDArray[Any]) -> list[Any]:
    """The elements of an output tensor in one flat list: numbers, or the text of BYTES."""
    if tensor.dtype == np.object_:
        return [element.decode() for element in tensor.ravel()]
    return list(tensor.ravel().tolist())


def objects(head: TensorHead, elements: list[bytes]) -> NDArray[np.object_]:
    """A BYTES tensor of elements that are as many as its shape asks for."""
    tensor = np.empty(len(elements), np.object_)
    tensor[:] = elements
    return tensor.reshape(head.shape)


def check_elements(head: TensorHead, count: int) -> None:
    """Raises UsageError unless `count` elements fill the shape."""
    if count != head.elements:
        raise UsageError(
            f"input {shown(head.name)}: {count} elements of data for the shape {list(head.shape)}, which takes "
            f"{head.elements}"
        )


def _split(head: TensorHead, data: memoryview) -> list[bytes]:
    """The elements of a BYTES tensor. The prefixes are walked before any element is copied."""
    name, spans, position = head.name, [], 0
    for number in range(1, head.elements + 1):
        start = position + LENGTH.size
        if start > len(data):
            raise UsageError(
                f"input {shown(name)}: {len(data)} bytes end before element {number} of {head.elements}; each element "
                "is its length as a little-endian 32-bit integer and then its bytes"
            )
        position = start + LENGTH.unpack_from(data, start - LENGTH.size)[0]
        if position > len(data):
            raise UsageError(
                f"input {shown(name)}: element {number} of {head.elements} says it has {position - start} bytes; "
                f"{len(data) - start} are left"
            )
        spans.append((start, position))
    if position != len(data):
        raise UsageError(
            f"input {shown(name)}: {len(data) - position} bytes follow the {head.elements} elements of its shape"
        )
    return [bytes(data[start:end]) for start, end in spans]


def _flat(head: TensorHead, data: Any) -> list[Any]:
    """The elements of JSON data. Recursion ends with the shape, of at most 4 dimensions."""
    if not isinstance(data, list):
        raise UsageError(f"input {shown(head.name)}: data is {shown(data)}; expected a list")
    nested = len(head.shape) > 1 and any(isinstance(element, list) for element in data[:1])
    flat = _unnested(head, data, head.shape) if nested else data
    check_elements(head, len(flat))
    return flat


def _unnested(head: TensorHead, data: Any, shape: tuple[int, ...]) -> list[Any]:
    if not isinstance(data, list) or len(data) != shape[0]:
        raise UsageError(f"input {shown(head.name)}: data is not nested as its shape {list(head.shape)}")
    if len(shape) == 1:
        return data
    return [element for row in data for element in _unnested(head, row, shape[1:])]


def _decoded(head: TensorHead, element: Any) -> bytes:
    if not isinstance(element, str):
        raise UsageError(f"input {shown(head.name)}: BYTES data in JSON are base64 strings; got {shown(element)}")
    try:
        return base64.b64decode(element, validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(
            f"input {shown(head.name)}: BYTES data in JSON are base64 (RFC 4648); {shown(element)} is not"
        ) from None
