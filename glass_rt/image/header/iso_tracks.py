"""Pictures of an AVIF sequence: its tracks (ISO/IEC 14496-12, 8.3 to 8.7)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from glass_rt.errors import ImageCorrupt
from glass_rt.image.header.iso_boxes import Box, boxes, children

MOST_SAMPLES = 200_000  # of one track; libavif notes each of them


@dataclass(frozen=True)
class Track:
    """One track of AV1 pictures: its size, whether it is another's alpha, and the bytes of its first picture."""

    width: int
    height: int
    auxiliary: bool
    first: bytes


def av1_tracks(data: bytes, moov: Box) -> list[Track]:
    """The tracks of AV1 pictures. Raises ImageCorrupt where one contradicts itself or the file."""
    found = []
    for box in boxes(data, moov.start, moov.end):
        if box.kind == b"trak" and (track := _track(data, box)) is not None:
            found.append(track)
    return found


def _track(data: bytes, box: Box) -> Track | None:
    trak = children(data, box)
    table: dict[bytes, Box] = trak
    for kind in (b"mdia", b"minf", b"stbl"):
        if kind not in table:
            return None
        table = children(data, table[kind])
    if not {b"stsd", b"stsz", b"stsc"} <= table.keys() or b"tkhd" not in trak:
        return None
    entries = [box for box in boxes(data, table[b"stsd"].start + 8, table[b"stsd"].end) if box.kind == b"av01"]
    width, height = (fixed >> 16 for fixed in struct.unpack_from(">II", data, trak[b"tkhd"].end - 8))
    for entry in entries:
        stated = struct.unpack_from(">HH", data, entry.start + 24)
        if stated != (width, height):
            raise ImageCorrupt(f"a track says {width} x {height} pixels, its pictures {stated[0]} x {stated[1]}")
    if not entries:
        return None
    auxiliary = b"tref" in trak and b"auxl" in children(data, trak[b"tref"])
    return Track(width, height, auxiliary, _first_sample(data, table))


def _first_sample(data: bytes, table: dict[bytes, Box]) -> bytes:
    wide = b"co64" in table
    if wide and b"stco" in table:
        raise ImageCorrupt("a track gives the places of its pictures twice")
    chunks = table.get(b"co64") or table.get(b"stco")
    size, samples = struct.unpack_from(">II", data, table[b"stsz"].start + 4)
    (runs,) = struct.unpack_from(">I", data, table[b"stsc"].start + 4)
    if chunks is None or not samples:
        return b""
    (chunk_count,) = struct.unpack_from(">I", data, chunks.start + 4)
    if max(samples, chunk_count, runs) > MOST_SAMPLES:
        raise ImageCorrupt(f"a track has more than {MOST_SAMPLES} pictures")
    for run in range(runs):
        (in_chunk,) = struct.unpack_from(">I", data, table[b"stsc"].start + 12 + 12 * run)
        if in_chunk * chunk_count > MOST_SAMPLES:
            raise ImageCorrupt(f"a track has more than {MOST_SAMPLES} pictures")
    if not chunk_count:
        return b""
    if not size:
        (size,) = struct.unpack_from(">I", data, table[b"stsz"].start + 12)
    (offset,) = struct.unpack_from(">Q" if wide else ">I", data, chunks.start + 8)
    if offset + size > len(data):
        raise ImageCorrupt("a picture of the track lies beyond the end of the file")
    return data[offset : offset + size]
