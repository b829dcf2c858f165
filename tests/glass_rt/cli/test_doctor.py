"""`glass-rt doctor` finds what breaks, by name."""

import pytest

from glass_rt.cli import doctor
from glass_rt.machine import environment

HERE = {"numpy": "2.2", "opencv-python-headless": "5.0", "onnxruntime": "1.31"}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, None),
        ({"opencv-python": "5.0"}, "opencv-python and opencv-python-headless overwrite"),
        ({"onnxruntime-gpu": "1.31"}, "onnxruntime and onnxruntime-gpu overwrite"),
        ({"onnxruntime": None}, "no backend is installed"),
    ],
)
def test_packages_that_break_each_other_are_named(
    more: dict[str, str | None], says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = {**HERE, **more}
    monkeypatch.setattr(environment, "installed", packages.get)
    monkeypatch.setattr(doctor, "installed", packages.get)
    problems = doctor._problems()
    assert (problems == []) if says is None else any(problem.startswith(says) for problem in problems)
