"""Calibrations out of JSON that is not trusted: every field is checked, and none may be unknown."""

from __future__ import annotations

from typing import Any

from glass_rt.bundle.from_json import record_from_json
from glass_rt.decision.calibration import NO_ID, Calibration
from glass_rt.errors import CalibrationInvalid, GlassError


def calibration_from_json(
    values: Any, where: str = "calibration", *, error: type[GlassError] = CalibrationInvalid
) -> Calibration:
    """The calibration that `Calibration.to_json` wrote. Raises `error` in one line, by `where` and the field."""
    calibration = record_from_json(Calibration, values, where, error=error, strict=True)
    if isinstance(values, dict) and values.get("id") == NO_ID:
        raise error(f"{where}.id is empty")
    return calibration
