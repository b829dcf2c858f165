"""Whether the pixels of a PNG inflate to much more than its pixels, which libpng would go through to the end."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from glass_rt.errors import ImageCorrupt

# libpng inflates 250 MB a second; up to this it takes ten seconds.
MOST_SPARE = 2_500_000_000  # bytes beyond the pixels
MOST_RATIO = 1032  # of deflate: 258 bytes in two bits
# Streams that inflate 137-fold and look random can be made; above this size even they are inflated to be sure.
ALWAYS_CHECKED = 24_000_000
_STEP = 997  # bytes between those that are looked at
_AT_ONCE = 1 << 20


def check_inflation(streams: Iterable[bytes | memoryview], stream: memoryview, pixel_bytes: int) -> None:
    """Raises ImageCorrupt where the parts of a zlib stream inflate to more than the pixels and a bit.

    `stream`: the parts as they lie in the file. Only a stream that could inflate to far more is looked at: one that is
    not all but random, as deflate makes it, or is very large, is inflated once to know.
    """
    if len(stream) * MOST_RATIO <= pixel_bytes + MOST_SPARE:
        return
    if len(stream) < ALWAYS_CHECKED:
        sample = bytes(stream[::_STEP])
        if len(zlib.compress(sample, 1)) > 0.95 * len(sample):
            return
    left = pixel_bytes + (pixel_bytes >> 4) + _AT_ONCE
    inflate = zlib.decompressobj()
    try:
        for part in streams:
            rest: bytes | memoryview = part
            while len(rest) and not inflate.eof:
                left -= len(inflate.decompress(rest, _AT_ONCE))
                rest = inflate.unconsumed_tail
                if left < 0:
                    raise ImageCorrupt("the PNG's pixels inflate to more than its size")
    except zlib.error:
        return  # the decoder will say so
