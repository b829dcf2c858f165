"""`glass-rt eval`: engines judge labelled images; their probabilities are recorded and measured."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from glass_bench.errors import BenchError
from glass_bench.measure.machine import Machine, this_machine
from glass_bench.measure.participants import unique_names
from glass_bench.quality.decisions import DecisionResult, columns_of, decision_result
from glass_bench.quality.drift import Drift, drift
from glass_bench.quality.metrics import Quality, quality
from glass_rt.bundle.manifest import Model
from glass_rt.detector import Detector
from glass_rt.errors import GlassError, UsageError
from glass_rt.image.encoded import load
from glass_rt.labelled.labels import LabelledImage
from glass_rt.labelled.leakage import Guess, guess_by_group, size_class
from glass_rt.labelled.parts import part_warnings
from glass_rt.options import DetectOptions, RunOptions
from glass_rt.progress import Stage, silent
from glass_rt.results.verdict import UNTRAINED_BUNDLE, Failure, Verdict

SCHEMA = 1
SMALL_GROUP = 5  # fewer images say nothing about a group


@dataclass(frozen=True)
class EvalOptions:
    """How to evaluate: `detect` and `run` as for infer; of a resize-only engine the options of crops mean nothing.

    `fpr_limit`: of the observed operating point. `by`: columns of the labels whose groups are compared. `split`: the
    part that the images are of, None: of all.
    """

    detect: DetectOptions = field(default_factory=DetectOptions)
    run: RunOptions = field(default_factory=RunOptions)
    fpr_limit: float = 0.05
    resamples: int = 1000
    seed: int = 606
    by: tuple[str, ...] = ()
    split: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.fpr_limit < 1:
            raise UsageError(f"observed-fpr: got {self.fpr_limit}; expected a share of the real images, 0..1")


@dataclass(frozen=True)
class JudgedImage:
    """The result of one engine for one image: a probability, its label (`answer`) and the tier, or the error."""

    name: str
    fake: bool
    width: int
    height: int
    format: str
    probability_fake: float | None
    error: str | None
    answer: str | None = None
    tier: str | None = None


@dataclass(frozen=True)
class Group:
    """Figures of the images of one size or format class; AUC None where a class is missing or the group is small."""

    by: str
    name: str
    images: int
    fake: int
    accuracy: float
    auc: float | None


@dataclass(frozen=True)
class EngineResult:
    """One engine's figures, those of its groups, and its results image by image."""

    name: str
    architecture: str
    backbone: str
    backend: str
    precision: str
    bundle_sha256: str
    weights_sha256: str
    trained: bool
    threshold: float
    crops: int
    ms_per_image: float
    failures: int
    quality: Quality
    groups: tuple[Group, ...]
    decision: DecisionResult
    judged: tuple[JudgedImage, ...]


