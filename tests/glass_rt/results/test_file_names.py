"""File names as text: any bytes, there and back."""

import os

import pytest

from glass_rt.results.file_names import name_from_text, text_from_name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain.jpg", "plain.jpg"),
        ("grün 写真 \U0001f4f7.jpg".encode(), "grün 写真 \U0001f4f7.jpg"),
        (b"caf\xe9.jpg", r"caf\udce9.jpg"),
        (b"\xff\x80\xf0\x9f", r"\udcff\udc80\udcf0\udc9f"),
        (b"C:\\photos\\under.jpg", r"C:\photos\under.jpg"),
        (b"caf\\udce9.jpg", r"caf\u005cudce9.jpg"),  # these are the characters of its name
        (b"\\u005c", r"\u005cu005c"),
        (b"\\\\udce9\xe9", r"\\u005cudce9\udce9"),
        (b"two\nlines\r.jpg", r"two\u000alines\u000d.jpg"),
        (b"esc\x1b[2K\x7f.jpg", r"esc\u001b[2K\u007f.jpg"),
        ("\x9b2K.jpg".encode(), r"\u009b2K.jpg"),  # one character that terminals take for ESC [
        (b"\\u000a", r"\u005cu000a"),
    ],
)
def test_a_name_is_written_as_text_and_found_again(name: bytes, text: str) -> None:
    written = text_from_name(os.fsdecode(name))
    assert written == text
    assert os.fsencode(name_from_text(written)) == name


def test_no_two_names_share_a_text() -> None:
    pieces = (b"\\", b"\\u", b"\\u005c", b"\\udce9", b"\xe9", b"udce9", b"u005c", b"\n", b"u000a", b"a")
    names = {b"".join((one, two, three)) for one in pieces for two in pieces for three in pieces}
    texts = {text_from_name(os.fsdecode(name)) for name in names}
    assert len(texts) == len(names)
    assert {os.fsencode(name_from_text(text)) for text in texts} == names
