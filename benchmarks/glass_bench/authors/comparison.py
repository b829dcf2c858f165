"""The authors' way against ours, end to end: from image files to probabilities.

Theirs is Pillow, a float tensor of the whole image and eager float32 PyTorch, with as many threads as cores. Ours is
glass-rt with the engines that are named, of the same weights, windows and cores. One process per contender; they take
turns image set by image set. Everything in a report is computed from the record that this returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from glass_bench.errors import BenchError
from glass_bench.measure.contenders import Contender
from glass_bench.measure.images import BenchImage
from glass_bench.measure.load_watch import LoadWatch
from glass_bench.measure.machine import Machine, this_machine
from glass_bench.measure.process import ContenderProcess
from glass_bench.measure.record import MachineLoad
from glass_rt.bundle.folder import read_manifest
from glass_rt.bundle.manifest import BundleManifest, bundle_from_json
from glass_rt.progress import Stage

THEIRS, NO_ENGINE = "authors", "no-op"
STREAM = 12  # images of a throughput run at least: the set is gone through as often as that takes, always whole
ENGINE_ALONE_S = 3.0


@dataclass(frozen=True)
class SizeClass:
    """Images from `low` up to but not including `high` megapixels."""

    name: str
    low: float
    high: float

    def of(self, images: Sequence[BenchImage]) -> list[BenchImage]:
        """Those of the images that belong to it."""
        return [image for image in images if self.low <= image.megapixels < self.high]


SIZE_CLASSES = (
    SizeClass("below 2 MP", 0, 2),
    SizeClass("2 to 8 MP", 2, 8),
    SizeClass("8 MP and more", 8, float("inf")),
)


@dataclass(frozen=True)
class ImageTimes:
    """One image judged alone by one contender: milliseconds of every repeat, and the stages of the last.

    `probability_fake` is compared with the authors'.
    """

    name: str
    megapixels: float
    total_ms: tuple[float, ...]
    stages_ms: Mapping[str, float]
    probability_fake: float


@dataclass(frozen=True)
class Side:
    """One contender of one backbone.

    `open_s`: for the authors the harness's own work too, which fills in the weights and compares their checksum.
    `stream`: images per second of every repeat, by size class. `peak_mb`: resident memory at its most over the whole
    life of the process, opening included; None where the system does not tell. `engine_alone`, `decode_alone`: images
    per second of each part by itself on all cores, for the largest size class.
    """

    name: str
    backbone: str
    crops: int
    precision: str
    backend: str
    open_s: float
    images: tuple[ImageTimes, ...]
    stream: Mapping[str, tuple[float, ...]]
    opened_mb: float | None
    peak_mb: float | None
    engine_alone: tuple[float, ...] = ()
    decode_alone: tuple[float, ...] = ()


@dataclass(frozen=True)
class AuthorsComparison:
    """One run of `bench authors`: the sides of each backbone together, the authors' first."""

    started: str
    command: str
    machine: Machine
    load: MachineLoad
    images: int
    repeats: int
    sides: tuple[Side, ...]


def compare_with_authors(
    engines: Sequence[Path], images: Sequence[BenchImage], repeats: int, command: str, stage: Stage
) -> AuthorsComparison:
    """All contenders of all backbones among the engines. Raises ContenderFailed, BenchError."""
    started, watch = datetime.now(timezone.utc).isoformat(timespec="seconds"), LoadWatch()
    sides = _measure(engines, images, repeats, stage)
    return AuthorsComparison(started, command, this_machine(), watch.finish(), len(images), repeats, tuple(sides))


def _measure(engines: Sequence[Path], images: Sequence[BenchImage], repeats: int, stage: Stage) -> list[Side]:
    manifests = [(path, bundle_from_json(read_manifest(path))) for path in engines]
    sides: list[Side] = []
    for backbone in dict.fromkeys(manifest.model.backbone for _, manifest in manifests):
        ours = [(path, manifest) for path, manifest in manifests if manifest.model.backbone == backbone]
        if len({manifest.model.weights.sha256 for _, manifest in ours}) > 1:
            raise BenchError(f"the {backbone} engines are of different weights: they cannot be compared")
        sides += _measure_backbone(backbone, ours, images, repeats, stage)
    return sides


