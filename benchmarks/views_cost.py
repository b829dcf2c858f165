"""What the views stage costs beside the decode, on one core: the target is at most 30 % (median, JPEGs of 8 MP up).

    python benchmarks/views_cost.py FOLDER [--minimum-megapixels 8] [--json FILE]

Decode is `cv2.imdecode` alone; views are the sampling, the global view and the K crops, written where the engine
reads them. Both are the fastest of several runs, in turn, with every library held to one thread.
"""

from __future__ import annotations

import os

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # read when NumPy is imported

import json
import statistics
from pathlib import Path
from time import perf_counter

import click
import cv2
import numpy as np

from glass_rt.image.decode import Pixels
from glass_rt.image.encoded import load
from glass_rt.image.sampling import default_seed, stratified
from glass_rt.image.views import cut_crops, global_view
from glass_rt.inference.pack import Pack
from glass_rt.machine.environment import cpu_name

SIZE, CROPS = 224, 10


def decode_seconds(data: bytes) -> float:
    """One decode by OpenCV alone, without the checks around it."""
    encoded = np.frombuffer(data, np.uint8)
    start = perf_counter()
    cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return perf_counter() - start


def views_seconds(pixels: Pixels, sha256: str, pack: Pack) -> float:
    """Sampling and both views of one image."""
    pack.slots.clear()
    start = perf_counter()
    boxes = stratified(pixels.shape[0], pixels.shape[1], CROPS, default_seed(sha256), SIZE).boxes
    slot = pack.reserve(len(boxes))
    assert slot is not None
    slot.global_view[...] = global_view(pixels, SIZE)
    cut_crops(pixels, boxes, slot.crops)
    return perf_counter() - start


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--minimum-megapixels", type=float, default=8.0, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(folder: Path, minimum_megapixels: float, repeats: int, json_path: Path | None) -> None:
    """Measure every JPEG under FOLDER that is large enough."""
    cv2.setNumThreads(1)
    pack = Pack(SIZE, 1, CROPS)
    rows = []
    for path in sorted(path for path in folder.rglob("*.jp*g") if path.is_file()):
        data = path.read_bytes()
        image = load(data)
        megapixels = image.info.width * image.info.height / 1e6
        if megapixels < minimum_megapixels:
            continue
        times = [(decode_seconds(data), views_seconds(image.pixels, image.info.sha256, pack)) for _ in range(repeats)]
        decode_ms, views_ms = (1e3 * min(column) for column in zip(*times, strict=True))
        rows.append({"image": path.name, "megapixels": megapixels, "decode_ms": decode_ms, "views_ms": views_ms})
        figures = f"decode {decode_ms:6.1f} ms  views {views_ms:6.1f} ms  {views_ms / decode_ms:6.1%}"
        print(f"{megapixels:6.1f} MP  {figures}  {path.name}")
    if not rows:
        raise click.ClickException(f"{folder} holds no JPEG of {minimum_megapixels:g} megapixels or more")
    median = statistics.median(row["views_ms"] / row["decode_ms"] for row in rows)
    print(f"median of {len(rows)} images: views cost {median:.1%} of the decode")
    if json_path is not None:
        record = {"cpu": cpu_name(), "opencv": cv2.__version__, "numpy": np.__version__, "repeats": repeats}
        json_path.write_text(json.dumps({**record, "median_ratio": median, "images": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
