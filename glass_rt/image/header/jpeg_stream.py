"""Which JPEGs a decoder on the device may read, by their markers alone: those that it decodes as libjpeg does.

Such decoders do not report what is missing or damaged (benchmarks/results/gpu_hour), so the stream must be whole, with
every restart marker in its place, before one sees a byte of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glass_rt.image.header.header import Header
from glass_rt.image.header.jpeg import segments

LEAST_PIXELS = 1_000_000  # below, a processor is as fast
MOST_PIXELS = 100_000_000  # of memory on the device, three bytes each
# Horizontal and vertical factors of each component (T.81, A.1.1): grey, 4:4:4, 4:2:2, 4:4:0, 4:2:0.
_SAMPLINGS = frozenset(
    (((1, 1),), *(((across, down), (1, 1), (1, 1)) for across, down in ((1, 1), (2, 1), (1, 2), (2, 2))))
)
_BASELINE, _DHT, _DQT, _DRI, _SOS, _EOI, _ADOBE = 0xC0, 0xC4, 0xDB, 0xDD, 0xDA, 0xD9, 0xEE
_KINDS = {0xC1: "extended sequential", 0xC2: "progressive", 0xC9: "of arithmetic coding", 0xCA: "of arithmetic coding"}
_FRAMES = frozenset(range(0xC0, 0xD0)) - {_DHT, 0xC8, 0xCC}
_SKIPPED = frozenset((*range(0xE0, 0xF0), 0xFE))  # those of applications, and comments
_FIRST_RESTART, _RESTARTS = 0xD0, 8
_NUMBERS, _HUFFMAN_NUMBERS = {0, 1, 2, 3}, {0, 1}  # of tables in baseline files
_MOST_BITS = (11, 10)  # of a DC difference and of an AC coefficient, of samples of 8 bits (T.81, F.1.2)
_AT_ONCE = 1 << 20  # bytes that are searched in one step


class NotForTheDevice(Exception):
    """The file is decoded on the CPU; the words say why."""


@dataclass
class _Markers:
    """What the segments before the scan say. `scan`: the SOS segment's payload; `data_start`: one past it."""

    kind: int = 0
    components: bytes = b""  # three bytes each: identifier, factors, table
    scan: bytes = b""
    data_start: int = 0
    restart_interval: int = 0  # in minimum coded units; 0: none
    quantisation: set[int] = field(default_factory=set[int])  # numbers of the tables that are there
    huffman: set[int] = field(default_factory=set[int])  # likewise, with 0x10 for those of AC coefficients
    adobe_transform: int | None = None


def baseline_stream(data: bytes, header: Header) -> memoryview:
    """The bytes of a file up to its EOI marker, where a decoder on the device may read them.

    Those are whole baseline JPEGs of 1 to 100 megapixels, grey or YCbCr in the usual samplings, in one scan, with a
    header that libjpeg accepts. Raises NotForTheDevice. The file's header was read before, by `read_header`.
    """
    if header.format != "jpeg":
        raise NotForTheDevice("not a JPEG")
    pixels = header.width * header.height
    if not LEAST_PIXELS <= pixels <= MOST_PIXELS:
        raise NotForTheDevice("under 1 megapixel" if pixels < LEAST_PIXELS else "over 100 megapixels")
    markers = _markers(data)
    _check_kind(markers, header)
    _check_components(markers)
    end = _end_of_scan(data, markers, _restarts(markers, header))
    return memoryview(data)[:end]


def _markers(data: bytes) -> _Markers:
    found = _Markers()
    for marker, start, end in segments(data):
        payload = data[start : min(end, start + 64)] if marker in _SKIPPED else data[start:end]
        if marker in _FRAMES:
            found.kind, found.components = marker, payload[6:]
        elif marker == _DQT:
            found.quantisation |= _quantisation_tables(payload)
        elif marker == _DHT:
            found.huffman |= _huffman_tables(payload)
        elif marker == _DRI:
            found.restart_interval = int.from_bytes(payload, "big")
        elif marker == _ADOBE and payload[:5] == b"Adobe" and len(payload) >= 12:
            found.adobe_transform = payload[11]
        elif marker == _SOS:
            found.scan, found.data_start = payload, end
            break
        elif marker not in _SKIPPED:
            raise NotForTheDevice("with an unusual marker")
        if end < start or (marker == _DRI and end - start != 2):
            raise NotForTheDevice("with a segment of no sensible length")
    return found


def _quantisation_tables(payload: bytes) -> set[int]:
    """The numbers of a DQT segment's tables (T.81, B.2.4.1). Raises NotForTheDevice for those of 16 bits."""
    numbers = set(payload[::65])
    if len(payload) % 65 or not numbers <= _NUMBERS:
        raise NotForTheDevice("with unusual tables")
    return numbers


