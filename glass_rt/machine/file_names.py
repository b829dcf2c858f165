"""File names as text: a name is bytes, and what results are written in (JSON, CSV, Arrow) holds only UTF-8."""

from __future__ import annotations

import re

__all__ = ["name_from_text", "one_line", "text_from_name"]

_CODE = "d[89a-f][0-9a-f]{2}|00[0189][0-9a-f]|005c|007f"
_NO_TEXT = re.compile(rf"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|\\(?=u(?:{_CODE}))")
_ESCAPE = re.compile(rf"\\u({_CODE})")


def text_from_name(name: str) -> str:
    r"""A file name as Python has it (PEP 383), as text that can be written anywhere.

    Most names are written as they are. A byte XX that is no UTF-8 is written as the six characters `\udcXX`, a control
    character (a line end, a terminal's escape) as `\u00XX`; so that these cannot be mistaken, a backslash before what
    would read like such an escape is written as `\u005c`.
    """
    return _NO_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", name)


def one_line(name: str) -> str:
    """A name for a message of one line: its line ends are spelled out. The rest is escaped where it is printed."""
    return name.replace("\n", "\\n").replace("\r", "\\r")


def name_from_text(text: str) -> str:
    """The file name that `text_from_name` wrote: two names never share a text."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
