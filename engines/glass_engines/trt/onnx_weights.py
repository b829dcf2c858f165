"""The weights of an ONNX file in memory mapped from disk, apart from the graph.

A parser that reads a whole ONNX file holds its weights once as a message and once more in the network. Given the graph
without weights, and the address of each weight, it holds neither: the kernel pages them in from a file.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

# Field numbers of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_NAME, _TENSOR_RAW_DATA = 7, 5, 8, 9
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers
_SMALL = 1024  # bytes; parsers look at the values of small constants, such as shapes
_ALIGNMENT = 64  # in an ONNX file weights begin at any byte, and a C++ float may not


@dataclass(frozen=True)
class GraphAndWeights:
    """`graph`: the ONNX model without its large weights. `weights`: address and bytes of each, by its name.

    The addresses hold as long as this object lives.
    """

    graph: bytes
    weights: Mapping[str, tuple[int, int]]
    _mapping: Any


def weights_apart(path: Path, folder: Path) -> GraphAndWeights | None:
    """Takes an ONNX file apart; its weights go into a file without a name in `folder`, which must not be in memory.

    None where the file is no ONNX model, or has no large weights of its own. Raises OSError.
    """
    with path.open("rb") as file, TemporaryFile(dir=folder) as apart:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as model:
                graph, places = _take_apart(model, apart)
        except (ValueError, IndexError):  # empty or no protocol buffer: the vendor's parser says it in its own words
            return None
        if not places:
            return None
        apart.flush()
        mapping = np.frombuffer(mmap.mmap(apart.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    start = mapping.ctypes.data
    return GraphAndWeights(graph, {name: (start + at, size) for name, (at, size) in places.items()}, mapping)


def _take_apart(model: mmap.mmap, apart: IO[bytes]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    result = bytearray()
    places: dict[str, tuple[int, int]] = {}
    for field, whole, content in _fields(model, slice(0, len(model))):
        if field == _MODEL_GRAPH:
            result += _message(_MODEL_GRAPH, _graph_apart(model, content, apart, places))
        else:
            result += model[whole]
    return bytes(result), places


def _graph_apart(model: mmap.mmap, graph: slice, apart: IO[bytes], places: dict[str, tuple[int, int]]) -> bytearray:
    result = bytearray()
    for field, whole, content in _fields(model, graph):
        if field != _GRAPH_INITIALIZER or content.stop - content.start < _SMALL:
            result += model[whole]
            continue
        tensor, name, raw = bytearray(), "", None
        for part, whole_part, inner in _fields(model, content):
            if part == _TENSOR_RAW_DATA:
                raw = inner
                continue
            if part == _TENSOR_NAME:
                name = model[inner].decode()
            tensor += model[whole_part]
        if raw is None:  # its values stand elsewhere; the parser finds them
            result += model[whole]
            continue
        apart.write(bytes(-apart.tell() % _ALIGNMENT))
        places[name] = (apart.tell(), raw.stop - raw.start)
        apart.write(model[raw])
        result += _message(_GRAPH_INITIALIZER, tensor)
    return result


def _fields(data: mmap.mmap, message: slice) -> Iterator[tuple[int, slice, slice]]:
    """Number, whole extent and extent of the content of each field. Raises ValueError, IndexError."""
    at = message.start
    while at < message.stop:
        start = at
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _LENGTH:
            size, at = _varint(data, at)
        elif kind == _VARINT:
            size = _varint(data, at)[1] - at
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > message.stop:
            raise ValueError("a field is longer than its message")
        yield key >> 3, slice(start, at + size), slice(at, at + size)
        at += size


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _message(field: int, content: bytearray) -> bytes:
    return _encoded(field << 3 | _LENGTH) + _encoded(len(content)) + content


def _encoded(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*result, value))
