"""What is expected of memory, against what was measured: engines, views, pictures; and who waits for whom."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glass_rt.bundle.manifest import BundleManifest, Engine, FileEntry, Model, Parity, Weights
from glass_rt.errors import OutOfMemory
from glass_rt.image.encoded import ArrayImage, read_image
from glass_rt.image.sampling import num_tiles, tiles
from glass_rt.image.views import HostViews, baseline_view
from glass_rt.inference import engine_memory, room
from glass_rt.inference.decoding_room import Beside, DecodingRoom
from glass_rt.inference.engine_memory import EngineReserve, engines_take
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.machine.limits.byte_budget import ByteBudget
from glass_rt.machine.limits.memory import MB, MemoryLimit
from glass_rt.options import DetectOptions
from glass_rt.results.overlay import draw_overlay, drawing_bytes, jpeg_bytes
from tests.bench_zoo import write_bundle, write_picture

RECORD = Path(__file__).parents[3] / "benchmarks" / "results" / "engine_memory.json"
MEASURED: list[dict[str, Any]] = json.loads(RECORD.read_text(encoding="utf-8"))["rows"]
MOST_TOO_MUCH = 1.6


def manifest(backend: str, backbone: str, precision: str, file_bytes: int, device: str = "cpu") -> BundleManifest:
    """A bundle's manifest with engines of that size, both together."""
    mean, weights = (0.5, 0.5, 0.5), Weights("none", "0" * 64, trained=False)
    model = Model(backbone, "glass", backbone, 8, ("fake", "real"), 224, 4, mean, mean, weights)
    engine = Engine(backend, precision, device, 64, {"global": "global.xml", "local": "local.xml"})
    files = {
        name: FileEntry(file_bytes // 4, "0" * 64) for name in ("global.xml", "local.xml", "global.bin", "local.bin")
    }
    return BundleManifest(model, engine, Parity("passed"), 0.5, {}, files)


@pytest.mark.parametrize(
    "row", MEASURED, ids=lambda row: "-".join(str(row[name]) for name in ("backend", "backbone", "precision", "batch"))
)
def test_engines_are_expected_to_take_what_was_measured_and_not_much_more(row: dict[str, Any]) -> None:
    known = manifest(row["backend"], row["backbone"], row["precision"], row["file_bytes"])
    expected = engines_take(known, row["batch"], "cpu")
    assert row["taken_bytes"] < expected < MOST_TOO_MUCH * row["taken_bytes"]


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: "-".join(str(row[n]) for n in ("backend", "backbone")))
def test_engines_of_an_unknown_backbone_are_expected_to_take_no_less(row: dict[str, Any]) -> None:
    unknown = manifest(row["backend"], "timm:else", row["precision"], row["file_bytes"])
    assert row["taken_bytes"] < engines_take(unknown, row["batch"], "cpu")


def test_more_views_a_pin_and_a_gpu_are_told_apart() -> None:
    ov, ort = manifest("openvino", "resnet50", "fp32", 180 * MB), manifest("onnxruntime", "resnet50", "fp32", 180 * MB)
    assert engines_take(ov, 16, "cpu") > engines_take(ov, 4, "cpu")
    assert engines_take(ov, 4, "cpu", pinned=True) - engines_take(ov, 4, "cpu") == 180 * MB
    assert engines_take(ort, 4, "cpu", pinned=True) == engines_take(ort, 4, "cpu")
    assert 180 * MB < engines_take(ort, 64, "cuda") < engines_take(ort, 4, "cpu")
    assert engines_take(ort, 4, "xnnpack") == engines_take(ort, 4, "cpu"), "which runs in the same memory"
    assert engines_take(manifest("tensorrt", "resnet50", "fp16", 90 * MB, "cuda"), 64, "cuda") == 0


@pytest.mark.parametrize(
    ("backend", "runs"),
    [("onnxruntime", 35 * MB + 4 * 28 * MB), ("openvino", None)],  # which lays out weights at its first runs
)
def test_what_is_still_to_come_after_opening(backend: str, runs: int | None) -> None:
    known = manifest(backend, "resnet50", "fp32", 180 * MB)
    assert engine_memory.runs_take(known, 4, "cpu") == runs
    assert engine_memory.runs_take(known, 4, "cuda") is None


