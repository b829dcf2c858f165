"""What is said of the images of a calibration, whatever their scores."""

from __future__ import annotations

import pytest
from glass_calibrate.record import leaks
from glass_calibrate.samples import Sample

from glass_rt.decision.tiers import InputFacts
from glass_rt.labelled.labels import LabelledImage

PHONE, SMALL, ROUGH = (
    InputFacts(4000, 3000, "jpeg", 95, True),
    InputFacts(500, 400, "jpeg", 95, True),
    InputFacts(4000, 3000, "jpeg", 60, True),
)
PNG = InputFacts(4000, 3000, "png", None, True)


def samples(fake: tuple[InputFacts, ...], real: tuple[InputFacts, ...]) -> list[Sample]:
    found = []
    for label, facts in ((True, fake), (False, real)):
        for number, one in enumerate(facts * 20):
            name = f"{label}{number}"
            found.append(Sample(name, label, 0.5, one, name, False, LabelledImage(name, name, label)))
    return found


@pytest.mark.parametrize(
    ("fake", "real", "expected"),
    [
        ((PHONE, PNG), (PHONE, PNG), set()),
        ((PNG,), (PHONE,), {"file format"}),
        ((SMALL,), (PHONE,), {"image size"}),
        ((ROUGH,), (PHONE,), {"JPEG quality"}),
        ((ROUGH, PNG), (PHONE, PNG), {"JPEG quality"}),  # among the JPEGs
        ((SMALL, PNG), (PHONE, ROUGH), {"file format", "image size", "JPEG quality"}),
    ],
)
def test_what_gives_the_label_away(
    fake: tuple[InputFacts, ...], real: tuple[InputFacts, ...], expected: set[str]
) -> None:
    assert {guess.by for guess in leaks(samples(fake, real)) if guess.leaks} == expected
