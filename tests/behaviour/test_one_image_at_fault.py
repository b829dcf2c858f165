"""What goes wrong with one image is that image's error: the others are judged, and neither run nor engine is blamed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from glass_rt import Detector, Failure, Verdict
from glass_rt.backends import Backend
from glass_rt.bundle.bundle import HEAD, Bundle
from glass_rt.bundle.folder import MANIFEST, write_manifest
from glass_rt.errors import BackendError, GlassError, ImageCorrupt, OutOfMemory, import_failure, vendor_failure
from glass_rt.image.decode import Image, decode_image
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.options import DetectOptions, RunOptions
from tests.bench_zoo import write_bundle, write_picture
from tests.support import Cli

pytestmark = pytest.mark.slow

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("zoo") / "zoo")


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("album")
    return [write_picture(folder / f"{number}.png", (170 - 30 * number, 90, 80 + 30 * number)) for number in range(5)]


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[BaseException]], None]:
    """Has the decoder raise an error for images of 64 x 64, as libraries do; others are decoded."""

    def plant(kind: type[BaseException]) -> None:
        def decode(data: bytes, header: Any, buffer: Any = None) -> Image:
            if header.width == 64:
                raise kind("from the depths of a library")
            return decode_image(data, header, buffer)

        monkeypatch.setattr("glass_rt.image.encoded.decode_image", decode)

    return plant


@pytest.mark.parametrize(
    ("raised", "reported"),
    [
        (IndexError, ImageCorrupt), (SyntaxError, ImageCorrupt), (OverflowError, ImageCorrupt),
        (UnicodeDecodeError, ImageCorrupt), (RecursionError, ImageCorrupt), (AssertionError, ImageCorrupt),
        (ZeroDivisionError, ImageCorrupt), (RuntimeError, ImageCorrupt), (MemoryError, OutOfMemory),
    ],
)  # fmt: skip
def test_whatever_a_decoder_raises_is_the_image_s_own_error(
    folder: Path, album: list[Path], tmp_path: Path, raising: Any, raised: type[Exception], reported: type[GlassError]
) -> None:
    bad = write_picture(tmp_path / "bad.png", (90, 90, 90), 64, 64)
    kind = (lambda text: UnicodeDecodeError("utf-8", b"\xff", 0, 1, text)) if raised is UnicodeDecodeError else raised
    raising(kind)
    with Detector.open(folder) as detector:
        results = list(detector.detect_many([*album[:2], bad, *album[2:]]))
        with pytest.raises(reported):
            detector.detect(bad)
        assert isinstance(detector.detect(album[0]), Verdict)
    assert [type(result) for result in results] == [Verdict, Verdict, Failure, Verdict, Verdict, Verdict]
    failure = results[2]
    assert isinstance(failure, Failure)
    assert type(failure.error) is reported
    assert failure.path == str(bad)
    assert failure.lasting == (reported is ImageCorrupt)  # --resume tries again where memory was short


def test_infer_goes_on_past_every_file_that_fails_and_resume_does_not_stick(
    cli: Cli, folder: Path, album: list[Path], fault_files: Path, tmp_path: Path
) -> None:
    names = ("item_vvc1.heic", "brand.heic", "heic_syntaxerror.heic", "bigtiff_offset.tif")
    arguments = [album[0], *(fault_files / name for name in names), album[1]]
    done = cli("infer", *arguments, "--engine", folder, "--output", tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert (done.returncode, [row["path"] for row in rows]) == (1, [str(path) for path in arguments])
    assert ["error" in row for row in rows] == [False, True, True, True, True, False]
    assert "Traceback" not in done.stderr
    again = cli("infer", *arguments, "--engine", folder, "--output", tmp_path / "rows.jsonl", "--resume")
    assert "Traceback" not in again.stderr
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(rows)


class Numberless:
    """An engine that gives NaN (or infinity) for the views that are nearly white, and is itself for all others."""

    def __init__(self, engine: Backend, number: float) -> None:
        self._engine, self._number = engine, number
        self.inputs, self.outputs = engine.inputs, engine.outputs

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        outputs = self._engine.run(feeds)
        white = np.asarray(feeds["pixels"]).reshape(len(feeds["pixels"]), -1).mean(axis=1) > 200
        outputs["embedding"] = outputs["embedding"].copy()
        outputs["embedding"][white] = self._number
        return outputs

    def close(self) -> None:
        self._engine.close()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("role", ["global", "local"])
@pytest.mark.parametrize("options", [DetectOptions(), DetectOptions(crops="auto"), DetectOptions(draws=2)])
def test_a_number_that_is_none_is_no_verdict_and_costs_no_other_image_of_the_batch(
    folder: Path, album: list[Path], tmp_path: Path, number: float, role: str, options: DetectOptions
) -> None:
    white = write_picture(tmp_path / "white.png", (255, 255, 255))
    opened = OpenedBundle.open(Bundle.open(folder), RunOptions())
    engines = {**opened.engines, role: Numberless(opened.engines[role], number)}
    with Detector(replace(opened, engines=engines)) as detector:
        results = list(detector.detect_many([*album[:2], white, *album[2:]], options))
        with pytest.raises(BackendError, match="no number"):
            detector.detect(white, options)
    assert [isinstance(result, Verdict) for result in results] == [True, True, False, True, True, True]
    assert isinstance(results[2], Failure)
    assert isinstance(results[2].error, BackendError)


@pytest.fixture(params=["attention.3.bias", "classifier.0.weight", "classifier.2.bias"])
def broken_head(folder: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A bundle whose head holds a NaN, with a manifest that lists it."""
    broken = write_bundle(tmp_path / "broken")
    head = load_file(broken / HEAD)
    head[request.param][..., -1] = np.nan
    save_file(head, broken / HEAD)
    write_manifest(broken, Bundle.open(folder).manifest)
    assert (broken / MANIFEST).is_file()
    return broken


