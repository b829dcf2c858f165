"""From a bundle and labelled images to a decision in the bundle, with its report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from glass_calibrate.exchange import decision_text
from glass_calibrate.fitting import Settings, fit
from glass_calibrate.judging import Progress, judge_labelled
from glass_calibrate.plots import write_plots
from glass_calibrate.record import Record, make_record
from glass_calibrate.report import REPORT, calibration_markdown
from glass_calibrate.samples import check_column, choose_samples
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.decision import install_calibration
from glass_rt.detector import Detector
from glass_rt.errors import CalibrationInvalid, GlassError, LabelsInvalid
from glass_rt.inference.decision_rule import conditions_of
from glass_rt.inference.passed_over import PassedOver
from glass_rt.labelled.labels import LabelledImage, labelled_images
from glass_rt.labelled.parts import images_of_split
from glass_rt.machine.write_whole import write_whole
from glass_rt.options import DetectOptions, RunOptions
from glass_rt.progress import Stage, silent

DECISION = "decision.json"


@dataclass(frozen=True)
class Request:
    """What to calibrate, on what, and how. `folder`: for scores and report; `dry_run`: the bundle stays as it is."""

    bundle: Path
    labelled: Path
    labels: str
    settings: Settings
    folder: Path
    options: DetectOptions = field(default_factory=DetectOptions)
    run: RunOptions = field(default_factory=RunOptions)
    dry_run: bool = False


def calibrate_bundle(
    request: Request,
    stopped: Event | None = None,
    progress: Progress = lambda _done, _total, _failed: None,
    stage: Stage = silent,
    passed_over: PassedOver | None = None,
) -> Record:
    """Judges the images whose scores are not there yet, fits the decision, writes the report and the bundle.

    The bundle is written after the report, by one rename; then the report says that it was. Raises CalibrationInvalid
    where nothing can be promised, LabelsInvalid, BundleError, UsageError, GlassError where `request.folder` cannot be
    written, and KeyboardInterrupt once `stopped` is set; the scores are kept, and the bundle is as it was. Only one
    process may work in `request.folder`.
    """
    bundle = Bundle.open(request.bundle, expect_sha256=request.run.expect_bundle)
    if not bundle.manifest.model.weights.trained:
        raise CalibrationInvalid(f"{request.bundle} has untrained weights: its scores say nothing, with any threshold")
    found, unlabelled = labelled_images(request.labelled, request.labels, passed_over)
    part = images_of_split(found, request.settings.split)
    images = list({image.path: image for image in part}.values())  # a table may name one twice
    _check_classes(request.labelled, images)
    settings = _with_columns(request.settings, images)
    conditions = conditions_of(bundle.manifest, request.options)
    with Detector.from_bundle(bundle, request.run) as detector, _disk_errors(request.folder):
        judged = judge_labelled(
            detector, images, request.folder, request.options, conditions, stopped or Event(), progress
        )
    with stage("choosing thresholds"):
        samples = choose_samples(images, judged.scored, settings.group, settings.seed)
        finding = fit(bundle, conditions, samples, settings)
    record = make_record(request.bundle, images, unlabelled, judged, samples, finding, settings)
    with stage("writing the report"), _disk_errors(request.folder):
        plots = write_plots(record, request.folder)
        _write_report(record, plots, request.folder)
    if request.dry_run:
        return record
    install_calibration(request.bundle, finding.calibration)
    installed = replace(record, installed=True)
    with _disk_errors(request.folder):
        _write_report(installed, plots, request.folder)
    return installed


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GlassError(
            f"{folder} cannot be written: {error.strerror or error}; make room, or name another folder with --report"
        ) from error


def _with_columns(settings: Settings, images: Sequence[LabelledImage]) -> Settings:
    """The settings with the columns whose rates are reported: without --by the source, where one is known, and --group.

    Raises UsageError for a column that no image has.
    """
    for column in (settings.group, *settings.by):
        if column is not None:
            check_column(images, column)
    if settings.by:
        return settings
    known = ("source",) if any(image.source for image in images) else ()
    grouped = () if settings.group in (None, *known) else (settings.group,)
    return replace(settings, by=(*known, *(column for column in grouped if column is not None)))


def _check_classes(folder: Path, images: Sequence[LabelledImage]) -> None:
    for fake, kind in ((False, "real"), (True, "fake")):
        if not any(image.fake == fake for image in images):
            raise LabelsInvalid(
                f"{folder} has {len(images)} images, and none of them is {kind}: both classes are needed to calibrate"
            )


def _write_report(record: Record, plots: Sequence[str], folder: Path) -> None:
    record.write(folder)
    write_whole(folder / DECISION, decision_text(record.finding.calibration).encode())
    write_whole(folder / REPORT, calibration_markdown(record, plots).encode())
