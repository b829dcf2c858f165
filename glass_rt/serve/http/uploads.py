"""The images of a request's body: the body itself, the files of a form, or text.

Sources: RFC 7578 (forms), RFC 5987 and 2231 (`filename*`, which some clients send alone where a name is not ASCII).
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from glass_rt.errors import MissingDependency
from glass_rt.serve.http.text_images import begins_text, images_of_text
from glass_rt.serve.refusals import BodyTooLarge, MalformedRequest

try:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header
except ImportError:
    raise MissingDependency("python-multipart", "serve", "glass-rt serve") from None

FORM = b"multipart/form-data"
DECODED_AT_ONCE = 1 << 20  # bytes; larger texts are decoded off the event loop
# Whole values in quotes: what looks like a parameter in one is none.
_PARAMETER = re.compile(rb';\s*([^=;\s"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)')
_EXTENDED_NAME = re.compile(rb"filename\*(?:\d+\*?)?", re.IGNORECASE)


@dataclass(frozen=True)
class Upload:
    """An encoded image, and the file name that the client gave it."""

    name: str | None
    data: bytes


@dataclass(frozen=True)
class Uploads:
    """The images of one request in their order; `single` where the body was one image and no form."""

    images: tuple[Upload, ...]
    single: bool


async def read_uploads(request: Request, max_files: int) -> Uploads:
    """Reads a request's body. The request's `receive` bounds its size.

    A body of any content type but multipart/form-data is one image, or text with images in it; its bytes tell which,
    and the format. Raises MalformedRequest, BodyTooLarge, and ClientDisconnect where the client disconnects meanwhile.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    if kind != FORM:
        body = b"".join([chunk async for chunk in request.stream()])
        return await _of_text(body, max_files) if begins_text(body) else Uploads((Upload(None, body),), single=True)
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise MalformedRequest("the multipart body has no boundary in its Content-Type")
    form = _Form(boundary, max_files)
    try:
        async for chunk in request.stream():
            form.feed(chunk)
        return Uploads(form.finish(), single=False)
    finally:
        form.let_go()


async def _of_text(body: bytes, max_files: int) -> Uploads:
    large = len(body) > DECODED_AT_ONCE
    images, single = (
        await asyncio.to_thread(images_of_text, body, max_files) if large else images_of_text(body, max_files)
    )
    return Uploads(tuple(Upload(None, image) for image in images), single)


def _file_name(disposition: bytes, name: bytes | None) -> str | None:
    """A part's file name: of `filename*` where it is there, else `name`; None where the part has neither."""
    parameters = _PARAMETER.findall(disposition)
    pieces = [value.strip(b'"') for parameter, value in parameters if _EXTENDED_NAME.fullmatch(parameter)]
    if not pieces:
        return None if name is None else name.decode("utf-8", "replace")
    charset, mark, rest = b"".join(pieces).partition(b"'")
    encoded = rest.partition(b"'")[2] if mark else charset
    latin = mark and charset.lower() in (b"iso-8859-1", b"latin-1", b"latin1")
    return unquote_to_bytes(encoded).decode("latin-1" if latin else "utf-8", "replace")


@dataclass
class _Part:
    header_name: bytes = b""
    header_value: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: list[bytes] = field(default_factory=list)


class _Form:
    """Files of a multipart body. They stay in memory: an image is never written to disk."""

    def __init__(self, boundary: bytes, max_files: int) -> None:
        self._max_files = max_files
        self._uploads: list[Upload] = []
        self._part = _Part()
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_part_data": self._data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise MalformedRequest(f"the multipart body cannot be read: {error}") from error

    def feed(self, chunk: bytes) -> None:
        """The next bytes. Raises MalformedRequest or BodyTooLarge."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedRequest(f"the multipart body cannot be read: {error}") from error

    def finish(self) -> tuple[Upload, ...]:
        """The files, once all bytes were fed. Raises MalformedRequest where the body is not whole or holds none."""
        if not self._ended:
            raise MalformedRequest("the multipart body ends before its closing boundary")
        if not self._uploads:
            raise MalformedRequest("the multipart body holds no file")
        return tuple(self._uploads)

    def let_go(self) -> None:
        """Ends the form: it and its parser hold each other, and the files would stay until Python looks for cycles."""
        del self._parser
        self._part, self._uploads = _Part(), []

    def _begin(self) -> None:
        self._part = _Part()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]

    def _header_end(self) -> None:
        part = self._part
        part.headers[part.header_name.lower()] = part.header_value
        part.header_name = part.header_value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._part.data.append(data[start:end])

    def _end_part(self) -> None:
        header = self._part.headers.get(b"content-disposition", b"")
        _, disposition = parse_options_header(header)
        file_name = _file_name(header, disposition.get(b"filename"))
        kind = self._part.headers.get(b"content-type", b"").strip().lower()
        if file_name is None and not kind.startswith((b"image/", b"application/octet-stream")):
            shown = disposition.get(b"name", b"").decode("utf-8", "replace")[:40]
            raise MalformedRequest(
                f"the form's part {shown!r} is not a file: it has no file name, nor the type of an image; options go "
                "into the query"
            )
        if len(self._uploads) == self._max_files:
            raise BodyTooLarge(f"more than {self._max_files} images in one request: send them in parts")
        self._uploads.append(Upload(file_name, b"".join(self._part.data)))

    def _end(self) -> None:
        self._ended = True
