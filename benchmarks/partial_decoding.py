"""How much faster an image's views would be there if only a part of its JPEG were decoded: the table in README.md.

    pip install turbojpeg==0.0.2       # Linux; has libjpeg-turbo's shared library, version 3
    python benchmarks/partial_decoding.py FOLDER

Each route makes views from a file's bytes, on one core, and is compared with what `glass-rt infer` does: decode
everything, resize, cut. Routes take turns on every image. Floors leave something out: no way of decoding that is built
of these parts can be faster.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # read when NumPy is imported

import ctypes
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from math import inf
from pathlib import Path
from time import perf_counter

import click
import cv2
import numpy as np
import simplejpeg
from glass_bench.measure.images import BenchImage, find_bench_images, sized_copies
from glass_bench.report.text import table

from glass_rt.errors import GlassError
from glass_rt.image.decode import Pixels
from glass_rt.image.encoded import load
from glass_rt.image.sampling import Box, default_seed, stratified
from glass_rt.image.views import cut_crops, global_view

SIZE, CROPS, MOSAIC_MP = 224, 10, 24.0


@dataclass(frozen=True, eq=False)
class Jpeg:
    """One file, and the windows of `infer --crops 10`."""

    image: BenchImage
    data: bytes
    boxes: tuple[Box, ...]

    @classmethod
    def read(cls, image: BenchImage) -> Jpeg | None:
        """None unless it is a JPEG that libjpeg reads without a remark, in RGB, with a crop's size at least."""
        data = Path(image.path).read_bytes()
        try:
            info = load(data).info
        except GlassError:
            return None
        damaged = any("damaged" in notice or "CMYK" in notice for notice in info.notices)
        if info.format != "jpeg" or damaged or min(info.height, info.width) < SIZE:
            return None
        return cls(image, data, stratified(info.height, info.width, CROPS, default_seed(info.sha256), SIZE).boxes)

    def decode(self, *, quick: bool = False, factor: int = 1) -> Pixels:
        """All of it, at 1/`factor` of its size; `quick`: by another cosine transform and upsampling."""
        height, width = -(-self.image.height // factor), -(-self.image.width // factor)
        smaller = {"min_height": height, "min_width": width, "min_factor": factor} if factor > 1 else {}
        pixels: Pixels = simplejpeg.decode_jpeg(self.data, "RGB", fastdct=quick, fastupsample=quick, **smaller)
        assert pixels.shape == (height, width, 3), "simplejpeg chose another factor"
        return pixels

    def crops(self, pixels: Pixels) -> Pixels:
        """uint8 (K, 224, 224, 3)."""
        crops = np.empty((len(self.boxes), SIZE, SIZE, 3), np.uint8)
        cut_crops(pixels, self.boxes, crops)
        return crops

    def reduced_global_view(self) -> None:
        """By a decode at 1/2, 1/4 or 1/8 of the size, the smallest whose short side has 224 px."""
        factor = next((factor for factor in (8, 4, 2) if min(self.image.width, self.image.height) >= factor * SIZE), 1)
        global_view(self.decode(factor=factor), SIZE)

    def around(self, box: Box) -> _Region:
        """The MCUs under a box and one more on each side, whose colours upsampling looks at."""
        mcu = 16  # px; the MCUs of 4:4:4, 4:2:2 and 4:2:0 are of 8 or 16
        left, top = max(0, box.left // mcu - 1) * mcu, max(0, box.top // mcu - 1) * mcu
        right = min(self.image.width, (-(-(box.left + box.width) // mcu) + 1) * mcu)
        bottom = min(self.image.height, (-(-(box.top + box.height) // mcu) + 1) * mcu)
        return _Region(left, top, right - left, bottom - top)


class _Region(ctypes.Structure):
    """`tjregion`, in pixels."""

    _fields_ = tuple((name, ctypes.c_int) for name in ("x", "y", "w", "h"))


class _Transform(ctypes.Structure):
    """`tjtransform`."""

    _fields_ = (
        ("region", _Region),
        ("operation", ctypes.c_int),
        ("options", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("filter", ctypes.c_void_p),
    )


class TurboJpeg:
    """The functions of libturbojpeg 3 that decode a part. PyTurboJPEG's `crop_multiple` is its `tj3Transform`."""

    INIT_DECOMPRESS, INIT_TRANSFORM = 1, 2
    CROP, COPY_NONE = 4, 64  # TJXOPT_CROP, TJXOPT_COPYNONE
    RGB = 0  # TJPF_RGB

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        handle, image = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_size_t)
        self._library.tj3Init.restype = handle
        self._library.tj3DecompressHeader.argtypes = [handle, *image]
        self._library.tj3SetCroppingRegion.argtypes = [handle, _Region]
        self._library.tj3Decompress8.argtypes = [handle, *image, handle, ctypes.c_int, ctypes.c_int]
        self._library.tj3Transform.argtypes = [handle, *image, ctypes.c_int, *[handle] * 3]
        self._library.tj3Free.argtypes = [handle]
        self._decoder = self._library.tj3Init(self.INIT_DECOMPRESS)
        self._transformer = self._library.tj3Init(self.INIT_TRANSFORM)

    def first_crop(self, jpeg: Jpeg) -> None:
        """All lines and columns beside the first crop are skipped, but their bits must be read."""
        region = jpeg.around(jpeg.boxes[0])
        pixels = np.empty((region.h, region.w, 3), np.uint8)
        image = (self._decoder, jpeg.data, len(jpeg.data))
        _check(self._library.tj3DecompressHeader(*image))
        _check(self._library.tj3SetCroppingRegion(self._decoder, region))
        _check(self._library.tj3Decompress8(*image, pixels.ctypes.data, 0, self.RGB))

    def crops_cut_out(self, jpeg: Jpeg) -> Pixels:
        """Losslessly cut out as small JPEGs, which are then decoded."""
        regions = [jpeg.around(box) for box in jpeg.boxes]
        count = len(regions)
        options = self.CROP | self.COPY_NONE
        wanted = (_Transform * count)(*(_Transform(region, 0, options, None, None) for region in regions))
        buffers, sizes = (ctypes.c_void_p * count)(), (ctypes.c_size_t * count)()
        image = (self._transformer, jpeg.data, len(jpeg.data))
        _check(self._library.tj3Transform(*image, count, buffers, sizes, ctypes.byref(wanted)))
        crops = np.zeros((count, SIZE, SIZE, 3), np.uint8)
        for crop, box, region, buffer, size in zip(crops, jpeg.boxes, regions, buffers, sizes, strict=True):
            encoded = ctypes.string_at(buffer, size)
            self._library.tj3Free(buffer)
            pixels = simplejpeg.decode_jpeg(encoded, "RGB", fastdct=False, fastupsample=False)
            y, x = box.top - region.y, box.left - region.x
            crop[: box.height, : box.width] = pixels[y : y + box.height, x : x + box.width]
        return crops


def _check(status: int) -> None:
    if status != 0:
        raise click.ClickException("libturbojpeg failed on a JPEG that libjpeg reads")


Route = Callable[[Jpeg], Pixels | None]  # from bytes to views; the ten crops, where a route makes them


def routes(turbo: TurboJpeg) -> dict[str, Route]:
    """By name; the first is what `infer` does."""

    def both_views(jpeg: Jpeg, pixels: Pixels) -> Pixels:
        global_view(pixels, SIZE)
        return jpeg.crops(pixels)

    def reduced_and(crops: Route) -> Route:
        def views(jpeg: Jpeg) -> Pixels | None:
            jpeg.reduced_global_view()
            return crops(jpeg)

        return views

    def bits(jpeg: Jpeg) -> None:  # at 1/8 the cosine transform is a copy: what is left is reading the file
        jpeg.decode(factor=8)

    return {
        "exact": lambda jpeg: both_views(jpeg, jpeg.decode()),
        "reduced global, crops cut out losslessly": reduced_and(turbo.crops_cut_out),
        "reduced global, full decode for the crops": reduced_and(lambda jpeg: jpeg.crops(jpeg.decode())),
        "quick transform and upsampling": lambda jpeg: both_views(jpeg, jpeg.decode(quick=True)),
        "floor: crops cut out losslessly, no global": turbo.crops_cut_out,
        "floor: reduced global, one crop, the rest skipped": reduced_and(turbo.first_crop),
        "floor: the bits alone (a decode at 1/8)": bits,
    }


@dataclass(frozen=True)
class Measured:
    """One route on one image: median seconds, and whether its crops are the exact ones to the last bit."""

    seconds: float
    equal: bool | None


def measure(ways: dict[str, Route], jpeg: Jpeg, repeats: int) -> dict[str, Measured]:
    """The routes take turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    crops: dict[str, Pixels | None] = {}
    for _ in range(repeats):
        for name, way in ways.items():
            start = perf_counter()
            crops[name] = way(jpeg)
            taken[name].append(perf_counter() - start)
    exact = crops["exact"]
    assert exact is not None
    return {
        name: Measured(statistics.median(taken[name]), None if made is None else np.array_equal(made, exact))
        for name, made in crops.items()
    }


def rows_of(names: Iterable[str], columns: Sequence[list[dict[str, Measured]]]) -> Iterator[list[str]]:
    """A row per route: over each column's images, how much faster than the exact one (summed times); its crops."""
    for name in names:
        faster = [
            sum(each["exact"].seconds for each in found) / sum(each[name].seconds for each in found)
            for found in columns
        ]
        equal = [each[name].equal for found in columns for each in found]
        crops = "" if None in equal else f"equal in {sum(map(bool, equal))} of {len(equal)}"
        yield [name, *(f"{ratio:.2f}" for ratio in faster), crops]


def find_turbojpeg() -> str:
    """The shared library of the package `turbojpeg`."""
    try:
        return next(str(file.locate()) for file in files("turbojpeg") or () if "libturbojpeg" in file.name)
    except (PackageNotFoundError, StopIteration):
        raise click.ClickException("libturbojpeg 3 is needed: pip install turbojpeg==0.0.2, or --turbojpeg") from None


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--turbojpeg", metavar="FILE", help="libturbojpeg.so, version 3.  [default: the package turbojpeg's]")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
def main(folder: Path, turbojpeg: str | None, repeats: int) -> None:
    """Measure every whole JPEG under FOLDER, by size, and a mosaic of 24 MP of the largest one."""
    cv2.setNumThreads(1)
    ways = routes(TurboJpeg(turbojpeg or find_turbojpeg()))
    jpegs = [jpeg for image in find_bench_images(folder)[0] if (jpeg := Jpeg.read(image)) is not None]
    if not jpegs:
        raise click.ClickException(f"{folder} holds no whole JPEG of {SIZE} px or more")
    measured = [(jpeg.image.megapixels, measure(ways, jpeg, repeats)) for jpeg in jpegs]
    columns = {
        name: [found for size, found in measured if low <= size < high]
        for name, low, high in (
            ("under 2 MP", 0, 2),
            ("2-8 MP", 2, 8),
            ("8 MP and more", 8, inf),
            ("15 MP and more", 15, inf),
        )
    }
    with sized_copies(jpegs[-1].image, [MOSAIC_MP]) as copies:  # of the largest
        columns[f"{MOSAIC_MP:g} MP mosaic"] = [measure(ways, copy, repeats) for copy in map(Jpeg.read, copies) if copy]
    columns = {name: found for name, found in columns.items() if found}
    header = ["times faster than exact", *(f"{name} ({len(found)})" for name, found in columns.items()), "crops"]
    print("\n".join(table(header, list(rows_of(ways, list(columns.values()))))))


if __name__ == "__main__":
    main()