def test_weights_that_were_laid_out_are_not_expected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_memory, "held_bytes", lambda: 60 * MB)  # less than at the peak of opening
    for runs, left in ((None, 90 * MB), (30 * MB, 30 * MB), (95 * MB, 90 * MB)):
        reserve = EngineReserve(100 * MB, before=50 * MB)
        reserve.opened(runs)
        assert reserve.left == left


@pytest.mark.parametrize(
    ("limit", "usual", "views"),
    [
        (None, 8, 8),
        (4000 * MB, 8, 8),
        (700 * MB, 8, 8),  # ResNet-18 by ONNX Runtime: 214 MB and 23 for each view
        (600 * MB, 8, 7),
        (450 * MB, 4, 2),
        (340 * MB, 4, 1),  # where a batch of 4 left nothing for an image
        (10 * MB, 4, 1),
        (-10 * MB, 4, 1),  # of addresses, less than the libraries take
    ],
)
def test_the_batch_leaves_room_for_images(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, usual: int, views: int
) -> None:
    monkeypatch.setattr(room, "smallest_limit", lambda asked: limit)
    assert room.most_views(manifest("onnxruntime", "resnet18", "fp32", 85 * MB), usual, "cpu", None) == views


def traced(work: Callable[[], object]) -> int:
    """The bytes of arrays that were allocated at the same time, at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Photographs, the narrow ones of both ways, panoramas of few rows (which are enlarged), and one pixel.
SIZES = [(240, 300), (3000, 4000), (4000, 3000), (200, 20_000), (300, 20_000), (20_000, 230), (20_000, 200), (1, 1)]


@pytest.mark.parametrize("size_hw", SIZES, ids=str)
@pytest.mark.parametrize("architecture", ["glass", "resize"])
def test_resizing_takes_no_more_than_is_counted(architecture: str, size_hw: tuple[int, int]) -> None:
    pixels = np.full((*size_hw, 3), 99, np.uint8)
    view = np.empty((224, 224, 3), np.float32)
    model = replace(manifest("openvino", "resnet18", "fp32", MB).model, architecture=architecture)
    counted = room.image_bytes(ArrayImage(pixels), model) - pixels.nbytes
    if architecture == "glass":
        assert traced(lambda: HostViews().write(pixels, (), view, np.empty((0, 224, 224, 3), np.uint8))) < counted
    else:
        assert traced(lambda: baseline_view(pixels, 224)) < counted


@pytest.mark.parametrize("size_hw", [(1, 1), (224, 224), (225, 448), (3000, 4000), (224, 1000)])
def test_tiles_are_counted_before_they_are_cut(size_hw: tuple[int, int]) -> None:
    assert num_tiles(*size_hw, 224) == len(tiles(*size_hw, 224).boxes)


def test_views_are_counted_as_they_lie_in_a_pack() -> None:
    view, crops = np.empty((224, 224, 3), np.float32), np.empty((6, 224, 224, 3), np.uint8)
    assert room.view_bytes(6, 224) == view.nbytes + crops.nbytes


def test_a_picture_with_its_evidence_takes_no_more_than_is_counted(tmp_path: Path) -> None:
    from glass_rt import Detector

    with Detector.open(write_bundle(tmp_path / "bundle")) as detector:
        path = write_picture(tmp_path / "large.bmp", (90, 120, 30), 2600, 2500)
        verdict = detector.detect(path)
    image = read_image(path)
    assert traced(lambda: jpeg_bytes(draw_overlay(image.decode().pixels, verdict))) < drawing_bytes(image)


def test_what_engines_have_taken_is_not_expected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    held = 130
    monkeypatch.setattr(engine_memory, "held_bytes", lambda: held * MB)
    reserve = EngineReserve(100 * MB, before=50 * MB)
    assert reserve.left == 100 * MB
    reserve.note(beside=60 * MB)  # 20 of the 80 more may be the engines'
    assert reserve.left == 80 * MB
    reserve.note(beside=70 * MB)  # what was taken once stays taken
    assert reserve.left == 80 * MB
    held = 300
    reserve.note()
    assert reserve.left == 0
    assert EngineReserve(0).left == 0


class Opened:
    """What a DecodingRoom looks at of an opened bundle."""

    def __init__(self, folder: Path, reserve: int) -> None:
        from glass_rt.bundle.bundle import Bundle

        self.manifest, self.memory = Bundle.open(write_bundle(folder)).manifest, None
        self.reserve, self.decoding = EngineReserve(reserve), ByteBudget()


def limited(opened: Any, monkeypatch: pytest.MonkeyPatch, left: int, beside: Beside) -> DecodingRoom:
    monkeypatch.setattr(room, "tightest", lambda asked: MemoryLimit("--memory", 1000 * MB, 1000 * MB - left))
    assert OpenedBundle.__dataclass_fields__.keys() >= vars(opened).keys() - {"manifest"}
    return DecodingRoom(opened, 0, beside)


@pytest.mark.parametrize(
    ("reserve", "bodies", "fits"),
    [
        (0, (0, 0), 160),
        (40, (0, 0), 120),
        (40, (0, 30), 90),
        (40, (20, 30), 110),
        (40, (50, 30), 120),
        (170, (0, 0), 0),
    ],
)
def test_images_leave_room_for_engines_and_bodies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reserve: int, bodies: tuple[int, int], fits: int
) -> None:
    beside = Beside(lambda: bodies[0] * MB, bodies[1] * MB)
    decoding = limited(Opened(tmp_path / "bundle", reserve * MB), monkeypatch, 160 * MB, beside)
    most = fits * MB * 7 // 8  # an eighth is kept free
    with decoding.hold(most, 1000):
        pass
    with pytest.raises(OutOfMemory, match=f"and {most // MB} of 1000 MB are left"), decoding.hold(most + 1, 1000):
        pass
    with decoding.hold(0, 1000):  # what was refused holds nothing
        assert decoding._opened.decoding.held == 0


def test_an_image_waits_for_the_views_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding = limited(Opened(tmp_path / "bundle", 0), monkeypatch, 80 * MB, Beside(lambda: 0, 0))
    with decoding.hold(60 * MB, 1000, kept=30 * MB):
        pass
    asked, done = threading.Event(), threading.Event()
    tightest: Callable[[int | None], MemoryLimit | None] = vars(room)["tightest"]

    def asking(limit: int | None) -> MemoryLimit | None:
        asked.set()
        return tightest(limit)

    monkeypatch.setattr(room, "tightest", asking)

    def second() -> None:
        with decoding.hold(50 * MB, 1000):
            done.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert asked.wait(20)
    assert not done.is_set()
    decoding.let_go(30 * MB)
    thread.join(20)
    assert done.is_set()
    assert decoding._opened.decoding.held == 0


@pytest.mark.parametrize(("start", "waits"), [(b"\xff\xd8\xff\xe0", True), (b"no image", False)])
def test_only_large_files_of_images_wait_for_room(tmp_path: Path, start: bytes, waits: bool) -> None:
    file = tmp_path / "large"
    file.write_bytes(start)
    with file.open("r+b") as large:
        large.truncate(50 * MB)
    decoding = DecodingRoom(Opened(tmp_path / "bundle", 0))  # type: ignore[arg-type]
    with decoding.reading(file, 1000):
        assert decoding._opened.decoding.held == (50 * MB if waits else 0)
    file.write_bytes(start)
    with decoding.reading(file, 1000):
        assert decoding._opened.decoding.held == 0


def test_tiles_count_with_their_image(tmp_path: Path) -> None:
    opened: Any = Opened(tmp_path / "bundle", 0)
    image, size = ArrayImage(np.zeros((2240, 2240, 3), np.uint8)), opened.manifest.model.crop_size
    few, views = DecodingRoom(opened).needed(image, DetectOptions(crops=2, draws=3))
    assert views == room.view_bytes(6, size)
    many, of_tiles = DecodingRoom(opened).needed(image, DetectOptions(sampling="tiles"))
    assert of_tiles == room.view_bytes(num_tiles(2240, 2240, size), size)
    assert many - few == of_tiles - views
