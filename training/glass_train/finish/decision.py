"""The bundle's decision, from the images that were kept apart for it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from glass_calibrate.fitting import Settings
from glass_calibrate.pipeline import Request, calibrate_bundle
from glass_calibrate.thresholds import Targets

from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import CalibrationInvalid
from glass_rt.machine.file_names import name_from_text
from glass_rt.machine.write_whole import write_whole
from glass_rt.progress import Stage
from glass_train.data.scan import Scanned
from glass_train.finish.card import tiers_in_words

FOLDER, TABLE = "calibration", "calibration.csv"
TARGETS = Targets(fpr=0.01, fnr=0.05, confidence=0.95)  # those of `glass-rt calibrate`
_PROMISES_NOTHING = "the threshold of 0.5 promises nothing"


def calibrated(bundle: Path, data: Path, images: Sequence[Scanned], folder: Path, seed: int, stage: Stage) -> str:
    """Calibrates the bundle where enough images allow it; returns what the card says of it, in one line.

    Scores and report lie in `folder`/calibration, as `glass-rt calibrate` writes them.
    """
    if not images:
        return f"not calibrated: too few images; {_PROMISES_NOTHING}"
    images = [scanned for scanned in images if _can_stand_in_a_table(scanned.image.name)]
    (folder / FOLDER).mkdir(exist_ok=True)
    table = folder / FOLDER / TABLE
    write_whole(table, _table(images).encode())
    grouped = any(scanned.image.group for scanned in images)
    settings = Settings(TARGETS, group="group" if grouped else None, seed=seed)
    try:
        with stage(f"calibrating on {len(images)} images kept apart"):
            calibrate_bundle(Request(bundle, data, str(table), settings, folder / FOLDER))
    except CalibrationInvalid as error:
        return f"not calibrated with {len(images)} images: {error}; {_PROMISES_NOTHING}"
    decision = Bundle.open(bundle).manifest.decision
    assert decision is not None, "it has just been installed"
    return f"calibrated on {len(images)} images kept apart: {tiers_in_words(decision)}"


def _can_stand_in_a_table(name: str) -> bool:
    """A table of labels is UTF-8 and has no spaces around its cells; not every name of a file is so."""
    raw = name_from_text(name)
    return raw == raw.strip() and raw == raw.encode(errors="replace").decode()


def _table(images: Sequence[Scanned]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", "label", "group", "source"])
    for scanned in images:
        image = scanned.image
        rows.writerow(
            [name_from_text(image.name), "fake" if image.fake else "real", image.group or "", image.source or ""]
        )
    return text.getvalue()
