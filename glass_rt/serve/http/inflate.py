"""Bodies that come compressed, inflated piece by piece: a small body may inflate a thousandfold.

Sources: RFC 9110, 8.4.1 (content codings); RFC 1950 to 1952 (zlib, deflate, gzip).
"""

from __future__ import annotations

import zlib

from glass_rt.serve.refusals import UnsupportedEncoding

CODINGS = ("gzip", "x-gzip", "deflate")
PIECE = 1 << 20  # bytes inflated at once, about 3 ms of work

_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class Inflater:
    """Takes compressed bytes and gives inflated ones, at most PIECE at a time.

    A gzip body may have several members. `deflate` is a zlib stream, and for some clients a raw one.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._stream = None if coding == "deflate" else zlib.decompressobj(_GZIP)
        self._left = b""

    def feed(self, data: bytes) -> None:
        """Takes the next compressed bytes."""
        self._left += data

    def take(self) -> bytes:
        """The next inflated bytes; none where more compressed bytes are needed. Raises UnsupportedEncoding."""
        if not self._left:
            return b""
        if self._stream is None:
            if len(self._left) < 2:
                return b""
            self._stream = zlib.decompressobj(_ZLIB if _begins_zlib(self._left) else _RAW)
        elif self._stream.eof:
            if self._coding == "deflate":
                raise self._broken("bytes follow its end")
            self._stream = zlib.decompressobj(_GZIP)
        try:
            inflated = self._stream.decompress(self._left, PIECE)
        except zlib.error as error:
            raise self._broken(str(error)) from None
        self._left = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        return inflated

    @property
    def hungry(self) -> bool:
        """Whether `take` needs more compressed bytes."""
        return not self._left or (self._stream is None and len(self._left) < 2)

    def finish(self) -> None:
        """Raises UnsupportedEncoding where the stream is not whole."""
        if self._stream is None or not self._stream.eof or self._left:
            raise self._broken("it is cut short")

    def _broken(self, why: str) -> UnsupportedEncoding:
        return UnsupportedEncoding(f"the body is not the {self._coding} stream that Content-Encoding says: {why}")


def coding_of(headers: list[tuple[bytes, bytes]]) -> str | None:
    """The coding of a request's body, None where it is sent as it is. Raises UnsupportedEncoding."""
    values = b",".join(value for name, value in headers if name == b"content-encoding").decode("latin-1").lower()
    codings = [coding for part in values.split(",") if (coding := part.strip()) not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in CODINGS:
        shown = ", ".join(codings)[:40]
        raise UnsupportedEncoding(
            f"Content-Encoding {shown!r} is not supported; send the body as it is, or as gzip or deflate"
        )
    return codings[0]


def _begins_zlib(data: bytes) -> bool:
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
