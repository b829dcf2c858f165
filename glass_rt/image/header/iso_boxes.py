"""Boxes of ISO media files: `length, kind, payload`, nested (ISO/IEC 14496-12, 4.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from glass_rt.errors import ImageCorrupt

MOST_BOXES = 100_000  # side by side
_ONCE = frozenset((b"pitm", b"iinf", b"iloc", b"iprp", b"iref", b"idat", b"ipco", b"tkhd", b"tref", b"mdia", b"minf",
                   b"stbl", b"stsd", b"stsz", b"stsc", b"stco", b"co64"))  # fmt: skip


@dataclass(frozen=True)
class Box:
    """A box's kind, and where its payload lies in the file."""

    kind: bytes
    start: int
    end: int


def boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """The boxes side by side between two bytes. Raises ImageCorrupt where one goes beyond them."""
    position = start
    for _ in range(MOST_BOXES):
        if position + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, position + 8)
            head = 16
        elif size == 0:
            size = end - position
        if size < head or position + size > end:
            raise ImageCorrupt(f"a box {_name(kind)} of {size} bytes goes beyond what holds it")
        yield Box(kind, position + head, position + size)
        position += size
    raise ImageCorrupt(f"the file has more than {MOST_BOXES} boxes side by side")


def children(data: bytes, box: Box, skipped: int = 0) -> dict[bytes, Box]:
    """The boxes inside a box, behind `skipped` bytes, by their kinds; of several of one kind, the first.

    Raises ImageCorrupt where there are two of a kind of which a reader takes one: decoders differ in which.
    """
    found: dict[bytes, Box] = {}
    for child in boxes(data, box.start + skipped, box.end):
        if child.kind in found and child.kind in _ONCE:
            raise ImageCorrupt(f"the file has two boxes {_name(child.kind)} in one place")
        found.setdefault(child.kind, child)
    return found


def _name(kind: bytes) -> str:
    return ascii(kind.decode("latin-1"))