@dataclass(frozen=True)
class EvalRecord:
    """One evaluation."""

    started: str
    command: str
    machine: Machine
    folder: str
    split: str | None
    unlabelled: int
    guesses: tuple[Guess, ...]
    engines: tuple[EngineResult, ...]
    drifts: tuple[Drift, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values, schema and kind in front."""
        return {"schema": SCHEMA, "kind": "eval", **asdict(self)}

    def write(self, folder: Path) -> None:
        """Writes `eval.json` and, one row per engine and image, `eval.csv`."""
        text = json.dumps(_without_nan(self.to_json()), indent=1, allow_nan=False)
        (folder / "eval.json").write_text(text + "\n", encoding="utf-8")
        with (folder / "eval.csv").open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["engine", "image", "label", "probability_fake", "width", "height", "format", "error",
                           "answer", "tier"])  # fmt: skip
            for engine in self.engines:
                for item in engine.judged:
                    label = "fake" if item.fake else "real"
                    row = [item.probability_fake, item.width, item.height, item.format, item.error or ""]
                    rows.writerow([engine.name, item.name, label, *row, item.answer or "", item.tier or ""])


def evaluate_engines(
    engines: Sequence[Path],
    folder: Path,
    images: Sequence[LabelledImage],
    unlabelled: int,
    options: EvalOptions,
    command: str,
    stage: Stage = silent,
) -> EvalRecord:
    """Judges every image with every engine, one after the other. Raises BenchError where an engine judges none."""
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    options = replace(options, by=columns_of(images, options.by))
    results = []
    for path, name in zip(engines, unique_names(engines), strict=True):
        with stage(f"{name} judges {len(images)} images"):
            results.append(_evaluate(path, name, images, options))
    known = [item for item in results[0].judged if item.width]
    guesses = (
        guess_by_group("image size", [size_class(i.width, i.height) for i in known], [i.fake for i in known]),
        guess_by_group("file format", [item.format for item in known], [item.fake for item in known]),
    )
    drifts = tuple(_drift(results[0], other) for other in results[1:])
    return EvalRecord(
        started=started,
        command=command,
        machine=this_machine(),
        folder=folder.resolve().name,
        split=options.split,
        unlabelled=unlabelled,
        guesses=guesses,
        engines=tuple(results),
        drifts=drifts,
        warnings=(*part_warnings(images), *_warnings(results, guesses, unlabelled)),
    )


def _evaluate(path: Path, name: str, images: Sequence[LabelledImage], options: EvalOptions) -> EngineResult:
    detect = options.detect
    with Detector.open(path, options.run) as detector:
        manifest, bundle = detector.manifest, detector.bundle
        glass = manifest.model.architecture == "glass"
        if not glass:
            detect = DetectOptions(threshold=detect.threshold, max_pixels=detect.max_pixels)
        start = perf_counter()
        results = list(detector.detect_many([image.path for image in images], detect))
        ms_per_image = (perf_counter() - start) * 1e3 / len(images)
    judged = tuple(_judged(image, result) for image, result in zip(images, results, strict=True))
    scored = [item for item in judged if item.probability_fake is not None]
    if not scored:
        raise BenchError(f"{name} judged none of {len(images)} images: {judged[0].error}")
    threshold = manifest.threshold if detect.threshold is None else detect.threshold
    return EngineResult(
        name=name,
        architecture=manifest.model.architecture,
        backbone=manifest.model.backbone,
        backend=manifest.engine.backend,
        precision=manifest.engine.precision,
        bundle_sha256=bundle.sha256,
        weights_sha256=manifest.model.weights.sha256,
        trained=manifest.model.weights.trained,
        threshold=threshold,
        crops=_crops(detect, manifest.model) if glass else 0,
        ms_per_image=ms_per_image,
        failures=len(judged) - len(scored),
        quality=quality(
            *_arrays(scored),
            threshold=threshold,
            fpr_limit=options.fpr_limit,
            resamples=options.resamples,
            seed=options.seed,
        ),
        groups=tuple(_groups(scored, threshold)),
        decision=decision_result(images, results, options.by),
        judged=judged,
    )


def _crops(detect: DetectOptions, model: Model) -> int:
    """Crops of each image; 0 where their number is the image's own."""
    if detect.sampling == "tiles":
        return 0
    return detect.crops if isinstance(detect.crops, int) else model.trained_crops


def _judged(image: LabelledImage, result: Verdict | Failure) -> JudgedImage:
    if isinstance(result, Verdict):
        facts = image.name, image.fake, result.width, result.height, result.format
        return JudgedImage(*facts, result.probability_fake, None, result.label, result.decision.tier)
    width, height, kind = _size_of(image.path)
    return JudgedImage(image.name, image.fake, width, height, kind, None, f"{result.error.kind}: {result.error}")


def _size_of(path: str) -> tuple[int, int, str]:
    try:
        info = load(path).info
    except (GlassError, MemoryError):
        return 0, 0, ""
    return info.width, info.height, info.format


def _arrays(judged: Sequence[JudgedImage]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.array([item.fake for item in judged]), np.array([item.probability_fake for item in judged], np.float64)


def _groups(judged: Sequence[JudgedImage], threshold: float) -> Iterator[Group]:
    for by, key in (("size", lambda i: size_class(i.width, i.height)), ("format", lambda i: i.format)):
        names = sorted({key(item) for item in judged}, key=_leading_number)
        for name in names:
            members = [item for item in judged if key(item) == name]
            fake, probability = _arrays(members)
            figures = quality(fake, probability, threshold=threshold, fpr_limit=0.05, resamples=0, seed=0)
            enough = figures.auc is not None and min(figures.fake, figures.real) >= SMALL_GROUP
            area = figures.auc.value if figures.auc is not None and enough else None
            yield Group(by, name, figures.images, figures.fake, figures.accuracy.value, area)


def _leading_number(name: str) -> tuple[float, str]:
    digits = name.removeprefix("over ").split("-")[0].split(" ")[0]
    try:
        return float(digits), name
    except ValueError:
        return 0.0, name


def _drift(first: EngineResult, second: EngineResult) -> Drift:
    pairs = [
        (a.name, a.probability_fake, b.probability_fake)
        for a, b in zip(first.judged, second.judged, strict=True)
        if a.probability_fake is not None and b.probability_fake is not None
    ]
    if not pairs:
        raise BenchError(f"{first.name} and {second.name} judged no image in common")
    names, ours, theirs = zip(*pairs, strict=True)
    return drift(first.name, second.name, names, (ours, theirs), (first.threshold, second.threshold))


def _warnings(results: Sequence[EngineResult], guesses: Sequence[Guess], unlabelled: int) -> Iterator[str]:
    if unlabelled:
        yield f"{unlabelled} images lie neither under `fake` nor under `real` and are left out"
    for guess in guesses:
        if guess.leaks:
            yield (
                f"the label hides in the {guess.by}: guessing by it alone is right for {guess.accuracy:.0%}, both "
                f"classes weighing alike (by chance {guess.base_rate:.0%}), so scores here may say nothing of content"
            )
    for result in results:
        if not result.trained:
            yield f"{result.name}: {UNTRAINED_BUNDLE}"
        if result.failures:
            yield f"{result.name}: {result.failures} images could not be judged and count in no figure"
        area = result.quality.auc
        if area is None:
            yield f"{result.name}: only one class is there: no AUC"
        elif area.value < 0.5:
            chance = " (its interval includes 0.5, so it may be chance)" if area.high >= 0.5 else ""
            yield (
                f"{result.name}: AUC is under 0.5{chance}: the classes may be swapped; "
                "if so, build again with --classes real,fake"
            )


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value
