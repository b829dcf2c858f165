"""What decoding only a part of a JPEG would save, and what it would do to the verdict.

    pip install turbojpeg==0.0.2       # Linux; has libjpeg-turbo's shared library, which four routes need
    python benchmarks/partial_decoding.py FOLDER [--engine DIR]... [--json FILE]

The crops are about 2 % of a photograph of 24 MP, and the global view is small. Each route below produces views of an
image from its bytes, on one core, and is compared with what `glass-rt infer` does: decode everything, resize, cut.
Routes take turns on every image; a ratio is that of the medians. Routes called floors leave something out: no way
of decoding that is built of these parts can be faster. Drift is that of the probability, judged from the route's views
by `benchmarks/demo_weights` (trained; built for the occasion) and by the engines that `--engine` names.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # read when NumPy is imported

import ctypes
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import click
import cv2
import numpy as np
import simplejpeg
from glass_bench.images import BenchImage, sized_copies
from numpy.typing import NDArray

from glass_rt.aggregator import Head
from glass_rt.bundle import Bundle
from glass_rt.detector import open_engines
from glass_rt.environment import cpu_name
from glass_rt.errors import GlassError
from glass_rt.image.decode import Pixels, decode
from glass_rt.image.header import Header, read_header
from glass_rt.image.sampling import Box, default_seed, stratified
from glass_rt.image.views import cut_crops, global_view
from glass_rt.judge import embed

SIZE, CROPS = 224, 10
DEMO_WEIGHTS = Path(__file__).parent / "demo_weights" / "artefact.safetensors"
LARGEST_MP = 1000.0
CLASSES_MP = ((0.0, 2.0), (2.0, 8.0), (8.0, 15.0), (15.0, LARGEST_MP), (8.0, LARGEST_MP))
MOSAICS_MP = (24.0, 48.0)
Views = tuple[NDArray[np.float32], Pixels]  # float32 (224, 224, 3) and uint8 (K, 224, 224, 3)


@dataclass(frozen=True, eq=False)
class Jpeg:
    """One file, and the windows of `infer --crops 10`."""

    name: str
    data: bytes
    header: Header
    boxes: tuple[Box, ...]

    @classmethod
    def read(cls, path: Path, crops: int = CROPS) -> Jpeg:
        """From a file whose sampling has the seed that `infer` would take."""
        data = path.read_bytes()
        image = decode(data)
        sampling = stratified(image.info.height, image.info.width, crops, default_seed(image.info.sha256), SIZE)
        return cls(path.name, data, read_header(data), sampling.boxes)

    @property
    def megapixels(self) -> float:
        """Millions of pixels."""
        return self.header.width * self.header.height / 1e6


def exact(jpeg: Jpeg) -> Views:
    """What `infer` does."""
    pixels = simplejpeg.decode_jpeg(jpeg.data, "RGB", fastdct=False, fastupsample=False)
    return global_view(pixels, SIZE), cut(jpeg, pixels)


def quick(jpeg: Jpeg) -> Views:
    """libjpeg-turbo's quicker cosine transform and upsampling: no pixel is promised to be the same."""
    pixels = simplejpeg.decode_jpeg(jpeg.data, "RGB", fastdct=True, fastupsample=True)
    return global_view(pixels, SIZE), cut(jpeg, pixels)


def reduced_global(jpeg: Jpeg, at_least: int) -> NDArray[np.float32]:
    """The global view of a decode at 1/2, 1/4 or 1/8 of the size whose short side still has `at_least` pixels."""
    return global_view(reduced(jpeg, reduction(jpeg.header, at_least)), SIZE)


