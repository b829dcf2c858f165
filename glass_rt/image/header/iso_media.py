"""AVIF and HEIC: the item to show, what it is made of, and whether its frames are coded in the size it states."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from glass_rt.errors import ImageCorrupt
from glass_rt.image import exif
from glass_rt.image.header import av1, hevc
from glass_rt.image.header.header import Header, Piece
from glass_rt.image.header.iso_boxes import Box, boxes
from glass_rt.image.header.iso_items import Item, Items, read_items
from glass_rt.image.header.iso_tracks import av1_tracks

# Frames are coded in whole blocks, HEVC's in pixels of this many; what is beyond the image is cut off.
LARGEST_BLOCK = {b"hvc1": 64, b"hev1": 64, b"av01": 8}
# A grid's tiles and an overlay's pictures go beyond it: a tile at the right and the lower edge, say.
MOST_WORK = 4  # times the pixels of the image ...
LEAST_WORK = 1 << 22  # ... or this many pixels
MOST_DEPTH = 8  # of images made of images
_LARGEST_EXIF = 1 << 24  # bytes that are looked at
_DERIVED = (b"grid", b"iovl", b"iden")
_ALPHA = (b"auxiliary:alpha", b"auxid:1")
_ORIENTATIONS = {0: 1, 1: 8, 2: 3, 3: 6}  # EXIF's, by quarter turns anticlockwise
_WORKING_BYTES = 20  # a pixel, of the hungriest decoder


def format_by_brands(data: bytes) -> str | None:
    """`avif`, `heic` or None, by the brands of the first box."""
    (length,) = struct.unpack_from(">I", data, 0)
    brands = data[8 : min(length, 256)]
    if b"avif" in brands or b"avis" in brands:
        return "avif"
    return "heic" if any(brand in brands for brand in (b"heic", b"heix", b"hevc", b"mif1")) else None


def read_iso_media(data: bytes) -> Header:
    """The size of the item to show, or of the pictures of a sequence; `irot` as orientation."""
    kind = format_by_brands(data) or "heic"
    outer: dict[bytes, Box] = {}
    for box in boxes(data, 0, len(data)):
        if box.kind in (b"meta", b"moov", b"ftyp") and box.kind in outer:
            raise ImageCorrupt(f"the {kind.upper()} has two boxes {box.kind.decode()}")
        outer[box.kind] = box
    animated = b"avis" in data[8:64] or b"hevc" in data[8:64]
    if kind == "avif" and data[8:12] == b"avis" and b"moov" in outer:
        header = _sequence(data, outer[b"moov"])
        if header is not None:
            return header
    if b"meta" not in outer:
        raise ImageCorrupt(f"the {kind.upper()} file gives no size")
    return _still(data, kind, read_items(data, outer[b"meta"]), animated)


def _sequence(data: bytes, moov: Box) -> Header | None:
    tracks = av1_tracks(data, moov)
    pictures = [track for track in tracks if not track.auxiliary]
    if not pictures:
        return None
    width, height, working = pictures[0].width, pictures[0].height, 0
    grey = av1.grey_range(pictures[0].first) == "limited"
    for track in tracks:
        if (track.width, track.height) != (width, height):
            raise ImageCorrupt(f"the AVIF's tracks say {width} x {height} and {track.width} x {track.height} pixels")
        *coded, frames = av1.largest_frame(track.first)
        _check_coded(b"av01", (coded[0], coded[1]), (width, height))
        working += _WORKING_BYTES * width * height * max(0, frames - 1)
    transparent = len(pictures) < len(tracks)
    return Header(
        "avif", width, height, transparent=transparent, animated=True, limited_grey=grey, working_bytes=working
    )


def _still(data: bytes, kind: str, items: Items, animated: bool) -> Header:
    primary = items.by_id.get(items.primary)
    if primary is None or not primary.kind:
        raise ImageCorrupt(f"the {kind.upper()} names no item to show")
    size = _stated_size(data, primary)
    if size is None:
        raise ImageCorrupt(f"the {kind.upper()} file gives no size")
    work = _Work(data, items)
    pixels = work.of(items.primary, MOST_DEPTH)
    most = max(MOST_WORK * size[0] * size[1], LEAST_WORK)
    alphas = [number for number, item in items.by_id.items() if _is_alpha_of(data, item, work.reached)]
    notices, unread = _unreadable_exif(data, items)
    pieces = _renamed([*_unneeded(items, alphas), *unread]) if kind == "avif" else ()
    pixels = max(pixels, sum(work.of(number, MOST_DEPTH) for number in alphas))
    if pixels > most:
        raise ImageCorrupt(f"the image of {size[0]} x {size[1]} pixels is made of {pixels / 1e6:.0f} megapixels")
    orientation = _ORIENTATIONS[_quarter_turns(data, primary)]
    width, height = size if kind == "avif" else _cropped(data, primary, size)
    return Header(
        kind,
        width,
        height,
        orientation,
        transparent=bool(alphas),
        animated=animated,
        limited_grey=kind == "avif" and _is_limited_grey(data, items, primary),
        turned=kind == "heic",  # by libheif; libavif leaves it to others
        working_bytes=_WORKING_BYTES * max(0, pixels - width * height),
        pieces=pieces,
        notices=notices,
    )


@dataclass
class _Work:
    """Pixels that are decoded for an item, those of repeated parts each time; `reached`: the items they belong to."""

    data: bytes
    items: Items

    def __post_init__(self) -> None:
        self.reached: set[int] = set()
        self._known: dict[int, int] = {}

    def of(self, number: int, depth: int) -> int:
        """Raises ImageCorrupt where an item's coded frames are not of its stated size."""
        if number in self._known:
            return self._known[number]
        item = self.items.by_id.get(number)
        if item is None or depth == 0:
            raise ImageCorrupt("the image is made of items that are not there" if depth else "images lie too deep")
        self.reached.add(number)
        if item.kind in _DERIVED:
            parts = item.references.get(b"dimg", [])
            pixels = sum(self.of(part, depth - 1) for part in parts)
            self._check_canvas(item, len(parts))
        else:
            pixels = self._coded(item)
        self._known[number] = pixels
        return pixels

    def _coded(self, item: Item) -> int:
        stated = _stated_size(self.data, item)
        content = item.content(self.data)
        if item.kind == b"av01":
            *coded, frames = av1.largest_frame(content)
        elif item.kind in (b"hvc1", b"hev1"):
            box = item.property(b"hvcC")
            if box is None:
                raise ImageCorrupt("an HEVC item has no configuration")
            *coded, frames = hevc.largest_picture(self.data[box.start : box.end], content)
        else:
            name = ascii(item.kind.decode("latin-1"))
            raise ImageCorrupt(f"the image is coded as {name}, which is not read; convert it to JPEG or PNG")
        if stated is not None:
            _check_coded(item.kind, (coded[0], coded[1]), stated)
        return coded[0] * coded[1] * max(1, frames)

    def _check_canvas(self, item: Item, parts: int) -> None:
        content = item.content(self.data)
        if item.kind == b"iden":
            return
        wide = ">II" if content[1] & 1 else ">HH"
        canvas = struct.unpack_from(wide, content, 4 if item.kind == b"grid" else 10)
        if item.kind == b"grid" and (content[2] + 1) * (content[3] + 1) != parts:
            raise ImageCorrupt(f"a grid of {content[2] + 1} x {content[3] + 1} tiles has {parts}")
        if canvas != _stated_size(self.data, item):
            raise ImageCorrupt(f"the image says another size than its {canvas[0]} x {canvas[1]} pixels")


