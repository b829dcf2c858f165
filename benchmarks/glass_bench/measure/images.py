"""The images a benchmark runs on: found, measured by their headers, thinned to what the time allows, enlarged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from glass_bench.errors import BenchError
from glass_rt.errors import GlassError
from glass_rt.image.decode import Pixels
from glass_rt.image.encoded import load
from glass_rt.image.header import read_header
from glass_rt.inference.find_images import find_images
from glass_rt.results.verdict import Failure

JPEG_QUALITY = 92


@dataclass(frozen=True)
class BenchImage:
    """One image file. `name` is its path below the folder it was found in: records hold no path of the machine."""

    path: str
    name: str
    width: int
    height: int
    format: str
    size: int

    @property
    def megapixels(self) -> float:
        """Width times height, in millions."""
        return self.width * self.height / 1e6


def find_bench_images(folder: Path) -> tuple[list[BenchImage], list[str]]:
    """Images at any depth, smallest first, and the names of files that are none (they take no part)."""
    images, refused = [], []
    for source in find_images([str(folder)]):
        if isinstance(source, Failure):
            raise BenchError(f"{folder}: {source.error}")
        path = Path(source)
        name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
        try:
            header = read_header(path.read_bytes())
        except (GlassError, OSError):
            refused.append(name)
            continue
        images.append(BenchImage(source, name, header.width, header.height, header.format, path.stat().st_size))
    if not images:
        raise BenchError(f"{folder} holds no readable images")
    return sorted(images, key=lambda image: (image.width * image.height, image.name)), refused


def thin(images: Sequence[BenchImage], count: int) -> list[BenchImage]:
    """At most `count` of them, evenly over the sizes, smallest and largest included."""
    if count >= len(images):
        return list(images)
    if count == 1:
        return [images[len(images) // 2]]
    return [images[round(i * (len(images) - 1) / (count - 1))] for i in range(count)]


@contextmanager
def sized_copies(source: BenchImage, megapixels: Sequence[float]) -> Iterator[list[BenchImage]]:
    """Mosaics of `source` in 4:3 at the given sizes, as JPEG files that exist within the block.

    A mosaic of mirrored copies, not an enlargement: an enlarged picture has no detail and decodes faster than a
    photograph of its size.
    """
    pixels = load(source.path).pixels
    with TemporaryDirectory(prefix="glass-bench-") as folder:
        copies = []
        for size in megapixels:
            height = round((size * 1e6 * 3 / 4) ** 0.5)
            mosaic = _mosaic(pixels, round(size * 1e6 / height), height)
            path = Path(folder, f"{size:g}mp.jpg")
            cv2.imwrite(str(path), mosaic[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            copies.append(
                BenchImage(str(path), path.name, mosaic.shape[1], mosaic.shape[0], "jpeg", path.stat().st_size)
            )
        yield copies


def _mosaic(pixels: Pixels, width: int, height: int) -> Pixels:
    rows = _mirrored(pixels.shape[0], height)
    columns = _mirrored(pixels.shape[1], width)
    return np.ascontiguousarray(pixels[rows][:, columns])


def _mirrored(length: int, wanted: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Indices 0..length-1, then back, and so on, `wanted` of them."""
    cycle = np.concatenate([np.arange(length), np.arange(length - 1, -1, -1)])
    return np.resize(cycle, wanted).astype(np.int64)
