"""One mutated file a trial: bytes, lengths, units and sizes of a sample changed by a seeded generator."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence

from tests.fuzz.corpus import Sample

# Numbers at the borders of the types that lengths, sizes and offsets have.
BORDERS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x3FFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 14000, 1 << 20, 0x7FFFFFFF,
           0x80000000, 0xFFFFFFFF, 1 << 62, 1 << 63, (1 << 64) - 1)  # fmt: skip
_WIDTHS = (1, 2, 4, 8)


def mutated(samples: Sequence[Sample], seed: int, trial: int) -> Sample:
    """The file of a trial; the same for the same samples, seed and trial."""
    chance = random.Random(f"{seed} {trial}")
    sample = samples[trial % len(samples)]
    others = [other.data for other in samples if other.form == sample.form]
    data = bytearray(sample.data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        _one_change(data, sample.form, others, chance)
    if sample.form == "png" and chance.random() < 0.8:
        _mend_checksums(data)
    return Sample(sample.form, sample.name, bytes(data))


def _one_change(data: bytearray, form: str, others: list[bytes], chance: random.Random) -> None:
    if len(data) < 16:
        return
    changes: tuple[tuple[float, Callable[[], None]], ...] = (
        (5, lambda: _flip_bits(data, chance)),
        (2, lambda: _flip_late_bits(data, chance)),
        (2, lambda: _set_number(data, chance)),
        (3, lambda: _set_size(data, form, chance)),
        (1, lambda: _truncate(data, chance)),
        (1, lambda: _move_bytes(data, chance)),
        (3, lambda: _change_units(data, form, chance)),
        (1, lambda: _splice(data, others, chance)),
    )
    weights, actions = zip(*changes, strict=True)
    chance.choices(actions, weights)[0]()


def _flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8, 32))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _flip_late_bits(data: bytearray, chance: random.Random) -> None:
    """Only in the second half, where the pixels are."""
    data[chance.randrange(len(data) // 2, len(data))] ^= 1 << chance.randrange(8)


def _set_number(data: bytearray, chance: random.Random) -> None:
    """A number at the border of a type, anywhere, more often near the beginning."""
    place = chance.randrange(min(len(data), chance.choice((64, 1024, len(data)))))
    _put(data, place, chance.choice(_WIDTHS), chance.choice(("little", "big")), chance)


def _put(data: bytearray, place: int, width: int, order: str, chance: random.Random) -> None:
    old = int.from_bytes(data[place : place + width], "little" if order == "little" else "big")
    values = (chance.choice(BORDERS), old + chance.choice((-1, 1, 2, 16)), old * 2, old // 2, chance.randrange(1 << 16))
    value = chance.choice(values) % (1 << 8 * width)
    if place + width <= len(data):
        data[place : place + width] = value.to_bytes(width, "little" if order == "little" else "big")


# What says a size, by format: places from the beginning, or behind a mark.
_SIZES: dict[str, list[tuple[bytes, int, int, str]]] = {
    "jpeg": [(b"\xff\xc0", 5, 2, "big"), (b"\xff\xc0", 7, 2, "big"), (b"\xff\xc2", 5, 2, "big"), (b"\xff\xc2", 7, 2, "big")],
    "png": [(b"IHDR", 4, 4, "big"), (b"IHDR", 8, 4, "big"), (b"IHDR", 12, 1, "big"), (b"IHDR", 13, 1, "big"), (b"fcTL", 8, 4, "big")],
    "webp": [(b"VP8X", 12, 2, "little"), (b"VP8X", 15, 2, "little"), (b"VP8 ", 14, 2, "little"), (b"VP8 ", 16, 2, "little"), (b"VP8L", 9, 4, "little"), (b"ANMF", 14, 2, "little")],
    "gif": [(b"GIF8", 6, 2, "little"), (b"GIF8", 8, 2, "little"), (b"\x2c\0\0\0\0", 5, 2, "little"), (b"\x2c\0\0\0\0", 7, 2, "little")],
    "bmp": [(b"BM", 18, 4, "little"), (b"BM", 22, 4, "little"), (b"BM", 28, 2, "little"), (b"BM", 30, 4, "little"), (b"BM", 10, 4, "little")],
    "avif": [(b"ispe", 8, 4, "big"), (b"ispe", 12, 4, "big"), (b"av01", 24, 4, "big"), (b"tkhd", 92, 4, "big"), (b"\x0a\x06", 2, 4, "big"), (b"stsz", 8, 4, "big")],
    "heic": [(b"ispe", 8, 4, "big"), (b"ispe", 12, 4, "big"), (b"clap", 4, 4, "big"), (b"hvcC", 30, 4, "big"), (b"iloc", 12, 4, "big"), (b"dimg", 6, 2, "big")],
}  # fmt: skip


def _set_size(data: bytearray, form: str, chance: random.Random) -> None:
    if form == "tiff":
        _change_entry(data, chance)
        return
    mark, behind, width, order = chance.choice(_SIZES[form])
    places = [match.start() for match in re.finditer(re.escape(mark), data)]
    if places:
        _put(data, chance.choice(places) + behind, width, order, chance)


def _change_entry(data: bytearray, chance: random.Random) -> None:
    """Tag, type, count or value of one entry of a classic TIFF's first directory, or an entry twice."""
    if data[:4] != b"II*\0":
        return
    (start,) = struct.unpack_from("<I", data, 4)
    if start + 2 > len(data):
        return
    (count,) = struct.unpack_from("<H", data, start)
    places = [start + 2 + 12 * i for i in range(min(count, 64)) if start + 14 + 12 * i <= len(data)]
    if not places:
        return
    entry = chance.choice(places)
    what = chance.randrange(5)
    if what == 4:
        other = chance.choice(places)
        data[other : other + 12] = data[entry : entry + 12]
        return
    place, width = ((entry, 2), (entry + 2, 2), (entry + 4, 4), (entry + 8, 4))[what]
    _put(data, place, width, "little", chance)


