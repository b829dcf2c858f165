"""Files in memory, and decoding on systems that refuse them."""

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from glass_bench.sample import landscape

from glass_rt.errors import ImageNotReadable
from glass_rt.image.encoded import load
from glass_rt.image.memory_file import can_hold_files, file_in_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files in memory are Linux's")


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    can_hold_files.cache_clear()
    yield
    can_hold_files.cache_clear()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return landscape(40, 30, seed=1)


def encoded(pixels: np.ndarray, suffix: str) -> bytes:
    parameters = [cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else []  # 101: lossless
    return cv2.imencode(suffix, pixels[..., ::-1], parameters)[1].tobytes()


def no_more_files(_name: str) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_the_file_holds_the_bytes_and_leaves_nothing_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with file_in_memory(b"bytes") as path:
        assert Path(path).read_bytes() == b"bytes"
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_sandbox_that_forbids_them_costs_memory_and_not_the_image(
    suffix: str, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "memfd_create", no_more_files)
    assert not can_hold_files()
    np.testing.assert_array_equal(load(encoded(pixels, suffix)).pixels, pixels)


def test_too_many_open_files_are_the_images_own_error(pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_hold_files()
    monkeypatch.setattr(os, "memfd_create", no_more_files)
    with pytest.raises(ImageNotReadable, match="no room for a copy of the file in memory: Too many open files"):
        load(encoded(pixels, ".png"))
