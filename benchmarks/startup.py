"""How long it takes until something happens: imports, `glass-rt --help`, and the first verdict of a process.

    python benchmarks/startup.py [--engine DIR]... [--image FILE] [--json FILE]

The targets: 150 ms for `import glass_rt` beyond NumPy and OpenCV, 0.4 s for `--help`; on two cores, with warm files and
a 12-megapixel JPEG, a verdict after 0.8 s for ResNet-50 INT8 and 1.3 s for ViT-B/16 INT8. Medians of fresh processes;
the machine should have nothing else to do.

Three starts are measured for each bundle: `cold` has nothing compiled in the cache, and its files and those of the
libraries have been dropped from memory; `no cache` has warm files, and compiles; `warm` finds what was compiled.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import click

from glass_rt.bundle.bundle import Bundle
from glass_rt.machine.cache_files import BESIDE, CACHE_VARIABLE
from glass_rt.machine.environment import cpu_name, usable_cores

IMPORT = (
    "import time, numpy, cv2; start = time.perf_counter(); from glass_rt import Detector;"
    "print(1e3 * (time.perf_counter() - start))"
)
LIBRARIES = ("numpy", "cv2", "openvino", "onnxruntime", "simplejpeg")
# A process that judges one image, and says when it did what: milliseconds since it was started, on a clock that all
# processes share. Then the same image again, in the warm process.
STAGES = """
import json, statistics, sys, time
begun, engine, image, cache = float(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "cache"
told = {}
def note(name): told[name] = 1e3 * (time.monotonic() - begun)
note("python")
from glass_rt.machine.malloc import give_back_large_arrays
give_back_large_arrays()
import glass_rt.cli.infer
from glass_rt.bundle.bundle import Bundle
from glass_rt.detector import Detector
from glass_rt.options import RunOptions
note("imported")
bundle = Bundle.open(engine)
note("checked")
detector = Detector.from_bundle(bundle, RunOptions(cache=cache))
note("opened")
verdict = detector.detect(image)
note("judged")
times = []
for _ in range(7):
    start = time.monotonic()
    again = detector.detect(image)
    times.append(1e3 * (time.monotonic() - start))
assert again.probability_fake == verdict.probability_fake
told["again"] = statistics.median(times)
told["probability_fake"] = verdict.probability_fake
told["decode"], told["engine"] = verdict.timings_ms.decode, verdict.timings_ms.engine
print(json.dumps(told))
"""


def import_ms() -> float:
    """Milliseconds of `import glass_rt` in a process that has NumPy and OpenCV already."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    return float(done.stdout)


def help_ms() -> float:
    """Milliseconds of a whole `glass-rt --help`."""
    start = perf_counter()
    subprocess.run([sys.executable, "-m", "glass_rt", "--help"], capture_output=True, check=True)
    return 1e3 * (perf_counter() - start)


def infer(engine: Path, image: Path, *options: str) -> tuple[float, float, float]:
    """One `glass-rt infer`: milliseconds from its start to its end, those of processors, peak resident memory in MB."""
    command = [sys.executable, "-m", "glass_rt", "infer", str(image), "--engine", str(engine), "-q", *options]
    start = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    spent = 1e3 * (perf_counter() - start)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise click.ClickException(f"{engine} did not judge {image}")
    return spent, 1e3 * (usage.ru_utime + usage.ru_stime), usage.ru_maxrss / 1024


def infer_cold(engine: Path, image: Path) -> tuple[float, float, float]:
    """The same with nothing in the cache, and none of the files in memory that can be dropped."""
    _forget(engine)
    drop(engine)
    return infer(engine, image)


def stages(engine: Path, image: Path, cache: str) -> dict[str, float]:
    """When a process that judges one image was how far, in milliseconds; see STAGES."""
    command = [sys.executable, "-c", STAGES, str(monotonic()), str(engine), str(image), cache]
    told: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return told


def drop(engine: Path) -> None:
    """Lets the system forget the files of the bundle and of the libraries, as far as no process has them mapped."""
    folders = [engine, *(Path(spec.origin).parent for name in LIBRARIES if (spec := find_spec(name)) and spec.origin)]
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure(engine: Path, image: Path, repeats: int) -> dict[str, Any]:
    """The three starts of one bundle, and the image in a warm process."""
    manifest = Bundle.open(engine).manifest
    figures: dict[str, Any] = {
        "bundle": engine.name, "backbone": manifest.model.backbone, "backend": manifest.engine.backend,
        "precision": manifest.engine.precision,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as cache:
        os.environ[CACHE_VARIABLE] = cache
        set_aside = _set_aside(engine)
        try:
            figures["cold"] = _median(lambda: infer_cold(engine, image), min(repeats, 3))
            infer(engine, image)  # what is measured next finds warm files and a compiled model
            figures["no_cache"] = _median(lambda: infer(engine, image, "--no-cache"), repeats)
            figures["warm"] = _median(lambda: infer(engine, image), repeats)
            split = [stages(engine, image, "cache") for _ in range(repeats)]
            without = stages(engine, image, "none")
        finally:
            _forget(engine)
            if set_aside is not None:
                set_aside.rename(engine / BESIDE)
    figures["stages_ms"] = {name: statistics.median(told[name] for told in split) for name in split[0]}
    figures["same_bits"] = {told["probability_fake"] for told in split} == {without["probability_fake"]}
    figures["beyond_judging_ms"] = figures["warm"]["ms"] - figures["stages_ms"]["again"]
    return figures


def _median(run: Callable[[], tuple[float, float, float]], repeats: int) -> dict[str, float]:
    times, of_cores, peaks = zip(*(run() for _ in range(repeats)), strict=True)
    return {
        "ms": statistics.median(times), "most_ms": max(times), "cpu_ms": statistics.median(of_cores),
        "peak_mb": max(peaks),
    }  # fmt: skip


def _set_aside(engine: Path) -> Path | None:
    """The user's own cache of the bundle under another name, until the measuring is done."""
    if not (engine / BESIDE).exists():
        return None
    return (engine / BESIDE).rename(engine.with_name(f".{engine.name}.cache"))


def _forget(engine: Path) -> None:
    for path in (engine / BESIDE).glob("*.compiled"):
        path.unlink()


@click.command()
@click.option("--engine", "engines", type=click.Path(path_type=Path, exists=True), multiple=True, help="A bundle.")
@click.option("--image", type=click.Path(path_type=Path, exists=True), help="An image.  [default: 12 MP, generated]")
@click.option("--repeats", type=click.IntRange(1), default=11, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(engines: tuple[Path, ...], image: Path | None, repeats: int, json_path: Path | None) -> None:
    """Measure all of it."""
    load = os.getloadavg()[0]
    import_ms(), help_ms()  # the first finds nothing in the disk cache
    figures: dict[str, Any] = {
        "import_glass_rt_ms": statistics.median(import_ms() for _ in range(repeats)),
        "help_ms": statistics.median(help_ms() for _ in range(repeats)),
    }
    print(f"import glass_rt: {figures['import_glass_rt_ms']:.0f} ms beyond numpy and cv2")
    print(f"glass-rt --help: {figures['help_ms']:.0f} ms")
    with tempfile.TemporaryDirectory() as folder:
        if engines and image is None:
            image = Path(folder) / "12.jpg"
            command = [sys.executable, "-m", "glass_bench.sample", "--megapixels", "12", "--seed", "606"]
            subprocess.run([*command, "--output", str(image)], check=True, stdout=subprocess.DEVNULL)
        figures["bundles"] = []
        for engine in engines:
            assert image is not None, "an image is made where none is given"
            figures["bundles"].append(found := measure(engine, image, repeats))
            _say(found)
    print(f"load average: {load:.2f} before, {os.getloadavg()[0]:.2f} after; above 1 the figures are of no use")
    if json_path is not None:
        machine = {"cpu": cpu_name(), "cores": usable_cores(), "load_average": load, "repeats": repeats}
        json_path.write_text(json.dumps({**machine, **figures}, indent=1) + "\n")


def _say(found: dict[str, Any]) -> None:
    told = found["stages_ms"]
    print(f"{found['backbone']} {found['backend']} {found['precision']}: process start -> verdict")
    for name in ("cold", "no_cache", "warm"):
        start = found[name]
        print(f"  {name:9}{start['ms']:6.0f} ms, {start['cpu_ms']:.0f} of cores, {start['peak_mb']:.0f} MB at most")
    print(
        f"  warm: Python {told['python']:.0f}, imports {told['imported'] - told['python']:.0f}, "
        f"checking {told['checked'] - told['imported']:.0f}, opening {told['opened'] - told['checked']:.0f}, "
        f"first image {told['judged'] - told['opened']:.0f}; the image again {told['again']:.0f} ms"
    )
    print(f"  beyond judging: {found['beyond_judging_ms']:.0f} ms; same bits without the cache: {found['same_bits']}")


if __name__ == "__main__":
    main()
