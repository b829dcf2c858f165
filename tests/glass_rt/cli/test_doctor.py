"""`glass-rt doctor` finds what breaks, by name."""

import json
from pathlib import Path

import pytest

from glass_rt.cli import doctor
from glass_rt.machine import environment
from glass_rt.results.file_names import text_from_name
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
        ({"nvidia-nvimgcodec-cu12": "0.9"}, None),
        ({"nvidia-nvimgcodec-cu12": "0.9", "nvidia-nvimgcodec-cu13": "0.9"}, "nvidia-nvimgcodec-cu13 and nvidia-nvimg"),
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


@pytest.mark.parametrize(
    ("present", "line"),
    [
        ({}, "nvidia-nvimgcodec-cu13 not installed; only --decode device needs it: pip install 'glass-rt[decode]'"),
        ({"nvidia-nvimgcodec-cu13": "0.9.0"}, "nvidia-nvimgcodec-cu13 0.9.0"),
        ({"nvidia-nvimgcodec-cu12": "0.9.0"}, "nvidia-nvimgcodec-cu12 0.9.0"),
        ({"nvidia-nvimgcodec-tegra-cu12": "0.8.0"}, "nvidia-nvimgcodec-tegra-cu12 0.8.0"),
        ({"tensorrt": "11.4.0", "tensorrt-cu13": "11.4.0"}, "tensorrt tensorrt 11.4.0"),
        ({"tensorrt-cu12": "10.16.1"}, "tensorrt tensorrt-cu12 10.16.1"),
        ({"tensorrt-rtx-cu13": "1.7.1"}, "tensorrt_rtx tensorrt-rtx-cu13 1.7.1"),
    ],
)
def test_packages_are_found_by_their_names_for_every_cuda_version(
    present: dict[str, str | None], line: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (environment, doctor):
        monkeypatch.setattr(module, "installed", {**HERE, **present}.get)
    assert line in [" ".join(each.split()) for each in cli("doctor").stdout.splitlines()]


@pytest.mark.parametrize(
    ("cache", "says"),
    [
        ("here/or/there", None),
        ("file", "file is no folder that this account may write"),
        ("file/below", "file is no folder that this account may write"),
        ("nowhere/below", "nowhere is no folder that this account may write"),  # a link
        ("bundle", "lies in the bundle"),
        ("caf\udce9", None),
    ],
)
def test_the_cache_s_folder_is_said_and_why_nothing_is_kept_there(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str, says: str | None
) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text('{"kind": "bundle"}')
    monkeypatch.setenv("GLASS_RT_CACHE", str(tmp_path / cache))
    (line,) = [line for line in cli("doctor").stdout.splitlines() if line.startswith("Cache")]
    assert (says or text_from_name(str(tmp_path / cache))) in line
    told = json.loads(cli("doctor", "--json").stdout)["cache"]
    assert (told["unusable"] is None) == (says is None)
