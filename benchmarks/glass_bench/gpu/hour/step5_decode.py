"""Step 5: JPEGs decoded on the card by nvImageCodec: how exact, how fast, and what it says of damaged files."""
# ruff: noqa: B023  # what is timed in a loop is called before the loop goes on

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glass_bench.gpu.hour.device import is_real
from glass_bench.gpu.hour.measure import host_ms
from glass_bench.gpu.hour.photographs import KINDS, SIZES, Kind, decoded, encoded, of_size, photographs, untouched
from glass_bench.gpu.hour.record import Record
from glass_bench.gpu.step import DRY_BACKBONE
from glass_rt.backends.cuda.library_words import library_words
from glass_rt.errors import GlassError
from glass_rt.image.encoded import load
from glass_rt.image.sampling import stratified
from glass_rt.image.views import cut_crops, global_view

BACKENDS = {
    "CPU": ("CPU_ONLY",), "HYBRID": ("HYBRID_CPU_GPU",), "HW": ("HW_GPU_ONLY",),
    "HW and HYBRID": ("HW_GPU_ONLY", "HYBRID_CPU_GPU"), "all": (),
}  # fmt: skip
# Those that stand for one way of decoding. GPU_ONLY alone has no decoder of JPEGs: "Could not create decoder. Code: 7".
ALONE = ("CPU", "HYBRID", "HW")
EXACT_SIZE = (1600, 2400)
ODD_SIZES = ((17, 33), (64, 4000), (123, 199), (1601, 2399), (1237, 1999), (4000, 64), (3000, 4000), (4000, 6000))
LEVELS = 12  # of difference that the histogram tells apart
DRIFT_KINDS = (Kind(75), Kind(85), Kind(95), Kind(85, "444"), Kind(95, "444"))
CROPS = 10


class Decoder:
    """nvImageCodec with some of its backends; pixels come out as RGB, orientation ignored."""

    def __init__(self, backends: Sequence[str], options: str = "", threads: int = 0) -> None:
        from nvidia import nvimgcodec

        self._library = nvimgcodec
        chosen = [nvimgcodec.Backend(getattr(nvimgcodec, name)) for name in backends] or None
        device = 0 if is_real() else nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY
        self._decoder = nvimgcodec.Decoder(
            device_id=device, max_num_cpu_threads=threads, backends=chosen, options=options
        )
        self._stream: Any = None
        if is_real():
            import torch

            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._params = nvimgcodec.DecodeParams(apply_exif_orientation=False, color_spec=nvimgcodec.ColorSpec.SRGB)

    def images(self, files: Sequence[bytes], reused: Any = None) -> list[Any]:
        """The library's images, None where it cannot; they are there when this returns."""
        streams = [self._library.CodeStream(data) for data in files]
        if self._stream is None:
            return list(self._decoder.decode(streams, images=reused, params=self._params))
        handle = self._stream.cuda_stream
        found = self._decoder.decode(streams, images=reused, params=self._params, cuda_stream=handle)
        self._stream.synchronize()
        return list(found)

    def pixels(self, data: bytes) -> NDArray[np.uint8] | None:
        """One image on the host."""
        image = self.images([data])[0]
        return None if image is None else np.asarray(image.cpu())


def difference(found: NDArray[np.uint8] | None, expected: NDArray[np.uint8]) -> dict[str, Any]:
    """How many of the samples differ by how many levels."""
    if found is None:
        return {"decoded": False}
    if found.shape != expected.shape:
        return {"decoded": True, "shape": found.shape, "expected": expected.shape}
    levels = np.abs(found.astype(np.int16) - expected)
    counts = np.bincount(levels.reshape(-1), minlength=LEVELS + 1)
    shares = [round(float(count / levels.size), 7) for count in counts[:LEVELS]]
    return {
        "decoded": True, "max_levels": int(levels.max()), "mean_levels": round(float(levels.mean()), 5),
        "share_by_levels": shares, "share_beyond": float(counts[LEVELS:].sum() / levels.size),
    }  # fmt: skip


