"""The limits of an encoded protobuf message, checked before a parser builds objects of it.

Two encoded bytes can become an object of a hundred: 8 MiB of empty submessages took the parser (upb) 350 MiB and
three seconds. A request has a handful of fields, so one with thousands is refused unparsed.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from glass_rt.errors import UsageError

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

MAX_FIELDS = 4096
MAX_NUMBERS = 1 << 20  # packed numbers take up to 16 times their bytes
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5


def check_message(data: bytes, descriptor: Descriptor) -> None:
    """Raises UsageError for more fields or numbers than a request needs, and for bytes that are no such message."""
    _Walk(memoryview(data)).message(0, len(data), descriptor)


@dataclass
class _Walk:
    data: memoryview
    fields: int = 0
    numbers: int = 0

    def message(self, position: int, end: int, descriptor: Descriptor) -> None:
        """Recursion ends with the message's definition, none of whose messages contains itself."""
        while position < end:
            self.fields += 1
            if self.fields > MAX_FIELDS:
                raise UsageError(f"the message has more than {MAX_FIELDS} fields; send each tensor raw")
            tag, position = self.varint(position, end)
            kind = tag & 7
            if kind == VARINT:
                _, position = self.varint(position, end)
            elif kind in (FIXED32, FIXED64):
                position += 4 if kind == FIXED32 else 8
            elif kind == LENGTH_DELIMITED:
                length, position = self.varint(position, end)
                if length > end - position:
                    raise _broken()
                self.content(position, position + length, tag >> 3, descriptor)
                position += length
            else:
                raise _broken()
        if position != end:
            raise _broken()

    def content(self, start: int, end: int, number: int, descriptor: Descriptor) -> None:
        """The content of a field with a length: a message, packed numbers, or bytes, which are as large parsed."""
        field = descriptor.fields_by_number.get(number)
        if field is None:
            return
        if field.message_type is not None:
            self.message(start, end, field.message_type)
        elif field.type not in (field.TYPE_BYTES, field.TYPE_STRING):
            self.numbers += end - start
            if self.numbers > MAX_NUMBERS:
                raise UsageError(f"the message has more than {MAX_NUMBERS} bytes of numbers; send the tensor raw")

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """A number of at most 64 bits, and where it ends."""
        value = 0
        for shift in range(0, 70, 7):
            if position >= end:
                break
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
        raise _broken()


def _broken() -> UsageError:
    return UsageError("the message is not a protobuf message of this method: damaged, cut short or of another kind")