def _huffman_tables(payload: bytes) -> set[int]:
    """The numbers of a DHT segment's tables (T.81, B.2.4.2). Raises NotForTheDevice where libjpeg would refuse one."""
    found = set()
    position = 0
    while position < len(payload):
        number, counts = payload[position], payload[position + 1 : position + 17]
        symbols = payload[position + 17 : position + 17 + sum(counts)]
        position += 17 + sum(counts)
        if position > len(payload) or number & 15 not in _HUFFMAN_NUMBERS or number >> 4 > 1:
            raise NotForTheDevice("with unusual tables")
        largest = max((symbol & 15 for symbol in symbols), default=_MOST_BITS[number >> 4] + 1)
        if largest > _MOST_BITS[number >> 4] or (number < 0x10 and max(symbols) > 15) or not _is_prefix_code(counts):
            raise NotForTheDevice("with unusual tables")
        found.add(number)
    return found


def _is_prefix_code(counts: bytes) -> bool:
    """Whether so many codes of 1 to 16 bits exist of which none begins another and none is all ones."""
    code = 0
    for bits, count in enumerate(counts, start=1):
        code = 2 * code + count
        if code >= 1 << bits:
            return False
    return True


def _check_kind(markers: _Markers, header: Header) -> None:
    if markers.kind != _BASELINE:
        raise NotForTheDevice(_KINDS.get(markers.kind, "not baseline"))
    if header.progressive:
        raise NotForTheDevice("in several scans")


def _check_components(markers: _Markers) -> None:
    """YCbCr or grey, as libjpeg would see it (by Adobe's marker, else by identifiers), with all their tables there."""
    fields = [markers.components[at : at + 3] for at in range(0, len(markers.components), 3)]
    if any(len(each) != 3 for each in fields):
        raise NotForTheDevice("with an unusual frame header")
    if tuple((factors >> 4, factors & 15) for _, factors, _ in fields) not in _SAMPLINGS:
        raise NotForTheDevice("of an unusual sampling or number of components")
    identifiers = bytes(each[0] for each in fields)
    if len(fields) == 3 and (markers.adobe_transform not in (None, 1) or identifiers in (b"RGB", b"rgb")):
        raise NotForTheDevice("in RGB")
    if len(set(identifiers)) < len(fields):
        raise NotForTheDevice("with an unusual frame header")
    if any(table not in markers.quantisation for _, _, table in fields):
        raise NotForTheDevice("without its tables")
    in_order = len(markers.scan) == 2 * len(fields) + 4 and markers.scan[1 : 2 * len(fields) : 2] == identifiers
    if not in_order or markers.scan[-3:] != b"\0\x3f\0":  # all 64 coefficients, at once
        raise NotForTheDevice("with an unusual scan header")
    chosen = markers.scan[2 : 2 * len(fields) + 1 : 2]
    if any(tables >> 4 not in markers.huffman or 0x10 | tables & 15 not in markers.huffman for tables in chosen):
        raise NotForTheDevice("without its tables")


def _restarts(markers: _Markers, header: Header) -> int:
    """How many restart markers a whole scan has."""
    if markers.restart_interval == 0:
        return 0
    factors = markers.components[1]
    across, down = -(-header.width // (8 * (factors >> 4))), -(-header.height // (8 * (factors & 15)))
    return (across * down - 1) // markers.restart_interval


def _end_of_scan(data: bytes, markers: _Markers, restarts: int) -> int:
    """One past the EOI marker that ends the scan; all before it are the restart markers that belong there, in order.

    What follows, such as a preview or a film, is no part of the image.
    """
    stream = np.frombuffer(data, np.uint8)
    seen = 0
    for start in range(markers.data_start, len(data), _AT_ONCE):
        for place in _markers_in(stream, start):
            code = int(stream[place + 1])
            if code == _EOI and seen == restarts:
                return int(place) + 2
            if code != _FIRST_RESTART + seen % _RESTARTS or seen == restarts:
                raise NotForTheDevice("with markers missing or out of place in its scan")
            seen += 1
    raise NotForTheDevice("without an end")


def _markers_in(stream: NDArray[np.uint8], start: int) -> NDArray[np.intp]:
    """Where, from `start` on and within one step, 0xFF is neither a stuffed byte of the scan nor a fill byte."""
    places = start + np.flatnonzero(stream[start : min(start + _AT_ONCE, len(stream) - 1)] == 0xFF)
    following = stream[places + 1]
    found: NDArray[np.intp] = places[(following != 0x00) & (following != 0xFF)]
    return found