def _truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(8, len(data)) :]


def _move_bytes(data: bytearray, chance: random.Random) -> None:
    """A stretch deleted, doubled or overwritten by another."""
    start, length = chance.randrange(len(data)), chance.choice((1, 4, 16, 256))
    stretch = bytes(data[start : start + length])
    what = chance.randrange(3)
    if what == 0:
        del data[start : start + length]
    elif what == 1:
        data[start:start] = stretch
    else:
        place = chance.randrange(len(data))
        data[place : place + len(stretch)] = stretch


def _splice(data: bytearray, others: list[bytes], chance: random.Random) -> None:
    """From some byte on another file of the format."""
    other = chance.choice(others)
    place = chance.randrange(len(data))
    data[place:] = other[place:]


def _change_units(data: bytearray, form: str, chance: random.Random) -> None:
    """Chunks, segments or boxes doubled, left out, exchanged, or of another length."""
    units = _units(bytes(data), form)
    if len(units) < 3:
        _set_number(data, chance)
        return
    parts = [bytes(data[start:end]) for start, end in units]
    first, second = chance.randrange(1, len(parts)), chance.randrange(1, len(parts))
    what = chance.randrange(4)
    if what == 0:
        parts.insert(second, parts[first])
    elif what == 1:
        del parts[first]
    elif what == 2:
        parts[first], parts[second] = parts[second], parts[first]
    else:
        unit = bytearray(parts[first])
        place, width = {"jpeg": (2, 2), "webp": (4, 4)}.get(form, (0, 4))
        _put(unit, place, width, "little" if form == "webp" else "big", chance)
        parts[first] = bytes(unit)
    data[:] = b"".join(parts)


def _units(data: bytes, form: str) -> list[tuple[int, int]]:
    """Where the chunks of the file lie, the file's head as the first; none for formats without."""
    heads = {"png": 8, "webp": 12, "jpeg": 2, "avif": 0, "heic": 0}
    if form not in heads:
        return []
    position = heads[form]
    units = [(0, position)]
    while position + 8 <= len(data) and len(units) < 200:
        if form == "jpeg":
            if data[position] != 0xFF or data[position + 1] == 0xDA:
                break
            length = 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        elif form == "webp":
            length = 8 + (int.from_bytes(data[position + 4 : position + 8], "little") + 1) // 2 * 2
        else:
            length = int.from_bytes(data[position : position + 4], "big") + (12 if form == "png" else 0)
            inner = {b"meta": 12, b"iprp": 8, b"ipco": 8}.get(data[position + 4 : position + 8])
            length = inner or length  # goes into the box
        if length < 4 or position + length > len(data):
            break
        units.append((position, position + length))
        position += length
    return [*units, (position, len(data))]


def _mend_checksums(data: bytearray) -> None:
    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4
