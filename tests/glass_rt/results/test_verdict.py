"""The JSON form of a verdict: every field of it, in JSON's own types."""

import dataclasses
import json
from pathlib import Path

from glass_rt import Detector, Verdict
from glass_rt.results.verdict import RESERVED
from tests.bench_zoo import write_bundle, write_picture
from tests.calibrations import calibrate


def test_the_json_form_has_every_field_and_takes_no_reserved_name(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    calibrate(bundle)
    with Detector.open(bundle) as detector:
        verdict = detector.detect(write_picture(tmp_path / "red.png", (250, 20, 20), 640, 480))
    values = verdict.to_json()
    fields = {field.name for field in dataclasses.fields(Verdict)}
    assert set(values) - fields == {"schema", "label", "calibrated_probability_fake", "runtime"}
    assert fields <= set(values)
    assert not set(RESERVED) & set(values)
    assert json.loads(json.dumps(values))["crops"] == [dataclasses.asdict(crop) for crop in verdict.crops]
    decision = dataclasses.asdict(verdict.decision)
    assert values["label"] == decision.pop("label")
    assert values["calibrated_probability_fake"] == decision.pop("probability")
    assert values["decision"] == decision
