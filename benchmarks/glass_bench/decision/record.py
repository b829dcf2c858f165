"""What is recorded of decisions: the guarantee on known scores, and a calibration of the experiment's own scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from glass_calibrate.fitting import Settings
from glass_calibrate.pipeline import Request, calibrate_bundle
from glass_calibrate.record import Record
from glass_calibrate.thresholds import Targets
from glass_engines.build import BuildOptions, build_bundle

from glass_bench.decision.known_scores import KnownScores
from glass_bench.decision.simulation import Coverage, Excess, TierExcess, Trial, coverage, excess, excess_by_tier
from glass_bench.experiment.claim import MEGAPIXELS, UNEVENNESS
from glass_bench.experiment.scenes import SceneSpec, render, scene_specs
from glass_bench.quality.evaluation import EvalOptions, EvalRecord, evaluate_engines
from glass_bench.report.text import table
from glass_rt.bundle.bundle import PortableModel
from glass_rt.labelled.labels import FOLDER, labelled_images
from glass_rt.machine.write_whole import write_whole
from glass_rt.progress import Stage, silent

MODEL = Path(__file__).parents[2] / "demo_weights" / "glass"
IMAGES = (300, 1000, 5000)
OVERLAPPING, SEPARABLE = 1.5, 4.0  # means of the logits, either side of 0
TARGETS = Targets(fpr=0.01, fnr=0.01, confidence=0.95)
# Seeds of scenes that no model was trained on: its own begin with three times 606.
CALIBRATION_SEED, EVALUATION_SEED = 16_001, 16_002


@dataclass(frozen=True)
class GuaranteeRecord:
    """How often true rates are exceeded: for continuous scores, for tied ones and tier by tier; and the coverage."""

    continuous: tuple[Excess, ...]
    tied: tuple[Excess, ...]
    tiers: TierExcess
    tiers_jointly: TierExcess
    coverage: dict[str, tuple[Coverage, ...]]

    @property
    def holds(self) -> bool:
        """Whether the guarantee is seen from both sides, and from above where scores are tied."""
        tiers = (*self.tiers.each.values(), *self.tiers_jointly.each.values())
        both_sides = (*self.continuous, *(one for sides in tiers for one in sides.values()))
        return all(one.exact for one in both_sides) and all(one.kept for one in self.tied)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"kind": "guarantee", "holds": self.holds, **asdict(self)}


def guarantee_record(sets: int, seed: int, stage: Stage = silent) -> GuaranteeRecord:
    """Runs every simulation with `sets` calibration sets."""
    continuous: list[Excess] = []
    tied: list[Excess] = []
    covered: dict[str, list[Coverage]] = {"overlapping": [], "separable": []}
    for images in IMAGES:
        with stage(f"{sets} sets of {images}"):
            continuous += excess(_trial(OVERLAPPING, images, sets, seed)).values()
            tied += excess(_trial(OVERLAPPING, images, sets, seed, levels=20)).values()
            for name, mean in (("overlapping", OVERLAPPING), ("separable", SEPARABLE)):
                covered[name].append(coverage(_trial(mean, images, max(2, sets // 10), seed)))
    with stage(f"{sets} sets of three tiers"):
        alone = excess_by_tier(_tiers(sets, seed), TARGETS, seed)
        joint = Targets(TARGETS.fpr, TARGETS.fnr, TARGETS.confidence, joint=True)
        together = excess_by_tier(_tiers(sets, seed), joint, seed)
    coverages = {name: tuple(found) for name, found in covered.items()}
    return GuaranteeRecord(tuple(continuous), tuple(tied), alone, together, coverages)


def _trial(mean: float, images: int, sets: int, seed: int, levels: int | None = None) -> Trial:
    return Trial(KnownScores(-mean, levels), KnownScores(mean, levels), images, TARGETS, sets, seed)


def _tiers(sets: int, seed: int) -> dict[str, Trial]:
    kinds = (("thumbnail", 0.5, 500), ("small", 1.0, 1000), ("the rest", 2.0, 2000))
    return {name: _trial(mean, images, sets, seed) for name, mean, images in kinds}


def guarantee_markdown(record: GuaranteeRecord) -> str:
    """The record as tables."""
    rows = [
        *(_excess_row("continuous", one) for one in record.continuous),
        *(_excess_row("tied (21 values)", one) for one in record.tied),
        *(
            _excess_row(f"{kind}: {name}", one)
            for kind, tiers in (("tier", record.tiers), ("tier, jointly", record.tiers_jointly))
            for name, sides in tiers.each.items()
            for one in sides.values()
        ),
    ]
    covered = [
        [name, str(one.images), f"{one.simulated:.4f} ± {one.standard_error:.4f}",
         "-" if one.explained is None else f"{one.explained:.4f}", f"{one.oracle:.4f}"]
        for name, found in record.coverage.items()
        for one in found
    ]  # fmt: skip
    says = "holds" if record.holds else "does NOT hold"
    return "\n".join(
        [
            "# The guarantee on scores that are known",
            "",
            f"The guarantee {says}: FPR and FNR of at most {TARGETS.fpr:g} with {TARGETS.confidence:.0%} confidence. "
            "Where scores are tied the share may be lower than expected, and not higher. Deviations are in standard "
            "errors of the expected share; within 3 is as expected.",
            "",
            *table(["scores", "rate", "images", "sets", "exceeded in", "expected", "deviation"], rows),
            "",
            f"Any of the three tiers exceeds its FPR in {record.tiers.any_fpr:.4f} of the sets, and in "
            f"{record.tiers_jointly.any_fpr:.4f} where they are calibrated jointly.",
            "",
            "Share of images that get a label, half of them fakes; `explained` follows from where the bound puts the "
            "thresholds, the oracle knows the true quantiles:",
            "",
            *table(["scores", "images", "calibrated", "explained", "oracle"], covered),
            "",
        ]
    )


def _excess_row(name: str, one: Excess) -> list[str]:
    figures = [f"{one.share:.4f}", f"{one.expected:.4f}", f"{one.deviation:+.1f}"]
    return [name, one.side, str(one.images), str(one.sets), *figures]


def scenes_record(
    scenes: int, work: Path, output: Path, command: str, stage: Stage = silent
) -> tuple[Record, EvalRecord]:
    """Calibrates the shipped GLASS engine on generated scenes, and evaluates it on as many others.

    `work` holds pictures and the bundle; the reports go below `output`.
    """
    with stage("building the engine"):
        build_bundle(PortableModel.open(MODEL), work / "glass", BuildOptions("onnxruntime"), force=True)
    for name, seed in (("calibration", CALIBRATION_SEED), ("evaluation", EVALUATION_SEED)):
        with stage(f"rendering {scenes} scenes for {name}, twice each"):
            _render_absent(scene_specs(scenes, seed, MEGAPIXELS, UNEVENNESS), work / name)
    settings = Settings(Targets(fpr=0.01, fnr=0.01, confidence=0.95))
    with stage("judging and calibrating"):
        reports = _folder(work / "report")
        record = calibrate_bundle(Request(work / "glass", work / "calibration", FOLDER, settings, reports))
    _keep(reports, _folder(output / "calibration"))
    images, unlabelled = labelled_images(work / "evaluation", FOLDER)
    evaluation = evaluate_engines(
        [work / "glass"], work / "evaluation", images, unlabelled, EvalOptions(), command, stage
    )
    return record, evaluation


def _render_absent(specs: Sequence[SceneSpec], folder: Path) -> None:
    """Both pictures of every scene that are not there yet; pictures of other scenes go."""
    names = [f"scene-{number:03d}.jpg" for number in range(len(specs))]
    for label in ("fake", "real"):
        for path in _folder(folder / label).iterdir():
            if path.name not in names:
                path.unlink()
    for name, spec in zip(names, specs, strict=True):
        if not all((folder / label / name).exists() for label in ("fake", "real")):
            for label, encoded in zip(("fake", "real"), render(spec), strict=True):
                write_whole(folder / label / name, encoded)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _keep(reports: Path, output: Path) -> None:
    """All of a report but the scores with their crops, which are large."""
    for path in reports.iterdir():
        if path.suffix in (".json", ".md", ".png"):
            (output / path.name).write_bytes(path.read_bytes())
