"""The TIFF structure that EXIF blocks and TIFF files share: its directories, and the orientation in the first."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ORIENTATION = 0x0112
MOST_ENTRIES = 4096  # of one directory; libtiff and cameras write some dozens
MOST_WALKED = 1 << 14  # entries of a file's other directories: a page has about fifteen
_MOST_BELOW = 64
_BIG = 43  # the version of BigTIFF
_SUB_DIRECTORIES = 330
_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # BYTE, SHORT, LONG, LONG8
_PLACES = {4: "I", 13: "I", 16: "Q", 18: "Q"}  # LONG, IFD, LONG8, IFD8
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


class DirectoryUnreadable(ValueError):
    """The first directory cannot be found or ends early. Never leaves this package."""


@dataclass(frozen=True)
class Entry:
    """One tag of a directory: `count` values of type `kind`, the first byte of them at `place`."""

    tag: int
    kind: int
    count: int
    place: int


@dataclass(frozen=True)
class Directory:
    """A directory of a TIFF structure, whose bytes are `tiff`, in the order of the file."""

    tiff: bytes
    order: str  # "<" or ">"
    entries: tuple[Entry, ...]
    next_at: slice  # where it says where the next directory is

    def find(self, tag: int) -> Entry | None:
        """The first entry of that tag, the one that libtiff takes."""
        return next((entry for entry in self.entries if entry.tag == tag), None)

    def values(self, entry: Entry, most: int, codes: Mapping[int, str] = _CODES) -> tuple[int, ...]:
        """The values of an entry, at most `most` of them; none where they are of none of the types `codes`.

        These are the unsigned integers, with their codes in `struct`.

        Raises DirectoryUnreadable where they lie beyond the end.
        """
        code = codes.get(entry.kind)
        count = min(entry.count, most)
        if code is None or count == 0:
            return ()
        if entry.place + count * _SIZES[entry.kind] > len(self.tiff):
            raise DirectoryUnreadable(f"the values of tag {entry.tag} lie beyond its end")
        return struct.unpack_from(f"{self.order}{count}{code}", self.tiff, entry.place)

    def first(self, tag: int, default: int) -> int:
        """The first value of a tag, or `default` where the tag is absent or holds no unsigned integer."""
        entry = self.find(tag)
        values = self.values(entry, 1) if entry else ()
        return values[0] if values else default


def first_directory(tiff: bytes) -> Directory:
    """The first directory of a TIFF structure, classic or BigTIFF, that starts at the byte-order mark.

    Raises DirectoryUnreadable. Source: TIFF 6.0, section 2; EXIF 2.32, section 4.6.2.
    """
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        raise DirectoryUnreadable("it has no byte-order mark")
    try:
        (version,) = struct.unpack_from(order + "H", tiff, 2)
        big = version == _BIG
        (offset,) = struct.unpack_from(order + ("Q" if big else "I"), tiff, 8 if big else 4)
    except struct.error:
        raise DirectoryUnreadable("it ends early") from None
    return _directory_at(tiff, order, big, offset)


def other_directories(first: Directory) -> Iterator[tuple[Directory, bool]]:
    """The directories of other pictures: those that follow the first, and those below each (SubIFDs), told by True.

    At most MOST_WALKED entries are gone through; what cannot be read, and what comes again, ends the walk.
    """
    tiff, order = first.tiff, first.order
    big = struct.unpack_from(order + "H", tiff, 2) == (_BIG,)
    own = first.next_at.start - len(first.entries) * (20 if big else 12) - (8 if big else 2)
    seen = {0, own}
    waiting, walked = [(first, False)], 0
    while waiting:
        directory, below = waiting.pop()
        entry = directory.find(_SUB_DIRECTORIES)
        try:
            subs = directory.values(entry, _MOST_BELOW, _PLACES) if entry and not below else ()
            following = 0 if below else int.from_bytes(tiff[directory.next_at], "little" if order == "<" else "big")
            for offset, is_below in ((following, False), *((sub, True) for sub in subs)):
                if offset in seen or walked > MOST_WALKED:
                    continue
                seen.add(offset)
                found = _directory_at(tiff, order, big, offset)
                walked += len(found.entries) + 1
                yield found, is_below
                waiting.append((found, is_below))
        except DirectoryUnreadable:
            return


def _directory_at(tiff: bytes, order: str, big: bool, offset: int) -> Directory:
    try:
        if offset + (8 if big else 2) > len(tiff):
            raise DirectoryUnreadable(f"its directory would be at byte {offset} of {len(tiff)}")
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), tiff, offset)
    except struct.error:
        raise DirectoryUnreadable("it ends early") from None
    if count > MOST_ENTRIES:
        raise DirectoryUnreadable(f"its directory states {count} entries; at most {MOST_ENTRIES} are read")
    start, size = (offset + 8, 20) if big else (offset + 2, 12)
    if start + count * size > len(tiff):
        raise DirectoryUnreadable("its directory ends early")
    layout = struct.Struct(order + ("HHQQ" if big else "HHII"))
    inline = 8 if big else 4
    entries = []
    for position in range(start, start + count * size, size):
        tag, kind, values, place = layout.unpack_from(tiff, position)
        fits = values * _SIZES.get(kind, 1) <= inline
        entries.append(Entry(tag, kind, values, position + size - inline if fits else place))
    after = start + count * size
    return Directory(tiff, order, tuple(entries), slice(after, min(after + inline, len(tiff))))


def orientation(exif: bytes) -> tuple[int, tuple[str, ...]]:
    """EXIF orientation 1..8 of an EXIF block (with or without its `Exif\\0\\0` prefix), and a notice where it has none.

    1 where the block gives no orientation or cannot be read; the notice says the latter.
    """
    try:
        value = first_directory(exif.removeprefix(b"Exif\0\0")).first(ORIENTATION, 1)
    except DirectoryUnreadable as error:
        return 1, (f"EXIF cannot be read: {error}",)
    return (value if 1 <= value <= 8 else 1), ()
