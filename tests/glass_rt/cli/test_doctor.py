"""`glass-rt doctor` finds what breaks, by name."""

from pathlib import Path

import pytest

from glass_rt.cli import doctor
from glass_rt.machine import environment
from tests.command_line import Cli

HERE = {"numpy": "2.2", "opencv-python-headless": "5.0", "onnxruntime": "1.31"}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, None),
        ({"opencv-python": "5.0"}, "opencv-python and opencv-python-headless overwrite"),
        ({"onnxruntime-gpu": "1.31"}, "onnxruntime and onnxruntime-gpu overwrite"),
        ({"onnxruntime-directml": "1.24"}, "onnxruntime and onnxruntime-directml overwrite"),
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


def test_plugins_of_onnx_runtime_are_listed_by_the_name_of_their_device(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "OnnxRuntime_EP_Some_NPU-1.5.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: OnnxRuntime-EP-Some-NPU\nVersion: 1.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert environment.ort_plugins()["some-npu"] == "1.5"
    (line,) = [line for line in cli("doctor").stdout.splitlines() if "some-npu" in line]
    assert line.split()[:3] == ["plugin:some-npu", "onnxruntime-ep-some-npu", "1.5"]
    assert "--device plugin:some-npu" in line
