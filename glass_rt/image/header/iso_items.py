"""Items of an AVIF or HEIC file: their kinds, properties, bytes and references (ISO/IEC 14496-12, 8.11; 23008-12)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from glass_rt.errors import ImageCorrupt
from glass_rt.image.header.iso_boxes import Box, boxes, children

MOST_ITEMS = 70_000  # a grid has at most 256 x 256 tiles
MOST_NOTES = 500_000  # places, properties and references of all items; a list of nothing can be endless


@dataclass
class Item:
    """What the boxes say of one item, gathered as they are read."""

    kind: bytes = b""
    kind_at: int = 0  # where the file says so
    properties: list[Box] = field(default_factory=list)
    extents: list[slice] = field(default_factory=list)
    references: dict[bytes, list[int]] = field(default_factory=dict)
    auxiliary_at: list[int] = field(default_factory=list)  # where the file says `auxl` of its references

    def property(self, kind: bytes) -> Box | None:
        """Its property of that kind. Raises ImageCorrupt where it has several, of which decoders take either."""
        found = [box for box in self.properties if box.kind == kind]
        if len(found) > 1:
            raise ImageCorrupt(f"an item has several properties {kind.decode('latin-1')}")
        return found[0] if found else None

    def content(self, data: bytes) -> bytes | memoryview:
        """The bytes of an item. Raises ImageCorrupt where its extents overlap to more than the file."""
        if len(self.extents) == 1:
            return memoryview(data)[self.extents[0]]
        if sum(part.stop - part.start for part in self.extents) > len(data):
            raise ImageCorrupt("an item is larger than the file")
        return b"".join(data[part] for part in self.extents)


class Items(NamedTuple):
    """The items of a file by their numbers, and the number of the one to show (0: none is named)."""

    by_id: dict[int, Item]
    primary: int


def read_items(data: bytes, meta: Box) -> Items:
    """Gathers what a `meta` box says. Raises ImageCorrupt where it contradicts itself or the file."""
    inner = children(data, meta, skipped=4)
    items: dict[int, Item] = {}
    primary = 0
    if b"pitm" in inner:
        wide = data[inner[b"pitm"].start] > 0
        (primary,) = struct.unpack_from(">I" if wide else ">H", data, inner[b"pitm"].start + 4)
    if b"iinf" in inner:
        _read_kinds(data, inner[b"iinf"], items)
    if b"iloc" in inner:
        _read_places(data, inner[b"iloc"], inner.get(b"idat"), items)
    if b"iprp" in inner:
        _read_properties(data, inner[b"iprp"], items)
    if b"iref" in inner:
        _read_references(data, inner[b"iref"], items)
    return Items(items, primary)


def _check_number(notes: int) -> int:
    if notes > MOST_NOTES:
        raise ImageCorrupt(f"the file notes more than {MOST_NOTES} facts of its items")
    return notes


def _item(items: dict[int, Item], number: int) -> Item:
    if len(items) >= MOST_ITEMS and number not in items:
        raise ImageCorrupt(f"the file has more than {MOST_ITEMS} items")
    return items.setdefault(number, Item())


def _read_kinds(data: bytes, box: Box, items: dict[int, Item]) -> None:
    for entry in boxes(data, box.start + (8 if data[box.start] else 6), box.end):
        if entry.kind != b"infe" or data[entry.start] < 2:
            continue
        wide = data[entry.start] == 3
        (number,) = struct.unpack_from(">I" if wide else ">H", data, entry.start + 4)
        at = entry.start + (10 if wide else 8)
        item = _item(items, number)
        item.kind, item.kind_at = data[at : at + 4], at


def _read_places(data: bytes, box: Box, idat: Box | None, items: dict[int, Item]) -> None:
    version, sizes = data[box.start], int.from_bytes(data[box.start + 4 : box.start + 6], "big")
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    position = box.start + 6

    def take(size: int) -> int:
        nonlocal position
        if position + size > box.end:
            raise ImageCorrupt("the list of items ends early")
        position += size
        return int.from_bytes(data[position - size : position], "big")

    wide, places = 4 if version == 2 else 2, 0
    for _ in range(take(wide)):
        item = _item(items, take(wide))
        method = take(2) & 15 if version else 0
        take(2)
        base = take(base_size)
        if item.extents:
            raise ImageCorrupt("an item has two places")
        extents = take(2)
        places = _check_number(places + extents)
        for _ in range(extents):
            take(index_size)
            offset, length = base + take(offset_size), take(length_size)
            if method == 1 and idat is not None:
                offset, end = idat.start + offset, idat.end
            else:
                end = len(data)
            length = length or max(end - offset, 0)
            if offset + length > end:
                raise ImageCorrupt("an item lies beyond the end of the file")
            item.extents.append(slice(offset, offset + length))
        if method > 1 or (method == 1 and idat is None):
            item.extents.clear()


def _read_properties(data: bytes, box: Box, items: dict[int, Item]) -> None:
    inner = children(data, box)
    if b"ipco" not in inner:
        return
    noted = 0
    properties = list(boxes(data, inner[b"ipco"].start, inner[b"ipco"].end))
    for table in boxes(data, box.start, box.end):
        if table.kind != b"ipma":
            continue
        version, wide = data[table.start], data[table.start + 3] & 1
        (count,) = struct.unpack_from(">I", data, table.start + 4)
        position = table.start + 8
        for _ in range(count):
            if position >= table.end:
                raise ImageCorrupt("the list of properties ends early")
            (number,) = struct.unpack_from(">I" if version else ">H", data, position)
            position += 4 if version else 2
            associations, position = data[position], position + 1
            item = _item(items, number)
            noted = _check_number(noted + associations)
            for _ in range(associations):
                index = int.from_bytes(data[position : position + 2], "big") & 0x7FFF if wide else data[position] & 0x7F
                position += 2 if wide else 1
                if 0 < index <= len(properties):
                    item.properties.append(properties[index - 1])


def _read_references(data: bytes, box: Box, items: dict[int, Item]) -> None:
    code = ">I" if data[box.start] else ">H"
    size, noted = struct.calcsize(code), 0
    for entry in boxes(data, box.start + 4, box.end):
        (number,) = struct.unpack_from(code, data, entry.start)
        (count,) = struct.unpack_from(">H", data, entry.start + size)
        start = entry.start + size + 2
        if start + count * size > entry.end:
            raise ImageCorrupt("the list of references ends early")
        noted = _check_number(noted + count)
        targets = struct.unpack_from(f">{count}{code[1]}", data, start)
        item = _item(items, number)
        item.references.setdefault(entry.kind, []).extend(targets)
        if entry.kind == b"auxl":
            item.auxiliary_at.append(entry.start - 4)
