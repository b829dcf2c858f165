"""Calibrations: what contradicts itself is refused in one line, and JSON keeps every bit."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glass_rt.bundle.calibration_json import calibration_from_json
from glass_rt.bundle.from_json import values_from_text
from glass_rt.decision.calibration import Calibration, Conditions, Guarantee, Thresholds, Tier
from glass_rt.decision.probability import ProbabilityCurve, sigmoid
from glass_rt.decision.tiers import TierRule
from glass_rt.errors import CalibrationInvalid

GUARANTEE = Guarantee(0.95, fpr=0.01, images=300, above=0, fnr=0.05, fakes=300, below=9)
CALIBRATION = Calibration.new(
    "0" * 64,
    {"global.onnx": "1" * 64, "head.safetensors": "2" * 64},
    Conditions("fp32", 10, "stratified", 1, 1),
    (
        Tier("small", TierRule(shorter_below=300), reason="too few images"),
        Tier("the rest", TierRule(), Thresholds(float(np.float32(0.1) + np.float32(0.6)), 1 / 3), GUARANTEE),
    ),
    ProbabilityCurve("isotonic", 0.1, knots=((0, 0.0), (0.1 + 0.2, 1 / 7), (1, 1))),
)


def read_back(calibration: Calibration) -> Calibration:
    return calibration_from_json(values_from_text(json.dumps(calibration.to_json())))


@pytest.mark.parametrize(
    "calibration",
    [
        CALIBRATION,
        Calibration.new(
            "0" * 64, {}, CALIBRATION.conditions, (Tier("all", TierRule(), Thresholds(1, 0), GUARANTEE),)
        ),  # integers where numbers are expected: read back they are floats, of the same id
        Calibration.new(
            "0" * 64,
            {},
            Conditions("int8", None, None, 1, 1),
            (Tier("all", TierRule(), Thresholds(None, 0.1), Guarantee(0.9, fnr=0.5, fakes=5, below=0)),),
            ProbabilityCurve("logistic", 0.5, temperature=1, bias=0),
        ),
    ],
)
def test_json_keeps_a_calibration_to_the_last_bit(calibration: Calibration) -> None:
    again = read_back(calibration)
    assert again == calibration
    assert json.dumps(again.to_json()) == json.dumps(calibration.to_json())


def test_an_id_follows_from_everything_else() -> None:
    one = Calibration.new(
        CALIBRATION.content_sha256,
        CALIBRATION.files,
        CALIBRATION.conditions,
        CALIBRATION.tiers,
        CALIBRATION.probability,
    )
    assert one.id == CALIBRATION.id
    assert len({one.id, replace(one, id="", content_sha256="3" * 64).id, replace(one, id="", probability=None).id}) == 3


def altered(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(CALIBRATION.to_json()))
    change(values)
    return values


MALFORMED = [
    ("no object", lambda _: None, []),
    ("a field that is not known", lambda v: v.update(extra=1), "unknown field 'extra'"),
    ("one of a tier", lambda v: v["tiers"][0].update(colour="red"), "unknown field 'colour'"),
    ("one of a rule", lambda v: v["tiers"][0]["rule"].update(depth=8), "unknown field 'depth'"),
    ("no tiers", lambda v: v.pop("tiers"), "tiers is missing"),
    ("an empty list of tiers", lambda v: v.update(tiers=[]), "there are none"),
    ("no tier that takes all", lambda v: v["tiers"].pop(), "must take every image"),
    ("no conditions", lambda v: v.pop("conditions"), "conditions is missing"),
    ("no id", lambda v: v.pop("id"), "id is missing"),
    ("an empty id", lambda v: v.update(id=""), "id is empty"),
    ("another id", lambda v: v.update(id="0" * 16), "it was altered"),
    ("a digit of a threshold", lambda v: v["tiers"][1]["thresholds"].update(fake_above=0.71), "it was altered"),
    ("thresholds that cross", lambda v: v["tiers"][1]["thresholds"].update(real_below=0.9), "they cross"),
    ("a threshold beyond 1", lambda v: v["tiers"][1]["thresholds"].update(fake_above=1.5), "expected scores"),
    ("a threshold that is none", lambda v: v["tiers"][1]["thresholds"].update(fake_above=float("nan")), "number"),
    ("a threshold that is text", lambda v: v["tiers"][1]["thresholds"].update(fake_above="0.7"), "a number"),
    ("no thresholds", lambda v: v["tiers"][1].pop("thresholds"), "or a reason"),
    ("no guarantee", lambda v: v["tiers"][1].pop("guarantee"), "or a reason"),
    ("neither reason nor thresholds", lambda v: v["tiers"][0].pop("reason"), "or a reason"),
    ("a reason beside thresholds", lambda v: v["tiers"][1].update(reason="x"), "a reason why it has none"),
    ("more above than images", lambda v: v["tiers"][1]["guarantee"].update(above=300), "beyond the threshold"),
    ("a rate of 0", lambda v: v["tiers"][1]["guarantee"].update(fpr=0), "between 0 and 1"),
    ("a rate without images", lambda v: v["tiers"][1]["guarantee"].pop("images"), "number of images"),
    ("a threshold without its rate", lambda v: v["tiers"][1]["thresholds"].pop("real_below"), "real_below is missing"),
    ("confidence 1", lambda v: v["tiers"][1]["guarantee"].update(confidence=1), "between 0 and 1"),
    ("a hash that is none", lambda v: v.update(content_sha256="abc"), "SHA-256"),
    ("another sampling", lambda v: v["conditions"].update(sampling="random"), "expected stratified, tiles"),
    ("crops auto", lambda v: v["conditions"].update(crops=None), "cannot be calibrated"),
    ("no draws", lambda v: v["conditions"].update(draws=0), "1 or more"),
    ("a falling curve", lambda v: v["probability"].update(knots=[[0, 1], [1, 0]]), "may not fall"),
    ("a curve without knots", lambda v: v["probability"].update(knots=[]), "expected knots"),
    ("another kind of curve", lambda v: v["probability"].update(kind="beta"), "expected logistic or isotonic"),
    ("a prior of 1", lambda v: v["probability"].update(prior=1), "between 0 and 1"),
]


@pytest.mark.parametrize(("name", "change", "message"), MALFORMED, ids=[case[0] for case in MALFORMED])
def test_a_malformed_calibration_is_refused_in_one_line(name: str, change: Any, message: Any) -> None:
    values = altered(change) if message else []
    with pytest.raises(CalibrationInvalid, match=message or "expected an object") as refused:
        calibration_from_json(values)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("curve", "score", "expected"),
    [
        (ProbabilityCurve("logistic", 0.5, temperature=1.0, bias=0.0), 0.25, 0.25),
        (ProbabilityCurve("logistic", 0.5, temperature=2.0, bias=1.0), 0.5, sigmoid(1.0)),
        (ProbabilityCurve("isotonic", 0.5, knots=((0.2, 0.1), (0.6, 0.5))), 0.4, 0.3),
        (ProbabilityCurve("isotonic", 0.5, knots=((0.2, 0.1), (0.6, 0.5))), 0.0, 0.1),
        (ProbabilityCurve("isotonic", 0.5, knots=((0.2, 0.1), (0.6, 0.5))), 1.0, 0.5),
    ],
)
def test_a_curve_gives_probabilities(curve: ProbabilityCurve, score: float, expected: float) -> None:
    assert curve.probability(score) == pytest.approx(expected, abs=1e-12)


def test_scores_of_0_and_1_have_a_probability() -> None:
    curve = ProbabilityCurve("logistic", 0.5, temperature=0.01, bias=0.0)
    assert 0 <= curve.probability(0.0) < 1e-9
    assert 1 - 1e-9 < curve.probability(1.0) <= 1
