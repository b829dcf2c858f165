"""What of the GPU kit does not need a GPU: whole verdicts against PyTorch, and how times of parts are gathered."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from glass_bench.gpu import check, verdicts
from glass_bench.gpu.check import main, markdown, stage_medians
from glass_bench.gpu.verdicts import IMAGES, ragged_verdicts

from glass_rt.backends.trt.lane import GpuStageTimes
from glass_rt.errors import UsageError
from glass_rt.inference.head import Head
from tests.support import Bundles

pytestmark = pytest.mark.slow

KIT = """
import json, sys, traceback
from pathlib import Path
try:
    {code}
    outcome = {{"result": {{}}}}
except Exception:
    outcome = {{"error": traceback.format_exc()}}
Path(sys.argv[sys.argv.index("--output") + 1], "step.json").write_text(json.dumps(outcome))
"""


def test_verdicts_of_a_ragged_pack_are_pytorchs(bundles: Bundles) -> None:
    found = ragged_verdicts(bundles("mobilenet_v3_small").folder)
    assert len(found["difference of P(fake)"]) == len(IMAGES)
    assert found["allowed"] < 1e-3


def test_a_verdict_that_is_not_pytorchs_fails_the_step(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Head.judge
    monkeypatch.setattr(Head, "judge", lambda head, whole, crops: right(head, whole, crops[::-1] * 1.05))
    monkeypatch.setattr(verdicts, "IMAGES", IMAGES[:2])
    with pytest.raises(AssertionError, match=r"verdicts are not PyTorch's: P\(fake\) differs by"):
        ragged_verdicts(bundles("mobilenet_v3_small").folder)


def test_views_on_the_device_are_asked_for(bundles: Bundles) -> None:
    with pytest.raises(UsageError, match="onnxruntime engines read views from memory"):
        ragged_verdicts(bundles("mobilenet_v3_small").folder, views="device")


def test_medians_are_taken_part_by_part() -> None:
    class Engine:
        def __init__(self) -> None:
            self.runs = 0

        def stage_times(self, _feeds: Any) -> GpuStageTimes:
            self.runs += 1
            return GpuStageTimes(1.0 if self.runs > 5 else 99.0, self.runs % 3, 4.0, 0.5)

    engine = Engine()
    assert stage_medians(engine, None) == {"stage": 1.0, "copy_in": 1.0, "compute": 4.0, "copy_out": 0.5}
    assert engine.runs == 35


def test_the_report_is_there_after_every_step_and_what_may_break_comes_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names: list[str] = []

    def step(name: str, _options: Any) -> dict[str, Any]:
        if names:
            assert f"## {names[-1]}: passed" in (tmp_path / "report.md").read_text()
        names.append(name)
        return {"result": {}, "seconds": 0.0}

    monkeypatch.setattr(check, "in_a_process", step)
    arguments = ["--output", str(tmp_path), "--backbones", "resnet50,vit_b16", "--backend", "tensorrt_rtx"]
    monkeypatch.setattr(sys, "argv", ["gpu_check", *arguments])
    assert main() == 0
    assert names[-2:] == ["resnet50: torch", "vit_b16: torch"]
    assert all("views made on the GPU" in name for name in names[-4:-2])
    assert names[:2] == ["doctor", "resnet50: build"]
    assert names.index("vit_b16: soak") == len(names) - 5


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("raise ValueError('it broke')", "ValueError: it broke"),
        ("import os; os.abort()", "its process ended with -6 and left no outcome"),
        ("import time; time.sleep(60)", "it was ended after 5 s"),
        ("pass", None),
    ],
)
def test_a_step_that_fails_crashes_or_hangs_costs_itself_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, outcome: str | None
) -> None:
    """The module that the process runs is put in place of the kit's, with that step."""
    folder = tmp_path / "kit" / "glass_bench" / "gpu"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder.parent / "__init__.py").touch()
    (folder / "check.py").write_text(KIT.format(code=code))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'kit'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.chdir(tmp_path)
    options = argparse.Namespace(output=tmp_path, backend="auto", backbones="vit_b16", soak=1, step_seconds=5.0)
    (tmp_path / "step.json").write_text('{"result": "of the step before"}')
    found = check.in_a_process("planted", options)
    assert outcome in found["error"] if outcome else found["result"] == {}
    assert "of the step before" not in str(found)


def test_onnx_runtime_has_the_steps_that_it_can_run() -> None:
    options = argparse.Namespace(output=Path("x"), backend="onnxruntime", backbones="vit_b16", soak=1)
    assert [name.partition(": ")[2] for name in check.steps_of(options)] == [
        "", "build", "parity", "ragged packs", "ragged verdicts", "latency", "soak", "torch",
    ]  # fmt: skip


def test_the_report_has_every_step() -> None:
    steps = {"one": {"result": {"ms": 1.5}, "seconds": 2.0}, "two": {"error": "it broke", "seconds": 0.1}}
    text = markdown({"header": {"python": "3.11"}, "steps": steps})
    assert "## one: passed (2.0 s)" in text
    assert "## two: FAILED (0.1 s)" in text
    assert "it broke" in text
