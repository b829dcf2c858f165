"""Which files a decoder on the device is given, told by their markers alone."""

from __future__ import annotations

import pytest

from glass_rt.errors import ImageError
from glass_rt.image.encoded import EncodedImage, read_image
from glass_rt.image.header import jpeg_stream, read_header
from glass_rt.image.header.jpeg_stream import NotForTheDevice, baseline_stream
from tests import jpegs


def stream_of(data: bytes) -> memoryview:
    return baseline_stream(data, read_header(data))


@pytest.mark.parametrize("name", jpegs.READ)
def test_whole_baseline_files_are_given_to_the_device(name: str) -> None:
    data = jpegs.READ[name]()
    stream = stream_of(data)
    assert bytes(stream[-2:]) == b"\xff\xd9"
    assert data.startswith(bytes(stream))
    assert len(stream) == len(data) or "behind" in name


@pytest.mark.parametrize("name", jpegs.REFUSED)
def test_all_others_are_not_and_why(name: str) -> None:
    make, reason = jpegs.REFUSED[name]
    with pytest.raises(NotForTheDevice, match=reason):
        stream_of(make())


def test_what_is_given_does_not_depend_on_where_steps_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker lies across two steps of the search at some size or other."""
    data = jpegs.restarted()
    expected = len(stream_of(data))
    for at_once in (1, 7, 1000, 1001, 1002, 1003):
        monkeypatch.setattr(jpeg_stream, "_AT_ONCE", at_once if at_once > 1 else len(data) // 50)
        assert len(stream_of(data)) == expected


def test_every_cut_of_a_file_is_refused() -> None:
    """Wherever a file ends too early, its header is refused or it is not for the device."""
    data = jpegs.restarted()
    for length in [*range(2, 700, 13), *range(700, len(data), len(data) // 40)]:
        with pytest.raises((NotForTheDevice, ImageError)):
            image = read_image(data[:length])
            assert isinstance(image, EncodedImage)
            baseline_stream(image.data, image.header)