def _measure_backbone(
    backbone: str,
    ours: Sequence[tuple[Path, BundleManifest]],
    images: Sequence[BenchImage],
    repeats: int,
    stage: Stage,
) -> list[Side]:
    first = str(ours[0][0])
    contenders = [Contender(THEIRS, "pytorch", first)]
    contenders += [Contender(_name(manifest), "engine", str(path)) for path, manifest in ours]
    with ExitStack() as stack:
        with stage(f"{backbone}: opening"):
            sessions = [
                SideSession(stack.enter_context(ContenderProcess(contender)), images) for contender in contenders
            ]
            noop = SideSession(stack.enter_context(ContenderProcess(Contender(NO_ENGINE, "no-op", first))), images)
            for session in (*sessions, noop):
                session.process.ask("judge", paths=[images[0].path, images[-1].path])  # warm-up
        for repeat in range(repeats):
            for session in islice(cycle(sessions), repeat, repeat + len(sessions)):
                with stage(f"{backbone}: {session.process.contender.name}, {repeat + 1} of {repeats}"):
                    session.judge_alone()
                    if session.process.contender.name != THEIRS:
                        session.judge_stream(noop)
        return [session.side() for session in sessions]


def _name(manifest: BundleManifest) -> str:
    return f"{manifest.engine.backend} {manifest.engine.precision}"


def whole_passes(paths: Sequence[str], least: int) -> list[str]:
    """The paths again and again until there are `least`, each as often as every other: the authors' rate is so, too."""
    return list(paths) * -(-least // len(paths))


class SideSession:
    """The session of one side: its process, and what has been measured of it so far."""

    def __init__(self, process: ContenderProcess, images: Sequence[BenchImage]) -> None:
        self.process = process
        self._images = images
        self._rows: list[list[dict[str, Any]]] = []
        self._stream: dict[str, list[float]] = {}
        self._engine_alone: list[float] = []
        self._decode_alone: list[float] = []

    def judge_alone(self) -> None:
        """Judges every image by itself. The authors' way knows no other, so its throughput comes from this too."""
        results = self.process.ask("judge", paths=[image.path for image in self._images])["results"]
        for image, result in zip(self._images, results, strict=True):
            if result["error"]:
                raise BenchError(f"{self.process.contender.name}: {image.name}: {result['error']}")
        self._rows.append(results)
        if self.process.contender.kind == "pytorch":
            for size in SIZE_CLASSES:
                spent = [row["total_ms"] for row, image in zip(results, self._images, strict=True) if size.of([image])]
                if spent:
                    self._stream.setdefault(size.name, []).append(1e3 * len(spent) / sum(spent))

    def judge_stream(self, noop: SideSession) -> None:
        """Measures throughput by size class, and for the largest images that of decoding and of the engine alone."""
        classes = {size.name: [image.path for image in size.of(self._images)] for size in SIZE_CLASSES}
        present = {name: paths for name, paths in classes.items() if paths}
        for name, paths in present.items():
            self._stream.setdefault(name, []).append(self._rate(paths))
        largest = list(present.values())[-1]
        self._decode_alone.append(noop._rate(largest))
        alone = self.process.ask("engine_alone", paths=largest, seconds=ENGINE_ALONE_S)
        self._engine_alone.append(alone["images_per_s"])

    def side(self) -> Side:
        """The record of this side: times, rates and memory, asked of the process for the last time."""
        process, memory = self.process, self.process.ask("memory")
        times = tuple(
            ImageTimes(
                image.name,
                image.megapixels,
                tuple(row[number]["total_ms"] for row in self._rows),
                self._rows[-1][number]["stages_ms"],
                self._rows[-1][number]["probability_fake"],
            )
            for number, image in enumerate(self._images)
        )
        return Side(
            name=process.contender.name,
            backbone=process.description.backbone,
            crops=process.description.crops,
            precision=process.description.precision,
            backend=process.description.backend,
            open_s=process.open_s,
            images=times,
            stream={name: tuple(rates) for name, rates in self._stream.items()},
            opened_mb=process.resident_mb,
            peak_mb=memory["peak_mb"],
            engine_alone=tuple(self._engine_alone),
            decode_alone=tuple(self._decode_alone),
        )

    def _rate(self, paths: Sequence[str]) -> float:
        reply = self.process.ask("stream", paths=whole_passes(paths, STREAM))
        return float(reply["images"] / reply["wall_s"])