def _stated_size(data: bytes, item: Item) -> tuple[int, int] | None:
    box = item.property(b"ispe")
    if box is None:
        return None
    width, height = struct.unpack_from(">II", data, box.start + 4)
    return width, height


def _check_coded(kind: bytes, coded: tuple[int, int], stated: tuple[int, int]) -> None:
    if coded == (0, 0):
        raise ImageCorrupt("the coded frame gives no size")
    if any(not 0 <= frame - side < LARGEST_BLOCK[kind] for frame, side in zip(coded, stated, strict=True)):
        raise ImageCorrupt(f"the header says {stated[0]} x {stated[1]} pixels; {coded[0]} x {coded[1]} are coded")


def _cropped(data: bytes, item: Item, size: tuple[int, int]) -> tuple[int, int]:
    """The size behind `clap`, which libheif obeys (ISO/IEC 14496-12, 12.1.4.3)."""
    box = item.property(b"clap")
    if box is None:
        return size
    width, width_parts, height, height_parts = struct.unpack_from(">IIII", data, box.start)
    if not width_parts or not height_parts:
        raise ImageCorrupt("the image's crop cannot be read")
    return round(width / width_parts), round(height / height_parts)


def _quarter_turns(data: bytes, item: Item) -> int:
    box = item.property(b"irot")
    return data[box.start] & 3 if box else 0


def _is_limited_grey(data: bytes, items: Items, primary: Item) -> bool:
    """By the frames of the item or of its first tile; the range that `colr` states comes before theirs."""
    coded, depth = primary, MOST_DEPTH
    while coded.kind in _DERIVED and depth and coded.references.get(b"dimg"):
        coded, depth = items.by_id[coded.references[b"dimg"][0]], depth - 1
    own = av1.grey_range(coded.content(data)) if coded.kind == b"av01" else None
    if own is None:
        return False
    for box in primary.properties:
        if box.kind == b"colr" and data[box.start : box.start + 4] == b"nclx":
            return data[box.start + 10] < 0x80  # full_range_flag
    return own == "limited"


def _is_alpha_of(data: bytes, item: Item, images: set[int]) -> bool:
    if images.isdisjoint(item.references.get(b"auxl", ())):
        return False
    box = item.property(b"auxC")
    return box is not None and any(name in data[box.start : box.end] for name in _ALPHA)


def _unneeded(items: Items, alphas: list[int]) -> list[int]:
    """Where the file calls its alpha so: OpenCV has no use for it, and cannot read grey with alpha at all.

    Nowhere where colours are multiplied by alpha, which libavif then divides again.
    """
    if any(b"prem" in item.references for item in items.by_id.values()):
        return []
    return [place for number in alphas for place in items.by_id[number].auxiliary_at]


def _renamed(places: list[int]) -> tuple[Piece, ...]:
    """The file with other names, which mean nothing, at these places; () where there are none."""
    pieces: list[Piece] = []
    done = 0
    for place in sorted(places):
        pieces += (slice(done, place), b"skip")
        done = place + 4
    return (*pieces, slice(done, None)) if pieces else ()


def _unreadable_exif(data: bytes, items: Items) -> tuple[tuple[str, ...], list[int]]:
    """A notice where EXIF is broken, and where the file calls it so: libavif would refuse the whole.

    Nothing is taken from it, since the boxes say how to turn.
    """
    notices: tuple[str, ...] = ()
    places = []
    for item in items.by_id.values():
        if item.kind == b"Exif":
            content = item.content(data)
            start = 4 + int.from_bytes(content[:4], "big")
            _, unread = exif.orientation(bytes(content[start : start + _LARGEST_EXIF]))
            if unread:
                notices = unread
                places.append(item.kind_at)
    return notices, places
