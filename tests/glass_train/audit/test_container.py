"""The facts of a container equal what Pillow reads of the same file."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pytest
from glass_train.audit.container import Container, container_of, read_container
from PIL import Image, JpegImagePlugin

from glass_rt.errors import ImageCorrupt, ImageError, ImageFormatError, ImageNotReadable
from tests.glass_train.audit.planted import EXIF, ICC, Recipe

FILES: dict[str, tuple[Recipe, dict[str, Any]]] = {
    **{
        f"JPEG {subsampling} {quality}": (
            Recipe(qualities=(quality,), subsamplings=(subsampling,)),
            {"format": "jpeg", "subsampling": subsampling, "quality": quality},
        )
        for subsampling, quality in (("4:4:4", 100), ("4:2:2", 75), ("4:2:0", 30), ("4:2:0", 1))
    },
    "JPEG with EXIF": (Recipe(options={"exif": EXIF}), {"exif": True, "icc": False}),
    "JPEG with a profile": (Recipe(options={"icc_profile": ICC}), {"exif": False, "icc": True}),
    "JPEG with both": (Recipe(options={"icc_profile": ICC, "exif": EXIF}), {"exif": True, "icc": True}),
    "JPEG with a comment": (Recipe(options={"comment": b"a remark"}), {"exif": False, "icc": False}),
    "progressive": (Recipe(options={"progressive": True}), {"progressive": True}),
    "PNG": (Recipe("PNG"), {"format": "png", "tables": None, "subsampling": None, "exif": False, "icc": False}),
    "PNG with EXIF": (Recipe("PNG", options={"exif": EXIF}), {"exif": True, "icc": False}),
    "PNG with a profile": (Recipe("PNG", options={"icc_profile": ICC}), {"exif": False, "icc": True}),
    "WebP": (Recipe("WEBP"), {"format": "webp", "tables": None, "exif": False, "icc": False}),
    "WebP with EXIF": (Recipe("WEBP", options={"exif": EXIF}), {"exif": True, "icc": False}),
    "WebP with a profile": (Recipe("WEBP", options={"icc_profile": ICC}), {"exif": False, "icc": True}),
    "AVIF with EXIF": (Recipe("AVIF", options={"exif": EXIF}), {"format": "avif", "exif": True}),
    "BMP": (Recipe("BMP"), {"format": "bmp", "exif": False, "icc": False}),
}


@pytest.mark.parametrize("name", FILES)
def test_facts_are_those_of_the_file(name: str) -> None:
    recipe, facts = FILES[name]
    data = recipe.file(3, Random(name))
    found = container_of(data)
    assert {fact: getattr(found, fact) for fact in facts} == facts
    with Image.open(BytesIO(data)) as image:
        assert (found.width, found.height) == image.size
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            assert found.tables == (tuple(image.quantization[0]), tuple(image.quantization[1]))
            assert found.progressive == ("progression" in image.info)
    assert found.file_bytes == len(data)
    assert found.bytes_per_pixel == len(data) / (found.width * found.height)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_metadata_is_no_part_of_the_coded_bytes(format: str) -> None:
    bare, rich = (
        container_of(Recipe(format, options=options).file(3, Random("same")))
        for options in ({}, {"exif": EXIF, "icc_profile": ICC})
    )
    assert rich.coded_bytes == bare.coded_bytes
    assert rich.file_bytes > bare.file_bytes


def test_a_grey_jpeg_has_no_tables_of_colour() -> None:
    file = BytesIO()
    Image.new("L", (20, 30), 90).save(file, "JPEG")
    assert container_of(file.getvalue()) == Container(
        "jpeg", 20, 30, len(file.getvalue()), len(file.getvalue()) - 18, quality=75
    )


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_spoiled_header_is_an_error_of_the_image_or_none(format: str) -> None:
    data = Recipe(format, options={"exif": EXIF, "icc_profile": ICC}).file(2, Random("spoiled"))
    draw, refused = Random(format), 0
    for _ in range(300):
        spoiled = bytearray(data)
        for _ in range(draw.randint(1, 6)):
            spoiled[draw.randrange(min(len(data), 900))] = draw.randrange(256)
        try:
            container_of(bytes(spoiled[: draw.randrange(20, len(data) + 1)]))
        except ImageError:
            refused += 1
    assert refused


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageNotReadable):
        read_container(tmp_path / "missing.jpg")
    with pytest.raises(ImageFormatError):
        container_of(b"text, " * 20)
    with pytest.raises(ImageCorrupt):
        container_of(Recipe().file(1, Random("cut"))[:90])