def reduced(jpeg: Jpeg, factor: int) -> Pixels:
    """The whole image decoded at 1/`factor` of its size, by smaller cosine transforms."""
    pixels: Pixels = simplejpeg.decode_jpeg(
        jpeg.data,
        "RGB",
        fastdct=False,
        fastupsample=False,
        min_height=-(-jpeg.header.height // factor),
        min_width=-(-jpeg.header.width // factor),
        min_factor=factor,
    )
    assert pixels.shape[0] == -(-jpeg.header.height // factor), "simplejpeg chose another factor"
    return pixels


def reduction(header: Header, at_least: int) -> int:
    """The largest of 8, 4, 2 and 1 that leaves a short side of `at_least` pixels."""
    return next((factor for factor in (8, 4, 2) if min(header.width, header.height) >= factor * at_least), 1)


def cut(jpeg: Jpeg, pixels: Pixels) -> Pixels:
    """The crops, uint8 (K, 224, 224, 3)."""
    crops = np.empty((len(jpeg.boxes), SIZE, SIZE, 3), np.uint8)
    cut_crops(pixels, jpeg.boxes, crops)
    return crops


class _Region(ctypes.Structure):
    """`tjregion`: left, top, width, height in pixels."""

    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_int), ("w", ctypes.c_int), ("h", ctypes.c_int))


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
    """The few functions of libturbojpeg 3 that decode a part. PyTurboJPEG's `crop_multiple` is its `tj3Transform`."""

    INIT_DECOMPRESS, INIT_TRANSFORM = 1, 2
    CROP, COPY_NONE = 4, 64  # TJXOPT_CROP, TJXOPT_COPYNONE
    RGB = 0  # TJPF_RGB

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        handle = ctypes.c_void_p
        library.tj3Init.restype = handle
        library.tj3GetErrorStr.restype = ctypes.c_char_p
        library.tj3GetErrorStr.argtypes = [handle]
        library.tj3DecompressHeader.argtypes = [handle, ctypes.c_char_p, ctypes.c_size_t]
        library.tj3SetCroppingRegion.argtypes = [handle, _Region]
        library.tj3Decompress8.argtypes = [handle, ctypes.c_char_p, ctypes.c_size_t, handle, ctypes.c_int, ctypes.c_int]
        library.tj3Transform.argtypes = [handle, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int, *[handle] * 3]
        library.tj3Free.argtypes = [handle]
        self._library = library
        self._decoder = library.tj3Init(self.INIT_DECOMPRESS)
        self._transformer = library.tj3Init(self.INIT_TRANSFORM)

    def full(self, jpeg: Jpeg) -> Views:
        """As `exact`, by this build of the library: where it takes longer than simplejpeg's, so do its other routes."""
        pixels = self._decode(jpeg, _Region(0, 0, 0, 0), jpeg.header.height, jpeg.header.width)
        return global_view(pixels, SIZE), cut(jpeg, pixels)

    def one_region(self, jpeg: Jpeg) -> Pixels:
        """Around the first crop alone: all lines and columns beside it are skipped, but their bits must be read."""
        left, top, width, height = _aligned(jpeg, jpeg.boxes[0], margin=1)
        return self._decode(jpeg, _Region(left, top, width, height), height, width)

    def _decode(self, jpeg: Jpeg, region: _Region, height: int, width: int) -> Pixels:
        pixels = np.empty((height, width, 3), np.uint8)
        data, size = jpeg.data, len(jpeg.data)
        self._check(self._decoder, self._library.tj3DecompressHeader(self._decoder, data, size))
        self._check(self._decoder, self._library.tj3SetCroppingRegion(self._decoder, region))
        target = pixels.ctypes.data
        self._check(self._decoder, self._library.tj3Decompress8(self._decoder, data, size, target, 0, self.RGB))
        return pixels

    def crops(self, jpeg: Jpeg, margin: int = 1) -> Pixels:
        """Losslessly cut out as small JPEGs, `margin` MCUs wider on each side, then decoded."""
        regions = [_aligned(jpeg, box, margin) for box in jpeg.boxes]
        count = len(regions)
        wanted = (_Transform * count)(
            *(_Transform(_Region(*region), 0, self.CROP | self.COPY_NONE, None, None) for region in regions)
        )
        buffers, sizes = (ctypes.c_void_p * count)(), (ctypes.c_size_t * count)()
        self._check(
            self._transformer,
            self._library.tj3Transform(
                self._transformer, jpeg.data, len(jpeg.data), count, buffers, sizes, ctypes.byref(wanted)
            ),
        )
        crops = np.zeros((count, SIZE, SIZE, 3), np.uint8)
        for crop, box, (left, top, _, _), buffer, size in zip(crops, jpeg.boxes, regions, buffers, sizes, strict=True):
            encoded = ctypes.string_at(buffer, size)
            self._library.tj3Free(buffer)
            pixels = simplejpeg.decode_jpeg(encoded, "RGB", fastdct=False, fastupsample=False)
            y, x = box.top - top, box.left - left
            crop[: box.height, : box.width] = pixels[y : y + box.height, x : x + box.width]
        return crops

    def _check(self, handle: int, status: int) -> None:
        if status != 0:
            raise click.ClickException(f"libturbojpeg: {self._library.tj3GetErrorStr(handle).decode()}")


def _aligned(jpeg: Jpeg, box: Box, margin: int) -> tuple[int, int, int, int]:
    """Left, top, width, height in pixels, of the MCUs under a box and `margin` more around them."""
    mcu = 16  # px; the MCUs of 4:4:4, 4:2:2 and 4:2:0 are of 8 or 16
    left = max(0, box.left // mcu - margin) * mcu
    top = max(0, box.top // mcu - margin) * mcu
    right = min(jpeg.header.width, (-(-(box.left + box.width) // mcu) + margin) * mcu)
    bottom = min(jpeg.header.height, (-(-(box.top + box.height) // mcu) + margin) * mcu)
    return left, top, right - left, bottom - top


@dataclass(frozen=True)
class Route:
    """A way from bytes to views. `floor`: it leaves something out, and only bounds what others can reach."""

    name: str
    run: Callable[[Jpeg], object]
    floor: bool = False


def routes(turbo: TurboJpeg | None) -> list[Route]:
    """The exact route first."""
    every = [
        Route("exact", exact),
        Route("quick flags", quick),
        Route("reduced global, full for the crops", _reduced_and_full),
        Route("the global view alone, reduced", partial(reduced_global, at_least=SIZE), floor=True),
        Route("bits alone: decode at 1/8", partial(reduced, factor=8), floor=True),
    ]
    if turbo is None:
        return every
    return [
        *every,
        Route("exact, by libturbojpeg", turbo.full),
        Route(
            "reduced global, crops cut losslessly",
            lambda jpeg: (reduced_global(jpeg, at_least=SIZE), turbo.crops(jpeg)),
        ),
        Route("crops cut losslessly, no global", turbo.crops, floor=True),
        Route(
            "reduced global, one crop by skipping lines",
            lambda jpeg: (reduced_global(jpeg, at_least=SIZE), turbo.one_region(jpeg)),
            floor=True,
        ),
    ]


def _reduced_and_full(jpeg: Jpeg) -> Views:
    pixels = simplejpeg.decode_jpeg(jpeg.data, "RGB", fastdct=False, fastupsample=False)
    return reduced_global(jpeg, at_least=SIZE), cut(jpeg, pixels)


@dataclass(frozen=True)
class Timed:
    """One image's facts and each route's median time."""

    image: str
    megapixels: float
    bits_per_pixel: float
    progressive: bool
    reduction: int
    ms: dict[str, float]


@dataclass(frozen=True)
class Ratios:
    """How much faster than the exact route, over images from `low_mp` to under `high_mp`: by route name."""

    low_mp: float
    high_mp: float
    images: int
    of_summed_times: dict[str, float]
    median: dict[str, float]


def timed(ways: list[Route], jpeg: Jpeg, repeats: int) -> Timed:
    """The routes take turns."""
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            start = perf_counter()
            way.run(jpeg)
            times[way.name].append(1e3 * (perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in times.items()}
    bits = 8 * len(jpeg.data) / (jpeg.header.width * jpeg.header.height)
    progressive = b"\xff\xc2" in jpeg.data[: jpeg.data.find(b"\xff\xda")]
    return Timed(jpeg.name, jpeg.megapixels, bits, progressive, reduction(jpeg.header, SIZE), medians)


def ratios(rows: list[Timed], low: float, high: float) -> Ratios | None:
    """None where no image is of that size."""
    times = [row.ms for row in rows if low <= row.megapixels < high]
    if not times:
        return None
    names = [name for name in times[0] if name != "exact"]
    exact_ms = sum(row["exact"] for row in times)
    summed = {name: exact_ms / sum(row[name] for row in times) for name in names}
    median = {name: statistics.median(row["exact"] / row[name] for row in times) for name in names}
    return Ratios(low, high, len(times), summed, median)


@dataclass
class Drift:
    """Largest change of P(fake) and of a logit over the images, and how many labels changed."""

    probability: float = 0.0
    logit: float = 0.0
    flips: int = 0
    worst: str = ""
    per_image: dict[str, float] = field(default_factory=dict)


def drifts(bundle: Bundle, folder: list[Path]) -> dict[str, Drift]:
    """Of the views that are not exact, with the crops that the model is trained with."""
    model = bundle.manifest.model
    head = Head.for_model(model, bundle.head())
    engines = open_engines(bundle)
    found = {name: Drift() for name in ("quick flags", "reduced global, 224 px", "reduced global, 448 px")}

    def judge(view: NDArray[np.float32], crops: Pixels) -> tuple[float, NDArray[np.float32]]:
        output = head.judge(embed(engines["global"], view[None], 1)[0], embed(engines["local"], crops, len(crops)))
        return float(output.probabilities[model.fake_index]), output.logits

    for path in folder:
        jpeg = Jpeg.read(path, model.trained_crops)
        view, crops = exact(jpeg)
        quick_view, quick_crops = quick(jpeg)
        before, logits = judge(view, crops)
        candidates = (
            (quick_view, quick_crops),
            (reduced_global(jpeg, 224), crops),
            (reduced_global(jpeg, 448), crops),
        )
        for drift, candidate in zip(found.values(), candidates, strict=True):
            after, changed = judge(*candidate)
            drift.per_image[jpeg.name] = after - before
            if abs(after - before) >= drift.probability:
                drift.probability, drift.worst = abs(after - before), jpeg.name
            drift.logit = max(drift.logit, float(np.abs(changed - logits).max()))
            drift.flips += (after >= bundle.manifest.threshold) != (before >= bundle.manifest.threshold)
    for engine in engines.values():
        engine.close()
    return found


@contextmanager
def demo_bundle() -> Iterator[Path]:
    """The demo weights as an engine, for as long as the block lasts."""
    with TemporaryDirectory(prefix="glass-partial-") as folder:
        target = Path(folder, "artefact")
        command = [sys.executable, "-m", "glass_rt", "build", "--weights", str(DEMO_WEIGHTS), "--crops", "4"]
        command += ["--backend", "onnxruntime", "--output", str(target)]
        subprocess.run(command, check=True, capture_output=True)
        yield target


def find_turbojpeg() -> str | None:
    """The shared library of the package `turbojpeg`, or the system's where it is version 3."""
    try:
        bundled = [str(file.locate()) for file in files("turbojpeg") or () if "libturbojpeg" in file.name]
    except PackageNotFoundError:
        bundled = []
    for path in (*bundled, find_library("turbojpeg")):
        if path and hasattr(ctypes.CDLL(path), "tj3Transform"):
            return path
    return None


def equal_crops(turbo: TurboJpeg, jpegs: list[Jpeg]) -> dict[str, int]:
    """In how many images the losslessly cut crops are bit-equal to the full decode's, with a margin and without."""
    counts = [0, 0]
    for jpeg in jpegs:
        _, crops = exact(jpeg)
        for margin in (0, 1):
            counts[margin] += np.array_equal(turbo.crops(jpeg, margin), crops)
    return {"images": len(jpegs), "with_one_mcu_of_margin": counts[1], "without_margin": counts[0]}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--engine", "engines", type=click.Path(path_type=Path), multiple=True, help="Measure its drift too.")
@click.option("--turbojpeg", help="libturbojpeg.so, version 3.  [default: the package turbojpeg's, else the system's]")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(folder: Path, engines: tuple[Path, ...], turbojpeg: str | None, repeats: int, json_path: Path | None) -> None:
    """Measure every JPEG under FOLDER, and mosaics of 24 and 48 MP of the largest one."""
    cv2.setNumThreads(1)
    paths = [path for path in sorted(folder.rglob("*.jp*g")) if _whole(path)]
    if not paths:
        raise click.ClickException(f"{folder} holds no whole JPEG of {SIZE} px or more")
    library = turbojpeg or find_turbojpeg()
    turbo = TurboJpeg(library) if library else None
    if turbo is None:
        print("without libturbojpeg 3 (pip install turbojpeg==0.0.2): routes that cut crops out of the file left out")
    ways = routes(turbo)
    jpegs = [Jpeg.read(path) for path in paths]
    rows = [timed(ways, jpeg, repeats) for jpeg in jpegs]
    with sized_copies(_largest(jpegs, paths), MOSAICS_MP) as copies:
        mosaics = [timed(ways, Jpeg.read(Path(copy.path)), repeats) for copy in copies]
    groups = [found for low, high in CLASSES_MP if (found := ratios(rows, low, high))]
    equal = equal_crops(turbo, jpegs) if turbo else None
    with demo_bundle() as demo:
        drift = {path.name: drifts(Bundle.open(path), paths) for path in (demo, *engines)}
    _print(ways, groups, mosaics, equal, drift)
    if json_path is not None:
        record = {
            "cpu": cpu_name(),
            "simplejpeg": version("simplejpeg"),
            "libturbojpeg": Path(library).name if library else None,
            "repeats": repeats,
            "crops": CROPS,
            "floors": [way.name for way in ways if way.floor],
            "ratios": [asdict(group) for group in groups],
            "crops_bit_equal": equal,
            "drift": {engine: {name: asdict(found) for name, found in each.items()} for engine, each in drift.items()},
            "images": [asdict(row) for row in rows],
            "mosaics": [asdict(row) for row in mosaics],
        }
        json_path.write_text(json.dumps(record, indent=1) + "\n")


def _whole(path: Path) -> bool:
    """Whether it is a JPEG that libjpeg reads without a remark, in RGB, with a crop's size at least."""
    try:
        image = decode(path.read_bytes())
    except GlassError:
        return False
    damaged = any("damaged" in notice or "CMYK" in notice for notice in image.info.notices)
    return image.info.format == "jpeg" and not damaged and min(image.info.width, image.info.height) >= SIZE


def _largest(jpegs: list[Jpeg], paths: list[Path]) -> BenchImage:
    jpeg, path = max(zip(jpegs, paths, strict=True), key=lambda pair: pair[0].megapixels)
    return BenchImage(str(path), jpeg.name, jpeg.header.width, jpeg.header.height, "jpeg", len(jpeg.data))


def _print(
    ways: list[Route],
    groups: list[Ratios],
    mosaics: list[Timed],
    equal: dict[str, int] | None,
    drift: dict[str, dict[str, Drift]],
) -> None:
    columns = [(_title(group), group.images, group.of_summed_times) for group in groups]
    for row in mosaics:
        faster = {name: row.ms["exact"] / ms for name, ms in row.ms.items()}
        columns.append((f"{row.megapixels:.0f} MP mosaic", 1, faster))
    print("times faster than the exact route, over summed times; from 1.5 on it would have earned its option")
    print(f"{'':52}" + "".join(f"{title:>16}" for title, _, _ in columns))
    print(f"{'images':52}" + "".join(f"{count:>16}" for _, count, _ in columns))
    for way in ways[1:]:
        name = f"{way.name}{' (floor)' if way.floor else ''}"
        print(f"{name:52}" + "".join(f"{faster[way.name]:>16.2f}" for _, _, faster in columns))
    if equal is not None:
        whole, margin = equal["with_one_mcu_of_margin"], equal["without_margin"]
        print(f"crops cut losslessly: bit-equal in {whole} of {equal['images']} images, without a margin in {margin}")
    print("drift of P(fake) at most; under 0.01 it would have earned its option")
    for engine, each in drift.items():
        for name, found in each.items():
            print(f"{engine}, {name}: {found.probability:.4f}, logits {found.logit:.4f}, {found.flips} labels changed")


def _title(group: Ratios) -> str:
    return f"{group.low_mp:g} MP and more" if group.high_mp == LARGEST_MP else f"{group.low_mp:g}-{group.high_mp:g} MP"


if __name__ == "__main__":
    main()
