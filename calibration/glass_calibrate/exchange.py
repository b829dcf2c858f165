"""A decision as a file of its own: out of one bundle, and into another of the same content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.calibration_json import calibration_from_json
from glass_rt.bundle.decision import install_calibration
from glass_rt.bundle.outside import check_outside
from glass_rt.decision.calibration import Calibration
from glass_rt.errors import CalibrationInvalid, GlassError, UsageError
from glass_rt.machine.named_file import read_named
from glass_rt.machine.write_whole import write_whole

SCHEMA = 1
KIND = "decision"
MOST = 4 << 20  # bytes of a file


def export_decision(bundle: Path, target: Path) -> str:
    """Writes the decision of a bundle to a file, whole or not at all; returns its id.

    Raises CalibrationInvalid where the bundle has none, BundleError, UsageError for a file of the bundle and for one
    that is there and holds no decision, and GlassError where the file cannot be written.
    """
    check_outside(target, "--export")
    decision = Bundle.open(bundle).manifest.decision
    if decision is None:
        raise CalibrationInvalid(f"{bundle} has no decision; glass-rt calibrate LABELLED --engine {bundle} makes one")
    _check_replaceable(target)
    try:
        write_whole(target, decision_text(decision).encode())
    except OSError as error:
        raise GlassError(f"{target} cannot be written: {error.strerror}") from error
    return decision.id


def _check_replaceable(target: Path) -> None:
    if not target.exists():
        return
    try:
        read_decision(target)
    except CalibrationInvalid:
        raise UsageError(f"--export: {target} is there and holds no decision; it is not replaced") from None


def import_decision(bundle: Path, source: Path) -> str:
    """Makes the decision of a file that of a bundle; returns its id.

    Raises CalibrationInvalid for a file that holds none and for a bundle of other content, BundleError and GlassError;
    the bundle is then as it was.
    """
    decision = read_decision(source)
    install_calibration(bundle, decision)
    return decision.id


def decision_text(decision: Calibration) -> str:
    """The file of a decision."""
    return json.dumps({"schema": SCHEMA, "kind": KIND, "decision": decision.to_json()}, indent=1) + "\n"


def read_decision(source: Path) -> Calibration:
    """The decision of a file, every field checked. Raises CalibrationInvalid, and GlassError for an unreadable file."""
    try:
        content = read_named(source, MOST)
    except OSError as error:
        raise GlassError(f"{source} cannot be read: {error.strerror}") from error
    try:
        values: Any = json.loads(content)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or (values.get("schema"), values.get("kind")) != (SCHEMA, KIND):
        raise CalibrationInvalid(f"{source} is no decision that glass-rt calibrate --export wrote")
    return calibration_from_json(values.get("decision"), f"{source}: decision")