def exactness(record: Record, scale: float) -> None:
    """Level differences to OpenCV for every kind of JPEG and backend; the worst of the photographs."""
    size = EXACT_SIZE if scale >= 1 else (480, 640)
    pictures = [of_size(pixels, *size) for pixels in photographs()]
    for name in ALONE if is_real() else ALONE[:1]:
        words: list[str] = []

        def one(name: str = name, words: list[str] = words) -> dict[str, Any]:
            found = {}
            with library_words(words):
                decoder = Decoder(BACKENDS[name])
                for kind in KINDS if scale >= 1 else KINDS[::6]:
                    worst: dict[str, Any] = {}
                    for pixels in pictures:
                        data = encoded(pixels, kind)
                        told = difference(decoder.pixels(data), decoded(data))
                        if not worst or told.get("mean_levels", 1e9) > worst.get("mean_levels", 1e9):
                            worst = told
                    found[str(kind)] = worst
            return found

        record.part(f"levels, {name}", one)
        record.add(f"words, {name}", unlike(words))


def originals() -> dict[str, Any]:
    """Photographs as cameras and editors wrote them: how many of a folder's files the card decodes, and how exactly."""
    files = [file.read_bytes() for file in untouched()] or [damaged()["good"]]
    found: dict[str, Any] = {"files": len(files)}
    for name in ALONE if is_real() else ALONE[:1]:
        decoder, maxima, shares = Decoder(BACKENDS[name]), list[int](), list[float]()
        for data in files:
            told = difference(decoder.pixels(data), decoded(data))
            if "max_levels" in told:
                maxima.append(told["max_levels"])
                shares.append(1 - told["share_by_levels"][0])
        found[name] = {
            "decoded": len(maxima), "files_by_max_levels": np.bincount(maxima).tolist() if maxima else [],
            "largest_share_that_differs": max(shares, default=0.0), "equal_files": sum(not top for top in maxima),
        }  # fmt: skip
    return found


