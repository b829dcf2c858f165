"""The quality of a JPEG, from its table of quantisation: what the encoder was asked for."""

import io
import struct

import cv2
import numpy as np
import PIL.Image
import pytest

from glass_rt.image.encoded import load
from glass_rt.image.header import read_header

PIXELS = np.random.default_rng(606).integers(0, 256, (24, 40, 3), np.uint8)


def by_opencv(quality: int) -> bytes:
    return cv2.imencode(".jpg", PIXELS, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def by_pillow(quality: int, *, progressive: bool = False, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(PIXELS).convert(mode).save(file, "JPEG", quality=quality, progressive=progressive)
    return file.getvalue()


@pytest.mark.parametrize("quality", [1, 2, 10, 24, 25, 49, 50, 51, 75, 90, 95, 99, 100])
def test_the_quality_is_what_the_encoder_was_asked_for(quality: int) -> None:
    for data in (
        by_opencv(quality),
        by_pillow(quality),
        by_pillow(quality, progressive=True),
        by_pillow(quality, mode="L"),
        by_pillow(quality, mode="CMYK"),
    ):
        assert read_header(data).jpeg_quality == quality
    assert load(by_opencv(quality)).info.jpeg_quality == quality


def test_other_formats_and_arrays_have_none() -> None:
    assert load(cv2.imencode(".png", PIXELS)[1].tobytes()).info.jpeg_quality is None
    assert load(PIXELS).info.jpeg_quality is None


def with_tables(segment: bytes) -> bytes:
    """The file with this DQT segment before its own."""
    data = by_opencv(80)
    return data[:2] + b"\xff\xdb" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def test_tables_of_an_unusual_kind_are_read_or_passed_over() -> None:
    own = by_opencv(50)
    table = np.frombuffer(own[own.index(b"\xff\xdb") + 5 :][:64], np.uint8).astype(int)  # that of quality 50: unscaled
    wide = (table * 10).astype(">u2").tobytes()
    assert read_header(with_tables(b"\x10" + wide)).jpeg_quality == 5  # 16 bits wide, ten times as coarse
    assert read_header(with_tables(b"\x01" + bytes(64))).jpeg_quality == 80  # of colours alone
    assert read_header(with_tables(b"\x00" + bytes(5))).jpeg_quality == 80  # cut short
    assert read_header(with_tables(b"")).jpeg_quality == 80