def test_a_head_with_nan_gives_an_error_on_the_command_line(cli: Cli, broken_head: Path, album: list[Path]) -> None:
    for form in ((), ("--json",), ("--csv",)):
        done = cli("infer", album[0], "--engine", broken_head, *form)
        assert done.returncode == 1
        assert "no number" in done.stdout + done.stderr
        assert not {"REAL", "FAKE", "nan", "NaN"} & set(done.stdout.replace('"', " ").split())


LIMITED = """
import resource, sys
import numpy as np
from glass_rt import Detector
from glass_rt.errors import GlassError
engine, picture, room_mb = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Detector.open(engine) as detector:
    detector.detect(np.zeros((300, 300, 3), np.uint8))
    held = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
    limit = held + (room_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        detector.detect(picture)
        print("judged")
    except GlassError as error:
        print(error.kind)
"""


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp", ".gif"])
def test_too_little_memory_for_an_image_is_not_called_corrupt(folder: Path, tmp_path: Path, suffix: str) -> None:
    import PIL.Image

    picture = tmp_path / f"large{suffix}"
    PIL.Image.new("RGB", (8000, 6000), (90, 120, 30)).save(picture, compress_level=1)  # 144 MB of pixels
    command = [sys.executable, "-c", LIMITED, str(folder), str(picture)]
    for room_mb, expected in (("60", "out_of_memory"), ("3000", "judged")):
        done = subprocess.run([*command, room_mb], capture_output=True, text=True, timeout=120)
        assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("std::bad_alloc"), "out_of_memory"),
        (RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 9"), "out_of_memory"),
        (RuntimeError("could not allocate 12 bytes"), "out_of_memory"),
        (RuntimeError("env.cc:327 pthread_create failed, error code: 11 error msg: Resource temporarily unavailable"), "out_of_memory"),
        (RuntimeError("Exception from core.cpp:117:\nException from plugin.cpp:921:\nResource temporarily unavailable"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("the device is lost"), "backend"),
    ],
)  # fmt: skip
def test_a_vendor_s_lack_of_memory_is_told_by_its_words(error: Exception, kind: str) -> None:
    assert vendor_failure("ONNX Runtime", "run the engine", error).kind == kind


def test_a_vendor_s_reason_is_not_where_it_was_raised() -> None:
    error = RuntimeError("Exception from src/core.cpp:117:\nException from src/plugin.cpp:9:\nthe device is lost\n\n")
    assert str(vendor_failure("OpenVINO", "open it", error)) == "OpenVINO cannot open it: the device is lost"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModuleNotFoundError("No module named 'onnxruntime'"), "missing_dependency"),
        (ImportError("libonnxruntime.so: failed to map segment: Cannot allocate memory"), "out_of_memory"),
        (ImportError("libonnxruntime.so: undefined symbol: x"), "backend"),
    ],
)
def test_a_library_that_does_not_load_is_not_called_missing(error: ImportError, kind: str) -> None:
    assert import_failure(error, "onnxruntime", "cpu", "this engine").kind == kind


def test_no_thread_to_be_had_is_a_lack_of_memory(
    folder: Path, album: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: Any) -> None:
        raise RuntimeError("can't start new thread")

    with Detector.open(folder) as detector:
        monkeypatch.setattr("threading.Thread.start", refuse)
        with pytest.raises(OutOfMemory, match="start a thread"):
            list(detector.detect_many(album))
