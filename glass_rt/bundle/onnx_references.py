"""The files that an ONNX graph takes weights from, found without the onnx package.

A tensor may lie outside of its graph ("external data"): libraries then open the file that it names. Source: onnx.proto
of ONNX 1.19, and Protocol Buffers' page on the wire format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

# Message fields in which tensors lie, by message: field number -> message.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_LOCATION = b"location"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WINDOW = 1 << 16
_MOST_KEY = 1 << 12


class Readable(Protocol):
    """Content with a size that is read piece by piece."""

    @property
    def size(self) -> int:
        """Bytes in all."""

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, or what there is of them."""


def external_files(graph: Readable) -> tuple[str, ...]:
    """The locations that tensors of the graph name, as they are written there, each once.

    Every reference counts, also those that a library would pass over. Weights are skipped, not read. Raises ValueError
    where the content is not a message of Protocol Buffers.
    """
    window, found = _Window(graph), dict[str, None]()
    pending = [("model", 0, graph.size)]
    while pending:
        message, start, end = pending.pop()
        if message == "entry":
            if (location := _location(window, start, end)) is not None:
                found[location] = None
            continue
        inner = _MESSAGES[message]
        pending += [(inner[number], *place) for number, place in _fields(window, start, end) if number in inner]
    return tuple(found)


def _location(window: _Window, start: int, end: int) -> str | None:
    """The value of a key and value pair whose key is `location`."""
    texts = {1: b"", 2: b""}
    for number, (first, last) in _fields(window, start, end):
        if number in texts:
            texts[number] = window.piece(first, min(last, first + _MOST_KEY))
    return texts[2].decode("utf-8", "surrogateescape") if texts[1] == _LOCATION else None


def _fields(window: _Window, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Number and place of each length-delimited field of the message at `start` to `end`."""
    while start < end:
        tag, start = window.varint(start, end)
        tag &= 0xFFFFFFFF  # as libraries read it
        kind = tag & 7
        if kind == _VARINT:
            _, start = window.varint(start, end)
        elif kind == _BYTES:
            length, start = window.varint(start, end)
            if length > end - start:
                raise ValueError("a field is longer than its message")
            yield tag >> 3, (start, start + length)
            start += length
        elif kind in (_FIXED32, _FIXED64):
            start += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("a field is of no type that ONNX has")
    if start > end:
        raise ValueError("a field is longer than its message")


class _Window:
    """A few kilobytes of the content at a time."""

    def __init__(self, content: Readable) -> None:
        self._content = content
        self._start, self._bytes = 0, b""

    def piece(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, at most as many as the window holds."""
        if not self._start <= start <= end <= self._start + len(self._bytes):
            self._start, self._bytes = start, self._content.read_at(start, max(_WINDOW, end - start))
        return self._bytes[start - self._start : end - self._start]

    def varint(self, start: int, end: int) -> tuple[int, int]:
        """The number at `start`, and where the next field begins."""
        value = 0
        for index, byte in enumerate(self.piece(start, min(end, start + 10))):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value, start + index + 1
        raise ValueError("a number has no end")