def odd_sizes(sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Sizes that are no multiple of a block, and extreme shapes, by the card's engine."""
    found, decoder = {}, Decoder(BACKENDS["HW" if is_real() else "CPU"])
    for height, width in sizes:
        for sampling in ("420", "422", "444"):
            data = encoded(of_size(photographs()[0], height, width), Kind(90, sampling))
            told = difference(decoder.pixels(data), decoded(data))
            found[f"{height} x {width}, {sampling}"] = {
                name: told[name] for name in ("decoded", "max_levels", "mean_levels") if name in told
            }
    return found


def fancy(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """The GPU's two ways to enlarge colour, by option: which of them is libjpeg's?"""
    data, found = encoded(pixels, Kind()), {}
    for name in ("HYBRID", "HW"):
        for value in (0, 1):
            found[f"{name}, fancy_upsampling={value}"] = difference(
                Decoder(BACKENDS[name], f":fancy_upsampling={value}").pixels(data), decoded(data)
            )
    return found


def embedding_drift(scale: float) -> dict[str, Any]:
    """What a backend's levels do to the float32 embeddings and the logits of GLASS, untrained weights."""
    from glass_bench.gpu.hour.models import DEVICE, distances_of, embeddings, exact_model
    from glass_rt.inference.parity import _logits

    size = EXACT_SIZE if scale >= 1 else (480, 640)
    pictures = [of_size(pixels, *size) for pixels in photographs()]
    found: dict[str, Any] = {}
    for backbone in ("vit_b16", "resnet50") if scale >= 1 else (DRY_BACKBONE,):
        exact = exact_model(backbone)
        graphs = {role: graph.to(DEVICE) for role, graph in exact.graphs.items()}

        def computed(pixels: list[NDArray[np.uint8]]) -> tuple[NDArray[Any], NDArray[Any]]:
            boxes = stratified(*size, CROPS, 606, 224).boxes
            wholes = np.stack([global_view(image, 224) for image in pixels])
            crops = np.empty((len(pixels) * CROPS, 224, 224, 3), np.uint8)
            for index, image in enumerate(pixels):
                cut_crops(image, boxes, crops[index * CROPS : (index + 1) * CROPS])
            both = {"global": embeddings(graphs["global"], wholes, 8), "local": embeddings(graphs["local"], crops, 40)}
            offsets: Any = np.arange(len(pixels) + 1) * CROPS
            return np.concatenate(list(both.values())), _logits(exact.head, both, offsets)

        for kind in DRIFT_KINDS if scale >= 1 else DRIFT_KINDS[:1]:
            files = [encoded(pixels, kind) for pixels in pictures]
            truth = computed([decoded(data) for data in files])
            for name in ALONE if is_real() else ("CPU",):
                decoder = Decoder(BACKENDS[name])
                pixels = [decoder.pixels(data) for data in files]
                if any(image is None for image in pixels):
                    found[f"{backbone}, {kind}, {name}"] = "not decoded"
                    continue
                told = computed([image for image in pixels if image is not None])
                distances = distances_of(told[0], truth[0])
                found[f"{backbone}, {kind}, {name}"] = {
                    "embedding_worst": float(distances.max()), "embedding_median": float(np.median(distances)),
                    "logits_worst": float(np.abs(told[1] - truth[1]).max()),
                    "probability_worst": float(np.abs(_fake(told[1]) - _fake(truth[1])).max()),
                }  # fmt: skip
    return found


def _fake(logits: NDArray[Any]) -> NDArray[Any]:
    probabilities: NDArray[Any] = 1 / (1 + np.exp(logits[:, 1] - logits[:, 0]))
    return probabilities


def throughput(record: Record, scale: float) -> None:
    """Images per second of a call with 1, 7, 14 and 28 images; memory of images is used again."""
    for size_name, size in SIZES.items():
        size = size if scale >= 1 else (480, 640)
        files = [encoded(of_size(pixels, *size), Kind()) for pixels in photographs()[:4]]
        record.add(f"{size_name}, megabytes of the files", [round(len(data) / 1e6, 2) for data in files])
        for name in BACKENDS if is_real() else ("CPU",):
            record.part(f"{size_name}, {name}", lambda name=name, files=files: rates(name, files))  # type: ignore[misc]
    if is_real():
        record.part("24 MP, HW with the host's decoders beside it", lambda: beside_the_host(files, ""))
        options = (
            ":fancy_upsampling=1 nvjpeg_hw_decoder:preallocate_width_hint=6000 "
            "nvjpeg_hw_decoder:preallocate_height_hint=4000 nvjpeg_hw_decoder:preallocate_batch_size=14"
        )
        record.part("24 MP, HW, memory set aside", lambda: rates("HW", files, options))


def rates(name: str, files: list[bytes], options: str = "") -> dict[str, Any]:
    """By batch: images/s and the milliseconds of a call."""
    decoder, found = Decoder(BACKENDS[name], options), dict[str, Any]()
    for batch in (1, 7, 14, 28) if is_real() else (1, 2):
        batch_files = [files[index % len(files)] for index in range(batch)]
        images = decoder.images(batch_files)
        if any(image is None for image in images):
            found[f"batch {batch}"] = f"{sum(image is None for image in images)} of {batch} not decoded"
            continue
        start = perf_counter()
        decoder.images(batch_files, images)
        once_s = perf_counter() - start
        took = host_ms(lambda: decoder.images(batch_files, images), max(2, min(10, int(0.5 / once_s))), 0)
        found[f"batch {batch}"] = {"images_per_s": round(batch / took.median * 1e3, 1), "ms": took}
    return found


def beside_the_host(files: list[bytes], options: str) -> dict[str, Any]:
    """The card's engine on one thread and 14 decoders on the host at the same time: what each does, and the sum."""
    import threading

    decoder, stop = Decoder(BACKENDS["HW"], options), threading.Event()
    batch = [files[index % len(files)] for index in range(14)]
    images, counts = decoder.images(batch), [0] * 15

    def on_card() -> None:
        while not stop.is_set():
            decoder.images(batch, images)
            counts[0] += len(batch)

    def on_host(index: int) -> None:
        from glass_rt.image.buffer import PixelBuffer

        buffer = PixelBuffer()
        while not stop.is_set():
            load(batch[index % len(batch)], buffer=buffer)
            counts[index] += 1

    threads = [threading.Thread(target=on_card), *(threading.Thread(target=on_host, args=(i,)) for i in range(1, 15))]
    start = perf_counter()
    for thread in threads:
        thread.start()
    stop.wait(3)
    stop.set()
    for thread in threads:
        thread.join()
    took_s = perf_counter() - start
    return {"card_images_per_s": round(counts[0] / took_s, 1), "host_images_per_s": round(sum(counts[1:]) / took_s, 1)}


def damaged() -> dict[str, bytes]:
    """Files that a server must expect."""
    pixels = of_size(photographs()[0], 1200, 1600)
    good = encoded(pixels, Kind())
    broken = bytearray(good)
    generator = np.random.default_rng(5)
    for place in generator.integers(len(good) // 2, len(good) // 2 + 2000, 40):
        broken[place] = int(generator.integers(0, 255))
    frame = good.index(b"\xff\xc0")
    taller = good[: frame + 5] + (2400).to_bytes(2, "big") + good[frame + 7 :]
    return {
        "good": good, "cut at 30 %": good[: len(good) * 3 // 10], "cut at 90 %": good[: len(good) * 9 // 10],
        "without its last two bytes (EOI)": good[:-2], "40 bytes of its scan changed": bytes(broken),
        "twice as tall by its header": taller, "its header alone": good[: good.index(b"\xff\xda")],
        "no image": b"no image at all" * 50, "empty": b"",
    }  # fmt: skip


def damage(name: str) -> dict[str, Any]:
    """What the library gives and says for damaged files, beside what this project's decoder says."""
    found: dict[str, Any] = {}
    decoder = Decoder(BACKENDS[name])
    for what, data in damaged().items():
        words: list[str] = []
        with library_words(words):
            outcome = attempt(lambda: decoder.pixels(data))
        told = {"error": outcome} if isinstance(outcome, str) else _against_opencv(outcome, data)
        found[what] = {**told, "words": unlike(words), "ours": _ours(data)}
    return found


def attempt(work: Callable[[], Any]) -> Any:
    """What it returns, or the error in words."""
    try:
        return work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _against_opencv(found: NDArray[np.uint8] | None, data: bytes) -> dict[str, Any]:
    if found is None:
        return {"decoded": False}
    expected = attempt(lambda: decoded(data))
    if isinstance(expected, str):
        return {"decoded": True, "shape": found.shape, "opencv": "does not decode it"}
    return difference(found, expected)


def _ours(data: bytes) -> str:
    try:
        return f"decoded; {'; '.join(load(data).info.notices) or 'no notice'}"
    except GlassError as error:
        return f"{type(error).__name__}: {error}"


def unlike(words: list[str]) -> list[str]:
    """The first lines, each once."""
    return list(dict.fromkeys(line for line in words if line.strip()))[:8]


def main(output: str, scale: float, what: str) -> None:
    """Writes the step's figures to `output`."""
    record = Record(Path(output))
    try:
        from nvidia import nvimgcodec  # noqa: F401
    except ImportError as error:
        record.add("nvImageCodec", {"left out": f"it is not installed ({error})"})
        return
    if is_real():
        import torch

        torch.cuda.init()  # type: ignore[no-untyped-call]
    if what == "exactness":
        exactness(record, scale)
    elif what == "drift":
        record.part("originals", originals)
        record.part("odd sizes", lambda: odd_sizes(ODD_SIZES if scale >= 1 else ODD_SIZES[:3]))
        if is_real():
            record.part("fancy upsampling", lambda: fancy(of_size(photographs()[0], *EXACT_SIZE)))
        record.part("embedding drift", lambda: embedding_drift(scale))
    elif what == "throughput":
        throughput(record, scale)
    else:
        for name in ALONE if is_real() else ALONE[:1]:
            record.part(name, lambda name=name: damage(name))  # type: ignore[misc]
